//! The processes of a container as the host sees them, with the fields of
//! `ps`. No program is run for it, of the host or of the image (CVE-2022-1227).

use anyhow::{Context as _, Result};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, Zoned};
use umiak_runtime::cgroup::Cgroup;

/// One process.
#[derive(Debug, Clone)]
pub struct Process {
    pid: i32,
    /// What stands in `/proc/PID/stat` after the name (proc_pid_stat(5)), the state first.
    stat: Vec<String>,
    name: String,
    command: String,
    /// User and group: real, effective.
    uids: [String; 2],
    gids: [String; 2],
    /// How long it has been running, and how much of that on a CPU, in seconds.
    age: f64,
    used: f64,
    /// The host's memory, in kilobytes.
    memory: u64,
}

/// The columns of `ps -ef`.
pub const FULL: [&str; 8] = ["user", "pid", "ppid", "c", "stime", "tname", "time", "cmd"];

/// Fields: their names for `ps -o`, and their titles.
const FIELDS: [(&[&str], &str); 28] = [
    (&["pid", "tgid"], "PID"),
    (&["ppid"], "PPID"),
    (&["pgid", "pgrp"], "PGID"),
    (&["sid", "sess", "session"], "SID"),
    (&["uid", "euid"], "UID"),
    (&["ruid"], "RUID"),
    (&["user", "euser", "uname"], "USER"),
    (&["ruser"], "RUSER"),
    (&["gid", "egid"], "GID"),
    (&["group", "egroup"], "GROUP"),
    (&["comm", "ucmd", "ucomm"], "COMMAND"),
    (&["args", "command"], "COMMAND"),
    (&["cmd"], "CMD"),
    (&["c"], "C"),
    (&["%cpu", "pcpu"], "%CPU"),
    (&["%mem", "pmem"], "%MEM"),
    (&["vsz", "vsize"], "VSZ"),
    (&["rss", "rssize", "rsz"], "RSS"),
    (&["tt", "tty"], "TT"),
    (&["tname"], "TTY"),
    (&["stat"], "STAT"),
    (&["s", "state"], "S"),
    (&["stime"], "STIME"),
    (&["start_time", "start"], "START"),
    (&["time", "cputime"], "TIME"),
    (&["etime"], "ELAPSED"),
    (&["nlwp", "thcount"], "NLWP"),
    (&["ni", "nice"], "NI"),
];

/// The title of a field; nothing where there is none of this name.
pub fn title(field: &str) -> Option<&'static str> {
    FIELDS.iter().find(|(names, _)| names.contains(&field)).map(|(_, title)| *title)
}

/// All fields that there are.
pub fn known() -> String {
    FIELDS.iter().filter_map(|(names, _)| names.first().copied()).collect::<Vec<_>>().join(", ")
}

/// The processes of a container, by the path of its cgroup.
pub fn processes(path: &str) -> Result<Vec<Process>> {
    let pids = Cgroup::new(path)?.processes()?;
    let uptime = std::fs::read_to_string("/proc/uptime").context("read /proc/uptime")?;
    let uptime: f64 = uptime.split_ascii_whitespace().next().and_then(|word| word.parse().ok()).unwrap_or(0.0);
    let memory = super::cgroup::host_memory() / 1024;
    // A process that ends meanwhile is left out.
    Ok(pids.into_iter().filter_map(|pid| process(pid, uptime, memory)).collect())
}

#[allow(clippy::cast_precision_loss, reason = "shown in seconds")]
fn process(pid: i32, uptime: f64, memory: u64) -> Option<Process> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (head, rest) = stat.rsplit_once(')')?;
    let stat: Vec<String> = rest.split_ascii_whitespace().map(str::to_owned).collect();
    let number = |index: usize| stat.get(index).and_then(|word| word.parse::<u64>().ok()).unwrap_or(0);
    let ticks = rustix::param::clock_ticks_per_second().max(1) as f64;
    let (used, started) = ((number(11) + number(12)) as f64 / ticks, number(19) as f64 / ticks);
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let ids = |title: &str| {
        let mut words = status.lines().find_map(|line| line.strip_prefix(title))?.split_ascii_whitespace();
        Some([words.next()?.to_owned(), words.next()?.to_owned()])
    };
    let arguments = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let words = arguments.split(|byte| *byte == 0).filter(|word| !word.is_empty());
    let command = words.map(String::from_utf8_lossy).collect::<Vec<_>>().join(" ");
    let name = head.split_once('(')?.1.to_owned();
    let age = (uptime - started).max(0.0);
    Some(Process { pid, name, command, uids: ids("Uid:")?, gids: ids("Gid:")?, age, used, memory, stat })
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "whole seconds of small numbers")]
impl Process {
    /// A field, by its name for `ps -o`.
    pub fn field(&self, name: &str) -> String {
        let [real, effective] = &self.uids;
        match title(name).unwrap_or_default() {
            "PID" => self.pid.to_string(),
            "PPID" => self.word(1),
            "PGID" => self.word(2),
            "SID" => self.word(3),
            "UID" => effective.clone(),
            "RUID" => real.clone(),
            "USER" => name_in("/etc/passwd", effective),
            "RUSER" => name_in("/etc/passwd", real),
            "GID" => self.gids[1].clone(),
            "GROUP" => name_in("/etc/group", &self.gids[1]),
            "COMMAND" if matches!(name, "comm" | "ucmd" | "ucomm") => self.name.clone(),
            "COMMAND" | "CMD" if self.command.is_empty() => format!("[{}]", self.name),
            "COMMAND" | "CMD" => self.command.clone(),
            "C" => (self.share() as u64).to_string(),
            "%CPU" => format!("{:.1}", self.share()),
            "%MEM" => format!("{:.1}", self.resident() / self.memory.max(1) as f64 * 100.0),
            "VSZ" => (self.number(20) / 1024).to_string(),
            "RSS" => (self.resident() as u64).to_string(),
            "TT" | "TTY" => self.terminal(),
            "STAT" => self.state(),
            "S" => self.word(0),
            "STIME" | "START" => self.start(),
            "TIME" => clock(self.used as u64, true),
            "ELAPSED" => clock(self.age as u64, false),
            "NLWP" => self.word(17),
            "NI" => self.word(16),
            _ => String::new(),
        }
    }

    fn word(&self, index: usize) -> String {
        self.stat.get(index).cloned().unwrap_or_default()
    }

    fn number(&self, index: usize) -> u64 {
        self.stat.get(index).and_then(|word| word.parse().ok()).unwrap_or(0)
    }

    /// Of one CPU, in percent, since it began.
    fn share(&self) -> f64 {
        if self.age > 0.0 { self.used / self.age * 100.0 } else { 0.0 }
    }

    /// In kilobytes.
    #[allow(clippy::cast_precision_loss, reason = "shown as a percentage with one decimal")]
    fn resident(&self) -> f64 {
        (self.number(21) * (rustix::param::page_size() as u64 / 1024)) as f64
    }

    fn terminal(&self) -> String {
        match self.number(4) {
            0 => "?".to_owned(),
            device => format!("pts/{}", device & 0xff),
        }
    }

    /// The state with `ps`'s signs behind it (PROCESS STATE CODES in ps(1)).
    fn state(&self) -> String {
        let nice: i64 = self.word(16).parse().unwrap_or(0);
        let signs = [
            (nice < 0, '<'),
            (nice > 0, 'N'),
            (self.word(3) == self.pid.to_string(), 's'),
            (self.number(17) > 1, 'l'),
            (self.word(5) == self.word(2), '+'),
        ];
        self.word(0).chars().chain(signs.into_iter().filter(|(is, _)| *is).map(|(_, sign)| sign)).collect()
    }

    /// The time of the day, of older ones the day.
    fn start(&self) -> String {
        let started = Timestamp::now().checked_sub(SignedDuration::from_secs(self.age as i64)).unwrap_or_default();
        let (started, now) = (started.to_zoned(TimeZone::system()), Zoned::now());
        let format = if started.date() == now.date() { "%H:%M" } else { "%b%d" };
        started.strftime(format).to_string()
    }

    /// Minutes and seconds on a CPU, as `ps u` has them.
    pub fn short_time(&self) -> String {
        format!("{}:{:02}", self.used as u64 / 60, self.used as u64 % 60)
    }
}

/// `[days-]hours:minutes:seconds`; without `full` only what is not zero of the first two.
fn clock(seconds: u64, full: bool) -> String {
    let (days, hours, rest) = (seconds / 86_400, seconds / 3600 % 24, seconds % 3600);
    let rest = format!("{:02}:{:02}", rest / 60, rest % 60);
    match (days, hours) {
        (0, 0) if !full => rest,
        (0, hours) => format!("{hours:02}:{rest}"),
        (days, hours) => format!("{days}-{hours:02}:{rest}"),
    }
}

/// The host's name of a user or group, as `ps` shows it; the number where there is none.
fn name_in(file: &str, number: &str) -> String {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let named = text.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == number).then(|| name.to_owned())
    });
    named.unwrap_or_else(|| number.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_ps() {
        assert_eq!([clock(5, true), clock(3661, true), clock(90_061, true)], ["00:00:05", "01:01:01", "1-01:01:01"]);
        assert_eq!([clock(5, false), clock(3661, false), clock(90_061, false)], ["00:05", "01:01:01", "1-01:01:01"]);
    }

    #[test]
    fn every_field_of_every_process_has_a_value() {
        let own = i32::try_from(std::process::id()).unwrap();
        let process = process(own, 1e9, 1 << 20).unwrap();
        for (names, _) in FIELDS {
            for name in names {
                assert!(!process.field(name).is_empty(), "{name}");
            }
        }
        assert_eq!((process.field("pid"), process.field("nosuch")), (own.to_string(), String::new()));
    }
}
