//! Images that attack whoever loads or pulls them, made here byte by byte. Each
//! goes the whole way into a store that lies beside a canary tree, is mounted as
//! a container would have it, and is looked through by the check: what unpacking
//! makes of an archive and what the check expects of it must be the same.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs, reason = "a test fails by panicking")]

#[allow(dead_code, missing_docs)]
#[path = "../registry/support/fake.rs"]
mod fake;
#[path = "../harness/mod.rs"]
mod harness;

mod breakouts;

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use breakouts::{Breakout, Expect, hardlinks, meets, overrides_and_whiteouts, scopings, symlinks};
use fake::{Fake, Reply};
use harness::{Blob, TestImage, archive, dir, file, platform, snapshot};
use umiak_images::archive::{ArchiveError, load};
use umiak_images::auth::Credentials;
use umiak_images::check::check;
use umiak_images::digest::Digest;
use umiak_images::manifest::{OCI_LAYER_GZIP, OCI_LAYER_ZSTD, OCI_MANIFEST};
use umiak_images::progress::Silent;
use umiak_images::pull::{Pulled, pull};
use umiak_images::reference::Reference;
use umiak_images::registries::Registries;
use umiak_images::registry::{Client, Policy};
use umiak_images::store::{Image, Store};
use umiak_images::unpack::{Limits, unpack};

/// No hostile image may keep anybody busy for longer.
const BOUND: Duration = Duration::from_secs(60);

/// What something costs: the processor's time, for a machine that is busy with other work has less of it to give; and by
/// the clock, in case it waits for something that does not come.
struct Cost {
    began: Instant,
    before: Duration,
}

impl Cost {
    fn new() -> Self {
        Self { began: Instant::now(), before: Self::of_process() }
    }

    fn of_process() -> Duration {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
        Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.try_into().unwrap())
    }

    fn is_within(&self, bound: Duration) {
        let (cost, took) = (Self::of_process().saturating_sub(self.before), self.began.elapsed());
        assert!(cost < bound && took < bound * 10, "cost {cost:?}, took {took:?}");
    }
}

/// A store, and beside it what must stay as it is.
struct Host {
    dir: tempfile::TempDir,
    before: BTreeMap<Vec<u8>, String>,
}

impl Host {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let canary = dir.path().join("canary");
        fs::create_dir_all(canary.join("etc")).unwrap();
        fs::write(canary.join("etc/passwd"), "host").unwrap();
        fs::write(canary.join("perm400"), "...").unwrap();
        fs::set_permissions(canary.join("perm400"), fs::Permissions::from_mode(0o400)).unwrap();
        fs::write(canary.join("other"), "...").unwrap();
        let before = snapshot(&canary);
        Self { dir, before }
    }

    fn canary(&self) -> PathBuf {
        self.dir.path().join("canary")
    }

    fn store(&self) -> Store {
        Store::open(&self.dir.path().join("data")).unwrap()
    }

    fn load(&self, bytes: &[u8]) -> Result<Image, ArchiveError> {
        let cost = Cost::new();
        let store = self.store();
        let result = load(&store, bytes, &platform(), &Silent);
        cost.is_within(BOUND);
        self.untouched();
        Ok(store.resolve(result?[0].id.as_str()).unwrap())
    }

    /// Nothing has changed outside, and nothing half made lies about inside.
    fn untouched(&self) {
        assert_eq!(snapshot(&self.canary()), self.before, "the canary has changed");
        let mut beside: Vec<_> = fs::read_dir(self.dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        beside.sort();
        assert_eq!(beside, ["canary", "data"]);
        let report = check(&self.store(), &|_, _| {}).unwrap();
        assert!(report.is_clean(), "{report:#?}");
        let mut left = report.leftovers;
        left.retain(|left| !left.path.file_name().unwrap().to_str().unwrap().starts_with(".partial-"));
        assert!(left.is_empty(), "{left:?}");
    }

    /// Mounts an image as a container has it, in a mount namespace of its own, and looks at its root.
    fn mounted(&self, image: &Image, look: impl FnOnce(&Path) + Send) {
        let mut lower = self.store().layer_dirs(image).unwrap();
        // overlayfs takes two at least, unless there is an upper one.
        let (upper, merged) = (self.at("upper"), self.at("merged"));
        let lower = lower.drain(..).map(|dir| dir.display().to_string()).collect::<Vec<_>>().join(":");
        std::thread::scope(|scope| {
            let looked = scope.spawn(|| {
                use nix::mount::{MsFlags, mount};
                use nix::sched::{CloneFlags, unshare};
                let none: Option<&str> = None;
                unshare(CloneFlags::CLONE_FS | CloneFlags::CLONE_NEWNS).unwrap();
                mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
                // Upper directories on an overlayfs are refused by it.
                mount(Some("upper"), &upper, Some("tmpfs"), MsFlags::empty(), none).unwrap();
                fs::create_dir(upper.join("upper")).unwrap();
                fs::create_dir(upper.join("work")).unwrap();
                let (up, down) = (upper.join("upper"), upper.join("work"));
                let options = format!("lowerdir={lower},upperdir={},workdir={}", up.display(), down.display());
                mount(Some("overlay"), &merged, Some("overlay"), MsFlags::empty(), Some(options.as_str())).unwrap();
                // Absolute symlinks lead where they lead in a container. The root directory is this thread's own.
                nix::unistd::chroot(&merged).unwrap();
                look(Path::new("/"));
            });
            looked.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        });
        for dir in ["upper", "merged"] {
            fs::remove_dir(self.dir.path().join(dir)).unwrap();
        }
        self.untouched();
    }

    fn at(&self, name: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        fs::create_dir(&path).unwrap();
        path
    }
}

/// An image as an archive of its OCI layout; `change` may replace files of it.
fn packed(image: &TestImage, change: impl Fn(&str, Vec<u8>) -> Option<Vec<u8>>) -> Vec<u8> {
    let index = format!(
        r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"{OCI_MANIFEST}","digest":"{}","size":{}}}]}}"#,
        image.digest(),
        image.manifest.len()
    );
    let mut files = vec![
        ("oci-layout".to_owned(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec()),
        ("index.json".to_owned(), index.into_bytes()),
    ];
    for bytes in image.layers.iter().map(|layer| &layer.bytes).chain([&image.manifest, &image.config]) {
        files.push((format!("blobs/sha256/{}", Digest::of(bytes).hex()), bytes.clone()));
    }
    let entries = files.into_iter().filter_map(|(name, bytes)| Some(file(&name, change(&name, bytes)?)));
    archive(entries.collect::<Vec<_>>())
}

fn whole(image: &TestImage) -> Vec<u8> {
    packed(image, |_, bytes| Some(bytes))
}

fn carry_out(host: &Host, breakout: Breakout) {
    let Breakout { name, below, layer, expect } = breakout;
    let mut layers = Vec::new();
    if !below.is_empty() {
        layers.push(Blob::gzip(&archive(below)));
    }
    layers.push(Blob::gzip(&archive(layer)));
    match (host.load(&whole(&TestImage::new(layers))), expect.as_slice()) {
        (Err(error), [Expect::Refused(words)]) => {
            let text = chain(&error);
            assert!(text.contains(words), "{name}: {text}");
            assert!(host.store().list().unwrap().images.is_empty());
        }
        (Ok(_), [Expect::Refused(_)]) => panic!("{name} is not refused"),
        (Ok(image), _) => host.mounted(&image, |root| expect.iter().for_each(|expect| meets(root, expect, name))),
        (Err(error), _) => panic!("{name}: {}", chain(&error)),
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        text = format!("{text}: {next}");
        cause = next.source();
    }
    text
}

#[test]
fn no_layer_breaks_out() {
    let host = Host::new();
    let named = [symlinks(), hardlinks(&host.canary()), overrides_and_whiteouts()].into_iter().flatten();
    let named: Vec<Breakout> = named.collect();
    assert_eq!(named.len(), 34, "all named cases are there");
    for breakout in named.into_iter().chain(scopings()) {
        carry_out(&Host { dir: Host::new().dir, before: BTreeMap::new() }.fresh(), breakout);
    }
}

impl Host {
    /// The canary as it is now.
    fn fresh(mut self) -> Self {
        self.before = snapshot(&self.canary());
        self
    }
}

/// How a registry serves an image; `change` may alter what it answers for a digest.
fn serve(image: &TestImage, change: impl Fn(&str, Vec<u8>) -> Vec<u8> + Send + Sync + 'static) -> Fake {
    let image = image.clone();
    Fake::start(move |request| {
        if request.path.contains("/manifests/") {
            let hex = image.digest().hex().to_owned();
            return Reply::ok(change(&hex, image.manifest.clone())).header("Content-Type", OCI_MANIFEST);
        }
        let blobs = image.layers.iter().map(|layer| &layer.bytes).chain([&image.config]);
        let mut blobs = blobs.map(|bytes| (Digest::of(bytes), bytes));
        let found = blobs.find(|(digest, _)| request.path.ends_with(digest.hex()));
        found.map_or(Reply::new(404), |(digest, bytes)| Reply::blob(request, &change(digest.hex(), bytes.clone())))
    })
}

fn get(host: &Host, fake: &Fake, name: &str) -> Result<Pulled, umiak_images::pull::PullError> {
    let text = format!("[registry.\"{}\"]\ninsecure_http = true\n", fake.host());
    let registries = Registries::parse(&text, Path::new("registries.toml")).unwrap();
    let policy = Policy { retries: 1, first_delay: Duration::from_millis(5), ..Policy::default() };
    let client = Client::with_policy(registries, Credentials::none(), "umiak-test", policy).unwrap();
    let reference: Reference = format!("{}/app{name}", fake.host()).parse().unwrap();
    let cost = Cost::new();
    let result = pull(&host.store(), &client, &reference, &platform(), &Silent);
    cost.is_within(BOUND);
    host.untouched();
    result
}

/// Every blob of an image altered in every way, one at a time, in a registry and in an archive: it fails and names it.
#[test]
fn every_altered_blob_is_refused_by_name() {
    type Alter = fn(Vec<u8>) -> Vec<u8>;
    let alterations: [(&str, Alter); 5] = [
        ("flipped", |mut bytes| {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            bytes
        }),
        ("cut", |mut bytes| {
            bytes.pop();
            bytes
        }),
        ("longer", |mut bytes| {
            bytes.push(b' ');
            bytes
        }),
        ("empty", |_| Vec::new()),
        ("compressed anew", |bytes| {
            use std::io::Write as _;
            let mut plain = Vec::new();
            if flate2::read::GzDecoder::new(&bytes[..]).read_to_end(&mut plain).is_err() {
                return b"{}".to_vec();
            }
            // The same content and diff id, other bytes.
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
            encoder.write_all(&plain).unwrap();
            let mut bytes = encoder.finish().unwrap();
            bytes[9] ^= 1;
            bytes
        }),
    ];
    let one = |name: &str| Blob::gzip(&archive([file(name, name)]));
    let image = TestImage::new(vec![one("one"), one("two"), one("three")]);
    let mut blobs: Vec<Digest> = image.layers.iter().map(|layer| layer.descriptor().digest).collect();
    blobs.extend([image.digest(), image.id()]);
    for digest in blobs {
        for (how, alter) in alterations {
            let hex = digest.hex().to_owned();
            let changed = |name: &str, bytes| if name.ends_with(&hex) { alter(bytes) } else { bytes };
            let host = Host::new();
            let error = host.load(&packed(&image, |name, bytes| Some(changed(name, bytes)))).unwrap_err();
            assert!(chain(&error).contains(&hex), "{how}: {}", chain(&error));
            assert!(host.store().list().unwrap().images.is_empty());
            // The same with the blob left out.
            let without = packed(&image, |name, bytes| (!name.ends_with(&hex)).then_some(bytes));
            let error = host.load(&without).unwrap_err();
            assert!(chain(&error).contains(&hex), "left out: {}", chain(&error));

            let hex = digest.hex().to_owned();
            let (host, wanted) = (Host::new(), hex.clone());
            let fake = serve(&image, move |name, bytes| if name == wanted { alter(bytes) } else { bytes });
            let error = get(&host, &fake, &format!("@{}", image.digest())).unwrap_err();
            assert!(chain(&error).contains(&hex), "{how}: {}", chain(&error));
            assert!(host.store().list().unwrap().images.is_empty());
        }
    }
}

/// Texts in the place of digests, wherever a document has one.
#[test]
fn digests_are_never_paths() {
    let good = "aa".repeat(32);
    let bad = [
        "sha256:../../../../etc/passwd".to_owned(),
        "../../etc/passwd".to_owned(),
        format!("sha256:{}", good.to_uppercase()),
        "sha256:abc".to_owned(),
        format!("md5:{good}"),
        format!("sha256:{good}/../x"),
        format!("sha256:{good}\u{0}"),
        format!("SHA256:{good}"),
        String::new(),
    ];
    let image = TestImage::new(vec![Blob::gzip(&archive([file("a", "1")]))]);
    let layer = image.layers[0].descriptor().digest.to_string();
    for text in bad {
        let quoted = serde_json::to_string(&text).unwrap();
        let replaced = |bytes: &[u8], digest: &str| {
            let text = String::from_utf8(bytes.to_vec()).unwrap();
            text.replace(&format!("\"{digest}\""), &quoted).into_bytes()
        };
        let mut images = Vec::new();
        for digest in [&layer, image.id().as_str()] {
            images.push(TestImage { manifest: replaced(&image.manifest, digest), ..image.clone() });
        }
        let config = replaced(&image.config, image.layers[0].diff_id.as_str());
        let manifest = String::from_utf8(image.manifest.clone()).unwrap();
        let manifest = manifest
            .replace(image.id().as_str(), Digest::of(&config).as_str())
            .replace(&format!("\"size\":{}", image.config.len()), &format!("\"size\":{}", config.len()));
        images.push(TestImage { config, manifest: manifest.into_bytes(), ..image.clone() });
        for evil in images {
            let host = Host::new();
            assert!(host.load(&whole(&evil)).is_err(), "{text:?}");
            let fake = serve(&evil, |_, bytes| bytes);
            assert!(get(&host, &fake, ":1").is_err(), "{text:?}");
            assert!(host.store().list().unwrap().images.is_empty());
        }
        // In the index of the archive, and in that of the store itself.
        let host = Host::new();
        let index = format!(
            r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"{OCI_MANIFEST}","digest":{quoted},"size":1}}]}}"#
        );
        let evil =
            packed(&image, |name, bytes| Some(if name == "index.json" { index.clone().into_bytes() } else { bytes }));
        assert!(host.load(&evil).is_err(), "{text:?}");
        let host = Host::new();
        let store = host.store();
        fs::write(store.images().join("index.json"), &index).unwrap();
        assert!(store.list().unwrap().images.is_empty());
        assert!(store.resolve(&text).is_err());
        let _ = check(&store, &|_, _| {}).unwrap();
        store.prune(true, &|_| Vec::new()).unwrap();
        assert_eq!(snapshot(&host.canary()), host.before);
    }
}

/// Documents that are two things at once, or something else than their type says.
#[test]
fn confused_documents_are_refused() {
    let image = TestImage::new(vec![Blob::gzip(&archive([file("a", "1")]))]);
    let manifest = String::from_utf8(image.manifest.clone()).unwrap();
    let both = manifest.replacen('{', r#"{"manifests":[],"#, 1);
    let index_type = manifest.replace(OCI_MANIFEST, "application/vnd.oci.image.index.v1+json");
    let none = manifest.replacen("layers", "layerz", 1);
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let huge = " ".repeat(10 << 20);
    for evil in [both, index_type, none, deep, huge, "null".into(), "{}".into(), "\u{feff}{}".into()] {
        let evil = TestImage { manifest: evil.into_bytes(), ..image.clone() };
        let host = Host::new();
        assert!(host.load(&whole(&evil)).is_err());
        assert!(get(&host, &serve(&evil, |_, bytes| bytes), ":1").is_err());
        assert!(host.store().list().unwrap().images.is_empty());
    }
}

/// Streams that end too early, go on too long, or never add up: refused soon, and nothing of them stays.
#[test]
fn broken_streams_end_soon() {
    let tar = archive([dir("d"), file("d/f", vec![7; 100_000]), file("g", "1")]);
    let blob = |bytes: Vec<u8>, media_type, diff_id| Blob { bytes, media_type, diff_id };
    let gz = |tar: &[u8]| harness::gzip(tar);
    let cut = &tar[..50_000];
    let mut garbage = gz(&tar);
    garbage.extend_from_slice(&[0xff; 100_000]);
    let mut members = Vec::new();
    for part in tar.chunks(777) {
        members.extend(gz(part));
    }
    let mut frames = zstd::encode_all(&tar[..], 1).unwrap();
    frames.extend_from_slice(&[0x50, 0x2a, 0x4d, 0x18, 0xff, 0xff, 0xff, 0xff]);
    let id = Digest::of(&tar);
    let cases = [
        ("a cut archive", blob(gz(cut), OCI_LAYER_GZIP, Digest::of(cut)), false),
        ("garbage after it", blob(garbage, OCI_LAYER_GZIP, id.clone()), false),
        ("cut in the trailer", blob(gz(&tar)[..gz(&tar).len() - 4].to_vec(), OCI_LAYER_GZIP, id.clone()), false),
        ("no archive", blob(gz(b"hello"), OCI_LAYER_GZIP, Digest::of(b"hello")), false),
        ("a skippable frame without end", blob(frames, OCI_LAYER_ZSTD, id.clone()), false),
        (
            "another compression than its type says",
            blob(zstd::encode_all(&tar[..], 1).unwrap(), OCI_LAYER_GZIP, id.clone()),
            true,
        ),
        ("many members", blob(members, OCI_LAYER_GZIP, id.clone()), true),
        ("nothing", blob(gz(b""), OCI_LAYER_GZIP, Digest::of(b"")), true),
    ];
    for (name, evil, fine) in cases {
        let image = TestImage::new(vec![evil.clone()]);
        let host = Host::new();
        assert_eq!(host.load(&whole(&image)).is_ok(), fine, "{name}");
        let host = Host::new();
        assert_eq!(get(&host, &serve(&image, |_, bytes| bytes), ":1").is_ok(), fine, "{name}");
        // A hundred times the same layer, side by side.
        let host = Host::new();
        assert_eq!(host.load(&whole(&TestImage::new(vec![evil; 100]))).is_ok(), fine, "{name}, many times");
    }
}

/// Expands `count` times the same block.
struct Blocks {
    block: [u8; 512],
    left: u64,
    at: usize,
}

impl Read for Blocks {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        if self.left == 0 {
            return Ok(0);
        }
        let count = into.len().min(512 - self.at);
        into[..count].copy_from_slice(&self.block[self.at..self.at + count]);
        self.at += count;
        if self.at == 512 {
            (self.at, self.left) = (0, self.left - 1);
        }
        Ok(count)
    }
}

#[test]
fn any_number_of_entries_is_bounded() {
    let mut block = [0; 512];
    // A name that AUFS keeps for itself: read, and nothing made of it.
    block.copy_from_slice(&archive([file(".wh..wh.x", "")])[..512]);
    let root = tempfile::tempdir().unwrap();
    let cost = Cost::new();
    let open = || std::os::fd::OwnedFd::from(fs::File::open(root.path()).unwrap());
    let stream = |left| std::io::BufReader::with_capacity(1 << 20, Blocks { block, left, at: 0 });
    let done = unpack(stream(1_000_000), open(), &Limits::default()).unwrap();
    assert_eq!(done.entries, 1_000_000);
    assert!(unpack(stream(1 << 40), open(), &Limits { entries: 100_000, ..Limits::default() }).is_err());
    cost.is_within(2 * BOUND);
    assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0);
}

#[test]
fn five_thousand_attributes_are_refused_and_cost_nothing() {
    let entry = (0..5000).fold(file("f", ""), |entry, n| entry.pax(&format!("SCHILY.xattr.user.n{n}"), b"v"));
    let host = Host::new();
    let error = host.load(&whole(&TestImage::new(vec![Blob::gzip(&archive([entry]))]))).unwrap_err();
    assert!(chain(&error).contains("5000 extended attributes"), "{}", chain(&error));
}

/// A few hundred kB of zstd frames that hold 10 GiB of zeros, and one file that says it is that large.
#[test]
fn a_bomb_is_refused_before_it_fills_the_disk() {
    let mut header = Vec::new();
    harness::raw(&mut header, b"zeros", b'0', b"", b"", |header| header.set_size(10 << 30));
    let frame = |bytes: &[u8]| zstd::encode_all(bytes, 1).unwrap();
    let mut bomb = frame(&header);
    let zeros = frame(&vec![0; 16 << 20]);
    (0..640).for_each(|_| bomb.extend_from_slice(&zeros));
    assert!(bomb.len() < 1 << 20, "{}", bomb.len());
    let evil = Blob { bytes: bomb, media_type: OCI_LAYER_ZSTD, diff_id: Digest::of(b"whatever") };
    let archive = whole(&TestImage::new(vec![evil]));
    let place = tempfile::tempdir().unwrap();
    std::thread::scope(|scope| {
        let on_small_disk = scope.spawn(|| {
            use nix::mount::{MsFlags, mount};
            use nix::sched::{CloneFlags, unshare};
            let none: Option<&str> = None;
            unshare(CloneFlags::CLONE_FS | CloneFlags::CLONE_NEWNS).unwrap();
            mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
            mount(Some("small"), place.path(), Some("tmpfs"), MsFlags::empty(), Some("size=64m")).unwrap();
            let store = Store::open(place.path()).unwrap();
            let cost = Cost::new();
            let error = load(&store, &archive[..], &platform(), &Silent).unwrap_err();
            assert!(chain(&error).contains("no space for \"zeros\""), "{}", chain(&error));
            cost.is_within(BOUND);
            // All that it had taken is free again.
            let fs = rustix::fs::statvfs(place.path()).unwrap();
            assert!((fs.f_blocks - fs.f_bfree) * fs.f_frsize < 1 << 20);
        });
        on_small_disk.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
}
