//! `lock`: which images the names of a project stand for, written down.

use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::Args;

use super::Context;
use crate::project::load;
use crate::project::lock::{Lock, path};
use crate::{failure, note, out};

/// Write the digests of all images of a project to umiak.lock, beside its Compose file.
#[derive(Debug, Args)]
pub struct LockCommand {
    /// Write nothing, and end with 2 when something would change
    #[arg(long)]
    check: bool,
    /// Say nothing
    #[arg(short, long)]
    quiet: bool,
}

impl LockCommand {
    /// Runs the command.
    pub fn run(self, context: &Context) -> Result<ExitCode> {
        let project = load::model(context, &[], false)?;
        let path = path(&project);
        let before = Lock::read(&path);
        // A file that is damaged is written anew, and is no lock file to check.
        let (before, damaged) = match before {
            Err(error) if self.check => return Err(error),
            Err(error) => (None, Some(error)),
            Ok(before) => (before, None),
        };
        let new = Lock::of_project(&context.engine, &project, before.as_ref(), context.workers())?;
        let old = before.clone().unwrap_or_default();
        if !self.quiet {
            damaged.iter().for_each(|error| note!("warning: {}", failure::one_line(error)));
            old.changes(&new).iter().for_each(|line| out!("{line}"));
        }
        let same = before.as_ref() == Some(&new);
        if self.check {
            if before.is_none() && !self.quiet {
                note!("there is no {}", path.display());
            }
            return Ok(if same { ExitCode::SUCCESS } else { ExitCode::from(2) });
        }
        if !same && !context.global.dry_run {
            umiak_base::state::write_bytes(&path, new.text().as_bytes(), 0o644)
                .with_context(|| format!("write {}", path.display()))?;
        }
        if !self.quiet {
            let what = if same { "is up to date" } else { "written" };
            note!("{} {what}: {} images", path.display(), new.len());
        }
        Ok(ExitCode::SUCCESS)
    }
}
