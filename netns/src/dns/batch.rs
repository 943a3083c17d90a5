//! Datagrams by the batch: one system call takes in all questions that are
//! there, one sends all their answers.

use std::io::{IoSlice, IoSliceMut};
use std::net::SocketAddrV4;
use std::ops::Range;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrIn, recvmmsg, sendmmsg};

/// Datagrams per system call.
pub(super) const BATCH: usize = 8;
/// The longest question taken over UDP.
const SLOT: usize = 1280;

/// Room for a batch, made when the first question comes.
#[derive(Debug)]
pub(super) struct Batch {
    incoming: MultiHeaders<SockaddrIn>,
    outgoing: MultiHeaders<SockaddrIn>,
    room: Vec<u8>,
    received: [Option<(usize, SockaddrIn)>; BATCH],
}

impl Batch {
    pub(super) fn new() -> Self {
        Self {
            incoming: MultiHeaders::preallocate(BATCH, None),
            outgoing: MultiHeaders::preallocate(BATCH, None),
            room: vec![0; BATCH * SLOT],
            received: [None; BATCH],
        }
    }

    /// Takes in what is there; how many datagrams that is.
    pub(super) fn receive(&mut self, socket: &OwnedFd) -> usize {
        let mut chunks = self.room.chunks_exact_mut(SLOT);
        let mut slices: [_; BATCH] = std::array::from_fn(|_| [IoSliceMut::new(chunks.next().unwrap_or_default())]);
        let flags = MsgFlags::MSG_DONTWAIT;
        self.received = [None; BATCH];
        let Ok(messages) = recvmmsg(socket.as_raw_fd(), &mut self.incoming, &mut slices, flags, None) else { return 0 };
        let mut count = 0;
        for (message, place) in messages.zip(&mut self.received) {
            count += 1;
            // One that did not fit is no question of ours.
            if !message.flags.contains(MsgFlags::MSG_TRUNC) {
                *place = message.address.map(|address| (message.bytes, address));
            }
        }
        count
    }

    /// A datagram of the last batch, and who sent it.
    pub(super) fn datagram(&self, number: usize) -> Option<(&[u8], SocketAddrV4)> {
        let (length, address) = (*self.received.get(number)?)?;
        let room = self.room.get(number * SLOT..)?;
        Some((room.get(..length)?, SocketAddrV4::new(address.ip(), address.port())))
    }

    /// Sends parts of `out`, each to the sender of the datagram with that number. What cannot be sent is
    /// dropped, as datagrams are: the client asks again.
    pub(super) fn send(&mut self, socket: &OwnedFd, out: &[u8], answers: &[(usize, Range<usize>)]) {
        let mut rest = answers;
        while !rest.is_empty() {
            let sent = self.send_some(socket, out, rest).unwrap_or(0);
            // The call fails for the first of them only.
            rest = rest.get(sent.max(1)..).unwrap_or_default();
        }
    }

    fn send_some(&mut self, socket: &OwnedFd, out: &[u8], answers: &[(usize, Range<usize>)]) -> Result<usize, Errno> {
        let count = answers.len().min(BATCH);
        let part =
            |number: usize| answers.get(number).and_then(|(_, range)| out.get(range.clone())).unwrap_or_default();
        let slices: [_; BATCH] = std::array::from_fn(|number| [IoSlice::new(part(number))]);
        let address = |number: usize| Some((*self.received.get(answers.get(number)?.0)?)?.1);
        let addresses: [_; BATCH] = std::array::from_fn(address);
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        let slices = slices.get(..count).unwrap_or_default();
        sendmmsg(socket.as_raw_fd(), &mut self.outgoing, slices, addresses, [], flags).map(Iterator::count)
    }
}
