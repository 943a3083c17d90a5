//! `top`: the processes of each container, as the host sees them.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;

use super::Context;
use crate::engine::cgroup;
use crate::out;
use crate::project::{load, observe};
use crate::ui::table::Table;

/// Display the running processes.
#[derive(Debug, Args)]
pub struct Top {
    /// Services; all if none
    services: Vec<String>,
}

impl Top {
    /// Runs the command.
    pub fn run(self, context: &Context) -> Result<ExitCode> {
        let project = load::named(context, &self.services)?;
        let members = observe::members(&context.engine, &project.name)?;
        let members = observe::select(members, &self.services, &|name| project.knows(name))?;
        let mut table = Table::new(&["SERVICE", "#", "UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"]);
        for member in members.iter().filter(|member| member.container.state.status.is_up()) {
            for process in cgroup::processes(&member.container.config.runtime.cgroup_path)? {
                let mut row = vec![member.service.clone(), member.number.to_string()];
                row.extend(process.columns());
                table.row(row);
            }
        }
        out!("{}", table.render());
        Ok(ExitCode::SUCCESS)
    }
}
