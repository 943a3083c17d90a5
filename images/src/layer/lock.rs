//! The lock of one layer: who holds it brings the layer in, or changes what is noted of it.

use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use umiak_base::FileLock;

use super::LOCK;
use crate::digest::Digest;
use crate::store::{Store, StoreError};

/// A held lock; its file goes with it.
#[derive(Debug)]
pub(crate) struct LayerLock {
    path: PathBuf,
    _held: FileLock,
}

impl LayerLock {
    /// Waits until nobody else has the layer's lock, in this process or another.
    pub(crate) fn exclusive(store: &Store, diff_id: &Digest) -> Result<Self, StoreError> {
        let path = store.layers().join(format!("{LOCK}{}", diff_id.hex()));
        loop {
            let held = FileLock::exclusive(&path)?;
            let failed = |error: rustix::io::Errno| StoreError::io("look at", &path, error.into());
            let ours = rustix::fs::fstat(&held).map_err(failed)?;
            // Who held it before may have taken the file away: another has a new one then.
            let same = |there: std::fs::Metadata| (there.dev(), there.ino()) == (ours.st_dev, ours.st_ino);
            if std::fs::symlink_metadata(&path).is_ok_and(same) {
                return Ok(Self { path, _held: held });
            }
        }
    }
}

impl Drop for LayerLock {
    fn drop(&mut self) {
        // While it is held: nobody else can have this file. Best effort: what stays is found by prune.
        let _ = std::fs::remove_file(&self.path);
    }
}
