//! `pause`.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;

use super::{Context, down};
use crate::project::{load, observe, sequence};

/// Pause services.
#[derive(Debug, Args)]
pub struct Pause {
    /// Services; all if none
    services: Vec<String>,
}

impl Pause {
    /// Runs the command.
    pub fn run(self, context: &Context) -> Result<ExitCode> {
        let project = load::named(context, &self.services)?;
        let members = observe::members(&context.engine, &project.name)?;
        let mut members = observe::select(members, &self.services, &|name| project.knows(name))?;
        members.retain(|member| member.container.state.status.is_up() && !member.is_one_off());
        let progress = context.progress();
        let errors = sequence::forward(&members, project.model.as_ref(), |member| {
            let what = format!("Container {}", member.container.config.name);
            context.engine.pause(&member.container)?;
            progress.done(&what, "Paused");
            Ok(())
        });
        progress.finish();
        down::finish(errors)
    }
}
