//! What the build cache holds, and how much room it takes.

use std::collections::HashSet;
use std::fs::File;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::SystemTime;

use rustix::fs::FlockOperation;

use super::mounts::MountInfo;
use super::{Cache, Kind, Record, last_use, lock, names};
use crate::digest::Digest;
use crate::store::StoreError;

/// Digits of an id, as many as Docker's have.
const ID: usize = 25;

/// One thing in the build cache.
#[derive(Debug, Clone)]
pub struct Row {
    /// Twenty-five hex digits.
    pub id: String,
    /// What it is of.
    pub kind: Kind,
    /// In words.
    pub description: String,
    /// When it was made, RFC 3339; `None` where that is not known.
    pub created: Option<String>,
    /// When it was used last.
    pub last_used: Option<SystemTime>,
    /// How often it was used.
    pub uses: u64,
    /// Bytes that its files have.
    pub size: u64,
    /// Its layer is also an image's, or another record's that comes before it.
    pub shared: bool,
    /// A build has it at this moment.
    pub in_use: bool,
    /// It changes with use: cache mounts, and what is known of contexts.
    pub mutable: bool,
    /// Ids of what it came after.
    pub parents: Vec<String>,
    pub(super) what: What,
}

/// Where it lies.
#[derive(Debug, Clone)]
pub(super) enum What {
    Record {
        key: Digest,
        layer: Option<Digest>,
    },
    /// The name of its directory.
    Mount(String),
    /// The name of its file.
    Files(String),
}

/// Sums over rows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// All of it.
    pub total: u64,
    /// What is an image's, too.
    pub shared: u64,
    /// What no build has.
    pub reclaimable: u64,
}

impl Totals {
    /// Sums up.
    #[must_use]
    pub fn of(rows: &[Row]) -> Self {
        let mut totals = Self::default();
        for row in rows {
            totals.total += row.size;
            totals.shared += if row.shared { row.size } else { 0 };
            totals.reclaimable += if row.in_use { 0 } else { row.size };
        }
        totals
    }
}

impl Cache {
    /// Everything in it, smallest first.
    ///
    /// # Errors
    /// When it or the index of the images cannot be read.
    pub fn du(&self) -> Result<Vec<Row>, StoreError> {
        let mut taken: HashSet<Digest> = HashSet::new();
        for image in self.store.list()?.images {
            taken.extend(image.layers);
        }
        let mut records = self.records_all()?;
        records.retain(|record| record.layer.as_ref().is_none_or(|layer| self.store.has_layer(layer)));
        records.sort_by(|a, b| (a.last_used, &a.key).cmp(&(b.last_used, &b.key)));
        let mut rows: Vec<Row> = records.into_iter().map(|record| of_record(record, &mut taken)).collect();
        for name in names(&self.mounts())? {
            rows.extend(of_mount(&self.mounts().join(&name), name));
        }
        for name in names(&self.files())? {
            rows.extend(of_files(&self.files().join(&name), name));
        }
        rows.sort_by(|a, b| (a.size, &a.id).cmp(&(b.size, &b.id)));
        Ok(rows)
    }
}

fn of_record(record: Record, taken: &mut HashSet<Digest>) -> Row {
    Row {
        id: id(record.key.hex()),
        kind: record.kind,
        description: record.description,
        created: Some(record.created),
        last_used: record.last_used,
        uses: record.uses,
        size: record.size,
        shared: record.layer.as_ref().is_some_and(|layer| !taken.insert(layer.clone())),
        in_use: false,
        mutable: false,
        parents: record.parents.iter().map(|parent| id(parent.hex())).collect(),
        what: What::Record { key: record.key, layer: record.layer },
    }
}

fn of_mount(dir: &Path, name: String) -> Option<Row> {
    if name.starts_with('.') {
        return None;
    }
    let file = File::open(dir).ok()?;
    let in_use = !lock(&file, FlockOperation::NonBlockingLockExclusive).ok()?;
    drop(file);
    let info: Option<MountInfo> = umiak_base::state::read(&dir.join("info.json")).ok().flatten();
    let (last_used, uses) = last_use(&dir.join("uses"), dir);
    let description = info.as_ref().map_or_else(
        || "cache mount that was never ready".to_owned(),
        |info| format!("cached mount of id {:?}", info.id),
    );
    // Those that one id has besides its first have the same digits and a number.
    let id = match name.split_once('-') {
        Some((hex, number)) => format!("{}{number}", &id(hex)[..ID - number.len().min(ID)]),
        None => id(&name),
    };
    Some(Row {
        id,
        kind: Kind::CacheMount,
        description,
        created: info.map(|info| info.created),
        last_used,
        uses,
        size: bytes(&dir.join("data")),
        shared: false,
        in_use,
        mutable: true,
        parents: Vec::new(),
        what: What::Mount(name),
    })
}

fn of_files(path: &Path, name: String) -> Option<Row> {
    let meta = std::fs::symlink_metadata(path).ok().filter(|meta| meta.is_file() && !name.starts_with('.'))?;
    Some(Row {
        id: id(&name),
        kind: Kind::Local,
        description: "digests of the files of a context".to_owned(),
        created: None,
        last_used: meta.modified().ok(),
        uses: 0,
        size: meta.len(),
        shared: false,
        in_use: false,
        mutable: true,
        parents: Vec::new(),
        what: What::Files(name),
    })
}

fn id(hex: &str) -> String {
    hex.get(..ID).unwrap_or(hex).to_owned()
}

/// Bytes of the files in a tree; what cannot be read counts nothing.
fn bytes(path: &Path) -> u64 {
    let Ok(meta) = std::fs::symlink_metadata(path) else { return 0 };
    if !meta.is_dir() {
        return if meta.nlink() > 1 { meta.size() / meta.nlink() } else { meta.size() };
    }
    let Ok(list) = std::fs::read_dir(path) else { return 0 };
    list.flatten().map(|entry| bytes(&entry.path())).sum()
}
