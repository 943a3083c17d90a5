//! `wait`: until the services' containers have ended.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::{Args, FromArgMatches as _};

use super::{Context, down};
use crate::engine::Container;
use crate::engine::wait::{StateWatch, pidfd, readable, supervisor};
use crate::project::{load, observe};
use crate::{failure, out};

/// Block until containers of all (or specified) services stop.
#[derive(Debug, Args)]
pub struct Wait {
    /// Drops project when the first container stops
    #[arg(long)]
    down_project: bool,
    /// Services
    #[arg(required = true)]
    services: Vec<String>,
}

impl Wait {
    /// Runs the command; the exit code is that of the container that ended last, or first with `--down-project`.
    pub fn run(self, context: &Context) -> Result<ExitCode> {
        let project = load::named(context, &self.services)?;
        let mut waiting: Vec<Container> = observe::members(&context.engine, &project.name)?
            .into_iter()
            .filter(|member| self.services.contains(&member.service))
            .map(|member| member.container)
            .filter(|container| container.state.status.is_up())
            .collect();
        if waiting.is_empty() {
            bail!("no containers for project \"{}\"", project.name);
        }
        let watch = StateWatch::nothing()?;
        for container in &waiting {
            watch.add(&context.engine.roots, &container.config.id)?;
        }
        let mut last = 0;
        while !waiting.is_empty() {
            watch.clear();
            let before = waiting.len();
            for container in std::mem::take(&mut waiting) {
                match ended(context, &container)? {
                    None => waiting.push(container),
                    Some(code) => {
                        out!("container \"{}\" exited with status code {code}", container.config.id);
                        last = code;
                        if self.down_project {
                            down(context)?;
                            return Ok(failure::code(code));
                        }
                    }
                }
            }
            if waiting.len() == before {
                wait(context, &watch, &waiting)?;
            }
        }
        Ok(failure::code(last))
    }
}

fn ended(context: &Context, container: &Container) -> Result<Option<i32>> {
    let current = Container::load(&context.engine.roots, &container.config.id)?;
    Ok(match current {
        Some(current) if current.state.status.is_up() => None,
        Some(current) => Some(current.state.exit_code.unwrap_or(0)),
        // Removed as soon as it had ended: the monitor had told nobody.
        None => Some(0),
    })
}

/// Waits for one of their state files, or for a process whose end nobody writes down.
fn wait(context: &Context, watch: &StateWatch, waiting: &[Container]) -> Result<()> {
    let mut processes: Vec<OwnedFd> = Vec::new();
    for container in waiting {
        let current = Container::load(&context.engine.roots, &container.config.id)?;
        let state = current.map(|current| current.state).filter(|state| state.status.is_up());
        let Some(state) = state else { return Ok(()) };
        processes.extend(supervisor(&state).or_else(|| state.init.and_then(pidfd)));
    }
    let fds: Vec<BorrowedFd<'_>> = processes.iter().map(|fd| fd.as_fd()).chain([watch.as_fd()]).collect();
    readable(&fds, None)?;
    Ok(())
}

fn down(context: &Context) -> Result<ExitCode> {
    let matches = down::Down::augment_args(clap::Command::new("down")).try_get_matches_from(["down"])?;
    down::Down::from_arg_matches(&matches)?.run(context)
}
