//! The responder as the monitor sees it: one descriptor to poll, one function to
//! call when it is readable or a deadline has come. Nothing in here waits.

use std::mem::MaybeUninit;
use std::net::IpAddr;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::Timespec;
use rustix::event::epoll::{self, Event, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::{SendFlags, SocketFlags};

use super::answer::{Transport, Verdict, answer};
use super::batch::Batch;
use super::forward::{Client, Context, Done, Forwarder};
use super::resolvers::Resolvers;
use super::slab::Key;
use super::stream::Clients;
use super::table::Table;
use super::wire::{self, Code, Question};
use super::{Config, DnsError, Sockets};

/// Events taken per turn.
const EVENTS: usize = 16;
/// Batches, connections or questions of one client taken per event, so that none of them keeps the
/// monitor from its other work.
const ROUNDS: usize = 16;
/// How long no connection is accepted when there are no descriptors for it.
const PAUSE: Duration = Duration::from_millis(100);

/// The responder of one container.
#[derive(Debug)]
pub struct Server {
    epoll: OwnedFd,
    sockets: Sockets,
    table: Table,
    forwarder: Forwarder,
    clients: Clients,
    /// Whether any of the networks has a way out.
    forwards: bool,
    paused_until: Option<Instant>,
    batch: Option<Box<Batch>>,
    room: Room,
}

/// Memory that is used again for each question.
#[derive(Debug, Default)]
struct Room {
    addresses: Vec<IpAddr>,
    out: Vec<u8>,
    answers: Vec<(usize, Range<usize>)>,
}

/// What an event is about, packed into the 64 bits that epoll hands back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token {
    Udp,
    Listener,
    Client(Key),
    Upstream(Key, u8),
}

impl Token {
    const fn pack(self) -> u64 {
        let (kind, number, key) = match self {
            Self::Udp => (0, 0, Key { place: 0, generation: 0 }),
            Self::Listener => (1, 0, Key { place: 0, generation: 0 }),
            Self::Client(key) => (2, 0, key),
            Self::Upstream(key, number) => (3, number, key),
        };
        let [g0, g1, g2, g3] = key.generation.to_le_bytes();
        let [p0, p1] = key.place.to_le_bytes();
        u64::from_le_bytes([kind, number, p0, p1, g0, g1, g2, g3])
    }

    const fn unpack(data: u64) -> Self {
        let [kind, number, p0, p1, g0, g1, g2, g3] = data.to_le_bytes();
        let key = Key { place: u16::from_le_bytes([p0, p1]), generation: u32::from_le_bytes([g0, g1, g2, g3]) };
        match kind {
            0 => Self::Udp,
            1 => Self::Listener,
            2 => Self::Client(key),
            _ => Self::Upstream(key, number),
        }
    }
}

/// The event data of a resolver's socket.
pub(super) const fn upstream_token(key: Key, number: u8) -> u64 {
    Token::Upstream(key, number).pack()
}

impl AsFd for Server {
    /// Readable when [`Server::turn`] has something to do.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}

impl Server {
    /// A responder on bound sockets. Questions about other names are asked from the network namespace
    /// of the thread that calls [`Server::turn`], which is not that of the sockets.
    ///
    /// # Errors
    /// When the sockets cannot be watched.
    pub fn new(config: &Config, sockets: Sockets) -> Result<Self, DnsError> {
        let watch = |error: Errno| DnsError::Watch { source: error.into() };
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(watch)?;
        epoll::add(&epoll, &sockets.udp, EventData::new_u64(Token::Udp.pack()), EventFlags::IN).map_err(watch)?;
        epoll::add(&epoll, &sockets.tcp, EventData::new_u64(Token::Listener.pack()), EventFlags::IN).map_err(watch)?;
        Ok(Self {
            epoll,
            sockets,
            table: Table::new(config),
            forwarder: Forwarder::new(Resolvers::new(&config.upstreams)),
            clients: Clients::new(),
            forwards: forwards(config),
            paused_until: None,
            batch: None,
            room: Room::default(),
        })
    }

    /// Takes over another configuration: the container joined or left a network.
    pub fn reconfigure(&mut self, config: &Config) {
        self.table = Table::new(config);
        self.forwarder.set_resolvers(Resolvers::new(&config.upstreams));
        self.forwards = forwards(config);
    }

    /// When [`Server::turn`] must be called even if the descriptor is not readable; `None` for never.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        [self.forwarder.next_deadline(), self.clients.next_deadline(), self.paused_until].into_iter().flatten().min()
    }

    /// The sockets for datagrams and for connections, for another responder.
    #[must_use]
    pub fn into_sockets(self) -> (OwnedFd, OwnedFd) {
        (self.sockets.udp, self.sockets.tcp)
    }

    /// Gives back the memory that answering needs, until the next question.
    pub fn rest(&mut self) {
        (self.batch, self.room) = (None, Room::default());
    }

    /// Does what there is to do, without waiting for anything.
    ///
    /// # Errors
    /// When the descriptors can no longer be watched; nothing a client or a resolver does leads there.
    pub fn turn(&mut self) -> Result<(), DnsError> {
        let mut events = [MaybeUninit::<Event>::uninit(); EVENTS];
        let ready = match epoll::wait(&self.epoll, &mut events, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })) {
            Ok((ready, _)) => ready,
            Err(Errno::INTR) => return Ok(()),
            Err(error) => return Err(DnsError::Watch { source: error.into() }),
        };
        let now = Instant::now();
        for event in ready {
            let Event { flags, data } = *event;
            match Token::unpack(data.u64()) {
                Token::Udp => self.serve_datagrams(now),
                Token::Listener => self.accept(now),
                Token::Client(key) => self.serve_client(key, flags, now),
                Token::Upstream(key, number) => {
                    let context = Context { epoll: &self.epoll, netns: &self.sockets.netns };
                    if let Some(done) = self.forwarder.ready(&context, key, number, now) {
                        self.deliver(done, now);
                    }
                }
            }
        }
        self.expire(now);
        Ok(())
    }

    fn expire(&mut self, now: Instant) {
        let mut done = Vec::new();
        let context = Context { epoll: &self.epoll, netns: &self.sockets.netns };
        self.forwarder.tick(&context, now, &mut done);
        for one in done {
            self.deliver(one, now);
        }
        self.clients.expire(now);
        if self.paused_until.is_some_and(|until| until <= now) {
            self.listen(true, now);
        }
    }

    fn serve_datagrams(&mut self, now: Instant) {
        let mut batch = self.batch.take().unwrap_or_else(|| Box::new(Batch::new()));
        for _ in 0..ROUNDS {
            let received = batch.receive(&self.sockets.udp);
            if received == 0 {
                break;
            }
            // After the questions were taken: what was published before they were asked is seen.
            self.table.refresh();
            self.room.out.clear();
            self.room.answers.clear();
            for number in 0..received {
                let Some((query, from)) = batch.datagram(number) else { continue };
                let start = self.room.out.len();
                match answer(query, Transport::Udp, &mut self.table, &mut self.room.addresses, &mut self.room.out) {
                    Verdict::Answered | Verdict::Ignored => {}
                    Verdict::Forward(question) => self.forward(Client::Udp(from), query, &question, now),
                }
                let end = self.room.out.len();
                if end > start {
                    self.room.answers.push((number, start..end));
                }
            }
            batch.send(&self.sockets.udp, &self.room.out, &self.room.answers);
        }
        self.batch = Some(batch);
    }

    /// Sends a question to the resolvers; where that cannot be, an answer is appended to the output.
    fn forward(&mut self, client: Client, query: &[u8], question: &Question, now: Instant) {
        let context = Context { epoll: &self.epoll, netns: &self.sockets.netns };
        let started = if self.forwards {
            self.forwarder.start(&context, client, query, question.clone(), now)
        } else {
            // As Docker: there is nobody to ask, and it may be a name of a peer that is not up yet.
            Err(Code::ServFail)
        };
        if let Err(code) = started {
            wire::reply_code(&mut self.room.out, query, question, code);
        }
    }

    fn deliver(&mut self, done: Done, now: Instant) {
        match done.client {
            Client::Udp(address) => {
                let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
                // A datagram that cannot be sent is lost, as datagrams are.
                let _ = rustix::net::sendto(&self.sockets.udp, &done.answer, flags, &address);
            }
            Client::Tcp(key) => {
                if self.clients.send(key, &done.answer, now) {
                    self.serve_questions(key, now);
                }
                self.watch(key);
            }
        }
    }

    fn accept(&mut self, now: Instant) {
        for _ in 0..ROUNDS {
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            match rustix::net::accept_with(&self.sockets.tcp, flags) {
                Ok(socket) => self.add_client(socket, now),
                Err(Errno::WOULDBLOCK) => return,
                Err(Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::NOBUFS) => {
                    // The connection stays in the queue: room is made for it, or it waits a little. Without
                    // that the listener would stay readable and the monitor never sleep.
                    if !self.clients.drop_quietest() {
                        self.listen(false, now);
                        return;
                    }
                }
                // Errors of a connection that is gone already (accept(2)).
                Err(_) => {}
            }
        }
    }

    fn add_client(&mut self, socket: OwnedFd, now: Instant) {
        let Some(key) = self.clients.add(socket, now) else { return };
        let added = self.clients.socket(key).map(|socket| {
            epoll::add(&self.epoll, socket, EventData::new_u64(Token::Client(key).pack()), EventFlags::IN)
        });
        if !matches!(added, Some(Ok(()))) {
            self.clients.close(key);
        }
    }

    fn listen(&mut self, on: bool, now: Instant) {
        let interest = if on { EventFlags::IN } else { EventFlags::empty() };
        let data = EventData::new_u64(Token::Listener.pack());
        let changed = epoll::modify(&self.epoll, &self.sockets.tcp, data, interest);
        self.paused_until = if on && changed.is_ok() { None } else { Some(now + PAUSE) };
    }

    fn serve_client(&mut self, key: Key, flags: EventFlags, now: Instant) {
        if flags.contains(EventFlags::ERR) || (flags.contains(EventFlags::HUP) && !flags.contains(EventFlags::IN)) {
            self.clients.close(key);
            return;
        }
        if !flags.contains(EventFlags::OUT) || self.clients.write(key, now) {
            self.serve_questions(key, now);
        }
        self.watch(key);
    }

    /// Answers the questions of a connection that are there, one after the other.
    fn serve_questions(&mut self, key: Key, now: Instant) {
        for _ in 0..ROUNDS {
            let Some(query) = self.clients.read(key, now) else { return };
            self.table.refresh();
            self.room.out.clear();
            match answer(&query, Transport::Tcp, &mut self.table, &mut self.room.addresses, &mut self.room.out) {
                Verdict::Answered => {}
                Verdict::Forward(question) => self.forward(Client::Tcp(key), &query, &question, now),
                Verdict::Ignored => {
                    // No question: there is nothing to wait for on this connection.
                    self.clients.close(key);
                    return;
                }
            }
            if self.room.out.is_empty() || !self.clients.send(key, &self.room.out, now) {
                return;
            }
        }
    }

    fn watch(&mut self, key: Key) {
        let Some(interest) = self.clients.interest(key) else { return };
        let changed = self
            .clients
            .socket(key)
            .map(|socket| epoll::modify(&self.epoll, socket, EventData::new_u64(Token::Client(key).pack()), interest));
        if !matches!(changed, Some(Ok(()))) {
            self.clients.close(key);
        }
    }
}

fn forwards(config: &Config) -> bool {
    config.networks.iter().any(|network| !network.internal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_survive_the_kernel() {
        let key = Key { place: 1023, generation: u32::MAX };
        for token in [Token::Udp, Token::Listener, Token::Client(key), Token::Upstream(key, 2)] {
            assert_eq!(Token::unpack(token.pack()), token);
        }
    }
}
