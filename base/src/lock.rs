//! Advisory whole-file locks (`flock(2)`): released by the kernel when the
//! holder dies, so a killed command never leaves one behind.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, Mode, OFlags};

/// Why a lock could not be taken.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// The lock file could not be opened or made.
    #[error("open the lock file {path}")]
    Open {
        /// The lock file.
        path: PathBuf,
        /// The kernel's answer.
        #[source]
        source: std::io::Error,
    },
    /// `flock(2)` failed.
    #[error("lock {path}")]
    Flock {
        /// The lock file.
        path: PathBuf,
        /// The kernel's answer.
        #[source]
        source: std::io::Error,
    },
}

/// A held lock; dropping it releases it. The file stays, empty but for the holder's pid.
#[derive(Debug)]
pub struct FileLock {
    fd: OwnedFd,
}

/// The lock belongs to the open file: handed to another process, it is held until both have closed it.
impl AsFd for FileLock {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl FileLock {
    /// Waits until nobody else holds `path`, then holds it.
    ///
    /// # Errors
    /// When the file cannot be opened or locked.
    pub fn exclusive(path: &Path) -> Result<Self, LockError> {
        Self::wait(path, FlockOperation::LockExclusive)
    }

    /// As [`Self::exclusive`]; where there is no room to make the lock's file, the directory that it would be in is
    /// locked instead: what makes room must not need any.
    ///
    /// # Errors
    /// When neither can be opened or locked.
    pub fn exclusive_without_room(path: &Path) -> Result<Self, LockError> {
        match (Self::exclusive(path), path.parent()) {
            (Err(LockError::Open { source, .. }), Some(parent)) if crate::state::is_full(&source) => {
                let failed =
                    |error: rustix::io::Errno| LockError::Open { path: parent.to_owned(), source: error.into() };
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
                let fd = rustix::fs::open(parent, flags, Mode::empty()).map_err(failed)?;
                flock(&fd, FlockOperation::LockExclusive).map_err(failed)?;
                Ok(Self { fd })
            }
            (result, _) => result,
        }
    }

    /// Shared with other readers; waits for an exclusive holder to end.
    ///
    /// # Errors
    /// When the file cannot be opened or locked.
    pub fn shared(path: &Path) -> Result<Self, LockError> {
        Self::wait(path, FlockOperation::LockShared)
    }

    /// The lock, or `None` at once where somebody else holds it.
    ///
    /// # Errors
    /// When the file cannot be opened or locked.
    pub fn try_exclusive(path: &Path) -> Result<Option<Self>, LockError> {
        Self::take(path, FlockOperation::NonBlockingLockExclusive)
    }

    /// The pid that the last exclusive holder wrote, to name it in a message.
    #[must_use]
    pub fn holder(path: &Path) -> Option<u32> {
        std::fs::read_to_string(path).ok()?.trim().parse().ok()
    }

    fn wait(path: &Path, how: FlockOperation) -> Result<Self, LockError> {
        let would_block = || std::io::Error::from(rustix::io::Errno::WOULDBLOCK);
        Self::take(path, how)?.ok_or_else(|| LockError::Flock { path: path.to_owned(), source: would_block() })
    }

    fn take(path: &Path, how: FlockOperation) -> Result<Option<Self>, LockError> {
        let open_error = |source: std::io::Error| LockError::Open { path: path.to_owned(), source };
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let fd = rustix::fs::open(path, flags, Mode::from_raw_mode(0o600)).map_err(|e| open_error(e.into()))?;
        match flock(&fd, how) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
            Err(error) => return Err(LockError::Flock { path: path.to_owned(), source: error.into() }),
        }
        if !matches!(how, FlockOperation::LockShared) {
            // Only to name the holder in messages: a failure changes nothing.
            let file = File::from(fd);
            let _ = file.set_len(0);
            let _ = std::io::Write::write_all(&mut &file, std::process::id().to_string().as_bytes());
            return Ok(Some(Self { fd: file.into() }));
        }
        Ok(Some(Self { fd }))
    }
}

fn flock(fd: &OwnedFd, how: FlockOperation) -> rustix::io::Result<()> {
    loop {
        match rustix::fs::flock(fd, how) {
            Err(rustix::io::Errno::INTR) => {}
            result => return result,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_holder_at_a_time_and_it_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let held = FileLock::exclusive(&path).unwrap();
        assert!(FileLock::try_exclusive(&path).unwrap().is_none());
        assert_eq!(FileLock::holder(&path), Some(std::process::id()));
        drop(held);
        assert!(FileLock::try_exclusive(&path).unwrap().is_some());
    }
}
