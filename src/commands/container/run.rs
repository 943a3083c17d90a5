//! `container run`.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;

use super::flags::{Flags, Stream};
use super::foreground::{Foreground, check_terminal};
use crate::commands::Context;
use crate::engine::attach::Left;
use crate::engine::image::Policy;
use crate::engine::{Container, attach};
use crate::failure::{self, Coded, Plain};
use crate::monitor::protocol::Attach;
use crate::out;
use crate::personality::Personality;

/// Create and run a new container from an image.
#[derive(Debug, Args)]
#[command(disable_help_flag = true)]
pub struct Run {
    /// Run the container in the background and print its ID
    #[arg(short, long)]
    detach: bool,
    /// Pull the image before running: always, missing, never
    #[arg(long, value_enum, default_value = "missing")]
    pull: Policy,
    /// Suppress the pull output
    #[arg(short, long)]
    quiet: bool,
    /// Platform of the image: os[/arch[/variant]]
    #[arg(long)]
    platform: Option<String>,
    #[command(flatten)]
    flags: Flags,
    #[command(flatten)]
    foreground: Foreground,
    /// Print help
    #[arg(long, action = clap::ArgAction::Help)]
    help: Option<bool>,
    /// The image
    image: String,
    /// The command and its arguments
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

impl Run {
    /// Runs the command. When nothing could be started, the exit code is 125, 126 or 127.
    pub fn run(self, context: &Context) -> Result<ExitCode> {
        if self.detach && !self.flags.attach.is_empty() {
            return Err(Plain("conflicting options: cannot specify both --attach and --detach".into()).into());
        }
        let how = self.foreground.how().map_err(not_started)?;
        let mut request = self.flags.request(&self.image, &self.command).map_err(not_started)?;
        let input = self.flags.interactive || self.flags.attach.contains(&Stream::Stdin);
        check_terminal(input && !self.detach, self.flags.tty)?;
        request.asked.attach_output = !self.detach;
        request.asked.attach_stdin = !self.detach && self.flags.interactive;
        let progress = if self.quiet { crate::ui::progress::Progress::quiet() } else { context.progress() };
        let engine = &context.engine;
        engine.sweep().map_err(not_started)?;
        let image = engine.image(&self.image, self.pull, self.platform.as_deref(), &progress).map_err(not_started)?;
        progress.finish();
        engine.check_networks(&request).map_err(not_started)?;
        let container = engine.create(request, &image).map_err(not_started)?;
        cidfile(self.flags.cidfile.as_deref(), &container.config.id).map_err(not_started)?;
        if self.detach {
            if let Err(error) = engine.start_attached(&container, None) {
                give_up(context, &container);
                return Err(not_started(error));
            }
            out!("{}", container.config.id);
            return Ok(ExitCode::SUCCESS);
        }
        let stdin = self.flags.attaches(Stream::Stdin);
        let wanted = Attach {
            stdin,
            stdout: self.flags.attaches(Stream::Stdout),
            stderr: self.flags.attaches(Stream::Stderr),
            close_stdin: stdin,
        };
        let (ours, theirs) = attach::pair()?;
        if let Err(error) = engine.start_attached(&container, Some((wanted, theirs))) {
            give_up(context, &container);
            return Err(not_started(error));
        }
        let code = match engine.converse(&container, &ours, wanted, how)? {
            Left::Ended(code) => code,
            Left::Detached => return Ok(ExitCode::SUCCESS),
        };
        if self.flags.rm {
            // The monitor would, had this command been killed.
            engine.gone(&container.config.id)?;
        }
        Ok(failure::code(code))
    }
}

/// Nothing half-made stays: why it could not be started is told.
fn give_up(context: &Context, container: &Container) {
    let _ = context.engine.remove(container, true, true);
}

/// An error before anything ran: exit code 125, unless a better one is known.
pub fn not_started(error: anyhow::Error) -> anyhow::Error {
    if error.downcast_ref::<Coded>().is_some() {
        return error;
    }
    if error.is::<Plain>() && Personality::current() == Personality::Docker {
        // What the client finds itself.
        let text = failure::as_go(&failure::one_line(&error));
        let text = format!("docker: {text}\n\nRun 'docker run --help' for more information");
        return Coded { text, code: 125 }.into();
    }
    let hint = error.downcast_ref::<failure::Hint>().map(|hint| hint.0.clone());
    let coded = anyhow::Error::new(Coded { text: failure::one_line(&error), code: 125 });
    match hint {
        Some(hint) => coded.context(failure::Hint(hint)),
        None => coded,
    }
}

/// Writes the id into a file that must not be there yet.
pub fn cidfile(path: Option<&std::path::Path>, id: &str) -> Result<()> {
    use anyhow::Context as _;
    let Some(path) = path else { return Ok(()) };
    let file = std::fs::OpenOptions::new().write(true).create_new(true).open(path);
    if file.as_ref().is_err_and(|error| error.kind() == std::io::ErrorKind::AlreadyExists) {
        let shown = path.display();
        let text = format!("container ID file found, make sure the other container isn't running or delete {shown}");
        return Err(Plain(text).into());
    }
    let wrong = || format!("write the container id into {}", path.display());
    std::io::Write::write_all(&mut file.with_context(wrong)?, id.as_bytes()).with_context(wrong)
}
