//! `system df`: what objects take on the disk, and how much of it nobody uses.

mod verbose;

use std::collections::BTreeMap;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use serde_json::json;
use umiak_images::digest::Digest;

use crate::commands::Context;
use crate::engine::image::in_use;
use crate::engine::{disk, volume};
use crate::ui::human::size;
use crate::ui::listing::{Listing, Row};

/// Show disk usage.
#[derive(Debug, Args)]
pub struct Df {
    /// Format output: table, json, or a Go template
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Show detailed information on space usage
    #[arg(short, long)]
    verbose: bool,
}

const LISTING: Listing = Listing {
    type_name: "*formatter.diskUsageContext",
    headers: &[
        ("Type", "TYPE"),
        ("TotalCount", "TOTAL"),
        ("Active", "ACTIVE"),
        ("Size", "SIZE"),
        ("Reclaimable", "RECLAIMABLE"),
    ],
};

/// Objects of one kind.
#[derive(Debug, Default)]
struct Usage {
    total: usize,
    active: usize,
    size: u64,
    free: u64,
}

impl Usage {
    fn add(&mut self, size: u64, used: bool) {
        self.total += 1;
        self.active += usize::from(used);
        self.size += size;
        self.free += if used { 0 } else { size };
    }

    /// A part of the build cache; what images share is theirs.
    fn add_part(&mut self, part: &umiak_images::cache::Row) {
        let own = if part.shared { 0 } else { part.size };
        self.add(own, part.in_use);
    }

    fn row(&self, kind: &str) -> Row {
        let reclaimable = match self.free.checked_mul(100).and_then(|part| part.checked_div(self.size)) {
            // As Docker: of what is cached, all is to be had.
            Some(share) if kind != "Build Cache" => format!("{} ({share}%)", size(self.free)),
            _ => size(self.free),
        };
        Row::new([
            ("Type", json!(kind)),
            ("TotalCount", json!(self.total.to_string())),
            ("Active", json!(self.active.to_string())),
            ("Size", json!(size(self.size))),
            ("Reclaimable", json!(reclaimable)),
        ])
    }
}

impl Df {
    /// Runs the command.
    pub fn run(self, context: &Context) -> Result<ExitCode> {
        if self.verbose {
            return verbose::show(context, self.format.as_deref());
        }
        let engine = &context.engine;
        let (mut images, mut containers, mut volumes) = (Usage::default(), Usage::default(), Usage::default());
        let all = engine.containers()?;
        // Layers are shared: each counts once, and for used when one of its images is.
        let mut layers = BTreeMap::new();
        for image in engine.store()?.list()?.images {
            let used = !in_use(&all, &image.id).is_empty();
            images.total += 1;
            images.active += usize::from(used);
            for layer in &image.layers {
                *layers.entry(layer.clone()).or_insert(false) |= used;
            }
        }
        for (layer, used) in layers {
            let bytes = layer_size(context, &layer)?;
            images.size += bytes;
            images.free += if used { 0 } else { bytes };
        }
        for container in &all {
            containers.add(disk::tree(&container.config.runtime.rootfs.upper), container.state.status.is_up());
        }
        for found in volume::list(&engine.roots)? {
            volumes.add(disk::volume_size(engine, &found.name), !volume::users(engine, &found.name)?.is_empty());
        }
        let mut builds = Usage::default();
        for row in engine.store()?.cache().du()? {
            builds.add_part(&row);
        }
        let rows = [
            images.row("Images"),
            containers.row("Containers"),
            volumes.row("Local Volumes"),
            builds.row("Build Cache"),
        ];
        LISTING.print(self.format.as_deref(), &["Type", "TotalCount", "Active", "Size", "Reclaimable"], &rows)?;
        Ok(ExitCode::SUCCESS)
    }
}

/// The bytes of a layer's files.
fn layer_size(context: &Context, layer: &Digest) -> Result<u64> {
    let store = context.engine.store()?;
    Ok(store.layer_bytes(layer).unwrap_or_else(|| disk::tree(&store.layer_path(layer))))
}
