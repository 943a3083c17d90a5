//! The system calls that no safe wrapper offers. Everything `unsafe` of this
//! crate is here.
#![allow(unsafe_code)]

use std::ffi::{CStr, c_int, c_long, c_void};
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};

use crate::seccomp::Instruction;

fn check(result: c_long) -> io::Result<c_long> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

#[repr(C)]
struct Program {
    length: u16,
    instructions: *const Instruction,
}

/// Loads a seccomp filter for the calling thread (`seccomp(2)`).
///
/// # Errors
/// `EACCES` without `CAP_SYS_ADMIN` and `no_new_privs`; `EINVAL` for a bad program.
pub fn load_filter(instructions: &[Instruction]) -> io::Result<()> {
    let length = u16::try_from(instructions.len()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    let program = Program { length, instructions: instructions.as_ptr() };
    let call = |flags: u64| {
        // SAFETY: `program` is a `struct sock_fprog` over a live slice of `struct sock_filter`; the kernel copies it.
        check(unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const program) })
    };
    // As runc: speculative execution stays as it is, or every filtered program would be slower.
    match call(libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW) {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => call(0),
        result => result,
    }
    .map(drop)
}

/// Leaves the caller's session keyring for a fresh, anonymous one (keyctl(2)). A kernel without keys is no error.
///
/// # Errors
/// `EDQUOT` when the user's key quota is used up.
pub fn new_session_keyring() -> io::Result<()> {
    const JOIN_SESSION_KEYRING: c_int = 1;
    // SAFETY: a null name asks for an anonymous keyring; no memory is read.
    let result = unsafe { libc::syscall(libc::SYS_keyctl, JOIN_SESSION_KEYRING, std::ptr::null::<c_void>()) };
    match check(result) {
        Err(error) if error.raw_os_error() == Some(libc::ENOSYS) => Ok(()),
        result => result.map(drop),
    }
}

/// Gives every signal its default action and unblocks all: what a program expects to find at `execve`.
pub fn reset_signals() {
    for signal in 1..=64 {
        // SAFETY: setting a default action touches no memory of ours; SIGKILL, SIGSTOP and libc's own signals are refused, which is as well.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    // SAFETY: both calls write and read the local set alone.
    unsafe {
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
    }
}

/// Blocks every signal of the calling thread.
pub fn block_signals() {
    // SAFETY: both calls write and read the local set alone.
    unsafe {
        let mut all: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&raw mut all);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const all, std::ptr::null_mut());
    }
}

/// Waits for any signal (all must be blocked) and returns its number.
pub fn wait_signal() -> c_int {
    loop {
        let mut signal: c_int = 0;
        // SAFETY: both calls write and read local variables alone.
        let result = unsafe {
            let mut all: libc::sigset_t = std::mem::zeroed();
            libc::sigfillset(&raw mut all);
            libc::sigwait(&raw const all, &raw mut signal)
        };
        if result == 0 {
            return signal;
        }
    }
}

/// Forks; the child gets `0`.
///
/// # Errors
/// `EAGAIN` at the process limit.
pub fn fork() -> io::Result<i32> {
    // SAFETY: only called in a process with one thread, so the child may do whatever its parent might.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        pid => Ok(pid),
    }
}

/// Reaps one dead child without waiting: its pid and exit code (128 + signal where one killed it).
pub fn reap() -> Option<(i32, i32)> {
    let mut status: c_int = 0;
    // SAFETY: the status is written to a live variable.
    let pid = unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG) };
    if pid <= 0 {
        return None;
    }
    let code = if libc::WIFEXITED(status) { libc::WEXITSTATUS(status) } else { 128 + libc::WTERMSIG(status) };
    Some((pid, code))
}

/// Sends a signal; failures (the process is gone) change nothing.
pub fn signal(pid: i32, signal: c_int) {
    // SAFETY: kill(2) touches no memory.
    unsafe { libc::kill(pid, signal) };
}

/// Ends the process at once: no destructors, no exit handlers of the program that was forked.
pub fn exit_now(code: c_int) -> ! {
    // SAFETY: _exit(2) does not return.
    unsafe { libc::_exit(code) }
}

/// Closes every descriptor from `first` on.
pub fn close_from(first: u32) {
    // SAFETY: the caller (a forked child about to exec or to reap) uses none of them any more.
    unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, 0) };
}

/// Closes every descriptor but one, which becomes number 0.
pub fn keep_only(kept: c_int) {
    // SAFETY: the caller (a forked child that does nothing but reap) uses no other descriptor any more.
    unsafe {
        libc::dup2(kept, 0);
        libc::syscall(libc::SYS_close_range, 1, u32::MAX, 0);
    }
}

/// Writes to the descriptor that [`keep_only`] kept; whoever reads may be gone.
pub fn write_kept(bytes: &[u8]) {
    // SAFETY: the pointer and the length are those of a live slice.
    unsafe { libc::write(0, bytes.as_ptr().cast(), bytes.len()) };
}

/// Whether the calling process has no child, dead or alive.
pub fn childless() -> bool {
    // SAFETY: the information is written to a live variable.
    let result = unsafe {
        let mut found: libc::siginfo_t = std::mem::zeroed();
        libc::waitid(libc::P_ALL, 0, &raw mut found, libc::WEXITED | libc::WNOHANG | libc::WNOWAIT)
    };
    result == -1 && io::Error::last_os_error().raw_os_error() == Some(libc::ECHILD)
}

/// `bpf(2)` attributes of `BPF_PROG_LOAD`, as far as they are needed (linux/bpf.h).
#[repr(C)]
#[derive(Default)]
struct LoadAttributes {
    kind: u32,
    count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buffer: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
}

/// `bpf(2)` attributes of `BPF_PROG_ATTACH`.
#[repr(C)]
#[derive(Default)]
struct AttachAttributes {
    target: u32,
    program: u32,
    kind: u32,
    flags: u32,
    replace: u32,
}

fn bpf<T>(command: c_int, attributes: &T) -> io::Result<c_long> {
    // SAFETY: `attributes` is a prefix of `union bpf_attr` of the size given; pointers in it point to live memory.
    check(unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attributes), size_of::<T>()) })
}

/// Loads a device program (`BPF_PROG_TYPE_CGROUP_DEVICE`) of eBPF instructions, 8 bytes each.
///
/// # Errors
/// `EPERM` without `CAP_BPF` and `CAP_NET_ADMIN` or `CAP_SYS_ADMIN`, `EINVAL` where the kernel lacks `CONFIG_CGROUP_BPF`.
pub fn load_device_program(instructions: &[u64]) -> io::Result<OwnedFd> {
    const PROG_LOAD: c_int = 5;
    const CGROUP_DEVICE: u32 = 15;
    let count = u32::try_from(instructions.len()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    let license: &CStr = c"Apache-2.0";
    let attributes = LoadAttributes {
        kind: CGROUP_DEVICE,
        count,
        instructions: instructions.as_ptr().expose_provenance() as u64,
        license: license.as_ptr().expose_provenance() as u64,
        ..LoadAttributes::default()
    };
    let fd = bpf(PROG_LOAD, &attributes)?;
    let fd = RawFd::try_from(fd).map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
    // SAFETY: the kernel just made this descriptor (close-on-exec) for us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Attaches a device program to a cgroup; it stays until the cgroup goes.
///
/// # Errors
/// The kernel's.
pub fn attach_device_program(cgroup: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    const PROG_ATTACH: c_int = 8;
    const CGROUP_DEVICE: u32 = 6;
    const ALLOW_MULTI: u32 = 2;
    let descriptor =
        |fd: BorrowedFd<'_>| u32::try_from(fd.as_raw_fd()).map_err(|_| io::Error::from_raw_os_error(libc::EBADF));
    let attributes = AttachAttributes {
        target: descriptor(cgroup)?,
        program: descriptor(program)?,
        kind: CGROUP_DEVICE,
        flags: ALLOW_MULTI,
        replace: 0,
    };
    bpf(PROG_ATTACH, &attributes).map(drop)
}

/// Makes the detached mount behind `tree` read-only (`mount_setattr(2)`, Linux 5.12).
///
/// # Errors
/// The kernel's.
pub fn make_read_only(tree: BorrowedFd<'_>) -> io::Result<()> {
    let attributes = libc::mount_attr { attr_set: libc::MOUNT_ATTR_RDONLY, attr_clr: 0, propagation: 0, userns_fd: 0 };
    // SAFETY: the path is a literal, the attributes live through the call and their size is given.
    check(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    })
    .map(drop)
}

/// Where the parts of the calling process's memory are; pairs are beginning and end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// The program's code.
    pub code: [u64; 2],
    /// Its data.
    pub data: [u64; 2],
    /// The beginning of its heap.
    pub heap: u64,
    /// The beginning of its stack.
    pub stack: u64,
    /// The environment that it was started with.
    pub environment: [u64; 2],
}

/// `struct prctl_mm_map` of linux/prctl.h.
#[repr(C)]
struct MemoryMap {
    code: [u64; 2],
    data: [u64; 2],
    heap: [u64; 2],
    stack: u64,
    arguments: [u64; 2],
    environment: [u64; 2],
    auxv: *const u64,
    auxv_size: u32,
    exe_fd: u32,
}

/// Makes `line` what the calling process shows as its command line, for as long as those bytes are there
/// (`PR_SET_MM_MAP` of prctl(2)).
///
/// # Errors
/// `EINVAL` from a kernel without `CONFIG_CHECKPOINT_RESTORE`.
pub fn show_command_line(line: &[u8], memory: Memory) -> io::Result<()> {
    let begin = line.as_ptr().addr() as u64;
    // SAFETY: asks where the heap ends, and moves nothing.
    let end_of_heap = unsafe { libc::sbrk(0) }.addr() as u64;
    let map = MemoryMap {
        code: memory.code,
        data: memory.data,
        heap: [memory.heap, end_of_heap],
        stack: memory.stack,
        arguments: [begin, begin + line.len() as u64],
        environment: memory.environment,
        auxv: std::ptr::null(),
        auxv_size: 0,
        exe_fd: u32::MAX,
    };
    // SAFETY: the kernel copies the map, whose size is given; what it sets is only what /proc shows, and the heap's
    // limits are those that it told.
    check(unsafe {
        libc::syscall(libc::SYS_prctl, libc::PR_SET_MM, libc::PR_SET_MM_MAP, &raw const map, size_of::<MemoryMap>(), 0)
    })
    .map(drop)
}
