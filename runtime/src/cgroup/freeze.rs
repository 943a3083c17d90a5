//! Freezing all processes of a cgroup, and letting them run again: the v1
//! freezer (`freezer.state`) and that of v2 (`cgroup.freeze`).

use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::{Cgroup, CgroupError, Version, read};

/// How long processes may take to stop: one in the middle of a system call finishes it first.
const PATIENCE: Duration = Duration::from_secs(10);

impl Cgroup {
    /// Stops every process, and returns once all of them stand still.
    ///
    /// # Errors
    /// When the host has no freezer, or a process does not stop within ten seconds; then all run on.
    pub fn freeze(&self) -> Result<(), CgroupError> {
        let deadline = Instant::now() + PATIENCE;
        let mut pause = Duration::from_micros(50);
        self.write_freezer(true)?;
        while !self.stands_still()? {
            if Instant::now() > deadline {
                let _ = self.write_freezer(false);
                let source = std::io::ErrorKind::TimedOut.into();
                return Err(CgroupError::Freeze { path: self.freezer(), source });
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(10));
            if self.version() == Version::V1 {
                // Processes that were forked meanwhile are caught by asking again (kernel's freezer-subsystem.txt).
                self.write_freezer(true)?;
            }
        }
        Ok(())
    }

    /// Lets every process run again.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn thaw(&self) -> Result<(), CgroupError> {
        self.write_freezer(false)
    }

    /// Whether it was frozen and has not been let go since.
    #[must_use]
    pub fn frozen(&self) -> bool {
        let text = read(&self.freezer()).unwrap_or_default();
        match self.version() {
            Version::V1 => matches!(text.trim(), "FROZEN" | "FREEZING"),
            Version::V2 => text.trim() == "1",
        }
    }

    fn freezer(&self) -> PathBuf {
        match self.version() {
            Version::V1 => self.directory("freezer").join("freezer.state"),
            Version::V2 => self.directory("").join("cgroup.freeze"),
        }
    }

    fn write_freezer(&self, frozen: bool) -> Result<(), CgroupError> {
        let path = self.freezer();
        let value = match (self.version(), frozen) {
            (Version::V1, true) => "FROZEN",
            (Version::V1, false) => "THAWED",
            (Version::V2, true) => "1",
            (Version::V2, false) => "0",
        };
        std::fs::write(&path, value).map_err(|source| CgroupError::Freeze { path, source })
    }

    fn stands_still(&self) -> Result<bool, CgroupError> {
        match self.version() {
            Version::V1 => Ok(read(&self.freezer())?.trim() == "FROZEN"),
            Version::V2 => {
                let events = read(&self.directory("").join("cgroup.events"))?;
                Ok(events.lines().any(|line| line == "frozen 1"))
            }
        }
    }
}
