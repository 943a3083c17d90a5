//! Waiting for containers to be what others need of them: healthy, completed,
//! or just up. The decision is pure; the effect sleeps until a state file is
//! written or a process ends, and cannot sleep for ever: a container that has
//! ended for good, keeps failing, or has nobody left to check it ends the wait.

use std::collections::BTreeMap;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::time::Instant;

use anyhow::{Result, bail};

use super::labels;
use crate::engine::container::Status;
use crate::engine::health::HealthStatus;
use crate::engine::wait::{StateWatch, pidfd, readable};
use crate::engine::{Container, Engine, logs};
use crate::ui::progress::Progress;
use umiak_compose::{Condition, Dependency, Service};

/// Lines of its log that the report of a failure shows.
const LAST_LINES: usize = 10;
/// Restarts during one wait after which a container is taken for one that never succeeds: about two minutes of
/// growing pauses.
const RESTARTS: u32 = 10;

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Goal {
    /// Its health check passes.
    Healthy,
    /// It ended with exit code 0.
    Completed,
    /// Healthy where health is checked, else running; or it ended with exit code 0.
    Up,
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
        }
    }
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
        (Goal::Completed | Goal::Up, Status::Exited) if code == 0 => Verdict::Satisfied,
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
            None if goal == Goal::Up => Verdict::Satisfied,
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
    /// The deadline came first.
    TooLate,
}

/// Waits until all containers are what they shall be, or one will not be.
pub fn until(engine: &Engine, goal: Goal, containers: &[Container], deadline: Option<Instant>) -> Result<Outcome> {
    let watch = StateWatch::nothing()?;
    let mut restarts: BTreeMap<&str, u32> = BTreeMap::new();
    for container in containers {
        let id = container.config.id.as_str();
        if watch.add(&engine.roots, id).is_err() && Container::load(&engine.roots, id)?.is_none() {
            return Ok(Outcome::Failed(Box::new(container.clone()), Reason::Gone));
        }
    }
    loop {
        watch.clear();
        let (mut satisfied, mut processes): (bool, Vec<OwnedFd>) = (true, Vec::new());
        for container in containers {
            let id = container.config.id.as_str();
            let Some(now) = Container::load(&engine.roots, id)? else {
                return Ok(Outcome::Failed(Box::new(container.clone()), Reason::Gone));
            };
            let monitor = now.state.monitor.and_then(pidfd);
            let before = *restarts.entry(id).or_insert(now.state.restart_count);
            let seen = Seen {
                status: now.state.status,
                exit_code: now.state.exit_code,
                health: now.health.as_ref().map(|health| health.status),
                restarts: now.state.restart_count.saturating_sub(before),
                supervised: monitor.is_some(),
            };
            match judge(goal, &seen) {
                Verdict::Satisfied => {}
                Verdict::Fails(reason) => return Ok(Outcome::Failed(Box::new(now), reason)),
                Verdict::Wait => {
                    satisfied = false;
                    // Without its monitor nobody writes its state: then the end of its process is what there is.
                    processes.extend(monitor.or_else(|| now.state.init.and_then(pidfd)));
                }
            }
        }
        if satisfied {
            return Ok(Outcome::Satisfied);
        }
        let mut fds: Vec<BorrowedFd<'_>> = vec![watch.as_fd()];
        fds.extend(processes.iter().map(|process| process.as_fd()));
        if !readable(&fds, deadline)? {
            return Ok(Outcome::TooLate);
        }
    }
}

/// Waits until the containers of all services that one depends on are what its `depends_on` says. `of` gives the
/// containers of a service; one that has none is not waited for.
pub fn dependencies(
    engine: &Engine,
    progress: &Progress,
    depends_on: &[(String, Dependency)],
    of: &dyn Fn(&str) -> Vec<Container>,
) -> Result<()> {
    for (name, dependency) in depends_on {
        let Some(goal) = goal(dependency.condition) else { continue };
        let containers = of(name);
        let what = |container: &Container| format!("Container {}", container.config.name);
        containers.iter().for_each(|container| progress.working(&what(container), "Waiting"));
        match until(engine, goal, &containers, None)? {
            Outcome::Satisfied | Outcome::TooLate => {
                let word = if goal == Goal::Healthy { "Healthy" } else { "Exited" };
                containers.iter().for_each(|container| progress.done(&what(container), word));
            }
            Outcome::Failed(container, reason) => {
                let text = reason.of(&container.config.name);
                let said = match (goal, reason.code()) {
                    (Goal::Completed, Some(code)) => format!("\"{name}\" didn't complete successfully: exit {code}"),
                    (Goal::Completed, None) => format!("\"{name}\" didn't complete successfully: {text}"),
                    _ => text,
                };
                if !dependency.required {
                    progress.done(&what(&container), "Skipped");
                    progress.note(&match goal {
                        Goal::Completed => format!("warning: optional dependency {said}"),
                        _ => format!("warning: optional dependency \"{name}\" failed to start: {said}"),
                    });
                    continue;
                }
                progress.failed(&what(&container), "Error");
                evidence(engine, progress, &container, reason);
                match goal {
                    Goal::Completed => bail!("service {said}"),
                    _ => bail!("dependency failed to start: {said}"),
                }
            }
        }
    }
    Ok(())
}

/// `--wait`: until all are healthy or running.
pub fn all_up(
    engine: &Engine,
    progress: &Progress,
    containers: &[Container],
    timeout: Option<std::time::Duration>,
) -> Result<()> {
    let deadline = timeout.map(|timeout| Instant::now() + timeout);
    let what = |container: &Container| format!("Container {}", container.config.name);
    containers.iter().for_each(|container| progress.working(&what(container), "Waiting"));
    match until(engine, Goal::Up, containers, deadline)? {
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
        Outcome::TooLate => {
            let after = umiak_compose::units::format_duration(timeout.unwrap_or_default());
            bail!("application not healthy after {after}")
        }
    }
}

/// What helps to see why: the output of the check that failed, the last lines of the log.
fn evidence(engine: &Engine, progress: &Progress, container: &Container, reason: Reason) {
    let name = &container.config.name;
    if let (Reason::Unhealthy, Some(last)) = (reason, container.health.as_ref().and_then(|health| health.log.last())) {
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
        Seen { status: Status::Running, exit_code: None, health: None, restarts: 0, supervised: true };

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
        for (seen, verdicts) in cases {
            let found = [Goal::Healthy, Goal::Completed, Goal::Up].map(|goal| judge(goal, &seen));
            assert_eq!(found, verdicts, "{seen:?}");
        }
    }
}
