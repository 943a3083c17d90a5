//! Logs that go to a syslog or to the journal: real sockets, which these tests
//! open themselves.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::io::{BufRead as _, BufReader, IoSliceMut, Read as _, Seek as _};
use std::mem::MaybeUninit;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, Timespec, poll};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};
use tempfile::TempDir;
use umiak_runtime::logs::{Options, Query, Reader, Source, Status, Stream, Writer};

const ID: &str = "c0ffee";
const PATIENCE: Duration = Duration::from_secs(60);

struct Log {
    dir: TempDir,
    writer: Writer,
}

fn source() -> Source {
    Source { id: ID.repeat(10), name: "web".into(), image: "img".into(), tag: "tag".into(), attributes: Vec::new() }
}

fn log(driver: &str, options: &[(&str, &str)]) -> Log {
    open(&Options::parse(driver, options.iter().copied()).unwrap(), true)
}

fn open(options: &Options, strict: bool) -> Log {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = Writer::open(dir.path(), ID, options).unwrap();
    writer.describe(&source(), options, strict).unwrap();
    Log { dir, writer }
}

impl Log {
    fn put(&mut self, stream: Stream, text: &str) {
        self.writer.write(stream, text.as_bytes()).unwrap();
        self.writer.flush().unwrap();
    }

    fn kept(&self) -> Vec<String> {
        let mut reader = Reader::open(self.dir.path(), ID, Query::default()).unwrap();
        let mut lines = Vec::new();
        while reader.next_lines(&mut lines).unwrap() == Status::More {}
        lines.into_iter().map(|line| line.text).collect()
    }

    /// What a monitor does while nothing comes, until `done`.
    fn turn_until(&mut self, mut done: impl FnMut(&Writer) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !done(&self.writer) {
            assert!(Instant::now() < deadline, "nothing happened");
            let step = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };
            if let Some((fd, events)) = self.writer.waits_for() {
                poll(&mut [PollFd::from_borrowed_fd(fd, events)], Some(&step)).unwrap();
            } else {
                std::thread::sleep(Duration::from_millis(20));
            }
            let _ = self.writer.flush();
        }
    }
}

fn datagram(socket: &UdpSocket) -> String {
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut buffer = vec![0; 70_000];
    let length = socket.recv(&mut buffer).unwrap();
    String::from_utf8(buffer[..length].to_vec()).unwrap()
}

#[test]
fn syslog_over_udp_has_a_message_for_each_line_and_a_copy_stays() {
    let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = format!("udp://{}", receiver.local_addr().unwrap());
    let mut log =
        log("syslog", &[("syslog-address", &address), ("syslog-format", "rfc5424"), ("syslog-facility", "local0")]);
    log.put(Stream::Stdout, "one\ntw");
    log.put(Stream::Stderr, "bad\n\n");
    log.put(Stream::Stdout, "o\n");
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let end = format!(" {host} tag {} tag - ", std::process::id());
    for (priority, text) in [(134, "one"), (131, "bad"), (134, "two")] {
        let message = datagram(&receiver);
        assert!(message.starts_with(&format!("<{priority}>1 20")), "{message}");
        assert!(message.ends_with(&format!("{end}{text}\n")), "{message}");
    }
    assert_eq!(log.kept(), ["one\n", "bad\n", "\n", "two\n"]);
}

#[test]
fn syslog_over_tcp_finds_a_receiver_that_comes_back_and_says_what_was_dropped() {
    let receiver = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = receiver.local_addr().unwrap();
    let options =
        [("syslog-address", &*format!("tcp://{address}")), ("mode", "non-blocking"), ("max-buffer-size", "4k")];
    let mut log = log("syslog", &options);
    let lines = |stream: TcpStream| {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        BufReader::new(stream).lines().map(|line| line.unwrap().split_once("]: ").unwrap().1.to_owned())
    };
    log.put(Stream::Stdout, "first\n");
    let mut first = lines(receiver.accept().unwrap().0);
    assert_eq!(first.next().unwrap(), "first");
    drop((first, receiver));
    // Far more than may wait, while nobody listens: nothing blocks.
    for number in 0..10_000 {
        log.put(Stream::Stdout, &format!("{number}\n"));
    }
    assert!(!log.writer.behind());
    let receiver = TcpListener::bind(address).unwrap();
    receiver.set_nonblocking(true).unwrap();
    let mut again = None;
    log.turn_until(|_| {
        again = again.take().or_else(|| receiver.accept().ok());
        again.is_some()
    });
    let stream = again.unwrap().0;
    stream.set_nonblocking(false).unwrap();
    log.turn_until(|writer| writer.waits_for().is_none());
    log.put(Stream::Stdout, "last\n");
    log.turn_until(|writer| writer.waits_for().is_none());
    let got: Vec<String> = lines(stream).take_while(|line| line != "last").collect();
    let dropped =
        got.iter().filter(|line| line.starts_with("[umiak: ") && line.contains(" messages dropped here")).count();
    assert!(dropped == 1 && got.len() < 200, "{} {got:?}", got.len());
    // The copy has all of them.
    assert_eq!(log.kept().len(), 10_002);
}

#[test]
fn a_receiver_that_reads_slowly_holds_back_and_loses_nothing() {
    let receiver = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut log = log("syslog", &[("syslog-address", &format!("tcp://{}", receiver.local_addr().unwrap()))]);
    let (stream, _) = receiver.accept().unwrap();
    let mut sent = 0;
    while !log.writer.behind() {
        log.put(Stream::Stdout, &format!("{sent:08}{}\n", "x".repeat(1000)));
        sent += 1;
        assert!(sent < 100_000, "never behind");
    }
    let reader = std::thread::spawn(move || {
        let lines = BufReader::new(stream).lines();
        lines.map(|line| line.unwrap().split_once("]: ").unwrap().1[..8].parse::<usize>().unwrap()).collect::<Vec<_>>()
    });
    log.turn_until(|writer| writer.waits_for().is_none());
    assert!(!log.writer.behind());
    log.writer.finish();
    assert_eq!(reader.join().unwrap(), (0..sent).collect::<Vec<_>>());
}

#[test]
fn a_socket_of_the_host_takes_datagrams() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    for scheme in ["unix", "unixgram"] {
        let receiver = UnixDatagram::bind(&path).unwrap();
        receiver.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut log = log("syslog", &[("syslog-address", &format!("{scheme}://{}", path.display()))]);
        log.put(Stream::Stdout, "hi\r\n");
        let mut buffer = [0; 1000];
        let length = receiver.recv(&mut buffer).unwrap();
        let message = String::from_utf8_lossy(&buffer[..length]).into_owned();
        assert!(message.starts_with("<30>") && message.ends_with("]: hi\n"), "{message}");
        std::fs::remove_file(&path).unwrap();
    }
}

#[test]
fn a_receiver_that_is_not_there_is_an_error_at_start_and_looked_for_later() {
    let options = Options::parse("syslog", [("syslog-address", "unixgram:///nonexistent/log")]).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let mut writer = Writer::open(dir.path(), ID, &options).unwrap();
    let error = writer.describe(&source(), &options, true).unwrap_err();
    assert_eq!(error.to_string(), "connect to the log's receiver /nonexistent/log");
    let mut log = open(&options, false);
    log.put(Stream::Stdout, "kept\n");
    assert!(log.writer.deadline().is_some_and(|at| at > Instant::now()));
    assert_eq!(log.kept(), ["kept\n"]);
}

/// One entry, from a datagram or from the file that came instead of one.
fn entry(socket: &UnixDatagram) -> Vec<u8> {
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut buffer = vec![0; 1 << 20];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received =
        rustix::net::recvmsg(socket, &mut [IoSliceMut::new(&mut buffer)], &mut control, RecvFlags::CMSG_CLOEXEC)
            .unwrap();
    let file = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    });
    match file {
        Some(file) => contents(file),
        None => buffer[..received.bytes].to_vec(),
    }
}

fn contents(file: OwnedFd) -> Vec<u8> {
    let mut file = std::fs::File::from(file);
    file.rewind().unwrap();
    let mut all = Vec::new();
    file.read_to_end(&mut all).unwrap();
    all
}

fn journal(path: &Path) -> Options {
    Options { journal: path.to_owned(), ..Options::parse("journald", [("cache-disabled", "true")]).unwrap() }
}

#[test]
fn the_journal_gets_entries_also_those_that_no_datagram_holds() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("socket");
    let receiver = UnixDatagram::bind(&path).unwrap();
    let options = journal(&path);
    let mut log = open(&options, true);
    log.put(Stream::Stderr, "bad\n");
    let text = String::from_utf8(entry(&receiver)).unwrap();
    assert!(text.starts_with("MESSAGE=bad\nPRIORITY=3\nSYSLOG_TIMESTAMP=20"), "{text}");
    for field in ["CONTAINER_ID=c0ffeec0ffee\n", "CONTAINER_NAME=web\n", "CONTAINER_TAG=tag\n", "IMAGE_NAME=img\n"] {
        assert!(text.contains(field), "{field} in {text}");
    }
    let mut large = source();
    large.attributes = vec![("huge".into(), "x".repeat(1 << 20))];
    log.writer.describe(&large, &options, true).unwrap();
    log.put(Stream::Stdout, &format!("{}\n", "y".repeat(20_000)));
    let first = entry(&receiver);
    assert!(first.len() > 1 << 20 && first.starts_with(format!("MESSAGE={}\n", "y".repeat(16 << 10)).as_bytes()));
    assert!(String::from_utf8(first).unwrap().contains("CONTAINER_PARTIAL_MESSAGE=true\n"));
    let second = String::from_utf8(entry(&receiver)).unwrap();
    assert!(second.starts_with(&format!("MESSAGE={}\n", "y".repeat(20_000 - (16 << 10)))), "{}", &second[..100]);
    assert!(log.kept().is_empty());
}
