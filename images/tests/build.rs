//! Directories that become layers, and the images of builds: what is packed is
//! what was there, and nothing that a killed build or a power cut left half
//! made is ever believed.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs, reason = "a test fails by panicking")]

mod harness;

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use harness::{Blob, TestImage, archive, dir, file, platform, snapshot};
use rustix::fs::{CWD, FileType, Mode, XattrFlags};
use umiak_images::archive::{load, save};
use umiak_images::config::ImageConfig;
use umiak_images::digest::Digest;
use umiak_images::pack::{Adopted, Building, Compression, PackError};
use umiak_images::progress::Silent;
use umiak_images::reference::Reference;
use umiak_images::store::{Image, ImageId, Store, StoreError};

const EMPTY: &str = "sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef";
const COMPRESSIONS: [Compression; 3] =
    [Compression::None, Compression::Gzip { level: 4 }, Compression::Zstd { level: 3 }];

struct Host {
    root: tempfile::TempDir,
    store: Store,
}

impl Host {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        Self { store: Store::open(root.path()).unwrap(), root }
    }

    fn assert_no_leftovers(&self) {
        for dir in [self.store.layers(), self.store.images(), &self.store.images().join("blobs/sha256")] {
            let names = names(dir);
            let left: Vec<_> = names
                .iter()
                .filter(|name| (name.starts_with('.') && !name.ends_with(".lock")) || name.ends_with(".unsynced"))
                .collect();
            assert!(left.is_empty(), "{left:?} in {}", dir.display());
        }
    }

    /// All marks speak of another boot, as after a power cut.
    fn reboot(&self) {
        for dir in [self.store.layers(), &self.store.images().join("blobs/sha256")] {
            for name in names(dir).iter().filter(|name| name.contains("unsynced")) {
                fs::write(dir.join(name), "00000000-0000-0000-0000-000000000000 1\n").unwrap();
            }
        }
    }
}

fn names(dir: &Path) -> Vec<String> {
    fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

fn nobody(_: &ImageId) -> Vec<String> {
    Vec::new()
}

fn config() -> ImageConfig {
    ImageConfig { os: "linux".into(), architecture: "amd64".into(), ..ImageConfig::default() }
}

fn name(text: &str) -> Reference {
    text.parse().unwrap()
}

/// A layer whose files are written by `fill`.
fn layer(build: &Building<'_>, epoch: Option<i64>, fill: impl FnOnce(&Path)) -> Adopted {
    let scratch = build.scratch().unwrap();
    fill(&scratch.upper());
    build.adopt(&scratch.upper(), epoch).unwrap()
}

fn finish(build: &Building<'_>, layers: &[&Adopted], compression: Compression, name: &str) -> Image {
    let layers: Vec<_> =
        layers.iter().map(|layer| (build.blob(&layer.diff_id, compression).unwrap(), layer.diff_id.clone())).collect();
    build.finish(config(), &layers, &[name.parse().unwrap()]).unwrap()
}

/// What is in a tree but for inode numbers, and times to the second.
fn tree(root: &Path) -> Vec<String> {
    let line = |(name, line): (&Vec<u8>, &String)| {
        let mut words: Vec<&str> = line.split(' ').collect();
        words.remove(4);
        // A whiteout's time means nothing.
        words[3] = if line.ends_with("device 0") { "" } else { words[3].split('.').next().unwrap() };
        format!("{} {}", String::from_utf8_lossy(name), words.join(" "))
    };
    snapshot(root).iter().filter(|(name, _)| !name.is_empty()).map(line).collect()
}

fn set(path: &Path, name: &str, value: &[u8]) {
    rustix::fs::lsetxattr(path, name, value, XattrFlags::empty()).unwrap();
}

fn attributes(path: &Path) -> Vec<String> {
    let mut names = vec![0; 4096];
    let length = rustix::fs::llistxattr(path, &mut names).unwrap();
    let names = names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty());
    names.map(|name| String::from_utf8_lossy(name).into_owned()).filter(|name| name != "security.selinux").collect()
}

fn whiteout(path: &Path) {
    rustix::fs::mknodat(CWD, path, FileType::CharacterDevice, Mode::empty(), 0).unwrap();
}

/// One of everything.
fn everything(upper: &Path) {
    fs::create_dir_all(upper.join("d/deep")).unwrap();
    fs::write(upper.join("d/deep/file"), "content").unwrap();
    fs::hard_link(upper.join("d/deep/file"), upper.join("d/other")).unwrap();
    fs::write(upper.join("setuid"), vec![7; 300_000]).unwrap();
    std::os::unix::fs::chown(upper.join("setuid"), Some(70_000), Some(3_000_000)).unwrap();
    fs::set_permissions(upper.join("setuid"), fs::Permissions::from_mode(0o4711)).unwrap();
    symlink("../target", upper.join("link")).unwrap();
    set(&upper.join("d/deep/file"), "user.note", b"kept\0");
    rustix::fs::mknodat(CWD, upper.join("fifo"), FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
    let device = rustix::fs::makedev(1, 3);
    rustix::fs::mknodat(CWD, upper.join("null"), FileType::CharacterDevice, Mode::from_raw_mode(0o666), device)
        .unwrap();
    fs::create_dir(upper.join(format!("{}-long", "n".repeat(200)))).unwrap();
    let sparse = fs::File::create(upper.join("sparse")).unwrap();
    sparse.set_len(8 << 20).unwrap();
    whiteout(&upper.join("gone"));
    fs::create_dir(upper.join("opaque")).unwrap();
    set(&upper.join("opaque"), "trusted.overlay.opaque", b"y");
}

#[test]
fn a_layer_is_what_its_blob_unpacks_to_in_every_compression() {
    for compression in COMPRESSIONS {
        let (host, other) = (Host::new(), Host::new());
        let build = host.store.building().unwrap();
        let adopted = layer(&build, None, everything);
        assert_eq!((adopted.entries, adopted.bytes), (13, 7 + 300_000 + (8 << 20)));
        let image = finish(&build, &[&adopted], compression, "app:1");
        assert_eq!(image.manifest.layers[0].media_type, compression.media_type());
        assert_eq!(image.size, adopted.bytes);
        drop(build);
        host.assert_no_leftovers();
        assert!(umiak_images::check::check(&host.store, &|_, _| {}).unwrap().is_clean());
        let mut bytes = Vec::new();
        save(&host.store, &["app:1".to_owned()], &mut bytes).unwrap();
        load(&other.store, bytes.as_slice(), &platform(), &Silent).unwrap();
        let (here, there) = (host.store.layer_path(&adopted.diff_id), other.store.layer_path(&adopted.diff_id));
        assert_eq!(tree(&here), tree(&there));
        for name in ["d/deep/file", "opaque"] {
            assert_eq!(attributes(&here.join(name)), attributes(&there.join(name)));
        }
        assert_eq!(attributes(&here.join("opaque")), ["trusted.overlay.opaque"]);
        let link = |name: &str| fs::metadata(here.join(name)).unwrap().ino();
        assert_eq!(link("d/deep/file"), link("d/other"));
    }
}

#[test]
fn overlayfs_takes_its_own_attributes_back_and_sockets_go() {
    let host = Host::new();
    let build = host.store.building().unwrap();
    let adopted = layer(&build, None, |upper| {
        fs::create_dir(upper.join("d")).unwrap();
        fs::write(upper.join("d/file"), "1").unwrap();
        symlink("nowhere", upper.join("link")).unwrap();
        for (name, attribute) in [("d", "impure"), ("d/file", "origin"), ("link", "origin"), ("d", "uuid")] {
            set(&upper.join(name), &format!("trusted.overlay.{attribute}"), b"y");
        }
        set(upper, "trusted.overlay.impure", b"y");
        set(&upper.join("d"), "user.overlay.opaque", b"y");
        let _socket = std::os::unix::net::UnixListener::bind(upper.join("d/socket")).unwrap();
        let then = fs::FileTimes::new().set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(77));
        fs::File::open(upper.join("d")).unwrap().set_times(then).unwrap();
        fs::set_permissions(upper, fs::Permissions::from_mode(0o700)).unwrap();
    });
    let path = host.store.layer_path(&adopted.diff_id);
    for name in ["", "d", "d/file", "link"] {
        assert_eq!(attributes(&path.join(name)), [""; 0], "{name}");
    }
    assert!(!path.join("d/socket").exists());
    assert_eq!(fs::metadata(path.join("d")).unwrap().mtime(), 77);
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o755);
    assert_eq!(adopted.entries, 3);
    build.blob(&adopted.diff_id, Compression::default()).unwrap();

    let scratch = build.scratch().unwrap();
    fs::create_dir(scratch.upper().join("d")).unwrap();
    set(&scratch.upper().join("d"), "trusted.overlay.redirect", b"/elsewhere");
    assert!(matches!(build.adopt(&scratch.upper(), None), Err(PackError::Adopt { .. })));
}

#[test]
fn times_after_the_epoch_become_the_epoch_and_the_digest_is_the_same() {
    let host = Host::new();
    let build = host.store.building().unwrap();
    let make = |extra: u64| {
        layer(&build, Some(1_000_000), |upper| {
            everything(upper);
            let time = std::time::UNIX_EPOCH + std::time::Duration::from_millis(1_000_000_000 + extra);
            for name in ["setuid", "d", "d/deep"] {
                let times = fs::FileTimes::new().set_modified(time);
                fs::File::open(upper.join(name)).unwrap().set_times(times).unwrap();
            }
            fs::File::open(upper.join("sparse"))
                .unwrap()
                .set_times(fs::FileTimes::new().set_modified(std::time::UNIX_EPOCH))
                .unwrap();
        })
    };
    let (one, two) = (make(1), make(90_000));
    assert_eq!(one, two);
    let path = host.store.layer_path(&one.diff_id);
    for (name, line) in snapshot(&path) {
        let wanted = if name == b"sparse" { " 0.0 " } else { " 1000000.0 " };
        assert!(line.contains(wanted), "{} {line}", String::from_utf8_lossy(&name));
    }
    let blobs = COMPRESSIONS.map(|compression| build.blob(&one.diff_id, compression).unwrap());
    let host = Host::new();
    let build = host.store.building().unwrap();
    let again = layer(&build, Some(1_000_000), |upper| {
        everything(upper);
        fs::File::open(upper.join("sparse"))
            .unwrap()
            .set_times(fs::FileTimes::new().set_modified(std::time::UNIX_EPOCH))
            .unwrap();
    });
    assert_eq!(again.diff_id, one.diff_id);
    assert_eq!(COMPRESSIONS.map(|compression| build.blob(&one.diff_id, compression).unwrap()), blobs);
}

#[test]
fn an_empty_layer_is_the_known_one() {
    let host = Host::new();
    let build = host.store.building().unwrap();
    let adopted = layer(&build, None, |_| {});
    assert_eq!((adopted.diff_id.as_str(), adopted.entries, adopted.bytes), (EMPTY, 0, 0));
    let image = finish(&build, &[&adopted], Compression::default(), "empty:1");
    assert_eq!(host.store.layer_dirs(&image).unwrap().len(), 1);
}

#[test]
fn the_same_content_is_one_layer_and_one_blob_also_for_many_threads() {
    let host = Host::new();
    let build = host.store.building().unwrap();
    let results: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..6)
            .map(|_| {
                scope.spawn(|| {
                    let adopted =
                        layer(&build, Some(0), |upper| fs::write(upper.join("a"), noise(5, 3 << 20)).unwrap());
                    let blob = build.blob(&adopted.diff_id, Compression::default()).unwrap();
                    (adopted, blob)
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(results.windows(2).all(|pair| pair[0] == pair[1]));
    build.settle().unwrap();
    host.assert_no_leftovers();
    assert_eq!(names(&host.store.images().join("blobs/sha256")).len(), 1);
}

#[test]
fn a_layer_that_was_changed_on_the_disk_is_not_packed() {
    let host = Host::new();
    let build = host.store.building().unwrap();
    let adopted = layer(&build, None, |upper| fs::write(upper.join("a"), "1").unwrap());
    fs::write(host.store.layer_path(&adopted.diff_id).join("a"), "2").unwrap();
    let result = build.blob(&adopted.diff_id, Compression::default());
    assert!(matches!(result, Err(PackError::Changed { .. })), "{result:?}");
    assert!(names(&host.store.images().join("blobs/sha256")).is_empty());
    let missing = build.blob(&Digest::of(b"none"), Compression::default());
    assert!(matches!(missing, Err(PackError::Store(StoreError::MissingLayer { .. }))));
}

#[test]
fn a_layer_that_was_pulled_keeps_the_blob_it_came_in() {
    let host = Host::new();
    let base = TestImage::new(vec![Blob::zstd(&archive([dir("d"), file("d/a", "1")]))]);
    let mut bytes = Vec::new();
    let source = Host::new();
    let layout = tempfile::tempdir().unwrap();
    base.layout(layout.path());
    fs::remove_dir_all(source.store.images()).unwrap();
    harness::run(Command::new("cp").arg("-a").arg(layout.path()).arg(source.store.images()));
    save(&source.store, &[base.id().to_string()], &mut bytes).unwrap();
    load(&host.store, bytes.as_slice(), &platform(), &Silent).unwrap();
    let build = host.store.building().unwrap();
    for compression in COMPRESSIONS {
        let blob = build.blob(&base.layers[0].diff_id, compression).unwrap();
        assert!(host.store.has_layer(&base.layers[0].diff_id));
        assert_eq!(Digest::of(&fs::read(host.store.blob_path(&blob.digest)).unwrap()), blob.digest);
    }
}

#[test]
fn a_removal_leaves_what_a_build_may_count_on() {
    let host = Host::new();
    let build = host.store.building().unwrap();
    let one = layer(&build, None, |upper| fs::write(upper.join("a"), "1").unwrap());
    let image = finish(&build, &[&one], Compression::default(), "app:1");
    host.store.remove("app:1", &nobody, false).unwrap();
    host.store.prune(true, &nobody).unwrap();
    assert!(host.store.has_layer(&one.diff_id));
    let again = finish(&build, &[&one], Compression::default(), "app:2");
    assert_eq!(again.id, image.id);
    drop(build);
    host.store.remove("app:2", &nobody, false).unwrap();
    host.store.prune(true, &nobody).unwrap();
    assert!(!host.store.has_layer(&one.diff_id));
    assert!(names(host.store.layers()).is_empty(), "{:?}", names(host.store.layers()));
}

/// What was not on the disk when the host went down is made, loaded or swept, never used.
#[test]
fn after_a_power_cut_nothing_unsynced_counts() {
    let fill = |upper: &Path| fs::write(upper.join("a"), noise(1, 100_000)).unwrap();
    let cut = || {
        let host = Host::new();
        let build = host.store.building().unwrap();
        let one = layer(&build, Some(0), fill);
        let blob = build.blob(&one.diff_id, Compression::default()).unwrap();
        assert!(host.store.has_layer(&one.diff_id));
        host.reboot();
        drop(build);
        assert!(!host.store.has_layer(&one.diff_id));
        // What the disk really had.
        fs::write(host.store.layer_path(&one.diff_id).join("a"), vec![0; 100_000]).unwrap();
        fs::write(host.store.blob_path(&blob.digest), vec![0; usize::try_from(blob.size).unwrap()]).unwrap();
        (host, one, blob)
    };
    let whole = |host: &Host, one: &Adopted| {
        assert!(host.store.has_layer(&one.diff_id));
        assert_eq!(fs::read(host.store.layer_path(&one.diff_id).join("a")).unwrap(), noise(1, 100_000));
        assert!(umiak_images::check::check(&host.store, &|_, _| {}).unwrap().is_clean());
        host.assert_no_leftovers();
    };
    let (host, one, _) = cut();
    let build = host.store.building().unwrap();
    assert_eq!(layer(&build, Some(0), fill), one);
    finish(&build, &[&one], Compression::default(), "app:1");
    whole(&host, &one);

    let mut bytes = Vec::new();
    save(&host.store, &["app:1".to_owned()], &mut bytes).unwrap();
    let (host, one, _) = cut();
    load(&host.store, bytes.as_slice(), &platform(), &Silent).unwrap();
    whole(&host, &one);

    let (host, one, blob) = cut();
    host.store.prune(false, &nobody).unwrap();
    assert!(!host.store.layer_path(&one.diff_id).exists() && !host.store.blob_path(&blob.digest).exists());
    host.assert_no_leftovers();

    // A mark that was cut short is one of another boot.
    let (host, one, _) = cut();
    let mark = host.store.layers().join(format!("{}.unsynced", one.diff_id.hex()));
    fs::write(mark, "").unwrap();
    assert!(!host.store.has_layer(&one.diff_id));
}

#[test]
fn a_build_that_fails_leaves_its_layers_to_the_next() {
    let host = Host::new();
    let build = host.store.building().unwrap();
    let one = layer(&build, None, |upper| fs::write(upper.join("a"), "1").unwrap());
    let scratch = build.scratch().unwrap();
    fs::write(scratch.upper().join("half"), "").unwrap();
    drop(scratch);
    drop(build);
    host.assert_no_leftovers();
    assert!(host.store.has_layer(&one.diff_id));
}

/// Bytes that do not compress, always the same.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(seed + 1) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    std::iter::repeat_with(&mut next).flatten().take(length).collect()
}

const CHILD: &str = "UMIAK_TEST_BUILD";
const STEPS: u64 = 6;

/// The build that is killed: steps of a layer each, and its blob; what is finished is said.
fn build_all(store: &Store, say: impl Fn(&Digest)) -> Image {
    let build = store.building().unwrap();
    let layers: Vec<_> = (0..STEPS)
        .map(|step| {
            let adopted = layer(&build, Some(0), |upper| {
                for part in 0..20 {
                    fs::write(upper.join(format!("{part}")), noise(step * 100 + part, 20_000)).unwrap();
                }
            });
            say(&adopted.diff_id);
            (build.blob(&adopted.diff_id, Compression::default()).unwrap(), adopted.diff_id)
        })
        .collect();
    build.finish(config(), &layers, &[name("app:1")]).unwrap()
}

#[test]
fn child_that_builds() {
    let Ok(root) = std::env::var(CHILD) else { return };
    build_all(&Store::open(Path::new(&root)).unwrap(), |diff_id| {
        use std::io::Write as _;
        writeln!(std::io::stderr(), "made {diff_id}").unwrap();
    });
}

#[test]
fn a_killed_build_leaves_whole_layers_or_none() {
    let reference = Host::new();
    let wanted = build_all(&reference.store, |_| {});
    let host = Host::new();
    for round in 0..14_u64 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child_that_builds", "--nocapture"])
            .env(CHILD, host.root.path())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
        let made: Vec<String> = lines.by_ref().take(usize::try_from(round % STEPS).unwrap()).collect();
        // Somewhere in the next step.
        let until = std::time::Instant::now() + std::time::Duration::from_micros(round * 1717 % 9000);
        while std::time::Instant::now() < until {
            std::hint::spin_loop();
        }
        child.kill().unwrap();
        child.wait().unwrap();
        for line in made.iter().filter_map(|line| line.strip_prefix("made ")) {
            assert!(host.store.has_layer(&line.parse().unwrap()), "{line}");
        }
        assert_whole(&host);
        if round % 5 == 4 {
            host.store.prune(false, &nobody).unwrap();
            host.assert_no_leftovers();
        }
    }
    let image = build_all(&host.store, |_| {});
    assert_eq!((image.id, image.manifest_digest), (wanted.id, wanted.manifest_digest));
    host.assert_no_leftovers();
    assert!(umiak_images::check::check(&host.store, &|_, _| {}).unwrap().is_clean());
}

/// Every layer and blob that can be seen is what its name says.
fn assert_whole(host: &Host) {
    let build = host.store.building().unwrap();
    let digests = |dir: &Path| -> Vec<Digest> {
        names(dir).iter().filter_map(|name| format!("sha256:{name}").parse().ok()).collect()
    };
    for diff_id in digests(host.store.layers()) {
        assert!(host.store.has_layer(&diff_id));
        // Packed anew, which compares.
        let note = host.store.layers().join(format!("{}.json", diff_id.hex()));
        let text = fs::read_to_string(&note).unwrap();
        fs::remove_file(&note).unwrap();
        build.blob(&diff_id, Compression::None).unwrap();
        fs::write(note, text).unwrap();
    }
    let blobs: PathBuf = host.store.images().join("blobs/sha256");
    for digest in digests(&blobs) {
        let mut bytes = Vec::new();
        fs::File::open(blobs.join(digest.hex())).unwrap().read_to_end(&mut bytes).unwrap();
        assert_eq!(Digest::of(&bytes), digest);
    }
    // What has no name yet is nobody's.
    assert!(!names(host.store.layers()).iter().any(|name| name.starts_with(".build-")));
}

#[test]
fn whiteouts_are_character_devices_again() {
    let host = Host::new();
    let build = host.store.building().unwrap();
    let adopted = layer(&build, None, everything);
    let gone = fs::symlink_metadata(host.store.layer_path(&adopted.diff_id).join("gone")).unwrap();
    assert!(gone.file_type().is_char_device() && gone.rdev() == 0);
}
