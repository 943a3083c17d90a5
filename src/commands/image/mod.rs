//! `umiak image`: the image store.

pub mod archive;
pub mod build;
mod build_legacy;
pub mod history;
pub mod import;
pub mod ls;
pub mod push;

use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::{Args, Subcommand};

use super::Context;
use super::filters::{Filters, LongFilters};
use crate::engine::image::{check_platform, in_use, parse_platform, split_name};
use crate::engine::push::reference;
use crate::personality::Personality;
use crate::ui::human;
use crate::{failure, out};

/// Manage images.
#[derive(Debug, Subcommand)]
pub enum Image {
    /// Build an image from a Dockerfile
    Build(Box<build::Build>),
    /// Download an image from a registry
    Pull(Pull),
    /// Upload an image to a registry
    Push(push::Push),
    /// List images
    #[command(visible_alias = "list")]
    Ls(ls::Ls),
    /// Display detailed information on images
    Inspect(Names),
    /// Remove images
    Rm(Rm),
    /// Create a tag TARGET that refers to SOURCE
    Tag(Tag),
    /// Remove unused images
    Prune(Prune),
    /// Save images to a tar archive
    Save(archive::Save),
    /// Load images from a tar archive
    Load(archive::Load),
    /// Show the history of an image
    History(history::History),
    /// Create an image from the contents of a tar archive
    Import(import::Import),
}

/// Download an image from a registry.
#[derive(Debug, Args)]
pub struct Pull {
    /// Platform of the image: os[/arch[/variant]]
    #[arg(long)]
    platform: Option<String>,
    /// Download all tagged images in the repository
    #[arg(short, long)]
    all_tags: bool,
    /// Skip image verification: there is none of that kind
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    disable_content_trust: Option<bool>,
    /// Suppress verbose output
    #[arg(short, long)]
    quiet: bool,
    /// The image: NAME[:TAG|@DIGEST]
    image: String,
}

/// Images by name or id.
#[derive(Debug, Args)]
pub struct Names {
    /// Format output: json, or a Go template
    #[arg(short, long, value_name = "FORMAT")]
    format: Option<String>,
    /// Only an image for this platform: os[/arch[/variant]]
    #[arg(long)]
    platform: Option<String>,
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
    /// Only take the names away, and leave the images without a name
    #[arg(long)]
    no_prune: bool,
    /// Only if the image is for this platform
    #[arg(long, value_name = "PLATFORM", value_delimiter = ',')]
    platform: Vec<String>,
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
    #[command(flatten)]
    filters: LongFilters,
    /// Do not ask for confirmation
    #[arg(short, long)]
    force: bool,
}

impl Image {
    /// Runs the command.
    pub fn run(self, context: &Context) -> Result<ExitCode> {
        match self {
            Self::Build(command) => command.run(context),
            Self::Pull(command) => command.run(context),
            Self::Push(command) => command.run(context),
            Self::Ls(command) => command.run(context),
            Self::Inspect(command) => command.inspect(context),
            Self::Rm(command) => command.run(context),
            Self::Tag(command) => command.run(context),
            Self::Prune(command) => command.run(context),
            Self::Save(command) => command.run(context),
            Self::Load(command) => command.run(context),
            Self::History(command) => command.run(context),
            Self::Import(command) => command.run(context),
        }
    }
}

impl Pull {
    /// Runs the command.
    pub fn run(self, context: &Context) -> Result<ExitCode> {
        let names = match self.all_tags {
            true => self.tagged(context)?,
            false => vec![self.image.clone()],
        };
        let docker = Personality::current() == Personality::Docker && !self.quiet;
        let platform = self.platform.as_deref().map(parse_platform).transpose()?;
        let progress = if self.quiet { crate::ui::progress::Progress::quiet() } else { context.progress() };
        let tagged = self.image.rsplit('/').next().is_some_and(|last| last.contains([':', '@']));
        if docker && !self.all_tags && !tagged {
            out!("Using default tag: latest");
        }
        let mut changed = false;
        let mut shown = full_name(&self.image);
        for name in &names {
            let name = reference(name)?;
            let pulled = context.engine.pull_shown(&name, platform.clone(), &progress)?;
            changed |= pulled.changed;
            if docker {
                let selector = if name.digest().is_some() { name.to_string() } else { name.selector().to_owned() };
                out!("{selector}: Pulling from {}\nDigest: {}", name.repository(), pulled.digest);
            }
            shown = if self.all_tags { name.name() } else { name.to_string() };
        }
        progress.finish();
        if docker {
            let status = if changed { "Downloaded newer image" } else { "Image is up to date" };
            let short =
                if self.all_tags { reference(&self.image)?.familiar_name() } else { familiar_whole(&self.image) };
            out!("Status: {status} for {short}");
        }
        out!("{shown}");
        Ok(ExitCode::SUCCESS)
    }

    fn tagged(&self, context: &Context) -> Result<Vec<String>> {
        if self.image.rsplit('/').next().is_some_and(|last| last.contains([':', '@'])) {
            return Err(failure::Plain("tag can't be used with --all-tags/-a".into()).into());
        }
        let tags = context.engine.tags(&self.image)?;
        Ok(tags.iter().map(|tag| format!("{}:{tag}", self.image)).collect())
    }
}

impl Tag {
    /// Runs the command.
    pub fn run(self, context: &Context) -> Result<ExitCode> {
        let tagged = context.engine.tag_image(&self.source, &self.target);
        tagged.map_err(|error| if is_missing(&error) { missing(&self.source) } else { error })?;
        Ok(ExitCode::SUCCESS)
    }
}

/// A name as people write it, with its tag.
fn familiar_whole(name: &str) -> String {
    name.parse::<umiak_images::reference::Reference>()
        .map_or_else(|_| name.to_owned(), |reference| reference.familiar())
}

/// The name with its registry and tag.
fn full_name(name: &str) -> String {
    name.parse::<umiak_images::reference::Reference>()
        .map_or_else(|_| name.to_owned(), |reference| reference.to_string())
}

impl Names {
    fn inspect(self, context: &Context) -> Result<ExitCode> {
        super::inspect::show(&self.images, self.format.as_deref(), |name| {
            let image = resolve_for(context, name, self.platform.as_deref())?;
            inspected(context, &image).map(Some)
        })
    }
}

/// What is shown of an image.
pub fn inspected(context: &Context, image: &umiak_images::store::Image) -> Result<serde_json::Value> {
    let tagged = context.engine.store()?.last_tagged(image)?;
    Ok(crate::engine::inspect::image(image, tagged))
}

/// An image of the store, or Docker's words for one that is not there.
pub fn resolve(context: &Context, name: &str) -> Result<umiak_images::store::Image> {
    use umiak_images::store::StoreError;
    context.engine.store()?.resolve(name).map_err(|error| match error {
        StoreError::NotFound { .. } => missing(name),
        error => error.into(),
    })
}

/// The same, for `platform`, if one is given: of images that came together the one for it.
pub fn resolve_for(context: &Context, name: &str, platform: Option<&str>) -> Result<umiak_images::store::Image> {
    let image = resolve(context, name)?;
    let Some(platform) = platform.map(parse_platform).transpose()? else { return Ok(image) };
    match context.engine.store()?.variant(&image, &platform)? {
        Some(variant) => Ok(variant),
        None => check_platform(name, &image, Some(&platform)).map(|()| image),
    }
}

fn missing(name: &str) -> anyhow::Error {
    let last = name.rsplit('/').next().unwrap_or(name);
    let tag = if last.contains([':', '@']) { "" } else { ":latest" };
    anyhow::anyhow!("No such image: {name}{tag}")
}

impl Rm {
    /// Runs the command.
    pub fn run(self, context: &Context) -> Result<ExitCode> {
        let mut result = ExitCode::SUCCESS;
        let containers = context.engine.containers()?;
        for name in &self.images {
            let fits = self.fits(context, name);
            match fits.and_then(|()| context.engine.remove_image(name, &containers, self.force)) {
                Ok(removed) => {
                    removed.untagged.iter().for_each(|name| out!("Untagged: {}", familiar(name)));
                    removed.deleted.iter().for_each(|digest| out!("Deleted: {digest}"));
                }
                Err(error) if is_missing(&error) => {
                    let code = failure::report(&missing(name));
                    // As Docker: said, but with --force no failure.
                    result = if self.force { result } else { code };
                }
                Err(error) if error.is::<OtherPlatform>() && self.force => drop(failure::report(&error)),
                Err(error) => result = failure::report(&conflict(error)),
            }
        }
        Ok(result)
    }

    /// Whether an image is for the platform that was asked for.
    fn fits(&self, context: &Context, name: &str) -> Result<()> {
        let wanted: Vec<&String> = self.platform.iter().filter(|text| !text.is_empty()).collect();
        let platform = match wanted.as_slice() {
            [] => return Ok(()),
            [text] => parse_platform(text)?,
            _ => bail!("multiple platforms are not supported"),
        };
        let image = context.engine.store()?.resolve(name)?;
        check_platform(name, &image, Some(&platform)).map_err(|error| OtherPlatform(error.to_string()).into())
    }
}

/// An image that was to be removed is not for the platform.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct OtherPlatform(String);

/// Docker's words, under its name, for an image that cannot be removed without force.
fn conflict(error: anyhow::Error) -> anyhow::Error {
    use umiak_images::store::StoreError;
    if Personality::current() != Personality::Docker {
        return error;
    }
    match error.downcast_ref::<StoreError>() {
        Some(StoreError::InUse { name, users }) => anyhow::anyhow!(
            "conflict: unable to remove repository reference \"{name}\" (must force) - container {} is using its referenced image",
            users.join(", ")
        ),
        Some(StoreError::SeveralNames { id, .. }) => anyhow::anyhow!(
            "conflict: unable to delete {id} (must be forced) - image is referenced in multiple repositories"
        ),
        _ => error,
    }
}

/// A full name as people write it.
fn familiar(name: &str) -> String {
    let (repository, tag) = split_name(name);
    format!("{repository}:{tag}")
}

fn is_missing(error: &anyhow::Error) -> bool {
    use umiak_images::store::StoreError;
    matches!(error.downcast_ref::<StoreError>(), Some(StoreError::NotFound { .. }))
}

impl Prune {
    fn run(self, context: &Context) -> Result<ExitCode> {
        let what = match self.all {
            true => "all images without at least one container associated to them",
            false => "all dangling images",
        };
        if !self.force && !super::confirm(&format!("This will remove {what}."))? {
            return Ok(ExitCode::SUCCESS);
        }
        let pruned = unused(context, self.all, &self.filters.into())?;
        report(&pruned);
        out!("Total reclaimed space: {}", human::size3(pruned.bytes));
        Ok(ExitCode::SUCCESS)
    }
}

/// Removes images that no container uses: all, or those without a name.
pub fn unused(context: &Context, all: bool, filters: &Filters) -> Result<umiak_images::store::Pruned> {
    filters.only(&["dangling", "label", "label!", "until"])?;
    let store = context.engine.store()?;
    let all = filters.flag("dangling")?.map_or(all, |dangling| !dangling);
    let containers = context.engine.containers()?;
    let names: Filters = filters.without("dangling");
    let mut spared = Vec::new();
    for image in store.list()?.images {
        if !ls::fits(context, &names, &image)? {
            spared.push(image.id);
        }
    }
    let users = |id: &umiak_images::store::ImageId| match spared.contains(id) {
        true => vec!["a filter".to_owned()],
        false => in_use(&containers, id),
    };
    Ok(store.prune(all, &users)?)
}

/// Says which were removed.
pub fn report(pruned: &umiak_images::store::Pruned) {
    if pruned.untagged.is_empty() && pruned.deleted.is_empty() {
        return;
    }
    out!("Deleted Images:");
    for name in &pruned.untagged {
        out!("untagged: {name}");
    }
    for digest in &pruned.deleted {
        out!("deleted: {digest}");
    }
    out!("");
}
