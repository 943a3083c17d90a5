//! Keys of networks, seen from inside the containers on them.

use crate::harness::{Host, tool};

fn up(host: &Host, file: &str) {
    host.write("compose.yaml", file);
    host.ok(&["up", "-d", "-t", "0"]);
}

fn down(host: &Host) {
    host.ok(&["down", "-v", "-t", "0"]);
    assert!(host.ids().is_empty() && host.network_ids().is_empty());
}

/// A pair of links of the host that the test made, gone when it ends.
struct Pair(String);

impl Pair {
    fn new(suffix: &str) -> Self {
        let (name, peer) = (format!("ue{}{suffix}", std::process::id()), format!("uf{}{suffix}", std::process::id()));
        tool("ip", &["link", "add", &name, "type", "veth", "peer", "name", &peer]);
        let pair = Self(name);
        for link in [&pair.0, &peer] {
            tool("ip", &["link", "set", link, "up"]);
        }
        pair
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        let _ = std::process::Command::new("ip").args(["link", "del", &self.0]).status();
    }
}

#[test]
fn macvlan_hangs_on_a_link_of_the_host() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    let parent = Pair::new("m");
    up(
        &host,
        &format!(
            r#"
services:
  one: {{image: busybox, command: sleep 1000, networks: {{mac: {{ipv4_address: 10.213.1.10, mac_address: "02:42:ac:00:00:99"}}}}}}
  two: {{image: busybox, command: sleep 1000, networks: [mac, default]}}
networks:
  mac: {{driver: macvlan, driver_opts: {{parent: {0}, macvlan_mode: bridge}}, ipam: {{config: [{{subnet: 10.213.1.0/24, gateway: 10.213.1.254}}]}}}}
"#,
            parent.0
        ),
    );
    let inside = |service: &str, script: &str| host.ok(&["exec", "-T", service, "sh", "-c", script]);
    assert!(inside("one", "ip -4 address show eth0").contains("10.213.1.10/24"));
    assert!(inside("one", "ip link show eth0").contains("02:42:ac:00:00:99"));
    assert!(inside("one", "ip route").contains("default via 10.213.1.254 dev eth0"));
    inside("two", "ping -c 1 -W 5 one");
    assert_eq!(host.json(&["network", "inspect", "demo_mac"])[0]["Driver"], "macvlan");
    host.ok(&["restart", "-t", "0", "one"]);
    inside("two", "ping -c 1 -W 5 one");
    host.ok(&["network", "disconnect", "demo_mac", "demo-two-1"]);
    assert!(!inside("two", "ip -4 address").contains("10.213.1."));
    down(&host);
    let refused = |network: &str| {
        host.write(
            "compose.yaml",
            &format!("services:\n  web: {{image: busybox, networks: [n]}}\nnetworks:\n  n: {network}\n"),
        );
        host.fails(1, &["up", "-d"])
    };
    let said = refused("{driver: macvlan, driver_opts: {parent: nosuchlink}}");
    assert!(said.contains("nosuchlink does not exist"), "{said}");
    let said = refused("{driver: macvlan, driver_opts: {macvlan_mode: l3}}");
    assert!(said.contains("macvlan_mode") && said.contains("passthru"), "{said}");
}

#[test]
fn ipvlan_vlans_and_parents_of_their_own_are_made_where_the_kernel_can() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    let parent = Pair::new("i");
    let cases = [
        (
            format!("{{driver: ipvlan, driver_opts: {{parent: {}, ipvlan_mode: l2}}}}", parent.0),
            "create the ipvlan link",
        ),
        (
            format!("{{driver: ipvlan, driver_opts: {{parent: {}, ipvlan_mode: l3}}}}", parent.0),
            "create the ipvlan link",
        ),
        (format!("{{driver: macvlan, driver_opts: {{parent: {}.77}}}}", parent.0), "create the VLAN link"),
        ("{driver: macvlan}".to_owned(), "create the dummy link"),
    ];
    for (network, step) in cases {
        host.write(
            "compose.yaml",
            &format!(
                "services:\n  one: &one {{image: busybox, command: sleep 1000, networks: [n]}}\n  two: *one\nnetworks:\n  n: {network}\n"
            ),
        );
        let done = host.run(&["up", "-d", "-t", "0"]);
        if done.code == 0 {
            host.ok(&["exec", "-T", "one", "ping", "-c", "1", "-W", "5", "two"]);
            down(&host);
        } else {
            // A kernel without such devices: the step is named, and nothing stays.
            assert!(
                done.err.contains(step) && done.err.to_lowercase().contains("not supported"),
                "{network}: {}",
                done.err
            );
            assert!(host.ids().is_empty() && host.network_ids().is_empty(), "{network}");
        }
    }
    let links = tool("ip", &["-o", "link"]);
    assert!(!links.contains(&format!("{}.77", parent.0)), "{links}");
}

#[test]
fn attachments_have_options_and_networks_their_families() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    up(
        &host,
        r#"
services:
  web:
    image: busybox
    command: sleep 1000
    networks:
      front:
        priority: 10
        link_local_ips: [169.254.34.8, "fe80::34:8"]
        driver_opts: {com.docker.network.endpoint.sysctls: "net.ipv4.conf.IFNAME.log_martians=1", com.docker.network.endpoint.ifname: lan0}
      six:
      bare: {interface_name: raw0}
  peer: {image: busybox, command: sleep 1000, networks: [front, six]}
networks:
  front:
    enable_ipv6: true
    ipam:
      driver: default
      config:
        - {subnet: 10.213.9.0/24, ip_range: 10.213.9.128/25, gateway: 10.213.9.5, aux_addresses: {router: 10.213.9.128, printer: 10.213.9.129}}
        - {subnet: "fd42:213:9::/64"}
  six: {enable_ipv4: false, enable_ipv6: true, ipam: {config: [{subnet: "fd42:213:6::/64"}]}}
  bare: {ipam: {driver: "null"}}
"#,
    );
    let inside = |script: &str| host.ok(&["exec", "-T", "web", "sh", "-c", script]);
    let shown = inside("ip address show lan0");
    for address in ["169.254.34.8/16", "fe80::34:8/64", "10.213.9.13", "fd42:213:9::"] {
        assert!(shown.contains(address), "{address}: {shown}");
    }
    assert!(!shown.contains("10.213.9.128/") && !shown.contains("10.213.9.129/"), "{shown}");
    assert_eq!(inside("cat /proc/sys/net/ipv4/conf/lan0/log_martians"), "1");
    assert!(inside("ip route").contains("default via 10.213.9.5 dev lan0"));
    let six = inside("ip address show eth1");
    assert!(six.contains("fd42:213:6::") && !six.contains("inet "), "{six}");
    let raw = inside("ip address show raw0");
    assert!(!raw.contains("inet "), "{raw}");
    inside("ping -c 1 -W 5 peer");
    down(&host);
    host.write(
        "compose.yaml",
        "services:\n  web: {image: busybox, networks: {n: {driver_opts: {magic: '1'}}}}\nnetworks: {n: }\n",
    );
    let said = host.fails(1, &["up", "-d"]);
    assert!(said.contains("magic"), "{said}");
}

#[test]
fn the_networks_host_and_none_have_names() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    up(
        &host,
        r#"
services:
  a: {image: busybox, command: sleep 1000, networks: [outside]}
  b: {image: busybox, command: sleep 1000, networks: [nothing]}
networks:
  outside: {name: host, external: true}
  nothing: {name: none, external: true}
"#,
    );
    let own = std::fs::read_link("/proc/self/ns/net").unwrap();
    assert_eq!(host.ok(&["exec", "-T", "a", "readlink", "/proc/self/ns/net"]), own.to_str().unwrap());
    assert_eq!(host.ok(&["exec", "-T", "b", "ls", "/sys/class/net"]), "lo");
    down(&host);
    host.write("compose.yaml", "services:\n  a: {image: busybox, networks: [n]}\nnetworks: {n: {driver: host}}\n");
    let said = host.fails(1, &["up", "-d"]);
    assert!(said.contains("only one instance of \"host\" network is allowed"), "{said}");
}
