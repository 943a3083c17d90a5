//! Why the store could not do what was asked.

use std::io;
use std::path::{Path, PathBuf};

use umiak_base::lock::LockError;

use crate::config::ConfigError;
use crate::digest::{Digest, VerifyError};
use crate::manifest::ManifestError;
use crate::reference::ReferenceError;

/// Why the store could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The kernel refused an operation.
    #[error("{operation} {path}")]
    Io {
        /// What was tried, as a verb.
        operation: &'static str,
        /// The file.
        path: PathBuf,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// No room.
    #[error("no space to write {path}: {free} bytes are free")]
    Space {
        /// The file.
        path: PathBuf,
        /// Bytes that its file system has left.
        free: u64,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// A lock could not be taken.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The index does not parse.
    #[error("{path} is damaged")]
    Index {
        /// The file.
        path: PathBuf,
        /// Where it fails to parse.
        #[source]
        source: serde_json::Error,
    },
    /// The directory holds another format of store.
    #[error("{path} is not an OCI image layout of version 1.0.0")]
    Layout {
        /// The `oci-layout` file.
        path: PathBuf,
    },
    /// A blob that should be there is not.
    #[error("the blob {digest} is missing, pull the image again")]
    MissingBlob {
        /// Its digest.
        digest: Digest,
    },
    /// A blob has not the content that its name says.
    #[error("the blob {digest} is damaged, pull the image again")]
    DamagedBlob {
        /// Its digest.
        digest: Digest,
        /// In which way.
        #[source]
        source: VerifyError,
    },
    /// A layer of an image has not been unpacked or was removed.
    #[error("the layer {diff_id} is missing, pull the image again")]
    MissingLayer {
        /// Digest of its uncompressed content.
        diff_id: Digest,
    },
    /// A manifest that cannot be used.
    #[error("the manifest {digest} is not usable")]
    Manifest {
        /// Its digest.
        digest: Digest,
        /// In which way.
        #[source]
        source: ManifestError,
    },
    /// An image config that cannot be used.
    #[error("the image config {digest} is not usable")]
    Config {
        /// Its digest.
        digest: Digest,
        /// In which way.
        #[source]
        source: ConfigError,
    },
    /// No image by that name or id.
    #[error("no such image: {name}")]
    NotFound {
        /// What was asked for.
        name: String,
    },
    /// An id's beginning that several images share.
    #[error("\"{prefix}\" is ambiguous, it is the beginning of {}", .candidates.join(" and "))]
    Ambiguous {
        /// What was asked for.
        prefix: String,
        /// The ids that begin so.
        candidates: Vec<String>,
    },
    /// A name that is none.
    #[error("\"{name}\" is not an image name")]
    Name {
        /// What was given.
        name: String,
        /// In which way.
        #[source]
        source: ReferenceError,
    },
    /// A name with a digest, where only a tag can be set.
    #[error("\"{name}\" has a digest, a new name must have a tag alone")]
    TagDigest {
        /// What was given.
        name: String,
    },
    /// Containers use the image.
    #[error("the image {name} is used by {}", .users.join(", "))]
    InUse {
        /// The image.
        name: String,
        /// Who uses it.
        users: Vec<String>,
    },
    /// An id with several names, where only one can be meant.
    #[error("the image {id} has several names ({}), remove them one by one or use force", .names.join(", "))]
    SeveralNames {
        /// The image's short id.
        id: String,
        /// Its names.
        names: Vec<String>,
    },
}

impl StoreError {
    /// Whether the disk is full (or the quota, or the inodes).
    #[must_use]
    pub fn is_disk_full(&self) -> bool {
        matches!(self, Self::Space { .. })
    }

    /// The image has to be pulled again: part of it is missing or damaged.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        matches!(
            self,
            Self::MissingBlob { .. }
                | Self::DamagedBlob { .. }
                | Self::MissingLayer { .. }
                | Self::Manifest { .. }
                | Self::Config { .. }
        )
    }

    /// Names the file and, where the disk is full, how many bytes it has left.
    pub(crate) fn io(operation: &'static str, path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        if matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
            let parent = path.parent().unwrap_or(Path::new("/"));
            return Self::Space { free: free_bytes(parent), path, source };
        }
        Self::Io { operation, path, source }
    }
}

/// Bytes that the file system of `path` has left for us; 0 where it cannot be asked.
fn free_bytes(path: &Path) -> u64 {
    rustix::fs::statvfs(path).map_or(0, |fs| fs.f_bavail.saturating_mul(fs.f_frsize))
}
