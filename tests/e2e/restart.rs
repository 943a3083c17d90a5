//! Restart policies: what is started again, what stays down, and what is kept.

use crate::harness::{Host, eventually, free_port, http, kill_supervision, names_in, signal};

fn run(host: &Host, policy: &str, name: &str, script: &str) -> String {
    host.ok(&["container", "run", "-d", "--restart", policy, "--name", name, "busybox", "sh", "-c", script])
}

fn names_of_volumes(host: &Host) -> usize {
    names_in(&host.root().join("volumes")).len()
}

#[test]
fn retries_end_when_they_are_used_up() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    // The attached command sees the first end alone, as with Docker.
    let done = host.run(&[
        "container",
        "run",
        "--restart",
        "on-failure:2",
        "--name",
        "one",
        "busybox",
        "sh",
        "-c",
        "echo hi; exit 3",
    ]);
    assert_eq!((done.code, done.out.as_str()), (3, "hi\n"), "{}", done.err);
    let shown = host.until("one", "it has given up", |state| state["Status"] == "exited");
    assert_eq!((&shown["RestartCount"], &shown["State"]["ExitCode"]), (&2.into(), &3.into()));
    assert_eq!(shown["HostConfig"]["RestartPolicy"]["Name"], "on-failure");
    assert_eq!(shown["HostConfig"]["RestartPolicy"]["MaximumRetryCount"], 2);
    assert_eq!(host.ok(&["container", "logs", "one"]), "hi\nhi\nhi");
    // Started by hand, it is counted anew; a success is no failure.
    run(&host, "on-failure", "fine", "exit 0");
    assert_eq!(host.ok(&["container", "wait", "fine"]), "0");
    assert_eq!(host.inspect("fine")["RestartCount"], 0);
}

#[test]
fn what_was_stopped_by_hand_stays_down() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    run(&host, "always", "one", "trap 'exit 7' TERM; echo up; sleep 1000 & wait");
    host.ok(&["container", "stop", "one"]);
    let shown = host.inspect("one");
    assert_eq!((&shown["State"]["Status"], &shown["RestartCount"]), (&"exited".into(), &0.into()));
    host.ok(&["container", "start", "one"]);
    host.ok(&["container", "kill", "one"]);
    let shown = host.inspect("one");
    assert_eq!((&shown["State"]["Status"], &shown["State"]["ExitCode"]), (&"exited".into(), &137.into()));
    host.ok(&["container", "start", "one"]);
    // Its own end is another matter.
    let pid = u32::try_from(host.inspect("one")["State"]["Pid"].as_u64().unwrap()).unwrap();
    signal(pid, "KILL");
    let shown = host.until("one", "it is back", |state| {
        state["Status"] == "running" && state["Pid"].as_u64() != Some(u64::from(pid))
    });
    assert_eq!((&shown["RestartCount"], &shown["State"]["ExitCode"]), (&1.into(), &0.into()));
    host.ok(&["container", "rm", "-f", "one"]);
}

#[test]
fn a_pause_between_two_runs_is_shown_and_a_stop_ends_it_at_once() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    host.write(
        "compose.yaml",
        "services:\n  c:\n    image: busybox\n    command: sh -c 'exit 4'\n    deploy: {restart_policy: {condition: any, delay: 1h}}\n",
    );
    host.ok(&["up", "-d"]);
    let shown = host.until("demo-c-1", "it rests", |state| state["Status"] == "restarting");
    let state = &shown["State"];
    assert_eq!((&state["Running"], &state["Restarting"], &state["Pid"]), (&true.into(), &true.into(), &0.into()));
    assert_eq!(state["ExitCode"], 4);
    let listed = host.lines(&["ps", "--format", "json"]);
    assert_eq!(listed[0]["State"], "restarting");
    assert!(listed[0]["Status"].as_str().unwrap().starts_with("Restarting (4) "), "{}", listed[0]);
    assert!(host.fails(1, &["container", "exec", "demo-c-1", "true"]).contains("is restarting"));
    assert!(host.fails(1, &["container", "rm", "demo-c-1"]).contains("container is restarting"));
    host.ok(&["stop"]);
    let shown = host.inspect("demo-c-1");
    assert_eq!((&shown["State"]["Status"], &shown["State"]["ExitCode"]), (&"exited".into(), &4.into()));
    host.ok(&["restart"]);
    host.until("demo-c-1", "it rests again", |state| state["Status"] == "restarting");
    host.ok(&["kill"]);
    assert_eq!(host.inspect("demo-c-1")["State"]["Status"], "exited");
    host.ok(&["start"]);
    host.until("demo-c-1", "it rests once more", |state| state["Status"] == "restarting");
    // The monitor is killed in the pause: nothing will start it, and that is what is said.
    kill_supervision(&host, "demo-c-1");
    host.until("demo-c-1", "it is seen to have ended", |state| state["Status"] == "exited");
    host.ok(&["down"]);
}

#[test]
fn address_port_log_volumes_and_namespace_outlast_a_restart() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    let port = free_port();
    host.write(
        "compose.yaml",
        &format!(
            "services:\n  web:\n    image: busybox\n    restart: always\n    volumes: [/data]\n    ports: [\"127.0.0.1:{port}:80\"]\n    command: sh -c 'mkdir -p /www; echo run >> /data/runs; cp /data/runs /www/index.html; echo up; exec httpd -f -p 80 -h /www'\n  beside:\n    image: busybox\n    network_mode: service:web\n    command: sleep 1000\n  other: {{image: busybox, command: sleep 1000}}\n"
        ),
    );
    host.ok(&["up", "-d"]);
    let runs = || {
        eventually("an answer", || match http("GET", &format!("127.0.0.1:{port}"), "/", "")? {
            (200, body) => Ok(body.lines().count()),
            other => Err(format!("{other:?}")),
        })
    };
    assert_eq!(runs(), 1);
    let before = (host.address("demo-web-1", "demo_default"), names_of_volumes(&host));
    for round in 2..4 {
        let pid = host.inspect("demo-web-1")["State"]["Pid"].as_u64().unwrap();
        signal(u32::try_from(pid).unwrap(), "KILL");
        host.until("demo-web-1", "it is back", |state| state["Status"] == "running" && state["Pid"] != pid);
        assert_eq!(runs(), round);
        assert_eq!(host.ok(&["exec", "beside", "wget", "-qO-", "http://127.0.0.1/"]).lines().count(), round);
        assert_eq!(host.ok(&["exec", "other", "wget", "-qO-", "http://web/"]).lines().count(), round);
    }
    assert_eq!((host.address("demo-web-1", "demo_default"), names_of_volumes(&host)), before);
    host.shows(&["logs", "--no-log-prefix", "web"], "up\nup\nup");
    host.ok(&["down", "-v", "-t", "0"]);
}

#[test]
fn a_policy_is_refused_in_dockers_words() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    for (args, said) in [
        (vec!["--rm", "--restart", "always"], "conflicting options: cannot specify both --restart and --rm"),
        (vec!["--restart", "often"], "invalid restart policy: unknown policy 'often'"),
        (vec!["--restart", "always:3"], "maximum retry count can only be used with 'on-failure'"),
        (vec!["--health-interval", "-1s"], "--health-interval cannot be negative"),
        (vec!["--health-interval", "1ns", "--health-cmd", "x"], "Interval in Healthcheck cannot be less than 1ms"),
        (vec!["--no-healthcheck", "--health-cmd", "x"], "--no-healthcheck conflicts with --health-* options"),
    ] {
        let mut all = vec!["container", "run"];
        all.extend(args);
        all.extend(["busybox", "true"]);
        let error = host.fails(125, &all);
        assert!(error.contains(said), "{error}");
    }
    // What could not be started at all is not tried again.
    let error = host.fails(127, &["container", "run", "--restart", "always", "--name", "one", "busybox", "nosuch"]);
    assert!(error.contains("nosuch"), "{error}");
}
