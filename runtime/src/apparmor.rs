//! AppArmor: the profile of containers that ask for none, and how the kernel
//! gets it. A profile is compiled by `apparmor_parser`, a program of the host;
//! where that is missing, containers run without one, as everything else of the
//! sandbox does not depend on it.

use std::io::{self, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::config::Config;

/// The name of the default profile.
pub const DEFAULT: &str = "umiak-default";

/// What it says: everything is allowed, as far as capabilities, seccomp and namespaces leave it, but for what reaches the
/// host's kernel through `/proc` and `/sys`, mounts, and signals and traces to and from others.
const PROFILE: &str = include_str!("apparmor/umiak-default");

const ENABLED: &str = "/sys/module/apparmor/parameters/enabled";
const PROFILES: &str = "/sys/kernel/security/apparmor/profiles";
/// Where the parser is: whatever PATH a command was started with.
const PARSERS: [&str; 3] = ["/usr/sbin/apparmor_parser", "/sbin/apparmor_parser", "/usr/bin/apparmor_parser"];

/// Why the default profile is not in the kernel.
#[derive(Debug, thiserror::Error)]
pub enum AppArmorError {
    /// The program that compiles profiles is not installed.
    #[error("apparmor_parser is not installed")]
    NoParser,
    /// It could not be run.
    #[error("run {path}")]
    Run {
        /// The program.
        path: &'static str,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// It did not take the profile.
    #[error("apparmor_parser: {said}")]
    Refused {
        /// What it said.
        said: String,
    },
}

/// Whether the kernel has AppArmor, and it is on.
#[must_use]
pub fn is_enabled() -> bool {
    std::fs::read_to_string(ENABLED).is_ok_and(|text| text.starts_with('Y'))
}

/// Whether the kernel has a profile.
#[must_use]
pub fn is_loaded(profile: &str) -> bool {
    std::fs::read_to_string(PROFILES).is_ok_and(|text| lists(&text, profile))
}

/// Lines are `NAME (MODE)`.
fn lists(text: &str, profile: &str) -> bool {
    text.lines().any(|line| line.rsplit_once(" (").is_some_and(|(name, _)| name == profile))
}

/// Gives the kernel the default profile, unless it has it or AppArmor is off.
///
/// # Errors
/// When there is no `apparmor_parser`, or it fails.
pub fn load() -> Result<(), AppArmorError> {
    if !is_enabled() || is_loaded(DEFAULT) {
        return Ok(());
    }
    let parser = PARSERS.into_iter().find(|path| Path::new(path).exists()).ok_or(AppArmorError::NoParser)?;
    let failed = |source| AppArmorError::Run { path: parser, source };
    let mut child = Command::new(parser)
        .args(["--replace", "--skip-cache"])
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    if let Some(mut stdin) = child.stdin.take() {
        // One that does not read it says why.
        let _ = stdin.write_all(PROFILE.as_bytes());
    }
    let output = child.wait_with_output().map_err(failed)?;
    match output.status.success() {
        true => Ok(()),
        false => Err(AppArmorError::Refused { said: String::from_utf8_lossy(&output.stderr).trim().to_owned() }),
    }
}

/// The profile that a container runs with: its own, else the default one where the kernel has it.
#[must_use]
pub fn of(config: &Config) -> Option<String> {
    match config.apparmor.as_deref() {
        Some("" | "unconfined") => None,
        Some(profile) => Some(profile.to_owned()),
        None => (!config.privileged && is_loaded(DEFAULT)).then(|| DEFAULT.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn profiles_are_found_by_their_whole_name() {
        let text = "umiak-default-old (enforce)\n/usr/bin/man (complain)\numiak-default (enforce)\n";
        assert!(lists(text, DEFAULT) && lists(text, "/usr/bin/man"));
        assert!(!lists(text, "umiak") && !lists(text, "man") && !lists("", DEFAULT));
    }

    #[test]
    fn a_profile_that_is_named_goes_before_the_default_one() {
        let with = |profile: Option<&str>, privileged| {
            of(&Config { apparmor: profile.map(str::to_owned), privileged, ..Config::default() })
        };
        assert_eq!(with(Some("mine"), true).as_deref(), Some("mine"));
        assert_eq!(with(Some("unconfined"), false), None);
        assert_eq!(with(None, true), None);
        assert_eq!(with(None, false).is_some(), is_loaded(DEFAULT));
    }

    #[test]
    fn the_parser_takes_the_profile() {
        let Some(parser) = PARSERS.into_iter().find(|path| Path::new(path).exists()) else { return };
        // Compiled, and not given to the kernel.
        let mut child = Command::new(parser)
            .args(["--skip-kernel-load", "--skip-cache", "--quiet"])
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(PROFILE.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}
