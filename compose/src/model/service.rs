//! A service.

use std::path::PathBuf;
use std::time::Duration;

use indexmap::IndexMap;
use serde::{Serialize, Serializer};

use super::{
    BlkioConfig, Build, CredentialSpec, Dependency, Deploy, Develop, Device, DeviceRequest, EnvFile, Extensions,
    FileMount, Healthcheck, Hook, Logging, Namespace, NetworkMode, PortMapping, PreStart, Provider, PullPolicy,
    RestartPolicy, ServiceModel, ServiceNetwork, ServiceVolume, TextMap, Ulimit, is_false,
};
use crate::diagnostic::Span;
use crate::units::{bytes_text, duration_text};

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
    /// Environment files that have not been read, paths absolute: the content of those that were is in `environment`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
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
    /// Files with labels that have not been read, absolute: the content of those that were is in `labels`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
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
    #[serde(skip_serializing_if = "NetworkMode::is_unsaid")]
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
    /// Containers run to their end before the first replica starts.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub pre_start: Vec<PreStart>,
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
    /// How old an image may get before it is pulled again; without meaning so far.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pull_refresh_after: Option<String>,
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

pub(super) fn hosts_list<S: Serializer>(
    hosts: &IndexMap<String, Vec<String>>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let lines = |(host, addresses): (&String, &Vec<String>)| {
        addresses.iter().map(|address| format!("{host}={address}")).collect::<Vec<_>>()
    };
    let mut list: Vec<String> = hosts.iter().flat_map(lines).collect();
    list.sort();
    serializer.collect_seq(list)
}
