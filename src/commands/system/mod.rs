//! `umiak system`: what concerns all objects, and the program itself.

pub mod aliases;
pub mod df;
pub mod events;
pub mod info;
pub mod prune;

use std::process::ExitCode;

use anyhow::Result;
use clap::Subcommand;

use super::Context;

/// Manage umiak as a whole.
#[derive(Debug, Subcommand)]
pub enum System {
    /// Show disk usage
    Df(df::Df),
    /// Get real time events of containers, images, networks and volumes
    Events(events::Events),
    /// Display system-wide information
    Info(info::Info),
    /// Make links named docker and docker-compose that lead to this program
    InstallAliases(aliases::InstallAliases),
    /// Remove unused data
    Prune(prune::Prune),
}

impl System {
    /// Runs the command.
    pub fn run(self, context: &Context) -> Result<ExitCode> {
        match self {
            Self::Df(command) => command.run(context),
            Self::Events(command) => command.run(context),
            Self::Info(command) => command.run(context),
            Self::InstallAliases(command) => command.run(),
            Self::Prune(command) => command.run(context),
        }
    }
}
