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
