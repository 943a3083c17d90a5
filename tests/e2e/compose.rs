//! Projects: `up`, `down` and what lies between.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use serde_json::Value;

use crate::harness::{Done, Host, eventually, finish_child, free_port, get_json, http, signal};

/// Two services that do nothing, one after the other, with a volume.
const TWO: &str = r#"
services:
  web:
    image: busybox
    command: sh -c "echo web is up; trap 'echo web ends; exit 0' TERM; while :; do sleep 1 & wait $$!; done"
    environment:
      COLOUR: ${COLOUR:-red}
    depends_on: [db]
  db:
    image: busybox
    command: sh -c "echo db is up; trap 'echo db ends; exit 0' TERM; while :; do sleep 1 & wait $$!; done"
    volumes: ["data:/data"]
volumes:
  data:
"#;

pub fn example(host: &Host, name: &str) {
    let from = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(name);
    let from = if from.exists() {
        from
    } else {
        std::path::Path::new(file!()).parent().unwrap().join("../../examples").join(name)
    };
    let status = std::process::Command::new("cp").arg("-rT").arg(&from).arg(host.project()).status().unwrap();
    assert!(status.success(), "copy {}", from.display());
}

/// Ids by container name.
fn members(host: &Host) -> Vec<(String, String)> {
    let listed = host.lines(&["ps", "-a", "--format", "json"]);
    let text = |value: &Value, key: &str| value[key].as_str().unwrap().to_owned();
    listed.iter().map(|one| (text(one, "Name"), text(one, "ID"))).collect()
}

fn down(host: &Host) {
    host.ok(&["down", "-v", "-t", "0"]);
    assert!(host.ids().is_empty());
    assert_eq!(host.ok(&["volume", "ls", "-q"]), "");
}

#[test]
fn flask_and_redis_answer_and_keep_their_data() {
    let Some(host) = Host::new(&["python:3.11-slim", "redis:7-alpine"]) else { return };
    example(&host, "flask-redis");
    let port = free_port();
    let address = format!("127.0.0.1:{port}");
    host.write(".env", &format!("PORT={port}\n"));
    host.ok(&["up", "-d"]);
    assert_eq!(get_json(&address, "/")["count"], 0);
    assert_eq!(http("POST", &address, "/", "first").unwrap().0, 201);
    assert_eq!(get_json(&address, "/")["entries"], serde_json::json!(["first"]));

    let table = host.ok(&["ps"]);
    assert!(table.starts_with("NAME") && table.contains("demo-web-1") && table.contains("demo-redis-1"), "{table}");
    let web = host.lines(&["ps", "--format", "json", "web"])[0].take();
    assert_eq!((&web["Service"], &web["State"], &web["Project"]), (&"web".into(), &"running".into(), &"demo".into()));
    assert_eq!(web["Publishers"][0]["PublishedPort"], port);
    assert_eq!(host.ok(&["port", "web", "8000"]), format!("0.0.0.0:{port}"));
    assert!(host.ok(&["logs", "web"]).contains("web-1  | "));
    assert!(host.ok(&["logs", "--no-log-prefix", "web"]).contains("POST / HTTP"));
    assert_eq!(host.ok(&["exec", "redis", "redis-cli", "llen", "entries"]), "1");
    assert_eq!(host.run(&["exec", "-T", "web", "python", "-c", "raise SystemExit(5)"]).code, 5);
    assert!(host.ok(&["top"]).contains("redis-server"));
    assert!(host.ok(&["images"]).contains("7-alpine"));
    let listed = host.json(&["ls", "--format", "json"]);
    assert_eq!((&listed[0]["Name"], &listed[0]["Status"]), (&"demo".into(), &"running(2)".into()));

    host.ok(&["down"]);
    assert!(host.ids().is_empty() && host.network_ids().is_empty());
    assert_eq!(host.ok(&["volume", "ls", "-q"]), "demo_data");
    host.ok(&["up", "-d"]);
    assert_eq!(get_json(&address, "/")["entries"], serde_json::json!(["first"]), "data outlives down and up");
    down(&host);
}

#[test]
fn up_again_changes_nothing_and_recreates_only_what_was_edited() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    host.write("compose.yaml", TWO);
    host.ok(&["up", "-d"]);
    let before = members(&host);
    assert_eq!(before.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["demo-db-1", "demo-web-1"]);
    host.ok(&["up", "-d"]);
    assert_eq!(members(&host), before);
    host.write(".env", "COLOUR=blue\n");
    let done = host.run(&["up", "-d"]);
    assert!(done.code == 0 && done.err.contains("demo-web-1  Recreated"), "{}", done.err);
    let after = members(&host);
    assert_eq!(after[0], before[0], "db stays");
    assert_ne!(after[1], before[1], "web is new");
    assert_eq!(host.ok(&["exec", "web", "sh", "-c", "echo $COLOUR"]), "blue");
    host.ok(&["up", "-d", "--force-recreate", "--no-deps", "db"]);
    let forced = members(&host);
    assert!(forced[0] != after[0] && forced[1] == after[1]);
    host.ok(&["up", "-d", "--scale", "web=3"]);
    let scaled = members(&host);
    assert_eq!(scaled.len(), 4);
    assert!(scaled.contains(&after[1]), "the first replica stays");
    assert_eq!(host.ok(&["exec", "--index", "3", "web", "hostname"]), scaled[3].1);
    host.ok(&["up", "-d"]);
    assert_eq!(members(&host).len(), 2, "back to what the file says");
    down(&host);
}

#[test]
fn stop_start_restart_kill_and_rm_do_what_they_say() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    host.write("compose.yaml", TWO);
    host.ok(&["up", "-d"]);
    let ids = members(&host);
    let states = || {
        let listed = host.lines(&["ps", "-a", "--format", "json"]);
        listed
            .iter()
            .map(|one| {
                format!("{} {} {}", one["Service"].as_str().unwrap(), one["State"].as_str().unwrap(), one["ExitCode"])
            })
            .collect::<Vec<_>>()
    };
    // A shell takes signals only once it has said that it will.
    eventually("both are up", || {
        let said = host.ok(&["logs"]);
        if said.contains("web is up") && said.contains("db is up") { Ok(()) } else { Err(said) }
    });
    let done = host.run(&["stop"]);
    let (web, db) = (done.err.find("demo-web-1  Stopped").unwrap(), done.err.find("demo-db-1  Stopping").unwrap());
    assert!(web < db, "web depends on db and stops first: {}", done.err);
    assert_eq!(states(), ["db exited 0", "web exited 0"]);
    assert_eq!(host.ok(&["ps", "-q"]), "");
    host.ok(&["start"]);
    assert_eq!(states(), ["db running 0", "web running 0"]);
    host.ok(&["stop", "-t", "0"]);
    host.ok(&["start", "web"]);
    assert_eq!(states(), ["db running 0", "web running 0"], "what it depends on starts with it");
    host.ok(&["restart", "-t", "0", "web"]);
    host.ok(&["kill", "db"]);
    assert_eq!(states(), ["db exited 137", "web running 0"]);
    assert_eq!(members(&host), ids, "all the while they were the same containers");
    let said = host.run(&["rm", "-f", "web"]);
    assert!(said.err.contains("No stopped containers"), "{}", said.err);
    host.ok(&["rm", "-f"]);
    assert_eq!(states(), ["web running 0"]);
    host.ok(&["rm", "-f", "-s"]);
    assert!(host.ids().is_empty());
    let said = host.fails(1, &["start", "nosuch"]);
    assert!(said.contains("nosuch"), "{said}");
    down(&host);
}

/// An `up` that shows the logs: before it says what it has read there, it may still be at the start, and a signal would
/// take that back.
struct Attached {
    child: std::process::Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
    seen: String,
}

impl Attached {
    fn new(host: &Host) -> Self {
        let mut child = host.command(&["up"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut this = Self { child, lines, seen: String::new() };
        while !(this.seen.contains("web is up") && this.seen.contains("db is up")) {
            let line = this.lines.next().unwrap_or_else(|| panic!("it has ended: {}", this.seen)).unwrap();
            this.seen += &(line + "\n");
        }
        this
    }

    fn interrupt(&self) {
        signal(self.child.id(), "INT");
    }

    /// How it ended, with all that it has said.
    fn end(mut self) -> Done {
        let rest: String = self.lines.map(|line| line.unwrap() + "\n").collect();
        let done = finish_child(self.child, b"", "up");
        self.seen += &rest;
        Done { out: self.seen, ..done }
    }
}

#[test]
fn an_interrupted_up_stops_what_it_shows() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    host.write("compose.yaml", TWO);
    let up = Attached::new(&host);
    up.interrupt();
    let done = up.end();
    assert_eq!(done.code, 130, "{}{}", done.out, done.err);
    for line in [
        "web-1  | web is up\n",
        "db-1   | db is up\n",
        "web-1  | web ends\n",
        "db-1   | db ends\n",
        "web-1 exited with code 0\n",
    ] {
        assert!(done.out.contains(line), "{line:?} in:\n{}", done.out);
    }
    assert!(done.err.contains("Gracefully stopping"), "{}", done.err);
    assert_eq!(host.ok(&["ps", "-q"]), "");
    assert_eq!(host.ids().len(), 2, "they are stopped, not removed");
    down(&host);
}

#[test]
fn a_second_interrupt_kills() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    let deaf = TWO
        .replace("trap 'echo web ends; exit 0' TERM", "trap 'echo deaf' TERM")
        .replace("    image: busybox\n", "    image: busybox\n    stop_grace_period: 10m\n");
    host.write("compose.yaml", &deaf);
    let up = Attached::new(&host);
    up.interrupt();
    eventually("web is asked to stop", || {
        let said = host.run(&["logs"]);
        if said.out.contains("deaf") { Ok(()) } else { Err(said.out + &said.err) }
    });
    up.interrupt();
    let done = up.end();
    assert_eq!(done.code, 130, "{}{}", done.out, done.err);
    assert!(done.out.contains("web-1 exited with code 137"), "{}", done.out);
    assert_eq!(host.ok(&["ps", "-q"]), "");
    down(&host);
}

#[test]
fn an_attached_up_ends_with_its_containers() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    host.write("compose.yaml", "services:\n  a: {image: busybox, command: echo one}\n  b: {image: busybox, command: sh -c 'echo two >&2; exit 3'}\n");
    let done = host.run(&["up"]);
    assert_eq!(done.code, 0, "{}", done.err);
    assert!(done.out.contains("a-1  | one\n") && done.out.contains("b-1  | two\n"), "{}", done.out);
    assert!(done.out.contains("b-1 exited with code 3\n"), "{}", done.out);
    assert_eq!(host.run(&["up", "--exit-code-from", "b"]).code, 3);
    down(&host);
}

#[test]
fn files_are_merged_and_variables_filled_in() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    host.write("compose.yaml", "services:\n  web:\n    image: ${IMAGE}\n    command: sleep 1000\n    env_file: vars.env\n    environment: {A: base, B: base}\n");
    host.write("compose.override.yaml", "services:\n  web:\n    environment: {B: override}\n    init: true\n");
    host.write("extra.yaml", "services:\n  web:\n    environment: {B: extra}\n");
    host.write("vars.env", "A=file\nC=file\n");
    host.write(".env", "IMAGE=busybox\n");
    let values = |flags: &[&str]| {
        let args: Vec<&str> = flags.iter().chain(&["exec", "web", "sh", "-c", "echo $A $B $C"]).copied().collect();
        host.ok(&args)
    };
    host.ok(&["up", "-d"]);
    assert_eq!(values(&[]), "base override file");
    let files = ["-f", "compose.yaml", "-f", "extra.yaml"];
    let args: Vec<&str> = files.iter().chain(&["up", "-d", "-t", "0"]).copied().collect();
    host.ok(&args);
    assert_eq!(values(&files), "base extra file");
    host.ok(&["-p", "other", "up", "-d"]);
    assert_eq!(host.json(&["ls", "--format", "json"]).as_array().unwrap().len(), 2);
    host.ok(&["-p", "other", "down", "-t", "0"]);
    down(&host);
}

#[test]
fn what_left_the_file_is_an_orphan() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    host.write("compose.yaml", TWO);
    host.ok(&["up", "-d"]);
    host.write("compose.yaml", "services:\n  db: {image: busybox, command: sleep 1000, stop_grace_period: 0s}\n");
    let done = host.run(&["up", "-d", "-t", "0"]);
    assert!(done.code == 0 && done.err.contains("orphan containers (demo-web-1)"), "{}", done.err);
    assert_eq!(members(&host).len(), 2);
    host.ok(&["up", "-d", "-t", "0", "--remove-orphans"]);
    assert_eq!(members(&host).len(), 1);
    host.ok(&["down", "-v", "-t", "0"]);
    host.write("compose.yaml", TWO);
    down(&host);
}

#[test]
fn a_stack_of_which_one_service_cannot_start_leaves_nothing() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    let broken = TWO.replace("    environment:\n", "    entrypoint: /nosuch\n    environment:\n");
    host.write("compose.yaml", &broken);
    let said = host.fails(1, &["up", "-d"]);
    assert!(
        said.contains("demo-web-1") && said.contains("exec: \"/nosuch\": stat /nosuch: no such file or directory"),
        "{said}"
    );
    assert!(host.ids().is_empty() && host.network_ids().is_empty(), "{said}");
    host.write("compose.yaml", TWO);
    host.ok(&["up", "-d"]);
    assert_eq!(host.ok(&["ps", "-q"]).lines().count(), 2);
    // What was there before stays when a later `up` fails.
    host.write("compose.yaml", &format!("{broken}\n"));
    let before = members(&host);
    host.fails(1, &["up", "-d", "-t", "0"]);
    assert!(members(&host).contains(&before[0]));
    host.write("compose.yaml", TWO);
    host.ok(&["up", "-d"]);
    assert_eq!(host.ok(&["ps", "-q"]).lines().count(), 2);
    down(&host);
}
