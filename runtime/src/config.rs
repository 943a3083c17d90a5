//! What one container is: plain data that the engine writes into the
//! container's `config.json` and that the short-lived `create` and `exec`
//! children read. Everything is resolved here (paths absolute, image defaults
//! merged); the defaults are Docker's, or stricter where a field says so.
//! The config is trusted; what the root file system holds is not.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// One container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Config {
    /// The container's id (64 hex digits).
    pub id: String,
    /// Host name inside the container; empty leaves the kernel's (only sensible with the host's UTS namespace).
    pub hostname: String,
    /// NIS domain name; empty for none.
    pub domainname: String,
    /// Entrypoint and command, already joined.
    pub args: Vec<String>,
    /// The whole environment as `K=V`, image's first; PATH, HOSTNAME, TERM and HOME are added where missing, as Docker does.
    pub env: Vec<String>,
    /// Working directory, absolute; empty means `/`.
    pub cwd: String,
    /// `""` (root) or `uid|name[:gid|group]`, looked up in the container's own passwd and group files.
    pub user: String,
    /// Supplementary groups, names or numbers.
    pub group_add: Vec<String>,
    /// The root file system.
    pub rootfs: Rootfs,
    /// What the user and the image mount, in any order (mounted by depth of the target).
    pub mounts: Vec<Mount>,
    /// Size of `/dev/shm` in bytes; 0 means Docker's 64 MiB.
    pub shm_size: u64,
    /// Resource limits.
    pub limits: Limits,
    /// Capabilities to add (`NET_ADMIN`, `CAP_NET_ADMIN`, `ALL`; any case).
    pub cap_add: Vec<String>,
    /// Capabilities to drop.
    pub cap_drop: Vec<String>,
    /// All capabilities, all devices, no seccomp, nothing masked.
    pub privileged: bool,
    /// Set `no_new_privs`: setuid programs gain nothing.
    pub no_new_privileges: bool,
    /// The system-call filter.
    pub seccomp: Seccomp,
    /// `systempaths=unconfined`: nothing below /proc and /sys is masked or read-only.
    pub unmask_system_paths: bool,
    /// AppArmor profile asked for; refused where the kernel has no AppArmor. `None` and `unconfined` always work.
    pub apparmor: Option<String>,
    /// SELinux labels asked for (`label=…`); refused where the kernel has no SELinux, except `disable`.
    pub selinux: Vec<String>,
    /// Host devices to give.
    pub devices: Vec<Device>,
    /// Extra device rules in the kernel's form, `c 1:3 rwm`.
    pub device_cgroup_rules: Vec<String>,
    /// Namespaced sysctls, `net.core.somaxconn` → value.
    pub sysctls: Vec<(String, String)>,
    /// rlimits asked for; the rest are [`crate::spec`]'s fixed values.
    pub ulimits: Vec<Ulimit>,
    /// Run a reaper as PID 1 and the program as its child.
    pub init: bool,
    /// Give the program a terminal.
    pub tty: bool,
    /// Keep stdin open (the monitor's concern; recorded here).
    pub stdin_open: bool,
    /// Stop signal by name or number; empty means SIGTERM.
    pub stop_signal: String,
    /// Network namespace.
    pub netns: NetNs,
    /// PID namespace.
    pub pid_ns: Namespace,
    /// IPC namespace.
    pub ipc_ns: Namespace,
    /// UTS namespace.
    pub uts_ns: Namespace,
    /// Cgroup namespace. `Private` is private on cgroup v2, the host's on v1 (as Docker).
    pub cgroup_ns: Namespace,
    /// Path below every cgroup hierarchy's root, `/umiak/<id>`.
    pub cgroup_path: String,
    /// Files of the host to bind in as /etc/hosts, /etc/resolv.conf and /etc/hostname.
    pub files: EtcFiles,
}

/// The overlay that becomes `/`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Rootfs {
    /// Unpacked image layers, topmost first; at least one.
    pub layers: Vec<PathBuf>,
    /// The writable layer.
    pub upper: PathBuf,
    /// overlayfs's work directory, on the file system of `upper`.
    pub work: PathBuf,
    /// Where the overlay is mounted, in the create child's own mount namespace.
    pub merged: PathBuf,
    /// `/` is read-only to the container.
    pub read_only: bool,
}

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// Absolute path in the container.
    pub target: String,
    /// What is mounted.
    pub kind: MountKind,
    /// Mounted read-only.
    #[serde(default)]
    pub read_only: bool,
}

/// What a [`Mount`] mounts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum MountKind {
    /// A file or directory of the host.
    Bind(Bind),
    /// A named or anonymous volume.
    Volume(Volume),
    /// A fresh tmpfs.
    Tmpfs(Tmpfs),
    /// A copy of a file of the host in memory, with an owner and mode of its own.
    File(FileCopy),
    /// The file system of an image, read-only.
    Image(ImageMount),
}

/// A secret or config: copied to a tmpfs at each start, so that owner and mode are the container's matter alone.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct FileCopy {
    /// Absolute path on the host.
    pub source: PathBuf,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Permissions.
    pub mode: u32,
}

/// An image, or a part of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ImageMount {
    /// Its name as it was asked for.
    pub image: String,
    /// Its id, `sha256:…`.
    pub image_id: String,
    /// Unpacked layers, topmost first.
    pub layers: Vec<PathBuf>,
    /// Mount this directory or file of the image instead of its root; relative, resolved inside the image.
    pub subpath: String,
    /// An existing directory that takes what is written, where the mount can be written to. Nothing of it is kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scratch: Option<PathBuf>,
}

/// A bind mount.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Bind {
    /// Absolute path on the host.
    pub source: PathBuf,
    /// Make `source` as a directory where it is missing (the short form's behaviour) instead of failing.
    pub create_missing: bool,
    /// Mount propagation; Docker's default is `rprivate`.
    pub propagation: Propagation,
    /// How mounts below `source` are taken along.
    pub recursive: Recursive,
    /// `z` or `Z`: relabel, where SELinux is on.
    pub selinux: Option<char>,
}

/// Propagation of a bind mount (Documentation/filesystems/sharedsubtree.rst).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Propagation {
    /// `private`.
    Private,
    /// `rprivate`.
    #[default]
    Rprivate,
    /// `shared`.
    Shared,
    /// `rshared`.
    Rshared,
    /// `slave`.
    Slave,
    /// `rslave`.
    Rslave,
}

/// How the mounts below a bind's source are treated (Compose `bind.recursive`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Recursive {
    /// Taken along; made read-only too with a read-only bind where the kernel can (`mount_setattr`, 5.12).
    #[default]
    Enabled,
    /// Left out.
    Disabled,
    /// Taken along, and left writable below a read-only bind.
    Writable,
    /// Taken along and read-only; an error where the kernel cannot.
    Readonly,
}

/// A volume.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Volume {
    /// Its name.
    pub name: String,
    /// Its data directory on the host (`…/volumes/<name>/_data`).
    pub source: PathBuf,
    /// Do not fill an empty volume with what the image holds at the target.
    pub nocopy: bool,
    /// Mount this directory or file of the volume instead of its root; relative, resolved inside the volume.
    pub subpath: String,
    /// Labels of a volume that is made for this mount.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

/// A tmpfs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Tmpfs {
    /// Size in bytes; 0 means the kernel's default (half of memory).
    pub size: u64,
    /// Mode of its root; `None` means 1777.
    pub mode: Option<u32>,
    /// Owner of its root.
    pub uid: Option<u32>,
    /// Group of its root.
    pub gid: Option<u32>,
    /// Further options as Docker's `--tmpfs` takes them: `exec`, `noexec`, `nr_inodes=…`.
    pub options: Vec<String>,
}

/// Resource limits. `None` (or empty) leaves the kernel's default.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// Hard memory limit in bytes (`memory.max`).
    pub memory: Option<u64>,
    /// Soft limit in bytes: protected memory on v2 (`memory.low`), `memory.soft_limit_in_bytes` on v1.
    pub memory_reservation: Option<u64>,
    /// Memory plus swap in bytes, as Docker counts it; -1 is unlimited swap. `None` with `memory` means twice `memory`.
    pub memory_swap: Option<i64>,
    /// 0..=100 (v1 only; refused on v2, which has no such file).
    pub swappiness: Option<u64>,
    /// CPUs in billionths (`1_500_000_000` is 1.5 CPUs).
    pub nano_cpus: Option<u64>,
    /// Relative CPU weight, 2..=262144, 1024 the default (`cpu.weight` on v2).
    pub cpu_shares: Option<u64>,
    /// CPU time in µs per period; -1 is unlimited. Excludes `nano_cpus`.
    pub cpu_quota: Option<i64>,
    /// Period in µs.
    pub cpu_period: Option<u64>,
    /// Time in µs that real-time tasks get per `cpu_rt_period` (v1 with `CONFIG_RT_GROUP_SCHED` only).
    pub cpu_rt_runtime: Option<i64>,
    /// Period in µs of `cpu_rt_runtime`.
    pub cpu_rt_period: Option<u64>,
    /// CPUs that may be used, `0-2,4`; empty for all.
    pub cpuset_cpus: String,
    /// Memory nodes that may be used; empty for all.
    pub cpuset_mems: String,
    /// Processes and threads; -1 is unlimited. Stricter than Docker: 2048.
    pub pids: i64,
    /// Block I/O weight, 10..=1000 (`io.weight` on v2, scaled as runc does).
    pub blkio_weight: Option<u16>,
    /// Weight per device.
    pub blkio_weight_device: Vec<DeviceWeight>,
    /// Bytes read per second, by device.
    pub blkio_read_bps: Vec<DeviceRate>,
    /// Bytes written per second, by device.
    pub blkio_write_bps: Vec<DeviceRate>,
    /// Reads per second, by device.
    pub blkio_read_iops: Vec<DeviceRate>,
    /// Writes per second, by device.
    pub blkio_write_iops: Vec<DeviceRate>,
    /// Do not kill on memory exhaustion (v1 only; refused on v2).
    pub oom_kill_disable: bool,
    /// -1000..=1000, for the OOM killer of the host.
    pub oom_score_adj: i32,
}

/// A block device and its I/O weight.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceWeight {
    /// Device node on the host.
    pub path: PathBuf,
    /// 10..=1000.
    pub weight: u16,
}

/// A block device and a rate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceRate {
    /// Device node on the host.
    pub path: PathBuf,
    /// Bytes or operations a second.
    pub rate: u64,
}

/// Which system-call filter.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Seccomp {
    /// The built-in default profile.
    #[default]
    Default,
    /// None.
    Unconfined,
    /// A profile in Docker's JSON format.
    Profile(PathBuf),
}

/// A device of the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// Node on the host (a directory gives every device below it).
    pub host: PathBuf,
    /// Node in the container.
    pub container: PathBuf,
    /// Some of `rwm`.
    pub permissions: String,
}

/// One rlimit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ulimit {
    /// Its name as Docker has it: `nofile`, `nproc`, `core` …
    pub name: String,
    /// Soft limit; -1 is unlimited.
    pub soft: i64,
    /// Hard limit; -1 is unlimited.
    pub hard: i64,
}

/// Which network namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NetNs {
    /// The host's.
    Host,
    /// An existing, pinned one.
    Path(PathBuf),
    /// A fresh one with nothing but a loopback.
    #[default]
    None,
}

/// Which namespace of another kind.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Namespace {
    /// A fresh one.
    #[default]
    Private,
    /// A fresh one that other containers may join (`ipc: shareable`).
    Shareable,
    /// A fresh one without `/dev/shm` (`ipc: none`).
    Bare,
    /// The host's.
    Host,
    /// Another container's, by its namespace file: `/proc/<pid>/ns/<kind>`, resolved by the engine at each start.
    Path(PathBuf),
}

/// Files bound over the image's; empty paths bind nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct EtcFiles {
    /// Bound at /etc/hosts.
    pub hosts: PathBuf,
    /// Bound at /etc/resolv.conf.
    pub resolv_conf: PathBuf,
    /// Bound at /etc/hostname.
    pub hostname: PathBuf,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory: None,
            memory_reservation: None,
            memory_swap: None,
            swappiness: None,
            nano_cpus: None,
            cpu_shares: None,
            cpu_quota: None,
            cpu_period: None,
            cpu_rt_runtime: None,
            cpu_rt_period: None,
            cpuset_cpus: String::new(),
            cpuset_mems: String::new(),
            pids: 2048,
            blkio_weight: None,
            blkio_weight_device: Vec::new(),
            blkio_read_bps: Vec::new(),
            blkio_write_bps: Vec::new(),
            blkio_read_iops: Vec::new(),
            blkio_write_iops: Vec::new(),
            oom_kill_disable: false,
            oom_score_adj: 0,
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            id: String::new(),
            hostname: String::new(),
            domainname: String::new(),
            args: Vec::new(),
            env: Vec::new(),
            cwd: "/".to_owned(),
            user: String::new(),
            group_add: Vec::new(),
            rootfs: Rootfs::default(),
            mounts: Vec::new(),
            shm_size: 64 << 20,
            limits: Limits::default(),
            cap_add: Vec::new(),
            cap_drop: Vec::new(),
            privileged: false,
            no_new_privileges: false,
            seccomp: Seccomp::Default,
            unmask_system_paths: false,
            apparmor: None,
            selinux: Vec::new(),
            devices: Vec::new(),
            device_cgroup_rules: Vec::new(),
            sysctls: Vec::new(),
            ulimits: Vec::new(),
            init: false,
            tty: false,
            stdin_open: false,
            stop_signal: String::new(),
            netns: NetNs::None,
            pid_ns: Namespace::Private,
            ipc_ns: Namespace::Private,
            uts_ns: Namespace::Private,
            cgroup_ns: Namespace::Private,
            cgroup_path: String::new(),
            files: EtcFiles::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_document_is_the_defaults_and_json_keeps_everything() {
        let config: Config = serde_json::from_str("{}").unwrap();
        assert_eq!(config, Config::default());
        assert_eq!(config.limits.pids, 2048);
        let full = Config {
            mounts: vec![
                Mount {
                    target: "/data".into(),
                    kind: MountKind::Bind(Bind { source: "/srv".into(), ..Bind::default() }),
                    read_only: true,
                },
                Mount { target: "/v".into(), kind: MountKind::Volume(Volume::default()), read_only: false },
                Mount { target: "/t".into(), kind: MountKind::Tmpfs(Tmpfs::default()), read_only: false },
            ],
            seccomp: Seccomp::Profile("/p.json".into()),
            netns: NetNs::Path("/run/n".into()),
            ipc_ns: Namespace::Path("/proc/1/ns/ipc".into()),
            ..Config::default()
        };
        let text = serde_json::to_string(&full).unwrap();
        assert_eq!(serde_json::from_str::<Config>(&text).unwrap(), full);
    }
}
