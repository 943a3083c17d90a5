//! How many questions a responder answers: `dns_load [--server ADDRESS:PORT --name NAME]
//! [--clients N] [--window N] [--seconds N]`.
//!
//! With `--server` it asks that one (run it with `nsenter` inside a container's
//! namespace, to measure another engine's). Without, it makes a namespace with
//! a responder of ours, driven by a plain poll loop as in a monitor, and asks
//! through port 53 of 127.0.0.11. Each client is a thread with its own socket and
//! `window` questions under way. Needs root.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::AsFd as _;
use std::path::Path;
use std::process::ExitCode;
use std::sync::mpsc::Sender;
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use simple_dns::{CLASS, Name, Packet, PacketFlag, QCLASS, QTYPE, Question, TYPE};
use umiak_netns::dns::{ADDRESS, Config, Network, Record, Server, Sockets, Upstreams, publish};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

struct Options {
    server: Option<SocketAddr>,
    name: String,
    clients: usize,
    window: usize,
    seconds: u64,
}

fn main() -> ExitCode {
    match run() {
        Ok(line) => {
            #[allow(clippy::print_stdout, reason = "the result of a measuring program")]
            {
                println!("{line}");
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            #[allow(clippy::print_stderr, reason = "the result of a measuring program")]
            {
                eprintln!("dns_load: {error}");
            }
            ExitCode::FAILURE
        }
    }
}

fn options() -> Result<Options> {
    let mut options = Options { server: None, name: "web".into(), clients: 4, window: 1, seconds: 3 };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let value = words.next().ok_or("a value is missing")?;
        match word.as_str() {
            "--server" => options.server = Some(value.parse()?),
            "--name" => options.name = value,
            "--clients" => options.clients = value.parse()?,
            "--window" => options.window = value.parse()?,
            "--seconds" => options.seconds = value.parse()?,
            other => return Err(format!("unknown option {other}").into()),
        }
    }
    Ok(options)
}

fn run() -> Result<String> {
    let options = options()?;
    if let Some(server) = options.server {
        return measure(&options, server);
    }
    // Before there are threads, so that all of them are in the new namespace.
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET)?;
    if !std::process::Command::new("ip").args(["link", "set", "lo", "up"]).status()?.success() {
        return Err("ip link set lo up".into());
    }
    let directory = std::env::temp_dir().join(format!("dns_load.{}", std::process::id()));
    fill(&directory)?;
    let (stopped, stop) = std::os::unix::net::UnixStream::pair()?;
    let (ready, wait) = std::sync::mpsc::channel();
    let records = directory.clone();
    let responder = thread::spawn(move || serve(&records, &stopped, &ready));
    let line = wait.recv().map_err(Into::into).and_then(|()| measure(&options, SocketAddr::from((ADDRESS, 53))));
    drop(stop);
    let memory = responder.join().map_err(|_| "the responder panicked")??;
    std::fs::remove_dir_all(&directory)?;
    Ok(format!("{} ({memory})", line?))
}

/// Ten services with two replicas each.
fn fill(directory: &Path) -> Result<()> {
    for number in 0..20_u8 {
        let name = if number < 2 { "web".into() } else { format!("service{}", number / 2) };
        let record = Record {
            container: format!("{number:064x}"),
            container_name: format!("demo-{name}-{number}"),
            names: vec![name.clone(), format!("{number:012x}")],
            ipv4: Some(Ipv4Addr::new(10, 0, 0, 2 + number)),
            ipv6: None,
            network_name: "demo_default".into(),
            project: Some("demo".into()),
            service: Some(name),
            healthy: None,
        };
        publish(directory, "n1", &record)?;
    }
    Ok(())
}

/// A monitor with nothing else to do; ends when the other side of `stop` is closed.
fn serve(directory: &Path, stop: &std::os::unix::net::UnixStream, ready: &Sender<()>) -> Result<String> {
    let config = Config {
        records: directory.to_owned(),
        networks: vec![Network { id: "n1".into(), name: "demo_default".into(), internal: true }],
        links: Vec::new(),
        project: Some("demo".into()),
        upstreams: Upstreams::Listed(Vec::new()),
    };
    let mut server = Server::new(&config, Sockets::bind(None)?)?;
    ready.send(())?;
    let started = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    let mut turns = 0_u64;
    loop {
        let mut fds = [PollFd::from_borrowed_fd(server.as_fd(), PollFlags::IN), PollFd::new(stop, PollFlags::IN)];
        let timeout = server.next_deadline().map(|at| at.saturating_duration_since(Instant::now()));
        let timeout = timeout.and_then(|wait| Timespec::try_from(wait).ok());
        poll(&mut fds, timeout.as_ref())?;
        if !fds[1].revents().is_empty() {
            let ended = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
            let busy = Duration::try_from(ended)?.saturating_sub(Duration::try_from(started)?);
            return Ok(format!("responder: {turns} turns, {} ms of processor time", busy.as_millis()));
        }
        server.turn()?;
        turns += 1;
    }
}

fn measure(options: &Options, server: SocketAddr) -> Result<String> {
    let started = Instant::now();
    let end = started + Duration::from_secs(options.seconds);
    let clients: Vec<_> = (0..options.clients)
        .map(|_| {
            let (question, window) = (question(&options.name)?, options.window);
            Ok(thread::spawn(move || ask(server, &question, window, end)))
        })
        .collect::<Result<_>>()?;
    let mut total = Count::default();
    for client in clients {
        let count = client.join().map_err(|_| "a client panicked")??;
        total.answers += count.answers;
        total.lost += count.lost;
    }
    let rate = total.answers * 1000 / u64::try_from(started.elapsed().as_millis())?.max(1);
    let Options { clients, window, .. } = options;
    Ok(format!("{rate} answers/s, {clients} clients × {window}, {} answers, {} lost", total.answers, total.lost))
}

#[derive(Default)]
struct Count {
    answers: u64,
    lost: u64,
}

/// A question for the A records of `name`.
fn question(name: &str) -> Result<Vec<u8>> {
    let mut packet = Packet::new_query(0);
    packet.set_flags(PacketFlag::RECURSION_DESIRED);
    let name = Name::new(name)?.into_owned();
    packet.questions.push(Question::new(name, QTYPE::TYPE(TYPE::A), QCLASS::CLASS(CLASS::IN), false));
    Ok(packet.build_bytes_vec()?)
}

fn ask(server: SocketAddr, question: &[u8], window: usize, end: Instant) -> Result<Count> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.connect(server)?;
    socket.set_read_timeout(Some(Duration::from_millis(500)))?;
    let mut question = question.to_vec();
    let mut count = Count::default();
    let mut answer = [0_u8; 1500];
    let mut id = 0_u16;
    let mut send = |socket: &UdpSocket| {
        id = id.wrapping_add(1);
        question[..2].copy_from_slice(&id.to_be_bytes());
        socket.send(&question)
    };
    for _ in 0..window {
        send(&socket)?;
    }
    while Instant::now() < end {
        match socket.recv(&mut answer) {
            // NOERROR with at least one record.
            Ok(length) if length > 12 && answer[3] & 0x0F == 0 && answer[6..8] != [0, 0] => count.answers += 1,
            Ok(_) => return Err("an answer without records".into()),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => count.lost += 1,
            Err(error) => return Err(error.into()),
        }
        send(&socket)?;
    }
    Ok(count)
}
