//! `events` and `pause`: what is told of containers, and holding them still.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use serde_json::Value;

use crate::harness::{Host, eventually, signal};

const STACK: &str = "services:
  web: { image: busybox, command: sleep 1000, stop_grace_period: 0s, labels: { tier: front } }
  job: { image: busybox, command: sh -c 'exit 3' }
volumes: {}
";

fn actions(events: &[Value], service: &str) -> Vec<String> {
    let of = events.iter().filter(|event| event["service"] == service);
    of.map(|event| event["action"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn events_tell_what_happened_to_each_service() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    host.write("compose.yaml", STACK);
    host.ok(&["up", "-d"]);
    host.ok(&["container", "wait", "demo-job-1"]);
    host.ok(&["exec", "-T", "web", "true"]);
    host.ok(&["pause", "web"]);
    host.ok(&["unpause", "web"]);
    host.ok(&["restart", "web"]);
    host.ok(&["down"]);
    let since = ["events", "--since", "1h", "--until", "0s"];
    let json: Vec<&str> = since.iter().copied().chain(["--json"]).collect();
    let events = host.lines(&json);
    assert_eq!(actions(&events, "job"), ["create", "start", "die", "destroy"]);
    let die = events.iter().find(|event| event["service"] == "job" && event["action"] == "die").unwrap();
    assert_eq!((&die["attributes"]["exitCode"], &die["type"]), (&"3".into(), &"container".into()));
    assert!(die["attributes"].get("com.docker.compose.project").is_none(), "{die}");
    let expected = [
        "create",
        "start",
        "exec_create: true ",
        "exec_start: true ",
        "exec_die",
        "pause",
        "unpause",
        "kill",
        "kill",
        "die",
        "stop",
        "start",
        "restart",
        "kill",
        "kill",
        "die",
        "stop",
        "destroy",
    ];
    assert_eq!(actions(&events, "web"), expected);
    assert_eq!(events.iter().find(|e| e["service"] == "web").unwrap()["attributes"]["tier"], "front");
    let text = host.ok(&[&since[..], &["job"]].concat());
    let lines: Vec<&str> = text.lines().filter(|line| !line.is_empty()).collect();
    assert_eq!(lines.len(), 4, "{text}");
    assert!(lines[2].contains(" container die ") && lines[2].ends_with("image=busybox, name=demo-job-1)"), "{text}");
    let error = host.fails(1, &["events", "--since", "yesterday"]);
    assert!(error.contains("yesterday"), "{error}");
}

#[test]
fn events_are_followed_while_they_come() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    host.write("compose.yaml", STACK);
    let mut command = host.command(&["events", "--json", "job"]);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    // It may not listen yet when the first containers come: they come until it does.
    let listening = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !listening.load(std::sync::atomic::Ordering::Relaxed) {
                host.ok(&["up", "-d", "--force-recreate", "job"]);
            }
        });
        let first: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
        listening.store(true, std::sync::atomic::Ordering::Relaxed);
        assert_eq!(first["service"], "job");
    });
    host.ok(&["down"]);
    let mut seen = lines.map(|line| serde_json::from_str::<Value>(&line.unwrap()).unwrap());
    assert!(seen.any(|event| event["action"] == "destroy"), "the removal is told");
    signal(child.id(), "TERM");
    child.wait().unwrap();
}

#[test]
fn a_paused_container_stands_still_until_it_is_let_go_or_ended() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    host.write(
        "compose.yaml",
        "services: { web: { image: busybox, command: sh -c 'while echo tick; do sleep 0.05; done' , stop_grace_period: 0s } }\n",
    );
    host.ok(&["up", "-d"]);
    host.ok(&["pause"]);
    let state = host.inspect("demo-web-1")["State"].take();
    assert_eq!((&state["Status"], &state["Paused"], &state["Running"]), (&"paused".into(), &true.into(), &true.into()));
    assert!(host.ok(&["ps"]).contains("(Paused)"));
    // What it had said just before may still be on its way into the log; then nothing more comes.
    eventually("nothing more is said", || {
        let shown: Vec<String> = (0..5).map(|_| host.ok(&["logs", "web"])).collect();
        if shown.iter().all(|one| *one == shown[0]) { Ok(()) } else { Err(format!("{} bytes", shown[4].len())) }
    });
    assert!(host.fails(1, &["pause"]).contains("container demo-web-1 is already paused"));
    assert!(host.fails(1, &["exec", "-T", "web", "true"]).contains("is paused"));
    assert!(host.fails(1, &["container", "rm", "demo-web-1"]).contains("is paused and must be unpaused first"));
    host.ok(&["unpause"]);
    assert_eq!(host.inspect("demo-web-1")["State"]["Status"], "running");
    host.ok(&["exec", "-T", "web", "true"]);
    assert!(host.fails(1, &["unpause"]).contains("container demo-web-1 is not paused"));
    host.ok(&["pause"]);
    host.ok(&["stop"]);
    assert_eq!(host.inspect("demo-web-1")["State"]["Status"], "exited");
    host.ok(&["start"]);
    assert_eq!(host.ok(&["container", "pause", "demo-web-1"]), "demo-web-1");
    host.ok(&["down"]);
}
