//! `volumes`: the project's volumes.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use umiak_runtime::config::MountKind;

use super::Context;
use super::volume::{LISTING, row};
use crate::engine::volume;
use crate::project::{labels, load, observe};
use crate::ui::listing::{Listing, Row};

/// List volumes.
#[derive(Debug, Args)]
pub struct Volumes {
    /// Only display volume names
    #[arg(short, long)]
    quiet: bool,
    /// Format output: table, json, or a Go template
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Services that use them; all volumes of the project if none
    services: Vec<String>,
}

impl Volumes {
    /// Runs the command.
    pub fn run(self, context: &Context) -> Result<ExitCode> {
        let (engine, project) = (&context.engine, load::named(context, &self.services)?);
        let members = observe::members(engine, &project.name)?;
        let members = observe::select(members, &self.services, &|name| project.knows(name))?;
        let mut volumes = volume::list(&engine.roots)?;
        volumes.retain(|volume| {
            let mounted = |mount: &umiak_runtime::config::Mount| matches!(&mount.kind, MountKind::Volume(used) if used.name == volume.name);
            let used = || members.iter().any(|member| member.container.config.runtime.mounts.iter().any(mounted));
            volume.labels.get(labels::PROJECT) == Some(&project.name) && (self.services.is_empty() || used())
        });
        let rows: Vec<Row> = volumes.iter().map(|found| row(context, found)).collect();
        match self.quiet {
            true => Listing::print_field("Name", &rows),
            false => LISTING.print(self.format.as_deref(), &["Driver", "Name"], &rows)?,
        }
        Ok(ExitCode::SUCCESS)
    }
}
