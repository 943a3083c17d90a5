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

/// A link of the host that the test made, gone when it ends.
struct Dummy(String);

impl Dummy {
    fn new(suffix: &str) -> Self {
        let name = format!("ue{}{suffix}", std::process::id());
        tool("ip", &["link", "add", &name, "type", "dummy"]);
        tool("ip", &["link", "set", &name, "up"]);
        Self(name)
    }
}

impl Drop for Dummy {
    fn drop(&mut self) {
        let _ = std::process::Command::new("ip").args(["link", "del", &self.0]).status();
    }
}

#[test]
fn macvlan_and_ipvlan_hang_on_a_link_of_the_host() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    let (first, second) = (Dummy::new("m"), Dummy::new("i"));
    up(
        &host,
        &format!(
            r#"
services:
  one: {{image: busybox, command: sleep 1000, networks: {{mac: {{ipv4_address: 10.213.1.10, mac_address: "02:42:ac:00:00:99"}}}}}}
  two: {{image: busybox, command: sleep 1000, networks: [mac, ip]}}
  three: {{image: busybox, command: sleep 1000, networks: [ip]}}
  four: {{image: busybox, command: sleep 1000, networks: [routed]}}
  five: {{image: busybox, command: sleep 1000, networks: [alone]}}
networks:
  mac: {{driver: macvlan, driver_opts: {{parent: {0}, macvlan_mode: bridge}}, ipam: {{config: [{{subnet: 10.213.1.0/24, gateway: 10.213.1.254}}]}}}}
  ip: {{driver: ipvlan, driver_opts: {{parent: {1}, ipvlan_mode: l2}}, ipam: {{config: [{{subnet: 10.213.2.0/24}}]}}}}
  routed: {{driver: ipvlan, driver_opts: {{parent: {1}.77, ipvlan_mode: l3}}, ipam: {{config: [{{subnet: 10.213.3.0/24}}]}}}}
  alone: {{driver: macvlan, ipam: {{config: [{{subnet: 10.213.4.0/24}}]}}}}
"#,
            first.0, second.0
        ),
    );
    let inside = |service: &str, script: &str| host.ok(&["exec", "-T", service, "sh", "-c", script]);
    assert!(inside("one", "ip -4 address show eth0").contains("10.213.1.10/24"));
    assert!(inside("one", "ip link show eth0").contains("02:42:ac:00:00:99"));
    assert!(inside("one", "ip route").contains("default via 10.213.1.254 dev eth0"));
    inside("two", "ping -c 1 -W 5 one && ping -c 1 -W 5 three");
    assert!(inside("four", "ip route").contains("default dev eth0"));
    assert!(tool("ip", &["-d", "link", "show", &format!("{}.77", second.0)]).contains("vlan protocol 802.1Q id 77"));
    assert_eq!(host.json(&["network", "inspect", "demo_mac"])[0]["Driver"], "macvlan");
    assert!(tool("ip", &["-o", "link"]).contains(": dm-"), "a parent of its own");
    host.ok(&["restart", "-t", "0", "one"]);
    inside("two", "ping -c 1 -W 5 one");
    down(&host);
    assert!(!tool("ip", &["-o", "link"]).contains(&format!("{}.77", second.0)));
    host.write("compose.yaml", "services:\n  web: {image: busybox, networks: [n]}\nnetworks:\n  n: {driver: macvlan, driver_opts: {parent: nosuchlink}}\n");
    let said = host.fails(1, &["up", "-d"]);
    assert!(said.contains("nosuchlink does not exist"), "{said}");
    host.write("compose.yaml", "services:\n  web: {image: busybox, networks: [n]}\nnetworks:\n  n: {driver: macvlan, driver_opts: {macvlan_mode: l3}}\n");
    let said = host.fails(1, &["up", "-d"]);
    assert!(said.contains("macvlan_mode") && said.contains("passthru"), "{said}");
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
