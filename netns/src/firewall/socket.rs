//! The netfilter netlink socket: batches that the kernel applies whole or not
//! at all, and dumps.

use std::io;

use netlink_sys::protocols::NETLINK_NETFILTER;
use netlink_sys::{Socket as NetlinkSocket, SocketAddr};
use nix::sys::socket::{setsockopt, sockopt};

use super::message::Attributes;

const HEADER: usize = 16;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
/// The number of nf_tables among netfilter's subsystems.
pub(crate) const NFTABLES: u8 = 10;
/// The number of conntrack among netfilter's subsystems.
pub(crate) const CONNTRACK: u8 = 1;

pub(crate) const REQUEST: u16 = 1;
pub(crate) const ACK: u16 = 4;
pub(crate) const EXCLUSIVE: u16 = 0x200;
pub(crate) const CREATE: u16 = 0x400;
pub(crate) const APPEND: u16 = 0x800;
const DUMP: u16 = 0x300;

/// The header of a netfilter message: family, version, and the subsystem in a batch's begin and end.
fn message(kind: u16, flags: u16, sequence: u32, family: u8, resource: u16, attributes: &[u8], out: &mut Vec<u8>) {
    let length = u32::try_from(HEADER + 4 + attributes.len()).unwrap_or(u32::MAX);
    out.extend_from_slice(&length.to_ne_bytes());
    out.extend_from_slice(&kind.to_ne_bytes());
    out.extend_from_slice(&flags.to_ne_bytes());
    out.extend_from_slice(&sequence.to_ne_bytes());
    out.extend_from_slice(&0_u32.to_ne_bytes());
    out.extend_from_slice(&[family, 0]);
    out.extend_from_slice(&resource.to_be_bytes());
    out.extend_from_slice(attributes);
}

/// Commands to nf_tables that take effect together.
#[derive(Debug)]
pub(crate) struct Batch {
    bytes: Vec<u8>,
    steps: Vec<String>,
}

/// The kernel refused one command, and with it the batch.
#[derive(Debug)]
pub(crate) struct Refused {
    /// The command, in words.
    pub(crate) step: String,
    /// The kernel's answer.
    pub(crate) source: io::Error,
}

impl Batch {
    /// An empty batch.
    pub(crate) fn new() -> Self {
        let mut bytes = Vec::with_capacity(8192);
        message(BATCH_BEGIN, REQUEST, 0, 0, u16::from(NFTABLES), &[], &mut bytes);
        Self { bytes, steps: Vec::new() }
    }

    /// Whether there is nothing to do.
    pub(crate) fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// Adds a command; `step` is what an error calls it.
    pub(crate) fn push(&mut self, command: u8, flags: u16, family: u8, step: String, attributes: &Attributes) {
        self.steps.push(step);
        let sequence = u32::try_from(self.steps.len()).unwrap_or(u32::MAX);
        let kind = u16::from(NFTABLES) << 8 | u16::from(command);
        message(kind, REQUEST | ACK | flags, sequence, family, 0, attributes.as_bytes(), &mut self.bytes);
    }

    fn finish(mut self) -> (Vec<u8>, Vec<String>) {
        message(BATCH_END, REQUEST, 0, 0, u16::from(NFTABLES), &[], &mut self.bytes);
        (self.bytes, self.steps)
    }
}

/// A socket to netfilter in the network namespace of the thread that opened it.
#[derive(Debug)]
pub(crate) struct Socket {
    inner: NetlinkSocket,
}

impl Socket {
    /// Opens a socket.
    pub(crate) fn open() -> io::Result<Self> {
        let mut inner = NetlinkSocket::new(NETLINK_NETFILTER)?;
        inner.bind_auto()?;
        inner.connect(&SocketAddr::new(0, 0))?;
        // Without this an error repeats the whole refused message.
        inner.set_cap_ack(true)?;
        Ok(Self { inner })
    }

    /// Applies a batch. The kernel has put all its answers into the receive
    /// queue by the time the send returns, so nothing is waited for.
    pub(crate) fn commit(&self, batch: Batch) -> Result<(), Refused> {
        if batch.is_empty() {
            return Ok(());
        }
        let (bytes, steps) = batch.finish();
        let whole = |source| Refused { step: "commit".to_owned(), source };
        // Room for the batch and for one acknowledgement a command (about 1 KiB of accounting each).
        // Refused without CAP_NET_ADMIN: then the batch is refused too, with a better error.
        let _ = setsockopt(&self.inner, sockopt::SndBufForce, &(2 * bytes.len() + 65536));
        let _ = setsockopt(&self.inner, sockopt::RcvBufForce, &(1024 * steps.len() + 65536));
        self.inner.send(&bytes, 0).map_err(whole)?;
        let mut acknowledged = 0;
        let mut refused: Option<Refused> = None;
        loop {
            let answer = match self.receive(libc::MSG_DONTWAIT) {
                Ok(answer) => answer,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(whole(error)),
            };
            for (kind, sequence, payload) in messages(&answer) {
                if kind != NLMSG_ERROR {
                    continue;
                }
                match error_of(payload) {
                    None => acknowledged += 1,
                    Some(source) if refused.is_none() => {
                        let index = usize::try_from(sequence).unwrap_or(0).wrapping_sub(1);
                        let step = steps.get(index).cloned().unwrap_or_else(|| "commit".to_owned());
                        refused = Some(Refused { step, source });
                    }
                    Some(_) => {}
                }
            }
        }
        match refused {
            Some(refused) => Err(refused),
            None if acknowledged < steps.len() => Err(whole(io::ErrorKind::UnexpectedEof.into())),
            None => Ok(()),
        }
    }

    /// Lists objects: the attributes of each, as nf_tables sends them.
    pub(crate) fn dump(&self, command: u8, family: u8, attributes: &Attributes) -> io::Result<Vec<Vec<u8>>> {
        self.request(NFTABLES, command, DUMP, family, attributes)
    }

    /// One request to any netfilter subsystem: the attributes of all messages that answer it.
    pub(crate) fn request(
        &self,
        subsystem: u8,
        command: u8,
        flags: u16,
        family: u8,
        attributes: &Attributes,
    ) -> io::Result<Vec<Vec<u8>>> {
        let kind = u16::from(subsystem) << 8 | u16::from(command);
        let mut bytes = Vec::with_capacity(256);
        message(kind, REQUEST | flags, 1, family, 0, attributes.as_bytes(), &mut bytes);
        self.inner.send(&bytes, 0)?;
        let mut found = Vec::new();
        loop {
            let answer = self.receive(0)?;
            for (kind, _, payload) in messages(&answer) {
                match kind {
                    NLMSG_DONE => return error_of(payload).map_or(Ok(found), Err),
                    NLMSG_ERROR => return error_of(payload).map_or(Ok(found), Err),
                    _ => found.push(payload.get(4..).unwrap_or_default().to_vec()),
                }
            }
        }
    }

    /// As [`Self::request`] with the flag that lists everything.
    pub(crate) fn list(&self, subsystem: u8, command: u8, family: u8) -> io::Result<Vec<Vec<u8>>> {
        self.request(subsystem, command, DUMP, family, &Attributes::new())
    }

    fn receive(&self, flags: libc::c_int) -> io::Result<Vec<u8>> {
        // The kernel fills dumps up to 32 KiB a datagram.
        let mut buffer = Vec::with_capacity(64 * 1024);
        loop {
            match self.inner.recv(&mut buffer, flags) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
                Ok(_) => return Ok(buffer),
            }
        }
    }
}

/// Splits a datagram into (type, sequence, payload).
fn messages(mut bytes: &[u8]) -> impl Iterator<Item = (u16, u32, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::try_from(u32::from_ne_bytes(bytes.get(..4)?.try_into().ok()?)).ok()?;
        let kind = u16::from_ne_bytes(bytes.get(4..6)?.try_into().ok()?);
        let sequence = u32::from_ne_bytes(bytes.get(8..12)?.try_into().ok()?);
        let payload = bytes.get(HEADER..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, sequence, payload))
    })
}

/// The error number that opens the payload of an error or done message; `None` for an acknowledgement.
fn error_of(payload: &[u8]) -> Option<io::Error> {
    let code = payload.get(..4).and_then(|bytes| bytes.try_into().ok()).map_or(0, i32::from_ne_bytes);
    (code != 0).then(|| io::Error::from_raw_os_error(code.wrapping_neg()))
}
