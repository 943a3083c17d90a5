//! `container logs`.

use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Args;

use crate::commands::Context;
use crate::engine::{Container, logs};
use crate::project::follow::{Follow, Options};

/// Fetch the logs of a container.
#[derive(Debug, Args)]
pub struct Logs {
    #[command(flatten)]
    which: crate::commands::logs::Selection,
    /// Show extra details provided to logs
    #[arg(long)]
    details: bool,
    /// The container
    container: String,
}

impl Logs {
    /// Runs the command.
    pub fn run(self, context: &Context) -> Result<ExitCode> {
        let container = Container::find(&context.engine.roots, &self.container)?;
        if logs::unreadable(&container.config)? {
            bail!("{}", logs::UNREADABLE);
        }
        let mut options = Options { separate_streams: true, details: self.details, ..self.which.options()? };
        options.query.details = self.details;
        let mut follow =
            Follow::new(&context.engine, options, crate::ui::logs::Prefixes::new([].into_iter(), false, false))?;
        follow.add(&container, String::new())?;
        follow.run(self.which.follow)?;
        Ok(ExitCode::SUCCESS)
    }
}
