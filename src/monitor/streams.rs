//! A container's standard streams as the monitor sees them: pipes or a
//! terminal, read into the log and to attached clients.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;

use super::protocol::Kind;

/// An output of the container.
#[derive(Debug)]
pub struct Output {
    /// Which stream its bytes belong to.
    pub kind: Kind,
    fd: Option<OwnedFd>,
}

impl Output {
    /// A pipe's reading end, or the master side of the terminal.
    pub fn new(kind: Kind, fd: OwnedFd) -> Self {
        let _ = rustix::io::ioctl_fionbio(&fd, true);
        Self { kind, fd: Some(fd) }
    }

    /// The descriptor, until the end of the stream.
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.fd.as_ref().map(AsFd::as_fd)
    }

    /// Reads once; `None` when there is nothing now or any more.
    pub fn read<'a>(&mut self, buffer: &'a mut [u8]) -> Option<&'a [u8]> {
        loop {
            match rustix::io::read(self.fd.as_ref()?, &mut *buffer) {
                Ok(count) if count > 0 => return Some(&buffer[..count]),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return None,
                // The end; a terminal says EIO once its other side is closed (pty(7)).
                _ => {
                    self.fd = None;
                    return None;
                }
            }
        }
    }

    /// The descriptor, for another to go on with.
    pub fn into_fd(self) -> Option<OwnedFd> {
        self.fd
    }

    /// Gives up on what may still come.
    pub fn close(&mut self) {
        self.fd = None;
    }
}

/// The container's input.
#[derive(Debug, Default)]
pub struct Input {
    fd: Option<OwnedFd>,
    pending: VecDeque<u8>,
    ending: bool,
}

impl Input {
    /// A pipe's writing end, or the terminal.
    pub fn new(fd: OwnedFd) -> Self {
        let _ = rustix::io::ioctl_fionbio(&fd, true);
        Self { fd: Some(fd), ..Self::default() }
    }

    /// The descriptor, until the input is closed.
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.fd.as_ref().map(AsFd::as_fd)
    }

    /// The descriptor, while there is something to write.
    pub fn wants_write(&self) -> Option<BorrowedFd<'_>> {
        self.fd.as_ref().filter(|_| !self.pending.is_empty()).map(AsFd::as_fd)
    }

    /// The descriptor, for another to go on with.
    pub fn into_fd(self) -> Option<OwnedFd> {
        self.fd
    }

    /// How many bytes wait.
    pub fn waiting(&self) -> usize {
        self.pending.len()
    }

    /// Takes bytes for the container; dropped where it has no input.
    pub fn put(&mut self, bytes: &[u8]) {
        if self.fd.is_some() && !self.ending {
            self.pending.extend(bytes);
            self.flush();
        }
    }

    /// Closes the input once everything is written.
    pub fn end(&mut self) {
        self.ending = true;
        self.flush();
    }

    /// Writes what the container takes now.
    pub fn flush(&mut self) {
        while let Some(fd) = &self.fd {
            let (front, _) = self.pending.as_slices();
            if front.is_empty() {
                if self.ending {
                    self.fd = None;
                }
                return;
            }
            match rustix::io::write(fd, front) {
                Ok(count) => drop(self.pending.drain(..count)),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return,
                Err(_) => {
                    self.fd = None;
                    self.pending.clear();
                }
            }
        }
    }
}
