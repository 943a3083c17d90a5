//! How the last run ended, and what its exit code says.

use umiak_runtime::signals;

use super::{Cause, Explanation, Facts, Unseen, hints};
use crate::ui::human::binary_size;

const SIGKILL: i32 = 9;

/// How the last run ended, as what is said after "it".
pub fn ending(facts: &Facts) -> Explanation {
    let code = facts.exit_code.unwrap_or(0);
    if let Some(unseen) = facts.unseen {
        return not_seen(facts, unseen);
    }
    if facts.end.not_started {
        return start_failed(facts);
    }
    if facts.oom_killed {
        return out_of_memory(facts, code);
    }
    if facts.end.unhealthy {
        let says = "was ended because its health checks had failed".to_owned();
        return Explanation::new(Cause::Unhealthy, says, vec![inspect_health(facts)]);
    }
    if facts.end.by_hand {
        return by_hand(facts, code);
    }
    match facts.end.signal {
        Some(signal) => killed(facts, signal),
        None => by_itself(facts, code),
    }
}

/// Where the checks of a run that is over are to be seen.
fn inspect_health(facts: &Facts) -> String {
    format!("`umiak logs {}`; what its checks said stands in `umiak inspect`, State.Health.Log", facts.service)
}

fn not_seen(facts: &Facts, unseen: Unseen) -> Explanation {
    let service = &facts.service;
    match unseen {
        Unseen::Reboot => Explanation::new(
            Cause::HostRestarted,
            "was running when the host was restarted, or lost its power".into(),
            vec!["`umiak up -d` starts the project again".into()],
        ),
        Unseen::MonitorLost => Explanation::new(
            Cause::MonitorLost,
            "ended: its monitor was gone, so nobody knows its exit code".into(),
            vec![format!("`umiak up -d {service}` starts it again")],
        ),
    }
}

/// It could not be started.
pub fn start_failed(facts: &Facts) -> Explanation {
    let (service, program) = (&facts.service, &facts.program);
    let error = facts.error.as_deref().unwrap_or("nothing is known of why");
    let says = format!("could not be started: {error}");
    let look = format!("`umiak run --rm --entrypoint sh {service}` looks into the image");
    let tries = match facts.exit_code {
        _ if error.to_lowercase().contains("exec format error") => vec![
            format!("{program} is for another kind of CPU, or a script without `#!`: check the image's platform"),
            look,
        ],
        // The file is there: what is missing is what it names in its first line.
        _ if error.starts_with("exec /") && error.ends_with("no such file or directory") => vec![
            "the interpreter in its first line, or the loader of its C library, is not in the image".to_owned(),
            "a script may have Windows line ends: then its first line names `sh\\r`".to_owned(),
            look,
        ],
        Some(127) => vec![
            format!("the program {program} was not found in the image: check `command` and `entrypoint`"),
            "a script may lack its interpreter (its first line), or have Windows line ends".to_owned(),
            look,
        ],
        Some(126) => vec![
            format!(
                "{program} is there and cannot be executed: `chmod +x` it, or check `user` and the volume's options"
            ),
            look,
        ],
        _ => vec![format!("`umiak start {service}` tries again")],
    };
    Explanation::new(Cause::StartFailed, says, tries)
}

/// "at its memory limit of 16MiB", where there was one.
pub fn oom_limit(limit: Option<u64>, peak: Option<u64>) -> String {
    let peak = peak.map(|peak| format!(", peak {}", binary_size(peak))).unwrap_or_default();
    match limit {
        Some(limit) => format!("at its memory limit of {}{peak}", binary_size(limit)),
        None => format!("because the host ran out of memory{peak}"),
    }
}

fn out_of_memory(facts: &Facts, code: i32) -> Explanation {
    let (limit, service) = (facts.end.memory_limit, &facts.service);
    let how = oom_limit(limit, facts.end.memory_peak);
    let says = match (facts.end.signal, code) {
        (Some(SIGKILL), _) => format!("was killed by the kernel {how} (exit code {code})"),
        (_, 0) => format!("ended with exit code 0, though the kernel had killed a process of it {how}"),
        _ => format!("ended with exit code {code} after the kernel had killed a process of it {how}"),
    };
    let tries = match limit {
        Some(limit) => vec![
            format!(
                "a higher `mem_limit` (or `deploy.resources.limits.memory`) for {service}, such as {}",
                twice(limit)
            ),
            "let the program use less: heap size, workers, caches".to_owned(),
        ],
        None => vec![format!(
            "a `mem_limit` for {service} or for others, so that one of them cannot take all of the host's memory"
        )],
    };
    Explanation::new(Cause::OutOfMemory, says, tries)
}

/// As a value of `mem_limit`.
fn twice(bytes: u64) -> String {
    match bytes.saturating_mul(2) {
        bytes if bytes >= 1 << 30 && bytes % (1 << 30) == 0 => format!("{}g", bytes >> 30),
        bytes if bytes >= 1 << 20 => format!("{}m", bytes >> 20),
        bytes => format!("{}k", bytes >> 10),
    }
}

fn by_hand(facts: &Facts, code: i32) -> Explanation {
    let service = &facts.service;
    let start = format!("`umiak start {service}` starts it again");
    let says = match facts.end.signal {
        Some(SIGKILL) => format!("was stopped by hand, and killed (exit code {code})"),
        Some(signal) => format!("was stopped by hand with {} (exit code {code})", signals::name(signal)),
        None => format!("was stopped by hand (exit code {code})"),
    };
    let mut tries = vec![start];
    if facts.end.signal == Some(SIGKILL) {
        tries.push(format!(
            "when `umiak stop` takes its whole {} s: the program does not heed the stop signal; `init: true`, an `exec` in the start script or `stop_signal` help",
            facts.grace
        ));
    }
    Explanation::new(Cause::StoppedByHand, says, tries)
}

fn killed(facts: &Facts, signal: i32) -> Explanation {
    let name = signals::name(signal);
    let program = &facts.program;
    let (cause, says, tries) = match name.as_str() {
        "SIGKILL" => (
            Cause::Killed,
            "was killed with SIGKILL (exit code 137): not for memory, but by `umiak kill`, by somebody on the host, or by the program itself".to_owned(),
            vec!["look for `kill`, a watchdog or an out-of-memory daemon on the host: `dmesg`, `journalctl -k`".to_owned()],
        ),
        "SIGSEGV" | "SIGBUS" | "SIGFPE" => (
            Cause::Crashed,
            format!("crashed with {name} (exit code {})", 128 + signal),
            vec![format!("a bug in {program} or in a library, or an image for another C library or CPU")],
        ),
        "SIGILL" => (
            Cause::Crashed,
            "crashed with SIGILL (exit code 132): an instruction that this CPU does not have".to_owned(),
            vec!["an image that is built for older CPUs".to_owned()],
        ),
        "SIGABRT" => (
            Cause::Crashed,
            "ended itself with SIGABRT (exit code 134): an assertion failed, or memory was damaged".to_owned(),
            Vec::new(),
        ),
        "SIGSYS" => (
            Cause::Crashed,
            "was ended with SIGSYS (exit code 159): a system call that the seccomp profile forbids".to_owned(),
            vec!["`security_opt: [seccomp=unconfined]` shows whether it is that; a profile of its own is better".to_owned()],
        ),
        _ => (
            Cause::Killed,
            format!("was ended with {name} (exit code {}), which `umiak stop` did not send", 128 + signal),
            Vec::new(),
        ),
    };
    Explanation::new(cause, says, tries)
}

fn by_itself(facts: &Facts, code: i32) -> Explanation {
    let (service, program) = (&facts.service, &facts.program);
    let look = format!("`umiak run --rm --entrypoint sh {service}` looks into the image");
    let failed = |meaning: &str| format!("ended with exit code {code}{meaning}");
    let (says, tries) = match code {
        0 => {
            return Explanation::new(
                Cause::Completed,
                "ended with exit code 0: it did what it was to do".into(),
                Vec::new(),
            );
        }
        1 => (
            failed(": an error of the program's own, which its last lines may tell"),
            vec![format!("`umiak logs {service}`")],
        ),
        2 => (
            failed(": often wrong arguments, or an error in a shell script"),
            vec![format!("check `command` and `entrypoint` of {service}")],
        ),
        125 => (
            failed(": the program it runs says that something could not be started"),
            vec![format!("`umiak logs {service}`")],
        ),
        126 => (
            failed(": a command was found that cannot be executed"),
            vec!["`chmod +x` it, or name its interpreter in `command`".to_owned(), look],
        ),
        127 if hints::lacks_library(&facts.last_lines) => {
            (failed(": a library that the program needs is not in the image"), vec![look])
        }
        127 => (
            failed(": a command was not found, by the shell or script that it runs"),
            vec![format!("check `command` and `entrypoint` ({program}), and what the script calls"), look],
        ),
        129..=192 => {
            let signal = signals::name(code - 128);
            (
                failed(&format!(": as after {signal}, which it caught itself, or which killed what it had started")),
                Vec::new(),
            )
        }
        _ => (failed(""), vec![format!("`umiak logs {service}`")]),
    };
    Explanation::new(Cause::Failed, says, tries)
}

/// A clause with the moment in it: before what it means, which may be long.
pub fn when(says: &str, ago: &str) -> String {
    match says.split_once(": ") {
        Some((what, meaning)) => format!("{what}{ago}: {meaning}"),
        None => format!("{says}{ago}"),
    }
}

/// The program that a command line runs, for a sentence.
pub fn program(args: &[String]) -> String {
    args.first().map_or_else(|| "its program".to_owned(), |program| format!("\"{program}\""))
}
