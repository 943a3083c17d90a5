//! `builder prune`.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use umiak_images::cache::{Kind, PruneCache, Row};

use super::{RowFilters, Which, created, last_used, unused};
use crate::commands::{Context, confirm};
use crate::engine::builders;
use crate::out;
use crate::ui::human::{parse_size, size};

/// Remove build cache.
#[derive(Debug, Args)]
pub struct Prune {
    /// Remove all of it, also what images share
    #[arg(short, long)]
    all: bool,
    #[command(flatten)]
    filters: RowFilters,
    #[command(flatten)]
    which: Which,
    /// Do not prompt for confirmation
    #[arg(short, long)]
    force: bool,
    /// Amount of disk space always allowed to keep for cache
    #[arg(long, value_name = "BYTES", value_parser = bytes, alias = "keep-storage", default_value = "0", hide_default_value = true)]
    reserved_space: u64,
    /// Maximum amount of disk space allowed to keep for cache
    #[arg(long, value_name = "BYTES", value_parser = bytes, default_value = "0", hide_default_value = true)]
    max_used_space: u64,
    /// Target amount of free disk space after pruning
    #[arg(long, value_name = "BYTES", value_parser = bytes, default_value = "0", hide_default_value = true)]
    min_free_space: u64,
    /// Provide a more verbose output
    #[arg(long)]
    verbose: bool,
}

fn bytes(text: &str) -> Result<u64, String> {
    parse_size(text).ok_or_else(|| format!("invalid size: '{text}'"))
}

impl Prune {
    /// Runs the command.
    pub fn run(self, context: &Context) -> Result<ExitCode> {
        builders::check(&context.engine.roots, self.which.builder.as_deref())?;
        let fits = self.filters.decide()?;
        let options = PruneCache {
            all: self.all,
            until: self.filters.until()?,
            reserved: self.reserved_space,
            max_used: self.max_used_space,
            min_free: self.min_free_space,
            filter: Some(&fits),
        };
        let what = if self.all { "all build cache" } else { "all dangling build cache" };
        if !self.force && !confirm(&format!("This will remove {what}."))? {
            return Ok(ExitCode::SUCCESS);
        }
        let pruned = unused(context, &options)?;
        if self.verbose {
            pruned.rows.iter().for_each(|row| out!("{}", long(row)));
        } else if !pruned.rows.is_empty() {
            out!("ID\t\t\t\t\t\tRECLAIMABLE\tSIZE\t\tLAST ACCESSED");
            pruned.rows.iter().for_each(|row| out!("{}", short(row)));
        }
        out!("Total:\t{}", size(pruned.bytes));
        Ok(ExitCode::SUCCESS)
    }
}

fn short(row: &Row) -> String {
    let id = format!("{}{}", row.id, if row.mutable { "*" } else { "" });
    let bytes = format!("{}{}", size(row.size), if row.shared { "*" } else { "" });
    format!("{id:<40}\t{:<5}\t\t{bytes:<10}\t{}", "true", last_used(row))
}

fn long(row: &Row) -> String {
    let mut text = format!("ID:\t\t{}\n", row.id);
    for parent in &row.parents {
        text += &format!("Parent:\t{parent}\n");
    }
    text += &format!(
        "Created at:\t{}\nMutable:\t{}\nReclaimable:\ttrue\nShared:\t\t{}\nSize:\t\t{}\n",
        created(row),
        row.mutable,
        row.shared,
        size(row.size)
    );
    text += &format!("Description:\t{}\nUsage count:\t{}\nLast used:\t{}\n", row.description, row.uses, last_used(row));
    if row.kind != Kind::Regular {
        text += &format!("Type:\t\t{}\n", row.kind);
    }
    text
}
