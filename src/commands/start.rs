//! `start`: containers that are there; dependencies first.

use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Args;

use super::{Context, down};
use crate::project::{load, observe, sequence};

/// Start services.
#[derive(Debug, Args)]
pub struct Start {
    /// Services; all if none
    services: Vec<String>,
}

impl Start {
    /// Runs the command.
    pub fn run(self, context: &Context) -> Result<ExitCode> {
        let project = load::named(context, &self.services)?;
        let _lock = context.engine.lock_project(&project.name)?;
        let members = observe::members(&context.engine, &project.name)?;
        let members = observe::select(observe::replicas(members), &self.services, &|name| project.knows(name))?;
        for service in &self.services {
            if !members.iter().any(|member| member.service == *service) {
                bail!("service \"{service}\" has no container to start");
            }
        }
        let progress = context.progress();
        let errors = sequence::forward(&members, project.model.as_ref(), |member| {
            if member.container.state.status.is_up() {
                return Ok(());
            }
            let what = format!("Container {}", member.container.config.name);
            progress.working(&what, "Starting");
            context.engine.start(&member.container)?;
            progress.done(&what, "Started");
            Ok(())
        });
        progress.finish();
        down::finish(errors)
    }
}
