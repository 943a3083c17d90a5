//! Run inside a container by the tests: makes system calls that a filter must
//! refuse, and prints each with the error number it got (0 for success).

#![allow(unsafe_code, clippy::print_stdout)]

fn report(name: &str, result: libc::c_long) {
    let errno = if result < 0 { std::io::Error::last_os_error().raw_os_error().unwrap_or(-1) } else { 0 };
    println!("{name} {errno}");
}

fn main() {
    for (name, family) in [("AF_ALG", libc::AF_ALG), ("AF_VSOCK", libc::AF_VSOCK), ("AF_UNIX", libc::AF_UNIX)] {
        // SAFETY: no pointers are passed.
        report(name, unsafe { libc::syscall(libc::SYS_socket, family, libc::SOCK_STREAM, 0) });
    }
    for (name, number) in [
        ("io_uring_setup", libc::SYS_io_uring_setup),
        ("keyctl", libc::SYS_keyctl),
        ("userfaultfd", libc::SYS_userfaultfd),
        ("bpf", libc::SYS_bpf),
        ("clone3", libc::SYS_clone3),
        ("mount_setattr", libc::SYS_mount_setattr),
        ("of the future", 4095),
    ] {
        // SAFETY: null pointers and zeroes, which each of these calls refuses itself if the filter does not.
        report(name, unsafe { libc::syscall(number, 0, 0, 0, 0, 0) });
    }
    // SAFETY: no pointers are passed.
    report("unshare", unsafe { libc::syscall(libc::SYS_unshare, libc::CLONE_NEWUSER) });
    // SAFETY: a flag that no process may set; nothing is changed.
    report("personality", unsafe { libc::syscall(libc::SYS_personality, 0x0040_0000_u64) });
}
