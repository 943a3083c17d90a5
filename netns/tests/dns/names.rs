//! The names of the container's own networks.

use std::process::Command;

use simple_dns::{PacketFlag, RCODE, TYPE};
use umiak_netns::dns::{Ports, Sockets};

use crate::support::*;

#[test]
fn dig_finds_a_peer_through_port_53_over_udp_and_tcp() {
    let lab = lab();
    lab.publish(&of_service(record("ab", "demo-web-1", &["abababababab"], "10.0.0.2"), "demo", "web"));
    assert_eq!(lab.container.dig(&["+short", "web"]), "10.0.0.2");
    assert_eq!(lab.container.dig(&["+short", "+tcp", "web"]), "10.0.0.2");
    assert_eq!(lab.container.dig(&["+short", "-x", "10.0.0.2"]), "demo-web-1.n1_net.");
    let full = lab.container.dig(&["+noedns", "web"]);
    assert!(full.contains("status: NOERROR") && full.contains("flags: qr rd ra;"), "{full}");
    let ttl = full.lines().find(|line| line.starts_with("web.")).and_then(|line| line.split_whitespace().nth(1));
    assert!(ttl.and_then(|ttl| ttl.parse::<u32>().ok()).is_some_and(|ttl| ttl <= 1), "{full}");
}

#[test]
fn the_container_may_bind_port_53_itself() {
    let lab = lab();
    lab.publish(&record("ab", "web", &[], "10.0.0.2"));
    lab.container.run(|| {
        let _udp = std::net::UdpSocket::bind("0.0.0.0:53").unwrap();
        let _tcp = std::net::TcpListener::bind("0.0.0.0:53").unwrap();
        assert_eq!(exchange(&question("web", TYPE::A)).unwrap().data(), ["10.0.0.2"]);
    });
}

#[test]
fn the_redirect_is_two_rules_and_a_new_responder_replaces_it() {
    let lab = lab();
    let expected = |ports: Ports| {
        format!(
            "table ip umiak_dns {{\n\tchain output {{\n\t\ttype nat hook output priority dstnat; policy accept;\n\
             \t\tip daddr 127.0.0.11 udp dport 53 dnat to :{}\n\t\tip daddr 127.0.0.11 tcp dport 53 dnat to :{}\n\t}}\n}}\n",
            ports.udp, ports.tcp
        )
    };
    let ruleset = |space: &Space| String::from_utf8(space.command("nft", &["list", "ruleset"]).stdout).unwrap();
    let normal = |text: String| text.replace("priority -100;", "priority dstnat;");
    assert_eq!(normal(ruleset(&lab.container)), expected(lab.ports));

    // The ports of one that is alive are taken: others are used.
    let other = lab.container.run(|| Sockets::bind(Some(lab.ports)).unwrap());
    assert!(other.ports().udp != lab.ports.udp && other.ports().tcp != lab.ports.tcp);
    assert_eq!(normal(ruleset(&lab.container)), expected(other.ports()));

    // Those of one that is dead are taken over, so that clients' sockets go on working.
    // More than once, for a program being started by another test may still hold a copy of the sockets.
    let ports = other.ports();
    drop(other);
    let mut heir = None;
    until("the ports are taken over", || {
        heir = None;
        heir = Some(lab.container.run(|| Sockets::bind(Some(ports)).unwrap()));
        heir.as_ref().is_some_and(|heir| heir.ports() == ports)
    });
    assert_eq!(normal(ruleset(&lab.container)), expected(ports));
    assert_eq!(ruleset(&lab.host), "", "the host's rules are not touched");
}

#[test]
fn every_form_of_a_name_is_known() {
    let lab = lab_with(|config| {
        config.links = vec![link("database", "db"), link("short.alias", "demo-db-1"), link("dead", "nobody")];
    });
    let db = record("cd", "demo-db-1", &["Alias.With.Dots", "cdcdcdcdcdcd", "host1"], "10.0.0.3");
    lab.publish(&of_service(db, "demo", "db"));
    for name in [
        "db",
        "DB",
        "dB.",
        "demo-db-1",
        "alias.with.dots",
        "ALIAS.with.DOTS.n1_net",
        "cdcdcdcdcdcd",
        "host1",
        "db.n1_net",
        "demo-db-1.N1_NET.",
        "db.demo",
        "database",
        "DataBase",
        "short.alias",
    ] {
        assert_eq!(lab.addresses(name), ["10.0.0.3"], "{name}");
    }
    // Nobody answers on the host's port 53 here.
    for name in ["d", "dbx", "x.db", "db.other", "demo-db-1.demo", "db.n1_net.n1_net", "dead", "n1_net", "demo"] {
        assert_eq!(lab.ask(name, TYPE::A).code(), RCODE::ServerFailure, "{name}");
    }
}

#[test]
fn odd_names_are_harmless_and_found_where_dns_can_carry_them() {
    let lab = lab();
    let longest = "l".repeat(63);
    let too_long = "l".repeat(64);
    let odd = [
        "with space",
        "with,comma",
        "with\nnewline",
        "a.dot",
        &longest,
        &too_long,
        "UPPER",
        "käse",
        "xn--kse-qla",
        "a..b",
        "",
    ];
    lab.publish(&record("ef", "odd", &odd, "10.0.0.4"));
    for name in ["with space", "with,comma", "with\nnewline", "a.dot", &longest, "upper", "käse", "xn--kse-qla", "odd"]
    {
        assert_eq!(lab.addresses(name), ["10.0.0.4"], "{name:?}");
    }
    // `dig` writes the space as the zone file format does.
    assert_eq!(lab.container.dig(&["+short", r"with\032space"]), "10.0.0.4");
    // A dot inside a label is not the dot between two.
    let mut query = question("aXdot", TYPE::A);
    query[14] = b'.';
    assert_eq!(lab.send(&query).code(), RCODE::ServerFailure);
    assert_eq!(lab.addresses("odd"), ["10.0.0.4"], "alive");
}

#[test]
fn replicas_come_in_rotating_order() {
    let lab = lab();
    for (id, address) in [("a1", "10.0.0.1"), ("a2", "10.0.0.2"), ("a3", "10.0.0.3")] {
        lab.publish(&of_service(record(id, &format!("demo-web-{id}"), &[], address), "demo", "web"));
    }
    let mut firsts = Vec::new();
    for _ in 0..6 {
        // A client that asks for both families each time still meets all of them.
        assert_eq!(lab.ask("web", TYPE::AAAA).data(), [""; 0]);
        let addresses = lab.addresses("web");
        let mut sorted = addresses.clone();
        sorted.sort();
        assert_eq!(sorted, ["10.0.0.1", "10.0.0.2", "10.0.0.3"]);
        firsts.push(addresses[0].clone());
    }
    for address in ["10.0.0.1", "10.0.0.2", "10.0.0.3"] {
        assert_eq!(firsts.iter().filter(|first| *first == address).count(), 2, "{firsts:?}");
    }
}

#[test]
fn other_types_of_a_known_name_are_empty_not_unknown() {
    let lab = lab();
    let mut both = record("ab", "six", &[], "10.0.0.2");
    both.ipv6 = Some("fd00::2".parse().unwrap());
    lab.publish(&both);
    lab.publish(&record("cd", "four", &[], "10.0.0.3"));
    assert_eq!(lab.ask("six", TYPE::AAAA).data(), ["fd00::2"]);
    for kind in [TYPE::AAAA, TYPE::SRV, TYPE::MX, TYPE::TXT, TYPE::SVCB, TYPE::CNAME, TYPE::PTR] {
        let answer = lab.ask("four", kind);
        assert_eq!((answer.code(), answer.data().len()), (RCODE::NoError, 0), "{kind:?}");
    }
    assert_eq!(lab.container.dig(&["+short", "+notcp", "six", "ANY"]), "10.0.0.2\nfd00::2");
    assert_eq!(lab.container.dig(&["+short", "-x", "fd00::2"]), "six.n1_net.");
    let reverse = lab.ask("2.0.0.10.in-addr.arpa", TYPE::A);
    assert_eq!((reverse.code(), reverse.data().len()), (RCODE::NoError, 0));
    assert_eq!(lab.ask("9.0.0.10.in-addr.arpa", TYPE::PTR).code(), RCODE::ServerFailure);
}

#[test]
fn services_of_the_own_project_win_on_a_shared_network() {
    let lab = lab_with(|config| config.networks = vec![network("shared", false), network("own", false)]);
    let publish = |network: &str, record: &umiak_netns::dns::Record| {
        umiak_netns::dns::publish(lab.records(), network, record).unwrap();
    };
    publish("shared", &of_service(record("a1", "other-web-1", &[], "10.1.0.1"), "other", "web"));
    publish("shared", &of_service(record("a2", "other-cache-1", &[], "10.1.0.2"), "other", "cache"));
    assert_eq!(lab.addresses("web"), ["10.1.0.1"], "the only one there is");
    publish("shared", &of_service(record("b1", "demo-web-1", &[], "10.1.0.3"), "demo", "web"));
    assert_eq!(lab.addresses("web"), ["10.1.0.3"], "the own project's");
    assert_eq!(lab.addresses("web.shared_net"), ["10.1.0.3"]);
    assert_eq!(lab.addresses("web.other"), ["10.1.0.1"], "the other project's by its full name");
    assert_eq!(lab.addresses("web.demo"), ["10.1.0.3"]);
    assert_eq!(lab.addresses("other-web-1"), ["10.1.0.1"]);

    // The own project's on a later network beats another project's on the first.
    publish("own", &of_service(record("b2", "demo-cache-1", &[], "10.2.0.2"), "demo", "cache"));
    assert_eq!(lab.addresses("cache"), ["10.2.0.2"]);
    // A container on both is answered with its address on the first one.
    publish("own", &of_service(record("b1", "demo-web-1", &[], "10.2.0.3"), "demo", "web"));
    assert_eq!(lab.addresses("web"), ["10.1.0.3"]);
    assert_eq!(lab.addresses("web.own_net"), ["10.2.0.3"]);
}

#[test]
fn more_replicas_than_fit_are_cut_and_complete_over_tcp() {
    let lab = lab();
    for number in 0..100 {
        let id = format!("{number:02x}");
        let address = format!("10.0.1.{number}");
        lab.publish(&of_service(record(&id, &format!("demo-many-{number}"), &[], &address), "demo", "many"));
    }
    let plain = lab.ask("many", TYPE::A);
    assert!(plain.is_truncated() && plain.0.len() <= 512 && plain.data().len() == 30, "{}", plain.0.len());
    let more = lab.send(&edns_question("many", TYPE::A, 4096));
    assert!(more.is_truncated() && more.0.len() <= 1232 && more.data().len() > 70);
    assert!(more.packet().opt().is_some(), "a client with EDNS gets EDNS");
    let mut stream = lab.connect();
    write_frame(&mut stream, &question("many", TYPE::A));
    let all = Answer(read_frame(&mut stream).unwrap());
    assert!(!all.is_truncated());
    assert_eq!(all.data().len(), 100);
    // dig finds its own way to TCP.
    assert_eq!(lab.container.dig(&["+short", "many"]).lines().count(), 100);
}

#[test]
fn messages_that_are_no_questions_are_refused_or_ignored() {
    let lab = lab();
    lab.publish(&record("ab", "web", &[], "10.0.0.2"));
    let good = question("web", TYPE::A);
    let changed = |at: usize, value: u8| {
        let mut query = good.clone();
        query[at] = value;
        query
    };
    for (what, query, code) in [
        ("another opcode", changed(2, 0x29), RCODE::NotImplemented),
        ("no question", changed(5, 0), RCODE::FormatError),
        ("two questions, one there", changed(5, 2), RCODE::FormatError),
        ("a pointer in the question", changed(12, 0xC0), RCODE::FormatError),
        ("a reserved label type", changed(12, 0x40), RCODE::FormatError),
        ("a label past the end", changed(12, 63), RCODE::FormatError),
        ("nothing behind the name", good[..good.len() - 3].to_vec(), RCODE::FormatError),
        ("a record announced, not there", changed(11, 1), RCODE::FormatError),
        ("only a header", good[..12].to_vec(), RCODE::FormatError),
        ("EDNS", edns_question("web", TYPE::A, 1232), RCODE::NoError),
    ] {
        let answer = lab.send(&query);
        assert_eq!(answer.code(), code, "{what}");
        assert!(answer.packet().has_flags(PacketFlag::RESPONSE), "{what}");
    }
    assert!(lab.container.dig(&["+edns=1", "+noednsnegotiation", "web"]).contains("status: BADVERS"));
    // No answer to these; that the next question is answered shows that they were looked at.
    lab.container.run(|| {
        let socket = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        for silent in [vec![], vec![0; 11], changed(2, 0x81), vec![0xFF; 1400], vec![0; 9000]] {
            socket.send_to(&silent, "127.0.0.11:53").unwrap();
        }
        let mut last = good.clone();
        last[0] = 0x77;
        socket.send_to(&last, "127.0.0.11:53").unwrap();
        let mut buffer = [0; 512];
        let length = socket.recv(&mut buffer).unwrap();
        assert_eq!(buffer[0], 0x77);
        assert_eq!(Answer(buffer[..length].to_vec()).data(), ["10.0.0.2"]);
    });
}

#[test]
fn the_c_library_resolves_through_it() {
    let lab = lab();
    lab.publish(&record("ab", "web", &["alias"], "10.0.0.2"));
    let etc = lab.directory.path().join("resolv.inside");
    std::fs::write(&etc, "nameserver 127.0.0.11\noptions ndots:0\n").unwrap();
    let script = format!("mount --bind {} /etc/resolv.conf && getent hosts alias", etc.display());
    let output = lab.container.run(|| Command::new("unshare").args(["-m", "sh", "-c", &script]).output().unwrap());
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.starts_with("10.0.0.2 "), "{text}{} {}", output.status, String::from_utf8_lossy(&output.stderr));
}
