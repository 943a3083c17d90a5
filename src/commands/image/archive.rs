//! `image save` and `image load`.

use std::fs::File;
use std::io::{BufWriter, IsTerminal as _, Read, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use umiak_images::archive::{ArchiveError, load, load_only, save, save_only};
use umiak_images::platform::Platform;
use umiak_images::progress::Silent;
use umiak_images::store::StoreError;

use super::{familiar, missing};
use crate::commands::{Context, archive_output};
use crate::engine::events;
use crate::engine::image::parse_platform;
use crate::out;

/// Save images to a tar archive.
#[derive(Debug, Args)]
pub struct Save {
    /// Write to a file, instead of STDOUT
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Only images for this platform: os[/arch[/variant]]
    #[arg(long)]
    platform: Option<String>,
    /// Images, by name or id; all tags of a name without one
    #[arg(required = true)]
    images: Vec<String>,
}

/// Load images from a tar archive.
#[derive(Debug, Args)]
pub struct Load {
    /// Read from a file, instead of STDIN
    #[arg(short, long, value_name = "FILE")]
    input: Option<PathBuf>,
    /// Only images for this platform: os[/arch[/variant]]
    #[arg(long)]
    platform: Option<String>,
    /// Show no progress
    #[arg(short, long)]
    quiet: bool,
}

impl Save {
    /// Runs the command.
    pub fn run(self, context: &Context) -> Result<ExitCode> {
        let store = context.engine.store()?;
        let platform = self.platform.as_deref().map(parse_platform).transpose()?;
        archive_output(self.output.as_deref(), |file| {
            let mut file = BufWriter::new(file);
            let saved = match &platform {
                Some(platform) => save_only(store, &self.images, platform, &mut file),
                None => save(store, &self.images, &mut file),
            };
            match saved {
                Err(ArchiveError::Store(StoreError::NotFound { name })) => return Err(missing(&name)),
                Err(ArchiveError::NotFor { platform }) => {
                    bail!("no suitable export target found for platform {platform}")
                }
                other => other?,
            }
            file.flush().context("write the archive")
        })?;
        Ok(ExitCode::SUCCESS)
    }
}

impl Load {
    /// Runs the command.
    pub fn run(self, context: &Context) -> Result<ExitCode> {
        let input: Box<dyn Read> = match &self.input {
            Some(path) => Box::new(File::open(path).with_context(|| format!("open {}", path.display()))?),
            None if std::io::stdin().is_terminal() => {
                bail!("requested load from stdin, but stdin is a terminal: use -i")
            }
            None => Box::new(std::io::stdin().lock()),
        };
        let store = context.engine.store()?;
        let loaded = match self.platform.as_deref().map(parse_platform).transpose()? {
            Some(platform) => load_only(store, input, &platform, &Silent)?,
            None => load(store, input, &Platform::host(), &Silent)?,
        };
        for image in loaded {
            if image.names.is_empty() {
                events::image(&context.engine.roots, "load", image.id.as_ref(), image.id.as_ref());
                out!("Loaded image ID: {}", image.id);
            }
            for name in image.names.iter().map(|name| familiar(name)) {
                events::image(&context.engine.roots, "load", image.id.as_ref(), &name);
                out!("Loaded image: {name}");
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}
