//! Under which name the program was called: its own, or that of Docker's
//! programs, whose language it then speaks.

use std::ffi::OsStr;
use std::path::Path;
use std::sync::OnceLock;

/// The program that is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Personality {
    /// `umiak`.
    Own,
    /// `docker`.
    Docker,
    /// `docker-compose`, or `docker compose`.
    Compose,
}

/// The version of Docker's engine and client whose language is spoken under the name `docker`: what scripts compare.
pub const DOCKER_VERSION: &str = "28.5.2";
/// The same for Docker Compose.
pub const COMPOSE_VERSION: &str = "2.40.3";

static CURRENT: OnceLock<Personality> = OnceLock::new();
static COMPOSE: OnceLock<()> = OnceLock::new();

impl Personality {
    /// By the name that the program was called by.
    pub fn of(name: Option<&OsStr>) -> Self {
        match name.and_then(|name| Path::new(name).file_name()).and_then(OsStr::to_str) {
            Some("docker") => Self::Docker,
            Some("docker-compose") => Self::Compose,
            _ => Self::Own,
        }
    }

    /// Settles it for the process.
    pub fn settle(self) {
        let _ = CURRENT.set(self);
    }

    /// `docker compose`: from here on the language of Compose.
    pub fn settle_compose() {
        let _ = COMPOSE.set(());
    }

    /// The version that is told to scripts.
    pub fn version(self) -> &'static str {
        match self {
            Self::Own => env!("CARGO_PKG_VERSION"),
            Self::Docker => DOCKER_VERSION,
            Self::Compose => COMPOSE_VERSION,
        }
    }

    /// What one types for a command of a project.
    pub fn command(self) -> &'static str {
        match self {
            Self::Own => "umiak",
            Self::Docker | Self::Compose => "docker compose",
        }
    }

    /// What was settled.
    pub fn current() -> Self {
        if COMPOSE.get().is_some() {
            return Self::Compose;
        }
        CURRENT.get().copied().unwrap_or(Self::Own)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_part_of_the_name_decides() {
        let of = |name: &str| Personality::of(Some(OsStr::new(name)));
        assert_eq!(of("/usr/local/bin/docker"), Personality::Docker);
        assert_eq!(of("docker-compose"), Personality::Compose);
        assert_eq!(of("./docker/umiak"), Personality::Own);
        assert_eq!(Personality::of(None), Personality::Own);
    }
}
