//! What fuzzing begins with, and what it once found: nothing of it panics.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs, reason = "a test fails by panicking")]

use std::path::Path;

use umiak_images::fuzzing;

fn all(target: &str, run: fn(&[u8])) {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target);
    let files: Vec<_> = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(!files.is_empty());
    for path in files {
        let bytes = std::fs::read(&path).unwrap();
        assert!(std::panic::catch_unwind(|| run(&bytes)).is_ok(), "{}", path.display());
    }
}

#[test]
fn manifests() {
    all("manifest", fuzzing::manifest);
}

#[test]
fn indexes() {
    all("index", fuzzing::index);
}

#[test]
fn configs() {
    all("config", fuzzing::config);
}

#[test]
fn layers() {
    all("layer", fuzzing::layer);
}
