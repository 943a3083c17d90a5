//! Takes out of the build cache what is needed least, and with it the layers
//! that no image needs. What goes is decided first, as BuildKit does.

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::time::{Duration, SystemTime};

use rustix::fs::FlockOperation;
use umiak_base::id::random_hex;

use super::mounts::REMOVED;
use super::usage::{Row, What};
use super::{Cache, lock, names};
use crate::store::{ImageId, StoreError};
use crate::unpack::remove_tree;

/// What may go. Limits in bytes are not set when they are 0; without any, all goes that may.
#[derive(Default)]
pub struct PruneCache<'a> {
    /// Also what images share.
    pub all: bool,
    /// Only what was not used for so long.
    pub until: Option<Duration>,
    /// So much always stays.
    pub reserved: u64,
    /// So much may stay.
    pub max_used: u64,
    /// So much shall be free on the disk afterwards.
    pub min_free: u64,
    /// Only what this says yes to.
    pub filter: Option<&'a dyn Fn(&Row) -> bool>,
}

impl std::fmt::Debug for PruneCache<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PruneCache").field("all", &self.all).field("until", &self.until).finish_non_exhaustive()
    }
}

/// What a clean-up of the build cache did.
#[derive(Debug, Clone, Default)]
pub struct PrunedCache {
    /// What is gone.
    pub rows: Vec<Row>,
    /// Bytes of it that nothing else shares.
    pub bytes: u64,
}

impl Cache {
    /// Removes what may go. `in_use` says who uses an image, for the layers of those that have lost their names.
    /// While a build runs, layers stay until the next clean-up.
    ///
    /// # Errors
    /// When the cache or the store cannot be read or changed.
    pub fn prune(
        &self,
        options: &PruneCache<'_>,
        in_use: &dyn Fn(&ImageId) -> Vec<String>,
    ) -> Result<PrunedCache, StoreError> {
        let rows = self.du()?;
        let free = rustix::fs::statvfs(self.store.layers()).map_or(u64::MAX, |fs| fs.f_bavail * fs.f_frsize);
        let chosen = choose(&rows, options, free, SystemTime::now());
        let mut pruned = PrunedCache::default();
        let mut layers = HashSet::new();
        for row in chosen.into_iter().filter_map(|at| rows.get(at)) {
            match &row.what {
                What::Record { key, layer } => {
                    self.forget(key)?;
                    layers.extend(layer.clone());
                }
                What::Mount(name) if !self.remove_mount(name)? => continue,
                What::Mount(_) => {}
                What::Files(name) => remove(&self.files().join(name))?,
            }
            pruned.bytes += if row.shared { 0 } else { row.size };
            pruned.rows.push(row.clone());
        }
        self.sweep()?;
        self.store.free_layers(layers, in_use)?;
        Ok(pruned)
    }

    /// Whether nobody had it.
    fn remove_mount(&self, name: &str) -> Result<bool, StoreError> {
        let dir = self.mounts().join(name);
        let failed = |source| StoreError::io("remove", &dir, source);
        let file = match File::open(&dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
            result => result.map_err(failed)?,
        };
        if !lock(&file, FlockOperation::NonBlockingLockExclusive).map_err(failed)? {
            return Ok(false);
        }
        let aside = format!("{REMOVED}{}", random_hex(6).map_err(failed)?);
        std::fs::rename(&dir, self.mounts().join(&aside)).map_err(failed)?;
        let parent = File::open(self.mounts()).map_err(failed)?;
        remove_tree(parent, aside.as_bytes()).map_err(|error| failed(error.into()))?;
        Ok(true)
    }

    /// Records whose layers are gone, aliases and counts of nothing, and what a killed clean-up has left.
    fn sweep(&self) -> Result<(), StoreError> {
        for record in self.records_all()? {
            if record.layer.as_ref().is_some_and(|layer| !self.store.has_layer(layer)) {
                self.forget(&record.key)?;
            }
        }
        let keys = |ending: &str| -> Result<Vec<crate::digest::Digest>, StoreError> {
            let names = names(&self.records())?.into_iter();
            Ok(names.filter_map(|name| format!("sha256:{}", name.strip_suffix(ending)?).parse().ok()).collect())
        };
        for key in keys(".uses")? {
            if !self.record_path(&key).exists() {
                remove(&self.uses_path(&key))?;
            }
        }
        for key in keys(".alias")? {
            if self.peek(&key).is_none() {
                remove(&self.alias_path(&key))?;
            }
        }
        for name in names(&self.mounts())?.iter().filter(|name| name.starts_with(REMOVED)) {
            let failed = |source| StoreError::io("remove", &self.mounts().join(name), source);
            let parent = File::open(self.mounts()).map_err(failed)?;
            remove_tree(parent, name.as_bytes()).map_err(|error| failed(error.into()))?;
        }
        Ok(())
    }
}

fn remove(path: &std::path::Path) -> Result<(), StoreError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(StoreError::io("remove", path, error)),
        _ => Ok(()),
    }
}

/// The places of the rows that go: all that may, or under a limit the least recently used until it is kept.
fn choose(rows: &[Row], options: &PruneCache<'_>, free: u64, now: SystemTime) -> Vec<usize> {
    let may_go = |row: &Row| {
        let recent = options.until.is_some_and(|until| {
            row.last_used.is_some_and(|used| now.duration_since(used).unwrap_or_default() < until)
        });
        !row.in_use && (options.all || !row.shared) && !recent && options.filter.is_none_or(|filter| filter(row))
    };
    let mut chosen: Vec<usize> = (0..rows.len()).filter(|at| may_go(&rows[*at])).collect();
    chosen.sort_by_key(|at| (rows[*at].last_used, rows[*at].uses, *at));
    let own = |row: &Row| if row.shared { 0 } else { row.size };
    let mut total: u64 = rows.iter().map(own).sum();
    let Some(keep) = kept(total, free, options) else { return chosen };
    chosen.retain(|at| {
        let goes = total > keep;
        total -= if goes { own(&rows[*at]) } else { 0 };
        goes
    });
    chosen
}

/// Bytes that may stay; `None` without a limit.
fn kept(total: u64, free: u64, options: &PruneCache<'_>) -> Option<u64> {
    let PruneCache { reserved, max_used, min_free, .. } = *options;
    if reserved == 0 && max_used == 0 && min_free == 0 {
        return None;
    }
    let excess = min_free.saturating_sub(free);
    let keep = match (max_used, excess) {
        // With a wish for free room alone, nothing goes while there is enough of it.
        (0, 0) if min_free > 0 => total,
        (0, 0) => 0,
        (0, excess) => total.saturating_sub(excess),
        (most, 0) => most,
        (most, excess) => most.min(total.saturating_sub(excess)),
    };
    Some(keep.max(reserved))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::Kind;

    const HOUR: Duration = Duration::from_secs(3600);

    /// Rows of ten bytes that were used so many hours ago.
    fn rows(ages: &[u32]) -> (Vec<Row>, SystemTime) {
        let now = SystemTime::UNIX_EPOCH + 1000 * HOUR;
        let row = |age: &u32| Row {
            id: format!("id{age}"),
            kind: Kind::Regular,
            description: String::new(),
            created: None,
            last_used: Some(now - HOUR * *age),
            uses: 0,
            size: 10,
            shared: false,
            in_use: false,
            mutable: false,
            parents: Vec::new(),
            what: What::Files(String::new()),
        };
        (ages.iter().map(row).collect(), now)
    }

    #[test]
    fn all_goes_but_what_is_in_use_shared_or_recent() {
        let (mut rows, now) = rows(&[1, 5, 30, 40]);
        let choose = |rows: &[Row], options: &PruneCache<'_>| choose(rows, options, 0, now);
        assert_eq!(choose(&rows, &PruneCache::default()), [3, 2, 1, 0]);
        let until = PruneCache { until: Some(24 * HOUR), ..PruneCache::default() };
        assert_eq!(choose(&rows, &until), [3, 2]);
        rows[2].in_use = true;
        rows[3].shared = true;
        assert_eq!(choose(&rows, &PruneCache::default()), [1, 0]);
        assert_eq!(choose(&rows, &PruneCache { all: true, ..PruneCache::default() }), [3, 1, 0]);
        let filter = |row: &Row| row.id == "id1";
        assert_eq!(choose(&rows, &PruneCache { filter: Some(&filter), ..PruneCache::default() }), [0]);
    }

    #[test]
    fn under_a_limit_the_oldest_go_until_it_is_kept() {
        let (rows, now) = rows(&[1, 5, 30, 40]);
        let limits = |reserved, max_used, min_free, free| {
            let options = PruneCache { reserved, max_used, min_free, ..PruneCache::default() };
            choose(&rows, &options, free, now)
        };
        assert_eq!(limits(20, 0, 0, 0), [3, 2]);
        assert_eq!(limits(25, 0, 0, 0), [3, 2]);
        assert_eq!(limits(0, 30, 0, 0), [3]);
        assert_eq!(limits(0, 40, 0, 0), [0; 0]);
        assert_eq!(limits(0, 0, 100, 85), [3, 2]);
        assert_eq!(limits(0, 0, 100, 100), [0; 0]);
        assert_eq!(limits(0, 20, 100, 95), [3, 2]);
        assert_eq!(limits(30, 10, 0, 0), [3]);
        assert_eq!(limits(0, 0, 1000, 0), [3, 2, 1, 0]);
    }
}
