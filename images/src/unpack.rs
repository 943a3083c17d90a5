//! Unpacks the tar stream of one layer into a directory, as the lower
//! directory of an overlay mount: whiteouts become what overlayfs expects.
//!
//! The stream is hostile. Every name is cleaned so that `..` and a leading `/`
//! stay inside the root, every directory is reached by file descriptor
//! (`openat2` with `RESOLVE_IN_ROOT`), and the last component is never
//! followed. Nothing is written through a path string.

mod apply;
mod clean;
mod entry;
mod error;
mod extract;
mod fields;
mod pax;
mod reader;
mod remove;
mod sparse;
mod tree;

use std::io::BufRead;
use std::os::fd::OwnedFd;

pub use entry::{Entry, Kind, Segment, Timestamp};
pub use error::{TarError, UnpackError};
pub use extract::{Extracted, Into, extract};
pub use reader::TarReader;
pub use remove::remove_tree;

pub(crate) use apply::is_allowed as is_allowed_xattr;
pub(crate) use clean::{clean, split};
pub(crate) use error::shown;

/// What a layer may ask for before it is refused.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Entries in the archive.
    pub entries: u64,
    /// Bytes of the uncompressed stream.
    pub bytes: u64,
    /// Uncompressed bytes for each compressed byte, beyond [`Limits::ratio_free`].
    pub ratio: u64,
    /// Uncompressed bytes that are never held against the ratio.
    pub ratio_free: u64,
    /// Extended attributes of one entry.
    pub xattrs: usize,
    /// Bytes of a name or of a link's target.
    pub path: usize,
    /// Bytes of one extended header: long names, PAX records.
    pub header: u64,
}

impl Default for Limits {
    /// Far above what real layers hold: gzip itself cannot exceed a ratio of 1032.
    fn default() -> Self {
        Self {
            entries: 2_000_000,
            bytes: 256 << 30,
            ratio: 500,
            ratio_free: 1 << 30,
            xattrs: 128,
            path: 4095,
            header: 1 << 20,
        }
    }
}

/// What an unpacked layer holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Unpacked {
    /// Entries that were read, whiteouts included.
    pub entries: u64,
    /// Bytes of file content that were written.
    pub bytes: u64,
}

/// A name as it is written in an archive, made into one inside the root: no `..`, no leading slash. `None` for the root
/// itself, and for what is no name or no text.
pub(crate) fn clean_name(name: &[u8], limits: &Limits) -> Option<String> {
    let name = clean(name, limits).ok()?;
    String::from_utf8(name).ok().filter(|name| !name.is_empty())
}

/// As [`clean_name`], of what is clean but for slashes.
pub(crate) fn clean_bytes(name: &[u8]) -> Vec<u8> {
    let parts: Vec<&[u8]> = name.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".").collect();
    parts.join(&b'/')
}

/// Unpacks the uncompressed tar `stream` into the directory `root`, which must
/// be empty and private to the caller until this returns.
///
/// The stream is read up to the end of the archive; whatever follows stays unread.
///
/// # Errors
/// When the stream is damaged, asks for something that is refused, or the file
/// system fails; `root` is then incomplete and has to be removed.
pub fn unpack<R: BufRead>(stream: R, root: OwnedFd, limits: &Limits) -> Result<Unpacked, UnpackError> {
    let mut reader = TarReader::new(stream, limits);
    let mut unpacker = apply::Unpacker::new(root, *limits)?;
    while let Some(entry) = reader.next_entry()? {
        unpacker.apply(&entry, &mut reader)?;
    }
    unpacker.finish()
}
