//! Whatever is killed at whatever moment: the next commands see what is true, and
//! put it right. Which, and when, is random; the seed is printed.
//!
//! `UMIAK_KILLS` sets how many (40), `UMIAK_SEED` repeats a run as far as the machine does.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use serde_json::Value;

use crate::harness::{Host, eventually, free_port, http, names_in};

const STACK: &str = r#"
services:
  counts:
    image: busybox
    restart: always
    stop_grace_period: 0s
    command: sh -c 'i=0; while :; do echo $$i; i=$$((i+1)); sleep 0.1; done'
    healthcheck: {test: [CMD, "true"], interval: 500ms}
  web:
    image: busybox
    stop_grace_period: 0s
    depends_on: {counts: {condition: service_healthy}}
    ports: ["127.0.0.1:${PORT}:80"]
    command: sh -c 'mkdir -p /www; echo here > /www/index.html; exec httpd -f -p 80 -h /www'
  idle: {image: busybox, command: sleep 1000, stop_grace_period: 0s, volumes: [data:/data]}
volumes: {data: {}}
"#;

/// Marsaglia's xorshift64*.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(end).unwrap()).unwrap()
    }

    fn of<'a, T>(&mut self, all: &'a [T]) -> Option<&'a T> {
        if all.is_empty() { None } else { all.get(self.below(all.len())) }
    }
}

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

/// A process that belongs to the host, by what it is.
#[derive(Debug)]
struct Victim {
    pid: u32,
    what: String,
}

/// Monitors, keepers, their children, and the processes of containers.
fn victims(host: &Host) -> Vec<Victim> {
    let root = host.root();
    let root = root.to_str().unwrap();
    let mut found = Vec::new();
    for pid in names_in(Path::new("/proc")).iter().filter_map(|name| name.parse::<u32>().ok()) {
        let dir = Path::new("/proc").join(pid.to_string());
        let log =
            fs::read_link(dir.join("fd/2")).is_ok_and(|path| path.to_str().is_some_and(|path| path.starts_with(root)));
        let inside = || {
            let mounts = fs::read_to_string(dir.join("mountinfo")).unwrap_or_default();
            mounts.lines().any(|line| line.contains("upperdir=") && line.contains(root))
        };
        if log || inside() {
            let what = fs::read_to_string(dir.join("comm")).unwrap_or_default().trim().to_owned();
            found.push(Victim { pid, what });
        }
    }
    found
}

fn kill(pid: u32) {
    let _ = Command::new("kill").args(["-9", &pid.to_string()]).stderr(Stdio::null()).status();
}

fn state_of(pid: u64) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

/// Waits for a command, which may fail, for something of its own has been killed, but must come to an end.
fn end(mut command: Child, what: &str, story: &[String]) {
    let deadline = Instant::now() + Duration::from_secs(120);
    while command.try_wait().unwrap().is_none() {
        if Instant::now() > deadline {
            kill(command.id());
            panic!("`{what}` does not end\n{}", story.join("\n"));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

struct Run<'a> {
    host: &'a Host,
    port: u16,
    story: Vec<String>,
}

impl Run<'_> {
    fn told(&self) -> String {
        let from = self.story.len().saturating_sub(30);
        self.story[from..].join("\n")
    }

    /// The last events, and what runs.
    fn seen(&self) -> String {
        let events = fs::read_to_string(self.host.run_root().join("events")).unwrap_or_default();
        let lines: Vec<&str> = events.lines().collect();
        format!("{}\n{}", lines[lines.len().saturating_sub(60)..].join("\n"), self.host.run(&["ps", "-a"]).out)
    }

    /// Runs a command that must succeed.
    fn ok(&mut self, args: &[&str]) -> String {
        self.story.push(format!("then {}", args.join(" ")));
        let done = self.host.run(args);
        assert_eq!(done.code, 0, "umiak {}\n{}{}\nafter\n{}", args.join(" "), done.out, done.err, self.told());
        done.out
    }

    /// `up` puts everything right, and what is shown is what the kernel says.
    fn converges(&mut self) {
        self.ok(&["up", "-d"]);
        let told = self.told();
        // What was killed just before may be in the pause before its restart.
        eventually(&format!("all run, after\n{told}"), || {
            let listed = self.host.lines(&["ps", "-a", "--format", "json"]);
            if listed.len() != 3 || listed.iter().any(|one| one["State"] == "exited") {
                // Killed so late that its monitor had not yet noticed when `up` looked.
                self.host.ok(&["up", "-d"]);
                return Err(format!("{listed:?}"));
            }
            listed.iter().try_for_each(|one| self.runs(one))?;
            let found = self.host.run(&["exec", "-T", "idle", "nslookup", "web"]);
            if found.code != 0 {
                return Err(found.err);
            }
            match http("GET", &format!("127.0.0.1:{}", self.port), "/", "") {
                Ok((200, body)) if body == "here\n" => Ok(()),
                other => Err(format!("{other:?}\n{}", self.seen())),
            }
        });
        let before = self.host.run(&["logs", "--no-log-prefix", "--tail", "1", "counts"]).out;
        eventually(&format!("something new in the log, after\n{told}"), || {
            let now = self.host.run(&["logs", "--no-log-prefix", "--tail", "1", "counts"]).out;
            if now == before { Err(now) } else { Ok(()) }
        });
    }

    /// What is shown as running runs, and somebody looks after it.
    fn runs(&self, listed: &Value) -> Result<(), String> {
        let name = listed["Name"].as_str().unwrap();
        let pid = self.host.inspect(name)["State"]["Pid"].as_u64().unwrap();
        let lives = |pid: u64| state_of(pid).is_some_and(|state| state != 'Z');
        let state = crate::harness::stored_state(self.host, name);
        // One of the two may have been brought up by the other just now, and not have said so yet.
        let supervised = ["keeper", "monitor"].iter().filter_map(|which| state[which]["pid"].as_u64()).any(lives);
        if listed["State"] == "running" && lives(pid) && supervised { Ok(()) } else { Err(format!("{listed} {state}")) }
    }

    /// `down` leaves nothing.
    fn leaves_nothing(&mut self) {
        let (ids, networks) = (self.host.ids(), self.host.network_ids());
        self.ok(&["down", "-v", "-t", "0"]);
        let story = self.told();
        eventually(&format!("nothing is left, after\n{story}"), || {
            let mut left = self.host.leftovers(&ids, &networks);
            // What was half made when its command was killed goes with a command that comes a minute later.
            left.extend(
                names_in(&self.host.root().join("volumes")).into_iter().filter(|name| !name.starts_with(".new-")),
            );
            if let Ok(rules) = Command::new("nft").args(["list", "ruleset"]).output() {
                let rules = String::from_utf8_lossy(&rules.stdout).into_owned();
                left.extend(rules.lines().filter(|line| line.contains(&format!(" {} ", self.port))).map(str::to_owned));
            }
            if left.is_empty() { Ok(()) } else { Err(left.join("\n")) }
        });
    }

    /// One command, and one kill while it runs.
    fn round(&mut self, random: &mut Random) {
        const COMMANDS: [&[&str]; 9] = [
            &["up", "-d"],
            &["up", "-d", "--force-recreate", "-t", "0"],
            &["stop", "-t", "0"],
            &["start"],
            &["restart", "-t", "0"],
            &["logs", "-f"],
            &["up", "-d"],
            &["kill"],
            &["down", "-t", "0"],
        ];
        let args = COMMANDS[random.below(COMMANDS.len())];
        let mut command = self.host.command(args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(random.next() % 400));
        let killed = if random.below(4) == 0 {
            let _ = command.kill();
            "the command".to_owned()
        } else {
            let all = victims(self.host);
            // Each kind is as likely as the others, and now and then two go at once.
            let kinds = ["umiak-monitor", "umiak-keeper", "", ""];
            let kind = kinds[random.below(kinds.len())];
            let some: Vec<&Victim> = all.iter().filter(|victim| kind.is_empty() || victim.what == kind).collect();
            let count = 1 + usize::from(random.below(3) == 0);
            let chosen: Vec<&Victim> = (0..count).filter_map(|_| random.of(&some).copied()).collect();
            chosen.iter().for_each(|victim| kill(victim.pid));
            format!("{chosen:?}")
        };
        self.story.push(format!("{}, and killed: {killed}", args.join(" ")));
        if args[0] == "logs" {
            let _ = command.kill();
        }
        end(command, &args.join(" "), &self.story);
    }
}

#[test]
fn whatever_is_killed_whenever_the_next_up_converges_and_down_leaves_nothing() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().subsec_nanos();
    let seed = setting("UMIAK_SEED").unwrap_or_else(|| u64::from(now) + 1);
    let kills = setting("UMIAK_KILLS").unwrap_or(40);
    eprintln!("UMIAK_SEED={seed} UMIAK_KILLS={kills}");
    let port = free_port();
    host.write(".env", &format!("PORT={port}\n"));
    host.write("compose.yaml", STACK);
    let mut random = Random(seed);
    let mut run = Run { host: &host, port, story: vec![format!("UMIAK_SEED={seed}")] };
    run.converges();
    for number in 1..=kills {
        run.round(&mut random);
        if number % 5 == 0 {
            run.converges();
        }
        if number % 20 == 0 {
            run.leaves_nothing();
        }
    }
    run.leaves_nothing();
}
