//! A container's health: what is checked (`config.json`), and what was found
//! (`health.json`, written by the monitor alone and never synced: it means
//! nothing once the run is over).

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, anyhow, bail};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use umiak_base::{ProcessRef, state};
use umiak_images::config as image;

use super::Roots;
use super::container::{State, Status};

/// Docker's defaults.
const INTERVAL: Duration = Duration::from_secs(30);
const TIMEOUT: Duration = Duration::from_secs(30);
const RETRIES: u32 = 3;
const START_INTERVAL: Duration = Duration::from_secs(5);
/// How many results are kept.
pub const KEPT: usize = 5;

/// How a container's health is checked; zero means Docker's default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Healthcheck {
    /// `CMD` and arguments, `CMD-SHELL` and one text, or `NONE`.
    pub test: Vec<String>,
    /// What runs the text of `CMD-SHELL`.
    pub shell: Vec<String>,
    /// Between two checks.
    pub interval: Duration,
    /// For one check.
    pub timeout: Duration,
    /// After the start, failures do not count for so long.
    pub start_period: Duration,
    /// Between two checks in that time.
    pub start_interval: Duration,
    /// Failures in a row that make it unhealthy.
    pub retries: u32,
    /// Instead of a program of the container.
    pub reach: Option<Reach>,
}

/// A check that is made from outside, in the container's network namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reach {
    /// `[HOST]:PORT/PATH` answers with a status from 200 to 399.
    Http(String),
    /// `[HOST]:PORT` accepts connections.
    Tcp(String),
}

/// Where a check from outside goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target<'a> {
    /// An address, or a name of the container's own `/etc/hosts`; nothing for its loopback.
    pub host: Option<&'a str>,
    /// The TCP port.
    pub port: u16,
    /// What is asked for; nothing where a connection is enough.
    pub path: Option<&'a str>,
}

impl Reach {
    /// Reads `[HOST]:PORT/PATH` (kind `http`) or `[HOST]:PORT` (kind `tcp`).
    pub fn parse(kind: &str, text: &str) -> Result<Self> {
        let reach = match kind {
            "http" => Self::Http(text.to_owned()),
            "tcp" => Self::Tcp(text.to_owned()),
            _ => bail!("{kind}: only http and tcp can be checked"),
        };
        reach.target()?;
        Ok(reach)
    }

    /// Its parts.
    pub fn target(&self) -> Result<Target<'_>> {
        let (address, path, port) = match self {
            Self::Tcp(text) => (text.as_str(), None, None),
            Self::Http(text) if text.starts_with("https://") => {
                bail!("{text}: https is not checked, because nothing is known of its certificate; tcp can be")
            }
            Self::Http(text) => {
                let plain = text.strip_prefix("http://").unwrap_or(text);
                if plain.chars().any(|char| char.is_control() || char.is_whitespace()) {
                    bail!("{text:?}: a space has to be written %20");
                }
                let (address, path) = plain.split_at(plain.find(['/', '?']).unwrap_or(plain.len()));
                (address, Some(path.split('#').next().unwrap_or_default()), Some(80))
            }
        };
        let wrong = || anyhow!("{address:?}: a port is expected, as in \":8080\" or \"[::1]:8080\"");
        let (host, digits) = match address.rsplit_once(':') {
            Some((host, digits)) if !digits.contains(']') => (host, Some(digits)),
            _ => (address, None),
        };
        let is_number = !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_digit());
        let port = match digits {
            Some(digits) => digits.parse().ok().filter(|port| *port != 0),
            None => port.filter(|_| !host.is_empty() && !is_number),
        };
        let inner = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        if inner.is_none() && host.contains([':', '[', ']', '@']) {
            return Err(wrong());
        }
        let host = Some(inner.unwrap_or(host)).filter(|host| !host.is_empty());
        Ok(Target { host, port: port.ok_or_else(wrong)?, path })
    }
}

impl Healthcheck {
    /// Joins what was asked for with what the image says, field by field.
    pub fn join(asked: Option<&Self>, defaults: &image::RunConfig) -> Option<Self> {
        let image = defaults.healthcheck.as_ref();
        if asked.is_none() && image.is_none() {
            return None;
        }
        let mut joined = asked.cloned().unwrap_or_default();
        if let Some(image) = image {
            let span = |nanoseconds: i64| Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(0));
            if joined.test.is_empty() {
                joined.test.clone_from(&image.test);
            }
            for (field, of_image) in [
                (&mut joined.interval, image.interval),
                (&mut joined.timeout, image.timeout),
                (&mut joined.start_period, image.start_period),
                (&mut joined.start_interval, image.start_interval),
            ] {
                if field.is_zero() {
                    *field = span(of_image);
                }
            }
            if joined.retries == 0 {
                joined.retries = u32::try_from(image.retries).unwrap_or(0);
            }
        }
        joined.shell = defaults.shell.clone().unwrap_or_else(|| vec!["/bin/sh".into(), "-c".into()]);
        Some(joined)
    }

    /// Refuses what Docker refuses.
    pub fn check(&self) -> Result<()> {
        for (name, span) in [
            ("Interval", self.interval),
            ("Timeout", self.timeout),
            ("StartPeriod", self.start_period),
            ("StartInterval", self.start_interval),
        ] {
            if !span.is_zero() && span < Duration::from_millis(1) {
                bail!("{name} in Healthcheck cannot be less than 1ms");
            }
        }
        Ok(())
    }

    /// What a check runs; `None` where there is none.
    pub fn command(&self) -> Option<Vec<String>> {
        match self.test.split_first() {
            Some((kind, args)) if kind == "CMD" && !args.is_empty() => Some(args.to_vec()),
            Some((kind, args)) if kind == "CMD-SHELL" && !args.is_empty() => {
                Some(self.shell.iter().cloned().chain([args.join(" ")]).collect())
            }
            _ => None,
        }
    }

    /// Whether anything is checked.
    pub fn is_on(&self) -> bool {
        self.reach.is_some() || self.command().is_some()
    }

    /// Between two checks.
    pub fn interval(&self) -> Duration {
        or(self.interval, INTERVAL)
    }

    /// For one check.
    pub fn timeout(&self) -> Duration {
        or(self.timeout, TIMEOUT)
    }

    /// Between two checks in the start period.
    pub fn start_interval(&self) -> Duration {
        or(self.start_interval, START_INTERVAL)
    }

    /// Failures in a row that make it unhealthy.
    pub fn retries(&self) -> u32 {
        if self.retries == 0 { RETRIES } else { self.retries }
    }

    /// `Config.Healthcheck` of `inspect`.
    pub fn inspect(&self) -> Value {
        let mut map = Map::new();
        if !self.test.is_empty() {
            map.insert("Test".into(), json!(self.test));
        }
        for (key, span) in [
            ("Interval", self.interval),
            ("Timeout", self.timeout),
            ("StartPeriod", self.start_period),
            ("StartInterval", self.start_interval),
        ] {
            if !span.is_zero() {
                map.insert(key.into(), json!(u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)));
            }
        }
        if self.retries != 0 {
            map.insert("Retries".into(), json!(self.retries));
        }
        Value::Object(map)
    }
}

fn or(value: Duration, default: Duration) -> Duration {
    if value.is_zero() { default } else { value }
}

/// Where a container's health stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HealthStatus {
    /// Nothing is known yet.
    #[default]
    Starting,
    /// The last check passed, or not enough have failed since one did.
    Healthy,
    /// Too many checks in a row have failed.
    Unhealthy,
}

impl HealthStatus {
    /// Docker's word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
        }
    }
}

/// One check's result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checked {
    /// When it began.
    pub start: Timestamp,
    /// When it ended.
    pub end: Timestamp,
    /// 0 for healthy; -1 when it could not be run, or not to its end.
    pub exit_code: i32,
    /// What it printed, at most 4096 bytes.
    pub output: String,
}

/// What was found of a container's health.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Health {
    /// The first process of the run that was checked.
    pub run: Option<ProcessRef>,
    /// Where it stands.
    pub status: HealthStatus,
    /// Failures in a row.
    pub failing_streak: u32,
    /// The last results, oldest first.
    pub log: Vec<Checked>,
}

impl Health {
    /// Where it is kept.
    pub fn path(roots: &Roots, id: &str) -> PathBuf {
        roots.container(id).join("health.json")
    }

    /// At the beginning of a run: nothing is known, but what the last checks of the run before said is still shown.
    pub fn of_run(roots: &Roots, id: &str, init: ProcessRef) -> Self {
        let before = state::read::<Self>(&Self::path(roots, id)).ok().flatten().unwrap_or_default();
        Self { run: Some(init), log: before.log, ..Self::default() }
    }

    /// The health of a container in this state. What another run left says nothing about this one, and a container
    /// that has ended or is paused is not healthy, as in Docker.
    pub fn load(roots: &Roots, id: &str, seen: &State) -> Option<Self> {
        if seen.status == Status::Created {
            return None;
        }
        // Damaged by a power cut, perhaps: as good as none.
        let stored = state::read::<Self>(&Self::path(roots, id)).ok().flatten().unwrap_or_default();
        let known = match seen.init {
            Some(_) if stored.run != seen.init => Self { run: seen.init, log: stored.log, ..Self::default() },
            _ => stored,
        };
        Some(match seen.init {
            Some(_) if seen.status != Status::Paused => known,
            _ => Self { status: HealthStatus::Unhealthy, ..known },
        })
    }

    /// Takes in a result; whether `counts` tells if a failure does.
    pub fn take(&mut self, result: Checked, retries: u32, counts: bool) {
        if result.exit_code == 0 {
            self.failing_streak = 0;
            self.status = HealthStatus::Healthy;
        } else if counts {
            self.failing_streak = self.failing_streak.saturating_add(1);
            if self.failing_streak >= retries {
                self.status = HealthStatus::Unhealthy;
            }
        }
        if self.log.len() >= KEPT {
            self.log.drain(..=self.log.len() - KEPT);
        }
        self.log.push(result);
    }

    /// `State.Health` of `inspect`.
    pub fn inspect(&self) -> Value {
        let log: Vec<Value> = self
            .log
            .iter()
            .map(|result| {
                json!({
                    "Start": result.start.to_string(), "End": result.end.to_string(),
                    "ExitCode": result.exit_code, "Output": result.output,
                })
            })
            .collect();
        json!({ "Status": self.status.as_str(), "FailingStreak": self.failing_streak, "Log": log })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result(exit_code: i32) -> Checked {
        let moment = Timestamp::UNIX_EPOCH;
        Checked { start: moment, end: moment, exit_code, output: String::new() }
    }

    #[test]
    fn a_streak_makes_it_unhealthy_and_one_success_healthy() {
        let mut health = Health::default();
        let mut seen = Vec::new();
        for (code, counts) in [(1, false), (1, true), (1, true), (1, true), (0, true), (1, true)] {
            health.take(result(code), 2, counts);
            seen.push((health.status.as_str(), health.failing_streak));
        }
        let expected =
            [("starting", 0), ("starting", 1), ("unhealthy", 2), ("unhealthy", 3), ("healthy", 0), ("healthy", 1)];
        assert_eq!(seen, expected);
        assert_eq!(health.log.iter().map(|one| one.exit_code).collect::<Vec<_>>(), [1, 1, 1, 0, 1]);
    }

    #[test]
    fn targets_are_read_and_what_is_none_is_refused() {
        let http = |text: &str| Reach::parse("http", text);
        for (text, host, port, path) in [
            (":8080/health", None, 8080, "/health"),
            (":8080", None, 8080, ""),
            (":80/a/b?c=d:1/e", None, 80, "/a/b?c=d:1/e"),
            (":80?ready=1#part", None, 80, "?ready=1"),
            ("http://localhost:3000/", Some("localhost"), 3000, "/"),
            ("http://web/x", Some("web"), 80, "/x"),
            ("[::1]:8080/x", Some("::1"), 8080, "/x"),
            ("10.0.0.1:1/x", Some("10.0.0.1"), 1, "/x"),
        ] {
            let reach = http(text).unwrap();
            assert_eq!(reach.target().unwrap(), Target { host, port, path: Some(path) }, "{text}");
        }
        let tcp = Reach::parse("tcp", ":5432").unwrap();
        assert_eq!(tcp.target().unwrap(), Target { host: None, port: 5432, path: None });
        for text in ["", "8080", "8080/health", ":", ":0", ":65536/", "/health", "::1:80/", "[::1/", ":80/a b", "u@h:1"]
        {
            assert!(http(text).is_err(), "{text}");
        }
        assert!(Reach::parse("tcp", "web").is_err() && Reach::parse("udp", ":53").is_err());
        assert!(http("https://localhost:8443/").unwrap_err().to_string().contains("certificate"));
    }

    #[test]
    fn a_check_is_the_images_where_the_user_says_nothing_else() {
        let image = image::RunConfig {
            healthcheck: Some(image::Healthcheck {
                test: vec!["CMD".into(), "probe".into()],
                interval: 5_000_000_000,
                retries: 7,
                ..image::Healthcheck::default()
            }),
            ..image::RunConfig::default()
        };
        let join = |asked: Option<Healthcheck>| Healthcheck::join(asked.as_ref(), &image).unwrap();
        assert_eq!(join(None).command(), Some(vec!["probe".to_owned()]));
        let asked = Healthcheck { interval: Duration::from_secs(1), ..Healthcheck::default() };
        let joined = join(Some(asked));
        assert_eq!((joined.interval(), joined.retries(), joined.timeout()), (Duration::from_secs(1), 7, TIMEOUT));
        let shell = Healthcheck { test: vec!["CMD-SHELL".into(), "a && b".into()], ..Healthcheck::default() };
        assert_eq!(join(Some(shell)).command().unwrap(), ["/bin/sh", "-c", "a && b"]);
        let none = Healthcheck { test: vec!["NONE".into()], ..Healthcheck::default() };
        assert_eq!(join(Some(none)).command(), None);
        assert_eq!(Healthcheck::join(None, &image::RunConfig::default()), None);
    }
}
