//! Sparse files: the old GNU form (map in the headers) and PAX 0.0, 0.1 (map
//! in the records) and 1.0 (map before the data).

use std::io::BufRead;

use super::entry::Segment;
use super::error::{TarError, shown};
use super::fields::{decimal, number};
use super::pax::Pax;
use super::reader::{BLOCK, TarReader};

/// Stretches that one file may have: a map larger than this is an attack.
const SEGMENTS: usize = 1 << 17;

/// The stretches of data and the full length of a sparse file.
pub(super) struct Sparse {
    pub(super) map: Vec<Segment>,
    pub(super) size: u64,
}

/// Reads what makes an entry sparse, if anything does. `stored` is how many bytes of data follow.
pub(super) fn read<R: BufRead>(
    reader: &mut TarReader<'_, R>,
    header: &tar::Header,
    pax: &Pax,
    path: &[u8],
) -> Result<Option<Sparse>, TarError> {
    let bad = || TarError::Sparse { path: shown(path) };
    let sparse = if header.entry_type().is_gnu_sparse() {
        old_gnu(reader, header)?.ok_or_else(bad)?
    } else if pax.sparse.major == Some(1) && pax.sparse.minor == Some(0) {
        let size = pax.sparse.real_size.ok_or_else(bad)?;
        Sparse { map: map_before_data(reader)?.ok_or_else(bad)?, size }
    } else if let Some(map) = &pax.sparse.map {
        Sparse { map: map.clone(), size: pax.sparse.real_size.ok_or_else(bad)? }
    } else if pax.sparse.major.is_some() {
        return Err(bad());
    } else {
        return Ok(None);
    };
    if adds_up(&sparse, reader.stored()) { Ok(Some(sparse)) } else { Err(bad()) }
}

/// In order, without overlap, within the file, and as long as the data that is stored.
fn adds_up(sparse: &Sparse, stored: u64) -> bool {
    let mut end = 0;
    let mut data = 0_u64;
    for segment in &sparse.map {
        let Some(next) = segment.offset.checked_add(segment.length) else { return false };
        if segment.offset < end || next > sparse.size {
            return false;
        }
        end = next;
        data += segment.length;
    }
    data == stored && i64::try_from(sparse.size).is_ok()
}

fn old_gnu<R: BufRead>(reader: &mut TarReader<'_, R>, header: &tar::Header) -> Result<Option<Sparse>, TarError> {
    let Some(gnu) = header.as_gnu() else { return Ok(None) };
    let Some(size) = number(&gnu.realsize).and_then(|size| u64::try_from(size).ok()) else { return Ok(None) };
    let mut map = Vec::new();
    if !take_pairs(&mut map, gnu.sparse.iter().map(|pair| (&pair.offset, &pair.numbytes))) {
        return Ok(None);
    }
    let mut more = gnu.isextended[0] != 0;
    while more {
        let mut block = tar::GnuExtSparseHeader::new();
        reader.block(block.as_mut_bytes())?;
        if !take_pairs(&mut map, block.sparse.iter().map(|pair| (&pair.offset, &pair.numbytes))) {
            return Ok(None);
        }
        more = block.isextended[0] != 0;
    }
    Ok(Some(Sparse { map, size }))
}

fn take_pairs<'a>(map: &mut Vec<Segment>, pairs: impl Iterator<Item = (&'a [u8; 12], &'a [u8; 12])>) -> bool {
    for (offset, length) in pairs {
        // The list ends at the first unused pair.
        if offset[0] == 0 || length[0] == 0 {
            break;
        }
        let parse = |field| number(field).and_then(|value| u64::try_from(value).ok());
        let (Some(offset), Some(length)) = (parse(offset), parse(length)) else { return false };
        map.push(Segment { offset, length });
    }
    map.len() <= SEGMENTS
}

/// PAX 1.0: decimal numbers, one a line, first how many pairs follow; padded to whole blocks.
fn map_before_data<R: BufRead>(reader: &mut TarReader<'_, R>) -> Result<Option<Vec<Segment>>, TarError> {
    let mut lines = Lines { text: Vec::new(), at: 0 };
    let Some(count) = lines.number(reader)?.and_then(|count| usize::try_from(count).ok()) else { return Ok(None) };
    if count > SEGMENTS {
        return Ok(None);
    }
    let mut map = Vec::new();
    for _ in 0..count {
        let (Some(offset), Some(length)) = (lines.number(reader)?, lines.number(reader)?) else { return Ok(None) };
        map.push(Segment { offset, length });
    }
    Ok(Some(map))
}

struct Lines {
    text: Vec<u8>,
    at: usize,
}

impl Lines {
    /// The next line as a number; reads whole blocks of the entry's data as needed.
    fn number<R: BufRead>(&mut self, reader: &mut TarReader<'_, R>) -> Result<Option<u64>, TarError> {
        loop {
            if let Some(end) = self.text[self.at..].iter().position(|byte| *byte == b'\n') {
                let value = decimal(&self.text[self.at..self.at + end]);
                self.at += end + 1;
                return Ok(value);
            }
            // No number is longer than 20 digits.
            if self.text.len() - self.at > 20 {
                return Ok(None);
            }
            self.text.drain(..self.at);
            self.at = 0;
            let mut block = [0; BLOCK];
            if !reader.data_block(&mut block)? {
                return Ok(None);
            }
            self.text.extend_from_slice(&block);
        }
    }
}
