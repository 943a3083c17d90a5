//! Rotated files made smaller, by a short-lived process beside the monitor:
//! `<id>-json.log.2` becomes `<id>-json.log.2.gz`.
//!
//! The monitor goes on rotating meanwhile. A file is known by what it is and
//! not by its number, and the names change under a lock that both hold for a
//! few system calls only.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use flate2::Compression;
use flate2::bufread::GzDecoder;
use rustix::fs::{FlockOperation, MemfdFlags, Mode, OFlags, flock};

use super::{compressed, path, rotated};

/// How much is compressed between two looks at whether the file is still wanted.
const BLOCK: usize = 256 << 10;
/// Above this a file is unpacked on disk and not in memory.
const IN_MEMORY: u64 = 64 << 20;

/// The lock that is held while names change.
pub fn lock(current: &Path) -> io::Result<File> {
    let mut name = current.as_os_str().to_owned();
    name.push(".lock");
    OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(PathBuf::from(name))
}

/// Takes the lock if it is to be had within a moment.
pub fn try_lock(current: &Path) -> Option<File> {
    let file = lock(current).ok()?;
    for pause in [0, 1, 4, 16] {
        std::thread::sleep(Duration::from_millis(pause));
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok() {
            return Some(file);
        }
    }
    None
}

/// Compresses the rotated files of container `id` in `dir`, those that stay longest first, until none is left.
///
/// # Errors
/// When a file cannot be read or written; nothing is lost then.
pub fn compress(dir: &Path, id: &str) -> io::Result<()> {
    let current = path(dir, id);
    while let Some(file) = first_plain(&current)? {
        one(&current, file)?;
    }
    Ok(())
}

/// The newest rotated file that is not compressed.
fn first_plain(current: &Path) -> io::Result<Option<File>> {
    let mut gap = false;
    for number in 1.. {
        match File::open(rotated(current, number)) {
            Ok(file) => return Ok(Some(file)),
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Err(_) => {}
        }
        let there = compressed(current, number).exists();
        if !there && gap {
            break;
        }
        gap = !there;
    }
    Ok(None)
}

fn one(current: &Path, mut source: File) -> io::Result<()> {
    let identity = identity(&source)?;
    let mut partial = current.as_os_str().to_owned();
    partial.push(".gz-partial");
    let partial = Partial(PathBuf::from(partial));
    let target = OpenOptions::new().create(true).truncate(true).write(true).mode(0o640).open(&partial.0)?;
    let comment = format!("{}:{}", identity.0, identity.1);
    let mut encoder = flate2::GzBuilder::new().comment(comment).write(target, Compression::fast());
    let mut block = vec![0; BLOCK];
    loop {
        let count = source.read(&mut block)?;
        if count == 0 {
            break;
        }
        encoder.write_all(block.get(..count).unwrap_or_default())?;
        if source.metadata()?.nlink() == 0 {
            // Rotated out meanwhile: a fast writer, few files.
            return Ok(());
        }
    }
    encoder.finish()?;
    // The monitor may be about to rotate: its turn must not depend on what this process's priority is.
    let _ = rustix::process::setpriority_process(None, 0);
    let lock = lock(current)?;
    flock(&lock, FlockOperation::LockExclusive)?;
    let done = replace(current, identity, &partial.0);
    drop(lock);
    let _ = rustix::process::setpriority_process(None, LOW_PRIORITY);
    done
}

/// What [`compress`] runs at.
pub const LOW_PRIORITY: i32 = 19;

fn replace(current: &Path, wanted: (u64, u64), with: &Path) -> io::Result<()> {
    for number in 1.. {
        let name = rotated(current, number);
        match File::open(&name).and_then(|file| identity(&file)) {
            Ok(found) if found == wanted => {
                std::fs::rename(with, compressed(current, number))?;
                return std::fs::remove_file(name);
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound && !compressed(current, number).exists() => break,
            _ => {}
        }
    }
    Ok(())
}

fn identity(file: &File) -> io::Result<(u64, u64)> {
    let meta = file.metadata()?;
    Ok((meta.dev(), meta.ino()))
}

struct Partial(PathBuf);

impl Drop for Partial {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// What a compressed file was before.
pub fn origin(file: &File) -> Option<(u64, u64)> {
    let decoder = GzDecoder::new(io::BufReader::new(file));
    let comment = decoder.header()?.comment()?;
    let (device, inode) = std::str::from_utf8(comment).ok()?.split_once(':')?;
    Some((device.parse().ok()?, inode.parse().ok()?))
}

/// The contents of a compressed file, in a file without a name.
pub fn unpack(file: &File, dir: &Path) -> io::Result<File> {
    use std::io::Seek as _;
    let mut source = io::BufReader::new(file);
    source.seek(io::SeekFrom::Start(0))?;
    let small = file.metadata()?.len() < IN_MEMORY / 20;
    let memory = || rustix::fs::memfd_create(c"log", MemfdFlags::CLOEXEC);
    let on_disk = || {
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        rustix::fs::open(dir, flags, Mode::RUSR | Mode::WUSR)
    };
    let target = if small { memory() } else { on_disk().or_else(|_| memory()) };
    let mut target = File::from(target?);
    io::copy(&mut GzDecoder::new(source), &mut target)?;
    Ok(target)
}
