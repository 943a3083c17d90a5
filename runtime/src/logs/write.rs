//! The monitor's side: chunks of output in, whole records out, one `write(2)`
//! for all that a wake-up brought.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::escape::{escape, unfinished_character};
use super::{Driver, LogError, MAX_RECORD, Options, Stream, Time, path, rotated};

/// An unfinished line is written when its first byte has waited this long for a newline.
pub const PARTIAL_IDLE: Duration = Duration::from_millis(250);

/// The buffer is written when it has grown to this, even within one wake-up.
const FLUSH_AT: usize = 256 << 10;

/// What a calm writer may keep allocated.
const KEEP: usize = 16 << 10;

/// Writes one container's log.
///
/// Per wake-up of its poll loop the monitor calls [`Writer::write`] for each
/// chunk and [`Writer::flush`] once; when [`Writer::deadline`] has come,
/// [`Writer::tick`]; at the end of a stream, [`Writer::end`].
///
/// A write that fails (a full disk) loses the records at hand and nothing else:
/// the file is cut back to whole records, the next flush tries again, and the
/// log then says how many bytes are missing.
#[derive(Debug)]
pub struct Writer {
    path: PathBuf,
    /// False with [`Driver::None`].
    enabled: bool,
    /// `None` where nothing is logged, and after a rotation that failed half-way.
    file: Option<File>,
    max_size: u64,
    max_files: u32,
    size: u64,
    buffer: Vec<u8>,
    partial: [Partial; 2],
    lost: Option<Lost>,
}

#[derive(Debug, Default)]
struct Partial {
    bytes: Vec<u8>,
    since: Option<Instant>,
}

#[derive(Debug)]
struct Lost {
    bytes: u64,
    error: String,
}

impl Writer {
    /// Opens or makes the log of container `id` in `dir`, mode 0640, and goes on at its end.
    ///
    /// # Errors
    /// When the file cannot be opened.
    pub fn open(dir: &Path, id: &str, options: &Options) -> Result<Self, LogError> {
        let mut writer = Self {
            path: path(dir, id),
            enabled: options.driver == Driver::JsonFile,
            file: None,
            max_size: options.max_size.unwrap_or(u64::MAX),
            max_files: options.max_files.max(1),
            size: 0,
            buffer: Vec::new(),
            partial: Default::default(),
            lost: None,
        };
        if writer.enabled {
            writer.open_current()?;
        }
        Ok(writer)
    }

    fn open_current(&mut self) -> Result<(), LogError> {
        let failed = |source| LogError::Open { path: self.path.clone(), source };
        let mut file =
            OpenOptions::new().read(true).append(true).create(true).mode(0o640).open(&self.path).map_err(failed)?;
        self.size = file.metadata().map_err(failed)?.len();
        // A record cut short by a crash gets its line to itself.
        let mut last = [b'\n'];
        if self.size > 0 {
            file.seek(SeekFrom::End(-1)).and_then(|_| file.read_exact(&mut last)).map_err(failed)?;
        }
        if last != [b'\n'] {
            self.buffer.insert(0, b'\n');
        }
        self.file = Some(file);
        Ok(())
    }

    /// Takes a chunk of output, as the pipe gave it.
    ///
    /// # Errors
    /// When a full buffer could not be written; the writer stays usable.
    pub fn write(&mut self, stream: Stream, chunk: &[u8]) -> Result<(), LogError> {
        if !self.enabled || chunk.is_empty() {
            return Ok(());
        }
        let suffix = suffix(stream);
        let mut partial = std::mem::take(&mut self.partial[index(stream)]);
        let mut result = Ok(());
        for piece in chunk.split_inclusive(|byte| *byte == b'\n') {
            let done = self.piece(&suffix, &mut partial.bytes, piece);
            result = result.and(done);
        }
        // Counted from the unfinished line's first byte: dots that come one by one are seen, too.
        partial.since = match partial.since {
            _ if partial.bytes.is_empty() => None,
            Some(since) if !chunk.contains(&b'\n') => Some(since),
            _ => Some(Instant::now()),
        };
        self.partial[index(stream)] = partial;
        result
    }

    /// One line, or what there is of it.
    fn piece(&mut self, suffix: &Suffix, partial: &mut Vec<u8>, mut piece: &[u8]) -> Result<(), LogError> {
        let mut result = Ok(());
        let complete = piece.ends_with(b"\n");
        // The newline may go over the limit: it does not get a record to itself.
        while partial.len() + piece.len() > MAX_RECORD + usize::from(complete) {
            let (head, tail) = piece.split_at(MAX_RECORD.saturating_sub(partial.len()).min(piece.len()));
            partial.extend_from_slice(head);
            let cut = partial.len() - unfinished_character(partial);
            let rest = partial.split_off(cut);
            result = result.and(self.record(suffix, partial));
            *partial = rest;
            piece = tail;
        }
        if complete && partial.is_empty() {
            return result.and(self.record(suffix, piece));
        }
        partial.extend_from_slice(piece);
        if complete {
            result = result.and(self.record(suffix, partial));
            partial.clear();
        }
        result
    }

    fn record(&mut self, suffix: &Suffix, text: &[u8]) -> Result<(), LogError> {
        let start = self.buffer.len();
        self.buffer.extend_from_slice(b"{\"log\":\"");
        escape(text, &mut self.buffer);
        self.buffer.extend_from_slice(suffix);
        let before = self.size + start as u64;
        if before > 0 && self.size + self.buffer.len() as u64 > self.max_size {
            let record = self.buffer.split_off(start);
            let result = self.write_out().and_then(|()| self.rotate());
            self.buffer.extend_from_slice(&record);
            return result;
        }
        if self.buffer.len() >= FLUSH_AT { self.write_out() } else { Ok(()) }
    }

    /// Writes what has been collected. Call it once after the chunks of a wake-up.
    ///
    /// # Errors
    /// When writing fails; what was at hand is lost, and counted.
    pub fn flush(&mut self) -> Result<(), LogError> {
        self.write_out()
    }

    /// When [`Writer::tick`] is to be called.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.partial.iter().filter_map(|partial| partial.since).min().map(|since| since + PARTIAL_IDLE)
    }

    /// Writes lines that have been unfinished for [`PARTIAL_IDLE`].
    ///
    /// # Errors
    /// As [`Writer::flush`].
    pub fn tick(&mut self, now: Instant) -> Result<(), LogError> {
        let mut result = Ok(());
        for stream in [Stream::Stdout, Stream::Stderr] {
            let due = self.partial[index(stream)].since.is_some_and(|since| now >= since + PARTIAL_IDLE);
            if due {
                result = result.and(self.put_partial(stream));
            }
        }
        let result = result.and(self.write_out());
        if self.buffer.capacity() > KEEP {
            self.buffer = Vec::new();
        }
        result
    }

    /// The stream has ended: its unfinished line is written as it is.
    ///
    /// # Errors
    /// As [`Writer::flush`].
    pub fn end(&mut self, stream: Stream) -> Result<(), LogError> {
        self.put_partial(stream).and(self.write_out())
    }

    fn put_partial(&mut self, stream: Stream) -> Result<(), LogError> {
        let partial = std::mem::take(&mut self.partial[index(stream)]);
        if partial.bytes.is_empty() {
            return Ok(());
        }
        self.record(&suffix(stream), &partial.bytes)
    }

    fn write_out(&mut self) -> Result<(), LogError> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        if self.file.is_none() {
            // A rotation failed half-way: the current file may be there again.
            if let Err(error) = self.open_current() {
                self.lose();
                return Err(error);
            }
        }
        self.tell_loss();
        let Some(file) = &mut self.file else { return Ok(()) };
        match file.write_all(&self.buffer) {
            Ok(()) => {
                self.size += self.buffer.len() as u64;
                self.buffer.clear();
                self.lost = None;
                Ok(())
            }
            Err(source) => {
                // A part may be there: whole records only.
                let _ = file.set_len(self.size);
                self.remember_loss(&source);
                self.lose();
                Err(LogError::Write { path: self.path.clone(), source })
            }
        }
    }

    /// Puts a record about lost output before what comes now.
    fn tell_loss(&mut self) {
        let Some(lost) = self.lost.as_ref().filter(|lost| lost.bytes > 0) else { return };
        let text = format!("[umiak: {} bytes of log lost here: {}]", lost.bytes, lost.error);
        let mut record = b"{\"log\":\"".to_vec();
        escape(text.as_bytes(), &mut record);
        record.extend_from_slice(b"\\n");
        record.extend_from_slice(&suffix(Stream::Stderr));
        record.append(&mut self.buffer);
        self.buffer = record;
    }

    fn remember_loss(&mut self, error: &io::Error) {
        let bytes = self.lost.as_ref().map_or(0, |lost| lost.bytes);
        self.lost = Some(Lost { bytes, error: error.to_string() });
    }

    fn lose(&mut self) {
        if let Some(lost) = &mut self.lost {
            lost.bytes += self.buffer.len() as u64;
        }
        self.buffer.clear();
    }

    /// `.1` becomes `.2` and so on, the current file `.1`, and a new one begins. A reader that has the old one open
    /// reads it to its end.
    fn rotate(&mut self) -> Result<(), LogError> {
        let failed = |source| LogError::Rotate { path: self.path.clone(), source };
        let missing_is_fine = |result: io::Result<()>| match result {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result,
        };
        for number in (1..self.max_files).rev() {
            let (from, to) = (rotated(&self.path, number - 1), rotated(&self.path, number));
            missing_is_fine(std::fs::rename(from, to)).map_err(failed)?;
        }
        if self.max_files == 1 {
            missing_is_fine(std::fs::remove_file(&self.path)).map_err(failed)?;
        }
        if let Err(error) = self.open_current() {
            // Nothing to write to: try again with the next records.
            self.file = None;
            self.lost.get_or_insert_with(|| Lost { bytes: 0, error: "the log could not be rotated".to_owned() });
            return Err(error);
        }
        Ok(())
    }
}

/// What follows the text in a record.
type Suffix = [u8; 61];

/// The end of all records of one chunk.
fn suffix(stream: Stream) -> Suffix {
    let mut suffix = *b"\",\"stream\":\"stdout\",\"time\":\"0000-00-00T00:00:00.000000000Z\"}\n";
    suffix[12..18].copy_from_slice(stream.name().as_bytes());
    suffix[28..58].copy_from_slice(&Time::now().text());
    suffix
}

const fn index(stream: Stream) -> usize {
    match stream {
        Stream::Stdout => 0,
        Stream::Stderr => 1,
    }
}
