//! Processes of a cgroup: listing, killing all of them, removing the cgroup,
//! and what the kernel reports about out-of-memory kills.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::{Cgroup, CgroupError, Version, read};

/// How long [`Cgroup::kill_all`] and [`Cgroup::remove`] wait for killed processes to be gone.
const PATIENCE: Duration = Duration::from_secs(10);
const SIGKILL: i32 = 9;

/// What the kernel counted in a cgroup.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Events {
    /// Processes killed because the memory limit was reached, in this cgroup or below.
    pub oom_kills: u64,
}

impl Cgroup {
    /// The pids in this cgroup and those below it.
    ///
    /// # Errors
    /// When the cgroup's files cannot be read; a cgroup that does not exist has none.
    pub fn processes(&self) -> Result<Vec<i32>, CgroupError> {
        let mut pids = BTreeSet::new();
        for directory in self.directories() {
            collect(&directory, &mut pids)?;
        }
        Ok(pids.into_iter().collect())
    }

    /// Kills every process and waits until all are gone (zombies may remain for their parents).
    ///
    /// v2: `cgroup.kill`, which no fork outruns. v1: freezes, signals, thaws, until none is left.
    ///
    /// # Errors
    /// When the kernel refuses, or something survives SIGKILL (stuck in a device) for ten seconds.
    pub fn kill_all(&self) -> Result<(), CgroupError> {
        let deadline = Instant::now() + PATIENCE;
        let mut pause = Duration::from_millis(1);
        while self.exists() {
            self.kill_once()?;
            if self.processes()?.is_empty() {
                return Ok(());
            }
            if Instant::now() > deadline {
                let path = self.directories().into_iter().next().unwrap_or_default();
                return Err(CgroupError::Kill { path, source: io::ErrorKind::TimedOut.into() });
            }
            // Dying takes a moment and v1 tells nobody when it is over.
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(20));
        }
        Ok(())
    }

    fn kill_once(&self) -> Result<(), CgroupError> {
        if self.version() == Version::V2 {
            let path = self.directory("").join("cgroup.kill");
            match std::fs::write(&path, "1") {
                Ok(()) => return Ok(()),
                // The file is there since 5.14; without it the loop below does.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(source) => return Err(CgroupError::Kill { path, source }),
            }
        }
        let freezer = self.directory("freezer").join("freezer.state");
        let _ = std::fs::write(&freezer, "FROZEN");
        let signalled = self.processes().map(|pids| pids.into_iter().for_each(|pid| crate::sys::signal(pid, SIGKILL)));
        let _ = std::fs::write(&freezer, "THAWED");
        signalled
    }

    /// Removes the cgroup and those below it; one that does not exist is removed already.
    /// Waits for processes that are on their way out, but kills none.
    ///
    /// # Errors
    /// When processes remain.
    pub fn remove(&self) -> Result<(), CgroupError> {
        let deadline = Instant::now() + PATIENCE;
        for directory in self.directories() {
            remove_tree(&directory, deadline)?;
        }
        self.remove_parent();
        Ok(())
    }

    /// What the kernel counted; read it before the cgroup is removed.
    ///
    /// # Errors
    /// When the file cannot be read. A host without a memory controller has counted nothing.
    pub fn events(&self) -> Result<Events, CgroupError> {
        let file = match self.version() {
            // `oom_kill`, not `oom`: the latter also counts failed allocations.
            Version::V2 => "memory.events",
            Version::V1 => "memory.oom_control",
        };
        let path = self.directory("memory").join(file);
        match read(&path) {
            Ok(text) => Ok(Events { oom_kills: field(&text, "oom_kill").unwrap_or(0) }),
            Err(CgroupError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(Events::default()),
            Err(error) => Err(error),
        }
    }

    /// Whether the OOM killer took a process of this container because of its memory limit.
    #[must_use]
    pub fn oom_killed(&self) -> bool {
        self.events().is_ok_and(|events| events.oom_kills > 0)
    }
}

/// The number after `key` in lines of `key number`.
pub(super) fn field(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| line.split_once(' ').filter(|(name, _)| *name == key)?.1.trim().parse().ok())
}

fn collect(directory: &Path, pids: &mut BTreeSet<i32>) -> Result<(), CgroupError> {
    match read(&directory.join("cgroup.procs")) {
        // 0 is a process of another pid namespace.
        Ok(text) => pids.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()).filter(|pid| *pid > 0)),
        Err(CgroupError::Read { source, .. }) if gone(&source) => return Ok(()),
        Err(error) => return Err(error),
    }
    for child in children(directory) {
        collect(&child, pids)?;
    }
    Ok(())
}

pub(super) fn gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ENODEV)
}

fn children(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path()).collect()
}

fn remove_tree(directory: &Path, deadline: Instant) -> Result<(), CgroupError> {
    for child in children(directory) {
        remove_tree(&child, deadline)?;
    }
    let mut pause = Duration::from_millis(1);
    loop {
        match std::fs::remove_dir(directory) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(source) => {
                let busy = source.raw_os_error() == Some(libc::EBUSY);
                let mut left = BTreeSet::new();
                collect(directory, &mut left)?;
                if !busy || Instant::now() > deadline || !all_dying(&left) {
                    return Err(CgroupError::Remove { path: directory.to_owned(), source });
                }
            }
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}

/// Whether every one of these is a zombie or gone: then the kernel just needs a moment.
fn all_dying(pids: &BTreeSet<i32>) -> bool {
    pids.iter().all(|pid| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let state = stat.rfind(')').and_then(|end| stat.get(end + 2..end + 3));
        matches!(state, None | Some("Z" | "X"))
    })
}
