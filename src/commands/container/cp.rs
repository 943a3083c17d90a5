//! `container cp`: files between a container and the host.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;

use crate::commands::{Context, cp, piped, refuse_terminal};
use crate::engine::Container;
use crate::engine::copy::CopyOptions;
use crate::failure::Plain;

/// Copy files/folders between a container and the local filesystem.
#[derive(Debug, Args)]
pub struct Cp {
    /// Archive mode (files belong to the container's user)
    #[arg(short, long)]
    archive: bool,
    /// Always follow symbol link in SRC_PATH
    #[arg(short = 'L', long)]
    follow_link: bool,
    /// Suppress progress output; there is none
    #[arg(short, long, hide = true)]
    quiet: bool,
    /// CONTAINER:SRC_PATH, SRC_PATH or - for a tar archive on the standard input
    #[arg(value_name = "SRC")]
    source: String,
    /// CONTAINER:DEST_PATH, DEST_PATH or - for a tar archive on the standard output
    #[arg(value_name = "DEST")]
    target: String,
}

impl Cp {
    /// Runs the command.
    pub fn run(self, context: &Context) -> Result<ExitCode> {
        let engine = &context.engine;
        let options = CopyOptions { archive: self.archive, follow_link: self.follow_link };
        let find = |key| Container::find(&engine.roots, key);
        let plain = |text: &str| Plain(text.to_owned()).into();
        match (cp::split(&self.source), cp::split(&self.target)) {
            ((Some(_), _), (Some(_), _)) => return Err(plain("copying between containers is not supported")),
            ((None, _), (None, _)) => return Err(plain("must specify at least one container source")),
            ((Some(key), path), (None, "-")) => {
                refuse_terminal()?;
                piped(engine.copy_stream_out(&find(key)?, path, std::io::stdout(), options))?;
            }
            ((Some(key), path), (None, target)) => engine.copy_out(&find(key)?, path, Path::new(target), options)?,
            ((None, "-"), (Some(key), path)) => {
                engine.copy_stream_in(&find(key)?, std::io::stdin(), path, options)?;
            }
            ((None, source), (Some(key), path)) => engine.copy_in(&find(key)?, Path::new(source), path, options)?,
        }
        Ok(ExitCode::SUCCESS)
    }
}
