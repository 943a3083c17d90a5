//! `import`: an image of one layer, made of an archive of a root file system.

use std::io::{self, BufReader, Read, Write};

use super::ArchiveError;
use crate::config::ImageConfig;
use crate::decompress::decompress;
use crate::pack::NewImage;
use crate::reference::Reference;
use crate::store::{Image, Store};
use crate::unpack::TarError;

/// Bytes read at a time.
const CHUNK: usize = 256 << 10;

/// Makes an image of a tar archive (compressed or not), with `config` but for its layers.
///
/// # Errors
/// When the archive is damaged or refused, or the disk fails; nothing of it is left then.
pub fn import(
    store: &Store,
    archive: impl Read,
    config: ImageConfig,
    name: Option<&Reference>,
) -> Result<Image, ArchiveError> {
    let new = NewImage::begin(store)?;
    let layer = new.raw_layer(|out| copy(decompress(BufReader::with_capacity(CHUNK, archive))?, out))?;
    if layer.entries == 0 {
        return Err(ArchiveError::Read(TarError::Truncated { offset: 0 }));
    }
    Ok(new.finish(config, &[(layer.blob, layer.diff_id)], name)?)
}

/// Copies everything; whether there was anything.
fn copy(mut from: impl Read, to: &mut impl Write) -> io::Result<u64> {
    io::copy(&mut from, to).map(|bytes| u64::from(bytes > 0))
}
