//! `kill`: what befalls services, and is answered by their restart policies. What is to stay down is stopped.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;

use super::{Context, down};
use crate::engine::stop;
use crate::project::{load, observe, sequence};

/// Force stop service containers.
#[derive(Debug, Args)]
pub struct Kill {
    /// SIGNAL to send to the container
    #[arg(short, long, default_value = "SIGKILL")]
    signal: String,
    /// Remove containers for services not defined in the Compose file
    #[arg(long)]
    remove_orphans: bool,
    /// Services; all if none
    services: Vec<String>,
}

impl Kill {
    /// Runs the command.
    pub fn run(self, context: &Context) -> Result<ExitCode> {
        let signal = stop::signal(&self.signal)?;
        let project = load::named(context, &self.services)?;
        let members = observe::members(&context.engine, &project.name)?;
        let orphans = self.orphans(&members, &project);
        let mut members = observe::select(members, &self.services, &|name| project.knows(name))?;
        members.retain(|member| member.container.state.status.is_up());
        if members.is_empty() && orphans.is_empty() {
            crate::note!("no container to kill");
        }
        let progress = context.progress();
        let mut errors = sequence::reverse(&members, project.model.as_ref(), |member| {
            let what = format!("Container {}", member.container.config.name);
            progress.working(&what, "Killing");
            context.act(|| context.engine.strike(&member.container, signal))?;
            progress.done(&what, "Killed");
            Ok(())
        });
        errors.extend(sequence::reverse(&orphans, None, |member| {
            let what = format!("Container {}", member.container.config.name);
            progress.working(&what, "Removing");
            context.act(|| context.engine.remove(&member.container, true, false))?;
            progress.done(&what, "Removed");
            Ok(())
        }));
        progress.finish();
        down::finish(errors)
    }

    /// Containers that go: of services that the model does not have, and of no other directory's project.
    fn orphans(&self, members: &[observe::Member], project: &load::Named) -> Vec<observe::Member> {
        let Some(model) = project.model.as_ref().filter(|_| self.remove_orphans) else { return Vec::new() };
        let elsewhere = observe::elsewhere(members, &model.working_dir);
        let orphan = |member: &&observe::Member| {
            !model.knows(&member.service) && !elsewhere.contains_key(&member.container.config.id)
        };
        members.iter().filter(orphan).cloned().collect()
    }
}
