//! `commit`: a new image from a service container's changes.

use std::process::ExitCode;

use anyhow::Result;
use clap::{ArgAction, Args};

use super::Context;
use crate::engine::commit::CommitOptions;
use crate::project::{load, observe};

/// Create a new image from a service container's changes.
#[derive(Debug, Args)]
pub struct Commit {
    #[command(flatten)]
    flags: Flags,
    /// Index of the container if service has multiple replicas
    #[arg(long, value_name = "N")]
    index: Option<u32>,
    /// The service
    service: String,
    /// The image's name: REPOSITORY[:TAG]
    name: Option<String>,
}

/// What the new image is to be, shared with `container commit`.
#[derive(Debug, Args)]
pub struct Flags {
    /// Author
    #[arg(short, long, default_value = "")]
    author: String,
    /// Apply Dockerfile instruction to the created image
    #[arg(short, long, value_name = "INSTRUCTION")]
    change: Vec<String>,
    /// Commit message
    #[arg(short, long, default_value = "")]
    message: String,
    /// Pause container during commit
    #[arg(
        short,
        long,
        value_name = "BOOL",
        action = ArgAction::Set,
        num_args = 0..=1,
        require_equals = true,
        default_value = "true",
        default_missing_value = "true"
    )]
    pause: bool,
}

impl From<Flags> for CommitOptions {
    fn from(flags: Flags) -> Self {
        Self { author: flags.author, message: flags.message, changes: flags.change, pause: flags.pause }
    }
}

impl Commit {
    /// Runs the command.
    pub fn run(self, context: &Context) -> Result<ExitCode> {
        let project = load::named(context, &[])?;
        let member = observe::one(&context.engine, &project.name, &self.service, self.index)?;
        let what = format!("Commit {}", member.container.config.name);
        let progress = context.progress();
        progress.working(&what, "Committing");
        if context.global.dry_run {
            progress.done(&what, "Committed");
            progress.finish();
            return Ok(ExitCode::SUCCESS);
        }
        match context.engine.commit(&member.container, self.name.as_deref(), &self.flags.into()) {
            Ok(image) => progress.done(&what, &format!("Committed as {}", image.id)),
            Err(error) => {
                progress.failed(&what, "Error");
                progress.finish();
                return Err(error);
            }
        }
        progress.finish();
        Ok(ExitCode::SUCCESS)
    }
}
