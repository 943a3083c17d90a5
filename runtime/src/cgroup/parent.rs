//! The parent of a container's cgroup: made with the first container below it, removed with the last,
//! whatever other processes of this program do there meanwhile.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::FlockOperation;

use super::{Cgroup, CgroupError, Version, gone};

/// How long a removal waits for those who make cgroups below the same parent.
const PATIENCE: Duration = Duration::from_millis(200);

impl Cgroup {
    /// Makes the parent of this cgroup and keeps it from being removed while the cgroup is made below it;
    /// dropping the value ends that.
    ///
    /// # Errors
    /// The kernel's.
    pub fn hold_parent(&self) -> Result<OwnedFd, CgroupError> {
        let parent = self.locked_parent();
        let failed = |source| CgroupError::Create { path: parent.clone(), source };
        loop {
            match std::fs::create_dir_all(&parent) {
                // It was there, and gone when the library looked what it is.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists && !parent.is_file() => {}
                made => made.map_err(failed)?,
            }
            match lock(&parent, FlockOperation::LockShared) {
                Ok(Some(held)) => return Ok(held),
                // It was removed in between.
                Ok(None) => {}
                Err(source) => return Err(failed(source)),
            }
        }
    }

    /// Removes the parent unless it holds other cgroups, or another is being made below it: that one's removal will see to it.
    pub(super) fn remove_parent(&self) {
        let Some(parent) = self.path.parent().filter(|parent| !parent.as_os_str().is_empty()) else { return };
        let locked = self.locked_parent();
        let Some(_held) = lock_patiently(&locked) else { return };
        if self.version() == Version::V1 {
            let all = self.hierarchies().into_iter().map(|name| self.root.join(name).join(parent));
            let mut removed = true;
            for directory in all.filter(|directory| *directory != locked) {
                removed &= std::fs::remove_dir(directory).map_or_else(|error| gone(&error), |()| true);
            }
            if !removed {
                // Another cgroup is on its way out of some hierarchies: its removal will see to them all, and finds
                // them by the one that is locked.
                return;
            }
        }
        // Last: whoever waits for the lock makes all of them anew.
        let _ = std::fs::remove_dir(&locked);
    }

    /// The directory of the parent that is locked between processes of this program: one hierarchy stands for all.
    /// Not cpuset's, whose directories have to be filled in by whoever makes them.
    fn locked_parent(&self) -> PathBuf {
        let hierarchy = match self.version() {
            Version::V2 => String::new(),
            Version::V1 => self.hierarchies().into_iter().find(|name| !name.contains("cpuset")).unwrap_or_default(),
        };
        self.root.join(hierarchy).join(self.path.parent().unwrap_or(Path::new("")))
    }
}

/// The exclusive lock, or `None` where the directory is gone or a cgroup is being made below it for longer than [`PATIENCE`].
/// It is worth waiting: another remover, which holds it for a moment, may have tried before our cgroup was gone.
fn lock_patiently(directory: &Path) -> Option<OwnedFd> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match lock(directory, FlockOperation::NonBlockingLockExclusive) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(1));
            }
            result => return result.ok().flatten(),
        }
    }
}

/// Opens and locks a directory; `None` where it is gone by the time the lock is held.
fn lock(directory: &Path, how: FlockOperation) -> io::Result<Option<OwnedFd>> {
    let file = match File::open(directory) {
        Err(error) if gone(&error) => return Ok(None),
        file => file?,
    };
    loop {
        match rustix::fs::flock(&file, how) {
            Err(rustix::io::Errno::INTR) => {}
            result => break result?,
        }
    }
    match std::fs::metadata(directory) {
        Ok(now) if now.ino() == file.metadata()?.ino() => Ok(Some(file.into())),
        Err(error) if !gone(&error) => Err(error),
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parent_goes_with_the_last_of_many_that_come_and_go_at_once() {
        let root = tempfile::tempdir().unwrap();
        for hierarchy in ["cpu", "cpuset", "memory"] {
            std::fs::create_dir(root.path().join(hierarchy)).unwrap();
        }
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let root = root.path();
                scope.spawn(move || {
                    for turn in 0..200 {
                        let cgroup =
                            Cgroup::at(root, Version::V1, &format!("/ours-{}/{thread}-{turn}", turn % 2)).unwrap();
                        let held = cgroup.hold_parent().unwrap();
                        for hierarchy in ["cpu", "cpuset", "memory"] {
                            std::fs::create_dir_all(cgroup.directory(hierarchy).parent().unwrap()).unwrap();
                            std::fs::create_dir(cgroup.directory(hierarchy)).unwrap();
                        }
                        drop(held);
                        cgroup.remove().unwrap();
                    }
                });
            }
        });
        for hierarchy in ["cpu", "cpuset", "memory"] {
            let left: Vec<_> = std::fs::read_dir(root.path().join(hierarchy))
                .unwrap()
                .flatten()
                .map(|entry| entry.file_name())
                .collect();
            assert!(left.is_empty(), "{hierarchy}: {left:?}");
        }
    }
}
