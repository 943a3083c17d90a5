//! `ps`: the project's containers.

use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::{ArgAction, Args};

use super::{Context, Format};
use crate::engine::inspect;
use crate::out;
use crate::project::{labels, load, observe};
use crate::ui::human;
use crate::ui::table::Table;

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
    /// table or json
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
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
                names.dedup();
                names.iter().for_each(|name| out!("{name}"));
            }
            () if self.format == Format::Json => {
                members.iter().for_each(|member| out!("{}", inspect::summary(&member.container)));
            }
            () => self.table(&members),
        }
        Ok(ExitCode::SUCCESS)
    }

    fn table(&self, members: &[observe::Member]) {
        let mut table = Table::new(&["NAME", "IMAGE", "COMMAND", "SERVICE", "CREATED", "STATUS", "PORTS"]);
        for member in members {
            let container = &member.container;
            table.row(vec![
                container.config.name.clone(),
                container.config.image.clone(),
                inspect::command(container, self.no_trunc),
                member.service.clone(),
                human::ago(container.config.created),
                inspect::status(container),
                inspect::ports(container),
            ]);
        }
        out!("{}", table.render());
    }
}
