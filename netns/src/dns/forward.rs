//! Questions under way to a resolver. Each has its own socket, so its own random
//! port (RFC 5452), connected, so that the kernel drops what others send and
//! tells of a resolver that is not there; and its own random id. The bytes are
//! the client's but for that id.

use std::net::SocketAddrV4;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

use super::answer::Transport;
use super::resolvers::{Resolver, Resolvers};
use super::slab::{Key, Slab};
use super::stream::{Frame, Progress, Sending};
use super::wire::{self, Code, Question};
use super::{server, sockets};

/// How long a question may take in all.
pub(super) const PATIENCE: Duration = Duration::from_secs(4);
/// How long until the next resolver is asked as well.
const STEP: Duration = Duration::from_secs(1);
/// Questions under way at a time, as Docker.
const MAX_UNDER_WAY: u16 = 1024;
/// Datagrams looked at per wake-up: a flood of wrong ones must not hold up the rest.
const MAX_DATAGRAMS: usize = 8;
const MAX_MESSAGE: usize = 65535;

/// Whose question it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Client {
    Udp(SocketAddrV4),
    Tcp(Key),
}

/// An answer to be delivered.
#[derive(Debug)]
pub(super) struct Done {
    pub(super) client: Client,
    pub(super) answer: Vec<u8>,
}

/// One resolver being asked.
#[derive(Debug)]
struct Attempt {
    socket: OwnedFd,
    resolver: Resolver,
    /// For TCP: the question going out, then the answer coming in.
    stream: Option<(Sending, Frame)>,
}

#[derive(Debug)]
struct UnderWay {
    client: Client,
    client_id: u16,
    question: Question,
    /// As sent: with our id.
    query: Vec<u8>,
    resolvers: Vec<Resolver>,
    /// How many of the resolvers were asked.
    asked: usize,
    /// `None` for those that failed.
    attempts: Vec<Option<Attempt>>,
    /// When the next resolver is asked, or the last is given up.
    next_step: Instant,
    give_up: Instant,
    /// What a resolver said who could not help: it may tell why.
    failure: Option<Vec<u8>>,
}

/// What an attempt came to.
enum Outcome {
    Pending,
    Answer(Vec<u8>),
    Failed,
}

/// All questions under way.
#[derive(Debug)]
pub(super) struct Forwarder {
    resolvers: Resolvers,
    under_way: Slab<UnderWay>,
    /// Room for the longest datagram; only as much of it as was ever filled is real memory.
    datagram: Vec<u8>,
}

impl Forwarder {
    pub(super) const fn new(resolvers: Resolvers) -> Self {
        Self { resolvers, under_way: Slab::new(MAX_UNDER_WAY), datagram: Vec::new() }
    }

    /// From now on other resolvers are asked; questions under way go on.
    pub(super) fn set_resolvers(&mut self, resolvers: Resolvers) {
        self.resolvers = resolvers;
    }

    /// Sends a question on its way.
    ///
    /// # Errors
    /// The code to answer at once: no room for more, or nobody to ask.
    pub(super) fn start(
        &mut self,
        context: &Context<'_>,
        client: Client,
        query: &[u8],
        question: Question,
        now: Instant,
    ) -> Result<(), Code> {
        if self.under_way.is_full() {
            return Err(Code::Refused);
        }
        let mut resolvers = self.resolvers.order(now);
        if let ([only], Client::Udp(_)) = (resolvers.as_slice(), client) {
            // A lost datagram is sent once more.
            resolvers.push(*only);
        }
        let mut own = query.to_vec();
        let id = random_id().map_err(|_| Code::ServFail)?;
        wire::set_id(&mut own, id);
        let under_way = UnderWay {
            client,
            client_id: wire::id(query),
            question,
            query: own,
            resolvers,
            asked: 0,
            attempts: Vec::new(),
            next_step: now + STEP,
            give_up: now + PATIENCE,
            failure: None,
        };
        let key = self.under_way.insert(under_way).ok_or(Code::Refused)?;
        if self.ask_next(context, key, now) {
            return Ok(());
        }
        self.under_way.remove(key);
        Err(Code::ServFail)
    }

    /// A socket has something to say.
    pub(super) fn ready(&mut self, context: &Context<'_>, key: Key, number: u8, now: Instant) -> Option<Done> {
        let under_way = self.under_way.get_mut(key)?;
        let slot = under_way.attempts.get_mut(usize::from(number))?;
        let attempt = slot.as_mut()?;
        let resolver = attempt.resolver;
        let outcome = match &mut attempt.stream {
            None => read_datagram(&attempt.socket, &mut self.datagram, &under_way.query, under_way.question.end),
            Some(stream) => {
                let token = server::upstream_token(key, number);
                let interest = EventFlags::IN;
                drive_stream(&attempt.socket, stream, &under_way.query, under_way.question.end, || {
                    epoll::modify(context.epoll, &attempt.socket, EventData::new_u64(token), interest)
                })
            }
        };
        let answer = match outcome {
            Outcome::Pending => return None,
            Outcome::Answer(answer) => {
                self.resolvers.judge(resolver, true, now);
                Some(answer)
            }
            Outcome::Failed => None,
        };
        match answer {
            Some(answer) if !matches!(wire::code(&answer), 2 | 4 | 5) => return self.finish(key, Some(answer)),
            Some(answer) if wire::code(&answer) == Code::ServFail as u8 => under_way.failure = Some(answer),
            _ => {}
        }
        *slot = None;
        // It has failed for this question: not asked again.
        let asked = under_way.asked;
        let mut at = 0;
        under_way.resolvers.retain(|other| {
            at += 1;
            at <= asked || *other != resolver
        });
        if self.ask_next(context, key, now) || self.is_waiting(key) { None } else { self.finish(key, None) }
    }

    /// Asks further resolvers where the time has come, and gives up what has had its time.
    pub(super) fn tick(&mut self, context: &Context<'_>, now: Instant, done: &mut Vec<Done>) {
        let due: Vec<Key> = self.under_way.iter().filter(|(_, one)| one.next_step <= now).map(|(key, _)| key).collect();
        for key in due {
            let Some(under_way) = self.under_way.get_mut(key) else { continue };
            let late = under_way.attempts.last().and_then(Option::as_ref).map(|attempt| attempt.resolver);
            let over = under_way.give_up <= now;
            under_way.next_step =
                if under_way.asked < under_way.resolvers.len() { now + STEP } else { under_way.give_up };
            if let Some(resolver) = late {
                self.resolvers.judge(resolver, false, now);
            }
            if over || !(self.ask_next(context, key, now) || self.is_waiting(key)) {
                done.extend(self.finish(key, None));
            }
        }
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.under_way.iter().map(|(_, one)| one.next_step).min()
    }

    fn is_waiting(&mut self, key: Key) -> bool {
        self.under_way.get_mut(key).is_some_and(|one| one.attempts.iter().any(Option::is_some))
    }

    /// Asks the next resolver that can be asked at all; `false` when there is none left.
    fn ask_next(&mut self, context: &Context<'_>, key: Key, now: Instant) -> bool {
        let Some(under_way) = self.under_way.get_mut(key) else { return false };
        while let Some(&resolver) = under_way.resolvers.get(under_way.asked) {
            under_way.asked += 1;
            let Ok(number) = u8::try_from(under_way.attempts.len()) else { return false };
            let transport = match under_way.client {
                Client::Udp(_) => Transport::Udp,
                Client::Tcp(_) => Transport::Tcp,
            };
            let token = server::upstream_token(key, number);
            if let Ok(attempt) = open(context, resolver, transport, &under_way.query, token) {
                under_way.attempts.push(Some(attempt));
                let last = under_way.asked >= under_way.resolvers.len();
                under_way.next_step = if last { under_way.give_up } else { (now + STEP).min(under_way.give_up) };
                return true;
            }
        }
        false
    }

    fn finish(&mut self, key: Key, answer: Option<Vec<u8>>) -> Option<Done> {
        let under_way = self.under_way.remove(key)?;
        let mut answer = answer.or(under_way.failure).unwrap_or_else(|| {
            let mut out = Vec::new();
            wire::reply_code(&mut out, &under_way.query, &under_way.question, Code::ServFail);
            out
        });
        wire::set_id(&mut answer, under_way.client_id);
        Some(Done { client: under_way.client, answer })
    }
}

/// What forwarding needs of the server.
#[derive(Debug)]
pub(super) struct Context<'a> {
    pub(super) epoll: &'a OwnedFd,
    /// The container's namespace.
    pub(super) netns: &'a OwnedFd,
}

fn random_id() -> rustix::io::Result<u16> {
    let mut id = [0_u8; 2];
    rustix::rand::getrandom(&mut id, rustix::rand::GetRandomFlags::empty())?;
    Ok(u16::from_ne_bytes(id))
}

/// A socket to one resolver, with the question sent or on its way.
fn open(
    context: &Context<'_>,
    resolver: Resolver,
    transport: Transport,
    query: &[u8],
    token: u64,
) -> rustix::io::Result<Attempt> {
    let family = if resolver.address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let kind = if transport == Transport::Udp { SocketType::DGRAM } else { SocketType::STREAM };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let make = || rustix::net::socket_with(family, kind, flags, None);
    let socket = if resolver.inside { sockets::inside(context.netns, make)? } else { make()? };
    match rustix::net::connect(&socket, &resolver.address) {
        Ok(()) | Err(Errno::INPROGRESS) => {}
        Err(error) => return Err(error),
    }
    let (stream, interest) = match transport {
        Transport::Udp => {
            rustix::net::send(&socket, query, SendFlags::NOSIGNAL)?;
            (None, EventFlags::IN)
        }
        Transport::Tcp => {
            let sending = Sending::new(query).ok_or(Errno::MSGSIZE)?;
            (Some((sending, Frame::default())), EventFlags::OUT)
        }
    };
    epoll::add(context.epoll, &socket, EventData::new_u64(token), interest)?;
    Ok(Attempt { socket, resolver, stream })
}

fn read_datagram(socket: &OwnedFd, room: &mut Vec<u8>, query: &[u8], end: usize) -> Outcome {
    for _ in 0..MAX_DATAGRAMS {
        room.clear();
        room.reserve(MAX_MESSAGE);
        match rustix::net::recv(socket, rustix::buffer::spare_capacity(room), RecvFlags::DONTWAIT) {
            Ok(_) if wire::answers(room, query, end) => return Outcome::Answer(room.clone()),
            // Forged, or late for somebody else.
            Ok(_) | Err(Errno::INTR) => {}
            Err(Errno::WOULDBLOCK) => return Outcome::Pending,
            Err(_) => return Outcome::Failed,
        }
    }
    Outcome::Pending
}

fn drive_stream(
    socket: &OwnedFd,
    (sending, frame): &mut (Sending, Frame),
    query: &[u8],
    end: usize,
    sent: impl FnOnce() -> rustix::io::Result<()>,
) -> Outcome {
    match sending.write(socket) {
        Ok(true) => {}
        Ok(false) => return Outcome::Pending,
        Err(_) => return Outcome::Failed,
    }
    if sent().is_err() {
        return Outcome::Failed;
    }
    match frame.read(socket, MAX_MESSAGE) {
        Progress::Complete(answer) if wire::answers(&answer, query, end) => Outcome::Answer(answer),
        Progress::Partial => Outcome::Pending,
        Progress::Complete(_) | Progress::Over => Outcome::Failed,
    }
}
