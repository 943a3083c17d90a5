//! `umiak system`: what concerns all objects, and the program itself.

pub mod aliases;
pub mod boot;
pub mod check;
pub mod df;
pub mod enable;
pub mod events;
pub mod halt;
pub mod info;
pub mod prune;
mod unit;

use std::process::ExitCode;

use anyhow::Result;
use clap::Subcommand;

use super::Context;

/// Manage umiak as a whole.
#[derive(Debug, Subcommand)]
pub enum System {
    /// Start the containers whose restart policy says so, as after a reboot
    Boot(boot::Boot),
    /// Check every blob, layer and state file for damage, and repair it
    Check(check::Check),
    /// Show disk usage
    Df(df::Df),
    /// Do no longer start containers when the host boots
    Disable(enable::Disable),
    /// Start containers when the host boots: write the systemd unit, or print an OpenRC script
    Enable(enable::Enable),
    /// Get real time events of containers, images, networks and volumes
    Events(events::Events),
    /// Stop all containers, so that `system boot` brings back those that ran
    Halt(halt::Halt),
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
            Self::Boot(command) => command.run(context),
            Self::Check(command) => command.run(context),
            Self::Df(command) => command.run(context),
            Self::Disable(command) => command.run(),
            Self::Enable(command) => command.run(&context.global),
            Self::Events(command) => command.run(context),
            Self::Halt(command) => command.run(context),
            Self::Info(command) => command.run(context),
            Self::InstallAliases(command) => command.run(),
            Self::Prune(command) => command.run(context),
        }
    }
}
