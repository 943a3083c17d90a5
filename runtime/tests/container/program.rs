//! Finding and starting the program, and how it ends.

use std::io::{Read as _, Write as _};

use crate::support::Container;

#[test]
fn output_exit_code_environment_and_names() {
    let ended = Container::script("id; hostname; pwd; env | sort; exit 7").with(|c| c.env = vec!["A=b c".into()]).run();
    assert_eq!(ended.code, 7);
    let expected = "uid=0(root) gid=0(root) groups=0(root)\nbox\n/\nA=b c\nHOME=/root\nHOSTNAME=box\n\
        PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\nPWD=/\nSHLVL=1\n";
    assert_eq!(ended.output, expected);
}

#[test]
fn a_signal_s_end_is_told() {
    assert_eq!(Container::script("kill -9 $$").with(|c| c.init = true).run().code, 137);
    // PID 1 is not killed by its own signals; one from outside it is.
    let container = Container::new(&["sleep", "60"]);
    let running = container.start();
    container.cgroup().kill_all().unwrap();
    assert_eq!(running.wait().code, 137);
}

#[test]
fn programs_that_cannot_run_are_told_as_docker_tells_them() {
    for (name, code, reason) in [
        ("nosuch", 127, "exec: \"nosuch\": executable file not found in $PATH"),
        ("/nosuch", 127, "exec: \"/nosuch\": stat /nosuch: no such file or directory"),
        ("/bin", 126, "exec: \"/bin\": is a directory: permission denied"),
        ("/bin/noexec", 126, "exec: \"/bin/noexec\": permission denied"),
        ("noexec", 127, "exec: \"noexec\": executable file not found in $PATH"),
        ("garbage", 255, "exec /bin/garbage: exec format error"),
        ("", 127, "exec: \"\": executable file not found in $PATH"),
    ] {
        for init in [false, true] {
            let container = Container::new(&[name]).with(|c| c.init = init);
            let cgroup = container.cgroup();
            let ended = container.start().wait();
            assert_eq!((ended.code, ended.reason().as_str()), (code, reason), "init: {init}");
            assert!(!cgroup.exists(), "{name}: the cgroup is left");
            assert!(!container.path("state").join(&container.config.id).exists());
        }
    }
}

#[test]
fn the_working_directory_is_made_and_stays_inside() {
    let at = |cwd: &str, user: &str| {
        let (cwd, user) = (cwd.to_owned(), user.to_owned());
        Container::new(&["stat", "-c", "%n %a %u", "."]).with(|c| (c.cwd, c.user) = (cwd, user)).run()
    };
    assert_eq!(at("/new/deep", "1000").ok(), ". 755 0\n");
    assert_eq!(at("/dev/shm/new", "").ok(), ". 755 0\n");
    assert!(at("/etc/passwd", "").reason().contains("not a directory"));
    assert!(at("relative", "").reason().contains("needs to be an absolute path"));
    // CVE-2024-21626: a leaked descriptor of the host as working directory.
    for number in 3..64 {
        let ended = at(&format!("/proc/self/fd/{number}"), "");
        assert_eq!(ended.code, 125, "{number}: {ended:?}");
    }
}

#[test]
fn exactly_three_descriptors_are_open() {
    // The fourth is ls's own, on the directory.
    let output = Container::new(&["ls", "/proc/self/fd"]).run().ok();
    assert_eq!(output, "0\n1\n2\n3\n");
    let script = "i=0; while [ $i -lt 256 ]; do [ -e /proc/$$/fd/$i ] && echo $i; i=$((i+1)); done; true";
    assert_eq!(Container::script(script).run().ok(), "0\n1\n2\n");
    let one = "ls /proc/1/fd | sort";
    assert_eq!(Container::script(one).with(|c| c.init = true).run().ok(), "0\n1\n2\n");
}

#[test]
fn init_reaps_and_passes_signals_on() {
    let script = "cat /proc/1/comm; trap 'echo got TERM; exit 3' TERM; (sleep 0.01 &) ; echo ready; while :; do sleep 0.05; done";
    let container = Container::script(script).with(|c| c.init = true);
    let mut running = container.start();
    running.expect("ready");
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(running.pid().cast_signed()).unwrap(),
        rustix::process::Signal::TERM,
    )
    .unwrap();
    let ended = running.wait();
    assert_eq!((ended.code, ended.output.as_str()), (3, "got TERM\n"));
}

#[test]
fn a_terminal_of_the_container_s_own() {
    for init in [false, true] {
        let script =
            "tty; ls -l /dev/console >/dev/null && stat -c %u $(tty); echo $TERM; read line; echo \"<$line>\"; exit 4";
        let container = Container::script(script).with(|c| (c.tty, c.user, c.init) = (true, "1000".into(), init));
        let mut running = container.start();
        let mut console = running.console();
        console.write_all(b"hello\n").unwrap();
        let mut output = Vec::new();
        // EIO is the end of a terminal that nobody has open any more.
        let _ = console.read_to_end(&mut output);
        let output = String::from_utf8_lossy(&output).into_owned();
        assert_eq!(running.wait().code, 4, "{output}");
        for part in ["/dev/pts/0\r\n", "1000\r\n", "xterm\r\n", "<hello>\r\n"] {
            assert!(output.contains(part), "{part:?} in {output:?}");
        }
    }
}

#[test]
fn users_by_name_and_number() {
    for (user, groups, expected) in [
        ("", &[][..], "uid=0(root) gid=0(root) groups=0(root)"),
        ("alice", &[], "uid=1000(alice) gid=1000(alice) groups=1000(alice),2000(extra)"),
        ("1000:0", &[], "uid=1000(alice) gid=0(root) groups=0(root)"),
        ("4242", &[], "uid=4242 gid=0(root) groups=0(root)"),
        ("4242:extra", &["33", "alice"], "uid=4242 gid=2000(extra) groups=33,1000(alice),2000(extra)"),
    ] {
        let groups = groups.iter().map(ToString::to_string).collect();
        let output = Container::new(&["id"]).with(|c| (c.user, c.group_add) = (user.into(), groups)).run().ok();
        assert_eq!(output.trim(), expected, "{user}");
    }
    for (user, reason) in [
        ("nobody", "unable to find user nobody: no matching entries in passwd file"),
        ("0:nogroup", "unable to find group nogroup: no matching entries in group file"),
        ("4294967296", "4294967296"),
        ("-1", "-1"),
    ] {
        let ended = Container::new(&["id"]).with(|c| c.user = user.into()).run();
        assert!(ended.reason().contains(reason), "{ended:?}");
        assert_eq!(ended.code, 125);
    }
}

#[test]
fn a_second_start_of_the_same_container() {
    let container = Container::script("echo x >>/count; wc -l </count");
    for expected in ["1\n", "2\n"] {
        assert_eq!(container.start().wait().ok(), expected);
    }
    let busy = Container::new(&["sleep", "60"]);
    let running = busy.start();
    let second = busy.start().wait();
    assert!(second.reason().contains("still has 1 processes"), "{second:?}");
    busy.cgroup().kill_all().unwrap();
    running.wait();
}

#[test]
fn nothing_is_left() {
    for args in [&["true"][..], &["nosuch"], &["sleep", "60"]] {
        let container = Container::new(args);
        let running = container.start();
        container.cgroup().kill_all().unwrap();
        running.wait();
        container.cgroup().remove().unwrap();
        let (id, directory) = (container.config.id.clone(), container.path(""));
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(directory.to_str().unwrap()), "{args:?}: a mount");
        for hierarchy in std::fs::read_dir("/sys/fs/cgroup").unwrap() {
            let path = hierarchy.unwrap().path().join(container.config.cgroup_path.trim_start_matches('/'));
            assert!(!path.exists(), "{args:?}: {}", path.display());
        }
        for process in std::fs::read_dir("/proc").unwrap() {
            let line = std::fs::read_to_string(process.unwrap().path().join("cmdline")).unwrap_or_default();
            assert!(!line.contains(directory.to_str().unwrap()), "{args:?}: {line}");
        }
        let sockets = std::fs::read_to_string("/proc/net/unix").unwrap();
        assert!(!sockets.contains(&id), "{args:?}: a socket");
    }
}
