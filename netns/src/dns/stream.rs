//! Clients over TCP (RFC 7766): messages behind a two-byte length, one after the
//! other per connection. Nothing a client does holds up another: every phase has
//! a deadline, the number of connections and the size of a question are bounded,
//! and a connection too many costs the one that has been quiet the longest
//! (CVE-2024-8418 and CVE-2026-35406 are what becomes of a server without that).

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};

use super::slab::{Key, Slab};
use super::wire::HEADER;

/// Connections at a time.
const MAX_CLIENTS: u16 = 64;
/// How long a client may be quiet, or take to read its answer.
const IDLE: Duration = Duration::from_secs(3);
/// The longest question taken: with every option in use it has some hundred bytes.
const MAX_QUERY: usize = 4096;

/// A message being received: its length, and what is there of it.
#[derive(Debug, Default)]
pub(super) struct Frame(Vec<u8>);

/// How far a message got.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// All of it.
    Complete(Vec<u8>),
    /// The rest has not come yet.
    Partial,
    /// The peer closed, broke off, or sent what is no message.
    Over,
}

impl Frame {
    /// Reads what is there, never past the end of the message.
    pub(super) fn read(&mut self, socket: &OwnedFd, longest: usize) -> Progress {
        let mut chunk = [0_u8; 1024];
        loop {
            let wanted = match self.0.first_chunk() {
                None => 2,
                Some(&length) => match usize::from(u16::from_be_bytes(length)) {
                    length if (HEADER..=longest).contains(&length) => 2 + length,
                    _ => return Progress::Over,
                },
            };
            let missing = wanted - self.0.len();
            if missing == 0 {
                return Progress::Complete(std::mem::take(&mut self.0).split_off(2));
            }
            let room = chunk.len().min(missing);
            match rustix::net::recv(socket, &mut chunk[..room], RecvFlags::DONTWAIT) {
                Ok((0, _)) => return Progress::Over,
                Ok((length, _)) => self.0.extend_from_slice(&chunk[..length]),
                Err(Errno::WOULDBLOCK) => return Progress::Partial,
                Err(Errno::INTR) => {}
                Err(_) => return Progress::Over,
            }
        }
    }
}

/// A message being sent, its length in front.
#[derive(Debug, Default)]
pub(super) struct Sending {
    bytes: Vec<u8>,
    at: usize,
}

impl Sending {
    /// `None` for a message too long for the length field.
    pub(super) fn new(message: &[u8]) -> Option<Self> {
        let length = u16::try_from(message.len()).ok()?;
        Some(Self { bytes: [&length.to_be_bytes(), message].concat(), at: 0 })
    }

    /// Sends what the peer takes; whether that was the last of it.
    pub(super) fn write(&mut self, socket: &OwnedFd) -> rustix::io::Result<bool> {
        while let Some(rest) = self.bytes.get(self.at..).filter(|rest| !rest.is_empty()) {
            match rustix::net::send(socket, rest, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
                Ok(length) => self.at += length,
                Err(Errno::WOULDBLOCK) => return Ok(false),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }
}

#[derive(Debug)]
enum Phase {
    Reading(Frame),
    /// Its question is with a resolver.
    Waiting,
    Writing(Sending),
}

#[derive(Debug)]
struct Client {
    socket: OwnedFd,
    phase: Phase,
    deadline: Instant,
}

/// The connections.
#[derive(Debug)]
pub(super) struct Clients(Slab<Client>);

impl Clients {
    pub(super) const fn new() -> Self {
        Self(Slab::new(MAX_CLIENTS))
    }

    /// Takes in a connection; where there are enough, the one quiet the longest goes.
    pub(super) fn add(&mut self, socket: OwnedFd, now: Instant) -> Option<Key> {
        if self.0.is_full() {
            self.drop_quietest();
        }
        self.0.insert(Client { socket, phase: Phase::Reading(Frame::default()), deadline: now + IDLE })
    }

    /// Closes the connection that has been quiet the longest; `false` when there is none.
    pub(super) fn drop_quietest(&mut self) -> bool {
        let quietest = self.0.iter().min_by_key(|(_, client)| client.deadline).map(|(key, _)| key);
        quietest.is_some_and(|key| self.0.remove(key).is_some())
    }

    pub(super) fn socket(&mut self, key: Key) -> Option<&OwnedFd> {
        self.0.get_mut(key).map(|client| &client.socket)
    }

    /// The next question, when all of it is there; the connection then waits for [`Self::send`].
    pub(super) fn read(&mut self, key: Key, now: Instant) -> Option<Vec<u8>> {
        let client = self.0.get_mut(key)?;
        let Phase::Reading(frame) = &mut client.phase else { return None };
        match frame.read(&client.socket, MAX_QUERY) {
            Progress::Complete(query) => {
                client.phase = Phase::Waiting;
                client.deadline = now + super::forward::PATIENCE + IDLE;
                return Some(query);
            }
            Progress::Partial => {}
            Progress::Over => drop(self.0.remove(key)),
        }
        None
    }

    /// Answers; whether the client may go on with its next question.
    pub(super) fn send(&mut self, key: Key, answer: &[u8], now: Instant) -> bool {
        match (self.0.get_mut(key), Sending::new(answer)) {
            (Some(client), Some(sending)) => {
                client.phase = Phase::Writing(sending);
                client.deadline = now + IDLE;
                self.write(key, now)
            }
            _ => {
                self.0.remove(key);
                false
            }
        }
    }

    /// Goes on with an answer; whether the client may go on with its next question.
    pub(super) fn write(&mut self, key: Key, now: Instant) -> bool {
        let Some(client) = self.0.get_mut(key) else { return false };
        let Phase::Writing(sending) = &mut client.phase else { return false };
        match sending.write(&client.socket) {
            Ok(true) => {
                client.phase = Phase::Reading(Frame::default());
                client.deadline = now + IDLE;
                true
            }
            Ok(false) => false,
            Err(_) => {
                self.0.remove(key);
                false
            }
        }
    }

    pub(super) fn close(&mut self, key: Key) {
        self.0.remove(key);
    }

    /// What the connection waits for; errors and hang-ups are reported in any case.
    pub(super) fn interest(&mut self, key: Key) -> Option<EventFlags> {
        self.0.get_mut(key).map(|client| match client.phase {
            Phase::Reading(_) => EventFlags::IN,
            Phase::Waiting => EventFlags::empty(),
            Phase::Writing(_) => EventFlags::OUT,
        })
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.0.iter().map(|(_, client)| client.deadline).min()
    }

    /// Closes what is past its time.
    pub(super) fn expire(&mut self, now: Instant) {
        let late =
            |clients: &Slab<Client>| clients.iter().find(|(_, client)| client.deadline <= now).map(|(key, _)| key);
        while let Some(key) = late(&self.0) {
            self.0.remove(key);
        }
    }
}
