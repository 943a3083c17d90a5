//! A build's hold on the store, and the image at its end.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use umiak_base::FileLock;

use super::image::write_manifest;
use super::scratch::Scratch;
use super::{Compression, PackError};
use crate::config::ImageConfig;
use crate::digest::Digest;
use crate::manifest::{DOCKER_LAYER, DOCKER_LAYER_GZIP, DOCKER_LAYER_ZSTD, Descriptor};
use crate::manifest::{Index, OCI_INDEX, OCI_MANIFEST};
use crate::reference::Reference;
use crate::store::{Image, Named, Part, Store, StoreError};

/// A build at work on the store: while it lives, no clean-up takes anything that it could count on.
///
/// Layers and blobs that it makes have their names at once and are synced together by [`Building::finish`], or when
/// this is dropped; until then they count in this boot alone.
#[derive(Debug)]
pub struct Building<'s> {
    store: &'s Store,
    /// What was made or found, with what may have to be synced.
    parts: Mutex<BTreeSet<Part>>,
    _present: [FileLock; 2],
}

impl Store {
    /// Begins a build.
    ///
    /// # Errors
    /// When the store cannot be locked.
    pub fn building(&self) -> Result<Building<'_>, PackError> {
        let lock = |path| FileLock::shared(path).map_err(StoreError::from);
        let present = [lock(&self.sweep_lock_path())?, lock(&self.builds_lock_path())?];
        super::scratch::sweep(self);
        super::blob::sweep(self);
        Ok(Building { store: self, parts: Mutex::default(), _present: present })
    }
}

impl<'s> Building<'s> {
    /// The store.
    #[must_use]
    pub fn store(&self) -> &'s Store {
        self.store
    }

    /// An empty directory on the file system of the layers, for [`Building::adopt`].
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn scratch(&self) -> Result<Scratch, StoreError> {
        Scratch::new(self.store)
    }

    /// Remembers that the build counts on this.
    pub(super) fn touch(&self, part: Part) {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner).insert(part);
    }

    /// Completes an image: brings the build's layers and blobs to the disk, writes config and manifest, and gives it
    /// `names`. `layers` are its blobs and diff ids, the lowest first; the config's `rootfs` is set here.
    ///
    /// # Errors
    /// When a layer or blob is missing, or the disk fails.
    pub fn finish(
        &self,
        config: ImageConfig,
        layers: &[(Descriptor, Digest)],
        names: &[Reference],
    ) -> Result<Image, PackError> {
        let store = self.store;
        self.require(layers)?;
        for (blob, diff_id) in layers {
            self.touch(Part { diff_id: diff_id.clone(), blob: Some(blob.digest.clone()) });
        }
        self.settle()?;
        let blobs = layers.iter().map(|(blob, _)| as_oci(blob)).collect();
        let descriptor = write_manifest(store, config, layers, blobs)?;
        let digest = descriptor.digest.clone();
        let entry = |name| Named { descriptor: descriptor.clone(), name, repo_digests: Vec::new(), chosen_from: None };
        Ok(store.change_or_repair_names(|index| {
            // Removals that were under way when this build began are over, now that the index is ours.
            self.require(layers)?;
            for name in names.iter().map(ToString::to_string) {
                if index.find(&name).is_none_or(|there| there.descriptor.digest != digest) {
                    index.set(entry(Some(name)));
                }
            }
            if !index.entries.iter().any(|there| there.descriptor.digest == digest) {
                index.set(entry(None));
            }
            store.image(index, &digest)
        })?)
    }

    /// Gives `names` to images of several platforms together: an index of them is written, and the first one is what
    /// the names lead to here.
    ///
    /// # Errors
    /// When an image is missing, or the disk fails.
    pub fn finish_index(&self, images: &[Image], names: &[Reference]) -> Result<Image, PackError> {
        let store = self.store;
        let missing = || StoreError::NotFound { name: "an image of this build".to_owned() };
        let first = images.first().ok_or_else(missing)?;
        let describe = |image: &Image| -> Result<Descriptor, StoreError> {
            let size = store.read_blob(&image.manifest_digest, crate::manifest::MAX_MANIFEST_BYTES)?.len() as u64;
            let mut descriptor = Descriptor::new(OCI_MANIFEST, image.manifest_digest.clone(), size);
            descriptor.platform = Some(image.platform.clone());
            Ok(descriptor)
        };
        let manifests = images.iter().map(describe).collect::<Result<Vec<_>, _>>()?;
        let index = Index {
            schema_version: 2,
            media_type: Some(OCI_INDEX.to_owned()),
            manifests: manifests.clone(),
            annotations: None,
        };
        let bytes = serde_json::to_vec(&index).map_err(PackError::Config)?;
        let digest = Digest::of(&bytes);
        store.put_blob(&digest, &bytes)?;
        let descriptor = manifests.into_iter().next().ok_or_else(missing)?;
        let entry = |name| Named {
            descriptor: descriptor.clone(),
            name,
            repo_digests: Vec::new(),
            chosen_from: Some(digest.clone()),
        };
        Ok(store.change_or_repair_names(|index| {
            for image in images {
                if !store.image(index, &image.manifest_digest)?.names.is_empty() {
                    continue;
                }
                // Found through the index from now on.
                index.forget(&image.manifest_digest);
            }
            names.iter().for_each(|name| index.set(entry(Some(name.to_string()))));
            if names.is_empty() {
                index.set(entry(None));
            }
            store.image(index, &first.manifest_digest)
        })?)
    }

    /// Brings what this build has made to the disk.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn settle(&self) -> Result<(), StoreError> {
        let parts: Vec<Part> = self.parts.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect();
        self.store.settle(&parts).map(drop)
    }

    fn require(&self, layers: &[(Descriptor, Digest)]) -> Result<(), StoreError> {
        for (blob, diff_id) in layers {
            if !self.store.has_layer(diff_id) {
                return Err(StoreError::MissingLayer { diff_id: diff_id.clone() });
            }
            if !self.store.has_blob(blob) {
                return Err(StoreError::MissingBlob { digest: blob.digest.clone() });
            }
        }
        Ok(())
    }
}

impl Drop for Building<'_> {
    fn drop(&mut self) {
        // Best effort: what is not settled counts until the next boot.
        let _ = self.settle();
    }
}

/// A base image's layers in the words of the manifest that is written.
fn as_oci(blob: &Descriptor) -> Descriptor {
    let media_type = match blob.media_type.as_str() {
        DOCKER_LAYER => Compression::None.media_type(),
        DOCKER_LAYER_GZIP => Compression::default().media_type(),
        DOCKER_LAYER_ZSTD => Compression::Zstd { level: 3 }.media_type(),
        other => other,
    };
    Descriptor { media_type: media_type.to_owned(), ..blob.clone() }
}
