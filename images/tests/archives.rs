//! Archives of images: what other tools write is loaded, ours is what they
//! read, and images for several platforms stay whole.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs, reason = "a test fails by panicking")]

mod harness;

use std::io::Write as _;
use std::path::Path;
use std::process::Command;

use harness::{Blob, TestImage, archive, file, platform, run};
use serde_json::{Value, json};
use umiak_images::archive::{load, load_only, save, save_only};
use umiak_images::digest::Digest;
use umiak_images::manifest::{OCI_CONFIG, OCI_INDEX, OCI_MANIFEST};
use umiak_images::platform::Platform;
use umiak_images::progress::Silent;
use umiak_images::store::Store;

fn store() -> (tempfile::TempDir, Store) {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    (directory, store)
}

fn image(content: &str) -> TestImage {
    TestImage::new(vec![
        Blob::gzip(&archive([file("shared", "in all of them")])),
        Blob::gzip(&archive([file("name", content)])),
    ])
}

/// A directory as an archive.
fn tar_of(directory: &Path) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    tar.append_dir_all(".", directory).unwrap();
    tar.into_inner().unwrap()
}

/// An OCI layout with an index of two platforms and what says where they come from, named `docker.io/library/multi:1`.
fn multi_layout(at: &Path) -> Value {
    let blobs = at.join("blobs/sha256");
    std::fs::create_dir_all(&blobs).unwrap();
    let put = |media_type: &str, bytes: &[u8]| {
        std::fs::write(blobs.join(Digest::of(bytes).hex()), bytes).unwrap();
        json!({"mediaType": media_type, "digest": Digest::of(bytes), "size": bytes.len()})
    };
    let mut entries = Vec::new();
    for architecture in ["arm64", "amd64"] {
        let one = TestImage::with(image(architecture).layers, |config, _| config.architecture = architecture.into());
        one.layers.iter().for_each(|layer| drop(put("layer", &layer.bytes)));
        put(OCI_CONFIG, &one.config);
        let mut entry = put(OCI_MANIFEST, &one.manifest);
        entry["platform"] = json!({"os": "linux", "architecture": architecture});
        entries.push(entry);
    }
    let statement = put("application/vnd.in-toto+json", b"{\"statement\":1}");
    let config = put(
        OCI_CONFIG,
        json!({"os": "unknown", "architecture": "unknown", "config": {},
        "rootfs": {"type": "layers", "diff_ids": [statement["digest"]]}})
        .to_string()
        .as_bytes(),
    );
    let manifest = json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": [statement]});
    let mut entry = put(OCI_MANIFEST, manifest.to_string().as_bytes());
    entry["platform"] = json!({"os": "unknown", "architecture": "unknown"});
    entries.push(entry);
    let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries});
    let mut top = put(OCI_INDEX, index.to_string().as_bytes());
    top["annotations"] = json!({"io.containerd.image.name": "docker.io/library/multi:1"});
    std::fs::write(at.join("index.json"), json!({"schemaVersion": 2, "manifests": [top.clone()]}).to_string()).unwrap();
    std::fs::write(at.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    top
}

fn saved(store: &Store, names: &[&str]) -> Vec<u8> {
    let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    let mut out = Vec::new();
    save(store, &names, &mut out).unwrap();
    out
}

/// A file of an archive as JSON.
fn json_in(archive: &[u8], name: &str) -> Value {
    let mut tar = tar::Archive::new(archive);
    let mut entries = tar.entries().unwrap().map(Result::unwrap);
    let entry = entries.find(|entry| entry.path().unwrap().to_str() == Some(name)).unwrap();
    serde_json::from_reader(entry).unwrap()
}

fn blobs_in(store: &Store) -> usize {
    std::fs::read_dir(store.images().join("blobs/sha256")).unwrap().count()
}

#[test]
fn an_index_stays_whole_through_load_and_save() {
    let layout = tempfile::tempdir().unwrap();
    let top = multi_layout(layout.path());
    let ((_first, first), (_second, second)) = (store(), store());
    load(&first, tar_of(layout.path()).as_slice(), &platform(), &Silent).unwrap();
    let here = first.resolve("multi:1").unwrap();
    assert_eq!(here.platform, platform());
    // 2 manifests, 2 configs, 3 layers (one is shared), 3 of the statement, the index.
    assert_eq!(blobs_in(&first), 11);
    let arm64 = Platform::new("linux", "arm64", None);
    let variant = first.variant(&here, &arm64).unwrap().unwrap();
    assert_eq!((&variant.platform, &variant.names), (&arm64, &here.names));
    assert_eq!(first.variants(&here).unwrap().len(), 2);
    assert!(first.variant(&here, &Platform::new("linux", "s390x", None)).unwrap().is_none());

    // Nothing of it is rubbish.
    first.prune(false, &|_| Vec::new()).unwrap();
    assert_eq!(blobs_in(&first), 11);

    let whole = saved(&first, &["multi:1"]);
    assert_eq!(json_in(&whole, "index.json")["manifests"][0]["digest"], top["digest"]);
    load(&second, whole.as_slice(), &arm64, &Silent).unwrap();
    assert_eq!(second.resolve("multi:1").unwrap().platform, arm64);
    assert_eq!(blobs_in(&second), 11);

    // One alone.
    let mut alone = Vec::new();
    save_only(&first, &["multi:1".to_owned()], &arm64, &mut alone).unwrap();
    let (_third, third) = store();
    load(&third, alone.as_slice(), &platform(), &Silent).unwrap();
    assert_eq!(third.resolve("multi:1").unwrap().platform, arm64);
    assert_eq!(blobs_in(&third), 4);
    let (_fourth, fourth) = store();
    load_only(&fourth, whole.as_slice(), &arm64, &Silent).unwrap();
    assert_eq!(blobs_in(&fourth), 4);
    let s390x = Platform::new("linux", "s390x", None);
    assert!(save_only(&first, &["multi:1".to_owned()], &s390x, std::io::sink()).is_err());
    assert!(load_only(&fourth, alone.as_slice(), &s390x, &Silent).is_err());

    // What goes, goes whole.
    first.remove("multi:1", &|_| Vec::new(), false).unwrap();
    assert_eq!(blobs_in(&first), 0);
}

#[test]
fn a_part_of_an_index_is_loaded_as_far_as_it_goes() {
    let layout = tempfile::tempdir().unwrap();
    multi_layout(layout.path());
    let amd64 = image("amd64").layers.remove(1);
    std::fs::remove_file(layout.path().join("blobs/sha256").join(Digest::of(&amd64.bytes).hex())).unwrap();
    let (_root, store) = store();
    let error = load(&store, tar_of(layout.path()).as_slice(), &platform(), &Silent).unwrap_err();
    assert!(error.to_string().contains(Digest::of(&amd64.bytes).hex()), "{error}");
    let arm64 = Platform::new("linux", "arm64", None);
    load(&store, tar_of(layout.path()).as_slice(), &arm64, &Silent).unwrap();
    assert_eq!(store.resolve("multi:1").unwrap().platform, arm64);
    // What is damaged is no part, but an error.
    std::fs::write(layout.path().join("blobs/sha256").join(Digest::of(&amd64.bytes).hex()), "x").unwrap();
    assert!(load(&store, tar_of(layout.path()).as_slice(), &arm64, &Silent).is_err());
}

#[test]
fn several_images_and_tags_go_into_one_archive() {
    let ((_first, first), (_second, second)) = (store(), store());
    for (content, names) in [("one", &["app:1", "app:latest"][..]), ("two", &["app:2", "other:1"])] {
        let (image, layout) = (image(content), tempfile::tempdir().unwrap());
        image.layout(layout.path());
        load(&first, tar_of(layout.path()).as_slice(), &platform(), &Silent).unwrap();
        names.iter().for_each(|name| first.tag(image.id().as_ref(), name).unwrap());
    }
    let all = saved(&first, &["app", "app:1"]);
    let tags = |archive: &[u8]| -> Vec<Value> {
        let list = json_in(archive, "manifest.json");
        list.as_array().unwrap().iter().map(|image| image["RepoTags"].clone()).collect()
    };
    assert_eq!(tags(&all), [json!(["app:1", "app:latest"]), json!(["app:2"])]);
    assert_eq!(tags(&saved(&first, &["other:1", "app:1"])), [json!(["other:1"]), json!(["app:1"])]);
    let loaded = load(&second, all.as_slice(), &platform(), &Silent).unwrap();
    assert_eq!(loaded.len(), 2);
    for name in ["app:1", "app:2", "app"] {
        assert_eq!(second.resolve(name).unwrap().id, first.resolve(name).unwrap().id);
    }
    assert!(second.resolve("other:1").is_err());
    let by_id = first.resolve("app:1").unwrap().id.to_string();
    let by_id = saved(&first, &[&by_id]);
    assert_eq!(tags(&by_id), [json!(null)]);
    // Docker's oldest list leads from each tag to the uppermost layer, and is left out where there is none.
    let list = json_in(&all, "repositories");
    assert_eq!(list["app"].as_object().unwrap().keys().collect::<Vec<_>>(), ["1", "2", "latest"]);
    let top = json_in(&all, "manifest.json")[0]["Layers"].as_array().unwrap().last().unwrap().clone();
    assert_eq!(top, format!("blobs/sha256/{}", list["app"]["1"].as_str().unwrap()));
    let mut files = tar::Archive::new(by_id.as_slice());
    let mut files = files.entries().unwrap().map(|entry| entry.unwrap().path().unwrap().into_owned());
    assert!(!files.any(|path| path.to_str() == Some("repositories")));
}

#[test]
fn compressed_archives_are_loaded() {
    let (image, layout) = (image("packed"), tempfile::tempdir().unwrap());
    image.layout(layout.path());
    let plain = tar_of(layout.path());
    let mut bzip2 = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
    bzip2.write_all(&plain).unwrap();
    let file = layout.path().join("plain.tar");
    std::fs::write(&file, &plain).unwrap();
    let xz = Command::new("xz").arg("-c").arg(&file).output().expect("xz (Debian's xz-utils) runs").stdout;
    for (program, packed) in [
        ("gzip", harness::gzip(&plain)),
        ("bzip2", bzip2.finish().unwrap()),
        ("xz", xz),
        ("zstd", zstd::encode_all(plain.as_slice(), 1).unwrap()),
    ] {
        let (_root, store) = store();
        load(&store, packed.as_slice(), &platform(), &Silent).unwrap();
        assert_eq!(store.resolve(image.id().as_ref()).unwrap().id, image.id(), "{program}");
        let error = load(&store, &packed[..packed.len() / 2], &platform(), &Silent).unwrap_err();
        assert!(error.to_string().contains("archive"), "{program}: {error}");
    }
}

#[test]
fn skopeo_and_we_read_each_others_archives() {
    let (image, directory) = (image("skopeo"), tempfile::tempdir().unwrap());
    let layout = directory.path().join("layout");
    image.layout(&layout);
    let at = |name: &str| directory.path().join(name).display().to_string();
    for (form, name) in [("oci-archive", "docker.io/library/app:1"), ("docker-archive", "app:1")] {
        let path = at(form);
        run(Command::new("skopeo")
            .args(["copy", "-q", "--insecure-policy"])
            .args([format!("oci:{}:test", layout.display()), format!("{form}:{path}:{name}")]));
        let (_root, store) = store();
        load(&store, std::fs::File::open(&path).unwrap(), &platform(), &Silent).unwrap();
        let found = store.resolve("app:1").unwrap();
        assert_eq!(found.id, image.id(), "{form}");

        let ours = at(&format!("ours-{form}"));
        save(&store, &["app:1".to_owned()], std::fs::File::create(&ours).unwrap()).unwrap();
        // In an OCI archive skopeo calls an image by its tag.
        let source = if form == "oci-archive" { format!("{form}:{ours}:1") } else { format!("{form}:{ours}:app:1") };
        let shown = run(Command::new("skopeo").args(["inspect", "--config", &source]));
        let shown: Value = serde_json::from_str(&shown).unwrap();
        assert_eq!(shown["rootfs"]["diff_ids"], json!(found.layers), "{form}");
    }
    // An index, too.
    let multi = directory.path().join("multi");
    multi_layout(&multi);
    let (_root, store) = store();
    load(&store, tar_of(&multi).as_slice(), &platform(), &Silent).unwrap();
    let ours = at("ours-multi");
    save(&store, &["multi:1".to_owned()], std::fs::File::create(&ours).unwrap()).unwrap();
    for architecture in ["amd64", "arm64"] {
        let flag = format!("--override-arch={architecture}");
        let shown = run(Command::new("skopeo").args([&flag, "inspect", "--config", &format!("oci-archive:{ours}:1")]));
        let shown: Value = serde_json::from_str(&shown).unwrap();
        assert_eq!(shown["architecture"], architecture);
    }
}
