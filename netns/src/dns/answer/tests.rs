//! Random and damaged messages: whatever comes, an answer is well formed or there is none.

use simple_dns::{CLASS, Name, Packet, PacketFlag, QCLASS, QTYPE, TYPE};

use super::*;
use crate::dns::stream::{Frame, Progress};
use crate::dns::{Config, Network, Record, Upstreams, publish};

/// xorshift64*: the same numbers in every run.
struct Random(u64);

impl Random {
    fn next(&mut self, below: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let number = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33;
        usize::try_from(number).unwrap() % below
    }

    fn byte(&mut self) -> u8 {
        u8::try_from(self.next(256)).unwrap()
    }
}

fn table() -> Table {
    let dir = tempfile::tempdir().unwrap();
    let record = Record {
        container: "c1".into(),
        container_name: "demo-web-1".into(),
        names: ["web", "a.b.c", "with space", &"l".repeat(63)].map(Into::into).to_vec(),
        ipv4: Some([10, 0, 0, 2].into()),
        ipv6: Some("fd00::2".parse().unwrap()),
        network_name: "net".into(),
        project: Some("demo".into()),
        service: Some("web".into()),
        healthy: None,
    };
    publish(dir.path(), "n1", &record).unwrap();
    let mut table = Table::new(&Config {
        records: dir.path().to_owned(),
        networks: vec![Network { id: "n1".into(), name: "net".into(), internal: false }],
        links: Vec::new(),
        project: Some("demo".into()),
        upstreams: Upstreams::Listed(Vec::new()),
    });
    table.refresh();
    table
}

fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for name in ["web", "a.b.c.net", "web.demo", "2.0.0.10.in-addr.arpa", "www.example.com", &"l".repeat(63)] {
        for kind in [TYPE::A, TYPE::AAAA, TYPE::PTR, TYPE::TXT] {
            let mut packet = Packet::new_query(0x0102);
            packet.set_flags(PacketFlag::RECURSION_DESIRED);
            let (kind, class) = (QTYPE::TYPE(kind), QCLASS::CLASS(CLASS::IN));
            packet.questions.push(simple_dns::Question::new(Name::new_unchecked(name), kind, class, false));
            seeds.push(packet.build_bytes_vec().unwrap());
            let opt = simple_dns::rdata::OPT { opt_codes: Vec::new(), udp_packet_size: 1232, version: 0 };
            *packet.opt_mut() = Some(opt);
            seeds.push(packet.build_bytes_vec().unwrap());
        }
    }
    seeds
}

fn damage(message: &mut Vec<u8>, random: &mut Random) {
    for _ in 0..random.next(6) {
        let length = message.len().max(1);
        match random.next(5) {
            0 => message.truncate(random.next(length)),
            1 => message.extend((0..random.next(40)).map(|_| random.byte())),
            2 => message.insert(random.next(length).min(message.len()), random.byte()),
            3 if !message.is_empty() => drop(message.remove(random.next(length))),
            _ => {
                if let Some(byte) = message.get_mut(random.next(length)) {
                    // Values that mean something: lengths, pointers, counts.
                    *byte = [random.byte(), 0, 1, 63, 64, 0xC0, 0xFF][random.next(7)];
                }
            }
        }
    }
}

#[test]
fn no_message_makes_it_fail_and_every_answer_is_well_formed() {
    let mut table = table();
    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    let seeds = seeds();
    let (mut addresses, mut answered) = (Vec::new(), 0);
    for round in 0..200_000 {
        let mut message = seeds[random.next(seeds.len())].clone();
        if round % 50 == 0 {
            message = (0..random.next(600)).map(|_| random.byte()).collect();
        }
        damage(&mut message, &mut random);
        let transport = if round % 2 == 0 { Transport::Udp } else { Transport::Tcp };
        let mut out = Vec::new();
        match answer(&message, transport, &mut table, &mut addresses, &mut out) {
            Verdict::Answered => {
                answered += 1;
                assert_eq!(out[..2], message[..2]);
                assert_eq!(out[2] & 0x80, 0x80);
                assert!(out.len() <= message.len().max(1232), "{message:x?}");
                // The other parser knows fewer types and classes than there are numbers.
                if let Ok(packet) = Packet::parse(&out) {
                    assert!(packet.answers.len() <= 2);
                } else {
                    let question = wire::parse(&message).unwrap();
                    assert!(out.len() >= question.end, "{out:x?}");
                }
            }
            Verdict::Forward(question) => {
                assert!(question.end <= message.len());
                wire::reply_code(&mut out, &message, &question, Code::ServFail);
                assert!(wire::answers(&out, &message, question.end), "{message:x?}");
            }
            Verdict::Ignored => assert!(out.is_empty()),
        }
        // The same bytes as if a resolver had sent them.
        let end = 12 + random.next(40);
        let _ = wire::answers(&message, &seeds[0], end.min(seeds[0].len()));
    }
    assert!(answered > 10_000, "{answered} answers: the damage leaves too little");
}

#[test]
fn no_stream_makes_it_fail() {
    use std::io::Write as _;
    let mut random = Random(42);
    for _ in 0..2000 {
        let (mut ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        let mut bytes: Vec<u8> = (0..random.next(300)).map(|_| random.byte()).collect();
        if let Some(first) = bytes.first_mut() {
            *first %= 2;
        }
        ours.write_all(&bytes).unwrap();
        drop(ours);
        let (theirs, mut frame, mut taken) = (theirs.into(), Frame::default(), 0);
        while let Progress::Complete(message) = frame.read(&theirs, 4096) {
            assert_eq!(message, bytes[taken + 2..taken + 2 + message.len()]);
            taken += message.len() + 2;
        }
        assert!(taken <= bytes.len());
    }
}
