//! `system df`: what objects take on the disk, and how much of it nobody uses.

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use serde_json::json;
use umiak_images::digest::Digest;
use umiak_runtime::config::MountKind;

use crate::commands::Context;
use crate::engine::image::{in_use, split_name};
use crate::engine::{Container, disk, inspect, volume};
use crate::out;
use crate::ui::human::{self, size, size3};
use crate::ui::listing::{Listing, Row};
use crate::ui::table::tabulate;

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
        if self.verbose && self.format.is_none() {
            return verbose(context);
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

/// The build cache, part by part.
fn builds(rows: &[umiak_images::cache::Row]) {
    let total = rows.iter().filter(|row| !row.shared).map(|row| row.size).sum();
    let mut lines = vec!["CACHE ID\tCACHE TYPE\tSIZE\tCREATED\tLAST USED\tUSAGE\tSHARED".to_owned()];
    for row in rows {
        let created: Option<jiff::Timestamp> = row.created.as_deref().and_then(|text| text.parse().ok());
        lines.push(format!(
            "{}{}\t{}\t{}\t{}\t{}\t{}\t{}",
            umiak_base::id::short(&row.id),
            if row.mutable { "*" } else { "" },
            row.kind,
            size(row.size),
            created.map(human::ago).unwrap_or_default(),
            crate::commands::builder::last_used(row),
            row.uses,
            row.shared,
        ));
    }
    out!("Build cache usage: {}\n\n{}", size(total), tabulate(&lines).trim_end());
}

/// The bytes of a layer's files.
fn layer_size(context: &Context, layer: &Digest) -> Result<u64> {
    let store = context.engine.store()?;
    Ok(store.layer_bytes(layer).unwrap_or_else(|| disk::tree(&store.layer_path(layer))))
}

/// How many volumes a container mounts.
fn volumes_of(container: &Container) -> usize {
    let mounts = container.config.runtime.mounts.iter();
    mounts.filter(|mount| matches!(mount.kind, MountKind::Volume(_))).count()
}

fn verbose(context: &Context) -> Result<ExitCode> {
    let engine = &context.engine;
    let all = engine.containers()?;
    let mut images = engine.store()?.list()?.images;
    images.sort_by(|a, b| b.created.cmp(&a.created));
    let mut users: BTreeMap<&Digest, usize> = BTreeMap::new();
    for layer in images.iter().flat_map(|image| image.layers.iter().collect::<BTreeSet<_>>()) {
        *users.entry(layer).or_default() += 1;
    }
    let heads = "REPOSITORY\tTAG\tIMAGE ID\tCREATED\tSIZE\tSHARED SIZE\tUNIQUE SIZE\tCONTAINERS";
    let mut lines = vec![heads.to_owned()];
    for image in &images {
        let (repository, tag) = image.names.first().map_or(("<none>".into(), "<none>".into()), |name| split_name(name));
        let created = image.created.as_deref().and_then(|text| text.parse().ok());
        let created = created.map_or_else(|| "N/A".to_owned(), human::ago);
        let id = umiak_base::id::short(image.id.hex());
        let used = in_use(&all, &image.id).len();
        let (mut shared, mut unique) = (0, 0);
        for layer in image.layers.iter().collect::<BTreeSet<_>>() {
            let bytes = layer_size(context, layer)?;
            if users.get(layer).is_some_and(|users| *users > 1) { shared += bytes } else { unique += bytes }
        }
        lines.push(format!(
            "{repository}\t{tag}\t{id}\t{created}\t{}\t{}\t{}\t{used}",
            size3(image.size),
            size(shared),
            size(unique)
        ));
    }
    out!("Images space usage:\n\n{}", tabulate(&lines));
    let mut lines = vec!["CONTAINER ID\tIMAGE\tCOMMAND\tLOCAL VOLUMES\tSIZE\tCREATED\tSTATUS\tNAMES".to_owned()];
    for container in &all {
        lines.push(format!(
            "{}\t{}\t{}\t{}\t{}\t{}\t{}\t{}",
            container.short_id(),
            container.config.image,
            inspect::command(container, false),
            volumes_of(container),
            size3(disk::tree(&container.config.runtime.rootfs.upper)),
            human::ago(container.config.created),
            inspect::status(container),
            container.config.name,
        ));
    }
    out!("Containers space usage:\n\n{}", tabulate(&lines));
    let mut lines = vec!["VOLUME NAME\tLINKS\tSIZE".to_owned()];
    for found in volume::list(&engine.roots)? {
        let links = volume::users(engine, &found.name)?.len();
        lines.push(format!("{}\t{links}\t{}", found.name, size(disk::volume_size(engine, &found.name))));
    }
    out!("Local Volumes space usage:\n\n{}", tabulate(&lines));
    builds(&engine.store()?.cache().du()?);
    Ok(ExitCode::SUCCESS)
}
