//! What people do when they follow a tutorial, continued: what is started again, what stays down, and how it stops.

use std::process::Stdio;

use serde_json::Value;

use crate::harness::{Host, eventually, finish_child, free_port, http};

fn pid(host: &Host, service: &str) -> u64 {
    host.inspect(&format!("demo-{service}-1"))["State"]["Pid"].as_u64().unwrap()
}

/// Waits until a service runs again, as another process than `before`.
fn until_back(host: &Host, service: &str, before: u64) -> Value {
    host.until(&format!("demo-{service}-1"), "it is back", |state| {
        state["Status"] == "running" && state["Pid"].as_u64().is_some_and(|pid| pid != 0 && pid != before)
    })
}

/// State and exit code of a service, as `ps -a` has them.
fn state(host: &Host, service: &str) -> (String, i64) {
    let listed = host.lines(&["ps", "-a", "--format", "json", service]);
    (listed[0]["State"].as_str().unwrap().to_owned(), listed[0]["ExitCode"].as_i64().unwrap())
}

fn running() -> (String, i64) {
    ("running".to_owned(), 0)
}

/// One statement in PostgreSQL, once it answers.
fn sql(host: &Host, service: &str, statement: &str) -> String {
    eventually("the database answers", || {
        let done = host.run(&["exec", "-T", service, "psql", "-h", "127.0.0.1", "-U", "shop", "-tAc", statement]);
        if done.code == 0 { Ok(done.out.trim().to_owned()) } else { Err(done.err) }
    })
}

fn until_redis(host: &Host, service: &str) {
    eventually("redis answers", || match host.run(&["exec", "-T", service, "redis-cli", "ping"]) {
        done if done.out == "PONG\n" => Ok(()),
        done => Err(done.err),
    });
}

/// E6: what was killed is started again as its policy says; what was stopped stays down, also when the stack is restarted.
#[test]
fn what_is_killed_comes_back_and_what_is_stopped_stays_down() {
    let Some(host) = Host::new(&["postgres:16-alpine", "redis:7-alpine", "busybox"]) else { return };
    host.write(
        "compose.yaml",
        r#"
services:
  database:
    image: postgres:16-alpine
    restart: unless-stopped
    stop_grace_period: 90s
    environment: { POSTGRES_USER: shop, POSTGRES_PASSWORD: secret, POSTGRES_HOST_AUTH_METHOD: trust }
    volumes: ["data:/var/lib/postgresql/data"]
  cache: { image: "redis:7-alpine", restart: always }
  session: { image: "redis:7-alpine", restart: on-failure }
  plain: { image: "redis:7-alpine", restart: "no" }
  done: { image: busybox, command: "true", restart: on-failure }
  again: { image: busybox, command: "true", restart: always }
volumes: { data: }
"#,
    );
    host.ok(&["up", "-d"]);
    sql(&host, "database", "create table kept (id int)");
    for service in ["database", "cache", "session"] {
        let before = pid(&host, service);
        let done = host.run(&["kill", service]);
        assert!(done.code == 0 && done.err.contains(&format!("demo-{service}-1  Killed")), "{}", done.err);
        assert_eq!(until_back(&host, service, before)["RestartCount"], 1, "{service}");
    }
    assert_eq!(sql(&host, "database", "select count(*) from kept"), "0", "it has recovered what it had");
    host.ok(&["kill", "plain"]);
    assert_eq!(state(&host, "plain"), ("exited".to_owned(), 137));
    // An end that is no failure: one policy is content with it, the other is not.
    host.until("demo-again-1", "it has been started again and again", |_| {
        host.inspect("demo-again-1")["RestartCount"].as_u64().unwrap() >= 2
    });
    assert_eq!((state(&host, "done"), &host.inspect("demo-done-1")["RestartCount"]), (("exited".into(), 0), &0.into()));

    // A server that is told to end before it listens to signals would let all of its grace period pass.
    let until_ready = || ["cache", "session", "plain"].iter().for_each(|service| until_redis(&host, service));
    host.ok(&["start", "plain"]);
    until_ready();
    host.ok(&["kill", "plain"]);
    host.ok(&["stop", "database", "again"]);
    assert_eq!(state(&host, "database"), ("exited".to_owned(), 0));
    let before = pid(&host, "cache");
    let restarted = host.run(&["restart"]);
    assert!(restarted.code == 0 && restarted.err.contains("demo-database-1 was stopped by hand"), "{}", restarted.err);
    assert_ne!(pid(&host, "cache"), before, "the others have been restarted");
    assert_eq!(state(&host, "database"), ("exited".to_owned(), 0), "what was stopped by hand was not");
    assert_eq!(state(&host, "plain"), running(), "what was killed was not stopped by hand");
    assert_ne!(state(&host, "again").0, "exited", "`always` means that, too");
    assert!(!host.ok(&["ps", "--services"]).lines().any(|service| service == "database"));

    // Named, or with everything else stopped, too, it is started.
    host.ok(&["restart", "database"]);
    assert_eq!(state(&host, "database"), running());
    assert_eq!(sql(&host, "database", "select count(*) from kept"), "0");
    until_ready();
    host.ok(&["stop"]);
    host.ok(&["restart"]);
    for service in ["database", "cache", "session", "plain"] {
        assert_eq!(state(&host, service), running(), "{service}");
    }
    assert_eq!(sql(&host, "database", "select count(*) from kept"), "0");
    host.ok(&["down", "-v", "-t", "0"]);
}

/// E7: after as many restarts as its policy allows, a service that is killed or crashes stays down.
#[test]
fn on_failure_gives_up_after_so_many_restarts() {
    let Some(host) = Host::new(&["python:3.11-slim"]) else { return };
    host.write(
        "compose.yaml",
        r#"
services:
  api:
    image: python:3.11-slim
    command: python -m http.server 3000
    restart: on-failure:3
  crashes:
    image: python:3.11-slim
    command: python -c "print('starting'); raise SystemExit('no configuration')"
    restart: on-failure:3
"#,
    );
    host.ok(&["up", "-d"]);
    for count in 1..=3 {
        let before = pid(&host, "api");
        host.ok(&["kill", "api"]);
        assert_eq!(until_back(&host, "api", before)["RestartCount"], count);
        assert_eq!(state(&host, "api"), running());
    }
    host.ok(&["kill", "api"]);
    let shown = host.inspect("demo-api-1");
    assert_eq!((&shown["State"]["Status"], &shown["RestartCount"]), (&"exited".into(), &3.into()));
    assert_eq!(shown["HostConfig"]["RestartPolicy"]["MaximumRetryCount"], 3);
    let listed = host.lines(&["ps", "-a", "--format", "json", "api"]);
    assert!(listed[0]["Status"].as_str().unwrap().starts_with("Exited (137) "), "{}", listed[0]);
    assert!(!host.ok(&["ps"]).contains("demo-api-1"), "only `ps -a` shows it");

    let shown = host.until("demo-crashes-1", "it has given up", |state| state["Status"] == "exited");
    assert_eq!((&shown["State"]["ExitCode"], &shown["RestartCount"]), (&1.into(), &3.into()));
    let said = host.run(&["logs", "--no-log-prefix", "crashes"]);
    assert_eq!(said.out.matches("starting").count(), 4, "{}{}", said.out, said.err);
    // It can be tried again by hand.
    host.ok(&["start", "api"]);
    assert_eq!(state(&host, "api"), running());
    host.ok(&["down", "-t", "0"]);
}

/// Answers `/slow` once the file `/gate/finish` is there.
const API: &str = r#"
import os, time
from flask import Flask
app = Flask(__name__)
@app.route("/slow")
def slow():
    open("/gate/began", "w").close()
    while not os.path.exists("/gate/finish"):
        time.sleep(0.05)
    return "finished"
"#;

/// E18: each service has its own time to end; in it, all ends cleanly, and after it, it is killed.
#[test]
fn services_end_cleanly_in_their_grace_period_and_are_killed_after_it() {
    let Some(host) = Host::new(&["postgres:16-alpine", "redis:7-alpine", "python:3.11-slim", "busybox"]) else {
        return;
    };
    let port = free_port();
    host.write("app.py", API);
    host.write("gate/.keep", "");
    host.write(
        "compose.yaml",
        &format!(
            r#"
services:
  database:
    image: postgres:16-alpine
    environment: {{ POSTGRES_USER: shop, POSTGRES_PASSWORD: secret, POSTGRES_HOST_AUTH_METHOD: trust }}
    volumes: ["data:/var/lib/postgresql/data"]
    stop_grace_period: 90s
  cache:
    image: redis:7-alpine
    volumes: ["saved:/data"]
    stop_grace_period: 1m
  api:
    image: python:3.11-slim
    command: gunicorn --bind 0.0.0.0:3000 --threads 4 --graceful-timeout 600 --timeout 600 app:app
    working_dir: /srv
    volumes: ["./app.py:/srv/app.py:ro", "./gate:/gate"]
    ports: ["127.0.0.1:{port}:3000"]
    stop_grace_period: 10m
  deaf:
    image: busybox
    command: sh -c "trap 'echo asked' TERM; echo up; while :; do sleep 0.1; done"
    stop_grace_period: 1s
volumes: {{ data: , saved: }}
"#
        ),
    );
    host.ok(&["up", "-d"]);
    for (service, seconds) in [("database", 90), ("cache", 60), ("api", 600), ("deaf", 1)] {
        assert_eq!(host.inspect(&format!("demo-{service}-1"))["Config"]["StopTimeout"], seconds, "{service}");
    }
    sql(&host, "database", "create table orders (id int); insert into orders values (7)");
    until_redis(&host, "cache");
    host.ok(&["exec", "-T", "cache", "redis-cli", "set", "greeting", "hello"]);
    let until_logged = |service: &str, line: &str| {
        eventually(&format!("{service} says {line}"), || {
            let said = host.run(&["logs", "--no-log-prefix", service]);
            if (said.out.clone() + &said.err).contains(line) { Ok(()) } else { Err(said.out + &said.err) }
        });
    };
    until_logged("deaf", "up");
    until_logged("api", "Booting worker");
    let address = format!("127.0.0.1:{port}");
    let request = std::thread::spawn(move || http("GET", &address, "/slow", ""));
    eventually("the API works on a request", || match host.project().join("gate/began").exists() {
        true => Ok(()),
        false => Err(request.is_finished().to_string()),
    });

    let stop = host.command(&["stop"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    host.until("demo-deaf-1", "its second is over", |state| state["Status"] == "exited");
    until_logged("api", "Handling signal: term");
    assert_eq!(state(&host, "api"), running(), "its grace period is longer");
    host.write("gate/finish", "");
    assert_eq!(request.join().unwrap(), Ok((200, "finished".to_owned())), "a request that had begun is answered");
    let done = finish_child(stop, b"", "stop");
    assert_eq!(done.code, 0, "{}", done.err);
    for (service, code) in [("database", 0), ("cache", 0), ("api", 0), ("deaf", 137)] {
        assert_eq!(state(&host, service), ("exited".to_owned(), code), "{service}");
    }
    until_logged("deaf", "asked");
    until_logged("database", "database system is shut down");
    until_logged("cache", "DB saved on disk");
    until_logged("cache", "bye bye");

    host.ok(&["up", "-d", "database", "cache"]);
    assert_eq!(sql(&host, "database", "select id from orders"), "7");
    until_redis(&host, "cache");
    assert_eq!(host.ok(&["exec", "-T", "cache", "redis-cli", "get", "greeting"]), "hello");
    let said = host.run(&["logs", "--no-log-prefix", "database"]);
    assert!(!(said.out + &said.err).contains("not properly shut down"), "it had nothing to recover");
    host.ok(&["down", "-v"]);
}
