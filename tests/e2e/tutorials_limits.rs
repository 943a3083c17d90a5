//! What people do when they follow a tutorial, continued: limits that hold and are seen, and logs that stay small.

use std::path::Path;

use serde_json::{Value, json};

use crate::docker::docker;
use crate::harness::{Host, cgroups_of, eventually, free_port, get_json, http, names_in};

const MIB: u64 = 1 << 20;

/// Keeps as many MiB as it is asked for.
const HUNGRY: &str = r#"
from flask import Flask
app, kept = Flask(__name__), []
@app.route("/eat/<int:mib>")
def eat(mib):
    kept.append(b"\1" * (mib << 20))
    return {"kept": sum(map(len, kept)) >> 20}
"#;

/// The number in a file of one of the container's control groups, whatever version they are of.
fn in_cgroup(id: &str, names: &[&str]) -> Option<u64> {
    let files = cgroups_of(id).into_iter().flat_map(|dir| names.iter().map(move |name| dir.join(name)));
    files.filter_map(|path| std::fs::read_to_string(path).ok()).find_map(|text| text.trim().parse().ok())
}

/// How often the kernel held a container back for having used its share of the CPU.
fn throttled(id: &str) -> Option<u64> {
    let texts = cgroups_of(id).into_iter().filter_map(|dir| std::fs::read_to_string(dir.join("cpu.stat")).ok());
    texts
        .flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>())
        .find_map(|line| line.strip_prefix("nr_throttled ").and_then(|count| count.parse().ok()))
}

fn id(host: &Host, name: &str) -> String {
    host.inspect(name)["Id"].as_str().unwrap().to_owned()
}

/// The line that `docker stats --no-stream` has for a container.
fn stats(host: &Host, name: &str) -> Value {
    let done = docker(host, &["stats", "--no-stream", "--format", "json", name]);
    assert_eq!(done.code, 0, "{}", done.err);
    serde_json::from_str(&done.out).unwrap_or_else(|error| panic!("{error}: {}", done.out))
}

/// E8, E10: memory limits and reservations are the kernel's, `stats` shows them, and who exceeds his is killed and named.
#[test]
fn memory_limits_hold_are_seen_in_stats_and_the_kill_is_reported() {
    let Some(host) = Host::new(&["postgres:16-alpine", "redis:7-alpine", "python:3.11-slim"]) else { return };
    let port = free_port();
    host.write("app.py", HUNGRY);
    let resources = |limit: &str, reserved: &str| {
        format!("resources: {{ limits: {{ memory: {limit} }}, reservations: {{ memory: {reserved}, cpus: '0.1' }} }}")
    };
    host.write(
        "compose.yaml",
        &format!(
            r#"
services:
  database:
    image: postgres:16-alpine
    environment: {{ POSTGRES_PASSWORD: secret }}
    deploy: {{ {} }}
  cache:
    image: redis:7-alpine
    deploy: {{ {} }}
  api:
    image: python:3.11-slim
    command: python -m flask run --host 0.0.0.0 --port 3000
    working_dir: /srv
    volumes: ["./app.py:/srv/app.py:ro"]
    ports: ["127.0.0.1:{port}:3000"]
    deploy: {{ {} }}
"#,
            resources("512M", "256M"),
            resources("256M", "128M"),
            resources("256M", "128M")
        ),
    );
    host.ok(&["up", "-d"]);
    for (service, limit, reserved) in [("database", 512, 256), ("cache", 256, 128), ("api", 256, 128)] {
        let shown = host.inspect(&format!("demo-{service}-1"));
        assert_eq!(
            (&shown["HostConfig"]["Memory"], &shown["HostConfig"]["MemoryReservation"]),
            (&(limit * MIB).into(), &(reserved * MIB).into()),
            "{service}"
        );
        let id = shown["Id"].as_str().unwrap();
        assert_eq!(in_cgroup(id, &["memory.limit_in_bytes", "memory.max"]), Some(limit * MIB), "{service}");
        assert_eq!(in_cgroup(id, &["memory.soft_limit_in_bytes", "memory.low"]), Some(reserved * MIB), "{service}");
        let usage = stats(&host, &format!("demo-{service}-1"))["MemUsage"].as_str().unwrap().to_owned();
        assert!(usage.ends_with(&format!("iB / {limit}MiB")), "{service}: {usage}");
    }
    let table = docker(&host, &["stats", "--no-stream"]).out;
    let head: Vec<&str> =
        table.lines().next().unwrap().split("  ").map(str::trim).filter(|one| !one.is_empty()).collect();
    assert_eq!(
        head,
        ["CONTAINER ID", "NAME", "CPU %", "MEM USAGE / LIMIT", "MEM %", "NET I/O", "BLOCK I/O", "PIDS"],
        "{table}"
    );
    assert_eq!(table.lines().count(), 4, "{table}");

    // Below its limit it gets what it asks for, and `stats` shows it; above, it is killed.
    assert_eq!(get_json(&format!("127.0.0.1:{port}"), "/eat/100")["kept"], 100);
    let share: f64 = stats(&host, "demo-api-1")["MemPerc"].as_str().unwrap().trim_end_matches('%').parse().unwrap();
    assert!(share > 100.0 / 256.0 * 100.0 && share <= 100.0, "{share}");
    assert!(http("GET", &format!("127.0.0.1:{port}"), "/eat/2000", "").is_err(), "nobody is left to answer");
    let shown = host.until("demo-api-1", "it was killed", |state| state["Status"] == "exited");
    assert_eq!((&shown["State"]["OOMKilled"], &shown["State"]["ExitCode"]), (&true.into(), &137.into()));
    let listed = host.lines(&["ps", "-a", "--format", "json", "api"]);
    assert!(listed[0]["Status"].as_str().unwrap().starts_with("Exited (137) "), "{}", listed[0]);
    eventually("the kill is among the events", || {
        let events = host.lines(&["events", "--since", "1h", "--until", "0s", "--json", "api"]);
        if events.iter().any(|event| event["action"] == "oom") { Ok(()) } else { Err(format!("{events:?}")) }
    });
    for name in ["demo-database-1", "demo-cache-1"] {
        let state = host.inspect(name)["State"].take();
        assert_eq!((&state["Status"], &state["OOMKilled"]), (&"running".into(), &false.into()), "{name}");
    }
    host.ok(&["down", "-v", "-t", "0"]);
}

/// E8: one that is killed for its memory is started again where its policy says so, and that end is still known.
#[test]
fn what_was_killed_for_its_memory_is_started_again() {
    let Some(host) = Host::new(&["python:3.11-slim"]) else { return };
    host.write(
        "compose.yaml",
        r#"
services:
  api:
    image: python:3.11-slim
    command: python -c "print('up', flush=True); b'1' * (2000 << 20)"
    mem_limit: 64m
    restart: on-failure:2
"#,
    );
    host.ok(&["up", "-d"]);
    let shown = host.until("demo-api-1", "it has given up", |state| state["Status"] == "exited");
    assert_eq!((&shown["State"]["OOMKilled"], &shown["RestartCount"]), (&true.into(), &2.into()));
    assert_eq!(host.ok(&["logs", "--no-log-prefix", "api"]), "up\nup\nup");
    host.ok(&["down"]);
}

/// The share of one CPU, in percent, that the kernel lets a container have.
fn quota(id: &str) -> Option<u64> {
    let period = in_cgroup(id, &["cpu.cfs_period_us"]).unwrap_or(100_000);
    let max = cgroups_of(id).into_iter().find_map(|dir| std::fs::read_to_string(dir.join("cpu.max")).ok());
    let max = max.and_then(|text| text.split_whitespace().next().and_then(|quota| quota.parse().ok()));
    in_cgroup(id, &["cpu.cfs_quota_us"]).or(max).map(|quota: u64| quota * 100 / period)
}

/// E9: services that have work for four cores get half of one, or a tenth.
#[test]
fn cpu_limits_hold_and_are_seen_in_stats() {
    let Some(host) = Host::new(&["postgres:16-alpine", "busybox"]) else { return };
    host.write(
        "compose.yaml",
        r#"
x-busy: &busy
  image: busybox
  command: sh -c 'for i in 1 2 3 4; do while :; do :; done & done; wait'
  stop_grace_period: 0s
services:
  database:
    image: postgres:16-alpine
    environment: { POSTGRES_PASSWORD: secret }
    deploy: { resources: { limits: { cpus: '1.0' } } }
  api:
    <<: *busy
    deploy: { resources: { limits: { cpus: '0.50' } } }
  worker:
    <<: *busy
    deploy: { resources: { limits: { cpus: '0.1' } } }
"#,
    );
    host.ok(&["up", "-d"]);
    for (service, percent) in [("database", 100), ("api", 50), ("worker", 10)] {
        let shown = host.inspect(&format!("demo-{service}-1"));
        assert_eq!(shown["HostConfig"]["NanoCpus"], percent * 10_000_000, "{service}");
        assert_eq!(quota(shown["Id"].as_str().unwrap()), Some(percent), "{service}");
    }
    // On a host that has other work, half a core may never be had, but a tenth is.
    let id = id(&host, "demo-worker-1");
    eventually("the kernel has held it back", || match throttled(&id) {
        Some(count) if count >= 3 => Ok(()),
        other => Err(format!("{other:?}")),
    });
    for (service, most) in [("api", 60.0), ("worker", 15.0)] {
        eventually("stats shows its share", || {
            let shown = stats(&host, &format!("demo-{service}-1"))["CPUPerc"].clone();
            let percent: f64 = shown.as_str().unwrap().trim_end_matches('%').parse().unwrap();
            if percent > 0.0 && percent <= most { Ok(()) } else { Err(shown.to_string()) }
        });
    }
    host.ok(&["down", "-v", "-t", "0"]);
}

/// E10: what is reserved cannot be more than the limit.
#[test]
fn a_reservation_above_its_limit_is_refused() {
    let Some(host) = Host::new(&["redis:7-alpine"]) else { return };
    host.write(
        "compose.yaml",
        r#"
services:
  cache:
    image: redis:7-alpine
    deploy: { resources: { limits: { memory: 128M }, reservations: { memory: 256M } } }
"#,
    );
    let error = host.fails(1, &["up", "-d"]);
    assert!(error.contains("cache") && error.to_lowercase().contains("reservation"), "{error}");
    assert!(host.ids().is_empty() && host.network_ids().is_empty(), "{error}");
}

/// E19: the settings of a log are seen by `docker inspect`, and they hold.
#[test]
fn logs_are_bounded_as_the_file_says() {
    let Some(host) = Host::new(&["redis:7-alpine", "busybox"]) else { return };
    host.write(
        "compose.yaml",
        r#"
x-logging: &logging
  driver: json-file
  options: { max-size: "10m", max-file: "3" }
services:
  cache: { image: "redis:7-alpine", logging: *logging }
  noisy:
    image: busybox
    command: seq 1 20000
    logging: { driver: json-file, options: { max-size: 100k, max-file: "3" } }
"#,
    );
    host.ok(&["up", "-d"]);
    let done = docker(&host, &["inspect", "demo-cache-1"]);
    let shown: Value = serde_json::from_str(&done.out).unwrap();
    let expected = json!({ "Type": "json-file", "Config": { "max-size": "10m", "max-file": "3" } });
    assert_eq!(shown[0]["HostConfig"]["LogConfig"], expected, "{}", done.err);
    let format = docker(&host, &["inspect", "--format", "{{.HostConfig.LogConfig.Type}}", "demo-cache-1"]);
    assert_eq!(format.out, "json-file\n", "{}", format.err);

    host.until("demo-noisy-1", "it has said all", |state| state["Status"] == "exited");
    let path = host.inspect("demo-noisy-1")["LogPath"].as_str().unwrap().to_owned();
    let (dir, name) = (Path::new(&path).parent().unwrap(), Path::new(&path).file_name().unwrap().to_str().unwrap());
    let mut files: Vec<String> = names_in(dir).into_iter().filter(|one| one.starts_with(name)).collect();
    files.sort();
    assert_eq!(files, [name.to_owned(), format!("{name}.1"), format!("{name}.2")]);
    // A record may cross the limit, as in Docker; not by more than itself.
    for file in files {
        let size = std::fs::metadata(dir.join(&file)).unwrap().len();
        assert!(size > 0 && size < 102_400 + 200, "{file}: {size}");
    }
    let said = host.ok(&["logs", "--no-log-prefix", "noisy"]);
    assert!(said.ends_with("\n19999\n20000") && !said.starts_with("1\n"), "the last lines are kept, the first gone");
    host.ok(&["down", "-v", "-t", "0"]);
}
