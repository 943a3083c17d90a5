//! In a network namespace of its own, where nothing else happens: what is there afterwards is what was there before.

use std::process::{Child, Command, Stdio};

use crate::harness::{Done, Host, eventually, finish, names_in};

/// A network namespace with nothing but its loopback, held by a process.
pub struct Apart {
    holder: Child,
}

impl Apart {
    pub fn new() -> Self {
        // It says when it is there.
        let script = "ip link set lo up && echo up && exec sleep 100000";
        let mut holder =
            Command::new("unshare").args(["-n", "sh", "-c", script]).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(holder.stdout.as_mut().unwrap()), &mut line).unwrap();
        assert_eq!(line, "up\n");
        Self { holder }
    }

    fn run(&self, host: &Host, program: &str, args: &[&str]) -> Done {
        let target = self.holder.id().to_string();
        let args: Vec<&str> = ["-t", &target, "-n", program].iter().chain(args).copied().collect();
        finish(host.other("nsenter", &args), b"", &format!("{program} {}", args.join(" ")))
    }

    pub fn umiak(&self, host: &Host, args: &[&str]) -> String {
        let binary = crate::harness::binary();
        let done = self.run(host, binary.to_str().unwrap(), args);
        assert_eq!(done.code, 0, "umiak {}: {}{}", args.join(" "), done.out, done.err);
        done.out
    }

    /// Everything of the network that can be seen: links, addresses, routes, rules.
    fn picture(&self, host: &Host) -> String {
        let part = |program: &str, args: &[&str]| self.run(host, program, args).out;
        let links = part("ip", &["-br", "link"]);
        let rest = [
            part("ip", &["address"]),
            part("ip", &["route", "show", "table", "all"]),
            part("ip", &["rule"]),
            part("nft", &["list", "ruleset"]),
        ];
        format!("{links}\n{}", rest.join("\n"))
    }
}

impl Drop for Apart {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

const STACK: &str = "services:\n  one:\n    image: busybox\n    command: sleep 1000\n    stop_grace_period: 0s\n    ports: [\"8080:80\", \"9000-9003:9000-9003/udp\"]\n    networks: [front, back]\n    volumes: [\"data:/data\", \"/anonymous\"]\n    tmpfs: [/scratch]\n  two:\n    image: busybox\n    command: sleep 1000\n    stop_grace_period: 0s\n    networks: [back]\n    deploy: {replicas: 3}\nnetworks:\n  front:\n  back: {internal: true}\nvolumes:\n  data:\n";

#[test]
fn after_down_the_host_is_as_it_was() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    let apart = Apart::new();
    host.write("compose.yaml", STACK);
    let mounts = || {
        std::fs::read_to_string("/proc/self/mountinfo")
            .unwrap()
            .lines()
            .filter(|l| l.contains(host.path().to_str().unwrap()))
            .count()
    };
    let (before, mounted) = (apart.picture(&host), mounts());
    for _ in 0..2 {
        apart.umiak(&host, &["up", "-d"]);
        let up = apart.picture(&host);
        assert!(up.contains("table inet umiak") && up.matches("ub-").count() >= 2 && up.contains("8080"), "{up}");
        assert_eq!(
            mounts() - mounted,
            names_in(&host.run_root().join("netns")).len(),
            "the only mounts of ours are the namespaces' pins"
        );
        apart.umiak(&host, &["down", "-v"]);
        assert_eq!(apart.picture(&host), before);
        apart.umiak(&host, &["up", "-d"]);
        apart.umiak(&host, &["container", "run", "--rm", "busybox", "true"]);
        apart.umiak(&host, &["down", "-v"]);
        // The network of the single container stays for a moment, in case another one comes.
        eventually("the host is as before", || match apart.picture(&host) {
            now if now == before => Ok(()),
            now => Err(now),
        });
    }
    assert_eq!(mounts(), mounted);
}

#[test]
fn flushed_firewall_rules_come_back_with_the_next_start() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    let apart = Apart::new();
    host.write("compose.yaml", STACK);
    apart.umiak(&host, &["up", "-d"]);
    assert_eq!(apart.run(&host, "nft", &["flush", "ruleset"]).code, 0);
    apart.umiak(&host, &["restart"]);
    let rules = apart.run(&host, "nft", &["list", "ruleset"]).out;
    assert!(rules.contains("table inet umiak") && rules.contains("8080"), "{rules}");
    apart.umiak(&host, &["down", "-v"]);
    assert!(!apart.run(&host, "nft", &["list", "ruleset"]).out.contains("umiak"));
}

#[test]
fn flushed_firewall_rules_come_back_by_themselves() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    let apart = Apart::new();
    host.write("compose.yaml", STACK);
    apart.umiak(&host, &["up", "-d"]);
    let rules = || apart.run(&host, "nft", &["-s", "list", "ruleset"]).out;
    let sorted = |text: String| {
        // Elements are listed in no order.
        let mut words: Vec<String> = text.split([' ', '\n', '\t', ',']).map(str::to_owned).collect();
        words.sort();
        words
    };
    let before = sorted(rules());
    for ways in [
        &[&["flush", "ruleset"][..]][..],
        &[&["flush", "table", "inet", "umiak"]],
        &[&["delete", "table", "inet", "umiak"]],
        // As services of firewalls do it: their own rules in place of all.
        &[&["flush", "ruleset"], &["add", "table", "inet", "theirs"], &["delete", "table", "inet", "theirs"]],
    ] {
        for way in ways {
            assert_eq!(apart.run(&host, "nft", way).code, 0, "{way:?}");
        }
        eventually(&format!("the rules are back after {ways:?}"), || match rules() {
            now if sorted(now.clone()) == before => Ok(()),
            now => Err(now),
        });
    }
    apart.umiak(&host, &["down", "-v"]);
    assert!(!rules().contains("umiak"));
}

#[test]
fn containers_that_remove_themselves_follow_each_other_on_one_network() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    let apart = Apart::new();
    let before = apart.picture(&host);
    let address = "ip -4 -o address show eth0";
    for round in 0..5 {
        let out = apart.umiak(&host, &["container", "run", "--rm", "-v", "/anonymous", "busybox", "sh", "-c", address]);
        assert!(out.contains("inet "), "round {round}: {out}");
        // To all others it is gone.
        assert_eq!(apart.umiak(&host, &["container", "ls", "-aq"]), "");
        assert_eq!(apart.umiak(&host, &["volume", "ls", "-q"]), "");
    }
    let nothing_is_left = || {
        eventually("nothing is left", || {
            let now = apart.picture(&host);
            let left = host.leftovers(&host.ids(), &host.network_ids());
            if now == before && left.is_empty() { Ok(()) } else { Err(format!("{now}\n{left:?}")) }
        });
    };
    nothing_is_left();
    // The same address is given again, though the one before may still have it; and so is the only one.
    apart.umiak(&host, &["network", "create", "--subnet", "172.30.7.0/30", "narrow"]);
    for asked in [&["--ip", "172.30.7.2"][..], &[], &["--ip", "172.30.7.2"], &[]] {
        let args =
            [&["container", "run", "--rm", "--network", "narrow"], asked, &["busybox", "sh", "-c", address]].concat();
        let out = apart.umiak(&host, &args);
        assert!(out.contains("inet 172.30.7.2/30"), "{asked:?}: {out}");
    }
    apart.umiak(&host, &["network", "rm", "narrow"]);
    // What was killed while it cleared away is made good by the next command that starts something.
    apart.umiak(&host, &["container", "create", "--name", "lone", "busybox", "true"]);
    apart.umiak(&host, &["container", "start", "-a", "lone"]);
    let config = names_in(&host.root().join("containers")).into_iter().find(|name| name.len() == 64).unwrap();
    std::fs::remove_file(host.root().join("containers").join(config).join("config.json")).unwrap();
    apart.umiak(&host, &["container", "run", "--rm", "--network", "none", "busybox", "true"]);
    nothing_is_left();
}
