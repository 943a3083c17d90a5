//! The build cache of another host: written into a directory, or into the
//! config of an image, and read back from there.
//!
//! The directory is an OCI image layout with one manifest of our own, which
//! has the records as its config and the layers' blobs as its layers, so that
//! any registry or tool can carry it. Who reads it trusts whoever wrote it to
//! say what a step gives; nothing else is taken on trust: what a layer holds is
//! checked against both of its digests before a record of it counts, and
//! records that are here already are never replaced.

use std::collections::{HashMap, HashSet};
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use umiak_base::id::random_hex;

use super::{Cache, Kind, Record};
use crate::digest::{Digest, Hasher, VerifyError};
use crate::layer::{Installer, Layer, LayerError};
use crate::manifest::{Descriptor, MAX_MANIFEST_BYTES, Manifest, OCI_MANIFEST};
use crate::pack::{Building, Compression, PackError};
use crate::progress::Silent;
use crate::store::{Image, Slot, Store, StoreError};
use crate::unpack::Limits;

/// The config of our manifest.
const RECORDS: &str = "application/vnd.umiak.cache.records.v1+json";
/// What an index says of our manifest.
const OURS: &str = "org.umiak.cache.v1";
const LAYOUT: &str = r#"{"imageLayoutVersion":"1.0.0"}"#;
/// Most bytes of records that are read.
const MAX_RECORDS: u64 = 16 << 20;
/// Most characters of a description.
const MAX_TEXT: usize = 1024;
/// Bytes read at a time.
const CHUNK: usize = 256 << 10;

/// Why a shared cache could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum ShareError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A layer cannot be packed.
    #[error(transparent)]
    Pack(#[from] PackError),
    /// A layer of the shared cache is refused.
    #[error(transparent)]
    Layer(#[from] LayerError),
    /// The directory could not be read or written.
    #[error("{operation} {path}")]
    Io {
        /// What was tried, as a verb.
        operation: &'static str,
        /// The file.
        path: PathBuf,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// A file is not what it should be.
    #[error("{path} does not parse")]
    Parse {
        /// The file.
        path: PathBuf,
        /// Where.
        #[source]
        source: serde_json::Error,
    },
    /// A file has not the content that its name says.
    #[error("{path} is damaged")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// In which way.
        #[source]
        source: VerifyError,
    },
    /// Nothing there is a build cache of ours.
    #[error("{path} holds no build cache of umiak")]
    None {
        /// The directory.
        path: PathBuf,
    },
}

/// Records that travel; with a directory also which layers its manifest lists, in that order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shared {
    /// The records, by key.
    pub records: Vec<Record>,
    /// Diff ids of the manifest's layers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    layers: Vec<Digest>,
}

/// A shared cache that lookups may find more in.
#[derive(Debug, Clone)]
pub struct Source {
    /// Where blobs are; `None` where the layers are those of an image in the store.
    directory: Option<PathBuf>,
    records: HashMap<Digest, (Record, Option<Descriptor>)>,
}

impl Cache {
    /// The same cache, whose lookups also look into `sources` for what is not here, in their order.
    #[must_use]
    pub fn with_sources(mut self, sources: Vec<Source>) -> Self {
        self.sources = sources.into();
        self
    }

    /// The records of `keys`, to be kept in the config of an image that has their layers.
    #[must_use]
    pub fn shared(&self, keys: &[Digest]) -> Shared {
        let mut records: Vec<Record> = keys.iter().filter_map(|key| self.peek(key)).collect();
        records.retain(|record| record.layer.as_ref().is_none_or(|layer| self.store.has_layer(layer)));
        records.sort_by(|a, b| a.key.cmp(&b.key));
        records.dedup_by(|a, b| a.key == b.key);
        Shared { records, layers: Vec::new() }
    }

    /// Writes the records of `keys` and their layers into an OCI image layout, made if it is not there; what another
    /// export has put there goes, what other tools have put there stays.
    ///
    /// # Errors
    /// When a layer cannot be packed, or the directory not be written.
    pub fn export(
        &self,
        building: &Building<'_>,
        directory: &Path,
        keys: &[Digest],
        compression: Compression,
    ) -> Result<(), ShareError> {
        let mut shared = self.shared(keys);
        let blobs = directory.join("blobs/sha256");
        std::fs::create_dir_all(&blobs).map_err(|source| failed("make", &blobs, source))?;
        let mut layers = Vec::new();
        for diff_id in shared.records.iter().filter_map(|record| record.layer.clone()) {
            if !shared.layers.contains(&diff_id) {
                let blob = building.blob(&diff_id, compression)?;
                copy(&self.store.blob_path(&blob.digest), &blobs, &blob)?;
                layers.push(blob);
                shared.layers.push(diff_id);
            }
        }
        let config = json(&shared, &blobs)?;
        let config = put(&blobs, RECORDS, &config)?;
        let manifest = Manifest {
            schema_version: 2,
            media_type: Some(OCI_MANIFEST.to_owned()),
            config,
            layers,
            annotations: None,
        };
        let entry = put(&blobs, OCI_MANIFEST, &json(&manifest, &blobs)?)?;
        let layout = directory.join("oci-layout");
        umiak_base::state::write_bytes(&layout, LAYOUT.as_bytes(), 0o644)
            .map_err(|source| failed("write", &layout, source))?;
        let old = index(directory, &entry)?;
        let kept: HashSet<Digest> = parts(&manifest, &entry);
        for digest in old.difference(&kept) {
            // Best effort: what stays is of no use to anybody.
            let _ = std::fs::remove_file(blobs.join(digest.hex()));
        }
        Ok(())
    }
}

impl Source {
    /// Opens a directory that [`Cache::export`] has written, here or elsewhere.
    ///
    /// # Errors
    /// When it cannot be read, is damaged, or holds no such thing.
    pub fn open(directory: &Path) -> Result<Self, ShareError> {
        let path = directory.join("index.json");
        let index: Value = parse(&path, &read(&path, MAX_MANIFEST_BYTES)?)?;
        let entry = ours(&index).next_back().ok_or_else(|| ShareError::None { path: directory.to_owned() })?;
        let (manifest, path) = blob(directory, &entry, MAX_MANIFEST_BYTES)?;
        let manifest: Manifest = parse(&path, &manifest)?;
        if manifest.config.media_type != RECORDS {
            return Err(ShareError::None { path: directory.to_owned() });
        }
        let (config, path) = blob(directory, &manifest.config, MAX_RECORDS)?;
        let shared: Shared = parse(&path, &config)?;
        let layers = shared.layers.iter().cloned().zip(manifest.layers).collect();
        Ok(Self { directory: Some(directory.to_owned()), records: usable(&shared.records, &layers) })
    }

    /// What the config of an image in the store says of its layers; `None` where it says nothing.
    #[must_use]
    pub fn of_image(image: &Image) -> Option<Self> {
        let shared = image.config.cache.as_ref()?;
        let layers = image.layers.iter().cloned().zip(image.manifest.layers.iter().cloned()).collect();
        Some(Self { directory: None, records: usable(&shared.records, &layers) })
    }

    /// The keys that it knows, in no order.
    pub fn keys(&self) -> impl Iterator<Item = &Digest> {
        self.records.keys()
    }

    /// Brings a record and its layer into the cache; `None` where it does not know the key. A build has to be under
    /// way ([`Store::building`]), or a clean-up could take the layer for rubbish.
    ///
    /// # Errors
    /// When the layer is missing, damaged or refused: there is no record of it then.
    pub fn bring(&self, cache: &Cache, key: &Digest) -> Result<Option<Record>, ShareError> {
        let Some((record, blob)) = self.records.get(key) else { return Ok(None) };
        let mut record = record.clone();
        if let (Some(diff_id), Some(blob)) = (&record.layer, blob) {
            let store = &cache.store;
            if !store.has_layer(diff_id) {
                self.install(store, blob, diff_id)?;
            }
            record.size = store.layer_bytes(diff_id).unwrap_or(0);
        }
        cache.put(record.clone())?;
        Ok(Some(record))
    }

    fn install(&self, store: &Store, blob: &Descriptor, diff_id: &Digest) -> Result<(), ShareError> {
        if let Some(directory) = &self.directory
            && let Slot::Open(mut writer) = store.blob_slot(blob)?
        {
            writer.restart()?;
            let path = directory.join("blobs/sha256").join(blob.digest.hex());
            let copied = open(&path).and_then(|file| {
                let mut input = file.take(blob.size + 1);
                let mut buffer = vec![0; CHUNK];
                loop {
                    match input.read(&mut buffer) {
                        Ok(0) => return Ok(Ok(())),
                        Ok(count) => {
                            if let Err(error) = writer.write(&buffer[..count]) {
                                return Ok(Err(error));
                            }
                        }
                        Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                        Err(error) => return Err(error),
                    }
                }
            });
            match copied {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    writer.discard();
                    return Err(error.into());
                }
                Err(source) => {
                    writer.discard();
                    return Err(failed("read", &path, source));
                }
            }
            let proof = writer.verify().map_err(|error| match error {
                StoreError::DamagedBlob { source, .. } => ShareError::Damaged { path, source },
                error => error.into(),
            })?;
            writer.sync()?;
            writer.commit(proof)?;
        }
        Installer::new(store, None, &Silent, &Limits::default()).all(&[Layer { blob, diff_id }])?;
        Ok(())
    }
}

/// Those records that can be used, each with its blob. Texts go to terminals: what controls one is left out of them.
fn usable(records: &[Record], layers: &HashMap<Digest, Descriptor>) -> HashMap<Digest, (Record, Option<Descriptor>)> {
    let clean = |text: &str| -> String {
        let text = text.chars().map(|c| if c.is_control() { ' ' } else { c });
        text.take(MAX_TEXT).collect()
    };
    let mut found = HashMap::new();
    for record in records {
        let blob = record.layer.as_ref().and_then(|layer| layers.get(layer));
        let verifiable = |digest: &Digest| digest.require_verifiable().is_ok();
        let names = [Some(&record.key), record.layer.as_ref(), blob.map(|blob| &blob.digest)];
        if record.layer.is_some() != blob.is_some() || !names.into_iter().flatten().all(verifiable) {
            continue;
        }
        let mut own = Record::new(
            record.key.clone(),
            record.layer.clone(),
            clean(&record.created),
            0,
            &clean(&record.description),
        );
        own.kind = if record.kind == Kind::CacheMount { Kind::Regular } else { record.kind };
        own.parents = record.parents.iter().take(64).cloned().collect();
        found.entry(record.key.clone()).or_insert((own, blob.cloned()));
    }
    found
}

/// Our entries of an index.
fn ours(index: &Value) -> impl DoubleEndedIterator<Item = Descriptor> + '_ {
    let entries = index.get("manifests").and_then(Value::as_array).into_iter().flatten();
    entries.filter(|entry| is_ours(entry)).filter_map(|entry| serde_json::from_value(entry.clone()).ok())
}

fn is_ours(entry: &Value) -> bool {
    entry.get("annotations").is_some_and(|notes| notes.get(OURS).is_some())
}

/// Points the index at our new manifest; what the old ones consisted of, unless others could need it.
fn index(directory: &Path, entry: &Descriptor) -> Result<HashSet<Digest>, ShareError> {
    let path = directory.join("index.json");
    let mut index = match read(&path, MAX_MANIFEST_BYTES) {
        Err(ShareError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Map::new(),
        result => parse(&path, &result?)?,
    };
    let mut old = HashSet::new();
    for entry in ours(&Value::Object(index.clone())) {
        if let Ok((bytes, path)) = blob(directory, &entry, MAX_MANIFEST_BYTES)
            && let Ok(manifest) = parse::<Manifest>(&path, &bytes)
        {
            old.extend(parts(&manifest, &entry));
        }
    }
    let mut entries = index.get("manifests").and_then(Value::as_array).cloned().unwrap_or_default();
    entries.retain(|entry| !is_ours(entry));
    if !entries.is_empty() {
        old.clear();
    }
    let notes =
        [(OURS.to_owned(), String::new()), ("org.opencontainers.image.ref.name".to_owned(), "latest".to_owned())];
    let entry = Descriptor { annotations: Some(notes.into()), ..entry.clone() };
    entries.push(serde_json::to_value(entry).map_err(|source| ShareError::Parse { path: path.clone(), source })?);
    index.insert("schemaVersion".to_owned(), 2.into());
    index.insert("manifests".to_owned(), entries.into());
    umiak_base::state::write_bytes(&path, &json(&index, &path)?, 0o644)
        .map_err(|source| failed("write", &path, source))?;
    Ok(old)
}

fn parts(manifest: &Manifest, entry: &Descriptor) -> HashSet<Digest> {
    let layers = manifest.layers.iter().map(|layer| &layer.digest);
    layers.chain([&manifest.config.digest, &entry.digest]).cloned().collect()
}

fn failed(operation: &'static str, path: &Path, source: io::Error) -> ShareError {
    ShareError::Io { operation, path: path.to_owned(), source }
}

fn json(value: &impl Serialize, path: &Path) -> Result<Vec<u8>, ShareError> {
    serde_json::to_vec(value).map_err(|source| ShareError::Parse { path: path.to_owned(), source })
}

fn parse<T: serde::de::DeserializeOwned>(path: &Path, bytes: &[u8]) -> Result<T, ShareError> {
    serde_json::from_slice(bytes).map_err(|source| ShareError::Parse { path: path.to_owned(), source })
}

/// Opens a regular file, never what a link leads to.
fn open(path: &Path) -> io::Result<File> {
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    let file = OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::ErrorKind::InvalidInput.into()) }
}

fn read(path: &Path, limit: u64) -> Result<Vec<u8>, ShareError> {
    let mut bytes = Vec::new();
    let done = open(path).and_then(|file| file.take(limit + 1).read_to_end(&mut bytes));
    done.map_err(|source| failed("read", path, source))?;
    if bytes.len() as u64 > limit {
        return Err(failed("read", path, io::ErrorKind::FileTooLarge.into()));
    }
    Ok(bytes)
}

/// A small blob, checked, and where it is.
fn blob(directory: &Path, descriptor: &Descriptor, limit: u64) -> Result<(Vec<u8>, PathBuf), ShareError> {
    let path = directory.join("blobs/sha256").join(descriptor.digest.hex());
    let bytes = read(&path, limit)?;
    let mut hasher = Hasher::new();
    hasher.update(&bytes);
    match hasher.verify(&descriptor.digest, descriptor.size) {
        Ok(_) => Ok((bytes, path)),
        Err(source) => Err(ShareError::Damaged { path, source }),
    }
}

/// Writes a small blob.
fn put(blobs: &Path, media_type: &str, bytes: &[u8]) -> Result<Descriptor, ShareError> {
    let digest = Digest::of(bytes);
    let path = blobs.join(digest.hex());
    umiak_base::state::write_bytes(&path, bytes, 0o644).map_err(|source| failed("write", &path, source))?;
    Ok(Descriptor::new(media_type, digest, bytes.len() as u64))
}

/// Copies a blob of the store, unless it is there.
fn copy(from: &Path, blobs: &Path, blob: &Descriptor) -> Result<(), ShareError> {
    let path = blobs.join(blob.digest.hex());
    if std::fs::symlink_metadata(&path).is_ok_and(|meta| meta.is_file() && meta.len() == blob.size) {
        return Ok(());
    }
    let random = random_hex(6).map_err(|source| failed("write", &path, source))?;
    let temporary = blobs.join(format!(".{}.{random}.tmp", blob.digest.hex()));
    let done = (|| {
        let (mut input, mut output) =
            (File::open(from)?, OpenOptions::new().write(true).create_new(true).open(&temporary)?);
        io::copy(&mut input, &mut output)?;
        output.sync_all()?;
        std::fs::rename(&temporary, &path)
    })();
    if done.is_err() {
        let _ = std::fs::remove_file(&temporary);
    }
    done.map_err(|source| failed("write", &path, source))
}
