//! `ps`: the project's containers.

use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::{ArgAction, Args};
use serde_json::{Map, Value};

use super::Context;
use crate::engine::inspect;
use crate::out;
use crate::project::{labels, load, observe};
use crate::ui::listing::{Listing, Row};

const LISTING: Listing = Listing {
    type_name: "*formatter.ContainerContext",
    headers: &[
        ("ID", "CONTAINER ID"),
        ("Name", "NAME"),
        ("Names", "NAMES"),
        ("Image", "IMAGE"),
        ("Command", "COMMAND"),
        ("CreatedAt", "CREATED AT"),
        ("RunningFor", "CREATED"),
        ("Ports", "PORTS"),
        ("Publishers", "PUBLISHERS"),
        ("State", "STATE"),
        ("Status", "STATUS"),
        ("ExitCode", "EXIT CODE"),
        ("Health", "HEALTH"),
        ("Project", "PROJECT"),
        ("Service", "SERVICE"),
        ("Labels", "LABELS"),
        ("Mounts", "MOUNTS"),
        ("LocalVolumes", "LOCAL VOLUMES"),
        ("Networks", "NETWORKS"),
        ("Size", "SIZE"),
    ],
};

/// List containers.
#[derive(Debug, Args)]
pub struct Ps {
    /// Show all stopped containers
    #[arg(short, long)]
    all: bool,
    /// Only display IDs
    #[arg(short, long)]
    quiet: bool,
    /// Display services
    #[arg(long)]
    services: bool,
    /// Filter services by status: created, running, paused, exited
    #[arg(long, value_name = "STATUS")]
    status: Vec<String>,
    /// Filter services by a property: status=STATUS
    #[arg(long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// Don't truncate output
    #[arg(long)]
    no_trunc: bool,
    /// Include orphaned services (not declared by project)
    #[arg(long, value_name = "BOOL", action = ArgAction::Set, num_args = 0..=1, require_equals = true, default_value = "true", default_missing_value = "true")]
    orphans: bool,
    /// Format output: table, json, or a Go template
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Services; all if none
    #[arg(value_name = "SERVICE")]
    names: Vec<String>,
}

impl Ps {
    /// Runs the command.
    pub fn run(mut self, context: &Context) -> Result<ExitCode> {
        for filter in std::mem::take(&mut self.filter) {
            match filter.split_once('=') {
                Some(("status", status)) => self.status.push(status.to_owned()),
                Some((key, _)) => bail!("unknown filter {key}"),
                None => bail!("arguments to --filter should be in form KEY=VAL"),
            }
        }
        let project = load::named(context, &self.names)?;
        let members = observe::members(&context.engine, &project.name)?;
        let mut members = observe::select(members, &self.names, &|name| project.knows(name))?;
        members.sort_by(|a, b| a.container.config.name.cmp(&b.container.config.name));
        members.retain(|member| {
            let status = member.container.state.status;
            // Without a model nobody knows what is an orphan.
            if !self.orphans && project.model.is_some() && !project.knows(&member.service) {
                return false;
            }
            let one_off = member.container.label(labels::ONEOFF) == Some("True");
            match self.status.is_empty() {
                true => self.all || (status.is_up() && !one_off),
                false => self.status.iter().any(|wanted| wanted == status.as_str()),
            }
        });
        match () {
            () if self.quiet => members.iter().for_each(|member| out!("{}", member.container.config.id)),
            () if self.services => {
                let mut names: Vec<&str> = members.iter().map(|member| member.service.as_str()).collect();
                names.sort_unstable();
                names.dedup();
                names.iter().for_each(|name| out!("{name}"));
            }
            () => self.list(&members)?,
        }
        Ok(ExitCode::SUCCESS)
    }

    fn list(&self, members: &[observe::Member]) -> Result<()> {
        let row = |member: &observe::Member| {
            let container = &member.container;
            let mut fields = match inspect::summary(container) {
                Value::Object(fields) => fields,
                _ => Map::new(),
            };
            // The moment is for other lists; here it is `CreatedAt` and `RunningFor`.
            fields.remove("Created");
            fields.insert("Command".into(), Value::from(inspect::command(container, self.no_trunc)));
            let fields: Vec<(&str, Value)> = fields.iter().map(|(key, value)| (key.as_str(), value.clone())).collect();
            Row::new(fields).with_labels(&container.config.labels)
        };
        let rows: Vec<Row> = members.iter().map(row).collect();
        let columns = ["Name", "Image", "Command", "Service", "RunningFor", "Status", "Ports"];
        LISTING.print(self.format.as_deref(), &columns, &rows)
    }
}
