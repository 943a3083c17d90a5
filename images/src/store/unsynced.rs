//! Marks of what has its name and is not on the disk yet: layers and blobs of
//! a build get their names at once, and are synced together at its end.
//!
//! ```text
//! layers/<diff id hex>.unsynced          the boot's id and a random word
//! blobs/sha256/.unsynced-<hex>           the same
//! ```
//!
//! A mark is made before the name and goes after the sync. While it is there,
//! what it marks counts in that boot alone: after a power cut nothing is known
//! of its content. A mark that cannot be read is one of another boot.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use umiak_base::id::random_hex;

use super::remove::{delete, entries, used};
use super::{Store, StoreError};
use crate::digest::Digest;
use crate::layer::LayerLock;

/// How the names of layers' marks end.
const MARKED: &str = ".unsynced";
/// How the names of blobs' marks begin.
const MARKED_BLOB: &str = ".unsynced-";

/// A layer, and one of its blobs where there is one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Part {
    pub(crate) diff_id: Digest,
    pub(crate) blob: Option<Digest>,
}

/// A mark that was there before a sync.
struct Seen {
    diff_id: Digest,
    path: PathBuf,
    content: Vec<u8>,
}

impl Store {
    pub(crate) fn layer_mark(&self, diff_id: &Digest) -> PathBuf {
        self.layers().join(format!("{}{MARKED}", diff_id.hex()))
    }

    pub(crate) fn blob_mark(&self, digest: &Digest) -> PathBuf {
        self.blobs().join(format!("{MARKED_BLOB}{}", digest.hex()))
    }

    /// Brings what is marked to the disk, with one sync for all of it, and takes the marks away; whether any was there.
    pub(crate) fn settle(&self, parts: &[Part]) -> Result<bool, StoreError> {
        let mut seen = Vec::new();
        for Part { diff_id, blob } in parts {
            let paths = [Some(self.layer_mark(diff_id)), blob.as_ref().map(|blob| self.blob_mark(blob))];
            for path in paths.into_iter().flatten() {
                if let Some(content) = read(&path)?
                    && is_of_this_boot(&content)
                {
                    seen.push(Seen { diff_id: diff_id.clone(), path, content });
                }
            }
        }
        if seen.is_empty() {
            return Ok(false);
        }
        self.sync_all()?;
        for Seen { diff_id, path, content } in seen {
            let _lock = LayerLock::exclusive(self, &diff_id)?;
            // What was replaced meanwhile has a mark of its own.
            if read(&path)?.as_ref() == Some(&content) {
                unmark(&path)?;
            }
        }
        for dir in [self.layers(), self.blobs()] {
            umiak_base::state::sync_dir(dir).map_err(|source| StoreError::io("sync", dir, source))?;
        }
        Ok(true)
    }

    /// Removes what was not on the disk when the host went down, and marks of nothing. Nobody else is at work.
    pub(super) fn sweep_marks(&self) -> Result<u64, StoreError> {
        let mut bytes = 0;
        for (name, mark) in entries(self.layers())?.into_iter().chain(entries(self.blobs())?) {
            let hex = name.strip_suffix(MARKED).or_else(|| name.strip_prefix(MARKED_BLOB));
            let Some(marked) = hex.map(|hex| mark.with_file_name(hex)) else { continue };
            if !counts(&mark) {
                bytes += used(&marked);
                delete(&marked)?;
            }
            if !marked.exists() {
                unmark(&mark)?;
            }
        }
        Ok(bytes)
    }

    /// Writes all of the store's file systems to the disk.
    pub(crate) fn sync_all(&self) -> Result<(), StoreError> {
        let mut done = None;
        for dir in [self.layers(), self.blobs()] {
            use std::os::unix::fs::MetadataExt as _;
            let failed = |source: io::Error| StoreError::io("sync", dir, source);
            let file = File::open(dir).map_err(failed)?;
            let device = file.metadata().map_err(failed)?.dev();
            if done != Some(device) {
                rustix::fs::syncfs(&file).map_err(|error| failed(error.into()))?;
            }
            done = Some(device);
        }
        Ok(())
    }
}

/// Makes a mark for this boot.
pub(crate) fn mark(path: &Path) -> Result<(), StoreError> {
    let failed = |source: io::Error| StoreError::io("write", path, source);
    let Some(boot) = boot() else { return Err(failed(io::ErrorKind::NotFound.into())) };
    let word = random_hex(8).map_err(failed)?;
    // Read half written it is one of another boot, which is as it should be before what it marks is there.
    std::fs::write(path, format!("{boot} {word}\n")).map_err(failed)
}

/// Takes a mark away.
pub(crate) fn unmark(path: &Path) -> Result<(), StoreError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(StoreError::io("remove", path, error)),
        _ => Ok(()),
    }
}

/// Whether what this mark would be of is to be believed: there is none, or it is of this boot.
pub(crate) fn counts(path: &Path) -> bool {
    match read(path) {
        Ok(None) => true,
        Ok(Some(content)) => is_of_this_boot(&content),
        Err(_) => false,
    }
}

fn read(path: &Path) -> Result<Option<Vec<u8>>, StoreError> {
    match std::fs::read(path) {
        Ok(content) => Ok(Some(content)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(StoreError::io("read", path, source)),
    }
}

fn is_of_this_boot(content: &[u8]) -> bool {
    boot().is_some_and(|boot| content.starts_with(boot.as_bytes()) && content.ends_with(b"\n"))
}

/// The boot's id; `None` without `/proc`.
fn boot() -> Option<&'static str> {
    static BOOT: OnceLock<Option<String>> = OnceLock::new();
    BOOT.get_or_init(|| umiak_base::process::boot_id().ok().filter(|id| !id.is_empty())).as_deref()
}
