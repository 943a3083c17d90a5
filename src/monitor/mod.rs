//! The monitor: one small single-threaded process per container that is the
//! parent of its PID 1, keeps its output, answers its DNS questions and records
//! how it ends. Joins `runtime` and `netns::dns` in one poll loop.
//!
//! It survives every command, and when it is killed it takes nothing with it:
//! the kernel holds the container, the files hold the rest.

pub mod clients;
pub mod create;
mod health;
pub mod probe;
pub mod protocol;
mod reach;
mod start;
pub use start::withdraw_names;
mod streams;
mod supervise;

use std::os::fd::{AsFd, OwnedFd};
use std::process::ExitCode;

use anyhow::{Context as _, Result};

use crate::ipc;
use protocol::{Outcome, Start};

/// Runs a monitor; its orders come over descriptor 0.
pub fn main() -> ExitCode {
    crate::sys::close_inherited();
    // It is started through /proc/self/exe, and would be called `exe`.
    let _ = rustix::thread::set_name(c"umiak-monitor");
    let orders = match orders() {
        Ok(orders) => orders,
        Err(error) => {
            tell(&error);
            return ExitCode::FAILURE;
        }
    };
    let (socket, message, fds) = orders;
    let container = message.id.clone();
    match start::start(&socket, message, fds) {
        Ok(mut running) => {
            drop(socket);
            match supervise::run(&mut running) {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => {
                    tell(&error.context(format!("supervise container {container}")));
                    ExitCode::FAILURE
                }
            }
        }
        Err(error) => {
            let chain = error.chain().map(ToString::to_string).collect();
            let exit_code = start::exit_code(&error);
            if ipc::send(&socket, &Outcome::Failed { chain, exit_code }, &[]).is_err() {
                tell(&error);
            }
            ExitCode::FAILURE
        }
    }
}

/// To the monitor's own log: nobody else is there to be told.
fn tell(error: &anyhow::Error) {
    let mut line = String::new();
    for cause in error.chain() {
        line = if line.is_empty() { cause.to_string() } else { format!("{line}: {cause}") };
    }
    let _ = rustix::io::write(rustix::stdio::stderr(), format!("umiak monitor: {line}\n").as_bytes());
}

fn orders() -> Result<(OwnedFd, Start, Vec<OwnedFd>)> {
    let socket = take_stdin()?;
    let (message, fds) = ipc::receive::<Start>(&socket)?.context("the command that started this monitor has gone")?;
    // The leader of its own session: no terminal's signals, and not ended with the command's process group.
    let _ = rustix::process::setsid();
    Ok((socket, message, fds))
}

/// Takes descriptor 0 out of the way, so that nothing inherits it, and puts /dev/null there.
pub fn take_stdin() -> Result<OwnedFd> {
    let socket = std::io::stdin().as_fd().try_clone_to_owned().context("take over descriptor 0")?;
    let null = std::fs::File::open("/dev/null").context("open /dev/null")?;
    rustix::stdio::dup2_stdin(&null).context("replace descriptor 0")?;
    Ok(socket)
}
