//! Compresses a stream on several cores. It is cut into blocks of a fixed size
//! that know nothing of each other, so the result depends on the content and
//! the level alone, not on how many cores there are.

use std::fmt;
use std::io::{self, Write};
use std::str::FromStr;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};

use flate2::{Compress, Crc, FlushCompress};

use crate::manifest::{DOCKER_LAYER, DOCKER_LAYER_GZIP, OCI_LAYER, OCI_LAYER_GZIP, OCI_LAYER_ZSTD};

/// Uncompressed bytes of a block: the blocks together are 0.2 % larger than one stream.
const GZIP_BLOCK: usize = 1 << 20;
/// Uncompressed bytes of a frame: the window of the default level.
const ZSTD_BLOCK: usize = 2 << 20;
/// Threads at most; each has a block before it and one behind.
const MOST_THREADS: usize = 8;
/// The level of `gzip` without another. On 250 MB of `/usr` one core does, relative to this, and leaves:
/// 1: 2.3 × 49.1 %, 2: 0.9 × 40.8 %, 3: 1.08 × 39.4 %, 4: 1 × 38.8 %, 5: 0.89 × 38.3 %, 6: 0.67 × 38.2 %. Beyond 4 it
/// costs more time than any network gives back; 1 costs a quarter more to move at each pull.
const GZIP_LEVEL: u32 = 4;
/// The level of `zstd` without another, zstd's own.
const ZSTD_LEVEL: i32 = 3;

/// How a layer's blob is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Compression {
    /// The tar stream as it is.
    None,
    /// One member of gzip (RFC 1952).
    Gzip {
        /// 0 (none) to 9 (best).
        level: u32,
    },
    /// Frames of Zstandard (RFC 8878).
    Zstd {
        /// 1 (fast) to 22 (best).
        level: i32,
    },
}

/// A compression that is not known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unsupported layer compression type {name}, known are uncompressed, gzip and zstd")]
pub struct UnknownCompression {
    /// What was asked for.
    pub name: String,
}

impl Default for Compression {
    fn default() -> Self {
        Self::Gzip { level: GZIP_LEVEL }
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "uncompressed",
            Self::Gzip { .. } => "gzip",
            Self::Zstd { .. } => "zstd",
        })
    }
}

impl FromStr for Compression {
    type Err = UnknownCompression;

    /// By the names that `docker buildx build --output compression=` has, with the usual level.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "uncompressed" => Ok(Self::None),
            "gzip" => Ok(Self::Gzip { level: GZIP_LEVEL }),
            "zstd" => Ok(Self::Zstd { level: ZSTD_LEVEL }),
            _ => Err(UnknownCompression { name: text.to_owned() }),
        }
    }
}

impl Compression {
    /// The same with another level, which is brought into the range that it has.
    #[must_use]
    pub fn with_level(self, level: u32) -> Self {
        match self {
            Self::None => Self::None,
            Self::Gzip { .. } => Self::Gzip { level: level.min(9) },
            Self::Zstd { .. } => Self::Zstd { level: i32::try_from(level.clamp(1, 22)).unwrap_or(ZSTD_LEVEL) },
        }
    }

    /// The media type of a layer.
    #[must_use]
    pub const fn media_type(self) -> &'static str {
        match self {
            Self::None => OCI_LAYER,
            Self::Gzip { .. } => OCI_LAYER_GZIP,
            Self::Zstd { .. } => OCI_LAYER_ZSTD,
        }
    }

    /// Whether a layer of this media type is compressed so, at whatever level.
    pub(crate) fn is(self, media_type: &str) -> bool {
        match self {
            Self::None => matches!(media_type, OCI_LAYER | DOCKER_LAYER),
            Self::Gzip { .. } => matches!(media_type, OCI_LAYER_GZIP | DOCKER_LAYER_GZIP),
            Self::Zstd { .. } => media_type == OCI_LAYER_ZSTD,
        }
    }

    const fn block(self) -> usize {
        match self {
            Self::Zstd { .. } => ZSTD_BLOCK,
            _ => GZIP_BLOCK,
        }
    }

    fn packer(self) -> io::Result<Packer> {
        Ok(match self {
            Self::None => Packer::Copy,
            Self::Gzip { level } => Packer::Gzip(Compress::new(flate2::Compression::new(level.min(9)), false)),
            Self::Zstd { level } => Packer::Zstd(zstd::bulk::Compressor::new(level)?),
        })
    }
}

/// Threads to compress with.
pub(super) fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from).min(MOST_THREADS)
}

/// Runs `feed`, whose output goes compressed to `out`.
///
/// # Errors
/// Those of `out` before those of `feed`, which may follow from them.
pub(super) fn compress<T>(
    compression: Compression,
    threads: usize,
    out: &mut (dyn Write + Send),
    feed: impl FnOnce(&mut dyn Write) -> io::Result<T>,
) -> io::Result<T> {
    let threads = if compression == Compression::None { 1 } else { threads.max(1) };
    let (jobs, queue) = sync_channel::<Job>(threads);
    let (order, answers) = sync_channel(threads + 2);
    let queue = Mutex::new(queue);
    std::thread::scope(|scope| {
        let collector = scope.spawn(move || collect(compression, out, answers));
        for _ in 0..threads {
            scope.spawn(|| work(compression, &queue));
        }
        let mut blocks = Blocks { block: Vec::new(), size: compression.block(), jobs, order };
        let fed = feed(&mut blocks).and_then(|value| blocks.end().map(|()| value));
        drop(blocks);
        let collected = collector.join().unwrap_or_else(|_| Err(io::Error::other("a thread that compresses failed")));
        collected.and(fed)
    })
}

/// One block on its way.
struct Job {
    data: Vec<u8>,
    last: bool,
    answer: SyncSender<io::Result<Packed>>,
}

struct Packed {
    bytes: Vec<u8>,
    /// Of the uncompressed bytes.
    crc: Crc,
}

/// Cuts what is written to it.
struct Blocks {
    block: Vec<u8>,
    size: usize,
    jobs: SyncSender<Job>,
    order: SyncSender<Receiver<io::Result<Packed>>>,
}

impl Blocks {
    fn send(&mut self, last: bool) -> io::Result<()> {
        let gone = || io::Error::from(io::ErrorKind::BrokenPipe);
        let (answer, answered) = sync_channel(1);
        self.order.send(answered).map_err(|_| gone())?;
        let data = std::mem::take(&mut self.block);
        self.jobs.send(Job { data, last, answer }).map_err(|_| gone())
    }

    fn end(&mut self) -> io::Result<()> {
        self.send(true)
    }
}

impl Write for Blocks {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // Sent only when more follows, so that the last one is known to be the last.
        if self.block.len() == self.size && !bytes.is_empty() {
            self.send(false)?;
        }
        if self.block.capacity() == 0 {
            self.block.reserve_exact(self.size);
        }
        let count = bytes.len().min(self.size - self.block.len());
        self.block.extend_from_slice(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn work(compression: Compression, queue: &Mutex<Receiver<Job>>) {
    let mut packer = compression.packer();
    loop {
        let job = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(Job { data, last, answer }) = job else { return };
        let packed = match &mut packer {
            Ok(packer) => packer.pack(data, last),
            Err(error) => Err(io::Error::new(error.kind(), error.to_string())),
        };
        // Nobody waits for it when the output has failed.
        let _ = answer.send(packed);
    }
}

enum Packer {
    Copy,
    Gzip(Compress),
    Zstd(zstd::bulk::Compressor<'static>),
}

impl Packer {
    fn pack(&mut self, data: Vec<u8>, last: bool) -> io::Result<Packed> {
        let mut crc = Crc::new();
        let bytes = match self {
            Self::Copy => data,
            Self::Gzip(deflate) => {
                crc.update(&data);
                deflate.reset();
                deflated(deflate, &data, last)?
            }
            // An empty stream is an empty frame; after others there is nothing to say.
            Self::Zstd(encoder) => encoder.compress(&data)?,
        };
        Ok(Packed { bytes, crc })
    }
}

/// One block of deflate, ended at a byte's border so that another can follow.
fn deflated(deflate: &mut Compress, data: &[u8], last: bool) -> io::Result<Vec<u8>> {
    let flush = if last { FlushCompress::Finish } else { FlushCompress::Sync };
    let mut out = Vec::with_capacity(data.len() / 2 + 1024);
    loop {
        let taken = usize::try_from(deflate.total_in()).unwrap_or(usize::MAX).min(data.len());
        deflate.compress_vec(&data[taken..], &mut out, flush).map_err(io::Error::other)?;
        // Room that is left means that nothing is held back.
        if out.len() < out.capacity() {
            return Ok(out);
        }
        out.reserve(data.len() / 4 + 1024);
    }
}

/// Writes the blocks in their order.
fn collect(
    compression: Compression,
    out: &mut (dyn Write + Send),
    answers: Receiver<Receiver<io::Result<Packed>>>,
) -> io::Result<()> {
    let gzip = matches!(compression, Compression::Gzip { .. });
    if gzip {
        // RFC 1952, 2.3: deflate, no flags, no time, unknown system.
        out.write_all(&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255])?;
    }
    let mut crc = Crc::new();
    for answer in answers {
        let gone = |_| io::Error::other("a thread that compresses failed");
        let packed = answer.recv().map_err(gone)??;
        out.write_all(&packed.bytes)?;
        crc.combine(&packed.crc);
    }
    if gzip {
        out.write_all(&crc.sum().to_le_bytes())?;
        out.write_all(&crc.amount().to_le_bytes())?;
    }
    out.flush()
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    /// Text and noise in turn, always the same.
    fn sample(length: usize) -> Vec<u8> {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut out = Vec::new();
        while out.len() < length {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            out.extend_from_slice(format!("{:x} usr/share/doc/a\n", state & 0xfff).as_bytes());
        }
        out.truncate(length);
        out
    }

    fn packed(compression: Compression, threads: usize, data: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        compress(compression, threads, &mut out, |feed| {
            // In pieces of odd sizes: where they end must not matter.
            data.chunks(threads * 7919 + 1).try_for_each(|piece| feed.write_all(piece))
        })
        .unwrap();
        out
    }

    fn unpacked(compression: Compression, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        match compression {
            Compression::None => out.extend_from_slice(bytes),
            // One member: a reader that stops after the first one gets all.
            Compression::Gzip { .. } => drop(flate2::read::GzDecoder::new(bytes).read_to_end(&mut out).unwrap()),
            Compression::Zstd { .. } => drop(zstd::Decoder::new(bytes).unwrap().read_to_end(&mut out).unwrap()),
        }
        out
    }

    #[test]
    fn what_is_compressed_comes_back_and_the_number_of_threads_does_not_matter() {
        let levels = [0, 1, 4, 6, 9].map(|level| Compression::Gzip { level });
        for compression in levels.into_iter().chain([Compression::None, Compression::Zstd { level: 3 }]) {
            for length in [0, 1, GZIP_BLOCK - 1, GZIP_BLOCK, GZIP_BLOCK + 1, 2 * ZSTD_BLOCK, 5_000_000] {
                let data = sample(length);
                let one = packed(compression, 1, &data);
                assert_eq!(unpacked(compression, &one), data, "{compression:?} {length}");
                assert!(packed(compression, 5, &data) == one, "{compression:?} {length}");
            }
        }
    }

    #[test]
    fn a_failing_output_ends_it_with_its_reason() {
        struct Full(usize);
        impl Write for Full {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.0 = self.0.checked_sub(bytes.len()).ok_or(io::ErrorKind::StorageFull)?;
                Ok(bytes.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let data = sample(40 << 20);
        for threads in [1, 3] {
            let compression = Compression::Gzip { level: 1 };
            let error = compress(compression, threads, &mut Full(1 << 20), |feed| feed.write_all(&data)).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        }
        let failing = |_: &mut dyn Write| Err::<(), _>(io::Error::from(io::ErrorKind::NotFound));
        let error = compress(Compression::default(), 2, &mut Vec::new(), failing).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn names_are_those_of_buildx() {
        for name in ["uncompressed", "gzip", "zstd"] {
            assert_eq!(name.parse::<Compression>().unwrap().to_string(), name);
        }
        assert!("estargz".parse::<Compression>().is_err());
        assert_eq!(Compression::default().with_level(12), Compression::Gzip { level: 9 });
    }
}
