//! `umiak container`: single containers, without a Compose file.

mod exec;
mod flags;
mod health;
mod inspect;
mod lifecycle;
mod logs;
mod ls;
mod run;
mod stats;

use std::process::ExitCode;

use anyhow::Result;
use clap::Subcommand;

use super::Context;

pub use flags::{pair, volume};

/// Manage single containers.
#[derive(Debug, Subcommand)]
pub enum Container {
    /// Create and run a new container from an image
    Run(Box<run::Run>),
    /// List containers
    #[command(visible_alias = "list", visible_alias = "ps")]
    Ls(ls::Ls),
    /// Display detailed information on containers
    Inspect(inspect::Inspect),
    /// Fetch the logs of a container
    Logs(logs::Logs),
    /// Execute a command in a running container
    Exec(exec::Exec),
    /// Stop running containers
    Stop(lifecycle::Stop),
    /// Start stopped containers
    Start(lifecycle::Start),
    /// Kill running containers
    Kill(lifecycle::Kill),
    /// Pause all processes within containers
    Pause(lifecycle::Pause),
    /// Unpause all processes within containers
    Unpause(lifecycle::Unpause),
    /// Remove containers
    Rm(lifecycle::Rm),
    /// Block until containers stop, then print their exit codes
    Wait(lifecycle::Wait),
    /// Display resource usage
    Stats(stats::Stats),
}

impl Container {
    /// Runs the command.
    pub fn run(self, context: &Context) -> Result<ExitCode> {
        match self {
            Self::Run(command) => command.run(context),
            Self::Ls(command) => command.run(context),
            Self::Inspect(command) => command.run(context),
            Self::Logs(command) => command.run(context),
            Self::Exec(command) => command.run(context),
            Self::Stop(command) => command.run(context),
            Self::Start(command) => command.run(context),
            Self::Kill(command) => command.run(context),
            Self::Pause(command) => command.run(context),
            Self::Unpause(command) => command.run(context),
            Self::Rm(command) => command.run(context),
            Self::Wait(command) => command.run(context),
            Self::Stats(command) => command.run(context),
        }
    }
}
