//! Which device nodes a container gets, and which it may use: the rules of the
//! device cgroup (Documentation/admin-guide/cgroup-v1/devices.rst), enforced on
//! cgroup v2 by a program of our own ([`program`]).

pub mod program;

use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use crate::config::{Bind, Config, Device, Mount, MountKind};

/// Why a device cannot be given.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// The host has no such node.
    #[error("error gathering device information while adding custom device \"{path}\": no such file or directory")]
    Missing {
        /// Path on the host.
        path: PathBuf,
    },
    /// It cannot be looked at.
    #[error("look at the device {path}")]
    Look {
        /// Path on the host.
        path: PathBuf,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// The path is no device.
    #[error("{path} is not a device node, and not a directory of some")]
    NotADevice {
        /// Path on the host.
        path: PathBuf,
    },
    /// The container path is none.
    #[error("the device {path} cannot be placed there: a device's path in the container must be absolute and clean")]
    Target {
        /// Path in the container.
        path: PathBuf,
    },
    /// Permissions that are not some of `rwm`.
    #[error("invalid device permissions {permissions:?} for {path}: some of r, w and m are expected")]
    Permissions {
        /// As written.
        permissions: String,
        /// Path on the host.
        path: PathBuf,
    },
    /// A rule that is not in the kernel's form.
    #[error("invalid device cgroup rule {rule:?}: expected a form like 'c 1:3 rwm'")]
    Rule {
        /// As written.
        rule: String,
    },
}

/// Kind of a device, as rules name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `a`: both.
    All,
    /// `b`
    Block,
    /// `c`
    Character,
}

/// What may be done with a device: some of the bits below.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Access(pub u32);

impl Access {
    /// `m`: `BPF_DEVCG_ACC_MKNOD`
    pub const MKNOD: u32 = 1;
    /// `r`: `BPF_DEVCG_ACC_READ`
    pub const READ: u32 = 2;
    /// `w`: `BPF_DEVCG_ACC_WRITE`
    pub const WRITE: u32 = 4;
    /// `rwm`
    pub const ALL: Self = Self(Self::MKNOD | Self::READ | Self::WRITE);

    fn parse(text: &str) -> Option<Self> {
        let bits = text.chars().try_fold(0, |bits, letter| match letter {
            'r' => Some(bits | Self::READ),
            'w' => Some(bits | Self::WRITE),
            'm' => Some(bits | Self::MKNOD),
            _ => None,
        })?;
        (bits != 0).then_some(Self(bits))
    }

    /// As `rwm`.
    #[must_use]
    pub fn letters(self) -> String {
        let all = [(Self::READ, 'r'), (Self::WRITE, 'w'), (Self::MKNOD, 'm')];
        all.iter().filter(|(bit, _)| self.0 & bit != 0).map(|(_, letter)| letter).collect()
    }
}

/// A rule; of several that match, the last one wins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Whether it allows or denies.
    pub allow: bool,
    /// For which kind.
    pub kind: Kind,
    /// Major number; `None` for all.
    pub major: Option<u32>,
    /// Minor number; `None` for all.
    pub minor: Option<u32>,
    /// For which use.
    pub access: Access,
}

const fn rule(allow: bool, kind: Kind, major: Option<u32>, minor: Option<u32>, access: u32) -> Rule {
    Rule { allow, kind, major, minor, access: Access(access) }
}

const RWM: u32 = Access::ALL.0;

/// Docker's rules and those its runtime adds: everything denied, nodes may be
/// made, and the harmless ones used: null, zero, full, random, urandom, tty,
/// console, ptmx and the container's own terminals.
const DEFAULT_RULES: [Rule; 12] = [
    rule(false, Kind::All, None, None, RWM),
    rule(true, Kind::Character, None, None, Access::MKNOD),
    rule(true, Kind::Block, None, None, Access::MKNOD),
    rule(true, Kind::Character, Some(1), Some(3), RWM),
    rule(true, Kind::Character, Some(1), Some(5), RWM),
    rule(true, Kind::Character, Some(1), Some(7), RWM),
    rule(true, Kind::Character, Some(1), Some(8), RWM),
    rule(true, Kind::Character, Some(1), Some(9), RWM),
    rule(true, Kind::Character, Some(5), Some(0), RWM),
    rule(true, Kind::Character, Some(5), Some(1), RWM),
    rule(true, Kind::Character, Some(5), Some(2), RWM),
    rule(true, Kind::Character, Some(136), None, RWM),
];

/// A node to make in the container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// The node on the host.
    pub source: PathBuf,
    /// Path in the container.
    pub path: PathBuf,
    /// `Block` or `Character`.
    pub kind: Kind,
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// Nodes and rules of one container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Devices {
    /// Nodes beyond the default ones, below `/dev`.
    pub nodes: Vec<Node>,
    /// Nodes elsewhere: only below `/dev` does the OCI runtime make any, so the host's own are mounted there.
    pub mounts: Vec<Mount>,
    /// Rules, later ones win.
    pub rules: Vec<Rule>,
}

/// Works out the devices of a container. Looks at the host's nodes, changes nothing.
///
/// # Errors
/// A device that does not exist or a rule that does not parse.
pub fn plan(config: &Config) -> Result<Devices, DeviceError> {
    let mut devices = Devices { nodes: Vec::new(), mounts: Vec::new(), rules: DEFAULT_RULES.to_vec() };
    if config.privileged {
        devices.rules = vec![rule(true, Kind::All, None, None, RWM)];
        collect_host(Path::new("/dev"), Path::new("/dev"), &mut devices.nodes)?;
    }
    for device in &config.devices {
        let access = Access::parse(&device.permissions).ok_or_else(|| DeviceError::Permissions {
            permissions: device.permissions.clone(),
            path: device.host.clone(),
        })?;
        let first = devices.nodes.len();
        add(device, &mut devices.nodes)?;
        if !config.privileged {
            let rules = devices.nodes[first..].iter().map(|node| Rule {
                allow: true,
                kind: node.kind,
                major: Some(node.major),
                minor: Some(node.minor),
                access,
            });
            devices.rules.extend(rules);
        }
    }
    let (inside, outside) = devices.nodes.into_iter().partition(|node| node.path.starts_with("/dev"));
    devices.nodes = inside;
    devices.mounts = Vec::from_iter(outside).iter().map(mounted).collect();
    for text in &config.device_cgroup_rules {
        devices.rules.push(parse_rule(text).ok_or_else(|| DeviceError::Rule { rule: text.clone() })?);
    }
    Ok(devices)
}

fn add(device: &Device, nodes: &mut Vec<Node>) -> Result<(), DeviceError> {
    let names = |part| matches!(part, std::path::Component::RootDir | std::path::Component::Normal(_));
    let depth = device.container.components().count();
    if !device.container.is_absolute() || depth < 2 || !device.container.components().all(names) {
        return Err(DeviceError::Target { path: device.container.clone() });
    }
    let look = |source: io::Error| match (source.kind(), device.host.clone()) {
        (io::ErrorKind::NotFound, path) => DeviceError::Missing { path },
        (_, path) => DeviceError::Look { path, source },
    };
    let metadata = std::fs::metadata(&device.host).map_err(look)?;
    if metadata.is_dir() {
        return collect_host(&device.host, &device.container, nodes);
    }
    if device.container == Path::new("/dev") {
        return Err(DeviceError::Target { path: device.container.clone() });
    }
    let node = node_of(&metadata, device.host.clone(), device.container.clone());
    nodes.push(node.ok_or_else(|| DeviceError::NotADevice { path: device.host.clone() })?);
    Ok(())
}

fn mounted(node: &Node) -> Mount {
    let kind = MountKind::Bind(Bind { source: node.source.clone(), ..Bind::default() });
    Mount { target: node.path.display().to_string(), kind, read_only: false }
}

fn node_of(metadata: &std::fs::Metadata, source: PathBuf, path: PathBuf) -> Option<Node> {
    let kind = if metadata.file_type().is_block_device() {
        Kind::Block
    } else if metadata.file_type().is_char_device() {
        Kind::Character
    } else {
        return None;
    };
    let device = metadata.rdev();
    Some(Node {
        source,
        path,
        kind,
        major: rustix::fs::major(device),
        minor: rustix::fs::minor(device),
        mode: metadata.mode() & 0o7777,
        uid: metadata.uid(),
        gid: metadata.gid(),
    })
}

/// Directories of the host's `/dev` that are file systems of their own, and the console, which is the container's.
const NOT_COPIED: [&str; 9] = ["pts", "shm", "fd", "mqueue", "console", ".lxc", ".lxd-mounts", ".udev", "hugepages"];

fn collect_host(host: &Path, target: &Path, nodes: &mut Vec<Node>) -> Result<(), DeviceError> {
    let look = |source| DeviceError::Look { path: host.to_owned(), source };
    let mut entries = std::fs::read_dir(host).map_err(look)?.collect::<Result<Vec<_>, _>>().map_err(look)?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let name = entry.file_name();
        if NOT_COPIED.iter().any(|skip| name == *skip) {
            continue;
        }
        // Not followed: links of the host's /dev are no devices. A node that went away meanwhile is none either.
        let Ok(metadata) = entry.metadata() else { continue };
        if metadata.is_dir() {
            collect_host(&entry.path(), &target.join(&name), nodes)?;
        } else if let Some(node) = node_of(&metadata, entry.path(), target.join(&name)) {
            nodes.push(node);
        }
    }
    Ok(())
}

fn parse_rule(text: &str) -> Option<Rule> {
    let mut words = text.split_ascii_whitespace();
    let kind = match words.next()? {
        "a" => Kind::All,
        "b" => Kind::Block,
        "c" => Kind::Character,
        _ => return None,
    };
    let (major, minor) = words.next()?.split_once(':')?;
    let number = |text: &str| if text == "*" { Some(None) } else { text.parse().ok().map(Some) };
    let rule =
        Rule { allow: true, kind, major: number(major)?, minor: number(minor)?, access: Access::parse(words.next()?)? };
    words.next().is_none().then_some(rule)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(devices: Vec<Device>, rules: &[&str]) -> Config {
        let device_cgroup_rules = rules.iter().map(|rule| (*rule).to_owned()).collect();
        Config { devices, device_cgroup_rules, ..Config::default() }
    }

    fn device(host: &str, container: &str, permissions: &str) -> Device {
        Device { host: host.into(), container: container.into(), permissions: permissions.to_owned() }
    }

    #[test]
    fn a_host_device_is_looked_up() {
        let plan = plan(&with(vec![device("/dev/kmsg", "/dev/log/kmsg", "r")], &["c 10:* rw"])).unwrap();
        let node = &plan.nodes[0];
        assert_eq!(
            (node.path.to_str(), node.kind, node.major, node.minor),
            (Some("/dev/log/kmsg"), Kind::Character, 1, 11)
        );
        let [.., own, extra] = plan.rules.as_slice() else { panic!() };
        assert_eq!((own.major, own.minor, own.access.letters().as_str()), (Some(1), Some(11), "r"));
        assert_eq!((extra.major, extra.minor, extra.access.letters().as_str()), (Some(10), None, "rw"));
    }

    #[test]
    fn a_node_elsewhere_is_mounted() {
        let plan = plan(&with(vec![device("/dev/null", "/opt/nothing", "rw")], &[])).unwrap();
        assert!(plan.nodes.is_empty());
        assert_eq!(plan.mounts[0].target, "/opt/nothing");
        assert!(matches!(&plan.mounts[0].kind, MountKind::Bind(bind) if bind.source == Path::new("/dev/null")));
        let last = plan.rules.last().unwrap();
        assert_eq!((last.major, last.minor, last.access.letters().as_str()), (Some(1), Some(3), "rw"));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let error = |config: Config| plan(&config).unwrap_err().to_string();
        assert_eq!(
            error(with(vec![device("/dev/nosuch", "/dev/x", "rwm")], &[])),
            "error gathering device information while adding custom device \"/dev/nosuch\": no such file or directory"
        );
        assert!(error(with(vec![device("/etc/passwd", "/dev/x", "rwm")], &[])).contains("is not a device node"));
        for target in ["/dev/../etc/x", "dev/x", "/", "/dev"] {
            assert!(
                error(with(vec![device("/dev/null", target, "rwm")], &[])).contains("cannot be placed"),
                "{target}"
            );
        }
        assert!(error(with(vec![device("/dev/null", "/dev/x", "rx")], &[])).contains("\"rx\""));
        for rule in ["", "c", "c 1:3", "d 1:3 rwm", "c 1 rwm", "c 1:3 rwm x", "c -1:3 r"] {
            assert!(error(with(Vec::new(), &[rule])).contains("device cgroup rule"), "{rule}");
        }
    }

    #[test]
    fn privileged_gets_the_hosts_nodes() {
        let plan = plan(&Config { privileged: true, ..Config::default() }).unwrap();
        assert!(plan.nodes.iter().any(|node| node.path == Path::new("/dev/kmsg")));
        assert!(!plan.nodes.iter().any(|node| node.path.starts_with("/dev/pts")));
        assert_eq!(plan.rules.len(), 1);
    }
}
