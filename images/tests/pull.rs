//! Pulling from a real registry into the store, and how other tools read it.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs, reason = "a test fails by panicking")]

mod harness;

use std::collections::HashSet;
use std::process::Command;
use std::sync::Mutex;

use harness::{Blob, Registry, TestImage, archive, dir, file, platform, run, symlink};
use umiak_images::progress::{Event, Progress, Silent};
use umiak_images::pull::pull;
use umiak_images::store::Store;

fn layers() -> Vec<Blob> {
    vec![
        Blob::gzip(&archive([dir("bin"), file("bin/true", "#!true").mode(0o4755), symlink("lib", "usr/lib")])),
        Blob::zstd(&archive([dir("etc"), file("etc/name", "two"), file("bin/.wh.true", "")])),
        Blob::gzip(&archive([file("etc/name", "three").owner(7, 8)])),
    ]
}

/// Notes which layers were downloaded.
#[derive(Default)]
struct Watch {
    downloaded: Mutex<HashSet<String>>,
    existing: Mutex<HashSet<String>>,
}

impl Progress for Watch {
    fn event(&self, event: Event<'_>) {
        match event {
            Event::Downloading { layer, .. } => drop(self.downloaded.lock().unwrap().insert(layer.to_string())),
            Event::Exists { layer } => drop(self.existing.lock().unwrap().insert(layer.to_string())),
            _ => {}
        }
    }
}

#[test]
fn an_image_is_pulled_unpacked_and_named() {
    let registry = Registry::start();
    let image = TestImage::new(layers());
    registry.push(&image, "app:1");
    let root = tempfile::tempdir().unwrap();
    let store = Store::open(root.path()).unwrap();
    let (client, reference) = (registry.client(), registry.reference("app:1"));

    let watch = Watch::default();
    let pulled = pull(&store, &client, &reference, &platform(), &watch).unwrap();
    assert!(pulled.changed);
    assert_eq!(pulled.image.id, image.id());
    assert_eq!(pulled.image.names, [reference.to_string()]);
    assert_eq!(pulled.image.repo_digests, [format!("{}@{}", reference.name(), image.digest())]);
    assert_eq!(watch.downloaded.lock().unwrap().len(), 3);

    let dirs = store.layer_dirs(&pulled.image).unwrap();
    assert_eq!(dirs.len(), 3);
    assert_eq!(std::fs::read_to_string(dirs[0].join("etc/name")).unwrap(), "three");
    assert_eq!(std::fs::read_to_string(dirs[1].join("etc/name")).unwrap(), "two");
    assert_eq!(std::fs::read_to_string(dirs[2].join("bin/true")).unwrap(), "#!true");

    // Again: nothing is downloaded.
    let watch = Watch::default();
    let again = pull(&store, &client, &reference, &platform(), &watch).unwrap();
    assert!(!again.changed);
    assert!(watch.downloaded.lock().unwrap().is_empty());
    assert_eq!(watch.existing.lock().unwrap().len(), 3);

    // By all its names.
    let id = image.id();
    for name in [
        reference.to_string(),
        id.to_string(),
        id.hex().to_owned(),
        id.short().to_owned(),
        format!("{}@{}", reference.name(), image.digest()),
    ] {
        assert_eq!(store.resolve(&name).unwrap().id, id, "{name}");
    }
    // Only what is finished lies there.
    for dir in [store.layers(), &store.images().join("blobs/sha256")] {
        for entry in std::fs::read_dir(dir).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            assert!(!name.starts_with('.'), "{name} is left in {}", dir.display());
        }
    }
}

#[test]
fn other_tools_read_the_store() {
    let registry = Registry::start();
    let image = TestImage::new(vec![layers().remove(0)]);
    registry.push(&image, "app:1");
    let root = tempfile::tempdir().unwrap();
    let store = Store::open(root.path()).unwrap();
    let reference = registry.reference("app:1");
    pull(&store, &registry.client(), &reference, &platform(), &Silent).unwrap();
    store.tag(&reference.to_string(), "short:one").unwrap();

    let images = store.images().display();
    for name in [reference.to_string(), "docker.io/library/short:one".to_owned()] {
        let copy = tempfile::tempdir().unwrap();
        let target = format!("dir:{}", copy.path().display());
        run(Command::new("skopeo").args(["copy", "-q", &format!("oci:{images}:{name}"), &target]));
    }
    run(Command::new("umoci").args(["stat", "--image", &format!("{images}:docker.io/library/short:one")]));
    let bundle = tempfile::tempdir().unwrap();
    run(Command::new("umoci")
        .args(["unpack", "--image", &format!("{images}:docker.io/library/short:one")])
        .arg(bundle.path().join("bundle")));
    assert!(bundle.path().join("bundle/rootfs/bin/true").exists());
}
