//! `cp`: files between services and the host.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Args;

use super::Context;
use crate::engine::copy::CopyOptions;
use crate::project::{labels, load, observe};

/// Copy files/folders between a service container and the local filesystem.
#[derive(Debug, Args)]
pub struct Cp {
    /// Archive mode (files belong to the container's user)
    #[arg(short, long)]
    archive: bool,
    /// Always follow symbol link in SRC_PATH
    #[arg(short = 'L', long)]
    follow_link: bool,
    /// Index of the container if service has multiple replicas
    #[arg(long, value_name = "N")]
    index: Option<u32>,
    /// Include containers created by the run command
    #[arg(long)]
    all: bool,
    /// SERVICE:SRC_PATH, SRC_PATH or - for a tar archive on the standard input
    #[arg(value_name = "SRC")]
    source: String,
    /// SERVICE:DEST_PATH, DEST_PATH or - for a tar archive on the standard output
    #[arg(value_name = "DEST")]
    target: String,
}

/// `NAME:PATH`, unless it can only be a path of the host: it is absolute, begins with a dot, or has no colon.
pub fn split(argument: &str) -> (Option<&str>, &str) {
    if argument.starts_with(['/', '.']) {
        return (None, argument);
    }
    match argument.split_once(':') {
        Some((name, path)) => (Some(name), path),
        None => (None, argument),
    }
}

impl Cp {
    /// Runs the command.
    pub fn run(self, context: &Context) -> Result<ExitCode> {
        let project = load::named(context, &[])?;
        let options = CopyOptions { archive: self.archive, follow_link: self.follow_link };
        let (service, path, out) = match (split(&self.source), split(&self.target)) {
            ((Some(_), _), (Some(_), _)) => bail!("copying between services is not supported"),
            ((None, _), (None, _)) => bail!("unknown copy direction"),
            ((Some(service), path), (None, _)) => (service, path, true),
            ((None, _), (Some(service), path)) => (service, path, false),
        };
        let engine = &context.engine;
        let mut members = observe::members(engine, &project.name)?;
        members.retain(|member| {
            let one_off = member.container.label(labels::ONEOFF) == Some("True");
            member.service == service && (self.all || !one_off) && self.index.is_none_or(|index| member.number == index)
        });
        match (members.is_empty(), self.index) {
            (false, _) => {}
            (true, Some(index)) => bail!("service \"{service}\" is not running container #{index}"),
            (true, None) => bail!("no container found for service \"{service}\""),
        }
        // What comes out of a pipe comes once.
        if out || self.source == "-" {
            members.truncate(1);
        }
        let progress = context.progress();
        for member in &members {
            let container = &member.container;
            let name = &container.config.name;
            let what = match out {
                true => format!("{name} copy {name}:{path} to {}", self.target),
                false => format!("{name} copy {} to {name}:{path}", self.source),
            };
            progress.working(&what, "Copying");
            if context.global.dry_run {
                progress.done(&what, "Copied");
                continue;
            }
            let copied = match (out, out && self.target == "-", !out && self.source == "-") {
                (_, true, _) => {
                    super::refuse_terminal()?;
                    super::piped(engine.copy_stream_out(container, path, std::io::stdout(), options))
                }
                (_, _, true) => engine.copy_stream_in(container, std::io::stdin(), path, options),
                (true, ..) => engine.copy_out(container, path, Path::new(&self.target), options),
                (false, ..) => engine.copy_in(container, Path::new(&self.source), path, options),
            };
            if let Err(error) = copied {
                progress.failed(&what, "Error");
                progress.finish();
                return Err(error);
            }
            progress.done(&what, "Copied");
        }
        progress.finish();
        Ok(ExitCode::SUCCESS)
    }
}
