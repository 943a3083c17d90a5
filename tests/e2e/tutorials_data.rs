//! What people do when they follow a tutorial, continued: databases that are filled once, and data that stays.

use serde_json::Value;

use crate::harness::{Host, eventually, free_port, get_json, http};

/// One statement in the database `shop`, once it answers to others than its own first start.
fn sql(host: &Host, statement: &str) -> String {
    let command = ["exec", "-T", "db", "psql", "-h", "127.0.0.1", "-U", "shop", "-d", "shop", "-tAc", statement];
    eventually("the database answers", || {
        let done = host.run(&command);
        if done.code == 0 { Ok(done.out.trim().to_owned()) } else { Err(done.err) }
    })
}

/// E17: what lies in `/docker-entrypoint-initdb.d` fills an empty database, and is not looked at again.
#[test]
fn an_init_script_runs_on_the_first_start_only() {
    let Some(host) = Host::new(&["postgres:16-alpine"]) else { return };
    const TABLES: &str =
        "select string_agg(tablename, ' ' order by tablename) from pg_tables where schemaname = 'public'";
    let users = "
create table users (id serial primary key, name text unique not null, since timestamp default current_timestamp);
create index users_by_name on users (name);
insert into users (name) values ('ada'), ('grace');
";
    host.write("init.sql", users);
    host.write(
        "compose.yaml",
        r#"
services:
  db:
    image: postgres:16-alpine
    environment: { POSTGRES_USER: shop, POSTGRES_PASSWORD: secret, POSTGRES_HOST_AUTH_METHOD: trust }
    volumes:
      - data:/var/lib/postgresql/data
      - ./init.sql:/docker-entrypoint-initdb.d/init.sql:ro
volumes: { data: }
"#,
    );
    host.ok(&["up", "-d"]);
    assert_eq!(sql(&host, TABLES), "users");
    assert_eq!(sql(&host, "select string_agg(name, ' ' order by id) from users"), "ada grace");
    assert_eq!(sql(&host, "select count(*) from pg_indexes where indexname = 'users_by_name'"), "1");
    let said = host.run(&["logs", "--no-log-prefix", "db"]);
    assert!((said.out + &said.err).contains("running /docker-entrypoint-initdb.d/init.sql"));

    host.write("init.sql", &format!("{users}create table orders (id int);\n"));
    host.ok(&["restart"]);
    assert_eq!(sql(&host, TABLES), "users", "not after a restart");
    host.ok(&["down"]);
    host.ok(&["up", "-d"]);
    assert_eq!(sql(&host, TABLES), "users", "nor in a new container with the old volume");
    let said = host.run(&["logs", "--no-log-prefix", "db"]);
    assert!((said.out + &said.err).contains("Skipping initialization"));
    host.ok(&["down", "-v"]);
    host.ok(&["up", "-d"]);
    assert_eq!(sql(&host, TABLES), "orders users", "but in a new volume");
    host.ok(&["down", "-v", "-t", "0"]);
}

/// Counts its visits in PostgreSQL.
const WEB: &str = r#"
import os, psycopg2
from flask import Flask
app = Flask(__name__)
@app.route("/")
def visit():
    try:
        with psycopg2.connect(os.environ["DATABASE_URL"]) as db, db.cursor() as cursor:
            cursor.execute("create table if not exists visits (at timestamp default now())")
            cursor.execute("insert into visits default values")
            cursor.execute("select count(*) from visits")
            return {"visits": cursor.fetchone()[0]}
    except psycopg2.OperationalError as error:
        return {"error": str(error)}, 500
"#;

/// F2: up, ps, logs, restart, down: what each shows, and what is kept.
#[test]
fn flask_and_postgresql_are_brought_up_looked_at_and_taken_down() {
    let Some(host) = Host::new(&["postgres:16-alpine", "python:3.11-slim"]) else { return };
    let port = free_port();
    host.write("web/app.py", WEB);
    host.write(
        "docker-compose.yml",
        &format!(
            r#"
services:
  web:
    image: python:3.11-slim
    command: ["python", "-m", "flask", "run", "--host=0.0.0.0", "--port=8000"]
    working_dir: /app
    init: true
    volumes: ["./web:/app:ro"]
    ports: ["{port}:8000"]
    depends_on: [db]
    environment: {{ DATABASE_URL: "postgresql://shop:secret@db:5432/shop", PYTHONDONTWRITEBYTECODE: "1" }}
    networks: [app_network]
  db:
    image: postgres:16-alpine
    environment: {{ POSTGRES_DB: shop, POSTGRES_USER: shop, POSTGRES_PASSWORD: secret }}
    volumes: ["db_data:/var/lib/postgresql/data"]
    networks: [app_network]
networks:
  app_network: {{ driver: bridge }}
volumes:
  db_data:
"#
        ),
    );
    let address = format!("127.0.0.1:{port}");
    let visits = || get_json(&address, "/")["visits"].as_u64().unwrap();
    let done = host.run(&["up", "-d"]);
    assert_eq!(done.code, 0, "{}", done.err);
    for line in ["Network demo_app_network  Created", "Container demo-db-1  Started", "Container demo-web-1  Started"] {
        assert!(done.err.contains(line), "{line}: {}", done.err);
    }
    assert_eq!(visits(), 1);
    look_at_it(&host, port);

    let pid = |host: &Host| host.inspect("demo-web-1")["State"]["Pid"].clone();
    let (before, db) = (pid(&host), host.inspect("demo-db-1")["State"]["StartedAt"].clone());
    let done = host.run(&["restart", "-t", "1", "web"]);
    assert!(done.code == 0 && done.err.contains("Container demo-web-1  Started"), "{}", done.err);
    assert_ne!(pid(&host), before);
    assert_eq!(host.inspect("demo-db-1")["State"]["StartedAt"], db, "nothing but the web service was restarted");
    assert_eq!(visits(), 2);

    let done = host.run(&["down"]);
    assert_eq!(done.code, 0, "{}", done.err);
    for line in ["Container demo-web-1  Removed", "Container demo-db-1  Removed", "Network demo_app_network  Removed"] {
        assert!(done.err.contains(line), "{line}: {}", done.err);
    }
    assert!(!done.err.contains("Volume"), "{}", done.err);
    assert_eq!(host.lines(&["ps", "-a", "--format", "json"]), Vec::<Value>::new());
    assert!(http("GET", &address, "/", "").is_err(), "the port is free");
    assert_eq!(host.ok(&["volume", "ls", "-q"]), "demo_db_data");
    host.ok(&["up", "-d"]);
    assert_eq!(visits(), 3, "the database's data has outlived `down`");

    let done = host.run(&["down", "--volumes"]);
    assert!(done.code == 0 && done.err.contains("Volume demo_db_data  Removed"), "{}", done.err);
    assert_eq!(host.ok(&["volume", "ls", "-q"]), "");
    host.ok(&["up", "-d"]);
    assert_eq!(visits(), 1, "and not `down --volumes`");
    host.ok(&["down", "--volumes", "-t", "0"]);
}

/// What `ps` and `logs` show of the running stack.
fn look_at_it(host: &Host, port: u16) {
    let table = host.ok(&["ps"]);
    let words = |line: &str| line.split("  ").map(|one| one.trim().to_owned()).filter(|one| !one.is_empty()).collect();
    let rows: Vec<Vec<String>> = table.lines().map(words).collect();
    assert_eq!(rows[0], ["NAME", "IMAGE", "COMMAND", "SERVICE", "CREATED", "STATUS", "PORTS"], "{table}");
    assert_eq!(rows[1][..4], ["demo-db-1", "postgres:16-alpine", "\"docker-entrypoint.s…\"", "db"], "{table}");
    assert_eq!(rows[2][..4], ["demo-web-1", "python:3.11-slim", "\"python -m flask run…\"", "web"], "{table}");
    assert!(rows[1..].iter().all(|row| row[4].ends_with(" ago") && row[5].starts_with("Up ")), "{table}");
    assert_eq!(rows[1][6], "5432/tcp");
    assert_eq!(rows[2][6], format!("0.0.0.0:{port}->8000/tcp, [::]:{port}->8000/tcp"));

    let logs = |service: &str| host.ok(&["logs", service]);
    for (service, words) in [
        ("web", "Running on http://127.0.0.1:8000"),
        ("web", "\"GET / HTTP/1.0\" 200"),
        ("db", "database system is ready to accept connections"),
    ] {
        eventually(words, || Some(logs(service)).filter(|all| all.contains(words)).ok_or_else(|| logs(service)));
    }
    let web = logs("web");
    assert!(web.lines().all(|line| line.starts_with("web-1  | ")), "{web}");
    let both = host.ok(&["logs"]);
    assert!(both.contains("web-1  | ") && both.contains("db-1   | "), "{both}");
}
