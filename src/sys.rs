//! The one place of the program with unsafe code.
#![allow(unsafe_code)]

use rustix::process::Signal;

/// A signal by its number, real-time ones included; `None` for what the kernel does not have.
pub fn signal(number: i32) -> Option<Signal> {
    Signal::from_named_raw(number).or_else(|| {
        // 32 and 33 are the C library's own (signal(7)).
        let real_time = (34..=64).contains(&number);
        // SAFETY: a number that the kernel knows and that no C library keeps for itself; it is only sent, never caught.
        real_time.then(|| unsafe { Signal::from_raw_unchecked(number) })
    })
}
