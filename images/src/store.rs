//! The image store: an OCI image layout with the blobs as they were pulled, and
//! each layer unpacked once beside it.
//!
//! ```text
//! images/oci-layout  index.json  blobs/sha256/<hex>     readable by other tools
//! layers/<diff id hex>/                                 a lower directory for overlayfs
//! layers/<diff id hex>.json                             how large it is, and its blobs
//! ```
//!
//! What has its final name is complete, checked and on the disk, or has a mark
//! that it is not on the disk yet (`unsynced.rs`). Readers take no lock; writers hold the lock of one blob or layer, and shortly the index's.

mod blobs;
mod error;
mod index;
mod marks;
mod remove;
mod unsynced;
mod variants;

use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use error::StoreError;
pub use remove::{Pruned, Removed};

pub(crate) use blobs::{BlobWriter, PARTIAL, Slot, is_locked, make_way};
pub(crate) use index::{Named, Names, Seal, read_names};
pub(crate) use marks::{DAMAGED, Marked, REPLACED};
pub(crate) use remove::{BUILDING, STAGED, TRASH, delete, used};
pub(crate) use unsynced::{Part, counts, mark, unmark};
pub(crate) use variants::{Child, WholeIndex};

use crate::config::ImageConfig;
use crate::digest::Digest;
use crate::manifest::{self, Descriptor, Document, MAX_CONFIG_BYTES, MAX_MANIFEST_BYTES, Manifest, ManifestError};
use crate::platform::Platform;
use crate::reference::Reference;

/// An image's id: the digest of its config, as Docker's.
pub type ImageId = Digest;

const LAYOUT: &str = r#"{"imageLayoutVersion":"1.0.0"}"#;

/// A store on the disk.
#[derive(Debug, Clone)]
pub struct Store {
    root: PathBuf,
    images: PathBuf,
    blobs: PathBuf,
    layers: PathBuf,
}

/// An image in the store.
#[derive(Debug, Clone)]
pub struct Image {
    /// Digest of the config.
    pub id: ImageId,
    /// Digest of the manifest.
    pub manifest_digest: Digest,
    /// `NAME@DIGEST` of the registries that it came from.
    pub repo_digests: Vec<String>,
    /// Full references that lead to it, sorted.
    pub names: Vec<String>,
    /// What it runs, and how.
    pub config: ImageConfig,
    /// Diff ids, bottom layer first.
    pub layers: Vec<Digest>,
    /// Bytes of its unpacked layers; of the compressed ones where a layer is not unpacked.
    pub size: u64,
    /// When it was built, RFC 3339.
    pub created: Option<String>,
    /// What it runs on.
    pub platform: Platform,
    /// Its manifest.
    pub manifest: Manifest,
}

/// An image of which something is missing or damaged.
#[derive(Debug)]
pub struct Damaged {
    /// Digest of the manifest.
    pub manifest_digest: Digest,
    /// Full references that lead to it.
    pub names: Vec<String>,
    /// What is wrong.
    pub error: StoreError,
}

/// All that the index names.
#[derive(Debug, Default)]
pub struct Listing {
    /// The images that can be used, as the index has them.
    pub images: Vec<Image>,
    /// Those that cannot.
    pub damaged: Vec<Damaged>,
}

/// What is noted beside an unpacked layer.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct LayerNote {
    pub(crate) bytes: u64,
    pub(crate) entries: u64,
    /// It was made here: its directory makes its digest when it is packed.
    #[serde(default)]
    pub(crate) built: bool,
    /// Its blobs, one for each compression at most.
    #[serde(default)]
    pub(crate) blobs: Vec<Descriptor>,
}

impl Store {
    /// Opens the store below `root`, made if it is not there.
    ///
    /// # Errors
    /// When directories cannot be made, or something else is there.
    pub fn open(root: &Path) -> Result<Self, StoreError> {
        let images = root.join("images");
        let (blobs, layers) = (images.join("blobs/sha256"), root.join("layers"));
        let store = Self { root: root.to_owned(), blobs, layers, images };
        for dir in [&store.blobs, &store.layers] {
            // Layers hold other people's setuid programs: nobody but root gets near them (CVE-2021-41091).
            let mut builder = std::fs::DirBuilder::new();
            builder.recursive(true).mode(0o700);
            builder.create(dir).map_err(|source| StoreError::io("make", dir, source))?;
        }
        let path = store.images.join("oci-layout");
        match std::fs::read(&path) {
            Ok(bytes) if is_foreign(&bytes) => return Err(StoreError::Layout { path }),
            // What is damaged there says nothing that is not known: the next pull mends it.
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::IsADirectory => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                umiak_base::state::write_bytes(&path, LAYOUT.as_bytes(), 0o644)
                    .map_err(|source| StoreError::io("write", &path, source))?;
                store.change_names(|_| Ok(()))?;
            }
            Err(source) => return Err(StoreError::io("read", &path, source)),
        }
        Ok(store)
    }

    /// What is wrong with the file that says what this directory is.
    pub(crate) fn layout_damage(&self) -> Option<String> {
        match std::fs::read(self.layout_path()) {
            Ok(bytes) if is_layout(&bytes) => None,
            Ok(_) => Some("does not parse".to_owned()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Some("is missing".to_owned()),
            Err(error) => Some(format!("cannot be read: {error}")),
        }
    }

    pub(crate) fn layout_path(&self) -> PathBuf {
        self.images.join("oci-layout")
    }

    pub(crate) fn mend_layout(&self) -> Result<(), StoreError> {
        if self.layout_damage().is_none() {
            return Ok(());
        }
        let path = self.layout_path();
        make_way(&path)?;
        umiak_base::state::write_bytes(&path, LAYOUT.as_bytes(), 0o644)
            .map_err(|source| StoreError::io("write", &path, source))
    }

    /// The OCI image layout.
    #[must_use]
    pub fn images(&self) -> &Path {
        &self.images
    }

    /// The unpacked layers.
    #[must_use]
    pub fn layers(&self) -> &Path {
        &self.layers
    }

    /// What images, layers and the build cache are below.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn blobs(&self) -> &Path {
        &self.blobs
    }

    /// Where a layer is or would be unpacked.
    #[must_use]
    pub fn layer_path(&self, diff_id: &Digest) -> PathBuf {
        self.layers.join(diff_id.hex())
    }

    /// Whether a layer is unpacked.
    #[must_use]
    pub fn has_layer(&self, diff_id: &Digest) -> bool {
        // The mark first: what is replaced meanwhile is not believed by the mark of what replaces it.
        counts(&self.layer_mark(diff_id))
            && std::fs::symlink_metadata(self.layer_path(diff_id)).is_ok_and(|meta| meta.is_dir())
    }

    /// The directories of an image's layers for overlayfs, topmost first.
    ///
    /// A layer that occurs twice is there once, where it is topmost: it hides itself, and the kernel refuses to stack
    /// a directory twice. What lies below a layer whose root is opaque is left out, for overlayfs cannot hide it.
    ///
    /// # Errors
    /// When a layer is not unpacked.
    pub fn layer_dirs(&self, image: &Image) -> Result<Vec<PathBuf>, StoreError> {
        self.stack(&image.layers)
    }

    /// As [`Self::layer_dirs`], of layers named bottom first.
    ///
    /// # Errors
    /// When a layer is not unpacked.
    pub fn stack(&self, layers: &[Digest]) -> Result<Vec<PathBuf>, StoreError> {
        let mut dirs: Vec<PathBuf> = Vec::new();
        for diff_id in layers.iter().rev() {
            if !self.has_layer(diff_id) {
                return Err(StoreError::MissingLayer { diff_id: diff_id.clone() });
            }
            let dir = self.layer_path(diff_id);
            if dirs.contains(&dir) {
                continue;
            }
            let opaque = rustix::fs::lgetxattr(&dir, "trusted.overlay.opaque", &mut [0_u8; 8]).is_ok();
            dirs.push(dir);
            if opaque {
                break;
            }
        }
        Ok(dirs)
    }

    /// Finds an image by name (`redis`, `docker.io/library/redis:7`), by name and digest, by id with or without
    /// `sha256:`, or by the beginning of an id that no other image shares.
    ///
    /// # Errors
    /// When there is none or there are several, or when it is damaged.
    pub fn resolve(&self, name: &str) -> Result<Image, StoreError> {
        let names = self.names()?;
        if let Some(entry) = self.lookup_name(&names, name) {
            return self.image(&names, &entry.descriptor.digest);
        }
        let Some(prefix) = id_prefix(name) else {
            return Err(StoreError::NotFound { name: name.to_owned() });
        };
        let mut found: Vec<(Digest, Digest)> = Vec::new();
        let mut damage = None;
        for manifest in manifests(&names) {
            match self.manifest(&manifest) {
                Ok(document) if document.config.digest.hex().starts_with(prefix) => {
                    if !found.iter().any(|(id, _)| *id == document.config.digest) {
                        found.push((document.config.digest, manifest));
                    }
                }
                Ok(_) => {}
                Err(error) => damage = Some(error),
            }
        }
        match (found.as_slice(), damage) {
            ([(_, manifest)], _) => self.image(&names, manifest),
            ([], _) => Err(StoreError::NotFound { name: name.to_owned() }),
            (several, _) => Err(StoreError::Ambiguous {
                prefix: name.to_owned(),
                candidates: several.iter().map(|(id, _)| id.short().to_owned()).collect(),
            }),
        }
    }

    /// When a name was last pulled, loaded or given, if the store has it and knows.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub fn tagged(&self, name: &str) -> Result<Option<std::time::SystemTime>, StoreError> {
        let names = self.names()?;
        let seconds = self.lookup_name(&names, name).and_then(Named::tagged);
        Ok(seconds.map(|seconds| std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds)))
    }

    /// When an image was last given a name, if it ever was.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub fn last_tagged(&self, image: &Image) -> Result<Option<std::time::SystemTime>, StoreError> {
        let names = self.names()?;
        let own = names.entries.iter().filter(|entry| entry.descriptor.digest == image.manifest_digest);
        let seconds = own.filter_map(Named::tagged).max();
        Ok(seconds.map(|seconds| std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds)))
    }

    /// All images, and the damaged ones apart.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub fn list(&self) -> Result<Listing, StoreError> {
        let names = self.names()?;
        let mut listing = Listing::default();
        for manifest_digest in manifests(&names) {
            match self.image(&names, &manifest_digest) {
                Ok(image) => match listing.images.iter_mut().find(|other| other.id == image.id) {
                    // The same image from two registries that packed it differently.
                    Some(other) => {
                        other.names.extend(image.names);
                        other.repo_digests.extend(image.repo_digests);
                    }
                    None => listing.images.push(image),
                },
                Err(error) => {
                    let names = names_of(&names, &manifest_digest);
                    listing.damaged.push(Damaged { manifest_digest, names, error });
                }
            }
        }
        Ok(listing)
    }

    /// Gives an image one more name; what had the name before keeps its content without it.
    ///
    /// # Errors
    /// When there is no such image, or `new` is no name with a tag.
    pub fn tag(&self, image: &str, new: &str) -> Result<(), StoreError> {
        let reference: Reference = new.parse().map_err(|source| StoreError::Name { name: new.to_owned(), source })?;
        if reference.digest().is_some() {
            return Err(StoreError::TagDigest { name: new.to_owned() });
        }
        let found = self.resolve(image)?;
        self.change_names(|names| {
            let entry = names.entries.iter().find(|entry| entry.descriptor.digest == found.manifest_digest);
            let mut entry = entry.ok_or_else(|| StoreError::NotFound { name: image.to_owned() })?.clone();
            entry.name = Some(reference.to_string());
            names.set(entry);
            Ok(())
        })
    }

    /// Notes that a registry has an image: `NAME@DIGEST`.
    pub(crate) fn note_repo_digest(&self, manifest: &Digest, repo_digest: &str) -> Result<(), StoreError> {
        self.change_names(|names| {
            names.add_repo_digest(manifest, repo_digest);
            Ok(())
        })
    }

    /// The entry that a name or `NAME@DIGEST` leads to.
    fn lookup_name<'n>(&self, names: &'n Names, name: &str) -> Option<&'n Named> {
        let reference: Reference = name.parse().ok()?;
        let Some(digest) = reference.digest() else { return names.find(&reference.to_string()) };
        let repo_digest = format!("{}@{digest}", reference.name());
        let by_digest = |entry: &&Named| {
            entry.repo_digests.contains(&repo_digest)
                || (entry.descriptor.digest == *digest && self.is_of(entry, &reference.name()))
        };
        names.entries.iter().find(by_digest)
    }

    fn is_of(&self, entry: &Named, repository: &str) -> bool {
        let reference = entry.name.as_deref().and_then(|name| name.parse::<Reference>().ok());
        reference.is_some_and(|reference| reference.name() == repository)
            || entry.repo_digests.iter().any(|text| text.split('@').next() == Some(repository))
    }

    /// A manifest in the store.
    pub(crate) fn manifest(&self, digest: &Digest) -> Result<Manifest, StoreError> {
        let bytes = self.read_blob(digest, MAX_MANIFEST_BYTES)?;
        let bad = |source: ManifestError| StoreError::Manifest { digest: digest.clone(), source };
        let media_type = manifest::own_media_type(&bytes).map_err(bad)?;
        self.manifest_of(&Descriptor::new(media_type, digest.clone(), bytes.len() as u64), &bytes)
    }

    /// A manifest of which the bytes are at hand.
    pub(crate) fn manifest_of(&self, descriptor: &Descriptor, bytes: &[u8]) -> Result<Manifest, StoreError> {
        let media_type = descriptor.media_type.clone();
        let bad = |source: ManifestError| StoreError::Manifest { digest: descriptor.digest.clone(), source };
        match manifest::parse(bytes, &media_type).map_err(bad)? {
            Document::Manifest(manifest) => {
                manifest.require_image().map_err(bad)?;
                Ok(manifest)
            }
            Document::Index(_) => Err(bad(ManifestError::MediaType { media_type })),
        }
    }

    /// The config of an image.
    pub(crate) fn config(&self, digest: &Digest) -> Result<ImageConfig, StoreError> {
        let bytes = self.read_blob(digest, MAX_CONFIG_BYTES)?;
        ImageConfig::parse(&bytes).map_err(|source| StoreError::Config { digest: digest.clone(), source })
    }

    /// The diff ids of a manifest's layers.
    pub(crate) fn diff_ids(&self, manifest: &Manifest) -> Result<Vec<Digest>, StoreError> {
        let id = &manifest.config.digest;
        let layers = self.config(id)?.rootfs.diff_ids;
        if layers.len() != manifest.layers.len() {
            let source = crate::config::ConfigError::Mismatch { manifest: manifest.layers.len(), config: layers.len() };
            return Err(StoreError::Config { digest: id.clone(), source });
        }
        Ok(layers)
    }

    /// What the index and the blobs say of one manifest.
    pub(crate) fn image(&self, names: &Names, manifest_digest: &Digest) -> Result<Image, StoreError> {
        let manifest = self.manifest(manifest_digest)?;
        let id = manifest.config.digest.clone();
        let config = self.config(&id)?;
        let layers = config.rootfs.diff_ids.clone();
        if layers.len() != manifest.layers.len() {
            let source = crate::config::ConfigError::Mismatch { manifest: manifest.layers.len(), config: layers.len() };
            return Err(StoreError::Config { digest: id, source });
        }
        let sizes = layers.iter().zip(&manifest.layers);
        let size = sizes.map(|(diff_id, blob)| self.layer_bytes(diff_id).unwrap_or(blob.size)).sum();
        let repo_digests = names.entries.iter().find(|entry| entry.descriptor.digest == *manifest_digest);
        Ok(Image {
            manifest_digest: manifest_digest.clone(),
            repo_digests: repo_digests.map(|entry| entry.repo_digests.clone()).unwrap_or_default(),
            names: names_of(names, manifest_digest),
            size,
            created: config.created.clone(),
            platform: config.platform(),
            id,
            layers,
            config,
            manifest,
        })
    }

    pub(crate) fn note_path(&self, diff_id: &Digest) -> PathBuf {
        self.layers.join(format!("{}.json", diff_id.hex()))
    }

    /// Bytes that the files of an unpacked layer have.
    #[must_use]
    pub fn layer_bytes(&self, diff_id: &Digest) -> Option<u64> {
        self.note(diff_id).map(|note| note.bytes)
    }

    /// What is noted of a layer; `None` where nothing is, or it cannot be read.
    pub(crate) fn note(&self, diff_id: &Digest) -> Option<LayerNote> {
        umiak_base::state::read(&self.note_path(diff_id)).ok()?
    }

    /// Writes a layer's note; it is on the disk after the next sync of the layers.
    pub(crate) fn write_note(&self, diff_id: &Digest, note: &LayerNote) -> Result<(), StoreError> {
        let path = self.note_path(diff_id);
        make_way(&path)?;
        umiak_base::state::write_volatile(&path, note).map_err(|error| match error {
            umiak_base::state::StateError::Write { path, source } => StoreError::io("write", &path, source),
            error => StoreError::io("write", &path, io::Error::other(error)),
        })
    }
}

fn layout_version(bytes: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Layout {
        image_layout_version: String,
    }
    serde_json::from_slice::<Layout>(bytes).ok().map(|layout| layout.image_layout_version)
}

fn is_layout(bytes: &[u8]) -> bool {
    layout_version(bytes).is_some_and(|version| version == "1.0.0")
}

/// It says that it is of another version, rather than nothing that can be read.
fn is_foreign(bytes: &[u8]) -> bool {
    layout_version(bytes).is_some_and(|version| version != "1.0.0")
}

/// Each manifest once, in the index's order.
fn manifests(names: &Names) -> Vec<Digest> {
    let mut all: Vec<Digest> = Vec::new();
    for entry in &names.entries {
        if !all.contains(&entry.descriptor.digest) {
            all.push(entry.descriptor.digest.clone());
        }
    }
    all
}

fn names_of(names: &Names, manifest: &Digest) -> Vec<String> {
    let entries = names.entries.iter().filter(|entry| entry.descriptor.digest == *manifest);
    let mut found: Vec<String> = entries.filter_map(|entry| entry.name.clone()).collect();
    found.sort();
    found
}

/// The hex digits of something that could be an id or its beginning.
fn id_prefix(name: &str) -> Option<&str> {
    let digits = name.strip_prefix("sha256:").unwrap_or(name);
    let hex = digits.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
    (hex && (1..=64).contains(&digits.len())).then_some(digits)
}
