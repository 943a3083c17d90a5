//! Pulls an image: manifest, config, then its layers in parallel, and last its
//! name. Until then nothing of it is visible.

use std::io;

use umiak_base::FileLock;

use crate::config::{ConfigError, ImageConfig};
use crate::digest::{Digest, Hasher, Verified, VerifyError};
use crate::layer::{Installer, Layer, LayerError, Source};
use crate::manifest::{Descriptor, Manifest};
use crate::platform::Platform;
use crate::progress::{Event, Progress};
use crate::reference::Reference;
use crate::registry::{BlobSink, Client, RegistryError, Resolved};
use crate::store::{Image, Named, Store, StoreError};
use crate::unpack::Limits;

/// How often a pull begins again when what it found is removed meanwhile.
const ROUNDS: usize = 3;

/// Why an image could not be pulled.
#[derive(Debug, thiserror::Error)]
pub enum PullError {
    /// The registry failed.
    #[error("pull {reference}")]
    Registry {
        /// The image.
        reference: String,
        /// In which way.
        #[source]
        source: Box<RegistryError>,
    },
    /// The config is not what the manifest names.
    #[error("pull {reference}: the image config is not what the manifest names")]
    ConfigBlob {
        /// The image.
        reference: String,
        /// In which way.
        #[source]
        source: VerifyError,
    },
    /// The config cannot be used.
    #[error("pull {reference}")]
    Config {
        /// The image.
        reference: String,
        /// In which way.
        #[source]
        source: ConfigError,
    },
    /// A layer failed.
    #[error("pull {reference}")]
    Layer {
        /// The image.
        reference: String,
        /// In which way.
        #[source]
        source: Box<LayerError>,
    },
    /// The store failed.
    #[error("pull {reference}")]
    Store {
        /// The image.
        reference: String,
        /// In which way.
        #[source]
        source: Box<StoreError>,
    },
    /// Somebody removes the layers as fast as they come.
    #[error("pull {reference}: parts of the image were removed during the pull")]
    Removed {
        /// The image.
        reference: String,
    },
}

/// A pulled image.
#[derive(Debug)]
pub struct Pulled {
    /// The image.
    pub image: Image,
    /// Whether the name leads to another image than before, or parts were missing; false: it was up to date.
    pub changed: bool,
    /// The digest that the registry gives the name: of the index, where there is one.
    pub digest: Digest,
}

/// Pulls `reference` for `platform` into the store.
///
/// What is there already is not downloaded again; a download that broke off goes on where it ended. Several pulls at
/// once, in one or more processes, share the work.
///
/// # Errors
/// When the registry, the image or the disk fails; nothing of the image is visible then.
pub fn pull(
    store: &Store,
    client: &Client,
    reference: &Reference,
    platform: &Platform,
    progress: &dyn Progress,
) -> Result<Pulled, PullError> {
    pull_within(store, client, reference, platform, progress, &Limits::default())
}

/// As [`pull`], with other limits for its layers.
///
/// # Errors
/// As [`pull`].
pub fn pull_within(
    store: &Store,
    client: &Client,
    reference: &Reference,
    platform: &Platform,
    progress: &dyn Progress,
    limits: &Limits,
) -> Result<Pulled, PullError> {
    let resolved = client.resolve(reference, platform).map_err(|source| registry_error(reference, source))?;
    let source = FromRegistry { client, reference };
    let pull = Pull { store, source: &source, reference, progress, limits };
    let _present = FileLock::shared(&store.sweep_lock_path()).map_err(|error| pull.store_error(error.into()))?;
    for _ in 0..ROUNDS {
        let config = pull.config(&resolved.manifest)?;
        let changed = pull.layers(&resolved.manifest, &config)?;
        if let Some(pulled) = pull.name(&resolved, &config, changed)? {
            return Ok(pulled);
        }
    }
    Err(PullError::Removed { reference: reference.familiar() })
}

/// Fetches again what is missing or damaged of an image, by digest, from one of the repositories that it came from;
/// the name of that. Names are not touched.
pub(crate) fn restore(
    store: &Store,
    client: &Client,
    repo_digests: &[String],
    digest: &Digest,
    index: Option<&Digest>,
    progress: &dyn Progress,
) -> Result<String, PullError> {
    let mut failure = None;
    for reference in repo_digests.iter().filter_map(|text| text.parse::<Reference>().ok()) {
        let reference = reference.with_digest(digest.clone());
        match restore_from(store, client, &reference, index, progress) {
            Ok(()) => return Ok(reference.familiar_name()),
            Err(error) => failure = Some(error),
        }
    }
    Err(failure.unwrap_or_else(|| PullError::Removed { reference: digest.to_string() }))
}

fn restore_from(
    store: &Store,
    client: &Client,
    reference: &Reference,
    index: Option<&Digest>,
    progress: &dyn Progress,
) -> Result<(), PullError> {
    let source = FromRegistry { client, reference };
    let limits = Limits::default();
    let pull = Pull { store, source: &source, reference, progress, limits: &limits };
    let failed = |source| registry_error(reference, source);
    let _present = FileLock::shared(&store.sweep_lock_path()).map_err(|error| pull.store_error(error.into()))?;
    let fetched = client.manifest(reference).map_err(failed)?;
    store.put_blob(&fetched.digest, &fetched.bytes).map_err(|source| pull.store_error(source))?;
    let manifest = store.manifest(&fetched.digest).map_err(|source| pull.store_error(source))?;
    let config = pull.config(&manifest)?;
    pull.layers(&manifest, &config)?;
    if let Some(index) = index {
        let fetched = client.manifest(&reference.with_digest(index.clone())).map_err(failed)?;
        store.put_blob(&fetched.digest, &fetched.bytes).map_err(|source| pull.store_error(source))?;
    }
    Ok(())
}

struct FromRegistry<'a> {
    client: &'a Client,
    reference: &'a Reference,
}

impl Source for FromRegistry<'_> {
    fn fetch(&self, descriptor: &Descriptor, from: u64, sink: &mut dyn BlobSink) -> Result<(), RegistryError> {
        // Size and digest are checked by whoever hashed all of it, the part from an earlier pull included.
        self.client.blob(self.reference, descriptor, from, sink).map(drop)
    }
}

struct Pull<'a> {
    store: &'a Store,
    source: &'a FromRegistry<'a>,
    reference: &'a Reference,
    progress: &'a dyn Progress,
    limits: &'a Limits,
}

impl Pull<'_> {
    /// The image config, from the store or the registry; checked, and in the store.
    fn config(&self, manifest: &Manifest) -> Result<ImageConfig, PullError> {
        let digest = &manifest.config.digest;
        let unusable = |source| PullError::Config { reference: self.reference.familiar(), source };
        let config = match self.store.config(digest) {
            Ok(config) => config,
            Err(_) => {
                let bytes = self.config_bytes(&manifest.config)?;
                let config = ImageConfig::parse(&bytes).map_err(unusable)?;
                self.store.put_blob(digest, &bytes).map_err(|source| self.store_error(source))?;
                config
            }
        };
        let (layers, diff_ids) = (manifest.layers.len(), config.rootfs.diff_ids.len());
        if layers != diff_ids {
            return Err(unusable(ConfigError::Mismatch { manifest: layers, config: diff_ids }));
        }
        Ok(config)
    }

    fn config_bytes(&self, config: &Descriptor) -> Result<Vec<u8>, PullError> {
        let mut memory = InMemory { bytes: Vec::new(), size: config.size };
        self.source.fetch(config, 0, &mut memory).map_err(|source| registry_error(self.reference, source))?;
        let mut hasher = Hasher::new();
        hasher.update(&memory.bytes);
        let verified = hasher.verify(&config.digest, config.size);
        let _: Verified =
            verified.map_err(|source| PullError::ConfigBlob { reference: self.reference.familiar(), source })?;
        Ok(memory.bytes)
    }

    /// Brings all layers into the store; whether any was missing.
    fn layers(&self, manifest: &Manifest, config: &ImageConfig) -> Result<bool, PullError> {
        let mut layers: Vec<Layer<'_>> = Vec::new();
        for (blob, diff_id) in manifest.layers.iter().zip(&config.rootfs.diff_ids) {
            if !layers.iter().any(|layer| layer.blob.digest == blob.digest && layer.diff_id == diff_id) {
                layers.push(Layer { blob, diff_id });
                self.progress.event(Event::Waiting { layer: &blob.digest, total: blob.size });
            }
        }
        let installer = Installer::new(self.store, Some(self.source), self.progress, self.limits);
        installer
            .all(&layers)
            .map_err(|source| PullError::Layer { reference: self.reference.familiar(), source: Box::new(source) })
    }

    /// Points the name at the image; `None` when parts of it were removed meanwhile.
    fn name(&self, resolved: &Resolved, config: &ImageConfig, changed: bool) -> Result<Option<Pulled>, PullError> {
        let (store, manifest) = (self.store, &resolved.manifest);
        let failed = |source| self.store_error(source);
        let fetched = &resolved.fetched;
        store.put_blob(&fetched.digest, &fetched.bytes).map_err(failed)?;
        if let Some(index) = &resolved.index {
            store.put_blob(&index.digest, &index.bytes).map_err(failed)?;
        }
        let mut descriptor =
            Descriptor::new(fetched.media_type.clone(), fetched.digest.clone(), fetched.bytes.len() as u64);
        descriptor.platform = Some(resolved.platform.clone().unwrap_or_else(|| config.platform()));
        let name = self.reference.to_string();
        let new = Named {
            descriptor,
            name: Some(name.clone()),
            repo_digests: vec![format!("{}@{}", self.reference.name(), resolved.digest())],
            chosen_from: resolved.index.as_ref().map(|index| index.digest.clone()),
        };
        let named = store.change_or_repair_names(|names| {
            let blobs = manifest.layers.iter().chain([&manifest.config, &new.descriptor]);
            let whole = blobs.into_iter().all(|blob| store.has_blob(blob))
                && config.rootfs.diff_ids.iter().all(|diff_id| store.has_layer(diff_id));
            if !whole {
                return Ok(None);
            }
            let before = names.find(&name).map(|entry| entry.descriptor.digest.clone());
            names.set(new);
            let image = store.image(names, &fetched.digest)?;
            Ok(Some((image, before.as_ref() != Some(&fetched.digest))))
        });
        let pulled = |(image, moved)| Pulled { image, changed: changed || moved, digest: resolved.digest().clone() };
        Ok(named.map_err(failed)?.map(pulled))
    }

    fn store_error(&self, source: StoreError) -> PullError {
        PullError::Store { reference: self.reference.familiar(), source: Box::new(source) }
    }
}

fn registry_error(reference: &Reference, source: RegistryError) -> PullError {
    PullError::Registry { reference: reference.familiar(), source: Box::new(source) }
}

/// Receives a small blob.
struct InMemory {
    bytes: Vec<u8>,
    size: u64,
}

impl BlobSink for InMemory {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if (self.bytes.len() + bytes.len()) as u64 > self.size {
            return Err(io::ErrorKind::InvalidData.into());
        }
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }
}
