//! What people do when they follow a tutorial: the steps of five public ones, on real images, one test per topic.

use serde_json::Value;

use crate::harness::{Host, eventually, free_port, get_json, http};

/// A web server of the standard library that says who and what it is.
const SAY: &str = r#"
import http.server, json, os, socket
class Say(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = json.dumps({"host": socket.gethostname(), "env": dict(os.environ)}).encode()
        self.send_response(200); self.end_headers(); self.wfile.write(body)
http.server.ThreadingHTTPServer(("", 3000), Say).serve_forever()
"#;

fn down(host: &Host, args: &[&str]) {
    let mut all = args.to_vec();
    all.extend(["down", "-v", "-t", "0", "--remove-orphans"]);
    host.ok(&all);
}

/// Ids of the project's containers by service.
fn ids(host: &Host, args: &[&str]) -> Vec<(String, String)> {
    let mut all = args.to_vec();
    all.extend(["ps", "-a", "--format", "json"]);
    let text = |value: &Value, key: &str| value[key].as_str().unwrap().to_owned();
    let mut found: Vec<_> = host.lines(&all).iter().map(|one| (text(one, "Service"), text(one, "ID"))).collect();
    found.sort();
    found
}

fn environment(host: &Host, service: &str) -> String {
    host.ok(&["exec", "-T", service, "env"])
}

/// P1: anchors, aliases, `<<`, and keys that begin with `x-`.
#[test]
fn anchors_and_merge_keys_give_every_service_what_is_common() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    host.write(
        "compose.yaml",
        r#"
x-common: &common
  image: busybox
  networks: [prefect]
  init: true
  environment: &environment
    PREFECT_API_URL: http://server:4200/api
    LEVEL: info
services:
  server:
    <<: *common
    command: httpd -f -p 4200 -h /etc
  worker:
    <<: *common
    command: sleep 1000
    environment:
      <<: *environment
      LEVEL: debug
    depends_on: [server]
networks:
  prefect:
"#,
    );
    host.ok(&["up", "-d"]);
    let (server, worker) = (environment(&host, "server"), environment(&host, "worker"));
    assert!(server.contains("LEVEL=info") && worker.contains("LEVEL=debug"), "{server}{worker}");
    assert!(worker.contains("PREFECT_API_URL=http://server:4200/api"), "{worker}");
    eventually("the worker asks the server by its name", || {
        let done = host.run(&["exec", "-T", "worker", "wget", "-qO-", "http://server:4200/passwd"]);
        if done.code == 0 { Ok(()) } else { Err(done.err) }
    });
    let networks = host.inspect("demo-worker-1")["NetworkSettings"]["Networks"].clone();
    assert_eq!(networks.as_object().unwrap().keys().collect::<Vec<_>>(), ["demo_prefect"]);
    down(&host, &[]);
}

/// E11: a volume whose name has no prefix, seen by `volume ls`, shared by two projects.
#[test]
fn a_named_volume_with_a_name_of_its_own_outlives_its_project() {
    let Some(host) = Host::new(&["redis:7-alpine"]) else { return };
    host.write(
        "compose.yaml",
        "
services:
  redis:
    image: redis:7-alpine
    volumes: ['data:/data']
volumes:
  data:
    name: production-redis-data
",
    );
    host.ok(&["up", "-d"]);
    let listed = host.ok(&["volume", "ls"]);
    assert!(listed.lines().next().is_some_and(|head| head.starts_with("DRIVER") && head.contains("VOLUME NAME")));
    assert!(listed.lines().any(|line| line.split_whitespace().eq(["local", "production-redis-data"])), "{listed}");
    redis(&host, "redis", &["set", "greeting", "hello"], "OK");
    redis(&host, "redis", &["save"], "OK");
    host.ok(&["down"]);
    host.ok(&["-p", "other", "up", "-d"]);
    eventually("the other project reads it", || {
        let done = host.run(&["-p", "other", "exec", "-T", "redis", "redis-cli", "get", "greeting"]);
        if done.out.trim() == "hello" { Ok(()) } else { Err(done.out + &done.err) }
    });
    host.ok(&["-p", "other", "down", "-v", "-t", "0"]);
    assert_eq!(host.ok(&["volume", "ls", "-q"]), "production-redis-data", "it belongs to the project that made it");
    down(&host, &[]);
    assert_eq!(host.ok(&["volume", "ls", "-q"]), "");
}

fn redis(host: &Host, service: &str, words: &[&str], answer: &str) {
    let mut command = vec!["exec", "-T", service, "redis-cli"];
    command.extend(words);
    eventually("redis answers", || {
        let done = host.run(&command);
        if done.out.trim() == answer { Ok(()) } else { Err(done.out + &done.err) }
    });
}

/// E12: what is edited on the host is seen in the container at once.
#[test]
fn a_bind_mounted_configuration_file_is_the_hosts() {
    let Some(host) = Host::new(&["redis:7-alpine"]) else { return };
    host.write(
        "compose.yaml",
        "
services:
  redis:
    image: redis:7-alpine
    command: redis-server /usr/local/etc/redis/redis.conf
    volumes:
      - ./redis.conf:/usr/local/etc/redis/redis.conf
",
    );
    host.write("redis.conf", "maxmemory 256mb\nmaxmemory-policy allkeys-lru\nsave 60 1000\n");
    host.ok(&["up", "-d"]);
    redis(&host, "redis", &["config", "get", "maxmemory-policy"], "maxmemory-policy\nallkeys-lru");
    // Written in place, as an editor that keeps the inode does: a bind mount is of the inode.
    host.write("redis.conf", "maxmemory 128mb\n");
    let inside = ["exec", "-T", "redis", "cat", "/usr/local/etc/redis/redis.conf"];
    assert_eq!(host.ok(&inside), "maxmemory 128mb");
    host.ok(&["exec", "-T", "redis", "sh", "-c", "echo '# seen' >> /usr/local/etc/redis/redis.conf"]);
    assert!(std::fs::read_to_string(host.project().join("redis.conf")).unwrap().ends_with("# seen\n"));
    down(&host, &[]);
}

/// E13: a tmpfs is empty again after `restart`.
#[test]
fn a_tmpfs_is_empty_after_a_restart() {
    let Some(host) = Host::new(&["redis:7-alpine"]) else { return };
    host.write("compose.yaml", "services: { redis: { image: 'redis:7-alpine', tmpfs: [/tmp/redis-tmp] } }\n");
    host.ok(&["up", "-d"]);
    host.ok(&["exec", "redis", "sh", "-c", "echo test > /tmp/redis-tmp/file.txt"]);
    assert_eq!(host.ok(&["exec", "redis", "cat", "/tmp/redis-tmp/file.txt"]), "test");
    host.ok(&["restart", "redis"]);
    let done = host.run(&["exec", "redis", "cat", "/tmp/redis-tmp/file.txt"]);
    assert!(done.code == 1 && done.err.contains("No such file"), "{}", done.err);
    down(&host, &[]);
}

/// E16: a base with what development adds, or what production does.
#[test]
fn one_base_serves_development_and_production() {
    let Some(host) = Host::new(&["python:3.11-slim", "redis:7-alpine"]) else { return };
    let (api, debug) = (free_port(), free_port());
    host.write("say.py", SAY);
    host.write("src/marker", "live");
    host.write(
        "docker-compose.yml",
        &format!(
            r#"
services:
  api:
    image: python:3.11-slim
    command: python -u /srv/say.py
    init: true
    volumes: ["./say.py:/srv/say.py:ro"]
    environment: {{ REDIS_HOST: redis, LOG_LEVEL: info }}
    ports: ["127.0.0.1:{api}:3000"]
    depends_on: [redis]
  redis:
    image: redis:7-alpine
"#
        ),
    );
    host.write(
        "docker-compose.dev.yml",
        &format!(
            r#"
services:
  api:
    restart: "no"
    environment: {{ LOG_LEVEL: debug }}
    volumes: ["./src:/app/src"]
  redis:
    ports: ["127.0.0.1:{debug}:6379"]
"#
        ),
    );
    host.write(
        "docker-compose.prod.yml",
        r#"
services:
  api:
    environment: { LOG_LEVEL: warning }
    deploy: { resources: { limits: { memory: 256M } } }
    logging: { driver: json-file, options: { max-size: 10m, max-file: "3" } }
"#,
    );
    let dev = ["-f", "docker-compose.yml", "-f", "docker-compose.dev.yml"];
    let prod = ["-f", "docker-compose.yml", "-f", "docker-compose.prod.yml"];
    let with = |files: &[&'static str], rest: &[&'static str]| host.ok(&[files, rest].concat());
    let level = || get_json(&format!("127.0.0.1:{api}"), "/")["env"]["LOG_LEVEL"].clone();

    with(&dev, &["up", "-d"]);
    assert_eq!(level(), "debug");
    eventually("development reaches redis", || {
        std::net::TcpStream::connect(("127.0.0.1", debug)).map_err(|error| error.to_string())
    });
    assert_eq!(with(&dev, &["exec", "-T", "api", "cat", "/app/src/marker"]), "live");
    assert_eq!(host.inspect("demo-api-1")["HostConfig"]["Memory"], 0);

    with(&prod, &["up", "-d"]);
    assert_eq!(level(), "warning");
    assert!(std::net::TcpStream::connect(("127.0.0.1", debug)).is_err(), "production does not");
    assert_eq!(host.inspect("demo-api-1")["HostConfig"]["Memory"], 256 << 20);
    let mounts = host.inspect("demo-api-1")["Mounts"].clone();
    assert_eq!(mounts.as_array().unwrap().len(), 1, "{mounts}");
    down(&host, &prod);
}

/// M2: a volume that two services share, an anonymous volume over a bind mount, and a bind that cannot be written.
#[test]
fn volumes_are_shared_shadowed_and_read_only_as_written() {
    let Some(host) = Host::new(&["busybox", "nginx:alpine"]) else { return };
    let port = free_port();
    host.write("static/index.html", "static page");
    host.write("app/main.js", "let x = 1");
    host.write("app/node_modules/from-host", "not to be seen");
    host.write(
        "compose.yaml",
        &format!(
            r#"
services:
  nginx:
    image: nginx:alpine
    ports: ["127.0.0.1:{port}:80"]
    volumes: ["./static:/usr/share/nginx/html:ro", "uploads:/uploads:ro"]
  api:
    image: busybox
    command: sleep 1000
    init: true
    volumes: ["uploads:/app/uploads"]
  worker:
    image: busybox
    command: sleep 1000
    init: true
    volumes: ["uploads:/app/uploads"]
  app:
    image: busybox
    command: sleep 1000
    init: true
    volumes: [".:/app", "/app/app/node_modules"]
volumes:
  uploads:
"#
        ),
    );
    host.ok(&["up", "-d"]);
    host.ok(&["exec", "-T", "api", "sh", "-c", "echo picture > /app/uploads/one"]);
    assert_eq!(host.ok(&["exec", "-T", "worker", "cat", "/app/uploads/one"]), "picture");
    let page = eventually("nginx serves the bind", || http("GET", &format!("127.0.0.1:{port}"), "/", ""));
    assert_eq!(page, (200, "static page".to_owned()));
    for place in ["/usr/share/nginx/html/x", "/uploads/x"] {
        let done = host.run(&["exec", "-T", "nginx", "touch", place]);
        assert!(done.code == 1 && done.err.contains("Read-only file system"), "{place}: {}", done.err);
    }

    assert_eq!(host.ok(&["exec", "-T", "app", "ls", "/app/app/node_modules"]), "", "the host's is covered");
    host.ok(&["exec", "-T", "app", "touch", "/app/app/node_modules/installed"]);
    assert!(!host.project().join("app/node_modules/installed").exists());
    host.write("app/main.js", "let x = 2");
    assert_eq!(host.ok(&["exec", "-T", "app", "cat", "/app/app/main.js"]), "let x = 2", "live reload");
    host.ok(&["up", "-d", "--force-recreate", "app"]);
    assert_eq!(host.ok(&["exec", "-T", "app", "ls", "/app/app/node_modules"]), "installed", "kept when recreated");
    down(&host, &[]);
    assert_eq!(host.ok(&["volume", "ls", "-q"]), "");
}

/// M3: three networks; `expose` publishes nothing; naming services starts only those.
#[test]
fn three_networks_keep_the_database_from_the_app() {
    let Some(host) = Host::new(&["busybox", "redis:7-alpine", "postgres:16-alpine"]) else { return };
    host.write(
        "compose.yaml",
        r#"
services:
  app:
    image: busybox
    command: sleep 1000
    init: true
    expose: ["3000"]
    networks: [frontend, backend]
    depends_on: [api]
  api:
    image: busybox
    command: sleep 1000
    init: true
    networks: [backend, database]
    depends_on: [db]
  db:
    image: postgres:16-alpine
    environment: { POSTGRES_PASSWORD: secret }
    networks: [database]
  redis:
    image: redis:7-alpine
    networks: [backend]
networks:
  frontend:
  backend:
  database:
"#,
    );
    host.ok(&["up", "-d", "db", "redis"]);
    let services = |host: &Host| ids(host, &[]).into_iter().map(|(service, _)| service).collect::<Vec<_>>();
    assert_eq!(services(&host), ["db", "redis"]);
    host.ok(&["up", "-d"]);
    assert_eq!(services(&host), ["api", "app", "db", "redis"]);

    let ping = |from: &str, to: &str| host.run(&["exec", "-T", from, "ping", "-c", "1", "-W", "2", to]).code;
    assert_eq!((ping("app", "api"), ping("api", "db"), ping("app", "redis")), (0, 0, 0));
    assert_ne!(ping("app", "db"), 0, "the name of another network is not known");
    let db = host.address("demo-db-1", "demo_database");
    assert_ne!(ping("app", &db), 0, "nor does its address answer");
    assert_eq!(
        host.lines(&["ps", "--format", "json", "app"])[0]["Publishers"].as_array().map_or(0, |all| {
            all.iter().filter(|publisher| publisher["PublishedPort"].as_u64().unwrap_or(0) != 0).count()
        }),
        0
    );
    down(&host, &[]);
}

/// B4: an edited port recreates that service and no other. B5: scaling, and the port that cannot be had twice.
#[test]
fn an_edited_port_recreates_its_service_and_scaling_says_what_stands_in_its_way() {
    let Some(host) = Host::new(&["python:3.11-slim", "redis:7-alpine"]) else { return };
    let (first, second) = (free_port(), free_port());
    host.write("say.py", SAY);
    let file = |ports: &str| {
        format!(
            "
services:
  app:
    image: python:3.11-slim
    command: python -u /say.py
    init: true
    volumes: ['./say.py:/say.py:ro']
    {ports}
  redis:
    image: redis:7-alpine
"
        )
    };
    host.write("docker-compose.yml", &file(&format!("ports: ['{first}:3000']")));
    host.ok(&["up", "-d"]);
    let before = ids(&host, &[]);
    let host_of = |port: u16| get_json(&format!("127.0.0.1:{port}"), "/")["host"].clone();
    host_of(first);

    host.write("docker-compose.yml", &file(&format!("ports: ['{second}:3000']")));
    let done = host.run(&["up", "-d"]);
    assert!(done.code == 0 && done.err.contains("demo-app-1  Recreate"), "{}", done.err);
    host_of(second);
    assert!(std::net::TcpStream::connect(("127.0.0.1", first)).is_err(), "the old port is closed");
    let after = ids(&host, &[]);
    assert_ne!(after[0], before[0]);
    assert_eq!(after[1], before[1], "redis was not touched");

    let error = host.fails(1, &["up", "-d", "--scale", "app=3"]);
    assert!(error.contains("\"app\"") && error.contains(&second.to_string()), "{error}");
    assert_eq!(ids(&host, &[]), after, "nothing was changed");
    host.write("docker-compose.yml", &file(""));
    host.ok(&["up", "-d", "--scale", "app=3"]);
    assert_eq!(ids(&host, &[]).iter().filter(|(service, _)| service == "app").count(), 3);
    down(&host, &[]);
}

/// B6: networks and volumes of the file, and what `inspect` and `ls` say of them.
#[test]
fn networks_and_volumes_of_the_file_are_inspected_in_dockers_shape() {
    let Some(host) = Host::new(&["busybox", "redis:7-alpine"]) else { return };
    host.write(
        "docker-compose.yml",
        "
services:
  app: { image: busybox, command: sleep 1000, init: true, networks: [mynet] }
  redis: { image: 'redis:7-alpine', networks: [mynet], volumes: ['mydata:/data'] }
networks:
  mynet:
volumes:
  mydata:
",
    );
    host.ok(&["up", "-d"]);
    let network = host.json(&["network", "inspect", "demo_mynet"])[0].take();
    assert_eq!(
        (&network["Name"], &network["Driver"], &network["Scope"]),
        (&"demo_mynet".into(), &"bridge".into(), &"local".into())
    );
    assert_eq!(
        (&network["Internal"], &network["EnableIPv6"], &network["Ingress"]),
        (&false.into(), &false.into(), &false.into())
    );
    let config = &network["IPAM"]["Config"][0];
    assert!(config["Subnet"].as_str().unwrap().contains('/') && config["Gateway"].is_string(), "{config}");
    let labels = &network["Labels"];
    assert_eq!(
        (&labels["com.docker.compose.network"], &labels["com.docker.compose.project"]),
        (&"mynet".into(), &"demo".into())
    );
    let containers = network["Containers"].as_object().unwrap();
    let mut names: Vec<&str> = containers.values().map(|one| one["Name"].as_str().unwrap()).collect();
    names.sort_unstable();
    assert_eq!(names, ["demo-app-1", "demo-redis-1"]);
    for one in containers.values() {
        assert!(one["IPv4Address"].as_str().unwrap().contains('/') && one["MacAddress"].is_string(), "{one}");
        assert_eq!(one["IPv6Address"], "");
    }
    let volume = host.json(&["volume", "inspect", "demo_mydata"])[0].take();
    assert_eq!(
        (&volume["Name"], &volume["Driver"], &volume["Scope"]),
        (&"demo_mydata".into(), &"local".into(), &"local".into())
    );
    assert!(std::path::Path::new(volume["Mountpoint"].as_str().unwrap()).is_dir());
    assert_eq!(volume["Labels"]["com.docker.compose.volume"], "mydata");
    let listed = host.ok(&["volume", "ls"]);
    assert!(listed.lines().any(|line| line.split_whitespace().eq(["local", "demo_mydata"])), "{listed}");
    assert!(host.ok(&["network", "ls"]).contains("demo_mynet"));
    down(&host, &[]);
    assert!(!host.ok(&["network", "ls"]).contains("demo_mynet"));
}

/// B7: `env_file`, `.env`, the override file that nobody names, and several -f.
#[test]
fn env_files_substitution_and_override_files_are_picked_up() {
    let Some(host) = Host::new(&["redis:7-alpine"]) else { return };
    host.write(".env.txt", "FLASK_ENV=development\nexport QUOTED=\"two words\"\n# nothing\n");
    host.write(".env", "REDIS_VERSION=7-alpine\nDOCKER_USER=somebody\n");
    host.write(
        "docker-compose.yml",
        "
services:
  app:
    image: redis:${REDIS_VERSION}
    labels: { owner: '${DOCKER_USER}' }
    env_file: .env.txt
    environment: [STAGE=production]
",
    );
    host.ok(&["up", "-d"]);
    let all = environment(&host, "app");
    for line in ["FLASK_ENV=development", "QUOTED=two words", "STAGE=production"] {
        assert!(all.lines().any(|one| one == line), "{line}: {all}");
    }
    let inspected = host.inspect("demo-app-1");
    assert_eq!(inspected["Config"]["Image"], "redis:7-alpine");
    assert_eq!(inspected["Config"]["Labels"]["owner"], "somebody");

    host.write("docker-compose.override.yml", "services: { app: { environment: [STAGE=development] } }\n");
    host.write("docker-compose.test.yml", "services: { app: { environment: [STAGE=test, EXTRA=1] } }\n");
    host.ok(&["up", "-d"]);
    assert!(environment(&host, "app").contains("STAGE=development"), "the override file is found by itself");
    let files = ["-f", "docker-compose.yml", "-f", "docker-compose.test.yml"];
    host.ok(&[&files[..], &["up", "-d"]].concat());
    let all = environment(&host, "app");
    assert!(
        all.contains("STAGE=test") && all.contains("EXTRA=1"),
        "-f says which, the override file is not among them"
    );
    down(&host, &[]);
}
