//! The build cache: records of steps, cache mounts, and what a clean-up takes.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs, reason = "a test fails by panicking")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant, SystemTime};

use umiak_images::cache::{Cache, Kind, PruneCache, Record, Row, Sharing, Totals};
use umiak_images::config::ImageConfig;
use umiak_images::digest::Digest;
use umiak_images::pack::{Adopted, Compression};
use umiak_images::store::{ImageId, Store};

const NOW: &str = "2026-01-02T03:04:05Z";

struct Host {
    root: tempfile::TempDir,
    store: Store,
    cache: Cache,
}

impl Host {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path()).unwrap();
        Self { cache: store.cache(), store, root }
    }

    /// A step that writes `content`, with its record.
    fn step(&self, content: &str) -> (Record, Adopted) {
        let build = self.store.building().unwrap();
        let scratch = build.scratch().unwrap();
        fs::write(scratch.upper().join("file"), content).unwrap();
        let adopted = build.adopt(&scratch.upper(), Some(0)).unwrap();
        let description = format!("RUN echo {content}");
        let layer = Some(adopted.diff_id.clone());
        let record = Record::new(Digest::of(content.as_bytes()), layer, NOW.to_owned(), adopted.bytes, &description);
        self.cache.put(record.clone()).unwrap();
        (record, adopted)
    }

    /// An image of these layers.
    fn image(&self, layers: &[&Adopted], name: &str) {
        let build = self.store.building().unwrap();
        let blob =
            |layer: &&Adopted| (build.blob(&layer.diff_id, Compression::default()).unwrap(), layer.diff_id.clone());
        let layers: Vec<_> = layers.iter().map(blob).collect();
        let config = ImageConfig { os: "linux".into(), architecture: "amd64".into(), ..ImageConfig::default() };
        build.finish(config, &layers, &[name.parse().unwrap()]).unwrap();
    }

    fn prune(&self, options: &PruneCache<'_>) -> Vec<String> {
        let rows = self.cache.prune(options, &nobody).unwrap().rows;
        rows.into_iter().map(|row| row.description).collect()
    }

    fn used_ago(&self, record: &Record, hours: u64) {
        let path = self.root.path().join(format!("build/cache/{}.uses", record.key.hex()));
        let file = fs::OpenOptions::new().append(true).create(true).open(path).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(hours * 3600)).unwrap();
    }
}

fn nobody(_: &ImageId) -> Vec<String> {
    Vec::new()
}

#[test]
fn a_record_is_found_while_its_layer_is_there() {
    let host = Host::new();
    let (record, adopted) = host.step("one");
    let found = host.cache.lookup(&record.key).unwrap();
    assert_eq!((&found.layer, &found.description, found.uses), (&record.layer, &record.description, 0));
    let again = host.cache.lookup(&record.key).unwrap();
    assert_eq!(again.uses, 1);
    assert!(again.last_used.unwrap() >= found.last_used.unwrap());
    assert_eq!(host.cache.peek(&record.key).unwrap().uses, 2);
    let other = Digest::of(b"other");
    assert!(host.cache.lookup(&other).is_none());
    host.cache.alias(&other, &record.key).unwrap();
    assert_eq!(host.cache.lookup(&other).unwrap().layer, record.layer);
    // A circle of aliases ends.
    let (a, b) = (Digest::of(b"a"), Digest::of(b"b"));
    host.cache.alias(&a, &b).unwrap();
    host.cache.alias(&b, &a).unwrap();
    assert!(host.cache.lookup(&a).is_none());
    fs::remove_dir_all(host.store.layer_path(&adopted.diff_id)).unwrap();
    assert!(host.cache.lookup(&record.key).is_none());
    // What is damaged, or under the name of another, is none.
    let (record, _) = host.step("two");
    let path = host.root.path().join(format!("build/cache/{}.json", record.key.hex()));
    fs::copy(&path, host.root.path().join(format!("build/cache/{}.json", a.hex()))).unwrap();
    assert!(host.cache.lookup(&a).is_none());
    fs::write(&path, "").unwrap();
    assert!(host.cache.lookup(&record.key).is_none());
}

#[test]
fn the_images_clean_up_leaves_what_the_cache_holds() {
    let host = Host::new();
    let ((one, first), (two, second)) = (host.step("one"), host.step("two"));
    host.image(&[&first, &second], "app:1");
    host.store.remove("app:1", &nobody, false).unwrap();
    host.store.prune(true, &nobody).unwrap();
    assert!(host.cache.lookup(&one.key).is_some() && host.cache.lookup(&two.key).is_some());
    // The same image again, from what is there.
    host.image(&[&first, &second], "app:1");
    assert!(umiak_images::check::check(&host.store, &|_, _| {}).unwrap().is_clean());
    // Without its record a layer stays as long as an image needs it.
    let all = PruneCache { all: true, ..PruneCache::default() };
    assert_eq!(host.prune(&PruneCache::default()), [""; 0]);
    assert_eq!(host.prune(&all).len(), 2);
    assert!(host.cache.lookup(&one.key).is_none());
    assert!(host.store.has_layer(&first.diff_id));
    host.store.remove("app:1", &nobody, false).unwrap();
    assert!(!host.store.has_layer(&first.diff_id));
}

#[test]
fn a_clean_up_of_the_cache_takes_layers_that_nothing_else_needs() {
    let host = Host::new();
    let ((_, first), (_, second), (_, third)) = (host.step("one"), host.step("two"), host.step("three"));
    host.image(&[&first], "app:1");
    let rows = host.cache.du().unwrap();
    let shared: Vec<bool> = rows.iter().map(|row| row.shared).collect();
    assert_eq!(shared.iter().filter(|shared| **shared).count(), 1);
    assert_eq!(Totals::of(&rows), Totals { total: 11, shared: 3, reclaimable: 11 });
    // An image that lost its names and is used by a container.
    host.image(&[&second], "used:1");
    let used = host.store.resolve("used:1").unwrap().id;
    let in_use = |id: &ImageId| if *id == used { vec!["web".to_owned()] } else { Vec::new() };
    host.store.remove("used:1", &in_use, true).unwrap();
    let pruned = host.cache.prune(&PruneCache { all: true, ..PruneCache::default() }, &in_use).unwrap();
    assert_eq!(pruned.rows.len(), 3);
    let there = |adopted: &Adopted| host.store.has_layer(&adopted.diff_id);
    assert_eq!([there(&first), there(&second), there(&third)], [true, true, false]);
    assert!(host.cache.du().unwrap().is_empty());
    assert_eq!(fs::read_dir(host.root.path().join("build/cache")).unwrap().count(), 0);
}

#[test]
fn what_is_pruned_can_be_chosen() {
    let host = Host::new();
    let ((one, _), (two, _), (three, _)) = (host.step("one"), host.step("two"), host.step("three"));
    for (record, hours) in [(&one, 50), (&two, 30), (&three, 1)] {
        host.used_ago(record, hours);
    }
    let filter = |row: &Row| row.description.contains("two");
    assert_eq!(host.prune(&PruneCache { filter: Some(&filter), ..PruneCache::default() }), ["RUN echo two"]);
    let until = Some(Duration::from_secs(24 * 3600));
    assert_eq!(host.prune(&PruneCache { until, ..PruneCache::default() }), ["RUN echo one"]);
    assert_eq!(host.prune(&PruneCache { reserved: 5, ..PruneCache::default() }), [""; 0]);
    assert_eq!(host.prune(&PruneCache { max_used: 4, ..PruneCache::default() }), ["RUN echo three"]);
}

#[test]
fn while_a_build_runs_its_layers_stay() {
    let host = Host::new();
    let (record, adopted) = host.step("one");
    let build = host.store.building().unwrap();
    assert_eq!(host.prune(&PruneCache::default()).len(), 1);
    assert!(host.store.has_layer(&adopted.diff_id));
    host.cache.put(record.clone()).unwrap();
    assert!(host.cache.lookup(&record.key).is_some());
    drop(build);
    assert_eq!(host.prune(&PruneCache::default()).len(), 1);
    assert!(!host.store.has_layer(&adopted.diff_id));
}

#[test]
fn a_cache_mount_is_kept_and_its_id_is_no_path() {
    let host = Host::new();
    let outside = host.root.path().join("outside");
    fs::create_dir(&outside).unwrap();
    for id in ["/root/.cache", "../../outside", "..", "", "a/b", "x\0y", &"long".repeat(2000)] {
        let mut mount = host.cache.mount(id, Sharing::Locked).unwrap();
        assert!(mount.is_new());
        assert!(mount.path().starts_with(host.root.path().join("build/mounts")));
        assert_eq!(fs::metadata(mount.path()).unwrap().permissions().mode() & 0o7777, 0o755);
        fs::write(mount.path().join("kept"), id).unwrap();
        mount.ready(NOW).unwrap();
        drop(mount);
        let mount = host.cache.mount(id, Sharing::Shared).unwrap();
        assert!(!mount.is_new());
        assert_eq!(fs::read_to_string(mount.path().join("kept")).unwrap(), id);
    }
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
    assert_eq!(host.cache.du().unwrap().len(), 7);
}

#[test]
fn a_mount_that_was_never_ready_begins_anew() {
    let host = Host::new();
    let mount = host.cache.mount("id", Sharing::Shared).unwrap();
    fs::write(mount.path().join("half"), "").unwrap();
    fs::set_permissions(mount.path(), fs::Permissions::from_mode(0o700)).unwrap();
    drop(mount);
    let mount = host.cache.mount("id", Sharing::Shared).unwrap();
    assert!(mount.is_new());
    assert_eq!(fs::read_dir(mount.path()).unwrap().count(), 0);
    assert_eq!(fs::metadata(mount.path()).unwrap().permissions().mode() & 0o7777, 0o755);
}

#[test]
fn who_shares_waits_for_nobody_and_private_ones_get_their_own() {
    let host = Host::new();
    let take = |sharing| {
        let mut mount = host.cache.mount("id", sharing).unwrap();
        mount.ready(NOW).unwrap();
        mount
    };
    let (a, b) = (take(Sharing::Shared), take(Sharing::Shared));
    assert_eq!(a.path(), b.path());
    let (c, d) = (take(Sharing::Private), take(Sharing::Private));
    assert!(c.path() != a.path() && d.path() != a.path() && c.path() != d.path());
    assert!(host.cache.du().unwrap().iter().all(|row| row.in_use && row.kind == Kind::CacheMount));
    assert!(host.prune(&PruneCache { all: true, ..PruneCache::default() }).is_empty());
    drop((a, b));
    let again = take(Sharing::Private);
    assert!(again.path() != c.path() && again.path() != d.path());
    drop((c, d, again));
    assert_eq!(host.prune(&PruneCache::default()).len(), 3);
    assert_eq!(fs::read_dir(host.root.path().join("build/mounts")).unwrap().count(), 0);
}

#[test]
fn who_locks_comes_one_after_the_other() {
    let host = Host::new();
    let counter = host.root.path().join("counter");
    fs::write(&counter, "0").unwrap();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let mut mount = host.cache.mount("id", Sharing::Locked).unwrap();
                let count: u32 = fs::read_to_string(&counter).unwrap().parse().unwrap();
                fs::write(&counter, (count + 1).to_string()).unwrap();
                mount.ready(NOW).unwrap();
            });
        }
    });
    assert_eq!(fs::read_to_string(&counter).unwrap(), "8");
}

/// Many make and use a mount while others remove it: nobody ever sees a part of it.
#[test]
fn mounts_are_whole_also_while_they_are_pruned() {
    let host = Host::new();
    let (say, hear) = channel();
    let until = Instant::now() + Duration::from_millis(500);
    std::thread::scope(|scope| {
        for number in 0..4 {
            let (say, host) = (say.clone(), &host);
            let sharing = if number < 3 { Sharing::Shared } else { Sharing::Locked };
            scope.spawn(move || {
                while Instant::now() < until {
                    let mut mount = host.cache.mount("id", sharing).unwrap();
                    if mount.is_new() {
                        fs::write(mount.path().join("seed"), "whole").unwrap();
                        mount.ready(NOW).unwrap();
                    }
                    say.send(fs::read_to_string(mount.path().join("seed")).unwrap()).unwrap();
                }
            });
        }
        drop(say);
        scope.spawn(|| {
            while Instant::now() < until {
                host.prune(&PruneCache::default());
            }
        });
        assert!(hear.iter().all(|seed| seed == "whole"));
    });
}

#[test]
fn digests_of_a_context_are_kept_and_pruned() {
    let host = Host::new();
    let context = tempfile::tempdir().unwrap();
    let path = context.path().join("a");
    fs::write(&path, "one").unwrap();
    let file = fs::File::open(&path).unwrap();
    let stat = rustix::fs::fstat(&file).unwrap();
    let contents = host.cache.contents(context.path());
    assert_eq!(contents.digest(b"a", &file).unwrap(), Digest::of(b"one"));
    contents.save().unwrap();
    // Nothing to write: it was changed just now.
    assert!(host.cache.du().unwrap().is_empty());
    assert!(!Path::new(&host.root.path().join("build/files")).exists());
    // The clock as it will be when it was long ago.
    let mut old = stat;
    (old.st_ctime, old.st_mtime) = (stat.st_ctime - 3600, stat.st_mtime - 3600);
    contents.put(b"a", &old, &Digest::of(b"one"));
    contents.save().unwrap();
    let contents = host.cache.contents(context.path());
    assert_eq!(contents.get(b"a", &old), Some(Digest::of(b"one")));
    assert_eq!(host.cache.contents(&path).get(b"a", &old), None);
    let rows = host.cache.du().unwrap();
    assert_eq!((rows.len(), rows[0].kind), (1, Kind::Local));
    assert_eq!(host.prune(&PruneCache::default()).len(), 1);
    assert_eq!(host.cache.contents(context.path()).get(b"a", &old), None);
}
