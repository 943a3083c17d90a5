//! Compressed bytes to the layer's tar stream, within the limits.

use std::io::{self, BufRead, Read};
use std::sync::atomic::{AtomicU64, Ordering};

use flate2::bufread::MultiGzDecoder;

use super::pipe::{Closed, Drain, Feed};
use crate::unpack::Limits;

/// Why a layer could not be decompressed.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// The compressed data is damaged or cut short.
    #[error("decompress the layer")]
    Damaged(#[source] io::Error),
    /// More bytes than a layer may have.
    #[error("the layer expands to more than {limit} bytes")]
    TooLarge {
        /// The limit.
        limit: u64,
    },
    /// A bomb.
    #[error("the layer expands to more than {limit} times its size")]
    Ratio {
        /// The limit.
        limit: u64,
    },
}

/// Decompresses from `input` into `output` up to the end, by what the data begins with: gzip, zstd, or nothing.
/// Ends early, without an error, when nobody reads the output any more.
pub(super) fn decode(input: Drain, mut output: Feed, limits: &Limits) -> Result<(), DecodeError> {
    let taken = input.taken();
    let plain = decoder(input).map_err(DecodeError::Damaged)?;
    if pump(plain, &mut output, &taken, limits)? == Ok(()) {
        // A reader that has gone has its own reason, which it reports itself.
        let _ = output.end();
    }
    Ok(())
}

/// What decompresses `input`, by what that begins with: gzip, zstd, or nothing.
pub(crate) fn decoder<'a>(mut input: impl BufRead + 'a) -> io::Result<Box<dyn Read + 'a>> {
    let head = input.fill_buf()?;
    Ok(if head.starts_with(&[0x1f, 0x8b]) {
        Box::new(MultiGzDecoder::new(input))
    } else if head.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) || is_skippable_frame(head) {
        Box::new(zstd::Decoder::with_buffer(input)?)
    } else {
        Box::new(input)
    })
}

/// RFC 8878, 3.1.2: frames that carry no data may come first.
fn is_skippable_frame(head: &[u8]) -> bool {
    matches!(head, [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..])
}

fn pump(
    mut decoder: impl Read,
    output: &mut Feed,
    taken: &AtomicU64,
    limits: &Limits,
) -> Result<Result<(), Closed>, DecodeError> {
    let mut produced = 0_u64;
    loop {
        match output.read_from(&mut decoder).map_err(DecodeError::Damaged)? {
            Ok(0) => return Ok(Ok(())),
            Ok(count) => produced += count as u64,
            Err(closed) => return Ok(Err(closed)),
        }
        if produced > limits.bytes {
            return Err(DecodeError::TooLarge { limit: limits.bytes });
        }
        let consumed = taken.load(Ordering::Relaxed).max(1);
        if produced > limits.ratio_free && produced / consumed > limits.ratio {
            return Err(DecodeError::Ratio { limit: limits.ratio });
        }
    }
}
