//! The directories of a layer while it is unpacked, reached by file descriptor
//! and made as needed. Symlinks in the middle of a name are followed inside
//! the root, as in a chroot.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::rc::Rc;

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

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

impl Tree {
    pub(super) fn new(root: OwnedFd) -> Self {
        Self { root: Rc::new(root), open: VecDeque::new() }
    }

    /// The directory of a clean name, which must be there; `None` where it is not.
    pub(super) fn find(&mut self, name: &[u8]) -> Result<Option<Rc<OwnedFd>>, UnpackError> {
        if name.is_empty() {
            return Ok(Some(Rc::clone(&self.root)));
        }
        let place = self.open.iter().position(|(open, _)| open == name);
        if let Some(entry) = place.and_then(|place| self.open.remove(place)) {
            let fd = Rc::clone(&entry.1);
            self.open.push_front(entry);
            return Ok(Some(fd));
        }
        match self.open_in_root(name) {
            Ok(fd) => Ok(Some(self.keep(name, fd))),
            Err(Errno::NOENT) => Ok(None),
            Err(Errno::NOTDIR) => Err(UnpackError::Parent { path: shown(name) }),
            Err(Errno::LOOP) => Err(UnpackError::Loop { path: shown(name) }),
            Err(error) => Err(failed("open", name, error.into())),
        }
    }

    /// The directory of a clean name; what is missing of it is made, mode 0755.
    pub(super) fn make(&mut self, name: &[u8]) -> Result<Rc<OwnedFd>, UnpackError> {
        match self.find(name)? {
            Some(fd) => Ok(fd),
            None => {
                let fd = self.walk(name)?;
                Ok(self.keep(name, fd))
            }
        }
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
    fn walk(&self, name: &[u8]) -> Result<OwnedFd, UnpackError> {
        let mut left: VecDeque<Vec<u8>> = components(name).collect();
        // The way down from the root, so that `..` goes back up it.
        let mut way: Vec<OwnedFd> = Vec::new();
        let mut symlinks = 0;
        while let Some(component) = left.pop_front() {
            if component == b".." {
                way.pop();
                continue;
            }
            let here = way.last().map_or(self.root.as_fd(), |fd| fd.as_fd());
            match enter(here, &component) {
                Ok(fd) => way.push(fd),
                Err(Errno::NOTDIR | Errno::LOOP) => {
                    symlinks += 1;
                    if symlinks > SYMLINKS {
                        return Err(UnpackError::Loop { path: shown(name) });
                    }
                    let target = rustix::fs::readlinkat(here, &*component, Vec::new())
                        .map_err(|_| UnpackError::Parent { path: shown(name) })?;
                    if target.as_bytes().starts_with(b"/") {
                        way.clear();
                    }
                    components(target.as_bytes()).rev().for_each(|component| left.push_front(component));
                }
                Err(error) => return Err(failed("make a parent of", name, error.into())),
            }
        }
        let found = way.pop().map_or_else(|| self.root.try_clone(), Ok);
        found.map_err(|source| failed("open a parent of", name, source))
    }
}

/// The directory `component` of `here`, made if it is missing.
fn enter(here: BorrowedFd<'_>, component: &[u8]) -> Result<OwnedFd, Errno> {
    let flags = OFlags::NOFOLLOW | OFlags::DIRECTORY | OFlags::CLOEXEC;
    match rustix::fs::openat(here, component, flags | OFlags::PATH, Mode::empty()) {
        Err(Errno::NOENT) => {}
        result => return result,
    }
    let mode = Mode::from_raw_mode(0o755);
    rustix::fs::mkdirat(here, component, mode)?;
    let fd = rustix::fs::openat(here, component, flags | OFlags::RDONLY, Mode::empty())?;
    // Whatever the umask is.
    rustix::fs::fchmod(&fd, mode)?;
    Ok(fd)
}

fn failed(operation: &'static str, name: &[u8], source: io::Error) -> UnpackError {
    UnpackError::System { operation, path: shown(name), source }
}

fn components(name: &[u8]) -> impl DoubleEndedIterator<Item = Vec<u8>> {
    name.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".").map(<[u8]>::to_vec)
}
