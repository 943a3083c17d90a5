//! The nftables rules inside a container's namespace that lead port 53 of
//! 127.0.0.11 to the responder's sockets, so that the container itself may still
//! bind port 53. Answers get their source back by connection tracking.
//!
//! One atomic batch; what an earlier responder left is replaced in the same
//! transaction.

use crate::firewall::message::Attributes;
use crate::firewall::rule::{self, Expr, Header, IPV4, Meta};
use crate::firewall::socket::{APPEND, Batch, CREATE, EXCLUSIVE, Refused, Socket};

use super::{ADDRESS, DnsError, Ports};

const TABLE: &str = "umiak_dns";
const CHAIN: &str = "output";

// Commands, linux/netfilter/nf_tables.h.
const NEWTABLE: u8 = 0;
const DELTABLE: u8 = 2;
const NEWCHAIN: u8 = 3;
const NEWRULE: u8 = 6;

const HOOK_LOCAL_OUT: u32 = 3;
/// `NF_IP_PRI_NAT_DST`: where destinations are translated.
const PRIORITY_DSTNAT: i32 = -100;
const UDP: u8 = 17;
const TCP: u8 = 6;

/// `ip daddr 127.0.0.11 <protocol> dport 53 dnat to :<port>`
fn redirect(protocol: u8, port: u16) -> Attributes {
    /// `NFT_REG32_00`.
    const REGISTER: u32 = 8;
    let new = Attributes::new;
    let matches = rule::encode(&[
        Expr::Payload { header: Header::Network, offset: 16, len: 4, to: 0 },
        Expr::Equal(0, ADDRESS.octets().to_vec()),
        Expr::Meta(Meta::L4proto, 0),
        Expr::Equal(0, vec![protocol]),
        Expr::Payload { header: Header::Transport, offset: 2, len: 2, to: 0 },
        Expr::Equal(0, 53_u16.to_be_bytes().to_vec()),
    ]);
    let expression = |name: &str, data: &Attributes| new().string(1, name).nest(2, data);
    let load = new().u32(1, REGISTER).nest(2, &new().bytes(rule::NFTA_DATA_VALUE, &port.to_be_bytes()));
    // The destination (1); the port alone, from the register: NFTA_NAT_REG_PROTO_MIN.
    let translate = new().u32(1, 1).u32(2, u32::from(IPV4)).u32(5, REGISTER);
    let all = matches.nest(1, &expression("immediate", &load)).nest(1, &expression("nat", &translate));
    new().string(1, TABLE).string(2, CHAIN).nest(4, &all)
}

/// `anew`: in place of a table that is there.
fn batch(ports: Ports, anew: bool) -> Batch {
    let mut batch = Batch::new();
    let table = Attributes::new().string(1, TABLE);
    let hook = Attributes::new().u32(1, HOOK_LOCAL_OUT).bytes(2, &PRIORITY_DSTNAT.to_be_bytes());
    let chain = Attributes::new().string(1, TABLE).string(3, CHAIN).nest(4, &hook).string(7, "nat");
    if anew {
        // Added, so that deleting cannot fail.
        batch.push(NEWTABLE, CREATE, IPV4, format!("add table ip {TABLE}"), &table);
        batch.push(DELTABLE, 0, IPV4, format!("delete table ip {TABLE}"), &table);
    }
    batch.push(NEWTABLE, CREATE | EXCLUSIVE, IPV4, format!("add table ip {TABLE}"), &table);
    batch.push(NEWCHAIN, CREATE, IPV4, format!("add chain {CHAIN}"), &chain);
    batch.push(NEWRULE, CREATE | APPEND, IPV4, "add the udp rule".to_owned(), &redirect(UDP, ports.udp));
    batch.push(NEWRULE, CREATE | APPEND, IPV4, "add the tcp rule".to_owned(), &redirect(TCP, ports.tcp));
    batch
}

/// Installs the rules in the network namespace of the calling thread.
pub(super) fn install(ports: Ports) -> Result<(), DnsError> {
    let refused = |Refused { step, source }| DnsError::Redirect { step, source };
    let socket = Socket::open().map_err(|source| refused(Refused { step: "open netlink".to_owned(), source }))?;
    // A batch that deletes nothing leaves the kernel nothing to wait for when the socket is closed.
    match socket.commit(batch(ports, false)) {
        Err(Refused { source, .. }) if source.raw_os_error() == Some(libc::EEXIST) => {
            socket.commit(batch(ports, true)).map_err(refused)
        }
        result => result.map_err(refused),
    }
}
