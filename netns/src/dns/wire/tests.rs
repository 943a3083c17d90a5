//! Messages well and badly formed. The parser of another author judges what we write.

use std::net::Ipv4Addr;

use simple_dns::{CLASS, Name, Packet, QCLASS, QTYPE, TYPE};

use super::*;

fn query(name: &str, kind: TYPE) -> Vec<u8> {
    let mut packet = Packet::new_query(7);
    let question =
        simple_dns::Question::new(Name::new_unchecked(name), QTYPE::TYPE(kind), QCLASS::CLASS(CLASS::IN), false);
    packet.questions.push(question);
    packet.build_bytes_vec().unwrap()
}

/// A message with one question, whose name is `name` as it stands in the message.
fn raw(name: &[u8], after: &[u8]) -> Vec<u8> {
    [&[0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0], name, after].concat()
}

#[test]
fn a_question_is_read_and_its_name_lowered() {
    let message = query("WwW.Example", TYPE::AAAA);
    let question = parse(&message).unwrap();
    assert_eq!(question.name(), b"\x03www\x07example");
    assert_eq!((question.kind, question.class, question.end), (kind::AAAA, CLASS_IN, message.len()));
    assert_eq!(question.udp_limit(), UDP_LIMIT);
    assert_eq!(parse(&raw(&[0], &[0, 2, 0, 1])).unwrap().name(), b"", "the root");
}

#[test]
fn names_up_to_the_limit_and_not_beyond() {
    let labels = |lengths: &[u8]| {
        let mut name: Vec<u8> =
            lengths.iter().flat_map(|&n| std::iter::once(n).chain(std::iter::repeat_n(b'a', n.into()))).collect();
        name.push(0);
        raw(&name, &[0, 1, 0, 1])
    };
    assert_eq!(parse(&labels(&[63, 63, 63, 61])).unwrap().name().len(), MAX_NAME);
    assert_eq!(parse(&labels(&[1; 127])).unwrap().name().len(), MAX_NAME);
    for long in [&[63, 63, 63, 62][..], &[63, 63, 63, 63], &[1; 128]] {
        assert_eq!(parse(&labels(long)).unwrap_err(), Reject::Code(Code::FormErr));
    }
}

#[test]
fn malformed_messages() {
    let malformed = Reject::Code(Code::FormErr);
    let tail: &[u8] = &[0, 1, 0, 1];
    let opt: &[u8] = &[0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0];
    let with = |count: u8, records: &[u8]| {
        let mut message = raw(&[1, b'a', 0], &[tail, records].concat());
        message[11] = count;
        message
    };
    for (what, message, verdict) in [
        ("nothing", Vec::new(), Some(Reject::Silent)),
        ("a short header", vec![0; 11], Some(Reject::Silent)),
        (
            "a response",
            {
                let mut m = raw(&[0], tail);
                m[2] |= 0x80;
                m
            },
            Some(Reject::Silent),
        ),
        (
            "an update",
            {
                let mut m = raw(&[0], tail);
                m[2] = 0x28;
                m
            },
            Some(Reject::Code(Code::NotImp)),
        ),
        ("no question", vec![0; 12], Some(malformed)),
        ("a name without an end", raw(&[1, b'a'], &[]), Some(malformed)),
        ("a label past the end", raw(&[9, b'a', 0], tail), Some(malformed)),
        ("a pointer", raw(&[0xC0, 12], tail), Some(malformed)),
        ("a pointer after a label", raw(&[1, b'a', 0xC0, 12], tail), Some(malformed)),
        ("label type 01", raw(&[0x41, b'a', 0], tail), Some(malformed)),
        ("label type 10", raw(&[0x81, b'a', 0], tail), Some(malformed)),
        ("no type", raw(&[0], &[]), Some(malformed)),
        ("half a class", raw(&[0], &[0, 1, 0]), Some(malformed)),
        ("an OPT record", with(1, opt), None),
        ("two OPT records", with(2, &[opt, opt].concat()), Some(malformed)),
        ("an OPT record cut short", with(1, &opt[..10]), Some(malformed)),
        ("an OPT record with a name", with(1, &[&[1, b'x'], opt].concat()), Some(malformed)),
        ("data past the end", with(1, &[&opt[..10], &[9]].concat()), Some(malformed)),
        (
            "another record, then OPT",
            with(2, &[&[0xC0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4, 1, 2, 3, 4], opt].concat()),
            None,
        ),
        ("a record less than announced", with(2, opt), Some(malformed)),
        ("more behind the end", with(0, b"more"), None),
    ] {
        assert_eq!(parse(&message).err(), verdict, "{what}");
    }
}

#[test]
fn what_a_client_can_take() {
    for (size, limit) in [(0, 512), (511, 512), (600, 600), (1232, 1232), (4096, 1232), (65535, 1232)] {
        let mut message = query("a", TYPE::A);
        let [high, low] = u16::to_be_bytes(size);
        message.extend_from_slice(&[0, 0, 41, high, low, 0, 0, 0, 0, 0, 0]);
        message[11] = 1;
        assert_eq!(parse(&message).unwrap().udp_limit(), limit);
    }
}

#[test]
fn an_answer_never_passes_its_limit_and_says_when_it_is_cut() {
    let message = query("web", TYPE::A);
    let question = parse(&message).unwrap();
    for limit in 0..200 {
        let mut out = b"before".to_vec();
        let mut reply = Reply::new(&mut out, &message, &question, Code::NoError, limit);
        let fits = (0..10).filter(|&n| reply.address(Ipv4Addr::new(10, 0, 0, n).into())).count();
        reply.finish(Code::NoError);
        let answer = out.strip_prefix(b"before").unwrap();
        let packet = Packet::parse(answer).unwrap();
        assert_eq!(packet.answers.len(), fits);
        assert_eq!(packet.has_flags(simple_dns::PacketFlag::TRUNCATION), fits < 10);
        assert!(answer.len() <= limit.max(message.len()));
    }
}

#[test]
fn an_answer_is_matched_by_id_and_question() {
    let asked = query("Web.Example", TYPE::A);
    let end = parse(&asked).unwrap().end;
    let mut good = query("wEB.example", TYPE::A);
    good[2] |= 0x80;
    assert!(answers(&good, &asked, end));
    let changed = |at: usize, value: u8| {
        let mut message = good.clone();
        message[at] = value;
        message
    };
    for (what, message) in [
        ("another id", changed(1, 8)),
        ("a question", changed(2, 0)),
        ("another name", changed(13, b'x')),
        ("another type", changed(end - 3, 28)),
        ("another class", changed(end - 1, 3)),
        ("two questions", changed(5, 2)),
        ("no question, no error", changed(5, 0)),
        ("cut short", good[..end - 1].to_vec()),
        ("half a header", good[..11].to_vec()),
    ] {
        assert!(!answers(&message, &asked, end), "{what}");
    }
    let mut refused = good[..12].to_vec();
    refused[3] = 5;
    refused[5] = 0;
    assert!(answers(&refused, &asked, end), "a refusal without the question");
}
