//! Plans: what is shown is what is done, nothing is lost on the way, and a killed command can be gone on from.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;

use serde_json::Value;

use crate::harness::{Done, Host, eventually, finish, finish_child};

const TWO: &str = r#"
services:
  web:
    image: busybox
    command: sleep 1000
    stop_grace_period: 0s
    environment: { COLOUR: red, SHAPE: round }
    depends_on: [db]
  db:
    image: busybox
    command: sleep 1000
    stop_grace_period: 0s
    volumes: ["data:/data", "/anonymous"]
volumes:
  data:
"#;

/// Every file below a directory with its content, but for what changes by itself.
fn snapshot(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut all = BTreeMap::new();
    let mut queue = vec![dir.to_owned()];
    while let Some(dir) = queue.pop() {
        for entry in std::fs::read_dir(&dir).into_iter().flatten().flatten() {
            let (path, kind) = (entry.path(), entry.file_type().unwrap());
            let name = path.display().to_string();
            if kind.is_dir() {
                all.insert(name, Vec::new());
                queue.push(path);
            } else {
                let content = if kind.is_file() { std::fs::read(&path).unwrap_or_default() } else { Vec::new() };
                all.insert(name, content);
            }
        }
    }
    all
}

fn ids(host: &Host) -> BTreeMap<String, String> {
    let listed = host.lines(&["ps", "-a", "--format", "json"]);
    let text = |value: &Value, key: &str| value[key].as_str().unwrap().to_owned();
    listed.iter().map(|one| (text(one, "Name"), text(one, "ID"))).collect()
}

fn plan(host: &Host) -> Done {
    host.run(&["plan"])
}

fn settled(host: &Host) {
    let done = plan(host);
    assert_eq!((done.code, done.out.contains("nothing to do")), (0, true), "{}{}", done.out, done.err);
}

#[test]
fn a_plan_tells_what_up_does_and_a_dry_run_does_nothing() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    host.write("compose.yaml", TWO);
    let done = plan(&host);
    assert_eq!(done.code, 2, "{}", done.err);
    for line in ["Network demo_default  create", "Volume demo_data  create", "Container demo-web-1  start"] {
        assert!(done.out.contains(line), "{line} in {}", done.out);
    }
    host.ok(&["up", "-d"]);
    settled(&host);
    host.write(
        "compose.yaml",
        &TWO.replace("red", "blue").replace(
            "sleep 1000\n    stop_grace_period: 0s\n    volumes",
            "sleep 1001\n    stop_grace_period: 0s\n    volumes",
        ),
    );
    let before = (
        snapshot(&host.root().join("containers")),
        snapshot(&host.root().join("networks")),
        snapshot(&host.run_root()),
    );
    let commands: [&[&str]; 10] = [
        &["up", "-d"],
        &["up", "-d", "--force-recreate", "--scale", "web=3", "--remove-orphans"],
        &["create"],
        &["scale", "web=2"],
        &["stop"],
        &["restart"],
        &["kill"],
        &["rm", "-f", "-s"],
        &["pull"],
        &["down", "-v", "--rmi", "all"],
    ];
    for command in commands {
        let mut args = vec!["--dry-run"];
        args.extend(command);
        let done = host.run(&args);
        assert!(done.code == 0 && done.err.contains(" DRY-RUN MODE - "), "{command:?}: {}", done.err);
        let after = (
            snapshot(&host.root().join("containers")),
            snapshot(&host.root().join("networks")),
            snapshot(&host.run_root()),
        );
        assert!(after == before, "{command:?} changed something");
    }
    let json = host.run(&["plan", "--format", "json"]);
    let json: Value = serde_json::from_str(&json.out).unwrap();
    let texts: Vec<String> = json["steps"]
        .as_array()
        .unwrap()
        .iter()
        .map(|step| format!("{} {} {}", step["action"], step["name"], step["reasons"][0]["text"]))
        .collect();
    assert_eq!(
        texts,
        [r#""recreate" "demo-db-1" "command changed""#, r#""recreate" "demo-web-1" "environment COLOUR changed""#]
    );
    let said = host.run(&["up", "-d"]).err;
    assert!(said.contains("Container demo-web-1  Recreated (environment COLOUR changed)"), "{said}");
    settled(&host);
    host.ok(&["down", "-v"]);
}

#[test]
fn limits_change_in_the_container_that_runs() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    let with = |limits: &str| TWO.replace("    volumes: [\"data", &format!("{limits}    volumes: [\"data"));
    host.write("compose.yaml", &with("    mem_limit: 64m\n    pids_limit: 50\n"));
    host.ok(&["up", "-d"]);
    let before = ids(&host);
    host.write("compose.yaml", &with("    mem_limit: 128m\n    cpus: 0.5\n    restart: on-failure:3\n"));
    let said = host.run(&["up", "-d"]);
    assert!(said.code == 0 && said.err.contains("demo-db-1  Updated (memory limit 64MiB -> 128MiB"), "{}", said.err);
    assert_eq!(ids(&host), before, "the containers are the same");
    let config = host.inspect("demo-db-1")["HostConfig"].clone();
    assert_eq!((&config["Memory"], &config["NanoCpus"]), (&(128 << 20).into(), &500_000_000.into()));
    assert_eq!(config["RestartPolicy"]["Name"], "on-failure");
    let script = "cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null";
    assert_eq!(host.run(&["exec", "-T", "db", "sh", "-c", script]).out.trim(), (128 << 20).to_string());
    settled(&host);
    host.ok(&["stop"]);
    host.write("compose.yaml", &with(""));
    host.ok(&["create"]);
    assert_eq!(host.inspect("demo-db-1")["HostConfig"]["Memory"], 0, "also of one that is stopped");
    assert_eq!(ids(&host), before);
    host.ok(&["down", "-v"]);
}

#[test]
fn networks_and_volumes_that_differ_are_made_anew() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    host.write("compose.yaml", TWO);
    host.ok(&["up", "-d"]);
    host.ok(&["exec", "-T", "db", "sh", "-c", "echo mine > /anonymous/x; echo mine > /data/x; echo mine > /x"]);
    let before = ids(&host);
    let network = host.network_ids();
    host.write("compose.yaml", &format!("{TWO}networks: {{ default: {{ internal: true }} }}\n"));
    let said = host.run(&["up", "-d"]);
    assert!(said.code == 0 && said.err.contains("Network demo_default  Recreated"), "{}", said.err);
    assert_eq!(ids(&host), before, "the containers are the same, on another network");
    assert_ne!(host.network_ids(), network);
    assert_eq!(host.ok(&["exec", "-T", "db", "cat", "/x"]), "mine");
    host.ok(&["exec", "-T", "web", "ping", "-c", "1", "db"]);
    settled(&host);

    let options = "volumes:\n  data: { driver_opts: { type: tmpfs, device: tmpfs, o: size=1m } }\n";
    host.write("compose.yaml", &TWO.replace("volumes:\n  data:\n", options));
    let said = host.run(&["up", "-d"]);
    assert!(said.code == 0 && said.err.contains("doesn't match configuration"), "{}", said.err);
    assert_eq!(host.ok(&["exec", "-T", "db", "cat", "/data/x"]), "mine", "nothing is lost without a yes");
    let said = host.run(&["up", "-d", "-y"]);
    assert!(said.code == 0 && said.err.contains("Volume demo_data  Recreated"), "{}", said.err);
    assert_ne!(host.run(&["exec", "-T", "db", "cat", "/data/x"]).code, 0);
    assert_eq!(host.ok(&["exec", "-T", "db", "cat", "/anonymous/x"]), "mine", "anonymous volumes are kept");
    host.ok(&["up", "-d", "-V", "db"]);
    assert_ne!(host.run(&["exec", "-T", "db", "cat", "/anonymous/x"]).code, 0, "but for -V");
    settled(&host);
    host.ok(&["down", "-v"]);
}

#[test]
fn a_failed_replacement_brings_the_old_container_back() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    host.write("compose.yaml", TWO);
    host.ok(&["up", "-d"]);
    let before = ids(&host);
    host.write("compose.yaml", &TWO.replacen("command: sleep 1000", "command: /no/such/program", 1));
    let said = host.fails(1, &["up", "-d"]);
    assert!(said.contains("start container demo-web-1") && said.contains("is as it was before"), "{said}");
    assert_eq!(ids(&host), before);
    assert_eq!(host.lines(&["ps", "--format", "json"]).len(), 2, "both run");
    host.ok(&["down", "-v"]);
    host.fails(1, &["up", "-d"]);
    assert!(host.ids().is_empty() && host.network_ids().is_empty(), "what a failed up made is gone");
    host.fails(1, &["up", "-d", "--keep"]);
    assert_eq!(host.ids().len(), 2, "unless it is to be kept");
    host.ok(&["down", "-v"]);
}

/// Runs a command that dies at the `place`th place; `None` where it has come to its end before.
fn die_at(host: &Host, place: u32, args: &[&str]) -> Option<Done> {
    let mut command = host.command(args);
    command.env("UMIAK_DIE_AT", place.to_string()).env("UMIAK_PLACES", host.path().join("places"));
    let done = finish(command, b"", &format!("umiak {} until place {place}", args.join(" ")));
    (done.code == 1009).then_some(done)
}

/// Whether the program can be made to die: a release build cannot.
fn can_die(host: &Host) -> bool {
    let able = die_at(host, 1, &["up", "-d"]).is_some();
    if !able {
        assert!(std::env::var("UMIAK_MUST_RUN").is_err(), "the program cannot be made to die");
        eprintln!("skipped: the program was built without places to die at (debug assertions)");
    }
    host.ok(&["down", "-v", "-t", "0"]);
    able
}

#[test]
fn a_command_killed_at_any_step_can_be_gone_on_from() {
    let Some(host) = Host::with_debug_assertions(&["busybox"]) else { return };
    host.write("compose.yaml", TWO);
    if !can_die(&host) {
        return;
    }
    let rolling =
        "\n    deploy: { replicas: 2, update_config: { parallelism: 1, order: start-first } }\n    depends_on: [db]";
    let first = TWO.replace("\n    depends_on: [db]", rolling);
    // Recreated, rolled, updated, on another network: every kind of step.
    let second = first
        .replace("COLOUR: red", "COLOUR: blue")
        .replace("    volumes: [\"data", "    mem_limit: 64m\n    volumes: [\"data")
        + "  other:\nnetworks: { default: { internal: true } }\n";
    let third = second.replace("COLOUR: blue", "COLOUR: green").replacen(
        "sleep 1000\n    stop_grace_period: 0s\n    mem_limit",
        "sleep 1001\n    stop_grace_period: 0s\n    mem_limit",
        1,
    );
    // A replica that a killed command did not come to make is made later, with the next number.
    let whole = |place: u32| {
        let names: Vec<String> = ids(&host).into_keys().collect();
        let (db, web): (Vec<&String>, Vec<&String>) = names.iter().partition(|name| *name == "demo-db-1");
        let named = web.iter().all(|name| name.starts_with("demo-web-"));
        assert!(db.len() == 1 && web.len() == 2 && named, "place {place}: {names:?}");
    };
    for place in 1.. {
        host.write("compose.yaml", &first);
        let fresh = die_at(&host, place, &["up", "-d"]).is_some();
        if fresh {
            // Half of what dies is cleaned up at once, the other half gone on from.
            if place % 2 == 0 {
                host.ok(&["down", "-v"]);
                assert!(host.ids().is_empty() && host.network_ids().is_empty(), "down after place {place}");
            }
            host.ok(&["up", "-d"]);
        }
        settled(&host);
        whole(place);
        host.ok(&["exec", "-T", "db", "sh", "-c", "echo mine > /anonymous/x"]);
        let mut changed = false;
        for text in [&second, &third] {
            host.write("compose.yaml", text);
            changed |= die_at(&host, place, &["up", "-d"]).is_some();
            host.ok(&["up", "-d"]);
            settled(&host);
            whole(place);
            assert_eq!(host.lines(&["ps", "--format", "json"]).len(), 3, "place {place}");
            assert_eq!(host.ok(&["exec", "-T", "db", "cat", "/anonymous/x"]), "mine", "place {place}");
        }
        let ended = die_at(&host, place, &["down", "-v"]).is_some();
        host.ok(&["down", "-v"]);
        assert!(host.ids().is_empty() && host.network_ids().is_empty(), "down after place {place}");
        assert_eq!(host.ok(&["volume", "ls", "-q"]), "", "place {place}");
        if !fresh && !changed && !ended {
            break;
        }
    }
    let passed = std::fs::read_to_string(host.path().join("places")).unwrap();
    for kind in [
        "create",
        "start",
        "recreate",
        "roll",
        "update",
        "stop",
        "detach",
        "attach",
        "remove",
        "rename",
        "beside",
        "stop old",
        "start new",
        "remove old",
        "network removed",
    ] {
        assert!(passed.lines().any(|place| place == kind), "no command died at {kind}");
    }
}

#[test]
fn two_ups_of_one_project_wait_for_each_other_and_readers_for_nobody() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    // It takes its time to stop, so the first command holds the project while it is replaced.
    let slow = "services: { web: { image: busybox, command: \"sh -c 'trap \\\"touch /tmp/asked\\\" TERM; while :; do sleep 0.1; done'\", stop_grace_period: 8s, environment: { A: '1' } } }\n";
    host.write("compose.yaml", slow);
    host.ok(&["up", "-d"]);
    host.write("compose.yaml", &slow.replace("'1'", "'2'"));
    let first = host.command(&["up", "-d"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    eventually("the first holds the project", || {
        match host.run(&["exec", "-T", "web", "test", "-e", "/tmp/asked"]).code {
            0 => Ok(()),
            code => Err(code.to_string()),
        }
    });
    let pid = first.id();
    assert_eq!(plan(&host).code, 2, "readers do not wait");
    assert!(!host.ok(&["ps", "-q"]).is_empty());
    host.ok(&["-p", "another", "up", "-d"]);
    host.ok(&["-p", "another", "down", "-t", "0"]);
    let second = host.run(&["up", "-d"]);
    let first = finish_child(first, b"", "the first up");
    assert_eq!((first.code, second.code), (0, 0), "{}{}", first.err, second.err);
    let holder = format!("(pid {pid}: ");
    assert!(second.err.contains(&holder) && second.err.contains(" up -d)"), "{}", second.err);
    assert!(second.err.contains("Running"), "the second one finds nothing to do: {}", second.err);
    host.ok(&["down", "-t", "0"]);
}

#[test]
fn a_rolling_update_keeps_all_replicas_answering() {
    let Some(host) = Host::new(&["busybox", "python:3.11-slim"]) else { return };
    let text = r#"
services:
  web:
    image: busybox
    command: sh -c "echo $$VERSION > /tmp/index.html; exec httpd -f -p 80 -h /tmp"
    init: true
    environment: { VERSION: one }
    deploy:
      replicas: 3
      update_config: { order: start-first, parallelism: 1, monitor: 1s }
  asker:
    image: python:3.11-slim
    init: true
    stop_grace_period: 0s
    command:
      - python
      - -uc
      - |
        import socket, urllib.request
        while True:
            answered = 0
            for address in {found[4][0] for found in socket.getaddrinfo("web", 80, socket.AF_INET, socket.SOCK_STREAM)}:
                try:
                    answered += urllib.request.urlopen("http://" + address, timeout=2).status == 200
                except OSError:
                    pass
            print("answered", answered)
"#;
    host.write("compose.yaml", text);
    host.ok(&["up", "-d", "--wait"]);
    let answers = || host.ok(&["logs", "--no-log-prefix", "asker"]);
    eventually("all three answer", || if answers().contains("answered 3") { Ok(()) } else { Err(answers()) });
    let before = answers().lines().count();
    host.write("compose.yaml", &text.replace("VERSION: one", "VERSION: two"));
    let said = host.run(&["up", "-d"]);
    assert_eq!(said.code, 0, "{}", said.err);
    let during: Vec<String> = answers().lines().skip(before).map(str::to_owned).collect();
    assert!(
        during.len() > 3 && during.iter().all(|line| matches!(line.as_str(), "answered 3" | "answered 4")),
        "{during:?}"
    );
    let names: Vec<String> = ids(&host).into_keys().collect();
    assert_eq!(names, ["demo-asker-1", "demo-web-1", "demo-web-2", "demo-web-3"]);
    assert_eq!(host.ok(&["exec", "-T", "--index", "2", "web", "cat", "/tmp/index.html"]), "two");
    settled(&host);
    let broken = text
        .replace("VERSION: one", "VERSION: three")
        .replace("exec httpd", "exit 3; exec httpd")
        .replace("monitor: 1s", "monitor: 5s, failure_action: rollback");
    host.write("compose.yaml", &broken);
    let before = ids(&host);
    let said = host.fails(1, &["up", "-d"]);
    assert!(said.contains("it was rolled back") && said.contains("exited (3)"), "{said}");
    assert_eq!(ids(&host), before);
    host.ok(&["down", "-t", "0"]);
}

#[test]
fn a_stack_of_another_directory_with_the_same_name_is_left_alone() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    host.write(
        "compose.yaml",
        "name: same\nservices: { a: { image: busybox, command: sleep 1000, stop_grace_period: 0s } }\n",
    );
    host.ok(&["up", "-d"]);
    let other = host.path().join("other");
    std::fs::create_dir_all(&other).unwrap();
    std::fs::write(
        other.join("compose.yaml"),
        "name: same\nservices: { b: { image: busybox, command: sleep 1000, stop_grace_period: 0s } }\n",
    )
    .unwrap();
    let file = other.join("compose.yaml").display().to_string();
    let said = host.run(&["-f", &file, "up", "-d", "--remove-orphans"]);
    assert!(said.code == 0 && said.err.contains("another directory has a project of the same name"), "{}", said.err);
    assert_eq!(ids(&host).len(), 2);
    let said = host.run(&["-f", &file, "down", "--remove-orphans"]);
    assert!(said.code == 0 && said.err.contains("left alone"), "{}", said.err);
    assert_eq!(ids(&host).into_keys().collect::<Vec<_>>(), ["same-a-1"]);
    host.ok(&["down"]);
}

#[test]
fn create_scale_wait_and_down_with_services() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    host.write(
        "compose.yaml",
        &format!(
            "{}  job: {{ image: busybox, command: 'true' }}\n",
            TWO.split("volumes:\n  data:")
                .next()
                .unwrap()
                .replace("[\"data:/data\", \"/anonymous\"]", "[\"/anonymous\"]")
        ),
    );
    host.ok(&["create", "--scale", "web=2"]);
    assert_eq!(host.ok(&["ps", "-q"]), "");
    assert_eq!(ids(&host).len(), 4);
    host.ok(&["up", "--wait", "--scale", "web=2"]);
    host.ok(&["scale", "web=3", "--no-deps"]);
    assert_eq!(ids(&host).len(), 5);
    host.ok(&["scale", "web=1"]);
    let done = host.run(&["down", "web"]);
    assert!(done.code == 0 && done.err.contains("Network demo_default  Resource is still in use"), "{}", done.err);
    assert_eq!(ids(&host).into_keys().collect::<Vec<_>>(), ["demo-db-1", "demo-job-1"]);
    host.fails(1, &["down", "nosuch"]);
    host.ok(&["down", "-v"]);
    assert_eq!(host.ok(&["volume", "ls", "-q"]), "");
    host.write(
        "compose.yaml",
        "services: { web: { image: busybox, command: sleep 1000, container_name: only-one } }\n",
    );
    let said = host.fails(1, &["up", "-d", "--scale", "web=2"]);
    assert!(said.contains("custom container name \"only-one\"") && host.ids().is_empty(), "{said}");
}

#[test]
fn another_image_under_a_mounted_name_makes_another_container() {
    let Some(host) = Host::new(&["busybox", "alpine"]) else { return };
    host.ok(&["image", "tag", "alpine", "tools:1"]);
    host.write(
        "compose.yaml",
        "services: { web: { image: busybox, command: sleep 1000, stop_grace_period: 0s, pull_policy: never, \
         volumes: [{ type: image, source: 'tools:1', target: /tools }] } }\n",
    );
    host.ok(&["up", "-d"]);
    settled(&host);
    let release = ["exec", "-T", "web", "test", "-e", "/tools/etc/alpine-release"];
    host.ok(&release);
    host.ok(&["image", "tag", "busybox", "tools:1"]);
    let done = host.run(&["up", "-d"]);
    assert!(done.err.contains("Recreated (mounted image tools:1 changed)"), "{}", done.err);
    assert_ne!(host.run(&release).code, 0);
    settled(&host);
    host.ok(&["down"]);
    // What `run` alone makes has its images, too.
    host.ok(&["image", "rm", "tools:1"]);
    let said = host.fails(1, &["run", "--rm", "-T", "web", "true"]);
    assert!(said.contains("service web: mount image tools:1"), "{said}");
    host.ok(&["down"]);
}

#[test]
fn a_command_interrupted_at_any_step_takes_back_what_it_made() {
    let Some(host) = Host::with_debug_assertions(&["busybox"]) else { return };
    let first = TWO
        .replacen("sleep 1000\n", "sleep 1000\n    pre_start: [{ command: 'true' }]\n", 1)
        .replace("    volumes: [\"data", "    healthcheck: { test: 'true', interval: 1h }\n    volumes: [\"data")
        .replace("depends_on: [db]", "depends_on: { db: { condition: service_healthy } }");
    let second = first.replace("red", "blue").replace("[\"data:/data\"", "[\"data:/elsewhere\"");
    host.write("compose.yaml", &first);
    if !can_die(&host) {
        return;
    }
    // Its exit code is that of a program which the signal ended, or the signal ends it, where there is nothing to undo.
    let interrupted = |place: u32| {
        let mut command = host.command(&["up", "-d"]);
        command.env("UMIAK_INTERRUPT_AT", place.to_string());
        let done = finish(command, b"", &format!("umiak up -d interrupted at {place}"));
        assert!(matches!(done.code, 0 | 130 | 1002), "place {place}: {} {}", done.code, done.err);
        done
    };
    for place in 1.. {
        host.write("compose.yaml", &first);
        let fresh = interrupted(place);
        if fresh.code == 130 {
            assert!(fresh.err.contains("Error: interrupted"), "{}", fresh.err);
            assert!(host.ids().is_empty() && host.network_ids().is_empty(), "place {place}: {}", fresh.err);
        }
        if place % 2 == 0 {
            host.ok(&["down", "-v"]);
            assert!(host.ids().is_empty() && host.network_ids().is_empty(), "down after place {place}");
        }
        host.ok(&["up", "-d"]);
        settled(&host);
        let before = ids(&host);
        assert_eq!(before.len(), 2, "place {place}");
        host.write("compose.yaml", &second);
        let changed = interrupted(place);
        assert_eq!(host.lines(&["ps", "--format", "json"]).len(), 2, "both run, the old or the new: place {place}");
        host.ok(&["up", "-d"]);
        settled(&host);
        assert_eq!(ids(&host).into_keys().collect::<Vec<_>>(), before.into_keys().collect::<Vec<_>>());
        host.ok(&["down", "-v"]);
        assert!(host.ids().is_empty() && host.network_ids().is_empty(), "down after place {place}");
        if fresh.code == 0 && changed.code == 0 {
            break;
        }
    }
}
