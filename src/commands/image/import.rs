//! `image import`: a root file system becomes an image of one layer.

use std::fs::File;
use std::io::{Read, Seek as _};
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::Args;
use umiak_images::config::{History, ImageConfig};
use umiak_images::download::download;
use umiak_images::platform::Platform;
use umiak_images::reference::Reference;

use crate::commands::Context;
use crate::engine::events;
use crate::out;

/// Create an image from the contents of a tar archive.
#[derive(Debug, Args)]
pub struct Import {
    /// Apply Dockerfile instruction to the created image
    #[arg(short, long, value_name = "INSTRUCTION")]
    change: Vec<String>,
    /// Set commit message for imported image
    #[arg(short, long, default_value = "")]
    message: String,
    /// Platform of the image: os[/arch[/variant]]
    #[arg(long)]
    platform: Option<String>,
    /// The archive: a file, a URL, or - for the standard input
    file: String,
    /// The image's name: REPOSITORY[:TAG]
    name: Option<String>,
}

impl Import {
    /// Runs the command.
    pub fn run(self, context: &Context) -> Result<ExitCode> {
        let platform = match &self.platform {
            Some(text) => text.parse::<Platform>().with_context(|| format!("invalid platform: {text}"))?,
            // What this very machine could run is not what the files ask for; variants of ARM are other instruction sets.
            None => match Platform::host() {
                host if host.architecture == "amd64" => Platform { variant: None, ..host },
                host => host,
            },
        };
        let name = self
            .name
            .as_ref()
            .map(|name| name.parse::<Reference>().with_context(|| format!("invalid reference format: {name}")));
        let name = name.transpose()?;
        let created = Some(jiff::Timestamp::now().to_string());
        let message = match self.message.as_str() {
            "" => format!("Imported from {}", self.file),
            message => message.to_owned(),
        };
        let mut config = ImageConfig {
            architecture: platform.architecture.clone(),
            os: platform.os.clone(),
            variant: platform.variant.clone(),
            created: created.clone(),
            comment: Some(message.clone()),
            history: vec![History { created, comment: Some(message), ..History::default() }],
            ..ImageConfig::default()
        };
        for change in &self.change {
            config.config.change(change)?;
        }
        let input: Box<dyn Read> = match self.file.as_str() {
            "-" => Box::new(std::io::stdin().lock()),
            url if url.contains("://") => Box::new(downloaded(context, url)?),
            path => Box::new(File::open(Path::new(path)).with_context(|| format!("open {path}"))?),
        };
        let image = umiak_images::archive::import(context.engine.store()?, input, config, name.as_ref())?;
        let shown = name.map(|name| name.familiar()).unwrap_or_default();
        events::image(&context.engine.roots, "import", image.id.as_ref(), &shown);
        out!("{}", image.id);
        Ok(ExitCode::SUCCESS)
    }
}

/// The longest archive that is downloaded, in bytes.
const LIMIT: u64 = 1 << 40;

/// What is at a URL, in a file without a name: an archive that broke off is not taken for a whole one.
fn downloaded(context: &Context, url: &str) -> Result<File> {
    let dir = context.engine.store()?.images();
    let failed = || format!("write the download of {url} to {}", dir.display());
    let flags = rustix::fs::OFlags::TMPFILE | rustix::fs::OFlags::RDWR | rustix::fs::OFlags::CLOEXEC;
    let file = rustix::fs::open(dir, flags, rustix::fs::Mode::from_raw_mode(0o600)).with_context(failed)?;
    let mut file = File::from(file);
    out!("Downloading from {url}");
    download(url, &mut file, LIMIT)?;
    file.rewind().with_context(failed)?;
    Ok(file)
}
