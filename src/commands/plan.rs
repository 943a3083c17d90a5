//! `plan`: what `up` would do, and why.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, ValueEnum};

use super::Context;
use crate::out;
use crate::project::converge::{self, Request};
use crate::project::images::Pull;
use crate::project::{load, plan, show};

/// Show what `up` would do, and why. Exits with 2 when something would change.
#[derive(Debug, Args)]
#[allow(clippy::struct_excessive_bools, reason = "one per flag")]
pub struct PlanCommand {
    /// How it is shown
    #[arg(long, value_enum, default_value = "tree")]
    format: Form,
    /// Pull image before running: always, missing, never, policy
    #[arg(long, value_enum)]
    pull: Option<Pull>,
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
    no_start: bool,
    /// Remove containers for services not defined in the Compose file
    #[arg(long)]
    remove_orphans: bool,
    /// Assume "yes" as answer to all prompts: volumes that differ are recreated
    #[arg(short, long)]
    yes: bool,
    /// Services; all if none
    services: Vec<String>,
}

/// The form of a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Form {
    /// For people.
    Tree,
    /// For programs.
    Json,
}

impl PlanCommand {
    /// Runs the command.
    pub fn run(self, context: &Context) -> Result<ExitCode> {
        let project = load::model(context, &self.services, true)?;
        let (remove_orphans, ignore_orphans) = converge::orphans(&project, self.remove_orphans)?;
        let renew_volumes = if self.yes { project.volumes.keys().cloned().collect() } else { Default::default() };
        let request = Request {
            options: plan::Options {
                force_recreate: self.force_recreate,
                no_recreate: self.no_recreate,
                always_recreate_deps: self.always_recreate_deps,
                renew_anonymous: self.renew_anon_volumes,
                remove_orphans,
                ignore_orphans,
                no_start: self.no_start,
                scale: converge::scale(&self.scale, "--scale option")?,
                named: self.services.clone(),
                renew_volumes,
                ..plan::Options::default()
            },
            services: self.services,
            no_deps: self.no_deps,
            pull: self.pull,
            ..Request::default()
        };
        let plan = request.plan(&context.engine, &project)?;
        match self.format {
            Form::Tree => {
                for warning in &plan.warnings {
                    crate::note!("warning: {warning}");
                }
                for key in &plan.volumes_differ {
                    crate::note!("warning: volume {key} differs from its definition, and stays as it is without --yes");
                }
                out!("{}", show::tree(&project, &plan));
            }
            Form::Json => out!("{:#}", show::json(&project, &plan)),
        }
        Ok(if plan.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(2) })
    }
}
