//! Waiting for containers to be what others need of them: healthy, completed,
//! or just up. The decision is pure; the effect sleeps until a state file is
//! written or a process ends, and cannot sleep for ever: a container that has
//! ended for good, keeps failing, or has nobody left to check it ends the wait.

use std::collections::BTreeMap;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use super::{labels, observe};
use crate::engine::container::{State, Status};
use crate::engine::health::HealthStatus;
use crate::engine::wait::{StateWatch, pidfd, readable, supervisor};
use crate::engine::{Container, Engine, logs};
use crate::ui::progress::Progress;
use umiak_compose::{Condition, Dependency, Service};

/// Lines of its log that the report of a failure shows.
const LAST_LINES: usize = 10;
/// Restarts during one wait after which a container is taken for one that never succeeds: about two minutes of
/// growing pauses.
const RESTARTS: u32 = 10;
/// A run of this length is one: the time after which Docker Compose looks first.
const SETTLED: Duration = Duration::from_millis(500);

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Goal {
    /// Its health check passes.
    Healthy,
    /// It ended with exit code 0.
    Completed,
    /// Healthy where health is checked, else running; or it ended with exit code 0.
    Up,
    /// The same, and where nothing checks its health, it runs for half a second: what ends at once was never up.
    Stays,
}

/// What was seen of one container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// Where it stands.
    pub status: Status,
    /// The exit code of the last run that has ended.
    pub exit_code: Option<i32>,
    /// Its health, where it is checked.
    pub health: Option<HealthStatus>,
    /// How many times it was started again while it was waited for.
    pub restarts: u32,
    /// Its monitor is there.
    pub supervised: bool,
    /// It has only just started.
    pub young: bool,
}

impl Seen {
    /// A container as it was read, started again this many times meanwhile.
    pub fn of(container: &Container, restarts: u32) -> Self {
        let state = &container.state;
        Self {
            status: state.status,
            exit_code: state.exit_code,
            health: container.health.as_ref().map(|health| health.status),
            restarts,
            supervised: state.monitor.is_some_and(umiak_base::ProcessRef::alive),
            young: until_settled(state).is_some(),
        }
    }
}

/// How long it takes until a container has run for long enough to be up; nothing when it has.
fn until_settled(state: &State) -> Option<Duration> {
    let ran = state.started_at.map_or(Duration::ZERO, |started| {
        // A clock that was set back must not make anybody wait for long.
        Duration::try_from(started.duration_until(jiff::Timestamp::now())).unwrap_or(SETTLED)
    });
    SETTLED.checked_sub(ran).filter(|left| !left.is_zero())
}

/// What a condition of `depends_on` waits for; nothing where the start is all.
pub const fn goal(condition: Condition) -> Option<Goal> {
    match condition {
        Condition::Started => None,
        Condition::Healthy => Some(Goal::Healthy),
        Condition::CompletedSuccessfully => Some(Goal::Completed),
    }
}

/// What follows from what was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is what it shall be.
    Satisfied,
    /// It may become so.
    Wait,
    /// It will not.
    Fails(Reason),
}

/// Why a container will not be what it shall be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// Its health checks failed.
    Unhealthy,
    /// It ended.
    Exited(i32),
    /// There is nothing that could tell its health.
    NoHealthcheck,
    /// It ends again and again.
    KeepsFailing(i32),
    /// Nobody started it.
    NotStarted,
    /// Nobody is left to check it.
    Unsupervised,
    /// It was removed.
    Gone,
    /// Nobody waits for it any longer.
    TooLate(Duration),
}

impl Reason {
    /// In a sentence about the container; Docker's words where it has them.
    pub fn of(self, name: &str) -> String {
        match self {
            Self::Unhealthy => format!("container {name} is unhealthy"),
            Self::Exited(code) => format!("container {name} exited ({code})"),
            Self::NoHealthcheck => format!("container {name} has no healthcheck configured"),
            Self::KeepsFailing(code) => {
                format!("container {name} exited ({code}) and was restarted {RESTARTS} times in vain")
            }
            Self::NotStarted => format!("container {name} was not started"),
            Self::Unsupervised => format!("container {name} has lost its monitor: nobody checks its health"),
            Self::Gone => format!("container {name} was removed"),
            Self::TooLate(after) => {
                format!("container {name} is not there yet after {}", umiak_compose::units::format_duration(after))
            }
        }
    }

    const fn code(self) -> Option<i32> {
        match self {
            Self::Exited(code) | Self::KeepsFailing(code) => Some(code),
            _ => None,
        }
    }
}

/// Decides about one container.
pub fn judge(goal: Goal, seen: &Seen) -> Verdict {
    let code = seen.exit_code.unwrap_or(0);
    let again = match seen.restarts >= RESTARTS {
        true => Verdict::Fails(Reason::KeepsFailing(code)),
        false => Verdict::Wait,
    };
    match (goal, seen.status) {
        (_, Status::Created) => Verdict::Fails(Reason::NotStarted),
        (Goal::Completed | Goal::Up | Goal::Stays, Status::Exited) if code == 0 => Verdict::Satisfied,
        (_, Status::Exited) => Verdict::Fails(Reason::Exited(code)),
        // That it runs again is its policy's doing.
        (Goal::Completed, _) if seen.restarts > 0 && seen.exit_code == Some(0) => Verdict::Satisfied,
        (Goal::Completed, Status::Restarting) if seen.exit_code == Some(0) => Verdict::Satisfied,
        (Goal::Completed, _) | (_, Status::Restarting) => again,
        (_, Status::Running | Status::Paused) => match seen.health {
            Some(HealthStatus::Healthy) => Verdict::Satisfied,
            Some(HealthStatus::Unhealthy) => Verdict::Fails(Reason::Unhealthy),
            Some(HealthStatus::Starting) if !seen.supervised => Verdict::Fails(Reason::Unsupervised),
            Some(HealthStatus::Starting) => again,
            None if goal == Goal::Stays && seen.young => Verdict::Wait,
            None if matches!(goal, Goal::Up | Goal::Stays) => Verdict::Satisfied,
            None => Verdict::Fails(Reason::NoHealthcheck),
        },
    }
}

/// How a wait ended.
#[derive(Debug)]
pub enum Outcome {
    /// All are what they shall be.
    Satisfied,
    /// One will not be; as it was seen last.
    Failed(Box<Container>, Reason),
    /// The deadline came first; one of those that were waited for.
    TooLate(Option<Box<Container>>),
}

/// Containers that shall all become what the goal says.
#[derive(Debug)]
struct Group {
    goal: Goal,
    containers: Vec<Container>,
    /// How often each had been started again when the wait began.
    restarts: BTreeMap<String, u32>,
    /// One that was not yet what it shall be, when it was last looked at.
    pending: Option<Box<Container>>,
}

/// What tells that something has changed: state files that were written, and processes that have ended. One of these
/// serves many waits.
#[derive(Debug, Default)]
pub struct Signals {
    /// Made when there is something to watch: the kernel gives a user only 128.
    watch: Option<StateWatch>,
    processes: Vec<OwnedFd>,
    /// When to look again, whatever comes.
    again: Option<Instant>,
    /// When waiting ends, and how long it was then.
    end: Option<(Instant, Duration)>,
}

impl Signals {
    /// No wait lasts longer than this from now on; the first to say so counts.
    pub fn limit(&mut self, timeout: Option<Duration>) {
        self.end = self.end.or_else(|| timeout.map(|timeout| (Instant::now() + timeout, timeout)));
    }

    /// Whether waiting is over, and after how long; if not, it is looked at again then.
    fn too_late(&mut self) -> Option<Duration> {
        let (deadline, after) = self.end?;
        self.look_again(deadline);
        (deadline <= Instant::now()).then_some(after)
    }

    fn look_again(&mut self, then: Instant) {
        self.again = Some(self.again.map_or(then, |again| again.min(then)));
    }

    /// Forgets what was told: to be called before looking.
    pub fn clear(&mut self) {
        self.watch.iter().for_each(StateWatch::clear);
        self.processes.clear();
        self.again = None;
    }

    fn add(&mut self, engine: &Engine, container: &Container) -> Result<()> {
        let watch = match self.watch.take() {
            Some(watch) => watch,
            None => StateWatch::nothing()?,
        };
        // One that is gone by now is found by the first look.
        let _ = self.watch.insert(watch).add(&engine.roots, &container.config.id);
        Ok(())
    }

    /// Waits until something may have changed since the last look, or one of `others` is readable; whether that came
    /// before the deadline.
    pub fn wait(&self, others: &[BorrowedFd<'_>], deadline: Option<Instant>) -> Result<bool> {
        let mut fds: Vec<BorrowedFd<'_>> = others.to_vec();
        fds.extend(self.watch.iter().map(|watch| watch.as_fd()));
        fds.extend(self.processes.iter().map(|process| process.as_fd()));
        let first = deadline.into_iter().chain(self.again).min();
        let came = readable(&fds, first)?;
        Ok(came || (first == self.again && first.is_some() && first != deadline))
    }
}

impl Group {
    /// Waits for these, from now on.
    fn new(engine: &Engine, goal: Goal, containers: Vec<Container>, signals: &mut Signals) -> Result<Self> {
        containers.iter().try_for_each(|container| signals.add(engine, container))?;
        Ok(Self { goal, containers, restarts: BTreeMap::new(), pending: None })
    }

    /// Looks once; nothing while it may still become what it shall be.
    fn look(&mut self, engine: &Engine, signals: &mut Signals) -> Result<Option<Outcome>> {
        let mut satisfied = true;
        for container in &self.containers {
            let id = container.config.id.as_str();
            let Some(now) = Container::load(&engine.roots, id)? else {
                return Ok(Some(Outcome::Failed(Box::new(container.clone()), Reason::Gone)));
            };
            let monitor = supervisor(&now.state);
            let before = *self.restarts.entry(id.to_owned()).or_insert(now.state.restart_count);
            let restarts = now.state.restart_count.saturating_sub(before);
            let seen = Seen { supervised: monitor.is_some(), ..Seen::of(&now, restarts) };
            match judge(self.goal, &seen) {
                Verdict::Satisfied => {}
                Verdict::Fails(reason) => return Ok(Some(Outcome::Failed(Box::new(now), reason))),
                Verdict::Wait => {
                    satisfied = false;
                    if let Some(left) = until_settled(&now.state).filter(|_| self.goal == Goal::Stays) {
                        signals.look_again(Instant::now() + left);
                    }
                    // Without its monitor nobody writes its state: then the end of its process is what there is.
                    signals.processes.extend(monitor.or_else(|| now.state.init.and_then(pidfd)));
                    self.pending = Some(Box::new(now));
                }
            }
        }
        Ok(satisfied.then_some(Outcome::Satisfied))
    }
}

/// Waits until all containers are what they shall be, or one will not be.
pub fn until(engine: &Engine, goal: Goal, containers: &[Container], deadline: Option<Instant>) -> Result<Outcome> {
    let mut signals = Signals::default();
    let mut group = Group::new(engine, goal, containers.to_vec(), &mut signals)?;
    loop {
        signals.clear();
        if let Some(outcome) = group.look(engine, &mut signals)? {
            return Ok(outcome);
        }
        if !signals.wait(&[], deadline)? {
            return Ok(Outcome::TooLate(group.pending));
        }
    }
}

/// What stands between a service and its start: the conditions of its `depends_on` that are not met yet.
#[derive(Debug)]
pub struct Gate {
    awaited: Vec<Awaited>,
}

#[derive(Debug)]
struct Awaited {
    /// The service that is waited for.
    name: String,
    required: bool,
    group: Group,
}

impl Gate {
    /// Begins to wait. `of` gives the containers of a service; one that has none is not waited for.
    pub fn new(
        engine: &Engine,
        progress: &Progress,
        depends_on: &[(String, Dependency)],
        of: &dyn Fn(&str) -> Vec<Container>,
        signals: &mut Signals,
    ) -> Result<Self> {
        let mut awaited = Vec::new();
        for (name, dependency) in depends_on {
            let Some(goal) = goal(dependency.condition) else { continue };
            let containers = of(name);
            containers.iter().for_each(|container| progress.working(&what(container), "Waiting"));
            let group = Group::new(engine, goal, containers, signals)?;
            awaited.push(Awaited { name: name.clone(), required: dependency.required, group });
        }
        Ok(Self { awaited })
    }

    /// Looks once; whether it is open. An error when a condition will not be met that is required.
    pub fn look(&mut self, engine: &Engine, progress: &Progress, signals: &mut Signals) -> Result<bool> {
        let mut waiting = Vec::new();
        for mut awaited in std::mem::take(&mut self.awaited) {
            match awaited.group.look(engine, signals)? {
                None => match (signals.too_late(), awaited.group.pending.take()) {
                    (Some(after), Some(container)) => {
                        awaited.failed(engine, progress, &container, Reason::TooLate(after))?;
                    }
                    _ => waiting.push(awaited),
                },
                Some(Outcome::Failed(container, reason)) => awaited.failed(engine, progress, &container, reason)?,
                Some(Outcome::Satisfied | Outcome::TooLate(_)) => {
                    let word = if awaited.group.goal == Goal::Healthy { "Healthy" } else { "Exited" };
                    awaited.group.containers.iter().for_each(|container| progress.done(&what(container), word));
                }
            }
        }
        self.awaited = waiting;
        Ok(self.awaited.is_empty())
    }
}

impl Awaited {
    /// It will not be what it shall be: an error, or a warning where it is not required.
    fn failed(&self, engine: &Engine, progress: &Progress, container: &Container, reason: Reason) -> Result<()> {
        let (name, goal) = (&self.name, self.group.goal);
        let text = reason.of(&container.config.name);
        let said = match (goal, reason.code()) {
            _ if matches!(reason, Reason::TooLate(_)) => text.clone(),
            (Goal::Completed, Some(code)) => format!("\"{name}\" didn't complete successfully: exit {code}"),
            (Goal::Completed, None) => format!("\"{name}\" didn't complete successfully: {text}"),
            _ => text.clone(),
        };
        if !self.required {
            progress.done(&what(container), "Skipped");
            progress.note(&match goal {
                Goal::Completed => format!("warning: optional dependency {said}"),
                _ => format!("warning: optional dependency \"{name}\" failed to start: {said}"),
            });
            return Ok(());
        }
        progress.failed(&what(container), "Error");
        evidence(engine, progress, container, reason);
        match goal {
            _ if matches!(reason, Reason::TooLate(_)) => bail!("timeout waiting for dependencies: {text}"),
            Goal::Completed => bail!("service {said}"),
            _ => bail!("dependency failed to start: {said}"),
        }
    }
}

/// As [`dependencies`], with the containers of a project as they are now.
pub fn of_project(
    engine: &Engine,
    progress: &Progress,
    project: &str,
    depends_on: &[(String, Dependency)],
) -> Result<()> {
    if depends_on.iter().all(|(_, dependency)| goal(dependency.condition).is_none()) {
        return Ok(());
    }
    let all = observe::replicas(observe::members(engine, project)?);
    let of = |name: &str| {
        all.iter().filter(|member| member.service == name).map(|member| member.container.clone()).collect()
    };
    dependencies(engine, progress, depends_on, &of, None)
}

/// Waits until the containers of all services that one depends on are what its `depends_on` says, for at most so long.
pub fn dependencies(
    engine: &Engine,
    progress: &Progress,
    depends_on: &[(String, Dependency)],
    of: &dyn Fn(&str) -> Vec<Container>,
    timeout: Option<Duration>,
) -> Result<()> {
    if depends_on.iter().all(|(_, dependency)| goal(dependency.condition).is_none()) {
        return Ok(());
    }
    let mut signals = Signals::default();
    signals.limit(timeout);
    let mut gate = Gate::new(engine, progress, depends_on, of, &mut signals)?;
    loop {
        signals.clear();
        if gate.look(engine, progress, &mut signals)? {
            return Ok(());
        }
        signals.wait(&[], None)?;
    }
}

fn what(container: &Container) -> String {
    format!("Container {}", container.config.name)
}

/// `--wait`: until all are healthy or running.
pub fn all_up(engine: &Engine, progress: &Progress, containers: &[Container], timeout: Option<Duration>) -> Result<()> {
    let deadline = timeout.map(|timeout| Instant::now() + timeout);
    containers.iter().for_each(|container| progress.working(&what(container), "Waiting"));
    match until(engine, Goal::Stays, containers, deadline)? {
        Outcome::Satisfied => {
            for container in containers {
                let now = Container::load(&engine.roots, &container.config.id)?;
                let word = now
                    .map_or("Healthy", |now| if now.health.is_some() { "Healthy" } else { now.state.status.title() });
                progress.done(&what(container), word);
            }
            Ok(())
        }
        Outcome::Failed(container, reason) => {
            progress.failed(&what(&container), "Error");
            evidence(engine, progress, &container, reason);
            bail!("{}", reason.of(&container.config.name))
        }
        Outcome::TooLate(pending) => {
            if let Some(container) = pending {
                progress.failed(&what(&container), "Error");
                evidence(engine, progress, &container, Reason::TooLate(timeout.unwrap_or_default()));
            }
            let after = umiak_compose::units::format_duration(timeout.unwrap_or_default());
            bail!("application not healthy after {after}")
        }
    }
}

/// What helps to see why: what the kernel did, the output of the check that failed, the last lines of the log.
fn evidence(engine: &Engine, progress: &Progress, container: &Container, reason: Reason) {
    let name = &container.config.name;
    let told = super::explain::of_end(&container.state).or_else(|| container.state.error.clone());
    if let Some(told) = told.filter(|_| !container.state.status.is_up()) {
        progress.note(&format!("{name}: {told}"));
    }
    if container.state.status == Status::Paused {
        progress.note(&format!("{name} is paused: unpause lets it go on"));
        return;
    }
    let of_checks = matches!(reason, Reason::Unhealthy | Reason::TooLate(_));
    if let (true, Some(last)) = (of_checks, container.health.as_ref().and_then(|health| health.log.last())) {
        progress.note(&format!("{name}: the last health check ended with {}", last.exit_code));
        last.output.lines().rev().take(LAST_LINES).collect::<Vec<_>>().iter().rev().for_each(|line| {
            progress.note(&format!("{name}  ? {line}"));
        });
    }
    for line in logs::last_lines(&engine.roots, &container.config, LAST_LINES) {
        progress.note(&format!("{name}  | {line}"));
    }
}

/// What a service depends on.
pub fn of_service(service: &Service) -> Vec<(String, Dependency)> {
    service.depends_on.iter().map(|(name, dependency)| (name.clone(), *dependency)).collect()
}

/// What a container's service depends on, by its label: for commands that have no Compose file.
pub fn of_label(container: &Container) -> Vec<(String, Dependency)> {
    let entry = |text: &str| {
        let mut parts = text.split(':');
        let name = parts.next().filter(|name| !name.is_empty())?;
        let condition = match parts.next() {
            Some("service_healthy") => Condition::Healthy,
            Some("service_completed_successfully") => Condition::CompletedSuccessfully,
            _ => Condition::Started,
        };
        Some((name.to_owned(), Dependency { condition, ..Dependency::default() }))
    };
    container.label(labels::DEPENDS_ON).unwrap_or_default().split(',').filter_map(entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUNNING: Seen =
        Seen { status: Status::Running, exit_code: None, health: None, restarts: 0, supervised: true, young: false };

    #[test]
    fn each_goal_has_its_ends() {
        use HealthStatus::{Healthy, Starting, Unhealthy};
        use Reason::{Exited, KeepsFailing, NoHealthcheck, NotStarted, Unsupervised};
        use Verdict::{Fails, Satisfied, Wait};
        let checked = |health| Seen { health: Some(health), ..RUNNING };
        let ended = |code| Seen { status: Status::Exited, exit_code: Some(code), ..RUNNING };
        let pausing = |code, restarts| Seen { status: Status::Restarting, exit_code: Some(code), restarts, ..RUNNING };
        let created = Seen { status: Status::Created, ..RUNNING };
        let again = Seen { exit_code: Some(0), restarts: 1, ..RUNNING };
        let alone = Seen { supervised: false, ..checked(Starting) };
        let cases = [
            // what was seen, and whether it is healthy, completed, up
            (RUNNING, [Fails(NoHealthcheck), Wait, Satisfied]),
            (checked(Healthy), [Satisfied, Wait, Satisfied]),
            (checked(Starting), [Wait, Wait, Wait]),
            (checked(Unhealthy), [Fails(Reason::Unhealthy), Wait, Fails(Reason::Unhealthy)]),
            (alone, [Fails(Unsupervised), Wait, Fails(Unsupervised)]),
            (ended(0), [Fails(Exited(0)), Satisfied, Satisfied]),
            (ended(3), [Fails(Exited(3)); 3]),
            (created, [Fails(NotStarted); 3]),
            (pausing(0, 1), [Wait, Satisfied, Wait]),
            (pausing(3, 1), [Wait; 3]),
            (pausing(3, RESTARTS), [Fails(KeepsFailing(3)); 3]),
            (again, [Fails(NoHealthcheck), Satisfied, Satisfied]),
        ];
        let young = Seen { young: true, ..RUNNING };
        assert_eq!([Goal::Up, Goal::Stays].map(|goal| judge(goal, &young)), [Satisfied, Wait]);
        assert_eq!(judge(Goal::Stays, &RUNNING), Satisfied);
        for (seen, verdicts) in cases {
            let found = [Goal::Healthy, Goal::Completed, Goal::Up].map(|goal| judge(goal, &seen));
            assert_eq!(found, verdicts, "{seen:?}");
        }
    }
}
