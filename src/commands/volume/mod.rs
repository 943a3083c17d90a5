//! `umiak volume`.

use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use clap::{Args, Subcommand};
use serde_json::json;

use super::Context;
use super::filters::{Filters, LongFilters};
use crate::engine::{Container, disk, volume};
use crate::failure::Plain;
use crate::personality::Personality;
use crate::ui::human;
use crate::ui::listing::{Listing, Row};
use crate::{failure, out};

/// Manage volumes.
#[derive(Debug, Subcommand)]
pub enum Volume {
    /// List volumes
    #[command(visible_alias = "list")]
    Ls(Ls),
    /// Display detailed information on volumes
    Inspect(Names),
    /// Create a volume
    Create(Create),
    /// Remove volumes
    Rm(Rm),
    /// Remove unused volumes
    Prune(Prune),
}

/// List volumes.
#[derive(Debug, Args)]
pub struct Ls {
    #[command(flatten)]
    filters: Filters,
    /// Format output: table, json, or a Go template
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Only display volume names
    #[arg(short, long)]
    quiet: bool,
}

/// Lists of volumes, also of those of a project.
pub const LISTING: Listing = Listing {
    type_name: "*formatter.volumeContext",
    headers: &[
        ("Name", "VOLUME NAME"),
        ("Driver", "DRIVER"),
        ("Scope", "SCOPE"),
        ("Mountpoint", "MOUNTPOINT"),
        ("Labels", "LABELS"),
        ("Links", "LINKS"),
        ("Size", "SIZE"),
        ("Group", "GROUP"),
        ("Availability", "AVAILABILITY"),
        ("Status", "STATUS"),
    ],
};

/// Volumes by name.
#[derive(Debug, Args)]
pub struct Names {
    /// Format output: json, or a Go template
    #[arg(short, long, value_name = "FORMAT")]
    format: Option<String>,
    /// Volumes
    #[arg(required = true)]
    volumes: Vec<String>,
}

/// Create a volume.
#[derive(Debug, Args)]
pub struct Create {
    /// Driver: local
    #[arg(short, long, default_value = "local")]
    driver: String,
    /// Driver specific options: type, o, device
    #[arg(short, long, value_name = "K=V")]
    opt: Vec<String>,
    /// Set metadata
    #[arg(long, value_name = "K=V", value_parser = super::container::label)]
    label: Vec<String>,
    /// The volume's name, as older scripts give it
    #[arg(long = "name", value_name = "NAME", hide = true)]
    named: Option<String>,
    /// The volume's name; made up if none
    #[arg(conflicts_with = "named")]
    name: Option<String>,
}

/// Remove volumes.
#[derive(Debug, Args)]
pub struct Rm {
    /// No error for a volume that is not there
    #[arg(short, long)]
    force: bool,
    /// Volumes
    #[arg(required = true)]
    volumes: Vec<String>,
}

/// Remove unused volumes.
#[derive(Debug, Args)]
pub struct Prune {
    /// Remove all unused volumes, not just anonymous ones
    #[arg(short, long)]
    all: bool,
    #[command(flatten)]
    filters: LongFilters,
    /// Do not ask for confirmation
    #[arg(short, long)]
    force: bool,
}

impl Volume {
    /// Runs the command.
    pub fn run(self, context: &Context) -> Result<ExitCode> {
        match self {
            Self::Ls(command) => command.run(context),
            Self::Inspect(command) => command.inspect(context),
            Self::Create(command) => command.run(context),
            Self::Rm(command) => command.run(context),
            Self::Prune(command) => command.run(context),
        }
    }
}

impl Ls {
    fn run(self, context: &Context) -> Result<ExitCode> {
        self.filters.only(&["dangling", "driver", "label", "label!", "name"])?;
        let dangling = self.filters.flag("dangling")?;
        let mut rows = Vec::new();
        for found in volume::list(&context.engine.roots)? {
            let filters = &self.filters;
            let fits = filters.name(&found.name)
                && filters.any("driver", |driver| driver == "local")
                && filters.labels(&found.labels);
            let loose =
                |wanted| volume::users(&context.engine, &found.name).is_ok_and(|users| users.is_empty() == wanted);
            if !fits || !dangling.is_none_or(loose) {
                continue;
            }
            rows.push(row(context, &found));
        }
        if self.quiet && self.format.is_none() {
            Listing::print_field("Name", &rows);
        } else {
            LISTING.print(self.format.as_deref(), &["Driver", "Name"], &rows)?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// One volume of a list.
pub fn row(context: &Context, found: &volume::Volume) -> Row {
    let unknown = ["Links", "Size", "Group", "Availability", "Status"].map(|field| (field, json!("N/A")));
    let known = [
        ("Name", json!(found.name)),
        ("Driver", json!("local")),
        ("Scope", json!("local")),
        ("Mountpoint", json!(volume::data_dir(&context.engine.roots, &found.name))),
    ];
    Row::new(known.into_iter().chain(unknown)).with_labels(&found.labels)
}

impl Names {
    fn inspect(self, context: &Context) -> Result<ExitCode> {
        super::inspect::show(&self.volumes, self.format.as_deref(), |name| {
            super::inspect::volume(context, name).map(Some)
        })
    }
}

impl Create {
    fn run(self, context: &Context) -> Result<ExitCode> {
        let pairs = |all: &[String]| all.iter().map(|text| super::container::pair(text)).collect();
        let name = self.name.or(self.named).map_or_else(umiak_base::id::new_id, Ok)?;
        if Personality::current() == Personality::Docker {
            let given = |key: &str| self.opt.iter().any(|option| option.split('=').next() == Some(key));
            if name.len() == 1 {
                bail!("create {name}: volume name is too short, names should be at least two alphanumeric characters");
            }
            if (given("device") || given("o")) && !given("type") {
                bail!("create {name}: missing required option: \"type\"");
            }
        }
        let anonymous = name.len() == 64;
        volume::create(&context.engine.roots, &name, &self.driver, pairs(&self.opt), pairs(&self.label), anonymous)
            .with_context(|| format!("create {name}"))?;
        out!("{name}");
        Ok(ExitCode::SUCCESS)
    }
}

impl Rm {
    fn run(self, context: &Context) -> Result<ExitCode> {
        let mut result = ExitCode::SUCCESS;
        for name in &self.volumes {
            if self.force && volume::find(&context.engine.roots, name).is_err() {
                out!("{name}");
                continue;
            }
            match refuse_used(context, name).and_then(|()| volume::remove_unused(&context.engine, name)) {
                Ok(()) => out!("{name}"),
                Err(error) => result = failure::report(&error),
            }
        }
        Ok(result)
    }
}

/// Under Docker's name, containers that have a volume are told by id: scripts cut them out of the message.
fn refuse_used(context: &Context, name: &str) -> Result<()> {
    let users = match Personality::current() {
        Personality::Docker => volume::users(&context.engine, name)?,
        _ => Vec::new(),
    };
    let id = |name: &String| Some(Container::find(&context.engine.roots, name).ok()?.config.id);
    let ids: Vec<String> = users.iter().filter_map(id).collect();
    match ids.is_empty() {
        true => Ok(()),
        false => bail!("remove {name}: volume is in use - [{}]", ids.join(", ")),
    }
}

impl Prune {
    fn run(self, context: &Context) -> Result<ExitCode> {
        let filters: Filters = self.filters.into();
        filters.only(&["all", "label", "label!"])?;
        if let (true, Some(value)) = (self.all, filters.values("all").next()) {
            let text = format!("conflicting options: cannot specify both --all and --filter all={value}");
            return Err(Plain(text).into());
        }
        let what = if self.all { "all local volumes" } else { "anonymous local volumes" };
        if !self.force && !super::confirm(&format!("This will remove {what} not used by at least one container."))? {
            return Ok(ExitCode::SUCCESS);
        }
        let (removed, bytes) = unused(context, self.all, &filters)?;
        report(&removed);
        out!("Total reclaimed space: {}", human::size3(bytes));
        Ok(ExitCode::SUCCESS)
    }
}

/// Removes volumes that no container has: their names, and the bytes they took.
pub fn unused(context: &Context, all: bool, filters: &Filters) -> Result<(Vec<String>, u64)> {
    filters.only(&["all", "label", "label!", "until"])?;
    let all = filters.flag("all")?.unwrap_or(all);
    let (mut removed, mut bytes) = (Vec::new(), 0);
    for found in volume::list(&context.engine.roots)? {
        let wanted = (all || found.anonymous) && filters.labels(&found.labels);
        if wanted && volume::users(&context.engine, &found.name)?.is_empty() {
            bytes += disk::volume_size(&context.engine, &found.name);
            volume::remove(&context.engine.roots, &found.name)?;
            removed.push(found.name);
        }
    }
    Ok((removed, bytes))
}

/// Says which were removed.
pub fn report(removed: &[String]) {
    if !removed.is_empty() {
        out!("Deleted Volumes:\n{}\n", removed.join("\n"));
    }
}
