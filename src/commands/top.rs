//! `top`: the processes of each container, as the host sees them; on a
//! terminal, the whole project as it lives.

mod live;

use std::io::IsTerminal as _;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;

use super::Context;
use crate::engine::processes::{FULL, processes};
use crate::out;
use crate::personality::Personality;
use crate::project::{load, observe};
use crate::ui::table::Table;

/// Display the running processes; on a terminal and without a service, a live view of the project.
#[derive(Debug, Args)]
pub struct Top {
    /// Print the processes, also on a terminal
    #[arg(long)]
    plain: bool,
    /// Services; all if none
    services: Vec<String>,
}

impl Top {
    /// Runs the command.
    pub fn run(self, context: &Context) -> Result<ExitCode> {
        let project = load::named(context, &self.services)?;
        if self.is_live(context) {
            return live::run(context, &project.name);
        }
        let members = observe::members(&context.engine, &project.name)?;
        let members = observe::select(members, &self.services, &|name| project.knows(name))?;
        let mut table = Table::narrow(&["SERVICE", "#", "UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"]);
        for member in members.iter().filter(|member| member.container.state.status.is_up()) {
            for process in processes(&member.container.config.runtime.cgroup_path)? {
                let mut row = vec![member.service.clone(), member.number.to_string()];
                row.extend(FULL.iter().map(|field| process.field(field)));
                table.row(row);
            }
        }
        out!("{}", table.render());
        Ok(ExitCode::SUCCESS)
    }

    /// Under Docker's names, in a pipe and with services it is Docker Compose's command.
    fn is_live(&self, context: &Context) -> bool {
        let own = Personality::current() == Personality::Own;
        let terminal = std::io::stdout().is_terminal() && std::io::stdin().is_terminal();
        own && terminal && !self.plain && self.services.is_empty() && !context.global.dry_run
    }
}
