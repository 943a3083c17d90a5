//! `image history`.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use serde_json::json;

use crate::commands::Context;
use crate::ui::human;
use crate::ui::listing::{Listing, Row};

/// Show the history of an image.
#[derive(Debug, Args)]
pub struct History {
    /// Format output: table, json, or a Go template
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Print sizes and dates in human readable format
    #[arg(short = 'H', long, default_value = "true", num_args = 0..=1, require_equals = true, default_missing_value = "true", action = clap::ArgAction::Set)]
    human: bool,
    /// Don't truncate output
    #[arg(long)]
    no_trunc: bool,
    /// Only an image for this platform: os[/arch[/variant]]
    #[arg(long)]
    platform: Option<String>,
    /// Only show image IDs
    #[arg(short, long)]
    quiet: bool,
    /// The image
    image: String,
}

const LISTING: Listing = Listing {
    type_name: "*formatter.historyContext",
    headers: &[
        ("ID", "IMAGE"),
        ("CreatedSince", "CREATED"),
        ("CreatedAt", "CREATED AT"),
        ("CreatedBy", "CREATED BY"),
        ("Size", "SIZE"),
        ("Comment", "COMMENT"),
    ],
};

impl History {
    /// Runs the command.
    pub fn run(self, context: &Context) -> Result<ExitCode> {
        let image = super::resolve_for(context, &self.image, self.platform.as_deref())?;
        let store = context.engine.store()?;
        // Of a layer that is not unpacked only the size of its blob is known.
        let sizes = image.layers.iter().zip(&image.manifest.layers);
        let mut sizes = sizes.map(|(diff_id, blob)| store.layer_bytes(diff_id).unwrap_or(blob.size));
        let mut rows = Vec::new();
        for (index, step) in image.config.history.iter().enumerate() {
            let size = if step.empty_layer { 0 } else { sizes.next().unwrap_or(0) };
            let last = index + 1 == image.config.history.len();
            let short = umiak_base::id::short(image.id.hex()).to_owned();
            let id = match (last, self.no_trunc) {
                (false, _) => "<missing>".to_owned(),
                (true, true) => image.id.to_string(),
                (true, false) => short,
            };
            let created: Option<jiff::Timestamp> = step.created.as_deref().and_then(|text| text.parse().ok());
            let at =
                created.map_or_else(|| "N/A".to_owned(), |created| created.strftime("%Y-%m-%dT%H:%M:%SZ").to_string());
            let by = step.created_by.clone().unwrap_or_default().replace('\t', " ");
            let by = match self.no_trunc || by.chars().count() <= 45 {
                true => by,
                false => by.chars().take(44).collect::<String>() + "…",
            };
            rows.push(Row::new([
                ("ID", json!(id)),
                ("CreatedSince", json!(created.filter(|_| self.human).map_or_else(|| at.clone(), human::ago))),
                ("CreatedAt", json!(at)),
                ("CreatedBy", json!(by)),
                ("Size", json!(if self.human { human::size3(size) } else { size.to_string() })),
                ("Comment", json!(step.comment.clone().unwrap_or_default())),
            ]));
        }
        rows.reverse();
        if self.quiet {
            Listing::print_field("ID", &rows);
            return Ok(ExitCode::SUCCESS);
        }
        LISTING.print(self.format.as_deref(), &["ID", "CreatedSince", "CreatedBy", "Size", "Comment"], &rows)?;
        Ok(ExitCode::SUCCESS)
    }
}
