//! `system df -v`: every object. The tables and the one object that `--format` sees are made of the same rows.

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;

use anyhow::Result;
use serde_json::{Value, json};
use umiak_images::digest::Digest;

use super::layer_size;
use crate::commands::Context;
use crate::commands::builder::{created, last_used};
use crate::commands::{container, volume as volumes_command};
use crate::engine::image::{in_use, split_name};
use crate::engine::{disk, volume};
use crate::failure::Plain;
use crate::out;
use crate::template::Template;
use crate::ui::human::{self, size, size3};
use crate::ui::listing::{self, Listing, Row};

/// What errors in templates call the whole.
const TYPE: &str = "*formatter.diskUsageContext";

const IMAGES: Listing = Listing {
    type_name: "*formatter.diskUsageImagesContext",
    headers: &[
        ("Repository", "REPOSITORY"),
        ("Tag", "TAG"),
        ("ID", "IMAGE ID"),
        ("CreatedSince", "CREATED"),
        ("Size", "SIZE"),
        ("SharedSize", "SHARED SIZE"),
        ("UniqueSize", "UNIQUE SIZE"),
        ("Containers", "CONTAINERS"),
    ],
};

const BUILDS: Listing = Listing {
    type_name: "*formatter.buildCacheContext",
    headers: &[
        ("ID", "CACHE ID"),
        ("CacheType", "CACHE TYPE"),
        ("Size", "SIZE"),
        ("CreatedSince", "CREATED"),
        ("LastUsedSince", "LAST USED"),
        ("UsageCount", "USAGE"),
        ("Shared", "SHARED"),
    ],
};

/// Shows all of it: as tables, as JSON, or through a template.
pub fn show(context: &Context, format: Option<&str>) -> Result<ExitCode> {
    let Some(format) = format.map(str::trim).filter(|format| !matches!(*format, "" | "table")) else {
        return tables(context);
    };
    let all = |rows: Vec<Row>| Value::Array(rows.iter().map(Row::value).collect());
    let (builds, _) = builds(context, true)?;
    let whole = json!({
        "Images": all(images(context, true)?),
        "Containers": all(containers(context, true)?),
        "Volumes": all(volumes(context)?),
        "BuildCache": all(builds),
    });
    if format == "json" || format.replace(' ', "") == "{{json.}}" {
        out!("{}", listing::html_safe(&whole));
        return Ok(ExitCode::SUCCESS);
    }
    // There is no table of it all; Docker prints the template.
    let format = format.strip_prefix("table ").unwrap_or(format).trim();
    let template = Template::parse(&format.replace("\\t", "\t").replace("\\n", "\n"))?;
    out!("{}", template.row(&whole, TYPE, &Value::Null).map_err(|error| Plain(error.to_string()))?);
    Ok(ExitCode::SUCCESS)
}

fn tables(context: &Context) -> Result<ExitCode> {
    let columns: Vec<&str> = IMAGES.headers.iter().map(|(field, _)| *field).collect();
    out!("Images space usage:\n\n{}", IMAGES.render(None, &columns, &images(context, false)?)?);
    let columns = ["ID", "Image", "Command", "LocalVolumes", "Size", "RunningFor", "Status", "Names"];
    let table = container::ls::LISTING.render(None, &columns, &containers(context, false)?)?;
    out!("Containers space usage:\n\n{table}");
    let table = volumes_command::LISTING.render(None, &["Name", "Links", "Size"], &volumes(context)?)?;
    out!("Local Volumes space usage:\n\n{table}");
    let (rows, total) = builds(context, false)?;
    let columns: Vec<&str> = BUILDS.headers.iter().map(|(field, _)| *field).collect();
    out!("Build cache usage: {}\n\n{}", size(total), BUILDS.render(None, &columns, &rows)?.trim_end());
    Ok(ExitCode::SUCCESS)
}

/// The newest first; `full` with the whole of each id.
fn images(context: &Context, full: bool) -> Result<Vec<Row>> {
    let all = context.engine.containers()?;
    let mut images = context.engine.store()?.list()?.images;
    images.sort_by(|a, b| b.created.cmp(&a.created));
    let mut users: BTreeMap<&Digest, usize> = BTreeMap::new();
    for layer in images.iter().flat_map(|image| image.layers.iter().collect::<BTreeSet<_>>()) {
        *users.entry(layer).or_default() += 1;
    }
    let mut rows = Vec::new();
    for image in &images {
        let (repository, tag) = image.names.first().map_or(("<none>".into(), "<none>".into()), |name| split_name(name));
        let created: Option<jiff::Timestamp> = image.created.as_deref().and_then(|text| text.parse().ok());
        let (mut shared, mut unique) = (0, 0);
        for layer in image.layers.iter().collect::<BTreeSet<_>>() {
            let bytes = layer_size(context, layer)?;
            if users.get(layer).is_some_and(|users| *users > 1) { shared += bytes } else { unique += bytes }
        }
        let id = if full { image.id.to_string() } else { umiak_base::id::short(image.id.hex()).to_owned() };
        let at = created.map(|at| at.strftime("%Y-%m-%d %H:%M:%S +0000 UTC").to_string());
        rows.push(Row::new([
            ("Repository", json!(repository)),
            ("Tag", json!(tag)),
            ("ID", json!(id)),
            ("Digest", json!("")),
            ("CreatedAt", json!(at.unwrap_or_else(|| "N/A".to_owned()))),
            ("CreatedSince", json!(created.map_or_else(|| "N/A".to_owned(), human::ago))),
            ("Size", json!(size3(image.size))),
            ("VirtualSize", json!(size(image.size))),
            ("SharedSize", json!(size(shared))),
            ("UniqueSize", json!(size(unique))),
            ("Containers", json!(in_use(&all, &image.id).len().to_string())),
        ]));
    }
    Ok(rows)
}

fn containers(context: &Context, full: bool) -> Result<Vec<Row>> {
    let row = |container: &crate::engine::Container| {
        let own = size3(disk::tree(&container.config.runtime.rootfs.upper));
        container::ls::row(context, container, full, false).with("Size", json!(own))
    };
    Ok(context.engine.containers()?.iter().map(row).collect())
}

fn volumes(context: &Context) -> Result<Vec<Row>> {
    let engine = &context.engine;
    let row = |found: &volume::Volume| {
        let links = volume::users(engine, &found.name)?.len().to_string();
        let bytes = size(disk::volume_size(engine, &found.name));
        Ok(volumes_command::row(context, found).with("Links", json!(links)).with("Size", json!(bytes)))
    };
    volume::list(&engine.roots)?.iter().map(row).collect()
}

/// The parts of the build cache, and the bytes of those that are no image's.
fn builds(context: &Context, full: bool) -> Result<(Vec<Row>, u64)> {
    let parts = context.engine.store()?.cache().du()?;
    let total = parts.iter().filter(|part| !part.shared).map(|part| part.size).sum();
    let row = |part: &umiak_images::cache::Row| {
        let made: Option<jiff::Timestamp> = part.created.as_deref().and_then(|text| text.parse().ok());
        let used = part.last_used.and_then(|time| jiff::Timestamp::try_from(time).ok());
        let used = used.map(|time| time.strftime("%Y-%m-%d %H:%M:%S%.f +0000 UTC").to_string());
        let star = if part.mutable { "*" } else { "" };
        let id = if full { part.id.clone() } else { format!("{}{star}", umiak_base::id::short(&part.id)) };
        Row::new([
            ("ID", json!(id)),
            ("Parent", json!(part.parents.first().cloned().unwrap_or_default())),
            ("CacheType", json!(part.kind.to_string())),
            ("Size", json!(size(part.size))),
            ("CreatedAt", json!(created(part))),
            ("CreatedSince", json!(made.map(human::ago).unwrap_or_default())),
            ("LastUsedAt", json!(used.unwrap_or_default())),
            ("LastUsedSince", json!(last_used(part))),
            ("UsageCount", json!(part.uses.to_string())),
            ("Shared", json!(part.shared.to_string())),
            ("InUse", json!(part.in_use.to_string())),
            ("Description", json!(part.description)),
        ])
    };
    Ok((parts.iter().map(row).collect(), total))
}
