//! Containers that run to their end before a service's own (`pre_start`).

use crate::harness::{Done, Host, eventually, finish, finish_child};

const FILE: &str = r#"
services:
  web:
    image: busybox
    command: sleep 1000
    user: "1000:1000"
    stop_grace_period: 0s
    entrypoint: [env]
    environment: {COLOUR: red}
    volumes: ["./out:/out", "data:/data", "/own"]
    depends_on: [db]
    networks: {default: {aliases: [www]}}
    deploy: {replicas: 2}
    pre_start:
      - {user: root, command: "sh -c 'echo first $$(id -u) $$COLOUR | tee -a /out/log; chown -R 1000 /data /out'"}
      - image: alpine
        working_dir: /data
        environment: {COLOUR: blue}
        command: [sh, -c, 'nslookup db > /dev/null && echo second $$(id -u) $$(pwd) $$COLOUR >> /out/log; cat /etc/os-release > os']
      - {per_replica: true, command: [sh, -c, 'echo mine | tee -a /out/log']}
  db: {image: busybox, command: sleep 1000, stop_grace_period: 0s}
volumes: {data: }
"#;

fn log(host: &Host) -> Vec<String> {
    let path = host.project().join("out/log");
    let text = std::fs::read_to_string(&path).unwrap_or_default();
    let _ = std::fs::remove_file(path);
    text.lines().map(str::to_owned).collect()
}

fn up(host: &Host, args: &[&str]) -> Done {
    let done = host.run(&[&["up", "-d"], args].concat());
    assert_eq!(done.code, 0, "{}", done.err);
    done
}

fn settled(host: &Host) {
    let done = host.run(&["plan"]);
    assert_eq!(done.code, 0, "{}{}", done.out, done.err);
}

fn clean(host: &Host) {
    host.ok(&["down", "-v"]);
    assert!(host.ids().is_empty() && host.network_ids().is_empty());
    assert_eq!(host.ok(&["volume", "ls", "-q"]), "");
}

#[test]
fn steps_run_before_the_first_start_once_for_all_replicas() {
    let Some(host) = Host::new(&["busybox", "alpine"]) else { return };
    host.write("compose.yaml", FILE);
    let plan = host.run(&["plan"]);
    assert!(plan.out.contains("Container demo-web-pre_start-0  run (pre_start)"), "{}", plan.out);
    assert!(plan.out.contains("Container demo-web-pre_start-2-2  run (pre_start)"), "{}", plan.out);
    let dry = host.run(&["--dry-run", "up", "-d"]);
    assert!(dry.err.contains("Container demo-web-pre_start-1  Exited"), "{}", dry.err);
    assert!(host.ids().is_empty());

    let done = up(&host, &[]);
    let all = ["first 0 red", "second 1000 /data blue", "mine", "mine"];
    assert_eq!(log(&host), all);
    assert!(done.err.contains("demo-web-pre_start-0 ->  | first 0 red"), "{}", done.err);
    assert!(host.ok(&["exec", "-T", "web", "cat", "/data/os"]).contains("Alpine"), "volumes are the service's");
    assert_eq!(host.ids().len(), 3, "those that succeed are removed");
    settled(&host);

    // Nothing that has run already runs again: not for what is there, nor for one more replica.
    up(&host, &[]);
    host.ok(&["stop", "web"]);
    up(&host, &[]);
    host.ok(&["restart", "web"]);
    assert!(log(&host).is_empty());
    up(&host, &["--scale", "web=3"]);
    assert_eq!(log(&host), ["mine"]);
    // A container made anew, or for another definition, does.
    up(&host, &["--force-recreate"]);
    assert_eq!(log(&host), all);
    // The anonymous volume of the replica that is gone.
    host.ok(&["volume", "prune", "-f"]);
    host.write("compose.yaml", &FILE.replace("echo first", "echo changed"));
    let done = up(&host, &[]);
    assert!(done.err.contains("pre_start changed"), "{}", done.err);
    assert_eq!(log(&host)[0], "changed 0 red");
    clean(&host);

    // Made by one command, started by another.
    host.ok(&["create"]);
    assert!(log(&host).is_empty());
    host.ok(&["start"]);
    assert_eq!(log(&host).len(), 4);
    host.ok(&["stop"]);
    host.ok(&["start"]);
    assert!(log(&host).is_empty());
    clean(&host);
}

#[test]
fn a_step_that_fails_keeps_its_service_from_starting_and_is_kept_itself() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    let file = |command: &str| {
        format!(
            r#"
services:
  web:
    image: busybox
    command: sleep 1000
    stop_grace_period: 0s
    volumes: ["./out:/out", "/own"]
    pre_start:
      - {{command: "true"}}
      - {{command: [sh, -c, '{command}']}}
      - {{command: "touch /out/third"}}
  after: {{image: busybox, command: sleep 1000, stop_grace_period: 0s, depends_on: [web]}}
"#
        )
    };
    host.write("compose.yaml", &file("echo one; echo no such table >&2; exit 7"));
    let said = host.fails(1, &["up", "-d"]);
    assert!(said.contains("service \"web\" pre_start[1] exited with status 7"), "{said}");
    assert!(said.contains("no such table") && said.contains("container logs demo-web-pre_start-1"), "{said}");
    assert_eq!(host.ids().len(), 1, "what up made is gone, but the one that failed is kept");
    let state = host.inspect("demo-web-pre_start-1");
    assert_eq!(
        (&state["State"]["ExitCode"], &state["Config"]["Labels"]["com.docker.compose.hook"]),
        (&7.into(), &"pre_start".into())
    );
    assert!(host.ok(&["container", "logs", "demo-web-pre_start-1"]).contains("one"));
    assert!(!host.project().join("out/third").exists());
    host.ok(&["down", "-v"]);
    assert!(host.ids().is_empty() && host.network_ids().is_empty());

    // The next up removes it, and goes on from there.
    host.fails(1, &["up", "-d", "--keep"]);
    host.write("compose.yaml", &file("true"));
    let done = up(&host, &[]);
    assert!(
        done.err.contains("Container demo-web-pre_start-1  Removed (left by an interrupted command)"),
        "{}",
        done.err
    );
    assert!(host.project().join("out/third").exists());
    assert_eq!(host.ids().len(), 2);
    settled(&host);

    // A replacement whose step fails leaves what was there.
    let before = host.ids();
    host.write("compose.yaml", &file("exit 3"));
    let said = host.fails(1, &["up", "-d"]);
    assert!(said.contains("pre_start[1] exited with status 3") && said.contains("is as it was before"), "{said}");
    assert!(before.is_subset(&host.ids()));
    assert_eq!(host.inspect("demo-web-1")["State"]["Status"], "running");
    clean(&host);
}

#[test]
fn a_command_killed_while_a_step_runs_can_be_gone_on_from() {
    let Some(host) = Host::with_debug_assertions(&["busybox"]) else { return };
    host.write(
        "compose.yaml",
        "services: { web: { image: busybox, command: sleep 1000, stop_grace_period: 0s, volumes: [/own], \
         pre_start: [{ command: 'touch /own/done' }] } }\n",
    );
    let die_at = |place: u32, args: &[&str]| {
        let mut command = host.command(args);
        command.env("UMIAK_DIE_AT", place.to_string()).env("UMIAK_PLACES", host.path().join("places"));
        finish(command, b"", &format!("umiak {} until place {place}", args.join(" "))).code == 1009
    };
    let whole = |place: u32| {
        up(&host, &[]);
        settled(&host);
        assert_eq!(host.ids().len(), 1, "place {place}");
        host.ok(&["exec", "-T", "web", "test", "-e", "/own/done"]);
    };
    for place in 1.. {
        let died = die_at(place, &["up", "-d"]);
        if place == 1 && !died {
            assert!(std::env::var("UMIAK_MUST_RUN").is_err(), "the program cannot be made to die");
            eprintln!("skipped: the program was built without places to die at (debug assertions)");
            return clean(&host);
        }
        if place % 2 == 0 {
            clean(&host);
        }
        whole(place);
        let again = die_at(place, &["up", "-d", "--force-recreate"]);
        whole(place);
        clean(&host);
        if !died && !again {
            break;
        }
    }
    let passed = std::fs::read_to_string(host.path().join("places")).unwrap_or_default();
    for kind in ["pre_start", "pre_start made", "pre_start runs", "pre_start ended"] {
        assert!(passed.lines().any(|place| place == kind), "no command died at {kind}");
    }
}

#[test]
fn ctrl_c_ends_a_step_and_a_wait_and_nothing_is_left() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    let interrupted = |until: &str| {
        let piped = || std::process::Stdio::piped();
        let up = host.command(&["up", "-d"]).stdout(piped()).stderr(piped()).spawn().unwrap();
        eventually(&format!("{until} runs"), || match host.run(&["container", "inspect", until]) {
            done if done.out.contains("\"Status\": \"running\"") => Ok(()),
            done => Err(done.out),
        });
        let pid = rustix::process::Pid::from_raw(i32::try_from(up.id()).unwrap()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
        let done = finish_child(up, b"", "the interrupted up");
        assert!(done.code == 130 && done.err.contains("Error: interrupted"), "{} {}", done.code, done.err);
        assert!(host.ids().is_empty() && host.network_ids().is_empty(), "{}", done.err);
    };
    host.write(
        "compose.yaml",
        "services: { web: { image: busybox, command: sleep 1000, pre_start: [{ command: sleep 1000 }] } }\n",
    );
    interrupted("demo-web-pre_start-0");
    host.write(
        "compose.yaml",
        "services:\n  web: { image: busybox, command: sleep 1000, depends_on: { db: { condition: service_healthy } } }\n  \
         db: { image: busybox, command: sleep 1000, stop_grace_period: 0s, healthcheck: { test: 'false', interval: 1h } }\n",
    );
    interrupted("demo-db-1");
}
