//! Namespaces, a responder driven as a monitor drives it, scripted upstream
//! servers, and a client.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, setns, unshare};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use simple_dns::rdata::{OPT, RData};
use simple_dns::{CLASS, Name, Packet, PacketFlag, QCLASS, QTYPE, Question, RCODE, ResourceRecord, TYPE};
use umiak_netns::dns::{Config, Link, Network, Ports, Record, Server, Sockets, Upstreams, publish};

/// Longer than anything may take on the busiest machine: a test that gets here has failed.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// A network namespace with `lo` up; gone with the last descriptor and thread.
#[derive(Clone)]
pub struct Space(Arc<OwnedFd>);

impl Space {
    pub fn new() -> Self {
        let made = thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            assert!(Command::new("ip").args(["link", "set", "lo", "up"]).status().unwrap().success());
            OwnedFd::from(File::open("/proc/thread-self/ns/net").unwrap())
        });
        Self(Arc::new(made.join().unwrap()))
    }

    /// Moves the calling thread here.
    pub fn enter(&self) {
        setns(&*self.0, CloneFlags::CLONE_NEWNET).unwrap();
    }

    /// Does `work` in a thread that is in here.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            let inside = scope.spawn(|| {
                self.enter();
                work()
            });
            inside.join().unwrap()
        })
    }

    pub fn command(&self, program: &str, arguments: &[&str]) -> Output {
        self.run(|| Command::new(program).args(arguments).output().unwrap())
    }

    /// What `dig` prints, trimmed.
    pub fn dig(&self, arguments: &[&str]) -> String {
        let common = ["@127.0.0.11", "+tries=1", "+timeout=10"];
        let output = self.command("dig", &[&common, arguments].concat());
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }
}

enum Order {
    Reconfigure(Config),
}

/// A responder, its host and its container.
pub struct Lab {
    pub host: Space,
    pub container: Space,
    pub config: Config,
    pub ports: Ports,
    pub directory: tempfile::TempDir,
    /// How often the loop went round: a loop that spins shows.
    pub turns: Arc<AtomicU64>,
    orders: Option<(Sender<Order>, UnixStream)>,
    thread: Option<JoinHandle<()>>,
}

pub fn network(id: &str, internal: bool) -> Network {
    Network { id: id.into(), name: format!("{id}_net"), internal }
}

/// One network `n1` (`n1_net`), project `demo`, resolvers from a file that lists none that answers.
pub fn lab() -> Lab {
    lab_with(|_| {})
}

pub fn lab_with(change: impl FnOnce(&mut Config)) -> Lab {
    let directory = tempfile::tempdir().unwrap();
    let resolv_conf = directory.path().join("resolv.conf");
    std::fs::write(&resolv_conf, "nameserver 127.0.0.1\n").unwrap();
    let mut config = Config {
        records: directory.path().join("dns"),
        networks: vec![network("n1", false)],
        links: Vec::new(),
        project: Some("demo".into()),
        upstreams: Upstreams::Host(resolv_conf),
    };
    change(&mut config);
    let (host, container) = (Space::new(), Space::new());
    let turns = Arc::new(AtomicU64::new(0));
    let (orders, received) = channel();
    let (wake, woken) = UnixStream::pair().unwrap();
    let (ready, wait) = channel();
    let thread = {
        let (host, container, config, turns) = (host.clone(), container.clone(), config.clone(), Arc::clone(&turns));
        thread::spawn(move || serve(&host, &container, &config, &turns, &received, woken, &ready))
    };
    let ports = wait.recv_timeout(DEADLINE).expect("the responder starts");
    let orders = Some((orders, wake));
    Lab { host, container, config, ports, directory, turns, orders, thread: Some(thread) }
}

fn serve(
    host: &Space,
    container: &Space,
    config: &Config,
    turns: &AtomicU64,
    orders: &Receiver<Order>,
    mut wake: UnixStream,
    ready: &Sender<Ports>,
) {
    container.enter();
    let sockets = Sockets::bind(None).unwrap();
    host.enter();
    let ports = sockets.ports();
    let mut server = Server::new(config, sockets).unwrap();
    ready.send(ports).unwrap();
    loop {
        let mut fds = [PollFd::from_borrowed_fd(server.as_fd(), PollFlags::IN), PollFd::new(&wake, PollFlags::IN)];
        let wait = server.next_deadline().map(|at| at.saturating_duration_since(Instant::now()));
        let wait = wait.map(|wait| Timespec::try_from(wait).unwrap());
        match poll(&mut fds, wait.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => panic!("{error}"),
        }
        if !fds[1].revents().is_empty() {
            if wake.read(&mut [0]).unwrap() == 0 {
                return;
            }
            let Order::Reconfigure(config) = orders.recv().unwrap();
            server.reconfigure(&config);
            wake.write_all(&[0]).unwrap();
        }
        turns.fetch_add(1, Ordering::Relaxed);
        server.turn().unwrap();
    }
}

impl Lab {
    pub fn records(&self) -> &Path {
        &self.config.records
    }

    pub fn resolv_conf(&self) -> PathBuf {
        self.directory.path().join("resolv.conf")
    }

    pub fn publish(&self, record: &Record) {
        publish(self.records(), "n1", record).unwrap();
    }

    pub fn reconfigure(&mut self, config: Config) {
        let (orders, wake) = self.orders.as_mut().unwrap();
        orders.send(Order::Reconfigure(config)).unwrap();
        wake.write_all(&[0]).unwrap();
        wake.read_exact(&mut [0]).unwrap();
    }

    pub fn turns(&self) -> u64 {
        self.turns.load(Ordering::Relaxed)
    }

    /// Asks over UDP as the container.
    pub fn ask(&self, name: &str, kind: TYPE) -> Answer {
        self.send(&question(name, kind))
    }

    /// The A records of `name`, in the order of the answer.
    pub fn addresses(&self, name: &str) -> Vec<String> {
        let answer = self.ask(name, TYPE::A);
        assert_eq!(answer.code(), RCODE::NoError, "{name}");
        answer.data()
    }

    pub fn send(&self, query: &[u8]) -> Answer {
        self.container.run(|| exchange(query).expect("an answer"))
    }

    pub fn connect(&self) -> TcpStream {
        self.container.run(|| {
            let stream = TcpStream::connect("127.0.0.11:53").unwrap();
            stream.set_read_timeout(Some(DEADLINE)).unwrap();
            stream.set_write_timeout(Some(DEADLINE)).unwrap();
            stream
        })
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.orders = None;
        let ended = self.thread.take().map(JoinHandle::join);
        if !thread::panicking() {
            ended.unwrap().expect("the responder did not panic");
        }
    }
}

/// One datagram out, one in, from the namespace of the calling thread.
pub fn exchange(query: &[u8]) -> std::io::Result<Answer> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.connect("127.0.0.11:53")?;
    socket.set_read_timeout(Some(DEADLINE))?;
    socket.send(query)?;
    let mut buffer = vec![0; 65535];
    let length = socket.recv(&mut buffer)?;
    buffer.truncate(length);
    assert_eq!(buffer[..2], query[..2], "the id is the client's");
    Ok(Answer(buffer))
}

pub fn question(name: &str, kind: TYPE) -> Vec<u8> {
    let mut packet = Packet::new_query(0x1234);
    packet.set_flags(PacketFlag::RECURSION_DESIRED);
    let name = Name::new_unchecked(name);
    packet.questions.push(Question::new(name, QTYPE::TYPE(kind), QCLASS::CLASS(CLASS::IN), false));
    packet.build_bytes_vec().unwrap()
}

/// The same with an OPT record.
pub fn edns_question(name: &str, kind: TYPE, size: u16) -> Vec<u8> {
    let plain = question(name, kind);
    let mut packet = Packet::parse(&plain).unwrap();
    *packet.opt_mut() = Some(OPT { opt_codes: Vec::new(), udp_packet_size: size, version: 0 });
    packet.build_bytes_vec().unwrap()
}

/// A message as it came, read with a parser that is not ours.
#[derive(Debug, Clone)]
pub struct Answer(pub Vec<u8>);

impl Answer {
    pub fn packet(&self) -> Packet<'_> {
        Packet::parse(&self.0).unwrap()
    }

    pub fn code(&self) -> RCODE {
        self.packet().rcode()
    }

    pub fn is_truncated(&self) -> bool {
        self.packet().has_flags(PacketFlag::TRUNCATION)
    }

    /// What the records say.
    pub fn data(&self) -> Vec<String> {
        let data = |record: &ResourceRecord<'_>| match &record.rdata {
            RData::A(a) => Ipv4Addr::from(a.address).to_string(),
            RData::AAAA(aaaa) => std::net::Ipv6Addr::from(aaaa.address).to_string(),
            RData::PTR(name) => name.0.to_string(),
            other => format!("{other:?}"),
        };
        self.packet().answers.iter().map(data).collect()
    }
}

/// A container's record on `n1`; `id` is repeated to the length of an id.
pub fn record(id: &str, container_name: &str, names: &[&str], address: &str) -> Record {
    let (mut ipv4, mut ipv6) = (None, None);
    match address.parse().unwrap() {
        IpAddr::V4(four) => ipv4 = Some(four),
        IpAddr::V6(six) => ipv6 = Some(six),
    }
    Record {
        container: id.repeat(64 / id.len()),
        container_name: container_name.into(),
        names: names.iter().map(|&name| name.to_owned()).collect(),
        ipv4,
        ipv6,
        network_name: "n1_net".into(),
        project: None,
        service: None,
        healthy: None,
    }
}

pub fn of_service(mut record: Record, project: &str, service: &str) -> Record {
    record.project = Some(project.into());
    record.service = Some(service.into());
    record.names.push(service.into());
    record
}

pub fn link(alias: &str, target: &str) -> Link {
    Link { alias: alias.into(), target: target.into() }
}

/// What reached an upstream server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    pub message: Vec<u8>,
    pub from: SocketAddr,
    pub tcp: bool,
}

type Script = dyn Fn(&Received) -> Vec<Vec<u8>> + Send + Sync;

/// A server on port 53 of an address in the host's namespace; what it answers is up to the script:
/// any number of messages per question.
pub struct Upstream {
    received: Arc<Mutex<Vec<Received>>>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

pub fn upstream(
    space: &Space,
    address: &str,
    script: impl Fn(&Received) -> Vec<Vec<u8>> + Send + Sync + 'static,
) -> Upstream {
    let at: SocketAddr = SocketAddr::new(address.parse().unwrap(), 53);
    let (udp, tcp) = space.run(|| (rebind(|| UdpSocket::bind(at)), rebind(|| TcpListener::bind(at))));
    udp.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    tcp.set_nonblocking(true).unwrap();
    let (received, stop) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
    let script: Arc<Script> = Arc::new(script);
    let datagrams = {
        let (received, stop, script) = (Arc::clone(&received), Arc::clone(&stop), Arc::clone(&script));
        thread::spawn(move || {
            let mut buffer = [0; 65535];
            while !stop.load(Ordering::Relaxed) {
                let Ok((length, from)) = udp.recv_from(&mut buffer) else { continue };
                let one = Received { message: buffer[..length].to_vec(), from, tcp: false };
                received.lock().unwrap().push(one.clone());
                for answer in script(&one) {
                    udp.send_to(&answer, from).unwrap();
                }
            }
        })
    };
    let streams = {
        let (received, stop) = (Arc::clone(&received), Arc::clone(&stop));
        thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                let mut fds = [PollFd::new(&tcp, PollFlags::IN)];
                poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 50_000_000 })).unwrap();
                let Ok((mut stream, from)) = tcp.accept() else { continue };
                stream.set_nonblocking(false).unwrap();
                while let Some(message) = read_frame(&mut stream) {
                    let one = Received { message, from, tcp: true };
                    received.lock().unwrap().push(one.clone());
                    for answer in script(&one) {
                        write_frame(&mut stream, &answer);
                    }
                }
            }
        })
    };
    Upstream { received, stop, threads: vec![datagrams, streams] }
}

impl Upstream {
    pub fn received(&self) -> Vec<Received> {
        self.received.lock().unwrap().clone()
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let ended = thread.join();
            if !thread::panicking() {
                ended.expect("the upstream server did not panic");
            }
        }
    }
}

/// Binds an address that was in use until now. A program being started by another test's thread holds a copy
/// of every descriptor between its fork and its exec, so a closed socket may linger for that long.
fn rebind<T>(bind: impl Fn() -> std::io::Result<T>) -> T {
    let mut bound = None;
    until("the address is free", || {
        bound = bind().ok();
        bound.is_some()
    });
    bound.unwrap()
}

/// A message behind its length; `None` at the end of the stream.
pub fn read_frame(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut length = [0; 2];
    stream.read_exact(&mut length).ok()?;
    let mut message = vec![0; u16::from_be_bytes(length).into()];
    stream.read_exact(&mut message).ok()?;
    Some(message)
}

pub fn write_frame(stream: &mut TcpStream, message: &[u8]) {
    let length = u16::try_from(message.len()).unwrap().to_be_bytes();
    stream.write_all(&[&length, message].concat()).unwrap();
}

/// The answer to a question: these addresses.
pub fn answer_with(query: &[u8], code: RCODE, addresses: &[Ipv4Addr]) -> Vec<u8> {
    let query = Packet::parse(query).unwrap();
    let mut packet = Packet::new_reply(query.id());
    packet.questions = query.questions.clone();
    *packet.rcode_mut() = code;
    for &address in addresses {
        let name = query.questions[0].qname.clone();
        packet.answers.push(ResourceRecord::new(name, CLASS::IN, 60, RData::A(address.into())));
    }
    packet.build_bytes_vec().unwrap()
}

/// Looks again until `test` holds.
pub fn until(what: &str, mut test: impl FnMut() -> bool) {
    let end = Instant::now() + DEADLINE;
    while !test() {
        assert!(Instant::now() < end, "{what}");
        thread::yield_now();
    }
}
