//! `container exec`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Args;

use super::flags::{environment, named_variable};
use super::foreground::check_terminal;
use crate::commands::Context;
use crate::engine::exec::Request;
use crate::engine::{Container, detach};
use crate::failure::Coded;
use crate::personality::Personality;

/// Execute a command in a running container.
#[derive(Debug, Args)]
#[allow(clippy::struct_excessive_bools, reason = "one per flag")]
pub struct Exec {
    /// Detached mode: run the command in the background
    #[arg(short, long)]
    detach: bool,
    /// Set environment variables
    #[arg(short, long, value_name = "K=V", value_parser = named_variable)]
    env: Vec<String>,
    /// Read in a file of environment variables
    #[arg(long, value_name = "FILE")]
    env_file: Vec<PathBuf>,
    /// Keep STDIN open
    #[arg(short, long)]
    interactive: bool,
    /// Allocate a pseudo-TTY
    #[arg(short, long)]
    tty: bool,
    /// Username or UID (format: <name|uid>[:<group|gid>])
    #[arg(short, long)]
    user: Option<String>,
    /// Working directory inside the container
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<String>,
    /// Give extended privileges to the command
    #[arg(long)]
    privileged: bool,
    /// Override the key sequence for detaching from the command
    #[arg(long, value_name = "KEYS", default_value = "", hide_default_value = true)]
    detach_keys: String,
    /// The container
    container: String,
    /// The command and its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

impl Exec {
    /// Runs the command; the exit code is the command's.
    pub fn run(self, context: &Context) -> Result<ExitCode> {
        let container = Container::find(&context.engine.roots, &self.container)?;
        let docker = Personality::current() == Personality::Docker;
        if docker && !self.detach {
            check_terminal(self.interactive, self.tty)?;
        }
        if !container.state.status.is_up() {
            let shown = if docker { container.config.id.as_str() } else { &self.container };
            bail!("container {shown} is not running");
        }
        if docker && self.workdir.as_ref().is_some_and(|path| !path.is_empty() && !path.starts_with('/')) {
            return Err(Coded { text: format!("{FAILED} Cwd must be an absolute path"), code: 128 }.into());
        }
        let detached = self.detach;
        let request = Request {
            args: self.command,
            env: environment(&self.env_file, &self.env)?,
            user: self.user,
            cwd: self.workdir,
            tty: self.tty,
            stdin: self.interactive,
            privileged: self.privileged,
            detach: self.detach,
            detach_keys: detach::keys(&self.detach_keys)?,
        };
        let left = context.engine.exec(&container, request);
        left.map_err(|error| if docker { as_docker(error, detached) } else { error })?.exit_code()
    }
}

/// How Docker's words for a command that was not started begin.
const FAILED: &str = "OCI runtime exec failed: exec failed:";

/// Docker's client ends with 1 when the daemon refuses, as it does with all that nobody waits for; 126 and 127 are for
/// programs that cannot run.
fn as_docker(error: anyhow::Error, detached: bool) -> anyhow::Error {
    match error.downcast::<Coded>() {
        Ok(Coded { text, code: 125 }) => anyhow::Error::msg(text),
        Ok(Coded { text, code }) => {
            let text = format!("{FAILED} unable to start container process: {text}");
            if detached { anyhow::Error::msg(text) } else { Coded { text, code }.into() }
        }
        Err(error) => error,
    }
}
