//! Stores with images in them.

use std::collections::BTreeMap;
use std::sync::Mutex;

use umiak_images::archive::load;
use umiak_images::digest::Digest;
use umiak_images::platform::Platform;
use umiak_images::progress::Silent;
use umiak_images::push::{Event, Watch};
use umiak_images::store::Store;

use super::pull::content;
use crate::harness::{Blob, TestImage, archive, file};

/// A store in a directory of its own.
pub struct OwnStore {
    pub store: Store,
    _directory: tempfile::TempDir,
}

impl OwnStore {
    pub fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        Self { store: Store::open(directory.path()).unwrap(), _directory: directory }
    }

    /// Brings an image in, without a registry, under a name.
    pub fn add(&self, image: &TestImage, name: &str) {
        let layout = tempfile::tempdir().unwrap();
        image.layout(layout.path());
        let mut tar = tar::Builder::new(Vec::new());
        tar.append_dir_all(".", layout.path()).unwrap();
        let archive = tar.into_inner().unwrap();
        load(&self.store, archive.as_slice(), &amd64(), &Silent).unwrap();
        self.store.tag(image.id().as_ref(), name).unwrap();
    }
}

pub fn amd64() -> Platform {
    Platform::new("linux", "amd64", None)
}

/// An image of layers of about these sizes, which do not compress.
pub fn image(sizes: &[usize]) -> TestImage {
    let layer = |(index, size): (usize, &usize)| {
        Blob::gzip(&archive([file(format!("file-{index}-{size}"), content(*size + index))]))
    };
    TestImage::new(sizes.iter().enumerate().map(layer).collect())
}

/// Notes how each layer ended.
#[derive(Default)]
pub struct Ends {
    ends: Mutex<BTreeMap<String, String>>,
    retries: Mutex<Vec<String>>,
}

impl Ends {
    /// The ends of all layers, sorted, each once.
    pub fn all(&self) -> Vec<String> {
        let mut all: Vec<String> = self.ends.lock().unwrap().values().cloned().collect();
        all.sort();
        all.dedup();
        all
    }

    pub fn count(&self) -> usize {
        self.ends.lock().unwrap().len()
    }

    pub fn retries(&self) -> Vec<String> {
        self.retries.lock().unwrap().clone()
    }
}

impl Watch for Ends {
    fn event(&self, layer: &Digest, event: Event<'_>) {
        let end = match event {
            Event::Exists => "exists".to_owned(),
            Event::Mounted { from } => format!("mounted from {from}"),
            Event::Pushed => "pushed".to_owned(),
            Event::Retrying { reason } => return self.retries.lock().unwrap().push(reason.to_owned()),
            _ => return,
        };
        self.ends.lock().unwrap().insert(layer.to_string(), end);
    }
}
