//! `down`: stops and removes a project's containers and networks.

use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Args;

use super::Context;
use crate::engine::{network, volume};
use crate::project::{hooks, labels, load, observe, sequence};

/// Stop and remove containers, networks.
#[derive(Debug, Args)]
pub struct Down {
    /// Remove named volumes declared in the Compose file and anonymous volumes attached to containers
    #[arg(short, long)]
    volumes: bool,
    /// Remove containers for services not defined in the Compose file
    #[arg(long)]
    remove_orphans: bool,
    /// Seconds to wait for a container to stop before it is killed
    #[arg(short, long, value_name = "SECONDS")]
    timeout: Option<i64>,
}

impl Down {
    /// Runs the command.
    pub fn run(self, context: &Context) -> Result<ExitCode> {
        let engine = &context.engine;
        let project = load::named(context, &[])?;
        let _lock = engine.lock_project(&project.name)?;
        let progress = context.progress();
        let members = observe::members(engine, &project.name)?;
        let (members, orphans): (Vec<_>, Vec<_>) = members.into_iter().partition(|member| {
            self.remove_orphans || project.model.as_ref().is_none_or(|model| model.knows(&member.service))
        });
        let mut errors = sequence::reverse(&members, project.model.as_ref(), |member| {
            let what = format!("Container {}", member.container.config.name);
            if member.container.state.status.is_up() {
                progress.working(&what, "Stopping");
                hooks::stop(engine, &member.container, self.timeout)?;
                progress.done(&what, "Stopped");
            }
            progress.working(&what, "Removing");
            engine.remove(&member.container, true, self.volumes)?;
            progress.done(&what, "Removed");
            Ok(())
        });
        if !orphans.is_empty() {
            let names: Vec<&str> = orphans.iter().map(|member| member.container.config.name.as_str()).collect();
            crate::note!(
                "warning: found orphan containers ({}) for this project; `--remove-orphans` removes them",
                names.join(", ")
            );
        }
        for owned in network::list(&engine.roots)?.into_iter().filter(|network| is_of(&network.labels, &project.name)) {
            let what = format!("Network {}", owned.name);
            progress.working(&what, "Removing");
            match network::remove(&engine.roots, &owned.name) {
                Ok(()) => progress.done(&what, "Removed"),
                Err(error) if !orphans.is_empty() => {
                    progress.failed(&what, &format!("Resource is still in use ({})", crate::failure::one_line(&error)));
                }
                Err(error) => errors.push(error),
            }
        }
        if self.volumes {
            for owned in volume::list(&engine.roots)?.into_iter().filter(|volume| is_of(&volume.labels, &project.name))
            {
                let what = format!("Volume {}", owned.name);
                match volume::remove_unused(engine, &owned.name) {
                    Ok(()) => progress.done(&what, "Removed"),
                    Err(error) => errors.push(error),
                }
            }
        }
        progress.finish();
        finish(errors)
    }
}

fn is_of<'a>(labels: impl IntoIterator<Item = (&'a String, &'a String)>, project: &str) -> bool {
    labels.into_iter().any(|(key, value)| key == labels::PROJECT && value == project)
}

/// All failures are told; any makes the command fail.
pub fn finish(mut errors: Vec<anyhow::Error>) -> Result<ExitCode> {
    let Some(last) = errors.pop() else { return Ok(ExitCode::SUCCESS) };
    if errors.is_empty() {
        return Err(last);
    }
    for error in errors.iter().chain([&last]) {
        crate::note!("Error: {}", crate::failure::one_line(error));
    }
    bail!("{} steps failed", errors.len() + 1)
}
