//! Which process is meant: a pid alone is reused, a pid with its start time
//! and the boot id is not.

use std::path::Path;

use serde::{Deserialize, Serialize};

/// A process that can be told from a later one with the same pid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessRef {
    /// The pid in the host's pid namespace.
    pub pid: u32,
    /// Start time in clock ticks since boot, field 22 of `/proc/PID/stat` (proc_pid_stat(5)).
    pub start_time: u64,
}

impl ProcessRef {
    /// The process that has `pid` now; `None` when there is none (or it is a zombie already reaped).
    #[must_use]
    pub fn of(pid: u32) -> Option<Self> {
        stat(pid).map(|stat| Self { pid, start_time: stat.start_time })
    }

    /// This process.
    #[must_use]
    pub fn current() -> Option<Self> {
        Self::of(std::process::id())
    }

    /// Whether this very process is still there and not a zombie.
    #[must_use]
    pub fn alive(self) -> bool {
        stat(self.pid).is_some_and(|stat| stat.start_time == self.start_time && !stat.dead)
    }

    /// Whether this very process has ended or is about to: SIGKILL has been sent to it, and all that it still needs is
    /// its turn.
    #[must_use]
    pub fn is_ending(self) -> bool {
        stat(self.pid).is_none_or(|stat| stat.start_time != self.start_time || stat.dead || stat.ending)
    }
}

/// `PF_EXITING` (include/linux/sched.h).
const EXITING: u64 = 0x4;
/// SIGKILL among pending signals.
const KILLED: u64 = 1 << 8;

struct Stat {
    start_time: u64,
    dead: bool,
    ending: bool,
}

fn stat(pid: u32) -> Option<Stat> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name (field 2) may hold spaces and parentheses: count from the last ')'.
    let rest = text.get(text.rfind(')')? + 2..)?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    // As counted in proc_pid_stat(5), where the state is the third.
    let number = |field: usize| fields.get(field - 3).and_then(|text| text.parse::<u64>().ok());
    let ending = number(9)? & EXITING != 0 || number(31)? & KILLED != 0;
    Some(Stat { start_time: number(22)?, dead: matches!(*fields.first()?, "Z" | "X" | "x"), ending })
}

/// The kernel's id of this boot (`/proc/sys/kernel/random/boot_id`): state that
/// speaks of running things and names another boot is not believed.
///
/// # Errors
/// When `/proc` is not mounted.
pub fn boot_id() -> std::io::Result<String> {
    std::fs::read_to_string(Path::new("/proc/sys/kernel/random/boot_id")).map(|id| id.trim().to_owned())
}

/// When this boot began, in seconds since 1970 (`btime` of `/proc/stat`, proc_stat(5)).
///
/// # Errors
/// When `/proc` is not mounted.
pub fn booted_at() -> std::io::Result<u64> {
    let text = std::fs::read_to_string("/proc/stat")?;
    let value = text.lines().find_map(|line| line.strip_prefix("btime "));
    value.and_then(|value| value.trim().parse().ok()).ok_or_else(|| std::io::ErrorKind::InvalidData.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_alive_and_a_changed_start_time_is_another() {
        let me = ProcessRef::of(std::process::id()).unwrap();
        assert!(me.alive());
        assert!(!ProcessRef { start_time: me.start_time + 1, ..me }.alive());
        assert!(ProcessRef::of(u32::MAX - 1).is_none());
        assert!(!me.is_ending() && ProcessRef { start_time: me.start_time + 1, ..me }.is_ending());
    }

    #[test]
    fn one_that_was_killed_is_ending_at_once() {
        let mut child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        let process = ProcessRef::of(child.id()).unwrap();
        assert!(process.alive() && !process.is_ending());
        child.kill().unwrap();
        assert!(process.is_ending());
        child.wait().unwrap();
        assert!(process.is_ending());
    }

    #[test]
    fn the_boot_id_is_a_uuid() {
        assert_eq!(boot_id().unwrap().len(), 36);
    }

    #[test]
    fn this_boot_began_in_the_past() {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
        let began = booted_at().unwrap();
        assert!(began > 0 && began <= now, "{began}");
    }
}
