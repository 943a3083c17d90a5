//! The store: names and ids, removal, clean-up, damage, and archives.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs, reason = "a test fails by panicking")]

mod harness;

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use harness::{Blob, TestImage, archive, dir, file, gzip, platform, run, symlink};
use umiak_images::archive::{ArchiveError, Loaded, load, save};
use umiak_images::digest::Digest;
use umiak_images::manifest::OCI_MANIFEST;
use umiak_images::progress::Silent;
use umiak_images::store::{Image, ImageId, Store, StoreError};

struct Fixture {
    dir: tempfile::TempDir,
    store: Store,
}

impl Fixture {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        Self { store, dir }
    }

    fn load(&self, bytes: &[u8]) -> Result<Vec<Loaded>, ArchiveError> {
        load(&self.store, bytes, &platform(), &Silent)
    }

    /// Loads an image under the given names.
    fn add(&self, image: &TestImage, names: &[&str]) -> Image {
        self.load(&oci_archive(image, names)).unwrap();
        self.store.resolve(image.id().as_str()).unwrap()
    }

    fn blobs(&self) -> usize {
        std::fs::read_dir(self.dir.path().join("images/blobs/sha256")).unwrap().count()
    }

    fn layers(&self) -> usize {
        std::fs::read_dir(self.store.layers()).unwrap().filter(|entry| entry.as_ref().unwrap().path().is_dir()).count()
    }

    fn blob(&self, digest: &Digest) -> std::path::PathBuf {
        self.store.blob_path(digest)
    }

    /// Nothing that was begun and not finished.
    fn assert_no_leftovers(&self) {
        for dir in [self.store.layers(), self.store.images(), &self.store.images().join("blobs/sha256")] {
            for entry in std::fs::read_dir(dir).unwrap() {
                let name = entry.unwrap().file_name().into_string().unwrap();
                assert!(!name.starts_with('.') || name.ends_with(".lock"), "{name} in {}", dir.display());
            }
        }
    }
}

fn nobody(_: &ImageId) -> Vec<String> {
    Vec::new()
}

fn layer(name: &str) -> Blob {
    Blob::gzip(&archive([file(name, name)]))
}

fn plain(name: &str, bytes: &[u8]) -> harness::Entry {
    file(name, bytes)
}

/// An OCI layout as an archive.
fn oci_archive(image: &TestImage, names: &[&str]) -> Vec<u8> {
    let descriptor = |notes: String| {
        let (digest, size) = (image.digest(), image.manifest.len());
        format!(r#"{{"mediaType":"{OCI_MANIFEST}","digest":"{digest}","size":{size}{notes}}}"#)
    };
    let mut manifests: Vec<String> = names
        .iter()
        .map(|name| descriptor(format!(r#","annotations":{{"io.containerd.image.name":"{name}"}}"#)))
        .collect();
    if manifests.is_empty() {
        manifests.push(descriptor(String::new()));
    }
    let index = format!(r#"{{"schemaVersion":2,"manifests":[{}]}}"#, manifests.join(","));
    let mut entries = vec![
        plain("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#),
        plain("index.json", index.as_bytes()),
        dir("blobs"),
    ];
    for bytes in image.layers.iter().map(|layer| &layer.bytes).chain([&image.manifest, &image.config]) {
        entries.push(plain(&format!("blobs/sha256/{}", Digest::of(bytes).hex()), bytes));
    }
    archive(entries)
}

/// As `docker save` before version 25 wrote it; the second layer twice, once as a symlink.
fn docker_archive(image: &TestImage, tars: &[Vec<u8>], tags: &str) -> Vec<u8> {
    let mut entries = Vec::new();
    let mut layers = String::new();
    for (number, tar) in tars.iter().enumerate() {
        let name = format!("{number:064}/layer.tar");
        match tars[..number].iter().position(|other| other == tar) {
            Some(first) => entries.push(symlink(&name, format!("../{first:064}/layer.tar"))),
            None => entries.push(file(&name, tar)),
        }
        write!(layers, "{}\"{name}\"", if number > 0 { "," } else { "" }).unwrap();
    }
    let config = format!("{}.json", image.id().hex());
    entries.push(file(&config, &image.config));
    let list = format!(r#"[{{"Config":"{config}","RepoTags":{tags},"Layers":[{layers}]}}]"#);
    entries.push(file("manifest.json", list));
    entries.push(file("repositories", "{}"));
    archive(entries)
}

#[test]
fn names_ids_and_prefixes() {
    let fixture = Fixture::new();
    let one = fixture.add(&TestImage::new(vec![layer("one")]), &["docker.io/library/app:1"]);
    let two = fixture.add(&TestImage::new(vec![layer("two")]), &["docker.io/library/app:2"]);
    let store = &fixture.store;
    assert_eq!(store.resolve("app:1").unwrap().id, one.id);
    assert_eq!(store.resolve("docker.io/library/app:2").unwrap().id, two.id);
    assert_eq!(store.resolve(one.id.as_str()).unwrap().id, one.id);
    assert_eq!(store.resolve(&one.id.hex()[..20]).unwrap().id, one.id);
    assert!(matches!(store.resolve("app"), Err(StoreError::NotFound { .. })));
    assert!(matches!(store.resolve("APP"), Err(StoreError::NotFound { .. })));
    assert_eq!(store.resolve("app:3").unwrap_err().to_string(), "no such image: app:3");
    // The empty beginning is everybody's; one digit is, after sixteen images more.
    let mut ids = vec![one.id.clone(), two.id];
    for number in 0..16 {
        ids.push(fixture.add(&TestImage::new(vec![layer(&format!("n{number}"))]), &[]).id);
    }
    let digit = ids
        .iter()
        .map(|id| &id.hex()[..1])
        .find(|digit| ids.iter().filter(|id| id.hex().starts_with(digit)).count() > 1);
    let error = store.resolve(digit.unwrap()).unwrap_err();
    assert!(matches!(&error, StoreError::Ambiguous { candidates, .. } if candidates.len() > 1), "{error}");
    assert!(matches!(store.resolve("sha256:"), Err(StoreError::NotFound { .. })));
    assert_eq!(store.list().unwrap().images.len(), 18);
}

#[test]
fn tags_move_and_images_stay() {
    let fixture = Fixture::new();
    let one = fixture.add(&TestImage::new(vec![layer("one")]), &["docker.io/library/app:1"]);
    let two = fixture.add(&TestImage::new(vec![layer("two")]), &["docker.io/library/app:2"]);
    let store = &fixture.store;
    store.tag("app:1", "other/name:x").unwrap();
    assert_eq!(store.resolve("other/name:x").unwrap().names, ["docker.io/library/app:1", "docker.io/other/name:x"]);
    store.tag("app:2", "app:1").unwrap();
    assert_eq!(store.resolve("app:1").unwrap().id, two.id);
    store.tag("app:2", "other/name:x").unwrap();
    // The first image has no name any more, but is there.
    assert_eq!(store.resolve(one.id.as_str()).unwrap().names, [""; 0]);
    assert!(matches!(store.tag("app:1", &format!("a@{}", one.id)), Err(StoreError::TagDigest { .. })));
    assert!(matches!(store.tag("app:1", "No Name"), Err(StoreError::Name { .. })));
    assert!(matches!(store.tag("gone", "a:b"), Err(StoreError::NotFound { .. })));
}

#[test]
fn what_others_need_is_kept() {
    let fixture = Fixture::new();
    let (base, own) = (layer("base"), layer("own"));
    let small = fixture.add(&TestImage::new(vec![base.clone()]), &["docker.io/library/small:1"]);
    let large = fixture.add(&TestImage::new(vec![base.clone(), own]), &["docker.io/library/large:1"]);
    assert_eq!((fixture.blobs(), fixture.layers()), (6, 2));
    let removed = fixture.store.remove("small:1", &nobody, false).unwrap();
    assert_eq!(removed.deleted, Some(small.id));
    assert_eq!((fixture.blobs(), fixture.layers()), (4, 2));
    assert_eq!(fixture.store.layer_dirs(&large).unwrap().len(), 2);
    let removed = fixture.store.remove(large.id.short(), &nobody, false).unwrap();
    assert_eq!(removed.untagged, ["docker.io/library/large:1"]);
    assert!(removed.bytes > 0);
    assert_eq!((fixture.blobs(), fixture.layers()), (0, 0));
    assert!(fixture.store.list().unwrap().images.is_empty());
    fixture.assert_no_leftovers();
}

#[test]
fn images_in_use_are_refused_and_named() {
    let fixture = Fixture::new();
    let image =
        fixture.add(&TestImage::new(vec![layer("one")]), &["docker.io/library/app:1", "docker.io/library/app:2"]);
    let used = |id: &ImageId| if *id == image.id { vec!["web-1".to_owned(), "web-2".to_owned()] } else { Vec::new() };
    let store = &fixture.store;
    // One of several names can go at any time.
    assert_eq!(store.remove("app:2", &used, false).unwrap().deleted, None);
    let error = store.remove("app:1", &used, false).unwrap_err();
    assert_eq!(error.to_string(), "the image app:1 is used by web-1, web-2");
    assert!(store.prune(true, &used).unwrap().deleted.is_empty());
    // By force it loses its name and nothing else.
    let removed = store.remove("app:1", &used, true).unwrap();
    assert_eq!((removed.deleted, removed.untagged.len()), (None, 1));
    assert_eq!(store.layer_dirs(&store.resolve(image.id.as_str()).unwrap()).unwrap().len(), 1);
    assert!(store.prune(false, &used).unwrap().deleted.is_empty());
    assert_eq!(store.prune(false, &nobody).unwrap().deleted, vec![image.id.clone()]);
    assert_eq!((fixture.blobs(), fixture.layers()), (0, 0));
}

#[test]
fn an_id_with_several_names_needs_force() {
    let fixture = Fixture::new();
    let image =
        fixture.add(&TestImage::new(vec![layer("one")]), &["docker.io/library/app:1", "docker.io/library/app:2"]);
    let error = fixture.store.remove(image.id.short(), &nobody, false).unwrap_err();
    assert!(error.to_string().contains("docker.io/library/app:1, docker.io/library/app:2"), "{error}");
    assert_eq!(fixture.store.remove(image.id.short(), &nobody, true).unwrap().untagged.len(), 2);
    assert_eq!(fixture.blobs(), 0);
}

#[test]
fn prune_takes_what_nobody_names() {
    let fixture = Fixture::new();
    fixture.add(&TestImage::new(vec![layer("one")]), &[]);
    let kept = fixture.add(&TestImage::new(vec![layer("two")]), &["docker.io/library/app:2"]);
    let store = &fixture.store;
    let hex = "0".repeat(64);
    for leftover in [format!(".partial-{hex}"), hex.clone()] {
        std::fs::write(store.images().join("blobs/sha256").join(leftover), vec![1; 100_000]).unwrap();
    }
    std::fs::create_dir_all(store.layers().join(".unpack-dead/sub")).unwrap();
    std::fs::create_dir_all(store.layers().join(&hex)).unwrap();
    std::fs::write(store.layers().join(format!("{hex}.json")), "{}").unwrap();
    std::fs::create_dir_all(store.images().join(".load-dead")).unwrap();
    let pruned = store.prune(false, &nobody).unwrap();
    assert_eq!(pruned.deleted.len(), 1);
    assert!(pruned.bytes >= 200_000);
    assert_eq!((fixture.blobs(), fixture.layers()), (3, 1));
    fixture.assert_no_leftovers();
    assert_eq!(store.list().unwrap().images.len(), 1);
    assert_eq!(store.prune(true, &nobody).unwrap().deleted, [kept.id]);
    assert_eq!((fixture.blobs(), fixture.layers()), (0, 0));
}

#[test]
fn an_image_that_containers_use_survives_a_lost_index() {
    let fixture = Fixture::new();
    let image = fixture.add(&TestImage::new(vec![layer("one")]), &["docker.io/library/app:1"]);
    std::fs::remove_file(fixture.store.images().join("index.json")).unwrap();
    let used = |id: &ImageId| if *id == image.id { vec!["web".to_owned()] } else { Vec::new() };
    fixture.store.prune(true, &used).unwrap();
    assert_eq!(fixture.store.layer_dirs(&image).unwrap().len(), 1);
    fixture.store.prune(true, &nobody).unwrap();
    assert_eq!(fixture.layers(), 0);
}

#[test]
fn damage_is_reported_by_name_and_can_be_removed() {
    let test = TestImage::new(vec![layer("one")]);
    type Harm = fn(&Path);
    let harms: [Harm; 3] = [
        |path| std::fs::remove_file(path).unwrap(),
        |path| std::fs::write(path, "").unwrap(),
        |path| {
            let mut bytes = std::fs::read(path).unwrap();
            bytes[10] ^= 1;
            std::fs::write(path, bytes).unwrap();
        },
    ];
    for digest in [test.digest(), test.id()] {
        for harm in harms {
            let fixture = Fixture::new();
            fixture.add(&test, &["docker.io/library/app:1"]);
            let fine = fixture.add(&TestImage::new(vec![layer("fine")]), &["docker.io/library/fine:1"]);
            harm(&fixture.blob(&digest));
            let listing = fixture.store.list().unwrap();
            assert_eq!(listing.images.len(), 1);
            assert_eq!(listing.damaged.len(), 1);
            assert_eq!(listing.damaged[0].names, ["docker.io/library/app:1"]);
            let error = fixture.store.resolve("app:1").unwrap_err();
            assert!(error.is_damage() && error.to_string().contains(digest.hex()), "{error}");
            fixture.store.remove("app:1", &nobody, false).unwrap();
            fixture.store.prune(false, &nobody).unwrap();
            assert_eq!((fixture.blobs(), fixture.layers()), (3, 1));
            // Loading it again repairs it too.
            fixture.add(&test, &["docker.io/library/app:1"]);
            assert_eq!(fixture.store.resolve("fine:1").unwrap().id, fine.id);
        }
    }
}

#[test]
fn a_damaged_index_is_named_and_a_load_puts_it_aside() {
    let fixture = Fixture::new();
    let test = TestImage::new(vec![layer("one")]);
    fixture.add(&test, &["docker.io/library/app:1"]);
    for garbage in ["", "{", "[]", "null", "\0\0\0\0", r#"{"schemaVersion":2}"#] {
        std::fs::write(fixture.store.images().join("index.json"), garbage).unwrap();
        let error = fixture.store.list().unwrap_err();
        assert!(error.to_string().ends_with("index.json is damaged"), "{error}");
        fixture.add(&test, &["docker.io/library/app:1"]);
        assert_eq!(fixture.store.list().unwrap().images.len(), 1);
    }
    // Entries that are not ours are passed over and kept.
    let path = fixture.store.images().join("index.json");
    let text = std::fs::read_to_string(&path).unwrap();
    let odd = text.replacen("\"manifests\": [", "\"manifests\": [ {\"odd\":1}, 7,", 1);
    assert_ne!(odd, text);
    std::fs::write(&path, odd).unwrap();
    fixture.store.tag("app:1", "app:2").unwrap();
    assert!(std::fs::read_to_string(&path).unwrap().contains("\"odd\""));
    assert_eq!(fixture.store.resolve("app:2").unwrap().id, test.id());
}

#[test]
fn missing_layers_are_named_and_made_again() {
    let fixture = Fixture::new();
    let image = fixture.add(&TestImage::new(vec![layer("one"), layer("two")]), &["docker.io/library/app:1"]);
    std::fs::remove_dir_all(fixture.store.layer_path(&image.layers[0])).unwrap();
    let error = fixture.store.layer_dirs(&image).unwrap_err();
    assert!(error.to_string().contains(image.layers[0].hex()), "{error}");
    assert!(fixture.store.ensure_unpacked(&image, &Silent).unwrap());
    assert!(!fixture.store.ensure_unpacked(&image, &Silent).unwrap());
    assert_eq!(fixture.store.layer_dirs(&image).unwrap().len(), 2);
    // With the blob damaged as well, it says so and leaves nothing.
    std::fs::remove_dir_all(fixture.store.layer_path(&image.layers[1])).unwrap();
    let blob = fixture.blob(&image.manifest.layers[1].digest);
    let mut bytes = std::fs::read(&blob).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(&blob, bytes).unwrap();
    assert!(fixture.store.ensure_unpacked(&image, &Silent).is_err());
    fixture.assert_no_leftovers();
}

#[test]
fn duplicate_and_opaque_layers() {
    let fixture = Fixture::new();
    let (one, two) = (layer("one"), layer("two"));
    let twice = fixture.add(&TestImage::new(vec![one.clone(), two.clone(), one.clone()]), &[]);
    let dirs = fixture.store.layer_dirs(&twice).unwrap();
    assert_eq!(dirs, [fixture.store.layer_path(&one.diff_id), fixture.store.layer_path(&two.diff_id)]);
    let opaque = Blob::gzip(&archive([file(".wh..wh..opq", ""), file("a", "")]));
    let hidden = fixture.add(&TestImage::new(vec![one, opaque.clone(), two.clone()]), &[]);
    let dirs = fixture.store.layer_dirs(&hidden).unwrap();
    assert_eq!(dirs, [fixture.store.layer_path(&two.diff_id), fixture.store.layer_path(&opaque.diff_id)]);
}

#[test]
fn saved_images_are_read_by_others_and_by_us() {
    let fixture = Fixture::new();
    let one = fixture.add(&TestImage::new(vec![layer("one")]), &["docker.io/library/app:1", "docker.io/library/app:x"]);
    let two = fixture.add(&TestImage::new(vec![layer("one"), layer("two")]), &["docker.io/owner/app:2"]);
    let path = fixture.dir.path().join("saved.tar");
    let names = ["app:1", "app:x", "owner/app:2"].map(str::to_owned);
    save(&fixture.store, &names, std::fs::File::create(&path).unwrap()).unwrap();

    let list = run(Command::new("tar").arg("-xOf").arg(&path).arg("manifest.json"));
    assert!(list.contains(r#""RepoTags":["app:1","app:x"]"#), "{list}");
    for source in ["oci-archive:PATH:2", "docker-archive:PATH:docker.io/owner/app:2", "docker-archive:PATH:app:x"] {
        let source = source.replace("PATH", &path.display().to_string());
        let to = tempfile::tempdir().unwrap();
        run(Command::new("skopeo").args(["copy", "-q", &source, &format!("dir:{}", to.path().display())]));
    }
    let other = Fixture::new();
    for bytes in [std::fs::read(&path).unwrap(), gzip(&std::fs::read(&path).unwrap())] {
        let loaded = other.load(&bytes).unwrap();
        assert_eq!(loaded[0], Loaded { id: one.id.clone(), names: one.names.clone() });
        assert_eq!(loaded[1], Loaded { id: two.id.clone(), names: two.names.clone() });
    }
    assert_eq!(other.store.resolve("app:x").unwrap().manifest_digest, one.manifest_digest);
    assert_eq!(other.store.layer_dirs(&two).unwrap().len(), 2);
    other.assert_no_leftovers();
    assert!(matches!(save(&fixture.store, &["gone".into()], Vec::new()), Err(ArchiveError::Store(_))));
}

#[test]
fn archives_of_old_docker_and_of_skopeo() {
    let tars = [archive([file("a", "1")]), archive([file("b", "2")]), archive([file("a", "1")])];
    let test = TestImage::new(tars.iter().map(|tar| Blob::gzip(tar)).collect());
    let fixture = Fixture::new();
    let old = docker_archive(&test, &tars, r#"["app:1","registry.example/app:2"]"#);
    let loaded = fixture.load(&old).unwrap();
    assert_eq!(loaded.len(), 1);
    assert_eq!(loaded[0].id, test.id());
    assert_eq!(loaded[0].names, ["docker.io/library/app:1", "registry.example/app:2"]);
    assert_eq!(fixture.store.layer_dirs(&fixture.store.resolve("app:1").unwrap()).unwrap().len(), 2);
    // Without a name it is there by its id.
    let unnamed = Fixture::new();
    unnamed.load(&docker_archive(&test, &tars, "null")).unwrap();
    assert_eq!(unnamed.store.resolve(test.id().short()).unwrap().names, [""; 0]);

    let layout = tempfile::tempdir().unwrap();
    test.layout(layout.path());
    for target in ["docker-archive:PATH:docker.io/library/app:9", "oci-archive:PATH:docker.io/library/app:9"] {
        let path = layout.path().join("archive.tar");
        let _ = std::fs::remove_file(&path);
        let target = target.replace("PATH", &path.display().to_string());
        run(Command::new("skopeo").args(["copy", "-q", &format!("oci:{}:test", layout.path().display()), &target]));
        let fixture = Fixture::new();
        fixture.load(&std::fs::read(&path).unwrap()).unwrap();
        assert_eq!(fixture.store.resolve("app:9").unwrap().layers.len(), 3, "{target}");
    }
}

/// As umoci's hardening tests: each blob changed in turn, once its content and once its size.
#[test]
fn changed_archives_are_refused_and_leave_nothing() {
    let test = TestImage::new(vec![layer("one"), layer("two")]);
    let original = oci_archive(&test, &["docker.io/library/app:1"]);
    let blobs = test.layers.iter().map(|layer| layer.bytes.clone()).chain([test.manifest.clone(), test.config.clone()]);
    for bytes in blobs {
        let at = original.windows(bytes.len()).position(|window| window == bytes).unwrap();
        let mut changed = original.clone();
        changed[at + bytes.len() / 2] ^= 1;
        let fixture = Fixture::new();
        let error = fixture.load(&changed).unwrap_err();
        assert!(
            matches!(error, ArchiveError::Blob { .. }) && error.to_string().contains(Digest::of(&bytes).hex()),
            "{error}"
        );
        assert_eq!((fixture.blobs(), fixture.layers()), (0, 0));
        assert!(fixture.store.list().unwrap().images.is_empty());
        fixture.assert_no_leftovers();
    }
    for cut in [100, 2000, original.len() / 2] {
        let fixture = Fixture::new();
        assert!(fixture.load(&original[..cut]).is_err());
        assert_eq!((fixture.blobs(), fixture.layers()), (0, 0));
        fixture.assert_no_leftovers();
    }
    assert!(matches!(Fixture::new().load(&archive([file("a", "")])), Err(ArchiveError::NoImages)));
    assert!(Fixture::new().load(b"no archive at all, but longer than nothing").is_err());
    assert!(matches!(Fixture::new().load(b""), Err(ArchiveError::NoImages)));
}

#[test]
fn a_wrong_diff_id_leaves_nothing() {
    let test = TestImage::with(vec![layer("one"), layer("two")], |config, _| {
        config.rootfs.diff_ids[1] = Digest::of(b"something else");
    });
    let fixture = Fixture::new();
    let error = fixture.load(&oci_archive(&test, &["docker.io/library/app:1"])).unwrap_err();
    assert!(error.to_string().contains("the image config says"), "{error}");
    assert_eq!((fixture.blobs(), fixture.layers()), (0, 0));
    fixture.assert_no_leftovers();
}

#[test]
fn paths_in_docker_archives_stay_in_the_archive() {
    let canary = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(canary.path(), "secret").unwrap();
    let outside = canary.path().display();
    for (config, layer) in [
        (format!("../../../../../..{outside}"), "layer.tar".to_owned()),
        ("config.json".to_owned(), format!("{outside}")),
    ] {
        let list = format!(r#"[{{"Config":"{config}","RepoTags":["a:b"],"Layers":["{layer}"]}}]"#);
        let config = r#"{"rootfs":{"type":"layers","diff_ids":["sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"]}}"#;
        let bytes = archive([
            file("manifest.json", list),
            file("config.json", config),
            symlink("layer.tar", format!("{outside}")),
        ]);
        let error = Fixture::new().load(&bytes).unwrap_err();
        assert!(matches!(error, ArchiveError::Missing { .. }), "{error}");
    }
}

#[test]
fn a_foreign_layout_is_not_touched() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(dir.path().join("images")).unwrap();
    std::fs::write(dir.path().join("images/oci-layout"), r#"{"imageLayoutVersion":"2.0.0"}"#).unwrap();
    assert!(matches!(Store::open(dir.path()), Err(StoreError::Layout { .. })));
}

#[test]
fn nobody_else_gets_at_setuid_programs() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    let store = Store::open(&root).unwrap();
    for path in [&root, store.images(), store.layers()] {
        assert_eq!(std::fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o700, "{}", path.display());
    }
}
