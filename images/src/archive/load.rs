//! Reads images out of an archive. Its files come in any order, so each is put
//! aside with its digest first, and the lists are read when all are there.

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write as _};
use std::path::PathBuf;

use serde::de::DeserializeOwned;
use umiak_base::FileLock;
use umiak_base::id::random_hex;

use super::{ArchiveError, CONTAINERD_NAME, DOCKER_INDEX, DockerImage, OCI_INDEX_FILE, OCI_LAYOUT_FILE, REF_NAME};
use crate::config::{ConfigError, ImageConfig};
use crate::decompress::decompress;
use crate::digest::{Digest, Hasher, VerifyError};
use crate::layer::{Installer, Layer};
use crate::manifest::{
    Descriptor, Document, Index, MAX_CONFIG_BYTES, MAX_MANIFEST_BYTES, Manifest, OCI_CONFIG, OCI_LAYER, OCI_LAYER_GZIP,
    OCI_LAYER_ZSTD, OCI_MANIFEST, own_media_type, parse,
};
use crate::platform::{Platform, select};
use crate::progress::Progress;
use crate::reference::Reference;
use crate::store::{ImageId, Named, STAGED, Store, StoreError, unmark};
use crate::unpack::{Kind, Limits, TarError, TarReader, clean_name};

/// Bytes read at a time.
const CHUNK: usize = 256 << 10;
/// Files that one archive may have.
const ENTRIES: u64 = 100_000;
/// Links from name to name that are followed.
const LINKS: usize = 8;

/// An image that was loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// Its id.
    pub id: ImageId,
    /// The names that the archive gives it, as full references.
    pub names: Vec<String>,
}

/// Loads the images of an archive. Of an image for several platforms the one for `platform` is unpacked and gets the
/// name; the others are kept beside it, so that the whole can be saved and pushed again.
///
/// # Errors
/// When the archive is damaged or the disk fails; no image of it is then visible.
pub fn load(
    store: &Store,
    archive: impl Read,
    platform: &Platform,
    progress: &dyn Progress,
) -> Result<Vec<Loaded>, ArchiveError> {
    read(store, archive, Wanted { platform, alone: false }, progress)
}

/// The same, of each image only the one for `platform`.
///
/// # Errors
/// As [`load`], and when an image is for other platforms alone.
pub fn load_only(
    store: &Store,
    archive: impl Read,
    platform: &Platform,
    progress: &dyn Progress,
) -> Result<Vec<Loaded>, ArchiveError> {
    read(store, archive, Wanted { platform, alone: true }, progress)
}

/// Which image of several.
#[derive(Clone, Copy)]
struct Wanted<'a> {
    platform: &'a Platform,
    /// It, and no other.
    alone: bool,
}

fn read(
    store: &Store,
    archive: impl Read,
    wanted: Wanted<'_>,
    progress: &dyn Progress,
) -> Result<Vec<Loaded>, ArchiveError> {
    let _present = FileLock::shared(&store.sweep_lock_path()).map_err(StoreError::from)?;
    let files = Staging::new(store)?.fill(archive)?;
    let images = if files.has(OCI_LAYOUT_FILE) && files.has(OCI_INDEX_FILE) {
        oci_images(&files, wanted)?
    } else if files.has(DOCKER_INDEX) {
        docker_images(&files, wanted)?
    } else {
        return Err(ArchiveError::NoImages);
    };
    let mut kept = HashSet::new();
    let result = keep(store, &files, &images, &mut kept, progress);
    if result.is_err() {
        // What has come in with this archive, and no image refers to, goes again.
        let layers = images.iter().flat_map(|image| image.config.rootfs.diff_ids.iter().cloned());
        let _ = store.discard_unused(kept, layers.collect());
    }
    result
}

/// Blobs, and the file that holds each.
type Blobs = Vec<(Descriptor, String)>;

/// An image whose parts are all there and have the digests they should have.
struct Found {
    manifest: Vec<u8>,
    media_type: String,
    parsed: Manifest,
    config: ImageConfig,
    names: Vec<Reference>,
    /// Config and layers: what they are, and the file that holds them.
    blobs: Blobs,
    /// The index that it was chosen from.
    index: Option<Vec<u8>>,
    /// What else the index names and the archive has: manifests, and their blobs.
    others: Vec<(Vec<u8>, Blobs)>,
}

fn oci_images(files: &Staging<'_>, wanted: Wanted<'_>) -> Result<Vec<Found>, ArchiveError> {
    let index: Index = files.json(OCI_INDEX_FILE)?;
    let mut images: Vec<Found> = Vec::new();
    for entry in &index.manifests {
        let names = name_of(entry);
        let (bytes, document) = files.document(entry)?;
        let (chosen, index) = match document {
            Document::Manifest(_) => (entry.clone(), None),
            Document::Index(index) => (choose(files, entry, &index, wanted)?, Some((bytes, index))),
        };
        let (bytes, Document::Manifest(parsed)) = files.document(&chosen)? else {
            return Err(ArchiveError::Nested { digest: entry.digest.clone() });
        };
        match images.iter_mut().find(|image| image.manifest == bytes) {
            Some(image) => image.names.extend(names),
            None => {
                let mut image = oci_image(files, bytes, &chosen, parsed, names)?;
                if let Some((bytes, index)) = index.filter(|_| !wanted.alone) {
                    image.others = others(files, &index, &chosen)?;
                    image.index = Some(bytes);
                }
                images.push(wanted.takes(image)?);
            }
        }
    }
    Ok(images)
}

/// The image of an index that gets the name. When none runs here, and none was asked for, the first that is there.
fn choose(
    files: &Staging<'_>,
    entry: &Descriptor,
    index: &Index,
    wanted: Wanted<'_>,
) -> Result<Descriptor, ArchiveError> {
    let there = |child: &&Descriptor| files.has(&blob_name(&child.digest));
    let failed = |source| ArchiveError::Platform { digest: entry.digest.clone(), source };
    match select(index, wanted.platform) {
        Ok(chosen) if wanted.alone || there(&chosen) => Ok(chosen.clone()),
        Err(source) if wanted.alone => Err(failed(source)),
        other => {
            let runs = |child: &&Descriptor| child.platform.as_ref().is_none_or(|platform| platform.os != "unknown");
            let first = index.manifests.iter().filter(runs).find(there).cloned();
            first.map_or_else(|| other.cloned().map_err(failed), Ok)
        }
    }
}

/// What an index names besides, as far as the archive has all of it.
#[expect(clippy::type_complexity, reason = "a manifest and its blobs, as they go into the store")]
fn others(
    files: &Staging<'_>,
    index: &Index,
    chosen: &Descriptor,
) -> Result<Vec<(Vec<u8>, Vec<(Descriptor, String)>)>, ArchiveError> {
    let mut found = Vec::new();
    for child in index.manifests.iter().filter(|child| child.digest != chosen.digest) {
        if !files.has(&blob_name(&child.digest)) {
            continue;
        }
        let (bytes, Document::Manifest(manifest)) = files.document(child)? else { continue };
        let blobs: Vec<(Descriptor, String)> = manifest
            .layers
            .iter()
            .chain([&manifest.config])
            .map(|blob| (blob.clone(), blob_name(&blob.digest)))
            .collect();
        if blobs.iter().any(|(_, name)| !files.has(name)) {
            continue;
        }
        blobs.iter().try_for_each(|(blob, name)| files.verify(name, &blob.digest, blob.size))?;
        found.push((bytes, blobs));
    }
    Ok(found)
}

impl Wanted<'_> {
    /// An image that is for the platform, if it has to be.
    fn takes(&self, image: Found) -> Result<Found, ArchiveError> {
        match self.alone && !image.config.platform().is_asked_for_by(self.platform) {
            true => Err(ArchiveError::NotFor { platform: Box::new(self.platform.clone()) }),
            false => Ok(image),
        }
    }
}

fn oci_image(
    files: &Staging<'_>,
    manifest: Vec<u8>,
    descriptor: &Descriptor,
    parsed: Manifest,
    names: Option<Reference>,
) -> Result<Found, ArchiveError> {
    let unusable = |source| ArchiveError::Manifest { digest: descriptor.digest.clone(), source };
    parsed.require_image().map_err(unusable)?;
    let mut blobs = Vec::new();
    for blob in parsed.layers.iter().chain([&parsed.config]) {
        let name = blob_name(&blob.digest);
        files.verify(&name, &blob.digest, blob.size)?;
        blobs.push((blob.clone(), name));
    }
    let config = files.config(&blob_name(&parsed.config.digest), parsed.layers.len())?;
    let media_type = descriptor.media_type.clone();
    Ok(Found {
        manifest,
        media_type,
        parsed,
        config,
        names: names.into_iter().collect(),
        blobs,
        index: None,
        others: Vec::new(),
    })
}

/// The name of an image in an OCI layout; a bare tag, as skopeo writes it, names nothing.
fn name_of(entry: &Descriptor) -> Option<Reference> {
    let notes = entry.annotations.as_ref()?;
    let full = notes.get(CONTAINERD_NAME);
    let name = full.or_else(|| notes.get(REF_NAME).filter(|name| name.contains(['/', ':'])))?;
    name.parse().ok()
}

/// Docker's list has no manifests: they are made here, of the layers as they are.
fn docker_images(files: &Staging<'_>, wanted: Wanted<'_>) -> Result<Vec<Found>, ArchiveError> {
    let list: Vec<DockerImage> = files.json(DOCKER_INDEX)?;
    list.into_iter().map(|image| wanted.takes(docker_image(files, image)?)).collect()
}

fn docker_image(files: &Staging<'_>, image: DockerImage) -> Result<Found, ArchiveError> {
    let layers = image.layers.unwrap_or_default();
    let config = files.config(&image.config, layers.len())?;
    let file = files.file(&image.config)?;
    // The file is named after the image's id, which is what people know it by.
    let stem = image.config.trim_end_matches(".json").rsplit('/').next().unwrap_or_default();
    if let Ok(id) = format!("sha256:{stem}").parse::<Digest>() {
        files.verify(&image.config, &id, file.size)?;
    }
    let mut blobs = vec![(Descriptor::new(OCI_CONFIG, file.digest.clone(), file.size), image.config)];
    for name in layers {
        let file = files.file(&name)?;
        blobs.push((Descriptor::new(file.layer_type, file.digest.clone(), file.size), name));
    }
    let parsed = Manifest {
        schema_version: 2,
        media_type: Some(OCI_MANIFEST.to_owned()),
        config: blobs[0].0.clone(),
        layers: blobs[1..].iter().map(|(blob, _)| blob.clone()).collect(),
        annotations: None,
    };
    let manifest =
        serde_json::to_vec(&parsed).map_err(|source| ArchiveError::Parse { name: DOCKER_INDEX.to_owned(), source })?;
    let tags = image.repo_tags.unwrap_or_default();
    let names = tags.iter().filter_map(|name| name.parse().ok()).collect();
    Ok(Found {
        manifest,
        media_type: OCI_MANIFEST.to_owned(),
        parsed,
        config,
        names,
        blobs,
        index: None,
        others: Vec::new(),
    })
}

/// Moves the blobs into the store, unpacks the layers, and last names the images.
fn keep(
    store: &Store,
    files: &Staging<'_>,
    images: &[Found],
    kept: &mut HashSet<Digest>,
    progress: &dyn Progress,
) -> Result<Vec<Loaded>, ArchiveError> {
    let failed = |source| StoreError::io("sync", store.images(), source);
    let images_dir = File::open(store.images()).map_err(failed)?;
    rustix::fs::syncfs(&images_dir).map_err(|error| failed(error.into()))?;
    let mut layers: Vec<Layer<'_>> = Vec::new();
    for image in images {
        for (blob, name) in image.blobs.iter().chain(image.others.iter().flat_map(|(_, blobs)| blobs)) {
            if !store.has_blob(blob) {
                let from = &files.file(name)?.path;
                std::fs::rename(from, store.blob_path(&blob.digest))
                    .map_err(|source| StoreError::io("rename", from, source))?;
                unmark(&store.blob_mark(&blob.digest))?;
                kept.insert(blob.digest.clone());
            }
        }
        let others = image.others.iter().map(|(manifest, _)| manifest);
        for bytes in others.chain(&image.index).chain([&image.manifest]) {
            let digest = Digest::of(bytes);
            if store.put_blob(&digest, bytes)? {
                kept.insert(digest);
            }
        }
        for (blob, diff_id) in image.parsed.layers.iter().zip(&image.config.rootfs.diff_ids) {
            if !layers.iter().any(|layer| layer.blob.digest == blob.digest && layer.diff_id == diff_id) {
                layers.push(Layer { blob, diff_id });
            }
        }
    }
    umiak_base::state::sync_dir(store.blobs()).map_err(|source| StoreError::io("sync", store.blobs(), source))?;
    let limits = Limits::default();
    Installer::new(store, None, progress, &limits).all(&layers)?;
    store
        .change_or_repair_names(|names| {
            let mut loaded = Vec::new();
            for image in images {
                let mut descriptor =
                    Descriptor::new(image.media_type.clone(), Digest::of(&image.manifest), image.manifest.len() as u64);
                descriptor.platform = Some(image.config.platform());
                let chosen_from = image.index.as_deref().map(Digest::of);
                let plain = Named { descriptor, name: None, repo_digests: Vec::new(), chosen_from };
                for name in &image.names {
                    names.set(Named { name: Some(name.to_string()), ..plain.clone() });
                }
                if !names.entries.iter().any(|entry| entry.descriptor.digest == plain.descriptor.digest) {
                    names.set(plain.clone());
                }
                // Read back from the disk, as any later command will.
                let id = store.image(names, &plain.descriptor.digest)?.id;
                loaded.push(Loaded { id, names: image.names.iter().map(ToString::to_string).collect() });
            }
            Ok(loaded)
        })
        .map_err(ArchiveError::from)
}

fn blob_name(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

/// A file of the archive.
struct Staged {
    path: PathBuf,
    digest: Digest,
    size: u64,
    /// What it is if it is a layer.
    layer_type: &'static str,
}

/// The files of an archive, put aside on the store's disk until this is dropped.
struct Staging<'s> {
    store: &'s Store,
    dir: PathBuf,
    files: BTreeMap<String, Staged>,
    /// Files put aside: a name may occur twice, and the later one counts.
    count: usize,
    /// Symlinks and hard links: old versions of Docker write a layer that occurs twice so.
    links: BTreeMap<String, String>,
}

impl<'s> Staging<'s> {
    fn new(store: &'s Store) -> Result<Self, ArchiveError> {
        let parent = store.images();
        let random = random_hex(6).map_err(|source| StoreError::io("name a directory in", parent, source))?;
        let dir = parent.join(format!("{STAGED}{random}"));
        std::fs::create_dir(&dir).map_err(|source| StoreError::io("make", &dir, source))?;
        Ok(Self { store, dir, files: BTreeMap::new(), count: 0, links: BTreeMap::new() })
    }

    fn fill(mut self, archive: impl Read) -> Result<Self, ArchiveError> {
        let failed = |error| ArchiveError::Read(TarError::Read(error));
        let plain = decompress(BufReader::with_capacity(CHUNK, archive)).map_err(failed)?;
        self.read(BufReader::with_capacity(CHUNK, plain))?;
        Ok(self)
    }

    fn read(&mut self, input: impl BufRead) -> Result<(), ArchiveError> {
        let limits = Limits { entries: ENTRIES, ..Limits::default() };
        let mut tar = TarReader::new(input, &limits);
        while let Some(entry) = tar.next_entry().map_err(ArchiveError::Read)? {
            let Some(name) = clean_name(&entry.path, &limits) else { continue };
            match entry.kind {
                Kind::File { sparse: None } => {
                    let file = self.stage(&mut tar)?;
                    self.files.insert(name, file);
                }
                Kind::Symlink(target) => {
                    let parent = name.rsplit_once('/').map_or("", |(parent, _)| parent);
                    let target = [parent.as_bytes(), b"/", &target].concat();
                    self.links.extend(clean_name(&target, &limits).map(|target| (name, target)));
                }
                Kind::Hardlink(target) => {
                    self.links.extend(clean_name(&target, &limits).map(|target| (name, target)));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn stage(&mut self, tar: &mut TarReader<'_, impl BufRead>) -> Result<Staged, ArchiveError> {
        let path = self.dir.join(self.count.to_string());
        self.count += 1;
        let failed = |source| StoreError::io("write", &path, source);
        let mut file = File::create(&path).map_err(failed)?;
        let mut hasher = Hasher::new();
        let mut head = Vec::new();
        tar.copy(tar.stored(), |bytes| {
            if head.len() < 4 {
                head.extend_from_slice(&bytes[..bytes.len().min(4)]);
            }
            hasher.update(bytes);
            file.write_all(bytes).map_err(|source| Copy::Store(failed(source)))
        })?;
        let size = hasher.bytes();
        let layer_type = match head.as_slice() {
            [0x1f, 0x8b, ..] => OCI_LAYER_GZIP,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => OCI_LAYER_ZSTD,
            _ => OCI_LAYER,
        };
        Ok(Staged { digest: hasher.finish(), size, layer_type, path })
    }

    fn has(&self, name: &str) -> bool {
        self.file(name).is_ok()
    }

    fn file(&self, name: &str) -> Result<&Staged, ArchiveError> {
        let missing = || ArchiveError::Missing { name: name.escape_debug().to_string() };
        let mut at = clean_name(name.as_bytes(), &Limits::default()).ok_or_else(missing)?;
        for _ in 0..LINKS {
            match (self.files.get(&at), self.links.get(&at)) {
                (Some(file), _) => return Ok(file),
                (None, Some(target)) => at.clone_from(target),
                (None, None) => break,
            }
        }
        Err(missing())
    }

    fn bytes(&self, name: &str, limit: u64) -> Result<Vec<u8>, ArchiveError> {
        let file = self.file(name)?;
        if file.size > limit {
            return Err(ArchiveError::Size { name: name.to_owned(), size: file.size, limit });
        }
        // A blob that two images share may have moved into the store already.
        let path = if file.path.exists() { file.path.clone() } else { self.store.blob_path(&file.digest) };
        Ok(std::fs::read(&path).map_err(|source| StoreError::io("read", &path, source))?)
    }

    fn json<T: DeserializeOwned>(&self, name: &str) -> Result<T, ArchiveError> {
        let bytes = self.bytes(name, MAX_MANIFEST_BYTES)?;
        serde_json::from_slice(&bytes).map_err(|source| ArchiveError::Parse { name: name.to_owned(), source })
    }

    /// The manifest or index that a descriptor leads to, checked against it.
    fn document(&self, descriptor: &Descriptor) -> Result<(Vec<u8>, Document), ArchiveError> {
        let digest = &descriptor.digest;
        let name = blob_name(digest);
        self.verify(&name, digest, descriptor.size)?;
        let bytes = self.bytes(&name, MAX_MANIFEST_BYTES)?;
        let bad = |source| ArchiveError::Manifest { digest: digest.clone(), source };
        own_media_type(&bytes).map_err(bad)?;
        let document = parse(&bytes, &descriptor.media_type).map_err(bad)?;
        Ok((bytes, document))
    }

    fn config(&self, name: &str, layers: usize) -> Result<ImageConfig, ArchiveError> {
        let bad = |source| ArchiveError::Config { name: name.to_owned(), source };
        let config = ImageConfig::parse(&self.bytes(name, MAX_CONFIG_BYTES)?).map_err(bad)?;
        let diff_ids = config.rootfs.diff_ids.len();
        if diff_ids != layers {
            return Err(bad(ConfigError::Mismatch { manifest: layers, config: diff_ids }));
        }
        Ok(config)
    }

    fn verify(&self, name: &str, digest: &Digest, size: u64) -> Result<(), ArchiveError> {
        let file = self.file(name)?;
        let bad = |source| ArchiveError::Blob { name: name.to_owned(), source };
        if file.size != size {
            let digest = digest.clone();
            return Err(bad(VerifyError::Size { digest, found: file.size, expected: size }));
        }
        if file.digest != *digest {
            let (expected, found) = (digest.clone(), file.digest.clone());
            return Err(bad(VerifyError::Digest { expected, found }));
        }
        Ok(())
    }
}

impl Drop for Staging<'_> {
    fn drop(&mut self) {
        // Best effort: what stays is found by prune.
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// Why a file could not be put aside.
enum Copy {
    Tar(TarError),
    Store(StoreError),
}

impl From<TarError> for Copy {
    fn from(error: TarError) -> Self {
        Self::Tar(error)
    }
}

impl From<Copy> for ArchiveError {
    fn from(error: Copy) -> Self {
        match error {
            Copy::Tar(error) => Self::Read(error),
            Copy::Store(error) => error.into(),
        }
    }
}
