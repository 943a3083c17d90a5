//! What a Compose file says of its services, seen from inside their containers.

use std::process::Stdio;

use crate::harness::{Host, eventually, finish_child};

fn up(host: &Host, file: &str) {
    host.write("compose.yaml", file);
    host.ok(&["up", "-d", "-t", "0"]);
}

fn down(host: &Host) {
    host.ok(&["down", "-v", "-t", "0"]);
    assert!(host.ids().is_empty() && host.network_ids().is_empty());
}

#[test]
fn replicas_share_a_name_and_services_can_share_a_network() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    up(
        &host,
        r#"
services:
  many: {image: busybox, command: sleep 1000, scale: 5, networks: {net: {aliases: [crowd]}}}
  fixed:
    image: busybox
    command: sleep 1000
    hostname: set-by-file
    extra_hosts: ["elsewhere:10.1.2.3"]
    networks: {net: {ipv4_address: 10.214.9.99}}
  beside: {image: busybox, command: sleep 1000, network_mode: "service:fixed"}
  alone: {image: busybox, command: sleep 1000, network_mode: none}
networks:
  net: {ipam: {config: [{subnet: 10.214.9.0/24}]}}
"#,
    );
    let inside = |service: &str, script: &str| host.ok(&["exec", "-T", service, "sh", "-c", script]);
    for name in ["many", "crowd"] {
        let found = inside("fixed", &format!("nslookup {name} | grep -c 'Address.*10.214.9'"));
        assert_eq!(found, "5", "{name}");
    }
    assert_eq!(host.address("demo-fixed-1", "demo_net"), "10.214.9.99");
    assert_eq!(inside("fixed", "hostname"), "set-by-file");
    assert!(inside("fixed", "cat /etc/hosts").contains("10.1.2.3\telsewhere"));
    assert!(inside("fixed", "cat /etc/resolv.conf").contains("nameserver 127.0.0.11"));
    assert!(inside("beside", "ip -4 address").contains("10.214.9.99"));
    assert_eq!(inside("beside", "nslookup fixed | grep -c 10.214.9.99"), "1");
    assert_eq!(inside("alone", "ls /sys/class/net"), "lo");
    inside("beside", "ping -c 1 -W 5 many");
    // One of five goes: the name follows.
    host.ok(&["up", "-d", "-t", "0", "--scale", "many=4"]);
    eventually("four are left", || match inside("fixed", "nslookup many | grep -c 'Address.*10.214.9'").as_str() {
        "4" => Ok(()),
        other => Err(other.to_owned()),
    });
    down(&host);
}

#[test]
fn a_service_has_the_settings_of_its_file() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    host.write("site/index.html", "from the project\n");
    up(
        &host,
        r#"
x-common: &common
  environment: {FROM: anchor}
services:
  web:
    <<: *common
    image: busybox
    command: ["sleep", "1000"]
    container_name: chosen
    user: "65534:65534"
    working_dir: /site
    labels: {role: test}
    volumes: ["./site:/site:ro", "cache:/cache"]
    tmpfs: ["/scratch:size=2m,mode=1777"]
    read_only: true
    cap_drop: [ALL]
    cap_add: [NET_BIND_SERVICE]
    security_opt: ["no-new-privileges:true"]
    sysctls: {net.ipv4.ip_default_ttl: 44}
    ulimits: {nofile: {soft: 111, hard: 222}}
    mem_limit: 48m
    pids_limit: 40
    shm_size: 3m
    init: true
volumes:
  cache:
"#,
    );
    let inside = |script: &str| host.ok(&["exec", "-T", "web", "sh", "-c", script]);
    assert_eq!(inside("cat index.html; id -u; echo $FROM"), "from the project\n65534\nanchor");
    assert_eq!(inside("cat /proc/sys/net/ipv4/ip_default_ttl; ulimit -Sn; ulimit -Hn"), "44\n111\n222");
    assert_eq!(inside("grep -E 'CapBnd|NoNewPrivs' /proc/self/status"), "CapBnd:\t0000000000000400\nNoNewPrivs:\t1");
    assert!(inside("touch /scratch/x && df -k /scratch /dev/shm").contains("2048"));
    assert!(inside("touch /x 2>&1; touch /site/x 2>&1; true").matches("Read-only file system").count() == 2);
    let shown = host.inspect("chosen");
    assert_eq!(shown["Config"]["Labels"]["role"], "test");
    assert_eq!(shown["Config"]["Labels"]["com.docker.compose.service"], "web");
    assert_eq!((&shown["HostConfig"]["Memory"], &shown["HostConfig"]["Init"]), (&(48 << 20).into(), &true.into()));
    assert_eq!(host.json(&["volume", "inspect", "demo_cache"])[0]["Labels"]["com.docker.compose.volume"], "cache");
    let said = host.fails(1, &["volume", "rm", "demo_cache"]);
    assert!(said.contains("chosen"), "{said}");
    down(&host);
}

#[test]
fn logs_are_followed_until_everything_has_ended() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    up(
        &host,
        "services:\n  one:\n    image: busybox\n    command: sh -c 'echo first; until [ -e /go ]; do sleep 0.1; done; echo last'\n  two: {image: busybox, command: echo only}\n",
    );
    let follow = host.command(&["logs", "-f"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    host.ok(&["exec", "-T", "one", "touch", "/go"]);
    let done = finish_child(follow, b"", "logs -f");
    assert_eq!(done.code, 0, "{}", done.err);
    let mut lines: Vec<&str> = done.out.lines().filter(|line| line.contains(" | ")).collect();
    lines.sort_unstable();
    assert_eq!(lines, ["one-1  | first", "one-1  | last", "two-1  | only"]);
    assert_eq!(host.ok(&["logs", "--tail", "1", "--no-log-prefix", "one"]), "last");
    let stamped = host.ok(&["logs", "-t", "two"]);
    assert!(stamped.starts_with("two-1  | 20") && stamped.ends_with("Z only"), "{stamped}");
    assert_eq!(host.ok(&["logs", "--since", "2099-01-01", "two"]), "");
    down(&host);
}

#[test]
fn services_are_pulled_created_and_chosen() {
    let Some(host) = Host::bare() else { return };
    host.write(
        "compose.yaml",
        "services:\n  web: {image: busybox, command: sleep 1000, depends_on: [db]}\n  db: {image: 'busybox:1.36', command: sleep 1000}\n  other: {image: busybox, command: sleep 1000, profiles: [extra]}\n",
    );
    host.ok(&["pull"]);
    assert_eq!(host.ok(&["image", "ls"]).matches("busybox").count(), 2);
    host.ok(&["up", "--no-start"]);
    let states = || {
        let listed = host.lines(&["ps", "-a", "--format", "json"]);
        listed
            .iter()
            .map(|one| format!("{} {}", one["Service"].as_str().unwrap(), one["State"].as_str().unwrap()))
            .collect::<Vec<_>>()
    };
    assert_eq!(states(), ["db created", "web created"]);
    host.ok(&["up", "-d", "db"]);
    assert_eq!(states(), ["db running", "web created"]);
    let done = host.run(&["up", "-d", "web"]);
    assert!(done.code == 0 && done.err.contains("demo-db-1  Running"), "{}", done.err);
    assert_eq!(states(), ["db running", "web running"]);
    host.ok(&["--profile", "extra", "up", "-d", "other"]);
    assert_eq!(states().len(), 3);
    assert_eq!(host.ok(&["ps", "--services"]), "db\nother\nweb");
    host.ok(&["--profile", "extra", "down", "-t", "0"]);
    assert!(host.ids().is_empty() && host.network_ids().is_empty());
    assert!(host.ok(&["version"]).contains("umiak"));
}
