//! What is sent: a few bytes, or a part of a file that is read while it goes
//! out, so that a blob of any size takes little memory.

use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use reqwest::RequestBuilder;
use reqwest::header::CONTENT_LENGTH;
use tokio::sync::mpsc::{Receiver, Sender, channel};

use super::body::len;
use crate::digest::{Digest, Hasher, Verified, VerifyError};

/// Bytes read at a time.
const PIECE: u64 = 256 << 10;
/// Pieces that may wait for the network.
const WAITING: usize = 4;

/// A blob's file, hashed as it is read for the first time.
pub(super) struct Content {
    file: File,
    hasher: Mutex<Hasher>,
    /// Why it could not be read, if so.
    fault: Mutex<Option<io::Error>>,
    /// Hears how far the blob has been handed to the network.
    watch: Box<dyn Fn(u64) + Send + Sync>,
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Content").field("file", &self.file).finish_non_exhaustive()
    }
}

impl Content {
    pub(super) fn new(file: File, watch: impl Fn(u64) + Send + Sync + 'static) -> Self {
        Self { file, hasher: Mutex::default(), fault: Mutex::default(), watch: Box::new(watch) }
    }

    /// How many bytes from the beginning have been read.
    pub(super) fn read(&self) -> u64 {
        self.hasher.lock().unwrap_or_else(PoisonError::into_inner).bytes()
    }

    /// Whether what was read, from the beginning to the end, is what it should be.
    pub(super) fn verify(&self, digest: &Digest, size: u64) -> Result<Verified, VerifyError> {
        self.hasher.lock().unwrap_or_else(PoisonError::into_inner).clone().verify(digest, size)
    }

    /// Why reading failed, if it did.
    pub(super) fn fault(&self) -> Option<io::Error> {
        self.fault.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// All bytes of a small blob.
    pub(super) fn whole(&self, size: u64) -> io::Result<Bytes> {
        let mut bytes = Vec::new();
        while len(&bytes) < size {
            bytes.extend_from_slice(&self.piece(len(&bytes), size)?);
        }
        Ok(bytes.into())
    }

    /// Some bytes from `at` on, none of them beyond `end`.
    fn piece(&self, at: u64, end: u64) -> io::Result<Bytes> {
        let mut bytes = vec![0; usize::try_from((end - at).min(PIECE)).unwrap_or(0)];
        let count = loop {
            match self.file.read_at(&mut bytes, at) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => break other?,
            }
        };
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        bytes.truncate(count);
        let mut hasher = self.hasher.lock().unwrap_or_else(PoisonError::into_inner);
        // A part that is sent again has been hashed already.
        let known = usize::try_from(hasher.bytes().saturating_sub(at)).unwrap_or(usize::MAX).min(count);
        hasher.update(&bytes[known..]);
        Ok(bytes.into())
    }

    async fn feed(self: Arc<Self>, range: (u64, u64), taken: Arc<AtomicU64>, pipe: Sender<io::Result<Bytes>>) {
        let (mut at, end) = range;
        while at < end {
            let content = Arc::clone(&self);
            let piece = tokio::task::spawn_blocking(move || content.piece(at, end)).await;
            let piece = match piece.unwrap_or_else(|error| Err(io::Error::other(error))) {
                Ok(piece) => piece,
                Err(error) => {
                    let shown = io::Error::from(error.kind());
                    *self.fault.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                    // Without it the request would end as if nothing had happened.
                    drop(pipe.send(Err(shown)).await);
                    return;
                }
            };
            let count = len(&piece);
            if pipe.send(Ok(piece)).await.is_err() {
                return;
            }
            at += count;
            taken.fetch_add(count, Ordering::Relaxed);
            (self.watch)(at);
        }
    }
}

/// What a request carries.
#[derive(Debug)]
pub(super) enum Payload {
    /// These bytes.
    Bytes(Bytes),
    /// Bytes `from` to `end` of a file.
    Part {
        content: Arc<Content>,
        from: u64,
        end: u64,
        /// Bytes that the network has taken, those of earlier attempts included.
        taken: Arc<AtomicU64>,
    },
}

impl Payload {
    pub(super) fn part(content: &Arc<Content>, from: u64, end: u64) -> Self {
        Self::Part { content: Arc::clone(content), from, end, taken: Arc::default() }
    }

    /// How much of it the network has taken.
    pub(super) fn taken(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => len(bytes),
            Self::Part { taken, .. } => taken.load(Ordering::Relaxed),
        }
    }

    /// How many bytes it has.
    pub(super) fn len(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => len(bytes),
            Self::Part { from, end, .. } => end - from,
        }
    }

    /// Puts it into a request. Runs on the network thread, where the file is read from now on.
    pub(super) fn attach(&self, request: RequestBuilder) -> RequestBuilder {
        match self {
            Self::Bytes(bytes) => request.body(bytes.clone()),
            Self::Part { content, from, end, taken } => {
                let (pipe, pieces) = channel(WAITING);
                taken.store(0, Ordering::Relaxed);
                tokio::task::spawn_local(Arc::clone(content).feed((*from, *end), Arc::clone(taken), pipe));
                request
                    .header(CONTENT_LENGTH, self.len())
                    .body(reqwest::Body::wrap(Pieces { pieces, size: self.len() }))
            }
        }
    }
}

/// The pieces of a file as the body of a request.
struct Pieces {
    pieces: Receiver<io::Result<Bytes>>,
    size: u64,
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        self.pieces.poll_recv(context).map(|piece| piece.map(|piece| piece.map(Frame::data)))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.size)
    }
}
