//! Drawings: `up --timeline` and `graph`.

use crate::harness::{Host, eventually};

const STACK: &str = "
services:
  web:
    image: busybox
    command: sleep 1000
    stop_grace_period: 0s
    networks: [front, back]
    depends_on: {db: {condition: service_healthy}, job: {condition: service_completed_successfully}}
  db:
    image: busybox
    command: sleep 1000
    stop_grace_period: 0s
    networks: [back]
    healthcheck: {test: test -e /tmp/ready || touch /tmp/ready, interval: 1h}
  job: {image: busybox, command: 'true', networks: [back]}
networks: {front: {}, back: {}}
";

fn read(host: &Host, name: &str) -> String {
    std::fs::read_to_string(host.project().join(name)).unwrap()
}

/// Elements are closed, and what is in attributes and text is escaped.
fn assert_well_formed(svg: &str) {
    let mut open: Vec<&str> = Vec::new();
    for tag in svg.split('<').skip(1) {
        let tag = tag.split('>').next().unwrap();
        let name = tag.trim_matches('/').split([' ', '\n']).next().unwrap();
        match tag.starts_with('/') {
            true => assert_eq!(open.pop(), Some(name), "{svg}"),
            false if tag.ends_with('/') => {}
            false => open.push(name),
        }
    }
    assert!(open.is_empty() && svg.starts_with("<svg "), "{open:?}\n{svg}");
}

#[test]
fn the_start_of_a_project_is_drawn() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    host.write("compose.yaml", STACK);
    host.ok(&["up", "-d", "--timeline", "start.svg"]);
    let svg = read(&host, "start.svg");
    assert_well_formed(&svg);
    for text in [">web-1<", ">db-1<", ">job-1<", "create ", "start ", "healthy ", "critical path: "] {
        assert!(svg.contains(text), "{text}\n{svg}");
    }
    let path = svg.lines().find(|line| line.contains("critical path: ")).unwrap();
    assert!(path.contains("web-1 start"), "{path}");
    // Nothing to do is a drawing, too.
    host.ok(&["up", "-d", "--timeline", "again.svg"]);
    assert_well_formed(&read(&host, "again.svg"));
    host.ok(&["down"]);
    // A failed start is drawn as far as it came.
    host.write("compose.yaml", &STACK.replace("command: 'true'", "command: 'false'"));
    assert_eq!(host.run(&["up", "-d", "--timeline", "failed.svg"]).code, 1);
    let svg = read(&host, "failed.svg");
    assert_well_formed(&svg);
    assert!(svg.contains("healthy failed after ") && !svg.contains("web-1 start"), "{svg}");
}

#[test]
fn a_project_is_drawn_with_its_health() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    host.write("compose.yaml", STACK);
    let dot = host.ok(&["graph"]);
    assert!(dot.contains("label=\"web\\nno container\""), "{dot}");
    host.ok(&["up", "-d"]);
    let dot = host.ok(&["graph", "--format", "dot"]);
    for text in [
        "label=\"db\\nhealthy\"",
        "label=\"job\\nexited (0)\"",
        "label=\"web\\nrunning\"",
        "label=\"service_healthy\"",
        "label=\"service_completed_successfully\"",
        "label=\"network back\"",
        "label=\"network front\"",
    ] {
        assert!(dot.contains(text), "{text}\n{dot}");
    }
    let mermaid = host.ok(&["graph", "--format", "mermaid"]);
    assert!(mermaid.starts_with("flowchart RL") && mermaid.contains("-->|service_healthy|"), "{mermaid}");
    host.ok(&["graph", "-o", "stack.svg"]);
    let svg = read(&host, "stack.svg");
    assert_well_formed(&svg);
    assert!(svg.contains(">healthy<") && svg.contains(">back · front<"), "{svg}");
    // Without the file, from what the containers carry.
    let dir = host.project().join("elsewhere");
    std::fs::create_dir(&dir).unwrap();
    let mut command = host.command(&["-p", "demo", "graph"]);
    command.current_dir(&dir);
    let bare = crate::harness::finish(command, b"", "graph").out;
    assert!(bare.contains("label=\"service_healthy\"") && bare.contains("label=\"network back\""), "{bare}");
    host.ok(&["stop", "-t", "0", "db"]);
    eventually("it is drawn as stopped", || {
        let dot = host.ok(&["graph"]);
        if dot.contains("label=\"db\\nexited (137)\"") { Ok(()) } else { Err(dot) }
    });
    host.ok(&["down"]);
}
