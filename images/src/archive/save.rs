//! Writes images into an archive.

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io::{self, Read, Write};

use super::{
    ArchiveError, CONTAINERD_NAME, DOCKER_INDEX, DOCKER_REPOSITORIES, DockerImage, OCI_INDEX_FILE, OCI_LAYOUT_FILE,
    REF_NAME,
};
use crate::digest::{Hasher, VerifyError};
use crate::manifest::{Descriptor, Index, MAX_MANIFEST_BYTES, OCI_INDEX, own_media_type};
use crate::platform::Platform;
use crate::reference::Reference;
use crate::store::{Child, Image, Store, StoreError, WholeIndex};

/// Writes the images that `names` lead to, with those names; a name without a tag saves all of its tags, an id its
/// image without a name. An image that came in an index is saved with all of it, where all of it is here.
///
/// Every blob is checked while it is written.
///
/// # Errors
/// When there is no such image, a blob is damaged, or the writer fails; what was written is then no archive.
pub fn save(store: &Store, names: &[String], out: impl Write) -> Result<(), ArchiveError> {
    let index = store.names()?;
    let chosen = chosen(store, names)?.into_iter();
    let saved = chosen.map(|(image, names)| Saved { whole: store.whole_index(&index, &image), image, names });
    write(store, &saved.collect::<Vec<_>>(), out)
}

/// The same, of each image only the one for `platform`.
///
/// # Errors
/// As [`save`], and when an image is for other platforms alone.
pub fn save_only(store: &Store, names: &[String], platform: &Platform, out: impl Write) -> Result<(), ArchiveError> {
    let mut saved = Vec::new();
    for (image, names) in chosen(store, names)? {
        let found = store.variant(&image, platform)?;
        let image = found.ok_or_else(|| ArchiveError::NotFor { platform: Box::new(platform.clone()) })?;
        saved.push(Saved { image, names, whole: None });
    }
    write(store, &saved, out)
}

/// Writes images with these names, whatever names the store has for them.
///
/// # Errors
/// As [`save`].
pub fn save_as(store: &Store, images: &[(Image, Vec<Reference>)], out: impl Write) -> Result<(), ArchiveError> {
    let saved = images.iter().cloned().map(|(image, names)| Saved { image, names, whole: None });
    write(store, &saved.collect::<Vec<_>>(), out)
}

/// An image with the names that it is saved with.
struct Saved {
    image: Image,
    names: Vec<Reference>,
    /// The index that it came in, with all that it names.
    whole: Option<(WholeIndex, Vec<Child>)>,
}

fn write(store: &Store, images: &[Saved], out: impl Write) -> Result<(), ArchiveError> {
    let mut tar = tar::Builder::new(out);
    append(&mut tar, OCI_LAYOUT_FILE, br#"{"imageLayoutVersion":"1.0.0"}"#)?;
    let mut written = HashSet::new();
    let mut blob = |blob: &Descriptor| -> Result<(), ArchiveError> {
        let name = blob_name(blob);
        if written.insert(name.clone()) { append_blob(&mut tar, store, blob, &name) } else { Ok(()) }
    };
    let mut index = Vec::new();
    for Saved { image, names, whole } in images {
        let bytes = store.read_blob(&image.manifest_digest, MAX_MANIFEST_BYTES)?;
        let media_type = own_media_type(&bytes)
            .map_err(|source| ArchiveError::Manifest { digest: image.manifest_digest.clone(), source })?;
        let mut manifest = Descriptor::new(media_type, image.manifest_digest.clone(), bytes.len() as u64);
        manifest.platform = Some(image.platform.clone());
        [&manifest, &image.manifest.config].into_iter().chain(&image.manifest.layers).try_for_each(&mut blob)?;
        if let Some((whole, children)) = whole {
            for Child { descriptor, manifest, .. } in children {
                [descriptor, &manifest.config].into_iter().chain(&manifest.layers).try_for_each(&mut blob)?;
            }
            blob(&whole.descriptor)?;
            manifest = whole.descriptor.clone();
        }
        index.extend(descriptors(&manifest, names));
    }
    let index = Index { schema_version: 2, media_type: Some(OCI_INDEX.into()), manifests: index, annotations: None };
    append(&mut tar, OCI_INDEX_FILE, &json(&index)?)?;
    let list: Vec<DockerImage> = images.iter().map(|saved| docker_image(&saved.image, &saved.names)).collect();
    append(&mut tar, DOCKER_INDEX, &json(&list)?)?;
    let repositories = repositories(images);
    if !repositories.is_empty() {
        append(&mut tar, DOCKER_REPOSITORIES, &json(&repositories)?)?;
    }
    tar.into_inner().and_then(|mut out| out.flush()).map_err(ArchiveError::Write)
}

/// Each image once, with those of its names that were asked for.
fn chosen(store: &Store, names: &[String]) -> Result<Vec<(Image, Vec<Reference>)>, StoreError> {
    let mut images: Vec<(Image, Vec<Reference>)> = Vec::new();
    for name in names {
        let tags = tags_of(store, name)?;
        let all = if tags.is_empty() { vec![name.clone()] } else { tags };
        for name in all {
            let image = store.resolve(&name)?;
            let reference = name.parse::<Reference>().ok().filter(|name| image.names.contains(&name.to_string()));
            match images.iter_mut().find(|(other, _)| other.id == image.id) {
                Some((_, known)) => {
                    known.extend(reference.filter(|name| !known.contains(name)).into_iter().collect::<Vec<_>>())
                }
                None => images.push((image, reference.into_iter().collect())),
            }
        }
    }
    Ok(images)
}

/// All names of a repository, where `name` is that of a repository alone.
fn tags_of(store: &Store, name: &str) -> Result<Vec<String>, StoreError> {
    let alone = !name.rsplit('/').next().unwrap_or_default().contains([':', '@']);
    match name.parse::<Reference>() {
        Ok(repository) if alone => Ok(crate::push::tags(store, &repository)?.iter().map(ToString::to_string).collect()),
        _ => Ok(Vec::new()),
    }
}

/// As many descriptors as names, one without a name where there is none.
fn descriptors(plain: &Descriptor, names: &[Reference]) -> Vec<Descriptor> {
    if names.is_empty() {
        return vec![plain.clone()];
    }
    let named = |name: &Reference| {
        let mut notes = BTreeMap::from([(CONTAINERD_NAME.to_owned(), name.to_string())]);
        notes.extend(name.tag().map(|tag| (REF_NAME.to_owned(), tag.to_owned())));
        Descriptor { annotations: Some(notes), ..plain.clone() }
    };
    names.iter().map(named).collect()
}

fn docker_image(image: &Image, names: &[Reference]) -> DockerImage {
    let tags: Vec<String> = tagged(names).map(Reference::familiar).collect();
    DockerImage {
        config: blob_name(&image.manifest.config),
        repo_tags: (!tags.is_empty()).then_some(tags),
        layers: Some(image.manifest.layers.iter().map(blob_name).collect()),
    }
}

fn tagged(names: &[Reference]) -> impl Iterator<Item = &Reference> {
    names.iter().filter(|name| name.digest().is_none())
}

/// The uppermost layer of each tag of each repository: all that readers of Docker's oldest format have.
fn repositories(images: &[Saved]) -> BTreeMap<String, BTreeMap<String, String>> {
    let mut all: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    for Saved { image, names, .. } in images {
        let Some(layer) = image.manifest.layers.last() else { continue };
        for name in tagged(names) {
            let tag = name.tag().unwrap_or("latest").to_owned();
            all.entry(name.familiar_name()).or_default().insert(tag, layer.digest.hex().to_owned());
        }
    }
    all
}

fn blob_name(blob: &Descriptor) -> String {
    format!("blobs/sha256/{}", blob.digest.hex())
}

fn json(value: &impl serde::Serialize) -> Result<Vec<u8>, ArchiveError> {
    serde_json::to_vec(value).map_err(|error| ArchiveError::Write(error.into()))
}

fn header(size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_size(size);
    header.set_mode(0o644);
    header.set_entry_type(tar::EntryType::Regular);
    header
}

fn append<W: Write>(tar: &mut tar::Builder<W>, name: &str, bytes: &[u8]) -> Result<(), ArchiveError> {
    tar.append_data(&mut header(bytes.len() as u64), name, bytes).map_err(ArchiveError::Write)
}

fn append_blob<W: Write>(
    tar: &mut tar::Builder<W>,
    store: &Store,
    blob: &Descriptor,
    name: &str,
) -> Result<(), ArchiveError> {
    let path = store.blob_path(&blob.digest);
    let file = File::open(&path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => StoreError::MissingBlob { digest: blob.digest.clone() },
        _ => StoreError::io("read", &path, error),
    })?;
    let damaged = |source| StoreError::DamagedBlob { digest: blob.digest.clone(), source };
    let found = file.metadata().map_err(|source| StoreError::io("read", &path, source))?.len();
    if found != blob.size {
        let digest = blob.digest.clone();
        return Err(damaged(VerifyError::Size { digest, found, expected: blob.size }).into());
    }
    let mut hashed = Hashed { file, hasher: Hasher::new() };
    tar.append_data(&mut header(blob.size), name, &mut hashed).map_err(ArchiveError::Write)?;
    hashed.hasher.verify(&blob.digest, blob.size).map(drop).map_err(|source| damaged(source).into())
}

struct Hashed {
    file: File,
    hasher: Hasher,
}

impl Read for Hashed {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read(into)?;
        self.hasher.update(&into[..count]);
        Ok(count)
    }
}
