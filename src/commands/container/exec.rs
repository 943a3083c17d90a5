//! `container exec`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Args;

use super::flags::environment;
use crate::commands::Context;
use crate::engine::exec::Request;
use crate::engine::{Container, detach};

/// Execute a command in a running container.
#[derive(Debug, Args)]
#[allow(clippy::struct_excessive_bools, reason = "one per flag")]
pub struct Exec {
    /// Detached mode: run the command in the background
    #[arg(short, long)]
    detach: bool,
    /// Set environment variables
    #[arg(short, long, value_name = "K=V")]
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
        if !container.state.status.is_up() {
            bail!("container {} is not running", self.container);
        }
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
        context.engine.exec(&container, request)?.exit_code()
    }
}
