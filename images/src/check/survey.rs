//! What the index says there is, and what lies in the directories.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::{Concerned, Part, Problem, index_damage};
use crate::digest::Digest;
use crate::manifest::{Descriptor, Document, MAX_CONFIG_BYTES, MAX_MANIFEST_BYTES, Manifest, parse};
use crate::reference::Reference;
use crate::store::{Named, Names, Store, StoreError};

/// One image of the index.
#[derive(Debug, Clone)]
pub(super) struct Known {
    pub(super) manifest: Digest,
    pub(super) names: Vec<String>,
    pub(super) repo_digests: Vec<String>,
    /// The index that it was chosen from.
    pub(super) chosen_from: Option<Digest>,
    pub(super) id: Option<Digest>,
    /// Its layers' blobs; none where the manifest cannot be read.
    pub(super) blobs: Vec<Descriptor>,
    /// Their diff ids; none where the config cannot be read.
    pub(super) layers: Vec<Digest>,
}

/// All of it.
#[derive(Debug, Default)]
pub(super) struct Survey {
    pub(super) known: Vec<Known>,
    /// The blobs that are there, with their sizes.
    pub(super) blobs: BTreeMap<Digest, u64>,
    /// Those whose content was checked by reading them here.
    pub(super) read: BTreeSet<Digest>,
    /// The layers that are there.
    pub(super) layers: Vec<Digest>,
    /// Bytes that are to be read.
    pub(super) bytes: u64,
    pub(super) problems: Vec<Problem>,
}

impl Survey {
    pub(super) fn of(store: &Store) -> Result<Self, StoreError> {
        let layers = names(store.layers())?.iter().filter_map(|name| digest(name)).collect();
        let mut survey = Self { blobs: blobs(store)?, layers, ..Self::default() };
        if let Some(what) = store.layout_damage() {
            survey.problems.push(Problem::new(Part::Layout, store.layout_path(), what));
        }
        if let Some(what) = index_damage(store) {
            survey.problems.push(Problem::new(Part::Index, store.index_path(), what));
        }
        let names = store.names().unwrap_or_default();
        for entry in &names.entries {
            survey.entry(store, entry);
        }
        survey.foreign(store, &names);
        let mut problems = std::mem::take(&mut survey.problems);
        for problem in &mut problems {
            if let Part::Manifest(digest) | Part::Config(digest) | Part::Blob(digest) = &problem.part {
                problem.images = survey.users_of_blob(digest);
            }
        }
        survey.problems = problems;
        survey.bytes = survey.blobs.iter().filter(|(digest, _)| !survey.read.contains(digest)).map(|(_, n)| n).sum();
        Ok(survey)
    }

    fn entry(&mut self, store: &Store, entry: &Named) {
        let manifest = &entry.descriptor.digest;
        if let Some(name) = &entry.name
            && name.parse::<Reference>().is_err()
        {
            let what = "is not the name of an image".to_owned();
            self.problems.push(Problem::new(Part::Name(name.clone()), store.index_path(), what));
        }
        if let Some(known) = self.known.iter_mut().find(|known| known.manifest == *manifest) {
            known.names.extend(entry.name.clone());
            return;
        }
        let mut known = Known {
            manifest: manifest.clone(),
            names: entry.name.iter().cloned().collect(),
            repo_digests: entry.repo_digests.clone(),
            chosen_from: entry.chosen_from.clone(),
            id: None,
            blobs: Vec::new(),
            layers: Vec::new(),
        };
        let mut problems = self.manifest(store, entry, &mut known);
        if let Some(index) = known.chosen_from.clone().filter(|index| !self.read.contains(index)) {
            if let Err(error) = store.read_blob(&index, MAX_MANIFEST_BYTES) {
                problems.push(blob(store, Part::Blob(index.clone()), &error));
            }
            self.read.insert(index);
        }
        self.problems.extend(problems);
        self.known.push(known);
    }

    /// Reads manifest and config into `known`; what is wrong with them.
    fn manifest(&mut self, store: &Store, entry: &Named, known: &mut Known) -> Vec<Problem> {
        let digest = &entry.descriptor.digest;
        let part = Part::Manifest(digest.clone());
        self.read.insert(digest.clone());
        let bytes = match store.read_blob(digest, MAX_MANIFEST_BYTES) {
            Ok(bytes) => bytes,
            Err(error) => return vec![blob(store, part, &error)],
        };
        let mut problems = Vec::new();
        let manifest = match store.manifest(digest) {
            Ok(manifest) => manifest,
            Err(error) => return vec![blob(store, part, &error)],
        };
        if bytes.len() as u64 != entry.descriptor.size {
            let what = format!("says that {digest} has {} bytes, it has {}", entry.descriptor.size, bytes.len());
            problems.push(Problem::new(Part::Index, store.index_path(), what));
        }
        known.id = Some(manifest.config.digest.clone());
        known.blobs.clone_from(&manifest.layers);
        problems.extend(self.config(store, &manifest, known));
        problems
    }

    fn config(&mut self, store: &Store, manifest: &Manifest, known: &mut Known) -> Option<Problem> {
        let digest = &manifest.config.digest;
        let part = Part::Config(digest.clone());
        self.read.insert(digest.clone());
        let bytes = match store.small_blob(digest, MAX_CONFIG_BYTES) {
            Ok(bytes) => bytes,
            Err(error) => return Some(blob(store, part, &error)),
        };
        let wrong = |what| Some(Problem::new(part.clone(), store.blob_path(digest), what));
        match store.config(digest) {
            Ok(config) if config.rootfs.diff_ids.len() == manifest.layers.len() => {
                known.layers = config.rootfs.diff_ids;
            }
            Ok(config) => {
                let (layers, diff_ids) = (manifest.layers.len(), config.rootfs.diff_ids.len());
                return wrong(format!("has {diff_ids} diff ids, the manifest has {layers} layers"));
            }
            Err(error) => return Some(blob(store, part.clone(), &error)),
        }
        if bytes.len() as u64 != manifest.config.size {
            return wrong(format!("has {} bytes, the manifest says {}", bytes.len(), manifest.config.size));
        }
        None
    }

    /// What other programs have put into the index.
    fn foreign(&mut self, store: &Store, names: &Names) {
        for (digest, media_type) in names.foreign() {
            let Ok(bytes) = store.read_blob(&digest, MAX_MANIFEST_BYTES) else {
                let what = format!("names {digest}, which is missing or damaged");
                self.problems.push(Problem::new(Part::Index, store.index_path(), what));
                continue;
            };
            self.read.insert(digest);
            if let Ok(Document::Index(index)) = parse(&bytes, &media_type) {
                // Of an index only some platforms may be here: what is not here is not missing.
                let there: Vec<_> = index.manifests.iter().filter(|e| self.blobs.contains_key(&e.digest)).collect();
                for entry in there {
                    let Ok(manifest) = store.manifest(&entry.digest) else { continue };
                    let known = Known {
                        manifest: entry.digest.clone(),
                        names: Vec::new(),
                        repo_digests: Vec::new(),
                        chosen_from: None,
                        id: Some(manifest.config.digest.clone()),
                        layers: store
                            .config(&manifest.config.digest)
                            .map(|config| config.rootfs.diff_ids)
                            .unwrap_or_default()
                            .into_iter()
                            .filter(|diff_id| store.has_layer(diff_id))
                            .collect(),
                        blobs: manifest.layers.clone(),
                    };
                    // Other programs unpack elsewhere: diff ids pair with blobs only where all are here.
                    if known.layers.len() == known.blobs.len()
                        && !self.known.iter().any(|other| other.manifest == known.manifest)
                    {
                        self.known.push(known);
                    }
                }
            }
        }
    }

    pub(super) fn users_of_blob(&self, digest: &Digest) -> Vec<Concerned> {
        let uses = |known: &&Known| {
            known.blobs.iter().any(|blob| blob.digest == *digest)
                || known.id.as_ref() == Some(digest)
                || known.chosen_from.as_ref() == Some(digest)
                || known.manifest == *digest
        };
        self.known.iter().filter(uses).map(Known::concerned).collect()
    }

    /// The blobs that images have of a layer.
    pub(super) fn blobs_of(&self, diff_id: &Digest) -> Vec<Descriptor> {
        let mut found: Vec<Descriptor> = Vec::new();
        for (blob, layer) in self.known.iter().flat_map(|known| known.blobs.iter().zip(&known.layers)) {
            if layer == diff_id && !found.iter().any(|other| other.digest == blob.digest) {
                found.push(Descriptor::new(&*blob.media_type, blob.digest.clone(), blob.size));
            }
        }
        found
    }

    pub(super) fn users_of_layer(&self, diff_id: &Digest) -> Vec<Concerned> {
        self.known.iter().filter(|known| known.layers.contains(diff_id)).map(Known::concerned).collect()
    }
}

/// A problem of something that is read as a blob.
fn blob(store: &Store, part: Part, error: &StoreError) -> Problem {
    let what = match error {
        StoreError::MissingBlob { .. } => "is missing".to_owned(),
        StoreError::DamagedBlob { .. } => "has other content".to_owned(),
        error => {
            let cause = std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string);
            format!("cannot be used: {cause}")
        }
    };
    let path = part.id().parse().map(|digest| store.blob_path(&digest)).unwrap_or_default();
    Problem::new(part, path, what)
}

fn blobs(store: &Store) -> Result<BTreeMap<Digest, u64>, StoreError> {
    let mut found = BTreeMap::new();
    for name in names(store.blobs())? {
        let Some(digest) = digest(&name) else { continue };
        let size = std::fs::symlink_metadata(store.blob_path(&digest)).map_or(0, |meta| meta.len());
        found.insert(digest, size);
    }
    Ok(found)
}

pub(super) fn digest(name: &str) -> Option<Digest> {
    format!("sha256:{name}").parse().ok()
}

pub(super) fn names(dir: &Path) -> Result<Vec<String>, StoreError> {
    let failed = |source| StoreError::io("list", dir, source);
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(failed)? {
        found.push(entry.map_err(failed)?.file_name().to_string_lossy().into_owned());
    }
    found.sort();
    Ok(found)
}
