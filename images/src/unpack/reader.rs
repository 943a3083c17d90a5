//! Reads a tar stream entry by entry: ustar, GNU and PAX, as Go's archive/tar
//! does, which every registry's layers were made for. What an entry announces
//! is never allocated before it has been checked.

use std::io::{BufRead, ErrorKind};

use super::Limits;
use super::entry::{Entry, Kind, Timestamp};
use super::error::{TarError, shown};
use super::fields::{number, text};
use super::pax::{self, Pax};
use super::sparse;

/// Tar is made of blocks of this many bytes.
pub(super) const BLOCK: usize = 512;

/// A tar stream.
#[derive(Debug)]
pub struct TarReader<'l, R> {
    input: R,
    limits: &'l Limits,
    /// Bytes read so far.
    offset: u64,
    /// Bytes of the current entry's data not read yet.
    stored: u64,
    /// Zeros after the data, up to the next block.
    padding: u64,
    entries: u64,
}

/// What precedes an entry and describes it.
#[derive(Default)]
struct Extensions {
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    pax: Pax,
}

impl<'l, R: BufRead> TarReader<'l, R> {
    /// Reads from `input`, within `limits`.
    pub fn new(input: R, limits: &'l Limits) -> Self {
        Self { input, limits, offset: 0, stored: 0, padding: 0, entries: 0 }
    }

    /// The next entry, or `None` at the archive's end. Data of the last entry that was not read is skipped.
    ///
    /// # Errors
    /// When the stream fails, is cut short or damaged, or exceeds a limit.
    pub fn next_entry(&mut self) -> Result<Option<Entry>, TarError> {
        let mut extensions = Extensions::default();
        loop {
            self.skip(self.stored + self.padding)?;
            (self.stored, self.padding) = (0, 0);
            let at = self.offset;
            let Some(header) = self.header()? else { return Ok(None) };
            self.entries += 1;
            if self.entries > self.limits.entries {
                return Err(TarError::Entries { limit: self.limits.entries });
            }
            let size = number(&header.as_old().size).and_then(|size| u64::try_from(size).ok());
            let size = size.ok_or(TarError::Number { field: "size", path: shown(&header.path_bytes()) })?;
            match header.as_old().linkflag[0] {
                b'L' => extensions.name = Some(text(&self.extension(size)?).to_vec()),
                b'K' => extensions.link = Some(text(&self.extension(size)?).to_vec()),
                b'x' => extensions.pax = pax::parse(&self.extension(size)?).ok_or(TarError::Pax { offset: at })?,
                // Defaults for all entries: nothing that makes layers uses them, and Docker ignores them.
                b'g' => drop(self.extension(size)?),
                // A volume's label.
                b'V' => self.data(size),
                _ => return self.entry(&header, size, extensions).map(Some),
            }
        }
    }

    /// How many bytes of the current entry's data are left.
    #[must_use]
    pub fn stored(&self) -> u64 {
        self.stored
    }

    /// Hands `length` bytes of the current entry's data to `take`, as they lie in the input's buffer.
    ///
    /// # Errors
    /// When the stream fails or is cut short, and what `take` returns.
    pub fn copy<E: From<TarError>>(
        &mut self,
        mut length: u64,
        mut take: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        while length > 0 {
            let buffer = self.fill()?;
            let usable = usize::try_from(length).unwrap_or(usize::MAX).min(buffer.len());
            take(&buffer[..usable])?;
            self.advance(usable);
            length -= usable as u64;
            self.stored -= usable as u64;
        }
        Ok(())
    }

    /// The whole of the current entry's data, refused beyond `limit` bytes.
    ///
    /// # Errors
    /// When the stream fails or is cut short, or the data is longer.
    pub fn read_data(&mut self, limit: u64) -> Result<Vec<u8>, TarError> {
        if self.stored > limit {
            return Err(TarError::HeaderSize { size: self.stored, limit });
        }
        let mut data = Vec::new();
        self.copy(self.stored, |bytes| {
            data.extend_from_slice(bytes);
            Ok::<_, TarError>(())
        })?;
        Ok(data)
    }

    /// One block that belongs to the header, after it.
    pub(super) fn block(&mut self, block: &mut [u8; BLOCK]) -> Result<(), TarError> {
        self.input.read_exact(block).map_err(|error| self.failed(error))?;
        self.offset += BLOCK as u64;
        Ok(())
    }

    /// One block of the entry's data; false where no whole block is left.
    pub(super) fn data_block(&mut self, block: &mut [u8; BLOCK]) -> Result<bool, TarError> {
        if self.stored < BLOCK as u64 {
            return Ok(false);
        }
        self.block(block)?;
        self.stored -= BLOCK as u64;
        Ok(true)
    }

    fn data(&mut self, size: u64) {
        self.stored = size;
        self.padding = size.wrapping_neg() % BLOCK as u64;
    }

    /// The body of an extended header.
    fn extension(&mut self, size: u64) -> Result<Vec<u8>, TarError> {
        self.data(size);
        self.read_data(self.limits.header)
    }

    /// A header with a good checksum; `None` at two blocks of zeros or at the stream's end.
    fn header(&mut self) -> Result<Option<tar::Header>, TarError> {
        let at = self.offset;
        if self.input.fill_buf().map_err(TarError::Read)?.is_empty() {
            return Ok(None);
        }
        let mut header = tar::Header::new_old();
        self.block(header.as_mut_bytes())?;
        if header.as_bytes() == &[0; BLOCK] {
            if self.input.fill_buf().map_err(TarError::Read)?.is_empty() {
                return Ok(None);
            }
            self.block(header.as_mut_bytes())?;
            return if header.as_bytes() == &[0; BLOCK] { Ok(None) } else { Err(TarError::Header { offset: at }) };
        }
        let field = header.as_old().cksum;
        let expected = number(&field);
        let unsigned: i64 = header.as_bytes().iter().map(|byte| i64::from(*byte)).sum();
        let blanks: i64 = field.iter().map(|byte| i64::from(*byte)).sum();
        // Some old programs summed signed bytes.
        let high = header.as_bytes().iter().filter(|byte| **byte >= 0x80).count();
        let signed = unsigned - 256 * i64::try_from(high).unwrap_or(0);
        let high_in_field = field.iter().filter(|byte| **byte >= 0x80).count();
        let signed_blanks = blanks - 256 * i64::try_from(high_in_field).unwrap_or(0);
        let blank = 8 * i64::from(b' ');
        if expected == Some(unsigned - blanks + blank) || expected == Some(signed - signed_blanks + blank) {
            Ok(Some(header))
        } else {
            Err(TarError::Header { offset: at })
        }
    }

    fn entry(&mut self, header: &tar::Header, size: u64, extensions: Extensions) -> Result<Entry, TarError> {
        let Extensions { name, link, mut pax } = extensions;
        let path = name.or_else(|| pax.path.take()).unwrap_or_else(|| header.path_bytes().into_owned());
        let path = pax.sparse.name.take().unwrap_or(path);
        let link = link.or_else(|| pax.linkpath.take());
        let link = || link.unwrap_or_else(|| header.link_name_bytes().unwrap_or_default().into_owned());
        let flag = header.as_old().linkflag[0];
        let kind = match flag {
            0 if path.ends_with(b"/") => Kind::Directory,
            0 | b'0' | b'7' | b'S' => Kind::File { sparse: None },
            b'1' => Kind::Hardlink(link()),
            b'2' => Kind::Symlink(link()),
            b'3' => Kind::Char { major: device(header, true, &path)?, minor: device(header, false, &path)? },
            b'4' => Kind::Block { major: device(header, true, &path)?, minor: device(header, false, &path)? },
            b'5' => Kind::Directory,
            b'6' => Kind::Fifo,
            other => {
                return Err(TarError::Kind { path: shown(&path), kind: char::from(other).escape_debug().to_string() });
            }
        };
        // Only files have data; other kinds may carry a size that means nothing.
        self.data(if matches!(kind, Kind::File { .. }) { pax.size.unwrap_or(size) } else { 0 });
        let mut entry = Entry {
            mode: 0,
            uid: 0,
            gid: 0,
            mtime: Timestamp::default(),
            size: self.stored,
            kind,
            path,
            xattrs: Vec::new(),
        };
        if let Kind::File { sparse: map } = &mut entry.kind
            && let Some(sparse) = sparse::read(self, header, &pax, &entry.path)?
        {
            (*map, entry.size) = (Some(sparse.map), sparse.size);
        }
        entry.take_attributes(header, pax)?;
        Ok(entry)
    }

    fn skip(&mut self, mut length: u64) -> Result<(), TarError> {
        while length > 0 {
            let available = self.fill()?.len();
            let usable = usize::try_from(length).unwrap_or(usize::MAX).min(available);
            self.advance(usable);
            length -= usable as u64;
        }
        Ok(())
    }

    /// What lies in the buffer, never empty.
    fn fill(&mut self) -> Result<&[u8], TarError> {
        let offset = self.offset;
        loop {
            match self.input.fill_buf() {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(TarError::Read(error)),
                Ok([]) => return Err(TarError::Truncated { offset }),
                Ok(_) => break,
            }
        }
        self.input.fill_buf().map_err(TarError::Read)
    }

    fn advance(&mut self, bytes: usize) {
        self.input.consume(bytes);
        self.offset += bytes as u64;
    }

    fn failed(&self, error: std::io::Error) -> TarError {
        if error.kind() == ErrorKind::UnexpectedEof {
            TarError::Truncated { offset: self.offset }
        } else {
            TarError::Read(error)
        }
    }
}

impl Entry {
    fn take_attributes(&mut self, header: &tar::Header, pax: Pax) -> Result<(), TarError> {
        let old = header.as_old();
        let bad = |field| TarError::Number { field, path: shown(&self.path) };
        let id = |pax: Option<u64>, field: &[u8], name| {
            let value = pax.or_else(|| number(field).and_then(|value| u64::try_from(value).ok()));
            // The kernel takes the highest value for "leave it as it is".
            value.and_then(|id| u32::try_from(id).ok()).filter(|id| *id != u32::MAX).ok_or_else(|| bad(name))
        };
        let (uid, gid) = (id(pax.uid, &old.uid, "owner")?, id(pax.gid, &old.gid, "group")?);
        let mode = number(&old.mode).and_then(|mode| u32::try_from(mode & 0o7777).ok()).ok_or_else(|| bad("mode"))?;
        let mtime = match pax.mtime {
            Some(mtime) => mtime,
            None => Timestamp { seconds: number(&old.mtime).ok_or_else(|| bad("time"))?, nanos: 0 },
        };
        (self.uid, self.gid, self.mode, self.mtime, self.xattrs) = (uid, gid, mode, mtime, pax.xattrs);
        Ok(())
    }
}

fn device(header: &tar::Header, major: bool, path: &[u8]) -> Result<u32, TarError> {
    let fields = match (header.as_ustar(), header.as_gnu()) {
        (Some(ustar), _) => Some((&ustar.dev_major, &ustar.dev_minor)),
        (_, Some(gnu)) => Some((&gnu.dev_major, &gnu.dev_minor)),
        _ => None,
    };
    let value = fields.and_then(|(first, second)| number(if major { first } else { second }));
    value
        .and_then(|value| u32::try_from(value).ok())
        .ok_or(TarError::Number { field: "device number", path: shown(path) })
}
