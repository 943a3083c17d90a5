//! Health checks from the monitor's side: when the next is due, and what its
//! result changes. A check is a short-lived process of its own (`probe.rs`);
//! without a health check nothing here ever wakes the monitor.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use jiff::Timestamp;
use rustix::process::{Signal, pidfd_send_signal};
use umiak_base::{ProcessRef, state};
use umiak_runtime::program::OwnProgram;

use super::probe;
use super::start::{Running, publish_names};
use crate::engine::container::Config;
use crate::engine::health::{Checked, Health, HealthStatus, Healthcheck};
use crate::engine::{events, pause, stop, wait};
use crate::ipc;

/// Between the start and the second check; each distance is twice the one before.
const FIRST_GAP: Duration = Duration::from_millis(50);
/// The longest of those, where `start_interval` does not say.
const LONGEST_GAP: Duration = Duration::from_secs(1);
/// What a probe has beyond its timeout to come to its end, before it is taken for stuck.
const GRACE: Duration = Duration::from_secs(10);

/// The checks of one run.
#[derive(Debug)]
pub struct Checks {
    order: probe::Order,
    retries: u32,
    schedule: Schedule,
    health: Health,
    began: Instant,
    next: Instant,
    early: bool,
    running: Option<Probe>,
    /// The container was found paused since the last result.
    stands_still: bool,
}

#[derive(Debug)]
struct Probe {
    socket: OwnedFd,
    child: Child,
    deadline: Instant,
    start: Timestamp,
}

impl Drop for Probe {
    fn drop(&mut self) {
        // Reaped with all others. What it runs in the container ends with that, or is ended by nobody else.
        let _ = self.child.kill();
    }
}

impl Checks {
    /// The checks of a run that begins now, or of one that another monitor has checked until now; `None` where there
    /// are none.
    pub fn new(roots: &crate::engine::Roots, config: &Config, init: ProcessRef, found: Option<Health>) -> Option<Self> {
        let check = config.healthcheck.as_ref()?;
        if !check.is_on() {
            return None;
        }
        let order = probe::Order {
            roots: roots.clone(),
            id: config.id.clone(),
            init,
            args: check.command().unwrap_or_default(),
            reach: check.reach.clone(),
            timeout: check.timeout(),
        };
        let now = Instant::now();
        Some(Self {
            order,
            retries: check.retries(),
            schedule: Schedule::new(check),
            health: found.unwrap_or_else(|| Health::of_run(roots, &config.id, init)),
            began: now,
            next: now,
            early: true,
            running: None,
            stands_still: false,
        })
    }

    /// When the monitor has to look again at the latest.
    pub fn deadline(&self) -> Instant {
        self.running.as_ref().map_or(self.next, |probe| probe.deadline)
    }

    /// Becomes readable when a result is there.
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.running.as_ref().map(|probe| probe.socket.as_fd())
    }

    /// What the resolvers are told; nothing while nothing is known.
    pub fn healthy(&self) -> Option<bool> {
        match self.health.status {
            HealthStatus::Starting => None,
            HealthStatus::Healthy => Some(true),
            HealthStatus::Unhealthy => Some(false),
        }
    }

    /// The result of the check that runs, once it is there; of one that says nothing, nothing.
    fn result(&mut self) -> Option<Option<Checked>> {
        let probe = self.running.as_ref()?;
        let now = Instant::now();
        let failed = |output: &str| {
            let output = output.to_owned();
            Some(Checked { start: probe.start, end: Timestamp::now(), exit_code: -1, output })
        };
        let result = match wait::readable(&[probe.socket.as_fd()], Some(now)) {
            Ok(true) => match ipc::receive::<Option<Checked>>(&probe.socket) {
                Ok(Some((result, _))) => result,
                _ => failed("the health check ended without a result"),
            },
            _ if now >= probe.deadline => failed("the health check could not be ended"),
            _ => return None,
        };
        self.running = None;
        Some(result)
    }

    /// Takes a result in; whether the status is another now.
    fn take(&mut self, result: Checked) -> bool {
        let before = self.health.status;
        self.health.take(result, self.retries, !self.early);
        self.plan();
        self.health.status != before
    }

    fn plan(&mut self) {
        let (next, early) = self.schedule.after(self.began.elapsed(), self.health.status, self.early);
        (self.next, self.early) = (self.began + next, early);
    }

    /// Begins a check; the result at once when it cannot be run.
    fn begin(&mut self) -> Option<Checked> {
        let start = Timestamp::now();
        match spawn(&self.order) {
            Ok((socket, child)) => {
                let deadline = Instant::now() + self.order.timeout + GRACE;
                self.running = Some(Probe { socket, child, deadline, start });
                None
            }
            Err(error) => {
                let output = crate::failure::one_line(&error);
                Some(Checked { start, end: Timestamp::now(), exit_code: -1, output })
            }
        }
    }
}

fn spawn(order: &probe::Order) -> Result<(OwnedFd, Child)> {
    let (ours, theirs) = ipc::pair()?;
    // Kept until the child runs: what the container could ever reach of it is read-only (CVE-2019-5736).
    let program = OwnProgram::open().context("open our own program")?;
    let child = Command::new(program.path())
        .arg("__probe")
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::from(theirs))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .context("start the health check")?;
    ipc::send(&ours, order, &[])?;
    Ok((ours, child))
}

/// Looks after the checks: takes a result in, and begins the next check when it is due.
pub fn turn(running: &mut Running) {
    let Some(checks) = &mut running.checks else { return };
    let due = checks.running.is_none() && checks.next <= Instant::now();
    let result = checks.result();
    let doubtful = match &result {
        Some(found) => found.as_ref().is_none_or(|result| result.exit_code != 0),
        None => due,
    };
    let void = matches!(result, Some(None));
    if doubtful && (void || is_paused(running)) {
        // Frozen, nothing answers, and a check would be, too.
        stand_still(running);
        return;
    }
    let begun = if due { running.checks.as_mut().and_then(Checks::begin) } else { None };
    if let Some(result) = result.flatten().or(begun) {
        settle(running, result);
    }
}

fn is_paused(running: &Running) -> bool {
    pause::is_paused(&running.roots, &running.config.id, &running.config.runtime.cgroup_path)
}

/// Puts the next check off, and sees to it that those who wait for the container look at it once more.
fn stand_still(running: &mut Running) {
    let Some(checks) = &mut running.checks else { return };
    checks.plan();
    if !std::mem::replace(&mut checks.stands_still, true) {
        let _ = state::write_volatile(&Health::path(&running.roots, &running.config.id), &checks.health);
        let _ = publish_names(&running.roots, &running.config, Some(false));
    }
}

/// Takes a result in, and tells whom it concerns.
fn settle(running: &mut Running, result: Checked) {
    let Some(checks) = &mut running.checks else { return };
    let stood_still = std::mem::take(&mut checks.stands_still);
    let changed = checks.take(result);
    // Advisory, and written again with the next result.
    let _ = state::write_volatile(&Health::path(&running.roots, &running.config.id), &checks.health);
    if changed || stood_still {
        // The others' resolvers lead to replicas that are well.
        let _ = publish_names(&running.roots, &running.config, checks.healthy());
    }
    if changed {
        let action = format!("health_status: {}", checks.health.status.as_str());
        events::container(&running.roots, &running.config, &action);
    }
    // Not only when it becomes so: the monitor that saw that may have been killed.
    let sick = checks.health.status == HealthStatus::Unhealthy;
    if sick && running.config.restart_unhealthy && !running.gave_up && !running.stay_down {
        give_up(running);
    }
}

/// Asks an unhealthy container to end, so that it can be started again; killed when it has not in time.
fn give_up(running: &mut Running) {
    let config = &running.config;
    let asked = config.stop_signal.as_deref().and_then(|text| stop::signal(text).ok()).unwrap_or(Signal::TERM);
    if let Some(init) = wait::pidfd(running.init) {
        let _ = pidfd_send_signal(&init, asked);
    }
    running.gave_up = true;
    running.kill_at = Some(Instant::now() + Duration::from_secs(config.stop_timeout.unwrap_or(stop::GRACE)));
}

/// When checks are due, as times since the start. Before a container has been healthy some come early: at once, then
/// at growing distances, in the start period or up to the first interval where there is none. Their failures do not
/// count, so that all else is as in Docker: the first that counts is the first after the start period of those that
/// come each `start_interval`, or the one after the first interval where there is no start period.
#[derive(Debug)]
struct Schedule {
    interval: Duration,
    early_until: Duration,
    first_that_counts: Duration,
    gap: Duration,
    longest: Duration,
}

impl Schedule {
    fn new(check: &Healthcheck) -> Self {
        let given = |span: Duration, default| if span.is_zero() { default } else { span };
        let longest = given(check.start_interval, LONGEST_GAP);
        let early_until = given(check.start_period, check.interval());
        let step = check.start_interval().max(Duration::from_millis(1));
        let first_that_counts = match check.start_period.is_zero() {
            true => early_until,
            false => {
                let steps = early_until.as_nanos().div_ceil(step.as_nanos());
                step.saturating_mul(u32::try_from(steps).unwrap_or(u32::MAX))
            }
        };
        Self { interval: check.interval(), early_until, first_that_counts, gap: FIRST_GAP.min(longest), longest }
    }

    /// After a check that ended at `now`: when the next is due, and whether it is an early one.
    fn after(&mut self, now: Duration, status: HealthStatus, was_early: bool) -> (Duration, bool) {
        if status != HealthStatus::Starting || !was_early {
            return (now + self.interval, false);
        }
        let next = now + self.gap;
        if next < self.early_until {
            self.gap = (self.gap * 2).min(self.longest);
            return (next, true);
        }
        (self.first_that_counts.max(now), false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(check: &Healthcheck, healthy_after: usize, count: usize) -> Vec<(u128, bool)> {
        let (mut schedule, mut now, mut early) = (Schedule::new(check), Duration::ZERO, true);
        let mut all = Vec::new();
        for number in 0..count {
            all.push((now.as_millis(), early));
            let status = if number >= healthy_after { HealthStatus::Healthy } else { HealthStatus::Starting };
            (now, early) = schedule.after(now, status, early);
        }
        all
    }

    fn seconds(interval: u64, start_period: u64) -> Healthcheck {
        let span = Duration::from_secs;
        Healthcheck { interval: span(interval), start_period: span(start_period), ..Healthcheck::default() }
    }

    #[test]
    fn early_checks_come_before_the_first_interval_and_the_rest_as_in_docker() {
        let early = [0, 50, 150, 350, 750, 1550].map(|at| (at, true));
        let all = times(&seconds(2, 0), usize::MAX, 9);
        assert_eq!(all[..6], early);
        assert_eq!(all[6..], [(2000, false), (4000, false), (6000, false)]);
    }

    #[test]
    fn a_start_period_has_early_checks_all_along_and_the_first_that_counts_after_it() {
        let all = times(&seconds(2, 4), usize::MAX, 11);
        let early: Vec<u128> = all.iter().filter(|(_, early)| *early).map(|(at, _)| *at).collect();
        assert_eq!(early, [0, 50, 150, 350, 750, 1550, 2550, 3550]);
        // Docker's default start interval is five seconds.
        assert_eq!(all[8..], [(5000, false), (7000, false), (9000, false)]);
        let first = |check: &Healthcheck| times(check, usize::MAX, 50).into_iter().find(|(_, early)| !early);
        assert_eq!(first(&seconds(30, 1)), Some((5000, false)));
        assert_eq!(first(&seconds(30, 5)), Some((5000, false)));
        let asked = Healthcheck { start_interval: Duration::from_millis(300), ..seconds(30, 1) };
        assert_eq!(first(&asked), Some((1200, false)));
    }

    #[test]
    fn once_healthy_only_intervals_pass() {
        assert_eq!(times(&seconds(2, 60), 1, 4), [(0, true), (50, true), (2050, false), (4050, false)]);
        let often = Healthcheck { start_interval: Duration::from_millis(20), ..seconds(5, 5) };
        assert_eq!(times(&often, usize::MAX, 3), [(0, true), (20, true), (40, true)]);
    }
}
