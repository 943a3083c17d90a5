//! Who holds a port: the socket's inode from the kernel's tables, the process
//! from the descriptors of all processes.

use std::fmt;
use std::fs;
use std::net::{IpAddr, Ipv6Addr};

use crate::firewall::{self, Protocol, Published};

/// Who holds a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Holder {
    /// A process.
    Process {
        /// Its number.
        pid: u32,
        /// Its name, as the kernel has it.
        name: String,
    },
    /// A container that publishes the port.
    Container(Published),
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Process { pid, name } => write!(f, "{name} (pid {pid})"),
            Self::Container(port) => write!(f, "the container at {}", port.container_ip),
        }
    }
}

/// Finds who holds a port of this network namespace, at an address that clashes with `address`.
#[must_use]
pub fn find(address: IpAddr, port: u16, protocol: Protocol) -> Option<Holder> {
    published(address, port, protocol).or_else(|| {
        let inode = inodes(address, port, protocol).into_iter().find(|inode| *inode != 0)?;
        process(inode)
    })
}

/// A monitor's socket is bound and no more, so it is in no table; the firewall knows its port.
fn published(address: IpAddr, port: u16, protocol: Protocol) -> Option<Holder> {
    let ports = firewall::published().ok()?;
    let found = ports.into_iter().find(|published| {
        published.host_port == port && published.protocol == protocol && clashes(published.host_ip, address)
    })?;
    Some(Holder::Container(found))
}

/// Whether sockets at both addresses cannot have one port. `::` may mean all of IPv4 too.
fn clashes(held: IpAddr, wanted: IpAddr) -> bool {
    held == wanted || held.is_unspecified() || wanted.is_unspecified()
}

fn inodes(address: IpAddr, port: u16, protocol: Protocol) -> Vec<u64> {
    let tables = match protocol {
        Protocol::Tcp => ["tcp", "tcp6"],
        Protocol::Udp => ["udp", "udp6"],
        Protocol::Sctp => return Vec::new(),
    };
    // Not /proc/net: that is the main thread's namespace.
    let read = |table| fs::read_to_string(format!("/proc/thread-self/net/{table}")).unwrap_or_default();
    let texts = tables.map(read);
    let mut found: Vec<(bool, u64)> = texts
        .iter()
        .flat_map(|text| text.lines().skip(1))
        .filter_map(parse)
        .filter(|socket| socket.port == port && clashes(socket.address, address))
        .map(|socket| (socket.listening, socket.inode))
        .collect();
    found.sort_by_key(|(listening, _)| !listening);
    found.into_iter().map(|(_, inode)| inode).collect()
}

struct Socket {
    address: IpAddr,
    port: u16,
    listening: bool,
    inode: u64,
}

/// A line: `sl local_address rem_address st tx:rx tr:when retrnsmt uid timeout inode …`,
/// addresses as hex words in the host's byte order.
fn parse(line: &str) -> Option<Socket> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let (address, port) = fields.get(1)?.split_once(':')?;
    let words = (0..address.len() / 8).map(|n| u32::from_str_radix(address.get(n * 8..n * 8 + 8)?, 16).ok());
    let bytes: Vec<u8> = words.collect::<Option<Vec<u32>>>()?.into_iter().flat_map(u32::to_ne_bytes).collect();
    let address = match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok()?.into(),
        _ => IpAddr::from(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?)).to_canonical(),
    };
    Some(Socket {
        address,
        port: u16::from_str_radix(port, 16).ok()?,
        // TCP_LISTEN, and TCP_CLOSE, which every UDP socket shows.
        listening: matches!(*fields.get(3)?, "0A" | "07"),
        inode: fields.get(9)?.parse().ok()?,
    })
}

fn process(inode: u64) -> Option<Holder> {
    let target = format!("socket:[{inode}]");
    let pids = fs::read_dir("/proc").ok()?.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    for pid in pids {
        let Ok(descriptors) = fs::read_dir(format!("/proc/{pid}/fd")) else { continue };
        let holds = |path| fs::read_link(path).is_ok_and(|link| link.to_str() == Some(&target));
        if descriptors.filter_map(Result::ok).any(|entry| holds(entry.path())) {
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            return Some(Holder::Process { pid, name: name.trim().to_owned() });
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_kernel_are_read() {
        let line =
            "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 x";
        let socket = parse(line).unwrap();
        assert_eq!((socket.address, socket.port), ("127.0.0.1".parse().unwrap(), 8080));
        assert!(socket.listening);
        assert_eq!(socket.inode, 4711);
        let line = "0: 00000000000000000000000001000000:0050 00000000000000000000000000000000:0000 01 0:0 0:0 0 0 0 12";
        let socket = parse(line).unwrap();
        assert_eq!(socket.address, "::1".parse::<IpAddr>().unwrap());
        assert!(!socket.listening);
        assert!(parse("sl local").is_none());
    }
}
