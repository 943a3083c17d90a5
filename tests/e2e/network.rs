//! Networks of single containers.

use crate::harness::{Host, eventually, finish, tool};

const IDLE: &[&str] = &["busybox", "sleep", "1000"];

fn start(host: &Host, flags: &[&str]) -> String {
    let args: Vec<&str> = ["container", "run", "-d"].iter().chain(flags).chain(IDLE).copied().collect();
    host.ok(&args)
}

#[test]
fn none_host_and_container_are_what_their_names_say() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    let links = |name: &str| host.ok(&["container", "exec", name, "ls", "/sys/class/net"]);
    start(&host, &["--name", "none", "--network", "none"]);
    assert_eq!(links("none"), "lo");
    let inside =
        host.ok(&["container", "run", "--rm", "--network", "host", "busybox", "readlink", "/proc/self/ns/net"]);
    assert_eq!(inside, std::fs::read_link("/proc/self/ns/net").unwrap().to_str().unwrap());
    start(&host, &["--name", "owner"]);
    start(&host, &["--name", "guest", "--network", "container:owner"]);
    let namespace = |name: &str| host.ok(&["container", "exec", name, "readlink", "/proc/self/ns/net"]);
    assert_eq!(namespace("owner"), namespace("guest"));
    assert_ne!(namespace("owner"), namespace("none"));
    let said = host.fails(125, &["container", "run", "--rm", "--network", "container:nobody", "busybox", "true"]);
    assert!(said.contains("No such container: nobody"), "{said}");
}

#[test]
fn networks_are_made_shown_and_removed() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    host.ok(&[
        "network",
        "create",
        "--subnet",
        "10.213.7.0/24",
        "--gateway",
        "10.213.7.254",
        "-o",
        "com.docker.network.bridge.name=ub-test-e2e",
        "--label",
        "k=v",
        "back",
    ]);
    let shown = host.json(&["network", "inspect", "back"])[0].take();
    assert_eq!(
        (&shown["Name"], &shown["Driver"], &shown["Labels"]["k"]),
        (&"back".into(), &"bridge".into(), &"v".into())
    );
    assert_eq!(shown["IPAM"]["Config"][0]["Subnet"], "10.213.7.0/24");
    assert!(host.ok(&["network", "ls"]).contains("back"));
    start(&host, &["--name", "fixed", "--network", "back", "--ip", "10.213.7.77"]);
    assert_eq!(host.address("fixed", "back"), "10.213.7.77");
    assert!(host.ok(&["container", "exec", "fixed", "ip", "route"]).contains("default via 10.213.7.254"));
    assert!(tool("ip", &["-o", "link"]).contains("ub-test-e2e"));
    let said = host.fails(1, &["network", "rm", "back"]);
    assert!(said.contains("network back has active endpoints") && said.contains("fixed"), "{said}");
    let said =
        host.fails(125, &["container", "run", "--rm", "--network", "back", "--ip", "10.213.7.77", "busybox", "true"]);
    assert!(said.contains("10.213.7.77"), "{said}");
    let said = host.fails(1, &["network", "create", "back"]);
    assert!(said.contains("network with name back already exists"), "{said}");
    host.ok(&["container", "rm", "-f", "fixed"]);
    host.ok(&["network", "rm", "back"]);
    assert!(!tool("ip", &["-o", "link"]).contains("ub-test-e2e"));
    let said = host.fails(1, &["network", "rm", "back"]);
    assert!(said.contains("network back not found"), "{said}");
    let said = host.fails(125, &["container", "run", "--rm", "--network", "nowhere", "busybox", "true"]);
    assert!(said.contains("network nowhere not found"), "{said}");
}

#[test]
fn ranges_are_those_of_the_environment_where_it_names_some() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    let create = |name: &str, pools: &str| {
        let mut command = host.command(&["network", "create", name]);
        command.env("UMIAK_ADDRESS_POOLS", pools);
        finish(command, b"", "network create")
    };
    for (name, wanted) in [("one", "10.213.160.0/22"), ("two", "10.213.164.0/22"), ("three", "10.213.176.0/22")] {
        let done = create(name, "10.213.160.0/21, 10.213.176.0/22");
        assert_eq!(done.code, 0, "{}", done.err);
        assert_eq!(host.json(&["network", "inspect", name])[0]["IPAM"]["Config"][0]["Subnet"], wanted);
    }
    let full = create("four", "10.213.160.0/21, 10.213.176.0/22");
    assert!(full.code == 1 && full.err.contains("all 3 ranges"), "{}", full.err);
    let wrong = create("four", "10.213.0.0");
    assert!(wrong.code == 1 && wrong.err.contains("UMIAK_ADDRESS_POOLS: `10.213.0.0` is not"), "{}", wrong.err);
}

#[test]
fn names_resolve_on_a_network_and_containers_come_and_go() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    host.ok(&["network", "create", "one"]);
    host.ok(&["network", "create", "--internal", "two"]);
    start(&host, &["--name", "aa", "--network", "one"]);
    start(&host, &["--name", "bb", "--network", "two", "--network-alias", "other"]);
    let lookup = |name: &str| host.run(&["container", "exec", "aa", "nslookup", name]);
    assert_ne!(lookup("bb").code, 0, "not on the same network");
    let route = host.ok(&["container", "exec", "bb", "ip", "route"]);
    assert!(!route.contains("default"), "an internal network leads nowhere: {route}");
    host.ok(&["network", "connect", "--alias", "bee", "one", "bb"]);
    let address = host.address("bb", "one");
    for name in ["bb", "bee"] {
        eventually(&format!("{name} resolves"), || {
            let done = lookup(name);
            if done.out.contains(&address) { Ok(()) } else { Err(done.out + &done.err) }
        });
    }
    assert!(!lookup("other").out.contains(&address), "an alias belongs to its network");
    host.ok(&["container", "exec", "aa", "ping", "-c", "1", "-W", "5", "bee"]);
    host.ok(&["network", "disconnect", "one", "bb"]);
    eventually("bb is unknown", || if lookup("bb").code == 0 { Err("still known".into()) } else { Ok(()) });
    assert_ne!(host.run(&["container", "exec", "aa", "ping", "-c", "1", "-W", "1", &address]).code, 0);
    host.ok(&["network", "connect", "one", "bb"]);
    host.ok(&["container", "stop", "-t", "0", "bb"]);
    host.ok(&["container", "start", "bb"]);
    let address = host.address("bb", "one");
    assert!(lookup("bb").out.contains(&address), "what was joined stays joined");
    host.ok(&["container", "rm", "-f", "aa", "bb"]);
    let pruned = host.ok(&["network", "prune", "-f"]);
    assert!(pruned.contains("one") && pruned.contains("two"), "{pruned}");
}

#[test]
fn networks_do_not_reach_each_other() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    host.ok(&["network", "create", "left"]);
    host.ok(&["network", "create", "right"]);
    start(&host, &["--name", "l1", "--network", "left"]);
    start(&host, &["--name", "l2", "--network", "left"]);
    start(&host, &["--name", "r1", "--network", "right"]);
    let ping = |from: &str, to: &str| host.run(&["container", "exec", from, "ping", "-c", "1", "-W", "2", to]).code;
    let (l1, l2, r) = (host.address("l1", "left"), host.address("l2", "left"), host.address("r1", "right"));
    assert_eq!((ping("l1", &l2), ping("l2", &l1)), (0, 0));
    assert_ne!(ping("l1", &r), 0);
    assert_ne!(ping("r1", &l1), 0);
}

#[test]
fn a_run_root_may_be_longer_than_a_sockets_address() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    let long = host.path().join("a".repeat(100));
    let run = |args: &[&str]| {
        let args: Vec<&str> = ["--run-root", long.to_str().unwrap()].iter().chain(args).copied().collect();
        host.ok(&args)
    };
    run(&["container", "run", "-d", "--name", "far", "busybox", "sleep", "1000"]);
    run(&["network", "create", "more"]);
    run(&["network", "connect", "more", "far"]);
    assert_eq!(run(&["container", "exec", "far", "ls", "/sys/class/net"]), "eth0\neth1\nlo");
    run(&["container", "rm", "-f", "far"]);
    run(&["network", "rm", "more"]);
}
