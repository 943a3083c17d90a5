//! State files: JSON with a format version, written to a temporary file,
//! synced, renamed, and the directory synced, so that after a crash or a power
//! cut either the old or the new content is there, never a part.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// The format version that this build writes and reads.
pub const VERSION: u32 = 1;

/// Why a state file could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The file could not be read.
    #[error("read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// The file is not what it should be: cut short, edited, or damaged.
    #[error("{path} is damaged or not a state file of umiak")]
    Parse {
        /// The file.
        path: PathBuf,
        /// Where it fails to parse.
        #[source]
        source: serde_json::Error,
    },
    /// The file was written by a newer umiak.
    #[error("{path} has format version {found}, this umiak knows {VERSION}")]
    Version {
        /// The file.
        path: PathBuf,
        /// The version in the file.
        found: u32,
    },
    /// The file could not be written.
    #[error("write {path}")]
    Write {
        /// The file.
        path: PathBuf,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
}

#[derive(Serialize, Deserialize)]
struct Versioned<T> {
    version: u32,
    #[serde(flatten)]
    value: T,
}

#[derive(Deserialize)]
struct VersionOnly {
    version: u32,
}

/// Reads a state file; `None` where there is none.
///
/// # Errors
/// When it cannot be read, does not parse, or is of a newer version.
pub fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, StateError> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(StateError::Read { path: path.to_owned(), source }),
    };
    let parse = |source| StateError::Parse { path: path.to_owned(), source };
    match serde_json::from_slice::<Versioned<T>>(&bytes) {
        Ok(file) if file.version <= VERSION => Ok(Some(file.value)),
        result => {
            let head: VersionOnly = serde_json::from_slice(&bytes).map_err(parse)?;
            if head.version > VERSION {
                return Err(StateError::Version { path: path.to_owned(), found: head.version });
            }
            result.map(|file| Some(file.value)).map_err(parse)
        }
    }
}

/// Writes a state file, mode 0600, durably and atomically.
///
/// # Errors
/// When any step fails; the old content is then still there.
pub fn write<T: Serialize>(path: &Path, value: &T) -> Result<(), StateError> {
    write_with(path, value, true)
}

/// As [`write`], but not synced to the disk: for files that mean nothing after a reboot.
///
/// # Errors
/// When any step fails; the old content is then still there.
pub fn write_volatile<T: Serialize>(path: &Path, value: &T) -> Result<(), StateError> {
    write_with(path, value, false)
}

fn write_with<T: Serialize>(path: &Path, value: &T, durable: bool) -> Result<(), StateError> {
    let mut bytes = serde_json::to_vec_pretty(&Versioned { version: VERSION, value })
        .map_err(|source| StateError::Write { path: path.to_owned(), source: source.into() })?;
    bytes.push(b'\n');
    let write = |source| StateError::Write { path: path.to_owned(), source };
    if durable { write_bytes(path, &bytes, 0o600) } else { replace(path, &bytes, 0o600, false) }.map_err(write)
}

/// Writes any file durably and atomically with `mode`.
///
/// # Errors
/// The first failing step's; the old content is then still there.
pub fn write_bytes(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    replace(path, bytes, mode, true)
}

/// As [`write_bytes`], but not synced to the disk: after a crash the old content, the new, or neither may be there.
///
/// # Errors
/// As [`write_bytes`].
pub fn write_bytes_volatile(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    replace(path, bytes, mode, false)
}

/// Files up to this size are written in place when there is room for nothing new: they lie in one block.
const IN_PLACE: usize = 4096;

/// Whether an error says that there is no room: no bytes, no inodes, or no quota.
#[must_use]
pub fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

fn replace(path: &Path, bytes: &[u8], mode: u32, durable: bool) -> io::Result<()> {
    match replace_whole(path, bytes, mode, durable) {
        // What makes room must not need any: `stop` and `rm` write a few bytes.
        Err(error) if is_full(&error) && bytes.len() <= IN_PLACE => {
            write_in_place(path, bytes, durable).map_err(|_| error)
        }
        result => result,
    }
}

/// Writes over a file that has a block already, in one call.
fn write_in_place(path: &Path, bytes: &[u8], durable: bool) -> io::Result<()> {
    use std::os::unix::fs::{FileExt as _, MetadataExt as _};
    let file = OpenOptions::new().write(true).open(path)?;
    let meta = file.metadata()?;
    if !meta.is_file() || meta.blocks() * 512 < bytes.len() as u64 {
        return Err(io::ErrorKind::StorageFull.into());
    }
    // The longer of both first: what is read between the two calls may have the old one's end, which does not parse,
    // but never half a file.
    file.write_all_at(bytes, 0)?;
    file.set_len(bytes.len() as u64)?;
    if durable { file.sync_all() } else { Ok(()) }
}

fn replace_whole(path: &Path, bytes: &[u8], mode: u32, durable: bool) -> io::Result<()> {
    let temporary = temporary_name(path)?;
    let result = (|| {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary)?;
        file.write_all(bytes)?;
        if durable {
            file.sync_all()?;
        }
        std::fs::rename(&temporary, path)?;
        if durable { sync_dir(path.parent().unwrap_or(Path::new("."))) } else { Ok(()) }
    })();
    if result.is_err() {
        let _ = std::fs::remove_file(&temporary);
    }
    result
}

/// Makes the names in a directory durable (fsync of the directory itself).
///
/// # Errors
/// The kernel's.
pub fn sync_dir(path: &Path) -> io::Result<()> {
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    File::open(path)?.sync_all()
}

/// `.NAME.RANDOM.tmp` beside the file: readers of the directory skip dot files.
fn temporary_name(path: &Path) -> io::Result<PathBuf> {
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(format!(".{}.tmp", crate::id::random_hex(6)?));
    Ok(path.with_file_name(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Thing {
        name: String,
    }

    #[test]
    fn what_is_written_is_read_and_nothing_else_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("thing.json");
        assert_eq!(read::<Thing>(&path).unwrap(), None);
        let thing = Thing { name: "a".into() };
        write(&path, &thing).unwrap();
        write(&path, &thing).unwrap();
        assert_eq!(read(&path).unwrap(), Some(thing));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn damage_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("thing.json");
        std::fs::write(&path, b"{\"version\":1,\"na").unwrap();
        assert!(read::<Thing>(&path).unwrap_err().to_string().contains("thing.json is damaged"));
        std::fs::write(&path, b"{\"version\":99,\"other\":1}").unwrap();
        assert!(read::<Thing>(&path).unwrap_err().to_string().contains("format version 99"));
    }
}
