//! A small typed model of nf_tables rules and its encoding.
//!
//! A rule is a list of expressions that load packet data into registers and
//! test them; registers are 4-byte slots numbered as `NFT_REG32_00` and on, so
//! that the fields of a concatenated key lie one after the other.

use super::message::Attributes;

/// `NFT_REG32_00`: the first 4-byte register.
const REG32_00: u32 = 8;

/// IPv4 in `meta nfproto`, and as the family of an address translation.
pub(crate) const IPV4: u8 = libc_u8(libc::NFPROTO_IPV4);
/// IPv6 in `meta nfproto`, and as the family of an address translation.
pub(crate) const IPV6: u8 = libc_u8(libc::NFPROTO_IPV6);
/// The family of tables that see both.
pub(crate) const INET: u8 = libc_u8(libc::NFPROTO_INET);

const fn libc_u8(value: libc::c_int) -> u8 {
    value.to_le_bytes()[0]
}

/// What a rule does with the packet in the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Ends this chain's hook; other chains at the hook still see the packet.
    Accept,
    /// Ends the packet.
    Drop,
    /// Back to the calling chain, or the policy.
    Return,
    /// On with another chain of the table, and back.
    Jump(&'static str),
}

/// Keys of `meta` (`NFT_META_*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Meta {
    /// Incoming interface's name, 16 bytes.
    Iifname = 6,
    /// Outgoing interface's name, 16 bytes.
    Oifname = 7,
    /// IPv4 or IPv6, in a table of family inet.
    Nfproto = 15,
    /// TCP, UDP and so on.
    L4proto = 16,
}

/// Where a payload offset counts from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Header {
    /// The IP header.
    Network = 1,
    /// The TCP or UDP header.
    Transport = 2,
}

/// Keys of `ct`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ct {
    /// Bits of `1 << (IP_CT_ESTABLISHED + 1)` and so on.
    State = 0,
    /// Bits of `enum ip_conntrack_status`.
    Status = 2,
}

/// `ct state established,related`.
pub(crate) const ESTABLISHED_RELATED: u32 = 0x2 | 0x4;
/// `ct status dnat`.
pub(crate) const DNAT_DONE: u32 = 0x20;

/// One expression. Register numbers count 4-byte slots from 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Expr {
    /// Loads packet metadata.
    Meta(Meta, u32),
    /// Loads `len` bytes at `offset` of a header.
    Payload { header: Header, offset: u32, len: u32, to: u32 },
    /// Loads a fact about the packet's connection, in the host's byte order.
    Ct(Ct, u32),
    /// Loads the type of the destination address (`RTN_*`, host's byte order).
    FibDaddrType(u32),
    /// Keeps some bits of a 4-byte register (host's byte order).
    Mask(u32, u32),
    /// Goes on when the register holds these bytes.
    Equal(u32, Vec<u8>),
    /// Goes on when it does not.
    NotEqual(u32, Vec<u8>),
    /// Goes on when the key at the register is in the set.
    InSet { set: &'static str, key: u32 },
    /// Goes on when the key is in the map, whose value goes to the register.
    InMap { map: &'static str, key: u32, value: u32 },
    /// Translates the destination to the address and port in registers.
    Dnat { family: u8, address: u32, port: u32 },
    /// Translates the source to the outgoing interface's address.
    Masquerade,
    /// Counts packets.
    Counter,
    /// Ends the rule.
    Verdict(Verdict),
}

const NFTA_LIST_ELEM: u16 = 1;
const NFTA_EXPR_NAME: u16 = 1;
const NFTA_EXPR_DATA: u16 = 2;
/// `NFTA_DATA_VALUE`.
pub(crate) const NFTA_DATA_VALUE: u16 = 1;
const NFTA_DATA_VERDICT: u16 = 2;

impl Expr {
    /// An interface name at a register, compared whole.
    pub(crate) fn ifname(register: u32, name: &str) -> Self {
        Self::Equal(register, ifname(name))
    }

    fn encode(&self) -> (&'static str, Attributes) {
        let reg = |register: &u32| REG32_00 + register;
        let new = Attributes::new;
        match self {
            Self::Meta(key, to) => ("meta", new().u32(1, reg(to)).u32(2, *key as u32)),
            Self::Payload { header, offset, len, to } => {
                ("payload", new().u32(1, reg(to)).u32(2, *header as u32).u32(3, *offset).u32(4, *len))
            }
            Self::Ct(key, to) => ("ct", new().u32(1, reg(to)).u32(2, *key as u32)),
            // Result: the address type (3). Flags: the destination address (2).
            Self::FibDaddrType(to) => ("fib", new().u32(1, reg(to)).u32(2, 3).u32(3, 2)),
            Self::Mask(register, mask) => {
                let mask = value(&mask.to_ne_bytes());
                let data = new().u32(1, reg(register)).u32(2, reg(register)).u32(3, 4).nest(4, &mask);
                ("bitwise", data.nest(5, &value(&[0; 4])))
            }
            Self::Equal(register, bytes) => ("cmp", new().u32(1, reg(register)).u32(2, 0).nest(3, &value(bytes))),
            Self::NotEqual(register, bytes) => ("cmp", new().u32(1, reg(register)).u32(2, 1).nest(3, &value(bytes))),
            Self::InSet { set, key } => ("lookup", new().string(1, set).u32(2, reg(key))),
            Self::InMap { map, key, value } => ("lookup", new().string(1, map).u32(2, reg(key)).u32(3, reg(value))),
            Self::Dnat { family, address, port } => {
                ("nat", new().u32(1, 1).u32(2, u32::from(*family)).u32(3, reg(address)).u32(5, reg(port)))
            }
            Self::Masquerade => ("masq", new()),
            Self::Counter => ("counter", new().u64(1, 0).u64(2, 0)),
            Self::Verdict(verdict) => {
                ("immediate", new().u32(1, 0).nest(2, &new().nest(NFTA_DATA_VERDICT, &verdict.encode())))
            }
        }
    }
}

impl Verdict {
    fn encode(self) -> Attributes {
        let code = |code: i32| Attributes::new().bytes(1, &code.to_be_bytes());
        match self {
            Self::Drop => code(0),
            Self::Accept => code(1),
            Self::Jump(chain) => code(-3).string(2, chain),
            Self::Return => code(-5),
        }
    }
}

fn value(bytes: &[u8]) -> Attributes {
    Attributes::new().bytes(NFTA_DATA_VALUE, bytes)
}

/// An interface name as nf_tables compares it: 16 bytes, filled up with NUL.
pub(crate) fn ifname(name: &str) -> Vec<u8> {
    let mut bytes = name.as_bytes().to_vec();
    bytes.resize(libc::IFNAMSIZ, 0);
    bytes
}

/// The list of a rule's expressions.
pub(crate) fn encode(rule: &[Expr]) -> Attributes {
    rule.iter().fold(Attributes::new(), |list, expr| {
        let (name, data) = expr.encode();
        list.nest(NFTA_LIST_ELEM, &Attributes::new().string(NFTA_EXPR_NAME, name).nest(NFTA_EXPR_DATA, &data))
    })
}
