//! Cache mounts: directories by id that outlive the build.
//!
//! ```text
//! build/mounts/<sha256 of id>[-<n>]/   locked by who uses it
//!   data/                              what the steps see
//!   info.json                          its id; written when it is ready for use
//!   uses                               a byte for each use
//! ```
//!
//! The id is any text and never part of a path (CVE-2024-9675).

use std::fs::File;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};

use super::{Cache, add_use, lock, make};
use crate::digest::Digest;
use crate::store::StoreError;
use crate::unpack::remove_tree;

/// Directories that one id may have, with [`Sharing::Private`].
const MOST: u32 = 1000;
/// How the names of mounts begin that are being removed.
pub(super) const REMOVED: &str = ".removed-";

/// Who may use a cache mount at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Sharing {
    /// Everybody.
    #[default]
    Shared,
    /// Everybody, each with a directory of his own.
    Private,
    /// One after the other.
    Locked,
}

/// What is noted of a cache mount.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct MountInfo {
    pub(super) id: String,
    pub(super) created: String,
}

/// A cache mount in use.
#[derive(Debug)]
pub struct CacheMount {
    dir: PathBuf,
    id: String,
    sharing: Sharing,
    held: File,
    fresh: bool,
}

impl Cache {
    /// Takes a cache mount into use, and makes it where it is not there. Waits while somebody has it who shares it
    /// with nobody.
    ///
    /// # Errors
    /// When it cannot be made or locked.
    pub fn mount(&self, id: &str, sharing: Sharing) -> Result<CacheMount, StoreError> {
        make(&self.mounts())?;
        let hex = Digest::of(id.as_bytes()).hex().to_owned();
        for number in 0..MOST {
            let name = if number == 0 { hex.clone() } else { format!("{hex}-{number}") };
            let dir = self.mounts().join(name);
            if let Some(mount) = take(&dir, id, sharing)? {
                // Best effort: it tells prune what is needed no more.
                let _ = add_use(&dir.join("uses"));
                return Ok(mount);
            }
        }
        Err(StoreError::io("lock", &self.mounts().join(hex), io::ErrorKind::WouldBlock.into()))
    }

    pub(super) fn mounts(&self) -> PathBuf {
        self.root.join("mounts")
    }
}

impl CacheMount {
    /// The directory that the steps see, mode 0755 and root's when it is new.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// Whether it was made just now, is empty, and nobody else can have it until [`Self::ready`]: the time to give it
    /// its owner, mode and first content. One whose first user never came so far is fresh again.
    #[must_use]
    pub const fn is_new(&self) -> bool {
        self.fresh
    }

    /// Says that a fresh mount is as it should be; `created` is the time, RFC 3339.
    ///
    /// # Errors
    /// When that cannot be written down.
    pub fn ready(&mut self, created: &str) -> Result<(), StoreError> {
        if !self.fresh {
            return Ok(());
        }
        let path = self.dir.join("info.json");
        let info = MountInfo { id: self.id.clone(), created: created.to_owned() };
        umiak_base::state::write_volatile(&path, &info)
            .map_err(|error| StoreError::io("write", &path, io::Error::other(error)))?;
        if self.sharing == Sharing::Shared {
            lock(&self.held, FlockOperation::LockShared).map_err(|source| StoreError::io("lock", &self.dir, source))?;
        }
        self.fresh = false;
        Ok(())
    }
}

/// Locks one directory; `None` where it is another's and `sharing` is private.
fn take(dir: &Path, id: &str, sharing: Sharing) -> Result<Option<CacheMount>, StoreError> {
    let failed = |source| StoreError::io("lock", dir, source);
    let how = match sharing {
        Sharing::Shared => FlockOperation::LockShared,
        Sharing::Private => FlockOperation::NonBlockingLockExclusive,
        Sharing::Locked => FlockOperation::LockExclusive,
    };
    loop {
        match make(dir) {
            // It was there, and a prune took it away before it was looked at.
            Err(StoreError::Io { source, .. })
                if source.kind() == io::ErrorKind::AlreadyExists
                    && std::fs::symlink_metadata(dir).map_or(true, |meta| meta.is_dir()) =>
            {
                continue;
            }
            result => result?,
        }
        let held = match File::open(dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            result => result.map_err(failed)?,
        };
        if !lock(&held, how).map_err(failed)? {
            return Ok(None);
        }
        let mount = |held, fresh| CacheMount { dir: dir.to_owned(), id: id.to_owned(), sharing, held, fresh };
        if is_at(&held, dir).map_err(failed)? && is_ready(dir) {
            return Ok(Some(mount(held, false)));
        }
        // To make it ready one must be alone. Another who is faster is waited for with the shared lock again.
        if sharing == Sharing::Shared && !lock(&held, FlockOperation::NonBlockingLockExclusive).map_err(failed)? {
            std::thread::yield_now();
            continue;
        }
        if is_at(&held, dir).map_err(failed)? && !is_ready(dir) {
            empty(dir, &held)?;
            return Ok(Some(mount(held, true)));
        }
    }
}

/// Whether a clean-up has not taken it away before it was locked.
fn is_at(held: &File, dir: &Path) -> io::Result<bool> {
    let ours = held.metadata()?;
    Ok(std::fs::symlink_metadata(dir).is_ok_and(|there| (there.dev(), there.ino()) == (ours.dev(), ours.ino())))
}

fn is_ready(dir: &Path) -> bool {
    dir.join("info.json").exists()
}

/// Begins with an empty directory, whatever a killed build has left.
fn empty(dir: &Path, held: &File) -> Result<(), StoreError> {
    let data = dir.join("data");
    remove_tree(held, b"data").map_err(|error| StoreError::io("remove", &data, error.into()))?;
    let made = std::fs::DirBuilder::new().mode(0o755).create(&data);
    // Whatever the umask is.
    made.and_then(|()| std::fs::set_permissions(&data, std::fs::Permissions::from_mode(0o755)))
        .map_err(|source| StoreError::io("make", &data, source))
}
