//! The one place of the program with unsafe code.
#![allow(unsafe_code)]

use rustix::event::{PollFd, Timespec};
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

/// Another process that goes on here: `None` in it, its pid in the caller. What it writes to is its own from then on,
/// everything else it shares with the caller.
///
/// # Errors
/// When the kernel has no room for it, or this process has other threads.
pub fn fork() -> std::io::Result<Option<i32>> {
    if std::fs::read_dir("/proc/self/task")?.count() != 1 {
        return Err(std::io::Error::other("a process with several threads cannot go on in another"));
    }
    // SAFETY: this is the only thread, so nothing that the child finds is locked or half changed by another.
    match unsafe { libc::fork() } {
        -1 => Err(std::io::Error::last_os_error()),
        0 => Ok(None),
        pid => Ok(Some(pid)),
    }
}

/// Read-only parts of the program: first address and length, as many as a linker makes.
type Parts = [(usize, usize); 8];

/// Waits as `poll(2)` does, after giving back the pages of the program's own code and constants, which come back from the
/// page cache when they are needed: what a monitor used only to start does not count as its memory while it waits for
/// years. One function does both: each page of code that runs in between would be back.
pub fn wait_lightly(fds: &mut [PollFd<'_>], timeout: Option<&Timespec>) -> rustix::io::Result<usize> {
    let mut parts = Parts::default();
    // SAFETY: the callback is called for each loaded object before this returns, and gets the array that it expects.
    unsafe { libc::dl_iterate_phdr(Some(read_only_parts), std::ptr::from_mut(&mut parts).cast()) };
    for (address, length) in parts {
        let address = std::ptr::without_provenance_mut(address);
        // Where the page cache has the file in huge pages, one call would bring back two mebibytes.
        // SAFETY: how the pages are mapped changes, and not what is in them.
        let _ = unsafe { rustix::mm::madvise(address, length, rustix::mm::Advice::LinuxNoHugepage) };
    }
    for (address, length) in parts {
        let address = std::ptr::without_provenance_mut(address);
        // SAFETY: a segment that is never written to (relocated constants are in another): the pages that go are the
        // same as those that come back, whoever holds a reference into them.
        let _ = unsafe { rustix::mm::madvise(address, length, rustix::mm::Advice::LinuxDontNeed) };
    }
    rustix::event::poll(fds, timeout)
}

/// For `dl_iterate_phdr`: the first object is the program itself, and the only one looked at.
unsafe extern "C" fn read_only_parts(info: *mut libc::dl_phdr_info, _: usize, parts: *mut libc::c_void) -> libc::c_int {
    // SAFETY: the C library hands out a valid description, whose headers live as long as the program, and what it was
    // given for this function.
    let (base, headers, parts) = unsafe {
        let info = &*info;
        let headers = std::slice::from_raw_parts(info.dlpi_phdr, usize::from(info.dlpi_phnum));
        (info.dlpi_addr, headers, &mut *parts.cast::<Parts>())
    };
    let page = rustix::param::page_size();
    let read_only = headers.iter().filter(|header| header.p_type == libc::PT_LOAD && header.p_flags & libc::PF_W == 0);
    for (part, header) in parts.iter_mut().zip(read_only) {
        let (Ok(start), Ok(length)) = (usize::try_from(base + header.p_vaddr), usize::try_from(header.p_memsz)) else {
            continue;
        };
        let first = start & !(page - 1);
        *part = (first, (start + length).next_multiple_of(page) - first);
    }
    1
}

/// Gives back the pages of the stack that deeper calls have used.
pub fn drop_unused_stack() {
    /// What calls from here on may use at once, and how deep it may have been.
    const KEPT: usize = 8 << 10;
    const SEARCHED: usize = 512 << 10;
    let here = 0_u8;
    let page = rustix::param::page_size();
    let end = (std::ptr::from_ref(&here).addr() - KEPT) & !(page - 1);
    let address = std::ptr::without_provenance_mut(end - SEARCHED);
    // SAFETY: nothing lives below the stack pointer, and the kernel keeps a mebibyte below a stack free of all else
    // (stack_guard_gap). What is not mapped there is passed over.
    let _ = unsafe { rustix::mm::madvise(address, SEARCHED, rustix::mm::Advice::LinuxDontNeed) };
}

/// Has a netlink socket receive only messages of these kinds (the lower byte of their type), judged by the first of each
/// datagram.
///
/// # Errors
/// When the kernel takes no filter.
pub fn receive_only(socket: std::os::fd::BorrowedFd<'_>, kinds: &[u8]) -> std::io::Result<()> {
    use std::os::fd::AsRawFd as _;
    /// Where the lower byte of `nlmsg_type` is, after the length.
    const KIND: u32 = if cfg!(target_endian = "little") { 4 } else { 5 };
    let statement = |code: u32, k: u32| {
        let code = u16::try_from(code).unwrap_or(u16::MAX);
        libc::sock_filter { code, jt: 0, jf: 0, k }
    };
    let mut program = vec![statement(libc::BPF_LD | libc::BPF_B | libc::BPF_ABS, KIND)];
    for (kind, left) in kinds.iter().zip((0..u8::try_from(kinds.len()).unwrap_or(u8::MAX)).rev()) {
        let equal = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
        // To the last statement, over the other comparisons and the refusal.
        program.push(libc::sock_filter { jt: left + 1, ..statement(equal, u32::from(*kind)) });
    }
    program.extend([statement(libc::BPF_RET | libc::BPF_K, 0), statement(libc::BPF_RET | libc::BPF_K, u32::MAX)]);
    let filter = libc::sock_fprog { len: u16::try_from(program.len()).unwrap_or(0), filter: program.as_mut_ptr() };
    let length = libc::socklen_t::try_from(size_of::<libc::sock_fprog>()).unwrap_or(0);
    // SAFETY: the kernel copies the program, which lives until after the call, and reads as much as the length says.
    let answer = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&raw const filter).cast(),
            length,
        )
    };
    if answer == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

/// `struct pidfd_info` of linux/pidfd.h, as far as it was when it first told exit codes.
#[repr(C)]
#[derive(Default)]
struct PidfdInfo {
    mask: u64,
    cgroup: u64,
    ids: [u32; 11],
    exit_code: i32,
}

/// `PIDFD_INFO_EXIT` of linux/pidfd.h.
const INFO_EXIT: u64 = 1 << 3;

/// The wait status of a process that has ended and been waited for, by whomever; `None` where the kernel does not
/// tell (before Linux 6.15).
pub fn ended_status(pidfd: std::os::fd::BorrowedFd<'_>) -> Option<i32> {
    use std::os::fd::AsRawFd as _;
    let mut info = PidfdInfo { mask: INFO_EXIT, ..PidfdInfo::default() };
    let request = nix::request_code_readwrite!(0xff, 11, size_of::<PidfdInfo>());
    // SAFETY: the kernel writes at most as many bytes as the request says, which is the size of `info`.
    let answer = unsafe { libc::ioctl(pidfd.as_raw_fd(), request as _, &raw mut info) };
    (answer == 0 && info.mask & INFO_EXIT != 0).then_some(info.exit_code)
}
