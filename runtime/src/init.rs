//! PID 1 of a container with `init: true`: it reaps what its parents left
//! behind and passes signals on to the program. No file of ours is in the
//! image for that: the first process stays, and the program is its child.
//! After the fork nothing here allocates.

use std::ffi::c_int;

use crate::sys;

/// In the child: a process group of its own, in the foreground of the terminal where there is one, so that a key like
/// Ctrl-C reaches the program once and not again through PID 1.
pub fn become_foreground(tty: bool) {
    // Neither can fail in a fresh child but for a terminal that is gone; the program then sees that itself.
    let _ = rustix::process::setpgid(None, None);
    if tty {
        // Still with all signals blocked, or SIGTTOU would stop us.
        let _ = rustix::termios::tcsetpgrp(rustix::stdio::stdin(), rustix::process::getpid());
    }
    sys::reset_signals();
}

/// In PID 1: runs until `child` ends, then ends with its exit code (128 + signal where one killed it).
pub fn reap_until_gone(child: i32) -> ! {
    // Also the pipe that tells our parent that the program has started.
    sys::close_from(3);
    let _ = rustix::thread::set_name(c"init");
    loop {
        match sys::wait_signal() {
            libc::SIGCHLD => reap(child),
            // Raised by PID 1's own terminal handling or faults: not the program's.
            libc::SIGTTOU | libc::SIGTTIN | libc::SIGSEGV | libc::SIGBUS | libc::SIGILL | libc::SIGFPE => {}
            signal => sys::signal(child, signal),
        }
    }
}

/// In the parent of a health check, which is no PID 1 but a subreaper: tells the check's exit code through `status`
/// (four bytes, little endian), and ends when nothing of the check is left.
pub fn collect_all(child: i32, status: i32) -> ! {
    // The check's output is nobody else's, and the pipe that tells our parent that it has started is closed.
    sys::keep_only(status);
    let _ = rustix::thread::set_name(c"healthcheck");
    loop {
        while let Some((pid, code)) = sys::reap() {
            if pid == child {
                sys::write_kept(&code.to_le_bytes());
            }
        }
        if sys::childless() {
            sys::exit_now(0);
        }
        sys::wait_signal();
    }
}

fn reap(child: c_int) {
    while let Some((pid, code)) = sys::reap() {
        if pid == child {
            sys::exit_now(code);
        }
    }
}
