//! Making a container run: the whole work of the short-lived `create` child.
//!
//! The child is fresh (one thread, executed for this alone), because
//! libcontainer clones and changes process-wide state. Its parent becomes the
//! parent of the container's first process, and reaps every child that dies.

use std::fs;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use libcontainer::container::Container;
use libcontainer::container::builder::ContainerBuilder;
use libcontainer::error::LibcontainerError;
use libcontainer::syscall::syscall::SyscallType;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::capabilities::{self, CapSet, CapabilityError};
use crate::cgroup::{Cgroup, CgroupError, Setting, Version, limits};
use crate::config::Config;
use crate::console::Listener;
use crate::devices::{self, DeviceError, Devices};
use crate::environment;
use crate::executor::{Launch, Program};
use crate::mounts::{self, MountsError};
use crate::report::{self, Failure, Pipe, Reader};
use crate::rootfs::{self, RootfsError};
use crate::seccomp::{self, SeccompError};
use crate::spec::{self, Parts, SpecError};
use crate::trace;
use crate::users::{self, User, UserError};
use crate::volumes::{self, VolumeError};

/// Where a container's files are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paths {
    /// OCI bundle: an existing directory; `config.json` is written there.
    pub bundle: PathBuf,
    /// libcontainer's state goes to `state/<id>`; made where missing. On a file system that a reboot clears.
    pub state: PathBuf,
}

/// A running container.
#[derive(Debug)]
pub struct Created {
    /// Pid of its first process, on the host.
    pub pid: u32,
    /// The master side of its terminal, with `tty`.
    pub console: Option<OwnedFd>,
}

/// Why a container does not run.
#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    /// A caller's mistake: the process has other threads.
    #[error("containers are only started from a process with one thread, this one has {count}")]
    Threads {
        /// How many.
        count: usize,
    },
    /// The cgroup of the container still has processes.
    #[error("container {id} still has {count} processes")]
    Running {
        /// The container.
        id: String,
        /// How many.
        count: usize,
    },
    /// There is nothing to run a program in.
    #[error("container {id} is not running")]
    NotRunning {
        /// The container.
        id: String,
    },
    /// Capabilities.
    #[error(transparent)]
    Capabilities(#[from] CapabilityError),
    /// The bounding set could not be read.
    #[error("read the capabilities of the host")]
    HostCapabilities(#[source] io::Error),
    /// System-call filter.
    #[error(transparent)]
    Seccomp(#[from] SeccompError),
    /// Devices.
    #[error(transparent)]
    Devices(#[from] DeviceError),
    /// Limits.
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    /// The spec.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// Mounts.
    #[error(transparent)]
    Mounts(#[from] MountsError),
    /// The root file system.
    #[error(transparent)]
    Rootfs(#[from] RootfsError),
    /// Volumes.
    #[error(transparent)]
    Volumes(#[from] VolumeError),
    /// The user.
    #[error(transparent)]
    User(#[from] UserError),
    /// A place where the kernel's file systems go is something else in the image (CVE-2023-27561, CVE-2026-41579).
    #[error("{path} in the image is not a directory: nothing can be mounted there safely")]
    NotADirectory {
        /// Path in the image.
        path: &'static str,
    },
    /// The working directory could not be made.
    #[error("make the working directory {path}")]
    Cwd {
        /// Path in the container.
        path: String,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// `oom_score_adj` could not be set.
    #[error("set oom_score_adj to {value}")]
    OomScore {
        /// The value.
        value: i32,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// A file or directory that the runtime keeps.
    #[error("{action} {path}")]
    File {
        /// What was done.
        action: &'static str,
        /// To what.
        path: PathBuf,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// The report pipe or the terminal's socket.
    #[error("set up {what}")]
    Channel {
        /// Which.
        what: &'static str,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// The first process said why it cannot run.
    #[error(transparent)]
    Program(Failure),
    /// A sysctl that this kernel does not have for a container, or that refuses the value.
    #[error("set the sysctls {names}: {reason}")]
    Sysctls {
        /// All of them: which one it was is not told.
        names: String,
        /// As far as it is known.
        reason: String,
    },
    /// libcontainer failed and nothing more is known.
    #[error("start the container")]
    Libcontainer(#[source] Box<LibcontainerError>),
    /// The first process died before it could run the program.
    #[error("the container's first process ended while it was set up")]
    Died,
}

impl CreateError {
    /// The exit code that `docker run` has for it.
    #[must_use]
    pub const fn exit_code(&self) -> i32 {
        match self {
            Self::Program(failure) => failure.exit_code(),
            // Docker takes what is not there for a program.
            Self::Devices(DeviceError::Missing { .. }) => 127,
            _ => 125,
        }
    }

    /// The exit code that `docker exec` has for it.
    #[must_use]
    pub const fn exec_exit_code(&self) -> i32 {
        match self {
            Self::Program(Failure::Cwd { .. }) => 127,
            _ => self.exit_code(),
        }
    }
}

/// What is decided before anything is touched.
struct Decided {
    caps: CapSet,
    filter: Option<Vec<seccomp::Instruction>>,
    devices: Devices,
    cgroup: Cgroup,
    settings: Vec<Setting>,
    mounts: mounts::Plan,
}

/// Starts the container and returns once its program runs. The first process is a child of the caller's parent.
/// Stdin, stdout and stderr are the caller's own (with `tty`: the new terminal).
///
/// # Errors
/// Whatever stands in the way; nothing of the container is left then, but for zombies that the caller's parent reaps.
pub fn create(config: &Config, paths: &Paths) -> Result<Created, CreateError> {
    one_thread()?;
    let mut decided = decide(config)?;
    let running = decided.cgroup.processes()?;
    if !running.is_empty() {
        return Err(CreateError::Running { id: config.id.clone(), count: running.len() });
    }
    mounts::prepare_sources(&config.mounts)?;
    let root = enter_rootfs(config, paths, &mut decided.mounts)?;
    let user = users::resolve(root.as_fd(), &config.user, &config.group_add)?;
    // In Docker's order: a working directory below a volume's target is copied into the volume.
    make_cwd(config, root.as_fd())?;
    volumes::populate(config, root.as_fd())?;
    mounts::attach(&mut decided.mounts, root.as_fd())?;
    drop(root);
    let undo = Undo { cgroup: &decided.cgroup, state: paths.state.join(&config.id), armed: true };
    let created = run(config, paths, &decided, &user)?;
    undo.disarm();
    Ok(created)
}

/// libcontainer clones by raw system call and allocates in the child: another thread could hold the allocator's lock.
pub(crate) fn one_thread() -> Result<(), CreateError> {
    let tasks = fs::read_dir("/proc/self/task");
    let count = tasks.map(Iterator::count).map_err(file("list", Path::new("/proc/self/task")))?;
    if count == 1 { Ok(()) } else { Err(CreateError::Threads { count }) }
}

pub(crate) fn file(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> CreateError {
    let path = path.to_owned();
    move |source| CreateError::File { action, path, source }
}

fn decide(config: &Config) -> Result<Decided, CreateError> {
    spec::check(config)?;
    let host = CapSet::host().map_err(CreateError::HostCapabilities)?;
    let caps = capabilities::of(config, host)?;
    let cgroup = Cgroup::new(&config.cgroup_path)?;
    let settings = limits::plan(&config.limits, cgroup.version())?;
    let (filter, devices) = (seccomp::compile(config, caps)?, devices::plan(config)?);
    let defaults = spec::default_mounts(config, &cgroup)?;
    let mounts = if devices.mounts.is_empty() {
        mounts::plan(config, defaults)?
    } else {
        let mut config = config.clone();
        config.mounts.extend(devices.mounts.iter().cloned());
        mounts::plan(&config, defaults)?
    };
    Ok(Decided { caps, filter, devices, cgroup, settings, mounts })
}

/// A mount namespace of this process's own, with the root file system in it.
fn enter_rootfs(config: &Config, paths: &Paths, mounts: &mut mounts::Plan) -> Result<OwnedFd, CreateError> {
    let staging = paths.bundle.join("mounts");
    fs::create_dir_all(&staging).map_err(file("make", &staging))?;
    mounts::enter_namespace(mounts, &staging)?;
    rootfs::mount_overlay(&config.rootfs)?;
    let merged = &config.rootfs.merged;
    let root = rootfs::open_root(merged).map_err(file("open", merged))?;
    for path in ["/proc", "/sys", "/dev"] {
        check_mount_point(root.as_fd(), path)?;
    }
    Ok(root)
}

fn check_mount_point(root: BorrowedFd<'_>, path: &'static str) -> Result<(), CreateError> {
    let relative = path.trim_start_matches('/');
    match rustix::fs::openat(
        root,
        relative,
        OFlags::PATH | OFlags::NOFOLLOW | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    ) {
        Ok(_) | Err(Errno::NOENT) => Ok(()),
        Err(Errno::NOTDIR | Errno::LOOP) => Err(CreateError::NotADirectory { path }),
        Err(error) => Err(file("open", Path::new(path))(error.into())),
    }
}

/// Makes the working directory in the image's root, owned by root, as Docker does; the executor makes it where a mount covers it.
fn make_cwd(config: &Config, root: BorrowedFd<'_>) -> Result<(), CreateError> {
    if matches!(config.cwd.as_str(), "" | "/") {
        return Ok(());
    }
    let failed = |source: io::Error| CreateError::Cwd { path: config.cwd.clone(), source };
    let path = Path::new(&config.cwd);
    let flags = OFlags::PATH | OFlags::DIRECTORY;
    match rootfs::open_in_root(root, path, flags, Mode::empty()) {
        Ok(_) => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        // Perhaps a mount covers it, or it only exists in the container's /proc: the executor will see.
        Err(_) => return Ok(()),
    }
    let duplicate = root.try_clone_to_owned().map_err(failed)?;
    let inside = pathrs::Root::from_fd(duplicate);
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    match inside.mkdir_all(path, &mode) {
        Ok(_) => Ok(()),
        Err(error) => Err(failed(io::Error::other(error))),
    }
}

/// Removes what a failed start has left: processes, cgroup, libcontainer's state.
struct Undo<'a> {
    cgroup: &'a Cgroup,
    state: PathBuf,
    armed: bool,
}

impl Undo<'_> {
    fn disarm(mut self) {
        self.armed = false;
    }
}

impl Drop for Undo<'_> {
    fn drop(&mut self) {
        if self.armed {
            // The first failure is the one to show; what cannot be undone is found again by the next start.
            let _ = self.cgroup.kill_all();
            let _ = self.cgroup.remove();
            let _ = fs::remove_dir_all(&self.state);
        }
    }
}

fn run(config: &Config, paths: &Paths, decided: &Decided, user: &User) -> Result<Created, CreateError> {
    let cgroup = &decided.cgroup;
    let _parent = cgroup.hold_parent()?;
    match cgroup.version() {
        Version::V2 => drop(cgroup.create_v2(&decided.settings, &decided.devices.rules)?),
        Version::V1 => {
            cgroup.check_controllers_v1(&decided.settings)?;
            if let Some(runtime) = config.limits.cpu_rt_runtime.and_then(|runtime| u64::try_from(runtime).ok()) {
                cgroup.grant_real_time(runtime, config.limits.cpu_rt_period.unwrap_or(1_000_000))?;
            }
        }
    }
    set_oom_score(config.limits.oom_score_adj)?;
    let parts = Parts { mounts: &decided.mounts, devices: &decided.devices, cgroup };
    write_spec(&spec::build(config, &parts)?, &paths.bundle)?;
    let state = paths.state.join(&config.id);
    prepare_state(paths, &state)?;

    let channel = |what| move |source| CreateError::Channel { what, source };
    let (pipe, reader) = report::pipe().map_err(channel("the report pipe"))?;
    trace::install(&pipe);
    let listener = if config.tty {
        Some(Listener::bind(&paths.bundle, "console.sock").map_err(channel("the terminal's socket"))?)
    } else {
        None
    };
    let program = Program::new(launch(config, decided, user), Arc::clone(&pipe));
    let built = build(config, paths, program, listener.as_ref());
    finish(built, decided, listener, pipe, reader).map_err(|error| name_cause(error, config, &decided.settings))
}

/// libcontainer's accounts name a file or a system call: says which of the config's wishes stands behind it.
fn name_cause(error: CreateError, config: &Config, settings: &[Setting]) -> CreateError {
    let CreateError::Program(Failure::Logged { text }) = &error else { return error };
    if let Some(setting) = settings.iter().find(|setting| text.contains(&format!("/{}\"", setting.file))) {
        // `… Os { code: 34, kind: …, message: "Numerical result out of range" } …`
        let message = text.split("message: \"").nth(1).and_then(|rest| rest.split('"').next()).unwrap_or(text);
        let (limit, value) = (setting.limit, setting.value.clone());
        return CgroupError::Invalid { limit, value, reason: message.to_lowercase() }.into();
    }
    if !config.sysctls.is_empty() && (text.contains("procfs") || text.contains("sysctl")) {
        let names = config.sysctls.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ");
        return CreateError::Sysctls { names, reason: text.clone() };
    }
    error
}

fn launch(config: &Config, decided: &Decided, user: &User) -> Launch {
    let env = environment::of(config, &user.home);
    Launch {
        args: environment::c_strings(&config.args),
        env: environment::c_strings(&env),
        cwd: PathBuf::from(if config.cwd.is_empty() { "/" } else { config.cwd.as_str() }),
        make_cwd: true,
        uid: user.uid,
        gid: user.gid,
        groups: user.groups.clone(),
        caps: decided.caps,
        no_new_privileges: config.no_new_privileges,
        filter: decided.filter.as_deref().map(std::rc::Rc::from),
        init: config.init,
        collect: None,
        tty: config.tty,
    }
}

fn build(
    config: &Config,
    paths: &Paths,
    program: Program,
    listener: Option<&Listener>,
) -> Result<Container, LibcontainerError> {
    ContainerBuilder::new(config.id.clone(), SyscallType::default())
        .with_root_path(&paths.state)?
        .with_executor(program)
        .with_console_socket(listener.map(Listener::path))
        .validate_id()?
        .as_init(&paths.bundle)
        .with_systemd(false)
        .as_sibling(true)
        .build()
}

/// Limits checked, program started, its `execve` awaited.
fn finish(
    built: Result<Container, LibcontainerError>,
    decided: &Decided,
    listener: Option<Listener>,
    pipe: Arc<Pipe>,
    reader: Reader,
) -> Result<Created, CreateError> {
    let cgroup = &decided.cgroup;
    let mut container = match built {
        Ok(container) => container,
        Err(error) => return Err(explain(error, cgroup, pipe, reader)),
    };
    if cgroup.version() == Version::V1 {
        apply_v1_extras(cgroup, &decided.settings)?;
        cgroup.read_back(&decided.settings)?;
    }
    let console = match listener.map(|listener| listener.receive()).transpose() {
        Ok(console) => console,
        Err(source) => return Err(CreateError::Channel { what: "the terminal", source }),
    };
    let pid = container.pid().and_then(|pid| u32::try_from(pid.as_raw()).ok()).ok_or(CreateError::Died)?;
    if let Err(error) = container.start() {
        return Err(explain(error, cgroup, pipe, reader));
    }
    // The pipe closes when the program runs: nothing in it then means that it does.
    match reader.finish(pipe).into_iter().find(Failure::is_exact) {
        None => Ok(Created { pid, console }),
        Some(failure) => Err(CreateError::Program(failure)),
    }
}

/// What libcgroups does not write.
fn apply_v1_extras(cgroup: &Cgroup, settings: &[Setting]) -> Result<(), CreateError> {
    for setting in settings.iter().filter(|setting| setting.file == "memory.oom_control") {
        let mut written = setting.clone();
        "1".clone_into(&mut written.value);
        cgroup.write(&written)?;
    }
    Ok(())
}

/// The most telling account of libcontainer's failure.
pub(crate) fn explain(error: LibcontainerError, cgroup: &Cgroup, pipe: Arc<Pipe>, reader: Reader) -> CreateError {
    // Whatever still waits in the container would keep the pipe open.
    let _ = cgroup.kill_all();
    match report::most_telling(reader.finish(pipe)) {
        Some(failure) => CreateError::Program(failure),
        None => CreateError::Libcontainer(Box::new(error)),
    }
}

fn write_spec(spec: &oci_spec::runtime::Spec, bundle: &Path) -> Result<(), CreateError> {
    let path = bundle.join("config.json");
    let text = serde_json::to_vec(spec).map_err(|error| file("describe", &path)(error.into()))?;
    fs::write(&path, text).map_err(file("write", &path))
}

/// A state directory of an earlier run is stale: its cgroup has no processes.
fn prepare_state(paths: &Paths, state: &Path) -> Result<(), CreateError> {
    match fs::remove_dir_all(state) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(file("remove", state)(error)),
        _ => {}
    }
    fs::create_dir_all(&paths.state).map_err(file("make", &paths.state))
}

pub(crate) fn set_oom_score(value: i32) -> Result<(), CreateError> {
    let path = Path::new("/proc/self/oom_score_adj");
    match fs::write(path, value.to_string()) {
        // Going below an inherited score takes CAP_SYS_RESOURCE; nobody asked for 0.
        Err(error) if value == 0 && error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        Err(source) => Err(CreateError::OomScore { value, source }),
        Ok(()) => Ok(()),
    }
}
