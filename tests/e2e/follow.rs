//! Following a project: `up` and `logs -f` across restarts, recreations and the last end.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use crate::harness::Host;

/// A command that runs, and the lines of its output as they come.
struct Following {
    child: Child,
    lines: Receiver<String>,
    seen: Vec<String>,
}

impl Following {
    fn new(host: &Host, args: &[&str]) -> Self {
        let mut child = host.command(args).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = channel();
        std::thread::spawn(move || output.lines().map_while(Result::ok).all(|line| sender.send(line).is_ok()));
        Self { child, lines, seen: Vec::new() }
    }

    /// Waits for a line with this text.
    fn until(&mut self, text: &str) {
        loop {
            let line = self.lines.recv_timeout(Duration::from_secs(60));
            let line = line.unwrap_or_else(|error| panic!("{text}: {error}: {:?}", self.seen));
            let found = line.contains(text);
            self.seen.push(line);
            if found {
                return;
            }
        }
    }

    /// Waits for the end; the exit code, and all lines.
    fn end(mut self) -> (i32, Vec<String>) {
        while let Ok(line) = self.lines.recv_timeout(Duration::from_secs(60)) {
            self.seen.push(line);
        }
        (self.child.wait().unwrap().code().unwrap_or(-1), std::mem::take(&mut self.seen))
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn count(lines: &[String], text: &str) -> usize {
    lines.iter().filter(|line| *line == text).count()
}

#[test]
fn an_end_that_a_restart_follows_is_told_as_such() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    host.write(
        "compose.yaml",
        "
services:
  again: {image: busybox, command: sh -c 'echo hi; exit 3', restart: 'on-failure:2'}
  once: {image: busybox, command: sh -c 'echo ho; exit 4'}
  hog: {image: busybox, command: tail /dev/zero, mem_limit: 16m, memswap_limit: 16m}
",
    );
    let done = host.run(&["up"]);
    let lines: Vec<String> = done.out.lines().map(str::to_owned).collect();
    assert_eq!(done.code, 0, "{lines:?}{}", done.err);
    assert_eq!(count(&lines, "again-1  | hi"), 3, "{lines:?}");
    assert_eq!(count(&lines, "again-1 exited with code 3 (restarting)"), 2, "{lines:?}");
    assert_eq!(lines.iter().rfind(|line| line.starts_with("again-1 ")).unwrap(), "again-1 exited with code 3");
    assert_eq!(count(&lines, "once-1 exited with code 4"), 1, "{lines:?}");
    let oom = "hog-1 exited with code 137 (out of memory: killed at its memory limit of 16MiB";
    assert!(lines.iter().any(|line| line.starts_with(oom)), "{lines:?}");
    // Nobody is about to start anything, and what has ended long ago is no news.
    let shown = host.ok(&["logs", "-f", "again", "once"]);
    assert_eq!(shown.lines().count(), 4, "{shown}");
    host.ok(&["down"]);
}

#[test]
fn logs_are_followed_across_restarts_and_recreations() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    host.write(
        "compose.yaml",
        "
services:
  web: {image: busybox, command: sh -c 'echo started; sleep 1000', stop_grace_period: 0s}
  other: {image: busybox, command: sh -c 'echo other; sleep 1000', stop_grace_period: 0s, profiles: [more]}
",
    );
    host.ok(&["up", "-d"]);
    let mut logs = Following::new(&host, &["logs", "-f", "web"]);
    let mut all = Following::new(&host, &["logs", "-f"]);
    logs.until("web-1  | started");
    all.until("web-1  | started");
    host.ok(&["restart"]);
    for following in [&mut logs, &mut all] {
        following.until("exited with code");
        following.until("web-1  | started");
    }
    host.ok(&["up", "-d", "--force-recreate"]);
    for following in [&mut logs, &mut all] {
        following.until("web-1  | started");
    }
    host.ok(&["up", "-d", "other"]);
    all.until("other-1  | other");
    host.ok(&["--profile", "more", "stop"]);
    for following in [logs, all] {
        let (code, lines) = following.end();
        assert_eq!((code, count(&lines, "web-1  | started")), (0, 3), "{lines:?}");
        assert_eq!(count(&lines, "web-1 exited with code 137"), 3, "{lines:?}");
    }
    host.ok(&["--profile", "more", "down"]);
}
