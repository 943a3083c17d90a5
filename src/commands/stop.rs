//! `stop`: dependents first.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;

use super::{Context, down};
use crate::project::{hooks, load, observe, sequence};

/// Stop services.
#[derive(Debug, Args)]
pub struct Stop {
    /// Seconds to wait for a container to stop before it is killed
    #[arg(short, long, value_name = "SECONDS", allow_hyphen_values = true)]
    timeout: Option<i64>,
    /// Services; all if none
    services: Vec<String>,
}

impl Stop {
    /// Runs the command.
    pub fn run(self, context: &Context) -> Result<ExitCode> {
        let project = load::named(context, &self.services)?;
        let members = observe::members(&context.engine, &project.name)?;
        let mut members = observe::select(members, &self.services, &|name| project.knows(name))?;
        members.retain(|member| member.container.state.status.is_up());
        let progress = context.progress();
        let errors = sequence::reverse(&members, project.model.as_ref(), |member| {
            let what = format!("Container {}", member.container.config.name);
            progress.working(&what, "Stopping");
            context.act(|| hooks::stop(&context.engine, &member.container, self.timeout))?;
            progress.done(&what, "Stopped");
            Ok(())
        });
        progress.finish();
        down::finish(errors)
    }
}
