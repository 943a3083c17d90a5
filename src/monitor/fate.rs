//! How the container's first process ended, whoever was its parent: the
//! monitor that started it, the keeper when that monitor was killed, or nobody
//! of ours when both were.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::time::Instant;

use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use umiak_base::ProcessRef;

use super::keeper::{Keeper, Kept};
use crate::engine::container::EXIT_UNKNOWN;
use crate::engine::wait;

/// A first process's exit code, and the signal that killed it, if one did.
pub type Exit = (i32, Option<i32>);

/// Killed by a signal; the code is as a shell would show it.
pub const fn killed(signal: i32) -> Exit {
    (128 + signal, Some(signal))
}

/// Whose child the first process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Parent {
    Monitor,
    Keeper,
    Nobody,
}

/// What is known of the end of one run.
#[derive(Debug)]
pub struct Fate {
    init: ProcessRef,
    parent: Parent,
    /// Where no parent tells.
    pidfd: Option<OwnedFd>,
    exit: Option<Exit>,
}

impl Fate {
    /// Of a process that this monitor has started.
    pub fn of_child(init: ProcessRef) -> Self {
        Self { init, parent: Parent::Monitor, pidfd: None, exit: None }
    }

    /// Of a process that another monitor has started.
    pub fn inherited(init: ProcessRef, keeper: &Keeper, kept: &Kept) -> Self {
        let is_its_child = keeper.process.is_some_and(|keeper| parent_of(init) == Some(keeper.pid));
        let mut fate = Self { init, parent: Parent::Keeper, pidfd: None, exit: kept.exit_of(init.pid) };
        if !is_its_child && fate.exit.is_none() {
            fate.orphaned();
        }
        fate
    }

    fn orphaned(&mut self) {
        self.parent = Parent::Nobody;
        self.pidfd = wait::pidfd(self.init);
    }

    /// Collects every child that has ended, and says how the first process did, once it has.
    pub fn look(&mut self, keeper: &mut Keeper) -> Option<Exit> {
        self.reap(keeper);
        let told = keeper.hear(self.init.pid);
        self.exit = self.exit.or(told);
        if self.exit.is_none() && self.parent == Parent::Keeper && keeper.fd().is_none() {
            self.orphaned();
        }
        if self.exit.is_none() && self.parent == Parent::Nobody {
            let pidfd = self.pidfd.as_ref();
            let lives =
                pidfd.is_some_and(|pidfd| matches!(wait::readable(&[pidfd.as_fd()], Some(Instant::now())), Ok(false)));
            if !lives {
                self.exit = Some(last_words(self.init, self.pidfd.as_ref()).unwrap_or((EXIT_UNKNOWN, None)));
            }
        }
        self.exit
    }

    /// How it ended, as far as it is known.
    pub fn exit(&self) -> Option<Exit> {
        self.exit
    }

    /// Readable when the first process has ended and nobody else says so.
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.pidfd.as_ref().filter(|_| self.exit.is_none()).map(|pidfd| pidfd.as_fd())
    }

    fn reap(&mut self, keeper: &mut Keeper) {
        let look = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        loop {
            let (pid, exit) = match waitid(Id::All, look) {
                Ok(WaitStatus::Exited(pid, code)) => (pid, (code, None)),
                Ok(WaitStatus::Signaled(pid, signal, _)) => (pid, killed(signal as i32)),
                _ => return,
            };
            if u32::try_from(pid.as_raw()) == Ok(self.init.pid) && self.parent == Parent::Monitor {
                // Before it is reaped: from then on nobody else could tell.
                keeper.ended(self.init.pid, exit);
                self.exit = Some(exit);
            }
            let _ = waitpid(pid, Some(WaitPidFlag::WNOHANG));
        }
    }
}

/// Collects children that have ended while no container runs.
pub fn reap_all() {
    while !matches!(waitpid(None, Some(WaitPidFlag::WNOHANG)), Ok(WaitStatus::StillAlive) | Err(_)) {}
}

/// A field of `/proc/PID/stat` after the name, counted as in proc_pid_stat(5).
fn field(process: ProcessRef, number: usize) -> Option<String> {
    let text = std::fs::read_to_string(format!("/proc/{}/stat", process.pid)).ok()?;
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_ascii_whitespace().collect();
    let get = |number: usize| fields.get(number.checked_sub(3)?).copied();
    let same = get(22)?.parse() == Ok(process.start_time);
    same.then(|| get(number).map(str::to_owned)).flatten()
}

fn parent_of(process: ProcessRef) -> Option<u32> {
    field(process, 4)?.parse().ok()
}

/// How a process ended that is not ours: from `/proc` until somebody reaps it, from the kernel after that.
fn last_words(process: ProcessRef, pidfd: Option<&OwnedFd>) -> Option<Exit> {
    let zombie = field(process, 3).filter(|state| state == "Z").and_then(|_| field(process, 52)?.parse().ok());
    zombie.or_else(|| crate::sys::ended_status(pidfd?.as_fd())).map(exit_of)
}

/// From a wait status (wait(2)).
const fn exit_of(status: i32) -> Exit {
    match status & 0x7f {
        0 => ((status >> 8) & 0xff, None),
        signal => killed(signal),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_is_not_ours_still_tells_its_code() {
        assert_eq!([7 << 8, 9, 11 | 0x80].map(exit_of), [(7, None), (137, Some(9)), (139, Some(11))]);
        let mut child = std::process::Command::new("sh")
            .args(["-c", "read x; exit 7"])
            .stdin(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let process = ProcessRef::of(child.id()).unwrap();
        assert_eq!(parent_of(process), Some(std::process::id()));
        let pidfd = wait::pidfd(process).unwrap();
        drop(child.stdin.take());
        wait::readable(&[pidfd.as_fd()], None).unwrap();
        assert_eq!(last_words(process, Some(&pidfd)), Some((7, None)), "as a zombie");
        child.wait().unwrap();
        // Linux before 6.15 does not know.
        assert!(matches!(last_words(process, Some(&pidfd)), Some((7, None)) | None), "when it has been reaped");
        assert_eq!(last_words(process, None), None);
    }
}
