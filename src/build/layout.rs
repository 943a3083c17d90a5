//! OCI layouts as contexts: one image of a directory of the host is brought
//! into the store, as an archive of it would be.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::AsFd as _;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use umiak_images::manifest::Index;
use umiak_images::pack::{Options, TarWriter, pack};
use umiak_images::platform::Platform;
use umiak_images::progress::Silent;
use umiak_images::store::{Image, Store};
use umiak_images::unpack::{Entry, Kind, Timestamp};

/// An index nobody writes larger.
const LARGEST: u64 = 4 << 20;
/// What an index names an image by.
const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// The image that `name` (a tag or a digest; the only one if empty) leads to in the layout at `path`.
pub fn image(store: &Store, path: &Path, name: &str, platform: &Platform) -> Result<Image> {
    let index = choose(path, name).with_context(|| format!("read the OCI layout {}", path.display()))?;
    let (out, into) = io::pipe().context("make a pipe")?;
    let loaded = std::thread::scope(|scope| {
        // The thread that loads tells what is wrong: a broken pipe here is only its echo.
        scope.spawn(move || drop(write(path, &index, into)));
        umiak_images::archive::load(store, out, platform, &Silent)
    });
    let loaded = loaded.with_context(|| format!("load {name} of the OCI layout {}", path.display()))?;
    match loaded.first() {
        Some(image) => Ok(store.resolve(image.id.as_ref())?),
        None => bail!("the OCI layout {} has no image {name}", path.display()),
    }
}

/// An index with the one image alone, and without its name: it becomes none of the store's.
fn choose(path: &Path, name: &str) -> Result<Vec<u8>> {
    let mut text = Vec::new();
    File::open(path.join("index.json"))?.take(LARGEST).read_to_end(&mut text)?;
    let mut index: Index = serde_json::from_slice(&text).context("index.json does not parse")?;
    let is_only = index.manifests.len() == 1;
    index.manifests.retain(|entry| {
        let named = entry.annotations.as_ref().and_then(|notes| notes.get(REF_NAME));
        let tag = named.map(|named| named.rsplit(':').next().unwrap_or(named));
        match name {
            "" => is_only || tag == Some("latest"),
            name => entry.digest.to_string() == name || named.is_some_and(|named| named == name) || tag == Some(name),
        }
    });
    index.manifests.truncate(1);
    let Some(entry) = index.manifests.first_mut() else { bail!("{name}: not found in index.json") };
    entry.annotations = None;
    Ok(serde_json::to_vec(&index)?)
}

fn write(path: &Path, index: &[u8], out: io::PipeWriter) -> Result<()> {
    let mut tar = TarWriter::new(out);
    let directory = File::open(path)?;
    let entry = Entry {
        path: b"index.json".to_vec(),
        size: index.len() as u64,
        kind: Kind::File { sparse: None },
        mode: 0o644,
        uid: 0,
        gid: 0,
        mtime: Timestamp { seconds: 0, nanos: 0 },
        xattrs: Vec::new(),
    };
    tar.begin(&entry)?;
    tar.data(index)?;
    for name in [&b"oci-layout"[..], b"blobs"] {
        pack(&mut tar, directory.as_fd(), name, name, &Options::default())?;
    }
    tar.finish()?;
    Ok(())
}
