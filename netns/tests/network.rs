//! Networks, endpoints, outbound traffic, published ports: real packets between namespaces.

mod common;

use common::{HOST, NEIGHBOUR, on_a_host, published, tcp};
use umiak_netns::firewall::{self, Protocol};
use umiak_netns::publish::{self, PortSpec};

#[test]
fn a_container_reaches_out_and_is_reached_through_its_published_port() {
    on_a_host(|host| {
        let before = host.snapshot();
        let network = host.named("web");
        let container = host.container(&[&network]);
        let other = host.container(&[&network]);
        let _server = container.machine.serve_tcp("0.0.0.0:80");
        let _outside = host.neighbour.serve_tcp("0.0.0.0:7");

        // Outbound: the neighbour has no route to the bridge, and sees the host.
        let seen = container.machine.tcp(&format!("{NEIGHBOUR}:7")).unwrap();
        assert_eq!(seen.to_string(), HOST);
        // Within the network, by address.
        assert_eq!(other.machine.tcp(&container.at(80)).unwrap(), other.ip());

        let reserved = publish::reserve(&[PortSpec {
            host_ip: None,
            host_ports: Some((8080, 8080)),
            container_port: 80,
            protocol: Protocol::Tcp,
        }])
        .unwrap();
        let ports: Vec<_> = reserved.iter().filter_map(|port| port.published(&container.addresses[0])).collect();
        assert_eq!(ports, [published("0.0.0.0", 8080, &container, 80)]);
        firewall::publish(&ports).unwrap();
        firewall::publish(&ports).unwrap();
        assert_eq!(firewall::published().unwrap(), ports);

        // From outside the true address is seen.
        assert_eq!(host.neighbour.tcp(&format!("{HOST}:8080")).unwrap().to_string(), NEIGHBOUR);
        // From the host, by each of its addresses.
        let gateway = network.subnets[0].gateway;
        for address in ["127.0.0.1", "127.0.0.5", HOST, &gateway.to_string()] {
            tcp(&format!("{address}:8080"), common::DEADLINE).unwrap_or_else(|e| panic!("{address}: {e}"));
        }
        // From its own network and from itself.
        for machine in [&other.machine, &container.machine] {
            machine.tcp(&format!("{HOST}:8080")).unwrap();
            machine.tcp(&format!("{gateway}:8080")).unwrap();
        }

        firewall::unpublish(&ports).unwrap();
        firewall::unpublish(&ports).unwrap();
        host.neighbour.cannot_tcp(&format!("{HOST}:8080"));
        drop(reserved);
        host.remove(other);
        host.remove(container);
        host.take_down(&network);
        host.take_down(&network);
        host.assert_unchanged(&before);
    });
}
