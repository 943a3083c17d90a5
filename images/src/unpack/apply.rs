//! Makes one entry after the other below the root of the layer.

use std::collections::BTreeMap;
use std::io::BufRead;
use std::ops::Bound;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Dev, FileType, Gid, Mode, OFlags, SeekFrom, Stat, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;

use super::clean::{clean, split};
use super::entry::{Entry, Kind, Segment, Timestamp};
use super::error::{UnpackError, shown};
use super::reader::TarReader;
use super::remove::remove_tree;
use super::tree::Tree;
use super::{Limits, Unpacked};

/// Marks the removal of a lower layer's file.
const WHITEOUT: &[u8] = b".wh.";
/// What follows [`WHITEOUT`] to hide all that lower layers have in the directory.
const OPAQUE: &[u8] = b".wh..opq";
/// What follows [`WHITEOUT`] in the names that AUFS keeps for itself.
const AUFS: &[u8] = b".wh.";
/// Files from this size on are refused when the disk has less room left.
const LARGE: u64 = 1 << 20;

/// What a directory gets when all is in it: its time would not last otherwise.
struct DirectoryMeta {
    mode: u32,
    uid: u32,
    gid: u32,
    mtime: Timestamp,
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// A layer being unpacked.
pub(super) struct Unpacker {
    tree: Tree,
    limits: Limits,
    /// By clean name.
    directories: BTreeMap<Vec<u8>, DirectoryMeta>,
    /// The mode bits that the kernel takes from what is created (the umask).
    masked: u32,
    /// Owner and group that what is created has.
    owner: (u32, u32),
    done: Unpacked,
}

impl Unpacker {
    pub(super) fn new(root: OwnedFd, limits: Limits) -> Result<Self, UnpackError> {
        // How a new file comes out here, so that calls that would change nothing are saved.
        let probe = || {
            let name = ".probe";
            rustix::fs::mkdirat(&root, name, Mode::from_raw_mode(0o777))?;
            let made = rustix::fs::statat(&root, name, AtFlags::SYMLINK_NOFOLLOW)?;
            rustix::fs::unlinkat(&root, name, AtFlags::REMOVEDIR)?;
            Ok(made)
        };
        let made: Stat = probe().map_err(|error: Errno| system("write to", b"/", error))?;
        Ok(Self {
            tree: Tree::new(root),
            limits,
            directories: BTreeMap::new(),
            masked: !made.st_mode & 0o777,
            owner: (made.st_uid, made.st_gid),
            done: Unpacked::default(),
        })
    }

    pub(super) fn apply<R: BufRead>(&mut self, entry: &Entry, data: &mut TarReader<'_, R>) -> Result<(), UnpackError> {
        self.done.entries += 1;
        let path = clean(&entry.path, &self.limits)?;
        if entry.xattrs.len() > self.limits.xattrs {
            let (count, limit) = (entry.xattrs.len(), self.limits.xattrs);
            return Err(UnpackError::Xattrs { path: shown(&path), count, limit });
        }
        if path.is_empty() {
            if entry.kind != Kind::Directory {
                return Err(UnpackError::Root { path: shown(&entry.path) });
            }
            self.directories.insert(path, DirectoryMeta::of(entry));
            return Ok(());
        }
        let (parent, name) = split(&path);
        if let Some(hidden) = name.strip_prefix(WHITEOUT) {
            return self.whiteout(&path, parent, hidden);
        }
        let dir = self.tree.make(parent)?;
        match &entry.kind {
            Kind::File { sparse } => self.file(&dir, &path, entry, sparse.as_deref(), data),
            Kind::Directory => self.directory(&dir, &path, entry),
            Kind::Symlink(target) => self.symlink(&dir, &path, entry, target),
            Kind::Hardlink(target) => self.hardlink(&dir, &path, target),
            Kind::Char { major, minor } => {
                self.node(&dir, &path, entry, FileType::CharacterDevice, rustix::fs::makedev(*major, *minor))
            }
            Kind::Block { major, minor } => {
                self.node(&dir, &path, entry, FileType::BlockDevice, rustix::fs::makedev(*major, *minor))
            }
            Kind::Fifo => self.node(&dir, &path, entry, FileType::Fifo, 0),
        }
    }

    /// Gives the directories what they were announced with, now that nothing changes in them any more.
    pub(super) fn finish(mut self) -> Result<Unpacked, UnpackError> {
        for (path, meta) in std::mem::take(&mut self.directories).into_iter().rev() {
            let (parent, name) = split(&path);
            let name = if name.is_empty() { b"." } else { name };
            // What a later entry replaced under another name is gone.
            let dir = match self.tree.find(parent) {
                Ok(Some(dir)) => dir,
                Ok(None) | Err(UnpackError::Parent { .. } | UnpackError::Loop { .. }) => continue,
                Err(error) => return Err(error),
            };
            let fd = match open_directory(&dir, name) {
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => continue,
                result => result.map_err(|error| system("open", &path, error))?,
            };
            self.describe(fd.as_fd(), &path, (meta.uid, meta.gid), None, meta.mode, &meta.xattrs)?;
            rustix::fs::futimens(&fd, &times(meta.mtime)).map_err(|error| system("set the time of", &path, error))?;
        }
        Ok(self.done)
    }

    fn file<R: BufRead>(
        &mut self,
        dir: &OwnedFd,
        path: &[u8],
        entry: &Entry,
        sparse: Option<&[Segment]>,
        data: &mut TarReader<'_, R>,
    ) -> Result<(), UnpackError> {
        require_space(dir, path, data.stored())?;
        let plain = entry.mode & 0o777;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let name = split(path).1;
        let fd =
            self.place(dir, path, "create", || rustix::fs::openat(dir, name, flags, Mode::from_raw_mode(plain)))?;
        self.done.bytes += contents(&fd, path, entry, sparse, data)?;
        let fresh = Some(plain & !self.masked);
        self.describe(fd.as_fd(), path, (entry.uid, entry.gid), fresh, entry.mode, &entry.xattrs)?;
        rustix::fs::futimens(&fd, &times(entry.mtime)).map_err(|error| system("set the time of", path, error))
    }

    fn directory(&mut self, dir: &OwnedFd, path: &[u8], entry: &Entry) -> Result<(), UnpackError> {
        let name = split(path).1;
        let make = || rustix::fs::mkdirat(dir, name, Mode::from_raw_mode(0o700));
        match make() {
            Ok(()) => {}
            Err(Errno::EXIST) => {
                let there = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)
                    .map_err(|error| system("look at", path, error))?;
                if FileType::from_raw_mode(there.st_mode) != FileType::Directory {
                    let hidden = is_whiteout(&there);
                    self.clear(dir, path)?;
                    make().map_err(|error| system("make the directory", path, error))?;
                    // The layer removes what was below and puts a new directory there.
                    if hidden {
                        self.set_opaque(dir, name, path)?;
                    }
                }
            }
            Err(error) => return Err(system("make the directory", path, error)),
        }
        self.directories.insert(path.to_vec(), DirectoryMeta::of(entry));
        Ok(())
    }

    fn symlink(&mut self, dir: &OwnedFd, path: &[u8], entry: &Entry, target: &[u8]) -> Result<(), UnpackError> {
        if target.is_empty() || target.contains(&0) || target.len() > self.limits.path {
            return Err(UnpackError::Name {
                path: shown(path),
                reason: "its target is empty, too long or has a NUL byte",
            });
        }
        let name = split(path).1;
        self.place(dir, path, "make the symbolic link", || rustix::fs::symlinkat(target, dir, name))?;
        self.describe_at(dir, path, entry, None)
    }

    fn node(
        &mut self,
        dir: &OwnedFd,
        path: &[u8],
        entry: &Entry,
        kind: FileType,
        device: Dev,
    ) -> Result<(), UnpackError> {
        let name = split(path).1;
        let mode = Mode::from_raw_mode(entry.mode & 0o777);
        self.place(dir, path, "make the device", || rustix::fs::mknodat(dir, name, kind, mode, device))?;
        self.describe_at(dir, path, entry, Some(entry.mode))
    }

    /// The target is looked for in this layer only: what it would be in others is not known here.
    fn hardlink(&mut self, dir: &OwnedFd, path: &[u8], target: &[u8]) -> Result<(), UnpackError> {
        let target = clean(target, &self.limits)?;
        let missing = || UnpackError::Hardlink { path: shown(path), target: shown(&target) };
        let (target_parent, target_name) = split(&target);
        let Some(from) = self.tree.find(target_parent)? else { return Err(missing()) };
        let look = |dir: &OwnedFd, name: &[u8]| rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW);
        let there = match look(&from, target_name) {
            Ok(there) if is_whiteout(&there) => return Err(missing()),
            Ok(there) => there,
            Err(Errno::NOENT) => return Err(missing()),
            Err(error) => return Err(system("look at", &target, error)),
        };
        let name = split(path).1;
        // A link to itself must not remove the file first.
        if look(dir, name).is_ok_and(|here| (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino)) {
            return Ok(());
        }
        self.place(dir, path, "make the hard link", || {
            rustix::fs::linkat(&*from, target_name, dir, name, AtFlags::empty())
        })
    }

    fn whiteout(&mut self, path: &[u8], parent: &[u8], hidden: &[u8]) -> Result<(), UnpackError> {
        if hidden == OPAQUE {
            let dir = self.tree.make(parent)?;
            return self.set_opaque(&dir, b".", path);
        }
        if hidden.starts_with(AUFS) {
            return Ok(());
        }
        if matches!(hidden, b"" | b"." | b"..") {
            return Err(UnpackError::Whiteout { path: shown(path) });
        }
        let dir = self.tree.make(parent)?;
        let none = Mode::empty();
        match rustix::fs::mknodat(&*dir, hidden, FileType::CharacterDevice, none, rustix::fs::makedev(0, 0)) {
            Ok(()) => Ok(()),
            // A whiteout speaks of lower layers alone: a directory of this layer then hides theirs, a file does anyway.
            Err(Errno::EXIST) => {
                let there = rustix::fs::statat(&*dir, hidden, AtFlags::SYMLINK_NOFOLLOW)
                    .map_err(|error| system("look at", path, error))?;
                match FileType::from_raw_mode(there.st_mode) {
                    FileType::Directory => self.set_opaque(&dir, hidden, path),
                    _ => Ok(()),
                }
            }
            Err(error) => Err(system("make the whiteout", path, error)),
        }
    }

    fn set_opaque(&self, dir: &OwnedFd, name: &[u8], path: &[u8]) -> Result<(), UnpackError> {
        open_directory(dir, name)
            .and_then(|fd| rustix::fs::fsetxattr(fd, "trusted.overlay.opaque", b"y", XattrFlags::empty()))
            .map_err(|error| system("make opaque", path, error))
    }

    /// Runs `make`; where the name is taken, removes what has it and runs it again.
    fn place<T>(
        &mut self,
        dir: &OwnedFd,
        path: &[u8],
        operation: &'static str,
        make: impl Fn() -> Result<T, Errno>,
    ) -> Result<T, UnpackError> {
        let failed = |error| match error {
            Errno::NOSPC | Errno::DQUOT => written(dir, path, error),
            error => system(operation, path, error),
        };
        match make() {
            Err(Errno::EXIST) => {
                self.clear(dir, path)?;
                make().map_err(failed)
            }
            result => result.map_err(failed),
        }
    }

    /// Removes what has the name, with all that is in it.
    fn clear(&mut self, dir: &OwnedFd, path: &[u8]) -> Result<(), UnpackError> {
        remove_tree(dir, split(path).1).map_err(|error| system("replace", path, error))?;
        self.tree.forget();
        let below = [path, b"/"].concat();
        let end = [path, b"0"].concat();
        self.directories.remove(path);
        let gone: Vec<Vec<u8>> = self
            .directories
            .range((Bound::Included(below), Bound::Excluded(end)))
            .map(|(name, _)| name.clone())
            .collect();
        for name in gone {
            self.directories.remove(&name);
        }
        Ok(())
    }

    /// Owner, mode and attributes of an open file; `fresh` is the mode that it was created with, where that is known.
    fn describe(
        &self,
        fd: BorrowedFd<'_>,
        path: &[u8],
        owner: (u32, u32),
        fresh: Option<u32>,
        mode: u32,
        xattrs: &[(Vec<u8>, Vec<u8>)],
    ) -> Result<(), UnpackError> {
        if owner != self.owner {
            let (uid, gid) = (Uid::from_raw(owner.0), Gid::from_raw(owner.1));
            rustix::fs::fchown(fd, Some(uid), Some(gid)).map_err(|error| system("set the owner of", path, error))?;
        }
        // After the owner: a change of owner takes setuid and setgid away.
        if fresh != Some(mode) {
            rustix::fs::fchmod(fd, Mode::from_raw_mode(mode))
                .map_err(|error| system("set the mode of", path, error))?;
        }
        // After the owner too: it takes security.capability away.
        set_xattrs(path, xattrs, |name, value| rustix::fs::fsetxattr(fd, name, value, XattrFlags::empty()))
    }

    /// As [`Self::describe`], for what cannot be opened: symlinks, devices and pipes.
    fn describe_at(&self, dir: &OwnedFd, path: &[u8], entry: &Entry, mode: Option<u32>) -> Result<(), UnpackError> {
        let name = split(path).1;
        if (entry.uid, entry.gid) != self.owner {
            let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
            rustix::fs::chownat(dir, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
                .map_err(|error| system("set the owner of", path, error))?;
        }
        if mode.is_some_and(|mode| mode & 0o777 & !self.masked != mode) || !entry.xattrs.is_empty() {
            let fd = rustix::fs::openat(dir, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
                .map_err(|error| system("open", path, error))?;
            // The magic link leads to the very file that was opened; a symlink itself is not followed further.
            let link = format!("/proc/self/fd/{}", fd.as_raw_fd());
            if let Some(mode) = mode {
                rustix::fs::chmod(&*link, Mode::from_raw_mode(mode))
                    .map_err(|error| system("set the mode of", path, error))?;
            }
            set_xattrs(path, &entry.xattrs, |name, value| {
                rustix::fs::setxattr(&*link, name, value, XattrFlags::empty())
            })?;
        }
        rustix::fs::utimensat(dir, name, &times(entry.mtime), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|error| system("set the time of", path, error))
    }
}

impl DirectoryMeta {
    fn of(entry: &Entry) -> Self {
        let Entry { mode, uid, gid, mtime, .. } = *entry;
        Self { mode, uid, gid, mtime, xattrs: entry.xattrs.clone() }
    }
}

/// Whether an image may set this attribute. `trusted.*` belongs to the host's overlayfs, `user.overlay.*` to overlayfs
/// in user namespaces (an image could fake whiteouts and redirects), and other labels of `security.*` to the host's policy.
pub(crate) fn is_allowed(name: &[u8]) -> bool {
    name == b"security.capability"
        || name == b"system.posix_acl_access"
        || name == b"system.posix_acl_default"
        || (name.starts_with(b"user.") && !name.starts_with(b"user.overlay."))
}

pub(super) fn set_xattrs(
    path: &[u8],
    xattrs: &[(Vec<u8>, Vec<u8>)],
    set: impl Fn(&[u8], &[u8]) -> Result<(), Errno>,
) -> Result<(), UnpackError> {
    for (name, value) in xattrs.iter().filter(|(name, _)| is_allowed(name) && !name.contains(&0)) {
        match set(name, value) {
            // As Docker: file systems and kinds of files that have no such attributes go without.
            Ok(()) | Err(Errno::OPNOTSUPP) => {}
            Err(Errno::PERM) if name.starts_with(b"user.") => {}
            Err(error) => return Err(system("set an extended attribute of", path, error)),
        }
    }
    Ok(())
}

pub(super) fn open_directory(dir: &OwnedFd, name: &[u8]) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(dir, name, flags, Mode::empty())
}

fn is_whiteout(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}

/// Writes a file's contents, with its holes; how many bytes the archive has of them.
pub(super) fn contents<R: BufRead>(
    fd: &OwnedFd,
    path: &[u8],
    entry: &Entry,
    sparse: Option<&[Segment]>,
    data: &mut TarReader<'_, R>,
) -> Result<u64, UnpackError> {
    let stored = data.stored();
    let failed = |error: Errno| written(fd, path, error);
    match sparse {
        None => data.copy(stored, |bytes| write_all(fd, bytes).map_err(failed))?,
        Some(segments) => {
            for segment in segments {
                rustix::fs::seek(fd, SeekFrom::Start(segment.offset)).map_err(failed)?;
                data.copy(segment.length, |bytes| write_all(fd, bytes).map_err(failed))?;
            }
            rustix::fs::ftruncate(fd, entry.size).map_err(failed)?;
        }
    }
    Ok(stored)
}

fn write_all(fd: &OwnedFd, mut bytes: &[u8]) -> Result<(), Errno> {
    while !bytes.is_empty() {
        match rustix::io::write(fd, bytes) {
            Ok(0) => return Err(Errno::IO),
            Ok(count) => bytes = &bytes[count..],
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

pub(super) fn times(mtime: Timestamp) -> Timestamps {
    let time = rustix::fs::Timespec { tv_sec: mtime.seconds, tv_nsec: mtime.nanos.into() };
    Timestamps { last_access: time, last_modification: time }
}

/// Refuses a large file before the disk is filled with the head of it.
pub(super) fn require_space(dir: &OwnedFd, path: &[u8], needed: u64) -> Result<(), UnpackError> {
    if needed < LARGE {
        return Ok(());
    }
    let free = free_bytes(dir);
    if free < needed {
        return Err(UnpackError::Space { path: shown(path), free, source: Errno::NOSPC.into() });
    }
    Ok(())
}

fn free_bytes(fd: &impl AsFd) -> u64 {
    rustix::fs::fstatvfs(fd).map_or(u64::MAX, |fs| fs.f_bavail.saturating_mul(fs.f_frsize))
}

fn written(fd: &OwnedFd, path: &[u8], error: Errno) -> UnpackError {
    match error {
        Errno::NOSPC | Errno::DQUOT => {
            UnpackError::Space { path: shown(path), free: free_bytes(fd), source: error.into() }
        }
        error => system("write", path, error),
    }
}

pub(super) fn system(operation: &'static str, path: &[u8], error: Errno) -> UnpackError {
    UnpackError::System { operation, path: shown(path), source: error.into() }
}
