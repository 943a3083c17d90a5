//! Removes a directory and all that is in it, by file descriptor, however deep
//! it is: layers are made by strangers, and a tree of thousands of levels must
//! not exhaust descriptors or the stack.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;

/// Levels that are entered before a subtree is moved up to be removed later.
const DEPTH: usize = 64;

/// Removes `name` in the directory `parent`: a file, a symlink itself, or a directory with all its content.
/// What is not there is no error.
///
/// # Errors
/// The kernel's.
pub fn remove_tree(parent: impl AsFd, name: &[u8]) -> rustix::io::Result<()> {
    match rustix::fs::unlinkat(&parent, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        // KERNEL: EISDIR on Linux, EPERM by POSIX.
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(error) => return Err(error),
    }
    let top = open(parent.as_fd(), name)?;
    // A name that the content cannot have foreseen.
    let aside = umiak_base::id::random_hex(16).map_err(|_| Errno::IO)?;
    let mut removal = Removal { top: top.as_fd(), aside, moved: 0 };
    loop {
        let before = removal.moved;
        removal.empty(top.as_fd(), 0)?;
        // Subtrees that were moved up may have been missed by the listing under way.
        if removal.moved == before {
            break;
        }
    }
    rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR)
}

fn open(parent: BorrowedFd<'_>, name: &[u8]) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(parent, name, flags, Mode::empty())
}

struct Removal<'t> {
    top: BorrowedFd<'t>,
    aside: String,
    moved: u64,
}

impl Removal<'_> {
    fn empty(&mut self, here: BorrowedFd<'_>, depth: usize) -> rustix::io::Result<()> {
        for entry in Dir::read_from(here)? {
            let entry = entry?;
            let name: &CStr = entry.file_name();
            if !matches!(name.to_bytes(), b"." | b"..") {
                self.remove(here, name, entry.file_type(), depth)?;
            }
        }
        Ok(())
    }

    fn remove(&mut self, here: BorrowedFd<'_>, name: &CStr, kind: FileType, depth: usize) -> rustix::io::Result<()> {
        if !matches!(kind, FileType::Directory | FileType::Unknown) {
            return rustix::fs::unlinkat(here, name, AtFlags::empty());
        }
        match rustix::fs::unlinkat(here, name, AtFlags::REMOVEDIR) {
            Err(Errno::NOTEMPTY | Errno::EXIST) => {}
            Err(Errno::NOTDIR) => return rustix::fs::unlinkat(here, name, AtFlags::empty()),
            result => return result,
        }
        if depth == DEPTH {
            self.moved += 1;
            return rustix::fs::renameat(here, name, self.top, format!("{}-{}", self.aside, self.moved));
        }
        let below = open(here, name.to_bytes())?;
        self.empty(below.as_fd(), depth + 1)?;
        rustix::fs::unlinkat(here, name, AtFlags::REMOVEDIR)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deep_trees_go_and_symlinks_are_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let outside = dir.path().join("outside");
        std::fs::create_dir(&outside).unwrap();
        std::fs::write(outside.join("kept"), "x").unwrap();
        let parent = std::fs::File::open(dir.path()).unwrap();
        rustix::fs::mkdirat(&parent, "deep", Mode::from_raw_mode(0o755)).unwrap();
        let mut here = open(parent.as_fd(), b"deep").unwrap();
        for _ in 0..3000 {
            rustix::fs::symlinkat("/", &here, "link").unwrap();
            rustix::fs::symlinkat(&outside, &here, "outside").unwrap();
            rustix::fs::mkdirat(&here, "d", Mode::from_raw_mode(0o755)).unwrap();
            here = open(here.as_fd(), b"d").unwrap();
        }
        drop(here);
        remove_tree(&parent, b"deep").unwrap();
        assert!(!dir.path().join("deep").exists());
        assert!(outside.join("kept").exists());
        remove_tree(&parent, b"deep").unwrap();
    }
}
