//! `stats`: what the project's containers use.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;

use super::Context;
use super::container::stats::How;
use crate::engine::Container;
use crate::project::{load, observe};

/// Display a live stream of container(s) resource usage statistics.
#[derive(Debug, Args)]
pub struct Stats {
    #[command(flatten)]
    how: How,
    /// Services; all if none
    services: Vec<String>,
}

impl Stats {
    /// Runs the command.
    pub fn run(self, context: &Context) -> Result<ExitCode> {
        let project = load::named(context, &self.services)?;
        let list = || -> Result<Vec<Container>> {
            let members = observe::members(&context.engine, &project.name)?;
            let members = observe::select(members, &self.services, &|name| project.knows(name))?;
            Ok(members.into_iter().map(|member| member.container).collect())
        };
        self.how.show(&[], &list)
    }
}
