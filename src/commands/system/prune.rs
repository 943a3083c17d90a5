//! `system prune`.

use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Args;

use crate::commands::filters::{Filters, LongFilters};
use crate::commands::{Context, builder, confirm, container, image, network, volume};
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
        what.push(if self.all {
            "all images without at least one container associated to them"
        } else {
            "all dangling images"
        });
        what.push(if self.all { "all build cache" } else { "unused build cache" });
        let mut question = format!("This will remove:\n  - {}\n", what.join("\n  - "));
        if !filters.pairs().is_empty() {
            let all: Vec<String> = filters.pairs().iter().map(|(name, value)| format!("{name}={value}")).collect();
            question += &format!("\n  Items to be pruned will be filtered with:\n  - {}\n", all.join("\n  - "));
        }
        if !self.force && !confirm(&question)? {
            return Ok(ExitCode::SUCCESS);
        }
        // What builds left that were killed is no container of anybody.
        context.engine.sweep_builds()?;
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
        bytes += cache(context, self.all, &filters)? + pruned.bytes;
        out!("Total reclaimed space: {}", human::size3(bytes));
        Ok(ExitCode::SUCCESS)
    }
}

/// Removes build cache, and says what; the bytes that it had. As in Docker, filters by label spare all of it.
fn cache(context: &Context, all: bool, filters: &Filters) -> Result<u64> {
    if filters.pairs().iter().any(|(name, _)| name != "until") {
        return Ok(0);
    }
    let until = crate::commands::until(filters)?
        .map(|until| std::time::Duration::try_from(jiff::Timestamp::now().duration_since(until)).unwrap_or_default());
    let options = umiak_images::cache::PruneCache { all, until, ..Default::default() };
    let pruned = builder::unused(context, &options)?;
    if !pruned.rows.is_empty() {
        out!("Deleted build cache objects:");
        for row in &pruned.rows {
            out!("{}", row.id);
        }
        out!("");
    }
    Ok(pruned.bytes)
}
