//! The small types of a service's keys.

use std::path::PathBuf;
use std::time::Duration;

use indexmap::IndexMap;
use serde::{Serialize, Serializer};

use super::{Extensions, TextMap, is_false};
use crate::units::duration_text;

/// One entry of `env_file`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EnvFile {
    /// The file, absolute.
    pub path: PathBuf,
    /// Whether it is an error when the file is missing.
    pub required: bool,
    /// `format: raw`: no quotes, no expansion.
    #[serde(rename = "format", skip_serializing_if = "is_false", serialize_with = "raw_text")]
    pub raw: bool,
}

fn raw_text<S: Serializer>(_: &bool, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str("raw")
}

/// What a dependency must have reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub enum Condition {
    /// Its container was started.
    #[default]
    #[serde(rename = "service_started")]
    Started,
    /// Its health check passes.
    #[serde(rename = "service_healthy")]
    Healthy,
    /// It ended with exit code 0.
    #[serde(rename = "service_completed_successfully")]
    CompletedSuccessfully,
}

/// One entry of `depends_on`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Dependency {
    /// What to wait for.
    pub condition: Condition,
    /// Whether a missing or failed dependency is an error.
    pub required: bool,
    /// Restart this service when the dependency is restarted or recreated by a command.
    #[serde(skip_serializing_if = "is_false")]
    pub restart: bool,
}

impl Default for Dependency {
    fn default() -> Self {
        Self { condition: Condition::Started, required: true, restart: false }
    }
}

/// A namespace that may be shared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Namespace {
    /// The container's own (`private`).
    Private,
    /// The host's.
    Host,
    /// That of another service's container.
    Service(String),
    /// That of a container by name or id.
    Container(String),
    /// Own, and others may join (ipc).
    Shareable,
    /// None at all (ipc without /dev/shm).
    None,
}

impl std::fmt::Display for Namespace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Private => f.write_str("private"),
            Self::Host => f.write_str("host"),
            Self::Service(name) => write!(f, "service:{name}"),
            Self::Container(name) => write!(f, "container:{name}"),
            Self::Shareable => f.write_str("shareable"),
            Self::None => f.write_str("none"),
        }
    }
}

impl Serialize for Namespace {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// `restart`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RestartPolicy {
    /// Never.
    #[default]
    No,
    /// Always, also after a reboot.
    Always,
    /// After a non-zero exit, at most this many times.
    OnFailure(Option<u32>),
    /// Always, except after it was stopped by a command.
    UnlessStopped,
}

impl std::fmt::Display for RestartPolicy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::No => f.write_str("no"),
            Self::Always => f.write_str("always"),
            Self::OnFailure(None) => f.write_str("on-failure"),
            Self::OnFailure(Some(times)) => write!(f, "on-failure:{times}"),
            Self::UnlessStopped => f.write_str("unless-stopped"),
        }
    }
}

impl Serialize for RestartPolicy {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// `pull_policy`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PullPolicy {
    /// Pull at every `up`.
    Always,
    /// Never pull.
    Never,
    /// Pull when the image is not in the store (`if_not_present` is the same).
    Missing,
    /// Build, never pull.
    Build,
    /// Pull when the last pull is older than a day.
    Daily,
    /// Pull when the last pull is older than a week.
    Weekly,
    /// Pull at every `up`: the time after which a pull is due is none.
    Refresh,
    /// Pull when the last pull is older than this; the text as written, and the time it means.
    Every(String, Duration),
}

impl Serialize for PullPolicy {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(match self {
            Self::Always => "always",
            Self::Never => "never",
            Self::Missing => "missing",
            Self::Build => "build",
            Self::Daily => "daily",
            Self::Weekly => "weekly",
            Self::Refresh => "refresh",
            Self::Every(text, _) => text,
        })
    }
}

/// `healthcheck`; what is `None` comes from the image, then from the defaults 30s/30s/3/0s/5s.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Healthcheck {
    /// `[CMD, …]`, `[CMD-SHELL, text]` or `[NONE]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub test: Option<Vec<String>>,
    /// Time between checks.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "duration_text")]
    pub interval: Option<Duration>,
    /// Time after which a check has failed.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "duration_text")]
    pub timeout: Option<Duration>,
    /// Failures in a row that make the container unhealthy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retries: Option<u64>,
    /// Time in which failures do not count.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "duration_text")]
    pub start_period: Option<Duration>,
    /// Time between checks in the start period.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "duration_text")]
    pub start_interval: Option<Duration>,
    /// No health check, not even the image's.
    #[serde(skip_serializing_if = "is_false")]
    pub disable: bool,
    /// `x-…` keys.
    #[serde(flatten)]
    pub extensions: Extensions,
}

impl Healthcheck {
    /// Whether it says that there is no check: `disable: true` or `test: [NONE]`.
    pub fn is_off(&self) -> bool {
        self.disable || self.test.as_ref().is_some_and(|test| test.first().is_some_and(|word| word == "NONE"))
    }
}

/// One entry of `devices`; a CDI name stands in both paths.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Device {
    /// Path on the host, or a CDI name.
    pub source: String,
    /// Path in the container.
    pub target: String,
    /// Some of `rwm`; `None` is all of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub permissions: Option<String>,
    /// `x-…` keys.
    #[serde(flatten)]
    pub extensions: Extensions,
}

/// `logging`.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Logging {
    /// Driver's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub driver: Option<String>,
    /// Its options.
    #[serde(skip_serializing_if = "IndexMap::is_empty")]
    pub options: TextMap,
    /// `x-…` keys.
    #[serde(flatten)]
    pub extensions: Extensions,
}

/// One limit of `ulimits`; -1 is unlimited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ulimit {
    /// Soft limit.
    pub soft: i64,
    /// Hard limit.
    pub hard: i64,
    /// Written as one number.
    pub single: bool,
}

impl Serialize for Ulimit {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeMap;
        if self.single {
            return serializer.serialize_i64(self.soft);
        }
        let mut map = serializer.serialize_map(None)?;
        for (key, value) in [("soft", self.soft), ("hard", self.hard)] {
            if value != 0 {
                map.serialize_entry(key, &value)?;
            }
        }
        map.end()
    }
}

/// One entry of `post_start` or `pre_stop`.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Hook {
    /// The command.
    pub command: Vec<String>,
    /// User it runs as.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// With full privileges.
    #[serde(skip_serializing_if = "is_false")]
    pub privileged: bool,
    /// Working directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub working_dir: Option<String>,
    /// Extra environment.
    #[serde(skip_serializing_if = "IndexMap::is_empty")]
    pub environment: IndexMap<String, Option<String>>,
    /// `x-…` keys.
    #[serde(flatten)]
    pub extensions: Extensions,
}

/// One entry of `pre_start`: a container that runs to its end before the service's own.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct PreStart {
    /// The command; the image's when not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<Vec<String>>,
    /// Image, the service's when not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// User it runs as.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// With full privileges.
    #[serde(skip_serializing_if = "is_false")]
    pub privileged: bool,
    /// Working directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub working_dir: Option<String>,
    /// Extra environment.
    #[serde(skip_serializing_if = "IndexMap::is_empty")]
    pub environment: IndexMap<String, Option<String>>,
    /// Once before every replica, not once for the service.
    #[serde(skip_serializing_if = "is_false")]
    pub per_replica: bool,
    /// `x-…` keys.
    #[serde(flatten)]
    pub extensions: Extensions,
}

/// `provider`.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Provider {
    /// The program that provides the service.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its options, each with one or more values.
    #[serde(skip_serializing_if = "IndexMap::is_empty")]
    pub options: IndexMap<String, Vec<String>>,
    /// `x-…` keys.
    #[serde(flatten)]
    pub extensions: Extensions,
}

/// `credential_spec` (Windows).
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct CredentialSpec {
    /// From a config.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config: Option<String>,
    /// From a file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// From the registry.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub registry: Option<String>,
    /// `x-…` keys.
    #[serde(flatten)]
    pub extensions: Extensions,
}

/// One entry of a service's `models`.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct ServiceModel {
    /// Variable that gets the endpoint's URL.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint_var: Option<String>,
    /// Variable that gets the model's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model_var: Option<String>,
    /// `x-…` keys.
    #[serde(flatten)]
    pub extensions: Extensions,
}
