//! Takes a directory in as an unpacked layer: cleaned of what no layer has,
//! its digest computed, renamed.

use std::cell::Cell;
use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Timespec, Timestamps};
use rustix::io::Errno;
use umiak_base::id::random_hex;

use super::walk::{Place, Stat, pack_prepared};
use super::{Building, PackError, TarWriter, named};
use crate::digest::{Digest, Hasher};
use crate::layer::LayerLock;
use crate::store::{LayerNote, Part, Store, StoreError, TRASH, counts, mark};
use crate::unpack::remove_tree;

/// What overlayfs says of an upper directory that is whole only together with those below it.
const BORROWED: [&[u8]; 2] = [b"trusted.overlay.redirect", b"trusted.overlay.metacopy"];
/// The one attribute of overlayfs that a layer has.
const OPAQUE: &[u8] = b"trusted.overlay.opaque";

/// A directory that became a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Adopted {
    /// Digest of the tar stream that the directory makes.
    pub diff_id: Digest,
    /// Entries in it; none for an empty layer.
    pub entries: u64,
    /// Bytes of its files, hard links once.
    pub bytes: u64,
}

impl Building<'_> {
    /// Takes a directory in the format of overlayfs's upper directories as an unpacked layer. It must be on the file
    /// system of the layers, and nobody may change it any more. Times after `epoch` (seconds since 1970) become
    /// `epoch`; attributes that overlayfs keeps for itself, and sockets, go. The directory's own mode and owner mean
    /// nothing to a layer and become those that every unpacked layer has.
    ///
    /// A layer of the same content that is there already stays, and the directory is removed.
    ///
    /// # Errors
    /// When the directory cannot be read, is no layer by itself, or cannot be renamed.
    pub fn adopt(&self, directory: &Path, epoch: Option<i64>) -> Result<Adopted, PackError> {
        let failed = |source| PackError::Adopt { directory: directory.to_owned(), source };
        let (adopted, top) = digest(directory, epoch).map_err(failed)?;
        // What overlayfs gave it, where it was one: the layers that are unpacked from archives have these.
        settle_top(&top, epoch).map_err(failed)?;
        drop(top);
        let store = self.store();
        let _lock = LayerLock::exclusive(store, &adopted.diff_id)?;
        if store.has_sound_layer(&adopted.diff_id) {
            remove(directory).map_err(failed)?;
        } else {
            place(store, directory, &adopted)?;
        }
        self.touch(Part { diff_id: adopted.diff_id.clone(), blob: None });
        Ok(adopted)
    }
}

/// Gives the directory its name, and before that its note and a mark that it is not on the disk.
fn place(store: &Store, directory: &Path, adopted: &Adopted) -> Result<(), PackError> {
    let Adopted { diff_id, entries, bytes } = adopted;
    let name = store.layer_path(diff_id);
    let mut trash = None;
    if !counts(&store.layer_mark(diff_id)) && name.exists() {
        let random = random_hex(6).map_err(|source| StoreError::io("rename", &name, source))?;
        let aside = store.layers().join(format!("{TRASH}{}-{random}", diff_id.hex()));
        std::fs::rename(&name, &aside).map_err(|source| StoreError::io("rename", &name, source))?;
        trash = Some(aside);
    }
    store.write_note(diff_id, &LayerNote { bytes: *bytes, entries: *entries, built: true, blobs: Vec::new() })?;
    let marked = store.layer_mark(diff_id);
    mark(&marked)?;
    if std::fs::symlink_metadata(&name).is_ok() {
        // A check has found it damaged.
        store.replace_layer(directory, diff_id)?;
    } else {
        std::fs::rename(directory, &name).map_err(|source| StoreError::io("rename", directory, source))?;
    }
    if let Some(aside) = trash {
        // Best effort: what stays goes with the next clean-up.
        let _ = remove(&aside);
    }
    Ok(())
}

/// Cleans the tree and computes its digest, in one walk.
fn digest(directory: &Path, epoch: Option<i64>) -> io::Result<(Adopted, OwnedFd)> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let top = rustix::fs::open(directory, flags, Mode::empty())?;
    clean_attributes(&top, b"/")?;
    let bytes = Cell::new(0_u64);
    let mut linked = HashSet::new();
    let mut prepare = |place: Place<'_>, stat: &mut Stat| -> io::Result<bool> {
        let shown = place.shown;
        let failed = |operation, error| named(operation, shown, error);
        if FileType::from_raw_mode(stat.st_mode) == FileType::Socket {
            rustix::fs::unlinkat(place.parent, place.name, AtFlags::empty()).map_err(|e| failed("remove", e))?;
            // The directory was written with the time that it had.
            rustix::fs::futimens(place.parent, &times(place.parent_time)).map_err(|e| failed("set the time of", e))?;
            return Ok(false);
        }
        clean_attributes(place.fd, shown)?;
        if let Some(epoch) = epoch.filter(|epoch| is_after(stat, *epoch)) {
            let time = Timespec { tv_sec: epoch, tv_nsec: 0 };
            rustix::fs::utimensat(place.parent, place.name, &times(time), AtFlags::SYMLINK_NOFOLLOW)
                .map_err(|error| failed("set the time of", error))?;
            (stat.st_mtime, stat.st_mtime_nsec) = (epoch, 0);
        }
        let regular = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
        if regular && (stat.st_nlink <= 1 || linked.insert((stat.st_dev, stat.st_ino))) {
            bytes.set(bytes.get() + u64::try_from(stat.st_size).unwrap_or(0));
        }
        Ok(true)
    };
    let mut tar = TarWriter::new(Hashing(Hasher::new()));
    pack_prepared(&mut tar, top.as_fd(), &mut prepare)?;
    let entries = tar.entries();
    let Hashing(hasher) = tar.finish()?;
    Ok((Adopted { diff_id: hasher.finish(), entries, bytes: bytes.get() }, top))
}

/// Mode, owner and time of a layer's root are not in its archive.
fn settle_top(top: &OwnedFd, epoch: Option<i64>) -> io::Result<()> {
    let stat = rustix::fs::fstat(top)?;
    if (stat.st_uid, stat.st_gid) != (0, 0) {
        rustix::fs::fchown(top, Some(rustix::fs::Uid::ROOT), Some(rustix::fs::Gid::ROOT))?;
    }
    if stat.st_mode & 0o7777 != 0o755 {
        rustix::fs::fchmod(top, Mode::from_raw_mode(0o755))?;
    }
    if let Some(epoch) = epoch.filter(|epoch| is_after(&stat, *epoch)) {
        rustix::fs::futimens(top, &times(Timespec { tv_sec: epoch, tv_nsec: 0 }))?;
    }
    Ok(())
}

fn is_after(stat: &Stat, epoch: i64) -> bool {
    stat.st_mtime > epoch || (stat.st_mtime == epoch && stat.st_mtime_nsec > 0)
}

/// A time of the last change; that of the last access stays.
fn times(time: Timespec) -> Timestamps {
    Timestamps { last_access: Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_OMIT }, last_modification: time }
}

/// Takes the attributes off that are the host's overlayfs's own, or that would be taken for such.
fn clean_attributes(place: &OwnedFd, shown: &[u8]) -> io::Result<()> {
    // The very file that was opened; a symlink itself is not followed further.
    let path = format!("/proc/self/fd/{}", place.as_raw_fd());
    let mut names = vec![0_u8; 1024];
    let length = loop {
        match rustix::fs::listxattr(&*path, &mut names) {
            Ok(length) => break length,
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::NODATA) => return Ok(()),
            Err(Errno::RANGE) if names.len() < 1 << 16 => names.resize(1 << 16, 0),
            Err(error) => return Err(named("list the attributes of", shown, error)),
        }
    };
    for name in names[..length].split(|byte| *byte == 0) {
        if BORROWED.contains(&name) {
            let text = format!("\"{}\" is in part in a lower layer", crate::unpack::shown(shown));
            return Err(io::Error::other(text));
        }
        if (name.starts_with(b"trusted.") && name != OPAQUE) || name.starts_with(b"user.overlay.") {
            match rustix::fs::removexattr(&*path, name) {
                Ok(()) | Err(Errno::NODATA | Errno::OPNOTSUPP) => {}
                Err(error) => return Err(named("take an attribute off", shown, error)),
            }
        }
    }
    Ok(())
}

fn remove(directory: &Path) -> io::Result<()> {
    let (Some(parent), Some(name)) = (directory.parent(), directory.file_name()) else { return Ok(()) };
    Ok(remove_tree(File::open(parent)?, std::os::unix::ffi::OsStrExt::as_bytes(name))?)
}

struct Hashing(Hasher);

impl Write for Hashing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
