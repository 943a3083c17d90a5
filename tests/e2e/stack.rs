//! A whole shop: nginx in front of two Flask replicas, PostgreSQL and Redis, on two networks.

use std::collections::BTreeSet;

use crate::harness::{Host, eventually, free_port, get_json, http};

const IMAGES: &[&str] = &["nginx:alpine", "python:3.11-slim", "postgres:16-alpine", "redis:7-alpine"];

/// Whether Python inside a service connects to a port elsewhere.
fn connects(host: &Host, service: &str, address: &str, port: u16) -> bool {
    let script = format!("import socket; socket.create_connection(('{address}', {port}), 2)");
    host.run(&["exec", "-T", service, "python", "-c", &script]).code == 0
}

/// Whether bash inside a service connects to a port elsewhere.
fn bash_connects(host: &Host, service: &str, address: &str, port: u16) -> bool {
    let script = format!("exec 3<>/dev/tcp/{address}/{port}");
    host.run(&["exec", "-T", service, "timeout", "2", "bash", "-c", &script]).code == 0
}

#[test]
fn the_shop_works_as_a_whole() {
    let Some(host) = Host::new(IMAGES) else { return };
    crate::compose::example(&host, "shop");
    let port = free_port();
    let address = format!("127.0.0.1:{port}");
    host.write(".env", &format!("PORT={port}\n"));
    host.ok(&["up", "-d"]);
    let products = get_json(&address, "/products");
    assert!(products["products"].as_array().is_some_and(|all| !all.is_empty()), "{products}");
    assert_eq!(http("POST", &address, "/orders/2", "").unwrap().0, 201);
    assert_eq!(get_json(&address, "/orders")["count"], 1);

    let mut served = BTreeSet::new();
    eventually("both replicas answer", || {
        served.insert(get_json(&address, "/products")["served_by"].as_str().unwrap_or_default().to_owned());
        if served.len() == 2 { Ok(()) } else { Err(format!("only {served:?}")) }
    });
    isolation(&host, port);
    limits(&host);

    // Every request that nginx saw answered is in the logs of the two that answered.
    let count =
        |service: &str| host.ok(&["logs", "--no-log-prefix", service]).matches("GET /products HTTP/1.0\" 200").count();
    eventually("all requests are in the logs", || match (count("web"), count("api")) {
        (asked, answered) if answered == asked && asked >= served.len() => Ok(()),
        (asked, answered) => Err(format!("nginx wrote {asked} requests down, the API {answered}")),
    });

    host.ok(&["down"]);
    assert!(host.ids().is_empty() && host.network_ids().is_empty());
    host.ok(&["up", "-d"]);
    assert_eq!(get_json(&address, "/orders")["count"], 1, "orders outlive down and up");
    host.ok(&["down", "-v"]);
    assert_eq!(host.ok(&["volume", "ls", "-q"]), "");
}

/// Every direction: what shares a network is reached by name, and nothing else, not even by address.
fn isolation(host: &Host, published: u16) {
    let on_back = |name: &str| host.address(name, "demo_back");
    let on_front = |name: &str| host.address(name, "demo_front");
    let (db, cache) = (on_back("demo-db-1"), on_back("demo-cache-1"));
    let comes_through = |what: &str, connects: &dyn Fn() -> bool| {
        eventually(what, || if connects() { Ok(()) } else { Err("no connection".to_owned()) });
    };
    for (name, port) in [("db", 5432), ("cache", 6379), ("redis", 6379), ("web", 80)] {
        comes_through(&format!("api reaches {name}"), &|| connects(host, "api", name, port));
    }
    comes_through("web reaches api", &|| bash_connects(host, "web", "api", 5000));
    for (name, ip, port) in [("db", &db, 5432), ("cache", &cache, 6379)] {
        assert!(!bash_connects(host, "web", name, port), "web does not know {name}");
        assert!(!bash_connects(host, "web", ip, port), "web does not reach {name} by its address");
    }
    let web = on_front("demo-web-1");
    assert!(!bash_connects(host, "db", "web", 80) && !bash_connects(host, "db", &web, 80));
    for (name, port) in [("cache", 6379), ("api", 5000)] {
        comes_through(&format!("db reaches {name}"), &|| bash_connects(host, "db", name, port));
    }
    assert!(!bash_connects(host, "db", &on_front("demo-api-1"), 5000), "not through its other network");
    // A container of nobody's project reaches only what is published.
    host.ok(&["container", "run", "-d", "--name", "stranger", "python:3.11-slim", "sleep", "1000"]);
    let gateway =
        host.json(&["network", "inspect", "bridge"])[0]["IPAM"]["Config"][0]["Gateway"].as_str().unwrap().to_owned();
    let outside = |ip: &str, port: u16| {
        let script = format!("import socket; socket.create_connection(('{ip}', {port}), 2)");
        host.run(&["container", "exec", "stranger", "python", "-c", &script]).code == 0
    };
    comes_through("a stranger reaches what is published", &|| outside(&gateway, published));
    assert!(
        !outside(&db, 5432) && !outside(&cache, 6379) && !outside(&web, 80) && !outside(&on_front("demo-api-1"), 5000)
    );
    host.ok(&["container", "rm", "-f", "stranger"]);
}

fn limits(host: &Host) {
    let config = |name: &str| host.inspect(name)["HostConfig"].clone();
    assert_eq!(config("demo-web-1")["Memory"], 64 << 20);
    assert_eq!(
        (&config("demo-api-2")["NanoCpus"], &config("demo-api-2")["PidsLimit"]),
        (&500_000_000.into(), &64.into())
    );
    assert_eq!(config("demo-cache-1")["PidsLimit"], 32);
    assert_eq!(config("demo-db-1")["ShmSize"], 128 << 20);
    assert_ne!(host.run(&["exec", "-T", "api", "touch", "/x"]).code, 0, "its root is read-only");
    host.ok(&["exec", "-T", "api", "touch", "/tmp/x"]);
    assert!(host.ok(&["exec", "-T", "cache", "df", "-k", "/data"]).contains(" 1024 "));
}
