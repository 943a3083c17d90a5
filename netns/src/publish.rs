//! Published ports: the host's port is held by a bound socket, so that a clash is
//! found before anything starts. The socket does not listen: packets are
//! translated before they would reach it.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::os::fd::{AsRawFd as _, OwnedFd};

use nix::sys::socket::{self, AddressFamily, Backlog, Shutdown, SockFlag, SockType, SockaddrStorage, sockopt};
use serde::{Deserialize, Serialize};

use crate::firewall::{Protocol, Published};
use crate::holder::{self, Holder};
use crate::sysctl;

/// Why a port could not be held.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// Somebody else has it.
    #[error(transparent)]
    Taken(#[from] PortTaken),
    /// None of a range is free.
    #[error("all of {host_ip}:{first}-{last}/{protocol} are allocated already")]
    RangeTaken {
        /// The address.
        host_ip: IpAddr,
        /// The first port of the range.
        first: u16,
        /// The last one.
        last: u16,
        /// The protocol.
        protocol: Protocol,
    },
    /// The address is not one of this host's.
    #[error("cannot publish on {host_ip}:{port}/{protocol}: this host has no such address")]
    NoSuchAddress {
        /// The address.
        host_ip: IpAddr,
        /// The port.
        port: u16,
        /// The protocol.
        protocol: Protocol,
    },
    /// The ranges do not fit each other.
    #[error("{host} host ports cannot be published to {container} container ports")]
    RangeLengths {
        /// How many ports of the host.
        host: usize,
        /// How many of the container.
        container: usize,
    },
    /// The port could not be bound, for another reason.
    #[error("bind {host_ip}:{port}/{protocol}")]
    Bind {
        /// The address.
        host_ip: IpAddr,
        /// The port, 0 for any.
        port: u16,
        /// The protocol.
        protocol: Protocol,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
}

/// A port that is held by somebody else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortTaken {
    /// The address that was asked for.
    pub host_ip: IpAddr,
    /// The port.
    pub port: u16,
    /// The protocol.
    pub protocol: Protocol,
    /// Who has it, where that can be found out.
    pub holder: Option<Holder>,
}

impl fmt::Display for PortTaken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = SocketAddr::new(self.host_ip, self.port);
        write!(f, "Bind for {address} failed: port is already allocated")?;
        if self.protocol != Protocol::Tcp {
            write!(f, " ({})", self.protocol)?;
        }
        match &self.holder {
            Some(holder) => write!(f, " by {holder}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for PortTaken {}

/// A port to publish.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PortSpec {
    /// The host's address; otherwise all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_ip: Option<IpAddr>,
    /// The host's ports, of which the first that is free is taken; otherwise one that the kernel picks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_ports: Option<(u16, u16)>,
    /// The container's port.
    pub container_port: u16,
    /// The protocol.
    #[serde(default)]
    pub protocol: Protocol,
}

impl PortSpec {
    /// The specs of a range: one per container port, each with its own host port
    /// where the ranges are of one length; one container port may have many to choose from.
    ///
    /// # Errors
    /// When the lengths do not fit.
    pub fn expand(
        host_ip: Option<IpAddr>,
        host_ports: Option<RangeInclusive<u16>>,
        container_ports: RangeInclusive<u16>,
        protocol: Protocol,
    ) -> Result<Vec<Self>, PublishError> {
        let spec = |host_ports, container_port| Self { host_ip, host_ports, container_port, protocol };
        let Some(host) = host_ports else {
            return Ok(container_ports.map(|port| spec(None, port)).collect());
        };
        let (wanted, given) = (container_ports.len(), host.len());
        if wanted == given {
            Ok(host.zip(container_ports).map(|(host, port)| spec(Some((host, host)), port)).collect())
        } else if wanted == 1 {
            Ok(container_ports.map(|port| spec(Some((*host.start(), *host.end())), port)).collect())
        } else {
            Err(PublishError::RangeLengths { host: given, container: wanted })
        }
    }
}

/// A held port of the host: one socket per address.
#[derive(Debug)]
pub struct Reserved {
    /// What was asked for.
    pub spec: PortSpec,
    /// The address: `0.0.0.0` where none was given, or `::` for its IPv6 twin.
    pub host_ip: IpAddr,
    /// The port.
    pub host_port: u16,
    /// Holds the port as long as it is open. Close-on-exec.
    pub fd: OwnedFd,
}

impl Reserved {
    /// The translation to the container's address of the same family, if it has one.
    #[must_use]
    pub fn published(&self, addresses: &[IpAddr]) -> Option<Published> {
        let address = addresses.iter().find(|address| address.is_ipv4() == self.host_ip.is_ipv4())?;
        Some(Published {
            host_ip: self.host_ip,
            host_port: self.host_port,
            container_ip: *address,
            container_port: self.spec.container_port,
            protocol: self.spec.protocol,
        })
    }
}

/// Holds all ports, or none. A spec without an address gives two: `0.0.0.0` and, where this host
/// has IPv6, `[::]` with the same port.
///
/// # Errors
/// The first clash, with its holder.
pub fn reserve(specs: &[PortSpec]) -> Result<Vec<Reserved>, PublishError> {
    let ipv6 = sysctl::has_ipv6();
    let mut held = Vec::new();
    for spec in specs {
        held.extend(reserve_one(spec, ipv6)?);
    }
    Ok(held)
}

fn reserve_one(spec: &PortSpec, ipv6: bool) -> Result<Vec<Reserved>, PublishError> {
    let addresses: &[IpAddr] = match spec.host_ip {
        Some(address) => &[address],
        None if ipv6 => &[IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)],
        None => &[IpAddr::V4(Ipv4Addr::UNSPECIFIED)],
    };
    /// How often the kernel may pick a port whose IPv6 twin is taken.
    const PICKS: usize = 16;
    let (candidates, tries): (RangeInclusive<u16>, _) = match spec.host_ports {
        Some((first, last)) => (first..=last, 1),
        None => (0..=0, PICKS),
    };
    let mut taken = None;
    for port in candidates.clone().flat_map(|port| std::iter::repeat_n(port, tries)) {
        match hold(spec, addresses, port) {
            Err(PublishError::Taken(error)) => taken = Some(error),
            result => return result,
        }
    }
    match (taken, spec.host_ports) {
        (Some(_), Some((first, last))) if first != last => {
            Err(PublishError::RangeTaken { host_ip: addresses[0], first, last, protocol: spec.protocol })
        }
        (Some(taken), _) => Err(taken.into()),
        // An empty range: last below first.
        (None, _) => Err(PublishError::RangeLengths { host: 0, container: 1 }),
    }
}

fn hold(spec: &PortSpec, addresses: &[IpAddr], port: u16) -> Result<Vec<Reserved>, PublishError> {
    let mut held: Vec<Reserved> = Vec::new();
    for address in addresses {
        let port = held.first().map_or(port, |first| first.host_port);
        let (fd, host_port) = bind(*address, port, spec.protocol).map_err(|source| {
            let (host_ip, protocol) = (*address, spec.protocol);
            match source.raw_os_error() {
                Some(libc::EADDRINUSE) => {
                    PortTaken { host_ip, port, protocol, holder: holder::find(host_ip, port, protocol) }.into()
                }
                Some(libc::EADDRNOTAVAIL) => PublishError::NoSuchAddress { host_ip, port, protocol },
                _ => PublishError::Bind { host_ip, port, protocol, source },
            }
        })?;
        held.push(Reserved { spec: spec.clone(), host_ip: *address, host_port, fd });
    }
    Ok(held)
}

fn bind(address: IpAddr, port: u16, protocol: Protocol) -> io::Result<(OwnedFd, u16)> {
    let (fd, local) = match try_bind(address, port, protocol, false) {
        // Perhaps only by connections that are over and wait (TIME_WAIT) for late packets.
        Err(error) if error.raw_os_error() == Some(libc::EADDRINUSE) && protocol == Protocol::Tcp => {
            try_bind(address, port, protocol, true)?
        }
        result => result?,
    };
    Ok((fd, local))
}

/// Binds a socket. With `past_waiting`, TCP connections in TIME_WAIT do not count.
///
/// SO_REUSEADDR alone would let a second socket of that kind in. Listening is exclusive,
/// so the socket listens for a moment and then is only bound again, without the option.
fn try_bind(address: IpAddr, port: u16, protocol: Protocol, past_waiting: bool) -> io::Result<(OwnedFd, u16)> {
    let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let (kind, protocol) = match protocol {
        Protocol::Tcp => (SockType::Stream, Some(socket::SockProtocol::Tcp)),
        Protocol::Udp => (SockType::Datagram, Some(socket::SockProtocol::Udp)),
        // Not held: a kernel without SCTP still forwards it.
        Protocol::Sctp => return unheld(family, port),
    };
    let fd = socket::socket(family, kind, SockFlag::SOCK_CLOEXEC, protocol)?;
    if address.is_ipv6() {
        socket::setsockopt(&fd, sockopt::Ipv6V6Only, &true)?;
    }
    if past_waiting {
        socket::setsockopt(&fd, sockopt::ReuseAddr, &true)?;
    }
    socket::bind(fd.as_raw_fd(), &SockaddrStorage::from(SocketAddr::new(address, port)))?;
    if past_waiting {
        socket::listen(&fd, Backlog::new(1)?)?;
        socket::setsockopt(&fd, sockopt::ReuseAddr, &false)?;
        socket::shutdown(fd.as_raw_fd(), Shutdown::Read)?;
    }
    let local: SockaddrStorage = socket::getsockname(fd.as_raw_fd())?;
    let port = match (local.as_sockaddr_in(), local.as_sockaddr_in6()) {
        (Some(v4), _) => v4.port(),
        (None, Some(v6)) => v6.port(),
        (None, None) => port,
    };
    Ok((fd, port))
}

/// A descriptor that holds nothing, for a port that must be named.
fn unheld(family: AddressFamily, port: u16) -> io::Result<(OwnedFd, u16)> {
    if port == 0 {
        return Err(io::Error::from_raw_os_error(libc::EPROTONOSUPPORT));
    }
    Ok((socket::socket(family, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?, port))
}
