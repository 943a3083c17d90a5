//! Single containers: `container run` and what is done to its container.

use crate::harness::{Host, cgroups_of, eventually, finish_child, names_in};
use std::process::Stdio;

#[test]
fn run_gives_both_outputs_and_the_exit_code() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    let done = host.run(&["container", "run", "--rm", "busybox", "sh", "-c", "echo out; echo err >&2; exit 7"]);
    assert_eq!((done.code, done.out.as_str(), done.err.as_str()), (7, "out\n", "err\n"));
    // as in Docker, a program may look whether it is in a container
    let marker = ["container", "run", "--name", "marked", "busybox", "stat", "-c", "%s %a %U", "/.dockerenv"];
    assert_eq!(host.ok(&marker), "0 755 root");
    assert_eq!(host.ok(&["container", "diff", "marked"]), "");
    host.ok(&["container", "rm", "marked"]);
    let done = host.run(&["container", "run", "--rm", "busybox", "sh", "-c", "sh -c 'kill -9 $$'; exit $?"]);
    assert_eq!(done.code, 137);
}

#[test]
fn what_cannot_be_started_ends_with_dockers_codes_and_words() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    let said = host.fails(127, &["container", "run", "--rm", "busybox", "nosuch"]);
    assert!(said.contains("exec: \"nosuch\": executable file not found in $PATH"), "{said}");
    let said = host.fails(127, &["container", "run", "--rm", "busybox", "/nosuch"]);
    assert!(said.contains("exec: \"/nosuch\": stat /nosuch: no such file or directory"), "{said}");
    let said = host.fails(126, &["container", "run", "--rm", "busybox", "/etc"]);
    assert!(said.contains("exec: \"/etc\": is a directory: permission denied"), "{said}");
    let said = host.fails(126, &["container", "run", "--rm", "busybox", "/etc/passwd"]);
    assert!(said.contains("exec: \"/etc/passwd\": permission denied"), "{said}");
    let said = host.fails(125, &["container", "run", "--rm", "-u", "nobody-here", "busybox", "true"]);
    assert!(said.contains("unable to find user nobody-here: no matching entries in passwd file"), "{said}");
    let said = host.fails(125, &["container", "run", "--rm", "-w", "relative", "busybox", "true"]);
    assert!(said.contains("relative") && said.contains("absolute"), "{said}");
    assert!(host.ids().is_empty());
}

#[test]
fn rm_leaves_nothing() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    let short = host.ok(&["container", "run", "--rm", "-v", "/anonymous", "busybox", "hostname"]);
    assert_eq!(short.len(), 12, "{short}");
    assert_eq!(host.ok(&["container", "ls", "-aq"]), "");
    assert_eq!(host.ok(&["volume", "ls", "-q"]), "");
    let no_cgroup = |root: &str| names_in(std::path::Path::new(root)).iter().all(|id| !id.starts_with(&short));
    assert!(no_cgroup("/sys/fs/cgroup/memory/umiak") && no_cgroup("/sys/fs/cgroup/umiak"));
    // In the background the monitor alone removes it.
    let id = host.ok(&["container", "run", "-d", "--rm", "busybox", "sleep", "1000"]);
    host.ok(&["container", "kill", &id]);
    eventually(
        "the container is gone",
        || if host.ids().is_empty() { Ok(()) } else { Err(format!("{:?}", host.ids())) },
    );
    eventually("its cgroups are gone", || if cgroups_of(&id).is_empty() { Ok(()) } else { Err(id.clone()) });
}

#[test]
fn a_stopped_container_keeps_its_exit_code_and_starts_again_at_its_address() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    let script = "echo began; touch /kept; trap 'echo ended; exit 3' TERM; while :; do sleep 1 & wait $!; done";
    let id = host.ok(&["container", "run", "-d", "--name", "web", "busybox", "sh", "-c", script]);
    assert_eq!(id.len(), 64);
    eventually("it runs", || match host.ok(&["container", "logs", "web"]).as_str() {
        "began" => Ok(()),
        other => Err(other.to_owned()),
    });
    let before = host.inspect("web");
    let address = host.address("web", "bridge");
    assert_eq!(before["State"]["Status"], "running");
    host.ok(&["container", "stop", "web"]);
    let stopped = host.inspect("web");
    assert_eq!((&stopped["State"]["Status"], &stopped["State"]["ExitCode"]), (&"exited".into(), &3.into()));
    assert_eq!(stopped["State"]["Pid"], 0);
    assert_eq!(host.ok(&["container", "logs", "web"]), "began\nended");
    assert!(cgroups_of(&id).is_empty(), "a stopped container has no cgroup");
    host.ok(&["container", "start", "web"]);
    assert_eq!(host.address("web", "bridge"), address);
    host.ok(&["container", "exec", "web", "test", "-e", "/kept"]);
    let wait =
        host.command(&["container", "wait", "web"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    host.ok(&["container", "kill", "web"]);
    assert_eq!(finish_child(wait, b"", "wait").out, "137\n");
    assert_eq!(host.inspect("web")["State"]["ExitCode"], 137);
    let said = host.fails(1, &["container", "kill", "web"]);
    assert!(said.contains("web") && said.contains("is not running"), "{said}");
}

#[test]
fn a_container_that_ignores_the_stop_signal_is_killed_after_its_grace() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    host.ok(&[
        "container",
        "run",
        "-d",
        "--name",
        "deaf",
        "--init",
        "busybox",
        "sh",
        "-c",
        "trap '' TERM; while :; do sleep 1; done",
    ]);
    host.ok(&["container", "stop", "-t", "0", "deaf"]);
    assert_eq!(host.inspect("deaf")["State"]["ExitCode"], 137);
    host.ok(&[
        "container",
        "run",
        "-d",
        "--name",
        "int",
        "--stop-signal",
        "SIGUSR1",
        "busybox",
        "sh",
        "-c",
        "trap 'exit 4' USR1; echo ready; while :; do sleep 1 & wait $!; done",
    ]);
    eventually("it is ready", || {
        if host.ok(&["container", "logs", "int"]) == "ready" { Ok(()) } else { Err("not yet".into()) }
    });
    host.ok(&["container", "stop", "int"]);
    assert_eq!(host.inspect("int")["State"]["ExitCode"], 4);
}

#[test]
fn rm_refuses_what_runs_unless_forced() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    host.ok(&["container", "run", "-d", "--name", "one", "busybox", "sleep", "1000"]);
    let said = host.fails(1, &["container", "rm", "one"]);
    assert!(said.contains("cannot remove container \"one\": container is running"), "{said}");
    assert_eq!(host.ok(&["container", "rm", "-f", "one"]), "one");
    let said = host.fails(1, &["container", "rm", "one"]);
    assert!(said.contains("No such container: one"), "{said}");
}

#[test]
fn a_taken_name_is_refused_and_says_by_whom() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    let id = host.ok(&["container", "run", "-d", "--name", "mine", "busybox", "sleep", "1000"]);
    let said = host.fails(125, &["container", "run", "--name", "mine", "busybox", "true"]);
    assert!(said.contains("The container name \"/mine\" is already in use") && said.contains(&id), "{said}");
    assert_eq!(host.ids().len(), 1, "nothing half made stays");
    host.ok(&["container", "rm", "-f", "mine"]);
    host.ok(&["container", "run", "--rm", "--name", "mine", "busybox", "true"]);
}

#[test]
fn inspect_and_ls_show_what_was_asked_for() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    let id = host.ok(&[
        "container",
        "run",
        "-d",
        "--name",
        "shown",
        "-e",
        "A=1",
        "-l",
        "k=v",
        "-h",
        "box",
        "-w",
        "/tmp",
        "-u",
        "65534:65534",
        "--cap-drop",
        "ALL",
        "--read-only",
        "--shm-size",
        "1m",
        "--ulimit",
        "nofile=100:200",
        "--sysctl",
        "net.ipv4.ip_default_ttl=33",
        "--add-host",
        "other:10.9.8.7",
        "--pids-limit",
        "50",
        "busybox",
        "sleep",
        "1000",
    ]);
    let shown = host.inspect("shown");
    assert_eq!(shown["Id"], id.as_str());
    assert_eq!(shown["Name"], "/shown");
    assert_eq!(shown["Config"]["Hostname"], "box");
    assert_eq!(shown["Config"]["WorkingDir"], "/tmp");
    assert_eq!(shown["Config"]["Labels"]["k"], "v");
    assert_eq!(shown["Config"]["Cmd"], serde_json::json!(["sleep", "1000"]));
    assert!(shown["Config"]["Env"].as_array().unwrap().contains(&"A=1".into()));
    assert_eq!(shown["HostConfig"]["ReadonlyRootfs"], true);
    assert_eq!(shown["HostConfig"]["PidsLimit"], 50);
    let inside = |command: &str| host.ok(&["container", "exec", "shown", "sh", "-c", command]);
    assert_eq!(inside("hostname; pwd; id -u; id -g; echo $A"), "box\n/tmp\n65534\n65534\n1");
    assert_eq!(inside("ulimit -Sn; ulimit -Hn; cat /proc/sys/net/ipv4/ip_default_ttl"), "100\n200\n33");
    assert!(inside("cat /etc/hosts").contains("10.9.8.7\tother"));
    assert!(inside("grep CapEff /proc/self/status").ends_with("0000000000000000"));
    assert!(inside("touch /x 2>&1; true").contains("Read-only file system"));
    assert!(inside("df -k /dev/shm | tail -1").contains("1024"));
    let listed = host.lines(&["container", "ls", "--format", "json"]);
    assert_eq!((listed.len(), &listed[0]["Names"], &listed[0]["State"]), (1, &"shown".into(), &"running".into()));
    let table = host.ok(&["container", "ls"]);
    assert!(
        table.starts_with("CONTAINER ID") && table.contains(&id[..12]) && table.contains("\"sleep 1000\""),
        "{table}"
    );
    assert_eq!(host.ok(&["container", "ls", "-q"]), &id[..12]);
    assert_eq!(host.inspect(&id[..8])["Id"], id.as_str());
}

#[test]
fn a_megabyte_through_stdin_comes_back_as_it_was() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    let mut state = 1_u32;
    let mut letter = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        if state.is_multiple_of(79) { b'\n' } else { b' ' + u8::try_from((state >> 16) % 95).unwrap() }
    };
    let input: Vec<u8> = (0..1 << 20).map(|_| letter()).collect();
    let done = host.feed(&["container", "run", "-i", "--rm", "busybox", "cat"], &input);
    assert_eq!((done.code, done.out.len()), (0, input.len()), "{}", done.err);
    assert!(done.out.as_bytes() == input, "the bytes differ");
    let done = host.feed(&["container", "run", "-i", "--rm", "busybox", "sh", "-c", "head -c 5; exit 9"], &input);
    assert_eq!((done.code, done.out.as_bytes()), (9, &input[..5]), "{}", done.err);
}

#[test]
fn a_terminal_is_a_terminal_inside() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    // script(1) gives the command a terminal to stand on.
    let line =
        format!("{} container run --rm -it busybox sh -c 'tty; stty size; exit 5'", crate::harness::binary().display());
    let mut command = host.other("script", &["-qec", &line, "/dev/null"]);
    command.env("TERM", "xterm");
    let done = crate::harness::finish(command, b"", "script");
    assert_eq!(done.code, 5, "{}{}", done.out, done.err);
    assert!(done.out.contains("/dev/pts/0\r\n"), "{}", done.out);
    let said = host.fails(1, &["container", "run", "--rm", "-it", "busybox", "true"]);
    assert!(said.contains("the input device is not a TTY"), "{said}");
    assert_eq!(host.ok(&["container", "run", "--rm", "-t", "busybox", "tty"]), "/dev/pts/0");
}

#[test]
fn limits_are_written_to_the_kernel_and_kept() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    let id = host.ok(&[
        "container",
        "run",
        "-d",
        "--name",
        "small",
        "-m",
        "32m",
        "--cpus",
        "0.5",
        "--pids-limit",
        "20",
        "busybox",
        "sleep",
        "1000",
    ]);
    let config = &host.inspect("small")["HostConfig"];
    assert_eq!(
        (&config["Memory"], &config["NanoCpus"], &config["PidsLimit"]),
        (&33_554_432.into(), &500_000_000.into(), &20.into())
    );
    let read = |names: &[&str]| {
        let files = cgroups_of(&id).into_iter().flat_map(|dir| names.iter().map(move |name| dir.join(name)));
        files.filter_map(|file| std::fs::read_to_string(file).ok()).map(|text| text.trim().to_owned()).next()
    };
    assert_eq!(read(&["memory.max", "memory.limit_in_bytes"]).as_deref(), Some("33554432"));
    assert_eq!(read(&["pids.max"]).as_deref(), Some("20"));
    let quota = read(&["cpu.max", "cpu.cfs_quota_us"]).unwrap();
    assert!(quota == "50000 100000" || quota == "50000", "{quota}");
    let stats = host.ok(&["container", "stats", "--no-stream", "small"]);
    assert!(stats.contains("32MiB"), "{stats}");
}

#[test]
fn a_container_over_its_memory_is_killed_and_says_so() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    let hog = [
        "container",
        "run",
        "--name",
        "hog",
        "-m",
        "16m",
        "--memory-swap",
        "16m",
        "busybox",
        "sh",
        "-c",
        "exec tail /dev/zero",
    ];
    assert_eq!(host.run(&hog).code, 137);
    let state = &host.inspect("hog")["State"];
    assert_eq!((&state["OOMKilled"], &state["ExitCode"]), (&true.into(), &137.into()));
    assert_eq!((&state["Signal"], &state["MemoryLimit"]), (&"SIGKILL".into(), &(16 << 20).into()));
    // Kernels before 5.19 do not tell the peak.
    assert!(state["MemoryPeak"].as_u64().is_none_or(|peak| peak > 8 << 20 && peak <= 16 << 20), "{state}");
    assert!(host.ok(&["container", "ls", "-a"]).contains("Exited (137) "), "the shape that scripts read");
}

#[test]
fn images_are_listed_tagged_and_kept_while_in_use() {
    let Some(host) = Host::bare() else { return };
    host.ok(&["image", "pull", "-q", "busybox:1.36"]);
    host.ok(&["image", "tag", "busybox:1.36", "mine:v1"]);
    let table = host.ok(&["image", "ls"]);
    assert!(table.starts_with("REPOSITORY") && table.contains("busybox") && table.contains("mine"), "{table}");
    let id = host.json(&["image", "inspect", "mine:v1"])[0]["Id"].as_str().unwrap().to_owned();
    assert!(id.starts_with("sha256:"), "{id}");
    host.ok(&["container", "run", "-d", "--name", "user", "mine:v1", "sleep", "1000"]);
    host.ok(&["image", "rm", "busybox:1.36"]);
    let said = host.fails(1, &["image", "rm", "mine:v1"]);
    assert!(said.contains("user"), "{said}");
    assert!(host.run(&["image", "prune", "-a", "-f"]).out.contains("0B"), "an image in use is not pruned");
    host.ok(&["container", "rm", "-f", "user"]);
    host.ok(&["image", "rm", "mine:v1"]);
    assert_eq!(host.ok(&["image", "ls", "-q"]), "");
    assert!(names_in(&host.root().join("layers")).is_empty(), "layers go with their last image");
}

#[test]
fn an_image_comes_back_from_an_archive() {
    let Some(host) = Host::bare() else { return };
    host.ok(&["image", "pull", "-q", "busybox"]);
    let id = host.json(&["image", "inspect", "busybox"])[0]["Id"].clone();
    host.ok(&["image", "save", "-o", "box.tar", "busybox"]);
    host.ok(&["image", "rm", "busybox"]);
    let said = host.ok(&["image", "load", "-i", "box.tar"]);
    assert_eq!(said, "Loaded image: busybox:latest");
    assert_eq!(host.json(&["image", "inspect", "busybox"])[0]["Id"], id);
    assert_eq!(host.ok(&["container", "run", "--rm", "--pull", "never", "busybox", "echo", "hi"]), "hi");
}
