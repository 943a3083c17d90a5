//! `docker builder` and `docker buildx`, which Docker made one.

use std::process::ExitCode;

use anyhow::Result;
use clap::Subcommand;

use crate::commands::{Context, builder, image};

/// The builder's commands.
#[derive(Debug, Subcommand)]
pub enum Buildx {
    /// Start a build
    #[command(visible_alias = "b")]
    Build(Box<image::build::Build>),
    /// Disk usage
    Du(builder::du::Du),
    /// Remove build cache
    Prune(builder::prune::Prune),
}

impl Buildx {
    /// Runs the command.
    pub fn run(self, context: &Context) -> Result<ExitCode> {
        match self {
            Self::Build(command) => command.run(context),
            Self::Du(command) => command.run(context),
            Self::Prune(command) => command.run(context),
        }
    }
}
