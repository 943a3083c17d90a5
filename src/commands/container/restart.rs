//! `container restart`.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;

use super::lifecycle::each;
use crate::commands::Context;
use crate::engine::{Container, events, stop};

/// Restart containers.
#[derive(Debug, Args)]
pub struct Restart {
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

impl Restart {
    /// Runs the command.
    pub fn run(self, context: &Context) -> Result<ExitCode> {
        each(context, &self.containers, |container, key| {
            let container = with_signal(container, self.signal.as_deref())?;
            context.engine.stop(&container, self.timeout)?;
            let stopped = Container::find(&context.engine.roots, key)?;
            context.engine.start(&stopped)?;
            events::container(&context.engine.roots, &stopped.config, "restart");
            Ok(())
        })
    }
}

/// The container, with another signal to stop it.
pub fn with_signal(container: &Container, signal: Option<&str>) -> Result<Container> {
    let mut container = container.clone();
    if let Some(signal) = signal {
        stop::signal(signal)?;
        container.config.stop_signal = Some(signal.to_owned());
    }
    Ok(container)
}
