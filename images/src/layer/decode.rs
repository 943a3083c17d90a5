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
pub(super) fn decode(mut input: Drain, mut output: Feed, limits: &Limits) -> Result<(), DecodeError> {
    let taken = input.taken();
    let head = input.fill_buf().map_err(DecodeError::Damaged)?;
    let result = if head.starts_with(&[0x1f, 0x8b]) {
        pump(MultiGzDecoder::new(input), &mut output, &taken, limits)?
    } else if head.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) || is_skippable_frame(head) {
        let decoder = zstd::Decoder::with_buffer(input).map_err(DecodeError::Damaged)?;
        pump(decoder, &mut output, &taken, limits)?
    } else {
        pump(input, &mut output, &taken, limits)?
    };
    if result == Ok(()) {
        // A reader that has gone has its own reason, which it reports itself.
        let _ = output.end();
    }
    Ok(())
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
