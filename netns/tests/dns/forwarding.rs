//! Questions about the rest of the world.

use std::collections::HashSet;
use std::net::{Ipv4Addr, UdpSocket};
use std::sync::atomic::{AtomicUsize, Ordering};

use simple_dns::{RCODE, TYPE};
use umiak_netns::dns::Upstreams;

use crate::support::*;

const ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

fn yes(one: &Received) -> Vec<Vec<u8>> {
    vec![answer_with(&one.message, RCODE::NoError, &[ADDRESS])]
}

fn silent(_: &Received) -> Vec<Vec<u8>> {
    Vec::new()
}

fn code(code: RCODE) -> impl Fn(&Received) -> Vec<Vec<u8>> + Send + Sync + 'static {
    move |one| vec![answer_with(&one.message, code, &[])]
}

#[test]
fn both_ways_byte_for_byte_but_for_the_id() {
    let lab = lab();
    let upstream = upstream(&lab.host, "127.0.0.1", |one| {
        // Something that no parser of ours understands, behind the question.
        let mut answer = answer_with(&one.message, RCODE::NoError, &[ADDRESS]);
        answer.extend_from_slice(b"\xFF\x00 trailing");
        vec![answer]
    });
    let mut ids = HashSet::new();
    let mut ports = HashSet::new();
    for round in 0..50 {
        let mut query = edns_question("WwW.ExAmPlE.com", TYPE::A, 1232);
        query[1] = round;
        let answer = lab.send(&query);
        let received = upstream.received();
        let last = received.last().unwrap();
        assert_eq!(last.message[2..], query[2..], "case, flags and EDNS are the client's");
        assert!(answer.0.ends_with(b"\xFF\x00 trailing"));
        assert_eq!(received.len(), usize::from(round) + 1);
        ids.insert([last.message[0], last.message[1]]);
        ports.insert(last.from.port());
    }
    assert!(ids.len() > 45 && ports.len() > 25, "ids {} ports {}", ids.len(), ports.len());
}

#[test]
fn a_cut_answer_brings_the_client_to_tcp_and_us_to_the_upstreams_tcp() {
    let lab = lab();
    let many: Vec<_> = (0..2000_u16).map(|n| Ipv4Addr::from(0xC000_0000 + u32::from(n))).collect();
    let upstream = upstream(&lab.host, "127.0.0.1", move |one| {
        let mut answer = answer_with(&one.message, RCODE::NoError, if one.tcp { &many } else { &[] });
        if !one.tcp {
            answer[2] |= 0x02;
        }
        vec![answer]
    });
    assert!(lab.ask("big.example", TYPE::A).is_truncated());
    assert_eq!(lab.container.dig(&["+short", "big.example"]).lines().count(), 2000);
    let kinds: Vec<_> = upstream.received().iter().map(|one| one.tcp).collect();
    assert_eq!(kinds, [false, false, true]);
}

#[test]
fn forged_and_foreign_answers_are_not_believed() {
    let lab = lab();
    let _upstream = upstream(&lab.host, "127.0.0.1", |one| {
        let good = answer_with(&one.message, RCODE::NoError, &[ADDRESS]);
        let lie = answer_with(&one.message, RCODE::NoError, &[Ipv4Addr::new(6, 6, 6, 6)]);
        let other_id = [&[lie[0] ^ 1, lie[1]], &lie[2..]].concat();
        let mut other_name = lie.clone();
        other_name[13] = b'x';
        let mut other_type = lie.clone();
        let end = one.message.len();
        other_type[end - 3] = 28;
        let mut question = lie.clone();
        question[2] &= 0x7F;
        // From another port of the same host: the kernel drops it.
        let elsewhere = UdpSocket::bind("127.0.0.1:0").unwrap();
        elsewhere.send_to(&lie, one.from).unwrap();
        vec![vec![], lie[..11].to_vec(), other_id, other_name, other_type, question, lie[..20].to_vec(), good]
    });
    assert_eq!(lab.ask("www.example", TYPE::A).data(), ["192.0.2.1"]);
    for _ in 0..3 {
        // More wrong ones than are looked at in one go.
        assert_eq!(lab.ask("www.example", TYPE::A).data(), ["192.0.2.1"]);
    }
}

#[test]
fn nobody_listening_is_servfail_at_once() {
    let lab = lab();
    std::fs::write(lab.resolv_conf(), "nameserver 127.0.0.1\nnameserver 127.0.0.2\nnameserver 203.0.113.1\n").unwrap();
    assert_eq!(lab.ask("www.example", TYPE::A).code(), RCODE::ServerFailure);
    let mut stream = lab.connect();
    write_frame(&mut stream, &question("www.example", TYPE::A));
    assert_eq!(Answer(read_frame(&mut stream).unwrap()).code(), RCODE::ServerFailure);
}

#[test]
fn a_resolver_that_is_not_there_or_cannot_help_is_passed_over() {
    let lab = lab();
    std::fs::write(lab.resolv_conf(), "nameserver 127.0.0.1\nnameserver 127.0.0.2\nnameserver 127.0.0.3\n").unwrap();
    let good = upstream(&lab.host, "127.0.0.3", yes);
    assert_eq!(lab.ask("www.example", TYPE::A).data(), ["192.0.2.1"], "two not there");
    for refusal in [RCODE::ServerFailure, RCODE::Refused, RCODE::NotImplemented] {
        let _first = upstream(&lab.host, "127.0.0.1", code(refusal));
        assert_eq!(lab.ask("www.example", TYPE::A).data(), ["192.0.2.1"], "{refusal:?}");
        let mut stream = lab.connect();
        write_frame(&mut stream, &question("www.example", TYPE::A));
        assert_eq!(Answer(read_frame(&mut stream).unwrap()).data(), ["192.0.2.1"], "{refusal:?} over tcp");
    }
    let before = good.received().len();
    let _first = upstream(&lab.host, "127.0.0.1", code(RCODE::NameError));
    assert_eq!(lab.ask("www.example", TYPE::A).code(), RCODE::NameError, "that is an answer");
    assert_eq!(good.received().len(), before);
}

#[test]
fn when_all_refuse_the_answer_is_servfail() {
    let lab = lab();
    std::fs::write(lab.resolv_conf(), "nameserver 127.0.0.1\nnameserver 127.0.0.2\n").unwrap();
    let one = upstream(&lab.host, "127.0.0.1", code(RCODE::Refused));
    let two = upstream(&lab.host, "127.0.0.2", code(RCODE::Refused));
    assert_eq!(lab.ask("www.example", TYPE::A).code(), RCODE::ServerFailure);
    assert_eq!((one.received().len(), two.received().len()), (1, 1));
}

#[test]
fn a_silent_resolver_costs_a_step_then_the_next_is_asked() {
    let lab = lab();
    std::fs::write(lab.resolv_conf(), "nameserver 127.0.0.1\nnameserver 127.0.0.2\n").unwrap();
    let first = upstream(&lab.host, "127.0.0.1", silent);
    let second = upstream(&lab.host, "127.0.0.2", yes);
    for _ in 0..5 {
        assert_eq!(lab.ask("www.example", TYPE::A).data(), ["192.0.2.1"]);
    }
    // After three in a row it is asked last, so no more.
    assert_eq!((first.received().len(), second.received().len()), (3, 5));
}

#[test]
fn a_lost_datagram_is_sent_again_and_silence_ends_in_servfail() {
    let lab = lab();
    let seen = AtomicUsize::new(0);
    let upstream = upstream(&lab.host, "127.0.0.1", move |one| {
        let first = seen.fetch_add(1, Ordering::Relaxed) == 0;
        if first || one.message.windows(6).any(|part| part == b"\x05never") { Vec::new() } else { yes(one) }
    });
    assert_eq!(lab.ask("www.example", TYPE::A).data(), ["192.0.2.1"]);
    assert_eq!(upstream.received().len(), 2);
    assert_eq!(lab.ask("never.example", TYPE::A).code(), RCODE::ServerFailure);
    assert_eq!(upstream.received().len(), 4);
}

#[test]
fn an_answer_to_the_first_attempt_is_taken_even_when_late() {
    let lab = lab();
    // The only resolver gets the question twice; the answer to the first one is what it sends, to the
    // socket that the first one came from.
    let server = lab.host.run(|| UdpSocket::bind("127.0.0.2:53").unwrap());
    std::fs::write(lab.resolv_conf(), "nameserver 127.0.0.2\n").unwrap();
    let answerer = std::thread::spawn(move || {
        server.set_read_timeout(Some(DEADLINE)).unwrap();
        let mut buffer = [0; 512];
        let mut first = None;
        for _ in 0..2 {
            let (length, from) = server.recv_from(&mut buffer).unwrap();
            let one = Received { message: buffer[..length].to_vec(), from, tcp: false };
            first.get_or_insert(one);
        }
        let first = first.unwrap();
        server.send_to(&yes(&first)[0], first.from).unwrap();
    });
    assert_eq!(lab.ask("www.example", TYPE::A).data(), ["192.0.2.1"]);
    answerer.join().unwrap();
}

#[test]
fn internal_networks_alone_send_nothing_out() {
    let mut lab = lab_with(|config| config.networks[0].internal = true);
    let upstream = upstream(&lab.host, "127.0.0.1", yes);
    lab.publish(&record("ab", "web", &[], "10.0.0.2"));
    for name in ["www.example", "nobody", "x.web", "9.9.9.9.in-addr.arpa"] {
        for kind in [TYPE::A, TYPE::AAAA, TYPE::PTR, TYPE::TXT] {
            assert_eq!(lab.ask(name, kind).code(), RCODE::ServerFailure, "{name}");
        }
    }
    let mut chaos = question("version.bind", TYPE::TXT);
    let end = chaos.len();
    chaos[end - 1] = 3;
    assert_eq!(lab.send(&chaos).code(), RCODE::ServerFailure);
    let mut stream = lab.connect();
    write_frame(&mut stream, &question("www.example", TYPE::A));
    assert_eq!(Answer(read_frame(&mut stream).unwrap()).code(), RCODE::ServerFailure);
    assert_eq!(lab.addresses("web"), ["10.0.0.2"]);
    assert_eq!(upstream.received(), []);

    // One network with a way out is enough.
    let mut config = lab.config.clone();
    config.networks.push(network("n2", false));
    lab.reconfigure(config);
    assert_eq!(lab.ask("www.example", TYPE::A).data(), ["192.0.2.1"]);
}

#[test]
fn known_names_are_never_asked_outside() {
    let lab = lab();
    let upstream = upstream(&lab.host, "127.0.0.1", yes);
    lab.publish(&record("ab", "web", &[], "10.0.0.2"));
    for kind in [TYPE::A, TYPE::AAAA, TYPE::SRV, TYPE::TXT] {
        assert_eq!(lab.ask("web", kind).code(), RCODE::NoError);
    }
    assert_eq!(upstream.received(), []);
}

#[test]
fn the_hosts_resolv_conf_is_followed() {
    let lab = lab();
    let _first = upstream(&lab.host, "127.0.0.1", yes);
    let other = upstream(&lab.host, "127.0.0.9", |one| {
        vec![answer_with(&one.message, RCODE::NoError, &[Ipv4Addr::new(192, 0, 2, 9)])]
    });
    assert_eq!(lab.ask("www.example", TYPE::A).data(), ["192.0.2.1"]);
    let aside = lab.directory.path().join("aside");
    std::fs::write(&aside, "nameserver 127.0.0.9\n").unwrap();
    std::fs::rename(&aside, lab.resolv_conf()).unwrap();
    assert_eq!(lab.ask("www.example", TYPE::A).data(), ["192.0.2.9"]);
    std::fs::remove_file(lab.resolv_conf()).unwrap();
    assert_eq!(lab.ask("www.example", TYPE::A).data(), ["192.0.2.9"], "the last one known");
    assert_eq!(other.received().len(), 2);
}

#[test]
fn a_listed_loopback_resolver_is_the_containers_own() {
    let lab = lab_with(|config| config.upstreams = Upstreams::Listed(vec!["127.0.0.1:53".parse().unwrap()]));
    let hosts = upstream(&lab.host, "127.0.0.1", code(RCODE::NameError));
    let own = upstream(&lab.container, "127.0.0.1", yes);
    assert_eq!(lab.ask("www.example", TYPE::A).data(), ["192.0.2.1"]);
    let mut stream = lab.connect();
    write_frame(&mut stream, &question("www.example", TYPE::A));
    assert_eq!(Answer(read_frame(&mut stream).unwrap()).data(), ["192.0.2.1"]);
    assert_eq!((hosts.received().len(), own.received().len()), (0, 2));
}

#[test]
fn upstreams_over_ipv6() {
    let lab = lab_with(|config| config.upstreams = Upstreams::Listed(vec!["[fd00::53]:53".parse().unwrap()]));
    assert!(lab.host.command("ip", &["addr", "add", "fd00::53/128", "dev", "lo", "nodad"]).status.success());
    let _upstream = upstream(&lab.host, "fd00::53", yes);
    assert_eq!(lab.ask("www.example", TYPE::A).data(), ["192.0.2.1"]);
}

#[test]
fn under_a_flood_of_slow_names_the_own_ones_are_answered_and_the_rest_refused() {
    let (soft, hard) = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE).unwrap();
    nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE, hard.min(8192).max(soft), hard).unwrap();
    let lab = lab();
    lab.publish(&record("ab", "web", &[], "10.0.0.2"));
    let _upstream = upstream(&lab.host, "127.0.0.1", silent);
    lab.container.run(|| {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.connect("127.0.0.11:53").unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        let mut refused = 0;
        let mut buffer = [0; 512];
        let mut slow = question("slow.example", TYPE::A);
        let mut own = question("web", TYPE::A);
        for number in 0..1500_u16 {
            [slow[0], slow[1]] = number.to_be_bytes();
            [own[0], own[1]] = (number | 0x8000).to_be_bytes();
            socket.send(&slow).unwrap();
            socket.send(&own).unwrap();
            loop {
                let length = socket.recv(&mut buffer).unwrap();
                let answer = Answer(buffer[..length].to_vec());
                if answer.0[..2] == own[..2] {
                    assert_eq!(answer.data(), ["10.0.0.2"]);
                    break;
                }
                refused += usize::from(answer.code() == RCODE::Refused);
            }
        }
        assert!(refused >= 1500 - 1024 - 1, "{refused} of 1500 refused");
    });
}
