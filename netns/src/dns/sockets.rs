//! The responder's sockets inside a container's network namespace.

use std::net::{SocketAddr, SocketAddrV4};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use rustix::thread::LinkNameSpaceType;
use serde::{Deserialize, Serialize};

use super::{ADDRESS, DnsError, redirect};

/// The high ports on 127.0.0.11 behind port 53.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ports {
    /// For UDP.
    pub udp: u16,
    /// For TCP.
    pub tcp: u16,
}

/// Bound sockets, with the namespace they are in.
#[derive(Debug)]
pub struct Sockets {
    pub(super) udp: OwnedFd,
    pub(super) tcp: OwnedFd,
    pub(super) netns: OwnedFd,
    ports: Ports,
}

impl Sockets {
    /// Binds 127.0.0.11 in the network namespace of the calling thread, which must have `lo` up, and
    /// redirects port 53 to it. A responder that takes over from a dead one passes that one's ports:
    /// connection tracking still leads a client's socket there.
    ///
    /// # Errors
    /// When a socket cannot be bound, or the rules not be installed.
    pub fn bind(previous: Option<Ports>) -> Result<Self, DnsError> {
        let udp = bind_or_any("udp", SocketType::DGRAM, previous.map(|ports| ports.udp))?;
        let tcp = bind_or_any("tcp", SocketType::STREAM, previous.map(|ports| ports.tcp))?;
        let netns = current_namespace()?;
        let ports = Ports { udp: udp.1, tcp: tcp.1 };
        redirect::install(ports)?;
        Ok(Self { udp: udp.0, tcp: tcp.0, netns, ports })
    }

    /// Goes on with the sockets of a dead responder, in the network namespace of the calling thread, which is theirs.
    ///
    /// # Errors
    /// When they are not bound, or the namespace cannot be opened.
    pub fn take_over(udp: OwnedFd, tcp: OwnedFd) -> Result<Self, DnsError> {
        let bound = |protocol, socket: &OwnedFd| {
            port_of(socket).map_err(|error| DnsError::Bind { protocol, port: 0, source: error.into() })
        };
        let ports = Ports { udp: bound("udp", &udp)?, tcp: bound("tcp", &tcp)? };
        Ok(Self { udp, tcp, netns: current_namespace()?, ports })
    }

    /// The sockets for datagrams and for connections, to be kept for a later responder.
    #[must_use]
    pub fn fds(&self) -> (BorrowedFd<'_>, BorrowedFd<'_>) {
        (self.udp.as_fd(), self.tcp.as_fd())
    }

    /// The ports, for a later responder.
    #[must_use]
    pub const fn ports(&self) -> Ports {
        self.ports
    }
}

pub(super) fn current_namespace() -> Result<OwnedFd, DnsError> {
    rustix::fs::open("/proc/thread-self/ns/net", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|error| DnsError::Namespace { source: error.into() })
}

/// Does `work` with the calling thread inside `netns`, and comes back.
pub(super) fn inside<T>(netns: &OwnedFd, work: impl FnOnce() -> rustix::io::Result<T>) -> rustix::io::Result<T> {
    let home = rustix::fs::open("/proc/thread-self/ns/net", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let kind = Some(LinkNameSpaceType::Network);
    rustix::thread::move_into_link_name_space(netns.as_fd(), kind)?;
    let result = work();
    rustix::thread::move_into_link_name_space(home.as_fd(), kind)?;
    result
}

/// The port of a dead predecessor, or any where somebody else has it by now.
fn bind_or_any(protocol: &'static str, kind: SocketType, wanted: Option<u16>) -> Result<(OwnedFd, u16), DnsError> {
    if let Some(Ok(bound)) = wanted.map(|port| bind(kind, port)) {
        return Ok(bound);
    }
    bind(kind, 0).map_err(|error| DnsError::Bind { protocol, port: 0, source: error.into() })
}

fn bind(kind: SocketType, port: u16) -> rustix::io::Result<(OwnedFd, u16)> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::INET, kind, flags, None)?;
    if kind == SocketType::STREAM {
        rustix::net::sockopt::set_socket_reuseaddr(&socket, true)?;
    }
    rustix::net::bind(&socket, &SocketAddrV4::new(ADDRESS, port))?;
    if kind == SocketType::STREAM {
        rustix::net::listen(&socket, 128)?;
    }
    let port = port_of(&socket)?;
    Ok((socket, port))
}

fn port_of(socket: &OwnedFd) -> rustix::io::Result<u16> {
    let bound = SocketAddr::try_from(rustix::net::getsockname(socket)?).map_err(|_| rustix::io::Errno::AFNOSUPPORT)?;
    Ok(bound.port())
}
