//! The build cache: which layer a step of a build made, found again by the
//! step's key. The layers themselves are the store's.
//!
//! ```text
//! build/cache/<key hex>.json      what the step made
//! build/cache/<key hex>.alias     another key's digest: what is found there
//! build/cache/<key hex>.uses      a byte for each use; its time is that of the last
//! build/mounts/<sha256 of id>/    a cache mount (mounts.rs)
//! build/files/<sha256 of path>    digests of a context's files (files.rs)
//! ```
//!
//! Nothing here is synced: what a power cut takes or damages is built again. A
//! record counts only while its layer is there.

mod files;
mod mounts;
mod prune;
mod share;
mod usage;

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

pub use files::ContentCache;
pub use mounts::{CacheMount, Sharing};
pub use prune::{PruneCache, PrunedCache};
pub use share::{ShareError, Shared, Source};
pub use usage::{Row, Totals};

use crate::digest::Digest;
use crate::store::{Store, StoreError};

/// Aliases that are followed from one to the next.
const HOPS: usize = 4;

/// What a record is of; the names are those that Docker shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Kind {
    /// A step's layer.
    #[serde(rename = "regular")]
    Regular,
    /// A cache mount.
    #[serde(rename = "exec.cachemount")]
    CacheMount,
    /// What is known of a directory of the host.
    #[serde(rename = "source.local")]
    Local,
    /// What was fetched from a git repository.
    #[serde(rename = "source.git.checkout")]
    Git,
    /// What was downloaded.
    #[serde(rename = "source.http")]
    Http,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Regular => "regular",
            Self::CacheMount => "exec.cachemount",
            Self::Local => "source.local",
            Self::Git => "source.git.checkout",
            Self::Http => "source.http",
        })
    }
}

/// What a step made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// What the step's result depends on.
    pub key: Digest,
    /// Diff id of its layer; `None` where it made none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layer: Option<Digest>,
    /// When, RFC 3339.
    pub created: String,
    /// The step in words: `[2/5] RUN make`.
    pub description: String,
    /// What it is of.
    pub kind: Kind,
    /// Bytes that its layer's files have.
    pub size: u64,
    /// Keys of the steps that it came after.
    #[serde(default)]
    pub parents: Vec<Digest>,
    /// What else the builder wants to find again: the commit of a branch, the digest of a download.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub notes: BTreeMap<String, String>,
    /// When it was used last; set when it is read.
    #[serde(skip)]
    pub last_used: Option<SystemTime>,
    /// How often it was used since it was made; set when it is read.
    #[serde(skip)]
    pub uses: u64,
}

impl Record {
    /// A step's record, of [`Kind::Regular`].
    #[must_use]
    pub fn new(key: Digest, layer: Option<Digest>, created: String, size: u64, description: &str) -> Self {
        Self {
            key,
            layer,
            created,
            description: description.to_owned(),
            kind: Kind::Regular,
            size,
            parents: Vec::new(),
            notes: BTreeMap::new(),
            last_used: None,
            uses: 0,
        }
    }
}

/// The build cache of a store.
#[derive(Debug, Clone)]
pub struct Cache {
    store: Store,
    root: PathBuf,
    /// Where lookups go on.
    sources: Arc<[Source]>,
}

impl Store {
    /// The build cache that belongs to this store.
    #[must_use]
    pub fn cache(&self) -> Cache {
        Cache { store: self.clone(), root: self.root().join("build"), sources: Arc::new([]) }
    }
}

impl Cache {
    /// The record of a key, directly or by an alias; `None` where there is none, or its layer is gone. This is a use
    /// of it.
    #[must_use]
    pub fn lookup(&self, key: &Digest) -> Option<Record> {
        let there = |record: &Record| record.layer.as_ref().is_none_or(|layer| self.store.has_layer(layer));
        let record = self.peek(key).filter(there).or_else(|| self.elsewhere(key))?;
        // Best effort: not to know when it was used last is no reason to do the step again.
        let _ = add_use(&self.uses_path(&record.key));
        Some(record)
    }

    /// What a shared cache has; one that is damaged has nothing.
    fn elsewhere(&self, key: &Digest) -> Option<Record> {
        self.sources.iter().find_map(|source| match source.bring(self, key) {
            Ok(record) => record,
            Err(error) => {
                let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
                tracing::warn!("a shared build cache is not used: {error}: {cause}");
                None
            }
        })
    }

    /// As [`Self::lookup`], without a use, and whether its layer is there or not.
    #[must_use]
    pub fn peek(&self, key: &Digest) -> Option<Record> {
        let mut key = key.clone();
        for _ in 0..HOPS {
            if let Some(record) = self.read(&key) {
                return Some(record);
            }
            key = std::fs::read_to_string(self.alias_path(&key)).ok()?.trim().parse().ok()?;
        }
        None
    }

    /// Adds a record, in the place of one that has its key.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn put(&self, record: Record) -> Result<(), StoreError> {
        make(&self.records())?;
        let path = self.record_path(&record.key);
        umiak_base::state::write_volatile(&path, &record).map_err(|error| match error {
            umiak_base::state::StateError::Write { path, source } => StoreError::io("write", &path, source),
            error => StoreError::io("write", &path, io::Error::other(error)),
        })
    }

    /// What is found for `key` is what is found for `other`, as long as `key` has no record of its own.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn alias(&self, key: &Digest, other: &Digest) -> Result<(), StoreError> {
        make(&self.records())?;
        let path = self.alias_path(key);
        umiak_base::state::write_bytes_volatile(&path, format!("{other}\n").as_bytes(), 0o600)
            .map_err(|source| StoreError::io("write", &path, source))
    }

    /// Takes a record away; its layer is left to the next clean-up.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub fn forget(&self, key: &Digest) -> Result<(), StoreError> {
        for path in [self.record_path(key), self.alias_path(key), self.uses_path(key)] {
            match std::fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(StoreError::io("remove", &path, error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// All records, those without their layer too, in no order.
    ///
    /// # Errors
    /// When their directory cannot be read.
    pub fn records_all(&self) -> Result<Vec<Record>, StoreError> {
        let keys = names(&self.records())?.into_iter();
        let keys = keys.filter_map(|name| format!("sha256:{}", name.strip_suffix(".json")?).parse().ok());
        Ok(keys.filter_map(|key| self.read(&key)).collect())
    }

    /// The layers that records hold.
    pub(crate) fn layers(&self) -> Result<HashSet<Digest>, StoreError> {
        Ok(self.records_all()?.into_iter().filter_map(|record| record.layer).collect())
    }

    fn read(&self, key: &Digest) -> Option<Record> {
        let path = self.record_path(key);
        let mut record: Record = umiak_base::state::read(&path).ok()??;
        if record.key != *key {
            return None;
        }
        let (last, uses) = last_use(&self.uses_path(key), &path);
        (record.last_used, record.uses) = (last, uses);
        Some(record)
    }

    fn records(&self) -> PathBuf {
        self.root.join("cache")
    }

    fn record_path(&self, key: &Digest) -> PathBuf {
        self.records().join(format!("{}.json", key.hex()))
    }

    fn alias_path(&self, key: &Digest) -> PathBuf {
        self.records().join(format!("{}.alias", key.hex()))
    }

    fn uses_path(&self, key: &Digest) -> PathBuf {
        self.records().join(format!("{}.uses", key.hex()))
    }
}

/// Counts one more use.
fn add_use(path: &Path) -> io::Result<()> {
    let mut file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
    file.write_all(b".")
}

/// When something was used last, and how often; it was made with `made`.
fn last_use(uses: &Path, made: &Path) -> (Option<SystemTime>, u64) {
    let meta = std::fs::symlink_metadata(uses);
    let count = meta.as_ref().map_or(0, std::fs::Metadata::len);
    (meta.or_else(|_| std::fs::symlink_metadata(made)).and_then(|meta| meta.modified()).ok(), count)
}

/// Makes a directory that nobody else looks into.
fn make(path: &Path) -> Result<(), StoreError> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true).mode(0o700);
    builder.create(path).map_err(|source| StoreError::io("make", path, source))
}

/// The names in a directory that may not be there.
fn names(dir: &Path) -> Result<Vec<String>, StoreError> {
    let failed = |source| StoreError::io("list", dir, source);
    let list = match std::fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        result => result.map_err(failed)?,
    };
    let mut found = Vec::new();
    for entry in list {
        found.extend(entry.map_err(failed)?.file_name().into_string().ok());
    }
    Ok(found)
}

/// A lock on an open file or directory.
fn lock(file: &File, how: rustix::fs::FlockOperation) -> io::Result<bool> {
    loop {
        match rustix::fs::flock(file, how) {
            Ok(()) => return Ok(true),
            Err(rustix::io::Errno::INTR) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Ok(false),
            Err(error) => return Err(error.into()),
        }
    }
}
