//! `builder du`.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use serde_json::json;
use umiak_images::cache::{Row, Totals};

use super::{RowFilters, Which, created, last_used};
use crate::commands::Context;
use crate::engine::builders;
use crate::out;
use crate::ui::human::size;
use crate::ui::listing::{self, Listing};

/// Show what the build cache holds.
#[derive(Debug, Args)]
pub struct Du {
    #[command(flatten)]
    filters: RowFilters,
    #[command(flatten)]
    which: Which,
    /// Format output: table, pretty, json, or a Go template
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Shorthand for "--format=pretty"
    #[arg(long)]
    verbose: bool,
}

const LISTING: Listing = Listing {
    type_name: "*commands.duContext",
    headers: &[
        ("ID", "ID"),
        ("Parents", "PARENTS"),
        ("CreatedAt", "CREATED AT"),
        ("Mutable", "MUTABLE"),
        ("Reclaimable", "RECLAIMABLE"),
        ("Shared", "SHARED"),
        ("Size", "SIZE"),
        ("Description", "DESCRIPTION"),
        ("UsageCount", "USAGE COUNT"),
        ("LastUsedAt", "LAST ACCESSED"),
        ("Type", "TYPE"),
    ],
};

impl Du {
    /// Runs the command.
    pub fn run(self, context: &Context) -> Result<ExitCode> {
        builders::check(&context.engine.roots, self.which.builder.as_deref())?;
        let fits = self.filters.decide()?;
        let mut rows = context.engine.store()?.cache().du()?;
        rows.retain(fits);
        let format = self.format.as_deref().or(self.verbose.then_some("pretty"));
        match format {
            Some("pretty") => rows.iter().for_each(|row| out!("{}", pretty(row))),
            Some(format) if format != "table" => {
                let rows: Vec<listing::Row> = rows.iter().map(fields).collect();
                LISTING.print(Some(format), &[], &rows)?;
                return Ok(ExitCode::SUCCESS);
            }
            _ => {
                let rows: Vec<listing::Row> = rows.iter().map(starred).collect();
                LISTING.print(format, &["ID", "Reclaimable", "Size", "LastUsedAt"], &rows)?;
            }
        }
        if self.filters.is_empty() {
            totals(Totals::of(&rows));
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn totals(Totals { total, shared, reclaimable }: Totals) {
    if shared > 0 {
        out!("Shared:\t\t{}\nPrivate:\t{}", size(shared), size(total - shared));
    }
    out!("Reclaimable:\t{}\nTotal:\t\t{}", size(reclaimable), size(total));
}

fn fields(row: &Row) -> listing::Row {
    listing::Row::new([
        ("ID", json!(row.id)),
        ("Parents", if row.parents.is_empty() { json!(null) } else { json!(row.parents) }),
        ("CreatedAt", json!(created(row))),
        ("Mutable", json!(row.mutable)),
        ("Reclaimable", json!(!row.in_use)),
        ("Shared", json!(row.shared)),
        ("Size", json!(size(row.size))),
        ("Description", json!(row.description)),
        ("UsageCount", json!(row.uses)),
        ("LastUsedAt", json!(last_used(row))),
        ("Type", json!(row.kind.to_string())),
    ])
}

/// As the table shows it: a star for what changes, and for a size that images share.
fn starred(row: &Row) -> listing::Row {
    let star = |set: bool| if set { "*" } else { "" };
    listing::Row::new([
        ("ID", json!(format!("{}{}", row.id, star(row.mutable)))),
        ("Reclaimable", json!(!row.in_use)),
        ("Size", json!(format!("{}{}", size(row.size), star(row.shared)))),
        ("LastUsedAt", json!(last_used(row))),
    ])
}

fn pretty(row: &Row) -> String {
    let mut text = format!("ID:           {}\n", row.id);
    if !row.parents.is_empty() {
        text += "Parents:\n";
        for parent in &row.parents {
            text += &format!(" - {parent}\n");
        }
    }
    let lines = [
        ("Created at:", created(row)),
        ("Mutable:", row.mutable.to_string()),
        ("Reclaimable:", (!row.in_use).to_string()),
        ("Shared:", row.shared.to_string()),
        ("Size:", size(row.size)),
        ("Description:", row.description.clone()),
        ("Usage count:", row.uses.to_string()),
        ("Last used:", last_used(row)),
        ("Type:", row.kind.to_string()),
    ];
    for (name, value) in lines.iter().filter(|(_, value)| !value.is_empty()) {
        text += &format!("{name:<14}{value}\n");
    }
    text
}
