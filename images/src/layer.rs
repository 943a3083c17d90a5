//! Brings one layer into the store: download → sha256 → decompress → sha256 →
//! unpack, as a pipeline of three threads. The unpacked layer gets its name
//! only when all of it has been checked and is on the disk.

mod decode;
mod lock;
mod pipe;
mod staged;

use std::fs::File;
use std::io::{self, BufRead, Read as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use umiak_base::FileLock;

pub use decode::DecodeError;
pub(crate) use lock::LayerLock;

pub(crate) use self::decode::decoder;

use self::decode::decode;
use self::pipe::{Drain, Feed, pipe};
use self::staged::Staged;
use crate::digest::{Digest, Hasher, Verified, VerifyError};
use crate::manifest::Descriptor;
use crate::progress::{Event, Progress};
use crate::registry::{BlobSink, RegistryError, Retry};
use crate::store::{BlobWriter, Image, Part, Slot, Store, StoreError};
use crate::unpack::{Limits, UnpackError, Unpacked, unpack};

/// How the names of layers that are being unpacked begin.
pub(crate) const UNFINISHED: &str = ".unpack-";
/// How the names of the layers' lock files begin.
pub(crate) const LOCK: &str = ".lock-";

/// Layers under way at the same time, as Docker's default.
const PARALLEL: usize = 3;

/// Why a layer could not be brought into the store.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The registry failed.
    #[error("download the layer {layer}")]
    Fetch {
        /// Digest of the blob.
        layer: Digest,
        /// In which way.
        #[source]
        source: Box<RegistryError>,
    },
    /// What was downloaded is not what the manifest names.
    #[error("the layer {layer} is not what the manifest names")]
    Blob {
        /// Digest of the blob.
        layer: Digest,
        /// In which way.
        #[source]
        source: VerifyError,
    },
    /// The compressed data is damaged, or expands beyond the limits.
    #[error("the layer {layer} is damaged")]
    Decode {
        /// Digest of the blob.
        layer: Digest,
        /// In which way.
        #[source]
        source: DecodeError,
    },
    /// The archive was refused, or the file system failed.
    #[error("unpack the layer {layer} in {path}")]
    Unpack {
        /// Digest of the blob.
        layer: Digest,
        /// Where.
        path: PathBuf,
        /// In which way.
        #[source]
        source: UnpackError,
    },
    /// The content is not what the image config names.
    #[error("the layer {layer} holds {found}, the image config says {expected}")]
    DiffId {
        /// Digest of the blob.
        layer: Digest,
        /// Digest of what it holds.
        found: Digest,
        /// What it should hold.
        expected: Digest,
    },
    /// A thread of the pipeline panicked: a mistake in this program.
    #[error("unpacking the layer {layer} failed unexpectedly")]
    Thread {
        /// Digest of the blob.
        layer: Digest,
    },
}

impl LayerError {
    /// Whether the disk is full.
    #[must_use]
    pub fn is_disk_full(&self) -> bool {
        match self {
            Self::Store(error) => error.is_disk_full(),
            Self::Unpack { source, .. } => source.is_disk_full(),
            _ => false,
        }
    }
}

/// Where blobs come from.
pub(crate) trait Source: Sync {
    /// Hands the bytes of a blob from `from` on to `sink`, in order and each once.
    fn fetch(&self, descriptor: &Descriptor, from: u64, sink: &mut dyn BlobSink) -> Result<(), RegistryError>;
}

/// One layer of an image.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Layer<'a> {
    pub(crate) blob: &'a Descriptor,
    pub(crate) diff_id: &'a Digest,
}

/// What receives a download: the blob's file, and the pipeline while it runs.
struct Intake<'a> {
    writer: &'a mut BlobWriter,
    feed: Option<Feed>,
    /// Set by the pipeline when no byte more would change its failure.
    fatal: &'a AtomicBool,
    /// Set when another layer has failed.
    cancelled: &'a AtomicBool,
    layer: Layer<'a>,
    progress: &'a dyn Progress,
    /// Why the last write failed.
    failure: Option<StoreError>,
}

impl BlobSink for Intake<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if let Err(error) = self.writer.write(bytes) {
            self.failure = Some(error);
            return Err(io::ErrorKind::Other.into());
        }
        self.pass(bytes);
        Ok(())
    }

    fn retrying(&mut self, retry: &Retry) {
        self.progress.event(Event::Retrying { layer: &self.layer.blob.digest, reason: &retry.reason });
    }

    fn cancelled(&self) -> bool {
        self.fatal.load(Ordering::Relaxed) || self.cancelled.load(Ordering::Relaxed)
    }
}

impl Intake<'_> {
    fn pass(&mut self, bytes: &[u8]) {
        // The pipeline may have failed; whether the blob is right is then still worth knowing, to name the cause.
        if self.feed.as_mut().is_some_and(|feed| feed.write(bytes).is_err()) {
            self.feed = None;
        }
        let blob = self.layer.blob;
        let bytes = self.writer.written();
        self.progress.event(Event::Downloading { layer: &blob.digest, bytes, total: blob.size });
    }

    /// Goes on after what an earlier pull left.
    fn download(&mut self, source: &dyn Source) -> Result<(), LayerError> {
        let blob = self.layer.blob;
        let mut feed = self.feed.take();
        let from = self.writer.resume(|bytes| {
            if feed.as_mut().is_some_and(|feed| feed.write(bytes).is_err()) {
                feed = None;
            }
            Ok::<_, StoreError>(())
        })?;
        self.feed = feed;
        if from == blob.size {
            return Ok(());
        }
        let fetched = source.fetch(blob, from, self);
        match (fetched, self.failure.take()) {
            (Ok(()), _) => Ok(()),
            (Err(_), Some(failure)) => Err(failure.into()),
            (Err(source), None) => Err(LayerError::Fetch { layer: blob.digest.clone(), source: Box::new(source) }),
        }
    }
}

impl Store {
    /// Unpacks those layers of an image that are not, from its blobs; whether any was not.
    ///
    /// # Errors
    /// When a blob is missing or damaged, or the disk fails.
    pub fn ensure_unpacked(&self, image: &Image, progress: &dyn Progress) -> Result<bool, LayerError> {
        let pairs = image.manifest.layers.iter().zip(&image.layers);
        let missing: Vec<Layer<'_>> = pairs
            .filter(|(_, diff_id)| !self.has_layer(diff_id))
            .map(|(blob, diff_id)| Layer { blob, diff_id })
            .collect();
        if missing.is_empty() {
            return Ok(false);
        }
        let _present = FileLock::shared(&self.sweep_lock_path()).map_err(StoreError::from)?;
        Installer::new(self, None, progress, &Limits::default()).all(&missing)
    }
}

/// Brings layers into the store.
pub(crate) struct Installer<'a> {
    store: &'a Store,
    source: Option<&'a dyn Source>,
    progress: &'a dyn Progress,
    limits: &'a Limits,
    /// Set when one layer has failed: the others are not needed then.
    cancelled: AtomicBool,
}

impl<'a> Installer<'a> {
    /// Without a `source`, the blobs must be there.
    pub(crate) fn new(
        store: &'a Store,
        source: Option<&'a dyn Source>,
        progress: &'a dyn Progress,
        limits: &'a Limits,
    ) -> Self {
        Self { store, source, progress, limits, cancelled: false.into() }
    }

    /// Makes sure that the store has all these blobs and unpacked layers; whether anything was missing. The first
    /// failure ends the downloads of the others, which keep what they have for the next time.
    pub(crate) fn all(&self, layers: &[Layer<'_>]) -> Result<bool, LayerError> {
        let next = AtomicUsize::new(0);
        let changed = AtomicBool::new(false);
        let failure: Mutex<Option<LayerError>> = Mutex::new(None);
        let work = || {
            while let Some(layer) = layers.get(next.fetch_add(1, Ordering::Relaxed))
                && !self.cancelled.load(Ordering::Relaxed)
            {
                match self.one(*layer) {
                    Ok(new) => drop(changed.fetch_or(new, Ordering::Relaxed)),
                    Err(error) => {
                        failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                        self.cancelled.store(true, Ordering::Relaxed);
                    }
                }
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..PARALLEL.min(layers.len()) {
                scope.spawn(work);
            }
            work();
        });
        match failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
            Some(error) => Err(error),
            None => {
                // What a build has made in this boot counts here, and must be on the disk before it is named.
                let parts = layers
                    .iter()
                    .map(|layer| Part { diff_id: layer.diff_id.clone(), blob: Some(layer.blob.digest.clone()) });
                self.store.settle(&parts.collect::<Vec<_>>())?;
                Ok(changed.into_inner())
            }
        }
    }

    fn one(&self, layer: Layer<'_>) -> Result<bool, LayerError> {
        let digest = &layer.blob.digest;
        if self.store.has_blob(layer.blob) && self.store.has_sound_layer(layer.diff_id) {
            self.progress.event(Event::Exists { layer: digest });
            return Ok(false);
        }
        let changed = {
            let _lock = LayerLock::exclusive(self.store, layer.diff_id)?;
            self.one_locked(layer)?
        };
        self.progress.event(if changed { Event::Done { layer: digest } } else { Event::Exists { layer: digest } });
        Ok(changed)
    }

    fn one_locked(&self, layer: Layer<'_>) -> Result<bool, LayerError> {
        let Self { store, progress, limits, cancelled, source } = self;
        let job = Job { store, layer, progress: *progress, limits, cancelled };
        loop {
            match (store.blob_slot(layer.blob)?, store.has_sound_layer(layer.diff_id), *source) {
                (Slot::Whole, true, _) => return Ok(false),
                (Slot::Whole, false, _) => match job.unpack_blob() {
                    // The blob on the disk is damaged: it is downloaded again, where that is possible.
                    Err(LayerError::Blob { .. }) if source.is_some() => store.drop_blob(&layer.blob.digest)?,
                    result => return result.map(|()| true),
                },
                (Slot::Open(writer), _, None) => {
                    writer.discard();
                    return Err(StoreError::MissingBlob { digest: layer.blob.digest.clone() }.into());
                }
                (Slot::Open(writer), unpacked, Some(source)) => {
                    // What an earlier pull left is not believed: after a power cut it need not be what was written.
                    let continued = writer.is_begun()?;
                    let result =
                        if unpacked { job.download_only(writer, source) } else { job.download(writer, source) };
                    match result {
                        Err(error) if continued && error.is_of_the_blob() => {
                            let reason = "what an earlier download left is damaged";
                            progress.event(Event::Retrying { layer: &layer.blob.digest, reason });
                        }
                        result => return result.map(|()| true),
                    }
                }
            }
        }
    }
}

struct Job<'a> {
    store: &'a Store,
    layer: Layer<'a>,
    progress: &'a dyn Progress,
    limits: &'a Limits,
    cancelled: &'a AtomicBool,
}

impl Job<'_> {
    fn intake<'i>(&'i self, writer: &'i mut BlobWriter, feed: Option<Feed>, fatal: &'i AtomicBool) -> Intake<'i> {
        Intake {
            writer,
            feed,
            fatal,
            cancelled: self.cancelled,
            layer: self.layer,
            progress: self.progress,
            failure: None,
        }
    }

    /// The layer is unpacked, and only its blob is missing.
    fn download_only(&self, mut writer: Box<BlobWriter>, source: &dyn Source) -> Result<(), LayerError> {
        let fatal = AtomicBool::new(false);
        let result = self.intake(&mut writer, None, &fatal).download(source);
        self.keep_or_discard(&writer, result)?;
        let proof = writer.verify().map_err(|error| self.blob_error(error))?;
        writer.sync()?;
        writer.commit(proof)?;
        Ok(sync_dir(self.store.blobs())?)
    }

    fn download(&self, mut writer: Box<BlobWriter>, source: &dyn Source) -> Result<(), LayerError> {
        let staged = Staged::new(self.store, self.layer.diff_id)?;
        let (fed, unpacked) = self.pipeline(&staged, |feed, fatal| {
            let mut intake = self.intake(&mut writer, Some(feed), fatal);
            let result = intake.download(source);
            let feed = intake.feed.take();
            if result.is_ok() {
                self.progress.event(Event::Extracting { layer: &self.layer.blob.digest });
                let _ = feed.map(Feed::end);
            }
            result
        });
        // A stop that the pipeline asked for has the pipeline's reason.
        if let (Err(LayerError::Fetch { .. }), Err(error)) = (&fed, &unpacked)
            && error.is_final()
        {
            return self.keep_or_discard(&writer, unpacked.map(drop));
        }
        self.keep_or_discard(&writer, fed)?;
        let proof = writer.verify().map_err(|error| self.blob_error(error))?;
        let unpacked = self.keep_or_discard(&writer, unpacked)?;
        staged.sync(self.store, self.layer, unpacked)?;
        if !same_device(self.store.blobs(), self.store.layers()) {
            writer.sync()?;
        }
        writer.commit(proof)?;
        sync_dir(self.store.blobs())?;
        Ok(staged.commit(self.store, self.layer.diff_id)?)
    }

    /// Unpacks a blob that is on the disk, which is checked on the way.
    fn unpack_blob(&self) -> Result<(), LayerError> {
        let digest = &self.layer.blob.digest;
        self.progress.event(Event::Extracting { layer: digest });
        let path = self.store.blob_path(digest);
        let mut file = File::open(&path).map_err(|source| StoreError::io("open", &path, source))?;
        let staged = Staged::new(self.store, self.layer.diff_id)?;
        let (fed, unpacked) = self.pipeline(&staged, |feed, fatal| {
            let mut hasher = Hasher::new();
            let mut feed = Some(feed);
            let mut buffer = vec![0; 256 << 10];
            while !fatal.load(Ordering::Relaxed) {
                let count = match file.read(&mut buffer) {
                    Ok(0) => break,
                    Ok(count) => count,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    Err(source) => return Err(StoreError::io("read", &path, source).into()),
                };
                hasher.update(&buffer[..count]);
                if feed.as_mut().is_some_and(|feed| feed.write(&buffer[..count]).is_err()) {
                    feed = None;
                }
            }
            if fatal.load(Ordering::Relaxed) {
                return Ok(());
            }
            let verified = hasher.verify(digest, self.layer.blob.size);
            let _: Verified = verified.map_err(|source| LayerError::Blob { layer: digest.clone(), source })?;
            let _ = feed.map(Feed::end);
            Ok(())
        });
        fed?;
        staged.sync(self.store, self.layer, unpacked?)?;
        Ok(staged.commit(self.store, self.layer.diff_id)?)
    }

    /// Runs `feed` on this thread, and what decompresses and unpacks on two others.
    fn pipeline(
        &self,
        staged: &Staged,
        feed: impl FnOnce(Feed, &AtomicBool) -> Result<(), LayerError>,
    ) -> (Result<(), LayerError>, Result<Unpacked, LayerError>) {
        let layer = || self.layer.blob.digest.clone();
        let fatal = AtomicBool::new(false);
        let (compressed_in, compressed) = pipe();
        let (plain_in, plain) = pipe();
        std::thread::scope(|scope| {
            let decoder = scope.spawn(|| {
                let result = decode(compressed, plain_in, self.limits);
                if matches!(result, Err(DecodeError::TooLarge { .. } | DecodeError::Ratio { .. })) {
                    fatal.store(true, Ordering::Relaxed);
                }
                result
            });
            let unpacker = scope.spawn(|| {
                let result = self.unpack_stream(plain, staged);
                if result.as_ref().is_err_and(LayerError::is_final) {
                    fatal.store(true, Ordering::Relaxed);
                }
                result
            });
            let fed = feed(compressed_in, &fatal);
            let decoded = decoder.join().map_err(|_| LayerError::Thread { layer: layer() });
            let unpacked = unpacker.join().map_err(|_| LayerError::Thread { layer: layer() });
            let result = match (decoded, unpacked) {
                (Err(error), _) | (_, Err(error)) => Err(error),
                // What the unpacker found by itself is why the download was stopped, and with it the decoder's input.
                (Ok(Err(DecodeError::Damaged(_))), Ok(Err(error))) if error.is_final() => Err(error),
                // The decoder's failure is why the unpacker's input broke off.
                (Ok(Err(source)), _) => Err(LayerError::Decode { layer: layer(), source }),
                (Ok(Ok(())), Ok(result)) => result,
            };
            (fed, result)
        })
    }

    fn unpack_stream(&self, plain: Drain, staged: &Staged) -> Result<Unpacked, LayerError> {
        let layer = || self.layer.blob.digest.clone();
        let failed = |source| LayerError::Unpack { layer: layer(), path: self.store.layers().to_owned(), source };
        let mut stream = Hashing { input: plain, hasher: Hasher::new() };
        let unpacked = unpack(&mut stream, staged.open()?, self.limits).map_err(failed)?;
        // What follows the archive's end counts for the digest too.
        loop {
            let count = stream.fill_buf().map_err(|error| failed(crate::unpack::TarError::Read(error).into()))?.len();
            if count == 0 {
                break;
            }
            stream.consume(count);
        }
        let found = stream.hasher.finish();
        if found != *self.layer.diff_id {
            return Err(LayerError::DiffId { layer: layer(), found, expected: self.layer.diff_id.clone() });
        }
        Ok(unpacked)
    }

    /// Keeps a part of a blob for the next pull, unless it fills the disk.
    fn keep_or_discard<T>(&self, writer: &BlobWriter, result: Result<T, LayerError>) -> Result<T, LayerError> {
        if result.as_ref().is_err_and(|error| error.is_disk_full() || error.is_final()) {
            writer.discard();
        }
        result
    }

    fn blob_error(&self, error: StoreError) -> LayerError {
        match error {
            StoreError::DamagedBlob { digest, source } => LayerError::Blob { layer: digest, source },
            error => error.into(),
        }
    }
}

impl LayerError {
    /// Another blob would not have led to it; the one that did is discarded.
    fn is_of_the_blob(&self) -> bool {
        matches!(self, Self::Blob { .. }) || self.is_final() && !self.is_disk_full()
    }

    /// No byte more of the blob would change it: the layer is refused, or the disk is full.
    fn is_final(&self) -> bool {
        match self {
            Self::Unpack { source, .. } => !matches!(source, UnpackError::Tar(_)),
            Self::Decode { source, .. } => !matches!(source, DecodeError::Damaged(_)),
            _ => false,
        }
    }
}

/// Hashes what passes.
struct Hashing {
    input: Drain,
    hasher: Hasher,
}

impl io::Read for Hashing {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.input.read(into)?;
        self.hasher.update(&into[..count]);
        Ok(count)
    }
}

impl BufRead for Hashing {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.input.fill_buf()
    }

    fn consume(&mut self, count: usize) {
        if let Ok(bytes) = self.input.fill_buf() {
            self.hasher.update(&bytes[..count.min(bytes.len())]);
        }
        self.input.consume(count);
    }
}

fn sync_dir(path: &Path) -> Result<(), StoreError> {
    umiak_base::state::sync_dir(path).map_err(|source| StoreError::io("sync", path, source))
}

fn same_device(a: &Path, b: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let device = |path: &Path| std::fs::metadata(path).map(|meta| meta.dev()).ok();
    device(a) == device(b)
}
