//! What is killed at the wrong moment: monitors and commands.

use std::process::Stdio;

use crate::harness::{Host, eventually, finish_child, free_port, http, kill_supervision, names_in, signal};

const STACK: &str = "services:\n  web:\n    image: busybox\n    command: sh -c 'mkdir /www; echo here > /www/index.html; trap \"exit 0\" TERM; httpd -f -p 80 -h /www & wait'\n    ports: [\"${PORT}:80\"]\n  other:\n    image: busybox\n    command: sleep 1000\n    stop_grace_period: 0s\n";

#[test]
fn a_container_outlives_its_monitor_and_is_still_managed() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    let port = free_port();
    host.write(".env", &format!("PORT={port}\n"));
    host.write("compose.yaml", STACK);
    host.ok(&["up", "-d"]);
    let address = format!("127.0.0.1:{port}");
    let ask = || {
        eventually("an answer", || {
            http("GET", &address, "/", "").and_then(|(code, body)| if code == 200 { Ok(body) } else { Err(body) })
        })
    };
    assert_eq!(ask(), "here\n");
    kill_supervision(&host, "demo-web-1");
    assert_eq!(ask(), "here\n", "its port still leads to it");
    let listed = host.lines(&["ps", "--format", "json", "web"]);
    assert_eq!(listed[0]["State"], "running", "{}", listed[0]);
    assert_eq!(host.ok(&["exec", "web", "cat", "/www/index.html"]), "here");
    host.ok(&["stop", "web"]);
    assert_eq!(host.inspect("demo-web-1")["State"]["Status"], "exited");
    assert!(http("GET", &address, "/", "").is_err());
    host.ok(&["start", "web"]);
    assert_eq!(ask(), "here\n");
    kill_supervision(&host, "demo-web-1");
    kill_supervision(&host, "demo-other-1");
    host.ok(&["down"]);
    assert!(host.ids().is_empty());
}

#[test]
fn a_container_that_ends_unseen_is_shown_as_ended_and_is_removed() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    host.ok(&["container", "run", "-d", "--name", "alone", "busybox", "sleep", "1000"]);
    let pid = u32::try_from(host.inspect("alone")["State"]["Pid"].as_u64().unwrap()).unwrap();
    kill_supervision(&host, "alone");
    assert_eq!(host.inspect("alone")["State"]["Status"], "running");
    signal(pid, "KILL");
    let state = eventually("it is seen to have ended", || {
        let state = host.inspect("alone")["State"].take();
        if state["Status"] == "exited" { Ok(state) } else { Err(state.to_string()) }
    });
    assert_eq!(state["ExitCode"], 255);
    assert!(host.ok(&["container", "ls", "-a"]).contains("Exited (255)"));
    host.ok(&["container", "start", "alone"]);
    assert_eq!(host.inspect("alone")["State"]["Status"], "running");
    kill_supervision(&host, "alone");
    host.ok(&["container", "rm", "-f", "alone"]);
}

/// A command is killed after a while that is longer each time, so that it is caught at every stage.
#[test]
fn an_up_that_was_killed_is_finished_by_the_next_and_down_cleans() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    let port = free_port();
    host.write(".env", &format!("PORT={port}\n"));
    host.write("compose.yaml", STACK);
    for milliseconds in [5, 15, 30, 50, 80, 120, 180, 260] {
        let mut up = host.command(&["up", "-d"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(milliseconds));
        let _ = up.kill();
        let _ = up.wait();
        if milliseconds % 20 != 0 {
            host.ok(&["up", "-d"]);
            assert_eq!(host.ok(&["ps", "-q"]).lines().count(), 2, "killed after {milliseconds} ms");
        }
        host.ok(&["down", "-t", "1"]);
        // What the killed one had begun may still be on its way out.
        host.is_cleared(&host.ids(), &host.network_ids(), &format!("killed after {milliseconds} ms"));
    }
}

#[test]
fn a_killed_run_does_not_end_its_container() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    let mut run = host
        .command(&["container", "run", "--name", "kept", "busybox", "sh", "-c", "echo up; sleep 1000"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    eventually("it is up", || {
        if host.run(&["container", "logs", "kept"]).out == "up\n" { Ok(()) } else { Err(String::new()) }
    });
    run.kill().unwrap();
    run.wait().unwrap();
    assert_eq!(host.inspect("kept")["State"]["Status"], "running");
    // A signal for which there is a handler is passed on instead.
    let script = "trap 'echo told; exit 3' TERM; echo up; while :; do sleep 1 & wait $!; done";
    let mut run = host
        .command(&["container", "run", "--name", "told", "busybox", "sh", "-c", script])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // By itself: it passes signals on once it passes on what is said.
    let mut said = [0; 3];
    std::io::Read::read_exact(run.stdout.as_mut().unwrap(), &mut said).unwrap();
    assert_eq!(&said, b"up\n");
    signal(run.id(), "TERM");
    let done = finish_child(run, b"", "container run");
    assert_eq!((done.code, done.out.as_str()), (3, "told\n"), "{}", done.err);
}

#[test]
fn two_commands_at_once_do_not_disturb_each_other() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    let port = free_port();
    host.write(".env", &format!("PORT={port}\n"));
    host.write("compose.yaml", STACK);
    let ups: Vec<_> = (0..3)
        .map(|_| host.command(&["up", "-d"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap())
        .collect();
    for up in ups {
        let done = finish_child(up, b"", "up");
        assert_eq!(done.code, 0, "{}", done.err);
    }
    assert_eq!(host.ids().len(), 2);
    let runs: Vec<_> = (0..6)
        .map(|_| {
            host.command(&["container", "run", "--rm", "busybox", "true"])
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap()
        })
        .collect();
    for run in runs {
        let done = finish_child(run, b"", "run");
        assert_eq!(done.code, 0, "{}", done.err);
    }
    let downs: Vec<_> = (0..2)
        .map(|_| host.command(&["down"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap())
        .collect();
    for down in downs {
        let done = finish_child(down, b"", "down");
        assert_eq!(done.code, 0, "{}", done.err);
    }
    eventually("no namespace is left", || match names_in(&host.run_root().join("netns")) {
        left if left.is_empty() => Ok(()),
        left => Err(format!("{left:?}")),
    });
}
