//! The one place of the program with unsafe code.
#![allow(unsafe_code)]

use rustix::process::Signal;

/// Closes every descriptor but the standard streams: what the caller's shell or service manager has left open must
/// not live as long as a container.
///
/// To be called before the process has opened anything of its own.
pub fn close_inherited() {
    // SAFETY: close_range(2) takes plain numbers; nothing in this process owns a descriptor above 2 yet.
    unsafe { libc::syscall(libc::SYS_close_range, 3_u32, u32::MAX, 0_u32) };
}

/// A signal by its number, real-time ones included; `None` for what the kernel does not have.
pub fn signal(number: i32) -> Option<Signal> {
    Signal::from_named_raw(number).or_else(|| {
        // 32 and 33 are the C library's own (signal(7)).
        let real_time = (34..=64).contains(&number);
        // SAFETY: a number that the kernel knows and that no C library keeps for itself; it is only sent, never caught.
        real_time.then(|| unsafe { Signal::from_raw_unchecked(number) })
    })
}

/// Unmaps the program's own code and constants, which come back from the page cache when they are needed: what a
/// monitor used only to start does not count as its memory while it waits for years.
pub fn drop_own_code() {
    let Ok(maps) = std::fs::read_to_string("/proc/self/smaps") else { return };
    let Ok(program) = std::fs::read_link("/proc/self/exe") else { return };
    let program = program.to_string_lossy().into_owned();
    let mut mapping = None;
    for line in maps.lines() {
        if line.ends_with(&program) {
            mapping = read_only_range(line);
        } else if line.starts_with("Private_Dirty:")
            && let Some((start, end)) = mapping.take()
            // Data that was written to before it was protected (RELRO) would come back without what was written.
            && line.ends_with(" 0 kB")
        {
            let address = std::ptr::without_provenance_mut(start);
            // SAFETY: a read-only mapping of this program's file without any page of its own: the pages that go are the
            // same as those that come back, whoever holds a reference into them.
            let _ = unsafe { rustix::mm::madvise(address, end - start, rustix::mm::Advice::LinuxDontNeed) };
        }
    }
}

/// Start and end of a mapping, from its line in smaps; `None` for one that can be written to.
fn read_only_range(line: &str) -> Option<(usize, usize)> {
    let (range, rest) = line.split_once(' ')?;
    let (start, end) = range.split_once('-')?;
    let read_only = rest.starts_with("r-xp ") || rest.starts_with("r--p ");
    let number = |text| usize::from_str_radix(text, 16).ok();
    read_only.then_some((number(start)?, number(end)?))
}
