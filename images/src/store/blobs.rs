//! Blobs: content by digest. A blob gets its name only when its content has
//! been checked; until then it is `.partial-<hex>`, locked by who writes it,
//! and the next pull goes on where it ends.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, OFlags};
use rustix::io::Errno;

use super::error::StoreError;
use super::marks::{DAMAGED, Marked};
use super::remove::delete;
use super::{Store, counts, unmark};
use crate::digest::{Digest, Hasher, Verified};
use crate::manifest::Descriptor;

/// How the names of unfinished blobs begin.
pub(crate) const PARTIAL: &str = ".partial-";
/// Bytes read at a time.
const CHUNK: usize = 256 << 10;

/// What the store has of a blob.
#[derive(Debug)]
pub(crate) enum Slot {
    /// All of it, by name and size.
    Whole,
    /// Nothing or the beginning; it is ours to complete.
    Open(Box<BlobWriter>),
}

/// An unfinished blob that is locked for this writer.
#[derive(Debug)]
pub(crate) struct BlobWriter {
    file: File,
    path: PathBuf,
    finished: PathBuf,
    descriptor: Descriptor,
    /// Of what is there already and is not believed.
    mark: PathBuf,
    hasher: Hasher,
}

impl Store {
    /// Where a blob is or would be.
    #[must_use]
    pub fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.blobs().join(digest.hex())
    }

    /// Whether the blob is there with the size it should have, on the disk or of this boot, and no check has found it
    /// damaged.
    pub(crate) fn has_blob(&self, descriptor: &Descriptor) -> bool {
        let meta = std::fs::symlink_metadata(self.blob_path(&descriptor.digest));
        meta.is_ok_and(|meta| meta.is_file() && meta.len() == descriptor.size)
            && counts(&self.blob_mark(&descriptor.digest))
            && !self.is_marked(&Marked::Blob(&descriptor.digest))
    }

    /// The whole of a small blob, checked against its digest.
    pub(crate) fn read_blob(&self, digest: &Digest, limit: u64) -> Result<Vec<u8>, StoreError> {
        let path = self.blob_path(digest);
        let failed = |source: io::Error| match source.kind() {
            io::ErrorKind::NotFound => StoreError::MissingBlob { digest: digest.clone() },
            _ => StoreError::io("read", &path, source),
        };
        // What is no file at all must not block, and leads nowhere else.
        let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
        let file = match OpenOptions::new().read(true).custom_flags(flags).open(&path) {
            Err(error) if Errno::from_io_error(&error) == Some(Errno::LOOP) => {
                return Err(StoreError::MissingBlob { digest: digest.clone() });
            }
            result => result.map_err(failed)?,
        };
        if !file.metadata().map_err(failed)?.is_file() {
            return Err(StoreError::MissingBlob { digest: digest.clone() });
        }
        let mut bytes = Vec::new();
        file.take(limit + 1).read_to_end(&mut bytes).map_err(failed)?;
        let mut hasher = Hasher::new();
        hasher.update(&bytes);
        let _: Verified = hasher
            .verify(digest, bytes.len() as u64)
            .map_err(|source| StoreError::DamagedBlob { digest: digest.clone(), source })?;
        Ok(bytes)
    }

    /// Stores a small blob; whether it was new. One that is there and damaged is replaced.
    pub(crate) fn put_blob(&self, digest: &Digest, bytes: &[u8]) -> Result<bool, StoreError> {
        if self.read_blob(digest, bytes.len() as u64).is_ok() {
            return Ok(false);
        }
        let path = self.blob_path(digest);
        make_way(&path)?;
        umiak_base::state::write_bytes(&path, bytes, 0o644).map_err(|source| StoreError::io("write", &path, source))?;
        Ok(true)
    }

    /// Removes a blob that turned out damaged.
    pub(crate) fn drop_blob(&self, digest: &Digest) -> Result<(), StoreError> {
        delete(&self.blob_path(digest))
    }

    /// Finds a blob or makes room for it; waits while another process writes it.
    pub(crate) fn blob_slot(&self, descriptor: &Descriptor) -> Result<Slot, StoreError> {
        let finished = self.blob_path(&descriptor.digest);
        let path = self.blobs().join(format!("{PARTIAL}{}", descriptor.digest.hex()));
        let failed = |source: io::Error| StoreError::io("open", &path, source);
        loop {
            if self.has_blob(descriptor) {
                return Ok(Slot::Whole);
            }
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o644)
                .custom_flags(libc_nofollow())
                .open(&path)
                .map_err(failed)?;
            lock(&file).map_err(failed)?;
            // Whoever held the lock may have finished the blob or given it up: the name then leads elsewhere.
            let ours = file.metadata().map_err(failed)?;
            match std::fs::symlink_metadata(&path) {
                Ok(named) if (named.dev(), named.ino()) == (ours.dev(), ours.ino()) => {}
                _ => continue,
            }
            let descriptor = descriptor.clone();
            let mark = self.blob_mark(&descriptor.digest);
            let writer = BlobWriter { file, path, finished, descriptor, mark, hasher: Hasher::new() };
            return Ok(Slot::Open(Box::new(writer)));
        }
    }
}

impl BlobWriter {
    /// Reads and hashes the part that is there, handing it on; how long it is.
    pub(crate) fn resume<E: From<StoreError>>(
        &mut self,
        mut take: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<u64, E> {
        let failed = |path: &Path, source: io::Error| StoreError::io("read", path, source);
        let there = self.file.metadata().map_err(|error| failed(&self.path, error))?.len();
        if there > self.descriptor.size {
            self.restart()?;
        }
        self.file.seek(SeekFrom::Start(0)).map_err(|error| failed(&self.path, error))?;
        let mut buffer = vec![0; CHUNK];
        loop {
            match self.file.read(&mut buffer) {
                Ok(0) => return Ok(self.hasher.bytes()),
                Ok(count) => {
                    self.hasher.update(&buffer[..count]);
                    take(&buffer[..count])?;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(failed(&self.path, error).into()),
            }
        }
    }

    /// Whether an earlier writer has left something.
    pub(crate) fn is_begun(&self) -> Result<bool, StoreError> {
        let meta = self.file.metadata().map_err(|source| StoreError::io("read", &self.path, source))?;
        Ok(meta.len() > 0)
    }

    /// Adds what was received.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.hasher.update(bytes);
        self.file.write_all(bytes).map_err(|source| StoreError::io("write", &self.path, source))
    }

    /// Throws away what is there.
    pub(crate) fn restart(&mut self) -> Result<(), StoreError> {
        let failed = |source| StoreError::io("write", &self.path, source);
        self.hasher = Hasher::new();
        self.file.set_len(0).map_err(failed)?;
        self.file.seek(SeekFrom::Start(0)).map_err(failed)?;
        Ok(())
    }

    /// Bytes there so far.
    pub(crate) fn written(&self) -> u64 {
        self.hasher.bytes()
    }

    /// Checks size and digest; a wrong blob is removed, for it could never be completed.
    pub(crate) fn verify(&mut self) -> Result<Verified, StoreError> {
        let Descriptor { digest, size, .. } = &self.descriptor;
        std::mem::take(&mut self.hasher).verify(digest, *size).map_err(|source| {
            self.discard();
            StoreError::DamagedBlob { digest: self.descriptor.digest.clone(), source }
        })
    }

    /// Gives the blob its name. The content must be on the disk: by `syncfs` of the caller, or [`Self::sync`].
    pub(crate) fn commit(self, _proof: Verified) -> Result<(), StoreError> {
        make_way(&self.finished)?;
        std::fs::rename(&self.path, &self.finished).map_err(|source| StoreError::io("rename", &self.path, source))?;
        unmark(&self.mark)?;
        // What a check has found damaged is replaced.
        if let (Some(dir), Some(name)) = (self.finished.parent(), self.finished.file_name()) {
            let _ = std::fs::remove_file(dir.join(format!("{DAMAGED}{}", name.to_string_lossy())));
        }
        Ok(())
    }

    /// Writes the content to the disk.
    pub(crate) fn sync(&self) -> Result<(), StoreError> {
        self.file.sync_all().map_err(|source| StoreError::io("sync", &self.path, source))
    }

    /// Removes what is there: it is wrong, or the disk is full.
    pub(crate) fn discard(&self) {
        // Best effort: what stays is checked again by the next pull.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Something that is no file is removed: a rename would not replace it.
pub(crate) fn make_way(path: &Path) -> Result<(), StoreError> {
    match std::fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => delete(path),
        _ => Ok(()),
    }
}

/// Whether an unfinished blob is being written by anybody.
pub(crate) fn is_locked(path: &Path) -> bool {
    File::open(path).is_ok_and(|file| rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_err())
}

fn lock(file: &File) -> io::Result<()> {
    loop {
        match rustix::fs::flock(file, FlockOperation::LockExclusive) {
            Err(Errno::INTR) => {}
            result => return Ok(result?),
        }
    }
}

fn libc_nofollow() -> i32 {
    OFlags::NOFOLLOW.bits().cast_signed()
}
