//! The default network of single containers, which is made with the first of them and goes with the last.

use anyhow::{Context as _, Result};

use super::{DEFAULT, find, leases, lock, path, tear_down, users};
use crate::engine::Roots;
use crate::engine::container::{Attachment, Config};

/// Whether the only network of a container is the default one, and goes with it.
pub fn goes_with(roots: &Roots, config: &Config) -> Result<bool> {
    match config.network.attachments() {
        [only] if only.network == DEFAULT => {
            Ok(leases(roots, DEFAULT).all()?.iter().all(|(_, holder)| *holder == config.id))
        }
        _ => Ok(false),
    }
}

/// A container has left a network for good: the default network goes with its last one.
pub fn leave(roots: &Roots, attachment: &Attachment) -> Result<()> {
    if attachment.network == DEFAULT { remove_idle(roots) } else { Ok(()) }
}

/// Whether there is a default network in which no container has an address.
pub fn is_idle(roots: &Roots) -> Result<bool> {
    Ok(find(roots, DEFAULT)?.is_some() && leases(roots, DEFAULT).all()?.is_empty())
}

/// Removes the default network if no container has it.
pub fn remove_idle(roots: &Roots) -> Result<()> {
    let _lock = lock(roots, DEFAULT)?;
    let Some(network) = find(roots, DEFAULT)? else { return Ok(()) };
    let leased = !leases(roots, DEFAULT).all()?.is_empty();
    if leased || !users(roots, &network)?.is_empty() {
        return Ok(());
    }
    tear_down(roots, &network)?;
    let file = path(roots, DEFAULT);
    std::fs::remove_file(&file).with_context(|| format!("remove {}", file.display()))
}
