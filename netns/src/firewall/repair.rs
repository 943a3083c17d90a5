//! After somebody flushed the ruleset: whether the table is whole, making it so
//! again, and hearing of it when it may not be.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use netlink_sys::protocols::NETLINK_NETFILTER;
use netlink_sys::{Socket as NetlinkSocket, SocketAddr};

use super::message::{Attributes, find};
use super::rule::{self, INET};
use super::socket::{Batch, Socket};
use super::table::{self, DELCHAIN, DELRULE, DELSET, DELTABLE, Element, GETRULE, NEWSETELEM, Set};
use super::{
    FirewallError, Published, add_network, change, forward, list, list_set, network_elements, open, port_elements,
};
use crate::network::Network;

/// Whether the table is there and whole: has its rules, and holds this network's bridge.
///
/// # Errors
/// When the kernel refuses the listing.
pub fn has_network(network: &Network) -> Result<bool, FirewallError> {
    let socket = open()?;
    let wanted = rule::ifname(&network.bridge);
    let bridges = list_set(&socket, Set::Bridges)?.unwrap_or_default();
    Ok(bridges.iter().any(|element| element.key == wanted) && has_rules(&socket).map_err(list("rules"))?)
}

fn has_rules(socket: &Socket) -> io::Result<bool> {
    let table = Attributes::new().string(1, table::TABLE);
    // NFTA_RULE_TABLE: kernels that do not filter dumps list all rules.
    let ours =
        |rule: &&Vec<u8>| find(rule, 1).is_some_and(|name| name.strip_suffix(&[0]) == Some(table::TABLE.as_bytes()));
    Ok(socket.dump(GETRULE, INET, &table)?.iter().filter(ours).count() >= table::rules())
}

/// Makes the whole table anew in one step, after somebody flushed or edited it. What is in it of other networks and ports
/// stays: they may belong to another data root.
///
/// # Errors
/// When the kernel refuses; the old table is then still there.
pub fn repair(networks: &[Network], ports: &[Published]) -> Result<(), FirewallError> {
    let socket = open()?;
    let mut ours: Vec<(Set, Vec<Element>)> = port_elements(ports)?;
    ours.extend(networks.iter().flat_map(network_elements).map(|(set, element)| (set, vec![element])));
    let mut batch = Batch::new();
    let mut others = Vec::new();
    for set in Set::ALL {
        let is_ours = |element: &Element| {
            ours.iter().any(|(of, all)| *of == set && all.iter().any(|mine| mine.key == element.key))
        };
        let found = list_set(&socket, set)?.unwrap_or_default();
        others.push((set, found.into_iter().filter(|element| !is_ours(element)).collect::<Vec<_>>()));
    }
    table::create(&mut batch, false);
    table::delete(&mut batch);
    if !networks.is_empty() || others.iter().any(|(set, elements)| *set == Set::Bridges && !elements.is_empty()) {
        table::create(&mut batch, false);
        table::fill(&mut batch);
        networks.iter().for_each(|network| add_network(&mut batch, network));
        for (set, elements) in others.into_iter().chain(port_elements(ports)?) {
            table::elements(&mut batch, NEWSETELEM, set, &elements);
        }
    }
    for network in networks {
        forward::accept(&socket, &mut batch, &network.bridge, network.enable_ipv6)
            .map_err(list("ip filter FORWARD"))?;
    }
    socket.commit(batch).map_err(change)
}

/// Hears of changes of the host's ruleset, also of those that do not concern us.
#[derive(Debug)]
pub struct Watch {
    socket: NetlinkSocket,
}

impl Watch {
    /// The first messages of what can make our table other than whole: deletions of tables, chains, rules and sets. A
    /// filter of the socket may let pass these alone, by the lower byte of their type.
    pub const DELETIONS: [u8; 4] = [DELTABLE, DELCHAIN, DELRULE, DELSET];

    /// Begins to listen, in the network namespace of the calling thread.
    ///
    /// # Errors
    /// When there is no such socket, or without CAP_NET_ADMIN.
    pub fn open() -> io::Result<Self> {
        /// `NFNLGRP_NFTABLES`.
        const GROUP: u32 = 7;
        let mut socket = NetlinkSocket::new(NETLINK_NETFILTER)?;
        socket.bind(&SocketAddr::new(0, 0))?;
        socket.set_non_blocking(true)?;
        socket.add_membership(GROUP)?;
        Ok(Self { socket })
    }

    /// Whether something has changed since this was asked last.
    #[must_use]
    pub fn happened(&self) -> bool {
        let mut happened = false;
        let mut buffer = Vec::with_capacity(4096);
        loop {
            buffer.clear();
            match self.socket.recv(&mut buffer, libc::MSG_DONTWAIT) {
                Ok(_) => happened = true,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return happened,
                // More than there was room for (ENOBUFS).
                Err(_) if !happened => happened = true,
                Err(_) => return true,
            }
        }
    }
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
