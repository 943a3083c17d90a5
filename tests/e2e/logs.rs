//! `container logs`.

use std::process::Stdio;

use crate::harness::{Host, finish_child, names_in};

#[test]
fn logs_keep_both_streams_and_the_last_lines() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    host.run(&[
        "container",
        "run",
        "--name",
        "said",
        "busybox",
        "sh",
        "-c",
        "for i in 1 2 3 4 5; do echo $i; done; echo bad >&2; printf unfinished",
    ]);
    let done = host.run(&["container", "logs", "said"]);
    assert_eq!((done.out.as_str(), done.err.as_str()), ("1\n2\n3\n4\n5\nunfinished", "bad\n"));
    let done = host.run(&["container", "logs", "--tail", "3", "said"]);
    assert_eq!((done.out.as_str(), done.err.as_str()), ("5\nunfinished", "bad\n"));
    assert_eq!(host.run(&["container", "logs", "-n", "0", "said"]).out, "");
    let stamped = host.run(&["container", "logs", "-t", "said"]).out;
    let (time, text) = stamped.lines().next().unwrap().split_once(' ').unwrap();
    assert!(time.starts_with("20") && time.ends_with('Z') && text == "1", "{stamped}");
    assert_eq!(host.run(&["container", "logs", "--since", "1h", "said"]).out.lines().count(), 6);
    assert_eq!(host.run(&["container", "logs", "--until", "1h", "said"]).out, "");
    for all in [
        ["-n", "-1"],
        ["--tail", "all"],
        ["--since", ""],
        ["--since", "2020-01-01Z"],
        ["--until", "0"],
        ["--until", "-1h"],
    ] {
        let shown = host.run(&["container", "logs", all[0], all[1], "said"]);
        assert_eq!(shown.out.lines().count(), 6, "{all:?} {}", shown.err);
    }
    let said = host.fails(1, &["container", "logs", "--since", "never", "said"]);
    assert!(said.contains("never"), "{said}");
}

#[test]
fn following_misses_nothing_across_rotations() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    host.ok(&[
        "container",
        "run",
        "-d",
        "-i",
        "--name",
        "many",
        "--log-opt",
        "max-size=700k",
        "--log-opt",
        "max-file=3",
        "busybox",
        "sh",
        "-c",
        "until [ -e /go ]; do sleep 0.1; done; seq 1 20000",
    ]);
    let follow = host
        .command(&["container", "logs", "-f", "many"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    host.ok(&["container", "exec", "many", "touch", "/go"]);
    let done = finish_child(follow, b"", "logs -f");
    let lines: Vec<&str> = done.out.lines().collect();
    assert_eq!((done.code, lines.len()), (0, 20000), "{}", done.err);
    assert!(lines.iter().enumerate().all(|(index, line)| *line == (index + 1).to_string()), "a line is wrong");
    let path = host.inspect("many")["LogPath"].as_str().unwrap().to_owned();
    let files = names_in(std::path::Path::new(&path).parent().unwrap());
    let logs = files.iter().filter(|name| name.contains("json.log")).count();
    assert_eq!(logs, 3, "{files:?}");
    assert_eq!(host.ok(&["container", "logs", "many"]).lines().count(), 20000);
}

#[test]
fn a_project_s_lines_are_chosen_by_time_number_and_container() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    host.write(
        "compose.yaml",
        "services:
  a: { image: busybox, command: sh -c 'for i in 1 2 3; do echo a$$i; done', network_mode: none, scale: 2 }
  bb: { image: busybox, command: sh -c 'echo out; echo err >&2; printf half', network_mode: none }
",
    );
    host.ok(&["up", "-d"]);
    for name in ["demo-a-1", "demo-a-2", "demo-bb-1"] {
        host.until(name, "has ended", |state| state["Status"] == "exited");
    }
    let sorted = |args: &[&str]| {
        let text = host.ok(&[&["logs"], args].concat());
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    assert_eq!(sorted(&["--tail", "1", "a"]), ["a-1  | a3", "a-2  | a3"]);
    assert_eq!(sorted(&["--tail", "0"]).len(), 0);
    assert_eq!(sorted(&["--tail", "all"]).len(), 9);
    assert_eq!(sorted(&["--index", "2", "a"]), ["a-2  | a1", "a-2  | a2", "a-2  | a3"]);
    assert_eq!(sorted(&["--no-log-prefix", "bb"]), ["err", "half", "out"]);
    assert_eq!(sorted(&["bb"]), ["bb-1  | err", "bb-1  | half", "bb-1  | out"]);
    let all = host.ok(&["logs", "-t", "--no-log-prefix", "--index", "1", "a"]);
    let times: Vec<&str> = all.lines().map(|line| line.split_once(' ').unwrap().0).collect();
    assert!(times.is_sorted() && times.len() == 3, "{all}");
    // The second line's time: what is before it, what is after it.
    let of_one = |flag: &str| sorted(&["--no-log-prefix", "--index", "1", flag, times[1], "a"]).len();
    assert!((2..=3).contains(&of_one("--since")), "{all}");
    assert!((2..=3).contains(&of_one("--until")), "{all}");
    assert_eq!(sorted(&["--since", "1h"]).len(), 9);
    assert_eq!(sorted(&["--until", "1h"]).len(), 0);
    assert!(host.fails(1, &["logs", "nosuch"]).contains("no such service: nosuch"));
    host.ok(&["down"]);
}

#[test]
fn both_outputs_come_in_one_order_where_they_go_to_one_place() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    let script = "for i in $(seq 300); do echo out $i; echo err $i >&2; done";
    host.run(&["container", "run", "--name", "both", "busybox", "sh", "-c", script]);
    let path = host.inspect("both")["LogPath"].as_str().unwrap().to_owned();
    let records = std::fs::read_to_string(path).unwrap();
    let text =
        |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()["log"].as_str().unwrap().to_owned();
    let logged: String = records.lines().map(text).collect();
    let file = std::fs::File::create(host.path().join("shown")).unwrap();
    let mut command = host.command(&["container", "logs", "both"]);
    command.stdout(file.try_clone().unwrap()).stderr(file);
    assert!(command.status().unwrap().success());
    assert_eq!(std::fs::read_to_string(host.path().join("shown")).unwrap(), logged);
}

#[test]
fn lines_of_several_containers_come_in_the_order_of_time() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    host.write(
        "compose.yaml",
        "services:
  a: { image: busybox, command: sh -c 'for i in $$(seq 40); do echo $$i; sleep 0.01; done', network_mode: none, scale: 2 }
  b: { image: busybox, command: sh -c 'for i in $$(seq 40); do echo $$i; sleep 0.01; done', network_mode: none }
",
    );
    host.ok(&["up"]);
    let shown = host.ok(&["logs", "-t", "--no-log-prefix"]);
    let times: Vec<&str> = shown.lines().filter_map(|line| line.split(' ').next()).collect();
    assert!(times.len() == 120 && times.is_sorted(), "{shown}");
    assert_eq!(host.ok(&["logs", "-f", "-t", "--no-log-prefix"]), shown);
    host.ok(&["down"]);
}

/// Kilobytes of memory that are its own.
fn own_memory(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn a_flood_is_followed_in_bounded_memory() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    host.ok(&["container", "run", "-d", "--name", "flood", "busybox", "yes", &"0123456789".repeat(20)]);
    let mut follow = host.command(&["container", "logs", "-f", "flood"]);
    let mut follow = follow.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut output = follow.stdout.take().unwrap();
    let mut buffer = vec![0; 1 << 16];
    let mut seen = 0;
    while seen < 40 << 20 {
        seen += std::io::Read::read(&mut output, &mut buffer).unwrap();
    }
    let memory = own_memory(follow.id());
    follow.kill().unwrap();
    follow.wait().unwrap();
    assert!(memory < 16 << 10, "{memory} kB");
    host.ok(&["container", "rm", "-f", "flood"]);
}
