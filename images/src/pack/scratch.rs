//! An empty directory beside the layers, to make one in.

use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;
use umiak_base::id::random_hex;

use crate::store::{BUILDING, Store, StoreError};
use crate::unpack::remove_tree;

/// A directory with `upper` and `work` for an overlay mount, on the file system of the layers. It goes when this is
/// dropped; what was adopted of it stays.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
    parent: File,
    /// Shows that it is not abandoned, for as long as this process lives.
    _locked: File,
}

impl Scratch {
    pub(super) fn new(store: &Store) -> Result<Self, StoreError> {
        let layers = store.layers();
        let parent = File::open(layers).map_err(|source| StoreError::io("open", layers, source))?;
        let (path, locked) = loop {
            let random = random_hex(8).map_err(|source| StoreError::io("name a directory in", layers, source))?;
            let path = layers.join(format!("{BUILDING}{random}"));
            if let Some(locked) = claim(&path).map_err(|source| StoreError::io("make", &path, source))? {
                break (path, locked);
            }
        };
        let scratch = Self { path, parent, _locked: locked };
        for (dir, mode) in [(scratch.upper(), 0o755), (scratch.work(), 0o700)] {
            let made = std::fs::DirBuilder::new().mode(mode).create(&dir);
            made.map_err(|source| StoreError::io("make", &dir, source))?;
            // Whatever the umask is.
            let mode = std::os::unix::fs::PermissionsExt::from_mode(mode);
            std::fs::set_permissions(&dir, mode).map_err(|source| StoreError::io("make", &dir, source))?;
        }
        Ok(scratch)
    }

    /// What becomes the layer: the upper directory of an overlay mount, or one to write to.
    #[must_use]
    pub fn upper(&self) -> PathBuf {
        self.path.join("upper")
    }

    /// The work directory of an overlay mount.
    #[must_use]
    pub fn work(&self) -> PathBuf {
        self.path.join("work")
    }

    /// The directory itself: room for what a step needs beside the layer, such as mount points.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Some(name) = self.path.file_name() {
            // Best effort: what stays goes with the next build.
            let _ = remove_tree(&self.parent, name.as_bytes());
        }
    }
}

/// Makes and locks a directory; `None` where a clean-up took it for abandoned in between.
fn claim(path: &Path) -> io::Result<Option<File>> {
    std::fs::DirBuilder::new().mode(0o700).create(path)?;
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        result => result?,
    };
    if rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        return Ok(None);
    }
    let ours = file.metadata()?;
    let there = std::fs::symlink_metadata(path);
    Ok(there.is_ok_and(|there| (there.dev(), there.ino()) == (ours.dev(), ours.ino())).then_some(file))
}

/// Removes what killed builds have left. Best effort: what stays goes with a later one.
pub(super) fn sweep(store: &Store) {
    let (Ok(list), Ok(parent)) = (std::fs::read_dir(store.layers()), File::open(store.layers())) else { return };
    for entry in list.flatten().filter(|entry| entry.file_name().as_bytes().starts_with(BUILDING.as_bytes())) {
        let lock = |file: &File| rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive);
        if let Ok(file) = File::open(entry.path())
            && lock(&file).is_ok()
        {
            let _ = remove_tree(&parent, entry.file_name().as_bytes());
        }
    }
}
