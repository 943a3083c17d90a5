//! Processes of this program that nobody waits for. Each holds a lock, at descriptor 0, until it is through.

use std::ffi::OsString;
use std::os::fd::{AsFd as _, OwnedFd};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context as _, Result};
use umiak_base::FileLock;

use crate::engine::Roots;

/// Starts one: `word` says to `main` what it is to do, below `roots`, with these words more.
pub fn start(word: &str, roots: &Roots, more: &[&str], lock: &FileLock) -> Result<()> {
    let lock = lock.as_fd().try_clone_to_owned().context("duplicate a lock")?;
    let mut command = Command::new("/proc/self/exe");
    command.arg(word).args([&roots.data, &roots.run]).args(more).env_clear().current_dir("/");
    command.stdin(lock).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().context("start a process").map(drop)
}

/// Runs one. What fails is done by the next command that starts something.
pub fn run(act: impl FnOnce(&Roots, &[OsString], OwnedFd) -> Result<()>) -> ExitCode {
    crate::sys::close_inherited();
    let arguments: Vec<OsString> = std::env::args_os().skip(2).collect();
    let done = match arguments.as_slice() {
        [data, run, more @ ..] => {
            let roots = Roots { data: data.into(), run: run.into() };
            crate::monitor::take_stdin().and_then(|lock| act(&roots, more, lock))
        }
        _ => return ExitCode::FAILURE,
    };
    if done.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
