//! Adds an image to the store that no registry and no archive has: layers
//! written here, on top of those of another image.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;

use flate2::Compression;
use flate2::write::GzEncoder;
use umiak_base::FileLock;

use super::TarWriter;
use crate::config::ImageConfig;
use crate::digest::{Digest, Hasher};
use crate::layer::{Installer, Layer, LayerError};
use crate::manifest::{Descriptor, Manifest, OCI_CONFIG, OCI_LAYER_GZIP, OCI_MANIFEST};
use crate::progress::Silent;
use crate::reference::Reference;
use crate::store::{Image, Named, Store, StoreError};
use crate::unpack::Limits;

/// Why an image could not be added.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What was written cannot be unpacked again.
    #[error(transparent)]
    Layer(#[from] LayerError),
    /// The layer's content could not be read, or its file not be written.
    #[error("write the layer")]
    Write(#[source] io::Error),
    /// A directory cannot become a layer.
    #[error("take {directory} in as a layer")]
    Adopt {
        /// The directory.
        directory: PathBuf,
        /// In which way.
        #[source]
        source: io::Error,
    },
    /// The directory of a layer is not what it was.
    #[error("the layer {diff_id} was changed on the disk: it holds {found}")]
    Changed {
        /// What it should hold.
        diff_id: Digest,
        /// Digest of what it holds.
        found: Digest,
    },
    /// The config cannot be written as JSON.
    #[error("write the image config")]
    Config(#[source] serde_json::Error),
}

/// A layer that was written.
#[derive(Debug, Clone)]
pub struct NewLayer {
    /// The compressed blob.
    pub blob: Descriptor,
    /// Digest of the uncompressed stream.
    pub diff_id: Digest,
    /// Entries in it; none for an empty layer.
    pub entries: u64,
}

/// An image on its way into the store. While it lives, no clean-up takes its parts for rubbish.
#[derive(Debug)]
pub struct NewImage<'s> {
    store: &'s Store,
    _present: FileLock,
}

impl<'s> NewImage<'s> {
    /// Begins an image.
    ///
    /// # Errors
    /// When the store cannot be locked.
    pub fn begin(store: &'s Store) -> Result<Self, PackError> {
        let present = FileLock::shared(&store.sweep_lock_path()).map_err(StoreError::from)?;
        Ok(Self { store, _present: present })
    }

    /// Writes a layer: `write` puts its entries into the archive.
    ///
    /// # Errors
    /// What `write` returns, or a failing disk; nothing is left then.
    pub fn layer(
        &self,
        write: impl FnOnce(&mut TarWriter<&mut LayerFile>) -> io::Result<()>,
    ) -> Result<NewLayer, PackError> {
        self.raw_layer(|file| {
            let mut tar = TarWriter::new(file);
            write(&mut tar)?;
            let entries = tar.entries();
            tar.finish()?;
            Ok(entries)
        })
    }

    /// Writes a layer whose uncompressed tar stream is there already; `write` returns how many entries it has.
    ///
    /// # Errors
    /// As [`Self::layer`].
    pub fn raw_layer(&self, write: impl FnOnce(&mut LayerFile) -> io::Result<u64>) -> Result<NewLayer, PackError> {
        let mut file = LayerFile::new(self.store)?;
        let entries = write(&mut file).map_err(PackError::Write)?;
        file.finish(self.store, entries)
    }

    /// Completes the image with its config and layers, the lowest first, and gives it a name if there is one.
    /// The config's `rootfs` is set here.
    ///
    /// # Errors
    /// When a layer is refused by what unpacks it, or the disk fails.
    pub fn finish(
        self,
        config: ImageConfig,
        layers: &[(Descriptor, Digest)],
        name: Option<&Reference>,
    ) -> Result<Image, PackError> {
        let store = self.store;
        let blobs = layers.iter().map(|(blob, _)| blob.clone()).collect();
        let descriptor = write_manifest(store, config, layers, blobs)?;
        let digest = descriptor.digest.clone();
        let mut distinct: Vec<Layer<'_>> = Vec::new();
        for (blob, diff_id) in layers {
            if !distinct.iter().any(|layer| layer.diff_id == diff_id) {
                distinct.push(Layer { blob, diff_id });
            }
        }
        Installer::new(store, None, &Silent, &Limits::default()).all(&distinct)?;
        let named =
            Named { descriptor, name: name.map(ToString::to_string), repo_digests: Vec::new(), chosen_from: None };
        Ok(store.change_or_repair_names(|names| {
            let there = names.entries.iter().any(|entry| entry.descriptor.digest == digest);
            if named.name.is_some() || !there {
                names.set(named);
            }
            store.image(names, &digest)
        })?)
    }
}

/// Writes an image's config, whose `rootfs` is set here, and its manifest with these blobs; what names it in an index.
pub(super) fn write_manifest(
    store: &Store,
    mut config: ImageConfig,
    layers: &[(Descriptor, Digest)],
    blobs: Vec<Descriptor>,
) -> Result<Descriptor, PackError> {
    "layers".clone_into(&mut config.rootfs.kind);
    config.rootfs.diff_ids = layers.iter().map(|(_, diff_id)| diff_id.clone()).collect();
    let bytes = serde_json::to_vec(&config).map_err(PackError::Config)?;
    let id = Digest::of(&bytes);
    store.put_blob(&id, &bytes)?;
    let manifest = Manifest {
        schema_version: 2,
        media_type: Some(OCI_MANIFEST.to_owned()),
        config: Descriptor::new(OCI_CONFIG, id, bytes.len() as u64),
        layers: blobs,
        annotations: None,
    };
    let bytes = serde_json::to_vec(&manifest).map_err(PackError::Config)?;
    let digest = Digest::of(&bytes);
    store.put_blob(&digest, &bytes)?;
    let mut descriptor = Descriptor::new(OCI_MANIFEST, digest, bytes.len() as u64);
    descriptor.platform = Some(config.platform());
    Ok(descriptor)
}

/// The blob of a layer while it is written: hashed, compressed, hashed again.
#[derive(Debug)]
pub struct LayerFile {
    plain: Hasher,
    /// Set until the layer is finished.
    packed: Option<GzEncoder<Hashed>>,
    path: PathBuf,
}

#[derive(Debug)]
struct Hashed {
    file: BufWriter<File>,
    hasher: Hasher,
}

impl Write for Hashed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.hasher.update(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Write for LayerFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Some(packed) = &mut self.packed else { return Err(io::ErrorKind::BrokenPipe.into()) };
        let count = packed.write(bytes)?;
        self.plain.update(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl LayerFile {
    fn new(store: &Store) -> Result<Self, StoreError> {
        let (path, file) = super::blob::unnamed(store)?;
        let hashed = Hashed { file: BufWriter::with_capacity(256 << 10, file), hasher: Hasher::new() };
        Ok(Self { plain: Hasher::new(), packed: Some(GzEncoder::new(hashed, Compression::new(5))), path })
    }

    fn finish(mut self, store: &Store, entries: u64) -> Result<NewLayer, PackError> {
        let Some(packed) = self.packed.take() else {
            return Err(PackError::Write(io::ErrorKind::BrokenPipe.into()));
        };
        let Hashed { file, hasher } = packed.finish().map_err(PackError::Write)?;
        let failed = |source| StoreError::io("write", &self.path, source);
        let file = file.into_inner().map_err(|error| failed(error.into_error()))?;
        file.sync_all().map_err(failed)?;
        let size = hasher.bytes();
        let digest = hasher.finish();
        let diff_id = std::mem::take(&mut self.plain).finish();
        let blob = Descriptor::new(OCI_LAYER_GZIP, digest, size);
        if store.has_blob(&blob) {
            let _ = std::fs::remove_file(&self.path);
        } else {
            std::fs::rename(&self.path, store.blob_path(&blob.digest)).map_err(failed)?;
            umiak_base::state::sync_dir(store.blobs()).map_err(failed)?;
        }
        Ok(NewLayer { blob, diff_id, entries })
    }
}

impl Drop for LayerFile {
    fn drop(&mut self) {
        if self.packed.is_some() {
            // Best effort: what stays is found by prune.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}
