//! Pushes an image: its layers in parallel, its config, and last the manifest
//! that makes it visible; of an image that came in an index, the whole index
//! where all of it is there.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::digest::{Digest, VerifyError};
use crate::manifest::{Descriptor, MAX_MANIFEST_BYTES, Manifest};
use crate::platform::Platform;
use crate::reference::Reference;
use crate::registry::{Client, RegistryError, Retry, UploadWatch, Uploaded};
use crate::store::{Child, Named, Store, StoreError};

/// How many blobs are sent at a time, as Docker does.
const PARALLEL: usize = 5;

/// Why an image could not be pushed.
#[derive(Debug, thiserror::Error)]
pub enum PushError {
    /// There is no image of this name.
    #[error("An image does not exist locally with the tag: {name}")]
    NoImage {
        /// The name without its tag.
        name: String,
    },
    /// The repository has images, but none of this tag.
    #[error("tag does not exist: {name}")]
    NoTag {
        /// The whole name.
        name: String,
    },
    /// A name with a digest says what is pushed, not where to.
    #[error("cannot push a digest reference")]
    Digest,
    /// The image is for another platform.
    #[error(
        "image with reference {name} was found but its platform ({found}) does not match the specified platform ({wanted})"
    )]
    Platform {
        /// The image.
        name: String,
        /// Its platform.
        found: Box<Platform>,
        /// The platform asked for.
        wanted: Box<Platform>,
    },
    /// The store failed.
    #[error("push {reference}")]
    Store {
        /// The image.
        reference: String,
        /// In which way.
        #[source]
        source: Box<StoreError>,
    },
    /// The registry failed, or a blob is damaged.
    #[error("push {reference}")]
    Registry {
        /// The image.
        reference: String,
        /// In which way.
        #[source]
        source: Box<RegistryError>,
    },
}

/// What happens to one layer.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event<'a> {
    /// Its turn is to come.
    Preparing,
    /// Bytes were sent.
    Pushing {
        /// Bytes so far.
        bytes: u64,
        /// Bytes in all.
        total: u64,
    },
    /// The repository has it already.
    Exists,
    /// The registry took it from another repository.
    Mounted {
        /// The other repository, without the registry.
        from: &'a str,
    },
    /// It was sent.
    Pushed,
    /// Sending broke off and is tried again.
    Retrying {
        /// What went wrong.
        reason: &'a str,
    },
}

/// Watches a push; called from several threads.
pub trait Watch: Sync {
    /// Called at each event of the layer with this diff id; should return soon.
    fn event(&self, layer: &Digest, event: Event<'_>);
}

/// A pushed image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pushed {
    /// The digest that the registry has under the name now.
    pub digest: Digest,
    /// The size of the manifest or index in bytes.
    pub size: u64,
    /// The index that the image came in, when only this image of it was pushed because others are not there.
    pub left_out: Option<Digest>,
}

/// The tags that the store has of a repository.
///
/// # Errors
/// When the index of the store cannot be read.
pub fn tags(store: &Store, repository: &Reference) -> Result<Vec<Reference>, StoreError> {
    let names = store.names()?;
    let all = names.entries.iter().filter_map(|entry| entry.name.as_deref()?.parse::<Reference>().ok());
    let mut found: Vec<Reference> = all.filter(|name| name.name() == repository.name()).collect();
    found.sort();
    Ok(found)
}

/// One connection to a registry, over which several images may be pushed: what the first brought there, the next
/// need not bring again.
pub struct Pusher<'a> {
    store: &'a Store,
    client: &'a Client,
    watch: &'a dyn Watch,
    /// Blobs that a repository was found to have, by its full name.
    there: Mutex<BTreeSet<(String, Digest)>>,
}

impl std::fmt::Debug for Pusher<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pusher").field("store", &self.store).finish_non_exhaustive()
    }
}

/// A manifest with all that it names, in the store.
struct Part {
    descriptor: Descriptor,
    bytes: Vec<u8>,
    manifest: Manifest,
    /// Diff ids of its layers.
    layers: Vec<Digest>,
}

/// What is pushed under a name.
struct Plan {
    parts: Vec<Part>,
    /// The index and its media type, where the whole of it is pushed.
    index: Option<(Vec<u8>, String)>,
    left_out: Option<Digest>,
}

impl<'a> Pusher<'a> {
    /// Pushes images of `store`.
    #[must_use]
    pub fn new(store: &'a Store, client: &'a Client, watch: &'a dyn Watch) -> Self {
        Self { store, client, watch, there: Mutex::default() }
    }

    /// Pushes the image that has the name `reference` to where the name says; with `platform` the one for it alone.
    ///
    /// # Errors
    /// When there is no such image, a blob is damaged, or the registry fails; the name then leads where it led before.
    pub fn push(&self, reference: &Reference, platform: Option<&Platform>) -> Result<Pushed, PushError> {
        let entry = self.entry(reference)?;
        let plan = self.plan(reference, &entry, platform)?;
        self.blobs(reference, &plan)?;
        let failed = |source| registry_error(reference, source);
        let (digest, size) = match (&plan.index, plan.parts.as_slice()) {
            (Some((index, media_type)), parts) => {
                for part in parts {
                    let child = reference.with_digest(part.descriptor.digest.clone());
                    let put = self.client.put_manifest(&child, &part.descriptor.media_type, part.bytes.clone());
                    put.map_err(failed)?;
                }
                self.client.put_manifest(reference, media_type, index.clone()).map_err(failed)?;
                (Digest::of(index), index.len() as u64)
            }
            (None, parts) => {
                for part in parts {
                    let put = self.client.put_manifest(reference, &part.descriptor.media_type, part.bytes.clone());
                    put.map_err(failed)?;
                }
                let part = parts.first().map_or(&entry.descriptor, |part| &part.descriptor);
                (part.digest.clone(), part.size)
            }
        };
        let repo_digest = format!("{}@{digest}", reference.name());
        self.store
            .note_repo_digest(&entry.descriptor.digest, &repo_digest)
            .map_err(|source| store_error(reference, source))?;
        Ok(Pushed { digest, size, left_out: plan.left_out })
    }

    fn entry(&self, reference: &Reference) -> Result<Named, PushError> {
        if reference.digest().is_some() {
            return Err(PushError::Digest);
        }
        let names = self.store.names().map_err(|source| store_error(reference, source))?;
        if let Some(entry) = names.find(&reference.to_string()) {
            return Ok(entry.clone());
        }
        let others = tags(self.store, reference).map_err(|source| store_error(reference, source))?;
        Err(match others.is_empty() {
            true => PushError::NoImage { name: reference.familiar_name() },
            false => PushError::NoTag { name: reference.familiar() },
        })
    }

    /// Decides what is pushed: the index where all of it is at hand or there already, else one image.
    fn plan(&self, reference: &Reference, entry: &Named, platform: Option<&Platform>) -> Result<Plan, PushError> {
        let own = self.part(&entry.descriptor).map_err(|source| store_error(reference, source))?;
        let index = entry.chosen_from.as_ref().and_then(|digest| self.store.index(digest));
        let single = |part, left_out| Ok(Plan { parts: vec![part], index: None, left_out });
        if let Some(wanted) = platform {
            let found = own.descriptor.platform.clone().unwrap_or_else(|| wanted.clone());
            if found.is_asked_for_by(wanted) {
                return single(own, None);
            }
            let others = index.iter().flat_map(|index| &index.index.manifests);
            let fits = |child: &&Descriptor| child.platform.as_ref().is_some_and(|found| found.is_asked_for_by(wanted));
            let other = others.filter(fits).find_map(|child| self.child(child));
            let none = || PushError::Platform {
                name: reference.familiar(),
                found: Box::new(found),
                wanted: Box::new(wanted.clone()),
            };
            return single(other.ok_or_else(none)?, None);
        }
        let Some(index) = index else { return single(own, None) };
        let mut parts = Vec::new();
        for child in &index.index.manifests {
            if let Some(part) = self.child(child) {
                parts.push(part);
                continue;
            }
            let at = reference.with_digest(child.digest.clone());
            if !self.client.has_manifest(&at).map_err(|source| registry_error(reference, source))? {
                return single(own, entry.chosen_from.clone());
            }
        }
        Ok(Plan { parts, index: Some((index.bytes, index.descriptor.media_type)), left_out: None })
    }

    /// An image; whether its layers' blobs are what they should be is seen when they are sent.
    fn part(&self, descriptor: &Descriptor) -> Result<Part, StoreError> {
        let bytes = self.store.read_blob(&descriptor.digest, MAX_MANIFEST_BYTES)?;
        let manifest = self.store.manifest_of(descriptor, &bytes)?;
        let layers = self.store.diff_ids(&manifest)?;
        Ok(Part { descriptor: Descriptor { size: bytes.len() as u64, ..descriptor.clone() }, bytes, manifest, layers })
    }

    /// What an index names, if all of it is at hand.
    fn child(&self, descriptor: &Descriptor) -> Option<Part> {
        let Child { descriptor, bytes, manifest } = self.store.child(descriptor)?;
        let named = || manifest.layers.iter().map(|layer| layer.digest.clone()).collect();
        let layers = self.store.diff_ids(&manifest).unwrap_or_else(|_| named());
        Some(Part { descriptor, bytes, manifest, layers })
    }

    /// Brings all blobs there.
    fn blobs(&self, reference: &Reference, plan: &Plan) -> Result<(), PushError> {
        let mut layers: Vec<(&Descriptor, &Digest)> = Vec::new();
        for part in &plan.parts {
            for (blob, diff_id) in part.manifest.layers.iter().zip(&part.layers) {
                if !layers.iter().any(|(other, _)| other.digest == blob.digest) {
                    layers.push((blob, diff_id));
                    self.watch.event(diff_id, Event::Preparing);
                }
            }
        }
        let mounts = self.mounts(reference).map_err(|source| store_error(reference, source))?;
        let jobs: Vec<(&Descriptor, Option<&Digest>)> = layers
            .into_iter()
            .map(|(blob, diff_id)| (blob, Some(diff_id)))
            .chain(plan.parts.iter().map(|part| (&part.manifest.config, None)))
            .collect();
        let (next, stop, error) = (AtomicUsize::new(0), AtomicBool::new(false), Mutex::new(None));
        std::thread::scope(|scope| {
            for _ in 0..jobs.len().min(PARALLEL) {
                scope.spawn(|| {
                    while let Some((blob, diff_id)) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                        let from = mounts.get(&blob.digest).map_or(&[][..], Vec::as_slice);
                        let watch = OfLayer { watch: self.watch, layer: *diff_id, total: blob.size, stop: &stop };
                        if stop.load(Ordering::Relaxed) {
                            return;
                        }
                        if let Err(failure) = self.blob(reference, blob, from, watch) {
                            stop.store(true, Ordering::Relaxed);
                            error.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(failure);
                            return;
                        }
                    }
                });
            }
        });
        match error.into_inner().unwrap_or_else(PoisonError::into_inner) {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    fn blob(
        &self,
        reference: &Reference,
        blob: &Descriptor,
        mounts: &[String],
        mut watch: OfLayer<'_>,
    ) -> Result<(), PushError> {
        let there = (reference.name(), blob.digest.clone());
        if self.there.lock().unwrap_or_else(PoisonError::into_inner).contains(&there) {
            watch.show(Event::Exists);
            return Ok(());
        }
        let file = self.open(blob).map_err(|source| store_error(reference, source))?;
        let end = self.client.upload(reference, blob, file, mounts, &mut watch);
        match end.map_err(|source| registry_error(reference, source))? {
            Uploaded::Existed => watch.show(Event::Exists),
            Uploaded::Mounted { from } => watch.show(Event::Mounted { from: &from }),
            Uploaded::Sent => watch.show(Event::Pushed),
        }
        self.there.lock().unwrap_or_else(PoisonError::into_inner).insert(there);
        Ok(())
    }

    fn open(&self, blob: &Descriptor) -> Result<File, StoreError> {
        let path = self.store.blob_path(&blob.digest);
        let file = File::open(&path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => StoreError::MissingBlob { digest: blob.digest.clone() },
            _ => StoreError::io("read", &path, error),
        })?;
        let found = file.metadata().map_err(|source| StoreError::io("read", &path, source))?.len();
        if found != blob.size {
            let source = VerifyError::Size { digest: blob.digest.clone(), found, expected: blob.size };
            return Err(StoreError::DamagedBlob { digest: blob.digest.clone(), source });
        }
        Ok(file)
    }

    /// The repositories of the same registry that have, or had, a blob: those that images with it came from or went
    /// to.
    fn mounts(&self, reference: &Reference) -> Result<BTreeMap<Digest, Vec<String>>, StoreError> {
        let names = self.store.names()?;
        let mut found: BTreeMap<Digest, Vec<String>> = BTreeMap::new();
        for entry in &names.entries {
            let repositories: BTreeSet<String> = entry
                .repo_digests
                .iter()
                .filter_map(|text| text.parse::<Reference>().ok())
                .filter(|other| other.registry() == reference.registry())
                .filter(|other| other.repository() != reference.repository())
                .map(|other| other.repository().to_owned())
                .collect();
            if repositories.is_empty() {
                continue;
            }
            let Ok(manifest) = self.store.manifest(&entry.descriptor.digest) else { continue };
            for blob in manifest.layers.iter().chain([&manifest.config]) {
                let known = found.entry(blob.digest.clone()).or_default();
                known.extend(repositories.iter().filter(|one| !known.contains(one)).cloned().collect::<Vec<_>>());
            }
        }
        Ok(found)
    }
}

/// Hands on what happens to one layer; the config is nobody's concern.
struct OfLayer<'a> {
    watch: &'a dyn Watch,
    layer: Option<&'a Digest>,
    total: u64,
    stop: &'a AtomicBool,
}

impl OfLayer<'_> {
    fn show(&self, event: Event<'_>) {
        if let Some(layer) = self.layer {
            self.watch.event(layer, event);
        }
    }
}

impl UploadWatch for OfLayer<'_> {
    fn sent(&mut self, bytes: u64) {
        self.show(Event::Pushing { bytes, total: self.total });
    }

    fn retrying(&mut self, retry: &Retry) {
        self.show(Event::Retrying { reason: &retry.reason });
    }

    fn cancelled(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

fn store_error(reference: &Reference, source: StoreError) -> PushError {
    PushError::Store { reference: reference.familiar(), source: Box::new(source) }
}

fn registry_error(reference: &Reference, source: RegistryError) -> PushError {
    PushError::Registry { reference: reference.familiar(), source: Box::new(source) }
}
