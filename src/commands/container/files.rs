//! `container export`, `commit`, `diff` and `rename`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;

use crate::commands::{Context, archive_output, commit};
use crate::engine::Container;
use crate::failure::{self, Plain};
use crate::out;
use crate::personality::Personality;

/// Export a container's filesystem as a tar archive.
#[derive(Debug, Args)]
pub struct Export {
    /// Write to a file, instead of STDOUT
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// The container
    container: String,
}

/// Create a new image from a container's changes.
#[derive(Debug, Args)]
pub struct Commit {
    #[command(flatten)]
    flags: commit::Flags,
    /// The container
    container: String,
    /// The image's name: REPOSITORY[:TAG]
    name: Option<String>,
}

/// Inspect changes to files or directories on a container's filesystem.
#[derive(Debug, Args)]
pub struct Diff {
    /// The container
    container: String,
}

/// Rename a container.
#[derive(Debug, Args)]
pub struct Rename {
    /// The container
    container: String,
    /// Its new name
    name: String,
}

impl Export {
    /// Runs the command.
    pub fn run(self, context: &Context) -> Result<ExitCode> {
        let container = Container::find(&context.engine.roots, &self.container)?;
        archive_output(self.output.as_deref(), |out| context.engine.export(&container, out))?;
        Ok(ExitCode::SUCCESS)
    }
}

impl Commit {
    /// Runs the command.
    pub fn run(self, context: &Context) -> Result<ExitCode> {
        let container = Container::find(&context.engine.roots, &self.container)?;
        out!("{}", context.engine.commit(&container, self.name.as_deref(), &self.flags.into())?.id);
        Ok(ExitCode::SUCCESS)
    }
}

impl Diff {
    /// Runs the command.
    pub fn run(self, context: &Context) -> Result<ExitCode> {
        let container = Container::find(&context.engine.roots, &self.container)?;
        for change in context.engine.diff(&container)? {
            out!("{} {}", change.kind.letter(), String::from_utf8_lossy(&change.path));
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Rename {
    /// Runs the command.
    pub fn run(self, context: &Context) -> Result<ExitCode> {
        let found = Container::find(&context.engine.roots, &self.container);
        match found.and_then(|container| context.engine.rename(&container, &self.name)) {
            Err(error) if Personality::current() == Personality::Docker => {
                failure::report(&error);
                Err(Plain(format!("Error: failed to rename container named {}", self.container)).into())
            }
            done => done.map(|()| ExitCode::SUCCESS),
        }
    }
}
