//! `kill`.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;

use super::{Context, down};
use crate::engine::stop;
use crate::project::{load, observe, sequence};

/// Force stop service containers.
#[derive(Debug, Args)]
pub struct Kill {
    /// SIGNAL to send to the container
    #[arg(short, long, default_value = "SIGKILL")]
    signal: String,
    /// Services; all if none
    services: Vec<String>,
}

impl Kill {
    /// Runs the command.
    pub fn run(self, context: &Context) -> Result<ExitCode> {
        let signal = stop::signal(&self.signal)?;
        let project = load::named(context, &self.services)?;
        let members = observe::members(&context.engine, &project.name)?;
        let mut members = observe::select(members, &self.services, &|name| project.knows(name))?;
        members.retain(|member| member.container.state.status.is_up());
        let progress = context.progress();
        let errors = sequence::reverse(&members, project.model.as_ref(), |member| {
            let what = format!("Container {}", member.container.config.name);
            progress.working(&what, "Killing");
            context.engine.kill(&member.container, signal)?;
            progress.done(&what, "Killed");
            Ok(())
        });
        progress.finish();
        down::finish(errors)
    }
}
