//! What Docker's client does besides talking to a daemon: questions, its settings, names of builders.

use std::process::Stdio;

use crate::docker::{docker, with_docker};
use crate::harness::{Host, finish};

#[test]
fn a_question_is_answered_through_a_pipe_and_its_end_is_a_no() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    host.ok(&["container", "create", "--name", "ended", "busybox", "true"]);
    let prune = |answer: &[u8]| {
        let mut command = with_docker(&host, "docker", &["container", "prune"]);
        command.stdin(Stdio::piped());
        let done = finish(command, answer, "container prune");
        assert_eq!(done.code, 0, "{}", done.err);
        assert!(done.out.contains("[y/N] "), "{}", done.out);
        host.ok(&["container", "ls", "-aq"]).lines().count()
    };
    assert_eq!(prune(b""), 1);
    assert_eq!(prune(b"n\n"), 1);
    assert_eq!(prune(b"y\n"), 0);
    // Under its own name nobody is taken to have said no.
    let said = host.fails(1, &["volume", "prune"]);
    assert!(said.contains("--force"), "{said}");
}

#[test]
fn containers_get_the_proxies_of_dockers_settings() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    let home = host.path().join("settings");
    std::fs::create_dir(&home).unwrap();
    let text = r#"{"proxies":{"default":{"httpProxy":"http://proxy.test:3128","noProxy":"localhost,.test"}}}"#;
    std::fs::write(home.join("config.json"), text).unwrap();
    host.write(
        "compose.yaml",
        "name: proxied\nservices:\n  app:\n    image: busybox\n    environment: { HTTP_PROXY: http://own.test }\n",
    );
    let shown = "echo $HTTP_PROXY $http_proxy $HTTPS_PROXY $NO_PROXY";
    let run = |args: &[&str]| {
        let mut command = with_docker(&host, "docker", args);
        command.env("DOCKER_CONFIG", &home);
        let done = finish(command, b"", &args.join(" "));
        assert_eq!(done.code, 0, "{args:?}: {}", done.err);
        done.out
    };
    let out = run(&["run", "--rm", "busybox", "sh", "-c", shown]);
    assert_eq!(out, "http://proxy.test:3128 http://proxy.test:3128 localhost,.test\n");
    let out = run(&["run", "--rm", "-e", "http_proxy=", "busybox", "sh", "-c", shown]);
    assert_eq!(out, "http://proxy.test:3128 localhost,.test\n");
    let out = run(&["compose", "run", "--rm", "-T", "app", "sh", "-c", shown]);
    assert_eq!(out, "http://own.test http://proxy.test:3128 localhost,.test\n");
    assert_eq!(run(&["--config", "/nowhere", "run", "--rm", "busybox", "sh", "-c", shown]), "\n");
    run(&["compose", "down"]);
}

#[test]
fn a_builder_is_known_by_every_name_it_was_given() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    let code = |args: &[&str]| docker(&host, &[&["buildx"], args].concat()).code;
    let said = |args: &[&str]| docker(&host, &[&["buildx"], args].concat()).out;
    assert_eq!(code(&["inspect", "ci"]), 1);
    assert_eq!(said(&["create", "--use", "--name", "ci", "--driver", "docker-container"]), "ci\n");
    assert_eq!(code(&["create", "--name", "ci"]), 1, "it is there");
    assert!(said(&["ls"]).contains("ci*"), "{}", said(&["ls"]));
    assert!(said(&["inspect", "--bootstrap"]).contains("Name:   ci\n"));
    host.write("Dockerfile", "FROM busybox\nRUN echo built > /said\n");
    let directory = host.project().to_str().unwrap().to_owned();
    assert_eq!(code(&["build", "-q", "--builder", "ci", "-t", "named", "--load", &directory]), 0);
    assert_eq!(code(&["build", "-q", "--builder", "other", &directory]), 1);
    assert_eq!(said(&["ls", "--format", "{{.Name}}"]), "ci\nci0\ndefault\ndefault\n");
    assert_eq!(code(&["use", "default"]), 0);
    assert_eq!(code(&["rm", "ci"]), 0);
    assert_eq!(code(&["rm", "ci"]), 1);
    assert_eq!(code(&["create", "--driver", "kubernetes"]), 1);
    assert!(said(&["version"]).starts_with("github.com/docker/buildx v0."));
    let done = docker(&host, &["buildx", "bake"]);
    assert!(done.code == 125 && done.err.contains("'buildx bake' is not supported yet"), "{}", done.err);
    host.ok(&["image", "rm", "-f", "named"]);
}

#[test]
fn a_link_is_taken_away_and_its_container_stays() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    let ok = |args: &[&str]| {
        let done = docker(&host, args);
        assert_eq!(done.code, 0, "{args:?}: {}", done.err);
        done.out
    };
    ok(&["run", "-d", "--init", "--name", "store", "busybox", "sleep", "1000"]);
    let done = docker(&host, &["run", "--rm", "--link", "nobody", "busybox", "true"]);
    assert!(done.code == 125 && done.err.contains("could not get container for nobody"), "{}", done.err);
    ok(&["run", "-d", "--init", "--name", "shop", "--link", "store:db", "busybox", "sleep", "1000"]);
    let resolves = || docker(&host, &["exec", "shop", "ping", "-c", "1", "-W", "5", "db"]).code == 0;
    assert!(resolves());
    assert_eq!(ok(&["rm", "--link", "shop/db"]), "shop/db\n");
    assert!(!resolves());
    assert_eq!(docker(&host, &["rm", "--link", "shop/db"]).code, 1);
    assert_eq!(ok(&["ps", "--filter", "name=^/(shop|store)$", "--format", "{{.Names}}"]).lines().count(), 2);
    // A name is free again once a container that removes itself was stopped.
    for _ in 0..3 {
        ok(&["run", "-d", "--rm", "--init", "--name", "brief", "busybox", "sleep", "1000"]);
        ok(&["stop", "-t", "0", "brief"]);
    }
    ok(&["rm", "-f", "shop", "store"]);
}
