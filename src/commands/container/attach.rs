//! `container attach`.

use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Args;

use crate::commands::Context;
use crate::engine::attach::How;
use crate::engine::{Container, detach};
use crate::failure::Plain;
use crate::monitor::protocol::Attach as Streams;

/// Attach local standard input, output, and error streams to a running container.
#[derive(Debug, Args)]
pub struct Attach {
    /// Override the key sequence for detaching a container
    #[arg(long, value_name = "KEYS", default_value = "", hide_default_value = true)]
    detach_keys: String,
    /// Do not attach STDIN
    #[arg(long)]
    no_stdin: bool,
    /// Proxy all received signals to the process
    #[arg(long, num_args = 0..=1, require_equals = true, default_value_t = true, default_missing_value = "true", action = clap::ArgAction::Set)]
    sig_proxy: bool,
    /// The container
    container: String,
}

impl Attach {
    /// Runs the command; the exit code is the container's.
    pub fn run(self, context: &Context) -> Result<ExitCode> {
        let detach_keys = detach::parse(&self.detach_keys)?;
        let container = Container::find(&context.engine.roots, &self.container)?;
        if !container.state.status.is_up() {
            return Err(Plain("You cannot attach to a stopped container, start it first".into()).into());
        }
        if container.state.status.as_str() == "paused" {
            bail!("You cannot attach to a paused container, unpause it first");
        }
        let stdin = !self.no_stdin && container.config.runtime.stdin_open;
        let streams = Streams { stdin, stdout: true, stderr: true, close_stdin: false };
        let socket = context.engine.attach(&container, streams)?;
        let how = How { detach_keys, pass_signals: self.sig_proxy };
        context.engine.converse(&container, &socket, streams, how)?.exit_code()
    }
}
