//! Pulls from a registry that lies, breaks off or is killed, onto disks that
//! are full or damaged. Nothing that is not whole is ever visible.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs, reason = "a test fails by panicking")]

#[allow(dead_code, missing_docs)]
#[path = "registry/support/fake.rs"]
mod fake;
mod harness;

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use fake::{End, Fake, Reply, Request};
use harness::{Blob, TestImage, archive, dir, file, gzip, platform};
use umiak_images::auth::Credentials;
use umiak_images::digest::Digest;
use umiak_images::layer::{DecodeError, LayerError};
use umiak_images::manifest::{OCI_LAYER_GZIP, OCI_MANIFEST};
use umiak_images::progress::{Event, Progress, Silent};
use umiak_images::pull::{PullError, Pulled, pull, pull_within};
use umiak_images::reference::Reference;
use umiak_images::registries::Registries;
use umiak_images::registry::{Client, Policy};
use umiak_images::store::{ImageId, Store};
use umiak_images::unpack::Limits;

/// Serves an image; `change` may answer in its place.
fn serve(image: &TestImage, change: impl Fn(&Request) -> Option<Reply> + Send + Sync + 'static) -> Fake {
    let image = image.clone();
    Fake::start(move |request| {
        if let Some(reply) = change(request) {
            return reply;
        }
        if request.path.contains("/manifests/") {
            return Reply::ok(image.manifest.clone()).header("Content-Type", OCI_MANIFEST);
        }
        let blobs = image.layers.iter().map(|layer| &layer.bytes).chain([&image.config]);
        let mut blobs = blobs.filter(|bytes| request.path.ends_with(Digest::of(bytes).hex()));
        blobs.next().map_or(Reply::new(404), |bytes| Reply::blob(request, bytes))
    })
}

fn client(host: &str) -> Client {
    let text = format!("[registry.\"{host}\"]\ninsecure_http = true\n");
    let registries = Registries::parse(&text, Path::new("registries.toml")).unwrap();
    let policy = Policy { retries: 2, first_delay: Duration::from_millis(5), ..Policy::default() };
    Client::with_policy(registries, Credentials::none(), "umiak-test", policy).unwrap()
}

fn reference(host: &str) -> Reference {
    format!("{host}/app:1").parse().unwrap()
}

struct Host {
    root: tempfile::TempDir,
}

impl Host {
    fn new() -> Self {
        Self { root: tempfile::tempdir().unwrap() }
    }

    fn store(&self) -> Store {
        Store::open(self.root.path()).unwrap()
    }

    fn pull(&self, host: &str) -> Result<Pulled, PullError> {
        pull(&self.store(), &client(host), &reference(host), &platform(), &Silent)
    }

    /// Nothing can be seen of an image; unfinished blobs may be kept.
    fn assert_nothing_visible(&self) {
        assert!(self.store().list().unwrap().images.is_empty());
        let left: Vec<String> = names(self.store().layers()).into_iter().filter(|name| name.starts_with('.')).collect();
        assert!(left.is_empty(), "{left:?}");
    }

    fn partials(&self) -> Vec<String> {
        let blobs = self.root.path().join("images/blobs/sha256");
        names(&blobs).into_iter().filter(|name| name.starts_with('.')).collect()
    }
}

fn names(dir: &Path) -> Vec<String> {
    std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

fn layer_error(result: Result<Pulled, PullError>) -> LayerError {
    match result.unwrap_err() {
        PullError::Layer { source, .. } => *source,
        other => panic!("{other:?}"),
    }
}

/// Bytes that do not compress, always the same.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    std::iter::repeat_with(&mut next).flatten().take(length).collect()
}

fn large() -> TestImage {
    TestImage::new(vec![Blob::gzip(&archive([dir("d"), file("d/noise", noise(3 << 20)), file("end", "1")]))])
}

#[test]
fn forged_content_is_refused() {
    let image = large();
    let hex = image.layers[0].descriptor().digest.hex().to_owned();
    let forged =
        TestImage::new(vec![Blob::gzip(&archive([dir("d"), file("d/evil", noise(3 << 20)), file("end", "1")]))]);
    let mut bytes = forged.layers[0].bytes.clone();
    bytes.resize(image.layers[0].bytes.len(), 0);
    let fake = serve(&image, move |request| request.path.ends_with(&hex).then(|| Reply::blob(request, &bytes)));
    let host = Host::new();
    let error = layer_error(host.pull(&fake.host()));
    assert!(matches!(error, LayerError::Blob { .. }), "{error:?}");
    host.assert_nothing_visible();
    // A wrong part could never be completed.
    assert!(host.partials().is_empty());
}

#[test]
fn a_flipped_bit_is_refused() {
    let image = large();
    let hex = image.layers[0].descriptor().digest.hex().to_owned();
    let mut bytes = image.layers[0].bytes.clone();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    let fake = serve(&image, move |request| request.path.ends_with(&hex).then(|| Reply::blob(request, &bytes)));
    let host = Host::new();
    assert!(matches!(layer_error(host.pull(&fake.host())), LayerError::Blob { .. }));
    host.assert_nothing_visible();
}

/// As a power cut may leave it: of the length that was written, and partly zeros.
#[test]
fn a_damaged_beginning_is_fetched_again_in_the_same_pull() {
    let image = large();
    let blob = &image.layers[0];
    for (kept, total) in [(0, 1 << 20), (1 << 20, 2 << 20), (1 << 20, blob.bytes.len())] {
        let fake = serve(&image, |_| None);
        let host = Host::new();
        let partial =
            host.root.path().join("images/blobs/sha256").join(format!(".partial-{}", blob.descriptor().digest.hex()));
        drop(host.store());
        let mut left = blob.bytes[..kept].to_vec();
        left.resize(total, 0);
        std::fs::write(partial, left).unwrap();
        host.pull(&fake.host()).unwrap();
        assert_eq!(host.store().list().unwrap().images.len(), 1);
        assert!(host.partials().is_empty());
    }
}

#[test]
fn wrong_sizes_are_refused() {
    let image = large();
    for change in [-1_i64, 1, 1000] {
        let wrong = TestImage::with(image.layers.clone(), |_, manifest| {
            manifest.layers[0].size = manifest.layers[0].size.saturating_add_signed(change);
        });
        let fake = serve(&wrong, |_| None);
        let host = Host::new();
        let error = layer_error(host.pull(&fake.host()));
        assert!(matches!(error, LayerError::Fetch { .. } | LayerError::Blob { .. }), "{error:?}");
        host.assert_nothing_visible();
    }
}

#[test]
fn a_wrong_diff_id_is_refused() {
    let image = TestImage::with(large().layers, |config, _| config.rootfs.diff_ids[0] = Digest::of(b"other"));
    let fake = serve(&image, |_| None);
    let host = Host::new();
    let error = layer_error(host.pull(&fake.host()));
    assert!(matches!(error, LayerError::DiffId { .. }), "{error:?}");
    host.assert_nothing_visible();
}

#[test]
fn layers_and_diff_ids_must_be_as_many() {
    let image = TestImage::with(large().layers, |config, _| config.rootfs.diff_ids.push(Digest::of(b"one more")));
    let host = Host::new();
    assert!(matches!(host.pull(&serve(&image, |_| None).host()), Err(PullError::Config { .. })));
}

/// Layers that are what their digests say, and no good all the same. Each must end quickly.
#[test]
fn damaged_layers_are_refused() {
    let tar = archive([file("a", noise(1 << 20))]);
    let whole = gzip(&tar);
    let mut trailing = whole.clone();
    trailing.extend_from_slice(b"garbage after the end");
    let blob = |bytes: &[u8]| Blob { bytes: bytes.to_vec(), media_type: OCI_LAYER_GZIP, diff_id: Digest::of(&tar) };
    for (name, bytes) in [
        ("cut", &whole[..whole.len() / 2]),
        ("cut in the trailer", &whole[..whole.len() - 3]),
        ("garbage", &trailing),
        ("a header only", &whole[..10]),
    ] {
        let host = Host::new();
        let error = layer_error(host.pull(&serve(&TestImage::new(vec![blob(bytes)]), |_| None).host()));
        assert!(matches!(error, LayerError::Decode { source: DecodeError::Damaged(_), .. }), "{name}: {error:?}");
        host.assert_nothing_visible();
    }
    // What follows the archive's end within the stream counts for the diff id alone.
    let mut padded = tar;
    padded.extend_from_slice(&[7; 100_000]);
    Host::new().pull(&serve(&TestImage::new(vec![Blob::gzip(&padded)]), |_| None).host()).unwrap();
    let cut = archive([file("a", noise(10_000))])[..5000].to_vec();
    let error = layer_error(Host::new().pull(&serve(&TestImage::new(vec![Blob::gzip(&cut)]), |_| None).host()));
    assert!(matches!(error, LayerError::Unpack { .. }), "{error:?}");
}

#[test]
fn bombs_are_refused_before_they_go_off() {
    let zeros = archive([file("zeros", vec![0; 64 << 20])]);
    for blob in [Blob::gzip(&zeros), Blob::zstd(&zeros)] {
        let fake = serve(&TestImage::new(vec![blob]), |_| None);
        for limits in [
            Limits { bytes: 1 << 20, ..Limits::default() },
            Limits { ratio_free: 1 << 20, ratio: 50, ..Limits::default() },
        ] {
            let host = Host::new();
            let (client, name) = (client(&fake.host()), reference(&fake.host()));
            let result = pull_within(&host.store(), &client, &name, &platform(), &Silent, &limits);
            let error = layer_error(result);
            let bomb = |error: &DecodeError| matches!(error, DecodeError::TooLarge { .. } | DecodeError::Ratio { .. });
            assert!(matches!(&error, LayerError::Decode { source, .. } if bomb(source)), "{error:?}");
            host.assert_nothing_visible();
            assert!(host.partials().is_empty());
        }
    }
}

#[test]
fn huge_manifests_are_refused() {
    let fake = serve(&large(), |request| {
        let manifest = || Reply::ok(vec![b' '; 10 << 20]).header("Content-Type", OCI_MANIFEST);
        request.path.contains("/manifests/").then(manifest)
    });
    let host = Host::new();
    assert!(matches!(host.pull(&fake.host()), Err(PullError::Registry { .. })));
    host.assert_nothing_visible();
}

#[test]
fn the_same_layer_twice() {
    let layer = large().layers.remove(0);
    let other = Blob::gzip(&archive([file("other", "")]));
    let image = TestImage::new(vec![layer.clone(), other, layer.clone(), layer]);
    let fake = serve(&image, |_| None);
    let host = Host::new();
    let pulled = host.pull(&fake.host()).unwrap();
    assert_eq!(host.store().layer_dirs(&pulled.image).unwrap().len(), 2);
    assert_eq!(fake.requests(image.layers[0].descriptor().digest.hex()).len(), 1);
}

/// Counts what is downloaded and heard of.
#[derive(Default)]
struct Log(Mutex<Vec<String>>);

impl Progress for Log {
    fn event(&self, event: Event<'_>) {
        if let Event::Retrying { reason, .. } = event {
            self.0.lock().unwrap().push(reason.to_owned());
        }
    }
}

#[test]
fn a_connection_that_breaks_is_taken_up_again() {
    let image = large();
    let hex = image.layers[0].descriptor().digest.hex().to_owned();
    let bytes = image.layers[0].bytes.clone();
    let cut = hex.clone();
    let fake = serve(&image, move |request| {
        (request.path.ends_with(&cut) && request.number == 0)
            .then(|| Reply::blob(request, &bytes).end(End::Cut(1 << 20)))
    });
    let host = Host::new();
    let log = Log::default();
    pull(&host.store(), &client(&fake.host()), &reference(&fake.host()), &platform(), &log).unwrap();
    let requests = fake.requests(&hex);
    assert_eq!(requests.len(), 2);
    assert!(requests[1].range().unwrap() > 0);
    assert_eq!(log.0.lock().unwrap().len(), 1);
}

#[test]
fn two_pulls_share_the_work() {
    let image = large();
    let fake = serve(&image, |_| None);
    let host = Host::new();
    std::thread::scope(|scope| {
        let pulls: Vec<_> = (0..4).map(|_| scope.spawn(|| host.pull(&fake.host()).unwrap())).collect();
        for pull in pulls {
            assert_eq!(pull.join().unwrap().image.id, image.id());
        }
    });
    assert_eq!(fake.requests(image.layers[0].descriptor().digest.hex()).len(), 1);
    assert_eq!(host.store().list().unwrap().images.len(), 1);
    assert!(host.partials().is_empty());
}

const CHILD: &str = "UMIAK_TEST_PULL";

/// Not a test of its own: what the next one runs in a process that it kills.
#[test]
fn child_that_is_killed() {
    let Ok(job) = std::env::var(CHILD) else { return };
    let (root, host) = job.split_once('|').unwrap();
    let _ = pull(&Store::open(Path::new(root)).unwrap(), &client(host), &reference(host), &platform(), &Silent);
}

#[test]
fn a_killed_pull_goes_on_where_it_was() {
    let image = large();
    let descriptor = image.layers[0].descriptor();
    let (hex, bytes) = (descriptor.digest.hex().to_owned(), image.layers[0].bytes.clone());
    let stalled = hex.clone();
    let fake = serve(&image, move |request| {
        (request.path.ends_with(&stalled) && request.number == 0)
            .then(|| Reply::blob(request, &bytes).end(End::Stall(2 << 20)))
    });
    let host = Host::new();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_that_is_killed"])
        .env(CHILD, format!("{}|{}", host.root.path().display(), fake.host()))
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let partial = host.root.path().join(format!("images/blobs/sha256/.partial-{hex}"));
    let deadline = Instant::now() + Duration::from_secs(60);
    while std::fs::metadata(&partial).map_or(0, |meta| meta.len()) < 2 << 20 {
        assert!(Instant::now() < deadline, "the child has not downloaded its part");
        std::thread::yield_now();
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(host.store().list().unwrap().images.is_empty());
    assert!(!host.store().has_layer(&image.layers[0].diff_id));

    let pulled = host.pull(&fake.host()).unwrap();
    assert_eq!(fake.requests(&hex)[1].range(), Some(2 << 20));
    let dirs = host.store().layer_dirs(&pulled.image).unwrap();
    assert_eq!(std::fs::read(dirs[0].join("d/noise")).unwrap(), noise(3 << 20));
    // What the killed process was unpacking goes with the next clean-up.
    host.store().prune(false, &|_: &ImageId| Vec::new()).unwrap();
    host.assert_leftovers_gone();
    assert!(!host.pull(&fake.host()).unwrap().changed);
}

impl Host {
    fn assert_leftovers_gone(&self) {
        assert!(self.partials().is_empty());
        assert!(!names(self.store().layers()).iter().any(|name| name.starts_with('.')));
    }
}

/// Each file of the store harmed in turn; a pull makes it right.
#[test]
fn a_pull_repairs_damage() {
    let image = large();
    let fake = serve(&image, |_| None);
    let (manifest, config, layer) = (image.digest(), image.id(), image.layers[0].descriptor().digest);
    let harms: [fn(&Path); 3] = [
        |path| std::fs::remove_file(path).unwrap(),
        |path| std::fs::OpenOptions::new().write(true).open(path).unwrap().set_len(7).unwrap(),
        |path| {
            let mut bytes = std::fs::read(path).unwrap();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            std::fs::File::create(path).unwrap().write_all(&bytes).unwrap();
        },
    ];
    for digest in [&manifest, &config, &layer] {
        for harm in harms {
            let host = Host::new();
            let store = host.store();
            let pulled = host.pull(&fake.host()).unwrap();
            harm(&store.blob_path(digest));
            if *digest == layer {
                // The layer's blob is looked at when it is needed.
                std::fs::remove_dir_all(store.layer_path(&pulled.image.layers[0])).unwrap();
            }
            host.pull(&fake.host()).unwrap();
            let again = store.resolve(&reference(&fake.host()).to_string()).unwrap();
            assert_eq!(again.id, image.id());
            assert!(store.list().unwrap().damaged.is_empty());
            assert_eq!(store.layer_dirs(&again).unwrap().len(), 1);
            assert_eq!(Digest::of(&std::fs::read(store.blob_path(digest)).unwrap()), *digest);
        }
    }
    let host = Host::new();
    host.pull(&fake.host()).unwrap();
    std::fs::write(host.store().images().join("index.json"), "{").unwrap();
    assert!(host.store().list().is_err());
    host.pull(&fake.host()).unwrap();
    assert_eq!(host.store().list().unwrap().images.len(), 1);
}

/// Runs `test` with a small file system of its own at a directory, in a mount namespace of its own.
fn on_small_disk(megabytes: u32, test: impl FnOnce(&Path) + Send) {
    let place = tempfile::tempdir().unwrap();
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            use nix::mount::{MsFlags, mount};
            use nix::sched::{CloneFlags, unshare};
            unshare(CloneFlags::CLONE_FS | CloneFlags::CLONE_NEWNS).unwrap();
            let none: Option<&str> = None;
            mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
            let size = format!("size={megabytes}m");
            mount(Some("small"), place.path(), Some("tmpfs"), MsFlags::empty(), Some(size.as_str())).unwrap();
            test(place.path());
        });
        thread.join().unwrap();
    });
}

#[test]
fn a_full_disk_is_named_and_nothing_is_left() {
    let image = large();
    let small = TestImage::new(vec![Blob::gzip(&archive([file("a", "1")]))]);
    let (fake, fine) = (serve(&image, |_| None), serve(&small, |_| None));
    // Room for a part of the blob; for the blob and a part of the layer.
    for megabytes in [2, 5] {
        on_small_disk(megabytes, |root| {
            let store = Store::open(root).unwrap();
            let get = |fake: &Fake| pull(&store, &client(&fake.host()), &reference(&fake.host()), &platform(), &Silent);
            let error = layer_error(get(&fake));
            assert!(error.is_disk_full(), "{error:?}");
            let mut text = error.to_string();
            let mut cause: &dyn std::error::Error = &error;
            while let Some(next) = cause.source() {
                text = format!("{text}: {next}");
                cause = next;
            }
            assert!(text.contains("bytes are free") && text.contains(&root.display().to_string()), "{text}");
            assert!(names(store.layers()).is_empty(), "{:?}", names(store.layers()));
            let blobs = names(&root.join("images/blobs/sha256"));
            assert!(!blobs.iter().any(|name| name.starts_with('.')), "{blobs:?}");
            // What fits still works, and so does removal with no byte free.
            let pulled = get(&fine).unwrap();
            let mut fill = std::fs::File::create(root.join("fill")).unwrap();
            while fill.write_all(&[0; 4096]).is_ok() {}
            let nobody = |_: &ImageId| Vec::new();
            store.remove(pulled.image.id.as_str(), &nobody, false).unwrap();
            store.prune(true, &nobody).unwrap();
        });
    }
}

#[test]
fn a_failed_pull_keeps_the_image_that_was_there() {
    let old = TestImage::new(vec![Blob::gzip(&archive([file("a", "old")]))]);
    let new = TestImage::new(vec![Blob::gzip(&archive([file("a", "new")]))]);
    let hex = new.layers[0].descriptor().digest.hex().to_owned();
    let stage = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let (images, at) = ([old.clone(), new.clone()], std::sync::Arc::clone(&stage));
    let fake = Fake::start(move |request| {
        let stage = at.load(std::sync::atomic::Ordering::SeqCst);
        if request.path.contains("/manifests/") {
            return Reply::ok(images[stage.min(1)].manifest.clone()).header("Content-Type", OCI_MANIFEST);
        }
        if stage == 1 && request.path.ends_with(&hex) {
            return Reply::new(404);
        }
        let blobs =
            images.iter().flat_map(|image| image.layers.iter().map(|layer| &layer.bytes).chain([&image.config]));
        let mut blobs = blobs.filter(|bytes| request.path.ends_with(Digest::of(bytes).hex()));
        blobs.next().map_or(Reply::new(404), |bytes| Reply::blob(request, bytes))
    });
    let host = Host::new();
    host.pull(&fake.host()).unwrap();
    let name = reference(&fake.host()).to_string();
    stage.store(1, std::sync::atomic::Ordering::SeqCst);
    assert!(host.pull(&fake.host()).is_err());
    assert_eq!(host.store().resolve(&name).unwrap().id, old.id());
    stage.store(2, std::sync::atomic::Ordering::SeqCst);
    let pulled = host.pull(&fake.host()).unwrap();
    assert!(pulled.changed);
    assert_eq!(host.store().resolve(&name).unwrap().id, new.id());
    // The old one lost its name and can still be had by its id.
    assert!(host.store().resolve(old.id().as_str()).unwrap().names.is_empty());
}
