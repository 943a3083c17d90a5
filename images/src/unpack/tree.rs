//! The directories of a layer while it is unpacked, reached by file descriptor
//! and made as needed. Symlinks in the middle of a name are followed inside
//! the root, as in a chroot.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::rc::Rc;

use rustix::fs::{AtFlags, CWD, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::clean::split;
use super::error::{UnpackError, shown};

/// Directories kept open: archives go through one directory after the other.
const OPEN: usize = 32;
/// As the kernel's own limit.
const SYMLINKS: usize = 40;

/// The root and the directories last used below it.
#[derive(Debug)]
pub(super) struct Tree {
    root: Rc<OwnedFd>,
    /// By clean name, the last used first.
    open: VecDeque<(Vec<u8>, Rc<OwnedFd>)>,
}

/// What [`Tree::make`] did on its way.
#[derive(Debug)]
pub(super) struct Made {
    pub(super) fd: Rc<OwnedFd>,
    /// Whether any directory was made that no entry had named yet.
    pub(super) created: Vec<OwnedFd>,
}

impl Tree {
    pub(super) fn new(root: OwnedFd) -> Self {
        Self { root: Rc::new(root), open: VecDeque::new() }
    }

    pub(super) fn root(&self) -> &Rc<OwnedFd> {
        &self.root
    }

    /// The directory of a clean name, which must be there; `None` where it is not.
    pub(super) fn find(&mut self, name: &[u8]) -> Result<Option<Rc<OwnedFd>>, UnpackError> {
        if name.is_empty() {
            return Ok(Some(Rc::clone(&self.root)));
        }
        if let Some(place) = self.open.iter().position(|(open, _)| open == name) {
            let entry = self.open.remove(place);
            let fd = entry.as_ref().map(|(_, fd)| Rc::clone(fd));
            self.open.extend_front_one(entry);
            return Ok(fd);
        }
        match self.open_in_root(name) {
            Ok(fd) => Ok(Some(self.keep(name, fd))),
            Err(Errno::NOENT) => Ok(None),
            Err(Errno::NOTDIR) => Err(UnpackError::Parent { path: shown(name) }),
            Err(Errno::LOOP) => Err(UnpackError::Loop { path: shown(name) }),
            Err(error) => {
                Err(UnpackError::System { operation: "open", path: shown(name), source: error.into() })
            }
        }
    }

    /// The directory of a clean name; what is missing of it is made, mode 0755.
    pub(super) fn make(&mut self, name: &[u8]) -> Result<Made, UnpackError> {
        if let Some(fd) = self.find(name)? {
            return Ok(Made { fd, created: Vec::new() });
        }
        let (fd, created) = self.walk(name)?;
        Ok(Made { fd: self.keep(name, fd), created })
    }

    /// Forgets the open directories: one of them, or a symlink to one, has gone.
    pub(super) fn forget(&mut self) {
        self.open.clear();
    }

    fn keep(&mut self, name: &[u8], fd: OwnedFd) -> Rc<OwnedFd> {
        let fd = Rc::new(fd);
        self.open.truncate(OPEN - 1);
        self.open.push_front((name.to_vec(), Rc::clone(&fd)));
        fd
    }

    fn open_in_root(&self, name: &[u8]) -> Result<OwnedFd, Errno> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV;
        loop {
            // KERNEL: `..` in a symlink's target can lose against a rename anywhere, and is then tried again.
            match rustix::fs::openat2(&*self.root, name, flags, Mode::empty(), resolve) {
                Err(Errno::AGAIN | Errno::INTR) => {}
                result => return result,
            }
        }
    }

    /// Goes down component by component, never through a symlink but by reading it.
    fn walk(&self, name: &[u8]) -> Result<(OwnedFd, Vec<OwnedFd>), UnpackError> {
        let failed =
            |operation, error: Errno| UnpackError::System { operation, path: shown(name), source: error.into() };
        let mut left: VecDeque<Vec<u8>> = components(name).collect();
        // The way down from the root, so that `..` goes back up it.
        let mut way: Vec<OwnedFd> = Vec::new();
        let mut created = Vec::new();
        let mut symlinks = 0;
        while let Some(component) = left.pop_front() {
            let here = way.last().map_or(self.root.as_fd(), |fd| fd.as_fd());
            if component == b".." {
                way.pop();
                continue;
            }
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            match rustix::fs::openat(here, &*component, flags | OFlags::DIRECTORY, Mode::empty()) {
                Ok(fd) => way.push(fd),
                Err(Errno::NOENT) => {
                    rustix::fs::mkdirat(here, &*component, Mode::from_raw_mode(0o755))
                        .map_err(|error| failed("make a parent of", error))?;
                    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::DIRECTORY;
                    let fd = rustix::fs::openat(here, &*component, flags, Mode::empty())
                        .map_err(|error| failed("open a parent of", error))?;
                    created.push(fd.try_clone().map_err(|source| UnpackError::System {
                        operation: "open a parent of",
                        path: shown(name),
                        source,
                    })?);
                    way.push(fd);
                }
                Err(Errno::NOTDIR | Errno::LOOP) => {
                    symlinks += 1;
                    if symlinks > SYMLINKS {
                        return Err(UnpackError::Loop { path: shown(name) });
                    }
                    let target = rustix::fs::readlinkat(here, &*component, Vec::new())
                        .map_err(|_| UnpackError::Parent { path: shown(name) })?;
                    let target = target.as_bytes();
                    if target.starts_with(b"/") {
                        way.clear();
                    }
                    for component in components(target).collect::<Vec<_>>().into_iter().rev() {
                        left.push_front(component);
                    }
                }
                Err(error) => return Err(failed("open a parent of", error)),
            }
        }
        match way.pop() {
            Some(fd) => Ok((fd, created)),
            None => {
                let fd = self.root.try_clone().map_err(|error: io::Error| UnpackError::System {
                    operation: "open a parent of",
                    path: shown(name),
                    source: error,
                })?;
                Ok((fd, created))
            }
        }
    }
}

fn components(name: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    name.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".").map(<[u8]>::to_vec)
}
