//! The nftables rules inside a container's namespace that lead port 53 of
//! 127.0.0.11 to the responder's sockets, so that the container itself may still
//! bind port 53. Answers get their source back by connection tracking.
//!
//! One atomic netlink batch (`linux/netfilter/nfnetlink.h`, `nf_tables.h`); what
//! an earlier responder left is replaced in the same transaction.

use std::io;

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink};

use super::{ADDRESS, DnsError, Ports};

const TABLE: &[u8] = b"umiak_dns\0";
const CHAIN: &[u8] = b"output\0";

// linux/netfilter/nfnetlink.h, nf_tables.h
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const SUBSYSTEM: u16 = 10 << 8;
const NEW_TABLE: u16 = SUBSYSTEM;
const DELETE_TABLE: u16 = SUBSYSTEM | 2;
const NEW_CHAIN: u16 = SUBSYSTEM | 3;
const NEW_RULE: u16 = SUBSYSTEM | 6;
const NESTED: u16 = 0x8000;

const REQUEST: u16 = 0x01;
const ACK: u16 = 0x04;
const CREATE: u16 = 0x400;
const APPEND: u16 = 0x800;

const FAMILY_UNSPEC: u8 = 0;
const FAMILY_IPV4: u8 = 2;
const HOOK_LOCAL_OUT: u32 = 3;
/// `NF_IP_PRI_NAT_DST`, -100 in two's complement, as netlink carries it.
const PRIORITY_DSTNAT: u32 = (-100_i32).cast_unsigned();
const REGISTER: u32 = 1;
const UDP: u8 = 17;
const TCP: u8 = 6;

/// Messages under construction, and what each one does.
#[derive(Default)]
struct Batch {
    bytes: Vec<u8>,
    steps: Vec<&'static str>,
}

impl Batch {
    /// Appends a message; its sequence number is its place among the steps.
    fn message(&mut self, step: &'static str, kind: u16, flags: u16, family: u8, body: &[u8]) {
        let length = 20 + body.len();
        self.bytes.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(&(REQUEST | flags).to_ne_bytes());
        self.bytes.extend_from_slice(&u32::try_from(self.steps.len()).unwrap_or(u32::MAX).to_ne_bytes());
        self.bytes.extend_from_slice(&[0; 4]);
        // nfgenmsg: family, version, the subsystem (big endian) in the batch's begin and end.
        let [high, low] = if kind < SUBSYSTEM { (SUBSYSTEM >> 8).to_be_bytes() } else { [0; 2] };
        self.bytes.extend_from_slice(&[family, 0, high, low]);
        self.bytes.extend_from_slice(body);
        self.steps.push(step);
    }
}

/// An attribute: length, type, value, padded to four bytes.
fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = 4 + value.len();
    let mut out = Vec::with_capacity(length.next_multiple_of(4));
    out.extend_from_slice(&u16::try_from(length).unwrap_or(u16::MAX).to_ne_bytes());
    out.extend_from_slice(&kind.to_ne_bytes());
    out.extend_from_slice(value);
    out.resize(length.next_multiple_of(4), 0);
    out
}

fn number(kind: u16, value: u32) -> Vec<u8> {
    attribute(kind, &value.to_be_bytes())
}

fn nested(kind: u16, parts: &[Vec<u8>]) -> Vec<u8> {
    attribute(kind | NESTED, &parts.concat())
}

/// An expression of a rule: NFTA_LIST_ELEM { NFTA_EXPR_NAME, NFTA_EXPR_DATA }.
fn expression(name: &[u8], data: &[Vec<u8>]) -> Vec<u8> {
    nested(1, &[attribute(1, name), nested(2, data)])
}

/// `value == what was loaded`, else the rule ends.
fn equals(value: &[u8]) -> Vec<u8> {
    expression(b"cmp\0", &[number(1, REGISTER), number(2, 0), nested(3, &[attribute(1, value)])])
}

/// Loads a part of the packet: base 1 is the network header, 2 the transport header.
fn payload(base: u32, offset: u32, length: u32) -> Vec<u8> {
    expression(b"payload\0", &[number(1, REGISTER), number(2, base), number(3, offset), number(4, length)])
}

/// `ip daddr 127.0.0.11 <protocol> dport 53 dnat to :<port>`
fn rule(protocol: u8, port: u16) -> Vec<u8> {
    const META_L4PROTO: u32 = 16;
    let expressions = [
        payload(1, 16, 4),
        equals(&ADDRESS.octets()),
        expression(b"meta\0", &[number(1, REGISTER), number(2, META_L4PROTO)]),
        equals(&[protocol]),
        payload(2, 2, 2),
        equals(&53_u16.to_be_bytes()),
        expression(b"immediate\0", &[number(1, REGISTER), nested(2, &[attribute(1, &port.to_be_bytes())])]),
        // NFTA_NAT_TYPE: destination; FAMILY; REG_PROTO_MIN and MAX.
        expression(b"nat\0", &[number(1, 1), number(2, FAMILY_IPV4.into()), number(5, REGISTER), number(6, REGISTER)]),
    ];
    [attribute(1, TABLE), attribute(2, CHAIN), nested(4, &expressions)].concat()
}

fn batch(ports: Ports) -> Batch {
    let mut batch = Batch::default();
    let table = attribute(1, TABLE);
    let hook = nested(4, &[number(1, HOOK_LOCAL_OUT), number(2, PRIORITY_DSTNAT)]);
    let chain = [attribute(1, TABLE), attribute(3, CHAIN), hook, attribute(7, b"nat\0")].concat();
    batch.message("begin", BATCH_BEGIN, 0, FAMILY_UNSPEC, &[]);
    // Added, so that deleting cannot fail, then made anew: replaces whatever was there.
    batch.message("add the table", NEW_TABLE, CREATE | ACK, FAMILY_IPV4, &table);
    batch.message("clear the table", DELETE_TABLE, ACK, FAMILY_IPV4, &table);
    batch.message("make the table", NEW_TABLE, CREATE | ACK, FAMILY_IPV4, &table);
    batch.message("make the chain", NEW_CHAIN, CREATE | ACK, FAMILY_IPV4, &chain);
    let flags = CREATE | APPEND | ACK;
    batch.message("add the udp rule", NEW_RULE, flags, FAMILY_IPV4, &rule(UDP, ports.udp));
    batch.message("add the tcp rule", NEW_RULE, flags, FAMILY_IPV4, &rule(TCP, ports.tcp));
    batch.message("end", BATCH_END, 0, FAMILY_UNSPEC, &[]);
    batch
}

/// Installs the rules in the network namespace of the calling thread.
pub(super) fn install(ports: Ports) -> Result<(), DnsError> {
    let failed = |step| move |error: rustix::io::Errno| DnsError::Redirect { step, source: error.into() };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, Some(netlink::NETFILTER))
        .map_err(failed("open netlink"))?;
    let batch = batch(ports);
    rustix::net::send(&socket, &batch.bytes, SendFlags::empty()).map_err(failed("send"))?;
    // The kernel answers while it is being sent to: what it has to say is there now.
    let mut pending = batch.steps.len() - 2;
    let mut buffer = [0_u8; 4096];
    while pending > 0 {
        let (length, _) = rustix::net::recv(&socket, &mut buffer, RecvFlags::empty()).map_err(failed("acknowledge"))?;
        for (number, error) in acknowledgements(buffer.get(..length).unwrap_or_default()) {
            if error != 0 {
                let step = batch.steps.get(number).copied().unwrap_or("send");
                return Err(DnsError::Redirect { step, source: io::Error::from_raw_os_error(error) });
            }
            pending = pending.saturating_sub(1);
        }
    }
    Ok(())
}

/// The sequence number and error of each NLMSG_ERROR message.
fn acknowledgements(mut bytes: &[u8]) -> Vec<(usize, i32)> {
    const NLMSG_ERROR: u16 = 2;
    let mut all = Vec::new();
    while let Some(head) = bytes.first_chunk::<20>() {
        let word = |at: usize| u32::from_ne_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let length = usize::try_from(word(0)).unwrap_or(usize::MAX).max(20);
        if u16::from_ne_bytes([head[4], head[5]]) == NLMSG_ERROR {
            all.push((usize::try_from(word(8)).unwrap_or(usize::MAX), word(16).cast_signed().saturating_neg()));
        }
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    all
}
