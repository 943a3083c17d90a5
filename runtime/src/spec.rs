//! From the config of a container to the OCI runtime spec that libcontainer
//! reads. User, capabilities, working directory, seccomp and the program itself
//! are not in it: the executor applies them, in an order libcontainer does not
//! offer (see `crate::executor`).

pub mod paths;
mod rlimits;

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};

use libcontainer::capabilities::CapabilityExt;
use oci_spec::OciSpecError;
use oci_spec::runtime::{
    Capabilities, Linux, LinuxBuilder, LinuxCapabilitiesBuilder, LinuxDevice, LinuxDeviceBuilder, LinuxDeviceCgroup,
    LinuxDeviceCgroupBuilder, LinuxDeviceType, LinuxNamespace, LinuxNamespaceBuilder, LinuxNamespaceType, Mount,
    MountBuilder, Process, ProcessBuilder, RootBuilder, Spec, SpecBuilder, UserBuilder,
};

use crate::cgroup::{Cgroup, CgroupError, Version, limits};
use crate::config::{Config, Namespace, NetNs};
use crate::devices::{Devices, Kind, Rule};
use crate::mounts;

pub use rlimits::RlimitError;

/// Docker's PATH for an image that sets none.
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Why no spec can be made of a config.
#[derive(Debug, thiserror::Error)]
pub enum SpecError {
    /// A part that the spec's builders refuse.
    #[error("describe the container as an OCI spec")]
    Build(#[from] OciSpecError),
    /// A sysctl that is not the container's own.
    #[error("sysctl {name:?} is not allowed: {why}")]
    Sysctl {
        /// Its name.
        name: String,
        /// Why.
        why: &'static str,
    },
    /// An rlimit.
    #[error(transparent)]
    Rlimit(#[from] RlimitError),
    /// A limit of the cgroup.
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    /// A security module that this kernel does not run.
    #[error("{option} was asked for, but {module} is not enabled on this host")]
    NoModule {
        /// As written.
        option: String,
        /// Its name.
        module: &'static str,
    },
    /// A namespace to join that is not there.
    #[error("join the {kind} namespace {path}")]
    Namespace {
        /// Which kind.
        kind: &'static str,
        /// Its file.
        path: PathBuf,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// No program.
    #[error("no command specified")]
    NoCommand,
    /// A path that must be absolute.
    #[error("the working directory '{cwd}' is invalid, it needs to be an absolute path")]
    Cwd {
        /// As written.
        cwd: String,
    },
    /// A NUL byte in an argument or variable: the kernel would cut it there.
    #[error("{what} contains a NUL byte")]
    Nul {
        /// Which.
        what: String,
    },
}

/// What [`build`] needs beside the config.
#[derive(Debug)]
pub struct Parts<'a> {
    /// The planned mounts.
    pub mounts: &'a mounts::Plan,
    /// Nodes and rules.
    pub devices: &'a Devices,
    /// The container's cgroup.
    pub cgroup: &'a Cgroup,
}

/// Checks what can be checked before anything is touched.
///
/// # Errors
/// The first thing that is wrong.
pub fn check(config: &Config) -> Result<(), SpecError> {
    if config.args.is_empty() {
        return Err(SpecError::NoCommand);
    }
    if !config.cwd.is_empty() && !config.cwd.starts_with('/') {
        return Err(SpecError::Cwd { cwd: config.cwd.clone() });
    }
    let texts = config.args.iter().chain(&config.env).chain([&config.cwd, &config.hostname, &config.domainname]);
    for text in texts {
        if text.contains('\0') {
            return Err(SpecError::Nul { what: format!("{text:?}") });
        }
    }
    check_modules(config)?;
    check_namespaces(config)?;
    config.sysctls.iter().try_for_each(|(name, _)| check_sysctl(config, name))
}

fn check_namespaces(config: &Config) -> Result<(), SpecError> {
    let there = |kind, path: &Path| {
        let failed = |source| SpecError::Namespace { kind, path: path.to_owned(), source };
        std::fs::metadata(path).map(drop).map_err(failed)
    };
    if let NetNs::Path(path) = &config.netns {
        there("network", path)?;
    }
    for (kind, choice) in [("PID", &config.pid_ns), ("IPC", &config.ipc_ns), ("UTS", &config.uts_ns)] {
        if let Namespace::Path(path) = choice {
            there(kind, path)?;
        }
    }
    Ok(())
}

/// An LSM option that the kernel cannot honour is refused: Docker ignores it, and the container runs less confined than asked.
fn check_modules(config: &Config) -> Result<(), SpecError> {
    let module = |path: &str| Path::new(path).exists();
    if let Some(profile) = config.apparmor.as_deref().filter(|profile| !matches!(*profile, "" | "unconfined"))
        && !module("/sys/kernel/security/apparmor")
    {
        return Err(SpecError::NoModule { option: format!("apparmor={profile}"), module: "AppArmor" });
    }
    if let Some(label) = config.selinux.iter().find(|label| *label != "disable")
        && !module("/sys/fs/selinux/enforce")
    {
        return Err(SpecError::NoModule { option: format!("label={label}"), module: "SELinux" });
    }
    Ok(())
}

const IPC_SYSCTLS: [&str; 8] = [
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.sem",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
    "kernel.shm_rmid_forced",
];

fn check_sysctl(config: &Config, name: &str) -> Result<(), SpecError> {
    let refuse = |why| Err(SpecError::Sysctl { name: name.to_owned(), why });
    let dotted = name.replace('/', ".");
    if dotted.split('.').any(str::is_empty) {
        return refuse("it is no sysctl's name");
    }
    if IPC_SYSCTLS.contains(&dotted.as_str()) || dotted.starts_with("fs.mqueue.") {
        return match config.ipc_ns {
            Namespace::Private | Namespace::Shareable | Namespace::Bare => Ok(()),
            _ => refuse("the container shares an IPC namespace, so it would change another's"),
        };
    }
    if dotted.starts_with("net.") {
        return match config.netns {
            NetNs::Host => refuse("the container uses the host's network"),
            NetNs::None | NetNs::Path(_) => Ok(()),
        };
    }
    if dotted == "kernel.domainname" {
        return match config.uts_ns {
            Namespace::Private | Namespace::Shareable | Namespace::Bare => Ok(()),
            _ => refuse("the container shares a UTS namespace"),
        };
    }
    refuse("only sysctls that belong to a namespace of the container can be set")
}

/// The spec.
///
/// # Errors
/// A limit or rlimit that cannot be had, or a value the spec's builders refuse.
pub fn build(config: &Config, parts: &Parts<'_>) -> Result<Spec, SpecError> {
    let mut spec = SpecBuilder::default()
        .version("1.2.0")
        .root(RootBuilder::default().path(&config.rootfs.merged).readonly(config.rootfs.read_only).build()?)
        .mounts(parts.mounts.mounts.clone())
        .process(process(config)?)
        .linux(linux(config, parts)?)
        .build()?;
    let own_uts = matches!(config.uts_ns, Namespace::Private | Namespace::Shareable);
    let name = |text: &String| Some(text.clone()).filter(|text| own_uts && !text.is_empty());
    spec.set_hostname(name(&config.hostname));
    spec.set_domainname(name(&config.domainname));
    Ok(spec)
}

/// Everything, as root: the executor steps down from there.
pub(crate) fn process(config: &Config) -> Result<Process, SpecError> {
    let every = every_capability();
    let mut capabilities = LinuxCapabilitiesBuilder::default()
        .bounding(every.clone())
        .effective(every.clone())
        .permitted(every)
        .build()?;
    capabilities.set_inheritable(Some(Capabilities::new()));
    capabilities.set_ambient(Some(Capabilities::new()));
    let mut process = ProcessBuilder::default()
        .terminal(config.tty)
        .user(UserBuilder::default().uid(0_u32).gid(0_u32).build()?)
        .args(config.args.clone())
        // Never searched or set by libcontainer: HOME keeps it from asking the C library's user database.
        .env(["PATH=/".to_owned(), "HOME=/".to_owned()])
        .cwd("/")
        .capabilities(capabilities)
        .rlimits(rlimits::plan(&config.ulimits)?)
        .build()?;
    process.set_no_new_privileges(None);
    process.set_oom_score_adj(None);
    process.set_apparmor_profile(crate::apparmor::of(config));
    Ok(process)
}

/// The capabilities that this process holds, by the names libcontainer knows: it may not raise others.
fn every_capability() -> Capabilities {
    let held = caps::read(None, caps::CapSet::Bounding).unwrap_or_default();
    held.into_iter().map(CapabilityExt::from_cap).collect()
}

fn linux(config: &Config, parts: &Parts<'_>) -> Result<Linux, SpecError> {
    let version = parts.cgroup.version();
    let mut linux = LinuxBuilder::default()
        .namespaces(namespaces(config, version)?)
        .devices(parts.devices.nodes.iter().map(node).collect::<Result<Vec<_>, _>>()?)
        .cgroups_path(&config.cgroup_path)
        .sysctl(sysctls(config))
        .build()?;
    // On v2 the limits are in force before the first process; on v1 libcgroups applies them.
    linux.set_resources(match version {
        Version::V2 => None,
        Version::V1 => {
            let mut resources = limits::resources_v1(&config.limits)?;
            resources.set_devices(Some(parts.devices.rules.iter().map(oci_rule).collect::<Result<_, _>>()?));
            Some(resources)
        }
    });
    let confined = !config.privileged && !config.unmask_system_paths;
    linux.set_masked_paths(confined.then(paths::masked));
    let mut readonly = if confined { paths::readonly() } else { Vec::new() };
    if version == Version::V1 && !config.privileged {
        readonly.push("/sys/fs/cgroup".to_owned());
    }
    linux.set_readonly_paths(Some(readonly));
    linux.set_rootfs_propagation(parts.mounts.rootfs_propagation.map(str::to_owned));
    linux.set_seccomp(None);
    Ok(linux)
}

fn namespaces(config: &Config, version: Version) -> Result<Vec<LinuxNamespace>, SpecError> {
    let mut out = vec![new_namespace(LinuxNamespaceType::Mount)?];
    match &config.netns {
        NetNs::Host => {}
        NetNs::None => out.push(new_namespace(LinuxNamespaceType::Network)?),
        NetNs::Path(path) => out.push(joined(LinuxNamespaceType::Network, path)?),
    }
    for (kind, choice) in [
        (LinuxNamespaceType::Pid, &config.pid_ns),
        (LinuxNamespaceType::Ipc, &config.ipc_ns),
        (LinuxNamespaceType::Uts, &config.uts_ns),
        (LinuxNamespaceType::Cgroup, &config.cgroup_ns),
    ] {
        match choice {
            // As Docker: on v1 a container sees its cgroups through read-only binds.
            _ if kind == LinuxNamespaceType::Cgroup && version == Version::V1 => {}
            Namespace::Private | Namespace::Shareable | Namespace::Bare => out.push(new_namespace(kind)?),
            Namespace::Host => {}
            Namespace::Path(path) => out.push(joined(kind, path)?),
        }
    }
    Ok(out)
}

fn new_namespace(kind: LinuxNamespaceType) -> Result<LinuxNamespace, OciSpecError> {
    LinuxNamespaceBuilder::default().typ(kind).build()
}

fn joined(kind: LinuxNamespaceType, path: &Path) -> Result<LinuxNamespace, OciSpecError> {
    LinuxNamespaceBuilder::default().typ(kind).path(path).build()
}

/// Docker's: every port may be bound and pings sent without privilege, where the network is the container's own.
fn sysctls(config: &Config) -> HashMap<String, String> {
    let mut out = HashMap::new();
    if !matches!(config.netns, NetNs::Host) && !config.privileged {
        out.insert("net.ipv4.ip_unprivileged_port_start".to_owned(), "0".to_owned());
        out.insert("net.ipv4.ping_group_range".to_owned(), "0 2147483647".to_owned());
    }
    out.extend(config.sysctls.iter().cloned());
    out
}

fn node(node: &crate::devices::Node) -> Result<LinuxDevice, OciSpecError> {
    LinuxDeviceBuilder::default()
        .path(&node.path)
        .typ(oci_kind(node.kind))
        .major(i64::from(node.major))
        .minor(i64::from(node.minor))
        .file_mode(node.mode)
        .uid(node.uid)
        .gid(node.gid)
        .build()
}

const fn oci_kind(kind: Kind) -> LinuxDeviceType {
    match kind {
        Kind::All => LinuxDeviceType::A,
        Kind::Block => LinuxDeviceType::B,
        Kind::Character => LinuxDeviceType::C,
    }
}

fn oci_rule(rule: &Rule) -> Result<LinuxDeviceCgroup, OciSpecError> {
    let mut out = LinuxDeviceCgroupBuilder::default()
        .allow(rule.allow)
        .typ(oci_kind(rule.kind))
        .access(rule.access.letters())
        .build()?;
    out.set_major(rule.major.map(i64::from));
    out.set_minor(rule.minor.map(i64::from));
    Ok(out)
}

/// The mounts every container has, but for `/dev/shm`, which `crate::mounts` adds.
///
/// # Errors
/// None in practice; the builders' type says so.
pub fn default_mounts(config: &Config, cgroup: &Cgroup) -> Result<Vec<Mount>, SpecError> {
    let closed = ["nosuid", "noexec", "nodev"];
    let with = |more: &[&str]| closed.iter().chain(more).map(|option| (*option).to_owned()).collect::<Vec<_>>();
    let system: &[&str] = if config.privileged { &[] } else { &["ro"] };
    let owned = |options: &[&str]| options.iter().map(|option| (*option).to_owned()).collect::<Vec<_>>();
    let mut out = vec![
        mount("/proc", "proc", "proc", with(&[]))?,
        mount("/dev", "tmpfs", "tmpfs", owned(&["nosuid", "strictatime", "mode=755", "size=65536k"]))?,
        mount(
            "/dev/pts",
            "devpts",
            "devpts",
            owned(&["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]),
        )?,
        mount("/sys", "sysfs", "sysfs", with(system))?,
    ];
    match cgroup.version() {
        Version::V2 => out.push(mount("/sys/fs/cgroup", "cgroup", "cgroup", with(system))?),
        Version::V1 => {
            out.push(mount("/sys/fs/cgroup", "tmpfs", "tmpfs", with(&["mode=755", "size=64k"]))?);
            for controller in cgroup.controllers_v1() {
                let target = format!("/sys/fs/cgroup/{controller}");
                let source = cgroup.directory(&controller).display().to_string();
                let options = [&["bind"][..], system].concat();
                out.push(mount(&target, "bind", &source, with(&options))?);
            }
        }
    }
    // Shows the queues of the IPC namespace it is mounted in, whichever that is.
    out.push(mount("/dev/mqueue", "mqueue", "mqueue", with(&[]))?);
    Ok(out)
}

fn mount(target: &str, kind: &str, source: &str, options: Vec<String>) -> Result<Mount, OciSpecError> {
    MountBuilder::default().destination(target).typ(kind).source(source).options(options).build()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn built(config: &Config, version: Version) -> Spec {
        let cgroup = Cgroup::at(Path::new("/sys/fs/cgroup"), version, "/umiak/x").unwrap();
        let defaults = default_mounts(config, &cgroup).unwrap();
        let mounts = mounts::plan(config, defaults).unwrap();
        let devices = crate::devices::plan(config).unwrap();
        build(config, &Parts { mounts: &mounts, devices: &devices, cgroup: &cgroup }).unwrap()
    }

    fn config() -> Config {
        Config { args: vec!["true".into()], cgroup_path: "/umiak/x".into(), hostname: "h".into(), ..Config::default() }
    }

    #[test]
    fn the_defaults_close_what_docker_closes() {
        let spec = built(&config(), Version::V2);
        let linux = spec.linux().as_ref().unwrap();
        let kinds: Vec<_> = linux.namespaces().as_ref().unwrap().iter().map(LinuxNamespace::typ).collect();
        for kind in [
            LinuxNamespaceType::Mount,
            LinuxNamespaceType::Network,
            LinuxNamespaceType::Pid,
            LinuxNamespaceType::Ipc,
            LinuxNamespaceType::Uts,
            LinuxNamespaceType::Cgroup,
        ] {
            assert!(kinds.contains(&kind), "{kind:?}");
        }
        assert!(linux.resources().is_none());
        let masked = linux.masked_paths().as_ref().unwrap();
        for path in ["/proc/kcore", "/proc/keys", "/sys/firmware", "/proc/acpi", "/sys/fs/selinux"] {
            assert!(masked.iter().any(|masked| masked == path), "{path}");
        }
        assert!(linux.readonly_paths().as_ref().unwrap().iter().any(|path| path == "/proc/sys"));
        let mounts = spec.mounts().as_ref().unwrap();
        let cgroup = mounts.iter().find(|mount| mount.destination() == Path::new("/sys/fs/cgroup")).unwrap();
        assert!(cgroup.options().as_ref().unwrap().iter().any(|option| option == "ro"));
        let process = spec.process().as_ref().unwrap();
        assert_eq!(process.no_new_privileges(), None);
        let capabilities = process.capabilities().as_ref().unwrap();
        assert!(capabilities.inheritable().as_ref().unwrap().is_empty());
        assert!(capabilities.ambient().as_ref().unwrap().is_empty());
    }

    #[test]
    fn v1_hosts_get_binds_and_resources() {
        let spec = built(&config(), Version::V1);
        let linux = spec.linux().as_ref().unwrap();
        assert!(linux.resources().is_some());
        assert!(linux.readonly_paths().as_ref().unwrap().iter().any(|path| path == "/sys/fs/cgroup"));
        let namespaces = linux.namespaces().as_ref().unwrap();
        assert!(!namespaces.iter().any(|namespace| namespace.typ() == LinuxNamespaceType::Cgroup));
    }

    #[test]
    fn privileged_opens_them() {
        let spec = built(&Config { privileged: true, ..config() }, Version::V2);
        let linux = spec.linux().as_ref().unwrap();
        assert!(linux.masked_paths().is_none());
        assert!(linux.readonly_paths().as_ref().unwrap().is_empty());
    }

    #[test]
    fn shared_namespaces_and_names() {
        let spec = built(&Config { netns: NetNs::Host, uts_ns: Namespace::Host, ..config() }, Version::V2);
        let namespaces = spec.linux().as_ref().unwrap().namespaces().as_ref().unwrap();
        assert!(!namespaces.iter().any(|n| matches!(n.typ(), LinuxNamespaceType::Network | LinuxNamespaceType::Uts)));
        assert_eq!(spec.hostname(), &None);
        assert!(spec.linux().as_ref().unwrap().sysctl().as_ref().unwrap().is_empty());
        let joined = Config { netns: NetNs::Path("/run/n".into()), ..config() };
        let spec = built(&joined, Version::V2);
        let namespaces = spec.linux().as_ref().unwrap().namespaces().as_ref().unwrap();
        assert!(namespaces.iter().any(|n| n.path().as_deref() == Some(Path::new("/run/n"))));
    }

    #[test]
    fn what_is_refused_is_named() {
        let error = |config: Config| check(&config).unwrap_err().to_string();
        let sysctl = |name: &str| Config { sysctls: vec![(name.into(), "1".into())], ..config() };
        assert!(error(sysctl("kernel.foo")).starts_with("sysctl \"kernel.foo\" is not allowed"));
        assert!(error(sysctl("net..x")).contains("no sysctl's name"));
        assert!(error(Config { netns: NetNs::Host, ..sysctl("net.core.somaxconn") }).contains("host's network"));
        assert!(error(Config { ipc_ns: Namespace::Host, ..sysctl("kernel.sem") }).contains("IPC namespace"));
        assert!(check(&sysctl("net/ipv4/conf/all/forwarding")).is_ok());
        assert_eq!(error(Config::default()), "no command specified");
        assert!(error(Config { cwd: "x".into(), ..config() }).contains("needs to be an absolute path"));
        assert!(error(Config { env: vec!["A=\0".into()], ..config() }).contains("NUL"));
        if !Path::new("/sys/kernel/security/apparmor").exists() {
            assert!(error(Config { apparmor: Some("x".into()), ..config() }).contains("AppArmor is not enabled"));
        }
        assert!(
            check(&Config { apparmor: Some("unconfined".into()), selinux: vec!["disable".into()], ..config() }).is_ok()
        );
    }
}
