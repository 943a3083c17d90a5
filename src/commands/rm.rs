//! `rm`: stopped containers of the project.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;

use super::{Context, down};
use crate::engine::Container;
use crate::out;
use crate::project::{hooks, load, observe, sequence};

/// Remove stopped service containers.
#[derive(Debug, Args)]
pub struct Rm {
    /// Don't ask to confirm removal
    #[arg(short, long)]
    force: bool,
    /// Stop the containers, if required, before removing
    #[arg(short, long)]
    stop: bool,
    /// Remove any anonymous volumes attached to containers
    #[arg(short, long)]
    volumes: bool,
    /// Deprecated - no effect
    #[arg(short, long, hide = true)]
    all: bool,
    /// Services; all if none
    services: Vec<String>,
}

impl Rm {
    /// Runs the command.
    pub fn run(self, context: &Context) -> Result<ExitCode> {
        let project = load::named(context, &self.services)?;
        let _lock = context.lock_project(&project.name)?;
        let members = observe::replicas(observe::members(&context.engine, &project.name)?);
        let mut members = observe::select(members, &self.services, &|name| project.knows(name))?;
        let progress = context.progress();
        let mut errors = Vec::new();
        if self.stop {
            errors = sequence::reverse(&members, project.model.as_ref(), |member| {
                let what = format!("Container {}", member.container.config.name);
                if member.container.state.status.is_up() {
                    progress.working(&what, "Stopping");
                    context.act(|| hooks::stop(&context.engine, &member.container, None))?;
                    progress.done(&what, "Stopped");
                }
                Ok(())
            });
            for member in &mut members {
                if let Some(now) = Container::load(&context.engine.roots, &member.container.config.id)? {
                    member.container = now;
                }
            }
        }
        // Shown only, what would have been stopped counts as stopped.
        let stopped = self.stop && context.global.dry_run;
        members.retain(|member| stopped || !member.container.state.status.is_up());
        if members.is_empty() {
            crate::note!("No stopped containers");
            return down::finish(errors);
        }
        let names: Vec<&str> = members.iter().map(|member| member.container.config.name.as_str()).collect();
        let going = format!("Going to remove {}", names.join(", "));
        if self.force || context.global.dry_run {
            out!("{going}");
        } else if !super::confirm(&format!("{going}."))? {
            return Ok(ExitCode::SUCCESS);
        }
        errors.extend(sequence::reverse(&members, project.model.as_ref(), |member| {
            let what = format!("Container {}", member.container.config.name);
            progress.working(&what, "Removing");
            context.act(|| context.engine.remove(&member.container, false, self.volumes))?;
            progress.done(&what, "Removed");
            Ok(())
        }));
        progress.finish();
        down::finish(errors)
    }
}
