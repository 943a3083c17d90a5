//! `exec`: a command in a service's running container.

use std::io::IsTerminal as _;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;

use super::Context;
use crate::engine::exec::Request;
use crate::project::{load, observe};

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
    /// Index of the container if the service has multiple replicas
    #[arg(long, value_name = "N")]
    index: Option<u32>,
    /// Disable pseudo-TTY allocation; by default a TTY is allocated when the output is one
    #[arg(short = 'T', long = "no-tty", visible_alias = "no-TTY")]
    no_tty: bool,
    /// Give extended privileges to the process
    #[arg(long)]
    privileged: bool,
    /// Run the command as this user
    #[arg(short, long)]
    user: Option<String>,
    /// Path to the working directory for this command
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<String>,
    #[arg(short, long, hide = true)]
    interactive: bool,
    #[arg(short, long, hide = true)]
    tty: bool,
    /// The service
    service: String,
    /// The command and its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

impl Exec {
    /// Runs the command; the exit code is the command's.
    pub fn run(self, context: &Context) -> Result<ExitCode> {
        let project = load::named(context, &[])?;
        let member = observe::running(&context.engine, &project.name, &self.service, self.index)?;
        let environment = project.model.as_ref().map(|model| &model.environment);
        let variable = |text: &String| match text.split_once('=') {
            Some((key, value)) => Some((key.to_owned(), Some(value.to_owned()))),
            None => environment.and_then(|all| all.get(text)).map(|value| (text.clone(), Some(value.clone()))),
        };
        let terminal = std::io::stdout().is_terminal() && std::io::stdin().is_terminal();
        let request = Request {
            args: self.command,
            env: self.env.iter().filter_map(variable).collect(),
            user: self.user,
            cwd: self.workdir,
            tty: !self.no_tty && !self.detach && terminal,
            stdin: !self.detach,
            privileged: self.privileged,
            detach: self.detach,
            detach_keys: Vec::new(),
        };
        if context.global.dry_run {
            let progress = context.progress();
            progress.done(
                &format!("Container {}", member.container.config.name),
                &format!("Exec {}", request.args.join(" ")),
            );
            progress.finish();
            return Ok(ExitCode::SUCCESS);
        }
        context.engine.exec(&member.container, request)?.exit_code()
    }
}
