//! `container ls`.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;

use crate::commands::{Context, Format};
use crate::engine::{Container, inspect};
use crate::out;
use crate::ui::human;
use crate::ui::table::Table;

/// List containers.
#[derive(Debug, Args)]
pub struct Ls {
    /// Show all containers, not only running ones
    #[arg(short, long)]
    all: bool,
    /// Only display container IDs
    #[arg(short, long)]
    quiet: bool,
    /// Don't truncate output
    #[arg(long)]
    no_trunc: bool,
    /// table or json
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
}

impl Ls {
    /// Runs the command.
    pub fn run(self, context: &Context) -> Result<ExitCode> {
        let mut containers = context.engine.containers()?;
        containers.retain(|container| self.all || container.state.status.is_up());
        containers.reverse();
        let id = |container: &Container| match self.no_trunc {
            true => container.config.id.clone(),
            false => container.short_id().to_owned(),
        };
        if self.quiet {
            containers.iter().for_each(|container| out!("{}", id(container)));
            return Ok(ExitCode::SUCCESS);
        }
        if self.format == Format::Json {
            containers.iter().for_each(|container| out!("{}", inspect::summary(container)));
            return Ok(ExitCode::SUCCESS);
        }
        let mut table = Table::new(&["CONTAINER ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "PORTS", "NAMES"]);
        for container in &containers {
            table.row(vec![
                id(container),
                container.config.image.clone(),
                inspect::command(container, self.no_trunc),
                human::ago(container.config.created),
                inspect::status(container),
                inspect::ports(container),
                container.config.name.clone(),
            ]);
        }
        out!("{}", table.render());
        Ok(ExitCode::SUCCESS)
    }
}
