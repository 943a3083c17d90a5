//! Makes the host's firewall whole again when somebody has flushed it, without
//! waiting for the next start: each monitor of a container on a bridge hears of
//! deletions in the ruleset, and looks. Nothing wakes it while nothing is deleted.
//!
//! Of all monitors that find the table wanting, the one that gets a lock has a
//! short-lived process make it anew for all networks; the others look again later.

use std::os::fd::{AsFd as _, BorrowedFd};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketType};
use umiak_base::FileLock;
use umiak_netns::{Links, Network, firewall};

use crate::background;
use crate::engine::container::Config;
use crate::engine::{Roots, network};

/// Until the table is looked at again, at first; twice as long each time.
const PAUSE: Duration = Duration::from_millis(250);
/// After so many looks (two minutes) it is left at that, until something is deleted again.
const LOOKS: u32 = 9;

/// What one monitor knows of the ruleset.
#[derive(Debug, Default)]
pub struct Guard {
    watch: Option<firewall::Watch>,
    /// When the table is looked at.
    look_at: Option<Instant>,
    looks: u32,
}

impl Guard {
    /// Begins to listen where the container is on a bridge, and ends where it is not any more. Best effort: without
    /// it, the next start repairs.
    pub fn follow(&mut self, config: &Config) {
        match (config.network.attachments().is_empty(), &self.watch) {
            (true, _) => *self = Self::default(),
            (false, Some(_)) => {}
            (false, None) => {
                let watch = firewall::Watch::open().and_then(|watch| {
                    crate::sys::receive_only(watch.as_fd(), &firewall::Watch::DELETIONS)?;
                    Ok(watch)
                });
                self.watch = watch.ok();
            }
        }
    }

    /// Readable when something was deleted.
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.watch.as_ref().map(|watch| watch.as_fd())
    }

    /// When it wants its [`Guard::turn`].
    pub fn deadline(&self) -> Option<Instant> {
        self.look_at
    }

    /// Takes note of what was deleted.
    pub fn hear(&mut self) {
        if self.watch.as_ref().is_some_and(firewall::Watch::happened) {
            (self.look_at, self.looks) = (Some(Instant::now()), 0);
        }
    }

    /// Looks at the table, if something was deleted, and has it made whole.
    pub fn turn(&mut self, roots: &Roots, config: &Config) {
        if self.look_at.is_none_or(|at| at > Instant::now()) {
            return;
        }
        self.look_at = None;
        if is_whole(roots, config) || self.looks >= LOOKS {
            return;
        }
        // Whoever holds the lock does it for all.
        if let Ok(Some(lock)) = FileLock::try_exclusive(&roots.lock("firewall")) {
            let _ = background::start("__repair", roots, &[], &lock);
        }
        self.look_at = Some(Instant::now() + PAUSE * 2_u32.pow(self.looks));
        self.looks += 1;
    }
}

/// Whether the table has the networks of a container. What cannot be looked at is taken to be whole.
fn is_whole(roots: &Roots, config: &Config) -> bool {
    // Asked by a socket: /sys shows the links of whoever mounted it.
    let Ok(socket) = rustix::net::socket(AddressFamily::UNIX, SocketType::DGRAM, None) else { return true };
    let up = |network: &Network| {
        network.direct.is_none() && rustix::net::netdevice::name_to_index(&socket, &network.bridge).is_ok()
    };
    config.network.attachments().iter().all(|attachment| match network::find(roots, &attachment.network) {
        Ok(Some(network)) if up(&network) => firewall::has_network(&network).unwrap_or(true),
        _ => true,
    })
}

/// Runs the process that repairs: one of its own, because what lists links has an async runtime.
pub fn main() -> ExitCode {
    background::run(|roots, _, lock| {
        super::create::clean_signal_mask()?;
        network::repair(roots, &Links::open()?)?;
        drop(lock);
        Ok(())
    })
}
