//! The blob of an unpacked layer: the one that is known, or one packed from
//! the layer's directory and proved to hold the same.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::PathBuf;

use rustix::fs::FlockOperation;
use umiak_base::id::random_hex;

use super::compress::{Compression, compress, threads};
use super::{Building, Options, PackError, TarWriter, pack_content};
use crate::digest::{Digest, Hasher};
use crate::layer::LayerLock;
use crate::manifest::Descriptor;
use crate::store::{Image, LayerNote, Marked, PARTIAL, Part, Store, StoreError, mark};

/// Random bytes in the name of a blob that has none yet.
const RANDOM: usize = 8;

impl Building<'_> {
    /// The blob of a layer that is unpacked: one that is there with this compression, at whatever level, else packed
    /// now, on several cores. A layer that came from a registry keeps the blob it came in. Several threads may call
    /// this; those that ask for the same layer wait for each other.
    ///
    /// # Errors
    /// When the layer is not there, does not make its digest any more, or the disk fails.
    pub fn blob(&self, diff_id: &Digest, compression: Compression) -> Result<Descriptor, PackError> {
        let store = self.store();
        let _lock = LayerLock::exclusive(store, diff_id)?;
        let mut note = store.note(diff_id).unwrap_or_default();
        note.blobs.retain(|blob| store.has_blob(blob));
        let fitting = note.blobs.iter().find(|blob| compression.is(&blob.media_type));
        let known = fitting.or_else(|| note.blobs.first().filter(|_| !note.built));
        let blob = match known {
            Some(known) => known.clone(),
            None if !store.has_layer(diff_id) => {
                return Err(StoreError::MissingLayer { diff_id: diff_id.clone() }.into());
            }
            None => self.packed(diff_id, compression, note)?,
        };
        self.touch(Part { diff_id: diff_id.clone(), blob: Some(blob.digest.clone()) });
        Ok(blob)
    }

    /// Remembers the blobs that an image's layers came in, where they are at hand: stores of earlier versions did not
    /// write that down, and to pack such a layer again need not give the same.
    ///
    /// # Errors
    /// When a note cannot be written.
    pub fn know(&self, image: &Image) -> Result<(), PackError> {
        let store = self.store();
        for (diff_id, blob) in image.layers.iter().zip(&image.manifest.layers) {
            let knows = |note: &LayerNote| note.blobs.iter().any(|known| known.digest == blob.digest);
            if store.note(diff_id).is_some_and(|note| knows(&note)) || !store.has_blob(blob) {
                continue;
            }
            let _lock = LayerLock::exclusive(store, diff_id)?;
            let mut note = store.note(diff_id).unwrap_or_default();
            if !knows(&note) {
                note.blobs.push(blob.clone());
                store.write_note(diff_id, &note)?;
            }
        }
        Ok(())
    }

    fn packed(&self, diff_id: &Digest, compression: Compression, mut note: LayerNote) -> Result<Descriptor, PackError> {
        let store = self.store();
        let (file, plain) = Unnamed::pack(store, diff_id, compression)?;
        if plain != *diff_id {
            return Err(PackError::Changed { diff_id: diff_id.clone(), found: plain });
        }
        let blob = file.finish(store, compression)?;
        note.blobs.push(blob.clone());
        store.write_note(diff_id, &note)?;
        Ok(blob)
    }
}

/// A new file for a blob whose digest is not known yet. Its lock shows that it is not abandoned, for as long as this
/// process lives.
pub(super) fn unnamed(store: &Store) -> Result<(PathBuf, File), StoreError> {
    let dir = store.blobs();
    loop {
        let random = random_hex(RANDOM).map_err(|source| StoreError::io("name a file in", dir, source))?;
        let path = dir.join(format!("{PARTIAL}{random}"));
        let failed = |source| StoreError::io("make", &path, source);
        let file = OpenOptions::new().write(true).create_new(true).mode(0o644).open(&path).map_err(failed)?;
        let locked = rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok();
        // Else a clean-up took it for abandoned in between.
        if locked && file.metadata().map_err(failed)?.nlink() > 0 {
            return Ok((path, file));
        }
    }
}

/// Removes what killed processes were writing: nobody can go on with it, for nobody knows what it was. Best effort.
pub(super) fn sweep(store: &Store) {
    let Ok(list) = std::fs::read_dir(store.blobs()) else { return };
    for entry in list.flatten() {
        let name = entry.file_name();
        let random = name.as_bytes().strip_prefix(PARTIAL.as_bytes());
        if random.is_some_and(|random| random.len() == 2 * RANDOM)
            && let Ok(file) = File::open(entry.path())
            && rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok()
        {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

/// A blob whose digest is not known yet; removed again unless it gets a name.
struct Unnamed {
    path: PathBuf,
    out: BufWriter<File>,
    hasher: Hasher,
    named: bool,
}

impl Unnamed {
    fn new(store: &Store) -> Result<Self, StoreError> {
        let (path, file) = unnamed(store)?;
        Ok(Self { path, out: BufWriter::with_capacity(256 << 10, file), hasher: Hasher::new(), named: false })
    }

    /// Packs a layer's directory; the digest of the stream before compression.
    fn pack(store: &Store, diff_id: &Digest, compression: Compression) -> Result<(Self, Digest), PackError> {
        let path = store.layer_path(diff_id);
        let directory = File::open(&path).map_err(|source| StoreError::io("open", &path, source))?;
        let mut file = Self::new(store)?;
        let options = Options { overlay: true, skip: None };
        let packed = compress(compression, threads(), &mut file, |out| {
            let mut tar = TarWriter::new(Tee { out, hasher: Hasher::new() });
            pack_content(&mut tar, directory.as_fd(), &options)?;
            Ok(tar.finish()?.hasher.finish())
        });
        let plain = packed.map_err(|source| StoreError::io("write", &file.path, source))?;
        Ok((file, plain))
    }

    /// Gives the blob its name; a mark says that it is not on the disk yet.
    fn finish(mut self, store: &Store, compression: Compression) -> Result<Descriptor, StoreError> {
        self.out.flush().map_err(|source| StoreError::io("write", &self.path, source))?;
        let size = self.hasher.bytes();
        let digest = std::mem::take(&mut self.hasher).finish();
        let blob = Descriptor::new(compression.media_type(), digest, size);
        if !store.has_blob(&blob) {
            mark(&store.blob_mark(&blob.digest))?;
            let name = store.blob_path(&blob.digest);
            std::fs::rename(&self.path, name).map_err(|source| StoreError::io("rename", &self.path, source))?;
            store.unmark(&Marked::Blob(&blob.digest));
            self.named = true;
        }
        Ok(blob)
    }
}

impl Write for Unnamed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.out.write(bytes)?;
        self.hasher.update(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

impl Drop for Unnamed {
    fn drop(&mut self) {
        if !self.named {
            // Best effort: what stays is found by prune.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

struct Tee<'o> {
    out: &'o mut dyn Write,
    hasher: Hasher,
}

impl Write for Tee<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.out.write(bytes)?;
        self.hasher.update(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
