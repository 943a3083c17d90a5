//! `run`, `attach` and `wait`.

use std::io::{Read as _, Write as _};
use std::process::{Child, Stdio};

use crate::harness::{Done, Host, binary, eventually};

const STACK: &str = "services:
  web:
    image: busybox
    command: sleep 1000
    depends_on: [db]
    container_name: fixed
    environment: { A: file, B: file }
    ports: [\"${PORT:-}:80\"]
    volumes: [/anonymous]
    stop_grace_period: 0s
  db: { image: busybox, command: sleep 1000, stop_grace_period: 0s }
  tool: { image: busybox, entrypoint: [echo, hello], command: [you], profiles: [tools], working_dir: /tmp }
";

fn stack() -> Option<Host> {
    let host = Host::new(&["busybox"])?;
    host.write("compose.yaml", STACK);
    Some(host)
}

#[test]
fn run_starts_what_the_service_needs_and_gives_the_exit_code() {
    let Some(host) = stack() else { return };
    host.write("e.env", "A=envfile\nC=\"of ${A}\"\n");
    let done =
        host.run(&["run", "-e", "B=flag", "--env-from-file", "e.env", "web", "sh", "-c", "echo $A/$B/$C; exit 7"]);
    assert_eq!((done.code, done.out.as_str()), (7, "envfile/flag/of envfile\n"), "{}", done.err);
    assert!(host.ok(&["ps", "--services"]).contains("db"));
    let all = host.lines(&["ps", "-a", "--format", "json"]);
    let kept: Vec<&str> =
        all.iter().filter_map(|one| one["Name"].as_str()).filter(|name| name.contains("-run-")).collect();
    let [name] = kept.as_slice() else { panic!("{all:?}") };
    assert!(name.starts_with("demo-web-run-") && name.len() == "demo-web-run-".len() + 12, "{name}");
    let labels = host.inspect(name)["Config"]["Labels"].take();
    assert_eq!(labels["com.docker.compose.oneoff"], "True");
    assert!(
        labels["com.docker.compose.slug"].as_str().unwrap().starts_with(&name["demo-web-run-".len()..]),
        "{labels}"
    );
    assert!(labels.get("com.docker.compose.container-number").is_none(), "{labels}");
    host.ok(&["down"]);
}

#[test]
fn run_rm_takes_the_container_and_its_anonymous_volumes_away() {
    let Some(host) = stack() else { return };
    let before = host.ok(&["volume", "ls", "-q"]);
    host.ok(&["run", "--rm", "--no-deps", "web", "touch", "/anonymous/x"]);
    assert!(host.ids().is_empty(), "{:?}", host.ids());
    assert_eq!(host.ok(&["volume", "ls", "-q"]), before);
    let done = host.run(&["run", "--rm", "--no-deps", "web", "nosuch"]);
    assert_eq!(done.code, 1, "{}", done.err);
    assert!(done.err.contains("\"nosuch\": executable file not found"), "{}", done.err);
    assert!(host.ids().is_empty(), "{:?}", host.ids());
    host.ok(&["down"]);
}

#[test]
fn flags_of_run_replace_what_the_service_says() {
    let Some(host) = stack() else { return };
    let run = |args: &[&str]| host.ok(&[&["run", "--rm", "--no-deps"], args].concat());
    assert_eq!(run(&["tool"]), "hello you");
    assert_eq!(run(&["tool", "there"]), "hello there");
    assert_eq!(run(&["--entrypoint", "sh -c", "tool", "pwd; id -u"]), "/tmp\n0");
    assert_eq!(run(&["--entrypoint", "pwd", "tool"]), "/tmp");
    assert_eq!(run(&["-w", "/var", "-u", "65534", "--entrypoint", "sh", "tool", "-c", "pwd; id -u"]), "/var\n65534");
    let mount = format!("{}:/here:ro", host.project().display());
    assert_eq!(run(&["-v", &mount, "--entrypoint", "ls", "tool", "/here"]), "compose.yaml");
    let caps =
        ["--cap-drop", "ALL", "--cap-add", "NET_RAW", "--entrypoint", "grep", "tool", "CapEff", "/proc/self/status"];
    assert_eq!(run(&caps), "CapEff:\t0000000000002000");
    assert!(host.fails(1, &["run", "nosuch"]).contains("no such service: nosuch"));
    let fed = host.feed(&["run", "--rm", "-T", "--entrypoint", "cat", "tool", "-"], b"typed");
    assert_eq!(fed.out, "typed");
    let unfed = host.feed(&["run", "--rm", "-i=false", "--entrypoint", "cat", "tool", "-"], b"typed");
    assert_eq!(unfed.out, "");
    host.ok(&["down"]);
}

#[test]
fn run_detached_stays_apart_from_the_replicas() {
    let Some(host) = stack() else { return };
    let id = host.ok(&["run", "-d", "--name", "extra", "-l", "role=task", "web", "sleep", "1000"]);
    let inspected = host.inspect("extra");
    assert_eq!(inspected["Id"], id.as_str());
    assert_eq!(inspected["Config"]["Labels"]["role"], "task");
    assert_eq!(inspected["HostConfig"]["PortBindings"], serde_json::json!({}));
    let aliases = &inspected["NetworkSettings"]["Networks"]["demo_default"]["Aliases"];
    assert_eq!(*aliases, serde_json::json!(["extra"]), "it has no names of the service");
    assert!(host.fails(1, &["run", "--name", "extra", "web"]).contains("is already in use"));
    host.ok(&["up", "-d"]);
    assert_eq!(host.ok(&["exec", "-T", "web", "hostname"]), host.inspect("fixed")["Id"].as_str().unwrap()[..12]);
    assert!(!host.ok(&["ps"]).contains("extra"), "only shown with -a");
    assert!(host.ok(&["ps", "-a"]).contains("extra"));
    host.ok(&["down"]);
}

/// A command at a terminal of its own, typed to once it has said something.
pub struct Terminal {
    child: Child,
    seen: String,
}

impl Terminal {
    pub fn new(host: &Host, words: &str) -> Self {
        Self::with(host, words, &[])
    }

    /// The same, with variables in its environment.
    pub fn with(host: &Host, words: &str, variables: &[(&str, &str)]) -> Self {
        let line = format!("{} {words}", binary().display());
        let mut command = host.other("script", &["-qec", &line, "/dev/null"]);
        command
            .env("TERM", "dumb")
            .envs(variables.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        Self { child: command.spawn().unwrap(), seen: String::new() }
    }

    pub fn expect(&mut self, text: &str) {
        let mut byte = [0];
        while !self.seen.contains(text) {
            let count = self.child.stdout.as_mut().unwrap().read(&mut byte).unwrap();
            assert!(count > 0, "{text:?} did not come: {}", self.seen);
            self.seen.push(char::from(byte[0]));
        }
    }

    /// All that it has said so far, and that was read.
    pub fn seen(&self) -> &str {
        &self.seen
    }

    pub fn type_in(&mut self, text: &str) {
        self.child.stdin.as_mut().unwrap().write_all(text.as_bytes()).unwrap();
    }

    pub fn end(self) -> Done {
        crate::harness::finish_child(self.child, b"", "script")
    }
}

#[test]
fn a_terminal_is_left_with_keys_and_joined_again() {
    let Some(host) = stack() else { return };
    host.write(
        "compose.yaml",
        "services: { shell: { image: busybox, command: sh, tty: true, stdin_open: true, stop_grace_period: 0s } }\n",
    );
    let mut first = Terminal::new(&host, "run --name kept shell");
    first.expect("/ #");
    first.type_in("A=remembered; tty\n");
    first.expect("/dev/pts/0");
    first.type_in("\x10\x11");
    assert_eq!(first.end().code, 0);
    assert_eq!(host.inspect("kept")["State"]["Status"], "running");
    host.ok(&["up", "-d"]);
    let mut second = Terminal::new(&host, "attach --detach-keys x shell");
    second.type_in("A=of-the-second; echo it is $A\n");
    second.expect("it is of-the-second");
    second.type_in("x");
    assert_eq!(second.end().code, 1, "left: read escape sequence");
    let mut third = Terminal::new(&host, "exec shell sh -c 'echo up; read a; echo told > /told; sleep 1000'");
    third.expect("up");
    third.type_in("\x10\x11");
    assert_eq!(third.end().code, 1);
    assert!(host.ok(&["top", "shell"]).contains("read a"), "what was left runs on");
    let mut fourth = Terminal::new(&host, "attach shell");
    fourth.type_in("echo still $A; exit 5\n");
    fourth.expect("still of-the-second");
    assert_eq!(fourth.end().code, 5);
    host.ok(&["container", "rm", "-f", "kept"]);
    assert!(host.fails(1, &["attach", "shell"]).contains("service \"shell\" is not running"));
    host.ok(&["down"]);
}

#[test]
fn wait_tells_the_exit_codes_and_may_take_the_project_down() {
    let Some(host) = stack() else { return };
    let text = "services:
  job: { image: busybox, command: sh -c 'read x < /go; exit 4', volumes: [./fifo:/go] }
  other: { image: busybox, command: sleep 1000, stop_grace_period: 0s }
";
    host.write("compose.yaml", text);
    let fifo = host.project().join("fifo");
    crate::harness::tool("mkfifo", &[fifo.to_str().unwrap()]);
    host.ok(&["up", "-d"]);
    let id = host.inspect("demo-job-1")["Id"].as_str().unwrap().to_owned();
    let mut command = host.command(&["wait", "--down-project", "job", "other"]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // It waits for those that run when it begins.
    let fds = std::path::PathBuf::from(format!("/proc/{}/fd", child.id()));
    eventually("it watches", || {
        let links = std::fs::read_dir(&fds).into_iter().flatten().flatten();
        let watches = |entry: std::fs::DirEntry| {
            std::fs::read_link(entry.path()).is_ok_and(|to| to.ends_with("anon_inode:inotify"))
        };
        if links.into_iter().any(watches) { Ok(()) } else { Err("not yet".into()) }
    });
    std::fs::write(&fifo, "now\n").unwrap();
    let done = crate::harness::finish_child(child, b"", "wait");
    assert_eq!((done.code, done.out), (4, format!("container \"{id}\" exited with status code 4\n")), "{}", done.err);
    eventually("all is gone", || if host.ids().is_empty() { Ok(()) } else { Err(format!("{:?}", host.ids())) });
    assert!(host.fails(1, &["wait", "job"]).contains("no containers for project \"demo\""));
}

#[test]
fn a_signal_reaches_the_command_that_runs() {
    let Some(host) = stack() else { return };
    let script = "trap 'echo asked; exit 9' TERM; echo ready; while :; do sleep 0.1; done";
    let mut command = host.command(&["run", "--rm", "--no-deps", "web", "sh", "-c", script]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut ready = [0; 6];
    child.stdout.as_mut().unwrap().read_exact(&mut ready).unwrap();
    crate::harness::signal(child.id(), "TERM");
    let done = crate::harness::finish_child(child, b"", "run");
    assert_eq!((done.code, done.out.as_str()), (9, "asked\n"), "{}", done.err);
    host.ok(&["down"]);
}

#[test]
fn run_waits_for_what_its_service_depends_on() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    let file = |job: &str| {
        format!(
            r#"
services:
  web:
    image: busybox
    volumes: [shared:/shared]
    depends_on:
      db: {{condition: service_healthy}}
      job: {{condition: service_completed_successfully}}
  db:
    image: busybox
    stop_grace_period: 0s
    command: sh -c 'sleep 1; touch /ready; sleep 1000'
    healthcheck: {{test: 'test -e /ready', interval: 1h}}
  job: {{image: busybox, volumes: [shared:/shared], command: "sh -c 'sleep 1; {job}'"}}
volumes: {{shared: }}
"#
        )
    };
    host.write("compose.yaml", &file("echo done > /shared/job"));
    let done = host.run(&["run", "--rm", "-T", "web", "cat", "/shared/job"]);
    assert_eq!((done.code, done.out.as_str()), (0, "done\n"), "{}", done.err);
    assert_eq!(host.inspect("demo-db-1")["State"]["Health"]["Status"], "healthy");
    host.write("compose.yaml", &file("exit 3"));
    let said = host.fails(1, &["run", "--rm", "-T", "web", "true"]);
    assert!(said.contains("service \"job\" didn't complete successfully: exit 3"), "{said}");
    host.ok(&["run", "--rm", "-T", "--no-deps", "web", "true"]);
    host.ok(&["down", "-v"]);
}
