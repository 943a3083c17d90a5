//! Explanations as data: what was observed, and what is said.

use super::*;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_000_000 + seconds).unwrap()
}

/// A container that has run since a minute ago.
fn running() -> Facts {
    Facts {
        service: "web".into(),
        status: Status::Running,
        exit_code: None,
        error: None,
        oom_killed: false,
        end: End::default(),
        restarts: 0,
        policy: RestartPolicy::default(),
        health: None,
        supervised: true,
        unseen: None,
        wanted: true,
        waits_for: Vec::new(),
        started: Some(at(-180)),
        finished: None,
        now: at(0),
        program: "\"server\"".into(),
        grace: 10,
        last_lines: Vec::new(),
    }
}

/// One that ended three seconds ago.
fn exited(code: i32) -> Facts {
    Facts { status: Status::Exited, exit_code: Some(code), finished: Some(at(-3)), supervised: false, ..running() }
}

fn by_signal(signal: i32) -> Facts {
    Facts { end: End { signal: Some(signal), ..End::default() }, ..exited(128 + signal) }
}

fn with_end(facts: Facts, change: impl FnOnce(&mut End)) -> Facts {
    let mut facts = facts;
    change(&mut facts.end);
    facts
}

fn policy(text: &str) -> RestartPolicy {
    RestartPolicy::parse(text).unwrap()
}

fn health(status: HealthStatus, streak: u32, last: Option<(i32, &str)>) -> Option<HealthFacts> {
    let last = last.map(|(code, output)| (code, output.to_owned()));
    Some(HealthFacts { status, streak, last, command: "pg_isready".into(), restarts: false })
}

fn check(cases: Vec<(Facts, Cause, &str, &str)>) {
    for (facts, cause, says, tries) in cases {
        let explained = explain(&facts);
        assert_eq!(explained.cause, cause, "{says}: {explained:?}");
        assert_eq!(explained.says, says);
        assert_eq!(explained.tries.is_empty(), tries.is_empty(), "{says}: {explained:?}");
        assert!(tries.is_empty() || explained.tries.iter().any(|hint| hint.contains(tries)), "{tries}: {explained:?}");
    }
}

#[test]
fn what_runs_is_told_in_a_line() {
    let failing = |code, output| health(HealthStatus::Unhealthy, 3, Some((code, output)));
    let young = Facts { restarts: 4, exit_code: Some(1), started: Some(at(-2)), ..running() };
    check(vec![
        (running(), Cause::Running, "running for 3 minutes", ""),
        (
            Facts { health: health(HealthStatus::Healthy, 0, Some((0, "ok"))), ..running() },
            Cause::Running,
            "running for 3 minutes, healthy",
            "",
        ),
        (
            Facts { health: health(HealthStatus::Starting, 1, Some((1, "not yet"))), ..running() },
            Cause::Starting,
            "running for 3 minutes, not yet healthy; the last one ended with 1: not yet",
            "",
        ),
        (
            Facts { health: failing(2, "a\nno response\n"), ..running() },
            Cause::Unhealthy,
            "running for 3 minutes, but unhealthy: its last 3 health checks have failed; the last one ended with 2: no response",
            "umiak exec web pg_isready",
        ),
        (
            Facts { health: failing(-1, "Health check exceeded timeout (1s)"), ..running() },
            Cause::Unhealthy,
            "running for 3 minutes, but unhealthy: its last 3 health checks have failed; the last one: Health check exceeded timeout (1s)",
            "healthcheck.timeout",
        ),
        (
            Facts { health: failing(127, "sh: curl: not found"), ..running() },
            Cause::Unhealthy,
            "running for 3 minutes, but unhealthy: its last 3 health checks have failed; the last one ended with 127: sh: curl: not found",
            "x-umiak-healthcheck",
        ),
        (
            Facts { restarts: 1, exit_code: Some(1), ..running() },
            Cause::Running,
            "running for 3 minutes; restarted once, the last time because it ended with exit code 1: an error of the program's own, which its last lines may tell",
            "",
        ),
        (
            young,
            Cause::RestartLoop,
            "running for 2 seconds; restarted 4 times, the last time because it ended with exit code 1: an error of the program's own, which its last lines may tell",
            "umiak stop web",
        ),
        (
            Facts { supervised: false, ..running() },
            Cause::Unsupervised,
            "running for 3 minutes, but its monitor is gone: nobody checks its health, writes its log or restarts it",
            "umiak restart web",
        ),
        (
            Facts { status: Status::Paused, ..running() },
            Cause::Paused,
            "paused: its processes are frozen where they are",
            "umiak unpause web",
        ),
    ]);
}

#[test]
fn what_has_not_started_is_told_with_what_it_waits_for() {
    let created = || Facts { status: Status::Created, started: None, wanted: false, ..running() };
    let waits = Waits { service: "db".into(), says: "container demo-db-1 is unhealthy".into() };
    let failed = |code: i32, error: &str| {
        let facts = Facts { exit_code: Some(code), error: Some(error.into()), ..created() };
        with_end(facts, |end| end.not_started = true)
    };
    check(vec![
        (created(), Cause::NeverStarted, "created, and never started", "umiak start web"),
        (
            Facts { waits_for: vec![waits], ..created() },
            Cause::WaitingForDependency,
            "created, not started: it waits for what it depends on: container demo-db-1 is unhealthy",
            "umiak explain db",
        ),
        (
            Facts { wanted: true, ..created() },
            Cause::StartFailed,
            "created, not started: the command that was to start it ended before",
            "umiak start web",
        ),
        (
            failed(127, "exec: \"server\": executable file not found in $PATH"),
            Cause::StartFailed,
            "could not be started: exec: \"server\": executable file not found in $PATH",
            "check `command` and `entrypoint`",
        ),
        (
            failed(126, "exec: \"server\": permission denied"),
            Cause::StartFailed,
            "could not be started: exec: \"server\": permission denied",
            "chmod +x",
        ),
        (failed(126, "exec format error"), Cause::StartFailed, "could not be started: exec format error", "CPU"),
        (failed(125, "no such device"), Cause::StartFailed, "could not be started: no such device", "umiak start web"),
        (
            failed(128, "Bind for 0.0.0.0:80 failed: port is already allocated by nginx (pid 7)"),
            Cause::StartFailed,
            "could not be started: Bind for 0.0.0.0:80 failed: port is already allocated by nginx (pid 7)",
            "ss -ltnp",
        ),
        (
            failed(128, "exec /start.sh: no such file or directory"),
            Cause::StartFailed,
            "could not be started: exec /start.sh: no such file or directory",
            "interpreter in its first line",
        ),
        (
            failed(128, "unable to find user www: no matching entries in passwd file"),
            Cause::StartFailed,
            "could not be started: unable to find user www: no matching entries in passwd file",
            "a number need not",
        ),
        (
            failed(128, "bind source path does not exist: /x"),
            Cause::StartFailed,
            "could not be started: bind source path does not exist: /x",
            "check the paths",
        ),
    ]);
    let explained = absent("web");
    assert_eq!((explained.cause, explained.tries.len()), (Cause::NoContainer, 1));
}

#[test]
fn each_end_has_its_reason_and_what_to_try() {
    let oom = |facts: Facts| {
        let facts = Facts { oom_killed: true, ..facts };
        with_end(facts, |end| (end.memory_limit, end.memory_peak) = (Some(256 << 20), Some(255 << 20)))
    };
    let by_hand = |facts| with_end(facts, |end| end.by_hand = true);
    check(vec![
        (exited(0), Cause::Completed, "ended with exit code 0, 3 seconds ago: it did what it was to do", ""),
        (
            exited(1),
            Cause::Failed,
            "ended with exit code 1, 3 seconds ago: an error of the program's own, which its last lines may tell",
            "restart: on-failure",
        ),
        (
            exited(2),
            Cause::Failed,
            "ended with exit code 2, 3 seconds ago: often wrong arguments, or an error in a shell script",
            "command",
        ),
        (
            exited(126),
            Cause::Failed,
            "ended with exit code 126, 3 seconds ago: a command was found that cannot be executed",
            "chmod +x",
        ),
        (
            exited(127),
            Cause::Failed,
            "ended with exit code 127, 3 seconds ago: a command was not found, by the shell or script that it runs",
            "--entrypoint sh web",
        ),
        (
            exited(143),
            Cause::Failed,
            "ended with exit code 143, 3 seconds ago: as after SIGTERM, which it caught itself, or which killed what it had started",
            "restart",
        ),
        (exited(42), Cause::Failed, "ended with exit code 42, 3 seconds ago", "umiak logs web"),
        (
            oom(by_signal(9)),
            Cause::OutOfMemory,
            "was killed by the kernel at its memory limit of 256MiB, peak 255MiB (exit code 137), 3 seconds ago",
            "such as 512m",
        ),
        (
            oom(exited(1)),
            Cause::OutOfMemory,
            "ended with exit code 1 after the kernel had killed a process of it at its memory limit of 256MiB, peak 255MiB, 3 seconds ago",
            "mem_limit",
        ),
        (
            Facts { oom_killed: true, ..by_signal(9) },
            Cause::OutOfMemory,
            "was killed by the kernel because the host ran out of memory (exit code 137), 3 seconds ago",
            "mem_limit",
        ),
        (
            by_hand(exited(0)),
            Cause::StoppedByHand,
            "was stopped by hand (exit code 0), 3 seconds ago",
            "umiak start web",
        ),
        (
            by_hand(by_signal(9)),
            Cause::StoppedByHand,
            "was stopped by hand, and killed (exit code 137), 3 seconds ago",
            "init: true",
        ),
        (
            by_hand(by_signal(15)),
            Cause::StoppedByHand,
            "was stopped by hand with SIGTERM (exit code 143), 3 seconds ago",
            "umiak start web",
        ),
        (
            by_signal(9),
            Cause::Killed,
            "was killed with SIGKILL (exit code 137), 3 seconds ago: not for memory, but by `umiak kill`, by somebody on the host, or by the program itself",
            "dmesg",
        ),
        (by_signal(11), Cause::Crashed, "crashed with SIGSEGV (exit code 139), 3 seconds ago", "bug"),
        (
            by_signal(4),
            Cause::Crashed,
            "crashed with SIGILL (exit code 132), 3 seconds ago: an instruction that this CPU does not have",
            "older CPUs",
        ),
        (
            by_signal(1),
            Cause::Killed,
            "was ended with SIGHUP (exit code 129), which `umiak stop` did not send, 3 seconds ago",
            "restart",
        ),
        (
            with_end(by_signal(15), |end| end.unhealthy = true),
            Cause::Unhealthy,
            "was ended because its health checks had failed, 3 seconds ago",
            "Health.Log",
        ),
        (
            Facts { unseen: Some(Unseen::Reboot), ..exited(255) },
            Cause::HostRestarted,
            "was running when the host was restarted, or lost its power",
            "umiak up -d",
        ),
        (
            Facts { unseen: Some(Unseen::MonitorLost), ..exited(255) },
            Cause::MonitorLost,
            "ended: its monitor was gone, so nobody knows its exit code",
            "umiak up -d web",
        ),
    ]);
}

#[test]
fn loops_tell_the_next_try_and_the_end_of_tries() {
    let pausing = |policy: RestartPolicy, restarts, next: i64| {
        let facts = Facts { status: Status::Restarting, policy, restarts, supervised: true, ..exited(3) };
        with_end(facts, |end| end.next_start = Some(at(next)))
    };
    let delayed = RestartPolicy { delay: Some(Duration::from_secs(5)), ..policy("always") };
    check(vec![
        (
            pausing(policy("always"), 7, 10),
            Cause::RestartLoop,
            "ended with exit code 3 and is being restarted (7 times so far): next try in 10s, the one after it 26s after the next end",
            "umiak stop web",
        ),
        (
            Facts { exit_code: Some(1), ..pausing(policy("always"), 7, 10) },
            Cause::RestartLoop,
            "ended with exit code 1 (an error of the program's own, which its last lines may tell) and is being restarted (7 times so far): next try in 10s, the one after it 26s after the next end",
            "umiak stop web",
        ),
        (
            pausing(policy("on-failure:5"), 2, 1),
            Cause::RestartLoop,
            "ended with exit code 3 and is being restarted (twice so far): next try in 1s, the one after it 8s after the next end, 3 of 5 tries left",
            "umiak logs web",
        ),
        (
            pausing(delayed, 1, 0),
            Cause::RestartLoop,
            "ended with exit code 3 and is being restarted (once so far): next try at any moment, each after 5s",
            "umiak stop web",
        ),
        (
            Facts { policy: policy("on-failure:2"), restarts: 2, ..exited(3) },
            Cause::GaveUp,
            "ended with exit code 3, 3 seconds ago; given up after 2 restarts",
            "begins anew",
        ),
        (
            Facts { policy: policy("on-failure:2"), restarts: 1, ..exited(0) },
            Cause::Completed,
            "ended with exit code 0, 3 seconds ago: it did what it was to do; it had been restarted once",
            "",
        ),
    ]);
}

#[test]
fn the_last_lines_give_hints_where_something_is_wrong() {
    let lines = |text: &str| vec![text.to_owned(), "bye".to_owned()];
    for (text, hint) in [
        ("bind: Address already in use", "a port is taken"),
        ("Error: connect ECONNREFUSED 10.0.0.2:5432", "service_healthy"),
        ("could not translate host name \"db\" to address", "service's name"),
        ("mkdir: can't create directory '/x': Permission denied", "who owns"),
        ("touch: /x: Read-only file system", "read_only"),
        ("write: No space left on device", "disk is full"),
        (
            "app: error while loading shared libraries: libx.so.1: cannot open shared object file",
            "a library is missing",
        ),
        ("Error relocating /app: __sprintf_chk: symbol not found", "a library is missing"),
    ] {
        let explained = explain(&Facts { last_lines: lines(text), ..exited(1) });
        assert!(explained.tries.iter().any(|tried| tried.contains(hint)), "{text}: {explained:?}");
        let explained = explain(&Facts { last_lines: lines(text), ..running() });
        assert!(explained.tries.is_empty(), "{text}: {explained:?}");
    }
}
