//! One layer: its blob is read once, checked against its digest, unpacked in
//! memory, and compared with the directory it was unpacked to.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::os::fd::AsFd as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::compare::{Compared, compare};
use super::expected::Expected;
use crate::digest::{Digest, Hasher};
use crate::layer::decoder;
use crate::manifest::Descriptor;
use crate::pack::{Options, TarWriter, pack_content};
use crate::store::{Store, StoreError};
use crate::unpack::{Limits, Unpacked};

/// Bytes read at a time.
const CHUNK: usize = 256 << 10;

/// What came of one layer and its blobs.
#[derive(Debug)]
pub(super) struct Checked {
    /// Each blob, and what is wrong with it.
    pub(super) blobs: Vec<(Digest, Option<String>)>,
    pub(super) layer: Verdict,
}

/// What is known of a directory.
#[derive(Debug)]
pub(super) enum Verdict {
    /// It was compared.
    Compared(Compared, Unpacked),
    /// It was made here, and makes its digest when it is packed.
    Packed,
    /// There is nothing whole to compare it with.
    Unknown,
    /// The blob is whole and holds something else.
    Other(String),
}

/// A blob as it lies in the store, nothing else than a file.
pub(super) fn open_blob(store: &Store, digest: &Digest) -> Result<File, String> {
    let path = store.blob_path(digest);
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    let opened = File::options().read(true).custom_flags(flags).open(&path);
    let file = opened.map_err(|error| match Errno::from_io_error(&error) {
        Some(Errno::NOENT) => "is missing".to_owned(),
        Some(Errno::LOOP) => "is a symbolic link, not a file".to_owned(),
        _ => format!("cannot be read: {error}"),
    })?;
    match file.metadata() {
        Ok(meta) if meta.is_file() => Ok(file),
        Ok(_) => Err("is not a file".to_owned()),
        Err(error) => Err(format!("cannot be read: {error}")),
    }
}

/// Reads a blob to its end; what is wrong with it. `size` is what a descriptor says, where there is one.
pub(super) fn check_blob(store: &Store, digest: &Digest, size: Option<u64>, read: &AtomicU64) -> Option<String> {
    let file = match open_blob(store, digest) {
        Ok(file) => file,
        Err(what) => return Some(what),
    };
    let mut blob = Blob { file, hasher: Hasher::new(), read };
    finish(&mut blob, digest, size)
}

/// Checks a layer, and all blobs that hold it.
pub(super) fn check_layer(store: &Store, diff_id: &Digest, blobs: &[Descriptor], read: &AtomicU64) -> Checked {
    let mut checked = Checked { blobs: Vec::new(), layer: Verdict::Unknown };
    for blob in blobs {
        let compared = matches!(checked.layer, Verdict::Compared(..));
        if compared || !store.has_layer(diff_id) {
            let wrong = check_blob(store, &blob.digest, Some(blob.size), read);
            checked.blobs.push((blob.digest.clone(), wrong));
            continue;
        }
        let file = match open_blob(store, &blob.digest) {
            Ok(file) => file,
            Err(what) => {
                checked.blobs.push((blob.digest.clone(), Some(what)));
                continue;
            }
        };
        let mut raw = Blob { file, hasher: Hasher::new(), read };
        let expected = expected(&mut raw, diff_id);
        let wrong = finish(&mut raw, &blob.digest, Some(blob.size));
        if wrong.is_none() {
            checked.layer = match expected {
                Ok((tree, unpacked)) => match open_layer(store, diff_id) {
                    Ok((root, owner)) => Verdict::Compared(compare(&tree, &root, owner), unpacked),
                    Err(what) => Verdict::Other(what),
                },
                Err(what) => Verdict::Other(what),
            };
        }
        checked.blobs.push((blob.digest.clone(), wrong));
    }
    let built = || store.note(diff_id).is_some_and(|note| note.built);
    if matches!(checked.layer, Verdict::Unknown) && store.has_layer(diff_id) && built() {
        checked.layer = match packed(store, diff_id) {
            Ok(found) if found == *diff_id => Verdict::Packed,
            Ok(found) => Verdict::Other(format!("makes {found} when it is packed")),
            Err(error) => Verdict::Other(format!("cannot be packed: {error}")),
        };
    }
    checked
}

/// The digest of a layer that was made here, packed again.
fn packed(store: &Store, diff_id: &Digest) -> io::Result<Digest> {
    let directory = File::open(store.layer_path(diff_id))?;
    let mut tar = TarWriter::new(Digesting(Hasher::new()));
    pack_content(&mut tar, directory.as_fd(), &Options { overlay: true, skip: None })?;
    let Digesting(hasher) = tar.finish()?;
    Ok(hasher.finish())
}

struct Digesting(Hasher);

impl io::Write for Digesting {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The layer's directory, and whom things there belong to that nobody else does.
fn open_layer(store: &Store, diff_id: &Digest) -> Result<(std::os::fd::OwnedFd, (u32, u32)), String> {
    let path = store.layer_path(diff_id);
    let failed = |error: io::Error| format!("cannot be read: {error}");
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let root = rustix::fs::open(&path, flags, Mode::empty()).map_err(|error| failed(error.into()))?;
    let above = std::fs::metadata(path.parent().unwrap_or(Path::new("/"))).map_err(failed)?;
    Ok((root, (above.uid(), above.gid())))
}

/// The tree of a blob whose content has the digest `diff_id`.
fn expected(raw: &mut Blob<'_>, diff_id: &Digest) -> Result<(Expected, Unpacked), String> {
    let input = BufReader::with_capacity(CHUNK, raw);
    let plain = decoder(input).map_err(|error| format!("cannot be decompressed: {error}"))?;
    let mut plain = Plain { input: BufReader::with_capacity(CHUNK, plain), hasher: Hasher::new() };
    let tree = Expected::read(&mut plain, &Limits::default()).map_err(|error| {
        let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
        format!("cannot be unpacked: {error}{cause}")
    })?;
    let rest = io::copy(&mut plain, &mut io::sink());
    rest.map_err(|error| format!("cannot be decompressed: {error}"))?;
    let found = plain.hasher.finish();
    if found == *diff_id { Ok(tree) } else { Err(format!("its blob holds {found} instead")) }
}

/// Reads what is left, and says what is wrong with the whole.
fn finish(blob: &mut Blob<'_>, digest: &Digest, size: Option<u64>) -> Option<String> {
    if let Err(error) = io::copy(&mut BufReader::with_capacity(CHUNK, &mut *blob), &mut io::sink()) {
        return Some(format!("cannot be read: {error}"));
    }
    let hasher = std::mem::take(&mut blob.hasher);
    let size = size.unwrap_or(hasher.bytes());
    if hasher.bytes() != size {
        return Some(format!("has {} bytes, should have {size}", hasher.bytes()));
    }
    (hasher.finish() != *digest).then(|| "has other content".to_owned())
}

/// A blob's bytes, hashed as they pass.
struct Blob<'a> {
    file: File,
    hasher: Hasher,
    read: &'a AtomicU64,
}

impl Read for Blob<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read(into)?;
        self.hasher.update(&into[..count]);
        self.read.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}

/// A layer's uncompressed bytes, hashed as they are consumed.
struct Plain<R> {
    input: BufReader<R>,
    hasher: Hasher,
}

impl<R: Read> Read for Plain<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.input.read(into)?;
        self.hasher.update(&into[..count]);
        Ok(count)
    }
}

impl<R: Read> BufRead for Plain<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.input.fill_buf()
    }

    fn consume(&mut self, count: usize) {
        self.hasher.update(&self.input.buffer()[..count]);
        self.input.consume(count);
    }
}

impl Store {
    /// A small blob that is to be parsed, in the form of other errors.
    pub(super) fn small_blob(&self, digest: &Digest, limit: u64) -> Result<Vec<u8>, StoreError> {
        self.read_blob(digest, limit)
    }
}
