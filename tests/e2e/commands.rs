//! Small promises of single commands: what scripts made for Docker Compose read.

use crate::harness::Host;

const STACK: &str = "services:
  web:
    image: busybox
    command: sh -c 'exec sleep 1000'
    stop_grace_period: 0s
    environment: { A: file }
    hostname: named
  db: { image: busybox, command: sleep 1000, stop_grace_period: 0s }
  tool: { image: busybox, command: echo tool, profiles: [t], environment: { A: file } }
";

fn stack() -> Option<Host> {
    let host = Host::new(&["busybox"])?;
    host.write("compose.yaml", STACK);
    Some(host)
}

#[test]
fn lists_are_as_docker_compose_prints_them() {
    let Some(host) = stack() else { return };
    host.ok(&["up", "-d"]);
    host.ok(&["run", "--name", "a-first", "tool"]);
    let names = host.ok(&["ps", "-a", "--format", "{{.Name}}"]);
    assert_eq!(names, "a-first\ndemo-db-1\ndemo-web-1", "by name");
    assert_eq!(host.ok(&["ps", "--services"]), "db\nweb");
    let commands = host.ok(&["ps", "--no-trunc", "--format", "{{.Command}}"]);
    assert_eq!(commands, "\"sleep 1000\"\n\"sh -c 'exec sleep 1000'\"", "an argument with a space stands in quotes");
    assert!(host.ok(&["ps", "web"]).contains("\"sh -c 'exec sleep 1…\""), "{}", host.ok(&["ps", "web"]));
    let top = host.ok(&["top"]);
    let [header, db, ..] = top.lines().collect::<Vec<_>>()[..] else { panic!("{top}") };
    assert!(header.starts_with("SERVICE  #   UID   PID"), "{top}");
    assert!(db.starts_with("db       1   root  "), "{top}");
    let size = host.ok(&["images", "db"]);
    let size = size.lines().nth(1).and_then(|line| line.split_whitespace().rev().nth(3)).unwrap();
    let digits = size.chars().filter(char::is_ascii_digit).count();
    assert!(digits <= 3, "three digits: {size}");
    let network = host.inspect("demo-web-1")["NetworkSettings"]["Networks"]["demo_default"].take();
    assert_eq!(network["Aliases"], serde_json::json!(["demo-web-1", "web"]));
    assert!(network["DNSNames"].as_array().unwrap().contains(&"named".into()), "{network}");
    // What `run` made is not a service's container.
    let removed = host.run(&["rm", "-f", "-s", "web", "tool"]);
    assert_eq!((removed.code, removed.out.as_str()), (0, "Going to remove demo-web-1\n"), "{}", removed.err);
    assert_eq!(host.ok(&["ps", "-a", "--format", "{{.Name}}"]), "a-first\ndemo-db-1");
    let killed = host.run(&["kill", "web"]);
    assert_eq!((killed.code, killed.err.trim()), (0, "no container to kill"));
    let exported = host.run(&["export", "-o", "db.tar", "db"]);
    assert!(exported.err.contains("demo-db-1 export demo-db-1 to db.tar  Exporting"), "{}", exported.err);
    assert!(host.fails(1, &["export", "nosuch"]).contains("service \"nosuch\" is not running"));
    host.ok(&["down", "--remove-orphans"]);
    for id in host.ids() {
        host.ok(&["container", "rm", "-f", &id]);
    }
}

#[test]
fn run_says_the_id_and_leaves_variables_that_are_not_set_alone() {
    let Some(host) = stack() else { return };
    let shown = |variable: &str| host.ok(&["run", "--rm", "-e", variable, "tool", "sh", "-c", "echo ${A-unset}"]);
    assert_eq!(shown("A"), "file", "not set here: as the file says");
    assert_eq!(shown("A="), "");
    assert_eq!(shown("A=flag"), "flag");
    let id = host.ok(&["run", "-d", "-q", "tool", "sleep", "1000"]);
    assert_eq!(id.trim().len(), 64, "{id:?}");
    host.ok(&["container", "rm", "-f", id.trim()]);
    host.ok(&["down"]);
}
