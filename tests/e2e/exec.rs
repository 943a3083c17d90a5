//! `container exec`.

use crate::harness::{Host, binary, finish};

#[test]
fn exec_runs_as_asked_and_gives_the_exit_code() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    host.ok(&[
        "container",
        "run",
        "-d",
        "--name",
        "box",
        "-e",
        "A=of-container",
        "-w",
        "/var",
        "busybox",
        "sleep",
        "1000",
    ]);
    let exec = |flags: &[&str], script: &str| {
        let args: Vec<&str> =
            ["container", "exec"].iter().chain(flags).chain(&["box", "sh", "-c", script]).copied().collect();
        host.run(&args)
    };
    let done = exec(&[], "echo out; echo err >&2; exit 42");
    assert_eq!((done.code, done.out.as_str(), done.err.as_str()), (42, "out\n", "err\n"));
    assert_eq!(exec(&[], "pwd; echo $A").out, "/var\nof-container\n");
    assert_eq!(exec(&["-w", "/tmp", "-e", "A=mine", "-u", "65534"], "pwd; echo $A; id -u").out, "/tmp\nmine\n65534\n");
    assert_eq!(exec(&["-u", "nobody"], "id -un").out, "nobody\n");
    assert_eq!(exec(&[], "kill -9 $$").code, 137);
    let done = host.run(&["container", "exec", "box", "nosuch"]);
    assert_eq!(done.code, 127, "{}", done.err);
    assert!(done.err.contains("exec: \"nosuch\": executable file not found in $PATH"), "{}", done.err);
    let done = host.run(&["container", "exec", "box", "/etc"]);
    assert_eq!(done.code, 126, "{}", done.err);
}

#[test]
fn exec_takes_piped_input_and_closes_it() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    host.ok(&["container", "run", "-d", "--name", "box", "busybox", "sleep", "1000"]);
    let input = b"line\n".repeat(100_000);
    let done = host.feed(&["container", "exec", "-i", "box", "sh", "-c", "wc -c; echo rest"], &input);
    assert_eq!((done.code, done.out.trim_start()), (0, "500000\nrest\n"), "{}", done.err);
    let done = host.feed(&["container", "exec", "box", "cat"], b"not for it");
    assert_eq!((done.code, done.out.as_str()), (0, ""));
}

#[test]
fn exec_can_have_a_terminal() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    host.ok(&["container", "run", "-d", "--name", "box", "busybox", "sleep", "1000"]);
    let line = format!("{} container exec -it box sh -c 'tty; exit 6'", binary().display());
    let mut command = host.other("script", &["-qec", &line, "/dev/null"]);
    command.env("TERM", "xterm");
    let done = finish(command, b"", "script");
    assert_eq!(done.code, 6, "{}{}", done.out, done.err);
    assert!(done.out.contains("/dev/pts/"), "{}", done.out);
}

#[test]
fn what_exec_starts_is_inside_the_container_and_its_limits() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    host.ok(&[
        "container",
        "run",
        "-d",
        "--name",
        "box",
        "--cap-drop",
        "ALL",
        "--pids-limit",
        "10",
        "busybox",
        "sleep",
        "1000",
    ]);
    host.ok(&["container", "exec", "-d", "box", "sleep", "999"]);
    let seen = host.ok(&["container", "exec", "box", "ps", "-o", "pid,args"]);
    assert!(seen.contains("1 sleep 1000") && seen.contains("sleep 999"), "{seen}");
    let status =
        host.ok(&["container", "exec", "box", "grep", "-E", "CapEff|Seccomp:|NoNewPrivs", "/proc/self/status"]);
    assert!(status.contains("0000000000000000") && status.contains("Seccomp:\t2"), "{status}");
    let done = host.run(&[
        "container",
        "exec",
        "box",
        "sh",
        "-c",
        "for i in 1 2 3 4 5 6 7 8 9 10 11 12; do sleep 900 >/dev/null 2>&1 & done",
    ]);
    assert!(done.err.contains("can't fork"), "{}{}", done.out, done.err);
    host.ok(&["container", "stop", "-t", "0", "box"]);
    let said = host.fails(1, &["container", "exec", "box", "true"]);
    assert!(said.contains("box is not running"), "{said}");
}
