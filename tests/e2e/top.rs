//! `stats` and `top`.

use std::io::{Read as _, Write as _};
use std::process::Stdio;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use crate::harness::{Host, finish_child, signal};

const STACK: &str = "services:
  web:
    image: busybox
    command: sh -c 'echo hello from web; sleep 1000'
    mem_limit: 64m
    stop_grace_period: 0s
  busy: { image: busybox, command: sh -c 'while :; do :; done', cpus: 0.2, network_mode: none, stop_grace_period: 0s }
  done: { image: busybox, command: 'true', network_mode: none }
";

#[test]
fn stats_have_dockers_columns_and_real_numbers() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    host.write("compose.yaml", STACK);
    host.ok(&["up", "-d"]);
    host.until("demo-done-1", "has ended", |state| state["Status"] == "exited");
    let table = host.ok(&["stats", "--no-stream"]);
    let lines: Vec<&str> = table.lines().collect();
    for title in ["CONTAINER ID", "NAME", "CPU %", "MEM USAGE / LIMIT", "MEM %", "NET I/O", "BLOCK I/O", "PIDS"] {
        assert!(lines[0].contains(title), "{table}");
    }
    assert_eq!(lines.len(), 3, "{table}");
    let rows = host.lines(&["stats", "--no-stream", "--all", "--format", "json"]);
    let of = |name: &str| rows.iter().find(|row| row["Name"] == name).unwrap_or_else(|| panic!("{name} in {rows:?}"));
    let web = of("demo-web-1");
    assert!(web["MemUsage"].as_str().unwrap().ends_with(" / 64MiB"), "{web}");
    assert_ne!((&web["MemPerc"], &web["NetIO"]), (&"0.00%".into(), &"0B / 0B".into()));
    assert_eq!(web["ID"].as_str().unwrap().len(), 12);
    let busy: f64 = of("demo-busy-1")["CPUPerc"].as_str().unwrap().trim_end_matches('%').parse().unwrap();
    assert!(busy > 1.0, "{busy}");
    let done = of("demo-done-1");
    assert_eq!((&done["CPUPerc"], &done["MemUsage"], &done["PIDs"]), (&"0.00%".into(), &"0B / 0B".into(), &"0".into()));
    let one = host.ok(&["stats", "--no-stream", "--no-trunc", "--format", "{{.ID}} {{.Name}} {{.PIDs}}", "web"]);
    let id = host.inspect("demo-web-1")["Id"].as_str().unwrap().to_owned();
    assert_eq!(one, format!("{id} demo-web-1 1"));
    assert!(host.fails(1, &["stats", "--no-stream", "nosuch"]).contains("no such service: nosuch"));
    let docker = crate::docker::docker(&host, &["stats", "--no-stream", "demo-web-1"]).out;
    assert!(docker.starts_with("CONTAINER ID") && !docker.contains("PSI"), "{docker}");
    // In a pipe and with services, `top` prints the processes.
    let processes = host.ok(&["top"]);
    assert!(processes.starts_with("SERVICE") && processes.contains("sleep 1000"), "{processes}");
    for (options, title, last) in [
        (&[][..], "UID PID PPID C STIME TTY TIME CMD", "sleep 1000"),
        (&["aux"], "USER PID %CPU %MEM VSZ RSS TTY STAT START TIME COMMAND", "sleep 1000"),
        (&["-eo", "pid,rss,comm"], "PID RSS COMMAND", "sleep"),
    ] {
        let shown = host.ok(&[&["container", "top", "demo-web-1"], options].concat());
        let words: Vec<&str> = shown.lines().next().unwrap().split_whitespace().collect();
        assert_eq!(words.join(" "), title);
        assert!(shown.lines().any(|line| line.ends_with(last)), "{shown}");
    }
    assert!(host.fails(1, &["container", "top", "demo-web-1", "-o", "colour"]).contains("unknown column colour"));
    host.ok(&["down"]);
}

/// A program on a terminal of its own: what it shows, and how to type.
pub struct Screen {
    pub child: std::process::Child,
    shown: mpsc::Receiver<Vec<u8>>,
    pub seen: String,
}

impl Screen {
    pub fn new(host: &Host, line: &str) -> Self {
        let line = format!("stty rows 30 cols 140; {line}; stty -a");
        let mut command = host.other("script", &["-qec", &line, "/dev/null"]);
        let command = command.env("TERM", "xterm").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stdout = child.stdout.take().unwrap();
        let (sender, shown) = mpsc::channel();
        std::thread::spawn(move || {
            let mut chunk = [0; 4096];
            while let Ok(count) = stdout.read(&mut chunk) {
                if count == 0 || sender.send(chunk[..count].to_vec()).is_err() {
                    return;
                }
            }
        });
        Self { child, shown, seen: String::new() }
    }

    pub fn until(&mut self, wanted: &str) {
        let deadline = Instant::now() + Duration::from_secs(90);
        while !self.seen.contains(wanted) && !self.words().contains(wanted) {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.shown.recv_timeout(left) {
                Ok(chunk) => self.seen.push_str(&String::from_utf8_lossy(&chunk)),
                Err(error) => panic!("{wanted}: {error}\n{:?}", self.seen),
            }
        }
    }

    /// What is written, with a space for each movement of the cursor and each colour.
    fn words(&self) -> String {
        let mut words = String::new();
        let mut chars = self.seen.chars();
        while let Some(c) = chars.next() {
            match c {
                '\u{1b}' => {
                    chars.by_ref().find(|c| c.is_ascii_alphabetic());
                    words.push(' ');
                }
                c => words.push(c),
            }
        }
        words.split(' ').filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
    }

    pub fn press(&mut self, keys: &str) {
        self.child.stdin.as_mut().unwrap().write_all(keys.as_bytes()).unwrap();
    }
}

#[test]
fn top_on_a_terminal_shows_the_project_restarts_and_leaves_the_terminal_as_it_was() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    host.write("compose.yaml", STACK);
    host.ok(&["up", "-d", "web", "busy"]);
    let started = host.inspect("demo-web-1")["State"]["StartedAt"].clone();
    let program = crate::harness::binary();
    let mut screen = Screen::new(&host, &format!("{} top", program.display()));
    // By name: busy, web.
    for shown in ["\u{1b}[?1049h", "busy-1", "web-1", "running", "MEM / LIMIT"] {
        screen.until(shown);
    }
    screen.press("j");
    screen.until("hello from web");
    screen.press("r");
    // Only what is new is written: the beginning was there.
    screen.until(": done");
    assert_ne!(host.inspect("demo-web-1")["State"]["StartedAt"], started);
    screen.press("?");
    screen.until("stop its service");
    screen.press("q");
    screen.until("\u{1b}[?1049l");
    // What `stty -a` says afterwards.
    screen.until(" echo ");
    let after = screen.seen.rsplit("\u{1b}[?1049l").next().unwrap();
    assert!(after.contains(" icanon") && !after.contains("-icanon"), "{after:?}");
    let done = finish_child(screen.child, b"", "script");
    assert_eq!(done.code, 0, "{}", done.err);
    // Also when it is asked to end by others.
    let mut ended = Screen::new(&host, &format!("sh -c 'echo $$ > pid; exec {} top'", program.display()));
    ended.until("web-1");
    let pid = std::fs::read_to_string(host.project().join("pid")).unwrap();
    signal(pid.trim().parse().unwrap(), "TERM");
    ended.until("\u{1b}[?1049l");
    ended.until(" echo ");
    assert!(ended.seen.contains(" icanon"), "{:?}", ended.seen);
    finish_child(ended.child, b"", "script");
    let mut plain = Screen::new(&host, &format!("{} top --plain", program.display()));
    plain.until("sleep 1000");
    plain.until(" echo ");
    assert!(!plain.seen.contains("\u{1b}[?1049h"));
    finish_child(plain.child, b"", "script");
    host.ok(&["down"]);
}
