//! Clients over TCP, and what they may try.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, TcpStream, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::process::Command;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use rustix::net::{AddressFamily, SocketType};
use simple_dns::{RCODE, TYPE};

use crate::support::*;

fn with_web() -> Lab {
    let lab = lab();
    lab.publish(&record("ab", "web", &[], "10.0.0.2"));
    lab
}

#[test]
fn several_questions_on_one_connection_own_and_foreign() {
    let lab = with_web();
    let upstream = upstream(&lab.host, "127.0.0.1", |one| {
        vec![answer_with(&one.message, RCODE::NoError, &[Ipv4Addr::new(192, 0, 2, 1)])]
    });
    let mut stream = lab.connect();
    // All sent before the first answer is read; the answers come in order.
    for round in 0..40_u8 {
        let mut query = question(if round % 4 == 3 { "www.example" } else { "web" }, TYPE::A);
        query[0] = round;
        write_frame(&mut stream, &query);
    }
    for round in 0..40_u8 {
        let answer = Answer(read_frame(&mut stream).unwrap());
        assert_eq!(answer.0[0], round);
        assert_eq!(answer.data(), [if round % 4 == 3 { "192.0.2.1" } else { "10.0.0.2" }]);
    }
    assert!(upstream.received().iter().all(|one| one.tcp) && upstream.received().len() == 10);
}

#[test]
fn a_question_byte_by_byte_and_a_client_that_is_done_sending() {
    let lab = with_web();
    let mut stream = lab.connect();
    stream.set_nodelay(true).unwrap();
    let query = question("web", TYPE::A);
    let frame = [&u16::try_from(query.len()).unwrap().to_be_bytes()[..], &query].concat();
    for byte in &frame {
        stream.write_all(&[*byte]).unwrap();
    }
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(Answer(read_frame(&mut stream).unwrap()).data(), ["10.0.0.2"]);
    assert_eq!(read_frame(&mut stream), None, "closed after the last answer");
}

#[test]
fn broken_frames_close_that_connection_and_nothing_spins() {
    let lab = with_web();
    let good = question("web", TYPE::A);
    let response = {
        let mut message = good.clone();
        message[2] |= 0x80;
        [&[0, u8::try_from(good.len()).unwrap()][..], &message].concat()
    };
    for bytes in
        [&b"\0\0"[..], b"\0\x05hello", b"GET / HTTP/1.0\r\n\r\n", b"\xFF\xFFxxxx", b"\x00\x0B01234567890", &response]
    {
        let mut stream = lab.connect();
        stream.write_all(bytes).unwrap();
        // Closed by the responder, in order or with a reset for what it did not read.
        assert!(matches!(stream.read(&mut [0; 64]), Ok(0) | Err(_)), "{bytes:?}");
    }
    // Announced and not sent, then closed or reset by the client.
    for bytes in [&b""[..], b"\0", b"\xFF\xFF", b"\0\x20abc"] {
        let mut stream = lab.connect();
        stream.write_all(bytes).unwrap();
        drop(stream);
    }
    assert_eq!(lab.addresses("web"), ["10.0.0.2"]);
    // A connection that says nothing is cut; while the loop waits for that moment it does not spin.
    let before = lab.turns();
    let mut idle = lab.connect();
    idle.write_all(b"\0").unwrap();
    assert_eq!(idle.read(&mut [0; 1]).unwrap(), 0, "cut by the responder");
    assert!(lab.turns() - before < 50, "{} turns", lab.turns() - before);
}

#[test]
fn five_hundred_idle_connections_hurt_nobody() {
    let lab = with_web();
    let idle: Vec<_> = (0..500)
        .map(|number| {
            let mut stream = lab.connect();
            if number % 2 == 0 {
                stream.write_all(b"\0\x40half a question").unwrap();
            }
            stream
        })
        .collect();
    let before = lab.turns();
    for _ in 0..20 {
        assert_eq!(lab.addresses("web"), ["10.0.0.2"]);
    }
    assert_eq!(lab.container.dig(&["+short", "+tcp", "web"]), "10.0.0.2");
    let mut late = lab.connect();
    write_frame(&mut late, &question("web", TYPE::A));
    assert_eq!(Answer(read_frame(&mut late).unwrap()).data(), ["10.0.0.2"]);
    assert!(lab.turns() - before < 1000, "{} turns", lab.turns() - before);
    // All of them are closed in the end.
    for mut stream in idle {
        assert!(matches!(stream.read(&mut [0; 1]), Ok(0) | Err(_)));
    }
}

#[test]
fn a_client_that_does_not_read_is_cut_and_holds_up_nobody() {
    let lab = lab();
    for number in 0..200 {
        let id = format!("{number:04x}");
        let address = format!("10.0.1.{number}");
        lab.publish(&of_service(record(&id, &format!("demo-many-{number}"), &[], &address), "demo", "many"));
    }
    let mut greedy = lab.connect();
    greedy.set_nonblocking(true).unwrap();
    let query = question("many", TYPE::A);
    let frame = [&u16::try_from(query.len()).unwrap().to_be_bytes()[..], &query].concat();
    // Until neither side takes any more.
    let mut full = 0;
    while full < 1000 {
        match greedy.write(&frame) {
            Ok(length) if length == frame.len() => full = 0,
            Ok(_) => break,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                full += 1;
                std::thread::yield_now();
            }
            Err(error) => panic!("{error}"),
        }
    }
    let before = lab.turns();
    assert_eq!(lab.addresses("demo-many-7"), ["10.0.1.7"]);
    until(
        "the responder gives up on it",
        || matches!(greedy.write(&[0]), Err(error) if error.kind() != std::io::ErrorKind::WouldBlock),
    );
    assert!(lab.turns() - before < 1000, "{} turns", lab.turns() - before);
    assert_eq!(lab.addresses("demo-many-7"), ["10.0.1.7"]);
}

#[test]
fn a_client_that_leaves_while_its_question_is_out_is_forgotten() {
    let lab = with_web();
    let upstream = upstream(&lab.host, "127.0.0.1", |_| Vec::new());
    let mut stream = lab.connect();
    write_frame(&mut stream, &question("slow.example", TYPE::A));
    until("the question is out", || !upstream.received().is_empty());
    drop(stream);
    let before = lab.turns();
    let mut idle = lab.connect();
    assert_eq!(idle.read(&mut [0; 1]).unwrap(), 0, "cut by the responder");
    assert!(lab.turns() - before < 50, "{} turns", lab.turns() - before);
    assert_eq!(lab.addresses("web"), ["10.0.0.2"]);
}

/// The limit on descriptors is the process's: the test runs itself once more, alone in a process.
#[test]
fn out_of_descriptors_it_waits_without_spinning_and_goes_on_answering() {
    const ALONE: &str = "UMIAK_TEST_ALONE";
    if std::env::var_os(ALONE).is_none() {
        let me = std::env::current_exe().unwrap();
        let name = "streams::out_of_descriptors_it_waits_without_spinning_and_goes_on_answering";
        let output = Command::new(me).args(["--exact", name]).env(ALONE, "1").output().unwrap();
        assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
        return;
    }
    let lab = with_web();
    assert_eq!(lab.addresses("web"), ["10.0.0.2"]);
    let (udp, tcp) = lab.container.run(|| {
        let udp = UdpSocket::bind("0.0.0.0:0").unwrap();
        udp.connect("127.0.0.11:53").unwrap();
        udp.set_read_timeout(Some(DEADLINE)).unwrap();
        (udp, rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap())
    });
    let own = |expected: &str| {
        let mut buffer = [0; 512];
        udp.send(&question("web", TYPE::A)).unwrap();
        let length = udp.recv(&mut buffer).unwrap();
        assert_eq!(Answer(buffer[..length].to_vec()).data(), [expected]);
    };
    // The table has settled when it no longer reads the directory: then a question needs no descriptor.
    own("10.0.0.2");
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    let next = std::fs::File::open("/dev/null").unwrap().as_raw_fd();
    setrlimit(Resource::RLIMIT_NOFILE, u64::try_from(next).unwrap(), hard).unwrap();
    let server: std::net::SocketAddrV4 = "127.0.0.11:53".parse().unwrap();
    rustix::net::connect(&tcp, &server).unwrap();
    let before = lab.turns();
    for _ in 0..200 {
        own("10.0.0.2");
    }
    // A foreign name needs a socket: it cannot be asked, and that is said at once.
    let mut buffer = [0; 512];
    udp.send(&question("www.example", TYPE::A)).unwrap();
    let length = udp.recv(&mut buffer).unwrap();
    assert_eq!(Answer(buffer[..length].to_vec()).code(), RCODE::ServerFailure);
    assert!(lab.turns() - before < 2000, "{} turns", lab.turns() - before);
    setrlimit(Resource::RLIMIT_NOFILE, soft, hard).unwrap();
    let mut tcp = TcpStream::from(tcp);
    tcp.set_read_timeout(Some(DEADLINE)).unwrap();
    write_frame(&mut tcp, &question("web", TYPE::A));
    assert_eq!(Answer(read_frame(&mut tcp).unwrap()).data(), ["10.0.0.2"], "taken in when there is room again");
}

fn text(bytes: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}
