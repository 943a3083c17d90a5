//! The directory that a layer is unpacked in before it gets its name.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, Mode, OFlags};
use umiak_base::id::random_hex;

use super::{Layer, UNFINISHED, sync_dir};
use crate::digest::Digest;
use crate::manifest::Descriptor;
use crate::store::{LayerNote, Store, StoreError, TRASH, counts, unmark};
use crate::unpack::{Unpacked, remove_tree};

/// A layer's directory before it gets its name; removed again unless it gets one.
pub(super) struct Staged {
    path: PathBuf,
    parent: File,
    _locked: File,
    done: bool,
}

impl Staged {
    pub(super) fn new(store: &Store, diff_id: &Digest) -> Result<Self, StoreError> {
        let parent = store.layers();
        let random = random_hex(6).map_err(|source| StoreError::io("name a directory in", parent, source))?;
        let prefix = format!("{UNFINISHED}{}-", diff_id.short());
        let path = parent.join(format!("{prefix}{random}"));
        let failed = |source| StoreError::io("make", &path, source);
        let parent = File::open(parent).map_err(failed)?;
        sweep_abandoned(&parent, store.layers(), &prefix);
        std::fs::DirBuilder::new().mode(0o755).create(&path).map_err(failed)?;
        let directory = File::open(&path).map_err(failed)?;
        // Shows that it is not abandoned, for as long as this process lives.
        rustix::fs::flock(&directory, FlockOperation::NonBlockingLockExclusive)
            .map_err(|error| failed(error.into()))?;
        Ok(Self { path, parent, _locked: directory, done: false })
    }

    pub(super) fn open(&self) -> Result<OwnedFd, StoreError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::open(&self.path, flags, Mode::empty())
            .map_err(|error| StoreError::io("open", &self.path, error.into()))
    }

    /// Brings all that was unpacked to the disk, and the blobs beside it.
    pub(super) fn sync(&self, store: &Store, layer: Layer<'_>, unpacked: Unpacked) -> Result<(), StoreError> {
        let blobs = vec![Descriptor::new(&*layer.blob.media_type, layer.blob.digest.clone(), layer.blob.size)];
        let note = LayerNote { bytes: unpacked.bytes, entries: unpacked.entries, built: false, blobs };
        store.write_note(layer.diff_id, &note)?;
        rustix::fs::syncfs(&self.parent).map_err(|error| StoreError::io("sync", store.layers(), error.into()))
    }

    pub(super) fn commit(mut self, store: &Store, diff_id: &Digest) -> Result<(), StoreError> {
        let name = store.layer_path(diff_id);
        let mark = store.layer_mark(diff_id);
        if !counts(&mark) && name.exists() {
            self.clear(&name)?;
        }
        match std::fs::rename(&self.path, &name) {
            Ok(()) => {
                self.done = true;
                unmark(&mark)?;
            }
            // Another pull was faster: its content has the same digest.
            Err(_) if store.has_sound_layer(diff_id) => {}
            Err(_) if std::fs::symlink_metadata(&name).is_ok() => {
                store.replace_layer(&self.path, diff_id)?;
                self.done = true;
            }
            Err(source) => return Err(StoreError::io("rename", &self.path, source)),
        }
        sync_dir(store.layers())
    }

    /// Moves a layer out of the way that is not believed: it was not on the disk when the host went down.
    fn clear(&self, name: &Path) -> Result<(), StoreError> {
        let failed = |source| StoreError::io("rename", name, source);
        let random = random_hex(6).map_err(failed)?;
        let aside = format!("{TRASH}{random}");
        std::fs::rename(name, name.with_file_name(&aside)).map_err(failed)?;
        // Best effort: what stays is found by prune.
        let _ = remove_tree(&self.parent, aside.as_bytes());
        Ok(())
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if let (false, Some(name)) = (self.done, self.path.file_name()) {
            // Best effort: what stays is found by prune.
            let _ = remove_tree(&self.parent, name.as_bytes());
        }
    }
}

/// Removes what killed processes were unpacking of the same layer. Best effort: what stays is found by prune.
fn sweep_abandoned(parent: &File, path: &Path, prefix: &str) {
    let Ok(list) = std::fs::read_dir(path) else { return };
    for entry in list.flatten().filter(|entry| entry.file_name().as_bytes().starts_with(prefix.as_bytes())) {
        let lock = |file: &File| rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive);
        if File::open(entry.path()).is_ok_and(|file| lock(&file).is_ok()) {
            let _ = remove_tree(parent, entry.file_name().as_bytes());
        }
    }
}
