//! The build cache.
use crate::digest::Digest;
use crate::store::{Store, StoreError};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
/// x
#[derive(Debug)]
pub struct Cache {
    dir: PathBuf,
    store: Store,
}
/// x
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Record {
    /// x
    pub key: Digest,
    /// x
    pub layer: Option<Digest>,
    /// x
    pub created: String,
    /// x
    pub size: u64,
    /// x
    pub description: String,
}
impl Record {
    /// x
    pub fn new(key: Digest, layer: Option<Digest>, created: String, size: u64, description: &str) -> Self {
        Self { key, layer, created, size, description: description.to_owned() }
    }
}
impl Store {
    /// x
    pub fn cache(&self) -> Cache {
        Cache { dir: self.layers().parent().unwrap().join("build/cache"), store: self.clone() }
    }
}
/// x
#[derive(Debug, Clone, Copy)]
pub enum Sharing {
    /// x
    Shared,
    /// x
    Private,
    /// x
    Locked,
}
/// x
#[derive(Debug)]
pub struct CacheMount {
    path: PathBuf,
    new: bool,
}
impl CacheMount {
    /// x
    pub fn path(&self) -> PathBuf {
        self.path.clone()
    }
    /// x
    pub fn is_new(&self) -> bool {
        self.new
    }
}
impl Cache {
    /// x
    pub fn lookup(&self, key: &Digest) -> Option<Record> {
        let r: Record = serde_json::from_slice(&std::fs::read(self.dir.join(key.hex())).ok()?).ok()?;
        if let Some(l) = &r.layer {
            if !self.store.has_layer(l) {
                return None;
            }
        }
        Some(r)
    }
    /// x
    pub fn put(&self, record: Record) -> Result<(), StoreError> {
        std::fs::create_dir_all(&self.dir).unwrap();
        std::fs::write(self.dir.join(record.key.hex()), serde_json::to_vec(&record).unwrap()).unwrap();
        Ok(())
    }
    /// x
    pub fn mount(&self, id: &str, _: Sharing) -> Result<CacheMount, StoreError> {
        let path = self.dir.join("../mounts").join(Digest::of(id.as_bytes()).hex());
        let new = !path.exists();
        std::fs::create_dir_all(&path).unwrap();
        Ok(CacheMount { path: path.canonicalize().unwrap(), new })
    }
}
