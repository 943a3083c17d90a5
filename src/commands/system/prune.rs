//! `system prune`.

use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Args;

use crate::commands::filters::{Filters, LongFilters};
use crate::commands::{Context, confirm, container, image, network, volume};
use crate::out;
use crate::ui::human;

/// Remove unused data.
#[derive(Debug, Args)]
pub struct Prune {
    /// Remove all unused images, not just those without a name
    #[arg(short, long)]
    all: bool,
    #[command(flatten)]
    filters: LongFilters,
    /// Do not prompt for confirmation
    #[arg(short, long)]
    force: bool,
    /// Prune anonymous volumes
    #[arg(long)]
    volumes: bool,
}

impl Prune {
    /// Runs the command.
    pub fn run(self, context: &Context) -> Result<ExitCode> {
        let filters: Filters = self.filters.into();
        if self.volumes && filters.values("until").next().is_some() {
            bail!("The \"until\" filter is not supported with \"--volumes\"");
        }
        let mut what = vec!["all stopped containers", "all networks not used by at least one container"];
        what.extend(self.volumes.then_some("all anonymous volumes not used by at least one container"));
        what.push(if self.all { "all images without at least one container" } else { "all dangling images" });
        if !self.force && !confirm(&format!("This will remove: {}.", what.join(", ")))? {
            return Ok(ExitCode::SUCCESS);
        }
        let (removed, mut bytes) = container::prune::stopped(&context.engine, &filters)?;
        container::prune::report(&removed);
        network::report(&network::unused(context, &filters)?);
        if self.volumes {
            let (removed, freed) = volume::unused(context, false, &filters)?;
            volume::report(&removed);
            bytes += freed;
        }
        let pruned = image::unused(context, self.all, &filters)?;
        image::report(&pruned);
        out!("Total reclaimed space: {}", human::size3(bytes + pruned.bytes));
        Ok(ExitCode::SUCCESS)
    }
}
