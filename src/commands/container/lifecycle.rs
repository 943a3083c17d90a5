//! `container stop|start|kill|rm|wait`: the same for each container named; all
//! are tried, and any failure makes the exit code 1.

use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use clap::Args;

use super::restart::with_signal;
use crate::commands::Context;
use crate::engine::{Container, stop};
use crate::{failure, out};

/// Stop running containers.
#[derive(Debug, Args)]
pub struct Stop {
    /// Signal to send to the container
    #[arg(short, long)]
    signal: Option<String>,
    /// Seconds to wait before killing the container; -1 waits without end
    #[arg(short = 't', long = "timeout", visible_alias = "time", allow_hyphen_values = true)]
    timeout: Option<i64>,
    /// Containers, by name or id
    #[arg(required = true)]
    containers: Vec<String>,
}

/// Kill running containers.
#[derive(Debug, Args)]
pub struct Kill {
    /// Signal to send
    #[arg(short, long, default_value = "SIGKILL")]
    signal: String,
    /// Containers, by name or id
    #[arg(required = true)]
    containers: Vec<String>,
}

/// Pause all processes within containers.
#[derive(Debug, Args)]
pub struct Pause {
    /// Containers, by name or id
    #[arg(required = true)]
    containers: Vec<String>,
}

/// Unpause all processes within containers.
#[derive(Debug, Args)]
pub struct Unpause {
    /// Containers, by name or id
    #[arg(required = true)]
    containers: Vec<String>,
}

/// Remove containers.
#[derive(Debug, Args)]
pub struct Rm {
    /// Kill a running container first
    #[arg(short, long)]
    force: bool,
    /// Remove the link, and leave the container: CONTAINER/ALIAS
    #[arg(short, long, conflicts_with_all = ["force", "volumes"])]
    link: bool,
    /// Remove the anonymous volumes of the container too
    #[arg(short, long)]
    volumes: bool,
    /// Containers, by name or id
    #[arg(required = true)]
    containers: Vec<String>,
}

/// Block until containers stop, then print their exit codes.
#[derive(Debug, Args)]
pub struct Wait {
    /// Containers, by name or id
    #[arg(required = true)]
    containers: Vec<String>,
}

impl Stop {
    /// Runs the command.
    pub fn run(self, context: &Context) -> Result<ExitCode> {
        each(context, &self.containers, |container, _| {
            let container = with_signal(container, self.signal.as_deref())?;
            context.engine.stop(&container, self.timeout)?;
            // Its name is free for the next one when this returns.
            if container.config.auto_remove { context.engine.gone(&container.config.id) } else { Ok(()) }
        })
    }
}

impl Kill {
    /// Runs the command.
    pub fn run(self, context: &Context) -> Result<ExitCode> {
        // As Docker: no signal at all is the one that cannot be refused.
        let asked = if self.signal.is_empty() { "SIGKILL" } else { &self.signal };
        let mut result = ExitCode::SUCCESS;
        for key in &self.containers {
            let found = Container::find(&context.engine.roots, key);
            let found = found.and_then(|container| Ok((container, stop::signal(asked)?)));
            let found = found.with_context(|| format!("cannot kill container: {key}"));
            match found.and_then(|(container, signal)| context.engine.kill(&container, signal)) {
                Ok(()) => out!("{key}"),
                Err(error) => result = failure::report(&error),
            }
        }
        Ok(result)
    }
}

impl Pause {
    /// Runs the command.
    pub fn run(self, context: &Context) -> Result<ExitCode> {
        each(context, &self.containers, |container, _| context.engine.pause(container))
    }
}

impl Unpause {
    /// Runs the command.
    pub fn run(self, context: &Context) -> Result<ExitCode> {
        each(context, &self.containers, |container, _| context.engine.unpause(container))
    }
}

impl Rm {
    /// Runs the command.
    pub fn run(self, context: &Context) -> Result<ExitCode> {
        let mut result = ExitCode::SUCCESS;
        if self.link {
            for key in &self.containers {
                match unlink(context, key) {
                    Ok(()) => out!("{key}"),
                    Err(error) => result = failure::report(&error),
                }
            }
            return Ok(result);
        }
        for key in &self.containers {
            let found = Container::find(&context.engine.roots, key);
            let missing = found.is_err();
            match found.and_then(|container| context.engine.remove(&container, self.force, self.volumes)) {
                Ok(()) => out!("{key}"),
                // What is not there need not be removed: as Docker, said but no failure.
                Err(error) if missing && self.force => drop(failure::report(&error)),
                Err(error) => result = failure::report(&error),
            }
        }
        Ok(result)
    }
}

/// Takes `CONTAINER/ALIAS` away from the container.
fn unlink(context: &Context, key: &str) -> Result<()> {
    let (name, alias) = key.trim_start_matches('/').rsplit_once('/').unwrap_or((key, ""));
    let found = Container::find(&context.engine.roots, name).ok();
    match found.map(|container| context.engine.unlink(&container, alias)).transpose()? {
        Some(true) => Ok(()),
        _ => bail!("No such container: {key}"),
    }
}

impl Wait {
    /// Runs the command.
    pub fn run(self, context: &Context) -> Result<ExitCode> {
        let mut result = ExitCode::SUCCESS;
        for key in &self.containers {
            match Container::find(&context.engine.roots, key).and_then(|c| context.engine.wait(&c.config.id, None)) {
                Ok(code) => out!("{}", code.unwrap_or_default()),
                Err(error) => result = failure::report(&error),
            }
        }
        Ok(result)
    }
}

/// Does something to each container, and prints the name of each that it was done to.
pub fn each(context: &Context, keys: &[String], act: impl Fn(&Container, &str) -> Result<()>) -> Result<ExitCode> {
    let mut result = ExitCode::SUCCESS;
    for key in keys {
        match Container::find(&context.engine.roots, key).and_then(|container| act(&container, key)) {
            Ok(()) => out!("{key}"),
            Err(error) => result = failure::report(&error),
        }
    }
    Ok(result)
}
