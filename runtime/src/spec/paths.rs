//! Files of procfs and sysfs that a container must not see or change: what
//! Docker and Podman mask and make read-only, together.

use std::path::Path;

const MASKED: [&str; 13] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
    "/sys/fs/selinux",
];

const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// Paths to cover, those of each CPU that has thermal counters included (GHSA-6fw5-f8r9-fgfm).
pub fn masked() -> Vec<String> {
    let mut paths: Vec<String> = MASKED.iter().map(|path| (*path).to_owned()).collect();
    // Where the first CPU has none, no other has: most virtual machines.
    if Path::new("/sys/devices/system/cpu/cpu0/thermal_throttle").exists() {
        let entries = std::fs::read_dir("/sys/devices/system/cpu").into_iter().flatten().flatten();
        let throttles = entries.map(|entry| entry.path().join("thermal_throttle")).filter(|path| path.exists());
        paths.extend(throttles.map(|path| path.display().to_string()));
    }
    paths
}

/// Paths to make read-only.
pub fn readonly() -> Vec<String> {
    READ_ONLY.iter().map(|path| (*path).to_owned()).collect()
}
