//! The flags that decide what `up` does, which `plan` shows: one set, so that both always mean the same.

use anyhow::Result;
use clap::Args;

use crate::project::converge::{self, Request};
use crate::project::images::{Ask, Builds, Pull};
use crate::project::plan;
use umiak_compose::Project;

/// What is made, replaced and removed.
#[derive(Debug, Args)]
#[allow(clippy::struct_excessive_bools, reason = "one per flag")]
pub struct PlanFlags {
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
    pub locked: bool,
    /// Scale SERVICE to NUM instances; overrides the scale setting in the Compose file
    #[arg(long, value_name = "SERVICE=NUM")]
    scale: Vec<String>,
    /// Recreate containers even if their configuration and image haven't changed
    #[arg(long, conflicts_with = "no_recreate")]
    force_recreate: bool,
    /// If containers already exist, don't recreate them
    #[arg(long)]
    no_recreate: bool,
    /// Recreate dependent containers
    #[arg(long, conflicts_with = "no_recreate")]
    always_recreate_deps: bool,
    /// Recreate anonymous volumes instead of retrieving data from the previous containers
    #[arg(short = 'V', long)]
    renew_anon_volumes: bool,
    /// Don't start linked services
    #[arg(long)]
    no_deps: bool,
    /// Don't start the services after creating them
    #[arg(long)]
    pub no_start: bool,
    /// Remove containers for services not defined in the Compose file
    #[arg(long)]
    remove_orphans: bool,
    /// Assume "yes" as answer to all prompts: volumes that differ are recreated
    #[arg(short, long)]
    pub yes: bool,
}

impl PlanFlags {
    /// What they ask for, for these services (all if none).
    pub fn request(&self, project: &Project, services: &[String]) -> Result<Request> {
        let (remove_orphans, ignore_orphans) = converge::orphans(project, self.remove_orphans)?;
        Ok(Request {
            services: services.to_vec(),
            no_deps: self.no_deps,
            options: plan::Options {
                force_recreate: self.force_recreate,
                no_recreate: self.no_recreate,
                always_recreate_deps: self.always_recreate_deps,
                renew_anonymous: self.renew_anon_volumes,
                remove_orphans,
                ignore_orphans,
                no_start: self.no_start,
                scale: converge::scale(&self.scale, "--scale option")?,
                named: services.to_vec(),
                ..plan::Options::default()
            },
            images: Ask { pull: self.pull, build: Builds::of_flags(self.build, self.no_build)?, ..Ask::default() },
            yes: self.yes,
            ..Request::default()
        })
    }
}
