//! `pause` and `unpause`.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;

use super::{Context, down};
use crate::engine::{Container, Engine};
use crate::project::{load, observe, sequence};

/// Pause services.
#[derive(Debug, Args)]
pub struct Pause {
    /// Services; all if none
    services: Vec<String>,
}

/// Unpause services.
#[derive(Debug, Args)]
pub struct Unpause {
    /// Services; all if none
    services: Vec<String>,
}

impl Pause {
    /// Runs the command.
    pub fn run(self, context: &Context) -> Result<ExitCode> {
        each(context, &self.services, Engine::pause, "Paused")
    }
}

impl Unpause {
    /// Runs the command.
    pub fn run(self, context: &Context) -> Result<ExitCode> {
        each(context, &self.services, Engine::unpause, "Unpaused")
    }
}

fn each(
    context: &Context,
    services: &[String],
    act: fn(&Engine, &Container) -> Result<()>,
    done: &str,
) -> Result<ExitCode> {
    let project = load::named(context, services)?;
    let members = observe::members(&context.engine, &project.name)?;
    let mut members = observe::select(members, services, &|name| project.knows(name))?;
    members.retain(|member| member.container.state.status.is_up() && !member.is_one_off());
    let progress = context.progress();
    let errors = sequence::forward(&members, project.model.as_ref(), |member| {
        let what = format!("Container {}", member.container.config.name);
        context.act(|| act(&context.engine, &member.container))?;
        progress.done(&what, done);
        Ok(())
    });
    progress.finish();
    down::finish(errors)
}
