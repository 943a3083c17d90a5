//! A terminal for a container: libcontainer opens it in the container's own
//! devpts and sends the master side to a unix socket, which is here.

use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvFlags, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind, listen,
    recvmsg, socket_with,
};

use crate::report::first_descriptor;

/// The listening socket; its file goes when this is dropped.
#[derive(Debug)]
pub struct Listener {
    socket: OwnedFd,
    path: PathBuf,
}

impl Listener {
    /// Listens at `directory/name`.
    ///
    /// # Errors
    /// When the socket cannot be made.
    pub fn bind(directory: &Path, name: &str) -> io::Result<Self> {
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        // By descriptor: the directory's path may be longer than a socket address holds (108 bytes).
        let at = rustix::fs::open(directory, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        let address = SocketAddrUnix::new(crate::rootfs::proc_name(&at).join(name))?;
        bind(&socket, &address)?;
        listen(&socket, 1)?;
        Ok(Self { socket, path: directory.join(name) })
    }

    /// Where it listens.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The master side. Call it once libcontainer has built the process: it has been sent by then.
    ///
    /// # Errors
    /// When no descriptor came.
    pub fn receive(&self) -> io::Result<OwnedFd> {
        let connection = accept_with(&self.socket, SocketFlags::CLOEXEC)?;
        let mut name = [0; 64];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        recvmsg(&connection, &mut [IoSliceMut::new(&mut name)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
        first_descriptor(&mut control)
            .ok_or_else(|| io::Error::new(io::ErrorKind::UnexpectedEof, "the container sent no terminal"))
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}
