//! What a container has changed in its image's files: its writable layer,
//! compared with the layers below.

use std::collections::BTreeMap;
use std::os::fd::{BorrowedFd, OwnedFd};

use anyhow::{Context as _, Result};
use rustix::fs::{Dir, FileType, Mode, OFlags, ResolveFlags, Stat};
use umiak_runtime::view;

use super::Engine;
use super::container::Container;
use super::roots::make_dir;

/// What a start makes in the root file system for its own mounts: no change of the container's, as long as it is empty.
const OWN: [&str; 12] = [
    "dev",
    "dev/console",
    "dev/mqueue",
    "dev/pts",
    "dev/shm",
    "etc",
    "etc/hostname",
    "etc/hosts",
    "etc/resolv.conf",
    "proc",
    "sys",
    "sys/fs/cgroup",
];

/// In which way a file differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Other content, owner, mode or time; or a directory in which something differs.
    Changed,
    /// Not in the image.
    Added,
    /// No longer there.
    Deleted,
}

impl Kind {
    /// The letter of `docker diff`.
    pub fn letter(self) -> char {
        match self {
            Self::Changed => 'C',
            Self::Added => 'A',
            Self::Deleted => 'D',
        }
    }
}

/// One file that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// In which way.
    pub kind: Kind,
    /// Absolute path in the container; not always text.
    pub path: Vec<u8>,
}

impl Engine {
    /// The files that differ from the image, by path.
    pub fn diff(&self, container: &Container) -> Result<Vec<Change>> {
        let rootfs = &container.config.runtime.rootfs;
        let Some(upper) = open_upper(container)? else { return Ok(Vec::new()) };
        make_dir(&rootfs.merged)?;
        let compared = view::layers(&rootfs.layers, &rootfs.merged, |lower| {
            let mut found = BTreeMap::new();
            Comparison { upper: &upper, lower, found: &mut found }.directory(b"", false)?;
            Ok::<_, anyhow::Error>(found)
        });
        let found = compared.context("look into the image")??;
        let change = |(path, kind): (Vec<u8>, Kind)| Change { kind, path: [b"/", path.as_slice()].concat() };
        Ok(found.into_iter().map(change).collect())
    }
}

/// Whether a name below the root is a mount point that a start has made, and nothing has been put there.
pub fn is_own(path: &[u8], stat: &Stat, children: impl FnOnce() -> bool) -> bool {
    OWN.iter().any(|own| own.as_bytes() == path)
        && match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => !children(),
            FileType::RegularFile => stat.st_size == 0,
            _ => false,
        }
}

/// The writable layer; `None` for a container that was never started.
pub fn open_upper(container: &Container) -> Result<Option<OwnedFd>> {
    let path = &container.config.runtime.rootfs.upper;
    match rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()) {
        Ok(fd) => Ok(Some(fd)),
        Err(rustix::io::Errno::NOENT) => Ok(None),
        Err(error) => Err(error).with_context(|| format!("open {}", path.display())),
    }
}

struct Comparison<'c> {
    upper: &'c OwnedFd,
    lower: BorrowedFd<'c>,
    found: &'c mut BTreeMap<Vec<u8>, Kind>,
}

impl Comparison<'_> {
    /// Compares what is in a directory; whether anything differs. `new` when the image has no such directory.
    fn directory(&mut self, path: &[u8], new: bool) -> Result<bool> {
        let failed = || format!("list {}", String::from_utf8_lossy(path));
        let fd = beneath(self.upper, path, OFlags::RDONLY | OFlags::DIRECTORY).with_context(failed)?;
        let opaque = {
            let mut value = [0_u8; 8];
            rustix::fs::fgetxattr(&fd, "trusted.overlay.opaque", &mut value)
                .is_ok_and(|length| value[..length] == *b"y")
        };
        let names = names(&fd).with_context(failed)?;
        let mut differs = false;
        for name in &names {
            let path = join(path, name);
            let Ok(place) = beneath(self.upper, &path, OFlags::PATH | OFlags::NOFOLLOW) else { continue };
            let stat = rustix::fs::fstat(&place)?;
            let below = if new { None } else { self.below(&path) };
            differs |= self.entry(&path, &stat, below)?;
        }
        // An opaque directory hides all that the image has in it.
        if opaque && !new {
            let hidden = beneath(&self.lower, path, OFlags::RDONLY | OFlags::DIRECTORY);
            for name in hidden.ok().map(|fd| self::names(&fd)).transpose()?.unwrap_or_default() {
                if !names.contains(&name) {
                    self.found.insert(join(path, &name), Kind::Deleted);
                    differs = true;
                }
            }
        }
        Ok(differs)
    }

    fn entry(&mut self, path: &[u8], stat: &Stat, below: Option<Stat>) -> Result<bool> {
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind == FileType::CharacterDevice && stat.st_rdev == 0 {
            if below.is_some() {
                self.found.insert(path.to_vec(), Kind::Deleted);
            }
            return Ok(below.is_some());
        }
        let is_directory = |stat: &Stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        let inside = match kind {
            FileType::Directory => self.directory(path, !below.as_ref().is_some_and(is_directory))?,
            _ => false,
        };
        let change = match below {
            None if is_own(path, stat, || inside) => None,
            None => Some(Kind::Added),
            Some(below) => (inside || differ(stat, &below)).then_some(Kind::Changed),
        };
        if let Some(change) = change {
            self.found.insert(path.to_vec(), change);
        }
        Ok(change.is_some())
    }

    fn below(&self, path: &[u8]) -> Option<Stat> {
        let place = beneath(&self.lower, path, OFlags::PATH | OFlags::NOFOLLOW).ok()?;
        rustix::fs::fstat(place).ok()
    }
}

fn join(path: &[u8], name: &[u8]) -> Vec<u8> {
    if path.is_empty() { name.to_vec() } else { [path, b"/", name].concat() }
}

fn names(fd: &OwnedFd) -> Result<Vec<Vec<u8>>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(fd)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if !matches!(name, b"." | b"..") {
            names.push(name.to_vec());
        }
    }
    Ok(names)
}

/// Opens a name below `root`, through no symlink: both trees are the container's and the image's own.
fn beneath(root: &impl std::os::fd::AsFd, path: &[u8], flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let path = if path.is_empty() { b"." } else { path };
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    rustix::fs::openat2(root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve)
}

/// As Docker: the size and time of a directory say nothing.
fn differ(a: &Stat, b: &Stat) -> bool {
    let directory = FileType::from_raw_mode(a.st_mode) == FileType::Directory;
    (a.st_mode, a.st_uid, a.st_gid, a.st_rdev) != (b.st_mode, b.st_uid, b.st_gid, b.st_rdev)
        || (!directory && (a.st_size, a.st_mtime, a.st_mtime_nsec) != (b.st_size, b.st_mtime, b.st_mtime_nsec))
}
