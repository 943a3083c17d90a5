//! How a failed command ends: one report with the chain of causes and a hint,
//! and the exit code.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::OnceLock;

use owo_colors::OwoColorize as _;

use crate::personality::Personality;

/// What to do about an error, attached to it on its way up.
#[derive(Debug)]
pub struct Hint(pub String);

impl fmt::Display for Hint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The command ends with this code and nothing more is said.
#[derive(Debug, Clone, Copy)]
pub struct Exit(pub i32);

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "exit code {}", self.0)
    }
}

impl std::error::Error for Exit {}

/// An error with an exit code of its own (`run` ends with 125, 126 or 127 when nothing was started).
#[derive(Debug)]
pub struct Coded {
    /// What is said.
    pub text: String,
    /// The program's exit code.
    pub code: i32,
}

impl fmt::Display for Coded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Coded {}

/// An error of the command line itself: Docker's programs say it without naming the daemon.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Plain(pub String);

/// The same error, without an exit code of its own.
pub fn without_code(error: anyhow::Error) -> anyhow::Error {
    error.downcast::<Coded>().map_or_else(|error| error, |coded| anyhow::Error::msg(coded.text))
}

/// Adds a hint to an error.
pub trait WithHint<T> {
    /// `hint` says what to do next.
    ///
    /// # Errors
    /// The same error, with the hint.
    fn hint(self, hint: impl FnOnce() -> String) -> anyhow::Result<T>;
}

impl<T, E: Into<anyhow::Error>> WithHint<T> for Result<T, E> {
    fn hint(self, hint: impl FnOnce() -> String) -> anyhow::Result<T> {
        self.map_err(|error| error.into().context(Hint(hint())))
    }
}

/// An exit code as the process's.
pub fn code(code: i32) -> ExitCode {
    ExitCode::from(u8::try_from(code & 0xff).unwrap_or(1))
}

/// The chain of causes as one line, outermost first, hints left out.
pub fn one_line(error: &anyhow::Error) -> String {
    let mut parts: Vec<String> = Vec::new();
    for text in causes(error) {
        // A library may repeat its cause in its own text: say it once.
        if !parts.last().is_some_and(|last| last.ends_with(&text)) {
            parts.push(text);
        }
    }
    parts.join(": ")
}

fn causes(error: &anyhow::Error) -> Vec<String> {
    let hints = hints(error);
    error.chain().map(ToString::to_string).filter(|text| !hints.contains(text)).collect()
}

fn hints(error: &anyhow::Error) -> Vec<String> {
    // A context is found by downcasting the error itself; with several, the outermost is what counts.
    error.downcast_ref::<Hint>().map(|hint| vec![hint.0.clone()]).unwrap_or_default()
}

/// Prints an error once and gives the exit code.
pub fn report(error: &anyhow::Error) -> ExitCode {
    if let Some(exit) = error.downcast_ref::<Exit>() {
        return code(exit.0);
    }
    let colour = crate::ui::Ansi::Auto.stderr();
    if let Some(umiak_compose::LoadError(diagnostics)) = error.downcast_ref() {
        for diagnostic in diagnostics {
            crate::note!("{}", diagnostic.render());
        }
        return ExitCode::FAILURE;
    }
    let text = one_line(error);
    if Personality::current() == Personality::Docker {
        crate::note!("{}", as_docker(error, &as_go(&text)));
    } else if Personality::current() == Personality::Compose {
        crate::note!("{text}");
    } else if colour {
        crate::note!("{}{text}", "Error: ".red().bold());
    } else {
        crate::note!("Error: {text}");
    }
    for hint in hints(error) {
        if colour {
            crate::note!("{} {hint}", "hint:".cyan().bold());
        } else {
            crate::note!("hint: {hint}");
        }
    }
    if Personality::current() != Personality::Docker
        && is_disk_full(error, &text)
        && let Some(room) = room()
    {
        crate::note!("hint: {room}");
    }
    error.downcast_ref::<Coded>().map_or(ExitCode::FAILURE, |coded| code(coded.code))
}

/// The data root of this process: what is said of a full disk is said of it.
static DATA_ROOT: OnceLock<PathBuf> = OnceLock::new();

/// Tells where everything lies, before anything can fail there.
pub fn set_data_root(path: &Path) {
    // The first one is the one of the command line.
    let _ = DATA_ROOT.set(path.to_owned());
}

/// Whether there was no room for something; other processes' failures have come here as text.
fn is_disk_full(error: &anyhow::Error, text: &str) -> bool {
    use std::io::ErrorKind::{QuotaExceeded, StorageFull};
    let full = |cause: &(dyn std::error::Error + 'static)| {
        cause.downcast_ref::<std::io::Error>().is_some_and(|error| matches!(error.kind(), StorageFull | QuotaExceeded))
    };
    error.chain().any(full) || text.contains("No space left on device")
}

fn room() -> Option<String> {
    let root = DATA_ROOT.get()?;
    let fs = rustix::fs::statvfs(root).ok()?;
    let bytes = crate::ui::human::size3(fs.f_bavail.saturating_mul(fs.f_frsize));
    let inodes = fs.f_favail;
    // File systems that make inodes as they are needed count none.
    let inodes = if fs.f_files == 0 { String::new() } else { format!(" and {inodes} inodes") };
    Some(format!(
        "{bytes}{inodes} are free in {}; `umiak system df` shows what takes room, `umiak system prune` makes some",
        root.display()
    ))
}

/// The words that scripts written for Docker look for.
fn as_docker(error: &anyhow::Error, text: &str) -> String {
    let template = error.is::<crate::template::ParseError>()
        || error.downcast_ref::<crate::template::ExecError>().is_some()
        || error
            .chain()
            .any(|cause| cause.is::<crate::template::ParseError>() || cause.is::<crate::template::ExecError>());
    match error.downcast_ref::<Coded>() {
        _ if template || error.is::<Plain>() => text.to_owned(),
        Some(coded) if coded.code >= 125 && coded.text.starts_with("docker: ") => text.to_owned(),
        Some(coded) if coded.code >= 125 && !coded.text.starts_with("OCI runtime exec") => {
            format!("docker: Error response from daemon: {text}\n\nRun 'docker run --help' for more information")
        }
        Some(_) => text.to_owned(),
        None => format!("Error response from daemon: {text}"),
    }
}

/// The kernel's answers as Go prints them: without a number, in lower case.
pub fn as_go(text: &str) -> String {
    let part = |part: &str| match part.rsplit_once(" (os error ") {
        Some((said, number)) if number.strip_suffix(')').is_some_and(|number| number.parse::<u16>().is_ok()) => {
            let mut letters = said.chars();
            letters.next().map(|first| first.to_lowercase().chain(letters).collect()).unwrap_or_default()
        }
        _ => part.to_owned(),
    };
    text.split(": ").map(part).collect::<Vec<String>>().join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context as _;

    #[test]
    fn a_report_has_the_chain_without_the_hint() {
        let low: anyhow::Result<()> = Err(anyhow::anyhow!("no space left on device"));
        let error = low.context("write /x").hint(|| "free some space".into()).context("pull redis").unwrap_err();
        assert_eq!(one_line(&error), "pull redis: write /x: no space left on device");
        assert_eq!(hints(&error), ["free some space"]);
        let low = std::io::Error::from_raw_os_error(2);
        let text = one_line(&anyhow::Error::new(low).context("open /X"));
        assert_eq!(as_go(&text), "open /X: no such file or directory");
        assert_eq!(as_go("A: B (os error of ours): C"), "A: B (os error of ours): C");
    }
}
