//! PID 1 of a container with `init: true`: it reaps what its parents left
//! behind and passes signals on to the program. No file of ours is in the
//! image for that: the first process stays, and the program is its child.
//! After the fork nothing here allocates.

use std::ffi::{CString, c_int};

use rustix::fs::{Mode, OFlags};

use crate::sys;

/// What PID 1 shows as its command line: what Docker's init shows, before the program's own.
pub fn command_line(args: &[CString]) -> Vec<u8> {
    let own: [&[u8]; 2] = [b"/sbin/docker-init\0", b"--\0"];
    own.into_iter().chain(args.iter().map(|arg| arg.to_bytes_with_nul())).collect::<Vec<_>>().concat()
}

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

/// In PID 1: runs until `child` ends, then ends with its exit code (128 + signal where one killed it). `line` is the
/// [`command_line`] to be seen with.
pub fn reap_until_gone(child: i32, line: &[u8]) -> ! {
    // Also the pipe that tells our parent that the program has started.
    sys::close_from(3);
    let _ = rustix::thread::set_name(c"docker-init");
    // A kernel without checkpoints, or a container without /proc, keeps the line it has: only people read it.
    let _ = show(line);
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

/// Shows `line` in `/proc/<pid>/cmdline`, instead of how our own program was called.
fn show(line: &[u8]) -> Option<()> {
    let stat = rustix::fs::open(c"/proc/self/stat", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()?;
    let mut text = [0_u8; 1024];
    let length = rustix::io::read(&stat, &mut text).ok()?;
    sys::show_command_line(line, memory(text.get(..length)?)?).ok()
}

/// Where the parts of our memory are, from `/proc/self/stat` (proc(5)): code, data, heap, stack, environment.
fn memory(stat: &[u8]) -> Option<sys::Memory> {
    // The name in parentheses may have spaces.
    let fields = stat.get(stat.iter().rposition(|byte| *byte == b')')? + 2..)?;
    let field = |number: usize| -> Option<u64> {
        let digits = fields.split(|byte| *byte == b' ').nth(number - 3)?;
        std::str::from_utf8(digits).ok()?.trim_end().parse().ok()
    };
    Some(sys::Memory {
        code: [field(26)?, field(27)?],
        data: [field(45)?, field(46)?],
        heap: field(47)?,
        stack: field(28)?,
        environment: [field(50)?, field(51)?],
    })
}

fn reap(child: c_int) {
    while let Some((pid, code)) = sys::reap() {
        if pid == child {
            sys::exit_now(code);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pid_1_is_called_as_dockers_init_is() {
        let args = ["sleep", "1000"].map(|arg| CString::new(arg).unwrap());
        assert_eq!(command_line(&args), b"/sbin/docker-init\0--\0sleep\x001000\0");
    }

    #[test]
    fn the_kernel_tells_where_memory_is() {
        let memory = memory(&std::fs::read("/proc/self/stat").unwrap()).unwrap();
        assert!(memory.code[0] < memory.code[1] && memory.environment[0] < memory.environment[1]);
        let fields: Vec<String> = (3..=52).map(|number| number.to_string()).collect();
        let memory = super::memory(format!("1 (a) b) {}\n", fields.join(" ")).as_bytes()).unwrap();
        assert_eq!((memory.code, memory.data, memory.heap), ([26, 27], [45, 46], 47));
        assert_eq!((memory.stack, memory.environment), (28, [50, 51]));
    }
}
