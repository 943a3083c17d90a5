//! `umiak volume`.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Subcommand};

use super::{Context, Format};
use crate::engine::{inspect, volume};
use crate::ui::human;
use crate::ui::table::Table;
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
    /// Only display volume names
    #[arg(short, long)]
    quiet: bool,
    /// table or json
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
}

/// Volumes by name.
#[derive(Debug, Args)]
pub struct Names {
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
    #[arg(long, value_name = "K=V")]
    label: Vec<String>,
    /// The volume's name; made up if none
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
        let mut table = Table::new(&["DRIVER", "VOLUME NAME"]);
        for volume in volume::list(&context.engine.roots)? {
            if self.quiet {
                out!("{}", volume.name);
                continue;
            }
            if self.format == Format::Json {
                let labels: Vec<String> = volume.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
                out!(
                    "{}",
                    serde_json::json!({
                        "Driver": "local", "Name": volume.name, "Scope": "local", "Labels": labels.join(","),
                        "Mountpoint": volume::data_dir(&context.engine.roots, &volume.name),
                    })
                );
                continue;
            }
            table.row(vec!["local".into(), volume.name]);
        }
        if !self.quiet && self.format == Format::Table {
            out!("{}", table.render());
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Names {
    fn inspect(self, context: &Context) -> Result<ExitCode> {
        let mut result = ExitCode::SUCCESS;
        let mut found = Vec::new();
        for name in &self.volumes {
            match volume::find(&context.engine.roots, name) {
                Ok(volume) => found.push(inspect::volume(&context.engine, &volume)),
                Err(error) => result = failure::report(&error),
            }
        }
        out!("{}", serde_json::to_string_pretty(&found)?);
        Ok(result)
    }
}

impl Create {
    fn run(self, context: &Context) -> Result<ExitCode> {
        let pairs = |all: &[String]| all.iter().map(|text| super::container::pair(text)).collect();
        let name = self.name.map_or_else(umiak_base::id::new_id, Ok)?;
        let anonymous = name.len() == 64;
        volume::create(&context.engine.roots, &name, &self.driver, pairs(&self.opt), pairs(&self.label), anonymous)?;
        out!("{name}");
        Ok(ExitCode::SUCCESS)
    }
}

impl Rm {
    fn run(self, context: &Context) -> Result<ExitCode> {
        let mut result = ExitCode::SUCCESS;
        for name in &self.volumes {
            if self.force && volume::find(&context.engine.roots, name).is_err() {
                continue;
            }
            match volume::remove_unused(&context.engine, name) {
                Ok(()) => out!("{name}"),
                Err(error) => result = failure::report(&error),
            }
        }
        Ok(result)
    }
}

impl Prune {
    fn run(self, context: &Context) -> Result<ExitCode> {
        let what = if self.all { "all volumes" } else { "anonymous volumes" };
        if !self.force && !super::confirm(&format!("This will remove {what} not used by at least one container."))? {
            return Ok(ExitCode::SUCCESS);
        }
        let mut reclaimed = 0;
        let mut removed = Vec::new();
        for volume in volume::list(&context.engine.roots)? {
            if (self.all || volume.anonymous) && volume::users(&context.engine, &volume.name)?.is_empty() {
                reclaimed += volume::size(&context.engine.roots, &volume.name);
                volume::remove(&context.engine.roots, &volume.name)?;
                removed.push(volume.name);
            }
        }
        if !removed.is_empty() {
            out!("Deleted Volumes:\n{}", removed.join("\n"));
        }
        out!("Total reclaimed space: {}", human::size(reclaimed));
        Ok(ExitCode::SUCCESS)
    }
}
