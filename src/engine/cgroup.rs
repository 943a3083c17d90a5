//! A container's cgroup, for those that know only its path.

use anyhow::Result;
use umiak_runtime::cgroup::{Cgroup, Stats};

/// Whether the kernel killed something of it for memory.
pub fn oom_killed(path: &str) -> bool {
    Cgroup::new(path).is_ok_and(|cgroup| cgroup.oom_killed())
}

/// The most memory that it had in use, and its memory limit, in bytes; what cannot be read is left out.
pub fn memory(path: &str) -> (Option<u64>, Option<u64>) {
    let stats = Cgroup::new(path).and_then(|cgroup| cgroup.stats()).unwrap_or_default();
    (stats.memory_peak, stats.memory_limit)
}

/// Kills everything in it.
pub fn kill(path: &str) -> Result<()> {
    Ok(Cgroup::new(path)?.kill_all()?)
}

/// Kills what is left in it and removes it.
pub fn clear(path: &str) -> Result<()> {
    let cgroup = Cgroup::new(path)?;
    if !cgroup.exists() {
        return Ok(());
    }
    cgroup.kill_all()?;
    Ok(cgroup.remove()?)
}

/// Lets what is in it run on, if it stands still.
pub fn thaw(path: &str) -> Result<()> {
    let cgroup = Cgroup::new(path)?;
    if cgroup.frozen() { Ok(cgroup.thaw()?) } else { Ok(()) }
}

/// What it uses now.
pub fn stats(path: &str) -> Result<Stats> {
    Ok(Cgroup::new(path)?.stats()?)
}

/// The host's memory, in bytes.
pub fn host_memory() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kilobytes = |line: &str| line.strip_prefix("MemTotal:")?.trim().strip_suffix("kB")?.trim().parse::<u64>().ok();
    text.lines().find_map(kilobytes).unwrap_or(0) * 1024
}

/// Bytes that a process's network namespace has received and sent, loopback aside.
pub fn net_io(pid: u32) -> (u64, u64) {
    let text = std::fs::read_to_string(format!("/proc/{pid}/net/dev")).unwrap_or_default();
    let mut sum = (0, 0);
    for line in text.lines() {
        let Some((name, counters)) = line.split_once(':') else { continue };
        if name.trim() == "lo" {
            continue;
        }
        let numbers: Vec<u64> = counters.split_ascii_whitespace().filter_map(|word| word.parse().ok()).collect();
        sum.0 += numbers.first().copied().unwrap_or(0);
        sum.1 += numbers.get(8).copied().unwrap_or(0);
    }
    sum
}
