//! `container create`.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;

use super::flags::Flags;
use super::run::{cidfile, not_started};
use crate::commands::Context;
use crate::engine::image::Policy;
use crate::personality::Personality;
use crate::{failure, out};

/// Create a new container.
#[derive(Debug, Args)]
#[command(disable_help_flag = true)]
pub struct Create {
    /// Pull the image before creating: always, missing, never
    #[arg(long, value_enum, default_value = "missing")]
    pull: Policy,
    /// Suppress the pull output
    #[arg(short, long)]
    quiet: bool,
    /// Platform of the image: os[/arch[/variant]]
    #[arg(long)]
    platform: Option<String>,
    #[command(flatten)]
    flags: Flags,
    /// Print help
    #[arg(long, action = clap::ArgAction::Help)]
    help: Option<bool>,
    /// The image
    image: String,
    /// The command and its arguments
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

impl Create {
    /// Runs the command.
    pub fn run(self, context: &Context) -> Result<ExitCode> {
        let mut request = self.flags.request(&self.image, &self.command).map_err(not_started)?;
        request.asked.attach_output = true;
        request.asked.attach_stdin = self.flags.interactive;
        let progress = if self.quiet { crate::ui::progress::Progress::quiet() } else { context.progress() };
        let engine = &context.engine;
        // What Docker's client finds wrong itself ends with 125, what its daemon does with 1.
        let failed = |error| match Personality::current() {
            Personality::Docker => failure::without_code(error),
            _ => not_started(error),
        };
        engine.sweep().map_err(failed)?;
        let image = engine.image(&self.image, self.pull, self.platform.as_deref(), &progress).map_err(failed)?;
        progress.finish();
        engine.check_networks(&request).map_err(failed)?;
        let container = engine.create(request, &image).map_err(failed)?;
        cidfile(self.flags.cidfile.as_deref(), &container.config.id).map_err(failed)?;
        out!("{}", container.config.id);
        Ok(ExitCode::SUCCESS)
    }
}
