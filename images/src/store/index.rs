//! `index.json`: the names of the images, as an OCI image layout keeps them.
//! Each name is one descriptor of a manifest; an image that lost its names has
//! one without. What other tools wrote there is kept.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use umiak_base::FileLock;

use super::Store;
use super::error::StoreError;
use super::remove::delete;
use crate::digest::Digest;
use crate::manifest::{Descriptor, OCI_INDEX};

/// The name of an image (OCI image-spec, annotations).
const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// The same, as containerd and Docker write it.
const CONTAINERD_NAME: &str = "io.containerd.image.name";
/// `NAME@DIGEST` of the registries that the image came from, separated by blanks.
const REPO_DIGESTS: &str = "io.umiak.image.repo-digests";
/// Digest of the index that the manifest was chosen from.
const CHOSEN_FROM: &str = "io.umiak.image.index";

/// When the name was last pulled, loaded or given, in seconds since 1970.
const TAGGED: &str = "io.umiak.image.tagged";

/// Digest of the list, among the annotations of the file: tells damage that still parses.
const CHECKSUM: &str = "io.umiak.index.checksum";

/// The file as it is.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct IndexFile {
    schema_version: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    media_type: Option<String>,
    manifests: Vec<Value>,
    #[serde(flatten)]
    other: Map<String, Value>,
}

/// One descriptor of the index.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Named {
    /// The manifest.
    pub(crate) descriptor: Descriptor,
    /// Full reference; `None` for an image that lost its name.
    pub(crate) name: Option<String>,
    /// `NAME@DIGEST`, sorted.
    pub(crate) repo_digests: Vec<String>,
    /// The index that it was chosen from, which is a blob too.
    pub(crate) chosen_from: Option<Digest>,
}

/// The names, and what in the file is not understood.
#[derive(Debug, Clone)]
pub(crate) struct Names {
    file: IndexFile,
    pub(crate) entries: Vec<Named>,
}

impl Default for Names {
    fn default() -> Self {
        let media_type = Some(OCI_INDEX.to_owned());
        let file = IndexFile { schema_version: 2, media_type, manifests: Vec::new(), other: Map::new() };
        Self { file, entries: Vec::new() }
    }
}

impl IndexFile {
    fn checksum(&self) -> Option<String> {
        serde_json::to_vec(&self.manifests).ok().map(|bytes| Digest::of(&bytes).to_string())
    }

    fn stated_checksum(&self) -> Option<&str> {
        self.other.get("annotations")?.get(CHECKSUM)?.as_str()
    }

    /// States the digest of the list as it is now.
    fn seal(&mut self) {
        let Some(checksum) = self.checksum() else { return };
        let notes = self.other.entry("annotations").or_insert_with(|| Value::Object(Map::new()));
        if let Some(notes) = notes.as_object_mut() {
            notes.insert(CHECKSUM.to_owned(), Value::String(checksum));
        }
    }
}

/// What is known of the list as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Seal {
    /// It is as it was written.
    Good,
    /// It is not: damaged, or written by another program.
    Broken,
    /// Another program has written it, or an old version of this one.
    None,
}

impl Names {
    /// Points `name` at `new`; what it was before keeps its content, without a name.
    pub(crate) fn set(&mut self, mut new: Named) {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_secs());
        new.descriptor.annotations.get_or_insert_default().insert(TAGGED.to_owned(), now.to_string());
        if let Some(name) = &new.name {
            self.unset(name);
        }
        let digest = new.descriptor.digest.clone();
        let mut repo_digests = new.repo_digests.clone();
        for entry in self.entries.iter().filter(|entry| entry.descriptor.digest == digest) {
            repo_digests.extend(entry.repo_digests.iter().cloned());
        }
        repo_digests.sort();
        repo_digests.dedup();
        self.entries.retain(|entry| entry.descriptor.digest != digest || entry.name.is_some());
        self.entries.push(new);
        for entry in self.entries.iter_mut().filter(|entry| entry.descriptor.digest == digest) {
            entry.repo_digests.clone_from(&repo_digests);
        }
    }

    /// Adds a `NAME@DIGEST` to all names of a manifest.
    pub(crate) fn add_repo_digest(&mut self, manifest: &Digest, repo_digest: &str) {
        for entry in self.entries.iter_mut().filter(|entry| entry.descriptor.digest == *manifest) {
            entry.repo_digests.push(repo_digest.to_owned());
            entry.repo_digests.sort();
            entry.repo_digests.dedup();
        }
    }

    /// Takes `name` away; its image stays, without a name if that was the last. Whether it was there.
    pub(crate) fn unset(&mut self, name: &str) -> bool {
        let Some(place) = self.entries.iter().position(|entry| entry.name.as_deref() == Some(name)) else {
            return false;
        };
        let digest = self.entries[place].descriptor.digest.clone();
        if self.entries.iter().filter(|entry| entry.descriptor.digest == digest).count() > 1 {
            self.entries.remove(place);
        } else {
            self.entries[place].name = None;
        }
        true
    }

    /// Takes a manifest out of the index with all its names.
    pub(crate) fn forget(&mut self, manifest: &Digest) {
        self.entries.retain(|entry| entry.descriptor.digest != *manifest);
    }

    /// Digests and types of what other tools have put there: indexes, above all.
    pub(crate) fn foreign(&self) -> Vec<(Digest, String)> {
        let parse = |value: &Value| serde_json::from_value::<Descriptor>(value.clone()).ok();
        let found = self.file.manifests.iter().filter_map(parse);
        found.map(|descriptor| (descriptor.digest, descriptor.media_type)).collect()
    }

    pub(crate) fn find(&self, name: &str) -> Option<&Named> {
        self.entries.iter().find(|entry| entry.name.as_deref() == Some(name))
    }
}

impl Named {
    /// When its name was last given to it, in seconds since 1970.
    pub(crate) fn tagged(&self) -> Option<u64> {
        self.descriptor.annotations.as_ref()?.get(TAGGED)?.parse().ok()
    }

    fn read(descriptor: Descriptor) -> Self {
        let note = |key: &str| descriptor.annotations.as_ref().and_then(|notes| notes.get(key));
        let name = note(CONTAINERD_NAME).or_else(|| note(REF_NAME)).cloned();
        let repo_digests = note(REPO_DIGESTS).map(|text| text.split_whitespace().map(str::to_owned).collect());
        let chosen_from = note(CHOSEN_FROM).and_then(|text| text.parse().ok());
        Self { name, repo_digests: repo_digests.unwrap_or_default(), chosen_from, descriptor }
    }

    fn written(&self) -> Descriptor {
        let mut notes: BTreeMap<String, String> = self.descriptor.annotations.clone().unwrap_or_default();
        let mut note = |key: &str, value: Option<String>| match value {
            Some(value) => drop(notes.insert(key.to_owned(), value)),
            None => drop(notes.remove(key)),
        };
        note(REF_NAME, self.name.clone());
        note(CONTAINERD_NAME, self.name.clone());
        note(REPO_DIGESTS, (!self.repo_digests.is_empty()).then(|| self.repo_digests.join(" ")));
        note(CHOSEN_FROM, self.chosen_from.as_ref().map(ToString::to_string));
        Descriptor { annotations: (!notes.is_empty()).then_some(notes), ..self.descriptor.clone() }
    }
}

impl Store {
    pub(crate) fn index_path(&self) -> PathBuf {
        self.images().join("index.json")
    }

    /// The same once more, not synced: what is lost with a power cut is told by its checksum.
    pub(crate) fn index_copy_path(&self) -> PathBuf {
        self.images().join("index.json.copy")
    }

    /// Reads the names without a lock: the file is replaced as a whole.
    pub(crate) fn names(&self) -> Result<Names, StoreError> {
        let path = self.index_path();
        let file = match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|source| StoreError::Index { path, source })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(self.copied_names().unwrap_or_default());
            }
            Err(error) if error.kind() == io::ErrorKind::IsADirectory => {
                let source = <serde_json::Error as serde::de::Error>::custom("it is a directory");
                return Err(StoreError::Index { path, source });
            }
            Err(source) => return Err(StoreError::io("read", &path, source)),
        };
        Ok(Self::understand(file))
    }

    /// Whether the index is as it was written.
    pub(crate) fn seal(&self) -> Seal {
        let bytes = std::fs::read(self.index_path()).unwrap_or_default();
        let Ok(file) = serde_json::from_slice::<IndexFile>(&bytes) else { return Seal::Broken };
        match (file.stated_checksum(), file.checksum()) {
            (None, _) => Seal::None,
            (Some(stated), Some(found)) if stated == found => Seal::Good,
            _ => Seal::Broken,
        }
    }

    /// The names as the copy has them, where that is whole.
    pub(crate) fn copied_names(&self) -> Option<Names> {
        let bytes = std::fs::read(self.index_copy_path()).ok()?;
        let file: IndexFile = serde_json::from_slice(&bytes).ok()?;
        let whole = file.stated_checksum().is_some() && file.stated_checksum() == file.checksum().as_deref();
        whole.then(|| Self::understand(file))
    }

    fn understand(mut file: IndexFile) -> Names {
        let mut entries = Vec::new();
        // What does not parse is another tool's, or damage: it is kept, and is no image of ours.
        file.manifests.retain(|value| match serde_json::from_value::<Descriptor>(value.clone()) {
            Ok(descriptor) if !descriptor.is_index() => {
                entries.push(Named::read(descriptor));
                false
            }
            _ => true,
        });
        Names { file, entries }
    }

    /// Changes the names under the index's lock, which is held for as long as `change` runs.
    pub(crate) fn change_names<T>(
        &self,
        change: impl FnOnce(&mut Names) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let _lock = FileLock::exclusive(&self.images().join(".index.lock"))?;
        self.change_names_locked(self.names()?, change)
    }

    /// As [`Self::change_names`]; an index that does not parse is put aside, and begun anew from its copy.
    pub(crate) fn change_or_repair_names<T>(
        &self,
        change: impl FnOnce(&mut Names) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let _lock = FileLock::exclusive(&self.images().join(".index.lock"))?;
        let names = match self.names() {
            Err(StoreError::Index { path, .. }) => {
                let aside = path.with_file_name("index.json.damaged");
                delete(&aside)?;
                std::fs::rename(&path, aside).map_err(|source| StoreError::io("rename", &path, source))?;
                self.copied_names().unwrap_or_default()
            }
            result => result?,
        };
        self.mend_layout()?;
        self.change_names_locked(names, change)
    }

    fn change_names_locked<T>(
        &self,
        mut names: Names,
        change: impl FnOnce(&mut Names) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let before = names.entries.clone();
        let result = change(&mut names)?;
        if names.entries != before || !self.index_path().exists() || self.seal() == Seal::Broken {
            self.write_names(&names)?;
        }
        Ok(result)
    }

    fn write_names(&self, names: &Names) -> Result<(), StoreError> {
        let path = self.index_path();
        let failed = |source: io::Error| StoreError::io("write", &path, source);
        let mut file = names.file.clone();
        for entry in &names.entries {
            file.manifests.push(serde_json::to_value(entry.written()).map_err(|error| failed(error.into()))?);
        }
        file.seal();
        let mut bytes = serde_json::to_vec_pretty(&file).map_err(|error| failed(error.into()))?;
        bytes.push(b'\n');
        // Best effort: the copy is needed only when the file is damaged, and gives its room for what makes room.
        let copy = self.index_copy_path();
        match umiak_base::state::write_bytes(&path, &bytes, 0o644) {
            Err(error) if umiak_base::state::is_full(&error) && copy.exists() => {
                std::fs::remove_file(&copy).map_err(failed)?;
                return umiak_base::state::write_bytes(&path, &bytes, 0o644).map_err(failed);
            }
            result => result.map_err(failed)?,
        }
        let fresh = copy.with_extension("tmp");
        let _ = std::fs::write(&fresh, &bytes).and_then(|()| std::fs::rename(&fresh, &copy));
        Ok(())
    }
}

/// Reads a list of names; for fuzzing.
pub(crate) fn read_names(bytes: &[u8]) {
    if let Ok(mut file) = serde_json::from_slice::<IndexFile>(bytes) {
        let _ = (file.stated_checksum().is_some(), file.checksum());
        file.seal();
        let mut names = Store::understand(file);
        if let Some(entry) = names.entries.first().cloned() {
            names.set(entry);
        }
        names.foreign();
        names.entries.iter().for_each(|entry| drop(entry.written()));
    }
}
