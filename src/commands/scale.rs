//! `scale`: other numbers of replicas.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;

use super::Context;
use crate::project::converge::{self, Request};
use crate::project::{load, plan};

/// Scale services.
#[derive(Debug, Args)]
pub struct Scale {
    /// Don't start linked services
    #[arg(long)]
    no_deps: bool,
    /// Services and how many containers of each
    #[arg(value_name = "SERVICE=REPLICAS", required = true)]
    replicas: Vec<String>,
}

impl Scale {
    /// Runs the command.
    pub fn run(self, context: &Context) -> Result<ExitCode> {
        let scale = converge::scale(&self.replicas, "scale specifier")?;
        let services: Vec<String> = scale.keys().cloned().collect();
        let project = load::model(context, &services, true)?;
        let _lock = context.lock_project(&project.name)?;
        let options =
            plan::Options { scale, named: services.clone(), ignore_orphans: true, ..plan::Options::default() };
        let request = Request { services, no_deps: self.no_deps, options, ..Request::default() };
        let progress = context.progress();
        request.converge(context, &project, &progress)?;
        progress.finish();
        Ok(ExitCode::SUCCESS)
    }
}
