//! A host of its own for each test: a thread in fresh network and mount
//! namespaces, with a LAN whose other end is somebody else's machine.

#![allow(dead_code, reason = "each test binary uses its part")]
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "the clippy.toml exception covers test functions only")]

use std::cell::RefCell;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use umiak_netns::endpoint::{self, EndpointSpec};
use umiak_netns::firewall::Published;
use umiak_netns::ipam::{Leases, SubnetRequest};
use umiak_netns::namespace::{self, NamespaceError};
use umiak_netns::{Links, Network, NetworkRequest};

/// How long something that must happen may take, before the test fails.
pub const DEADLINE: Duration = Duration::from_secs(30);
/// How long is waited for what must not happen.
pub const NEVER: Duration = Duration::from_millis(400);

/// The host's address on the LAN.
pub const HOST: &str = "192.0.2.1";
/// The other machine's.
pub const NEIGHBOUR: &str = "192.0.2.2";

#[derive(Debug)]
pub enum TestError {
    Namespace(NamespaceError),
    Io(std::io::Error),
}

impl From<NamespaceError> for TestError {
    fn from(error: NamespaceError) -> Self {
        Self::Namespace(error)
    }
}

impl From<std::io::Error> for TestError {
    fn from(error: std::io::Error) -> Self {
        Self::Io(error)
    }
}

/// A machine's network namespace.
pub struct Machine {
    pub path: PathBuf,
    pub netns: File,
}

impl Machine {
    pub fn new(path: PathBuf) -> Self {
        let netns = namespace::create(&path).unwrap();
        Self { path, netns }
    }

    /// Runs a function in the machine.
    pub fn within<T: Send>(&self, function: impl FnOnce() -> std::io::Result<T> + Send) -> std::io::Result<T> {
        namespace::with(&self.netns, || function().map_err(TestError::from)).map_err(|error| match error {
            TestError::Io(error) => error,
            TestError::Namespace(error) => std::io::Error::other(error),
        })
    }

    pub fn sh(&self, script: &str) -> String {
        self.within(|| Ok(sh(script))).unwrap()
    }

    /// Serves TCP on a port: answers each connection with the client's address and then echoes.
    pub fn serve_tcp(&self, address: &str) -> Server {
        let listener = self.within(|| TcpListener::bind(address)).unwrap();
        let server = Server::new();
        let seen = server.seen.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { continue };
                seen.fetch_add(1, Ordering::SeqCst);
                std::thread::spawn(move || {
                    let peer = stream.peer_addr()?;
                    writeln!(stream, "{}", peer.ip())?;
                    let mut echo = stream.try_clone()?;
                    std::io::copy(&mut stream, &mut echo)
                });
            }
        });
        server
    }

    /// Serves UDP on a port: answers each datagram with the client's address.
    pub fn serve_udp(&self, address: &str) -> Server {
        let socket = self.within(|| UdpSocket::bind(address)).unwrap();
        let server = Server::new();
        let seen = server.seen.clone();
        std::thread::spawn(move || {
            let mut buffer = [0; 64];
            while let Ok((_, from)) = socket.recv_from(&mut buffer) {
                seen.fetch_add(1, Ordering::SeqCst);
                let _ = socket.send_to(from.ip().to_string().as_bytes(), from);
            }
        });
        server
    }

    /// Connects from the machine; the address that the server saw.
    pub fn tcp(&self, to: &str) -> std::io::Result<IpAddr> {
        self.within(|| tcp(to, DEADLINE))
    }

    pub fn udp(&self, to: &str) -> std::io::Result<IpAddr> {
        self.within(|| udp(to, DEADLINE))
    }

    /// Fails if the server at `to` answers.
    pub fn cannot_tcp(&self, to: &str) {
        let result = self.within(|| tcp(to, NEVER));
        assert!(result.is_err(), "{to} is reachable from {}, seen as {result:?}", self.path.display());
    }

    pub fn cannot_udp(&self, to: &str) {
        let result = self.within(|| udp(to, NEVER));
        assert!(result.is_err(), "{to} is reachable from {}, seen as {result:?}", self.path.display());
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = namespace::remove(&self.path);
    }
}

pub struct Server {
    /// How many clients it has seen.
    pub seen: Arc<AtomicUsize>,
}

impl Server {
    fn new() -> Self {
        Self { seen: Arc::new(AtomicUsize::new(0)) }
    }

    pub fn count(&self) -> usize {
        self.seen.load(Ordering::SeqCst)
    }
}

/// Connects, reads the line with the own address as the server sees it, and has something echoed.
pub fn tcp(to: &str, wait: Duration) -> std::io::Result<IpAddr> {
    let mut stream = TcpStream::connect_timeout(&to.parse::<SocketAddr>().unwrap(), wait)?;
    stream.set_read_timeout(Some(wait))?;
    let mut line = Vec::new();
    let mut byte = [0];
    while {
        stream.read_exact(&mut byte)?;
        byte[0] != b'\n'
    } {
        line.push(byte[0]);
    }
    stream.write_all(b"ping")?;
    let mut echo = [0; 4];
    stream.read_exact(&mut echo)?;
    assert_eq!(&echo, b"ping");
    String::from_utf8_lossy(&line).parse().map_err(std::io::Error::other)
}

pub fn udp(to: &str, wait: Duration) -> std::io::Result<IpAddr> {
    let to: SocketAddr = to.parse().unwrap();
    let socket = UdpSocket::bind(if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" })?;
    socket.connect(to)?;
    socket.set_read_timeout(Some(wait))?;
    socket.send(b"ping")?;
    let mut buffer = [0; 64];
    let length = socket.recv(&mut buffer)?;
    String::from_utf8_lossy(&buffer[..length]).parse().map_err(std::io::Error::other)
}

/// Runs a script where the calling thread is; its output.
pub fn sh(script: &str) -> String {
    let output = Command::new("sh").args(["-ec", script]).output().unwrap();
    assert!(
        output.status.success(),
        "{script}: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Whether a program is installed; where tests must run, it has to be.
pub fn has_program(name: &str) -> bool {
    let found = Command::new("sh").args(["-c", &format!("command -v {name}")]).output().unwrap().status.success();
    assert!(found || std::env::var_os("UMIAK_MUST_RUN").is_none_or(|value| value != "1"), "{name} is not installed");
    if !found {
        eprintln!("skipped: {name} is not installed");
    }
    found
}

/// The machine under test. All of its methods work in its namespaces, which the test's thread is in.
pub struct FakeHost {
    pub links: Links,
    /// Another machine on the LAN.
    pub neighbour: Machine,
    networks: RefCell<Vec<Network>>,
    containers: RefCell<usize>,
    // Last, so that it is dropped last: namespaces are pinned in it.
    dir: tempfile::TempDir,
}

/// Runs a test on a host of its own.
pub fn on_a_host(test: impl FnOnce(&FakeHost) + Send) {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).unwrap();
            mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>).unwrap();
            let host = FakeHost::new();
            test(&host);
        });
        if let Err(panic) = thread.join() {
            std::panic::resume_unwind(panic);
        }
    });
}

impl FakeHost {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        // A new namespace starts with the real host's value.
        sh("ip link set lo up; echo 0 > /proc/sys/net/ipv4/ip_forward");
        let neighbour = Machine::new(dir.path().join("neighbour"));
        let path = neighbour.path.display();
        sh(&format!(
            "ip link add eth0 type veth peer name tmp0
             ip link set tmp0 netns {path}
             ip link set eth0 addrgenmode none
             ip address add {HOST}/24 dev eth0
             ip -6 address add 2001:db8::1/64 dev eth0 nodad
             ip link set eth0 up"
        ));
        neighbour.sh(&format!(
            "ip link set lo up
             ip link set tmp0 name eth0
             ip address add {NEIGHBOUR}/24 dev eth0
             ip -6 address add 2001:db8::2/64 dev eth0 nodad
             ip link set eth0 up"
        ));
        // The kernel notices the other end in its own time.
        let end = std::time::Instant::now() + DEADLINE;
        while !sh("ip link show dev eth0").contains("state UP")
            || sh("ip route; ip -6 route; ip route show table local").contains("linkdown")
        {
            assert!(std::time::Instant::now() < end, "the LAN does not come up");
        }
        Self {
            links: Links::open().unwrap(),
            neighbour,
            networks: RefCell::default(),
            containers: RefCell::new(0),
            dir,
        }
    }

    pub fn run_root(&self) -> &Path {
        self.dir.path()
    }

    /// Plans and brings up a network.
    pub fn network(&self, request: NetworkRequest) -> Network {
        let mut taken = self.links.taken(None).unwrap();
        taken.extend(self.networks.borrow().iter().flat_map(Network::taken));
        let id = umiak_base::id::new_id().unwrap();
        let network = Network::plan(&request, &id, "2026-01-01T00:00:00Z", &taken).unwrap();
        network.up(&self.links, self.run_root()).unwrap();
        self.networks.borrow_mut().push(network.clone());
        network
    }

    pub fn named(&self, name: &str) -> Network {
        self.network(NetworkRequest { name: name.to_owned(), ..NetworkRequest::default() })
    }

    pub fn take_down(&self, network: &Network) {
        network.down(&self.links, self.run_root()).unwrap();
        self.networks.borrow_mut().retain(|other| other.id != network.id);
    }

    /// A container attached to networks, the first of which has its default route.
    pub fn container(&self, networks: &[&Network]) -> Container {
        let number = {
            let mut containers = self.containers.borrow_mut();
            *containers += 1;
            *containers
        };
        let id = format!("{number:064x}").chars().rev().collect::<String>();
        let machine = Machine::new(self.dir.path().join("netns").join(&id));
        let mut addresses = Vec::new();
        let mut endpoints = Vec::new();
        endpoint::loopback_up(&machine.netns).unwrap();
        for (index, network) in networks.iter().enumerate() {
            let leases = self.leases(network);
            let mine: Vec<IpAddr> =
                network.subnets.iter().map(|subnet| leases.lease(subnet, None, &id, &|_| true).unwrap()).collect();
            let spec = EndpointSpec {
                extra: Vec::new(),
                sysctls: Vec::new(),
                ifname: format!("eth{index}"),
                addresses: mine.clone(),
                mac: None,
                default_route: index == 0,
                host_ifname: endpoint::host_ifname(&id, index),
            };
            endpoint::attach(&self.links, network, &machine.netns, &spec).unwrap();
            addresses.push(mine);
            endpoints.push(spec);
        }
        Container { machine, id, addresses, endpoints }
    }

    pub fn leases(&self, network: &Network) -> Leases {
        Leases::new(self.dir.path().join("leases").join(&network.id))
    }

    pub fn remove(&self, container: Container) {
        let names: Vec<&str> = container.endpoints.iter().map(|endpoint| endpoint.host_ifname.as_str()).collect();
        endpoint::detach(&self.links, &names).unwrap();
        for network in self.networks.borrow().iter() {
            self.leases(network).release(&container.id).unwrap();
        }
    }

    /// Fails unless everything is as it was, and shows what is not.
    pub fn assert_unchanged(&self, before: &str) {
        self.assert_same(before, &self.snapshot());
    }

    pub fn assert_same(&self, before: &str, after: &str) {
        let gone: Vec<_> = before.lines().filter(|line| !after.contains(line)).collect();
        let new: Vec<_> = after.lines().filter(|line| !before.contains(line)).collect();
        assert!(before == after, "gone: {gone:#?}\nnew: {new:#?}");
    }

    /// All that must be as it was when the last network is gone.
    pub fn snapshot(&self) -> String {
        let taken = sh("nft -s list ruleset
            ip -details address | sed -E 's/ (valid_lft|preferred_lft).*//'
            ip route show table all
            ip -6 route show table all | sed -E 's/ expires [0-9]+sec//'
            grep -r . /proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv4/conf /proc/sys/net/ipv6/conf 2>/dev/null | grep -v stable_secret | sort
            cat /proc/self/mountinfo");
        // What others have mounted, too, goes from here when they remove the files that it was mounted on.
        let ours = |line: &&str| {
            let target = line.split(' ').nth(4).map(Path::new);
            !line.contains(" - nsfs ") || target.is_some_and(|target| target.starts_with(self.dir.path()))
        };
        taken.lines().filter(ours).map(|line| format!("{line}\n")).collect()
    }
}

pub struct Container {
    pub machine: Machine,
    pub id: String,
    /// Per network.
    pub addresses: Vec<Vec<IpAddr>>,
    pub endpoints: Vec<EndpointSpec>,
}

impl Container {
    /// Its first address.
    pub fn ip(&self) -> IpAddr {
        self.addresses[0][0]
    }

    /// `ip:port` of its first address.
    pub fn at(&self, port: u16) -> String {
        SocketAddr::new(self.ip(), port).to_string()
    }
}

/// A TCP port published on all addresses.
pub fn published(host_ip: &str, host_port: u16, container: &Container, container_port: u16) -> Published {
    Published {
        host_ip: host_ip.parse().unwrap(),
        host_port,
        container_ip: container.ip(),
        container_port,
        protocol: umiak_netns::firewall::Protocol::Tcp,
    }
}

/// A subnet that the user asks for.
pub fn subnet(cidr: &str) -> SubnetRequest {
    SubnetRequest { cidr: Some(cidr.parse().unwrap()), ..SubnetRequest::default() }
}

/// What a test collects from several threads.
pub type Shared<T> = Arc<Mutex<T>>;
