//! `container start`.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;

use crate::commands::Context;
use crate::engine::{Container, attach, detach};
use crate::failure::{self, Plain};
use crate::monitor::protocol::Attach;
use crate::out;

/// Start stopped containers.
#[derive(Debug, Args)]
pub struct Start {
    /// Attach STDOUT/STDERR and forward signals
    #[arg(short, long)]
    attach: bool,
    /// Attach container's STDIN
    #[arg(short, long)]
    interactive: bool,
    /// Override the key sequence for detaching a container
    #[arg(long, value_name = "KEYS", default_value = "", hide_default_value = true)]
    detach_keys: String,
    /// Containers, by name or id
    #[arg(required = true)]
    containers: Vec<String>,
}

impl Start {
    /// Runs the command; attached, the exit code is the container's.
    pub fn run(self, context: &Context) -> Result<ExitCode> {
        if !self.attach && !self.interactive {
            return self.start(context);
        }
        let [key] = self.containers.as_slice() else {
            return Err(Plain("you cannot start and attach multiple containers at once".into()).into());
        };
        let how = attach::How { detach_keys: detach::keys(&self.detach_keys)?, ..attach::How::default() };
        let container = Container::find(&context.engine.roots, key)?;
        let stdin = self.interactive && container.config.runtime.stdin_open;
        let wanted = Attach { stdin, stdout: true, stderr: true, close_stdin: stdin };
        let (ours, theirs) = attach::pair()?;
        context.engine.start_attached(&container, Some((wanted, theirs))).map_err(failure::without_code)?;
        let code = match context.engine.converse(&container, &ours, wanted, how)? {
            attach::Left::Ended(code) => code,
            attach::Left::Detached => return Ok(ExitCode::SUCCESS),
        };
        if container.config.auto_remove {
            context.engine.gone(&container.config.id)?;
        }
        Ok(failure::code(code))
    }

    fn start(&self, context: &Context) -> Result<ExitCode> {
        let mut failed = Vec::new();
        for key in &self.containers {
            match Container::find(&context.engine.roots, key).and_then(|container| context.engine.start(&container)) {
                Ok(()) => out!("{key}"),
                Err(error) => {
                    failure::report(&error);
                    failed.push(key.as_str());
                }
            }
        }
        if failed.is_empty() {
            return Ok(ExitCode::SUCCESS);
        }
        crate::note!("Error: failed to start containers: {}", failed.join(", "));
        Ok(ExitCode::FAILURE)
    }
}
