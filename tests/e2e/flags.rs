//! Flags and variables of commands that change what is there: orphans, images, how much at a time.

use std::path::Path;

use crate::harness::{Done, Host, eventually, finish};

fn with(host: &Host, name: &str, value: &str, args: &[&str]) -> Done {
    let mut command = host.command(args);
    command.env(name, value);
    finish(command, b"", &format!("{name}={value} umiak {}", args.join(" ")))
}

#[test]
fn orphans_are_removed_or_ignored_as_variables_and_flags_say() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    let one = "services:\n  a: { image: busybox, command: sleep 1000, stop_grace_period: 0s }\n";
    let two = format!("{one}{}", "  b: { image: busybox, command: sleep 1000, stop_grace_period: 0s }\n");
    let both = || {
        host.write("compose.yaml", &two);
        host.ok(&["up", "-d"]);
        host.write("compose.yaml", one);
        assert_eq!(host.ids().len(), 2);
    };
    both();
    let said = host.run(&["up", "-d"]).err;
    assert!(said.contains("found orphan containers (demo-b-1)"), "{said}");
    let done = with(&host, "COMPOSE_IGNORE_ORPHANS", "true", &["up", "-d"]);
    assert!(done.code == 0 && !done.err.contains("orphan"), "{}", done.err);
    let done = with(&host, "COMPOSE_IGNORE_ORPHANS", "1", &["up", "-d", "--remove-orphans"]);
    assert!(done.code == 1 && done.err.contains("cannot combine COMPOSE_IGNORE_ORPHANS and --remove-orphans"));
    assert_eq!(host.ids().len(), 2);
    let done = with(&host, "COMPOSE_REMOVE_ORPHANS", "1", &["up", "-d"]);
    assert!(done.code == 0 && done.err.contains("Container demo-b-1  Removed"), "{}", done.err);
    assert_eq!(host.ids().len(), 1);
    both();
    // Only what it strikes, and what is nobody's.
    host.ok(&["kill"]);
    assert_eq!(host.ids().len(), 2);
    host.ok(&["start"]);
    host.ok(&["kill", "--remove-orphans"]);
    assert_eq!(host.ids().len(), 1);
    assert_eq!(host.inspect("demo-a-1")["State"]["ExitCode"], 137);
    both();
    let done = with(&host, "COMPOSE_REMOVE_ORPHANS", "true", &["down"]);
    assert_eq!(done.code, 0, "{}", done.err);
    assert!(host.ids().is_empty() && host.network_ids().is_empty());
}

#[test]
fn down_removes_the_images_that_it_is_asked_to() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    // The store is shared with other tests: names of our own.
    let project = format!("rmi{}", std::process::id());
    let (named, built) = (format!("{project}-named:1"), format!("{project}-built"));
    host.write(
        "compose.yaml",
        &format!(
            "name: {project}\nservices:\n  named: {{ image: '{named}', command: 'true' }}\n  built: {{ build: ., command: 'true' }}\n"
        ),
    );
    let there = |name: &str| host.run(&["image", "inspect", name]).code == 0;
    let up = || {
        host.ok(&["image", "tag", "busybox", &named]);
        host.ok(&["image", "tag", "busybox", &built]);
        host.ok(&["up", "-d", "--no-build"]);
    };
    up();
    let done = host.run(&["down", "--rmi", "local"]);
    assert!(done.code == 0 && done.err.contains(&format!("Image {built}  Removed")), "{}", done.err);
    assert!(there(&named) && !there(&built));
    up();
    host.ok(&["down", "--rmi", "all"]);
    assert!(!there(&named) && !there(&built) && there("busybox"));
    up();
    host.ok(&["down"]);
    assert!(there(&named) && there(&built));
    host.ok(&["image", "rm", &named, &built]);
}

#[test]
fn one_thing_at_a_time_where_that_is_asked_for() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    let service = |name: &str| format!("  {name}: {{ image: busybox, command: sleep 1000, stop_grace_period: 0s }}\n");
    host.write("compose.yaml", &format!("services:\n{}", ["a", "b", "c", "d"].map(service).concat()));
    let check = |done: &Done| {
        assert_eq!(done.code, 0, "{}", done.err);
        let lines: Vec<&str> = done.err.lines().map(str::trim).filter(|line| line.starts_with("Container")).collect();
        assert_eq!(lines.len(), 16, "{lines:?}");
        for pair in lines.chunks(2) {
            let (what, ended) =
                (pair[0].split("  ").next().unwrap(), pair[1].ends_with("Created") || pair[1].ends_with("Started"));
            assert!(pair[1].starts_with(what) && ended, "{lines:?}");
        }
    };
    check(&host.run(&["--parallel", "1", "up", "-d"]));
    host.ok(&["down"]);
    check(&with(&host, "COMPOSE_PARALLEL_LIMIT", "1", &["up", "-d"]));
    host.ok(&["down"]);
    let done = with(&host, "COMPOSE_PARALLEL_LIMIT", "many", &["up", "-d"]);
    assert_ne!(done.code, 0);
    assert!(host.ids().is_empty());
}

#[test]
fn the_dotenv_file_and_the_environment_speak_to_the_command_line() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    host.write("compose.yaml", "services: { a: { image: busybox, command: sleep 1000, stop_grace_period: 0s } }\n");
    host.write(".env", "COMPOSE_COMPATIBILITY=true\nCOMPOSE_PARALLEL_LIMIT=1\n");
    let done = with(&host, "COMPOSE_STATUS_STDOUT", "1", &["-p", "demo", "up", "-d"]);
    assert!(done.code == 0 && done.out.contains("Container demo_a_1  Started"), "{}{}", done.out, done.err);
    assert!(!done.err.contains("Started"), "{}", done.err);
    let listed = host.ok(&["-p", "demo", "ps", "--format", "{{.Name}}"]);
    assert_eq!(listed, "demo_a_1");
    host.ok(&["-p", "demo", "down"]);
    // The environment goes before the file.
    let done = with(&host, "COMPOSE_COMPATIBILITY", "false", &["-p", "demo", "create"]);
    assert!(done.code == 0 && done.err.contains("demo-a-1"), "{}", done.err);
    host.ok(&["-p", "demo", "down"]);
    host.write(".env", "DOCKER_DEFAULT_PLATFORM=linux/nosuch\n");
    let said = host.fails(1, &["-p", "demo", "up", "-d"]);
    assert!(said.contains("linux/nosuch"), "{said}");
    // The image that is there for this machine is not one for another.
    host.write(".env", "");
    host.write("compose.yaml", "services: { a: { image: busybox, platform: linux/nosuch, command: sleep 1000 } }\n");
    for flags in [&["up", "-d"][..], &["up", "-d", "--pull", "never"]] {
        let said = host.fails(1, &[&["-p", "demo"], flags].concat());
        assert!(said.contains("linux/nosuch") && host.ids().is_empty(), "{said}");
    }
}

#[test]
fn images_are_pulled_side_by_side_and_again_after_a_time() {
    let Some(host) = Host::bare() else { return };
    let file = |policy: &str| {
        format!(
            "services:\n  a: {{ image: busybox, pull_policy: {policy} }}\n  b: {{ image: alpine, pre_start: [{{ image: busybox }}] }}\n"
        )
    };
    host.write("compose.yaml", &format!("{}  c: {{ image: no-such-image-here }}\n", file("daily")));
    let said = host.fails(1, &["pull"]);
    assert!(said.contains("service c"), "{said}");
    let done = host.run(&["pull", "--ignore-pull-failures"]);
    assert!(done.code == 0 && done.err.contains("warning: service c"), "{}", done.err);
    for image in ["busybox", "alpine"] {
        assert!(said.contains(&format!("Image {image}:latest  Pulled")), "{said}");
        host.ok(&["image", "inspect", image]);
    }
    host.write("compose.yaml", &file("weekly"));
    assert_eq!(host.ok(&["pull", "-q"]), "");
    let due = |policy: &str| {
        host.write("compose.yaml", &file(policy));
        host.run(&["plan"]).out.contains("Image busybox  pull (due for a pull)")
    };
    for policy in ["daily", "weekly", "every_12h", "missing"] {
        assert!(!due(policy), "{policy}");
    }
    eventually("a pull is due after a second", || if due("every_1s") { Ok(()) } else { Err("not yet".to_owned()) });
    let done = host.run(&["create", "a"]);
    assert!(done.code == 0 && done.err.contains("Image busybox:latest  Up to date"), "{}", done.err);
    assert!(!due("every_1h"), "the time counts from the last pull");
    host.ok(&["down"]);
}

#[test]
fn digests_of_images_are_shown_and_can_be_locked() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    host.write("compose.yaml", "services: { web: { image: busybox, command: sleep 1000, stop_grace_period: 0s } }\n");
    let shown = host.ok(&["config", "--resolve-image-digests"]);
    assert!(shown.contains("busybox:latest@sha256:") && shown.contains("sleep"), "{shown}");
    let lock = host.ok(&["config", "--lock-image-digests"]);
    assert!(lock.contains("busybox:latest@sha256:") && !lock.contains("sleep"), "{lock}");
    host.write("lock.yaml", &format!("{lock}\n"));
    host.ok(&["-f", "compose.yaml", "-f", "lock.yaml", "up", "-d"]);
    assert!(host.inspect("demo-web-1")["Config"]["Image"].as_str().unwrap().contains("@sha256:"));
    host.ok(&["down"]);
}

#[test]
fn devices_of_the_host_are_limited_and_given_by_flags() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    let disk = std::fs::read_dir("/sys/block").into_iter().flatten().flatten().find_map(|entry| {
        let name = entry.file_name().into_string().ok()?;
        let number = std::fs::read_to_string(entry.path().join("dev")).ok()?.trim().to_owned();
        let real = !["loop", "ram", "zram", "sr", "fd"].iter().any(|kind| name.starts_with(kind));
        (real && Path::new("/dev").join(&name).exists()).then(|| (format!("/dev/{name}"), number))
    });
    match disk {
        Some((disk, number)) => {
            let flags = ["read-bps=", "write-bps=", "read-iops=", "write-iops="]
                .map(|kind| format!("--device-{kind}{disk}:{}", if kind.contains("bps") { "4mb" } else { "300" }));
            let weight = format!("--blkio-weight-device={disk}:200");
            let mut args = vec!["container", "run", "-d", "--name", "limited", &weight];
            args.extend(flags.iter().map(String::as_str));
            args.extend(["busybox", "sleep", "1000"]);
            host.ok(&args);
            let script = "cat /sys/fs/cgroup/io.max /sys/fs/cgroup/blkio/blkio.throttle.*_device 2>/dev/null; true";
            let seen = host.ok(&["container", "exec", "limited", "sh", "-c", script]);
            if !seen.is_empty() {
                assert!(seen.contains(&number) && seen.contains("4194304") && seen.contains("300"), "{seen}");
            }
            let config = host.inspect("limited")["HostConfig"].clone();
            assert_eq!(config["BlkioDeviceReadBps"][0]["Path"], disk.as_str());
            assert_eq!(config["BlkioDeviceWriteIOps"][0]["Rate"], 300);
            host.ok(&["container", "rm", "-f", "limited"]);
        }
        None => eprintln!("no disk whose rates could be limited"),
    }
    for (flag, said) in
        [("--device-read-bps=/dev/null", "--device-read-bps"), ("--blkio-weight-device=/dev/null:5", "weight")]
    {
        let done = host.run(&["container", "run", "--rm", flag, "busybox", "true"]);
        assert!(done.code != 0 && done.err.contains(said), "{flag}: {}", done.err);
    }

    let spec = r#"{"cdiVersion": "0.6.0", "kind": "nvidia.com/gpu", "devices": [
        {"name": "all", "containerEdits": {"env": ["GPU=all"]}}, {"name": "1", "containerEdits": {"env": ["GPU=one"]}}]}"#;
    host.write("cdi/nvidia.json", spec);
    for (gpus, seen) in [("all", "all\n"), ("device=1", "one\n")] {
        let mut command =
            host.command(&["container", "run", "--rm", "--gpus", gpus, "busybox", "sh", "-c", "echo $GPU"]);
        command.env("UMIAK_CDI_SPEC_DIRS", host.project().join("cdi"));
        let done = finish(command, b"", "container run --gpus");
        assert_eq!((done.code, done.out.as_str()), (0, seen), "{gpus}: {}", done.err);
    }
    assert!(host.ids().is_empty());
}
