//! What a container uses, as its cgroup counts it.

use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::kill::field;
use super::{Cgroup, CgroupError, Version, read};

/// One reading. Missing controllers leave zeros and `None`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    /// Bytes of memory in use, without the page cache that can go at once (`inactive_file`), as `docker stats` shows it.
    pub memory: u64,
    /// The same with all of the page cache.
    pub memory_with_cache: u64,
    /// The limit in bytes; `None` is unlimited.
    pub memory_limit: Option<u64>,
    /// The most that was ever in use, in bytes.
    pub memory_peak: Option<u64>,
    /// Swap in use, in bytes.
    pub swap: u64,
    /// CPU time in nanoseconds.
    pub cpu_ns: u64,
    /// Scheduling periods in which the CPU limit took effect.
    pub throttled_periods: u64,
    /// Time spent waiting because of the CPU limit, in nanoseconds.
    pub throttled_ns: u64,
    /// Processes and threads.
    pub pids: u64,
    /// How many there may be; `None` is unlimited.
    pub pids_limit: Option<u64>,
    /// Bytes read from block devices.
    pub read_bytes: u64,
    /// Bytes written to block devices.
    pub written_bytes: u64,
    /// What its processes wait for; `None` where the kernel does not count it, and on v1.
    pub pressure: Option<Pressure>,
}

/// Shares of the last ten seconds, in hundredths of a percent, in which some of the processes waited
/// (Documentation/accounting/psi.rst).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pressure {
    /// For a CPU.
    pub cpu: u32,
    /// For memory.
    pub memory: u32,
    /// For block devices.
    pub io: u32,
}

impl Cgroup {
    /// Reads what the container uses now.
    ///
    /// # Errors
    /// When the cgroup does not exist (the container does not run) or its files cannot be read.
    pub fn stats(&self) -> Result<Stats, CgroupError> {
        if !self.exists() {
            let path = self.directory("memory");
            return Err(CgroupError::Read { path, source: io::ErrorKind::NotFound.into() });
        }
        match self.version() {
            Version::V2 => self.stats_v2(),
            Version::V1 => self.stats_v1(),
        }
    }

    fn stats_v2(&self) -> Result<Stats, CgroupError> {
        let directory = self.directory("");
        let file = |name: &str| optional(&directory.join(name));
        let usage = number(&file("memory.current")?).unwrap_or(0);
        let memory = file("memory.stat")?;
        let cpu = file("cpu.stat")?;
        let (read_bytes, written_bytes) = io_v2(&file("io.stat")?);
        Ok(Stats {
            memory: usage.saturating_sub(field(&memory, "inactive_file").unwrap_or(0)),
            memory_with_cache: usage,
            memory_limit: number(&file("memory.max")?),
            memory_peak: number(&file("memory.peak")?),
            swap: number(&file("memory.swap.current")?).unwrap_or(0),
            cpu_ns: field(&cpu, "usage_usec").unwrap_or(0).saturating_mul(1_000),
            throttled_periods: field(&cpu, "nr_throttled").unwrap_or(0),
            throttled_ns: field(&cpu, "throttled_usec").unwrap_or(0).saturating_mul(1_000),
            pids: number(&file("pids.current")?).unwrap_or(0),
            pids_limit: number(&file("pids.max")?),
            read_bytes,
            written_bytes,
            pressure: pressure([&file("cpu.pressure")?, &file("memory.pressure")?, &file("io.pressure")?]),
        })
    }

    fn stats_v1(&self) -> Result<Stats, CgroupError> {
        let file = |controller: &str, name: &str| optional(&self.directory(controller).join(name));
        let usage = number(&file("memory", "memory.usage_in_bytes")?).unwrap_or(0);
        let memory = file("memory", "memory.stat")?;
        let cpu = file("cpu", "cpu.stat")?;
        let (read_bytes, written_bytes) = io_v1(&file("blkio", "blkio.throttle.io_service_bytes")?);
        // v1 writes "no limit" as the largest whole number of pages.
        let limit = number(&file("memory", "memory.limit_in_bytes")?).filter(|limit| *limit < u64::MAX / 4);
        Ok(Stats {
            memory: usage.saturating_sub(field(&memory, "total_inactive_file").unwrap_or(0)),
            memory_with_cache: usage,
            memory_limit: limit,
            memory_peak: number(&file("memory", "memory.max_usage_in_bytes")?),
            swap: field(&memory, "total_swap").unwrap_or(0),
            cpu_ns: number(&file("cpuacct", "cpuacct.usage")?).unwrap_or(0),
            throttled_periods: field(&cpu, "nr_throttled").unwrap_or(0),
            throttled_ns: field(&cpu, "throttled_time").unwrap_or(0),
            pids: number(&file("pids", "pids.current")?).unwrap_or(0),
            pids_limit: number(&file("pids", "pids.max")?),
            read_bytes,
            written_bytes,
            pressure: None,
        })
    }
}

/// Where one of the three can be read, the others are there too.
fn pressure([cpu, memory, io]: [&str; 3]) -> Option<Pressure> {
    let waited = |text: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix("some avg10="))?;
        let (whole, hundredths) = line.split(' ').next()?.split_once('.')?;
        Some(whole.parse::<u32>().ok()?.checked_mul(100)?.saturating_add(hundredths.parse::<u32>().ok()?))
    };
    Some(Pressure { cpu: waited(cpu)?, memory: waited(memory)?, io: waited(io)? })
}

/// The file's content; empty where there is no such file.
fn optional(path: &Path) -> Result<String, CgroupError> {
    match read(path) {
        Err(CgroupError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        result => result,
    }
}

/// A number; `max` and the empty text are none.
fn number(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

/// Sums over devices: lines of `8:0 rbytes=1 wbytes=2 …`.
fn io_v2(text: &str) -> (u64, u64) {
    let words = || text.split_ascii_whitespace();
    let sum = |key: &str| words().filter_map(|word| word.strip_prefix(key)?.parse::<u64>().ok()).sum();
    (sum("rbytes="), sum("wbytes="))
}

/// Sums over devices: lines of `8:0 Read 1`.
fn io_v1(text: &str) -> (u64, u64) {
    let sum = |kind: &str| {
        let lines = text.lines().map(|line| line.split(' ').collect::<Vec<_>>());
        lines
            .filter(|words| words.len() == 3 && words[1] == kind)
            .filter_map(|words| words[2].parse::<u64>().ok())
            .sum()
    };
    (sum("Read"), sum("Write"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn v2_files_are_read_as_docker_stats_does() {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("c");
        std::fs::create_dir(&directory).unwrap();
        for (name, content) in [
            ("memory.current", "10485760\n"),
            ("memory.stat", "anon 1\nfile 5\ninactive_file 4194304\n"),
            ("memory.max", "max\n"),
            ("cpu.stat", "usage_usec 1500\nuser_usec 1\nnr_throttled 3\nthrottled_usec 7\n"),
            ("pids.current", "2\n"),
            ("pids.max", "2048\n"),
            ("io.stat", "8:0 rbytes=10 wbytes=20 rios=1\n8:16 rbytes=1 wbytes=2 rios=1\n"),
            ("memory.events", "low 0\noom 2\noom_kill 1\n"),
            (
                "cpu.pressure",
                "some avg10=12.05 avg60=1.81 avg300=0.65 total=1\nfull avg10=3.48 avg60=0.00 avg300=0.00 total=1\n",
            ),
            ("memory.pressure", "some avg10=0.00 avg60=0.00 avg300=0.00 total=0\n"),
            ("io.pressure", "some avg10=100.00 avg60=1.20 avg300=0.28 total=923772\n"),
        ] {
            std::fs::write(directory.join(name), content).unwrap();
        }
        let cgroup = Cgroup::at(root.path(), Version::V2, "/c").unwrap();
        let stats = cgroup.stats().unwrap();
        assert_eq!((stats.memory, stats.memory_limit, stats.cpu_ns), (6_291_456, None, 1_500_000));
        assert_eq!((stats.pids, stats.pids_limit, stats.throttled_ns), (2, Some(2048), 7_000));
        assert_eq!((stats.read_bytes, stats.written_bytes), (11, 22));
        assert_eq!(stats.pressure, Some(Pressure { cpu: 1205, memory: 0, io: 10_000 }));
        assert!(cgroup.oom_killed());
        assert!(Cgroup::at(root.path(), Version::V2, "/nosuch").unwrap().stats().is_err());
    }

    #[test]
    fn v1_block_io_lines() {
        assert_eq!(io_v1("8:0 Read 10\n8:0 Write 20\n8:16 Read 1\nTotal 31\n"), (11, 20));
    }
}
