//! A container as it lies on disk: what it is (`config.json`), what the user
//! wants of it (`want.json`) and what was seen of it (`state.json`).
//!
//! One writer per file: commands write config and want, the monitor alone
//! writes state, and a command only where no monitor is left to do it.

use std::net::{Ipv4Addr, Ipv6Addr};

use anyhow::{Context as _, Result, bail};
use indexmap::IndexMap;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use umiak_base::{ProcessRef, state};
use umiak_netns::publish::PortSpec;

use super::Roots;
use super::health::{Health, Healthcheck};
use super::restart::RestartPolicy;

/// What a container is: fixed when it is created.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Config {
    /// 64 hex digits.
    pub id: String,
    /// Unique among all containers.
    pub name: String,
    /// When it was created.
    pub created: Timestamp,
    /// The image as it was asked for.
    pub image: String,
    /// The image's id, `sha256:…`.
    pub image_id: String,
    /// Labels of the image and of the user. Ownership (`com.docker.compose.…`) is never taken from an image.
    #[serde(default)]
    pub labels: IndexMap<String, String>,
    /// OCI annotations.
    #[serde(default)]
    pub annotations: IndexMap<String, String>,
    /// Image entrypoint or its replacement, for `inspect`.
    #[serde(default)]
    pub entrypoint: Vec<String>,
    /// The rest of the command line, for `inspect`.
    #[serde(default)]
    pub command: Vec<String>,
    /// How it is joined to networks.
    pub network: NetworkMode,
    /// Ports asked to be published.
    #[serde(default)]
    pub ports: Vec<PortSpec>,
    /// `80/tcp`: what the image and the user declare.
    #[serde(default)]
    pub exposed: Vec<String>,
    /// Where its output goes.
    #[serde(default)]
    pub log: LogConfig,
    /// Signal that asks it to end; SIGTERM if none.
    #[serde(default)]
    pub stop_signal: Option<String>,
    /// Seconds between that signal and SIGKILL; 10 if none.
    #[serde(default)]
    pub stop_timeout: Option<u64>,
    /// Removed as soon as it ends (`--rm`).
    #[serde(default)]
    pub auto_remove: bool,
    /// When it is started again after it has ended; read anew at the end of each run.
    #[serde(default)]
    pub restart: RestartPolicy,
    /// How its health is checked, the image's settings joined in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<Healthcheck>,
    /// Once unhealthy, it is ended and started again, whatever its restart policy.
    #[serde(default)]
    pub restart_unhealthy: bool,
    /// Volumes without a name that were made for it, and go with `rm -v`.
    #[serde(default)]
    pub anonymous_volumes: Vec<String>,
    /// The static part of /etc/hosts: `extra_hosts` as (name, address or `host-gateway`).
    #[serde(default)]
    pub extra_hosts: Vec<(String, String)>,
    /// DNS settings of its own.
    #[serde(default)]
    pub dns: DnsConfig,
    /// Namespaces of other containers that it joins: kind and container id.
    #[serde(default)]
    pub join: Vec<(String, String)>,
    /// Commands run in it after it starts and before it stops, by commands of its project.
    #[serde(default)]
    pub hooks: Hooks,
    /// Digests of what it was made from, by key: tells later what has changed. Empty outside of projects.
    #[serde(default, skip_serializing_if = "std::collections::BTreeMap::is_empty")]
    pub fingerprint: std::collections::BTreeMap<String, String>,
    /// The command that it belongs to, and ends with: it runs a step of a build, and is shown to nobody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<ProcessRef>,
    /// What `inspect` tells of how it was asked for.
    #[serde(default)]
    pub asked: Asked,
    /// Everything that the runtime needs.
    pub runtime: umiak_runtime::Config,
}

/// What was asked for, where nothing but `inspect` depends on it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Asked {
    /// Its input comes from the command that made it.
    pub attach_stdin: bool,
    /// Its output goes to the command that made it.
    pub attach_output: bool,
    /// All exposed ports are published.
    pub publish_all: bool,
    /// Targets of mounts in the long form (`--mount`).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mounts: Vec<String>,
}

/// Commands that the container's project runs in it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Hooks {
    /// In this order, when it has started.
    pub post_start: Vec<Hook>,
    /// In this order, before it is stopped.
    pub pre_stop: Vec<Hook>,
}

/// One such command.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Hook {
    /// The command line.
    pub command: Vec<String>,
    /// Instead of the container's user.
    pub user: Option<String>,
    /// With all capabilities.
    pub privileged: bool,
    /// Instead of the container's working directory.
    pub working_dir: Option<String>,
    /// Added to the container's environment.
    pub environment: Vec<(String, Option<String>)>,
}

/// A container's own DNS settings.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct DnsConfig {
    /// Resolvers to forward to instead of the host's.
    pub servers: Vec<String>,
    /// Search domains instead of the host's.
    pub search: Vec<String>,
    /// Resolver options instead of the host's.
    pub options: Vec<String>,
    /// Names that only this container sees (`links`): alias → the target's name.
    pub links: Vec<(String, String)>,
}

/// The log driver and its options, as in a Compose file.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LogConfig {
    /// `json-file`, `local`, `none`, `journald` or `syslog`.
    pub driver: String,
    /// `max-size`, `max-file` and the like.
    #[serde(default)]
    pub options: IndexMap<String, String>,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { driver: "json-file".into(), options: IndexMap::new() }
    }
}

/// How a container is joined to networks.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NetworkMode {
    /// A namespace with nothing but `lo`.
    None,
    /// The host's own namespace.
    Host,
    /// The namespace of another container, by id.
    Container(String),
    /// Bridge networks, in the order of their interfaces.
    Networks(Vec<Attachment>),
}

impl NetworkMode {
    /// The networks it is attached to.
    pub fn attachments(&self) -> &[Attachment] {
        match self {
            Self::Networks(attachments) => attachments,
            _ => &[],
        }
    }
}

/// One container on one network.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Attachment {
    /// The network's name.
    pub network: String,
    /// The network's id.
    pub network_id: String,
    /// The number of its interface among the container's; kept for as long as it is attached.
    pub place: usize,
    /// The interface's name inside the container.
    pub ifname: String,
    /// Names that this network resolves to the container, besides its own.
    pub aliases: Vec<String>,
    /// Address and prefix length.
    pub ipv4: Option<(Ipv4Addr, u8)>,
    /// Address and prefix length.
    pub ipv6: Option<(Ipv6Addr, u8)>,
    /// The address was asked for, and is kept rather than changed.
    pub static_address: bool,
    /// The network's gateway.
    pub gateway: Option<Ipv4Addr>,
    /// The network's IPv6 gateway.
    pub gateway6: Option<Ipv6Addr>,
    /// `02:42:ac:12:00:02`.
    pub mac: Option<String>,
    /// The container's default route goes through this network.
    pub default_route: bool,
    /// The highest has the default route.
    pub gateway_priority: i32,
    /// The network has no way out.
    pub internal: bool,
    /// More addresses of the interface.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub link_local: Vec<std::net::IpAddr>,
    /// Settings of the interface: paths below /proc/sys/net with `IFNAME` in them, and values.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sysctls: Vec<(String, String)>,
}

/// What the user wants: written by commands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Want {
    /// Running, or stopped by hand.
    pub running: bool,
    /// Ended by `system halt`, as a host that goes down ends everything: `system boot` brings it back.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub halted: bool,
}

impl Want {
    /// It shall run.
    pub const UP: Self = Self { running: true, halted: false };
    /// It was stopped by hand.
    pub const DOWN: Self = Self { running: false, halted: false };
    /// It shall not run until the next boot.
    pub const HALTED: Self = Self { running: false, halted: true };

    /// What is wanted of a container; nothing where that is not known, perhaps since a power cut.
    pub fn of(roots: &Roots, id: &str) -> Option<Self> {
        state::read(&roots.container(id).join("want.json")).ok().flatten()
    }
}

/// What was seen of a container: written by its monitor.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct State {
    /// Where it stands.
    pub status: Status,
    /// The boot in which `monitor` and `init` are meant.
    pub boot_id: String,
    /// Who supervises it.
    pub monitor: Option<ProcessRef>,
    /// Who goes on as another one when that is killed.
    pub keeper: Option<ProcessRef>,
    /// The container's PID 1.
    pub init: Option<ProcessRef>,
    /// Inode numbers of the pipes that are its streams, by descriptor; 0 for what is none.
    pub pipes: [u64; 3],
    /// When its process last started.
    pub started_at: Option<Timestamp>,
    /// When its process last ended.
    pub finished_at: Option<Timestamp>,
    /// The exit code of the last run that has ended (128 + signal when killed by one).
    pub exit_code: Option<i32>,
    /// The kernel killed something of it at its memory limit.
    pub oom_killed: bool,
    /// Why it could not be started, or what went wrong beside it.
    pub error: Option<String>,
    /// Host ports that lead to it while it runs.
    pub ports: Vec<PublishedPort>,
    /// How many times its monitor has started it again since a command did.
    pub restart_count: u32,
    /// How the last run ended, beside its exit code.
    #[serde(skip_serializing_if = "End::is_empty")]
    pub end: End,
}

/// What is known of the end of a run, for those who ask why.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct End {
    /// The signal that killed its first process.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    /// The kernel killed something of it at its memory limit; `State::oom_killed` is unsaid when the next run begins.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub out_of_memory: bool,
    /// Somebody wanted it to end and stay down.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub by_hand: bool,
    /// It was ended for being unhealthy.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub unhealthy: bool,
    /// There was no run: it could not be started, and `error` says why.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub not_started: bool,
    /// The most memory that it had in use, in bytes; none where the kernel does not tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_peak: Option<u64>,
    /// Its memory limit, in bytes; none where it had none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_limit: Option<u64>,
    /// When it is started again, while it waits for that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_start: Option<Timestamp>,
}

impl State {
    /// A start that came to nothing; `code` is the one that `run` ends with.
    pub fn failed_to_start(&mut self, error: String, code: i32) {
        self.error = Some(error);
        // Docker has another code for what is looked at than for what is waited for.
        self.exit_code = Some(if code == 125 { START_FAILED } else { code });
        self.oom_killed = false;
        self.end = End { not_started: true, ..End::default() };
    }
}

impl End {
    /// Nothing is known of it.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A host port that leads into a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishedPort {
    /// The host's address; unspecified for all.
    pub host_ip: std::net::IpAddr,
    /// The host's port.
    pub host_port: u16,
    /// The container's port.
    pub container_port: u16,
    /// `tcp`, `udp` or `sctp`.
    pub protocol: String,
}

/// Where a container stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Never started.
    #[default]
    Created,
    /// Its process is there.
    Running,
    /// Its process is stopped by the freezer.
    Paused,
    /// Its process has ended, and its monitor will start it again.
    Restarting,
    /// Its process has ended.
    Exited,
}

impl Status {
    /// The word that Docker uses.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Restarting => "restarting",
            Self::Exited => "exited",
        }
    }

    /// The word that progress lines use.
    pub fn title(self) -> &'static str {
        match self {
            Self::Created => "Created",
            Self::Running => "Running",
            Self::Paused => "Paused",
            Self::Restarting => "Restarting",
            Self::Exited => "Exited",
        }
    }

    /// Whether a process is there, or soon will be without anybody's doing.
    pub fn is_up(self) -> bool {
        matches!(self, Self::Running | Self::Paused | Self::Restarting)
    }
}

/// Exit code that is shown of a container that could not be started, where nothing says more.
const START_FAILED: i32 = 128;

/// Exit code of a container whose end nobody saw, as Docker gives after a restart of its daemon.
pub const EXIT_UNKNOWN: i32 = 255;

/// What is told as the error of such a container.
pub const UNSEEN: &str = "its end was not seen: the monitor had been killed, or the host restarted";

/// The same, where it is known to be the latter.
pub const REBOOTED: &str = "it ended with the host, which has restarted since";

/// A container as read from disk, its state already checked against the kernel.
#[derive(Debug, Clone)]
pub struct Container {
    /// What it is.
    pub config: Config,
    /// What was seen, corrected by what is true now.
    pub state: State,
    /// Its health, where it is checked and has been started.
    pub health: Option<Health>,
    /// It ended without a monitor to clear away after it.
    pub lost: bool,
}

impl Container {
    /// Reads one container by its full id; `None` where there is none.
    pub fn load(roots: &Roots, id: &str) -> Result<Option<Self>> {
        let dir = roots.container(id);
        let Some(config) = state::read::<Config>(&dir.join("config.json"))? else { return Ok(None) };
        let read = || Ok::<_, anyhow::Error>(state::read::<State>(&dir.join("state.json"))?.unwrap_or_default());
        let stored = read()?;
        let mut was_up = stored.status.is_up();
        let mut observed = observe(stored);
        if was_up && !observed.status.is_up() {
            // Its monitor may have written how it ended, and gone, since the state was read.
            let stored = read()?;
            was_up = stored.status.is_up();
            observed = observe(stored);
        }
        if observed.status == Status::Running && super::pause::is_paused(roots, id, &config.runtime.cgroup_path) {
            observed.status = Status::Paused;
        }
        let lost = was_up && !observed.status.is_up();
        let checked = config.healthcheck.as_ref().is_some_and(|check| check.is_on());
        let health = if checked { Health::load(roots, id, &observed) } else { None };
        Ok(Some(Self { config, state: observed, health, lost }))
    }

    /// All containers, oldest first. One that cannot be read is reported by name and left out.
    pub fn list(roots: &Roots, damaged: &mut dyn FnMut(anyhow::Error)) -> Result<Vec<Self>> {
        let mut all = Vec::new();
        for id in ids(roots)? {
            match Self::load(roots, &id) {
                Ok(Some(container)) if container.config.owner.is_none() => all.push(container),
                Ok(_) => {}
                Err(error) => damaged(error),
            }
        }
        all.sort_by(|a, b| (a.config.created, &a.config.name).cmp(&(b.config.created, &b.config.name)));
        Ok(all)
    }

    /// Finds a container by full id, name, or a prefix of its id that only one has.
    pub fn find(roots: &Roots, key: &str) -> Result<Self> {
        let key = key.strip_prefix('/').unwrap_or(key);
        if let Some(id) = super::names::owner(roots, key)?
            && let Some(container) = Self::load(roots, &id)?
        {
            return Ok(container);
        }
        let looks_like_id = !key.is_empty() && key.len() <= 64 && key.bytes().all(|b| b.is_ascii_hexdigit());
        let matches: Vec<String> = match looks_like_id {
            true => ids(roots)?.into_iter().filter(|id| id.starts_with(key)).collect(),
            false => Vec::new(),
        };
        match matches.as_slice() {
            [] => bail!("No such container: {key}"),
            [id] => Self::load(roots, id)?.with_context(|| format!("No such container: {key}")),
            several => bail!("the id prefix {key} is ambiguous: {}", several.join(", ")),
        }
    }

    /// The short id.
    pub fn short_id(&self) -> &str {
        umiak_base::id::short(&self.config.id)
    }

    /// A label's value.
    pub fn label(&self, key: &str) -> Option<&str> {
        self.config.labels.get(key).map(String::as_str)
    }
}

/// The ids of all containers that are complete on disk.
pub fn ids(roots: &Roots) -> Result<Vec<String>> {
    let dir = roots.containers();
    let entries = match std::fs::read_dir(&dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).with_context(|| format!("list {}", dir.display())),
    };
    let mut ids = Vec::new();
    for entry in entries {
        let name = entry.with_context(|| format!("list {}", dir.display()))?.file_name();
        if let Some(id) = name.to_str()
            && id.len() == 64
        {
            ids.push(id.to_owned());
        }
    }
    Ok(ids)
}

/// Corrects a stored state by what the kernel says now: nothing of another boot runs, and a
/// process is itself only with its start time.
fn observe(mut stored: State) -> State {
    if !stored.status.is_up() {
        return stored;
    }
    let this_boot = umiak_base::process::boot_id().is_ok_and(|boot| boot == stored.boot_id);
    let alive = |process: Option<ProcessRef>| this_boot && process.is_some_and(ProcessRef::alive);
    if alive(stored.init) || alive(stored.monitor) || alive(stored.keeper) {
        return stored;
    }
    if stored.status != Status::Restarting {
        stored.exit_code = Some(EXIT_UNKNOWN);
        if !this_boot {
            // Nobody knows when the host went down; when it came up again is the latest that it can have been.
            stored.finished_at = booted_at().max(stored.started_at);
        }
    }
    stored.status = Status::Exited;
    stored.error = Some(if this_boot { UNSEEN } else { REBOOTED }.into());
    stored.ports.clear();
    (stored.init, stored.monitor, stored.keeper) = (None, None, None);
    stored
}

fn booted_at() -> Option<Timestamp> {
    let seconds = umiak_base::process::booted_at().ok()?;
    Timestamp::from_second(i64::try_from(seconds).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn running(boot_id: String, process: Option<ProcessRef>) -> State {
        State { status: Status::Running, boot_id, init: process, ..State::default() }
    }

    #[test]
    fn nothing_of_another_boot_or_of_a_reused_pid_is_believed_running() {
        let boot = umiak_base::process::boot_id().unwrap();
        let me = ProcessRef::of(std::process::id());
        assert_eq!(observe(running(boot.clone(), me)).status, Status::Running);
        assert_eq!(observe(running("another".into(), me)).status, Status::Exited);
        let other = me.map(|me| ProcessRef { start_time: me.start_time + 1, ..me });
        let seen = observe(running(boot.clone(), other));
        assert_eq!((seen.status, seen.exit_code), (Status::Exited, Some(EXIT_UNKNOWN)));
        assert_eq!(seen.error.as_deref(), Some(UNSEEN));
        let kept = State { started_at: Some(Timestamp::UNIX_EPOCH), ..running("another".into(), me) };
        let seen = observe(kept);
        assert_eq!((seen.exit_code, seen.error.as_deref()), (Some(EXIT_UNKNOWN), Some(REBOOTED)));
        assert!(
            seen.finished_at > seen.started_at,
            "its end is no later than this boot's start, and no earlier than its own"
        );
        // Between two runs its last end was seen.
        let resting = State { status: Status::Restarting, exit_code: Some(3), ..running("another".into(), me) };
        assert_eq!((observe(resting.clone()).exit_code, observe(resting).status), (Some(3), Status::Exited));
    }
}
