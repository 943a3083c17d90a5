//! Start order by condition: healthy, completed, and what happens when that never comes.

use std::process::Stdio;

use crate::harness::{Host, eventually, finish_child};

fn up(host: &Host, file: &str) {
    host.write("compose.yaml", file);
    host.ok(&["up", "-d"]);
}

fn started(host: &Host, name: &str) -> String {
    host.inspect(name)["State"]["StartedAt"].as_str().unwrap().to_owned()
}

#[test]
fn services_start_when_what_they_depend_on_is_healthy_or_has_completed() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    let healthy = "{test: 'test -e /ready', interval: 1h}";
    up(
        &host,
        &format!(
            r#"
services:
  last:
    image: busybox
    command: sh -c 'cat /shared/job; sleep 1000'
    volumes: [shared:/shared]
    depends_on:
      middle: {{condition: service_healthy}}
      job: {{condition: service_completed_successfully}}
      absent: {{condition: service_healthy, required: false}}
  middle:
    image: busybox
    command: sh -c 'sleep 0.4; touch /ready; sleep 1000'
    healthcheck: {healthy}
    depends_on: {{first: {{condition: service_healthy}}}}
  first:
    image: busybox
    scale: 2
    command: sh -c 'sleep 0.2; touch /ready; sleep 1000'
    healthcheck: {healthy}
  job:
    image: busybox
    restart: on-failure
    command: sh -c 'echo try >> /shared/job; [ $$(wc -l < /shared/job) -ge 3 ]'
    volumes: [shared:/shared]
  absent: {{image: busybox, profiles: [never]}}
volumes: {{shared: }}
"#
        ),
    );
    for name in ["demo-first-1", "demo-first-2", "demo-middle-1"] {
        assert_eq!(host.inspect(name)["State"]["Health"]["Status"], "healthy", "{name}");
    }
    assert!(started(&host, "demo-first-2") < started(&host, "demo-middle-1"));
    assert!(started(&host, "demo-middle-1") < started(&host, "demo-last-1"));
    assert_eq!(host.inspect("demo-job-1")["RestartCount"], 2);
    assert_eq!(host.ok(&["logs", "--no-log-prefix", "last"]), "try\ntry\ntry");
    // What stands by itself is not held up; what is stopped is started in the same order, and waited for.
    host.ok(&["stop", "-t", "0", "first", "middle", "last"]);
    host.ok(&["start", "--wait", "--wait-timeout", "60"]);
    assert!(started(&host, "demo-first-2") < started(&host, "demo-middle-1"));
    assert!(started(&host, "demo-middle-1") < started(&host, "demo-last-1"));
    assert_eq!(host.inspect("demo-middle-1")["State"]["Health"]["Status"], "healthy");
    host.ok(&["down", "-v", "-t", "0"]);
}

#[test]
fn a_dependency_that_will_not_come_up_fails_with_the_reason() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    let file = |db: &str, condition: &str, more: &str| {
        format!(
            "services:\n  web:\n    image: busybox\n    command: sleep 1000\n    depends_on: {{db: {{condition: {condition}{more}}}}}\n  db:\n    image: busybox\n{db}"
        )
    };
    // A check fails once the service has said what is looked for.
    let check = "    healthcheck: {test: 'until test -e /dev/shm/up; do sleep 0.1; done; echo cannot connect; exit 1', interval: 100ms, retries: 2}\n";
    let sleep = "    command: sh -c 'echo starting up; touch /dev/shm/up; sleep 1000'\n";
    let ends = |code: u8| format!("    command: sh -c 'echo last words; exit {code}'\n");
    let slow = "    healthcheck: {test: 'exit 1', interval: 1h}\n";
    let cases = [
        (
            format!("{sleep}{check}"),
            "service_healthy",
            vec!["dependency failed to start: container demo-db-1 is unhealthy", "cannot connect", "starting up"],
        ),
        (
            format!("{}{slow}", ends(3)),
            "service_healthy",
            vec!["dependency failed to start: container demo-db-1 exited (3)", "last words"],
        ),
        (
            sleep.to_owned(),
            "service_healthy",
            vec!["dependency failed to start: container demo-db-1 has no healthcheck configured"],
        ),
        (
            "    command: tail /dev/zero\n    mem_limit: 16m\n    memswap_limit: 16m\n".to_owned(),
            "service_completed_successfully",
            vec![
                "service \"db\" didn't complete successfully: exit 137",
                "demo-db-1: out of memory: killed at its memory limit of 16MiB",
            ],
        ),
        (
            ends(4),
            "service_completed_successfully",
            vec!["service \"db\" didn't complete successfully: exit 4", "last words"],
        ),
    ];
    for (db, condition, all) in cases {
        host.write("compose.yaml", &file(&db, condition, ""));
        let error = host.fails(1, &["up", "-d"]);
        for said in all {
            assert!(error.contains(said), "{said}: {error}");
        }
        assert!(!host.ok(&["ps", "--services"]).contains("web"));
        host.ok(&["down", "-t", "0"]);
        // Not required, it is said, and that is all.
        host.write("compose.yaml", &file(&db, condition, ", required: false"));
        let done = host.run(&["up", "-d"]);
        assert!(done.code == 0 && done.err.contains("optional dependency \"db\""), "{}", done.err);
        assert!(host.ok(&["ps", "--services"]).contains("web"));
        host.ok(&["down", "-t", "0"]);
    }
}

#[test]
fn a_wait_has_an_end() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    up(
        &host,
        "services:\n  slow:\n    image: busybox\n    command: sleep 1000\n    healthcheck: {test: 'exit 1', interval: 1h}\n  job: {image: busybox, command: 'true'}\n  plain: {image: busybox, command: sleep 1000}\n",
    );
    let error = host.fails(1, &["start", "--wait", "--wait-timeout", "1"]);
    assert!(error.contains("application not healthy after 1s"), "{error}");
    host.ok(&["start", "--wait", "job", "plain"]);
    host.ok(&["down", "-t", "0"]);
}

#[test]
fn any_number_of_services_waits_without_holding_up_the_others() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    let mut file = "
x-wait: &wait {image: busybox, command: sleep 1000, stop_grace_period: 0s}
services:
  base:
    image: busybox
    command: sh -c 'until [ -e /go/now ]; do sleep 0.1; done; touch /ready; sleep 1000'
    healthcheck: {test: 'test -e /ready', interval: 200ms, start_period: 1h, start_interval: 200ms}
    stop_grace_period: 0s
    volumes: [go:/go]
  middle: {<<: *wait, healthcheck: {test: 'true', interval: 1h}, depends_on: {base: {condition: service_healthy}}}
  opener:
    image: busybox
    command: touch /go/now
    volumes: [go:/go]
    depends_on: [before]
  before: {<<: *wait}
volumes: {go: }
"
    .replace("volumes: {go: }\n", "");
    for number in 0..12 {
        file.push_str(&format!("  w{number}: {{<<: *wait, depends_on: {{middle: {{condition: service_healthy}}}}}}\n"));
    }
    file.push_str("volumes: {go: }\n");
    host.write("compose.yaml", &file);
    // With one worker: whoever waits must not hold it.
    host.ok(&["--parallel", "1", "up", "-d"]);
    for number in 0..12 {
        assert!(started(&host, "demo-middle-1") < started(&host, &format!("demo-w{number}-1")));
    }
    host.ok(&["down", "-v", "-t", "0"]);
}

#[test]
fn a_step_that_fails_ends_the_waits_of_all_others() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    host.write(
        "compose.yaml",
        "
services:
  slow: {image: busybox, command: sleep 1000, healthcheck: {test: 'exit 1', interval: 1h}, stop_grace_period: 0s}
  waits: {image: busybox, command: sleep 1000, depends_on: {slow: {condition: service_healthy}}}
  early: {image: busybox, command: sleep 1000, stop_grace_period: 0s}
  broken: {image: busybox, command: nosuchprogram, depends_on: [early]}
",
    );
    // Without an end of its own, the wait for `slow` would be one for ever.
    let error = host.run(&["up", "-d"]);
    assert!(error.code != 0 && error.err.contains("nosuchprogram"), "{}", error.err);
    assert!(host.ids().is_empty(), "what was made is taken back");
}

#[test]
fn a_wait_for_dependencies_ends_with_the_time_that_it_was_given() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    let file = "
services:
  web: {image: busybox, command: sleep 1000, depends_on: {db: {condition: service_healthy}}}
  db:
    image: busybox
    command: sh -c 'echo starting up; sleep 1000'
    stop_grace_period: 0s
    healthcheck: {test: 'echo not yet; exit 1', interval: 1h}
";
    host.write("compose.yaml", file);
    let said = ["timeout waiting for dependencies", "demo-db-1", "not yet", "starting up"];
    let error = host.fails(1, &["up", "--wait", "--wait-timeout", "6"]);
    assert!(said.iter().all(|said| error.contains(said)), "{error}");
    assert!(host.ids().is_empty(), "what was made is taken back");
    host.ok(&["create"]);
    let error = host.fails(1, &["start", "--wait", "--wait-timeout", "6"]);
    assert!(said.iter().all(|said| error.contains(said)), "{error}");
    // Nor does one that is started again and again go on for ever.
    host.write("compose.yaml", &file.replace("sleep 1000'", "exit 3'\n    restart: always"));
    let error = host.fails(1, &["up", "--wait", "--wait-timeout", "6"]);
    assert!(error.contains("timeout waiting for dependencies") && error.contains("starting up"), "{error}");
    host.ok(&["down", "-t", "0"]);
}

#[test]
fn a_restart_waits_for_what_is_restarted_with_it() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    host.write(
        "compose.yaml",
        "
x-box: &box {image: busybox, command: sleep 1000, stop_grace_period: 0s, healthcheck: {test: 'true', interval: 1h}}
services:
  top: {<<: *box, depends_on: {middle: {condition: service_healthy, restart: true}}}
  middle: {<<: *box, depends_on: {db: {condition: service_healthy, restart: true}}}
  other: {<<: *box, depends_on: {db: {condition: service_healthy}}}
  db: {<<: *box}
",
    );
    host.ok(&["up", "-d"]);
    let before = ["top", "middle", "other", "db"].map(|name| started(&host, &format!("demo-{name}-1")));
    let error = host.run(&["restart", "db"]).err;
    let after = ["top", "middle", "other", "db"].map(|name| started(&host, &format!("demo-{name}-1")));
    let changed: Vec<bool> = before.iter().zip(&after).map(|(before, after)| before != after).collect();
    assert_eq!(changed, [true, true, false, true], "{error}");
    let at = |line: &str| error.lines().position(|one| one.trim() == line).unwrap_or_else(|| panic!("{line}\n{error}"));
    let order = ["db-1  Started", "db-1  Healthy", "middle-1  Started", "middle-1  Healthy", "top-1  Started"];
    let places: Vec<usize> = order.iter().map(|line| at(&format!("Container demo-{line}"))).collect();
    assert!(places.is_sorted(), "{error}");
    host.ok(&["down"]);
}

#[test]
fn a_pause_ends_the_waits_for_health() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    host.write(
        "compose.yaml",
        "
services:
  web: {image: busybox, command: sleep 1000, depends_on: {db: {condition: service_healthy}}}
  db: {image: busybox, command: sleep 1000, stop_grace_period: 0s, healthcheck: {test: sleep 1000, interval: 1h, timeout: 1h}}
",
    );
    let mut up = host.command(&["up", "-d", "--keep"]);
    let up = up.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    eventually("it runs", || {
        let running = host.run(&["container", "inspect", "demo-db-1"]).out.contains("\"Status\": \"running\"");
        if running { Ok(()) } else { Err("no".to_owned()) }
    });
    host.ok(&["container", "pause", "demo-db-1"]);
    let done = finish_child(up, b"", "up -d");
    let said = ["dependency failed to start: container demo-db-1 is unhealthy", "demo-db-1 is paused"];
    assert!(done.code == 1 && said.iter().all(|said| done.err.contains(said)), "{}", done.err);
    host.ok(&["container", "unpause", "demo-db-1"]);
    host.ok(&["down"]);
}
