//! `container attach`.

use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Args;

use super::foreground::{Foreground, check_terminal};
use crate::commands::Context;
use crate::engine::container::Status;
use crate::engine::{Container, attach};
use crate::failure::Plain;
use crate::monitor::protocol::Attach as Streams;
use crate::personality::Personality;

/// Attach local standard input, output, and error streams to a running container.
#[derive(Debug, Args)]
pub struct Attach {
    #[command(flatten)]
    foreground: Foreground,
    /// Do not attach STDIN
    #[arg(long)]
    no_stdin: bool,
    /// The container
    container: String,
}

impl Attach {
    /// Runs the command; the exit code is the container's.
    pub fn run(self, context: &Context) -> Result<ExitCode> {
        let how = self.foreground.how()?;
        let container = Container::find(&context.engine.roots, &self.container)?;
        if !container.state.status.is_up() {
            return Err(Plain(attach::STOPPED.into()).into());
        }
        match container.state.status {
            Status::Paused => bail!("You cannot attach to a paused container, unpause it first"),
            Status::Restarting => {
                bail!("You cannot attach to a restarting container, wait until it is running")
            }
            _ => {}
        }
        if Personality::current() == Personality::Docker {
            check_terminal(!self.no_stdin, container.config.runtime.tty)?;
        }
        let stdin = !self.no_stdin && container.config.runtime.stdin_open;
        let streams = Streams { stdin, stdout: true, stderr: true, close_stdin: false };
        let socket = context.engine.attach(&container, streams)?;
        context.engine.converse(&container, &socket, streams, how)?.exit_code()
    }
}
