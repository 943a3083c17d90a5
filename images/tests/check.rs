//! Damage of every kind, to every kind of file of the store: a check finds it,
//! a repair and a pull make it good, and nothing that is whole is touched.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs, reason = "a test fails by panicking")]

#[allow(dead_code, missing_docs)]
#[path = "registry/support/fake.rs"]
mod fake;
mod harness;

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink as make_symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use fake::{Fake, Reply};
use harness::{Blob, TestImage, archive, char_device, dir, file, hardlink, platform, snapshot, symlink};
use umiak_images::archive::load;
use umiak_images::auth::Credentials;
use umiak_images::check::{Action, Mender, Part, Report, check};
use umiak_images::config::ImageConfig;
use umiak_images::digest::Digest;
use umiak_images::manifest::OCI_MANIFEST;
use umiak_images::pack::Compression;
use umiak_images::progress::Silent;
use umiak_images::pull::pull;
use umiak_images::reference::Reference;
use umiak_images::registries::Registries;
use umiak_images::registry::{Client, Policy};
use umiak_images::store::{ImageId, Store};

/// A layer with one of each kind of file, and one above it that hides some of it.
fn image() -> TestImage {
    let sparse = file("sparse", b"abcd").pax("GNU.sparse.map", "8192,4").pax("GNU.sparse.size", "65536");
    let capable =
        file("ping", "elf").pax("SCHILY.xattr.security.capability", b"\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0");
    let lower = [
        dir("etc").mode(0o700).owner(3, 4),
        file("etc/motd", vec![b'm'; 9000]).mode(0o4711).owner(1000, 1001),
        file("etc/empty", "").pax("SCHILY.xattr.user.colour", "blue"),
        hardlink("etc/motd2", "etc/motd"),
        symlink("link", "etc/motd").owner(7, 7),
        char_device("null", 1, 3).mode(0o666),
        file("a/b/c/implied", "x"),
        sparse.pax("GNU.sparse.name", "sparse"),
        capable,
        file("odd \n\u{fc}", "name"),
    ];
    let upper = [file("etc/.wh.empty", ""), dir("a"), file("a/.wh..wh..opq", ""), file("a/new", "y")];
    TestImage::new(vec![Blob::gzip(&archive(lower)), Blob::zstd(&archive(upper))])
}

fn serve(image: &TestImage) -> Fake {
    let image = image.clone();
    Fake::start(move |request| {
        if request.path.contains("/manifests/") {
            return Reply::ok(image.manifest.clone()).header("Content-Type", OCI_MANIFEST);
        }
        let blobs = image.layers.iter().map(|layer| &layer.bytes).chain([&image.config]);
        let mut blobs = blobs.filter(|bytes| request.path.ends_with(Digest::of(bytes).hex()));
        blobs.next().map_or(Reply::new(404), |bytes| Reply::blob(request, bytes))
    })
}

struct Host {
    root: tempfile::TempDir,
    image: TestImage,
    fake: Fake,
}

fn nobody(_: &ImageId) -> Vec<String> {
    Vec::new()
}

impl Host {
    /// A store with one image, pulled.
    fn new() -> Self {
        let image = image();
        let host = Self { root: tempfile::tempdir().unwrap(), fake: serve(&image), image };
        host.pull();
        host
    }

    fn store(&self) -> Store {
        Store::open(self.root.path()).unwrap()
    }

    fn client(&self) -> Client {
        let text = format!("[registry.\"{}\"]\ninsecure_http = true\n", self.fake.host());
        let registries = Registries::parse(&text, Path::new("registries.toml")).unwrap();
        let policy = Policy { retries: 2, first_delay: Duration::from_millis(5), ..Policy::default() };
        Client::with_policy(registries, Credentials::none(), "umiak-test", policy).unwrap()
    }

    fn pull(&self) {
        let reference: Reference = format!("{}/app:1", self.fake.host()).parse().unwrap();
        pull(&self.store(), &self.client(), &reference, &platform(), &Silent).unwrap();
    }

    fn check(&self) -> Report {
        check(&self.store(), &|_, _| {}).unwrap()
    }

    fn mend(&self, report: &Report, in_use: &dyn Fn(&ImageId) -> Vec<String>) -> Vec<Action> {
        let (store, client) = (self.store(), self.client());
        let mender = Mender { store: &store, client: Some(&client), in_use, progress: &Silent };
        let actions = mender.mend(report);
        mender.sweep().unwrap().unwrap();
        actions
    }

    /// As the command does it: until nothing more changes.
    fn repair(&self) -> Report {
        for _ in 0..3 {
            let report = self.check();
            if report.is_clean() {
                break;
            }
            self.mend(&report, &nobody);
        }
        self.check()
    }

    /// Every file that commands read says what it did before.
    fn assert_usable(&self) {
        let store = self.store();
        let found = store.resolve(self.image.id().as_str()).unwrap();
        let dirs = store.layer_dirs(&found).unwrap();
        assert_eq!(dirs.len(), 2);
        assert_eq!(fs::read(dirs[1].join("etc/motd")).unwrap(), vec![b'm'; 9000]);
        assert!(store.list().unwrap().damaged.is_empty());
    }
}

/// Every part of the store that can be harmed.
fn places(host: &Host) -> Vec<(&'static str, PathBuf, Part)> {
    let store = host.store();
    let (lower, upper) = (&host.image.layers[0], &host.image.layers[1]);
    let blob = |digest: Digest| (store.blob_path(&digest), digest);
    let (manifest, manifest_digest) = blob(host.image.digest());
    let (config, config_digest) = blob(host.image.id());
    let (gzip, gzip_digest) = blob(lower.descriptor().digest);
    let (zstd, zstd_digest) = blob(upper.descriptor().digest);
    let note = |layer: &Blob| store.layers().join(format!("{}.json", layer.diff_id.hex()));
    vec![
        ("manifest", manifest, Part::Manifest(manifest_digest)),
        ("config", config, Part::Config(config_digest)),
        ("gzip blob", gzip, Part::Blob(gzip_digest)),
        ("zstd blob", zstd, Part::Blob(zstd_digest)),
        ("layout", store.images().join("oci-layout"), Part::Layout),
        ("index", store.images().join("index.json"), Part::Index),
        ("note", note(lower), Part::Note(lower.diff_id.clone())),
        ("file", store.layer_path(&lower.diff_id).join("etc/motd"), Part::Layer(lower.diff_id.clone())),
        ("file above", store.layer_path(&upper.diff_id).join("a/new"), Part::Layer(upper.diff_id.clone())),
        ("sparse file", store.layer_path(&lower.diff_id).join("sparse"), Part::Layer(lower.diff_id.clone())),
    ]
}

type Harm = fn(&Path);

/// What happens to files of disks that fail, and of those that are tampered with.
const HARMS: [(&str, Harm); 7] = [
    ("deleted", |path| fs::remove_file(path).unwrap()),
    ("emptied", |path| fs::File::create(path).map(drop).unwrap()),
    ("cut", |path| {
        let file = fs::OpenOptions::new().write(true).open(path).unwrap();
        file.set_len(file.metadata().unwrap().len() / 2).unwrap();
    }),
    ("flipped at the beginning", |path| flip(path, 0)),
    ("flipped in the middle", |path| flip(path, usize::MAX)),
    ("replaced by a directory", |path| {
        fs::remove_file(path).unwrap();
        fs::create_dir(path).unwrap();
        fs::write(path.join("x"), "x").unwrap();
    }),
    ("replaced by a pipe", |path| {
        fs::remove_file(path).unwrap();
        nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    }),
];

fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    let at = if at == usize::MAX { bytes.len() / 2 } else { at };
    bytes[at] ^= 1;
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_store_as_it_was_pulled_is_clean() {
    let host = Host::new();
    let report = host.check();
    assert!(report.is_clean() && report.leftovers.is_empty(), "{report:#?}");
    assert_eq!((report.images, report.blobs, report.layers), (1, 4, 2));
    assert!(report.unknown_layers.is_empty());
    // etc motd empty motd2 link null a b c implied sparse ping odd; etc, its whiteout, a, new.
    assert_eq!(report.files, 17);
}

/// Each part harmed in each way: found, and put right by a repair and by a pull.
#[test]
fn whatever_is_harmed_is_found_and_made_good() {
    let pristine = Host::new();
    let mut tried = 0;
    for (number, (what, _, part)) in places(&pristine).into_iter().enumerate() {
        for (how, harm) in HARMS {
            for by_pull in [false, true] {
                let host = Host::new();
                let harmed = places(&host).swap_remove(number).1;
                // Files that are read as a whole by everybody must not be pipes.
                let pipe = how == "replaced by a pipe" && matches!(part, Part::Layout | Part::Index | Part::Note(_));
                // And this one is written again by whoever opens the store.
                let mended = part == Part::Layout && how == "deleted";
                // The middle of a note names a blob: see below.
                let harmless = matches!(part, Part::Note(_)) && how == "flipped in the middle";
                if pipe || mended || harmless {
                    continue;
                }
                harm(&harmed);
                let report = host.check();
                let found = report.problems.iter().any(|problem| problem.part == part);
                assert!(found, "{what} {how}: not found in {report:#?}");
                assert_eq!(report.problems.len(), 1, "{what} {how}: {report:#?}");
                if by_pull {
                    host.pull();
                    // What was not of the store's own making may lie about still.
                    let left = host.check();
                    assert!(left.is_clean(), "{what} {how}, pulled again: {left:#?}");
                } else {
                    let left = host.repair();
                    assert!(left.is_clean() && left.leftovers.is_empty(), "{what} {how}, repaired: {left:#?}");
                }
                host.assert_usable();
                tried += 1;
            }
        }
    }
    assert_eq!(tried, 2 * (10 * 7 - 5));
}

/// What only the comparison of a layer with its blob can tell, each named by its path.
#[test]
fn every_change_within_a_layer_is_named_by_its_path() {
    type Change = fn(&Path);
    let changes: [(&str, &str, Change); 15] = [
        ("/etc/motd", "has the mode", |root| {
            fs::set_permissions(root.join("etc/motd"), fs::Permissions::from_mode(0o711)).unwrap();
        }),
        ("/etc", "belongs to", |root| std::os::unix::fs::chown(root.join("etc"), Some(0), None).unwrap()),
        ("/etc/motd", "has other content", |root| flip(&root.join("etc/motd"), 8999)),
        ("/etc/motd", "has 9001 bytes", |root| fs::write(root.join("etc/motd"), vec![b'm'; 9001]).unwrap()),
        ("/etc/added", "is not of this layer", |root| fs::write(root.join("etc/added"), "").unwrap()),
        ("/a/b/c/implied", "is missing", |root| fs::remove_file(root.join("a/b/c/implied")).unwrap()),
        ("/a/b", "is missing", |root| fs::remove_dir_all(root.join("a/b")).unwrap()),
        ("/a", "has the mode", |root| fs::set_permissions(root.join("a"), fs::Permissions::from_mode(0o777)).unwrap()),
        ("/link", "leads to", |root| {
            fs::remove_file(root.join("link")).unwrap();
            make_symlink("/etc/shadow", root.join("link")).unwrap();
            std::os::unix::fs::lchown(root.join("link"), Some(7), Some(7)).unwrap();
        }),
        ("/link", "belongs to", |root| std::os::unix::fs::lchown(root.join("link"), Some(0), Some(0)).unwrap()),
        ("/null", "is the device", |root| {
            use nix::sys::stat::{Mode, SFlag, makedev, mknod};
            fs::remove_file(root.join("null")).unwrap();
            mknod(&root.join("null"), SFlag::S_IFCHR, Mode::from_bits_truncate(0o666), makedev(1, 1)).unwrap();
            fs::set_permissions(root.join("null"), fs::Permissions::from_mode(0o666)).unwrap();
        }),
        ("/etc/empty", "another value of the attribute user.colour", |root| {
            set_xattr(&root.join("etc/empty"), "user.colour", b"red");
        }),
        ("/etc/empty", "has the attribute user.more", |root| set_xattr(&root.join("etc/empty"), "user.more", b"1")),
        ("/a", "has the attribute trusted.overlay.opaque", |root| {
            set_xattr(&root.join("a"), "trusted.overlay.opaque", b"y");
        }),
        ("/sparse", "has other content", |root| {
            use std::os::unix::fs::FileExt as _;
            let file = fs::OpenOptions::new().write(true).open(root.join("sparse")).unwrap();
            file.write_at(b"!", 20000).unwrap();
        }),
    ];
    for (path, what, change) in changes {
        let host = Host::new();
        let diff_id = host.image.layers[0].diff_id.clone();
        let root = host.store().layer_path(&diff_id);
        let untouched = host.store().layer_path(&host.image.layers[1].diff_id);
        let before = snapshot(&untouched);
        change(&root);
        let report = host.check();
        assert_eq!(report.problems.len(), 1, "{path}: {report:#?}");
        let problem = &report.problems[0];
        assert_eq!(problem.part, Part::Layer(diff_id), "{path}");
        let named = problem.differences.iter().any(|found| found.path == path && found.what.contains(what));
        assert!(named, "{path} {what}: {:#?}", problem.differences);
        assert_eq!(problem.images[0].names, [format!("{}/app:1", host.fake.host())]);
        // Nothing was asked of the registry for it.
        let asked = host.fake.requests("").len();
        assert!(host.repair().is_clean());
        assert_eq!(host.fake.requests("").len(), asked);
        assert_eq!(snapshot(&untouched), before);
        host.assert_usable();
    }
}

fn set_xattr(path: &Path, name: &str, value: &[u8]) {
    rustix::fs::lsetxattr(path, name, value, rustix::fs::XattrFlags::empty()).unwrap();
}

#[test]
fn a_broken_hard_link_and_a_lost_capability_are_found() {
    let host = Host::new();
    let root = host.store().layer_path(&host.image.layers[0].diff_id);
    let bytes = fs::read(root.join("etc/motd2")).unwrap();
    fs::remove_file(root.join("etc/motd2")).unwrap();
    fs::write(root.join("etc/motd2"), bytes).unwrap();
    rustix::fs::lremovexattr(root.join("ping"), "security.capability").unwrap();
    let report = host.check();
    let found: Vec<&str> = report.problems[0].differences.iter().map(|found| found.what.as_str()).collect();
    assert!(found.contains(&"is no longer the same file as its other names"), "{found:?}");
    assert!(found.contains(&"lacks the attribute security.capability"), "{found:?}");
    assert!(host.repair().is_clean());
}

/// What killed commands leave is told apart from damage, and goes with a repair.
#[test]
fn leftovers_are_named_and_removed() {
    let host = Host::new();
    let store = host.store();
    let blobs = store.images().join("blobs/sha256");
    let hex = "ab".repeat(32);
    fs::write(blobs.join(format!(".partial-{hex}")), "half").unwrap();
    fs::write(blobs.join(format!(".damaged-{hex}")), "").unwrap();
    fs::create_dir(store.layers().join(".unpack-0123456789ab-cdef")).unwrap();
    fs::write(store.layers().join(format!(".lock-{hex}")), "").unwrap();
    fs::write(store.layers().join(format!("{hex}.json")), "{}").unwrap();
    fs::create_dir(store.layers().join(format!(".removed-{hex}"))).unwrap();
    fs::create_dir(store.images().join(".load-012345")).unwrap();
    fs::create_dir(store.layers().join(format!(".replaced-00000000-0000-{hex}-abcdef"))).unwrap();
    let report = host.check();
    assert!(report.is_clean(), "{report:#?}");
    assert_eq!(report.leftovers.len(), 8, "{report:#?}");
    host.mend(&report, &nobody);
    assert!(host.check().leftovers.is_empty(), "{:#?}", host.check().leftovers);
    host.assert_usable();
}

/// A layer that a container may have mounted is put aside, not removed, until nobody can use it.
#[test]
fn a_layer_in_use_is_replaced_beside_its_users() {
    let host = Host::new();
    let store = host.store();
    let root = store.layer_path(&host.image.layers[0].diff_id);
    let held = fs::File::open(root.join("etc/motd")).unwrap();
    flip(&root.join("etc/empty").with_file_name("motd"), 5);
    let busy = |_: &ImageId| vec!["web".to_owned()];
    host.mend(&host.check(), &busy);
    let report = host.check();
    assert!(report.is_clean(), "{report:#?}");
    let aside: Vec<&PathBuf> = report.leftovers.iter().map(|left| &left.path).collect();
    assert_eq!(aside.len(), 1);
    assert!(aside[0].join("etc/motd").exists() && held.metadata().is_ok());
    host.mend(&report, &nobody);
    assert!(host.check().leftovers.is_empty());
}

/// Without a registry, what cannot be repaired is dropped only when nobody uses it.
#[test]
fn what_cannot_be_had_again_is_dropped_only_when_unused() {
    for used in [true, false] {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path()).unwrap();
        let image = image();
        load(&store, &layout_archive(&image)[..], &platform(), &Silent).unwrap();
        let blob = store.blob_path(&image.layers[0].descriptor().digest);
        flip(&blob, 100);
        fs::remove_dir_all(store.layer_path(&image.layers[0].diff_id)).unwrap();
        let in_use = |_: &ImageId| if used { vec!["web".to_owned()] } else { Vec::new() };
        let mender = Mender { store: &store, client: None, in_use: &in_use, progress: &Silent };
        let report = check(&store, &|_, _| {}).unwrap();
        assert_eq!(report.problems.len(), 2, "{report:#?}");
        let actions = mender.mend(&report);
        if used {
            let why = actions.iter().filter_map(|action| action.done.as_ref().err());
            assert!(why.clone().any(|why| why.contains("web uses it")), "{actions:?}");
            assert_eq!(store.list().unwrap().images.len(), 1);
        } else {
            assert!(store.list().unwrap().images.is_empty(), "{actions:?}");
            // The damaged blob is nobody's now.
            let report = check(&store, &|_, _| {}).unwrap();
            mender.mend(&report);
            assert!(check(&store, &|_, _| {}).unwrap().is_clean());
        }
    }
}

/// An image whose blob alone is lost runs on, and is kept.
#[test]
fn an_image_that_runs_is_kept_though_its_blob_is_lost() {
    let root = tempfile::tempdir().unwrap();
    let store = Store::open(root.path()).unwrap();
    let image = image();
    load(&store, &layout_archive(&image)[..], &platform(), &Silent).unwrap();
    fs::remove_file(store.blob_path(&image.layers[0].descriptor().digest)).unwrap();
    let mender = Mender { store: &store, client: None, in_use: &nobody, progress: &Silent };
    let actions = mender.mend(&check(&store, &|_, _| {}).unwrap());
    assert!(actions[0].done.as_ref().unwrap_err().contains("cannot be saved or pushed"), "{actions:?}");
    assert_eq!(store.list().unwrap().images.len(), 1);
}

fn layout_archive(image: &TestImage) -> Vec<u8> {
    let layout = tempfile::tempdir().unwrap();
    image.layout(layout.path());
    let mut tar = tar::Builder::new(Vec::new());
    tar.append_dir_all(".", layout.path()).unwrap();
    tar.into_inner().unwrap()
}

/// Names that are lost with the index come back from its copy; without that, the images at least.
#[test]
fn a_lost_index_comes_back() {
    for copy in [true, false] {
        let host = Host::new();
        let store = host.store();
        store.tag(&format!("{}/app:1", host.fake.host()), "example.com/other:2").unwrap();
        fs::remove_file(store.images().join("index.json")).unwrap();
        if !copy {
            fs::remove_file(store.images().join("index.json.copy")).unwrap();
        }
        assert_eq!(host.check().problems.iter().map(|problem| &problem.part).collect::<Vec<_>>(), [&Part::Index]);
        assert!(host.repair().is_clean());
        host.assert_usable();
        assert_eq!(store.resolve("example.com/other:2").is_ok(), copy);
    }
}

/// A single flipped bit in the index is noticed even where it still parses, wherever it is.
#[test]
fn every_flipped_bit_of_the_index_is_noticed() {
    let host = Host::new();
    let path = host.store().images().join("index.json");
    let good = fs::read(&path).unwrap();
    let before = host.store().list().unwrap().images[0].names.clone();
    for at in (0..good.len()).step_by(7) {
        let mut bytes = good.clone();
        bytes[at] ^= 4;
        // White space says nothing.
        if serde_json::from_slice::<serde_json::Value>(&bytes).ok() == serde_json::from_slice(&good).ok() {
            continue;
        }
        fs::write(&path, &bytes).unwrap();
        let report = host.check();
        let in_list = report.problems.iter().any(|problem| problem.part == Part::Index);
        // What is beside the list (its version, other notes) carries no name.
        if in_list {
            assert!(host.repair().is_clean());
            assert_eq!(host.store().list().unwrap().images[0].names, before, "byte {at}");
        } else {
            assert!(report.is_clean());
            assert_eq!(host.store().list().unwrap().images[0].names, before, "byte {at}");
        }
        fs::write(&path, &good).unwrap();
    }
}

/// A flipped bit in a note is found, or changes nothing that anybody counts on.
#[test]
fn every_flipped_bit_of_a_note_is_found_or_harmless() {
    let host = Host::new();
    let diff_id = host.image.layers[0].diff_id.clone();
    let path = host.store().layers().join(format!("{}.json", diff_id.hex()));
    let good = fs::read(&path).unwrap();
    let bytes = host.store().layer_bytes(&diff_id);
    for at in 0..good.len() {
        let mut harmed = good.clone();
        harmed[at] ^= 2;
        fs::write(&path, &harmed).unwrap();
        if host.check().is_clean() {
            assert_eq!(host.store().layer_bytes(&diff_id), bytes, "byte {at}");
        } else {
            assert!(host.repair().is_clean());
        }
    }
}

/// Layers that were made here are packed again when their blob is lost, and those that no image needs are checked too.
#[test]
fn what_was_built_here_is_packed_again() {
    let root = tempfile::tempdir().unwrap();
    let store = Store::open(root.path()).unwrap();
    let build = store.building().unwrap();
    let made = |content: &str| {
        let scratch = build.scratch().unwrap();
        fs::write(scratch.upper().join("file"), content).unwrap();
        build.adopt(&scratch.upper(), None).unwrap().diff_id
    };
    let (kept, cached) = (made("kept"), made("cached"));
    let blob = build.blob(&kept, Compression::default()).unwrap();
    let name = "app:1".parse().unwrap();
    let config = ImageConfig { os: "linux".into(), architecture: "amd64".into(), ..ImageConfig::default() };
    build.finish(config, &[(blob.clone(), kept.clone())], &[name]).unwrap();
    drop(build);
    let look = || check(&store, &|_, _| {}).unwrap();
    let mender = Mender { store: &store, client: None, in_use: &nobody, progress: &Silent };
    let report = look();
    assert!(report.is_clean() && report.leftovers.is_empty(), "{report:#?}");
    assert_eq!(report.layers, 2);
    for harm in [|path: &Path| fs::remove_file(path).unwrap(), |path: &Path| flip(path, 20)] {
        harm(&store.blob_path(&blob.digest));
        assert_eq!(look().problems.len(), 1);
        let actions = mender.mend(&look());
        assert_eq!(actions[0].done, Ok("packed again from its layer".to_owned()));
        assert!(look().is_clean());
    }
    // The directory alone is harmed: it comes back from the blob.
    fs::write(store.layer_path(&kept).join("file"), "other").unwrap();
    mender.mend(&look());
    assert_eq!(fs::read(store.layer_path(&kept).join("file")).unwrap(), b"kept");
    // One of the cache, which nothing but its digest tells about, goes: the next build makes it again.
    fs::write(store.layer_path(&cached).join("file"), "other!").unwrap();
    assert_eq!(look().problems[0].part, Part::Layer(cached.clone()));
    mender.mend(&look());
    mender.sweep().unwrap();
    assert!(!store.has_layer(&cached) && look().is_clean() && look().leftovers.is_empty(), "{:#?}", look());
}
