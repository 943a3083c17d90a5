//! Extracts a tar stream into a directory that is in use: a container's, or
//! one of the host's. Directories are merged, other files replaced; nothing is
//! said of whiteouts. Both sides may be hostile: the stream, and a container
//! that changes the tree meanwhile.

use std::collections::BTreeMap;
use std::io::BufRead;
use std::os::fd::{AsRawFd as _, OwnedFd};

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, StatxAttributes, StatxFlags, Uid, XattrFlags};
use rustix::io::Errno;

use super::apply::{contents, open_directory, require_space, set_xattrs, system, times};
use super::clean::{clean, split};
use super::entry::{Entry, Kind, Segment};
use super::error::{UnpackError, shown};
use super::reader::TarReader;
use super::remove::remove_tree;
use super::{Limits, clean_bytes};

/// Where to, and as whose.
#[derive(Debug)]
pub struct Into<'a> {
    /// No name leads out of this directory.
    pub root: &'a OwnedFd,
    /// The directory below `root` that the archive's names begin in; empty for `root` itself.
    pub base: &'a [u8],
    /// Follow symlinks that are there on the way to a name (inside `root`); else they are an error.
    pub follow: bool,
    /// Give files the owners in the archive; else they are the caller's, and lose setuid, setgid and capabilities.
    pub keep_owner: bool,
    /// Give all files to this owner and group instead.
    pub owner: Option<(u32, u32)>,
    /// Make device nodes; else they are left out.
    pub devices: bool,
}

/// What was extracted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Extracted {
    /// Entries that were made.
    pub entries: u64,
    /// Bytes of content.
    pub bytes: u64,
    /// Devices that were left out.
    pub left_out: Vec<String>,
}

/// Extracts a whole archive.
///
/// # Errors
/// When the stream is damaged, would replace a directory by something else or the reverse, or the file system fails.
/// What was made until then stays.
pub fn extract<R: BufRead>(stream: R, into: &Into<'_>, limits: &Limits) -> Result<Extracted, UnpackError> {
    let mut reader = TarReader::new(stream, limits);
    let mut extraction = Extraction { into, limits, directories: BTreeMap::new(), done: Extracted::default() };
    while let Some(entry) = reader.next_entry()? {
        extraction.entry(entry, &mut reader)?;
    }
    extraction.finish()
}

struct Extraction<'a> {
    into: &'a Into<'a>,
    limits: &'a Limits,
    /// Times of directories, by name: set when nothing changes in them any more.
    directories: BTreeMap<Vec<u8>, super::Timestamp>,
    done: Extracted,
}

impl Extraction<'_> {
    fn entry<R: BufRead>(&mut self, mut entry: Entry, data: &mut TarReader<'_, R>) -> Result<(), UnpackError> {
        let path = clean(&entry.path, self.limits)?;
        if entry.xattrs.len() > self.limits.xattrs {
            let (count, limit) = (entry.xattrs.len(), self.limits.xattrs);
            return Err(UnpackError::Xattrs { path: shown(&path), count, limit });
        }
        if path.is_empty() {
            // As Docker: the directory itself stays as it is.
            return match entry.kind {
                Kind::Directory => Ok(()),
                _ => Err(UnpackError::Root { path: shown(&entry.path) }),
            };
        }
        if matches!(entry.kind, Kind::Char { .. } | Kind::Block { .. }) && !self.into.devices {
            self.done.left_out.push(shown(&path));
            return Ok(());
        }
        self.own(&mut entry);
        let (parent, name) = split(&path);
        let dir = self.parent(parent, true)?;
        let there = rustix::fs::statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW);
        let there = match there {
            Ok(stat) => Some(FileType::from_raw_mode(stat.st_mode) == FileType::Directory),
            Err(Errno::NOENT) => None,
            Err(error) => return Err(system("look at", &path, error)),
        };
        match (there, entry.kind == Kind::Directory) {
            (Some(true), false) => {
                return Err(overwrite(&path, "directory", "non-directory"));
            }
            (Some(false), true) => return Err(overwrite(&path, "non-directory", "directory")),
            (Some(false), false) => {
                busy(&dir, name).map_err(|error| system("remove", &path, error))?;
                remove_tree(&dir, name).map_err(|error| system("remove", &path, error))?;
            }
            (None, _) | (Some(true), true) => {}
        }
        self.done.entries += 1;
        self.make(&dir, &path, &entry, there.is_some(), data)
    }

    fn make<R: BufRead>(
        &mut self,
        dir: &OwnedFd,
        path: &[u8],
        entry: &Entry,
        merge: bool,
        data: &mut TarReader<'_, R>,
    ) -> Result<(), UnpackError> {
        let name = split(path).1;
        match &entry.kind {
            Kind::Directory => {
                if !merge {
                    rustix::fs::mkdirat(dir, name, Mode::from_raw_mode(0o700))
                        .map_err(|error| system("make the directory", path, error))?;
                }
                self.directories.insert(path.to_vec(), entry.mtime);
            }
            Kind::File { sparse } => return self.file(dir, path, entry, sparse.as_deref(), data),
            Kind::Symlink(target) => {
                if target.is_empty() || target.contains(&0) || target.len() > self.limits.path {
                    let reason = "its target is empty, too long or has a NUL byte";
                    return Err(UnpackError::Name { path: shown(path), reason });
                }
                rustix::fs::symlinkat(target.as_slice(), dir, name)
                    .map_err(|error| system("make the symbolic link", path, error))?;
            }
            Kind::Hardlink(target) => return self.hardlink(dir, path, target),
            Kind::Char { major, minor } => {
                self.node(dir, path, FileType::CharacterDevice, rustix::fs::makedev(*major, *minor))?;
            }
            Kind::Block { major, minor } => {
                self.node(dir, path, FileType::BlockDevice, rustix::fs::makedev(*major, *minor))?;
            }
            Kind::Fifo => self.node(dir, path, FileType::Fifo, 0)?,
        }
        self.describe(dir, path, entry)
    }

    fn node(&self, dir: &OwnedFd, path: &[u8], kind: FileType, device: u64) -> Result<(), UnpackError> {
        rustix::fs::mknodat(dir, split(path).1, kind, Mode::from_raw_mode(0o600), device)
            .map_err(|error| system("make the device", path, error))
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
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(dir, split(path).1, flags, Mode::from_raw_mode(0o600))
            .map_err(|error| system("create", path, error))?;
        self.done.bytes += contents(&fd, path, entry, sparse, data)?;
        // By the descriptor: the name may be another file's by now.
        if self.into.keep_owner {
            let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
            rustix::fs::fchown(&fd, Some(uid), Some(gid)).map_err(|error| system("set the owner of", path, error))?;
        }
        rustix::fs::fchmod(&fd, Mode::from_raw_mode(entry.mode))
            .map_err(|error| system("set the mode of", path, error))?;
        set_xattrs(path, &entry.xattrs, |name, value| rustix::fs::fsetxattr(&fd, name, value, XattrFlags::empty()))?;
        rustix::fs::futimens(&fd, &times(entry.mtime)).map_err(|error| system("set the time of", path, error))
    }

    /// The target is an earlier name of the same archive.
    fn hardlink(&self, dir: &OwnedFd, path: &[u8], target: &[u8]) -> Result<(), UnpackError> {
        let target = clean(target, self.limits)?;
        let (parent, name) = split(&target);
        let from = self.parent(parent, false)?;
        let missing = || UnpackError::Hardlink { path: shown(path), target: shown(&target) };
        let stat = rustix::fs::statat(&from, name, AtFlags::SYMLINK_NOFOLLOW).map_err(|_| missing())?;
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            return Err(missing());
        }
        rustix::fs::linkat(&from, name, dir, split(path).1, AtFlags::empty())
            .map_err(|error| system("make the hard link", path, error))
    }

    /// Owner, mode, attributes and time of what cannot be written to: reached by a descriptor of the very file.
    fn describe(&self, dir: &OwnedFd, path: &[u8], entry: &Entry) -> Result<(), UnpackError> {
        let name = split(path).1;
        let fd = rustix::fs::openat(dir, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
            .map_err(|error| system("open", path, error))?;
        if self.into.keep_owner {
            let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
            rustix::fs::chownat(&fd, "", Some(uid), Some(gid), AtFlags::EMPTY_PATH)
                .map_err(|error| system("set the owner of", path, error))?;
        }
        if matches!(entry.kind, Kind::Symlink(_)) {
            return rustix::fs::utimensat(dir, name, &times(entry.mtime), AtFlags::SYMLINK_NOFOLLOW)
                .map_err(|error| system("set the time of", path, error));
        }
        let link = format!("/proc/self/fd/{}", fd.as_raw_fd());
        rustix::fs::chmod(&*link, Mode::from_raw_mode(entry.mode))
            .map_err(|error| system("set the mode of", path, error))?;
        set_xattrs(path, &entry.xattrs, |name, value| rustix::fs::setxattr(&*link, name, value, XattrFlags::empty()))?;
        rustix::fs::utimensat(rustix::fs::CWD, &*link, &times(entry.mtime), AtFlags::empty())
            .map_err(|error| system("set the time of", path, error))
    }

    fn own(&self, entry: &mut Entry) {
        if let Some(owner) = self.into.owner {
            (entry.uid, entry.gid) = owner;
        }
        if !self.into.keep_owner {
            // Who made the program setuid is not who owns it now.
            entry.mode &= match entry.kind {
                Kind::Directory => 0o1777,
                _ => 0o777,
            };
            entry.xattrs.retain(|(name, _)| name != b"security.capability");
        }
    }

    /// The directory of a clean name; what is missing of it is made where `make` says so, mode 0755.
    fn parent(&self, name: &[u8], make: bool) -> Result<OwnedFd, UnpackError> {
        match self.open(name) {
            Err(Errno::NOENT) if make && !name.is_empty() => {}
            result => return result.map_err(|error| parent_error(name, error)),
        }
        let (above, last) = split(name);
        let dir = self.parent(above, true)?;
        let mode = Mode::from_raw_mode(0o755);
        match rustix::fs::mkdirat(&dir, last, mode) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(system("make the directory", name, error)),
        }
        let fd = open_directory(&dir, last).map_err(|error| parent_error(name, error))?;
        rustix::fs::fchmod(&fd, mode).map_err(|error| system("set the mode of", name, error))?;
        Ok(fd)
    }

    fn open(&self, name: &[u8]) -> Result<OwnedFd, Errno> {
        let full = clean_bytes(&[self.into.base, b"/", name].concat());
        let full = if full.is_empty() { b"." } else { full.as_slice() };
        let resolve = match self.into.follow {
            true => ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS,
            false => ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS,
        };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        // EAGAIN: a rename elsewhere raced with a `..` step.
        for _ in 0..128 {
            match rustix::fs::openat2(self.into.root, full, flags, Mode::empty(), resolve) {
                Err(Errno::AGAIN | Errno::INTR) => {}
                result => return result,
            }
        }
        Err(Errno::AGAIN)
    }

    fn finish(mut self) -> Result<Extracted, UnpackError> {
        for (path, mtime) in std::mem::take(&mut self.directories).into_iter().rev() {
            let (parent, name) = split(&path);
            // What is gone by now, or is something else, has no use for a time.
            let Ok(dir) = self.parent(parent, false) else { continue };
            let Ok(fd) = open_directory(&dir, name) else { continue };
            rustix::fs::futimens(&fd, &times(mtime)).map_err(|error| system("set the time of", &path, error))?;
        }
        Ok(self.done)
    }
}

/// What is mounted on stays: the kernel would let it be removed from another mount namespace, and the mount with it.
fn busy(dir: &OwnedFd, name: &[u8]) -> Result<(), Errno> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
    let found = rustix::fs::statx(dir, name, flags, StatxFlags::BASIC_STATS)?;
    // KERNEL(5.8): which mount roots are told apart; before, they are not.
    if found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT) { Err(Errno::BUSY) } else { Ok(()) }
}

fn overwrite(path: &[u8], there: &'static str, new: &'static str) -> UnpackError {
    UnpackError::Overwrite { path: shown(path), there, new }
}

fn parent_error(name: &[u8], error: Errno) -> UnpackError {
    match error {
        Errno::NOTDIR | Errno::LOOP => UnpackError::Parent { path: shown(name) },
        error => system("open", name, error),
    }
}
