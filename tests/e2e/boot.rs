//! What comes back after a reboot: simulated by killing everything at once and
//! telling the files that all of it was in another boot. A real reboot is in `scripts/vm`.

use std::fs;
use std::net::TcpListener;

use serde_json::Value;

use crate::harness::{Host, eventually, free_port, http, names_in, processes_of, signal, tool};

const ANOTHER: &str = "01234567-89ab-cdef-0123-456789abcdef";

/// Everything ends at once, as when the power goes, and the host comes up again with the run root as it was.
fn reboot(host: &Host) {
    use rustix::process::{Pid, Signal, kill_process};
    eventually("everything is killed", || {
        let running = processes_of(&host.root());
        let pids = running.iter().filter_map(|process| process.split(' ').next()?.parse().ok());
        let pids: Vec<Pid> = pids.filter_map(Pid::from_raw).collect();
        // They stand still first: none of them sees another one end.
        for how in [Signal::STOP, Signal::KILL] {
            for pid in &pids {
                // It may have ended with another.
                let _ = kill_process(*pid, how);
            }
        }
        if running.is_empty() { Ok(()) } else { Err(running.join("\n")) }
    });
    for id in host.ids() {
        let path = host.root().join("containers").join(&id).join("state.json");
        let Ok(bytes) = fs::read(&path) else { continue };
        let mut state: Value = serde_json::from_slice(&bytes).unwrap();
        state["boot_id"] = ANOTHER.into();
        fs::write(&path, serde_json::to_vec(&state).unwrap()).unwrap();
    }
    // The host's settings were not reset by this reboot: what they were before is still to be put back.
    let settings = fs::read(host.run_root().join("sysctls.json")).ok();
    fs::write(host.run_root().join("boot-id"), ANOTHER).unwrap();
    host.ok(&["container", "ls", "-aq"]);
    assert_eq!(names_in(&host.run_root().join("netns")).len() + names_in(&host.run_root().join("dns")).len(), 0);
    if let Some(settings) = settings {
        fs::write(host.run_root().join("sysctls.json"), settings).unwrap();
    }
    // The kernel takes interfaces away after the namespace, when nobody waits for it.
    eventually("interfaces go", || {
        let links = tool("ip", &["-o", "link"]);
        let left = |id: &String| links.contains(&format!("uv-{}", &id[..8]));
        if host.ids().iter().any(left) { Err(links) } else { Ok(()) }
    });
}

fn status(host: &Host, name: &str) -> (String, i64) {
    let state = host.inspect(name)["State"].take();
    (state["Status"].as_str().unwrap().to_owned(), state["ExitCode"].as_i64().unwrap())
}

fn started(host: &Host, name: &str) -> String {
    host.inspect(name)["State"]["StartedAt"].as_str().unwrap().to_owned()
}

/// A chain with a health gate, and one service of each policy.
fn stack(port: u16) -> String {
    format!(
        r#"
services:
  web:
    image: busybox
    restart: always
    command: sh -c 'cat /shared/ready || exit 9; echo here >> /www/index.html; echo up; exec httpd -f -p 80 -h /www'
    volumes: ["shared:/shared", /www]
    ports: ["127.0.0.1:{port}:80"]
    depends_on: {{db: {{condition: service_healthy}}}}
  db:
    image: busybox
    restart: unless-stopped
    command: sh -c 'rm -f /shared/ready; sleep 0.5; echo ready > /shared/ready; touch /dev/shm/of-this-run; sleep 1000'
    healthcheck: {{test: test -e /dev/shm/of-this-run, interval: 1h}}
    volumes: ["shared:/shared"]
  stopped: {{image: busybox, restart: unless-stopped, command: sleep 1000, stop_grace_period: 0s}}
  again: {{image: busybox, restart: always, command: sleep 1000, stop_grace_period: 0s}}
  never: {{image: busybox, command: sleep 1000}}
  failing: {{image: busybox, restart: on-failure, command: sleep 1000}}
  done: {{image: busybox, restart: on-failure, command: "true"}}
volumes: {{shared: }}
"#
    )
}

#[test]
fn after_a_reboot_each_policy_has_its_way_and_the_order_is_kept() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    let port = free_port();
    let file = host.write("compose.yaml", &stack(port));
    host.ok(&["up", "-d"]);
    host.ok(&["container", "run", "-d", "--restart", "always", "--name", "single", "busybox", "sleep", "1000"]);
    host.ok(&["container", "run", "-d", "--rm", "--name", "fleeting", "busybox", "sleep", "1000"]);
    host.ok(&["stop", "stopped", "again"]);
    host.until("demo-done-1", "it is done", |state| state["Status"] == "exited");
    let page = || {
        eventually("an answer", || match http("GET", &format!("127.0.0.1:{port}"), "/", "")? {
            (200, body) => Ok(body.lines().count()),
            other => Err(format!("{other:?}")),
        })
    };
    assert_eq!(page(), 1);
    let address = host.address("demo-web-1", "demo_default");
    reboot(&host);
    // Nobody has started anything, and that is what is said.
    for name in ["demo-web-1", "demo-db-1", "demo-never-1", "demo-failing-1", "single", "fleeting"] {
        assert_eq!(status(&host, name), ("exited".to_owned(), 255), "{name}");
        let state = host.inspect(name)["State"].take();
        assert_eq!(state["Error"], "it ended with the host, which has restarted since");
        assert!(state["FinishedAt"].as_str() >= state["StartedAt"].as_str(), "{state}");
    }
    assert!(host.ok(&["ps", "-q"]).is_empty());
    assert_eq!(status(&host, "demo-done-1"), ("exited".to_owned(), 0));
    // Everything is in the containers' own files.
    fs::remove_file(&file).unwrap();
    let shown = host.ok(&["--dry-run", "system", "boot"]);
    let has = |words: &str| shown.lines().any(|line| line.split_whitespace().collect::<Vec<_>>().join(" ") == words);
    assert!(has("demo-web-1 start restart: always"), "{shown}");
    assert!(has("demo-stopped-1 stay down stopped by hand"), "{shown}");
    assert!(shown.find("demo-db-1") < shown.find("demo-web-1"), "{shown}");
    assert_eq!(status(&host, "demo-web-1").0, "exited", "nothing is done");

    let done = host.run(&["system", "boot"]);
    assert_eq!(done.code, 0, "{}", done.err);
    assert!(done.err.contains("started 5 containers"), "{}", done.err);
    for name in ["demo-web-1", "demo-db-1", "demo-again-1", "demo-failing-1", "single"] {
        assert_eq!(status(&host, name).0, "running", "{name}");
    }
    assert_eq!(status(&host, "demo-never-1"), ("exited".to_owned(), 255));
    assert_eq!(status(&host, "demo-stopped-1"), ("exited".to_owned(), 137));
    assert_eq!(status(&host, "demo-done-1"), ("exited".to_owned(), 0));
    assert!(host.fails(1, &["container", "inspect", "fleeting"]).contains("No such"));
    // The one found what the other had made ready; address, port, volume and log are what they were.
    assert!(started(&host, "demo-db-1") < started(&host, "demo-web-1"));
    assert_eq!(host.inspect("demo-db-1")["State"]["Health"]["Status"], "healthy");
    assert_eq!(page(), 2);
    assert_eq!(host.address("demo-web-1", "demo_default"), address);
    host.shows(&["container", "logs", "demo-web-1"], "ready\nup\nready\nup");
    assert_eq!(host.ok(&["container", "exec", "demo-db-1", "wget", "-qO-", "http://web/"]).lines().count(), 2);

    // Once more, and nothing happens: also not to what was stopped since.
    host.ok(&["container", "stop", "-t", "0", "demo-again-1"]);
    let before = host.inspect("demo-web-1")["State"].take();
    assert!(host.run(&["system", "boot"]).err.ends_with("nothing to start\n"));
    assert_eq!(host.inspect("demo-web-1")["State"], before);
    assert_eq!(status(&host, "demo-again-1").0, "exited");
    host.ok(&["-p", "demo", "down", "-v", "-t", "0"]);
    host.ok(&["container", "rm", "-f", "single"]);
}

#[test]
fn what_fails_takes_only_those_with_it_that_depend_on_it() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    let port = free_port();
    host.write(
        "compose.yaml",
        &format!(
            "services:\n  a: {{image: busybox, restart: always, command: sleep 1000, stop_grace_period: 0s, ports: [\"127.0.0.1:{port}:80\"]}}\n  b: {{image: busybox, restart: always, command: sleep 1000, stop_grace_period: 0s, depends_on: [a]}}\n  c: {{image: busybox, restart: always, command: sleep 1000, stop_grace_period: 0s}}\n"
        ),
    );
    host.ok(&["up", "-d"]);
    host.write(
        "other.yaml",
        "services:\n  d: {image: busybox, restart: always, command: sleep 1000, stop_grace_period: 0s, network_mode: 'service:e'}\n  e: {image: busybox, command: sleep 1000, stop_grace_period: 0s}\n",
    );
    host.ok(&["-f", "other.yaml", "-p", "other", "up", "-d"]);
    reboot(&host);
    let holder = TcpListener::bind(("127.0.0.1", port)).unwrap();
    let error = host.fails(1, &["system", "boot"]);
    assert!(error.contains("Error: demo-a-1: ") && error.contains(&port.to_string()), "{error}");
    assert!(error.contains("Error: demo-b-1: it depends on demo-a-1, which was not started"), "{error}");
    assert!(error.contains("2 of 5 containers could not be started"), "{error}");
    let up = |name: &str| status(&host, name).0 == "running";
    // `e` has no policy, and is needed by one that has.
    let names = ["demo-a-1", "demo-b-1", "demo-c-1", "other-d-1", "other-e-1"];
    assert_eq!(names.map(up), [false, false, true, true, true]);
    drop(holder);
    let done = host.run(&["system", "boot"]);
    assert_eq!((done.code, done.err.contains("started 2 containers")), (0, true), "{}", done.err);
    assert_eq!(names.map(up), [true; 5]);
    host.ok(&["-f", "other.yaml", "-p", "other", "down", "-t", "0"]);
    host.ok(&["down", "-t", "0"]);
}

#[test]
fn a_dependency_that_is_unhealthy_is_named_and_the_next_boot_finishes_the_work() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    host.write(
        "compose.yaml",
        "services:\n  web: {image: busybox, restart: always, command: sleep 1000, stop_grace_period: 0s, depends_on: {db: {condition: service_healthy}}}\n  db:\n    image: busybox\n    restart: always\n    command: sleep 1000\n    stop_grace_period: 0s\n    volumes: [./state:/state]\n    healthcheck: {test: 'test -e /state/good || { echo not yet; exit 1; }', interval: 100ms, retries: 2}\n",
    );
    let good = host.write("state/good", "");
    host.ok(&["up", "-d"]);
    reboot(&host);
    fs::remove_file(&good).unwrap();
    let error = host.fails(1, &["system", "boot"]);
    assert!(
        error.contains("Error: demo-web-1: dependency failed to start: container demo-db-1 is unhealthy"),
        "{error}"
    );
    assert!(error.contains("not yet"), "what the check said: {error}");
    fs::write(&good, "").unwrap();
    host.until("demo-db-1", "it is healthy", |state| state["Health"]["Status"] == "healthy");
    let db = host.inspect("demo-db-1")["State"]["Pid"].take();
    host.ok(&["system", "boot"]);
    assert_eq!(status(&host, "demo-web-1").0, "running");
    assert_eq!(host.inspect("demo-db-1")["State"]["Pid"], db);
    host.ok(&["down", "-t", "0"]);
}

#[test]
fn a_halt_is_no_stop_by_hand() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    let ends = |name: &str| format!("trap 'echo {name} >> /order/order; exit 0' TERM; echo up; sleep 1000 & wait");
    host.write(
        "compose.yaml",
        &format!(
            "services:\n  web: {{image: busybox, restart: unless-stopped, command: [sh, -c, \"{}\"], volumes: [./order:/order], depends_on: [db]}}\n  db: {{image: busybox, restart: on-failure, command: [sh, -c, \"{}\"], volumes: [./order:/order]}}\n  no: {{image: busybox, command: sleep 1000, stop_grace_period: 0s}}\n  hand: {{image: busybox, restart: unless-stopped, command: sleep 1000, stop_grace_period: 0s}}\n",
            ends("web"),
            ends("db"),
        ),
    );
    fs::create_dir(host.project().join("order")).unwrap();
    host.ok(&["up", "-d"]);
    for service in ["web", "db"] {
        eventually("its trap is set", || match host.ok(&["logs", "--no-log-prefix", service]) == "up" {
            true => Ok(()),
            false => Err(String::new()),
        });
    }
    host.ok(&["stop", "hand"]);
    host.ok(&["system", "halt"]);
    assert!(host.ok(&["ps", "-q"]).is_empty());
    assert_eq!(fs::read_to_string(host.project().join("order/order")).unwrap(), "web\ndb\n");
    reboot(&host);
    host.ok(&["system", "boot"]);
    let up = |service: &str| status(&host, &format!("demo-{service}-1")).0 == "running";
    assert_eq!(["web", "db", "no", "hand"].map(up), [true, true, false, false]);
    // Also within one boot; and what is stopped by hand after a halt stays down.
    host.ok(&["system", "halt", "-t", "5"]);
    host.ok(&["container", "stop", "demo-web-1"]);
    host.ok(&["system", "boot"]);
    assert_eq!(["web", "db", "no", "hand"].map(up), [false, true, false, false]);
    let pid = host.inspect("demo-db-1")["State"]["Pid"].as_u64().unwrap();
    signal(u32::try_from(pid).unwrap(), "KILL");
    host.until("demo-db-1", "its policy is in force again", |state| {
        state["Status"] == "running" && state["Pid"] != pid
    });
    host.ok(&["down", "-t", "0"]);
}

#[test]
fn a_unit_is_written_for_another_root_directory_and_nobody_elses_is_touched() {
    let Some(host) = Host::bare() else { return };
    let dest = host.path().join("dest");
    let dest_text = dest.to_str().unwrap();
    let unit = dest.join("etc/systemd/system/umiak.service");
    let link = dest.join("etc/systemd/system/multi-user.target.wants/umiak.service");
    let printed = host.ok(&["system", "enable", "--print", "--init", "systemd"]);
    for _ in 0..2 {
        host.ok(&["system", "enable", "--destdir", dest_text]);
        let text = fs::read_to_string(&unit).unwrap();
        assert_eq!(text.trim_end(), printed);
        assert!(text.contains(&format!("Environment=UMIAK_ROOT={}\n", host.root().display())), "{text}");
        assert!(text.contains(&format!("Environment=UMIAK_RUN_ROOT={}\n", host.run_root().display())), "{text}");
        let start = text.lines().find_map(|line| line.strip_prefix("ExecStart=")).unwrap();
        assert!(start.ends_with(" system boot") && start.starts_with('/'), "{start}");
        assert_eq!(fs::read_link(&link).unwrap().to_str(), Some("/etc/systemd/system/umiak.service"));
    }
    host.ok(&["system", "disable", "--destdir", dest_text]);
    assert!(!unit.exists() && fs::symlink_metadata(&link).is_err());
    assert!(host.run(&["system", "disable", "--destdir", dest_text]).err.contains("nothing to disable"));
    fs::write(&unit, "[Unit]\nDescription=mine\n").unwrap();
    for command in ["enable", "disable"] {
        let error = host.fails(1, &["system", command, "--destdir", dest_text]);
        assert!(error.contains("was not made by `umiak system enable`") && error.contains("hint: "), "{error}");
    }
    assert_eq!(fs::read_to_string(&unit).unwrap(), "[Unit]\nDescription=mine\n");
    let script = host.ok(&["system", "enable", "--print", "--init", "openrc"]);
    assert!(script.starts_with("#!/sbin/openrc-run\n") && script.contains("rc-update add umiak default"), "{script}");
    let mut shell = host.other("sh", &["-n"]);
    let path = host.write("script", &script);
    shell.arg(path);
    assert!(shell.status().unwrap().success());
}
