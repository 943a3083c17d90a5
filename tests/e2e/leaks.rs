//! In a network namespace of its own, where nothing else happens: what is there afterwards is what was there before.

use std::process::{Child, Command, Stdio};

use crate::harness::{Done, Host, finish, names_in};

/// A network namespace with nothing but its loopback, held by a process.
struct Apart {
    holder: Child,
}

impl Apart {
    fn new() -> Self {
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

    fn umiak(&self, host: &Host, args: &[&str]) -> String {
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
            .filter(|l| l.contains("umiak") || l.contains(host.path().to_str().unwrap()))
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
        apart.umiak(&host, &["container", "run", "--rm", "busybox", "true"]);
        apart.umiak(&host, &["down", "-v"]);
        assert_eq!(apart.picture(&host), before);
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
