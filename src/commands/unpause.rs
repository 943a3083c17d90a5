//! `unpause`.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;

use super::{Context, down};
use crate::project::{load, observe, sequence};

/// Unpause services.
#[derive(Debug, Args)]
pub struct Unpause {
    /// Services; all if none
    services: Vec<String>,
}

impl Unpause {
    /// Runs the command.
    pub fn run(self, context: &Context) -> Result<ExitCode> {
        let project = load::named(context, &self.services)?;
        let members = observe::members(&context.engine, &project.name)?;
        let mut members = observe::select(members, &self.services, &|name| project.knows(name))?;
        members.retain(|member| member.container.state.status.is_up() && !member.is_one_off());
        let progress = context.progress();
        let errors = sequence::forward(&members, project.model.as_ref(), |member| {
            let what = format!("Container {}", member.container.config.name);
            context.engine.unpause(&member.container)?;
            progress.done(&what, "Unpaused");
            Ok(())
        });
        progress.finish();
        down::finish(errors)
    }
}
