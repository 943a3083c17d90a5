//! `umiak image`: the image store.

use std::fs::File;
use std::io::{IsTerminal as _, Read, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use clap::{Args, Subcommand};

use super::{Context, Format};
use crate::engine::image::{Policy, in_use, split_name};
use crate::engine::{events, inspect};
use crate::ui::human;
use crate::ui::table::Table;
use crate::{failure, out};

/// Manage images.
#[derive(Debug, Subcommand)]
pub enum Image {
    /// Download an image from a registry
    Pull(Pull),
    /// List images
    #[command(visible_alias = "list")]
    Ls(Ls),
    /// Display detailed information on images
    Inspect(Names),
    /// Remove images
    Rm(Rm),
    /// Create a tag TARGET that refers to SOURCE
    Tag(Tag),
    /// Remove unused images
    Prune(Prune),
    /// Save images to a tar archive
    Save(Save),
    /// Load images from a tar archive
    Load(Load),
}

/// Download an image from a registry.
#[derive(Debug, Args)]
pub struct Pull {
    /// Platform of the image: os[/arch[/variant]]
    #[arg(long)]
    platform: Option<String>,
    /// Suppress verbose output
    #[arg(short, long)]
    quiet: bool,
    /// The image: NAME[:TAG|@DIGEST]
    image: String,
}

/// List images.
#[derive(Debug, Args)]
pub struct Ls {
    /// Only show image IDs
    #[arg(short, long)]
    quiet: bool,
    /// Show digests
    #[arg(long)]
    digests: bool,
    /// table or json
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
}

/// Images by name or id.
#[derive(Debug, Args)]
pub struct Names {
    /// Images, by name or id
    #[arg(required = true)]
    images: Vec<String>,
}

/// Remove images.
#[derive(Debug, Args)]
pub struct Rm {
    /// Remove an image with several names by its id
    #[arg(short, long)]
    force: bool,
    /// Images, by name or id
    #[arg(required = true)]
    images: Vec<String>,
}

/// Create a tag.
#[derive(Debug, Args)]
pub struct Tag {
    /// The image, by name or id
    source: String,
    /// Its new name
    target: String,
}

/// Remove unused images.
#[derive(Debug, Args)]
pub struct Prune {
    /// Remove all unused images, not just those without a name
    #[arg(short, long)]
    all: bool,
    /// Do not ask for confirmation
    #[arg(short, long)]
    force: bool,
}

/// Save images to a tar archive.
#[derive(Debug, Args)]
pub struct Save {
    /// Write to a file, instead of STDOUT
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Images, by name or id
    #[arg(required = true)]
    images: Vec<String>,
}

/// Load images from a tar archive.
#[derive(Debug, Args)]
pub struct Load {
    /// Read from a file, instead of STDIN
    #[arg(short, long, value_name = "FILE")]
    input: Option<PathBuf>,
    /// Only print the names of what was loaded
    #[arg(short, long)]
    quiet: bool,
}

impl Image {
    /// Runs the command.
    pub fn run(self, context: &Context) -> Result<ExitCode> {
        match self {
            Self::Pull(command) => command.run(context),
            Self::Ls(command) => command.run(context),
            Self::Inspect(command) => command.inspect(context),
            Self::Rm(command) => command.run(context),
            Self::Tag(command) => {
                context.engine.tag_image(&command.source, &command.target)?;
                Ok(ExitCode::SUCCESS)
            }
            Self::Prune(command) => command.run(context),
            Self::Save(command) => command.run(context),
            Self::Load(command) => command.run(context),
        }
    }
}

impl Pull {
    fn run(self, context: &Context) -> Result<ExitCode> {
        let progress = if self.quiet { crate::ui::progress::Progress::quiet() } else { context.progress() };
        let image = context.engine.image(&self.image, Policy::Always, self.platform.as_deref(), &progress)?;
        progress.finish();
        match self.quiet {
            true => out!("{}", image.id),
            false => out!("{}", image.names.first().map_or_else(|| image.id.to_string(), Clone::clone)),
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Ls {
    fn run(self, context: &Context) -> Result<ExitCode> {
        let listing = context.engine.store()?.list()?;
        for damaged in &listing.damaged {
            let name = damaged.names.first().cloned().unwrap_or_else(|| damaged.manifest_digest.to_string());
            crate::note!("warning: image {name} is damaged ({}): pull it again to repair it", damaged.error);
        }
        let mut header = vec!["REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE"];
        if self.digests {
            header.insert(2, "DIGEST");
        }
        let mut table = Table::new(&header);
        for image in &listing.images {
            let created = image.created.as_deref().and_then(|text| text.parse().ok());
            let created = created.map_or_else(|| "N/A".to_owned(), human::ago);
            let short = umiak_base::id::short(image.id.hex()).to_owned();
            if self.quiet {
                out!("{short}");
                continue;
            }
            let unnamed = vec!["<none>:<none>".to_owned()];
            for name in if image.names.is_empty() { &unnamed } else { &image.names } {
                let (repository, tag) = split_name(name);
                let digest = image
                    .repo_digests
                    .first()
                    .and_then(|text| text.split_once('@'))
                    .map_or("<none>", |(_, digest)| digest);
                if self.format == Format::Json {
                    out!(
                        "{}",
                        serde_json::json!({
                            "Repository": repository, "Tag": tag, "Digest": digest, "ID": short,
                            "CreatedSince": created, "CreatedAt": image.created, "Size": human::size(image.size),
                        })
                    );
                    continue;
                }
                let mut row = vec![repository, tag, short.clone(), created.clone(), human::size(image.size)];
                if self.digests {
                    row.insert(2, digest.to_owned());
                }
                table.row(row);
            }
        }
        if !self.quiet && self.format == Format::Table {
            out!("{}", table.render());
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Names {
    fn inspect(self, context: &Context) -> Result<ExitCode> {
        let mut result = ExitCode::SUCCESS;
        let mut found = Vec::new();
        for name in &self.images {
            match context.engine.store()?.resolve(name) {
                Ok(image) => found.push(inspect::image(&image)),
                Err(error) => result = failure::report(&error.into()),
            }
        }
        out!("{}", serde_json::to_string_pretty(&found)?);
        Ok(result)
    }
}

impl Rm {
    fn run(self, context: &Context) -> Result<ExitCode> {
        let mut result = ExitCode::SUCCESS;
        let containers = context.engine.containers()?;
        for name in &self.images {
            match context.engine.remove_image(name, &containers, self.force) {
                Ok(removed) => {
                    removed.untagged.iter().for_each(|name| out!("Untagged: {name}"));
                    removed.deleted.iter().for_each(|digest| out!("Deleted: {digest}"));
                }
                Err(error) => result = failure::report(&error),
            }
        }
        Ok(result)
    }
}

impl Prune {
    fn run(self, context: &Context) -> Result<ExitCode> {
        let what = if self.all { "all images that no container uses" } else { "all images without a name" };
        if !self.force && !super::confirm(&format!("This will remove {what}."))? {
            return Ok(ExitCode::SUCCESS);
        }
        let containers = context.engine.containers()?;
        let pruned = context.engine.store()?.prune(self.all, &|id| in_use(&containers, id))?;
        for name in &pruned.untagged {
            out!("untagged: {name}");
        }
        for digest in &pruned.deleted {
            out!("deleted: {digest}");
        }
        out!("Total reclaimed space: {}", human::size(pruned.bytes));
        Ok(ExitCode::SUCCESS)
    }
}

impl Save {
    fn run(self, context: &Context) -> Result<ExitCode> {
        let store = context.engine.store()?;
        let Some(path) = &self.output else {
            if std::io::stdout().is_terminal() {
                bail!("cowardly refusing to save to a terminal: use -o or redirect");
            }
            let mut stdout = std::io::stdout().lock();
            umiak_images::archive::save(store, &self.images, &mut stdout)?;
            stdout.flush().context("write the archive")?;
            return Ok(ExitCode::SUCCESS);
        };
        // Written aside: a failure leaves no half archive under the name that was asked for.
        let partial = path.with_extension("partial");
        let result = File::create(&partial).with_context(|| format!("write {}", partial.display())).and_then(|file| {
            let mut file = std::io::BufWriter::new(file);
            umiak_images::archive::save(store, &self.images, &mut file)?;
            file.flush().with_context(|| format!("write {}", partial.display()))?;
            std::fs::rename(&partial, path).with_context(|| format!("write {}", path.display()))
        });
        if result.is_err() {
            let _ = std::fs::remove_file(&partial);
        }
        result.map(|()| ExitCode::SUCCESS)
    }
}

impl Load {
    fn run(self, context: &Context) -> Result<ExitCode> {
        let input: Box<dyn Read> = match &self.input {
            Some(path) => Box::new(File::open(path).with_context(|| format!("open {}", path.display()))?),
            None if std::io::stdin().is_terminal() => {
                bail!("requested load from stdin, but stdin is a terminal: use -i")
            }
            None => Box::new(std::io::stdin().lock()),
        };
        let platform = umiak_images::platform::Platform::host();
        let silent = umiak_images::progress::Silent;
        for image in umiak_images::archive::load(context.engine.store()?, input, &platform, &silent)? {
            let familiar = |name: &String| {
                let (repository, tag) = split_name(name);
                format!("{repository}:{tag}")
            };
            let name = image.names.first().map_or_else(|| image.id.to_string(), familiar);
            events::image(&context.engine.roots, "load", &image.id.to_string(), &name);
            match self.quiet {
                true => out!("{name}"),
                false => out!("Loaded image: {name}"),
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}
