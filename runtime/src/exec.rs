//! Running one more program in a container: the whole work of the short-lived
//! `exec` child (commands, health checks). Like `create`, it needs a fresh
//! process with one thread.

use std::fs;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use libcontainer::container::builder::ContainerBuilder;
use libcontainer::error::LibcontainerError;
use libcontainer::syscall::syscall::SyscallType;
use rustix::process::{Pid, WaitOptions, WaitStatus};
use serde::{Deserialize, Serialize};
use umiak_base::ProcessRef;

use crate::capabilities::{self, CapSet};
use crate::config::Config;
use crate::console::Listener;
use crate::create::{self, CreateError, Created, Paths};
use crate::environment;
use crate::executor::{Launch, Program};
use crate::report::{self, Failure};
use crate::users::{self, User};
use crate::{rootfs, seccomp, spec, trace};

/// What to run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Exec {
    /// Program and arguments.
    pub args: Vec<String>,
    /// Variables that override the container's.
    pub env: Vec<String>,
    /// User, in the forms of [`Config::user`]; empty for the container's.
    pub user: String,
    /// Working directory, absolute; empty for the container's. It must exist.
    pub cwd: String,
    /// Give the program a terminal.
    pub tty: bool,
    /// All capabilities (the seccomp filter stays, as in Docker).
    pub privileged: bool,
}

/// Whose child the program becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parent {
    /// The caller's, which then [`wait`]s for it.
    Caller,
    /// The parent of the caller, which may end.
    ParentOfCaller,
}

/// Starts a program in the running container whose first process is `init`, and returns once it runs.
///
/// # Errors
/// When the container does not run, or whatever stands in the way.
pub fn exec(
    config: &Config,
    paths: &Paths,
    init: ProcessRef,
    request: &Exec,
    parent: Parent,
) -> Result<Created, CreateError> {
    run(config, paths, init, request, parent, None)
}

/// As [`exec`] with [`Parent::Caller`], but the program's parent is one more process in the container, which collects
/// what the program leaves behind, and ends when nothing is left. It writes the program's exit code to `status`: four
/// bytes, little endian. Its own pid is what is returned, and its exit code means nothing.
///
/// # Errors
/// As [`exec`].
pub fn exec_collected(
    config: &Config,
    paths: &Paths,
    init: ProcessRef,
    request: &Exec,
    status: BorrowedFd<'_>,
) -> Result<Created, CreateError> {
    run(config, paths, init, request, Parent::Caller, Some(status))
}

fn run(
    config: &Config,
    paths: &Paths,
    init: ProcessRef,
    request: &Exec,
    parent: Parent,
    collect: Option<BorrowedFd<'_>>,
) -> Result<Created, CreateError> {
    create::one_thread()?;
    // As a container with these fields would run it: the same rules apply to both.
    let config = with_request(config, request);
    spec::check(&config)?;
    let host = CapSet::host().map_err(CreateError::HostCapabilities)?;
    let contained = capabilities::of(&config, host)?;
    let filter = seccomp::compile(&config, contained)?;
    let user = resolve_user(&config, init)?;
    create::set_oom_score(config.limits.oom_score_adj)?;

    let channel = |what| move |source| CreateError::Channel { what, source };
    let (pipe, reader) = report::pipe().map_err(channel("the report pipe"))?;
    trace::install(&pipe);
    let own = std::process::id();
    let listener = if config.tty {
        let name = format!("console-{own}.sock");
        Some(Listener::bind(&paths.bundle, &name).map_err(channel("the terminal's socket"))?)
    } else {
        None
    };
    // Beside libcontainer's state: a health check must not fail because the disk of the containers is full.
    let state = paths.state.join(&config.id);
    let dir = if state.is_dir() { &state } else { &paths.bundle };
    let process = ProcessFile::write(&config, &dir.join(format!("process-{own}.json")))?;
    let caps = if request.privileged { host } else { contained };
    let mut launch = launch(&config, &user, caps, filter);
    launch.collect = collect.map(|status| status.as_raw_fd());
    let program = Program::new(launch, Arc::clone(&pipe));
    let built = build(&config, paths, &process, program, listener.as_ref(), parent);
    drop(process);
    let pid = match built {
        Ok(pid) => pid,
        Err(error) => {
            let failure = report::most_telling(reader.finish(pipe));
            reap_failed(parent);
            return Err(failure.map_or_else(|| CreateError::Libcontainer(Box::new(error)), CreateError::Program));
        }
    };
    // libcontainer returns once the program runs, or its first process has ended.
    if let Some(failure) = reader.finish(pipe).into_iter().find(Failure::is_exact) {
        reap_failed(parent);
        return Err(CreateError::Program(failure));
    }
    let console = listener.map(|listener| listener.receive()).transpose().map_err(channel("the terminal"))?;
    Ok(Created { pid, console })
}

fn with_request(config: &Config, request: &Exec) -> Config {
    let mut out = config.clone();
    out.args.clone_from(&request.args);
    environment::merge(&mut out.env, &request.env);
    if !request.user.is_empty() {
        out.user.clone_from(&request.user);
    }
    if !request.cwd.is_empty() {
        out.cwd.clone_from(&request.cwd);
    }
    out.tty = request.tty;
    out.init = false;
    out
}

fn resolve_user(config: &Config, init: ProcessRef) -> Result<User, CreateError> {
    let path = PathBuf::from(format!("/proc/{}/root", init.pid));
    let root = rootfs::open_root(&path).map_err(|source| not_running(config, init, source, &path))?;
    // Checked after opening: the pid was still this container's then.
    if !init.alive() {
        return Err(CreateError::NotRunning { id: config.id.clone() });
    }
    Ok(users::resolve(root.as_fd(), &config.user, &config.group_add)?)
}

fn not_running(config: &Config, init: ProcessRef, source: io::Error, path: &Path) -> CreateError {
    if init.alive() { create::file("open", path)(source) } else { CreateError::NotRunning { id: config.id.clone() } }
}

fn launch(config: &Config, user: &User, caps: CapSet, filter: Option<Vec<seccomp::Instruction>>) -> Launch {
    Launch {
        args: environment::c_strings(&config.args),
        env: environment::c_strings(&environment::of(config, &user.home)),
        cwd: PathBuf::from(if config.cwd.is_empty() { "/" } else { config.cwd.as_str() }),
        make_cwd: false,
        uid: user.uid,
        gid: user.gid,
        groups: user.groups.clone(),
        caps,
        no_new_privileges: config.no_new_privileges,
        filter: filter.as_deref().map(std::rc::Rc::from),
        init: false,
        collect: None,
        tty: config.tty,
    }
}

/// libcontainer takes a whole process description from a file alone; gone when this is dropped.
struct ProcessFile(PathBuf);

impl ProcessFile {
    fn write(config: &Config, path: &Path) -> Result<Self, CreateError> {
        let process = spec::process(config)?;
        let text = serde_json::to_vec(&process).map_err(|error| create::file("describe", path)(error.into()))?;
        fs::write(path, text).map_err(create::file("write", path))?;
        Ok(Self(path.to_owned()))
    }
}

impl Drop for ProcessFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn build(
    config: &Config,
    paths: &Paths,
    process: &ProcessFile,
    program: Program,
    listener: Option<&Listener>,
    parent: Parent,
) -> Result<u32, LibcontainerError> {
    let pid = ContainerBuilder::new(config.id.clone(), SyscallType::default())
        .with_root_path(&paths.state)?
        .with_executor(program)
        .with_console_socket(listener.map(Listener::path))
        .validate_id()?
        .as_tenant()
        .with_process(Some(&process.0))
        .with_detach(true)
        .as_sibling(parent == Parent::ParentOfCaller)
        .build()?;
    Ok(pid.as_raw().unsigned_abs())
}

/// What a failed start leaves: libcontainer does not reap its children then, and a container whose
/// first process waits for them in the kernel could never end (zap_pid_ns).
fn reap_failed(parent: Parent) {
    if parent == Parent::Caller {
        while let Ok(Some(_)) = rustix::process::wait(WaitOptions::empty()) {}
    }
}

/// Waits for the program of [`exec`] with [`Parent::Caller`]: its exit code, 128 + signal where one killed it.
///
/// # Errors
/// When it is no child of the caller.
pub fn wait(pid: u32) -> io::Result<i32> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::InvalidInput)?;
    loop {
        match rustix::process::waitpid(Some(pid), WaitOptions::empty()) {
            Ok(Some((_, status))) => return Ok(exit_code(status)),
            Ok(None) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// The shell's number for how a process ended.
#[must_use]
pub fn exit_code(status: WaitStatus) -> i32 {
    status.exit_status().or_else(|| status.terminating_signal().map(|signal| 128 + signal)).unwrap_or(255)
}
