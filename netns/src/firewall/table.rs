//! The table `inet umiak`: its sets, chains and rules, the same on every host.
//! What differs from host to host, networks and published ports, are elements.
//!
//! ```text
//! raw          nothing from outside reaches 127.0.0.0/8 (bridges have route_localnet)
//! prerouting   published ports, for packets from outside and from containers
//! output       published ports, for the host itself
//! forward      only what is published gets into a bridge, nothing passes an internal one
//! postrouting  masquerade: outbound, hairpin, and 127.0.0.1 → container
//! ```

use super::message::Attributes;
use super::rule::{self, Ct, DNAT_DONE, ESTABLISHED_RELATED, Expr, Header, INET, IPV4, IPV6, Meta, Verdict};
use super::socket::{ACK, APPEND, Batch, CREATE, EXCLUSIVE, NFTABLES, Socket};

/// The table's name.
pub(crate) const TABLE: &str = "umiak";

const NEWTABLE: u8 = 0;
const GETTABLE: u8 = 1;
/// `NFT_MSG_DELTABLE`.
pub(crate) const DELTABLE: u8 = 2;
const NEWCHAIN: u8 = 3;
/// `NFT_MSG_DELCHAIN`.
pub(crate) const DELCHAIN: u8 = 5;
const NEWRULE: u8 = 6;
/// `NFT_MSG_GETRULE`.
pub(crate) const GETRULE: u8 = 7;
/// `NFT_MSG_DELRULE`.
pub(crate) const DELRULE: u8 = 8;
const NEWSET: u8 = 9;
/// `NFT_MSG_DELSET`.
pub(crate) const DELSET: u8 = 11;
/// `NFT_MSG_NEWSETELEM`.
pub(crate) const NEWSETELEM: u8 = 12;
/// `NFT_MSG_GETSETELEM`.
pub(crate) const GETSETELEM: u8 = 13;
/// `NFT_MSG_DELSETELEM`.
pub(crate) const DELSETELEM: u8 = 14;

/// `nft`'s numbers of data types, and their sizes padded to registers.
const IPV4_ADDR: (u32, u32) = (7, 4);
const IPV6_ADDR: (u32, u32) = (8, 16);
const INET_PROTO: (u32, u32) = (12, 4);
const INET_SERVICE: (u32, u32) = (13, 4);
const IFNAME: (u32, u32) = (41, 16);

/// The sets and maps of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Set {
    /// Bridges of networks.
    Bridges,
    /// Bridges of internal networks.
    Internal,
    /// Bridges whose outbound traffic takes the host's address.
    Masquerade,
    /// (bridge, address in its network).
    Subnets4,
    /// As `Subnets4`, IPv6.
    Subnets6,
    /// (bridge, same bridge), where its containers may talk to each other.
    Icc,
    /// (host address, protocol, host port) → (container address, port).
    Publish4,
    /// (protocol, host port) → (container address, port), on every address of the host.
    Publish4Any,
    /// As `Publish4`, IPv6.
    Publish6,
    /// As `Publish4Any`, IPv6.
    Publish6Any,
}

impl Set {
    /// All of them.
    pub(crate) const ALL: [Self; 10] = [
        Self::Bridges,
        Self::Internal,
        Self::Masquerade,
        Self::Subnets4,
        Self::Subnets6,
        Self::Icc,
        Self::Publish4,
        Self::Publish4Any,
        Self::Publish6,
        Self::Publish6Any,
    ];

    /// Its name in the table.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Bridges => "bridges",
            Self::Internal => "internal",
            Self::Masquerade => "outbound",
            Self::Subnets4 => "subnets4",
            Self::Subnets6 => "subnets6",
            Self::Icc => "icc",
            Self::Publish4 => "publish4",
            Self::Publish4Any => "publish4_any",
            Self::Publish6 => "publish6",
            Self::Publish6Any => "publish6_any",
        }
    }

    fn key(self) -> &'static [(u32, u32)] {
        match self {
            Self::Bridges | Self::Internal | Self::Masquerade => &[IFNAME],
            Self::Icc => &[IFNAME, IFNAME],
            Self::Subnets4 => &[IFNAME, IPV4_ADDR],
            Self::Subnets6 => &[IFNAME, IPV6_ADDR],
            Self::Publish4 => &[IPV4_ADDR, INET_PROTO, INET_SERVICE],
            Self::Publish6 => &[IPV6_ADDR, INET_PROTO, INET_SERVICE],
            Self::Publish4Any | Self::Publish6Any => &[INET_PROTO, INET_SERVICE],
        }
    }

    fn value(self) -> &'static [(u32, u32)] {
        match self {
            Self::Publish4 | Self::Publish4Any => &[IPV4_ADDR, INET_SERVICE],
            Self::Publish6 | Self::Publish6Any => &[IPV6_ADDR, INET_SERVICE],
            _ => &[],
        }
    }

    fn attributes(self, id: u32) -> Attributes {
        /// `NFT_SET_INTERVAL` with `NFT_SET_CONCAT`.
        const RANGES: u32 = 4 | 0x80;
        /// `NFT_SET_MAP`.
        const MAP: u32 = 8;
        let ranges = matches!(self, Self::Subnets4 | Self::Subnets6);
        let flags = if ranges { RANGES } else { 0 } | if self.value().is_empty() { 0 } else { MAP };
        let (key, key_len) = concatenated(self.key());
        let set = Attributes::new().string(1, TABLE).string(2, self.name()).u32(3, flags).u32(4, key).u32(5, key_len);
        let set = if self.value().is_empty() {
            set
        } else {
            let (value, value_len) = concatenated(self.value());
            set.u32(6, value).u32(7, value_len)
        };
        let set = if ranges {
            let fields = self
                .key()
                .iter()
                .fold(Attributes::new(), |fields, (_, len)| fields.nest(1, &Attributes::new().u32(1, *len)));
            set.nest(9, &Attributes::new().nest(2, &fields))
        } else {
            set
        };
        // What `nft` needs to print names of interfaces: type 0 (the key's byte order), length 4, 1 (the host's).
        let set =
            if self.key() == [IFNAME] { set.bytes(13, &[&[0, 4][..], &1_u32.to_ne_bytes()].concat()) } else { set };
        set.u32(10, id)
    }
}

/// `nft` writes a concatenation as 6 bits a field.
fn concatenated(fields: &[(u32, u32)]) -> (u32, u32) {
    fields.iter().fold((0, 0), |(kind, len), field| (kind << 6 | field.0, len + field.1))
}

/// A base chain's place, or none for one that is jumped to.
struct Chain {
    name: &'static str,
    /// (type, `NF_INET_*` hook, priority)
    base: Option<(&'static str, u32, i32)>,
    rules: Vec<Vec<Expr>>,
}

const PRE_ROUTING: u32 = 0;
const FORWARD: u32 = 2;
const LOCAL_OUT: u32 = 3;
const POST_ROUTING: u32 = 4;
/// `RTN_LOCAL`.
const LOCAL: u32 = 2;

fn chains() -> Vec<Chain> {
    let chain = |name, base, rules| Chain { name, base, rules };
    vec![
        // Before `raw` and conntrack, so that a reply to 127.0.0.1 (translated later) is not met.
        chain("raw", Some(("filter", PRE_ROUTING, -300)), raw()),
        // Jumped to, so made before the chains that do.
        chain("publish", None, publish()),
        chain("prerouting", Some(("nat", PRE_ROUTING, -100)), prerouting()),
        chain("output", Some(("nat", LOCAL_OUT, -100)), vec![to_published()]),
        chain("forward", Some(("filter", FORWARD, 0)), forward()),
        chain("postrouting", Some(("nat", POST_ROUTING, 100)), postrouting()),
    ]
}

fn v4() -> [Expr; 2] {
    [Expr::Meta(Meta::Nfproto, 0), Expr::Equal(0, vec![IPV4])]
}

fn v6() -> [Expr; 2] {
    [Expr::Meta(Meta::Nfproto, 0), Expr::Equal(0, vec![IPV6])]
}

/// `ip saddr 127.0.0.0/8` (offset 12) or `ip daddr 127.0.0.0/8` (offset 16).
fn in_loopback(offset: u32) -> Vec<Expr> {
    let byte = Expr::Payload { header: Header::Network, offset, len: 1, to: 0 };
    [&v4()[..], &[byte, Expr::Equal(0, vec![127])]].concat()
}

fn raw() -> Vec<Vec<Expr>> {
    let not_lo = [Expr::Meta(Meta::Iifname, 0), Expr::NotEqual(0, rule::ifname("lo"))];
    let drop = [Expr::Verdict(Verdict::Drop)];
    [16, 12].map(|offset| [&not_lo[..], &in_loopback(offset), &drop].concat()).to_vec()
}

fn to_published() -> Vec<Expr> {
    vec![Expr::FibDaddrType(0), Expr::Equal(0, LOCAL.to_ne_bytes().to_vec()), Expr::Verdict(Verdict::Jump("publish"))]
}

fn prerouting() -> Vec<Vec<Expr>> {
    let internal = Expr::InSet { set: Set::Internal.name(), key: 0 };
    vec![vec![Expr::Meta(Meta::Iifname, 0), internal, Expr::Verdict(Verdict::Return)], to_published()]
}

fn publish() -> Vec<Vec<Expr>> {
    // (family test, offset and length of the destination address, maps)
    let families =
        [(v4(), 16, 4, IPV4, Set::Publish4, Set::Publish4Any), (v6(), 24, 16, IPV6, Set::Publish6, Set::Publish6Any)];
    let mut rules = Vec::new();
    for (family, offset, len, number, one, any) in families {
        let slots = len / 4;
        let port = |to| Expr::Payload { header: Header::Transport, offset: 2, len: 2, to };
        let dnat = Expr::Dnat { family: number, address: 0, port: slots };
        rules.push(
            [
                &family[..],
                &[
                    Expr::Payload { header: Header::Network, offset, len, to: 0 },
                    Expr::Meta(Meta::L4proto, slots),
                    port(slots + 1),
                    Expr::InMap { map: one.name(), key: 0, value: 0 },
                    dnat.clone(),
                ],
            ]
            .concat(),
        );
        let any = Expr::InMap { map: any.name(), key: 0, value: 0 };
        rules.push([&family[..], &[Expr::Meta(Meta::L4proto, 0), port(1), any, dnat]].concat());
    }
    rules
}

/// `iifname . oifname @set`: an interface name takes four registers.
fn pair_in(set: Set) -> Vec<Expr> {
    vec![Expr::Meta(Meta::Iifname, 0), Expr::Meta(Meta::Oifname, 4), Expr::InSet { set: set.name(), key: 0 }]
}

fn interface_in(interface: Meta, set: Set) -> Vec<Expr> {
    vec![Expr::Meta(interface, 0), Expr::InSet { set: set.name(), key: 0 }]
}

fn ct_has(key: Ct, bits: u32) -> Vec<Expr> {
    vec![Expr::Ct(key, 0), Expr::Mask(0, bits), Expr::NotEqual(0, vec![0; 4])]
}

fn forward() -> Vec<Vec<Expr>> {
    let to_bridge = || interface_in(Meta::Oifname, Set::Bridges);
    let ends = |parts: &[Vec<Expr>], verdict| [&parts.concat()[..], &[Expr::Verdict(verdict)]].concat();
    vec![
        // Containers of one network, where br_netfilter shows bridged packets here.
        ends(&[pair_in(Set::Icc)], Verdict::Accept),
        ends(&[interface_in(Meta::Iifname, Set::Internal)], Verdict::Drop),
        ends(&[interface_in(Meta::Oifname, Set::Internal)], Verdict::Drop),
        ends(&[to_bridge(), ct_has(Ct::State, ESTABLISHED_RELATED)], Verdict::Accept),
        ends(&[to_bridge(), ct_has(Ct::Status, DNAT_DONE)], Verdict::Accept),
        ends(&[to_bridge()], Verdict::Drop),
    ]
}

fn postrouting() -> Vec<Vec<Expr>> {
    let masquerade = |parts: &[Vec<Expr>]| [&parts.concat()[..], &[Expr::Masquerade]].concat();
    // Not by the incoming interface: packets that br_netfilter shows here have none.
    let inside = |family: [Expr; 2], offset, len, set: Set| {
        let source = Expr::Payload { header: Header::Network, offset, len, to: 4 };
        let key = [Expr::Meta(Meta::Oifname, 0), source, Expr::InSet { set: set.name(), key: 0 }];
        [&family[..], &key].concat()
    };
    let inside4 = || inside(v4(), 12, 4, Set::Subnets4);
    let inside6 = || inside(v6(), 8, 16, Set::Subnets6);
    let leave = |part: Vec<Expr>| [&part[..], &[Expr::Verdict(Verdict::Return)]].concat();
    vec![
        // A container that reaches its own network through a published port: without this
        // the answer would go straight to it, from an address that it did not ask.
        masquerade(&[inside4(), ct_has(Ct::Status, DNAT_DONE)]),
        masquerade(&[inside6(), ct_has(Ct::Status, DNAT_DONE)]),
        leave(inside4()),
        leave(inside6()),
        masquerade(&[interface_in(Meta::Iifname, Set::Masquerade)]),
        // A container cannot answer to 127.0.0.1.
        masquerade(&[in_loopback(12), interface_in(Meta::Oifname, Set::Bridges)]),
    ]
}

/// Whether there is a table.
pub(crate) fn is_there(socket: &Socket) -> std::io::Result<bool> {
    match socket.request(NFTABLES, GETTABLE, ACK, INET, &Attributes::new().string(1, TABLE)) {
        Ok(_) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
        Err(error) => Err(error),
    }
}

/// How many rules it has.
pub(crate) fn rules() -> usize {
    chains().iter().map(|chain| chain.rules.len()).sum()
}

/// Makes the table. With `exclusive`, the batch is refused (`EEXIST`) where there is one.
pub(crate) fn create(batch: &mut Batch, exclusive: bool) {
    let flags = CREATE | if exclusive { EXCLUSIVE } else { 0 };
    let name = Attributes::new().string(1, TABLE);
    batch.push(NEWTABLE, flags, INET, format!("add table inet {TABLE}"), &name);
}

/// Deletes the table with all that is in it.
pub(crate) fn delete(batch: &mut Batch) {
    let name = Attributes::new().string(1, TABLE);
    batch.push(DELTABLE, 0, INET, format!("delete table inet {TABLE}"), &name);
}

/// Fills a fresh table with its sets, chains and rules.
pub(crate) fn fill(batch: &mut Batch) {
    for (id, set) in (1..).zip(Set::ALL) {
        batch.push(NEWSET, CREATE, INET, format!("add set {}", set.name()), &set.attributes(id));
    }
    let chains = chains();
    for Chain { name, base, .. } in &chains {
        /// `NF_ACCEPT`.
        const ACCEPT: u32 = 1;
        let chain = Attributes::new().string(1, TABLE).string(3, name);
        let chain = match base {
            Some((kind, hook, priority)) => {
                let hook = Attributes::new().u32(1, *hook).bytes(2, &priority.to_be_bytes());
                chain.nest(4, &hook).u32(5, ACCEPT).string(7, kind)
            }
            None => chain,
        };
        batch.push(NEWCHAIN, CREATE, INET, format!("add chain {name}"), &chain);
    }
    for Chain { name, rules, .. } in &chains {
        for expressions in rules {
            let encoded = Attributes::new().string(1, TABLE).string(2, name).nest(4, &rule::encode(expressions));
            batch.push(NEWRULE, CREATE | APPEND, INET, format!("add rule to chain {name}"), &encoded);
        }
    }
}

/// One element of a set or map.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Element {
    /// The key's bytes, each field padded to four.
    pub(crate) key: Vec<u8>,
    /// The last key of a range; empty in a set of single keys.
    pub(crate) end: Vec<u8>,
    /// The value's; empty in a set.
    pub(crate) value: Vec<u8>,
}

/// How many elements fit surely into one message (its list is an attribute, below 64 KiB).
const CHUNK: usize = 400;

/// Adds (`NEWSETELEM`) or deletes (`DELSETELEM`) elements.
pub(crate) fn elements(batch: &mut Batch, command: u8, set: Set, elements: &[Element]) {
    for chunk in elements.chunks(CHUNK) {
        let list = chunk.iter().fold(Attributes::new(), |list, element| {
            // NFTA_SET_ELEM_KEY, _KEY_END, _DATA
            let parts = [(1, &element.key), (10, &element.end), (2, &element.value)];
            let encoded = parts
                .iter()
                .filter(|(_, bytes)| !bytes.is_empty())
                .fold(Attributes::new(), |encoded, (kind, bytes)| {
                    encoded.nest(*kind, &Attributes::new().bytes(rule::NFTA_DATA_VALUE, bytes))
                });
            list.nest(1, &encoded)
        });
        let attributes = Attributes::new().string(1, TABLE).string(2, set.name()).nest(3, &list);
        let (flags, verb) = if command == NEWSETELEM { (CREATE, "add") } else { (0, "delete") };
        batch.push(command, flags, INET, format!("{verb} element of {}", set.name()), &attributes);
    }
}
