//! The short-lived processes that start a container or one more program in
//! it, what `umiak create` and `umiak exec` are in the program, and their
//! parent. The tests run it: the work must happen in fresh processes with one
//! thread, and somebody must reap.
//!
//! `child create FD CONFIG BUNDLE STATE`
//! `child exec FD CONFIG BUNDLE STATE INIT_PID REQUEST_JSON`
//! `child watch create|exec FD …` runs one of those, reaps everything, and
//! ends with the program's exit code.
//!
//! FD is an inherited socket for the report.

use std::os::fd::{AsFd as _, AsRawFd as _, FromRawFd as _, OwnedFd};
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use rustix::io::{FdFlags, fcntl_setfd};
use rustix::process::WaitOptions;
use umiak_base::ProcessRef;
use umiak_runtime::Config;
use umiak_runtime::create::{CreateError, Created, Paths, create};
use umiak_runtime::exec::{Parent, exec, exit_code};
use umiak_runtime::program::OwnProgram;
use umiak_runtime::report::{self, Report};

/// For a wrong use of this program.
const MISUSED: u8 = 99;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let code = match args.split_first() {
        Some((verb, rest)) if verb == "watch" => watch(rest),
        Some((verb, rest)) => start(verb, rest),
        None => None,
    };
    ExitCode::from(code.unwrap_or(MISUSED))
}

fn inherited(number: &str) -> Option<OwnedFd> {
    let number = number.parse().ok().filter(|number| *number > 2)?;
    // SAFETY: the caller opened this descriptor for us, and nothing else here uses it.
    #[allow(unsafe_code)]
    let socket = unsafe { OwnedFd::from_raw_fd(number) };
    fcntl_setfd(&socket, FdFlags::CLOEXEC).ok()?;
    Some(socket)
}

fn start(verb: &str, args: &[String]) -> Option<u8> {
    let [fd, config, bundle, state, rest @ ..] = args else { return None };
    let socket = inherited(fd)?;
    let config: Config = serde_json::from_slice(&std::fs::read(config).ok()?).ok()?;
    let paths = Paths { bundle: PathBuf::from(bundle), state: PathBuf::from(state) };
    let result = match verb {
        "create" => create(&config, &paths),
        "exec" => run_exec(&config, &paths, rest)?,
        _ => return None,
    };
    let (report, console) = match result {
        Ok(created) => (Report::Started { pid: created.pid }, created.console),
        Err(error) => (Report::failed(&error, error.exit_code()), None),
    };
    report::send(socket.as_fd(), &report, console.as_ref().map(|fd| fd.as_fd())).ok()?;
    Some(0)
}

fn run_exec(config: &Config, paths: &Paths, rest: &[String]) -> Option<Result<Created, CreateError>> {
    let [pid, request] = rest else { return None };
    let init = ProcessRef::of(pid.parse().ok()?)?;
    let request = serde_json::from_str(request).ok()?;
    Some(exec(config, paths, init, &request, Parent::ParentOfCaller))
}

fn watch(args: &[String]) -> Option<u8> {
    let [verb, fd, rest @ ..] = args else { return None };
    let socket = inherited(fd)?;
    let (here, there) = report::socket_pair().ok()?;
    fcntl_setfd(&there, FdFlags::empty()).ok()?;
    let own = OwnProgram::open().ok()?;
    Command::new(own.path()).arg(verb).arg(there.as_raw_fd().to_string()).args(rest).spawn().ok()?;
    drop((there, own));
    let (report, console) = report::receive(here.as_fd()).ok()??;
    report::send(socket.as_fd(), &report, console.as_ref().map(|fd| fd.as_fd())).ok()?;
    drop((console, socket));
    let (program, mut code) = match report {
        Report::Started { pid } => (pid, MISUSED.into()),
        Report::Failed { exit_code, .. } => (0, exit_code),
    };
    while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::empty()) {
        if pid.as_raw_nonzero().get().unsigned_abs() == program {
            code = exit_code(status);
        }
    }
    u8::try_from(code).ok()
}
