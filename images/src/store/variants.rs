//! Images for several platforms under one name: what the index that an image was chosen from leads to.

use super::{Image, Names, Store, StoreError};
use crate::digest::Digest;
use crate::manifest::{Descriptor, Document, Index, MAX_MANIFEST_BYTES, Manifest, own_media_type, parse};
use crate::platform::Platform;

/// A manifest of an index, whose blobs are all here.
pub(crate) struct Child {
    /// As the index has it.
    pub(crate) descriptor: Descriptor,
    /// The manifest as it is.
    pub(crate) bytes: Vec<u8>,
    /// The same, parsed. It need not be an image that can be run: provenance and the like belong to an index, too.
    pub(crate) manifest: Manifest,
}

/// An index as it is.
pub(crate) struct WholeIndex {
    /// What it is.
    pub(crate) descriptor: Descriptor,
    /// The exact bytes.
    pub(crate) bytes: Vec<u8>,
    /// The same, parsed.
    pub(crate) index: Index,
}

impl Store {
    /// An index that is a blob here.
    pub(crate) fn index(&self, digest: &Digest) -> Option<WholeIndex> {
        let bytes = self.read_blob(digest, MAX_MANIFEST_BYTES).ok()?;
        let media_type = own_media_type(&bytes).ok()?;
        let descriptor = Descriptor::new(media_type, digest.clone(), bytes.len() as u64);
        match parse(&bytes, &descriptor.media_type).ok()? {
            Document::Index(index) => Some(WholeIndex { descriptor, bytes, index }),
            Document::Manifest(_) => None,
        }
    }

    /// What an index names, if all of it is here.
    pub(crate) fn child(&self, descriptor: &Descriptor) -> Option<Child> {
        let bytes = self.read_blob(&descriptor.digest, MAX_MANIFEST_BYTES).ok()?;
        let Document::Manifest(manifest) = parse(&bytes, &descriptor.media_type).ok()? else { return None };
        let whole = manifest.layers.iter().chain([&manifest.config]).all(|blob| self.has_blob(blob));
        let descriptor = Descriptor { size: bytes.len() as u64, ..descriptor.clone() };
        whole.then_some(Child { descriptor, bytes, manifest })
    }

    /// The index that an image was chosen from, with all that it names, if all of it is here.
    pub(crate) fn whole_index(&self, names: &Names, image: &Image) -> Option<(WholeIndex, Vec<Child>)> {
        let own = names.entries.iter().filter(|entry| entry.descriptor.digest == image.manifest_digest);
        let index = own.filter_map(|entry| self.index(entry.chosen_from.as_ref()?)).next()?;
        let children = index.index.manifests.iter().map(|child| self.child(child)).collect::<Option<Vec<_>>>()?;
        Some((index, children))
    }

    /// The image of the same name for another platform, if the store has it. Its layers need not be unpacked.
    ///
    /// # Errors
    /// When the index of the store cannot be read.
    pub fn variant(&self, image: &Image, platform: &Platform) -> Result<Option<Image>, StoreError> {
        if image.platform.is_asked_for_by(platform) {
            return Ok(Some(image.clone()));
        }
        let names = self.names()?;
        let own = names.entries.iter().filter(|entry| entry.descriptor.digest == image.manifest_digest);
        for index in own.filter_map(|entry| self.index(entry.chosen_from.as_ref()?)) {
            let fits =
                |child: &&Descriptor| child.platform.as_ref().is_some_and(|found| found.is_asked_for_by(platform));
            let children = index.index.manifests.iter().filter(fits).filter_map(|child| self.child(child));
            for child in children {
                if let Ok(found) = self.image(&names, &child.descriptor.digest) {
                    let (names, repo_digests) = (image.names.clone(), image.repo_digests.clone());
                    return Ok(Some(Image { names, repo_digests, ..found }));
                }
            }
        }
        Ok(None)
    }

    /// The images of one name for all platforms that are here, the one that it leads to first.
    ///
    /// # Errors
    /// As [`Self::variant`].
    pub fn variants(&self, image: &Image) -> Result<Vec<Image>, StoreError> {
        let names = self.names()?;
        let mut found = vec![image.clone()];
        let own = names.entries.iter().filter(|entry| entry.descriptor.digest == image.manifest_digest);
        for index in own.filter_map(|entry| self.index(entry.chosen_from.as_ref()?)) {
            for child in index.index.manifests.iter().filter_map(|child| self.child(child)) {
                let other = self.image(&names, &child.descriptor.digest);
                found.extend(other.ok().filter(|other| found.iter().all(|known| known.id != other.id)));
            }
        }
        Ok(found)
    }
}
