//! What people do when they follow a tutorial, continued: health checks of real servers, and the order they start in.

use std::process::Stdio;

use serde_json::Value;

use crate::harness::{Host, eventually, finish_child, free_port, http};

const IMAGES: &[&str] = &["postgres:16-alpine", "python:3.11-slim", "redis:7-alpine"];

/// A server of the standard library whose `/health` is bad until the file `/gate/NAME` is there.
const API: &str = r#"
import http.server, os, sys
gate = sys.argv[1]
class Api(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        well = self.path != "/health" or os.path.exists(gate)
        self.send_response(200 if well else 503); self.end_headers(); self.wfile.write(b"fine" if well else b"not yet")
http.server.ThreadingHTTPServer(("", 3000), Api).serve_forever()
"#;

/// Starts by using what it depends on, once and without a second try, as an application does.
const NEEDS_BOTH: &str = r#"
import psycopg2, redis
with psycopg2.connect("postgresql://shop:secret@db/shop") as db, db.cursor() as cursor:
    cursor.execute("select count(*) from pg_tables")
    print("tables", cursor.fetchone()[0] > 0, flush=True)
print("cache", redis.Redis("cache").ping(), flush=True)
exec(open("/srv/api.py").read())
"#;

/// Lets what waits for this file in `/gate` go on.
fn open_gate(host: &Host, name: &str) {
    host.write(&format!("gate/{name}"), "");
}

fn health(host: &Host, name: &str) -> Value {
    host.inspect(name)["State"]["Health"].clone()
}

fn until_healthy(host: &Host, name: &str) -> Value {
    host.until(name, "it is healthy", |state| state["Health"]["Status"] == "healthy")
}

/// Services, with what the table of `ps -a` says of them in the column STATUS.
fn listed(host: &Host) -> Vec<(String, String)> {
    let text = |one: &Value, key: &str| one[key].as_str().unwrap().to_owned();
    host.lines(&["ps", "-a", "--format", "json"])
        .iter()
        .map(|one| (text(one, "Service"), text(one, "Status")))
        .collect()
}

fn status(host: &Host, service: &str) -> String {
    let all = listed(host);
    all.into_iter().find(|(name, _)| name == service).map(|(_, status)| status).unwrap_or_default()
}

/// Whether these lines came in this order, among others, in what `up` said.
fn in_order(said: &str, lines: &[&str]) -> bool {
    let mut rest = said.lines();
    lines.iter().all(|line| rest.any(|one| one.trim() == format!("Container demo-{line}")))
}

fn down(host: &Host) {
    host.ok(&["down", "-v", "-t", "0"]);
}

/// E1 to E3: `pg_isready`, `redis-cli ping`, and HTTP where there is no curl; `ps` goes from starting to healthy.
#[test]
fn ps_shows_real_servers_go_from_starting_to_healthy() {
    let Some(host) = Host::new(IMAGES) else { return };
    host.write("api.py", API);
    host.write("gate/.keep", "");
    // The servers themselves start when they may, so that nobody misses what `ps` says before.
    let gated = |server: &str| {
        format!("entrypoint: [sh, -c, 'until [ -e /gate/go ]; do sleep 0.1; done; exec docker-entrypoint.sh {server}']")
    };
    let times = "interval: 300ms, timeout: 30s, retries: 1000, start_period: 10m";
    host.write(
        "compose.yaml",
        &format!(
            r#"
services:
  db:
    image: postgres:16-alpine
    {}
    environment: {{ POSTGRES_USER: shop, POSTGRES_PASSWORD: secret, POSTGRES_DB: shop }}
    volumes: ["./gate:/gate:ro"]
    healthcheck: {{ test: ["CMD-SHELL", "pg_isready -U shop -d shop"], {times} }}
  cache:
    image: redis:7-alpine
    {}
    volumes: ["./gate:/gate:ro"]
    healthcheck: {{ test: ["CMD", "redis-cli", "ping"], {times} }}
  api:
    image: python:3.11-slim
    command: python -u /srv/api.py /gate/go
    init: true
    volumes: ["./gate:/gate:ro", "./api.py:/srv/api.py:ro"]
    healthcheck:
      test: ["CMD", "python", "-c", "import urllib.request as u; print(u.urlopen('http://127.0.0.1:3000/health').status)"]
      {}
"#,
            gated("postgres"),
            gated("redis-server"),
            times.replace(", ", "\n      ")
        ),
    );
    host.ok(&["up", "-d"]);
    assert_ne!(host.run(&["exec", "-T", "api", "sh", "-c", "command -v curl"]).code, 0, "there is no curl in it");
    for (service, said) in [("db", "no response"), ("cache", "Could not connect"), ("api", "503")] {
        let name = format!("demo-{service}-1");
        eventually(&format!("{service} has been checked, in vain"), || {
            let all = health(&host, &name);
            let seen = all["Log"]
                .as_array()
                .into_iter()
                .flatten()
                .any(|one| one["ExitCode"] != 0 && one["Output"].as_str().unwrap_or_default().contains(said));
            if seen { Ok(()) } else { Err(all.to_string()) }
        });
        let status = status(&host, service);
        assert!(status.starts_with("Up ") && status.ends_with(" (health: starting)"), "{service}: {status}");
    }
    let table = host.ok(&["ps"]);
    assert_eq!(table.matches("(health: starting)").count(), 3, "{table}");
    let starting = |one: &Value| one["Health"] == "starting" && one["State"] == "running";
    assert!(host.lines(&["ps", "--format", "json"]).iter().all(starting));

    open_gate(&host, "go");
    for (service, said) in [("db", "accepting connections"), ("cache", "PONG"), ("api", "200")] {
        let shown = until_healthy(&host, &format!("demo-{service}-1"));
        let good = |one: &Value| one["ExitCode"] == 0 && one["Output"].as_str().unwrap().contains(said);
        let log = &shown["State"]["Health"]["Log"];
        assert!(log.as_array().unwrap().iter().any(good), "{service}: {log}");
        let status = status(&host, service);
        assert!(status.starts_with("Up ") && status.ends_with(" (healthy)"), "{service}: {status}");
    }
    let table = host.ok(&["ps"]);
    assert_eq!(table.matches(" (healthy)").count(), 3, "{table}");
    down(&host);
}

/// E2: it is the exit code that counts, not what was printed.
#[test]
fn redis_cli_ping_is_judged_by_its_exit_code() {
    let Some(host) = Host::new(&["redis:7-alpine"]) else { return };
    host.write(
        "compose.yaml",
        r#"
x-locked: &locked
  image: redis:7-alpine
  command: redis-server --requirepass secret
services:
  printed:
    <<: *locked
    healthcheck: { test: ["CMD", "redis-cli", "ping"], interval: 200ms, retries: 2, start_period: 0s }
  searched:
    <<: *locked
    healthcheck: { test: redis-cli ping | grep -q PONG, interval: 200ms, retries: 2, start_period: 0s }
  let-in:
    <<: *locked
    healthcheck: { test: "redis-cli -a secret --no-auth-warning ping | grep PONG", interval: 200ms, retries: 1000 }
"#,
    );
    host.ok(&["up", "-d"]);
    let last = |name: &str| health(&host, name)["Log"].as_array().unwrap().last().unwrap().clone();
    // `redis-cli` prints the refusal and ends with 0: nobody reads what it said.
    until_healthy(&host, "demo-printed-1");
    assert!(last("demo-printed-1")["Output"].as_str().unwrap().contains("NOAUTH"), "{}", last("demo-printed-1"));
    host.until("demo-searched-1", "it is unhealthy", |state| state["Health"]["Status"] == "unhealthy");
    assert_eq!(last("demo-searched-1")["ExitCode"], 1);
    until_healthy(&host, "demo-let-in-1");
    assert_eq!(last("demo-let-in-1")["Output"], "PONG\n");
    let table = host.ok(&["ps"]);
    assert!(table.contains("(unhealthy)") && table.matches("(healthy)").count() == 2, "{table}");
    down(&host);
}

/// E4, E5: one starts after both of its dependencies are healthy, another after it, and none sees a connection fail.
#[test]
fn services_start_when_both_of_their_dependencies_are_healthy() {
    let Some(host) = Host::new(IMAGES) else { return };
    let port = free_port();
    host.write("api.py", API);
    host.write("main.py", NEEDS_BOTH);
    host.write("gate/.keep", "");
    host.write(
        "compose.yaml",
        &format!(
            r#"
services:
  frontend:
    image: python:3.11-slim
    command: python -c "import urllib.request as u; print(u.urlopen('http://api:3000/').read(), flush=True); import time; time.sleep(1000)"
    init: true
    depends_on: {{ api: {{ condition: service_healthy }} }}
  api:
    image: python:3.11-slim
    command: python -u /srv/main.py /srv/api.py
    init: true
    volumes: ["./api.py:/srv/api.py:ro", "./main.py:/srv/main.py:ro"]
    ports: ["127.0.0.1:{port}:3000"]
    depends_on:
      db: {{ condition: service_healthy }}
      cache: {{ condition: service_healthy }}
    healthcheck:
      test: ["CMD", "python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:3000/health')"]
      interval: 500ms
      timeout: 30s
      retries: 100
  db:
    image: postgres:16-alpine
    environment: {{ POSTGRES_USER: shop, POSTGRES_PASSWORD: secret }}
    healthcheck: {{ test: pg_isready -U shop -h 127.0.0.1, interval: 500ms, timeout: 30s, retries: 1000 }}
  cache:
    image: redis:7-alpine
    entrypoint: [sh, -c, "until [ -e /gate/cache ]; do sleep 0.1; done; exec docker-entrypoint.sh redis-server"]
    volumes: ["./gate:/gate:ro"]
    healthcheck: {{ test: [CMD, redis-cli, ping], interval: 500ms, timeout: 30s, retries: 1000 }}
"#
        ),
    );
    let up = host.command(&["up", "-d"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // One of two is not enough.
    eventually("the database is healthy", || match status(&host, "db") {
        status if status.ends_with("(healthy)") => Ok(()),
        status => Err(status),
    });
    assert!(status(&host, "cache").ends_with("(health: starting)"), "{:?}", listed(&host));
    for service in ["api", "frontend"] {
        let status = status(&host, service);
        assert!(status.is_empty() || status == "Created", "{service} has not started: {status}");
    }
    open_gate(&host, "cache");
    let done = finish_child(up, b"", "up -d");
    assert_eq!(done.code, 0, "{}", done.err);
    for dependency in ["db-1  Healthy", "cache-1  Healthy"] {
        let lines = [dependency, "api-1  Starting", "api-1  Started", "api-1  Healthy", "frontend-1  Starting"];
        assert!(in_order(&done.err, &lines), "{}", done.err);
    }
    // Neither has been started twice, nor has anything failed.
    assert_eq!(
        host.ok(&["logs", "--no-log-prefix", "api"]).lines().take(2).collect::<Vec<_>>(),
        ["tables True", "cache True"]
    );
    eventually("the frontend has asked the API", || match host.ok(&["logs", "--no-log-prefix", "frontend"]) {
        said if said == "b'fine'" => Ok(()),
        said => Err(said),
    });
    assert_eq!(http("GET", &format!("127.0.0.1:{port}"), "/health", "").unwrap().0, 200);
    down(&host);
}

/// E4: a database that never becomes healthy keeps the API from starting, and `up` says so.
#[test]
fn an_unhealthy_database_fails_up_and_is_named() {
    let Some(host) = Host::new(IMAGES) else { return };
    host.write(
        "compose.yaml",
        r#"
services:
  api:
    image: python:3.11-slim
    command: sleep 1000
    depends_on:
      db: { condition: service_healthy }
      cache: { condition: service_healthy }
  db:
    image: postgres:16-alpine
    environment: { POSTGRES_PASSWORD: secret }
    healthcheck: { test: pg_isready -h 127.0.0.1 -p 5433, interval: 300ms, timeout: 30s, retries: 2 }
  cache:
    image: redis:7-alpine
    healthcheck: { test: [CMD, redis-cli, ping], interval: 500ms, timeout: 30s, retries: 1000 }
"#,
    );
    for up in [&["up", "-d"][..], &["up"]] {
        let error = host.fails(1, up);
        assert!(error.contains("dependency failed to start: container demo-db-1 is unhealthy"), "{up:?}: {error}");
        assert!(error.contains("127.0.0.1:5433 - no response"), "what its check said is shown: {error}");
        assert!(!host.ok(&["ps", "--services"]).contains("api"), "the API has not started");
        down(&host);
    }
}

/// P2: checks come often while the service starts, fail without consequence then, and come seldom afterwards.
#[test]
fn start_interval_and_start_period_hold_until_the_first_success() {
    let Some(host) = Host::new(&["python:3.11-slim"]) else { return };
    host.write("api.py", API);
    host.write("gate/.keep", "");
    // Each check leaves a mark that is counted from outside.
    let check =
        "echo >> /tmp/checks; python -c \\\"import urllib.request as u; u.urlopen('http://127.0.0.1:3000/health')\\\"";
    let service = |name: &str, times: &str| {
        format!(
            r#"
  {name}:
    image: python:3.11-slim
    command: python -u /srv/api.py /gate/{name}
    init: true
    volumes: ["./gate:/gate:ro", "./api.py:/srv/api.py:ro"]
    healthcheck: {{ test: "{check}", timeout: 60s, {times} }}
"#
        )
    };
    host.write(
        "compose.yaml",
        &[
            "services:".to_owned(),
            service("server", "interval: 1h, retries: 1, start_interval: 200ms, start_period: 30m"),
            service("clock", "interval: 1h, retries: 1, start_interval: 200ms, start_period: 30m"),
            service("never", "interval: 300ms, retries: 2, start_interval: 200ms, start_period: 500ms"),
        ]
        .concat(),
    );
    host.ok(&["up", "-d"]);
    let checks = |service: &str| {
        host.ok(&["exec", "-T", service, "sh", "-c", "cat /tmp/checks | wc -l"]).parse::<usize>().unwrap()
    };
    let until_checked = |service: &str, count: usize| {
        eventually(&format!("{service} has been checked {count} times"), || match checks(service) {
            seen if seen >= count => Ok(()),
            seen => Err(seen.to_string()),
        });
    };
    let config = &host.inspect("demo-server-1")["Config"]["Healthcheck"];
    assert_eq!(
        (&config["Interval"], &config["StartInterval"], &config["StartPeriod"], &config["Retries"]),
        (&3_600_000_000_000_u64.into(), &200_000_000.into(), &1_800_000_000_000_u64.into(), &1.into())
    );
    // Twelve is more than come by themselves right after the start: these are due to the start interval.
    until_checked("server", 12);
    let state = health(&host, "demo-server-1");
    assert_eq!((&state["Status"], &state["FailingStreak"]), (&"starting".into(), &0.into()), "{state}");
    // The one whose start period is over is unhealthy by now, or soon.
    let state = host.until("demo-never-1", "it is unhealthy", |state| state["Health"]["Status"] == "unhealthy");
    assert!(state["State"]["Health"]["FailingStreak"].as_u64().unwrap() >= 2, "{state}");

    open_gate(&host, "server");
    until_healthy(&host, "demo-server-1");
    let after = checks("server");
    // While the other is checked ten times, this one is not: its interval is an hour now.
    until_checked("clock", checks("clock") + 10);
    assert_eq!(checks("server"), after);
    assert_eq!(health(&host, "demo-clock-1")["Status"], "starting");
    down(&host);
}

/// P3: PostgreSQL, the server that needs it, and the workers that need the server, each when the one before is healthy.
#[test]
fn a_chain_from_the_database_to_the_workers_starts_in_order_of_health() {
    let Some(host) = Host::new(&["postgres:16-alpine", "python:3.11-slim"]) else { return };
    host.write("server.py", SERVER);
    host.write("worker.py", WORKER);
    host.write(
        "compose.yaml",
        r#"
x-common: &common
  image: python:3.11-slim
  networks: [flows]
  restart: always
  init: true
  volumes: ["./server.py:/srv/server.py:ro", "./worker.py:/srv/worker.py:ro"]
services:
  database:
    image: postgres:16-alpine
    restart: always
    environment: { POSTGRES_USER: flows, POSTGRES_PASSWORD: flows }
    volumes: ["data:/var/lib/postgresql/data"]
    networks: [flows]
    healthcheck:
      test: ["CMD-SHELL", "pg_isready -U flows -h 127.0.0.1"]
      interval: 5s
      start_interval: 500ms
      start_period: 10m
      timeout: 60s
  server:
    <<: *common
    command: python -u /srv/server.py
    depends_on: { database: { condition: service_healthy } }
    healthcheck:
      test: ["CMD", "python", "-c", "import urllib.request as u; u.urlopen('http://server:4200/api/health')"]
      interval: 5s
      start_interval: 500ms
      start_period: 10m
      timeout: 60s
  process-worker:
    <<: *common
    command: python -u /srv/worker.py process
    depends_on: { server: { condition: service_healthy } }
  docker-worker:
    <<: *common
    command: python -u /srv/worker.py docker
    depends_on: { server: { condition: service_healthy } }
networks: { flows: }
volumes: { data: }
"#,
    );
    let done = host.run(&["up", "-d"]);
    assert_eq!(done.code, 0, "{}", done.err);
    for worker in ["process-worker", "docker-worker"] {
        let last = format!("{worker}-1  Starting");
        let lines = ["database-1  Healthy", "server-1  Starting", "server-1  Started", "server-1  Healthy", &last];
        assert!(in_order(&done.err, &lines), "{}", done.err);
        // What the server answers comes from the database.
        eventually(&format!("{worker} is registered"), || match host.ok(&["logs", "--no-log-prefix", worker]) {
            said if said.starts_with("registered as ") => Ok(()),
            said => Err(said),
        });
        assert_eq!(host.inspect(&format!("demo-{worker}-1"))["RestartCount"], 0);
    }
    assert_eq!(host.inspect("demo-server-1")["RestartCount"], 0, "it reached the database at its first try");
    down(&host);
}

/// Keeps the workers that have come in PostgreSQL, which must be there when it starts.
const SERVER: &str = r#"
import http.server, psycopg2
db = psycopg2.connect("postgresql://flows:flows@database/flows")
db.autocommit = True
db.cursor().execute("create table if not exists workers (id serial, name text)")
class Server(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        cursor = db.cursor()
        cursor.execute("select 1")
        self.answer(b"ok")
    def do_POST(self):
        cursor = db.cursor()
        cursor.execute("insert into workers (name) values (%s) returning id", (self.path,))
        self.answer(str(cursor.fetchone()[0]).encode())
    def answer(self, body):
        self.send_response(200); self.end_headers(); self.wfile.write(body)
http.server.HTTPServer(("", 4200), Server).serve_forever()
"#;

/// Registers at the server, which must be there when it starts.
const WORKER: &str = r#"
import sys, time, urllib.request
request = urllib.request.Request("http://server:4200/api/workers/" + sys.argv[1], method="POST", data=b"")
print("registered as", urllib.request.urlopen(request).read().decode())
time.sleep(1000)
"#;
