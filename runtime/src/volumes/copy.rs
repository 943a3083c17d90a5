//! An image's content into an empty volume, as Docker does on first use. The
//! image is not trusted: its tree is walked by descriptor from the root of the
//! container (CVE-2022-23648), and no symlink in it is ever followed.
//!
//! The copy is made aside in `_copying`, synced, and renamed to `_copied`; only
//! then are its entries moved into the volume. Whoever finds `_copying` starts
//! again, whoever finds `_copied` goes on moving: a crash loses nothing.

use std::collections::HashMap;
use std::ffi::{CStr, CString, OsStr};
use std::fs;
use std::io::{self, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Gid, Mode, OFlags, SeekFrom, Stat, StatxFlags, Timespec, Timestamps, Uid, XattrFlags,
};
use rustix::io::Errno;
use umiak_base::lock::FileLock;

use super::{VolumeError, failed};
use crate::config::Volume;
use crate::mounts::clean;
use crate::rootfs::open_in_root;

/// Directories deeper than this are no honest image's; each level holds three descriptors.
const MAX_DEPTH: usize = 300;

/// Containers that have had their copy: as many as are remembered.
const REMEMBERED: usize = 100;

/// Copies what the container's root holds at `target` into `volume` if that is
/// empty, and gives the volume's root the owner and mode of the image's
/// directory. Done once for each container (`container` is its id), so that
/// what a program did to an empty volume survives a restart, as with Docker.
/// Says whether anything was copied.
///
/// # Errors
/// Whatever cannot be read, written or locked; the volume is then as it was.
pub fn copy_up(volume: &Volume, target: &str, container: &str, root: BorrowedFd<'_>) -> Result<bool, VolumeError> {
    let data = &volume.source;
    let Some(dir) = data.parent() else { return Ok(false) };
    let lock = dir.join("lock");
    let _held = FileLock::exclusive(&lock).map_err(|source| VolumeError::Lock { name: volume.name.clone(), source })?;
    let place = Place::of(dir, data)?;
    place.recover()?;
    let seen = Seen::read(dir, container)?;
    if seen.known || !place.is_empty()? {
        return Ok(false);
    }
    let target = clean(target).unwrap_or_default();
    let Some(source) = open_source(root, &target).map_err(|source| VolumeError::Copy {
        name: volume.name.clone(),
        path: PathBuf::from(&target),
        source,
    })?
    else {
        // The next one may find the mount point that this container's first look or start makes.
        seen.write(container)?;
        return Ok(false);
    };
    let copied = place.fill(&source, Path::new(&target), &volume.name)?;
    seen.write(container)?;
    Ok(copied)
}

/// The image's directory at `target`; `None` where there is none.
fn open_source(root: BorrowedFd<'_>, target: &str) -> io::Result<Option<OwnedFd>> {
    match open_in_root(root, Path::new(target), OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()) {
        Ok(fd) => Ok(Some(fd)),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The file that lists the containers which have had their copy.
struct Seen {
    path: PathBuf,
    list: Vec<String>,
    known: bool,
}

impl Seen {
    fn read(dir: &Path, container: &str) -> Result<Self, VolumeError> {
        let path = dir.join("populated");
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(failed("read", &path)(error)),
        };
        let list: Vec<String> = text.lines().map(ToOwned::to_owned).collect();
        let known = list.iter().any(|id| id == container);
        Ok(Self { path, list, known })
    }

    fn write(mut self, container: &str) -> Result<(), VolumeError> {
        self.list.push(container.to_owned());
        let skip = self.list.len().saturating_sub(REMEMBERED);
        let text = self.list.split_off(skip).join("\n") + "\n";
        umiak_base::state::write_bytes(&self.path, text.as_bytes(), 0o600).map_err(failed("write", &self.path))
    }
}

/// Where the copy is made: beside the content, or in it where that is a mount of its own.
struct Place {
    data: PathBuf,
    copying: PathBuf,
    copied: PathBuf,
}

impl Place {
    fn of(dir: &Path, data: &Path) -> Result<Self, VolumeError> {
        // By mount, not by device: a rename crosses neither.
        let mount = |path: &Path| {
            let statx = rustix::fs::statx(CWD, path, AtFlags::empty(), StatxFlags::MNT_ID);
            statx.map(|statx| statx.stx_mnt_id).map_err(|error| failed("open", path)(error.into()))
        };
        let (beside, prefix) = if mount(dir)? == mount(data)? { (dir, "_") } else { (data, ".umiak-") };
        let name = |name: &str| beside.join(format!("{prefix}{name}"));
        Ok(Self { data: data.to_owned(), copying: name("copying"), copied: name("copied") })
    }

    /// Finishes or undoes what a crash interrupted.
    fn recover(&self) -> Result<(), VolumeError> {
        match fs::remove_dir_all(&self.copying) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("remove", &self.copying)(error)),
            _ => Ok(()),
        }?;
        if fs::symlink_metadata(&self.copied).is_ok() { self.move_in() } else { Ok(()) }
    }

    fn is_empty(&self) -> Result<bool, VolumeError> {
        let mut entries = fs::read_dir(&self.data).map_err(failed("list", &self.data))?;
        Ok(entries.next().is_none())
    }

    fn fill(&self, source: &OwnedFd, target: &Path, name: &str) -> Result<bool, VolumeError> {
        match fs::DirBuilder::new().mode(0o700).create(&self.copying) {
            // A driver's read-only mount: it stays as it is.
            Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => return Ok(false),
            result => result.map_err(failed("create", &self.copying))?,
        }
        let result = self.copy_aside(source, target, name);
        if result.is_err() {
            let _ = fs::remove_dir_all(&self.copying);
        }
        let copied = result?;
        fs::rename(&self.copying, &self.copied).map_err(failed("rename", &self.copying))?;
        self.move_in()?;
        Ok(copied)
    }

    fn copy_aside(&self, source: &OwnedFd, target: &Path, name: &str) -> Result<bool, VolumeError> {
        let top = open_dir(CWD, &self.copying).map_err(failed("open", &self.copying))?;
        let mut copier = Copier { top: top.as_fd(), links: HashMap::new(), entries: 0 };
        let stat = rustix::fs::fstat(source).map_err(|error| failed("examine", target)(error.into()))?;
        copier
            .directory(source, &top, Path::new(""), 0)
            .and_then(|()| describe(source, &top, &stat).map_err(|error| (PathBuf::new(), error)))
            .map_err(|(path, source)| VolumeError::Copy { name: name.to_owned(), path: target.join(path), source })?;
        let copied = copier.entries > 0;
        if copied {
            rustix::fs::syncfs(&top).map_err(|error| failed("sync", &self.copying)(error.into()))?;
        }
        Ok(copied)
    }

    /// Moves the finished copy's entries into the volume, then its owner, mode and times onto the volume's root.
    fn move_in(&self) -> Result<(), VolumeError> {
        let open = |path: &Path| open_dir(CWD, path).map_err(failed("open", path));
        let (from, to) = (open(&self.copied)?, open(&self.data)?);
        // Before the moves, which are changes to both.
        let stat = rustix::fs::fstat(&from).map_err(|error| failed("examine", &self.copied)(error.into()))?;
        for entry in fs::read_dir(&self.copied).map_err(failed("list", &self.copied))? {
            let entry = entry.map_err(failed("list", &self.copied))?;
            let to = self.data.join(entry.file_name());
            fs::rename(entry.path(), &to).map_err(failed("create", &to))?;
        }
        describe(&from, &to, &stat).map_err(failed("set the owner and mode of", &self.data))?;
        umiak_base::state::sync_dir(&self.data).map_err(failed("sync", &self.data))?;
        fs::remove_dir(&self.copied).map_err(failed("remove", &self.copied))
    }
}

/// A failure with the path, below the directory that is copied, where it happened.
type Walk<T> = Result<T, (PathBuf, io::Error)>;

struct Copier<'a> {
    top: BorrowedFd<'a>,
    /// Files with several names: where the first one has been copied to, below `top`.
    links: HashMap<(u64, u64), PathBuf>,
    entries: u64,
}

impl Copier<'_> {
    fn directory(&mut self, from: &OwnedFd, to: &OwnedFd, path: &Path, depth: usize) -> Walk<()> {
        let here = |error: Errno| (path.to_owned(), error.into());
        if depth > MAX_DEPTH {
            return Err(here(Errno::NAMETOOLONG));
        }
        for entry in Dir::read_from(from).map_err(here)? {
            let entry = entry.map_err(here)?;
            let name = entry.file_name();
            if name != c"." && name != c".." {
                self.entry(from, to, name, &path.join(OsStr::from_bytes(name.to_bytes())), depth)?;
            }
        }
        Ok(())
    }

    fn entry(&mut self, from: &OwnedFd, to: &OwnedFd, name: &CStr, path: &Path, depth: usize) -> Walk<()> {
        let here = |error: io::Error| (path.to_owned(), error);
        self.entries += 1;
        let stat = rustix::fs::statat(from, name, AtFlags::SYMLINK_NOFOLLOW).map_err(|error| here(error.into()))?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind == FileType::Directory {
            let inner = open_dir(from.as_fd(), name).map_err(here)?;
            rustix::fs::mkdirat(to, name, Mode::RWXU).map_err(|error| here(error.into()))?;
            let copy = open_dir(to.as_fd(), name).map_err(here)?;
            self.directory(&inner, &copy, path, depth + 1)?;
            return describe(&inner, &copy, &stat).map_err(here);
        }
        if self.link(&stat, to, name, path) {
            return Ok(());
        }
        match kind {
            FileType::RegularFile => file(from, to, name, &stat),
            FileType::Symlink => symlink(from, to, name, &stat),
            _ => node(to, name, kind, &stat),
        }
        .map_err(here)
    }

    /// Whether the entry is one more name of a file that has been copied, and has been made so.
    fn link(&mut self, stat: &Stat, to: &OwnedFd, name: &CStr, path: &Path) -> bool {
        if stat.st_nlink < 2 {
            return false;
        }
        match self.links.get(&(stat.st_dev, stat.st_ino)) {
            // A name that is too long, or too many links: a copy of its own, then.
            Some(first) => rustix::fs::linkat(self.top, first, to, name, AtFlags::empty()).is_ok(),
            None => {
                self.links.insert((stat.st_dev, stat.st_ino), path.to_owned());
                false
            }
        }
    }
}

fn open_dir<P: rustix::path::Arg>(at: BorrowedFd<'_>, path: P) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(at, path, flags, Mode::empty())?)
}

fn file(from: &OwnedFd, to: &OwnedFd, name: &CStr, stat: &Stat) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let source = rustix::fs::openat(from, name, flags, Mode::empty())?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let copy = rustix::fs::openat(to, name, flags, Mode::RUSR | Mode::WUSR)?;
    let size = u64::try_from(stat.st_size).unwrap_or(0);
    content(&source, &copy, size)?;
    describe(&source, &copy, stat)
}

/// Copies the parts that are there, and leaves holes where the source has them.
fn content(source: &OwnedFd, copy: &OwnedFd, size: u64) -> io::Result<()> {
    let mut offset = 0;
    while offset < size {
        let start = match rustix::fs::seek(source, SeekFrom::Data(offset)) {
            Ok(start) => start,
            // Nothing but a hole up to the end.
            Err(Errno::NXIO) => break,
            Err(Errno::INVAL) => offset,
            Err(error) => return Err(error.into()),
        };
        let end = rustix::fs::seek(source, SeekFrom::Hole(start)).unwrap_or(size).min(size);
        if end <= start {
            break;
        }
        rustix::fs::seek(source, SeekFrom::Start(start))?;
        rustix::fs::seek(copy, SeekFrom::Start(start))?;
        part(source, copy, end - start)?;
        offset = end;
    }
    Ok(rustix::fs::ftruncate(copy, size)?)
}

fn part(source: &OwnedFd, copy: &OwnedFd, mut left: u64) -> io::Result<()> {
    while left > 0 {
        let wanted = usize::try_from(left.min(1 << 30)).unwrap_or(1 << 30);
        match rustix::fs::sendfile(copy, source, None, wanted) {
            Ok(0) => return Ok(()),
            Ok(length) => left -= length as u64,
            Err(Errno::INTR) => {}
            Err(Errno::INVAL | Errno::NOSYS) => return by_hand(source, copy, left),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn by_hand(source: &OwnedFd, copy: &OwnedFd, left: u64) -> io::Result<()> {
    let mut source = io::Read::take(fs::File::from(source.try_clone()?), left);
    let mut copy = fs::File::from(copy.try_clone()?);
    io::copy(&mut source, &mut copy)?;
    copy.flush()
}

fn symlink(from: &OwnedFd, to: &OwnedFd, name: &CStr, stat: &Stat) -> io::Result<()> {
    let target: CString = rustix::fs::readlinkat(from, name, Vec::new())?;
    rustix::fs::symlinkat(target.as_c_str(), to, name)?;
    named_owner_and_times(to, name, stat)
}

/// Devices, FIFOs and sockets.
fn node(to: &OwnedFd, name: &CStr, kind: FileType, stat: &Stat) -> io::Result<()> {
    let mode = Mode::from_raw_mode(stat.st_mode & 0o7777);
    rustix::fs::mknodat(to, name, kind, mode, stat.st_rdev)?;
    // The umask does not count. Nobody else is in this directory: the name is the node just made.
    rustix::fs::chmodat(to, name, mode, AtFlags::empty())?;
    named_owner_and_times(to, name, stat)
}

fn named_owner_and_times(to: &OwnedFd, name: &CStr, stat: &Stat) -> io::Result<()> {
    let (uid, gid) = owner(stat);
    rustix::fs::chownat(to, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::Symlink {
        // chown clears setuid and setgid.
        rustix::fs::chmodat(to, name, Mode::from_raw_mode(stat.st_mode & 0o7777), AtFlags::empty())?;
    }
    Ok(rustix::fs::utimensat(to, name, &times(stat), AtFlags::SYMLINK_NOFOLLOW)?)
}

fn owner(stat: &Stat) -> (Uid, Gid) {
    (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid))
}

/// Owner, then what chown would clear: extended attributes (capabilities) and mode; times last.
fn describe(from: &OwnedFd, to: &OwnedFd, stat: &Stat) -> io::Result<()> {
    let (uid, gid) = owner(stat);
    rustix::fs::fchown(to, Some(uid), Some(gid))?;
    attributes(from, to)?;
    rustix::fs::fchmod(to, Mode::from_raw_mode(stat.st_mode & 0o7777))?;
    Ok(rustix::fs::futimens(to, &times(stat))?)
}

fn times(stat: &Stat) -> Timestamps {
    let spec =
        |seconds: i64, nanoseconds: u64| Timespec { tv_sec: seconds, tv_nsec: i64::try_from(nanoseconds).unwrap_or(0) };
    Timestamps {
        last_access: spec(stat.st_atime, stat.st_atime_nsec),
        last_modification: spec(stat.st_mtime, stat.st_mtime_nsec),
    }
}

fn attributes(from: &OwnedFd, to: &OwnedFd) -> io::Result<()> {
    let mut names = vec![0; size_of_list(from)?];
    let length = match rustix::fs::flistxattr(from, names.as_mut_slice()) {
        Ok(length) => length,
        Err(Errno::NOTSUP) => 0,
        Err(error) => return Err(error.into()),
    };
    for name in names.get(..length).unwrap_or_default().split_inclusive(|byte| *byte == 0) {
        let Ok(name) = CStr::from_bytes_with_nul(name) else { continue };
        // overlayfs's own, should a layer smuggle them in: they must not mean anything in a volume.
        if name.to_bytes().starts_with(b"trusted.overlay.") {
            continue;
        }
        let size = rustix::fs::fgetxattr_query(from, name)?;
        let mut value = vec![0; size];
        let length = rustix::fs::fgetxattr(from, name, value.as_mut_slice())?;
        match rustix::fs::fsetxattr(to, name, value.get(..length).unwrap_or_default(), XattrFlags::empty()) {
            // A file system that cannot hold it (NFS, a tmpfs) holds the rest all the same.
            Ok(()) | Err(Errno::NOTSUP) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn size_of_list(from: &OwnedFd) -> io::Result<usize> {
    match rustix::fs::flistxattr_query(from) {
        Err(Errno::NOTSUP) => Ok(0),
        result => Ok(result?),
    }
}
