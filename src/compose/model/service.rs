//! A service and the small types of its keys.

use std::path::PathBuf;
use std::time::Duration;

use indexmap::IndexMap;
use serde::{Serialize, Serializer};

use super::{
    BlkioConfig, Build, Deploy, Develop, DeviceRequest, Extensions, FileMount, NetworkMode, PortMapping,
    ServiceNetwork, ServiceVolume, TextMap, is_false,
};
use crate::compose::diagnostic::Span;
use crate::compose::units::{bytes_text, duration_text};

/// One service. `None` and empty mean "not given"; sizes are in bytes.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Service {
    /// Key of the service.
    #[serde(skip)]
    pub name: String,
    /// Where the service's key stands.
    #[serde(skip)]
    pub span: Span,
    /// Where each key of the service stands.
    #[serde(skip)]
    pub key_spans: IndexMap<String, Span>,

    /// OCI annotations.
    #[serde(skip_serializing_if = "IndexMap::is_empty")]
    pub annotations: TextMap,
    /// Whether an attached `up` shows the service's logs (default yes).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attach: Option<bool>,
    /// Block I/O weights and limits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub blkio_config: Option<BlkioConfig>,
    /// How to build the image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub build: Option<Build>,
    /// Capabilities added.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cap_add: Vec<String>,
    /// Capabilities dropped.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cap_drop: Vec<String>,
    /// Cgroup namespace: `host` or `private`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<Namespace>,
    /// Parent cgroup.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cgroup_parent: Option<String>,
    /// Overrides the image's command; `Some([])` clears it.
    pub command: Option<Vec<String>>,
    /// Configs mounted into the container.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub configs: Vec<FileMount>,
    /// Fixed container name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container_name: Option<String>,
    /// Windows only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_count: Option<i64>,
    /// Windows only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_percent: Option<f64>,
    /// CFS period, µs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_period: Option<i64>,
    /// CFS quota, µs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_quota: Option<i64>,
    /// Real-time period, µs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_rt_period: Option<i64>,
    /// Real-time runtime, µs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_rt_runtime: Option<i64>,
    /// Relative CPU weight (1024 is the default's worth).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_shares: Option<i64>,
    /// Number of CPUs' worth of time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpus: Option<f64>,
    /// CPUs allowed, in the kernel's list notation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpuset: Option<String>,
    /// Windows only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credential_spec: Option<CredentialSpec>,
    /// Services to start before this one.
    #[serde(skip_serializing_if = "IndexMap::is_empty")]
    pub depends_on: IndexMap<String, Dependency>,
    /// Deployment: replicas, resources, restart policy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deploy: Option<Deploy>,
    /// What `watch` does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub develop: Option<Develop>,
    /// Device cgroup rules.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub device_cgroup_rules: Vec<String>,
    /// Device nodes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<Device>,
    /// DNS servers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub dns: Vec<String>,
    /// resolv.conf options.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub dns_opt: Vec<String>,
    /// DNS search domains.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub dns_search: Vec<String>,
    /// NIS domain name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub domainname: Option<String>,
    /// Overrides the image's entrypoint (and then drops the image's command); `Some([])` clears it.
    pub entrypoint: Option<Vec<String>>,
    /// Environment files, paths absolute. Their content is already in `environment`.
    #[serde(skip)]
    pub env_file: Vec<EnvFile>,
    /// The container's environment, environment files included. `None`: must not be set, not even by the image.
    #[serde(skip_serializing_if = "IndexMap::is_empty")]
    pub environment: IndexMap<String, Option<String>>,
    /// Ports said to be open: `80`, `80/tcp`, `3000-3005`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub expose: Vec<String>,
    /// Links to containers outside the project.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub external_links: Vec<String>,
    /// Lines for /etc/hosts: name to addresses (`host-gateway` is kept as it is).
    #[serde(skip_serializing_if = "IndexMap::is_empty", serialize_with = "hosts_list")]
    pub extra_hosts: IndexMap<String, Vec<String>>,
    /// GPU requests.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub gpus: Vec<DeviceRequest>,
    /// Supplementary groups, by name or number.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub group_add: Vec<String>,
    /// Health check.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<Healthcheck>,
    /// Host name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// Image reference, as written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Run a reaper as PID 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub init: Option<bool>,
    /// IPC namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ipc: Option<Namespace>,
    /// Windows only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub isolation: Option<String>,
    /// Files with labels, absolute. Their content is already in `labels`.
    #[serde(skip)]
    pub label_file: Vec<PathBuf>,
    /// Container labels, label files included.
    #[serde(skip_serializing_if = "IndexMap::is_empty")]
    pub labels: TextMap,
    /// `service[:alias]`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub links: Vec<String>,
    /// Log driver and its options.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub logging: Option<Logging>,
    /// MAC address on the first network.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mac_address: Option<String>,
    /// Memory limit.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "bytes_text")]
    pub mem_limit: Option<i64>,
    /// Soft memory limit.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "bytes_text")]
    pub mem_reservation: Option<i64>,
    /// Swappiness 0 to 100.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "bytes_text")]
    pub mem_swappiness: Option<i64>,
    /// Memory plus swap; -1 is unlimited.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "bytes_text")]
    pub memswap_limit: Option<i64>,
    /// AI models used.
    #[serde(skip_serializing_if = "IndexMap::is_empty")]
    pub models: IndexMap<String, Option<ServiceModel>>,
    /// Network mode; excludes `networks`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network_mode: Option<NetworkMode>,
    /// Networks joined, by key; `default` when nothing was written.
    #[serde(skip_serializing_if = "IndexMap::is_empty")]
    pub networks: IndexMap<String, ServiceNetwork>,
    /// Never OOM-kill (cgroup v1).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oom_kill_disable: Option<bool>,
    /// OOM score adjustment, -1000 to 1000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oom_score_adj: Option<i64>,
    /// PID namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid: Option<Namespace>,
    /// Process limit; -1 is unlimited.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pids_limit: Option<i64>,
    /// `os[/arch[/variant]]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub platform: Option<String>,
    /// Published ports.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<PortMapping>,
    /// Commands run in the container after its start.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub post_start: Vec<Hook>,
    /// Commands run in the container before its stop.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub pre_stop: Vec<Hook>,
    /// Full privileges.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub privileged: Option<bool>,
    /// Profiles the service belongs to.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub profiles: Vec<String>,
    /// External provider.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider: Option<Provider>,
    /// When to pull.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pull_policy: Option<PullPolicy>,
    /// Read-only root file system.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read_only: Option<bool>,
    /// Restart policy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restart: Option<RestartPolicy>,
    /// OCI runtime's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runtime: Option<String>,
    /// Replicas.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scale: Option<u32>,
    /// Secrets mounted into the container.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<FileMount>,
    /// Security options.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub security_opt: Vec<String>,
    /// Size of /dev/shm.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "bytes_text")]
    pub shm_size: Option<i64>,
    /// Keep stdin open.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stdin_open: Option<bool>,
    /// Time between the stop signal and SIGKILL.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "duration_text")]
    pub stop_grace_period: Option<Duration>,
    /// Signal that asks the container to stop.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_signal: Option<String>,
    /// Storage driver options.
    #[serde(skip_serializing_if = "IndexMap::is_empty")]
    pub storage_opt: TextMap,
    /// Kernel parameters.
    #[serde(skip_serializing_if = "IndexMap::is_empty")]
    pub sysctls: TextMap,
    /// `path[:options]`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tmpfs: Vec<String>,
    /// Allocate a terminal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tty: Option<bool>,
    /// Resource limits by name.
    #[serde(skip_serializing_if = "IndexMap::is_empty")]
    pub ulimits: IndexMap<String, Ulimit>,
    /// Give the container the engine's API socket.
    #[serde(skip_serializing_if = "is_false")]
    pub use_api_socket: bool,
    /// `user[:group]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// User namespace mode.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub userns_mode: Option<String>,
    /// UTS namespace: `host`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uts: Option<Namespace>,
    /// Mounts.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<ServiceVolume>,
    /// `service[:ro]` or `container:name[:ro]`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub volumes_from: Vec<String>,
    /// Working directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub working_dir: Option<String>,
    /// `x-…` keys.
    #[serde(flatten)]
    pub extensions: Extensions,
}

impl Service {
    /// Where a key of this service stands; the service's own place when the key is not written.
    pub fn at(&self, key: &str) -> Span {
        self.key_spans.get(key).copied().unwrap_or(self.span)
    }

    /// How many containers are wanted: `scale`, else `deploy.replicas`, else 1.
    pub fn replicas(&self) -> u32 {
        self.scale.or_else(|| self.deploy.as_ref()?.replicas).unwrap_or(1)
    }

    /// The memory limit in bytes, from `mem_limit` or `deploy`.
    pub fn memory_limit(&self) -> Option<i64> {
        let limits = || self.deploy.as_ref()?.resources.limits.as_ref()?.memory;
        self.mem_limit.filter(|bytes| *bytes != 0).or_else(limits).filter(|bytes| *bytes != 0)
    }

    /// The soft memory limit in bytes, from `mem_reservation` or `deploy`.
    pub fn memory_reservation(&self) -> Option<i64> {
        let reserved = || self.deploy.as_ref()?.resources.reservations.as_ref()?.memory;
        self.mem_reservation.filter(|bytes| *bytes != 0).or_else(reserved).filter(|bytes| *bytes != 0)
    }

    /// The CPU limit in CPUs, from `cpus` or `deploy`.
    pub fn cpu_limit(&self) -> Option<f64> {
        let limits = || self.deploy.as_ref()?.resources.limits.as_ref()?.cpus;
        self.cpus.filter(|cpus| *cpus != 0.0).or_else(limits).filter(|cpus| *cpus != 0.0)
    }

    /// The process limit, from `pids_limit` or `deploy`; -1 is unlimited.
    pub fn process_limit(&self) -> Option<i64> {
        let limits = || self.deploy.as_ref()?.resources.limits.as_ref()?.pids;
        self.pids_limit.filter(|pids| *pids != 0).or_else(limits).filter(|pids| *pids != 0)
    }
}

pub(super) fn hosts_list<S: Serializer>(hosts: &IndexMap<String, Vec<String>>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(
        hosts.iter().flat_map(|(host, addresses)| addresses.iter().map(move |address| format!("{host}={address}"))),
    )
}

/// One entry of `env_file`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnvFile {
    /// The file, absolute.
    pub path: PathBuf,
    /// Whether it is an error when the file is missing.
    pub required: bool,
    /// `format: raw`: no quotes, no expansion.
    pub raw: bool,
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
    /// Path in the container; `None` is the same path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
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

impl PullPolicy {
    /// The age after which an image is pulled again, for the policies that have one.
    pub fn period(&self) -> Option<Duration> {
        const DAY: Duration = Duration::from_secs(24 * 60 * 60);
        match self {
            Self::Daily => Some(DAY),
            Self::Weekly => Some(DAY * 7),
            Self::Every(_, period) => Some(*period),
            Self::Always | Self::Never | Self::Missing | Self::Build => None,
        }
    }
}
