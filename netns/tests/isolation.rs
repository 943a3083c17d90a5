//! Nothing is reachable that was not published: from another machine on the LAN that
//! routes to container addresses and to 127.0.0.0/8, from other networks, to and from internal ones.

#![allow(clippy::unwrap_used, reason = "the clippy.toml exception covers test functions only")]

mod common;

use common::{Container, FakeHost, HOST, Machine, NEIGHBOUR, on_a_host, published, sh};
use umiak_netns::firewall::{self, Protocol, Published};
use umiak_netns::{Network, NetworkRequest};

/// Lets a machine send to 127.0.0.2 of the host, and lets the host take it (the worst an administrator can do).
fn route_to_loopback(machine: &Machine, via: &str) {
    machine.sh(&format!(
        "ip address del 127.0.0.1/8 dev lo
         echo 1 > /proc/sys/net/ipv4/conf/eth0/route_localnet
         ip route add 127.0.0.2/32 via {via} dev eth0"
    ));
}

fn with_protocols(port: Published) -> [Published; 2] {
    [port, Published { protocol: Protocol::Udp, ..port }]
}

struct Stack {
    networks: [Network; 3],
    ports: Vec<Published>,
    web: Container,
    other: Container,
    hidden: Container,
    servers: Vec<common::Server>,
}

fn stack(host: &FakeHost) -> Stack {
    let web_net = host.named("web");
    let other_net = host.named("other");
    let internal = host.network(NetworkRequest { name: "hidden".into(), internal: true, ..NetworkRequest::default() });
    let (web, other) = (host.container(&[&web_net]), host.container(&[&other_net]));
    let hidden = host.container(&[&internal]);
    let mut servers = Vec::new();
    for container in [&web, &hidden] {
        for port in [80, 81] {
            servers.push(container.machine.serve_tcp(&format!("0.0.0.0:{port}")));
            servers.push(container.machine.serve_udp(&format!("0.0.0.0:{port}")));
        }
    }
    let ports =
        [with_protocols(published("127.0.0.2", 8080, &web, 80)), with_protocols(published("0.0.0.0", 9090, &web, 80))]
            .concat();
    firewall::publish(&ports).unwrap();
    Stack { networks: [web_net, other_net, internal], ports, web, other, hidden, servers }
}

/// Who must not reach what, all tried at once.
fn assert_isolated(tries: &[(&Machine, String)]) {
    std::thread::scope(|scope| {
        for (machine, to) in tries {
            scope.spawn(move || machine.cannot_tcp(to));
            scope.spawn(move || machine.cannot_udp(to));
        }
    });
}

fn assert_matrix(host: &FakeHost, stack: &Stack) {
    let Stack { web, other, hidden, servers, .. } = stack;
    // What is published is reachable, so the rest fails for the right reason.
    for machine in [&host.neighbour, &other.machine, &web.machine] {
        machine.tcp(&format!("{HOST}:9090")).unwrap();
        machine.udp(&format!("{HOST}:9090")).unwrap();
    }
    common::tcp("127.0.0.2:8080", common::DEADLINE).unwrap();
    common::udp("127.0.0.2:8080", common::DEADLINE).unwrap();
    common::tcp(&hidden.at(80), common::DEADLINE).unwrap();
    let seen = |servers: &[common::Server]| servers.iter().map(common::Server::count).collect::<Vec<_>>();
    let before = seen(servers);
    let mut tries = Vec::new();
    for machine in [&host.neighbour, &other.machine] {
        for to in [web.at(80), web.at(81), hidden.at(80), "127.0.0.2:8080".into(), format!("{HOST}:8080")] {
            tries.push((machine, to));
        }
    }
    let gateway = stack.networks[2].subnets[0].gateway;
    for to in [format!("{NEIGHBOUR}:7"), web.at(80), format!("{HOST}:9090"), format!("{gateway}:9090")] {
        tries.push((&hidden.machine, to));
    }
    assert_isolated(&tries);
    assert_eq!(before, seen(servers), "a packet got through");
}

#[test]
fn only_what_is_published_is_reachable() {
    on_a_host(|host| {
        let before = host.snapshot();
        let stack = stack(host);
        let outside = [host.neighbour.serve_tcp("0.0.0.0:7"), host.neighbour.serve_udp("0.0.0.0:7")];
        stack.web.machine.udp(&format!("{NEIGHBOUR}:7")).unwrap();
        let [web_net, other_net, internal] = &stack.networks;
        for network in [web_net, internal] {
            host.neighbour.sh(&format!("ip route add {} via {HOST}", network.subnets[0].cidr));
        }
        sh("echo 1 > /proc/sys/net/ipv4/conf/eth0/route_localnet");
        route_to_loopback(&host.neighbour, HOST);
        route_to_loopback(&stack.other.machine, &other_net.subnets[0].gateway.to_string());
        // No way out, even for a container that makes itself a route.
        let gateway = internal.subnets[0].gateway;
        assert_eq!(stack.hidden.machine.sh("ip route show default"), "");
        stack.hidden.machine.sh(&format!("ip route add default via {gateway}"));

        assert_matrix(host, &stack);

        // Somebody flushes the ruleset; then everything is as before, and the containers kept running.
        sh("nft flush ruleset");
        assert!(!firewall::has_network(web_net).unwrap());
        assert!(matches!(firewall::publish(&stack.ports), Err(firewall::FirewallError::TableGone)));
        firewall::repair(&stack.networks, &stack.ports).unwrap();
        let repaired = sh("nft list ruleset");
        firewall::repair(&stack.networks, &stack.ports).unwrap();
        assert_eq!(sh("nft list ruleset"), repaired);
        assert_matrix(host, &stack);

        assert_eq!(outside.map(|server| server.count()), [0, 1]);

        firewall::unpublish(&stack.ports).unwrap();
        sh("echo 0 > /proc/sys/net/ipv4/conf/eth0/route_localnet");
        let Stack { networks, web, other, hidden, .. } = stack;
        for container in [web, other, hidden] {
            host.remove(container);
        }
        for network in &networks {
            host.take_down(network);
        }
        host.assert_unchanged(&before);
    });
}

/// The control of the test above: with our table away, the LAN's packets to 127.0.0.2 do arrive.
#[test]
fn the_attack_works_where_nobody_prevents_it() {
    on_a_host(|host| {
        sh("echo 1 > /proc/sys/net/ipv4/conf/eth0/route_localnet");
        route_to_loopback(&host.neighbour, HOST);
        let listener = std::net::TcpListener::bind("127.0.0.2:8080").unwrap();
        host.neighbour
            .within(|| std::net::TcpStream::connect_timeout(&"127.0.0.2:8080".parse().unwrap(), common::DEADLINE))
            .unwrap();
        drop(listener);
    });
}

#[test]
fn containers_of_a_network_without_icc_do_not_reach_each_other() {
    on_a_host(|host| {
        let options = [("com.docker.network.bridge.enable_icc".to_owned(), "false".to_owned())].into();
        let network = host.network(NetworkRequest { name: "apart".into(), options, ..NetworkRequest::default() });
        let (a, b) = (host.container(&[&network]), host.container(&[&network]));
        let server = a.machine.serve_tcp("0.0.0.0:80");
        let _udp = a.machine.serve_udp("0.0.0.0:80");
        let outside = host.neighbour.serve_tcp("0.0.0.0:7");
        common::tcp(&a.at(80), common::DEADLINE).unwrap();
        b.machine.tcp(&format!("{NEIGHBOUR}:7")).unwrap();
        assert_eq!(outside.count(), 1);
        assert_isolated(&[(&b.machine, a.at(80))]);
        // Nor by way of the gateway.
        b.machine.sh(&format!("ip route add {} via {}", a.ip(), network.subnets[0].gateway));
        assert_isolated(&[(&b.machine, a.at(80))]);
        assert_eq!(server.count(), 1);
        // Its published port is reached from outside.
        firewall::publish(&[published("0.0.0.0", 8080, &a, 80)]).unwrap();
        host.neighbour.tcp(&format!("{HOST}:8080")).unwrap();
    });
}

#[test]
fn docker_s_policy_does_not_cut_containers_off() {
    on_a_host(|host| {
        // What Docker leaves, and what a careful administrator may have.
        sh("nft -f - <<'EOF'
            table ip filter {
                chain DOCKER-USER { counter accept; }
                chain FORWARD {
                    type filter hook forward priority filter; policy drop;
                    iifname \"docker0\" accept
                    ip daddr 203.0.113.9 counter drop
                }
            }
            table ip6 filter {
                chain FORWARD { type filter hook forward priority filter; policy drop; }
            }
            table inet other {
                chain guard { type filter hook forward priority 10; policy drop; accept; }
            }");
        assert_works_beside(host);
        assert!(firewall::obstacles().unwrap().iter().any(|obstacle| obstacle.chain == "inet other guard"));
    });
}

#[test]
fn a_closing_reject_does_not_cut_containers_off() {
    on_a_host(|host| {
        sh("nft -f - <<'EOF'
            table ip filter {
                chain FORWARD {
                    type filter hook forward priority filter; policy accept;
                    ip daddr 203.0.113.9 drop
                    counter reject with icmp type host-prohibited
                }
            }");
        assert_works_beside(host);
        assert_eq!(firewall::obstacles().unwrap(), []);
    });
}

/// Rules written by the real tool, which must still be able to read its chain with ours in it.
#[test]
fn iptables_reads_its_chain_with_our_rules_in_it() {
    on_a_host(|host| {
        if !common::has_program("iptables-nft") {
            return;
        }
        sh("iptables-nft -P FORWARD DROP
            iptables-nft -N DOCKER-USER
            iptables-nft -A FORWARD -j DOCKER-USER
            iptables-nft -A FORWARD -d 203.0.113.9 -j REJECT");
        assert_works_beside(host);
        let before = sh("iptables-nft -S");
        let network = host.named("web");
        let rules = sh("iptables-nft -S FORWARD");
        for direction in ["-i", "-o"] {
            let line = rules.lines().find(|line| line.contains(&format!("{direction} {}", network.bridge)));
            assert!(line.is_some_and(|line| line.ends_with("-j ACCEPT")), "{rules}");
        }
        host.take_down(&network);
        assert_eq!(sh("iptables-nft -S"), before);
    });
}

fn assert_works_beside(host: &FakeHost) {
    let before = host.snapshot();
    let network = host.named("web");
    network.up(&host.links, host.run_root()).unwrap();
    let container = host.container(&[&network]);
    let _server = container.machine.serve_tcp("0.0.0.0:80");
    let _outside = host.neighbour.serve_tcp("0.0.0.0:7");
    let rules = sh("nft list chain ip filter FORWARD");
    for line in [
        format!("iifname \"{}\" counter packets 0 bytes 0 accept comment \"umiak {0}\"", network.bridge),
        format!("oifname \"{}\" counter packets 0 bytes 0 accept comment \"umiak {0}\"", network.bridge),
    ] {
        assert_eq!(rules.matches(&line).count(), 1, "{rules}");
    }
    container.machine.tcp(&format!("{NEIGHBOUR}:7")).unwrap();
    let port = published("0.0.0.0", 8080, &container, 80);
    firewall::publish(&[port]).unwrap();
    host.neighbour.tcp(&format!("{HOST}:8080")).unwrap();
    // Our isolation holds all the same.
    host.neighbour.sh(&format!("ip route add {} via {HOST}", network.subnets[0].cidr));
    host.neighbour.cannot_tcp(&container.at(80));

    // A flush of our table alone, then of all of theirs.
    sh("nft delete table inet umiak");
    firewall::repair(std::slice::from_ref(&network), &[port]).unwrap();
    assert_eq!(sh("nft list chain ip filter FORWARD").matches("umiak").count(), 2);
    host.neighbour.tcp(&format!("{HOST}:8080")).unwrap();

    firewall::unpublish(&[port]).unwrap();
    host.remove(container);
    host.take_down(&network);
    host.assert_unchanged(&before);
}
