//! `plan`: what `up` would do, and why.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, ValueEnum};

use super::Context;
use super::plan_flags::PlanFlags;
use crate::out;
use crate::project::{load, show};

/// Show what `up` would do, and why. Exits with 2 when something would change.
#[derive(Debug, Args)]
pub struct PlanCommand {
    /// How it is shown
    #[arg(long, value_enum, default_value = "tree")]
    format: Form,
    #[command(flatten)]
    flags: PlanFlags,
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
        if self.flags.locked {
            crate::project::lock::use_locked(&context.engine, &project)?;
        }
        let mut request = self.flags.request(&project, &self.services)?;
        if self.flags.yes {
            request.options.renew_volumes = project.volumes.keys().cloned().collect();
        }
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
