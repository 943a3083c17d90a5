//! The firewall of all networks: table `inet umiak`, written by our own netlink
//! encoder. Synchronous and small, so that monitors can publish their ports too.
//!
//! ```text
//! message   attributes as bytes
//! socket    the netlink socket, atomic batches, dumps
//! rule      expressions of rules, and their encoding
//! table     the table: sets, chains, rules
//! forward   other people's chains that drop forwarded packets
//! conntrack UDP flows that outlive the meaning of their port
//! repair    making whole what somebody flushed, and hearing of it
//! ```
//!
//! All functions work in the network namespace of the calling thread.

pub(crate) mod message;
pub(crate) mod rule;
pub(crate) mod socket;

mod conntrack;
mod forward;
mod repair;
mod table;

use std::fmt;
use std::io;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::network::Network;
pub use forward::Obstacle;
use message::{Attributes, attributes, find};
pub use repair::{Watch, has_network, repair};
use socket::{Batch, Refused, Socket};
use table::{DELSETELEM, Element, GETSETELEM, NEWSETELEM, Set};

/// Why the firewall could not be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum FirewallError {
    /// There is no netfilter socket.
    #[error("open a netlink socket to netfilter")]
    Open(#[source] io::Error),
    /// The kernel refused a change; nothing of the batch took effect.
    #[error("nftables: {step}")]
    Change {
        /// The command that was refused.
        step: String,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// The present state could not be listed.
    #[error("nftables: list {what}")]
    List {
        /// What was listed.
        what: &'static str,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// The flows of a UDP port could not be forgotten.
    #[error("forget the tracked UDP flows of changed ports")]
    Conntrack(#[source] io::Error),
    /// Somebody flushed the ruleset; [`repair`] makes it anew.
    #[error("the nftables table `inet umiak` is gone")]
    TableGone,
    /// A port is published to another container already.
    #[error("{0} is published to another container")]
    Published(Published),
    /// An IPv4 port cannot be translated to an IPv6 address, nor the reverse.
    #[error("{0} mixes IPv4 and IPv6")]
    Families(Published),
}

/// A transport protocol whose ports can be published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    #[default]
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl Protocol {
    /// Its number in the IP header.
    #[must_use]
    pub fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Sctp => 132,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        })
    }
}

/// A port of the host that leads to a port of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Published {
    /// The host's address, or `0.0.0.0` or `::` for all of its family.
    pub host_ip: IpAddr,
    /// The host's port.
    pub host_port: u16,
    /// The container's address, of the same family.
    pub container_ip: IpAddr,
    /// The container's port.
    pub container_port: u16,
    /// The protocol.
    pub protocol: Protocol,
}

impl fmt::Display for Published {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = std::net::SocketAddr::new(self.host_ip, self.host_port);
        let container = std::net::SocketAddr::new(self.container_ip, self.container_port);
        write!(f, "{host} -> {container}/{}", self.protocol)
    }
}

/// Makes the table if there is none, and a network's bridge part of it. Done already: nothing changes.
///
/// # Errors
/// When the kernel refuses, e.g. without nf_tables or without CAP_NET_ADMIN.
pub fn ensure_network(network: &Network) -> Result<(), FirewallError> {
    let socket = open()?;
    let add = || {
        let mut batch = Batch::new();
        add_network(&mut batch, network);
        batch
    };
    // Asked first: after a batch that it refuses, the kernel waits until no packet can have seen any of it.
    let added = match table::is_there(&socket).map_err(list("tables"))? {
        true => socket.commit(add()),
        false => Err(Refused { step: String::new(), source: io::Error::from_raw_os_error(libc::ENOENT) }),
    };
    match added {
        Err(refused) if is(&refused, libc::ENOENT) => {
            let mut batch = Batch::new();
            table::create(&mut batch, true);
            table::fill(&mut batch);
            add_network(&mut batch, network);
            match socket.commit(batch) {
                // Another command was first.
                Err(refused) if is(&refused, libc::EEXIST) => socket.commit(add()).map_err(change)?,
                result => result.map_err(change)?,
            }
        }
        result => result.map_err(change)?,
    }
    let mut batch = Batch::new();
    forward::accept(&socket, &mut batch, &network.bridge, network.enable_ipv6).map_err(list("ip filter FORWARD"))?;
    socket.commit(batch).map_err(change)
}

/// Takes a network's bridge out of the table, and deletes the table with the last
/// one. `true`: that was the last.
///
/// # Errors
/// When the kernel refuses. What is gone already is no error.
pub fn remove_network(network: &Network) -> Result<bool, FirewallError> {
    let socket = open()?;
    let name = rule::ifname(&network.bridge);
    let bridges = list_set(&socket, Set::Bridges)?;
    let last = bridges.iter().flatten().all(|bridge| bridge.key == name);
    let mut batch = Batch::new();
    forward::withdraw(&socket, &mut batch, &network.bridge).map_err(list("ip filter FORWARD"))?;
    match bridges {
        Some(_) if last => table::delete(&mut batch),
        Some(bridges) if bridges.iter().any(|bridge| bridge.key == name) => {
            for (set, element) in network_elements(network) {
                table::elements(&mut batch, DELSETELEM, set, &[element]);
            }
        }
        _ => {}
    }
    match socket.commit(batch) {
        Ok(()) => {}
        // Something went meanwhile, so nothing was deleted: the rest one by one.
        Err(refused) if is(&refused, libc::ENOENT) => {
            let mut batch = Batch::new();
            forward::withdraw(&socket, &mut batch, &network.bridge).map_err(list("ip filter FORWARD"))?;
            socket.commit(batch).map_err(change)?;
            for (set, element) in network_elements(network) {
                delete_one(&socket, set, element)?;
            }
        }
        Err(refused) => return Err(change(refused)),
    }
    Ok(last)
}

/// Publishes ports, all or none, at once. Published already: nothing changes.
///
/// # Errors
/// When the table is gone, a port leads elsewhere already, or the kernel refuses.
pub fn publish(ports: &[Published]) -> Result<(), FirewallError> {
    let socket = open()?;
    let mut batch = Batch::new();
    add_ports(&mut batch, ports)?;
    socket.commit(batch).map_err(|refused| match refused.source.raw_os_error() {
        Some(libc::ENOENT) => FirewallError::TableGone,
        Some(libc::EEXIST) => match ports {
            [port] => FirewallError::Published(*port),
            _ => change(refused),
        },
        _ => change(refused),
    })?;
    conntrack::forget(&socket, ports, false).map_err(FirewallError::Conntrack)
}

/// Ends the publishing of ports. What is gone already is no error.
///
/// # Errors
/// When the kernel refuses.
pub fn unpublish(ports: &[Published]) -> Result<(), FirewallError> {
    let socket = open()?;
    let mut batch = Batch::new();
    for (set, elements) in port_elements(ports)? {
        table::elements(&mut batch, DELSETELEM, set, &elements);
    }
    match socket.commit(batch) {
        Ok(()) => {}
        // One is gone, so none was deleted: the rest one by one.
        Err(refused) if is(&refused, libc::ENOENT) => {
            for (set, elements) in port_elements(ports)? {
                for element in elements {
                    delete_one(&socket, set, element)?;
                }
            }
        }
        Err(refused) => return Err(change(refused)),
    }
    conntrack::forget(&socket, ports, true).map_err(FirewallError::Conntrack)
}

/// All published ports, as the kernel has them.
///
/// # Errors
/// When the kernel refuses the listing.
pub fn published() -> Result<Vec<Published>, FirewallError> {
    let socket = open()?;
    let mut ports = Vec::new();
    for set in [Set::Publish4, Set::Publish4Any, Set::Publish6, Set::Publish6Any] {
        let elements = list_set(&socket, set)?.unwrap_or_default();
        ports.extend(elements.iter().filter_map(|element| read_port(set, element)));
    }
    Ok(ports)
}

/// Chains of other programs that drop forwarded packets and that are not edited: for a hint
/// where containers have no way out.
///
/// # Errors
/// When the kernel refuses the listing.
pub fn obstacles() -> Result<Vec<Obstacle>, FirewallError> {
    forward::obstacles(&open()?).map_err(list("chains"))
}

fn open() -> Result<Socket, FirewallError> {
    Socket::open().map_err(FirewallError::Open)
}

fn is(refused: &Refused, errno: i32) -> bool {
    refused.source.raw_os_error() == Some(errno)
}

fn change(refused: Refused) -> FirewallError {
    FirewallError::Change { step: refused.step, source: refused.source }
}

fn list(what: &'static str) -> impl Fn(io::Error) -> FirewallError {
    move |source| FirewallError::List { what, source }
}

fn network_elements(network: &Network) -> Vec<(Set, Element)> {
    let name = rule::ifname(&network.bridge);
    let pair = [&name[..], &name].concat();
    let one = |key: &Vec<u8>| Element { key: key.clone(), end: Vec::new(), value: Vec::new() };
    let mut elements = vec![(Set::Bridges, one(&name))];
    for subnet in &network.subnets {
        let set = if subnet.cidr.is_ipv4() { Set::Subnets4 } else { Set::Subnets6 };
        let key = |address| [&name[..], &address_bytes(address)].concat();
        let (first, last) = (subnet.cidr.network().address(), subnet.cidr.last_address());
        elements.push((set, Element { key: key(first), end: key(last), value: Vec::new() }));
    }
    if network.icc {
        elements.push((Set::Icc, one(&pair)));
    }
    if network.internal {
        elements.push((Set::Internal, one(&name)));
    } else if network.masquerade {
        elements.push((Set::Masquerade, one(&name)));
    }
    elements
}

fn add_network(batch: &mut Batch, network: &Network) {
    for (set, element) in network_elements(network) {
        table::elements(batch, NEWSETELEM, set, &[element]);
    }
}

fn delete_one(socket: &Socket, set: Set, element: Element) -> Result<(), FirewallError> {
    let mut batch = Batch::new();
    table::elements(&mut batch, DELSETELEM, set, &[element]);
    match socket.commit(batch) {
        Err(refused) if !is(&refused, libc::ENOENT) => Err(change(refused)),
        _ => Ok(()),
    }
}

fn add_ports(batch: &mut Batch, ports: &[Published]) -> Result<(), FirewallError> {
    for (set, elements) in port_elements(ports)? {
        table::elements(batch, NEWSETELEM, set, &elements);
    }
    Ok(())
}

fn port_elements(ports: &[Published]) -> Result<Vec<(Set, Vec<Element>)>, FirewallError> {
    let mut sets: Vec<(Set, Vec<Element>)> = Vec::new();
    for port in ports {
        let (set, element) = port_element(port)?;
        match sets.iter_mut().find(|(found, _)| *found == set) {
            Some((_, elements)) => elements.push(element),
            None => sets.push((set, vec![element])),
        }
    }
    Ok(sets)
}

fn address_bytes(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

fn port_element(port: &Published) -> Result<(Set, Element), FirewallError> {
    let set = match (port.host_ip, port.container_ip) {
        (IpAddr::V4(host), IpAddr::V4(_)) if host.is_unspecified() => Set::Publish4Any,
        (IpAddr::V4(_), IpAddr::V4(_)) => Set::Publish4,
        (IpAddr::V6(host), IpAddr::V6(_)) if host.is_unspecified() => Set::Publish6Any,
        (IpAddr::V6(_), IpAddr::V6(_)) => Set::Publish6,
        _ => return Err(FirewallError::Families(*port)),
    };
    let padded = |number: u16| [number.to_be_bytes(), [0; 2]].concat();
    let mut key = Vec::new();
    if matches!(set, Set::Publish4 | Set::Publish6) {
        key.extend(address_bytes(port.host_ip));
    }
    key.extend([port.protocol.number(), 0, 0, 0]);
    key.extend(padded(port.host_port));
    let value = [address_bytes(port.container_ip), padded(port.container_port)].concat();
    Ok((set, Element { key, end: Vec::new(), value }))
}

fn read_port(set: Set, element: &Element) -> Option<Published> {
    fn address(bytes: &[u8]) -> Option<IpAddr> {
        match bytes.len() {
            4 => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
            _ => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
        }
    }
    fn port(bytes: &[u8]) -> Option<u16> {
        Some(u16::from_be_bytes(bytes.get(..2)?.try_into().ok()?))
    }
    let len = if matches!(set, Set::Publish4 | Set::Publish4Any) { 4 } else { 16 };
    let any = matches!(set, Set::Publish4Any | Set::Publish6Any);
    let (host_ip, rest) = if any {
        (address(&vec![0; len])?, &element.key[..])
    } else {
        (address(element.key.get(..len)?)?, &element.key[len..])
    };
    let protocol = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp];
    Some(Published {
        host_ip,
        host_port: port(rest.get(4..)?)?,
        container_ip: address(element.value.get(..len)?)?,
        container_port: port(element.value.get(len..)?)?,
        protocol: protocol.into_iter().find(|protocol| rest.first() == Some(&protocol.number()))?,
    })
}

/// The elements of a set; `None` where there is no table.
fn list_set(socket: &Socket, set: Set) -> Result<Option<Vec<Element>>, FirewallError> {
    let which = Attributes::new().string(1, table::TABLE).string(2, set.name());
    let messages = match socket.dump(GETSETELEM, rule::INET, &which) {
        Ok(messages) => messages,
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(None),
        Err(source) => return Err(FirewallError::List { what: set.name(), source }),
    };
    let mut elements = Vec::new();
    for message in &messages {
        for (_, element) in attributes(find(message, 3).unwrap_or_default()) {
            let bytes =
                |kind| find(element, kind).and_then(|data| find(data, rule::NFTA_DATA_VALUE)).map(<[u8]>::to_vec);
            if let Some(key) = bytes(1) {
                let (end, value) = (bytes(10).unwrap_or_default(), bytes(2).unwrap_or_default());
                elements.push(Element { key, end, value });
            }
        }
    }
    Ok(Some(elements))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_of_ports_are_read_back() {
        for (host_ip, container_ip) in
            [("0.0.0.0", "172.17.0.2"), ("127.0.0.1", "172.17.0.2"), ("::", "fd00::2"), ("fd01::1", "fd00::2")]
        {
            let port = Published {
                host_ip: host_ip.parse().unwrap(),
                host_port: 8080,
                container_ip: container_ip.parse().unwrap(),
                container_port: 80,
                protocol: Protocol::Udp,
            };
            let (set, element) = port_element(&port).unwrap();
            assert_eq!(read_port(set, &element), Some(port));
        }
    }

    #[test]
    fn families_do_not_mix() {
        let port = Published {
            host_ip: "::".parse().unwrap(),
            host_port: 8080,
            container_ip: "172.17.0.2".parse().unwrap(),
            container_port: 80,
            protocol: Protocol::Tcp,
        };
        assert!(port_elements(&[port]).is_err());
    }
}
