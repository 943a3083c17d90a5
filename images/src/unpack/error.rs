//! Why an archive was refused or could not be unpacked.

use std::io;

/// Why a tar stream could not be read.
#[derive(Debug, thiserror::Error)]
pub enum TarError {
    /// The stream itself failed.
    #[error("read the archive")]
    Read(#[source] io::Error),
    /// The stream ends within an entry.
    #[error("the archive is cut short after {offset} bytes")]
    Truncated {
        /// Bytes that were read.
        offset: u64,
    },
    /// A header's checksum does not match.
    #[error("damaged header at byte {offset} of the archive")]
    Header {
        /// Where the header begins.
        offset: u64,
    },
    /// A number in a header does not parse or does not fit.
    #[error("bad {field} of \"{path}\"")]
    Number {
        /// The field's name.
        field: &'static str,
        /// The entry.
        path: String,
    },
    /// PAX records that do not parse.
    #[error("damaged extended header at byte {offset} of the archive")]
    Pax {
        /// Where the extended header begins.
        offset: u64,
    },
    /// A sparse map that does not add up.
    #[error("bad sparse map of \"{path}\"")]
    Sparse {
        /// The entry.
        path: String,
    },
    /// An extended header larger than the limit.
    #[error("extended header of {size} bytes, at most {limit} are read")]
    HeaderSize {
        /// What the archive announces.
        size: u64,
        /// What is read.
        limit: u64,
    },
    /// A type of entry that is unknown.
    #[error("\"{path}\" has the unknown type '{kind}'")]
    Kind {
        /// The entry.
        path: String,
        /// The type flag, printable.
        kind: String,
    },
    /// Too many entries.
    #[error("more than {limit} entries in the archive")]
    Entries {
        /// The limit.
        limit: u64,
    },
}

/// Why a layer could not be unpacked.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// The archive could not be read.
    #[error(transparent)]
    Tar(#[from] TarError),
    /// The kernel refused an operation.
    #[error("{operation} \"{path}\"")]
    System {
        /// What was tried, as a verb.
        operation: &'static str,
        /// The name in the layer.
        path: String,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// No room for the content.
    #[error("no space for \"{path}\": {free} bytes are free")]
    Space {
        /// The name in the layer.
        path: String,
        /// Bytes that the file system has left.
        free: u64,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// A name or target that no file can have.
    #[error("bad name \"{path}\": {reason}")]
    Name {
        /// The name in the layer.
        path: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// An entry other than a directory takes the place of the root.
    #[error("\"{path}\" would replace the root directory")]
    Root {
        /// The name in the layer.
        path: String,
    },
    /// A whiteout of nothing, of `.` or of `..`.
    #[error("\"{path}\" is not a valid whiteout")]
    Whiteout {
        /// The name in the layer.
        path: String,
    },
    /// A parent of the entry is there and is not a directory.
    #[error("a parent of \"{path}\" is not a directory")]
    Parent {
        /// The name in the layer.
        path: String,
    },
    /// Symlinks that lead nowhere but to each other.
    #[error("too many symbolic links on the way to \"{path}\"")]
    Loop {
        /// The name in the layer.
        path: String,
    },
    /// A hard link to something that the layer does not hold.
    #[error("\"{path}\" is a hard link to \"{target}\", which the layer does not hold")]
    Hardlink {
        /// The name in the layer.
        path: String,
        /// The target in the layer.
        target: String,
    },
    /// A directory would be replaced by something else, or the reverse.
    #[error("cannot overwrite {there} \"{path}\" with {new}")]
    Overwrite {
        /// The name in the archive.
        path: String,
        /// What is there.
        there: &'static str,
        /// What was to take its place.
        new: &'static str,
    },
    /// Too many extended attributes.
    #[error("\"{path}\" has {count} extended attributes, at most {limit} are taken")]
    Xattrs {
        /// The name in the layer.
        path: String,
        /// How many it has.
        count: usize,
        /// How many are taken.
        limit: usize,
    },
}

impl UnpackError {
    /// Whether the disk is full (or the quota, or the inodes).
    #[must_use]
    pub fn is_disk_full(&self) -> bool {
        match self {
            Self::Space { .. } => true,
            Self::System { source, .. } => {
                matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
            }
            _ => false,
        }
    }
}

/// A name for a message: one line, printable, bounded.
pub(crate) fn shown(name: &[u8]) -> String {
    const LONGEST: usize = 256;
    let (name, more) = match name.get(..LONGEST) {
        Some(head) if name.len() > LONGEST => (head, "…"),
        _ => (name, ""),
    };
    format!("{}{more}", String::from_utf8_lossy(name).escape_debug())
}
