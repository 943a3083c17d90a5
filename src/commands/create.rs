//! `create`: as `up`, without starting anything.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;

use super::Context;
use crate::project::converge::{self, Request};
use crate::project::images::{Ask, Builds, Pull};
use crate::project::{load, plan};

/// Create containers for a service.
#[derive(Debug, Args)]
#[allow(clippy::struct_excessive_bools, reason = "one per flag")]
pub struct Create {
    /// Build images before starting containers
    #[arg(long)]
    build: bool,
    /// Don't build an image, even if it's policy
    #[arg(long)]
    no_build: bool,
    /// Pull image before running: always, missing, never, policy
    #[arg(long, value_enum)]
    pull: Option<Pull>,
    /// Use exactly the images of umiak.lock
    #[arg(long)]
    locked: bool,
    /// Pull without printing progress information
    #[arg(long)]
    quiet_pull: bool,
    /// Recreate containers even if their configuration and image haven't changed
    #[arg(long, conflicts_with = "no_recreate")]
    force_recreate: bool,
    /// If containers already exist, don't recreate them
    #[arg(long)]
    no_recreate: bool,
    /// Remove containers for services not defined in the Compose file
    #[arg(long)]
    remove_orphans: bool,
    /// Scale SERVICE to NUM instances; overrides the scale setting in the Compose file
    #[arg(long, value_name = "SERVICE=NUM")]
    scale: Vec<String>,
    /// Assume "yes" as answer to all prompts
    #[arg(short, long)]
    yes: bool,
    /// Keep what was made when something fails
    #[arg(long)]
    keep: bool,
    /// Services; all if none
    services: Vec<String>,
}

impl Create {
    /// Runs the command.
    pub fn run(self, context: &Context) -> Result<ExitCode> {
        let project = load::model(context, &self.services, true)?;
        if self.locked {
            crate::project::lock::use_locked(&context.engine, &project)?;
        }
        let _lock = context.lock_project(&project.name)?;
        let (remove_orphans, ignore_orphans) = converge::orphans(&project, self.remove_orphans)?;
        let request = Request {
            options: plan::Options {
                force_recreate: self.force_recreate,
                no_recreate: self.no_recreate,
                remove_orphans,
                ignore_orphans,
                no_start: true,
                scale: converge::scale(&self.scale, "--scale option")?,
                named: self.services.clone(),
                ..plan::Options::default()
            },
            services: self.services,
            images: Ask {
                pull: self.pull,
                build: Builds::of_flags(self.build, self.no_build)?,
                quiet_pull: self.quiet_pull,
                ..Ask::default()
            },
            yes: self.yes,
            keep: self.keep,
            ..Request::default()
        };
        let progress = context.progress();
        request.converge(context, &project, &progress)?;
        progress.finish();
        Ok(ExitCode::SUCCESS)
    }
}
