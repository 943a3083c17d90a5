//! Writes tar streams: directory trees as they are, and the writable layers of
//! overlayfs as layers of an image; and takes such directories into the store.
//!
//! The trees belong to containers, which may change them meanwhile: whatever is
//! read is reached by file descriptor, never through a symlink, and opened only
//! once it is known to be a regular file.

mod adopt;
mod blob;
mod building;
mod compress;
mod image;
mod scratch;
mod walk;
mod writer;

use std::io;

pub use adopt::Adopted;
pub use building::Building;
pub use compress::{Compression, UnknownCompression};
pub use image::{NewImage, NewLayer, PackError};
pub use scratch::Scratch;
pub use walk::{Options, Skip, Stat, attributes, pack, pack_content};
pub use writer::TarWriter;

/// The time that a file is written with: whole seconds, as Docker's layers have them.
pub(crate) fn whole_seconds(seconds: i64) -> crate::unpack::Timestamp {
    crate::unpack::Timestamp { seconds, nanos: 0 }
}

/// An error that names the file.
pub(crate) fn named(operation: &str, path: &[u8], error: rustix::io::Errno) -> io::Error {
    let kind = io::Error::from(error).kind();
    io::Error::new(kind, format!("{operation} \"{}\": {}", crate::unpack::shown(path), io::Error::from(error)))
}
