//! Monitors that are killed: their keepers bring up others, and nobody else notices.

use std::fs;
use std::io::Read as _;
use std::path::PathBuf;
use std::process::{Child, Stdio};

use serde_json::Value;

use crate::harness::{
    Host, eventually, finish, finish_child, free_port, http, keeper_pid, kill_supervision, monitor_pid, names_in,
    signal, stored_state,
};
use crate::leaks::Apart;

/// Kills a monitor, and waits for the next.
fn kill_monitor(host: &Host, name: &str) {
    let before = monitor_pid(host, name);
    signal(before, "KILL");
    await_monitor(host, name, before);
}

fn await_monitor(host: &Host, name: &str, before: u32) {
    eventually("another monitor", || match monitor_pid(host, name) {
        now if now != before => Ok(()),
        _ => Err("still the old one".into()),
    });
}

fn pid_of(shown: &Value) -> u32 {
    u32::try_from(shown["State"]["Pid"].as_u64().unwrap()).unwrap()
}

fn actions(host: &Host, wanted: &str) -> usize {
    let events = fs::read_to_string(host.run_root().join("events")).unwrap();
    events.lines().filter(|line| line.contains(&format!("\"Action\":\"{wanted}\""))).count()
}

fn is_zombie(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| stat.contains(") Z "))
}

/// Stops a process in its `poll`.
fn stop_while_it_waits(pid: u32) {
    let polls = [
        #[cfg(target_arch = "x86_64")]
        libc::SYS_poll,
        libc::SYS_ppoll,
        // What the kernel makes of it after a stop.
        libc::SYS_restart_syscall,
    ]
    .map(|number| number.to_string());
    eventually("it stands still while it waits", || {
        signal(pid, "STOP");
        eventually("it stands still", || {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
            if stat.contains(") T ") { Ok(()) } else { Err(stat) }
        });
        let call = fs::read_to_string(format!("/proc/{pid}/syscall")).unwrap();
        if call.split(' ').next().is_some_and(|number| polls.iter().any(|poll| poll == number)) {
            return Ok(());
        }
        signal(pid, "CONT");
        Err(call)
    });
}

const STACK: &str = r#"
services:
  web:
    image: busybox
    restart: always
    stop_grace_period: 0s
    ports: ["127.0.0.1:${PORT}:80"]
    command: sh -c 'mkdir -p /www; echo here > /www/index.html; httpd -p 80 -h /www; i=0; while :; do echo line $$i; i=$$((i+1)); sleep 0.05; done'
    healthcheck: {test: "test ! -e /dev/shm/broken", interval: 200ms, retries: 1}
  client: {image: busybox, command: sleep 1000, stop_grace_period: 0s}
"#;

#[test]
fn names_ports_health_logs_and_restarts_go_on_after_a_monitor_was_killed() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    let port = free_port();
    host.write(".env", &format!("PORT={port}\n"));
    host.write("compose.yaml", STACK);
    host.ok(&["up", "-d"]);
    host.until("demo-web-1", "it is healthy", |state| state["Health"]["Status"] == "healthy");
    let said = host.path().join("followed");
    let mut follow = host
        .command(&["logs", "-f", "--no-log-prefix", "web"])
        .stdout(fs::File::create(&said).unwrap())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let lines = || fs::read_to_string(&said).unwrap().lines().map(str::to_owned).collect::<Vec<_>>();
    let grows = |what: &str| {
        let before = lines().len();
        eventually(what, || if lines().len() > before + 3 { Ok(()) } else { Err(before.to_string()) });
    };
    grows("it is followed");
    // What it writes while nobody reads is read by the next monitor: killed while it waited, the old one had nothing in
    // hand.
    let (before, pid) = (monitor_pid(&host, "demo-web-1"), pid_of(&host.inspect("demo-web-1")));
    stop_while_it_waits(before);
    kill_monitor(&host, "demo-client-1");
    signal(before, "KILL");
    await_monitor(&host, "demo-web-1", before);
    grows("it is still followed");
    let all = lines();
    let expected: Vec<String> = (0..all.len()).map(|number| format!("line {number}")).collect();
    assert_eq!(all, expected, "no line is missing, none is there twice");
    let shown = host.inspect("demo-web-1");
    assert_eq!((pid_of(&shown), &shown["State"]["Health"]["Status"]), (pid, &"healthy".into()));
    assert_eq!(http("GET", &format!("127.0.0.1:{port}"), "/", ""), Ok((200, "here\n".into())));
    for service in ["web", "client"] {
        let found = host.ok(&["exec", "-T", "client", "nslookup", service]);
        assert!(found.contains(&host.address(&format!("demo-{service}-1"), "demo_default")), "{found}");
    }
    host.ok(&["exec", "-T", "web", "touch", "/dev/shm/broken"]);
    host.until("demo-web-1", "it is unhealthy", |state| state["Health"]["Status"] == "unhealthy");
    // Its parent is the keeper now, which sees its end; the next run's parent is the new monitor.
    for restarts in 1..=2 {
        let pid = pid_of(&host.inspect("demo-web-1"));
        signal(pid, "KILL");
        let back = |state: &Value| state["Status"] == "running" && state["Pid"] != pid;
        let shown = host.until("demo-web-1", "it runs again", back);
        assert_eq!((&shown["RestartCount"], &shown["State"]["ExitCode"]), (&restarts.into(), &0.into()));
        grows("its output is still followed");
        kill_monitor(&host, "demo-web-1");
    }
    assert_eq!((actions(&host, "start"), actions(&host, "die")), (4, 2));
    host.ok(&["stop", "web"]);
    assert_eq!(host.inspect("demo-web-1")["State"]["ExitCode"], 137);
    assert_eq!(follow.wait().unwrap().code(), Some(0));
    host.ok(&["down"]);
}

const WAITS: &str = "until test -e /dev/shm/go; do sleep 0.05; done; echo gone; exit 7";

fn run_waiting(host: &Host, name: &str, flags: &[&str]) -> u32 {
    let mut args = vec!["container", "run", "-d", "--name", name];
    args.extend(flags);
    args.extend(["busybox", "sh", "-c", WAITS]);
    host.ok(&args);
    pid_of(&host.inspect(name))
}

fn let_go(host: &Host, name: &str) {
    host.ok(&["container", "exec", name, "touch", "/dev/shm/go"]);
}

#[test]
fn the_exit_code_is_kept_whoever_was_killed() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    // While no monitor is there: the keeper stands still until it is over.
    let pid = run_waiting(&host, "unseen", &[]);
    let (keeper, monitor) = (keeper_pid(&host, "unseen"), monitor_pid(&host, "unseen"));
    let wait =
        host.command(&["container", "wait", "unseen"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    signal(keeper, "STOP");
    signal(monitor, "KILL");
    let_go(&host, "unseen");
    eventually("it has ended", || if is_zombie(pid) { Ok(()) } else { Err(pid.to_string()) });
    assert_eq!(host.inspect("unseen")["State"]["Status"], "running", "somebody will still say how it ended");
    signal(keeper, "CONT");
    assert_eq!(finish_child(wait, b"", "container wait").out, "7\n");
    let shown = host.inspect("unseen");
    assert_eq!((&shown["State"]["ExitCode"], &shown["State"]["Error"]), (&7.into(), &"".into()));
    assert_eq!(host.ok(&["container", "logs", "unseen"]), "gone");
    assert_eq!((actions(&host, "start"), actions(&host, "die")), (1, 1));
    // Without its keeper, a monitor goes on, and becomes the keeper of the next one.
    run_waiting(&host, "alone", &[]);
    let (keeper, monitor) = (keeper_pid(&host, "alone"), monitor_pid(&host, "alone"));
    signal(keeper, "KILL");
    await_monitor(&host, "alone", monitor);
    assert_eq!(keeper_pid(&host, "alone"), monitor);
    kill_monitor(&host, "alone");
    assert_eq!(keeper_pid(&host, "alone"), monitor);
    let_go(&host, "alone");
    let shown = host.until("alone", "it has ended", |state| state["Status"] == "exited");
    assert_eq!(shown["State"]["ExitCode"], 7);
    assert_eq!(host.ok(&["container", "logs", "alone"]), "gone");
    // Neither its first monitor nor the keeper that was its second parent is there: the kernel tells.
    run_waiting(&host, "orphan", &[]);
    kill_monitor(&host, "orphan");
    signal(keeper_pid(&host, "orphan"), "KILL");
    let_go(&host, "orphan");
    let shown = host.until("orphan", "it has ended", |state| state["Status"] == "exited");
    // From Linux 6.15 on, or when its new parent took its time.
    assert!([7, 255].map(Value::from).contains(&shown["State"]["ExitCode"]), "{shown}");
    host.ok(&["container", "rm", "unseen", "alone", "orphan"]);
}

/// What was said has come out: a monitor that is killed with something in hand takes it along.
fn has_logged(host: &Host, name: &str, wanted: &str) {
    eventually("it is in the log", || match host.run(&["container", "logs", name]).out.as_str() {
        now if now == wanted => Ok(()),
        other => Err(other.to_owned()),
    });
}

/// The same of a command in the foreground.
fn says_up(run: &mut Child) {
    let mut said = [0; 3];
    run.stdout.as_mut().unwrap().read_exact(&mut said).unwrap();
    assert_eq!(&said, b"up\n");
}

#[test]
fn an_input_is_still_fed_and_ended_and_a_terminal_is_still_one() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    let mut run = host
        .command(&["container", "run", "-i", "--name", "cat", "busybox", "sh", "-c", "echo up; cat; exit 3"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    says_up(&mut run);
    kill_monitor(&host, "cat");
    // A command in the foreground joins the next monitor by itself.
    let done = finish_child(run, b"hello\n", "container run -i");
    assert_eq!((done.code, done.out.as_str()), (3, "hello\n"), "{}", done.err);
    host.ok(&["container", "run", "-d", "-t", "--name", "tty", "busybox", "sh", "-c", &format!("tty; {WAITS}")]);
    has_logged(&host, "tty", "/dev/pts/0\r\n");
    kill_monitor(&host, "tty");
    let_go(&host, "tty");
    assert_eq!(host.ok(&["container", "wait", "tty"]), "7");
    assert_eq!(host.ok(&["container", "logs", "tty"]), "/dev/pts/0\r\ngone");
    let mut run = host
        .command(&["container", "run", "--rm", "--name", "fore", "busybox", "sh", "-c", &format!("echo up; {WAITS}")])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    says_up(&mut run);
    kill_monitor(&host, "fore");
    let_go(&host, "fore");
    let done = finish_child(run, b"", "container run --rm");
    // What is said before it has joined the next monitor is in the log alone.
    assert_eq!((done.code, done.out.trim_start_matches("gone\n")), (7, ""), "{}", done.err);
    eventually("it is removed", || if host.ids().len() == 2 { Ok(()) } else { Err(format!("{:?}", host.ids())) });
    host.ok(&["container", "rm", "cat", "tty"]);
}

#[test]
fn a_stop_while_no_monitor_is_there_is_heeded_by_the_next() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    host.write(
        "compose.yaml",
        "services:\n  c: {image: busybox, restart: always, command: sleep 1000, stop_grace_period: 0s}\n  r:\n    image: busybox\n    command: sh -c 'exit 4'\n    deploy: {restart_policy: {condition: any, delay: 1h}}\n",
    );
    host.ok(&["up", "-d"]);
    let keeper = keeper_pid(&host, "demo-c-1");
    signal(keeper, "STOP");
    signal(monitor_pid(&host, "demo-c-1"), "KILL");
    let stop = host.command(&["stop", "c"]).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let pid = pid_of(&host.inspect("demo-c-1"));
    eventually("it has been killed", || if is_zombie(pid) { Ok(()) } else { Err(pid.to_string()) });
    signal(keeper, "CONT");
    let done = stop.wait_with_output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let shown = host.inspect("demo-c-1");
    assert_eq!((&shown["State"]["Status"], &shown["State"]["ExitCode"]), (&"exited".into(), &137.into()));
    // In the pause between two runs, too: the next monitor waits, and can be told.
    host.until("demo-r-1", "it rests", |state| state["Status"] == "restarting");
    kill_monitor(&host, "demo-r-1");
    assert_eq!(host.inspect("demo-r-1")["State"]["Status"], "restarting");
    host.ok(&["stop", "r"]);
    let shown = host.inspect("demo-r-1");
    assert_eq!((&shown["State"]["Status"], &shown["State"]["ExitCode"]), (&"exited".into(), &4.into()));
    host.ok(&["down"]);
}

#[test]
fn one_that_is_killed_again_and_again_is_left_at_that() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    let pid = run_waiting(&host, "one", &[]);
    let keeper = keeper_pid(&host, "one");
    // As something would that kills each monitor at once: the keeper gives up, and the container runs on.
    let gone = || !PathBuf::from(format!("/proc/{keeper}")).exists() || is_zombie(keeper);
    eventually("its keeper has given up", || {
        let monitor = monitor_pid(&host, "one");
        let _ = std::process::Command::new("kill").args(["-9", &monitor.to_string()]).stderr(Stdio::null()).status();
        if gone() { Ok(()) } else { Err(monitor.to_string()) }
    });
    assert_eq!(pid_of(&host.inspect("one")), pid);
    let complaint =
        fs::read_to_string(host.root().join("containers").join(host.ids().first().unwrap()).join("monitor.log"));
    assert!(complaint.unwrap().contains("the monitor was killed 5 times"));
    host.ok(&["container", "rm", "-f", "one"]);
}

/// A monitor is killed at every place on the way of a start and of a restart.
#[test]
fn a_start_whose_monitor_is_killed_is_undone_or_goes_on() {
    let Some(host) = Host::with_debug_assertions(&["busybox"]) else { return };
    let port = free_port();
    let script = "if test -e /second; then exec sleep 1000; fi; touch /second; exit 3";
    let publish = format!("127.0.0.1:{port}:80");
    let args = ["container", "create", "--name", "one", "--restart", "always", "-p", &publish];
    let args: Vec<&str> = args.into_iter().chain(["busybox", "sh", "-c", script]).collect();
    let start = |variable: &str, value: &str| {
        host.ok(&args);
        let mut command = host.command(&["container", "start", "one"]);
        command.env(variable, value);
        finish(command, b"", "container start")
    };
    let again = |state: &Value| state["Status"] == "running" && state["ExitCode"] == 0 && state["Pid"] != 0;
    let places = host.path().join("places");
    let done = start("UMIAK_MONITOR_PLACES", places.to_str().unwrap());
    assert_eq!(done.code, 0, "{}", done.err);
    let second = |host: &Host| {
        eventually("its second run", || {
            let shown = host.inspect("one");
            if shown["RestartCount"] == 1 && again(&shown["State"]) { Ok(()) } else { Err(shown["State"].to_string()) }
        });
    };
    second(&host);
    host.ok(&["container", "rm", "-f", "one"]);
    let places: Vec<String> = fs::read_to_string(places).unwrap().lines().map(str::to_owned).collect();
    assert!(places.len() > 10, "{places:?}");
    let (mut undone, mut went_on) = (0, 0);
    for (number, place) in places.iter().enumerate() {
        let done = start("UMIAK_MONITOR_DIES_AT", &(number + 1).to_string());
        if done.code == 0 {
            went_on += 1;
            // A run that was undone with its monitor may have been the second, and is seen until its end is written.
            let root = eventually(&format!("killed at {place:?}: its second run"), || {
                let shown = host.inspect("one");
                let state = &shown["State"];
                if state["Status"] != "running" || shown["RestartCount"].as_u64() < Some(1) {
                    return Err(shown.to_string());
                }
                match fs::read_to_string(format!("/proc/{}/cmdline", pid_of(&shown))) {
                    Ok(text) if !text.is_empty() => Ok(text),
                    other => Err(format!("{other:?}")),
                }
            });
            assert!(root.contains("sleep") || root.contains("sh"), "killed at {place:?}: {root:?}");
            host.ok(&["container", "stop", "-t", "0", "one"]);
        } else {
            undone += 1;
            assert_eq!(done.code, 1, "killed at {place:?}: {}", done.err);
            // It ran already where that had been written down.
            let status = host.inspect("one")["State"]["Status"].take();
            assert!(status == "created" || status == "exited", "killed at {place:?}: {status}");
            for dir in ["containers", "dns", "state"] {
                let dir = host.run_root().join(dir);
                eventually(&format!("killed at {place:?}: nothing is left"), || {
                    let mut left = names_in(&dir);
                    left.retain(|name| !names_in(&dir.join(name)).is_empty());
                    if left.is_empty() { Ok(()) } else { Err(format!("{}: {left:?}", dir.display())) }
                });
            }
        }
        host.ok(&["container", "rm", "one"]);
        host.is_cleared(&host.ids(), &host.network_ids(), &format!("killed at {place:?}"));
    }
    assert!(undone > 3 && went_on > 3, "{undone} {went_on}");
}

fn descriptors(pid: u32) -> usize {
    names_in(&PathBuf::from(format!("/proc/{pid}/fd"))).len()
}

fn switches(pid: u32) -> String {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    status.lines().filter(|line| line.contains("ctxt_switches")).collect::<Vec<_>>().join(" ")
}

#[test]
fn nothing_wakes_a_monitor_while_nothing_happens_and_its_descriptors_are_bounded() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    // Monitors hear of what is deleted of the firewall, and others delete of the host's all the time.
    let apart = Apart::new();
    let idle = ["container", "run", "-d", "--name", "idle", "-p", "127.0.0.1::80", "busybox", "sleep", "1000"];
    apart.umiak(&host, &idle);
    let busy = ["container", "run", "-d", "--name", "busy", "--health-cmd", "true", "--health-interval", "100ms", "-i"];
    apart.umiak(&host, &[&busy[..], &["busybox", "cat"]].concat());
    let pids = |name: &str| [keeper_pid(&host, name), monitor_pid(&host, name)];
    let id = host.inspect("busy")["Id"].as_str().unwrap().to_owned();
    let control = host.run_root().join("containers").join(id).join("ctl.sock");
    let before = pids("busy").map(descriptors);
    for round in 0..50 {
        let client = std::os::unix::net::UnixStream::connect(&control).unwrap();
        if round % 10 == 0 {
            host.ok(&["container", "exec", "busy", "true"]);
        }
        drop(client);
    }
    // A probe that is under way has a descriptor or two.
    eventually("descriptors are given back", || {
        let now = pids("busy").map(descriptors);
        if now[0] == before[0] && now[1] <= before[1] + 2 { Ok(()) } else { Err(format!("{before:?} {now:?}")) }
    });
    let idle = pids("idle");
    eventually("ten seconds without a context switch", || {
        let before = idle.map(switches);
        std::thread::sleep(std::time::Duration::from_secs(10));
        let after = idle.map(switches);
        if before == after { Ok(()) } else { Err(format!("{before:?} {after:?}")) }
    });
    apart.umiak(&host, &["container", "rm", "-f", "idle", "busy"]);
}

#[test]
fn the_state_names_both_and_neither_when_it_is_over() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    run_waiting(&host, "one", &[]);
    let keeper = keeper_pid(&host, "one");
    let parent = fs::read_to_string(format!("/proc/{}/status", monitor_pid(&host, "one"))).unwrap();
    assert!(parent.contains(&format!("PPid:\t{keeper}\n")), "{parent}");
    kill_supervision(&host, "one");
    assert_eq!(host.inspect("one")["State"]["Status"], "running");
    host.ok(&["container", "stop", "-t", "0", "one"]);
    let state = stored_state(&host, "one");
    assert_eq!((&state["monitor"], &state["keeper"]), (&Value::Null, &Value::Null));
    host.ok(&["container", "rm", "one"]);
}

#[test]
fn a_container_that_lost_both_is_adopted_by_the_next_command_that_wants_it_up() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    let port = free_port();
    host.write(".env", &format!("PORT={port}\n"));
    host.write("compose.yaml", STACK);
    host.ok(&["up", "-d"]);
    host.until("demo-web-1", "it is healthy", |state| state["Health"]["Status"] == "healthy");
    let pid = pid_of(&host.inspect("demo-web-1"));
    kill_supervision(&host, "demo-web-1");
    kill_supervision(&host, "demo-client-1");
    // Nobody reads its output any more: what it writes now makes an error, as in a shell whose `tee` was killed.
    let done = host.run(&["up", "-d"]);
    assert_eq!(done.code, 0, "{}", done.err);
    assert!(
        done.err.contains("the monitor of container demo-client-1 had been killed: it has a new one"),
        "{}",
        done.err
    );
    let shown = host.inspect("demo-client-1");
    assert_eq!(shown["State"]["Status"], "running");
    for name in ["demo-web-1", "demo-client-1"] {
        let monitor = monitor_pid(&host, name);
        assert!(!is_zombie(monitor) && PathBuf::from(format!("/proc/{monitor}")).exists(), "{name}");
    }
    let shown = host.inspect("demo-web-1");
    if pid_of(&shown) == pid {
        // It has survived the errors: names, health, restarts and the log are back.
        host.ok(&["exec", "-T", "web", "touch", "/dev/shm/broken"]);
        host.until("demo-web-1", "it is unhealthy", |state| state["Health"]["Status"] == "unhealthy");
    }
    let found = host.ok(&["exec", "-T", "client", "nslookup", "web"]);
    assert!(found.contains(&host.address("demo-web-1", "demo_default")), "{found}");
    let before = host.ok(&["logs", "--no-log-prefix", "web"]).lines().count();
    eventually("its output is logged again", || {
        let now = host.ok(&["logs", "--no-log-prefix", "web"]).lines().count();
        if now > before { Ok(()) } else { Err(now.to_string()) }
    });
    let pid = pid_of(&host.inspect("demo-web-1"));
    signal(pid, "KILL");
    let back = |state: &Value| state["Status"] == "running" && state["Pid"] != pid;
    host.until("demo-web-1", "it runs again", back);
    // A second time, and by `start`: in between it is shown as it is.
    kill_supervision(&host, "demo-client-1");
    assert_eq!(host.inspect("demo-client-1")["State"]["Status"], "running");
    host.ok(&["start", "client"]);
    // A third time, and by what runs when the host boots.
    kill_supervision(&host, "demo-client-1");
    let pid = pid_of(&host.inspect("demo-client-1"));
    let shown = host.ok(&["--dry-run", "system", "boot"]);
    assert!(shown.lines().any(|line| line.contains("adopt") && line.contains("its monitor is gone")), "{shown}");
    let done = host.run(&["system", "boot"]);
    assert!(done.code == 0 && done.err.contains("it has a new one"), "{}", done.err);
    assert_eq!(pid_of(&host.inspect("demo-client-1")), pid);
    kill_monitor(&host, "demo-client-1");
    host.ok(&["stop", "client"]);
    assert_eq!(host.inspect("demo-client-1")["State"]["ExitCode"], 137);
    host.ok(&["down"]);
}

/// The command is killed at every place on the way of a start.
#[test]
fn a_start_whose_command_is_killed_is_made_good_by_the_next() {
    let Some(host) = Host::with_debug_assertions(&["busybox"]) else { return };
    let places = host.path().join("places");
    let start = |variable: &str, value: &str| {
        host.ok(&["network", "create", "net"]);
        host.ok(&["container", "create", "--name", "one", "--network", "net", "busybox", "sleep", "1000"]);
        let mut command = host.command(&["container", "start", "one"]);
        command.env(variable, value);
        finish(command, b"", "container start").code
    };
    let away = || {
        host.ok(&["container", "rm", "-f", "one"]);
        host.ok(&["network", "rm", "net"]);
        host.is_cleared(&host.ids(), &host.network_ids(), "after a start");
    };
    assert_eq!(start("UMIAK_PLACES", places.to_str().unwrap()), 0);
    away();
    let places: Vec<String> = fs::read_to_string(places).unwrap().lines().map(str::to_owned).collect();
    assert!(places.len() > 3, "{places:?}");
    for (number, place) in places.iter().enumerate() {
        assert_eq!(start("UMIAK_DIE_AT", &(number + 1).to_string()), 1009, "killed at {place:?}");
        host.ok(&["container", "start", "one"]);
        let found = host.run(&["container", "exec", "one", "nslookup", "one"]);
        assert!(found.out.contains(&host.address("one", "net")), "killed at {place:?}: {}{}", found.out, found.err);
        away();
    }
}
