//! What people do when they follow a tutorial that builds: Flask with PostgreSQL, and with Redis, from Dockerfiles whose
//! commands really install packages.

use std::net::TcpListener;
use std::sync::mpsc;
use std::time::Duration;

use serde_json::Value;

use crate::harness::{Done, Host, eventually, free_port, get_json, http};
use crate::registry::Registry;

/// For builds that download and install a compiler.
const BUILD: Duration = Duration::from_secs(900);

/// Two stages: one with a compiler, where dependencies are installed; one that has only what they come to.
const POSTGRES_DOCKERFILE: &str = "# web/Dockerfile
# Stage 1
FROM python:3.11-slim-bullseye AS builder
WORKDIR /app
RUN apt-get update && apt-get install -y --no-install-recommends \\
    build-essential \\
    libpq-dev \\
    gcc \\
    && rm -rf /var/lib/apt/lists/*
COPY requirements.txt .
RUN pip install --no-cache-dir -r requirements.txt

# Stage 2
FROM python:3.11-slim-bullseye
WORKDIR /app
COPY --from=builder /usr/local/lib/python3.11/site-packages /usr/local/lib/python3.11/site-packages
COPY app.py .
EXPOSE 8000
ENV FLASK_APP=app.py
ENV FLASK_RUN_HOST=0.0.0.0
CMD [\"python\", \"-m\", \"flask\", \"run\", \"--port=8000\"]
";

/// Asks PostgreSQL at each visit.
const POSTGRES_APP: &str = r#"
import os, flask, psycopg2
app = flask.Flask(__name__)
@app.route("/")
def visit():
    try:
        with psycopg2.connect(os.environ["DATABASE_URL"]) as db, db.cursor() as cursor:
            cursor.execute("select 6 * 7")
            versions = [flask.__dict__.get("__version__") or __import__("importlib.metadata").metadata.version("flask"),
                        psycopg2.__version__.split()[0]]
            return {"answer": cursor.fetchone()[0], "versions": versions}
    except psycopg2.OperationalError as error:
        return {"error": str(error)}, 500
"#;

/// The base's version comes from outside; all of the context is copied.
const REDIS_DOCKERFILE: &str = "ARG IMAGE_VERSION

FROM python:$IMAGE_VERSION

WORKDIR /usr/src/app

COPY requirements.txt ./

RUN pip install --no-cache-dir -r requirements.txt

COPY . .

ENV FLASK_APP=app.py

CMD flask run --host=0.0.0.0
";

/// A list of names in Redis.
const REDIS_APP: &str = r#"
from flask import Flask, request, jsonify
from redis import Redis
app = Flask(__name__)
redis = Redis(host="redis", socket_timeout=5, decode_responses=True)
@app.route("/", methods=["POST", "GET"])
def students():
    if request.method == "POST":
        redis.rpush("students", request.get_json(force=True)["name"])
    return jsonify(redis.lrange("students", 0, -1))
"#;

/// Runs the program, which must succeed in the time of a build.
fn long(host: &Host, args: &[&str]) -> Done {
    let mut command = host.command(args);
    let child = command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap();
    let pid = child.id();
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || sender.send(child.wait_with_output()));
    let Ok(output) = receiver.recv_timeout(BUILD) else {
        let _ = std::process::Command::new("kill").args(["-9", &pid.to_string()]).status();
        panic!("umiak {}: still running after {BUILD:?}", args.join(" "));
    };
    let output = output.unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let done =
        Done { code: output.status.code().unwrap_or(1000), out: text(&output.stdout), err: text(&output.stderr) };
    assert_eq!(done.code, 0, "umiak {}\n{}{}", args.join(" "), done.out, done.err);
    done
}

fn image_id(host: &Host, name: &str) -> Value {
    host.json(&["image", "inspect", name])[0]["Id"].clone()
}

/// Whether a step of the build was found in the cache.
fn cached(done: &Done, step: &str) -> bool {
    let number = done.err.lines().find(|line| line.contains(step)).and_then(|line| line.split(' ').next());
    let number = number.unwrap_or_else(|| panic!("no step {step}: {}", done.err));
    done.err.lines().any(|line| line == format!("{number} CACHED"))
}

/// F1: `build: ./web`, a Dockerfile of two stages with apt-get and pip; Flask finds PostgreSQL by its service's name.
#[test]
fn flask_is_built_in_two_stages_and_finds_postgresql_by_name() {
    let Some(host) = Host::bare() else { return };
    let port = free_port();
    host.write("web/Dockerfile", POSTGRES_DOCKERFILE);
    host.write("web/requirements.txt", "Flask==2.3.3\npsycopg2-binary==2.9.9\n");
    host.write("web/app.py", POSTGRES_APP);
    host.write(
        "docker-compose.yml",
        &format!(
            r#"
services:
  web:
    build: ./web
    init: true
    ports: ["{port}:8000"]
    depends_on: [db]
    environment: {{ DATABASE_URL: postgresql://user:password@db:5432/mydatabase }}
    networks: [app_network]
  db:
    image: postgres:16-alpine
    environment: {{ POSTGRES_DB: mydatabase, POSTGRES_USER: user, POSTGRES_PASSWORD: password }}
    volumes: ["db_data:/var/lib/postgresql/data"]
    networks: [app_network]
networks:
  app_network: {{ driver: bridge }}
volumes:
  db_data:
"#
        ),
    );
    let done = long(&host, &["up", "-d"]);
    for line in [" demo-web  Built", "Container demo-db-1  Started", "Container demo-web-1  Started"] {
        assert!(done.err.contains(line), "{line}: {}", done.err);
    }
    assert!(done.err.contains("Setting up build-essential"), "{}", done.err);
    let address = format!("127.0.0.1:{port}");
    let said = get_json(&address, "/");
    assert_eq!(said["answer"], 42, "{said}");
    assert_eq!(said["versions"], serde_json::json!(["2.3.3", "2.9.9"]), "what pip installed in the first stage");
    let config = host.json(&["image", "inspect", "demo-web"])[0]["Config"].clone();
    assert_eq!(config["ExposedPorts"], serde_json::json!({ "8000/tcp": {} }));
    assert_eq!(config["WorkingDir"], "/app");
    let compiler = host.run(&["exec", "-T", "web", "sh", "-c", "command -v gcc"]);
    assert_eq!((compiler.code, compiler.out.as_str()), (127, ""), "the compiler stayed in the first stage");

    // One line of the application: packages are not installed again.
    let first = image_id(&host, "demo-web");
    host.write("web/app.py", &POSTGRES_APP.replace("6 * 7", "6 * 8"));
    let done = long(&host, &["up", "-d", "--build"]);
    for step in ["RUN apt-get update", "RUN pip install", "COPY --from=builder"] {
        assert!(cached(&done, step), "{step}: {}", done.err);
    }
    assert!(!cached(&done, "COPY app.py ."), "{}", done.err);
    assert_ne!(image_id(&host, "demo-web"), first);
    assert_eq!(get_json(&address, "/")["answer"], 48);
    host.ok(&["down", "--volumes", "-t", "0"]);
}

/// F3: what cannot be pulled, and a port that somebody has, are said clearly.
#[test]
fn access_denied_and_a_taken_port_are_named() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    host.write("docker-compose.yml", "services:\n  db: { image: 'postgress:16-alpine' }\n");
    let error = host.fails(1, &["up", "-d"]);
    assert!(error.contains("service db: pull postgress:16-alpine"), "{error}");
    if let Some(registry) = Registry::start(true) {
        let image = registry.name("private/app:1");
        let settings = format!("[registry.\"{}\"]\ninsecure_http = true\n", registry.host);
        std::fs::write(host.path().join("registries.toml"), settings).unwrap();
        host.write("docker-compose.yml", &format!("services:\n  db: {{ image: '{image}' }}\n"));
        let error = host.fails(1, &["up", "-d"]);
        assert!(error.contains(&image) && error.contains("login"), "{error}");
        std::fs::remove_file(host.path().join("registries.toml")).unwrap();
    }
    let taken = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let text = format!("services:\n  web: {{ image: busybox, command: sleep 100, ports: ['{port}:8000'] }}\n");
    host.write("docker-compose.yml", &text);
    let error = host.fails(1, &["up", "-d"]);
    let clash = format!("Bind for 0.0.0.0:{port} failed: port is already allocated");
    assert!(error.contains(&clash), "{error}");
    drop(taken);
    host.ok(&["up", "-d"]);
    host.ok(&["down", "-t", "0"]);
}

/// B1, B3: the base's version as a build argument, an image with a name of its own; `build`, `up --build`,
/// `build --no-cache`; then `push` to a registry, and `pull` where nothing is.
#[test]
fn an_image_with_build_arguments_is_built_pushed_and_pulled() {
    let Some(host) = Host::bare() else { return };
    let Some(registry) = Registry::start(false) else { return };
    let defaults = std::env::var_os("UMIAK_REGISTRIES")
        .map_or_else(|| "/var/cache/umiak-images/registries.toml".into(), std::path::PathBuf::from);
    let settings = std::fs::read_to_string(defaults).unwrap();
    let settings = format!("{settings}\n[registry.\"{}\"]\ninsecure_http = true\n", registry.host);
    std::fs::write(host.path().join("registries.toml"), settings).unwrap();
    let image = registry.name("somebody/flask-redis:1.0");
    let port = free_port();
    host.write("Dockerfile", REDIS_DOCKERFILE);
    host.write("requirements.txt", "flask\nredis\n");
    host.write("app.py", REDIS_APP);
    host.write(
        "docker-compose.yml",
        &format!(
            "version: '3'

services:
  app:
    build:
      context: .
      args:
        - IMAGE_VERSION=3.7.0-alpine3.8
    image: {image}
    environment:
      - FLASK_ENV=development
    ports:
      - {port}:5000
  redis:
    image: redis:4.0.11-alpine
"
        ),
    );
    let done = long(&host, &["build"]);
    assert!(done.err.contains("FROM docker.io/library/python:3.7.0-alpine3.8"), "{}", done.err);
    assert!(done.err.contains(&format!(" {image}  Built")), "{}", done.err);
    let first = image_id(&host, &image);
    long(&host, &["up", "-d", "--build"]);
    assert_eq!(image_id(&host, &image), first, "nothing has changed");
    let address = format!("127.0.0.1:{port}");
    get_json(&address, "/");
    let (code, said) = http("POST", &address, "/", "{\"name\":\"Kumar\"}").unwrap();
    assert_eq!((code, said.trim()), (200, "[\"Kumar\"]"));
    let done = long(&host, &["build", "--no-cache", "app"]);
    assert!(!cached(&done, "RUN pip install"), "{}", done.err);

    let done = long(&host, &["push"]);
    assert!(done.err.contains(&image), "{}", done.err);
    let pushed = image_id(&host, &image);
    host.ok(&["down", "-t", "0", "--rmi", "all"]);
    host.fails(1, &["image", "inspect", &image]);
    long(&host, &["pull"]);
    assert_eq!(image_id(&host, &image), pushed);
    host.ok(&["up", "-d", "--no-build"]);
    eventually("the pulled image serves", || http("GET", &address, "/", "").map(drop));
    assert_eq!(get_json(&address, "/"), serde_json::json!([]), "Redis is a new one");
    host.ok(&["down", "-t", "0"]);
}
