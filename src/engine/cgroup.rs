//! A container's cgroup, for those that know only its path.

use anyhow::{Context as _, Result};
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

/// A process of a container, as the host sees it.
#[derive(Debug, Clone)]
pub struct Process {
    uid: String,
    pid: i32,
    ppid: String,
    share: u64,
    start: String,
    terminal: String,
    time: String,
    command: String,
}

impl Process {
    /// `ps -ef`'s columns: UID PID PPID C STIME TTY TIME CMD.
    pub fn columns(&self) -> Vec<String> {
        vec![
            self.uid.clone(),
            self.pid.to_string(),
            self.ppid.clone(),
            self.share.to_string(),
            self.start.clone(),
            self.terminal.clone(),
            self.time.clone(),
            self.command.clone(),
        ]
    }
}

/// The processes of a container. No program of the image is run for it (CVE-2022-1227).
pub fn processes(path: &str) -> Result<Vec<Process>> {
    let pids = Cgroup::new(path)?.processes()?;
    let uptime = std::fs::read_to_string("/proc/uptime").context("read /proc/uptime")?;
    let uptime: f64 = uptime.split_ascii_whitespace().next().and_then(|word| word.parse().ok()).unwrap_or(0.0);
    // A process that ends meanwhile is left out.
    Ok(pids.into_iter().filter_map(|pid| process(pid, uptime)).collect())
}

#[allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "shown in seconds"
)]
fn process(pid: i32, uptime: f64) -> Option<Process> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (head, rest) = stat.rsplit_once(')')?;
    let name = head.split_once('(')?.1;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    let number = |index: usize| fields.get(index).and_then(|word| word.parse::<u64>().ok()).unwrap_or(0);
    let ticks = rustix::param::clock_ticks_per_second().max(1);
    let (used, started) = ((number(11) + number(12)) / ticks, number(19) as f64 / ticks as f64);
    let age = (uptime - started).max(0.0);
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let uid = status.lines().find_map(|line| line.strip_prefix("Uid:")?.split_ascii_whitespace().nth(1))?;
    let arguments = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let words: Vec<String> = arguments
        .split(|byte| *byte == 0)
        .filter(|word| !word.is_empty())
        .map(|word| String::from_utf8_lossy(word).into_owned())
        .collect();
    let start = jiff::Timestamp::now().checked_sub(jiff::SignedDuration::from_secs(age as i64)).ok()?;
    let terminal = match number(4) {
        0 => "?".to_owned(),
        device => format!("pts/{}", device & 0xff),
    };
    Some(Process {
        uid: user_name(uid),
        pid,
        ppid: fields.get(1).copied().unwrap_or_default().to_owned(),
        share: if age > 0.0 { (used as f64 / age * 100.0) as u64 } else { 0 },
        start: start.to_zoned(jiff::tz::TimeZone::system()).strftime("%H:%M").to_string(),
        terminal,
        time: format!("{:02}:{:02}:{:02}", used / 3600, used / 60 % 60, used % 60),
        command: if words.is_empty() { format!("[{name}]") } else { words.join(" ") },
    })
}

/// The host's name of a user id, as `ps` shows it.
fn user_name(uid: &str) -> String {
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let named = passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == uid).then(|| name.to_owned())
    });
    named.unwrap_or_else(|| uid.to_owned())
}
