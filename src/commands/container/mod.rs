//! `umiak container`: single containers, without a Compose file.

pub mod attach;
pub mod cp;
pub mod create;
pub mod exec;
pub mod files;
pub(in crate::commands) mod flags;
mod foreground;
pub mod health;
mod host_flags;
pub mod inspect;
pub mod lifecycle;
pub mod logs;
pub mod ls;
mod mount_flag;
mod network_flag;
pub mod port;
pub mod prune;
pub mod restart;
pub mod run;
pub mod start;
pub mod stats;
pub mod top;
pub mod update;

use std::process::ExitCode;

use anyhow::Result;
use clap::Subcommand;

use super::Context;

pub use flags::{label, link, pair};
pub use foreground::check_terminal;
pub use mount_flag::volume;

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
    /// Create a new image from a container's changes
    Commit(files::Commit),
    /// Inspect changes to files or directories on a container's filesystem
    Diff(files::Diff),
    /// Export a container's filesystem as a tar archive
    Export(files::Export),
    /// Rename a container
    Rename(files::Rename),
    /// Copy files/folders between a container and the local filesystem
    Cp(cp::Cp),
    /// Fetch the logs of a container
    Logs(logs::Logs),
    /// Execute a command in a running container
    Exec(exec::Exec),
    /// Stop running containers
    Stop(lifecycle::Stop),
    /// Start stopped containers
    Start(start::Start),
    /// Restart containers
    Restart(restart::Restart),
    /// Attach local standard input, output, and error streams to a running container
    Attach(attach::Attach),
    /// Create a new container
    Create(Box<create::Create>),
    /// List port mappings or a specific mapping for the container
    Port(port::Port),
    /// Remove all stopped containers
    Prune(prune::Prune),
    /// Display the running processes of a container
    Top(top::Top),
    /// Kill running containers
    Kill(lifecycle::Kill),
    /// Pause all processes within containers
    Pause(lifecycle::Pause),
    /// Unpause all processes within containers
    Unpause(lifecycle::Unpause),
    /// Remove containers
    Rm(lifecycle::Rm),
    /// Update the configuration of containers
    Update(update::Update),
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
            Self::Commit(command) => command.run(context),
            Self::Diff(command) => command.run(context),
            Self::Export(command) => command.run(context),
            Self::Rename(command) => command.run(context),
            Self::Cp(command) => command.run(context),
            Self::Logs(command) => command.run(context),
            Self::Exec(command) => command.run(context),
            Self::Stop(command) => command.run(context),
            Self::Start(command) => command.run(context),
            Self::Restart(command) => command.run(context),
            Self::Attach(command) => command.run(context),
            Self::Create(command) => command.run(context),
            Self::Port(command) => command.run(context),
            Self::Prune(command) => command.run(context),
            Self::Top(command) => command.run(context),
            Self::Kill(command) => command.run(context),
            Self::Pause(command) => command.run(context),
            Self::Unpause(command) => command.run(context),
            Self::Rm(command) => command.run(context),
            Self::Update(command) => command.run(context),
            Self::Wait(command) => command.run(context),
            Self::Stats(command) => command.run(context),
        }
    }
}
