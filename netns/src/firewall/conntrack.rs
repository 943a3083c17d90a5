//! Connections that the kernel tracks: those of UDP are forgotten when the port
//! that they came through changes its meaning. A UDP flow lives as long as packets
//! come, and its translation is decided by the first one alone.

use std::io;
use std::net::IpAddr;

use super::message::{Attributes, find};
use super::socket::{ACK, CONNTRACK, Socket};
use super::{Protocol, Published};

const GET: u8 = 1;
const DELETE: u8 = 2;
const TUPLE_ORIGINAL: u16 = 1;
const TUPLE_REPLY: u16 = 2;
const ZONE: u16 = 18;

struct Tuple {
    protocol: u8,
    source: IpAddr,
    source_port: u16,
    destination: IpAddr,
    destination_port: u16,
}

/// Forgets the flows to published UDP ports that go anywhere but where they are
/// published to now: for a port just published all stale ones, for a port just
/// unpublished, with `gone`, those to the container.
pub(super) fn forget(socket: &Socket, ports: &[Published], gone: bool) -> io::Result<()> {
    let udp: Vec<&Published> = ports.iter().filter(|port| port.protocol == Protocol::Udp).collect();
    if udp.is_empty() {
        return Ok(());
    }
    let local = local_addresses()?;
    for (family, v4) in [(libc::AF_INET, true), (libc::AF_INET6, false)] {
        if !udp.iter().any(|port| port.host_ip.is_ipv4() == v4) {
            continue;
        }
        let family = u8::try_from(family).unwrap_or_default();
        let Some(flows) = flows(socket, family)? else { continue };
        for flow in flows.iter().filter(|flow| udp.iter().any(|port| stale(flow, port, &local, gone) == Some(true))) {
            delete(socket, family, flow)?;
        }
    }
    Ok(())
}

/// All flows; `None` where the kernel cannot list them (then it has no tracking to forget either).
fn flows(socket: &Socket, family: u8) -> io::Result<Option<Vec<Vec<u8>>>> {
    match socket.list(CONNTRACK, GET, family) {
        Ok(flows) => Ok(Some(flows)),
        Err(error) if matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::EINVAL | libc::ENOENT)) => Ok(None),
        Err(error) => Err(error),
    }
}

fn stale(flow: &[u8], port: &Published, local: &[IpAddr], gone: bool) -> Option<bool> {
    let original = tuple(find(flow, TUPLE_ORIGINAL)?)?;
    let reply = tuple(find(flow, TUPLE_REPLY)?)?;
    let through = original.protocol == port.protocol.number()
        && original.destination_port == port.host_port
        && if port.host_ip.is_unspecified() {
            local.contains(&original.destination)
        } else {
            port.host_ip == original.destination
        };
    let to_container = (reply.source, reply.source_port) == (port.container_ip, port.container_port);
    Some(through && to_container == gone)
}

fn tuple(bytes: &[u8]) -> Option<Tuple> {
    let ip = find(bytes, 1)?;
    let address = |v4, v6| match (find(ip, v4), find(ip, v6)) {
        (Some(bytes), _) => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
        (None, Some(bytes)) => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
        (None, None) => None,
    };
    let transport = find(bytes, 2)?;
    let port = |kind| Some(u16::from_be_bytes(find(transport, kind)?.try_into().ok()?));
    Some(Tuple {
        protocol: *find(transport, 1)?.first()?,
        source: address(1, 3)?,
        source_port: port(2)?,
        destination: address(2, 4)?,
        destination_port: port(3)?,
    })
}

fn delete(socket: &Socket, family: u8, flow: &[u8]) -> io::Result<()> {
    let Some(original) = find(flow, TUPLE_ORIGINAL) else { return Ok(()) };
    let which = Attributes::new().bytes(TUPLE_ORIGINAL | 1 << 15, original);
    let which = match find(flow, ZONE) {
        Some(zone) => which.bytes(ZONE, zone),
        None => which,
    };
    match socket.request(CONNTRACK, DELETE, ACK, family, &which) {
        Ok(_) => Ok(()),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
        Err(error) => Err(error),
    }
}

fn local_addresses() -> io::Result<Vec<IpAddr>> {
    let mut addresses = Vec::new();
    for interface in nix::ifaddrs::getifaddrs()? {
        let Some(address) = interface.address else { continue };
        if let Some(v4) = address.as_sockaddr_in() {
            addresses.push(v4.ip().into());
        } else if let Some(v6) = address.as_sockaddr_in6() {
            addresses.push(v6.ip().into());
        }
    }
    Ok(addresses)
}
