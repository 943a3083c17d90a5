//! Namespaces, bridges and endpoints: what they are made of, and that they go without a trace.

mod common;

use std::os::unix::fs::PermissionsExt as _;

use common::{Machine, on_a_host, sh, subnet};
use umiak_netns::endpoint::{self, EndpointError, EndpointSpec};
use umiak_netns::namespace::{self, NamespaceError};
use umiak_netns::network::NetworkError;
use umiak_netns::{Links, Network, NetworkRequest, firewall};

fn request(name: &str) -> NetworkRequest {
    NetworkRequest { name: name.into(), ..NetworkRequest::default() }
}

fn with_options(name: &str, options: &[(&str, &str)]) -> NetworkRequest {
    let options = options.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    NetworkRequest { options, ..request(name) }
}

fn plan(request: &NetworkRequest) -> Result<Network, NetworkError> {
    Network::plan(request, &"0123456789abcdef".repeat(4), "2026-01-01T00:00:00Z", &[])
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

#[test]
fn a_namespace_is_pinned_and_its_pin_removed_everywhere() {
    on_a_host(|host| {
        let before = sh("cat /proc/self/mountinfo");
        let path = host.run_root().join("netns/one");
        let pin = namespace::create(&path).unwrap();
        // An empty file below the mount, for nobody else.
        assert_eq!(std::fs::metadata(path.parent().unwrap()).unwrap().permissions().mode() & 0o777, 0o700);
        // Again: the same namespace.
        let again = namespace::create(&path).unwrap();
        assert_eq!(rustix::fs::fstat(&pin).unwrap().st_ino, rustix::fs::fstat(&again).unwrap().st_ino);

        // Somebody else's mount namespace, made while the pin is there.
        let mut other = std::process::Command::new("unshare")
            .args(["--mount", "--propagation", "private", "cat"])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        {
            use std::io::{Read as _, Write as _};
            // It runs once it echoes.
            other.stdin.as_mut().unwrap().write_all(b"x").unwrap();
            other.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
        }
        let seen_there = || {
            let text = std::fs::read_to_string(format!("/proc/{}/mountinfo", other.id())).unwrap();
            text.contains("netns/one")
        };
        assert!(seen_there());
        namespace::remove(&path).unwrap();
        namespace::remove(&path).unwrap();
        assert!(!path.exists());
        assert!(!seen_there());
        other.kill().unwrap();
        other.wait().unwrap();
        assert_eq!(sh("cat /proc/self/mountinfo"), before);

        // A file without a namespace, as a reboot leaves it, is no obstacle.
        std::fs::write(&path, "").unwrap();
        assert!(matches!(namespace::open(&path), Err(NamespaceError::NotANamespace { .. })));
        namespace::create(&path).unwrap();
        namespace::remove(&path).unwrap();
        assert!(matches!(namespace::open(&path), Err(NamespaceError::Open { .. })));
    });
}

#[test]
fn an_endpoint_has_what_it_was_given_and_nothing_else() {
    on_a_host(|host| {
        let request = NetworkRequest {
            subnets: vec![subnet("10.77.0.0/16")],
            ..with_options("web", &[("com.docker.network.driver.mtu", "1400")])
        };
        let network = host.network(request);
        let machine = Machine::new(host.run_root().join("netns/one"));
        let spec = EndpointSpec {
            extra: Vec::new(),
            sysctls: Vec::new(),
            ifname: "front0".into(),
            addresses: vec!["10.77.5.6".parse().unwrap()],
            mac: Some([2, 1, 2, 3, 4, 5]),
            default_route: true,
            host_ifname: endpoint::host_ifname("0123456789ab", 0),
        };
        endpoint::attach(&host.links, &network, &machine.netns, &spec).unwrap();
        let addresses = machine
            .sh("ip -brief address; ip -brief link show front0; cat /sys/class/net/front0/mtu 2>/dev/null || true");
        assert!(addresses.contains("10.77.5.6/16"), "{addresses}");
        assert!(addresses.contains("02:01:02:03:04:05"), "{addresses}");
        // CVE-2024-32473: no IPv6 that nobody asked for.
        assert_eq!(machine.sh("ip -6 address show dev front0"), "");
        assert_eq!(
            machine.sh("ip route").lines().next().unwrap().trim(),
            "default via 10.77.0.1 dev front0 proto static"
        );
        assert!(machine.sh("ip link show front0").contains("mtu 1400"));
        assert!(sh("ip link").contains("uv-0123456789-0@if2: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu 1400"));
        // The bridge: no IPv6, no router advertisements (CVE-2020-13401).
        let bridge = &network.bridge;
        assert_eq!(sh(&format!("ip -6 address show dev {bridge}; ip -6 address show dev uv-0123456789-0")), "");
        assert_eq!(sh(&format!("cat /proc/sys/net/ipv6/conf/{bridge}/accept_ra")).trim(), "0");
        assert!(sh(&format!("ip address show dev {bridge}")).contains("10.77.0.1/16"));

        // The same interface again is refused, and the first stays.
        let twice = EndpointSpec { host_ifname: endpoint::host_ifname("0123456789ab", 1), ..spec.clone() };
        let error = endpoint::attach(&host.links, &network, &machine.netns, &twice).unwrap_err();
        assert!(matches!(error, EndpointError::InterfaceExists(name) if name == "front0"));
        assert!(!sh("ip link").contains("uv-0123456789-1"));

        // A veth that a crash left under the container's name is no obstacle.
        let second = Machine::new(host.run_root().join("netns/two"));
        endpoint::attach(&host.links, &network, &second.netns, &spec).unwrap();
        assert!(!machine.sh("ip link").contains("front0"));
        // The namespace is gone first.
        drop(second);
        endpoint::detach(&host.links, &[&spec.host_ifname]).unwrap();
        endpoint::detach(&host.links, &[&spec.host_ifname]).unwrap();
    });
}

#[test]
fn endpoints_go_together_and_nothing_else_does() {
    on_a_host(|host| {
        let (one, two) = (host.named("one"), host.named("two"));
        let both = host.container(&[&one, &two]);
        let stays = host.container(&[&one]);
        assert!(both.machine.sh("ip route show default").contains("dev eth0"));
        let names: Vec<&str> = both.endpoints.iter().map(|endpoint| endpoint.host_ifname.as_str()).collect();
        // One is gone already, another name never was.
        let gone = host.container(&[&one]);
        let gone = gone.endpoints[0].host_ifname.clone();
        let all = [&names[..], &[&gone, "uv-never-0"]].concat();
        endpoint::detach(&host.links, &all).unwrap();
        endpoint::detach(&host.links, &all).unwrap();
        let left = sh("ip -brief link");
        assert!(all.iter().all(|name| !left.contains(name)), "{left}");
        assert!(left.contains(&stays.endpoints[0].host_ifname) && left.contains("eth0"), "{left}");
        // A network that goes down takes its ports along.
        host.take_down(&one);
        assert!(!sh("ip -brief link").contains("uv-"));
        assert!(sh("ip -brief link").contains(&two.bridge));
    });
}

#[test]
fn an_internal_network_has_no_way_out() {
    on_a_host(|host| {
        let network = host.network(NetworkRequest { internal: true, ..request("db") });
        let container = host.container(&[&network]);
        assert_eq!(container.machine.sh("ip route show default"), "");
        assert_eq!(sh(&format!("cat /proc/sys/net/ipv4/conf/{}/route_localnet", network.bridge)).trim(), "0");
        // Only an internal network: the host does not forward.
        assert_eq!(sh("cat /proc/sys/net/ipv4/ip_forward").trim(), "0");
        let other = host.container(&[&network]);
        let _server = container.machine.serve_tcp("0.0.0.0:80");
        other.machine.tcp(&container.at(80)).unwrap();
    });
}

#[test]
fn the_host_s_settings_come_back_with_the_last_network() {
    on_a_host(|host| {
        sh("echo 1 > /proc/sys/net/ipv6/conf/eth0/accept_ra");
        let before = host.snapshot();
        let first = host.named("one");
        let second = host.network(NetworkRequest { enable_ipv6: true, ..request("two") });
        let get = |name: &str| sh(&format!("cat /proc/sys/net/{name}")).trim().to_owned();
        assert_eq!(get("ipv4/ip_forward"), "1");
        assert_eq!(get("ipv6/conf/all/forwarding"), "1");
        // A router that learns its default route from advertisements keeps doing so.
        assert_eq!(get("ipv6/conf/eth0/accept_ra"), "2");
        host.take_down(&second);
        assert_eq!(get("ipv4/ip_forward"), "1");
        host.take_down(&first);
        host.assert_unchanged(&before);

        // What the administrator set before or after stays.
        sh("echo 1 > /proc/sys/net/ipv4/ip_forward");
        let before = host.snapshot();
        let network = host.named("three");
        host.take_down(&network);
        host.assert_unchanged(&before);
    });
}

#[test]
fn bridges_of_others_are_left_alone() {
    on_a_host(|host| {
        sh("ip link add br9 type bridge; ip link add veth9 type veth peer name veth8");
        let named = |name| with_options("web", &[("com.docker.network.bridge.name", name)]);
        let network = host.network(named("br9"));
        host.take_down(&network);
        assert!(sh("ip link").contains("br9"));
        let network = plan(&named("veth9")).unwrap();
        assert_eq!(
            chain(&network.up(&host.links, host.run_root()).unwrap_err()),
            "network web: link veth9 exists and is not a bridge"
        );
        host.take_down(&network);
        assert!(sh("ip link").contains("veth9"));
        // A bridge of our own with a chosen name goes; another network cannot have it.
        let network = host.network(named("front"));
        let error = plan(&named("front")).unwrap().up(&host.links, host.run_root()).unwrap_err();
        assert!(chain(&error).contains(&format!("bridge front belongs to umiak network {}", network.id)));
        host.take_down(&network);
        assert!(!sh("ip link").contains("front"));
    });
}

#[test]
fn up_completes_what_a_crash_or_a_reboot_left() {
    on_a_host(|host| {
        let before = host.snapshot();
        let network = host.named("web");
        let whole = host.snapshot();
        // As after a reboot.
        sh(&format!("ip link del {}; nft flush ruleset; echo 0 > /proc/sys/net/ipv4/ip_forward", network.bridge));
        network.up(&host.links, host.run_root()).unwrap();
        let renumbered = |text: &str| {
            let same = |line: &&str| !line.contains(": <") && !line.contains("timer") && !line.contains("link/ether");
            text.lines().filter(same).collect::<Vec<_>>().join("\n")
        };
        host.assert_same(&renumbered(&whole), &renumbered(&host.snapshot()));
        // A half-made bridge.
        sh(&format!("ip link del {0}; ip link add {0} type bridge", network.bridge));
        network.up(&host.links, host.run_root()).unwrap();
        assert!(sh(&format!("ip address show {}", network.bridge)).contains("172.17.0.1/22"));
        assert!(firewall::has_network(&network).unwrap());
        host.take_down(&network);
        host.assert_unchanged(&before);
    });
}

#[test]
fn ranges_of_the_host_and_of_other_networks_are_not_given() {
    on_a_host(|host| {
        sh(
            "ip address add 172.17.9.1/16 dev eth0; ip route add 172.18.0.0/24 via 192.0.2.2; ip route add blackhole 172.18.1.0/24",
        );
        let first = host.named("one");
        let second = host.named("two");
        assert_eq!(first.subnets[0].cidr.to_string(), "172.18.4.0/22");
        assert_eq!(second.subnets[0].cidr.to_string(), "172.18.8.0/22");
        let taken = host.links.taken(None).unwrap();
        let clash = |cidr| {
            let request = NetworkRequest { subnets: vec![subnet(cidr)], ..request("three") };
            chain(&Network::plan(&request, &first.id, "", &taken).unwrap_err())
        };
        assert_eq!(
            clash("172.17.9.0/24"),
            "network three: subnet 172.17.9.0/24 overlaps 172.17.0.0/16, which is the network of eth0"
        );
        assert!(clash("172.18.9.128/25").ends_with(&format!("which is the network of {}", second.bridge)));
        assert!(clash("172.18.0.0/24").contains("172.18.0.0/24, which is the route through eth0"));
        // Its own bridge does not count.
        assert!(host.links.taken(Some(&first.bridge)).unwrap().iter().all(|taken| !taken.by.contains(&first.bridge)));
    });
}

#[test]
fn options_that_do_nothing_are_refused() {
    let error = |options: &[(&str, &str)]| chain(&plan(&with_options("web", options)).unwrap_err());
    assert_eq!(error(&[("com.example.magic", "1")]), "network web: driver option com.example.magic is not supported");
    assert!(error(&[("com.docker.network.driver.mtu", "many")]).contains("cannot be `many`"));
    assert!(error(&[("com.docker.network.bridge.enable_icc", "perhaps")]).contains("true or false"));
    assert!(error(&[("com.docker.network.bridge.name", "a/b")]).contains("cannot be `a/b`"));
    let overlay = NetworkRequest { driver: Some("overlay".into()), ..request("web") };
    assert!(chain(&plan(&overlay).unwrap_err()).contains("driver overlay is not supported"));
    let v6 = NetworkRequest { subnets: vec![subnet("fd00::/64")], ..request("web") };
    assert!(chain(&plan(&v6).unwrap_err()).contains("enable_ipv6"));
    let network = plan(&NetworkRequest { enable_ipv6: true, ..v6 }).unwrap();
    assert_eq!(network.subnets.len(), 2);
    assert_eq!(network.subnet(false).unwrap().gateway.to_string(), "fd00::1");
    let json = serde_json::to_string(&network).unwrap();
    assert_eq!(serde_json::from_str::<Network>(&json).unwrap(), network);
}

#[test]
fn a_full_bridge_says_so() {
    on_a_host(|host| {
        let network = host.network(NetworkRequest { subnets: vec![subnet("10.77.0.0/16")], ..request("big") });
        // Ports without namespaces are as good for filling it.
        let batch: String = (0..endpoint::MAX_PORTS)
            .map(|n| format!("link add p{n} type veth peer name q{n}\nlink set p{n} master {}\n", network.bridge))
            .collect();
        let file = host.run_root().join("batch");
        std::fs::write(&file, batch).unwrap();
        sh(&format!("ip -batch {}", file.display()));
        let machine = Machine::new(host.run_root().join("netns/one"));
        let spec = EndpointSpec {
            extra: Vec::new(),
            sysctls: Vec::new(),
            ifname: "eth0".into(),
            addresses: vec!["10.77.5.6".parse().unwrap()],
            mac: None,
            default_route: true,
            host_ifname: "uv-last-0".into(),
        };
        let error = endpoint::attach(&host.links, &network, &machine.netns, &spec).unwrap_err();
        assert!(error.to_string().contains("network big is full: its bridge"), "{error}");
        assert!(!sh("ip link").contains("uv-last-0"));
        assert_eq!(Links::open().unwrap().list().unwrap().len(), 2 * endpoint::MAX_PORTS + 3);
    });
}
