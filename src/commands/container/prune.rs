//! `container prune`.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;

use crate::commands::Context;
use crate::commands::filters::{Filters, LongFilters};
use crate::engine::{Engine, disk};
use crate::out;
use crate::ui::human;

/// Remove all stopped containers.
#[derive(Debug, Args)]
pub struct Prune {
    #[command(flatten)]
    filters: LongFilters,
    /// Do not prompt for confirmation
    #[arg(short, long)]
    force: bool,
}

impl Prune {
    /// Runs the command.
    pub fn run(self, context: &Context) -> Result<ExitCode> {
        if !self.force && !crate::commands::confirm("This will remove all stopped containers.")? {
            return Ok(ExitCode::SUCCESS);
        }
        let (removed, bytes) = stopped(&context.engine, &self.filters.into())?;
        report(&removed);
        out!("Total reclaimed space: {}", human::size(bytes));
        Ok(ExitCode::SUCCESS)
    }
}

/// Says which were removed.
pub fn report(removed: &[String]) {
    if !removed.is_empty() {
        out!("Deleted Containers:\n{}\n", removed.join("\n"));
    }
}

/// Removes stopped containers: their ids, and how many bytes they had written.
pub fn stopped(engine: &Engine, filters: &Filters) -> Result<(Vec<String>, u64)> {
    filters.only(&["label", "label!", "until"])?;
    let before = crate::commands::until(filters)?;
    let (mut removed, mut bytes) = (Vec::new(), 0);
    for container in engine.containers()? {
        let old = before.is_none_or(|before| container.config.created < before);
        if container.state.status.is_up() || !old || !filters.labels(&container.config.labels) {
            continue;
        }
        let size = disk::tree(&container.config.runtime.rootfs.upper);
        engine.remove(&container, false, false)?;
        bytes += size;
        removed.push(container.config.id);
    }
    Ok((removed, bytes))
}
