//! What a container leaves that ran with `--rm`: its interfaces, its namespace
//! and, with the last one, the default network. The kernel waits for its
//! processors at each of these deletions, so a process that nobody waits for does
//! them: the command has ended by then. To all other commands the container is gone.
//!
//! The default network stays for a moment longer: the next container often comes
//! at once, and finds it there. Whatever is killed meanwhile, the next command
//! that starts something clears away ([`Engine::sweep`]).

use std::os::fd::OwnedFd;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use umiak_base::FileLock;

use super::container::Config;
use super::{Engine, Roots, network, remove};
use crate::background;

/// How long the default network is kept without a container.
const LINGER: Duration = Duration::from_secs(1);

impl Engine {
    /// Has the rest of a container cleared away whose config is gone. The lock of the container goes along.
    pub(super) fn clear_away(&self, config: &Config, lock: &FileLock) -> Result<()> {
        if background::start("__clear", &self.roots, &[&config.id], lock).is_ok() {
            return Ok(());
        }
        // There may be no room for another process.
        remove::sweep_one(&self.roots, &config.id)?;
        config.network.attachments().iter().try_for_each(|attachment| network::default::leave(&self.roots, attachment))
    }
}

/// Runs that process.
pub fn main() -> ExitCode {
    // No terminal's signals, and not ended with the command's process group.
    let _ = rustix::process::setsid();
    background::run(|roots, more, lock| match more {
        [id] => clear(roots, id.to_str().context("an id")?, lock),
        _ => bail!("an id is expected"),
    })
}

fn clear(roots: &Roots, id: &str, lock: OwnedFd) -> Result<()> {
    // Taken before the container has given up its place: until then nobody else removes the network.
    let lingering = FileLock::shared(&lingering(roots))?;
    remove::sweep_one(roots, id)?;
    drop(lock);
    if !network::default::is_idle(roots)? {
        return Ok(());
    }
    std::thread::sleep(LINGER);
    drop(lingering);
    sweep_default(roots)
}

/// Removes the default network if no container has it and nobody keeps it for the next one.
pub(super) fn sweep_default(roots: &Roots) -> Result<()> {
    if !network::default::is_idle(roots)? {
        return Ok(());
    }
    // The last one of those that keep it does that.
    let Some(_alone) = FileLock::try_exclusive(&lingering(roots))? else { return Ok(()) };
    network::default::remove_idle(roots)
}

/// Waits for those among these containers that are being cleared away; whether there were any.
pub(super) fn wait_for_leaving<'a>(roots: &Roots, ids: impl Iterator<Item = &'a str>) -> Result<bool> {
    let mut any = false;
    for id in ids {
        let is_leaving = || roots.container(id).join(remove::LEAVING).exists();
        if !is_leaving() {
            continue;
        }
        any = true;
        let _lock = FileLock::exclusive(&roots.lock(&format!("container-{id}")))?;
        // Where that was killed, the rest is done here.
        if is_leaving() {
            remove::sweep_one(roots, id)?;
        }
        let _ = std::fs::remove_file(roots.lock(&format!("container-{id}")));
    }
    Ok(any)
}

fn lingering(roots: &Roots) -> std::path::PathBuf {
    roots.lock("default-network")
}
