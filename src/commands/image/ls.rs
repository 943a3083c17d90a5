//! `image ls`, which is `docker images`.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use serde_json::json;
use umiak_images::store::Image;

use crate::commands::Context;
use crate::commands::filters::{Filters, glob};
use crate::engine::image::{in_use, split_name};
use crate::ui::human;
use crate::ui::listing::{Listing, Row};

/// List images.
#[derive(Debug, Args)]
#[allow(clippy::struct_excessive_bools, reason = "one per flag")]
pub struct Ls {
    /// Show all images; there are no intermediate ones here, so nothing more is shown
    #[arg(short, long)]
    all: bool,
    /// Show digests
    #[arg(long)]
    digests: bool,
    #[command(flatten)]
    filters: Filters,
    /// Format output: table, json, or a Go template
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Don't truncate output
    #[arg(long)]
    no_trunc: bool,
    /// Only show image IDs
    #[arg(short, long)]
    quiet: bool,
    /// Only images of this name: REPOSITORY[:TAG]
    #[arg(value_name = "REPOSITORY[:TAG]")]
    repository: Option<String>,
}

/// What lists of images show.
pub const LISTING: Listing = Listing {
    type_name: "*formatter.imageContext",
    headers: &[
        ("Repository", "REPOSITORY"),
        ("Tag", "TAG"),
        ("Digest", "DIGEST"),
        ("ID", "IMAGE ID"),
        ("CreatedSince", "CREATED"),
        ("CreatedAt", "CREATED AT"),
        ("Size", "SIZE"),
        ("Containers", "CONTAINERS"),
        ("VirtualSize", "SIZE"),
        ("SharedSize", "SHARED SIZE"),
        ("UniqueSize", "UNIQUE SIZE"),
    ],
};

const FILTERS: [&str; 7] = ["before", "dangling", "label", "label!", "reference", "since", "until"];

impl Ls {
    /// Runs the command.
    pub fn run(self, context: &Context) -> Result<ExitCode> {
        self.filters.only(&FILTERS)?;
        let listing = context.engine.store()?.list()?;
        for damaged in &listing.damaged {
            let name = damaged.names.first().cloned().unwrap_or_else(|| damaged.manifest_digest.to_string());
            crate::note!("warning: image {name} is damaged ({}): pull it again to repair it", damaged.error);
        }
        let mut images = listing.images;
        images.sort_by(|a, b| b.created.cmp(&a.created));
        let containers = match self.format.as_deref() {
            Some(format) if format == "json" || format.contains("Containers") || format.contains("json .") => {
                context.engine.containers()?
            }
            _ => Vec::new(),
        };
        let mut rows = Vec::new();
        for image in &images {
            if !fits(context, &self.filters, image)? {
                continue;
            }
            let used = in_use(&containers, &image.id).len();
            for (repository, tag) in self.names(image) {
                rows.push(row(image, &repository, &tag, self.no_trunc, used));
            }
        }
        if self.quiet {
            Listing::print_field("ID", &rows);
            return Ok(ExitCode::SUCCESS);
        }
        let mut columns = vec!["Repository", "Tag", "ID", "CreatedSince", "Size"];
        if self.digests {
            columns.insert(2, "Digest");
        }
        LISTING.print(self.format.as_deref(), &columns, &rows)?;
        Ok(ExitCode::SUCCESS)
    }

    /// The names under which an image is shown; one without a name is shown unless names are asked for.
    fn names(&self, image: &Image) -> Vec<(String, String)> {
        let wanted = |repository: &str, tag: &str| {
            let whole = format!("{repository}:{tag}");
            let of = |pattern: &str| glob(pattern, repository) || glob(pattern, &whole);
            self.repository.as_deref().is_none_or(of) && self.filters.any("reference", of)
        };
        if image.names.is_empty() {
            let asked = self.repository.is_some() || self.filters.values("reference").next().is_some();
            return if asked { Vec::new() } else { vec![("<none>".to_owned(), "<none>".to_owned())] };
        }
        let names = image.names.iter().map(|name| split_name(name));
        names.filter(|(repository, tag)| wanted(repository, tag)).collect()
    }
}

/// Whether filters other than those of names let an image through.
pub fn fits(context: &Context, filters: &Filters, image: &Image) -> Result<bool> {
    let created = |image: &Image| image.created.as_deref().and_then(|text| text.parse::<jiff::Timestamp>().ok());
    for (name, earlier) in [("before", true), ("since", false)] {
        for key in filters.values(name) {
            let other = created(&super::resolve(context, key)?);
            let right = if earlier { created(image) < other } else { created(image) > other };
            if !right {
                return Ok(false);
            }
        }
    }
    let old =
        crate::commands::until(filters)?.is_none_or(|until| created(image).is_some_and(|created| created < until));
    let dangling = filters.flag("dangling")?.is_none_or(|wanted| wanted == image.names.is_empty());
    Ok(old && dangling && filters.labels(&image.config.config.labels))
}

/// A row of an image under one of its names.
pub fn row(image: &Image, repository: &str, tag: &str, full: bool, used: usize) -> Row {
    let created: Option<jiff::Timestamp> = image.created.as_deref().and_then(|text| text.parse().ok());
    let id = if full { image.id.to_string() } else { umiak_base::id::short(image.id.hex()).to_owned() };
    let digest =
        image.repo_digests.first().and_then(|text| text.split_once('@')).map_or("<none>", |(_, digest)| digest);
    let at = created.map(|created| created.to_zoned(jiff::tz::TimeZone::system()));
    Row::new([
        ("Repository", json!(repository)),
        ("Tag", json!(tag)),
        ("Digest", json!(digest)),
        ("ID", json!(id)),
        ("CreatedSince", json!(created.map_or_else(|| "N/A".to_owned(), human::ago))),
        (
            "CreatedAt",
            json!(at.map_or_else(|| "N/A".to_owned(), |at| at.strftime("%Y-%m-%d %H:%M:%S %z %Z").to_string())),
        ),
        ("Size", json!(human::size3(image.size))),
        ("VirtualSize", json!(human::size3(image.size))),
        ("SharedSize", json!("N/A")),
        ("UniqueSize", json!("N/A")),
        ("Containers", json!(used.to_string())),
    ])
}
