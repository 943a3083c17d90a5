//! What the limits of a config mean in files of a cgroup: pure decisions, for
//! v2 (Documentation/admin-guide/cgroup-v2.rst) and v1. The conversions between
//! Docker's units and v2's are runc's.

mod v1;

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use serde::{Deserialize, Serialize};

pub use self::v1::resources_v1;
use super::{Cgroup, CgroupError, Version};
use crate::config::{DeviceRate, Limits};

/// Controllers that limits need, on v2.
pub const CONTROLLERS: [&str; 5] = ["cpuset", "cpu", "io", "memory", "pids"];

/// Docker's lower bound: below it no program starts.
const MIN_MEMORY: u64 = 6 << 20;
const DEFAULT_PERIOD: u64 = 100_000;

/// How a value that was read is compared with the one asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Compare {
    /// Same text.
    Exact,
    /// Same number after rounding down to whole pages.
    Pages,
    /// Same set of numbers, however written (`0-2,4`).
    List,
    /// The file has a line that starts with the first word of the value and holds all its further words.
    Line,
    /// The file has this line.
    Contains,
    /// Not at all: it is a way back to the kernel's default, which the kernel writes in its own way.
    Never,
}

/// One value for one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// The limit, as people call it.
    pub limit: &'static str,
    /// Its controller.
    pub controller: &'static str,
    /// The file.
    pub file: String,
    /// What is written.
    pub value: String,
    /// Somebody asked for it; otherwise a missing file is skipped.
    pub required: bool,
    compare: Compare,
}

/// A limit in force, as the kernel tells it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    /// The limit.
    pub limit: String,
    /// The cgroup file.
    pub file: String,
    /// What was asked for.
    pub asked: String,
    /// What the kernel reads back.
    pub found: String,
}

impl Setting {
    fn new(limit: &'static str, controller: &'static str, file: &str, value: impl ToString) -> Self {
        let (file, value) = (file.to_owned(), value.to_string());
        Self { limit, controller, file, value, required: true, compare: Compare::Exact }
    }

    fn compared(self, compare: Compare) -> Self {
        Self { compare, ..self }
    }

    fn unasked(self) -> Self {
        Self { required: false, ..self }
    }

    pub(super) fn with_value(self, value: String) -> Self {
        Self { value, ..self }
    }

    /// The same without a comparison.
    pub(super) fn into_reset(self) -> Self {
        self.compared(Compare::Never).unasked()
    }

    pub(super) fn is_reset(&self) -> bool {
        self.compare == Compare::Never
    }

    /// What of the cgroup it is about: a file, and in files of several lines or keys one of them.
    pub(super) fn about(&self) -> (&str, &str) {
        let key = match self.compare {
            Compare::Line => self.value.rsplit_once(['=', ' ']).map_or("", |(key, _)| key),
            _ => "",
        };
        (&self.file, key)
    }

    /// The part of the file's content that this setting is about.
    pub(super) fn find(&self, content: &str) -> String {
        let key = self.value.split(' ').next().unwrap_or("");
        match self.compare {
            Compare::Line => content.lines().find(|line| line.split(' ').next() == Some(key)).unwrap_or("").to_owned(),
            _ => content.trim().to_owned(),
        }
    }

    /// Whether what was found is what was asked for.
    pub(super) fn satisfied_by(&self, found: &str) -> bool {
        match self.compare {
            Compare::Exact => found == self.value,
            Compare::Pages => match (self.value.parse::<u64>(), found.parse::<u64>()) {
                (Ok(asked), Ok(got)) => got == asked / page_size() * page_size(),
                // v1 has no word for "unlimited" but the largest number of pages.
                (Err(_), Ok(got)) if self.value == "-1" => got > u64::MAX / 4,
                _ => found == self.value,
            },
            Compare::List => numbers(&self.value) == numbers(found),
            Compare::Line => self.value.split(' ').all(|word| found.split(' ').any(|got| got == word)),
            Compare::Never => true,
            Compare::Contains => found.lines().any(|line| line == self.value),
        }
    }
}

fn page_size() -> u64 {
    rustix::param::page_size() as u64
}

/// The numbers of a kernel list like `0-2,4`.
fn numbers(list: &str) -> Option<Vec<u32>> {
    let mut out = Vec::new();
    for part in list.trim().split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u32, u32) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        if last > 1 << 16 {
            return None;
        }
        out.extend(first..=last);
    }
    out.sort_unstable();
    out.dedup();
    Some(out)
}

fn invalid(limit: &'static str, value: impl ToString, reason: impl Into<String>) -> CgroupError {
    CgroupError::Invalid { limit, value: value.to_string(), reason: reason.into() }
}

/// The values of `limits` for a cgroup of `version`, checked as Docker checks them.
///
/// # Errors
/// A value out of range, two that contradict each other, one that the version has no file for.
pub fn plan(limits: &Limits, version: Version) -> Result<Vec<Setting>, CgroupError> {
    let mut out = Vec::new();
    memory(limits, version, &mut out)?;
    cpu(limits, version, &mut out)?;
    cpuset(limits, version, &mut out)?;
    pids(limits, version, &mut out);
    block_io(limits, version, &mut out)?;
    Ok(out)
}

const MEMORY: &str = "memory limit";
const SWAP: &str = "memory and swap limit";
const RESERVATION: &str = "memory reservation";

/// Memory plus swap as asked for, or Docker's default of twice the memory; `None` is unlimited.
fn memory_and_swap(limits: &Limits) -> Result<Option<u64>, CgroupError> {
    match (limits.memory_swap.filter(|swap| *swap != 0), limits.memory) {
        (None, Some(memory)) => Ok(Some(memory.saturating_mul(2))),
        (Some(-1), Some(_)) | (None, None) => Ok(None),
        (Some(swap), None) => Err(invalid(SWAP, swap, "a memory limit must be set too")),
        (Some(swap), Some(memory)) => match u64::try_from(swap) {
            Ok(swap) if swap >= memory => Ok(Some(swap)),
            Ok(_) => Err(invalid(SWAP, swap, "it must be at least the memory limit")),
            Err(_) => Err(invalid(SWAP, swap, "-1 is the only negative value")),
        },
    }
}

fn memory(limits: &Limits, version: Version, out: &mut Vec<Setting>) -> Result<(), CgroupError> {
    if let Some(memory) = limits.memory.filter(|memory| *memory < MIN_MEMORY) {
        return Err(invalid(MEMORY, memory, "the minimum is 6 MiB"));
    }
    if let (Some(reservation), Some(memory)) = (limits.memory_reservation, limits.memory)
        && reservation > memory
    {
        return Err(invalid(RESERVATION, reservation, "it must not exceed the memory limit"));
    }
    if let Some(swappiness) = limits.swappiness {
        if swappiness > 100 {
            return Err(invalid("swappiness", swappiness, "0 to 100 is expected"));
        }
        if version == Version::V2 {
            return Err(invalid("swappiness", swappiness, "cgroup v2 has no swappiness per container"));
        }
    }
    let swap = memory_and_swap(limits)?;
    if limits.oom_kill_disable && version == Version::V2 {
        return Err(invalid("oom_kill_disable", "true", "cgroup v2 cannot disable the OOM killer"));
    }
    let pages = |limit, file, value: String| Setting::new(limit, "memory", file, value).compared(Compare::Pages);
    match version {
        Version::V2 => {
            out.extend(limits.memory.map(|memory| pages(MEMORY, "memory.max", memory.to_string())));
            out.extend(limits.memory_reservation.map(|low| pages(RESERVATION, "memory.low", low.to_string())));
            if let Some(memory) = limits.memory {
                let value = swap.map_or_else(|| "max".to_owned(), |swap| (swap - memory).to_string());
                let setting = pages(SWAP, "memory.swap.max", value);
                // Kernels without swap accounting have no such file; that matters only where it was asked for.
                out.push(if limits.memory_swap.is_some() { setting } else { setting.unasked() });
            }
        }
        Version::V1 => {
            out.extend(limits.memory.map(|memory| pages(MEMORY, "memory.limit_in_bytes", memory.to_string())));
            let soft = |low: u64| pages(RESERVATION, "memory.soft_limit_in_bytes", low.to_string());
            out.extend(limits.memory_reservation.map(soft));
            if limits.memory.is_some() {
                let value = swap.map_or_else(|| "-1".to_owned(), |swap| swap.to_string());
                let setting = pages(SWAP, "memory.memsw.limit_in_bytes", value);
                out.push(if limits.memory_swap.is_some() { setting } else { setting.unasked() });
            }
            let swappiness = |value: u64| Setting::new("swappiness", "memory", "memory.swappiness", value);
            out.extend(limits.swappiness.map(swappiness));
            if limits.oom_kill_disable {
                let setting = Setting::new("oom_kill_disable", "memory", "memory.oom_control", "oom_kill_disable 1");
                out.push(setting.compared(Compare::Contains));
            }
        }
    }
    Ok(())
}

/// Takes away the limits that this host's cgroups do not have, for those who would rather run without them: their
/// names in Compose files, and why.
pub fn take_missing(limits: &mut Limits, cgroup: &Cgroup) -> Vec<(&'static str, &'static str)> {
    let mut taken = Vec::new();
    if cgroup.version() == Version::V2 {
        if limits.swappiness.take().is_some() {
            taken.push(("mem_swappiness", "cgroup v2 has no swappiness per container"));
        }
        if std::mem::take(&mut limits.oom_kill_disable) {
            taken.push(("oom_kill_disable", "cgroup v2 cannot disable the OOM killer"));
        }
    }
    if !cgroup.host_has("cpu", "cpu.rt_runtime_us") {
        let why = match cgroup.version() {
            Version::V2 => "cgroup v2 has no limits for real-time tasks",
            Version::V1 => "the kernel is built without limits for real-time tasks (CONFIG_RT_GROUP_SCHED)",
        };
        let asked = [
            ("cpu_rt_period", limits.cpu_rt_period.take().is_some()),
            ("cpu_rt_runtime", limits.cpu_rt_runtime.take().is_some()),
        ];
        taken.extend(asked.into_iter().filter(|(_, asked)| *asked).map(|(key, _)| (key, why)));
    }
    taken
}

/// Quota and period in µs; a quota of `None` is unlimited.
fn bandwidth(limits: &Limits) -> Result<Option<(Option<u64>, u64)>, CgroupError> {
    const CPUS: &str = "CPU limit";
    const QUOTA: &str = "CPU quota";
    if let Some(period) = limits.cpu_period.filter(|period| !(1_000..=1_000_000).contains(period)) {
        return Err(invalid("CPU period", period, "1000 to 1000000 µs is expected"));
    }
    let period = limits.cpu_period.unwrap_or(DEFAULT_PERIOD);
    if let Some(cpus) = limits.nano_cpus.filter(|cpus| *cpus != 0) {
        if limits.cpu_quota.is_some() || limits.cpu_period.is_some() {
            return Err(invalid(CPUS, shown(cpus), "it cannot be combined with a CPU quota or period"));
        }
        let online = std::thread::available_parallelism().map_or(1, |count| count.get() as u64);
        let online = online.max(online_cpus());
        if cpus > online * 1_000_000_000 || cpus < 10_000_000 {
            return Err(invalid(
                CPUS,
                shown(cpus),
                format!("0.01 to {online} is expected, this host has {online} CPUs"),
            ));
        }
        return Ok(Some((Some(cpus * period / 1_000_000_000), period)));
    }
    match limits.cpu_quota.filter(|quota| *quota != 0) {
        None => Ok(limits.cpu_period.map(|period| (None, period))),
        Some(-1) => Ok(Some((None, period))),
        Some(quota) => match u64::try_from(quota) {
            Ok(quota) if quota >= 1_000 => Ok(Some((Some(quota), period))),
            _ => Err(invalid(QUOTA, quota, "at least 1000 µs, or -1 for no limit")),
        },
    }
}

fn shown(nano_cpus: u64) -> String {
    #[allow(clippy::cast_precision_loss)] // for a message
    let cpus = nano_cpus as f64 / 1e9;
    format!("{cpus}")
}

/// CPUs of the host, whatever this process may use of them.
fn online_cpus() -> u64 {
    let list = std::fs::read_to_string("/sys/devices/system/cpu/online").ok();
    list.and_then(|list| numbers(&list)).map_or(1, |cpus| cpus.len() as u64)
}

fn cpu(limits: &Limits, version: Version, out: &mut Vec<Setting>) -> Result<(), CgroupError> {
    const SHARES: &str = "CPU shares";
    if let Some(shares) = limits.cpu_shares.filter(|shares| *shares != 0) {
        out.push(match version {
            Version::V2 => Setting::new(SHARES, "cpu", "cpu.weight", weight_of_shares(shares)),
            Version::V1 => Setting::new(SHARES, "cpu", "cpu.shares", shares.clamp(2, 262_144)),
        });
    }
    if let Some((quota, period)) = bandwidth(limits)? {
        const CPUS: &str = "CPU limit";
        match version {
            Version::V2 => {
                let quota = quota.map_or_else(|| "max".to_owned(), |quota| quota.to_string());
                out.push(Setting::new(CPUS, "cpu", "cpu.max", format!("{quota} {period}")));
            }
            Version::V1 => {
                let quota = quota.map_or_else(|| "-1".to_owned(), |quota| quota.to_string());
                out.push(Setting::new(CPUS, "cpu", "cpu.cfs_period_us", period));
                out.push(Setting::new(CPUS, "cpu", "cpu.cfs_quota_us", quota));
            }
        }
    }
    if version == Version::V1 {
        let period = |us: u64| Setting::new("real-time period", "cpu", "cpu.rt_period_us", us);
        let runtime = |us: i64| Setting::new("real-time runtime", "cpu", "cpu.rt_runtime_us", us);
        out.extend(limits.cpu_rt_period.map(period));
        out.extend(limits.cpu_rt_runtime.map(runtime));
    }
    Ok(())
}

/// `cpu.weight` for Docker's shares: 1024 is the default weight of 100, 2 is 1,
/// 262144 is 10000, a curve between (runc's and crun's since 2025).
#[must_use]
pub fn weight_of_shares(shares: u64) -> u64 {
    const LARGEST: u64 = 262_144;
    if shares <= 2 {
        return 1;
    }
    if shares >= LARGEST {
        return 10_000;
    }
    #[allow(clippy::cast_precision_loss)] // below 2^18
    let log = (shares as f64).log2();
    let exponent = (log * log + 125.0 * log) / 612.0 - 7.0 / 34.0;
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // between 1 and 10000
    let weight = 10_f64.powf(exponent).ceil() as u64;
    weight.clamp(1, 10_000)
}

fn cpuset(limits: &Limits, version: Version, out: &mut Vec<Setting>) -> Result<(), CgroupError> {
    for (limit, file, value) in [
        ("cpuset CPUs", "cpuset.cpus", &limits.cpuset_cpus),
        ("cpuset memory nodes", "cpuset.mems", &limits.cpuset_mems),
    ] {
        if value.is_empty() {
            continue;
        }
        numbers(value).ok_or_else(|| invalid(limit, value, "a list like 0-2,4 is expected"))?;
        // v1 and v2 have the same name for both.
        let _ = version;
        out.push(Setting::new(limit, "cpuset", file, value).compared(Compare::List));
    }
    Ok(())
}

fn pids(limits: &Limits, _version: Version, out: &mut Vec<Setting>) {
    if limits.pids > 0 {
        out.push(Setting::new("process limit", "pids", "pids.max", limits.pids));
    }
}

const fn controller_of_io(version: Version) -> &'static str {
    match version {
        Version::V1 => "blkio",
        Version::V2 => "io",
    }
}

fn block_io(limits: &Limits, version: Version, out: &mut Vec<Setting>) -> Result<(), CgroupError> {
    const WEIGHT: &str = "block I/O weight";
    let controller = controller_of_io(version);
    for weight in limits.blkio_weight.iter().chain(limits.blkio_weight_device.iter().map(|device| &device.weight)) {
        if *weight != 0 && !(10..=1000).contains(weight) {
            return Err(invalid(WEIGHT, weight, "10 to 1000 is expected"));
        }
    }
    if let Some(weight) = limits.blkio_weight.filter(|weight| *weight != 0) {
        out.push(match version {
            Version::V2 => {
                let value = format!("default {}", io_weight(weight));
                Setting::new(WEIGHT, controller, "io.weight", value).compared(Compare::Line)
            }
            Version::V1 => Setting::new(WEIGHT, controller, v1_weight_file(), weight),
        });
    }
    for device in &limits.blkio_weight_device {
        let number = device_number(WEIGHT, &device.path)?;
        if version == Version::V2 {
            let value = format!("{number} {}", io_weight(device.weight));
            out.push(Setting::new(WEIGHT, controller, "io.weight", value).compared(Compare::Line));
        }
    }
    for (limit, key, file, rates) in rates(limits) {
        for DeviceRate { path, rate } in rates {
            let number = device_number(limit, path)?;
            let setting = match version {
                Version::V2 => Setting::new(limit, controller, "io.max", format!("{number} {key}={rate}")),
                Version::V1 => Setting::new(limit, controller, file, format!("{number} {rate}")),
            };
            out.push(setting.compared(Compare::Line));
        }
    }
    Ok(())
}

/// Depends on the I/O scheduler; what exists in the root cgroup decides.
fn v1_weight_file() -> &'static str {
    if Path::new("/sys/fs/cgroup/blkio/blkio.weight").exists() { "blkio.weight" } else { "blkio.bfq.weight" }
}

type Rates<'a> = (&'static str, &'static str, &'static str, &'a [DeviceRate]);

fn rates(limits: &Limits) -> [Rates<'_>; 4] {
    [
        ("block read rate", "rbps", "blkio.throttle.read_bps_device", &limits.blkio_read_bps),
        ("block write rate", "wbps", "blkio.throttle.write_bps_device", &limits.blkio_write_bps),
        ("block read operations rate", "riops", "blkio.throttle.read_iops_device", &limits.blkio_read_iops),
        ("block write operations rate", "wiops", "blkio.throttle.write_iops_device", &limits.blkio_write_iops),
    ]
}

/// `io.weight` (1..=10000) for Docker's 10..=1000, linearly.
const fn io_weight(weight: u16) -> u64 {
    let weight = if weight < 10 { 10 } else { weight };
    1 + (weight as u64 - 10) * 9_999 / 990
}

fn device_of(path: &Path) -> io::Result<(u32, u32)> {
    use std::os::unix::fs::FileTypeExt as _;
    let metadata = std::fs::metadata(path)?;
    if !metadata.file_type().is_block_device() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a block device"));
    }
    Ok((rustix::fs::major(metadata.rdev()), rustix::fs::minor(metadata.rdev())))
}

fn device_number(limit: &'static str, path: &Path) -> Result<String, CgroupError> {
    let (major, minor) =
        device_of(path).map_err(|source| CgroupError::Device { limit, path: path.to_owned(), source })?;
    Ok(format!("{major}:{minor}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(limits: &Limits, version: Version) -> Vec<(String, String)> {
        plan(limits, version).unwrap().into_iter().map(|s| (s.file, s.value)).collect()
    }

    fn pair(file: &str, value: &str) -> (String, String) {
        (file.to_owned(), value.to_owned())
    }

    fn full() -> Limits {
        Limits {
            memory: Some(64 << 20),
            memory_reservation: Some(32 << 20),
            nano_cpus: Some(500_000_000),
            cpu_shares: Some(512),
            cpuset_cpus: "0".into(),
            pids: 100,
            ..Limits::default()
        }
    }

    #[test]
    fn v2_files() {
        let expected = [
            pair("memory.max", "67108864"),
            pair("memory.low", "33554432"),
            pair("memory.swap.max", "67108864"),
            pair("cpu.weight", "59"),
            pair("cpu.max", "50000 100000"),
            pair("cpuset.cpus", "0"),
            pair("pids.max", "100"),
        ];
        assert_eq!(values(&full(), Version::V2), expected);
    }

    #[test]
    fn v1_files() {
        let expected = [
            pair("memory.limit_in_bytes", "67108864"),
            pair("memory.soft_limit_in_bytes", "33554432"),
            pair("memory.memsw.limit_in_bytes", "134217728"),
            pair("cpu.shares", "512"),
            pair("cpu.cfs_period_us", "100000"),
            pair("cpu.cfs_quota_us", "50000"),
            pair("cpuset.cpus", "0"),
            pair("pids.max", "100"),
        ];
        assert_eq!(values(&full(), Version::V1), expected);
    }

    #[test]
    fn swap_forms() {
        let swap = |swap| Limits { memory: Some(64 << 20), memory_swap: swap, pids: -1, ..Limits::default() };
        let value = |limits: &Limits| values(limits, Version::V2).pop().unwrap().1;
        assert_eq!(value(&swap(Some(-1))), "max");
        assert_eq!(value(&swap(Some(64 << 20))), "0");
        assert_eq!(value(&swap(Some(0))), (64 << 20).to_string());
        assert!(plan(&swap(Some(1 << 20)), Version::V2).is_err());
        assert!(plan(&swap(Some(-2)), Version::V2).is_err());
        assert!(plan(&Limits { memory_swap: Some(1 << 30), ..Limits::default() }, Version::V2).is_err());
    }

    #[test]
    fn shares_become_weights() {
        for (shares, weight) in [(0, 1), (2, 1), (1024, 100), (2048, 174), (262_144, 10_000), (u64::MAX, 10_000)] {
            assert_eq!(weight_of_shares(shares), weight, "{shares}");
        }
        assert_eq!((io_weight(10), io_weight(500), io_weight(1000)), (1, 4950, 10_000));
    }

    #[test]
    fn what_is_out_of_range_is_named() {
        let error = |limits| plan(&limits, Version::V2).unwrap_err().to_string();
        assert_eq!(
            error(Limits { memory: Some(1 << 20), ..Limits::default() }),
            "invalid memory limit 1048576: the minimum is 6 MiB"
        );
        assert!(error(Limits { nano_cpus: Some(100_000_000_000_000), ..Limits::default() }).contains("this host has"));
        assert!(
            error(Limits { nano_cpus: Some(1_000_000_000), cpu_quota: Some(5), ..Limits::default() })
                .contains("combined")
        );
        assert!(error(Limits { cpuset_cpus: "a".into(), ..Limits::default() }).contains("list like"));
        assert!(error(Limits { oom_kill_disable: true, ..Limits::default() }).contains("cgroup v2"));
        assert!(error(Limits { blkio_weight: Some(5), ..Limits::default() }).contains("10 to 1000"));
        let rate = vec![DeviceRate { path: "/dev/null".into(), rate: 1 }];
        assert!(error(Limits { blkio_read_bps: rate, ..Limits::default() }).contains("/dev/null"));
    }

    #[test]
    fn values_are_compared_as_the_kernel_writes_them() {
        let setting = |value: &str, compare| Setting::new("x", "x", "x", value).compared(compare);
        assert!(setting("67108865", Compare::Pages).satisfied_by("67108864"));
        assert!(!setting("67108865", Compare::Pages).satisfied_by("67104768"));
        assert!(setting("-1", Compare::Pages).satisfied_by("9223372036854771712"));
        assert!(setting("0-1,3", Compare::List).satisfied_by("0,1,3"));
        assert!(!setting("0-3", Compare::List).satisfied_by("0-2"));
        let io = setting("8:0 rbps=1048576", Compare::Line);
        let found = io.find("8:16 rbps=1 wbps=max\n8:0 rbps=1048576 wbps=max riops=max wiops=max\n");
        assert!(io.satisfied_by(&found));
        assert!(!io.satisfied_by(&io.find("")));
        assert!(setting("oom_kill_disable 1", Compare::Contains).satisfied_by("oom_kill_disable 1\nunder_oom 0"));
    }
}
