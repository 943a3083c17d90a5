//! Places at which tests end the program as `kill -9` would, to see that what it
//! leaves behind can be gone on from. Nothing of it is in a release build.

#[cfg(debug_assertions)]
static DISARMED: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(false);

/// Ends the program here if `UMIAK_DIE_AT` says so: the number of the place among all that were passed. With
/// `UMIAK_INTERRUPT_AT` it gets there what Ctrl-C sends. With
/// `UMIAK_PLACES`, a file, each place is noted there by name.
#[cfg(debug_assertions)]
pub fn reach(place: &str) {
    use std::io::Write as _;
    use std::sync::atomic::{AtomicU32, Ordering};

    use rustix::process::Signal;
    static PASSED: AtomicU32 = AtomicU32::new(0);
    if DISARMED.load(Ordering::SeqCst) {
        return;
    }
    let number = PASSED.fetch_add(1, Ordering::SeqCst) + 1;
    if let Some(path) = std::env::var_os("UMIAK_PLACES")
        && let Ok(mut file) = std::fs::OpenOptions::new().create(true).append(true).open(path)
    {
        let _ = writeln!(file, "{place}");
    }
    let is_here = |name: &str| std::env::var(name).is_ok_and(|text| text.parse() == Ok(number));
    for (name, signal) in [("UMIAK_DIE_AT", Signal::KILL), ("UMIAK_INTERRUPT_AT", Signal::INT)] {
        if is_here(name) {
            let _ = rustix::process::kill_process(rustix::process::getpid(), signal);
        }
    }
}

/// From here on no place ends the program: one that takes over from a killed one would be killed there, too.
#[cfg(debug_assertions)]
pub fn disarm() {
    DISARMED.store(true, std::sync::atomic::Ordering::SeqCst);
}

/// A monitor, whose environment is empty, ends at the place that `UMIAK_MONITOR_DIES_AT` says.
#[cfg(debug_assertions)]
pub fn pass_on(monitor: &mut std::process::Command) {
    for (given, passed) in [("UMIAK_MONITOR_DIES_AT", "UMIAK_DIE_AT"), ("UMIAK_MONITOR_PLACES", "UMIAK_PLACES")] {
        if let Some(value) = std::env::var_os(given) {
            monitor.env(passed, value);
        }
    }
}

/// Does nothing in a release build.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub fn reach(_place: &str) {}

/// Does nothing in a release build.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub fn disarm() {}

/// Does nothing in a release build.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub fn pass_on(_monitor: &mut std::process::Command) {}
