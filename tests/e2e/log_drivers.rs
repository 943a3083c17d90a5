//! Log drivers, and logs of containers that write more than is reasonable.

use std::fs;
use std::io::Read as _;
use std::net::{TcpListener, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use crate::harness::{Host, eventually, finish, finish_child, free_port, monitor_pid, names_in, tool};

const PATIENCE: Duration = Duration::from_secs(60);

fn log_dir(host: &Host, name: &str) -> PathBuf {
    let id = host.inspect(name)["Id"].as_str().unwrap().to_owned();
    host.root().join("containers").join(id).join("log")
}

fn datagram(receive: impl Fn(&mut [u8]) -> std::io::Result<usize>) -> String {
    let mut buffer = vec![0; 70_000];
    let length = receive(&mut buffer).unwrap();
    String::from_utf8_lossy(&buffer[..length]).into_owned()
}

#[test]
fn syslog_gets_each_line_and_logs_still_shows_them() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
    receiver.set_read_timeout(Some(PATIENCE)).unwrap();
    let address = format!("udp://{}", receiver.local_addr().unwrap());
    host.write(
        "compose.yaml",
        &format!(
            "services:
  web:
    image: busybox
    command: sh -c 'echo one; echo two >&2; printf three'
    network_mode: none
    labels: {{ tier: front }}
    logging:
      driver: syslog
      options:
        syslog-address: {address}
        syslog-facility: local3
        tag: '{{{{.Name}}}}/{{{{index .ContainerLabels \"tier\"}}}}'
"
        ),
    );
    host.ok(&["up", "-d"]);
    let mut got: Vec<String> = (0..3).map(|_| datagram(|buffer| receiver.recv(buffer))).collect();
    got.sort();
    for (message, (priority, text)) in got.iter().zip([(155, "two"), (158, "one"), (158, "three")]) {
        assert!(message.starts_with(&format!("<{priority}>")), "{got:?}");
        assert!(message.contains(" demo-web-1/front[") && message.ends_with(&format!("]: {text}\n")), "{got:?}");
    }
    host.until("demo-web-1", "has ended", |state| state["Status"] == "exited");
    let mut kept: Vec<String> = host.ok(&["logs", "--no-log-prefix"]).lines().map(str::to_owned).collect();
    kept.sort();
    assert_eq!(kept, ["one", "three", "two"]);
    let inspected = host.inspect("demo-web-1");
    assert_eq!(inspected["HostConfig"]["LogConfig"]["Type"], "syslog");
    assert_eq!(inspected["HostConfig"]["LogConfig"]["Config"]["syslog-facility"], "local3");
    assert_eq!(inspected["LogPath"], "");
    host.ok(&["down"]);
}

#[test]
fn a_receiver_that_is_not_there_and_a_driver_that_does_not_exist_are_named() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    let port = free_port();
    let file = |driver: &str, options: &str| {
        host.write(
            "compose.yaml",
            &format!(
                "services:\n  web:\n    image: busybox\n    network_mode: none\n    logging:\n      driver: {driver}\n      options: {{ {options} }}\n"
            ),
        );
        host.fails(1, &["up", "-d"])
    };
    let said = file("syslog", &format!("syslog-address: 'tcp://127.0.0.1:{port}'"));
    for part in ["logging.options.syslog-address", "Connection refused", &format!("tcp://127.0.0.1:{port}")] {
        assert!(said.contains(part), "{part} in {said}");
    }
    let said = file("gelf", "gelf-address: 'udp://127.0.0.1:1'");
    for part in ["compose.yaml:5", "services.web.logging.driver", "json-file, local, none, journald and syslog"] {
        assert!(said.contains(part), "{part} in {said}");
    }
    let said = file("local", "tag: x");
    assert!(said.contains("unknown log opt \"tag\" for local log driver"), "{said}");
    let said = file("json-file", "tag: '{{.Nme}}'");
    assert!(said.contains("log opt tag") && said.contains("Nme"), "{said}");
    let said = host.fails(125, &["container", "run", "--rm", "--log-driver", "fluentd", "busybox", "true"]);
    assert!(said.contains("\"fluentd\" is not supported: use json-file, local, none, journald or syslog"), "{said}");
    host.run(&["down"]);
}

#[test]
fn nothing_is_kept_with_none_and_that_is_said() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    let service = "{ image: busybox, command: echo hi, network_mode: none";
    host.write(
        "compose.yaml",
        &format!("services:\n  mute: {service}, logging: {{ driver: none }} }}\n  web: {service} }}\n"),
    );
    host.ok(&["up", "-d"]);
    host.until("demo-web-1", "has ended", |state| state["Status"] == "exited");
    let done = host.run(&["logs"]);
    assert_eq!((done.code, done.out.as_str()), (0, "web-1  | hi\n"), "{}", done.err);
    assert!(done.err.contains("demo-mute-1") && done.err.contains("does not support reading"), "{}", done.err);
    let said = host.fails(1, &["container", "logs", "demo-mute-1"]);
    assert!(said.contains("configured logging driver does not support reading"), "{said}");
    assert!(host.fails(1, &["logs", "--index", "2", "web"]).contains("service \"web\" is not running container #2"));
    assert!(host.fails(1, &["logs", "--index", "1"]).contains("--index requires one service to be selected"));
    assert_eq!(host.ok(&["logs", "--index", "1", "web"]), "web-1  | hi");
    host.ok(&["down"]);
}

#[test]
fn the_journal_gets_entries_and_is_missed_where_it_is_not() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    let socket = host.path().join("journal");
    let receiver = UnixDatagram::bind(&socket).unwrap();
    receiver.set_read_timeout(Some(PATIENCE)).unwrap();
    // The journal's well-known place, in a mount namespace of its own.
    let program = crate::harness::binary();
    let run = "container run --network none --log-driver journald";
    let script = format!(
        "mount -t tmpfs none /run && mkdir -p /run/systemd/journal && touch /run/systemd/journal/socket &&
         mount --bind {socket} /run/systemd/journal/socket &&
         {program} {run} --name kept --log-opt labels=tier --label tier=front busybox echo hi &&
         umount /run/systemd/journal/socket && rm /run/systemd/journal/socket &&
         {program} {run} --name missed busybox echo hi",
        socket = socket.display(),
        program = program.display(),
    );
    let done = finish(host.other("unshare", &["-m", "sh", "-c", &script]), b"", "unshare");
    assert_eq!((done.code, done.out.as_str()), (125, "hi\n"), "{}", done.err);
    for part in ["logging.driver journald", "/run/systemd/journal/socket", "No such file"] {
        assert!(done.err.contains(part), "{part} in {}", done.err);
    }
    let entry = datagram(|buffer| receiver.recv(buffer));
    for field in ["MESSAGE=hi\n", "PRIORITY=6\n", "CONTAINER_NAME=kept\n", "TIER=front\n", "IMAGE_NAME=busybox"] {
        assert!(entry.contains(field), "{field} in {entry}");
    }
    assert_eq!(host.ok(&["container", "logs", "kept"]), "hi");
    host.ok(&["container", "rm", "kept"]);
}

#[test]
fn rotated_files_are_compressed_and_read_all_the_same() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    let mut run = host.command(&["container", "run", "-d", "-i", "--network", "none", "--name", "many"]);
    run.args(["--log-opt", "max-size=300k", "--log-opt", "max-file=4", "--log-opt", "compress=true", "busybox"]);
    run.args(["sh", "-c", "until [ -e /go ]; do sleep 0.1; done; seq 1 9000; sleep 1000"]);
    assert_eq!(finish(run, b"", "run").code, 0);
    let follow = host.command(&["container", "logs", "-f", "many"]).stdout(Stdio::piped()).spawn().unwrap();
    host.ok(&["container", "exec", "many", "touch", "/go"]);
    let dir = log_dir(&host, "many");
    let rotated = eventually("rotated files are compressed", || {
        let names: Vec<String> = names_in(&dir).into_iter().filter(|name| name.contains("-json.log.")).collect();
        let whole = host.run(&["container", "logs", "--tail", "1", "many"]).out == "9000\n";
        let plain = names.iter().any(|name| !name.ends_with(".gz") && !name.ends_with(".lock"));
        let packed = names.iter().filter(|name| name.ends_with(".gz")).count();
        if whole && !plain && packed > 0 { Ok(packed) } else { Err(format!("{names:?}")) }
    });
    assert!((2..=3).contains(&rotated), "{rotated}");
    for count in [1, 10, 5000, 9000] {
        let shown = host.ok(&["container", "logs", "--tail", &count.to_string(), "many"]);
        assert!(shown.lines().eq((9001 - count..=9000).map(|number| number.to_string())), "{count}");
    }
    host.ok(&["container", "kill", "many"]);
    let done = finish_child(follow, b"", "logs -f");
    assert!(done.out.lines().eq((1..=9000).map(|number| number.to_string())), "{} lines", done.out.lines().count());
}

/// The most memory that a process has ever had, in kB.
fn peak(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse().unwrap()
}

fn size_of(dir: &Path) -> u64 {
    names_in(dir).iter().filter_map(|name| fs::metadata(dir.join(name)).ok()).map(|meta| meta.len()).sum()
}

#[test]
fn a_flood_costs_a_bounded_disk_and_a_monitor_that_stays_small() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    let mut run = host.command(&["container", "run", "-d", "--network", "none", "--name", "flood"]);
    run.args(["--log-opt", "max-size=1m", "--log-opt", "max-file=3", "busybox", "sh", "-c"]);
    // One line of 40 MB, as much of anything, and lines in order.
    run.arg(
        "until [ -e /go ]; do sleep 0.1; done; dd if=/dev/zero bs=64k count=640 2>/dev/null | tr '\\0' x; dd if=/dev/urandom bs=64k count=320 2>/dev/null;
         echo; seq 1 400000; echo done; sleep 1000",
    );
    assert_eq!(finish(run, b"", "run").code, 0);
    let monitor = monitor_pid(&host, "flood");
    let dir = log_dir(&host, "flood");
    let before = peak(monitor);
    host.ok(&["container", "exec", "flood", "touch", "/go"]);
    let mut most = 0;
    eventually("all is written", || {
        most = most.max(size_of(&dir));
        let last = host.run(&["container", "logs", "--tail", "1", "flood"]).out;
        if last == "done\n" { Ok(()) } else { Err(last.chars().take(100).collect()) }
    });
    assert!(most <= 3 << 20, "{most}");
    let kept = host.ok(&["container", "logs", "flood"]);
    let lines: Vec<&str> = kept.lines().collect();
    let numbers = lines.len() - 1;
    assert!(numbers > 10_000, "{numbers}");
    assert!(lines[..numbers].iter().zip(400_001 - numbers..).all(|(line, number)| *line == number.to_string()));
    // Code that had not been needed before counts, too.
    let grown = peak(monitor) - before;
    assert!(grown < 12 << 10, "{grown} kB");
    host.ok(&["container", "kill", "flood"]);
}

#[test]
fn a_container_that_must_not_wait_loses_lines_and_says_how_many() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    let mut run = host.command(&["container", "run", "--network", "none", "--name", "hasty"]);
    run.args(["--log-opt", "mode=non-blocking", "--log-opt", "max-buffer-size=8k", "--log-opt", "max-size=-1"]);
    run.args(["busybox", "sh", "-c", "seq 1 200000; sleep 0.2; echo last"]);
    assert_eq!(finish(run, b"", "run").out.lines().count(), 200_001);
    let kept = host.ok(&["container", "logs", "hasty"]);
    let dropped = |line: &str| line.strip_prefix("[umiak: ")?.split(' ').next()?.parse::<usize>().ok();
    let lost: usize = kept.lines().filter_map(dropped).sum();
    let shown: Vec<usize> = kept.lines().filter_map(|line| line.parse().ok()).collect();
    assert_eq!(shown.len() + lost, 200_000);
    assert!(lost > 0 && shown.is_sorted(), "{lost}");
    assert!(kept.ends_with("last"), "{}", &kept[kept.len() - 100..]);
}

#[test]
fn a_receiver_that_hangs_holds_nobody_up_for_ever() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    let receiver = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("syslog-address=tcp://{}", receiver.local_addr().unwrap());
    let mut run = host.command(&["container", "run", "-d", "--network", "none", "--name", "sends"]);
    run.args(["--log-driver", "syslog", "--log-opt", &address, "busybox", "sh", "-c"]);
    run.arg("yes 0123456789012345678901234567890123456789 | head -n 300000; echo end; sleep 1000");
    assert_eq!(finish(run, b"", "run").code, 0);
    // It is connected and reads nothing.
    let (mut connection, _) = receiver.accept().unwrap();
    eventually("the container goes on", || {
        let last = host.run(&["container", "logs", "--tail", "1", "sends"]).out;
        if last == "end\n" { Ok(()) } else { Err(last) }
    });
    // The monitor has answered all the time, and stops as any other.
    let reader = std::thread::spawn(move || {
        let mut all = Vec::new();
        connection.read_to_end(&mut all).map(|_| all.len())
    });
    host.ok(&["container", "stop", "-t", "0", "sends"]);
    assert!(reader.join().unwrap().unwrap() > 100_000);
}

#[test]
fn following_goes_on_across_restarts_and_ends_with_the_last_run() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    host.write(
        "compose.yaml",
        "services:
  a: { image: busybox, command: sh -c 'echo run; sleep 0.2; exit 3', restart: 'on-failure:2', network_mode: none }
  b: { image: busybox, command: sh -c 'echo once', network_mode: none }
",
    );
    host.ok(&["up", "-d"]);
    let done = host.run(&["logs", "-f"]);
    assert_eq!(done.code, 0, "{}", done.err);
    let count = |line: &str| done.out.lines().filter(|other| *other == line).count();
    assert_eq!((count("a-1  | run"), count("b-1  | once")), (3, 1), "{}", done.out);
    host.ok(&["down"]);
}

/// `openssl s_server`, which prints what it receives.
struct TlsReceiver(std::process::Child);

impl Drop for TlsReceiver {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn syslog_over_tls_trusts_whom_it_is_told_to() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    let file = |name: &str| host.path().join(name).display().to_string();
    let (cert, key, port) = (file("cert.pem"), file("key.pem"), free_port());
    let subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"];
    let pair = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"];
    tool("openssl", &[&pair[..], &subject, &["-keyout", &key, "-out", &cert]].concat());
    let output = fs::File::create(file("received")).unwrap();
    let mut server = std::process::Command::new("openssl");
    server.args(["s_server", "-quiet", "-accept", &format!("127.0.0.1:{port}"), "-cert", &cert, "-key", &key]);
    // It ends with its input.
    let server = server.stdin(Stdio::piped()).stdout(output).stderr(Stdio::null()).spawn().unwrap();
    let _server = TlsReceiver(server);
    eventually("the receiver listens", || {
        std::net::TcpStream::connect(("127.0.0.1", port)).map_err(|error| error.to_string())
    });
    let run = |name: &str, options: &[&str]| {
        let address = format!("syslog-address=tcp+tls://127.0.0.1:{port}");
        let mut args = vec!["container", "run", "-d", "--name", name, "--log-driver", "syslog", "--log-opt", &address];
        options.iter().for_each(|option| args.extend(["--log-opt", option]));
        host.run(&[&args[..], &["busybox", "sh", "-c", "echo \"hello from $(hostname)\"; seq 1 2000"]].concat())
    };
    let refused = run("stranger", &[]);
    assert!(refused.code == 125 && refused.err.contains("certificate"), "{}", refused.err);
    host.run(&["container", "rm", "stranger"]);
    let missing = run("missing", &["syslog-tls-ca-cert=/nosuch.pem"]);
    assert!(missing.code == 125 && missing.err.contains("/nosuch.pem"), "{}", missing.err);
    host.run(&["container", "rm", "missing"]);
    let ca = format!("syslog-tls-ca-cert={cert}");
    for (name, option, format) in
        [("known", ca.as_str(), "rfc3164"), ("skipped", "syslog-tls-skip-verify=true", "rfc5424")]
    {
        let format = format!("syslog-format={format}");
        let done = run(name, &[option, &format, "tag={{.Name}}"]);
        assert_eq!(done.code, 0, "{}", done.err);
        let received = eventually("all of it is received", || {
            let text = fs::read_to_string(file("received")).unwrap();
            let of_this = text.lines().filter(|line| line.contains(name)).count();
            if of_this >= 2001 { Ok(text) } else { Err(format!("{of_this} lines")) }
        });
        let lines: Vec<&str> = received.lines().filter(|line| line.contains(name)).collect();
        assert!(lines[0].contains("hello from") && lines[2000].ends_with(" 2000"), "{received}");
        let framed = lines[2000].split_once(' ').is_some_and(|(length, _)| length.parse::<usize>().is_ok());
        assert_eq!(framed, name == "skipped", "{}", lines[2000]);
        host.ok(&["container", "wait", name]);
        host.ok(&["container", "rm", name]);
    }
}
