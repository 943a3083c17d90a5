//! This program's own file, as the `create` and `exec` children execute it.
//!
//! Until it runs the container's program, a container's first process is this
//! program, and `/proc/<pid>/exe` leads from inside the container to its file
//! on the host. Opened there once, it could be overwritten as soon as it runs
//! no more (CVE-2019-5736). Executed through a read-only mount that belongs to
//! no namespace, that path leads nowhere that can be written, and costs no copy.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::CWD;
use rustix::mount::{OpenTreeFlags, open_tree};

use crate::{rootfs, sys};

/// This program, to execute it read-only: keep the value until the child has been spawned.
#[derive(Debug)]
pub struct OwnProgram(OwnedFd);

impl OwnProgram {
    /// Opens the running program's file.
    ///
    /// # Errors
    /// Without `CAP_SYS_ADMIN`, or on Linux before 5.12.
    pub fn open() -> io::Result<Self> {
        Self::of(Path::new("/proc/self/exe"))
    }

    fn of(path: &Path) -> io::Result<Self> {
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        let tree = open_tree(CWD, path, flags)?;
        sys::make_read_only(tree.as_fd())?;
        Ok(Self(tree))
    }

    /// What to give to `std::process::Command::new` in this process.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        rootfs::proc_name(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_runs_and_its_file_cannot_be_opened_for_writing() {
        let own = OwnProgram::open().unwrap();
        let output = std::process::Command::new(own.path()).arg("--list").output().unwrap();
        assert!(output.status.success());
        // A running program cannot be written anyway; one that runs no more could.
        let ended = tempfile::NamedTempFile::new().unwrap();
        let own = OwnProgram::of(ended.path()).unwrap();
        let error = std::fs::OpenOptions::new().write(true).open(own.path()).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EROFS), "{error}");
    }
}
