//! The monitor: one small single-threaded process per container that is the
//! parent of its PID 1, keeps its output, answers its DNS questions and records
//! how it ends. Joins `runtime` and `netns::dns` in one poll loop.
//!
//! It survives every command, and it survives itself: what a command starts is
//! the keeper, which goes on as two (`fork`, no `exec`: they share their pages)
//! and waits. When the monitor is killed, the keeper goes on as another one, with
//! the descriptors that cannot be opened again, and as the parent of what the dead
//! one has left. That one reads the rest from disk (`resume.rs`) and goes on where
//! the last was: an output in its pipe, a question in its socket, an exit code with
//! the keeper. A keeper that is killed is missed by nobody until the monitor is
//! killed, too; then the kernel holds the container, the files hold the rest, and
//! the next command that wants it running gives it a new pair.
//!
//! ```text
//! keeper     holds what cannot be opened again, and brings up the monitor
//! start      the first start and each restart, up to the point from which it counts
//! resume     going on from a killed monitor
//! fate       how PID 1 ended, whoever was its parent
//! supervise  the poll loop, and what follows an end
//! create     the child that builds the container
//! firewall   rules that somebody flushed
//! health  probe  reach      health checks, and the child that makes them
//! streams  clients  protocol  bytes of the container, and who is attached to them
//! ```

pub mod clients;
pub mod create;
mod fate;
pub mod firewall;
mod health;
mod keeper;
pub mod probe;
pub mod protocol;
mod reach;
mod resume;
mod start;
pub use start::{exit_code, withdraw_names};
mod streams;
mod supervise;

use std::os::fd::{AsFd, OwnedFd};
use std::process::ExitCode;

use anyhow::{Context as _, Result};

use crate::ipc;
use keeper::{Keeper, Kept};
use protocol::{Outcome, Start};
use start::Running;
use supervise::Stage;

/// Runs a keeper and its monitor; the orders come over descriptor 0.
pub fn main() -> ExitCode {
    crate::sys::close_inherited();
    // The leader of its own session: no terminal's signals, and not ended with the command's process group.
    let _ = rustix::process::setsid();
    start::protect();
    let mut kept = Kept::default();
    loop {
        match keeper::part(kept).and_then(|parted| parted.map_or(Ok(None), |(keeper, kept)| monitor(keeper, kept))) {
            // Its keeper was killed: it becomes the keeper of the next one.
            Ok(Some(running)) => kept = resume::hand_over(running),
            Ok(None) => return ExitCode::SUCCESS,
            Err(error) => {
                tell(&error);
                return ExitCode::FAILURE;
            }
        }
    }
}

/// A monitor's life. What it leaves to another where its keeper has gone; nothing when it is over.
fn monitor(keeper: Keeper, kept: Kept) -> Result<Option<Running>> {
    start::adopt_orphans();
    let begun = match kept.is_inherited() {
        true => resume::take_over(keeper, kept)?,
        false => first(keeper)?,
    };
    let Some((mut running, stage)) = begun else { return Ok(None) };
    let over =
        supervise::run(&mut running, stage).with_context(|| format!("supervise container {}", running.config.id))?;
    Ok((over == supervise::Over::Alone).then_some(running))
}

/// What the first monitor of a container does: it starts it. Nothing where that failed, and somebody was told.
fn first(keeper: Keeper) -> Result<Option<(Running, Stage)>> {
    let socket = take_stdin()?;
    let (message, fds) = ipc::receive::<Start>(&socket)?.context("the command that started this monitor has gone")?;
    let begun = match message.adopt {
        true => resume::adopt(&socket, message, fds, keeper),
        false => start::start(&socket, message, fds, keeper),
    };
    match begun {
        Ok(running) => Ok(Some((running, Stage::Run))),
        Err(error) => {
            let chain = error.chain().map(ToString::to_string).collect();
            let exit_code = exit_code(&error);
            ipc::send(&socket, &Outcome::Failed { chain, exit_code }, &[]).map_err(|_| error)?;
            Ok(None)
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

/// Takes descriptor 0 out of the way, so that nothing inherits it, and puts /dev/null there.
pub fn take_stdin() -> Result<OwnedFd> {
    let socket = std::io::stdin().as_fd().try_clone_to_owned().context("take over descriptor 0")?;
    let null = std::fs::File::open("/dev/null").context("open /dev/null")?;
    rustix::stdio::dup2_stdin(&null).context("replace descriptor 0")?;
    Ok(socket)
}
