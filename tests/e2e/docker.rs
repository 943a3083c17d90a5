//! Called as `docker` and `docker-compose`: scripts written for Docker, unchanged, against what they print there.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::harness::{Done, Host, binary, finish};
use crate::one_off::Terminal;

/// The directory of the links.
fn aliases(host: &Host) -> PathBuf {
    let dir = host.path().join("bin");
    if !dir.exists() {
        std::fs::create_dir(&dir).unwrap();
        host.ok(&["system", "install-aliases", dir.to_str().unwrap()]);
    }
    dir
}

/// A command that finds `docker` and `docker-compose` first.
pub fn with_docker(host: &Host, program: &str, args: &[&str]) -> Command {
    let mut command = host.other(program, args);
    let path = format!("{}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", aliases(host).display());
    command.env("PATH", path).stdin(Stdio::null());
    command
}

pub fn docker(host: &Host, args: &[&str]) -> Done {
    finish(with_docker(host, aliases(host).join("docker").to_str().unwrap(), args), b"", &args.join(" "))
}

fn script(name: &str, images: &[&str]) {
    let Some(host) = Host::new(images) else { return };
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/docker-scripts");
    let path = dir.join(format!("{name}.sh"));
    let expected = std::fs::read_to_string(dir.join(format!("{name}.out"))).unwrap();
    let done = finish(with_docker(&host, path.to_str().unwrap(), &[]), b"", name);
    let got = format!("{}exit {}\n", done.out, done.code);
    if got != expected {
        let pairs = expected.lines().zip(got.lines());
        let first = pairs.clone().position(|(a, b)| a != b).unwrap_or(pairs.count());
        panic!(
            "{name} differs from line {}:\n--- Docker\n{expected}\n--- here\n{got}\n--- said\n{}",
            first + 1,
            done.err
        );
    }
}

#[test]
fn script_build() {
    script("build", &["busybox"]);
}

#[test]
fn script_flags() {
    script("flags", &["busybox"]);
}

#[test]
fn script_addresses() {
    script("addresses", &["busybox"]);
}

#[test]
fn script_backup_volume() {
    script("backup-volume", &["busybox"]);
}

#[test]
fn script_cleanup_by_label() {
    script("cleanup-by-label", &["busybox"]);
}

#[test]
fn script_housekeeping() {
    script("housekeeping", &["busybox"]);
}

#[test]
fn script_logs() {
    script("logs", &["busybox"]);
}

#[test]
fn script_deploy() {
    script("deploy", &["nginx:alpine", "redis:7-alpine"]);
}

#[test]
fn script_files() {
    script("files", &["busybox"]);
}

#[test]
fn script_exit_codes() {
    script("exit-codes", &["busybox"]);
}

#[test]
fn script_networks() {
    script("networks", &["busybox"]);
}

#[test]
fn script_options() {
    script("options", &["busybox"]);
}

#[test]
fn script_wait_for_service() {
    script("wait-for-service", &["redis:7-alpine"]);
}

#[test]
fn script_restore_volume() {
    script("restore-volume", &["busybox"]);
}

#[test]
fn script_wait_for_health() {
    script("wait-for-health", &["busybox"]);
}

#[test]
fn script_ci_build() {
    script("ci-build", &["busybox"]);
}

#[test]
fn script_blue_green() {
    script("blue-green", &["busybox"]);
}

#[test]
fn script_ci_compose() {
    script("ci-compose", &["busybox"]);
}

#[test]
fn aliases_never_replace_what_is_there() {
    let Some(host) = Host::new(&[]) else { return };
    let dir = host.path().join("links");
    std::fs::create_dir(&dir).unwrap();
    std::fs::write(dir.join("docker"), "mine").unwrap();
    let done = host.run(&["system", "install-aliases", dir.to_str().unwrap()]);
    assert_eq!(done.code, 1);
    assert!(done.err.contains("docker is there already"), "{}", done.err);
    assert_eq!(std::fs::read_to_string(dir.join("docker")).unwrap(), "mine");
    assert_eq!(std::fs::read_link(dir.join("docker-compose")).unwrap(), binary().canonicalize_by_exec());
    std::fs::remove_file(dir.join("docker")).unwrap();
    let out = host.ok(&["system", "install-aliases", dir.to_str().unwrap()]);
    assert!(out.contains("docker -> ") && out.contains("(there already)"), "{out}");
}

trait ByExec {
    fn canonicalize_by_exec(&self) -> PathBuf;
}

impl ByExec for PathBuf {
    /// The path that the kernel shows of a program, symlinks followed by it.
    fn canonicalize_by_exec(&self) -> PathBuf {
        let file = std::fs::File::open(self).unwrap();
        std::fs::read_link(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file))).unwrap()
    }
}

/// Lines that need no container, with the exit code and a part of what is said.
const WRONG: [(&[&str], i32, &str); 47] = [
    (&["ps", "--nosuch"], 125, "unknown flag: --nosuch\n\nUsage:  docker ps"),
    (&["nosuch"], 1, "docker: unknown command: docker nosuch\n\nRun 'docker --help' for more information\n"),
    (&["rm"], 1, "docker: 'docker rm' requires at least 1 argument\n"),
    (&["rm", "nosuch"], 1, "Error response from daemon: No such container: nosuch\n"),
    (&["inspect", "nosuch"], 1, "Error: No such object: nosuch\n"),
    (&["image", "inspect", "nosuch"], 1, "Error response from daemon: No such image: nosuch:latest\n"),
    (&["volume", "inspect", "nosuch"], 1, "Error response from daemon: get nosuch: no such volume\n"),
    (&["network", "inspect", "nosuch"], 1, "Error response from daemon: network nosuch not found\n"),
    (&["start", "nosuch"], 1, "Error: failed to start containers: nosuch\n"),
    (&["ps", "--format", "{{"], 1, "failed to parse template: template: :1: unclosed action\n"),
    (&["ps", "--filter", "foo=bar"], 1, "Error response from daemon: invalid filter 'foo'\n"),
    (&["swarm", "init"], 125, "not supported yet"),
    (&["container"], 0, "Manage containers"),
    (&["exec", "nosuch"], 1, "docker: 'docker exec' requires at least 2 arguments\n"),
    (&["logs"], 1, "docker: 'docker logs' requires 1 argument\n"),
    (&["ps", "x"], 1, "docker: 'docker ps' accepts no arguments\n"),
    (&["images", "a", "b"], 1, "docker: 'docker images' requires at most 1 argument\n"),
    (&["images", "--format", "{{.Foo}}"], 1, "template parsing error: template: :1:2: executing"),
    (&["stop", "-t", "abc", "x"], 125, "invalid argument \"abc\" for \"-t, --timeout\" flag: strconv.ParseInt: "),
    (&["update", "-m", "abc", "x"], 125, "invalid argument \"abc\" for \"-m, --memory\" flag: invalid size: 'abc'\n"),
    (
        &["run", "-e", "=x", "busybox"],
        125,
        "invalid argument \"=x\" for \"-e, --env\" flag: invalid environment variable: =x",
    ),
    (
        &["run", "-l", "", "busybox"],
        125,
        "invalid argument \"\" for \"-l, --label\" flag: invalid label '': empty name",
    ),
    (
        &["run", "--expose", "abc", "busybox"],
        125,
        "docker: invalid range format for --expose: abc, error: strconv.ParseUint",
    ),
    (
        &["run", "--env-file", "/nosuch", "busybox"],
        125,
        "docker: open /nosuch: no such file or directory\n\nRun 'docker run --help' for more information\n",
    ),
    (&["run", "--rm", "--restart", "always", "busybox"], 125, "docker: conflicting options: cannot specify both"),
    (&["create", "--pull", "never", "nosuch"], 1, "Error response from daemon: No such image: nosuch"),
    (&["ps", "--filter", "health=foo"], 1, "invalid value for health (foo): must be one of none, starting"),
    (&["network", "ls", "--filter", "type=foo"], 1, "Error response from daemon: invalid filter: 'type'='foo'\n"),
    (&["network", "create", "--subnet", "bad", "n"], 1, "invalid subnet bad: invalid CIDR block notation\n"),
    (&["network", "create", "--subnet", "10.1.2.3/24", "n"], 1, "10.1.2.3/24: it should be 10.1.2.0/24\n"),
    (
        &["network", "create", "--subnet", "10.1.2.0/24", "--gateway", "bad", "n"],
        1,
        "no matching subnet for gateway bad\n",
    ),
    (
        &["network", "create", "--gateway", "10.1.2.1", "n"],
        1,
        "every ip-range or gateway must have a corresponding subnet\n",
    ),
    (
        &["network", "create", "--subnet", "10.1.2.0/24", "--gateway", "10.1.3.1", "n"],
        1,
        "no matching subnet for gateway 10.1.3.1\n",
    ),
    (&["network", "rm", "-f", "nosuch"], 0, ""),
    (&["cp", "a", "b"], 1, "must specify at least one container source\n"),
    (&["cp", "a:/x", "b:/x"], 1, "copying between containers is not supported\n"),
    (&["rename", "nosuch", "b"], 1, "Error: failed to rename container named nosuch\n"),
    (&["load", "-i", "/nosuch"], 1, "open /nosuch: no such file or directory\n"),
    (&["events", "--since", "foo", "--until", "0s"], 1, "failed to parse value as time or duration: \"foo\"\n"),
    (&["network", "create", "host"], 1, "operation is not permitted on predefined host network\n"),
    (&["volume", "create", "x"], 1, "create x: volume name is too short, names should be at least two"),
    (
        &["volume", "prune", "-a", "--filter", "all=1"],
        1,
        "conflicting options: cannot specify both --all and --filter all=1\n",
    ),
    (&["events", "--until", "0s", "--filter", "foo=bar"], 0, ""),
    (&["events", "--until", "0s", "--format", "{{.Foo}}"], 64, "can't evaluate field Foo in type *events.Message\n"),
    (&["rmi", "--platform", "linux/amd64", "nosuch"], 1, "Error response from daemon: No such image: nosuch:latest\n"),
    (&["compose", "nosuch"], 1, "unknown docker command: \"compose nosuch\""),
    (&["compose", "up", "--nosuch"], 1, "unknown flag: --nosuch"),
];

#[test]
fn wrong_command_lines_end_as_dockers() {
    let Some(host) = Host::new(&[]) else { return };
    for (args, code, said) in WRONG {
        let done = docker(&host, args);
        assert_eq!(done.code, code, "{args:?}: {}", done.err);
        assert!(done.err.contains(said), "{args:?}: {}", done.err);
    }
    assert_eq!(docker(&host, &["network", "rm", "-f", "nosuch"]).out, "");
    let done = docker(&host, &["run", "--gpus", "all", "busybox"]);
    assert_eq!(done.code, 125, "{}", done.err);
    assert!(docker(&host, &["--version"]).out.starts_with("Docker version "));
    let done = docker(&host, &["compose", "--help"]);
    assert!(done.out.contains("Usage: docker compose "), "{}", done.out);
    assert_eq!(docker(&host, &["context", "show"]).out, "default\n");
}

#[test]
fn compatibility_names_with_underscores() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    host.write(
        "compose.yaml",
        "name: under\nservices:\n  web:\n    image: busybox\n    command: sleep 1000\n    init: true\n",
    );
    let compose = aliases(&host).join("docker-compose");
    let run = |args: &[&str]| {
        let done = finish(with_docker(&host, compose.to_str().unwrap(), args), b"", &args.join(" "));
        assert_eq!(done.code, 0, "{args:?}: {}", done.err);
        done.out
    };
    run(&["--compatibility", "up", "-d"]);
    assert_eq!(docker(&host, &["ps", "--format", "{{.Names}}"]).out, "under_web_1\n");
    assert!(run(&["--compatibility", "logs"]).is_empty());
    run(&["--compatibility", "down", "-t", "0"]);
    assert!(run(&["--help"]).contains("Usage: docker-compose "));
}

#[test]
fn flags_about_the_host_and_other_containers_reach_the_kernel() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    let start = "run -d --name data -v /data -v named:/named busybox sh -c";
    let mut words: Vec<&str> = start.split(' ').collect();
    words.push("echo kept > /data/file; sleep 1000");
    assert_eq!(docker(&host, &words).code, 0);
    // Major 10, minor 229 is no device that containers have; whether there is a driver does not matter.
    let script = "mknod /null2 c 1 3 && mknod /fuse c 10 229; true < /fuse && echo opened || echo refused";
    let open = |rule: &[&str]| {
        let mut words = vec!["run", "--rm"];
        words.extend(rule);
        words.extend(["busybox", "sh", "-c", script]);
        docker(&host, &words)
    };
    let refused = open(&[]);
    assert!(refused.out == "refused\n" && refused.err.contains("not permitted"), "{} {}", refused.out, refused.err);
    let allowed = open(&["--device-cgroup-rule", "c 10:* rwm"]);
    assert!(!allowed.err.contains("not permitted"), "{} {}", allowed.out, allowed.err);

    let from = "--volumes-from data:ro --cgroup-parent /umiak-e2e-flags --runtime runc --userns host";
    let mut terminal = Terminal::new(
        &host,
        &format!("container run -it --name reader --detach-keys ctrl-x,y --sig-proxy=false {from} busybox sh"),
    );
    terminal.expect("/ #");
    terminal.type_in("until [ -s /data/file ]; do sleep 0.1; done; echo it is $(cat /data/file)\n");
    terminal.expect("it is kept");
    terminal.type_in("\x18y");
    assert_eq!(terminal.end().code, 0);
    assert_eq!(host.inspect("reader")["State"]["Status"], "running");
    let said = docker(&host, &["exec", "reader", "touch", "/named/new"]);
    assert!(said.code == 1 && said.err.contains("Read-only file system"), "{}", said.err);
    let pid = host.inspect("reader")["State"]["Pid"].to_string();
    let cgroup = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    assert!(cgroup.contains(":/umiak-e2e-flags/"), "{cgroup}");

    let cases: [(&[&str], &str); 5] = [
        (&["--runtime", "nvidia"], "unknown or invalid runtime name: nvidia"),
        (&["--userns", "private"], "invalid USER mode"),
        (&["--device-cgroup-rule", "x"], "invalid device cgroup format 'x'"),
        (&["--volumes-from", "data:odd"], "invalid mode for volumes-from: odd"),
        (&["--detach-keys", "ctrl-?"], "Invalid escape keys"),
    ];
    for (flags, said) in cases {
        let mut words = vec!["run"];
        words.extend(flags);
        words.push("busybox");
        let done = docker(&host, &words);
        assert!(done.code == 125 && done.err.contains(said), "{flags:?}: {} {}", done.code, done.err);
    }
    assert_eq!(docker(&host, &["rm", "-f", "-v", "reader", "data"]).code, 0);
    host.ok(&["volume", "prune", "-a", "-f"]);
}

#[test]
fn what_cannot_be_done_in_a_container_ends_as_dockers() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    assert_eq!(docker(&host, &["run", "-dit", "--init", "--name", "app", "busybox", "sleep", "1000"]).code, 0);
    let no_terminal = "the input device is not a TTY\n";
    let cases: [(&[&str], i32, &str); 15] = [
        // Standard input is no terminal in any of these.
        (&["exec", "-it", "app", "true"], 1, no_terminal),
        (&["exec", "-it", "nosuch", "true"], 1, "Error response from daemon: No such container: nosuch\n"),
        (&["exec", "-itd", "app", "true"], 0, ""),
        (&["exec", "-t", "app", "true"], 0, ""),
        (&["run", "--rm", "-it", "nosuch", "true"], 1, no_terminal),
        (&["run", "--rm", "-t", "-a", "stdin", "busybox", "true"], 1, no_terminal),
        (&["run", "--rm", "-t", "-a", "stdout", "busybox", "true"], 0, ""),
        (&["attach", "app"], 1, no_terminal),
        (
            &["exec", "-u", "nobody-known", "app", "true"],
            1,
            "Error response from daemon: unable to find user nobody-known: ",
        ),
        (
            &["exec", "-w", "rel", "app", "true"],
            128,
            "OCI runtime exec failed: exec failed: Cwd must be an absolute path\n",
        ),
        (
            &["exec", "app", "/nosuch"],
            127,
            "OCI runtime exec failed: exec failed: unable to start container process: exec: ",
        ),
        (
            &["exec", "-d", "app", "/nosuch"],
            1,
            "Error response from daemon: OCI runtime exec failed: exec failed: unable to ",
        ),
        (
            &["run", "--rm", "--device", "/dev/nosuch", "busybox", "true"],
            127,
            "adding custom device \"/dev/nosuch\": no such file",
        ),
        (
            &["create", "--name", "app", "busybox"],
            1,
            "Error response from daemon: Conflict. The container name \"/app\"",
        ),
        (&["run", "--rm", "--name", "", "--hostname", "-odd-", "busybox", "true"], 0, ""),
    ];
    for (args, code, said) in cases {
        let done = docker(&host, args);
        assert_eq!(done.code, code, "{args:?}: {}", done.err);
        assert!(done.err.contains(said) && done.err.is_empty() == said.is_empty(), "{args:?}: {}", done.err);
    }
    assert_eq!(docker(&host, &["create", "--name", "user", "-v", "held:/held", "busybox"]).code, 0);
    let id = host.inspect("user")["Id"].as_str().unwrap().to_owned();
    let done = docker(&host, &["volume", "rm", "held"]);
    let said = format!("Error response from daemon: remove held: volume is in use - [{id}]\n");
    assert_eq!((done.code, done.err), (1, said));
    assert_eq!(
        docker(&host, &["exec", "user", "true"]).err,
        format!("Error response from daemon: container {id} is not running\n")
    );
    assert_eq!(docker(&host, &["rm", "user"]).code, 0);
    assert_eq!(docker(&host, &["volume", "rm", "held"]).code, 0);
    // A gateway belongs to the subnet that it is in, whatever their order is.
    let ranges = ["--subnet", "fd00:77:5::/64", "--subnet", "10.213.55.0/24", "--gateway", "10.213.55.9"];
    assert_eq!(docker(&host, &[&["network", "create", "--ipv6"], &ranges[..], &["both"]].concat()).code, 0);
    let shown =
        docker(&host, &["network", "inspect", "-f", "{{range .IPAM.Config}}{{.Subnet}}={{.Gateway}};{{end}}", "both"]);
    assert!(shown.out.contains("10.213.55.0/24=10.213.55.9;"), "{}", shown.out);
    assert_eq!(docker(&host, &["network", "rm", "both"]).code, 0);
    // Under its own name nothing is in the way of a command without input.
    host.ok(&["container", "exec", "-it", "app", "true"]);
    host.write(
        "compose.yaml",
        "name: tty\nservices:\n  app:\n    image: busybox\n    command: sleep 1000\n    init: true\n",
    );
    assert_eq!(docker(&host, &["compose", "up", "-d"]).code, 0);
    assert_eq!(docker(&host, &["compose", "exec", "-it", "app", "echo", "hi"]).out, "hi\n");
    let done = docker(&host, &["compose", "run", "--rm", "-t", "app", "true"]);
    assert_eq!((done.code, done.err.as_str()), (1, no_terminal));
    assert_eq!(docker(&host, &["compose", "run", "--rm", "app", "echo", "hi"]).out, "hi\n");
    assert_eq!(docker(&host, &["compose", "down", "-t", "0"]).code, 0);
    // A kill that names no signal is over when the container is.
    assert_eq!(docker(&host, &["kill", "-s", "", "app"]).code, 0);
    assert_eq!(host.inspect("app")["State"]["Status"], "exited");
    let format = "{{.Status}} {{.Type}} {{.Actor.Attributes.name}} {{.Actor.Attributes.nosuch}}";
    let words = ["events", "--since", "1h", "--until", "0s", "--filter", "event=kill", "--format", format];
    assert!(docker(&host, &words).out.ends_with("kill container app <no value>\n"), "{}", docker(&host, &words).out);
    assert_eq!(docker(&host, &["rm", "app"]).code, 0);
}
