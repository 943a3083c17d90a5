//! `system install-aliases`: links under which the program speaks the language
//! of Docker's programs.

use std::io::ErrorKind;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::Args;

use crate::{note, out};

/// Make links named docker and docker-compose that lead to this program.
#[derive(Debug, Args)]
pub struct InstallAliases {
    /// The directory, like /usr/local/bin; files that are there already stay as they are
    directory: PathBuf,
}

const NAMES: [&str; 2] = ["docker", "docker-compose"];

impl InstallAliases {
    /// Runs the command; it fails when something else has one of the names.
    pub fn run(&self) -> Result<ExitCode> {
        let program = std::env::current_exe().context("find our own program")?;
        std::fs::metadata(&self.directory).with_context(|| format!("look at {}", self.directory.display()))?;
        let mut result = ExitCode::SUCCESS;
        for name in NAMES {
            let link = self.directory.join(name);
            match symlink(&program, &link) {
                Ok(()) => out!("{} -> {}", link.display(), program.display()),
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                    if std::fs::read_link(&link).is_ok_and(|target| target == program) {
                        out!("{} -> {} (there already)", link.display(), program.display());
                    } else {
                        note!("{} is there already, and is left as it is", link.display());
                        result = ExitCode::FAILURE;
                    }
                }
                Err(error) => return Err(error).with_context(|| format!("make {}", link.display())),
            }
        }
        Ok(result)
    }
}
