//! One more program in a running container.

use std::io::{Read as _, Write as _};

use crate::support::{Container, Running};
use umiak_runtime::exec::Exec;

fn sleeping() -> (Container, Running) {
    let container = Container::new(&["sleep", "60"]).with(|c| c.env = vec!["A=1".into(), "B=2".into()]);
    let running = container.start();
    (container, running)
}

fn request(args: &[&str]) -> Exec {
    Exec { args: args.iter().map(ToString::to_string).collect(), ..Exec::default() }
}

fn end(container: &Container, running: Running) {
    container.cgroup().kill_all().unwrap();
    assert_eq!(running.wait().code, 137);
}

#[test]
fn it_runs_inside_with_the_container_s_rights() {
    let (container, running) = sleeping();
    let script = "echo $A $B $C; pwd; ps | grep -c 'sleep 60'; cat /proc/1/comm; ulimit -Sn; cat /proc/self/cgroup | grep pids; \
        grep -E '^(Cap|NoNew|Seccomp:)' /proc/self/status | cut -f2; exit 9";
    let asked = Exec { env: vec!["B=3".into(), "C=4".into()], cwd: "/tmp".into(), ..request(&["sh", "-c", script]) };
    let ended = container.exec(&running, &asked).wait();
    assert_eq!(ended.code, 9, "{ended:?}");
    let lines: Vec<_> = ended.output.lines().collect();
    assert_eq!(lines[..2], ["1 3 4", "/tmp"]);
    assert_eq!(lines[3..5], ["sleep", "1024"]);
    assert!(ended.output.contains(&container.config.id) || ended.output.contains("pids:/"), "{ended:?}");
    let none = "0000000000000000";
    let docker = "00000000a80425fb";
    assert_eq!(lines[lines.len() - 7..], [none, docker, docker, docker, none, "0", "2"]);
    let asked = Exec { privileged: true, ..request(&["grep", "CapEff", "/proc/self/status"]) };
    assert!(!container.exec(&running, &asked).wait().ok().contains(docker));
    end(&container, running);
}

#[test]
fn users_in_every_form() {
    // CVE-2026-30892: a form that was not understood ran as root.
    let (container, running) = sleeping();
    let run = |user: &str| {
        let script = "id -u; id -g; grep CapEff /proc/self/status | cut -f2";
        let asked = Exec { user: user.into(), ..request(&["sh", "-c", script]) };
        container.exec(&running, &asked).wait()
    };
    for (user, uid, gid) in [
        ("", "0", "0"),
        ("1", "1", "0"),
        ("1:", "1", "0"),
        (":1", "0", "1"),
        ("1000", "1000", "1000"),
        ("alice", "1000", "1000"),
        ("alice:extra", "1000", "2000"),
        ("1:2", "1", "2"),
    ] {
        let output = run(user).ok();
        let caps = if uid == "0" { "00000000a80425fb" } else { "0000000000000000" };
        assert_eq!(output.lines().collect::<Vec<_>>(), [uid, gid, caps], "{user:?}");
    }
    // Go's strconv reads 01 and +1 as the number 1.
    for user in ["01", "+1"] {
        let ended = run(user);
        assert!(ended.error.is_some() || ended.output.starts_with("1\n"), "{user:?}: {ended:?}");
    }
    for user in ["0x1", "1 ", "nosuch", "4294967295", "4294967296", "-1", "2147483648"] {
        let ended = run(user);
        assert_eq!(ended.code, 125, "{user:?}: {ended:?}");
        assert!(ended.error.is_some(), "{user:?}: {ended:?}");
    }
    end(&container, running);
}

#[test]
fn what_cannot_run_is_told_and_the_container_can_still_end() {
    let (container, running) = sleeping();
    for (name, code, reason) in [
        ("nosuch", 127, "exec: \"nosuch\": executable file not found in $PATH"),
        ("/bin/noexec", 126, "exec: \"/bin/noexec\": permission denied"),
        ("garbage", 255, "exec /bin/garbage: exec format error"),
    ] {
        let ended = container.exec(&running, &request(&[name])).wait();
        assert_eq!((ended.code, ended.reason().as_str()), (code, reason));
    }
    for number in 3..32 {
        let asked = Exec { cwd: format!("/proc/self/fd/{number}"), ..request(&["pwd"]) };
        assert_eq!(container.exec(&running, &asked).wait().code, 125, "{number}");
    }
    let asked = Exec { cwd: "/nosuch".into(), ..request(&["pwd"]) };
    assert!(container.exec(&running, &asked).wait().reason().contains("no such file or directory"));
    end(&container, running);
    let bundle: Vec<_> = std::fs::read_dir(container.path("bundle")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(!bundle.iter().any(|name| name.to_string_lossy().starts_with("process-")), "{bundle:?}");
}

#[test]
fn a_terminal_of_its_own() {
    let (container, running) = sleeping();
    let asked = Exec {
        tty: true,
        user: "1000".into(),
        ..request(&["sh", "-c", "tty; read x; echo \"<$x>\"; stat -c %u $(tty)"])
    };
    let mut program = container.exec(&running, &asked);
    let mut console = program.console();
    console.write_all(b"hi\n").unwrap();
    let mut output = Vec::new();
    let _ = console.read_to_end(&mut output);
    let output = String::from_utf8_lossy(&output).into_owned();
    assert_eq!(program.wait().code, 0);
    for part in ["/dev/pts/0\r\n", "<hi>\r\n", "1000\r\n"] {
        assert!(output.contains(part), "{part:?} in {output:?}");
    }
    end(&container, running);
}

#[test]
fn a_container_that_has_ended_runs_nothing() {
    let (container, running) = sleeping();
    container.cgroup().kill_all().unwrap();
    let ended = container.exec(&running, &request(&["true"])).wait();
    assert_ne!(ended.code, 0, "{ended:?}");
    running.wait();
}

#[test]
fn exactly_three_descriptors_are_open() {
    let (container, running) = sleeping();
    let script = "i=0; while [ $i -lt 256 ]; do [ -e /proc/$$/fd/$i ] && echo $i; i=$((i+1)); done; true";
    assert_eq!(container.exec(&running, &request(&["sh", "-c", script])).wait().ok(), "0\n1\n2\n");
    end(&container, running);
}
