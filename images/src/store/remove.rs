//! Takes images out of the store. What no image refers to any more is deleted;
//! names go first, so that an interrupted removal leaves garbage at most.

use std::collections::HashSet;
use std::fs::File;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use umiak_base::FileLock;

use super::blobs::{PARTIAL, is_locked};
use super::error::StoreError;
use super::index::Names;
use super::marks::{DAMAGED, REPLACED, replaced};
use super::{Image, ImageId, Store};
use crate::digest::Digest;
use crate::layer::{LOCK, UNFINISHED};
use crate::manifest::{Descriptor, Document, MAX_MANIFEST_BYTES, parse};
use crate::reference::Reference;
use crate::unpack::remove_tree;

/// How the names of layers that are being deleted begin.
pub(crate) const TRASH: &str = ".removed-";
/// How the names of the directories begin that archives are loaded through.
pub(crate) const STAGED: &str = ".load-";
/// How the names of the directories begin that builds make layers in.
pub(crate) const BUILDING: &str = ".build-";
/// Temporary files older than this belong to nobody.
const STALE: Duration = Duration::from_secs(3600);

/// Who uses an image, by the names that a person knows them by.
type Users<'a> = &'a dyn Fn(&ImageId) -> Vec<String>;

/// What a removal did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Removed {
    /// Names that were taken away.
    pub untagged: Vec<String>,
    /// The image, where it is gone altogether.
    pub deleted: Option<ImageId>,
    /// Bytes that were freed.
    pub bytes: u64,
}

/// What a clean-up did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Names that were taken away.
    pub untagged: Vec<String>,
    /// Images that are gone.
    pub deleted: Vec<ImageId>,
    /// Bytes that were freed, leftovers of broken pulls included.
    pub bytes: u64,
}

impl Store {
    /// Held shared by pulls, so that a clean-up keeps its hands off what they have not named yet.
    pub(crate) fn sweep_lock_path(&self) -> PathBuf {
        self.images().join(".pulls.lock")
    }

    /// Held shared by builds, so that a removal leaves what they may count on to the next clean-up.
    pub(crate) fn builds_lock_path(&self) -> PathBuf {
        self.images().join(".builds.lock")
    }

    /// Removes a name, or by id the image with its only name; the image goes with its last name.
    ///
    /// `in_use` says who uses an image. With `force` an image goes with all its names, and one that is in use loses
    /// its names but keeps its content.
    ///
    /// # Errors
    /// When there is no such image, it is in use, or several names lead to an id.
    pub fn remove(&self, name: &str, in_use: Users<'_>, force: bool) -> Result<Removed, StoreError> {
        let image = match self.resolve(name) {
            Err(error) if error.is_damage() => return self.remove_damaged(name),
            result => result?,
        };
        let single = name.parse::<Reference>().ok().map(|reference| reference.to_string());
        let single = single.filter(|name| image.names.contains(name));
        let users = in_use(&image.id);
        let untagged = match &single {
            Some(single) => vec![single.clone()],
            None if image.names.len() > 1 && !force => {
                let id = image.id.short().to_owned();
                return Err(StoreError::SeveralNames { id, names: image.names });
            }
            None => image.names.clone(),
        };
        let last = untagged.len() == image.names.len();
        if last && !users.is_empty() && !force {
            return Err(StoreError::InUse { name: name.to_owned(), users });
        }
        let delete = last && users.is_empty();
        let trash = self.change_names(|names| {
            let others = self.other_platforms(names, &image);
            for name in &untagged {
                names.unset(name);
            }
            if !delete {
                return Ok(Vec::new());
            }
            let mut parts = self.parts(&image);
            parts.extend(others);
            self.forget_image(names, &image);
            self.take_unused(names, parts, in_use)
        })?;
        let bytes = self.empty_trash(trash)?;
        Ok(Removed { untagged, deleted: delete.then_some(image.id), bytes })
    }

    /// The names of an image that cannot be read go; its content is left to [`Self::prune`].
    fn remove_damaged(&self, name: &str) -> Result<Removed, StoreError> {
        let full = name.parse::<Reference>().map(|reference| reference.to_string());
        let full = full.map_err(|_| StoreError::NotFound { name: name.to_owned() })?;
        self.change_names(|names| {
            let Some(manifest) = names.find(&full).map(|entry| entry.descriptor.digest.clone()) else {
                return Err(StoreError::NotFound { name: name.to_owned() });
            };
            names.unset(&full);
            if !names.entries.iter().any(|entry| entry.descriptor.digest == manifest && entry.name.is_some()) {
                names.forget(&manifest);
            }
            Ok(Removed { untagged: vec![full.clone()], ..Removed::default() })
        })
    }

    /// Removes images without a name, with `all` every image, unless it is in use; and what broken pulls have left.
    ///
    /// # Errors
    /// When the index or a file cannot be changed.
    pub fn prune(&self, all: bool, in_use: Users<'_>) -> Result<Pruned, StoreError> {
        // While a pull is under way, only what the index names is touched.
        let alone = FileLock::try_exclusive(&self.sweep_lock_path())?;
        let mut pruned = Pruned::default();
        let trash = self.change_names(|names| {
            let mut parts = Parts::default();
            for manifest in super::manifests(names) {
                let Ok(image) = self.image(names, &manifest) else { continue };
                if (all || image.names.is_empty()) && in_use(&image.id).is_empty() {
                    pruned.untagged.extend(image.names.iter().cloned());
                    parts.extend(self.parts(&image));
                    self.forget_image(names, &image);
                    pruned.deleted.push(image.id);
                }
            }
            if alone.is_some() {
                parts.extend(self.everything()?);
            }
            self.take_unused(names, parts, in_use)
        })?;
        pruned.bytes = self.empty_trash(trash)?;
        if alone.is_some() {
            pruned.bytes += self.sweep_leftovers(in_use)?;
        }
        Ok(pruned)
    }

    /// Removes what broken pulls, loads and removals have left; `None` while one is under way.
    pub(crate) fn sweep(&self, in_use: Users<'_>) -> Result<Option<u64>, StoreError> {
        match FileLock::try_exclusive(&self.sweep_lock_path())? {
            Some(_alone) => self.sweep_leftovers(in_use).map(Some),
            None => Ok(None),
        }
    }

    /// Deletes those of `blobs` and `layers` that nothing in the index refers to.
    pub(crate) fn discard_unused(&self, blobs: HashSet<Digest>, layers: HashSet<Digest>) -> Result<(), StoreError> {
        let parts = Parts { blobs, layers };
        let trash = self.change_names(|names| self.take_unused(names, parts, &|_| Vec::new()))?;
        self.empty_trash(trash).map(drop)
    }

    /// Deletes those of `layers` that no image needs, whether it has a name or a container uses it.
    pub(crate) fn free_layers(&self, layers: HashSet<Digest>, in_use: Users<'_>) -> Result<u64, StoreError> {
        if layers.is_empty() {
            return Ok(0);
        }
        let trash = self.change_names(|names| {
            let mut parts = Parts { layers, ..Parts::default() };
            for id in self.everything()?.blobs {
                if !in_use(&id).is_empty() {
                    match self.config(&id) {
                        Ok(config) => parts.keep_layers(&config.rootfs.diff_ids),
                        Err(_) => return Ok(Vec::new()),
                    }
                }
            }
            self.take_unused(names, parts, in_use)
        })?;
        self.empty_trash(trash)
    }

    fn forget_image(&self, names: &mut Names, image: &Image) {
        let same_image = |manifest: &Digest| self.manifest(manifest).is_ok_and(|found| found.config.digest == image.id);
        for manifest in super::manifests(names) {
            if manifest == image.manifest_digest || same_image(&manifest) {
                names.forget(&manifest);
            }
        }
    }

    /// What the images have that were built with this one, for other platforms.
    fn other_platforms(&self, names: &Names, image: &Image) -> Parts {
        let mut parts = Parts::default();
        let own = names.entries.iter().filter(|entry| entry.descriptor.digest == image.manifest_digest);
        for index in own.filter_map(|entry| entry.chosen_from.clone()) {
            let named = self.index(&index).map(|index| index.index.manifests).unwrap_or_default();
            for child in named.iter().filter_map(|child| self.child(child)) {
                parts.blobs.insert(child.descriptor.digest);
                parts.blobs.extend(child.manifest.layers.iter().map(|layer| layer.digest.clone()));
                parts.layers.extend(self.diff_ids(&child.manifest).unwrap_or_default());
                parts.blobs.insert(child.manifest.config.digest);
            }
            parts.blobs.insert(index);
        }
        parts
    }

    /// All blobs and layers of one image.
    fn parts(&self, image: &Image) -> Parts {
        let mut parts = Parts::default();
        parts.blobs.insert(image.manifest_digest.clone());
        parts.blobs.insert(image.id.clone());
        parts.blobs.extend(image.manifest.layers.iter().map(|layer| layer.digest.clone()));
        let indexes = image.repo_digests.iter().filter_map(|name| name.split_once('@')?.1.parse().ok());
        parts.blobs.extend(indexes);
        parts.layers.extend(image.layers.iter().cloned());
        parts
    }

    /// All blobs and layers that are there.
    fn everything(&self) -> Result<Parts, StoreError> {
        let digests = |dir: &Path| -> Result<HashSet<Digest>, StoreError> {
            let names = entries(dir)?.into_iter();
            Ok(names.filter_map(|(name, _)| format!("sha256:{name}").parse().ok()).collect())
        };
        Ok(Parts { blobs: digests(self.blobs())?, layers: digests(self.layers())? })
    }

    /// Moves those of `parts` aside that nothing in the index refers to. Runs under the index's lock, so that no pull
    /// can name them meanwhile; a pull that counted on them sees that they are gone before it names anything.
    fn take_unused(&self, names: &Names, mut parts: Parts, in_use: Users<'_>) -> Result<Vec<PathBuf>, StoreError> {
        let Some(_no_build) = FileLock::try_exclusive(&self.builds_lock_path())? else { return Ok(Vec::new()) };
        // Of an image that cannot be read it is not known what it needs.
        let mut all_known = true;
        for entry in &names.entries {
            all_known &= self.keep_manifest(&mut parts, &entry.descriptor.digest);
            if let Some(index) = &entry.chosen_from {
                parts.blobs.remove(index);
                // Images for other platforms that were built with it; one that was pulled has them in its registry.
                for other in self.index(index).iter().flat_map(|index| &index.index.manifests) {
                    self.keep_child(&mut parts, other);
                }
            }
        }
        // Layouts that other tools have written to: what their indexes lead to stays.
        for manifest in self.foreign(names) {
            self.keep_manifest(&mut parts, &manifest);
        }
        // What the build cache holds goes with the cache.
        for diff_id in self.cache().layers()? {
            parts.layers.remove(&diff_id);
        }
        // Containers may use an image that the index has lost.
        for id in parts.blobs.clone() {
            if in_use(&id).is_empty() {
                continue;
            }
            parts.blobs.remove(&id);
            match self.config(&id) {
                Ok(config) => parts.keep_layers(&config.rootfs.diff_ids),
                Err(_) => all_known = false,
            }
        }
        if !all_known {
            return Ok(Vec::new());
        }
        let mut trash = Vec::new();
        for digest in &parts.blobs {
            trash.extend(self.aside(&self.blob_path(digest), &self.blobs().join(format!("{TRASH}{}", digest.hex())))?);
        }
        for diff_id in &parts.layers {
            let aside = self.layers().join(format!("{TRASH}{}", diff_id.hex()));
            trash.extend(self.aside(&self.layer_path(diff_id), &aside)?);
            let note = self.note_path(diff_id);
            let _ = std::fs::remove_file(note);
        }
        Ok(trash)
    }

    /// Takes what an index names out of `parts`, as far as it is here.
    fn keep_child(&self, parts: &mut Parts, descriptor: &Descriptor) {
        let Some(child) = self.child(descriptor) else { return };
        parts.blobs.remove(&descriptor.digest);
        for blob in child.manifest.layers.iter().chain([&child.manifest.config]) {
            parts.blobs.remove(&blob.digest);
        }
        if let Ok(diff_ids) = self.diff_ids(&child.manifest) {
            parts.keep_layers(&diff_ids);
        }
    }

    /// Takes what an image needs out of `parts`; false where that cannot be told.
    fn keep_manifest(&self, parts: &mut Parts, digest: &Digest) -> bool {
        parts.blobs.remove(digest);
        let Ok(manifest) = self.manifest(digest) else { return false };
        parts.blobs.remove(&manifest.config.digest);
        for layer in &manifest.layers {
            parts.blobs.remove(&layer.digest);
        }
        let Ok(config) = self.config(&manifest.config.digest) else { return false };
        parts.keep_layers(&config.rootfs.diff_ids);
        true
    }

    /// Manifests that are reached through indexes within the index.
    fn foreign(&self, names: &Names) -> Vec<Digest> {
        let mut found = Vec::new();
        let mut left = names.foreign();
        while let Some((digest, media_type)) = left.pop() {
            if found.contains(&digest) || found.len() > 4096 {
                continue;
            }
            found.push(digest.clone());
            let bytes = self.read_blob(&digest, MAX_MANIFEST_BYTES).unwrap_or_default();
            if let Ok(Document::Index(index)) = parse(&bytes, &media_type) {
                left.extend(index.manifests.into_iter().map(|entry| (entry.digest, entry.media_type)));
            }
        }
        found
    }

    fn aside(&self, path: &Path, aside: &Path) -> Result<Option<PathBuf>, StoreError> {
        match std::fs::rename(path, aside) {
            Ok(()) => Ok(Some(aside.to_owned())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            // A directory of an earlier removal is in the way: this one stays for the next clean-up.
            Err(error) if error.kind() == std::io::ErrorKind::DirectoryNotEmpty => Ok(None),
            Err(source) => Err(StoreError::io("rename", path, source)),
        }
    }

    fn empty_trash(&self, trash: Vec<PathBuf>) -> Result<u64, StoreError> {
        let mut bytes = 0;
        for path in trash {
            bytes += used(&path);
            delete(&path)?;
        }
        Ok(bytes)
    }

    /// Whether containers may use a layer; those that cannot be told are taken to.
    fn layers_in_use(&self, in_use: Users<'_>) -> impl Fn(&Digest) -> bool + use<> {
        let mut layers = HashSet::new();
        let listing = self.list();
        let all_known = listing.as_ref().is_ok_and(|listing| listing.damaged.is_empty());
        for image in listing.unwrap_or_default().images {
            if !in_use(&image.id).is_empty() {
                layers.extend(image.layers);
            }
        }
        move |layer| !all_known || layers.contains(layer)
    }

    /// What broken pulls, loads and removals have left. Nothing of it is in use: no pull runs.
    fn sweep_leftovers(&self, in_use: Users<'_>) -> Result<u64, StoreError> {
        let mut bytes = self.sweep_marks()?;
        let mounted = self.layers_in_use(in_use);
        for dir in [self.blobs(), self.layers(), self.images()] {
            for (name, path) in entries(dir)? {
                let leftover = name.starts_with(TRASH)
                    || ((name.starts_with(UNFINISHED) || name.starts_with(BUILDING)) && !is_locked(&path))
                    || name.starts_with(STAGED)
                    || name.strip_prefix(DAMAGED).is_some_and(|hex| !dir.join(hex).exists())
                    || (name.starts_with(REPLACED)
                        && !replaced(&name).is_some_and(|(layer, now)| now && mounted(&layer)))
                    || (name.starts_with(PARTIAL) && !is_locked(&path))
                    || (name.starts_with(LOCK) && FileLock::try_exclusive(&path)?.is_some())
                    || (name.starts_with('.') && name.ends_with(".tmp") && is_stale(&path));
                let orphan =
                    dir == self.layers() && name.strip_suffix(".json").is_some_and(|hex| !dir.join(hex).exists());
                if leftover || orphan {
                    bytes += used(&path);
                    delete(&path)?;
                }
            }
        }
        Ok(bytes)
    }
}

/// Blobs and unpacked layers.
#[derive(Debug, Default)]
struct Parts {
    blobs: HashSet<Digest>,
    layers: HashSet<Digest>,
}

impl Parts {
    fn extend(&mut self, other: Self) {
        self.blobs.extend(other.blobs);
        self.layers.extend(other.layers);
    }

    fn keep_layers(&mut self, diff_ids: &[Digest]) {
        for diff_id in diff_ids {
            self.layers.remove(diff_id);
        }
    }
}

pub(super) fn entries(dir: &Path) -> Result<Vec<(String, PathBuf)>, StoreError> {
    let failed = |source| StoreError::io("list", dir, source);
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if let Ok(name) = entry.file_name().into_string() {
            found.push((name, entry.path()));
        }
    }
    Ok(found)
}

fn is_stale(path: &Path) -> bool {
    let modified = std::fs::symlink_metadata(path).and_then(|meta| meta.modified());
    modified.is_ok_and(|time| SystemTime::now().duration_since(time).is_ok_and(|age| age > STALE))
}

/// Bytes on the disk, roughly: directories count their files, each name its share of a file with several.
pub(crate) fn used(path: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    let Ok(meta) = std::fs::symlink_metadata(path) else { return 0 };
    if !meta.is_dir() {
        return meta.blocks() * 512 / meta.nlink().max(1);
    }
    let Ok(list) = std::fs::read_dir(path) else { return 0 };
    list.flatten().map(|entry| used(&entry.path())).sum()
}

pub(crate) fn delete(path: &Path) -> Result<(), StoreError> {
    let failed = |source| StoreError::io("remove", path, source);
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Ok(()) };
    let parent = File::open(parent).map_err(failed)?;
    remove_tree(parent, name.as_bytes()).map_err(|error| failed(error.into()))
}
