//! Why a container is as it is: a pure decision over what was observed of it,
//! in a sentence or two and with what to try. `facts` observes, `ends` knows
//! how runs end, `hints` what the last lines of a log give away.

mod ends;
mod facts;
mod hints;
#[cfg(test)]
mod tests;

use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use umiak_compose::units::format_duration;

use crate::engine::container::{End, Status};
use crate::engine::health::HealthStatus;
use crate::engine::restart::{Condition, RestartPolicy};
use crate::ui::human;

pub use ends::{oom_limit, program};
pub use facts::{observe, of_end};

/// A restart within this time after the last start belongs to a loop; a longer run is taken for a stable one, as the
/// growing pauses do.
const SETTLED: i64 = 10;

/// What was observed of one container.
#[derive(Debug, Clone)]
pub struct Facts {
    /// Its service, for commands that are to be tried.
    pub service: String,
    /// Where it stands.
    pub status: Status,
    /// The exit code of the last run that has ended.
    pub exit_code: Option<i32>,
    /// Why it could not be started, or what went wrong beside it.
    pub error: Option<String>,
    /// The kernel killed something of it for memory.
    pub oom_killed: bool,
    /// What else is known of the last run's end.
    pub end: End,
    /// How many times it was started again since a command did.
    pub restarts: u32,
    /// When it is started again.
    pub policy: RestartPolicy,
    /// Its health, where it is checked.
    pub health: Option<HealthFacts>,
    /// Its monitor is there.
    pub supervised: bool,
    /// Its end was not seen.
    pub unseen: Option<Unseen>,
    /// A command has tried to start it.
    pub wanted: bool,
    /// What it still waits for.
    pub waits_for: Vec<Waits>,
    /// When its last run began.
    pub started: Option<Timestamp>,
    /// When its last run ended.
    pub finished: Option<Timestamp>,
    /// Now.
    pub now: Timestamp,
    /// What it runs.
    pub program: String,
    /// Seconds that it is given to end.
    pub grace: u64,
    /// The last lines of its log.
    pub last_lines: Vec<String>,
}

/// What was observed of a container's health.
#[derive(Debug, Clone)]
pub struct HealthFacts {
    /// Where it stands.
    pub status: HealthStatus,
    /// Failures in a row.
    pub streak: u32,
    /// The exit code and output of the last check.
    pub last: Option<(i32, String)>,
    /// What a check runs, as one would type it; empty where it is made from outside.
    pub command: String,
    /// Once unhealthy, it is restarted.
    pub restarts: bool,
}

/// Why nobody saw the end of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unseen {
    /// Its monitor had been killed before.
    MonitorLost,
    /// The host was restarted meanwhile.
    Reboot,
}

/// A dependency that is not yet what it shall be.
#[derive(Debug, Clone)]
pub struct Waits {
    /// The service.
    pub service: String,
    /// What it is instead: `container demo-db-1 is unhealthy`.
    pub says: String,
}

/// The kind of an explanation, for scripts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// It runs, and nothing is known against it.
    Running,
    /// It runs, and its first health checks have not passed yet.
    Starting,
    /// It did what it was to do.
    Completed,
    /// The freezer holds it.
    Paused,
    /// Somebody stopped it.
    StoppedByHand,
    /// It was made, and nobody has started it.
    NeverStarted,
    /// There is no container.
    NoContainer,
    /// What it depends on is not there yet.
    WaitingForDependency,
    /// Its program could not be started.
    StartFailed,
    /// Its health checks fail.
    Unhealthy,
    /// It ends again and again.
    RestartLoop,
    /// Its restart policy has used up its tries.
    GaveUp,
    /// The kernel killed it for memory.
    OutOfMemory,
    /// A signal of nobody known killed it.
    Killed,
    /// It crashed.
    Crashed,
    /// It ended by itself with an exit code other than 0.
    Failed,
    /// It runs without its monitor.
    Unsupervised,
    /// Nobody saw its end.
    MonitorLost,
    /// It ended with the host.
    HostRestarted,
}

impl Cause {
    /// Nothing has to be done.
    pub const fn is_fine(self) -> bool {
        matches!(self, Self::Running | Self::Starting | Self::Completed | Self::Paused | Self::StoppedByHand)
    }
}

/// What is said of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// In a word.
    pub cause: Cause,
    /// In a sentence or two, without its name.
    pub says: String,
    /// What to try: a command, or a key to change.
    pub tries: Vec<String>,
}

impl Explanation {
    fn new(cause: Cause, says: String, tries: Vec<String>) -> Self {
        Self { cause, says, tries }
    }
}

/// Explains a container.
pub fn explain(facts: &Facts) -> Explanation {
    let mut explained = match facts.status {
        Status::Created => created(facts),
        Status::Running => running(facts),
        Status::Paused => Explanation::new(
            Cause::Paused,
            "paused: its processes are frozen where they are".into(),
            vec![format!("`umiak unpause {}` lets it go on", facts.service)],
        ),
        Status::Restarting => restarting(facts),
        Status::Exited => exited(facts),
    };
    let hint = match explained.cause {
        Cause::OutOfMemory | Cause::WaitingForDependency => None,
        Cause::StartFailed => facts.error.as_deref().and_then(hints::of_start),
        cause if cause.is_fine() => None,
        _ => hints::of(&facts.last_lines),
    };
    explained.tries.extend(hint.map(str::to_owned));
    explained
}

/// Explains a service that has no container.
pub fn absent(service: &str) -> Explanation {
    let tries = vec![format!("`umiak up -d {service}` makes and starts it")];
    Explanation::new(Cause::NoContainer, "has no container: it was not created, or was removed".into(), tries)
}

fn created(facts: &Facts) -> Explanation {
    let service = &facts.service;
    if facts.end.not_started {
        return ends::start_failed(facts);
    }
    if let Some(first) = facts.waits_for.first() {
        let all: Vec<&str> = facts.waits_for.iter().map(|waits| waits.says.as_str()).collect();
        let says = format!("created, not started: it waits for what it depends on: {}", all.join("; "));
        let tries = vec![format!("`umiak explain {}` tells why", first.service)];
        return Explanation::new(Cause::WaitingForDependency, says, tries);
    }
    if facts.wanted {
        let says = "created, not started: the command that was to start it ended before".to_owned();
        return Explanation::new(Cause::StartFailed, says, vec![format!("`umiak start {service}` tries again")]);
    }
    let tries = vec![format!("`umiak start {service}` starts it")];
    Explanation::new(Cause::NeverStarted, "created, and never started".into(), tries)
}

fn running(facts: &Facts) -> Explanation {
    let since = facts.started.map(|started| span(facts, started)).unwrap_or_default();
    let service = &facts.service;
    if !facts.supervised {
        let says = format!(
            "running for {since}, but its monitor is gone: nobody checks its health, writes its log or restarts it"
        );
        return Explanation::new(
            Cause::Unsupervised,
            says,
            vec![format!("`umiak restart {service}` gives it a new one")],
        );
    }
    if let Some(health) = facts.health.as_ref().filter(|health| health.status == HealthStatus::Unhealthy) {
        return unhealthy(facts, health, &since);
    }
    let again = match facts.restarts {
        0 => String::new(),
        count => format!("; restarted {}, the last time because it {}", times(count), ends::ending(facts).says),
    };
    let young = facts.started.is_some_and(|started| facts.now.as_second() - started.as_second() < SETTLED);
    if facts.restarts > 1 && young {
        let mut ending = ends::ending(facts);
        ending.tries.push(format!("`umiak stop {service}` ends the loop"));
        return Explanation::new(Cause::RestartLoop, format!("running for {since}{again}"), ending.tries);
    }
    match facts.health.as_ref().map(|health| health.status) {
        Some(HealthStatus::Starting) => {
            let last = facts.health.as_ref().and_then(|health| health.last.as_ref());
            let said = last.map(|(code, output)| probed(*code, output)).unwrap_or_default();
            Explanation::new(Cause::Starting, format!("running for {since}, not yet healthy{said}{again}"), Vec::new())
        }
        Some(_) => Explanation::new(Cause::Running, format!("running for {since}, healthy{again}"), Vec::new()),
        None => Explanation::new(Cause::Running, format!("running for {since}{again}"), Vec::new()),
    }
}

fn unhealthy(facts: &Facts, health: &HealthFacts, since: &str) -> Explanation {
    let service = &facts.service;
    let said = health.last.as_ref().map(|(code, output)| probed(*code, output)).unwrap_or_default();
    let streak = match health.streak {
        0 | 1 => "its last health check has failed".to_owned(),
        count => format!("its last {count} health checks have failed"),
    };
    let says = format!("running for {since}, but unhealthy: {streak}{said}");
    let mut tries = Vec::new();
    match health.last.as_ref().map(|(code, output)| (*code, output.as_str())) {
        Some((-1, output)) if output.contains("exceeded timeout") => {
            tries.push("a check may need longer: `healthcheck.timeout`".to_owned());
        }
        Some((126 | 127, _)) => tries.push(
            "the check's program is not in the image: change `healthcheck.test`, or check from outside with \
             `x-umiak-healthcheck: {http: \":PORT/PATH\"}` or `{tcp: \":PORT\"}`"
                .to_owned(),
        ),
        _ => {}
    }
    if !health.command.is_empty() {
        tries.push(format!("`umiak exec {service} {}` makes the check by hand", health.command));
    }
    if !health.restarts {
        tries.push("`x-umiak-on-unhealthy: restart` restarts it by itself".to_owned());
    }
    tries.push("`healthcheck.start_period`, when it is only slow to start".to_owned());
    Explanation::new(Cause::Unhealthy, says, tries)
}

fn probed(code: i32, output: &str) -> String {
    let last = output.trim().lines().last().unwrap_or_default().trim();
    match (code, last.is_empty()) {
        (-1, true) => "; the last one could not be made".to_owned(),
        (-1, false) => format!("; the last one: {last}"),
        (_, true) => format!("; the last one ended with {code} and said nothing"),
        (_, false) => format!("; the last one ended with {code}: {last}"),
    }
}

fn restarting(facts: &Facts) -> Explanation {
    let mut ending = ends::ending(facts);
    let pause = facts.end.next_start.map(|next| duration_until(facts.now, next));
    let next = match pause {
        Some(left) if !left.is_zero() => format!("next try in {}", rounded(left)),
        _ => "next try at any moment".to_owned(),
    };
    let ended = match ending.says.split_once(": ") {
        Some((what, meaning)) => format!("{what} ({meaning})"),
        None => ending.says.clone(),
    };
    let says = format!("{ended} and is being restarted ({} so far): {next}{}", times(facts.restarts), later(facts));
    if ending.cause == Cause::Completed {
        let policy = facts.policy.condition.name();
        ending.tries.push(format!("`restart: on-failure` instead of `{policy}`, when ending with 0 is its end"));
    }
    ending.tries.push(format!("`umiak stop {}` ends the loop", facts.service));
    Explanation::new(Cause::RestartLoop, says, ending.tries)
}

/// The pauses that are to come.
fn later(facts: &Facts) -> String {
    if let Some(delay) = facts.policy.delay {
        return format!(", each after {}", format_duration(delay));
    }
    let (Some(from), Some(to)) = (facts.finished, facts.end.next_start) else { return String::new() };
    let following = rounded((duration_until(from, to) * 2).min(Duration::from_secs(60)));
    let left = match facts.policy.max_retries {
        0 => String::new(),
        most => format!(", {} of {most} tries left", most.saturating_sub(facts.restarts)),
    };
    format!(", the one after it {following} after the next end{left}")
}

fn exited(facts: &Facts) -> Explanation {
    let mut ending = ends::ending(facts);
    // Of a start that failed, and of an end that nobody saw, no moment is known.
    let known = facts.finished.filter(|_| facts.unseen.is_none() && !facts.end.not_started);
    let ago = known.map(|finished| format!(", {} ago", span(facts, finished))).unwrap_or_default();
    let service = &facts.service;
    let policy = &facts.policy;
    let again = match facts.restarts {
        0 => String::new(),
        count => format!("; it had been restarted {}", times(count)),
    };
    let failed = !ending.cause.is_fine();
    let spent = policy.max_retries > 0 && facts.restarts >= policy.max_retries && !facts.end.by_hand;
    if failed && spent && facts.unseen.is_none() {
        let says = format!("{}; given up after {}", ends::when(&ending.says, &ago), tries_of(facts.restarts));
        ending.tries.push(format!("`umiak start {service}` begins anew, with {} tries", policy.max_retries));
        return Explanation::new(Cause::GaveUp, says, ending.tries);
    }
    let never = policy.condition == Condition::No && facts.unseen.is_none() && !facts.end.not_started;
    if failed && never {
        ending.tries.push("`restart: on-failure` in the Compose file, when it shall try again by itself".to_owned());
    }
    Explanation::new(ending.cause, format!("{}{again}", ends::when(&ending.says, &ago)), ending.tries)
}

fn tries_of(restarts: u32) -> String {
    format!("{} {}", restarts, if restarts == 1 { "restart" } else { "restarts" })
}

fn times(count: u32) -> String {
    match count {
        1 => "once".to_owned(),
        2 => "twice".to_owned(),
        count => format!("{count} times"),
    }
}

/// How long ago a moment was, in words.
fn span(facts: &Facts, moment: Timestamp) -> String {
    let words = human::duration(facts.now.as_second() - moment.as_second());
    // Within a sentence.
    words.replacen('A', "a", usize::from(words.starts_with('A'))).replacen(
        'L',
        "l",
        usize::from(words.starts_with('L')),
    )
}

fn duration_until(from: Timestamp, to: Timestamp) -> Duration {
    Duration::try_from(from.duration_until(to)).unwrap_or_default()
}

/// A pause for people: tenths of a second below ten seconds, then seconds.
fn rounded(pause: Duration) -> String {
    let unit = if pause < Duration::from_secs(10) { 100 } else { 1000 };
    let millis = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX).div_ceil(unit).saturating_mul(unit);
    format_duration(Duration::from_millis(millis))
}
