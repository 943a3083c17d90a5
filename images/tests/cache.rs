//! The build cache: records of steps, cache mounts, and what a clean-up takes.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs, reason = "a test fails by panicking")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant, SystemTime};

use umiak_images::cache::{Cache, Kind, PruneCache, Record, Row, ShareError, Sharing, Source, Totals};
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

/// A directory that a host has exported three steps to, of which two have the same layer.
fn exported(compression: Compression) -> (tempfile::TempDir, Vec<Record>) {
    let host = Host::new();
    let (one, _) = host.step("one");
    let (two, _) = host.step("two");
    let same = Record { key: Digest::of(b"same"), ..one.clone() };
    let nothing = Record::new(Digest::of(b"nothing"), None, NOW.to_owned(), 0, "CHECK \u{1b}[31mred\n");
    host.cache.put(same.clone()).unwrap();
    host.cache.put(nothing.clone()).unwrap();
    let records = vec![one, two, same, nothing];
    let dir = tempfile::tempdir().unwrap();
    let keys: Vec<Digest> = records.iter().map(|record| record.key.clone()).chain([Digest::of(b"unknown")]).collect();
    host.cache.export(&host.store.building().unwrap(), dir.path(), &keys, compression).unwrap();
    (dir, records)
}

fn blobs(dir: &Path) -> Vec<PathBuf> {
    let mut all: Vec<PathBuf> =
        fs::read_dir(dir.join("blobs/sha256")).unwrap().map(|entry| entry.unwrap().path()).collect();
    all.sort();
    all
}

#[test]
fn a_cache_that_another_host_exported_is_used() {
    for compression in [Compression::None, Compression::default(), "zstd".parse().unwrap()] {
        let (dir, records) = exported(compression);
        let host = Host::new();
        let cache = host.store.cache().with_sources(vec![Source::open(dir.path()).unwrap()]);
        for record in &records {
            assert!(host.cache.lookup(&record.key).is_none());
            let found = cache.lookup(&record.key).unwrap();
            assert_eq!((&found.layer, found.size), (&record.layer, record.size));
            assert!(!found.description.contains(char::is_control), "{:?}", found.description);
            // From now on it is this host's own.
            assert!(host.cache.lookup(&record.key).is_some());
        }
        assert!(cache.lookup(&Digest::of(b"unknown")).is_none());
        let layer = host.store.layer_path(records[1].layer.as_ref().unwrap());
        assert_eq!(fs::read_to_string(layer.join("file")).unwrap(), "two");
        host.image(&[], "empty:1");
        assert!(umiak_images::check::check(&host.store, &|_, _| {}).unwrap().is_clean());
    }
}

#[test]
fn an_export_replaces_the_one_before_and_nothing_else() {
    let (dir, records) = exported(Compression::None);
    assert_eq!(blobs(dir.path()).len(), 4, "two layers, records, manifest");
    let host = Host::new();
    let (three, _) = host.step("three");
    let keys = [three.key.clone()];
    host.cache.export(&host.store.building().unwrap(), dir.path(), &keys, Compression::None).unwrap();
    assert_eq!(blobs(dir.path()).len(), 3);
    let source = Source::open(dir.path()).unwrap();
    assert_eq!(source.keys().collect::<Vec<_>>(), [&three.key]);
    // With something of another tool in the index, all blobs stay.
    let path = dir.path().join("index.json");
    let mut index: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let other = serde_json::json!({"mediaType": "text/plain", "digest": Digest::of(b"x"), "size": 1});
    index["manifests"].as_array_mut().unwrap().insert(0, other.clone());
    fs::write(&path, index.to_string()).unwrap();
    let (one, _) = host.step("one");
    host.cache
        .export(&host.store.building().unwrap(), dir.path(), std::slice::from_ref(&one.key), Compression::None)
        .unwrap();
    let index: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    assert_eq!((&index["manifests"][0], index["manifests"].as_array().unwrap().len()), (&other, 2));
    assert_eq!(blobs(dir.path()).len(), 6);
    assert_eq!(one.key, records[0].key);
    assert!(matches!(Source::open(host.root.path()), Err(ShareError::Io { .. })));
    fs::write(host.root.path().join("index.json"), "{}").unwrap();
    assert!(matches!(Source::open(host.root.path()), Err(ShareError::None { .. })));
}

/// Each file of an export harmed in every way; a lookup finds nothing or what is right, and nothing is left.
#[test]
fn a_damaged_export_gives_nothing() {
    let (dir, records) = exported(Compression::default());
    let harms: [fn(&Path); 5] = [
        |path| fs::remove_file(path).unwrap(),
        |path| fs::write(path, "").unwrap(),
        |path| {
            let mut bytes = fs::read(path).unwrap();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            fs::write(path, bytes).unwrap();
        },
        |path| {
            fs::remove_file(path).unwrap();
            std::os::unix::fs::symlink("/etc/passwd", path).unwrap();
        },
        |path| {
            fs::remove_file(path).unwrap();
            let mode = rustix::fs::Mode::from_raw_mode(0o600);
            rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        },
    ];
    let files: Vec<PathBuf> = blobs(dir.path()).into_iter().chain([dir.path().join("index.json")]).collect();
    for file in &files {
        let whole = fs::read(file).unwrap();
        for harm in harms {
            harm(file);
            let host = Host::new();
            if let Ok(source) = Source::open(dir.path()) {
                let cache = host.store.cache().with_sources(vec![source]);
                for record in records.iter().filter(|record| cache.lookup(&record.key).is_some()) {
                    let Some(layer) = &record.layer else { continue };
                    assert!(host.store.layer_path(layer).join("file").exists());
                }
            }
            let left: Vec<PathBuf> = blobs(&host.root.path().join("images")).into_iter().chain(layers(&host)).collect();
            let left: Vec<_> = left.iter().filter(|path| name(path).starts_with('.')).collect();
            assert!(left.is_empty(), "{left:?}");
            fs::remove_file(file).ok();
            fs::write(file, &whole).unwrap();
        }
    }
}

fn layers(host: &Host) -> Vec<PathBuf> {
    fs::read_dir(host.store.layers()).unwrap().map(|entry| entry.unwrap().path()).collect()
}

fn name(path: &Path) -> &str {
    path.file_name().unwrap().to_str().unwrap()
}

/// Records that claim what is not so.
#[test]
fn a_forged_export_gives_nothing() {
    let (dir, records) = exported(Compression::default());
    let write = |change: &dyn Fn(&mut serde_json::Value, &mut serde_json::Value)| {
        let copy = tempfile::tempdir().unwrap();
        let status = std::process::Command::new("cp").arg("-a").arg(dir.path().join(".")).arg(copy.path()).status();
        assert!(status.unwrap().success());
        let read = |path: &Path| -> serde_json::Value { serde_json::from_slice(&fs::read(path).unwrap()).unwrap() };
        let at = |digest: &serde_json::Value| {
            copy.path().join("blobs/sha256").join(digest.as_str().unwrap().trim_start_matches("sha256:"))
        };
        let mut index = read(&copy.path().join("index.json"));
        let mut manifest = read(&at(&index["manifests"][0]["digest"]));
        let mut shared = read(&at(&manifest["config"]["digest"]));
        change(&mut shared, &mut manifest);
        let put = |value: &serde_json::Value, entry: &mut serde_json::Value| {
            let bytes = value.to_string();
            let digest = Digest::of(bytes.as_bytes());
            fs::write(copy.path().join("blobs/sha256").join(digest.hex()), &bytes).unwrap();
            (entry["digest"], entry["size"]) = (digest.to_string().into(), bytes.len().into());
        };
        put(&shared, &mut manifest["config"]);
        put(&manifest, &mut index["manifests"][0]);
        fs::write(copy.path().join("index.json"), index.to_string()).unwrap();
        copy
    };
    let layered = |record: &&Record| record.layer.is_some();
    // A layer under the diff id of another: the content decides.
    let swapped = write(&|shared, _| {
        let layers = shared["layers"].as_array_mut().unwrap();
        layers.reverse();
    });
    // A layer that the manifest does not list; an index into somewhere else.
    let missing = write(&|shared, manifest| {
        shared["layers"] = serde_json::json!([]);
        manifest["layers"] = serde_json::json!([]);
    });
    let sized = write(&|_, manifest| {
        for layer in manifest["layers"].as_array_mut().unwrap() {
            layer["size"] = 5.into();
        }
    });
    for forged in [&swapped, &missing, &sized] {
        let host = Host::new();
        let cache = host.store.cache().with_sources(vec![Source::open(forged.path()).unwrap()]);
        for record in records.iter().filter(layered) {
            assert!(cache.lookup(&record.key).is_none());
            assert!(host.cache.peek(&record.key).is_none());
        }
        assert!(layers(&host).iter().all(|path| name(path).starts_with(".lock")), "{:?}", layers(&host));
    }
    // What is here is never replaced: not even by what is right.
    let host = Host::new();
    let (own, _) = host.step("two");
    let key = own.key.clone();
    let other = Record { layer: host.step("mine").0.layer, ..own };
    host.cache.put(other.clone()).unwrap();
    let cache = host.store.cache().with_sources(vec![Source::open(dir.path()).unwrap()]);
    assert_eq!(cache.lookup(&key).unwrap().layer, other.layer);
}

#[test]
fn an_image_carries_the_cache_of_its_steps() {
    let host = Host::new();
    let ((one, first), (two, second)) = (host.step("one"), host.step("two"));
    let build = host.store.building().unwrap();
    let layers: Vec<_> = [&first, &second]
        .map(|layer| (build.blob(&layer.diff_id, Compression::default()).unwrap(), layer.diff_id.clone()))
        .into();
    let (three, _) = host.step("three");
    let keys = [one.key.clone(), two.key.clone(), three.key.clone()];
    let mut config = ImageConfig { os: "linux".into(), architecture: "amd64".into(), ..ImageConfig::default() };
    config.cache = Some(host.cache.shared(&keys));
    build.finish(config, &layers, &["app:1".parse().unwrap()]).unwrap();
    let mut bytes = Vec::new();
    umiak_images::archive::save(&host.store, &["app:1".to_owned()], &mut bytes).unwrap();

    let other = Host::new();
    let platform = umiak_images::platform::Platform::new("linux", "amd64", None);
    let silent = umiak_images::progress::Silent;
    umiak_images::archive::load(&other.store, bytes.as_slice(), &platform, &silent).unwrap();
    let image = other.store.resolve("app:1").unwrap();
    let cache = other.store.cache().with_sources(Source::of_image(&image).into_iter().collect());
    assert_eq!(cache.lookup(&two.key).unwrap().layer, two.layer);
    assert_eq!(cache.lookup(&one.key).unwrap().layer, one.layer);
    assert!(cache.lookup(&three.key).is_none(), "its layer is not the image's");
    // What another tool wrote there harms nobody.
    let text =
        r#"{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]},"org.umiak.cache.v1":7}"#;
    assert_eq!(ImageConfig::parse(text.as_bytes()).unwrap().cache, None);
}
