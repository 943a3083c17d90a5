//! What people do when they follow a tutorial, continued: replicas behind nginx, of which some are ill or gone.

use std::collections::BTreeSet;

use crate::harness::{Host, eventually, free_port, http};

/// Says who answers; its `/health` is bad while the file `/tmp/sick` is there.
const API: &str = r#"
import http.server, os, socket
class Api(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        sick = self.path == "/health" and os.path.exists("/tmp/sick")
        self.send_response(500 if sick else 200); self.end_headers(); self.wfile.write(socket.gethostname().encode())
http.server.ThreadingHTTPServer(("", 3000), Api).serve_forever()
"#;

/// Asks for the addresses anew each second: a name in a variable is looked up when it is used.
const NGINX: &str = r#"
resolver 127.0.0.11 valid=1s;
server {
    listen 80;
    location / {
        set $api http://api:3000;
        proxy_pass $api;
        proxy_connect_timeout 5s;
    }
}
"#;

const COMPOSE: &str = r#"
services:
  balancer:
    image: nginx:alpine
    ports: ["127.0.0.1:${PORT}:80"]
    volumes: ["./nginx.conf:/etc/nginx/conf.d/default.conf:ro"]
    depends_on: { api: { condition: service_healthy } }
  api:
    image: python:3.11-slim
    command: python -u /srv/api.py
    init: true
    volumes: ["./api.py:/srv/api.py:ro"]
    deploy: { replicas: 3 }
    healthcheck:
      test: ["CMD", "python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:3000/health')"]
      interval: 500ms
      timeout: 60s
      retries: 2
"#;

/// The replicas' host names, by number.
fn names(host: &Host) -> Vec<String> {
    let name =
        |number: u32| host.inspect(&format!("demo-api-{number}"))["Config"]["Hostname"].as_str().unwrap().to_owned();
    (1..=3).map(name).collect()
}

/// Who answered of so many requests, each of which must be answered.
fn served(address: &str, requests: usize) -> BTreeSet<String> {
    let ask = |_| match http("GET", address, "/", "") {
        Ok((200, who)) => who,
        other => panic!("a request was not answered: {other:?}"),
    };
    (0..requests).map(ask).collect()
}

/// Waits until exactly these answer, and sees that it stays so for a while.
fn until_served_by(address: &str, replicas: &[&String]) {
    let wanted: BTreeSet<String> = replicas.iter().map(|&name| name.clone()).collect();
    // So many that each worker of nginx is asked, for each keeps names for a second of its own.
    eventually("those that shall answer do", || match served(address, 100) {
        found if found == wanted => Ok(()),
        found => Err(format!("{found:?} instead of {wanted:?}")),
    });
    assert_eq!(served(address, 60), wanted);
}

fn health(host: &Host, number: u32, wanted: &str) {
    host.until(&format!("demo-api-{number}"), wanted, |state| state["Health"]["Status"] == wanted);
}

fn sick(host: &Host, number: u32, command: &str) {
    host.ok(&["exec", "-T", "--index", &number.to_string(), "api", command, "/tmp/sick"]);
}

/// E20: an unhealthy replica gets no requests until it is healthy again, a killed one until it has been started; and no
/// request is lost meanwhile.
#[test]
fn nginx_asks_only_replicas_that_are_healthy() {
    let Some(host) = Host::new(&["nginx:alpine", "python:3.11-slim"]) else { return };
    let port = free_port();
    let address = format!("127.0.0.1:{port}");
    host.write(".env", &format!("PORT={port}\n"));
    host.write("api.py", API);
    host.write("nginx.conf", NGINX);
    host.write("compose.yaml", COMPOSE);
    host.ok(&["up", "-d"]);
    eventually("nginx answers", || match http("GET", &address, "/", "")? {
        (200, _) => Ok(()),
        other => Err(format!("{other:?}")),
    });
    let names = names(&host);
    let [one, two, three] = &names[..] else { panic!("{names:?}") };
    until_served_by(&address, &[one, two, three]);

    sick(&host, 2, "touch");
    health(&host, 2, "unhealthy");
    until_served_by(&address, &[one, three]);
    let listed = host.lines(&["ps", "--format", "json", "api"]);
    let unhealthy = listed.iter().filter(|replica| replica["Health"] == "unhealthy");
    assert_eq!(unhealthy.map(|replica| replica["Name"].as_str().unwrap()).collect::<Vec<_>>(), ["demo-api-2"]);
    sick(&host, 2, "rm");
    health(&host, 2, "healthy");
    until_served_by(&address, &[one, two, three]);

    host.ok(&["container", "kill", "demo-api-3"]);
    until_served_by(&address, &[one, two]);
    host.ok(&["start", "api"]);
    health(&host, 3, "healthy");
    until_served_by(&address, &[one, two, three]);

    // Where none is healthy, there is no better choice than all of them.
    for number in 1..=3 {
        sick(&host, number, "touch");
        health(&host, number, "unhealthy");
    }
    until_served_by(&address, &[one, two, three]);
    host.ok(&["down", "-v", "-t", "0"]);
}
