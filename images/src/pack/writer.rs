//! Writes the entries of an archive: ustar headers, with PAX records for what
//! does not fit into them (POSIX.1-2017, pax).

use std::io::{self, Write};

use crate::unpack::{Entry, Kind, Segment};

/// Tar is made of blocks of this many bytes.
const BLOCK: usize = 512;

/// A tar stream being written.
#[derive(Debug)]
pub struct TarWriter<W> {
    out: W,
    /// Bytes that the current entry's data still has to have.
    left: u64,
    padding: usize,
    entries: u64,
}

impl<W: Write> TarWriter<W> {
    /// Writes to `out`.
    pub fn new(out: W) -> Self {
        Self { out, left: 0, padding: 0, entries: 0 }
    }

    /// How many entries were written.
    pub fn entries(&self) -> u64 {
        self.entries
    }

    /// Begins an entry. The data of a file follows with [`Self::data`]: `entry.size` bytes, or those of its segments.
    ///
    /// # Errors
    /// When the output fails.
    pub fn begin(&mut self, entry: &Entry) -> io::Result<()> {
        self.end_entry()?;
        self.entries += 1;
        let (flag, link) = match &entry.kind {
            Kind::File { .. } => (b'0', None),
            Kind::Directory => (b'5', None),
            Kind::Symlink(target) => (b'2', Some(target)),
            Kind::Hardlink(target) => (b'1', Some(target)),
            Kind::Char { .. } => (b'3', None),
            Kind::Block { .. } => (b'4', None),
            Kind::Fifo => (b'6', None),
        };
        let map = match &entry.kind {
            Kind::File { sparse: Some(segments) } => Some(sparse_map(segments)),
            _ => None,
        };
        let size = match (&entry.kind, &map) {
            (Kind::File { sparse: Some(segments) }, Some(map)) => {
                map.len() as u64 + segments.iter().map(|segment| segment.length).sum::<u64>()
            }
            (Kind::File { .. }, _) => entry.size,
            _ => 0,
        };
        let mut records = Records::default();
        if map.is_some() {
            records.add("GNU.sparse.major", b"1");
            records.add("GNU.sparse.minor", b"0");
            records.add("GNU.sparse.name", &entry.path);
            records.add("GNU.sparse.realsize", entry.size.to_string().as_bytes());
        }
        let mut header = tar::Header::new_ustar();
        records.describe(&mut header, entry, link.map(Vec::as_slice), size);
        for (name, value) in &entry.xattrs {
            records.add_bytes(&[b"SCHILY.xattr.", name.as_slice()].concat(), value);
        }
        header.as_mut_bytes()[156] = flag;
        if let Kind::Char { major, minor } | Kind::Block { major, minor } = entry.kind {
            header.set_device_major(major)?;
            header.set_device_minor(minor)?;
        }
        header.set_cksum();
        records.write(&mut self.out)?;
        self.out.write_all(header.as_bytes())?;
        if let Some(map) = map {
            self.out.write_all(&map)?;
            self.left = size - map.len() as u64;
        } else {
            self.left = size;
        }
        self.padding = usize::try_from(size.wrapping_neg() % BLOCK as u64).unwrap_or(0);
        Ok(())
    }

    /// The next bytes of the current entry; more than it was announced with are dropped.
    ///
    /// # Errors
    /// When the output fails.
    pub fn data(&mut self, bytes: &[u8]) -> io::Result<()> {
        let usable = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len());
        self.left -= usable as u64;
        self.out.write_all(&bytes[..usable])
    }

    /// How much data the current entry still wants.
    pub fn wanted(&self) -> u64 {
        self.left
    }

    /// Fills up an entry whose file has become shorter while it was read, as tar does.
    fn end_entry(&mut self) -> io::Result<()> {
        let zeros = [0_u8; 4096];
        while self.left > 0 {
            let length = usize::try_from(self.left).unwrap_or(usize::MAX).min(zeros.len());
            self.data(&zeros[..length])?;
        }
        self.out.write_all(&zeros[..std::mem::take(&mut self.padding)])
    }

    /// Ends the archive and gives the output back.
    ///
    /// # Errors
    /// When the output fails.
    pub fn finish(mut self) -> io::Result<W> {
        self.end_entry()?;
        self.out.write_all(&[0; 2 * BLOCK])?;
        Ok(self.out)
    }
}

/// GNU's PAX format 1.0: the map precedes the data, filled up to a block.
fn sparse_map(segments: &[Segment]) -> Vec<u8> {
    let mut map = format!("{}\n", segments.len());
    for segment in segments {
        map += &format!("{}\n{}\n", segment.offset, segment.length);
    }
    let mut map = map.into_bytes();
    map.resize(map.len().next_multiple_of(BLOCK), 0);
    map
}

/// The PAX records of one entry.
#[derive(Default)]
struct Records {
    bytes: Vec<u8>,
}

impl Records {
    fn add(&mut self, key: &str, value: &[u8]) {
        self.add_bytes(key.as_bytes(), value);
    }

    /// `LENGTH KEY=VALUE\n`, where the length counts its own digits.
    fn add_bytes(&mut self, key: &[u8], value: &[u8]) {
        let body = key.len() + value.len() + 3;
        let mut length = body + 1;
        while length != body + length.to_string().len() {
            length = body + length.to_string().len();
        }
        self.bytes.extend_from_slice(format!("{length} ").as_bytes());
        self.bytes.extend_from_slice(&[key, b"=", value, b"\n"].concat());
    }

    /// Fills the header; what does not fit into it becomes a record.
    fn describe(&mut self, header: &mut tar::Header, entry: &Entry, link: Option<&[u8]>, size: u64) {
        const OCTAL_7: u64 = 0o7_777_777;
        const OCTAL_11: u64 = 0o77_777_777_777;
        header.set_mode(entry.mode);
        let octal = |value: u64, limit: u64| if value > limit { 0 } else { value };
        header.set_uid(octal(entry.uid.into(), OCTAL_7));
        header.set_gid(octal(entry.gid.into(), OCTAL_7));
        header.set_size(octal(size, OCTAL_11));
        let seconds = u64::try_from(entry.mtime.seconds).ok().filter(|seconds| *seconds <= OCTAL_11);
        header.set_mtime(seconds.unwrap_or(0));
        for (key, value, limit) in
            [("uid", entry.uid.into(), OCTAL_7), ("gid", entry.gid.into(), OCTAL_7), ("size", size, OCTAL_11)]
        {
            if value > limit {
                self.add(key, value.to_string().as_bytes());
            }
        }
        if seconds.is_none() || entry.mtime.nanos != 0 {
            self.add("mtime", mtime(entry).as_bytes());
        }
        let bytes = header.as_mut_bytes();
        let path = &entry.path;
        if path.len() > 100 {
            self.add("path", path);
        }
        let length = path.len().min(100);
        bytes[..length].copy_from_slice(&path[..length]);
        if let Some(link) = link {
            if link.len() > 100 {
                self.add("linkpath", link);
            }
            let length = link.len().min(100);
            bytes[157..157 + length].copy_from_slice(&link[..length]);
        }
    }

    fn write(&self, out: &mut impl Write) -> io::Result<()> {
        if self.bytes.is_empty() {
            return Ok(());
        }
        let mut header = tar::Header::new_ustar();
        header.as_mut_bytes()[..11].copy_from_slice(b"PaxHeaders/");
        header.set_mode(0o644);
        header.set_size(self.bytes.len() as u64);
        header.as_mut_bytes()[156] = b'x';
        header.set_cksum();
        out.write_all(header.as_bytes())?;
        out.write_all(&self.bytes)?;
        out.write_all(&[0; BLOCK][..self.bytes.len().wrapping_neg() % BLOCK])
    }
}

/// `SECONDS[.FRACTION]`; before the epoch the fraction counts backwards.
fn mtime(entry: &Entry) -> String {
    let (seconds, nanos) = (entry.mtime.seconds, entry.mtime.nanos);
    match (seconds, nanos) {
        (seconds, 0) => seconds.to_string(),
        (seconds, nanos) if seconds < 0 => format!("-{}.{:09}", -(seconds + 1), 1_000_000_000 - nanos),
        (seconds, nanos) => format!("{seconds}.{nanos:09}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::unpack::{Limits, TarReader, Timestamp};

    fn entry(path: &[u8], kind: Kind) -> Entry {
        let mtime = Timestamp { seconds: 1_700_000_000, nanos: 0 };
        Entry { path: path.to_vec(), kind, mode: 0o640, uid: 3, gid: 4, mtime, size: 0, xattrs: Vec::new() }
    }

    /// What is written is what is read.
    fn round(entry: &Entry, data: &[u8]) -> (Entry, Vec<u8>) {
        let mut tar = TarWriter::new(Vec::new());
        tar.begin(entry).unwrap();
        tar.data(data).unwrap();
        let bytes = tar.finish().unwrap();
        assert_eq!(bytes.len() % BLOCK, 0);
        let limits = Limits::default();
        let mut reader = TarReader::new(bytes.as_slice(), &limits);
        let read = reader.next_entry().unwrap().unwrap();
        let data = reader.read_data(1 << 20).unwrap();
        assert!(reader.next_entry().unwrap().is_none());
        (read, data)
    }

    #[test]
    fn every_kind_is_read_back_as_it_was() {
        let long = vec![b'n'; 300];
        let mut file = entry(&long, Kind::File { sparse: None });
        (file.size, file.uid, file.mtime) = (5, 3_000_000, Timestamp { seconds: -2, nanos: 500_000_000 });
        file.xattrs = vec![(b"user.a".to_vec(), b"x\n=\0".to_vec())];
        let kinds = [
            file,
            entry(b"d/", Kind::Directory),
            entry(b"l", Kind::Symlink(long.clone())),
            entry(b"h", Kind::Hardlink(b"a/b".to_vec())),
            entry(b"c", Kind::Char { major: 10, minor: 200 }),
            entry(b"b", Kind::Block { major: 8, minor: 1 }),
            entry(b"f", Kind::Fifo),
        ];
        for wanted in kinds {
            let (read, data) = round(&wanted, b"hello, and more");
            assert_eq!((&read.path, &read.kind, read.mode), (&wanted.path, &wanted.kind, wanted.mode));
            assert_eq!((read.uid, read.gid, read.mtime), (wanted.uid, wanted.gid, wanted.mtime));
            assert_eq!((read.size, &read.xattrs), (wanted.size, &wanted.xattrs));
            assert_eq!(data, &b"hello"[..usize::try_from(wanted.size).unwrap()]);
        }
    }

    #[test]
    fn holes_are_kept() {
        let segments = vec![Segment { offset: 4096, length: 3 }, Segment { offset: 1 << 33, length: 2 }];
        let mut sparse = entry(b"s", Kind::File { sparse: Some(segments.clone()) });
        sparse.size = (1 << 33) + 4096;
        let (read, data) = round(&sparse, b"abcde");
        assert_eq!((read.kind, read.size), (Kind::File { sparse: Some(segments) }, sparse.size));
        assert_eq!(data, b"abcde");
    }

    #[test]
    fn a_file_that_shrank_is_filled_up() {
        let mut file = entry(b"f", Kind::File { sparse: None });
        file.size = 10;
        let (read, data) = round(&file, b"abc");
        assert_eq!((read.size, data), (10, b"abc\0\0\0\0\0\0\0".to_vec()));
    }
}
