//! What is mounted in a container, and in which order. [`plan`] decides, as a
//! pure function of the config; [`attach`] does what the OCI runtime cannot:
//! its own mount namespace, propagation, volume subpaths.
//!
//! libcontainer 0.7 applies `ro`, `rro` and the other flags with
//! `mount_setattr(2)`, takes `rbind` along recursively, hands `key=value`
//! options to the file system, and ignores propagation options of bind mounts:
//! a bind is whatever its source is in the namespace that libcontainer starts
//! from. So that namespace is made to have the right propagation first.

mod attach;

use std::path::{Component, Path, PathBuf};

use oci_spec::runtime::{Mount as OciMount, MountBuilder};

use crate::config::{
    Bind, Config, FileCopy, ImageMount, Mount, MountKind, Namespace, Propagation, Recursive, Tmpfs, Volume,
};

pub use attach::{attach, enter_namespace, prepare_sources};

/// Docker's size of `/dev/shm`.
const DEFAULT_SHM_SIZE: u64 = 64 << 20;

/// Files of procfs that may be mounted over, to show a container its own
/// numbers (lxcfs); all that libcontainer lets through.
const PROC_FILES: [&str; 10] = [
    "/proc/cpuinfo",
    "/proc/diskstats",
    "/proc/meminfo",
    "/proc/stat",
    "/proc/swaps",
    "/proc/uptime",
    "/proc/loadavg",
    "/proc/slabinfo",
    "/proc/sys/kernel/ns_last_pid",
    "/proc/sys/crypto/fips_enabled",
];

/// Options of `--tmpfs` that Docker knows, beside those with a field of their own.
const TMPFS_FLAGS: [&str; 20] = [
    "rw",
    "ro",
    "exec",
    "noexec",
    "suid",
    "nosuid",
    "dev",
    "nodev",
    "sync",
    "async",
    "dirsync",
    "mand",
    "nomand",
    "atime",
    "noatime",
    "diratime",
    "nodiratime",
    "relatime",
    "norelatime",
    "strictatime",
];
const TMPFS_KEYS: [&str; 7] = ["size", "mode", "uid", "gid", "nr_inodes", "nr_blocks", "mpol"];

/// Why a mount is refused or failed.
#[derive(Debug, thiserror::Error)]
pub enum MountsError {
    /// The target is not an absolute path.
    #[error("invalid mount target {target:?}: it must be an absolute path")]
    NotAbsolute {
        /// The target as given.
        target: String,
    },
    /// The target is `/`, or a place whose content the runtime must be sure of (CVE-2019-16884).
    #[error("invalid mount target {target}: {why}")]
    Refused {
        /// The target, cleaned.
        target: String,
        /// Why.
        why: &'static str,
    },
    /// Two mounts at one place.
    #[error("duplicate mount point: {target}")]
    Duplicate {
        /// The target, cleaned.
        target: String,
    },
    /// A tmpfs option that is unknown.
    #[error("invalid tmpfs option {option:?} for {target}")]
    TmpfsOption {
        /// The option.
        option: String,
        /// Where.
        target: String,
    },
    /// A bind source is missing.
    #[error("bind source path does not exist: {path}")]
    NoSource {
        /// The path on the host.
        path: PathBuf,
    },
    /// A bind source is relative.
    #[error("invalid bind source {path:?}: it must be an absolute path")]
    SourceNotAbsolute {
        /// The path.
        path: PathBuf,
    },
    /// A missing bind source could not be made.
    #[error("create the bind source {path}")]
    CreateSource {
        /// The path on the host.
        path: PathBuf,
        /// The kernel's answer.
        #[source]
        source: std::io::Error,
    },
    /// `shared` or `slave` asked for where the host's mount does not take part in propagation.
    #[error("path {path} is on a mount of the host that is not {wanted}: run `mount --make-rshared` on it first")]
    NotShared {
        /// The bind source.
        path: PathBuf,
        /// What it would have to be.
        wanted: &'static str,
    },
    /// A file cannot cover a directory, nor the reverse.
    #[error("cannot mount the {source_kind} {path} at {target}, which is a {target_kind} in the image")]
    TypeMismatch {
        /// Source on the host.
        path: PathBuf,
        /// File or directory.
        source_kind: &'static str,
        /// The target.
        target: String,
        /// File or directory.
        target_kind: &'static str,
    },
    /// A volume has no such subpath.
    #[error("open subpath {subpath:?} of volume {volume}")]
    Subpath {
        /// The volume's name.
        volume: String,
        /// The subpath.
        subpath: String,
        /// The kernel's answer.
        #[source]
        source: std::io::Error,
    },
    /// An image has no such subpath.
    #[error("open subpath {subpath:?} of image {image}")]
    ImageSubpath {
        /// The image's name.
        image: String,
        /// The subpath.
        subpath: String,
        /// The kernel's answer.
        #[source]
        source: std::io::Error,
    },
    /// An image could not be mounted.
    #[error("mount image {image}")]
    Image {
        /// The image's name.
        image: String,
        /// Why.
        #[source]
        source: crate::rootfs::RootfsError,
    },
    /// A step of setting up the mount namespace failed.
    #[error("{step} {path}")]
    Namespace {
        /// What was done.
        step: &'static str,
        /// To what.
        path: PathBuf,
        /// The kernel's answer.
        #[source]
        source: std::io::Error,
    },
    /// The spec's builder refused a mount.
    #[error("describe the mount at {target}")]
    Spec {
        /// The target.
        target: String,
        /// Why.
        #[source]
        source: oci_spec::OciSpecError,
    },
}

/// The mounts of one container.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// For the runtime spec, in order.
    pub mounts: Vec<OciMount>,
    /// For the runtime spec's `rootfsPropagation`: `shared` where a mount made in the container must reach the host.
    pub rootfs_propagation: Option<&'static str>,
    /// What [`enter_namespace`] and [`attach`] have to do to single mounts.
    steps: Vec<Step>,
    /// A private tmpfs with the mount points of prepared sources.
    staging: Option<PathBuf>,
}

/// Something to do to the mount at `index`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Step {
    index: usize,
    action: Action,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Action {
    /// Keep the source's ties to the host's mount.
    Propagate { propagation: Propagation, recursive: bool },
    /// Take `/dev/shm` of the container whose IPC namespace this is.
    ShmOf { ipc: PathBuf },
    /// Resolve inside the volume.
    Subpath { volume: String, subpath: String },
    /// Copy the file to the staging tmpfs.
    Copy(FileCopy),
    /// Mount the image's layers.
    Image(ImageMount),
    /// Take the mode of the image's directory, as runc does.
    ImageMode,
    /// Nothing to change, but the target must be of the source's type.
    CheckType,
}

/// An entry on its way into the spec.
struct Entry {
    target: String,
    kind: &'static str,
    source: PathBuf,
    options: Vec<String>,
    actions: Vec<Action>,
}

/// Plans the container's mounts: `defaults` (`/proc`, `/dev`, `/sys` …, in
/// order; `/dev/shm` is added here) except where the config mounts something
/// else at the same place, then the config's, parents before children.
///
/// # Errors
/// Refused, relative or duplicate targets, unknown tmpfs options.
pub fn plan(config: &Config, defaults: Vec<OciMount>) -> Result<Plan, MountsError> {
    let mut entries = Vec::new();
    for mount in &config.mounts {
        let target = clean_target(mount)?;
        if entries.iter().any(|entry: &Entry| entry.target == target) {
            return Err(MountsError::Duplicate { target });
        }
        entries.push(entry(mount, target)?);
    }
    for built_in in etc_files(config).chain(shm(config)) {
        if !entries.iter().any(|entry| entry.target == built_in.target) {
            entries.push(built_in);
        }
    }
    entries.sort_by_key(|entry| entry.target.split('/').count());

    let kept = |mount: &OciMount| !entries.iter().any(|entry| Path::new(&entry.target) == mount.destination());
    let mut mounts: Vec<OciMount> = defaults.into_iter().filter(kept).collect();
    let mut steps = Vec::new();
    for entry in entries {
        let index = mounts.len();
        steps.extend(entry.actions.iter().cloned().map(|action| Step { index, action }));
        mounts.push(oci(entry)?);
    }
    let shared = steps.iter().any(|step| {
        matches!(step.action, Action::Propagate { propagation: Propagation::Shared | Propagation::Rshared, .. })
    });
    Ok(Plan { mounts, rootfs_propagation: shared.then_some("shared"), steps, staging: None })
}

fn oci(entry: Entry) -> Result<OciMount, MountsError> {
    MountBuilder::default()
        .destination(&entry.target)
        .typ(entry.kind)
        .source(entry.source)
        .options(entry.options)
        .build()
        .map_err(|source| MountsError::Spec { target: entry.target, source })
}

/// The target without `.`, `..`, doubled and trailing slashes, if it may be mounted on.
fn clean_target(mount: &Mount) -> Result<String, MountsError> {
    let target = clean(&mount.target).ok_or_else(|| MountsError::NotAbsolute { target: mount.target.clone() })?;
    let why = refusal(&target, &mount.kind);
    why.map_or(Ok(target.clone()), |why| Err(MountsError::Refused { target, why }))
}

/// Cleans an absolute path by its text, as Go's `path.Clean`; `None` where it is relative or holds a NUL.
#[must_use]
pub fn clean(path: &str) -> Option<String> {
    if !path.starts_with('/') || path.contains('\0') {
        return None;
    }
    let mut parts = Vec::new();
    for part in Path::new(path).components() {
        match part {
            Component::Normal(name) => parts.push(name.to_str()?),
            Component::ParentDir => drop(parts.pop()),
            _ => {}
        }
    }
    Some(format!("/{}", parts.join("/")))
}

fn refusal(target: &str, kind: &MountKind) -> Option<&'static str> {
    let below = |parent: &str| Path::new(target).starts_with(parent);
    if target == "/" {
        return Some("it is the container's root");
    }
    if below("/proc") && !(matches!(kind, MountKind::Bind(_)) && PROC_FILES.contains(&target)) {
        return Some("/proc and what is below it must be the kernel's own");
    }
    // A host's directory may be shown there on purpose (cAdvisor's `/sys:/sys:ro`); an image's VOLUME may not.
    if below("/sys") && !matches!(kind, MountKind::Bind(_)) {
        return Some("/sys and what is below it must be the kernel's own");
    }
    // Device nodes are made in it afterwards: in the host's own /dev, if that were bound here.
    (target == "/dev").then_some("/dev is the container's own; give devices with `devices`, or mount below it")
}

fn entry(mount: &Mount, target: String) -> Result<Entry, MountsError> {
    Ok(match &mount.kind {
        MountKind::Bind(bind) => bind_entry(bind, target, mount.read_only)?,
        MountKind::Volume(volume) => volume_entry(volume, target, mount.read_only),
        MountKind::Tmpfs(tmpfs) => tmpfs_entry(tmpfs, target, mount.read_only)?,
        MountKind::File(file) => {
            let actions = vec![Action::Copy(file.clone()), Action::CheckType];
            let options = owned(&["bind", "rprivate", "ro", "nosuid", "nodev", "noexec"]);
            Entry { target, kind: "bind", source: file.source.clone(), options, actions }
        }
        MountKind::Image(image) => {
            let actions = vec![Action::Image(image.clone()), Action::CheckType];
            let writable = image.scratch.is_some() && !mount.read_only;
            let options = owned(&["rbind", "rprivate", if writable { "rw" } else { "ro" }]);
            Entry { target, kind: "bind", source: PathBuf::new(), options, actions }
        }
    })
}

fn bind_entry(bind: &Bind, target: String, read_only: bool) -> Result<Entry, MountsError> {
    if !bind.source.is_absolute() {
        return Err(MountsError::SourceNotAbsolute { path: bind.source.clone() });
    }
    let recursive = bind.recursive != Recursive::Disabled;
    let mut options = vec![if recursive { "rbind" } else { "bind" }, propagation_option(bind.propagation)];
    if read_only {
        options.push("ro");
        if matches!(bind.recursive, Recursive::Enabled | Recursive::Readonly) {
            options.push("rro");
        }
    }
    let mut actions = vec![Action::CheckType];
    if !matches!(bind.propagation, Propagation::Private | Propagation::Rprivate) {
        actions.push(Action::Propagate { propagation: bind.propagation, recursive });
    }
    Ok(Entry { target, kind: "bind", source: bind.source.clone(), options: owned(&options), actions })
}

fn volume_entry(volume: &Volume, target: String, read_only: bool) -> Entry {
    let mut options = vec!["rbind", "rprivate"];
    if read_only {
        options.push("ro");
    }
    let subpath = volume.subpath.clone();
    let actions = if subpath.is_empty() {
        vec![Action::CheckType]
    } else {
        vec![Action::Subpath { volume: volume.name.clone(), subpath }, Action::CheckType]
    };
    Entry { target, kind: "bind", source: volume.source.clone(), options: owned(&options), actions }
}

fn tmpfs_entry(tmpfs: &Tmpfs, target: String, read_only: bool) -> Result<Entry, MountsError> {
    let mut options = owned(&["noexec", "nosuid", "nodev"]);
    for option in &tmpfs.options {
        let known = match option.split_once('=') {
            Some((key, _)) => TMPFS_KEYS.contains(&key),
            None => TMPFS_FLAGS.contains(&option.as_str()),
        };
        if !known {
            return Err(MountsError::TmpfsOption { option: option.clone(), target });
        }
        // The last word counts: `exec` takes `noexec` back, because libcontainer clears the flag.
        options.push(option.clone());
    }
    if tmpfs.size > 0 {
        options.push(format!("size={}", tmpfs.size));
    }
    options.extend(tmpfs.mode.map(|mode| format!("mode={mode:o}")));
    options.extend(tmpfs.uid.map(|uid| format!("uid={uid}")));
    options.extend(tmpfs.gid.map(|gid| format!("gid={gid}")));
    if read_only {
        options.push("ro".to_owned());
    }
    let has_mode = options.iter().any(|option| option.starts_with("mode="));
    let actions = if has_mode { Vec::new() } else { vec![Action::ImageMode] };
    Ok(Entry { target, kind: "tmpfs", source: "tmpfs".into(), options, actions })
}

/// /etc/hosts, /etc/resolv.conf and /etc/hostname; read-only with a read-only root, as Docker's.
fn etc_files(config: &Config) -> impl Iterator<Item = Entry> {
    let files = &config.files;
    let read_only = config.rootfs.read_only;
    let list =
        [("/etc/hosts", &files.hosts), ("/etc/resolv.conf", &files.resolv_conf), ("/etc/hostname", &files.hostname)];
    list.into_iter().filter(|(_, source)| !source.as_os_str().is_empty()).map(move |(target, source)| {
        let options = if read_only { owned(&["bind", "rprivate", "ro"]) } else { owned(&["bind", "rprivate"]) };
        Entry { target: target.to_owned(), kind: "bind", source: source.clone(), options, actions: Vec::new() }
    })
}

/// `/dev/shm` belongs to the IPC namespace: own, the host's, or the other container's.
fn shm(config: &Config) -> Option<Entry> {
    let target = "/dev/shm".to_owned();
    let bind = |actions| Entry {
        target: "/dev/shm".to_owned(),
        kind: "bind",
        source: "/dev/shm".into(),
        options: owned(&["bind", "rprivate"]),
        actions,
    };
    Some(match &config.ipc_ns {
        Namespace::Bare => return None,
        Namespace::Host => bind(Vec::new()),
        Namespace::Path(ipc) => bind(vec![Action::ShmOf { ipc: ipc.clone() }]),
        Namespace::Private | Namespace::Shareable => {
            let size = if config.shm_size == 0 { DEFAULT_SHM_SIZE } else { config.shm_size };
            let mut options = owned(&["nosuid", "noexec", "nodev", "mode=1777"]);
            options.push(format!("size={size}"));
            Entry { target, kind: "tmpfs", source: "shm".into(), options, actions: Vec::new() }
        }
    })
}

fn propagation_option(propagation: Propagation) -> &'static str {
    match propagation {
        Propagation::Private => "private",
        Propagation::Rprivate => "rprivate",
        Propagation::Shared => "shared",
        Propagation::Rshared => "rshared",
        Propagation::Slave => "slave",
        Propagation::Rslave => "rslave",
    }
}

fn owned(options: &[&str]) -> Vec<String> {
    options.iter().map(ToString::to_string).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bind(source: &str, target: &str) -> Mount {
        let kind = MountKind::Bind(Bind { source: source.into(), ..Bind::default() });
        Mount { target: target.into(), kind, read_only: false }
    }

    fn tmpfs(target: &str, tmpfs: Tmpfs) -> Mount {
        Mount { target: target.into(), kind: MountKind::Tmpfs(tmpfs), read_only: false }
    }

    fn volume(target: &str) -> Mount {
        let kind = MountKind::Volume(Volume { name: "v".into(), source: "/v/_data".into(), ..Volume::default() });
        Mount { target: target.into(), kind, read_only: false }
    }

    fn planned(mounts: Vec<Mount>) -> Result<Vec<(String, String, String)>, String> {
        let plan = plan(&Config { mounts, ..Config::default() }, Vec::new()).map_err(|error| error.to_string())?;
        Ok(plan.mounts.iter().map(describe).collect())
    }

    fn describe(mount: &OciMount) -> (String, String, String) {
        let source = mount.source().clone().unwrap_or_default();
        let options = mount.options().clone().unwrap_or_default().join(",");
        (mount.destination().display().to_string(), source.display().to_string(), options)
    }

    #[test]
    fn parents_come_before_children_and_targets_are_clean() {
        let mounts = vec![bind("/s", "/a/b//c/"), bind("/s", "/a/./b"), bind("/s", "/x/../a"), volume("/z")];
        let targets: Vec<String> = planned(mounts).unwrap().into_iter().map(|(target, ..)| target).collect();
        assert_eq!(targets, ["/a", "/z", "/a/b", "/dev/shm", "/a/b/c"]);
    }

    #[test]
    fn what_may_not_be_covered_is_refused_by_name() {
        for target in
            ["/", "/a/..", "/proc", "/proc/", "/proc/self", "/proc/sys", "/proc/sys/kernel", "/x/../proc", "/dev"]
        {
            let error = planned(vec![bind("/s", target)]).unwrap_err();
            assert!(error.starts_with(&format!("invalid mount target {}", clean(target).unwrap())), "{error}");
        }
        for target in ["/proc", "/proc/uptime", "/sys", "/sys/kernel", "/proc/self/attr", "/dev"] {
            assert!(planned(vec![volume(target)]).is_err(), "{target}");
            assert!(planned(vec![tmpfs(target, Tmpfs::default())]).is_err(), "{target}");
        }
        for target in ["/proc/uptime", "/sys", "/sys/fs/cgroup", "/dev/snd", "/process", "/system", "/proc/../x"] {
            assert!(planned(vec![bind("/s", target)]).is_ok(), "{target}");
        }
        for target in ["", "rel", "./x", "/a\0b"] {
            assert!(planned(vec![bind("/s", target)]).unwrap_err().contains("must be an absolute path"));
        }
        assert!(planned(vec![bind("rel", "/a")]).unwrap_err().contains("invalid bind source"));
    }

    #[test]
    fn one_place_is_mounted_once() {
        let error = planned(vec![bind("/s", "/a"), tmpfs("/a/", Tmpfs::default())]).unwrap_err();
        assert_eq!(error, "duplicate mount point: /a");
    }

    #[test]
    fn binds_say_how_they_recurse() {
        let table = [
            (Recursive::Enabled, "rbind,rprivate,ro,rro"),
            (Recursive::Readonly, "rbind,rprivate,ro,rro"),
            (Recursive::Writable, "rbind,rprivate,ro"),
            (Recursive::Disabled, "bind,rprivate,ro"),
        ];
        for (recursive, expected) in table {
            let kind = MountKind::Bind(Bind { source: "/s".into(), recursive, ..Bind::default() });
            let mounts = planned(vec![Mount { target: "/a".into(), kind, read_only: true }]).unwrap();
            assert_eq!(mounts[0].2, expected, "{recursive:?}");
        }
        assert_eq!(planned(vec![bind("/s", "/a")]).unwrap()[0].2, "rbind,rprivate");
    }

    #[test]
    fn a_shared_bind_opens_the_roots_propagation() {
        let with = |propagation| {
            let kind = MountKind::Bind(Bind { source: "/s".into(), propagation, ..Bind::default() });
            let mounts = vec![Mount { target: "/a".into(), kind, read_only: false }];
            plan(&Config { mounts, ..Config::default() }, Vec::new()).unwrap().rootfs_propagation
        };
        assert_eq!(with(Propagation::Rshared), Some("shared"));
        assert_eq!(with(Propagation::Rslave), None);
        assert_eq!(with(Propagation::Rprivate), None);
    }

    #[test]
    fn tmpfs_options_are_docker_s() {
        let full = Tmpfs { size: 2048, mode: Some(0o755), uid: Some(3), gid: Some(4), options: vec!["exec".into()] };
        assert_eq!(
            planned(vec![tmpfs("/t", full)]).unwrap()[0].2,
            "noexec,nosuid,nodev,exec,size=2048,mode=755,uid=3,gid=4"
        );
        assert_eq!(planned(vec![tmpfs("/t", Tmpfs::default())]).unwrap()[0].2, "noexec,nosuid,nodev");
        let bad = Tmpfs { options: vec!["foo=1".into()], ..Tmpfs::default() };
        assert_eq!(planned(vec![tmpfs("/t", bad)]).unwrap_err(), "invalid tmpfs option \"foo=1\" for /t");
    }

    #[test]
    fn shm_and_etc_files_are_there_unless_the_user_mounts_his_own() {
        let files = crate::config::EtcFiles { hosts: "/h".into(), ..Default::default() };
        let mut config = Config { files, shm_size: 0, ..Config::default() };
        let list = |config: &Config| plan(config, Vec::new()).unwrap().mounts.iter().map(describe).collect::<Vec<_>>();
        let text = |t: (&str, &str, &str)| (t.0.to_owned(), t.1.to_owned(), t.2.to_owned());
        let hosts = text(("/etc/hosts", "/h", "bind,rprivate"));
        let shm = text(("/dev/shm", "shm", "nosuid,noexec,nodev,mode=1777,size=67108864"));
        assert_eq!(list(&config), [hosts, shm]);
        config.rootfs.read_only = true;
        assert_eq!(list(&config)[0].2, "bind,rprivate,ro");
        config.mounts = vec![bind("/mine", "/etc/hosts"), tmpfs("/dev/shm", Tmpfs::default())];
        let sources: Vec<String> = list(&config).into_iter().map(|(_, source, _)| source).collect();
        assert_eq!(sources, ["/mine", "tmpfs"]);
        config.ipc_ns = Namespace::Host;
        config.mounts.clear();
        assert_eq!(list(&config)[1].1, "/dev/shm");
    }

    #[test]
    fn a_user_s_mount_replaces_the_default_at_its_place() {
        let default =
            |target: &str| MountBuilder::default().destination(target).typ("sysfs").source("x").build().unwrap();
        let defaults = vec![default("/proc"), default("/sys"), default("/sys/fs/cgroup")];
        let config = Config { mounts: vec![bind("/sys", "/sys")], ..Config::default() };
        let plan = plan(&config, defaults).unwrap();
        let targets: Vec<_> = plan.mounts.iter().map(|mount| mount.destination().to_str().unwrap()).collect();
        assert_eq!(targets, ["/proc", "/sys/fs/cgroup", "/sys", "/dev/shm"]);
    }
}
