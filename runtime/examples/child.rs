//! The short-lived process that starts a container: what `umiak create` and
//! `umiak exec` are in the program. The tests run it, because the work must
//! happen in a fresh process with one thread.
//!
//! `child create CONFIG BUNDLE STATE REPORT_FD`

use std::os::fd::{AsFd as _, BorrowedFd, FromRawFd as _, OwnedFd};
use std::path::PathBuf;
use std::process::ExitCode;

use umiak_runtime::Config;
use umiak_runtime::create::{Paths, create};
use umiak_runtime::report::{self, Report};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [verb, config, bundle, state, fd, ..] = args.as_slice() else { return ExitCode::from(2) };
    let Ok(fd) = fd.parse() else { return ExitCode::from(2) };
    // SAFETY: the caller opened this descriptor for us.
    #[allow(unsafe_code)]
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    let Some(config) = std::fs::read(config).ok().and_then(|text| serde_json::from_slice::<Config>(&text).ok()) else {
        return ExitCode::from(2);
    };
    let paths = Paths { bundle: PathBuf::from(bundle), state: PathBuf::from(state) };
    match verb.as_str() {
        "create" => run_create(socket.as_fd(), &config, &paths),
        _ => ExitCode::from(2),
    }
}

fn run_create(socket: BorrowedFd<'_>, config: &Config, paths: &Paths) -> ExitCode {
    let (report, console) = match create(config, paths) {
        Ok(created) => (Report::Started { pid: created.pid }, created.console),
        Err(error) => (Report::failed(&error, error.exit_code()), None),
    };
    let sent = report::send(socket, &report, console.as_ref().map(|fd| fd.as_fd()));
    ExitCode::from(u8::from(sent.is_err()))
}
