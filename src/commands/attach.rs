//! `attach`: our own streams joined to those of a service's container.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;

use super::Context;
use crate::engine::attach::How;
use crate::engine::detach;
use crate::monitor::protocol::Attach as Streams;
use crate::project::{load, observe};

/// Attach local standard input, output, and error streams to a service's running container.
#[derive(Debug, Args)]
pub struct Attach {
    /// Override the key sequence for detaching from a container
    #[arg(long, value_name = "KEYS", default_value = "", hide_default_value = true)]
    detach_keys: String,
    /// Index of the container if the service has multiple replicas
    #[arg(long, value_name = "N")]
    index: Option<u32>,
    /// Do not attach STDIN
    #[arg(long)]
    no_stdin: bool,
    /// Proxy all received signals to the process
    #[arg(long, num_args = 0..=1, require_equals = true, default_value_t = true, default_missing_value = "true", action = clap::ArgAction::Set)]
    sig_proxy: bool,
    /// The service
    service: String,
}

impl Attach {
    /// Runs the command; the exit code is the container's.
    pub fn run(self, context: &Context) -> Result<ExitCode> {
        let keys = detach::keys(&self.detach_keys)?;
        let project = load::named(context, &[])?;
        let container = observe::running(&context.engine, &project.name, &self.service, self.index)?.container;
        // Without an input of the container's there is nothing to be joined to.
        let stdin = !self.no_stdin && container.config.runtime.stdin_open;
        let streams = Streams { stdin, stdout: true, stderr: true, close_stdin: false };
        let socket = context.engine.attach(&container, streams)?;
        let how = How { detach_keys: keys, pass_signals: self.sig_proxy };
        context.engine.converse(&container, &socket, streams, how)?.exit_code()
    }
}
