//! Signal names and numbers, as stop signals are written: `SIGTERM`, `TERM`,
//! `15`, `SIGRTMIN+3`.

/// First real-time signal a program may use: the kernel's 32 plus two that C libraries keep.
const RTMIN: i32 = 34;
/// The last one.
const RTMAX: i32 = 64;

const NAMES: &[(&str, i32)] = &[
    ("ABRT", libc::SIGABRT),
    ("ALRM", libc::SIGALRM),
    ("BUS", libc::SIGBUS),
    ("CHLD", libc::SIGCHLD),
    ("CLD", libc::SIGCHLD),
    ("CONT", libc::SIGCONT),
    ("FPE", libc::SIGFPE),
    ("HUP", libc::SIGHUP),
    ("ILL", libc::SIGILL),
    ("INT", libc::SIGINT),
    ("IO", libc::SIGIO),
    ("IOT", libc::SIGABRT),
    ("KILL", libc::SIGKILL),
    ("PIPE", libc::SIGPIPE),
    ("POLL", libc::SIGIO),
    ("PROF", libc::SIGPROF),
    ("PWR", libc::SIGPWR),
    ("QUIT", libc::SIGQUIT),
    ("SEGV", libc::SIGSEGV),
    ("STKFLT", libc::SIGSTKFLT),
    ("STOP", libc::SIGSTOP),
    ("SYS", libc::SIGSYS),
    ("TERM", libc::SIGTERM),
    ("TRAP", libc::SIGTRAP),
    ("TSTP", libc::SIGTSTP),
    ("TTIN", libc::SIGTTIN),
    ("TTOU", libc::SIGTTOU),
    ("URG", libc::SIGURG),
    ("USR1", libc::SIGUSR1),
    ("USR2", libc::SIGUSR2),
    ("VTALRM", libc::SIGVTALRM),
    ("WINCH", libc::SIGWINCH),
    ("XCPU", libc::SIGXCPU),
    ("XFSZ", libc::SIGXFSZ),
];

/// A text that names no signal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid signal: {text}")]
pub struct UnknownSignal {
    /// As written.
    pub text: String,
}

/// The number of the signal that `text` names; the empty text is SIGTERM.
///
/// # Errors
/// When it names none.
pub fn parse(text: &str) -> Result<i32, UnknownSignal> {
    let unknown = || UnknownSignal { text: text.to_owned() };
    if text.is_empty() {
        return Ok(libc::SIGTERM);
    }
    if let Ok(number) = text.parse::<i32>() {
        return if (1..=RTMAX).contains(&number) { Ok(number) } else { Err(unknown()) };
    }
    let upper = text.to_ascii_uppercase();
    let bare = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some((_, number)) = NAMES.iter().find(|(name, _)| *name == bare) {
        return Ok(*number);
    }
    real_time(bare).ok_or_else(unknown)
}

fn real_time(name: &str) -> Option<i32> {
    let (base, offset) = if let Some(rest) = name.strip_prefix("RTMIN") {
        (RTMIN, rest.strip_prefix('+'))
    } else {
        (RTMAX, name.strip_prefix("RTMAX")?.strip_prefix('-'))
    };
    let offset = match offset {
        Some(digits) => digits.parse::<i32>().ok().filter(|n| (0..=RTMAX - RTMIN).contains(n))?,
        None if name.len() == 5 => 0,
        None => return None,
    };
    let number = if base == RTMIN { base + offset } else { base - offset };
    (RTMIN..=RTMAX).contains(&number).then_some(number)
}

/// The name of a signal with its `SIG`; real-time ones as `SIGRTMIN+n`.
#[must_use]
pub fn name(number: i32) -> String {
    match NAMES.iter().find(|(_, known)| *known == number) {
        Some((name, _)) => format!("SIG{name}"),
        None if (RTMIN..=RTMAX).contains(&number) => format!("SIGRTMIN+{}", number - RTMIN),
        None => number.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers() {
        for (text, number) in [
            ("SIGTERM", 15),
            ("term", 15),
            ("15", 15),
            ("", 15),
            ("SigKill", 9),
            ("SIGRTMIN", 34),
            ("SIGRTMIN+3", 37),
            ("RTMAX-1", 63),
            ("RTMAX", 64),
            ("64", 64),
        ] {
            assert_eq!(parse(text), Ok(number), "{text}");
        }
        for text in ["0", "65", "-1", "SIG", "FOO", "SIGRTMIN+31", "SIGRTMIN-1", "RTMIN+", "RTMINX", " 15"] {
            assert!(parse(text).is_err(), "{text}");
        }
        assert_eq!(name(15), "SIGTERM");
        assert_eq!(name(37), "SIGRTMIN+3");
        assert_eq!(parse("FOO").unwrap_err().to_string(), "invalid signal: FOO");
    }
}
