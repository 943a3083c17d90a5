//! What killed commands have left behind: none of it is believed by anybody,
//! it only takes room.

use std::path::{Path, PathBuf};

use umiak_base::FileLock;

use super::survey::{digest, names};
use crate::layer::{LOCK, UNFINISHED};
use crate::store::{BUILDING, DAMAGED, PARTIAL, REPLACED, STAGED, Store, StoreError, TRASH, is_locked, used};

/// Something that nobody needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leftover {
    /// Where it lies.
    pub path: PathBuf,
    /// What it is.
    pub what: &'static str,
    /// Bytes on the disk.
    pub bytes: u64,
}

/// All leftovers; what a command that runs is working on is none.
pub(super) fn find(store: &Store) -> Result<Vec<Leftover>, StoreError> {
    let mut found = Vec::new();
    for dir in [store.images(), store.blobs(), store.layers()] {
        for name in names(dir)? {
            let path = dir.join(&name);
            if let Some(what) = what(store, dir, &name, &path) {
                found.push(Leftover { bytes: used(&path), path, what });
            }
        }
    }
    Ok(found)
}

fn what(store: &Store, dir: &Path, name: &str, path: &Path) -> Option<&'static str> {
    if name.starts_with(PARTIAL) && !is_locked(path) {
        return Some("a download that broke off; the next pull goes on with it");
    }
    if name.starts_with(BUILDING) && !is_locked(path) {
        return Some("a directory that a build was filling");
    }
    if name.starts_with(UNFINISHED) && !is_locked(path) {
        return Some("a layer that was being unpacked");
    }
    if name.starts_with(TRASH) {
        return Some("something that was being removed");
    }
    if name.starts_with(STAGED) {
        // A load holds the lock of all that bring something in, for as long as it runs.
        let alone = FileLock::try_exclusive(&store.sweep_lock_path());
        return alone.is_ok_and(|lock| lock.is_some()).then_some("an archive that was being loaded");
    }
    if name.starts_with(REPLACED) {
        return Some("a damaged layer that was replaced while containers may have run on it");
    }
    if name.starts_with(LOCK) {
        let free = FileLock::try_exclusive(path).is_ok_and(|lock| lock.is_some());
        return free.then_some("the lock of a killed command");
    }
    if name.strip_prefix(DAMAGED).is_some_and(|hex| !dir.join(hex).exists()) {
        return Some("the mark of something that is gone");
    }
    if name.starts_with('.') && name.ends_with(".tmp") {
        return Some("a file that was being written");
    }
    if name == "index.json.damaged" {
        return Some("a damaged index that was put aside");
    }
    let note_of = name.strip_suffix(".json").filter(|_| dir == store.layers());
    if note_of.and_then(digest).is_some_and(|diff_id| !store.has_layer(&diff_id)) {
        return Some("the note of a layer that is gone");
    }
    None
}
