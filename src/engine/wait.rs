//! Waiting for what happens to a container, by events: its directory is
//! watched for a new `state.json`, and its monitor by a pidfd.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use umiak_base::ProcessRef;

use super::container::{Container, EXIT_UNKNOWN, State};
use super::{Engine, Roots};

/// A descriptor that becomes readable when this very process ends; `None` when it has.
pub fn pidfd(process: ProcessRef) -> Option<OwnedFd> {
    let pid = Pid::from_raw(i32::try_from(process.pid).ok()?)?;
    let fd = pidfd_open(pid, PidfdFlags::empty()).ok()?;
    // Opened first, checked then: what is held is the process that was meant.
    process.alive().then_some(fd)
}

/// As [`pidfd`], for the process that sees to it that the container's state is written: the keeper, or else a monitor
/// without one. `None` when both have gone.
pub fn supervisor(state: &State) -> Option<OwnedFd> {
    state.keeper.and_then(pidfd).or_else(|| state.monitor.and_then(pidfd))
}

/// Tells when a container's state file has been written, or when [`tell`] says that something else has changed.
#[derive(Debug)]
pub struct StateWatch {
    inotify: OwnedFd,
}

impl StateWatch {
    /// Watches one container, from now on.
    pub fn new(roots: &Roots, id: &str) -> Result<Self> {
        let watch = Self::nothing()?;
        watch.add(roots, id)?;
        Ok(watch)
    }

    /// Watches nothing yet. One watch can serve many containers: the kernel gives a user only 128.
    pub fn nothing() -> Result<Self> {
        let flags = inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK;
        Ok(Self { inotify: inotify::init(flags).context("make an inotify descriptor")? })
    }

    /// Watches one more container.
    pub fn add(&self, roots: &Roots, id: &str) -> Result<()> {
        let dir = roots.container(id);
        let events = inotify::WatchFlags::MOVED_TO | inotify::WatchFlags::ATTRIB | inotify::WatchFlags::DELETE_SELF;
        inotify::add_watch(&self.inotify, &dir, events).with_context(|| format!("watch {}", dir.display()))?;
        Ok(())
    }

    /// Takes what has been told so far.
    pub fn clear(&self) {
        let mut buffer = [0_u8; 4096];
        while rustix::io::read(&self.inotify, &mut buffer).is_ok_and(|count| count > 0) {}
    }
}

impl AsFd for StateWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }
}

/// Has everybody who watches a container look at it once more, when what changed is in no file of its directory.
pub fn tell(roots: &Roots, id: &str) {
    let now = std::time::SystemTime::now();
    // Both, or it were a write for the kernel. Without it they look when its next file is written.
    let both = std::fs::FileTimes::new().set_accessed(now).set_modified(now);
    let _ = std::fs::File::open(roots.container(id)).and_then(|dir| dir.set_times(both));
}

/// Waits until one of `fds` is readable, or the deadline; whether one is.
pub fn readable(fds: &[BorrowedFd<'_>], deadline: Option<Instant>) -> Result<bool> {
    let mut set: Vec<PollFd<'_>> = fds.iter().map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN)).collect();
    loop {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        match poll(&mut set, left.map(timespec).as_ref()) {
            Ok(count) => return Ok(count > 0),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error).context("poll"),
        }
    }
}

/// A duration as the kernel takes it.
pub fn timespec(duration: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(duration.subsec_nanos()),
    }
}

impl Engine {
    /// Waits until a container no longer runs; its exit code. The end of a run that another follows counts, as in
    /// Docker. `None` when the deadline came first.
    pub fn wait(&self, id: &str, deadline: Option<Instant>) -> Result<Option<i32>> {
        self.wait_since(id, None, deadline)
    }

    /// As [`Self::wait`], for the end of the run that came after so many restarts; without, of the one there is now.
    pub fn wait_since(&self, id: &str, restarts: Option<u32>, deadline: Option<Instant>) -> Result<Option<i32>> {
        let Ok(watch) = StateWatch::new(&self.roots, id) else { return Ok(Some(EXIT_UNKNOWN)) };
        let mut restarts = restarts;
        loop {
            watch.clear();
            let Some(container) = Container::load(&self.roots, id)? else { return Ok(Some(EXIT_UNKNOWN)) };
            if container.lost {
                self.recover(&container)?;
            }
            let count = container.state.restart_count;
            if *restarts.get_or_insert(count) != count {
                return Ok(Some(container.state.exit_code.unwrap_or(0)));
            }
            if !container.state.status.is_up() {
                return Ok(Some(container.state.exit_code.unwrap_or(0)));
            }
            let Some(monitor) = supervisor(&container.state) else {
                // Its monitor was killed: what is left is to see its process end, and to clear away after it.
                if !self.wait_unsupervised(&container.state, deadline)? {
                    return Ok(None);
                }
                self.recover(&container)?;
                return Ok(Some(EXIT_UNKNOWN));
            };
            if !readable(&[watch.as_fd(), monitor.as_fd()], deadline)? {
                return Ok(None);
            }
        }
    }

    fn wait_unsupervised(&self, state: &State, deadline: Option<Instant>) -> Result<bool> {
        match state.init.and_then(pidfd) {
            Some(init) => readable(&[init.as_fd()], deadline),
            None => Ok(true),
        }
    }
}
