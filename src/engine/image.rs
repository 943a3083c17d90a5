//! Images as containers need them: found in the store, or pulled.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Mutex;

use anyhow::{Context as _, Result, bail};
use umiak_images::auth::Credentials;
use umiak_images::config::ImageConfig;
use umiak_images::digest::Hasher;
use umiak_images::platform::Platform;
use umiak_images::progress::{Event, Progress as PullProgress};
use umiak_images::pull::Pulled;
use umiak_images::reference::Reference;
use umiak_images::registries::Registries;
use umiak_images::registry::{BlobSink, Client};
use umiak_images::store::{Image, ImageId, Removed, StoreError};
use umiak_runtime::config::MountKind;

use super::Engine;
use super::container::Container;
use crate::failure::WithHint as _;
use crate::ui::progress::Progress;
use umiak_compose::{PullPolicy, Service};

/// When an image is pulled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Policy {
    /// Every time.
    Always,
    /// When the store does not have it.
    Missing,
    /// Never.
    Never,
}

impl Policy {
    /// What a service says. Whether one by age is due, or a build is asked for, is not told here.
    pub fn of_service(service: &Service) -> Self {
        match service.pull_policy {
            Some(PullPolicy::Always) => Self::Always,
            Some(PullPolicy::Never) => Self::Never,
            _ => Self::Missing,
        }
    }
}

/// A name as repository and tag, in the short form that people write.
pub fn split_name(name: &str) -> (String, String) {
    match name.parse::<Reference>() {
        Ok(reference) => {
            let familiar = reference.familiar();
            let (repository, tag) = match familiar.rsplit_once(':') {
                Some((repository, tag)) if !tag.contains('/') => (repository.to_owned(), tag.to_owned()),
                _ => (familiar, "<none>".to_owned()),
            };
            (repository, tag)
        }
        Err(_) => ("<none>".to_owned(), "<none>".to_owned()),
    }
}

/// The names of containers made from an image, or that mount it.
pub fn in_use(containers: &[Container], id: &ImageId) -> Vec<String> {
    let id = id.to_string();
    let mounts = |container: &Container| {
        let mounts = &container.config.runtime.mounts;
        mounts.iter().any(|mount| matches!(&mount.kind, MountKind::Image(image) if image.image_id == id))
    };
    let uses = |container: &&Container| container.config.image_id == id || mounts(container);
    containers.iter().filter(uses).map(|c| c.config.name.clone()).collect()
}

/// `--platform`.
pub fn parse_platform(text: &str) -> Result<Platform> {
    text.parse().with_context(|| format!("invalid platform: {text}"))
}

/// Whether an image is for the platform that was asked for, if any was.
pub fn check_platform(name: &str, image: &Image, wanted: Option<&Platform>) -> Result<()> {
    match wanted {
        Some(wanted) if !image.platform.is_asked_for_by(wanted) => bail!(
            "image with reference {name} was found but its platform ({}) does not match the specified platform ({wanted})",
            image.platform
        ),
        _ => Ok(()),
    }
}

impl Engine {
    /// The tags that a registry has for a repository.
    pub fn tags(&self, repository: &str) -> Result<Vec<String>> {
        let reference: Reference =
            repository.parse().with_context(|| format!("invalid reference format: {repository}"))?;
        Ok(self.client()?.list_tags(&reference)?)
    }

    /// An image by name, pulled as the policy says.
    pub fn image(&self, name: &str, policy: Policy, platform: Option<&str>, progress: &Progress) -> Result<Image> {
        self.image_by(name, policy, platform, |reference, platform| self.pull_shown(reference, platform, progress))
    }

    /// Pulls an image, whatever the store has, and shows it.
    pub fn pull_shown(&self, reference: &Reference, platform: Option<Platform>, progress: &Progress) -> Result<Pulled> {
        let what = format!("Image {}", reference.familiar());
        progress.working(&what, "Pulling");
        let pulled = self.pull(reference, platform, &Bridge::new(progress));
        match &pulled {
            Ok(pulled) => progress.done(&what, if pulled.changed { "Pulled" } else { "Up to date" }),
            Err(_) => progress.failed(&what, "Error"),
        }
        pulled
    }

    /// The same; `watch` sees the events of a pull.
    pub fn image_watched(
        &self,
        name: &str,
        policy: Policy,
        platform: Option<&str>,
        watch: &dyn PullProgress,
    ) -> Result<Image> {
        self.image_by(name, policy, platform, |reference, platform| self.pull(reference, platform, watch))
    }

    fn image_by(
        &self,
        name: &str,
        policy: Policy,
        platform: Option<&str>,
        pull: impl FnOnce(&Reference, Option<Platform>) -> Result<Pulled>,
    ) -> Result<Image> {
        let exact = self.exact_name(name, platform)?;
        // What a digest names does not change: where it is there, no registry is asked.
        let policy = if policy == Policy::Always && *exact != *name { Policy::Missing } else { policy };
        let name = exact.as_ref();
        let platform = platform.map(parse_platform).transpose()?;
        if let Some(image) = self.image_here(name, policy, platform.as_ref())? {
            return Ok(image);
        }
        let reference: Reference = name.parse().with_context(|| format!("invalid reference format: {name}"))?;
        Ok(pull(&reference, platform)?.image)
    }

    /// An image of the store; `None` if it has to be pulled.
    fn image_here(&self, name: &str, policy: Policy, platform: Option<&Platform>) -> Result<Option<Image>> {
        let store = self.store()?;
        if policy == Policy::Always {
            return Ok(None);
        }
        let other = |image: &Image| platform.is_some_and(|wanted| !image.platform.is_asked_for_by(wanted));
        match store.resolve(name) {
            // It may have come for the other platform, too, or the registry may have it.
            Ok(image) if other(&image) => match self.variant(&image, platform)? {
                None if policy == Policy::Never => check_platform(name, &image, platform).map(|()| None),
                found => Ok(found),
            },
            Ok(image) if store.layer_dirs(&image).is_ok() => Ok(Some(image)),
            Err(StoreError::NotFound { .. }) if policy == Policy::Never => {
                Err(anyhow::anyhow!("No such image: {name}")).hint(|| format!("pull it with `umiak image pull {name}`"))
            }
            Err(error @ StoreError::Ambiguous { .. }) => Err(error.into()),
            // Missing or damaged: a pull gets or repairs it.
            _ => Ok(None),
        }
    }

    fn pull(&self, reference: &Reference, platform: Option<Platform>, watch: &dyn PullProgress) -> Result<Pulled> {
        let platform = platform.unwrap_or_else(Platform::host);
        let client = self.client()?;
        let pulled = umiak_images::pull::pull(self.store()?, &client, reference, &platform, watch)
            .with_context(|| format!("pull {}", reference.familiar()))?;
        super::events::image(&self.roots, "pull", &reference.familiar(), &reference.familiar_name());
        Ok(pulled)
    }

    /// The image for another platform that came with this one, ready to be used.
    fn variant(&self, image: &Image, platform: Option<&Platform>) -> Result<Option<Image>> {
        let Some(platform) = platform else { return Ok(None) };
        let store = self.store()?;
        let Some(variant) = store.variant(image, platform)? else { return Ok(None) };
        store.ensure_unpacked(&variant, &umiak_images::progress::Silent)?;
        Ok(Some(variant))
    }

    /// The config of an image that its registry has, which is not kept.
    pub fn remote_config(&self, name: &str, platform: &Platform) -> Result<ImageConfig> {
        /// Nobody's config is larger.
        const LARGEST: u64 = 8 << 20;
        let reference: Reference = name.parse().with_context(|| format!("invalid reference format: {name}"))?;
        let client = self.client()?;
        let config = client.resolve(&reference, platform)?.manifest.config;
        if config.size > LARGEST {
            bail!("the config of {} has {} bytes", reference.familiar(), config.size);
        }
        let mut bytes = Kept(Vec::new());
        let received = client.blob(&reference, &config, 0, &mut bytes)?;
        let mut hasher = Hasher::new();
        hasher.update(&bytes.0);
        received.verify(hasher).map(drop)?;
        Ok(ImageConfig::parse(&bytes.0)?)
    }

    /// Gives an image one more name.
    pub fn tag_image(&self, source: &str, target: &str) -> Result<()> {
        let store = self.store()?;
        store.tag(source, target)?;
        if let Ok(image) = store.resolve(target) {
            super::events::image(&self.roots, "tag", image.id.as_ref(), target);
        }
        Ok(())
    }

    /// Takes a name off an image, or removes the image; one that containers use only with `force`.
    pub fn remove_image(&self, name: &str, containers: &[Container], force: bool) -> Result<Removed> {
        let store = self.store()?;
        let image = store.resolve(name).ok();
        let removed = store.remove(name, &|id| in_use(containers, id), force)?;
        if let Some(id) = image.map(|image| image.id.to_string()) {
            removed.untagged.iter().for_each(|_| super::events::image(&self.roots, "untag", &id, &id));
            removed.deleted.iter().for_each(|_| super::events::image(&self.roots, "delete", &id, &id));
        }
        Ok(removed)
    }

    /// A name with the digest that its registry has for it now; a digest that is there already decides.
    pub fn pinned(&self, name: &str) -> Result<String> {
        let reference: Reference = name.parse().with_context(|| format!("invalid reference format: {name}"))?;
        if let Some(digest) = reference.digest() {
            return Ok(format!("{}@{digest}", reference.name()));
        }
        let fetched = self.client()?.manifest(&reference);
        let fetched = fetched.with_context(|| format!("failed to resolve digest for {reference}"))?;
        Ok(reference.with_digest(fetched.digest).to_string())
    }

    /// A client of registries, with the settings and credentials of this host.
    pub(super) fn client(&self) -> Result<Client> {
        client(&self.registries)
    }
}

/// A client of registries, with the settings of this file and the credentials of this host.
pub fn client(registries: &Path) -> Result<Client> {
    let registries = Registries::load(registries)?;
    let credentials = Credentials::load(&super::docker_config::places())?;
    Ok(Client::new(registries, credentials, concat!("umiak/", env!("CARGO_PKG_VERSION")))?)
}

/// A small blob in memory.
struct Kept(Vec<u8>);

impl BlobSink for Kept {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }
}

/// Shows a pull's events as progress lines.
pub(super) struct Bridge<'a> {
    progress: &'a Progress,
    layers: Mutex<BTreeMap<String, u64>>,
}

impl<'a> Bridge<'a> {
    pub(super) fn new(progress: &'a Progress) -> Self {
        Self { progress, layers: Mutex::default() }
    }

    fn name(layer: &umiak_images::digest::Digest) -> String {
        format!("Layer {}", layer.short())
    }
}

impl PullProgress for Bridge<'_> {
    fn event(&self, event: Event<'_>) {
        match event {
            Event::Waiting { layer, .. } => self.progress.working(&Self::name(layer), "Waiting"),
            Event::Exists { layer } => self.progress.done(&Self::name(layer), "Already exists"),
            Event::Downloading { layer, bytes, total } => {
                let name = Self::name(layer);
                if let Ok(mut layers) = self.layers.lock() {
                    let shown = layers.entry(name.clone()).or_insert(0);
                    // Redrawn for every hundredth, not for every packet.
                    if bytes < *shown + (total / 100).max(1) && bytes != total {
                        return;
                    }
                    *shown = bytes;
                }
                self.progress.bytes(&name, "Downloading", bytes, total);
            }
            Event::Extracting { layer } => self.progress.working(&Self::name(layer), "Extracting"),
            Event::Done { layer } => self.progress.done(&Self::name(layer), "Pull complete"),
            Event::Retrying { layer, reason } => {
                self.progress.note(&format!("{}  Retrying: {reason}", Self::name(layer)))
            }
            _ => {}
        }
    }
}
