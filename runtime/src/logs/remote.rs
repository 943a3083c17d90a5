//! What goes to a receiver that is not a file: a bounded queue in front of a
//! socket that never blocks, and that is opened again when its other side has
//! been away.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{MemfdFlags, SealFlags};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrAny, SocketAddrUnix, SocketFlags,
    SocketType,
};

use super::syslog::Address;
use super::tls::{Session, Tls};
use super::{LogError, MAX_RECORD, Stream, Time, journald, syslog};

/// A container that writes faster than its receiver reads waits above this many unsent bytes.
const HIGH_WATER: usize = 1 << 20;
/// But not for longer than this, if the receiver takes nothing at all: then what comes is dropped and counted.
const PATIENCE: Duration = Duration::from_secs(10);
/// The pause before a receiver that has gone is looked for again: doubled each time.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// A receiver that does not answer is not waited for any longer at the container's start.
const CONNECT: Duration = Duration::from_secs(5);
/// What is left when the container has ended is sent for that long.
const FAREWELL: Duration = Duration::from_secs(2);

/// The usual places of a host's own receiver.
const HOST_SOCKETS: [&str; 3] = ["/dev/log", "/var/run/syslog", "/var/run/log"];

/// How messages are written.
#[derive(Debug)]
enum Format {
    Syslog(syslog::Settings, syslog::Sender),
    Journald(journald::Fields),
}

/// Where to connect, resolved once: a resolver that hangs must not hold up a running container.
#[derive(Debug)]
enum Target {
    Udp(Vec<SocketAddr>),
    Tcp(Vec<SocketAddr>),
    Tls(Vec<SocketAddr>, Tls),
    /// Tried as datagrams and, where allowed, as a stream.
    Unix {
        paths: Vec<std::path::PathBuf>,
        stream: bool,
    },
}

#[derive(Debug)]
struct Connection {
    fd: OwnedFd,
    stream: bool,
    tls: Option<Session>,
}

/// A queue and a socket.
#[derive(Debug)]
pub struct Remote {
    format: Format,
    target: Target,
    name: String,
    connection: Option<Connection>,
    queue: VecDeque<Vec<u8>>,
    /// How much of the first message is sent already, on a stream.
    sent: usize,
    bytes: usize,
    /// The most that may wait, with `mode: non-blocking`.
    limit: Option<usize>,
    dropped: u64,
    pause: Duration,
    retry_at: Option<Instant>,
    /// Since when the receiver has taken nothing.
    stuck_since: Option<Instant>,
    /// By stream: a line whose end has not come.
    begun: [String; 2],
}

impl Remote {
    /// To a syslog receiver. Its name is resolved here, and never again.
    pub fn syslog(settings: &syslog::Settings, tag: &str, limit: Option<usize>) -> Result<Self, LogError> {
        let (target, name) = target(settings)?;
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let sender = syslog::Sender { host, tag: tag.to_owned(), pid: std::process::id() };
        Ok(Self::new(Format::Syslog(settings.clone(), sender), target, name, limit))
    }

    /// To the journal that listens at `path`.
    pub fn journald(path: &Path, source: &super::Source, limit: Option<usize>) -> Self {
        let target = Target::Unix { paths: vec![path.to_owned()], stream: false };
        let name = path.display().to_string();
        Self::new(Format::Journald(journald::Fields::new(source)), target, name, limit)
    }

    fn new(format: Format, target: Target, name: String, limit: Option<usize>) -> Self {
        Self {
            format,
            target,
            name,
            connection: None,
            queue: VecDeque::new(),
            sent: 0,
            bytes: 0,
            limit,
            dropped: 0,
            pause: FIRST_PAUSE,
            retry_at: None,
            stuck_since: None,
            begun: Default::default(),
        }
    }

    /// Connects for the first time, and waits a little for it.
    ///
    /// # Errors
    /// When nobody listens there.
    pub fn connect(&mut self) -> Result<(), LogError> {
        let failed = |source: io::Error| LogError::Connect { receiver: self.name.clone(), source };
        let mut connection = open(&self.target).map_err(failed)?;
        let deadline = Instant::now() + CONNECT;
        if connection.stream {
            let mut fds = [PollFd::new(&connection.fd, PollFlags::OUT)];
            poll(&mut fds, Some(&timespec(CONNECT))).map_err(|error| failed(error.into()))?;
            if fds[0].revents().is_empty() {
                return Err(failed(io::ErrorKind::TimedOut.into()));
            }
            if let Err(error) = rustix::net::sockopt::socket_error(&connection.fd).and_then(|result| result) {
                return Err(failed(error.into()));
            }
        }
        while !connection.exchange().map_err(failed)? {
            let left = deadline.saturating_duration_since(Instant::now());
            let mut fds = [PollFd::new(&connection.fd, connection.events(false))];
            if left.is_zero() || poll(&mut fds, Some(&timespec(left))).map_err(|error| failed(error.into()))? == 0 {
                return Err(failed(io::ErrorKind::TimedOut.into()));
            }
        }
        self.connection = Some(connection);
        Ok(())
    }

    /// Takes a record of the log; lines are sent when their end has come, or as much of them as a record holds.
    pub fn record(&mut self, stream: Stream, time: Time, text: &[u8]) {
        let begun = &mut self.begun[super::write::index(stream)];
        begun.push_str(&String::from_utf8_lossy(text));
        let whole = begun.ends_with('\n');
        if whole || begun.len() >= MAX_RECORD {
            self.line(stream, time, !whole);
        }
    }

    /// The stream has ended: what there is of a line is all of it.
    pub fn end(&mut self, stream: Stream) {
        if !self.begun[super::write::index(stream)].is_empty() {
            self.line(stream, Time::now(), false);
        }
    }

    fn line(&mut self, stream: Stream, time: Time, partial: bool) {
        let mut text = std::mem::take(&mut self.begun[super::write::index(stream)]);
        if text.ends_with('\n') {
            text.pop();
        }
        if text.ends_with('\r') {
            text.pop();
        }
        // As Docker: an empty line is no message for a syslog.
        if !(text.is_empty() && matches!(self.format, Format::Syslog(..))) {
            self.put(stream, time, &text, partial);
        }
        text.clear();
        self.begun[super::write::index(stream)] = text;
    }

    fn put(&mut self, stream: Stream, time: Time, text: &str, partial: bool) {
        let limit = self.limit.unwrap_or(HIGH_WATER * 2);
        if self.bytes > 0 && self.bytes + text.len() > limit {
            self.dropped += 1;
            return;
        }
        if self.dropped > 0 {
            let count = std::mem::take(&mut self.dropped);
            let said = format!("[umiak: {count} messages dropped here: the log's receiver did not take them in time]");
            self.enqueue(Stream::Stderr, time, &said, false);
        }
        self.enqueue(stream, time, text, partial);
    }

    fn enqueue(&mut self, stream: Stream, time: Time, text: &str, partial: bool) {
        let message = match &self.format {
            Format::Syslog(settings, sender) => syslog::message(settings, sender, stream, time, text),
            Format::Journald(fields) => fields.entry(stream, time, text, partial),
        };
        self.bytes += message.len();
        self.queue.push_back(message);
    }

    /// What to wait for before [`Remote::send`] can go on.
    pub fn waits_for(&self) -> Option<(BorrowedFd<'_>, PollFlags)> {
        let connection = self.connection.as_ref()?;
        let events = connection.events(!self.queue.is_empty());
        (!events.is_empty()).then(|| (connection.fd.as_fd(), events))
    }

    /// When [`Remote::send`] is to be called, whatever the socket says.
    pub fn deadline(&self) -> Option<Instant> {
        match self.connection {
            None => self.retry_at.filter(|_| !self.queue.is_empty()),
            Some(_) => self.stuck_since.map(|since| since + PATIENCE).filter(|at| *at > Instant::now()),
        }
    }

    /// Whether the container should wait for the receiver.
    pub fn behind(&self) -> bool {
        let takes = self.stuck_since.is_none_or(|since| since.elapsed() < PATIENCE);
        self.limit.is_none() && self.connection.is_some() && takes && self.bytes > HIGH_WATER
    }

    /// Sends what the receiver takes now.
    pub fn send(&mut self) {
        loop {
            if !self.queue.is_empty() && self.connection.is_none() && !self.reconnect() {
                return;
            }
            let Some(connection) = &mut self.connection else { return };
            let Some(message) = self.queue.front() else {
                // What is encrypted may still be at hand.
                if connection.exchange().is_err() {
                    self.lost_connection();
                }
                return;
            };
            match connection.send(message.get(self.sent..).unwrap_or_default()) {
                Ok(count) => {
                    (self.stuck_since, self.pause) = (None, FIRST_PAUSE);
                    self.sent += count;
                    if self.sent >= message.len() || !connection.stream {
                        self.take_first();
                    }
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN | Errno::NOBUFS) => {
                    self.stuck_since.get_or_insert_with(Instant::now);
                    return;
                }
                // What no receiver of datagrams takes is lost, and only that.
                Err(Errno::MSGSIZE) => {
                    self.dropped += 1;
                    self.take_first();
                }
                Err(_) => self.lost_connection(),
            }
        }
    }

    fn take_first(&mut self) {
        self.sent = 0;
        if let Some(message) = self.queue.pop_front() {
            self.bytes -= message.len();
        }
        if self.queue.is_empty() && self.queue.capacity() > 1024 {
            self.queue = VecDeque::new();
        }
    }

    fn lost_connection(&mut self) {
        (self.connection, self.stuck_since) = (None, None);
        // The other side has seen a part of it at most: it is sent whole to the next.
        self.sent = 0;
        self.retry_at = Some(Instant::now() + self.pause);
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
    }

    fn reconnect(&mut self) -> bool {
        if self.retry_at.is_some_and(|at| at > Instant::now()) {
            return false;
        }
        match open(&self.target) {
            Ok(connection) => {
                self.connection = Some(connection);
                self.retry_at = None;
                true
            }
            Err(_) => {
                self.lost_connection();
                false
            }
        }
    }

    /// Sends the rest, for as long as the receiver takes it.
    pub fn finish(&mut self) {
        let deadline = Instant::now() + FAREWELL;
        loop {
            self.send();
            let left = deadline.saturating_duration_since(Instant::now());
            let Some((fd, events)) = self.waits_for().filter(|_| !left.is_zero()) else { break };
            let mut fds = [PollFd::from_borrowed_fd(fd, events)];
            let _ = poll(&mut fds, Some(&timespec(left)));
        }
        if let Some(Connection { fd, tls: Some(session), .. }) = &mut self.connection {
            session.close(fd.as_fd());
        }
    }
}

impl Connection {
    /// What to wait for; `waiting`: there is something to send.
    fn events(&self, waiting: bool) -> PollFlags {
        match &self.tls {
            Some(session) => session.events(waiting),
            None if waiting => PollFlags::OUT,
            None => PollFlags::empty(),
        }
    }

    /// What TLS has to say and to hear; whether messages can be sent by now.
    fn exchange(&mut self) -> io::Result<bool> {
        self.tls.as_mut().map_or(Ok(true), |session| session.exchange(self.fd.as_fd()))
    }

    fn send(&mut self, message: &[u8]) -> Result<usize, Errno> {
        if let Some(session) = &mut self.tls {
            return session.send(self.fd.as_fd(), message);
        }
        match rustix::net::send(&self.fd, message, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
            // A stream that is being connected.
            Err(Errno::NOTCONN | Errno::ALREADY) if self.stream => Err(Errno::AGAIN),
            // A datagram socket of UDP tells of the answer to an earlier one.
            Err(Errno::CONNREFUSED) if !self.stream && !self.is_unix() => Ok(message.len()),
            Err(Errno::MSGSIZE | Errno::NOBUFS) if !self.stream && self.is_unix() => self.send_file(message),
            result => result,
        }
    }

    fn is_unix(&self) -> bool {
        rustix::net::sockopt::socket_domain(&self.fd).is_ok_and(|domain| domain == AddressFamily::UNIX)
    }

    /// What is too large for a datagram goes as a sealed file (the journal's protocol).
    fn send_file(&self, message: &[u8]) -> Result<usize, Errno> {
        let file = rustix::fs::memfd_create(c"log", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        let mut rest = message;
        while !rest.is_empty() {
            let count = rustix::io::write(&file, rest)?;
            rest = rest.get(count..).unwrap_or_default();
        }
        rustix::fs::fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE | SealFlags::SEAL)?;
        let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let fds = [file.as_fd()];
        control.push(SendAncillaryMessage::ScmRights(&fds));
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        rustix::net::sendmsg(&self.fd, &[] as &[IoSlice<'_>], &mut control, flags)?;
        Ok(message.len())
    }
}

fn target(settings: &syslog::Settings) -> Result<(Target, String), LogError> {
    let resolve = |host: &str, port: u16, name: &str| {
        let failed = |source| LogError::Connect { receiver: name.to_owned(), source };
        Ok::<_, LogError>((host, port).to_socket_addrs().map_err(failed)?.collect::<Vec<_>>())
    };
    Ok(match &settings.address {
        Address::Host => {
            let paths = HOST_SOCKETS.iter().map(Into::into).collect();
            (Target::Unix { paths, stream: true }, HOST_SOCKETS.join(", "))
        }
        Address::Udp(host, port) => {
            let name = format!("udp://{host}:{port}");
            (Target::Udp(resolve(host, *port, &name)?), name)
        }
        Address::Tcp(host, port) => {
            let name = format!("tcp://{host}:{port}");
            (Target::Tcp(resolve(host, *port, &name)?), name)
        }
        Address::Tls(host, port) => {
            let name = format!("tcp+tls://{host}:{port}");
            let addresses = resolve(host, *port, &name)?;
            (Target::Tls(addresses, Tls::new(&settings.tls, host, &name)?), name)
        }
        Address::Unix(path) => (Target::Unix { paths: vec![path.clone()], stream: true }, path.display().to_string()),
        Address::Unixgram(path) => {
            (Target::Unix { paths: vec![path.clone()], stream: false }, path.display().to_string())
        }
    })
}

/// The first way that works; the first error if none does.
fn open(target: &Target) -> io::Result<Connection> {
    let mut first: Option<io::Error> = None;
    let mut attempt = |result: Result<Connection, Errno>| match result {
        Ok(connection) => Some(connection),
        Err(error) => {
            first.get_or_insert_with(|| error.into());
            None
        }
    };
    let connected = match target {
        Target::Udp(all) => all.iter().find_map(|address| attempt(connect_to(address, SocketType::DGRAM))),
        Target::Tcp(all) => all.iter().find_map(|address| attempt(connect_to(address, SocketType::STREAM))),
        Target::Tls(all, tls) => {
            let connected = all.iter().find_map(|address| attempt(connect_to(address, SocketType::STREAM)));
            match connected {
                Some(connection) => Some(Connection { tls: Some(tls.session()?), ..connection }),
                None => None,
            }
        }
        Target::Unix { paths, stream } => paths.iter().find_map(|path| {
            attempt(connect_unix(path, SocketType::DGRAM))
                .or_else(|| stream.then(|| attempt(connect_unix(path, SocketType::STREAM))).flatten())
        }),
    };
    connected.ok_or_else(|| first.unwrap_or_else(|| io::ErrorKind::NotFound.into()))
}

fn connect_to(address: &SocketAddr, kind: SocketType) -> Result<Connection, Errno> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    connect(family, kind, &(*address).into())
}

fn connect_unix(path: &Path, kind: SocketType) -> Result<Connection, Errno> {
    connect(AddressFamily::UNIX, kind, &SocketAddrUnix::new(path)?.into())
}

fn connect(family: AddressFamily, kind: SocketType, address: &SocketAddrAny) -> Result<Connection, Errno> {
    let fd = rustix::net::socket_with(family, kind, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)?;
    match rustix::net::connect(&fd, address) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(Connection { fd, stream: kind == SocketType::STREAM, tls: None }),
        Err(error) => Err(error),
    }
}

fn timespec(duration: Duration) -> Timespec {
    let tv_sec = i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
    Timespec { tv_sec, tv_nsec: i64::from(duration.subsec_nanos()) }
}
