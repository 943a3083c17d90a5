//! Holding ports of the host, and who holds them.

#![allow(clippy::unwrap_used, reason = "the clippy.toml exception covers test functions only")]

mod common;

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, TcpListener, TcpStream, UdpSocket};

use common::{HOST, NEIGHBOUR, on_a_host, published};
use umiak_netns::firewall::{self, Protocol, Published};
use umiak_netns::holder::Holder;
use umiak_netns::publish::{PortSpec, PublishError, Reserved, reserve};

fn spec(host_ip: Option<&str>, host_ports: Option<(u16, u16)>, protocol: Protocol) -> PortSpec {
    PortSpec { host_ip: host_ip.map(|ip| ip.parse().unwrap()), host_ports, container_port: 80, protocol }
}

fn tcp(host_ip: Option<&str>, port: u16) -> PortSpec {
    spec(host_ip, Some((port, port)), Protocol::Tcp)
}

fn addresses(reserved: &[Reserved]) -> Vec<(String, u16)> {
    reserved.iter().map(|port| (port.host_ip.to_string(), port.host_port)).collect()
}

fn taken(result: Result<Vec<Reserved>, PublishError>) -> String {
    result.unwrap_err().to_string()
}

#[test]
fn a_port_is_held_on_all_addresses_or_on_one() {
    on_a_host(|_| {
        let all = reserve(&[tcp(None, 8080)]).unwrap();
        assert_eq!(addresses(&all), [("0.0.0.0".to_owned(), 8080), ("::".to_owned(), 8080)]);
        // Another protocol is another port.
        let udp = reserve(&[spec(None, Some((8080, 8080)), Protocol::Udp)]).unwrap();
        // Other addresses beside each other.
        let some = reserve(&[tcp(Some("127.0.0.1"), 9090), tcp(Some(HOST), 9090), tcp(Some("2001:db8::1"), 9090)]);
        assert_eq!(some.unwrap().len(), 3);
        for host_ip in [None, Some("0.0.0.0"), Some("127.0.0.1"), Some("::"), Some("2001:db8::1")] {
            assert!(reserve(&[tcp(host_ip, 8080)]).is_err(), "{host_ip:?}");
        }
        // Nothing is held after a failure, and nothing once dropped.
        assert!(reserve(&[tcp(None, 7070), tcp(None, 8080)]).is_err());
        drop((all, udp));
        assert!(reserve(&[tcp(None, 7070), tcp(None, 8080)]).is_ok());
    });
}

#[test]
fn the_kernel_picks_and_ranges_are_gone_through() {
    on_a_host(|_| {
        let picked = reserve(&[spec(None, None, Protocol::Tcp), spec(None, None, Protocol::Udp)]).unwrap();
        assert_eq!(picked.len(), 4);
        assert!(picked.iter().all(|port| port.host_port != 0));
        assert_eq!(picked[0].host_port, picked[1].host_port);

        let range = spec(Some("127.0.0.1"), Some((8000, 8002)), Protocol::Tcp);
        let held: Vec<Reserved> = (0..3).flat_map(|_| reserve(std::slice::from_ref(&range)).unwrap()).collect();
        assert_eq!(held.iter().map(|port| port.host_port).collect::<Vec<_>>(), [8000, 8001, 8002]);
        assert_eq!(
            taken(reserve(std::slice::from_ref(&range))),
            "all of 127.0.0.1:8000-8002/tcp are allocated already"
        );
        drop(held);
        // In one call too.
        assert_eq!(reserve(&[range.clone(), range]).unwrap()[1].host_port, 8001);
    });
}

#[test]
fn ranges_are_matched_one_to_one() {
    let expand = |host, container| PortSpec::expand(None, host, container, Protocol::Tcp);
    let ports =
        |specs: Vec<PortSpec>| specs.iter().map(|spec| (spec.host_ports, spec.container_port)).collect::<Vec<_>>();
    assert_eq!(
        ports(expand(Some(8000..=8001), 80..=81).unwrap()),
        [(Some((8000, 8000)), 80), (Some((8001, 8001)), 81)]
    );
    assert_eq!(ports(expand(Some(8000..=8009), 80..=80).unwrap()), [(Some((8000, 8009)), 80)]);
    assert_eq!(ports(expand(None, 80..=81).unwrap()), [(None, 80), (None, 81)]);
    assert!(expand(Some(8000..=8001), 80..=82).is_err());
}

#[test]
fn a_clash_names_its_holder() {
    on_a_host(|host| {
        let me = std::process::id();
        let name = std::fs::read_to_string("/proc/self/comm").unwrap().trim().to_owned();
        let listener = TcpListener::bind("0.0.0.0:8080").unwrap();
        let socket = UdpSocket::bind("127.0.0.1:53").unwrap();
        assert_eq!(
            taken(reserve(&[tcp(None, 8080)])),
            format!("Bind for 0.0.0.0:8080 failed: port is already allocated by {name} (pid {me})")
        );
        assert_eq!(
            taken(reserve(&[spec(Some("127.0.0.1"), Some((53, 53)), Protocol::Udp)])),
            format!("Bind for 127.0.0.1:53 failed: port is already allocated (udp) by {name} (pid {me})")
        );
        drop((listener, socket));

        // A container's port is held by a socket that shows in no table.
        let network = host.named("web");
        let container = host.container(&[&network]);
        let held = reserve(&[tcp(None, 8080)]).unwrap();
        firewall::publish(&[published("0.0.0.0", 8080, &container, 80)]).unwrap();
        let error = reserve(&[tcp(Some(HOST), 8080)]).unwrap_err();
        let PublishError::Taken(error) = error else { panic!("{error}") };
        assert!(matches!(error.holder, Some(Holder::Container(port)) if port.container_ip == container.ip()));
        drop(held);

        assert_eq!(
            taken(reserve(&[tcp(Some("203.0.113.1"), 80)])),
            "cannot publish on 203.0.113.1:80/tcp: this host has no such address"
        );
    });
}

/// A server that stopped leaves connections in TIME_WAIT for a minute; they hold nobody off, and
/// the port is held as firmly as any other.
#[test]
fn connections_that_are_over_hold_no_port() {
    on_a_host(|_| {
        let listener = TcpListener::bind("127.0.0.1:8080").unwrap();
        let mut client = TcpStream::connect("127.0.0.1:8080").unwrap();
        let (server, _) = listener.accept().unwrap();
        // The side that closes first waits.
        drop(server);
        assert_eq!(client.read(&mut [0]).unwrap(), 0);
        drop((client, listener));
        let waits = || common::sh("ss -tan state time-wait").contains("8080");
        let end = std::time::Instant::now() + common::DEADLINE;
        while !waits() {
            assert!(std::time::Instant::now() < end, "no connection waits");
        }

        let held = reserve(&[tcp(None, 8080)]).unwrap();
        for address in ["127.0.0.1:8080", "0.0.0.0:8080"] {
            assert!(TcpListener::bind(address).is_err(), "{address}");
        }
        assert!(reserve(&[tcp(None, 8080)]).is_err());
        // It does not listen.
        assert!(TcpStream::connect("127.0.0.1:8080").is_err());
        drop(held);
        assert!(TcpListener::bind("127.0.0.1:8080").is_ok());
    });
}

#[test]
fn same_port_other_protocol_other_address_each_goes_its_way() {
    on_a_host(|host| {
        let network = host.named("web");
        let (a, b, c) = (host.container(&[&network]), host.container(&[&network]), host.container(&[&network]));
        let _servers = [a.machine.serve_tcp("0.0.0.0:80"), b.machine.serve_udp("0.0.0.0:80")];
        let _third = c.machine.serve_tcp("0.0.0.0:80");
        let ports = [
            published("127.0.0.1", 8080, &a, 80),
            Published { protocol: Protocol::Udp, ..published("0.0.0.0", 8080, &b, 80) },
            published(HOST, 8080, &c, 80),
        ];
        for port in ports {
            firewall::publish(&[port]).unwrap();
        }
        // Another container cannot take a port over.
        assert!(matches!(
            firewall::publish(&[published(HOST, 8080, &a, 80)]),
            Err(firewall::FirewallError::Published(_))
        ));
        host.neighbour.udp(&format!("{HOST}:8080")).unwrap();
        host.neighbour.tcp(&format!("{HOST}:8080")).unwrap();
        common::tcp("127.0.0.1:8080", common::DEADLINE).unwrap();
        // One after the other goes, even one whose container is gone already; the others stay.
        host.remove(c);
        firewall::unpublish(&[ports[2]]).unwrap();
        host.neighbour.cannot_tcp(&format!("{HOST}:8080"));
        host.neighbour.udp(&format!("{HOST}:8080")).unwrap();
        common::tcp("127.0.0.1:8080", common::DEADLINE).unwrap();
        // Some of these are gone: the rest goes all the same.
        firewall::unpublish(&ports).unwrap();
        assert_eq!(firewall::published().unwrap(), []);
    });
}

/// The kernel translates a UDP flow as it did its first packet, for as long as packets come.
#[test]
fn a_udp_flow_follows_its_port() {
    on_a_host(|host| {
        let network = host.named("web");
        let (a, b) = (host.container(&[&network]), host.container(&[&network]));
        let servers = [a.machine.serve_udp("0.0.0.0:53"), b.machine.serve_udp("0.0.0.0:53")];
        let _held = reserve(&[spec(None, Some((53, 53)), Protocol::Udp)]).unwrap();
        let to = |container| Published { protocol: Protocol::Udp, ..published("0.0.0.0", 53, container, 53) };
        let client = host.neighbour.within(|| UdpSocket::bind(format!("{NEIGHBOUR}:5353"))).unwrap();
        client.connect(format!("{HOST}:53")).unwrap();
        client.set_read_timeout(Some(common::DEADLINE)).unwrap();
        let ask = || {
            client.send(b"ping").unwrap();
            client.recv(&mut [0; 64]).unwrap();
            [servers[0].count(), servers[1].count()]
        };
        // A flow that begins before anybody answers.
        client.send(b"ping").unwrap();
        firewall::publish(&[to(&a)]).unwrap();
        assert_eq!(ask(), [1, 0]);
        firewall::unpublish(&[to(&a)]).unwrap();
        firewall::publish(&[to(&b)]).unwrap();
        assert_eq!(ask(), [1, 1]);
    });
}

#[test]
fn ipv6_is_published_where_the_container_has_it() {
    on_a_host(|host| {
        let before = host.snapshot();
        let network = host.network(umiak_netns::NetworkRequest {
            name: "six".into(),
            enable_ipv6: true,
            ..umiak_netns::NetworkRequest::default()
        });
        let container = host.container(&[&network]);
        let other = host.container(&[&network]);
        let v6: IpAddr = container.addresses[0][1];
        assert!(v6.is_ipv6());
        let _servers = [container.machine.serve_tcp("[::]:80"), host.neighbour.serve_tcp("[::]:7")];
        // Out, with the host's address.
        assert_eq!(container.machine.tcp("[2001:db8::2]:7").unwrap().to_string(), "2001:db8::1");
        let held = reserve(&[tcp(None, 8080)]).unwrap();
        let ports: Vec<_> = held.iter().filter_map(|port| port.published(&container.addresses[0])).collect();
        assert_eq!(ports.len(), 2);
        firewall::publish(&ports).unwrap();
        assert_eq!(firewall::published().unwrap(), ports);
        assert_eq!(host.neighbour.tcp("[2001:db8::1]:8080").unwrap().to_string(), "2001:db8::2");
        common::tcp("[2001:db8::1]:8080", common::DEADLINE).unwrap();
        for machine in [&container.machine, &other.machine] {
            machine.tcp("[2001:db8::1]:8080").unwrap();
        }
        host.neighbour.sh(&format!("ip -6 route add {} via 2001:db8::1", network.subnets[1].cidr));
        host.neighbour.cannot_tcp(&format!("[{v6}]:80"));
        firewall::unpublish(&ports).unwrap();
        host.neighbour.cannot_tcp("[2001:db8::1]:8080");
        host.remove(container);
        host.remove(other);
        host.take_down(&network);
        host.assert_unchanged(&before);
    });
}

#[test]
fn bytes_flow_both_ways_through_a_published_port() {
    on_a_host(|host| {
        let network = host.named("web");
        let container = host.container(&[&network]);
        let listener = container.machine.within(|| TcpListener::bind("0.0.0.0:80")).unwrap();
        firewall::publish(&[published("127.0.0.1", 8080, &container, 80)]).unwrap();
        let mut client = TcpStream::connect("127.0.0.1:8080").unwrap();
        let (mut server, _) = listener.accept().unwrap();
        let data: Vec<u8> = (0..1_000_000_u32).map(|n| n.to_le_bytes()[0]).collect();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut received = vec![0; data.len()];
                server.read_exact(&mut received).unwrap();
                server.write_all(&received).unwrap();
            });
            client.write_all(&data).unwrap();
            let mut back = vec![0; data.len()];
            client.read_exact(&mut back).unwrap();
            assert!(back == data);
        });
    });
}
