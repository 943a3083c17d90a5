//! The log's files on the writing side: records collected, written with one
//! `write(2)` for all that a wake-up brought, rotated, and handed to a process
//! that compresses them.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Child;

use super::compress::try_lock;
use super::escape::escape;
use super::{LogError, Options, Stream, Time, compressed, path, rotated};

/// The buffer is written when it has grown to this, even within one wake-up.
const FLUSH_AT: usize = 256 << 10;

/// What a calm writer may keep allocated.
const KEEP: usize = 16 << 10;

/// Starts the process that compresses the rotated files of a container: its log directory and its id.
pub type Compressor = fn(&Path, &str) -> io::Result<Child>;

/// The files of one log.
#[derive(Debug)]
pub struct Files {
    dir: PathBuf,
    id: String,
    path: PathBuf,
    /// `None` after a rotation that failed half-way.
    file: Option<File>,
    max_size: u64,
    max_files: u32,
    size: u64,
    buffer: Vec<u8>,
    /// What follows the text in the records at hand.
    suffix: Vec<u8>,
    /// `"attrs":{…},`, where the log has any.
    attributes: Vec<u8>,
    /// With `mode: non-blocking`, the most that is collected.
    limit: Option<usize>,
    dropped: u64,
    lost: Option<Lost>,
    compressor: Option<Compressor>,
    child: Option<Child>,
}

#[derive(Debug)]
struct Lost {
    bytes: u64,
    error: String,
}

impl Files {
    /// Opens or makes the log, mode 0640, and goes on at its end.
    pub fn open(dir: &Path, id: &str, options: &Options) -> Result<Self, LogError> {
        let mut files = Self {
            dir: dir.to_owned(),
            id: id.to_owned(),
            path: path(dir, id),
            file: None,
            max_size: options.max_size.unwrap_or(u64::MAX),
            max_files: options.max_files.max(1),
            size: 0,
            buffer: Vec::new(),
            suffix: Vec::new(),
            attributes: Vec::new(),
            limit: options.buffer,
            dropped: 0,
            lost: None,
            compressor: None,
            child: None,
        };
        files.open_current()?;
        Ok(files)
    }

    /// Every record has these.
    pub fn set_attributes(&mut self, attributes: &[(String, String)]) {
        self.attributes.clear();
        for (name, value) in attributes {
            self.attributes.extend_from_slice(if self.attributes.is_empty() { b"\"attrs\":{\"" } else { b",\"" });
            escape(name.as_bytes(), &mut self.attributes);
            self.attributes.extend_from_slice(b"\":\"");
            escape(value.as_bytes(), &mut self.attributes);
            self.attributes.push(b'"');
        }
        if !self.attributes.is_empty() {
            self.attributes.extend_from_slice(b"},");
        }
    }

    /// Rotated files are compressed by a process that this starts.
    pub fn set_compressor(&mut self, compressor: Compressor) {
        self.compressor = Some(compressor);
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

    /// Where and when the next records come from.
    pub fn stamp(&mut self, stream: Stream, time: Time) {
        self.suffix.clear();
        put_suffix(&mut self.suffix, &self.attributes, stream, time);
    }

    /// Takes a record.
    pub fn record(&mut self, text: &[u8]) -> Result<(), LogError> {
        if let Some(limit) = self.limit {
            if !self.buffer.is_empty() && self.buffer.len() + text.len() + self.suffix.len() > limit {
                self.dropped += 1;
                return Ok(());
            }
            self.tell_dropped();
        }
        self.put(text);
        if self.limit.is_none() && self.buffer.len() >= FLUSH_AT { self.write_out(usize::MAX) } else { Ok(()) }
    }

    fn put(&mut self, text: &[u8]) {
        self.buffer.extend_from_slice(b"{\"log\":\"");
        escape(text, &mut self.buffer);
        self.buffer.extend_from_slice(&self.suffix);
    }

    fn tell_dropped(&mut self) {
        if self.dropped > 0 {
            let count = std::mem::take(&mut self.dropped);
            self.put(format!("[umiak: {count} records dropped here: the log's buffer was full]\n").as_bytes());
        }
    }

    /// Writes what has been collected; with `mode: non-blocking` a part of it, so that the output is read meanwhile.
    pub fn flush(&mut self) -> Result<(), LogError> {
        self.write_out(if self.limit.is_some() { FLUSH_AT } else { usize::MAX })
    }

    /// Writes all of it.
    pub fn flush_all(&mut self) -> Result<(), LogError> {
        self.tell_dropped();
        self.write_out(usize::MAX)
    }

    /// Whether there is something that [`Files::flush`] has left.
    pub fn waiting(&self) -> bool {
        self.limit.is_some() && !self.buffer.is_empty()
    }

    /// Gives memory back that a calm writer does not need.
    pub fn shrink(&mut self) {
        if self.buffer.is_empty() && self.buffer.capacity() > KEEP {
            self.buffer = Vec::new();
        }
    }

    fn write_out(&mut self, most: usize) -> Result<(), LogError> {
        self.tell_loss();
        let mut written = 0;
        let mut result = Ok(());
        while written < self.buffer.len() && written < most {
            if self.file.is_none() {
                // A rotation failed half-way: the current file may be there again.
                if let Err(error) = self.open_current() {
                    self.lose(written);
                    return Err(error);
                }
            }
            let rest = self.buffer.get(written..).unwrap_or_default();
            let part = part(rest.get(..most - written).unwrap_or(rest), self.size, self.max_size);
            if part == 0 {
                result = result.and(self.rotate());
                continue;
            }
            let Some(file) = &mut self.file else { continue };
            match file.write_all(rest.get(..part).unwrap_or_default()) {
                Ok(()) => {
                    self.size += part as u64;
                    written += part;
                    self.lost = None;
                }
                Err(source) => {
                    // A part may be there: whole records only.
                    let _ = file.set_len(self.size);
                    self.remember_loss(&source);
                    self.lose(written);
                    return Err(LogError::Write { path: self.path.clone(), source });
                }
            }
        }
        self.buffer.drain(..written);
        result
    }

    /// Puts a record about lost output before what comes now.
    fn tell_loss(&mut self) {
        let Some(lost) = self.lost.as_ref().filter(|lost| lost.bytes > 0 && !self.buffer.is_empty()) else { return };
        let text = format!("[umiak: {} bytes of log lost here: {}]", lost.bytes, lost.error);
        let mut record = b"{\"log\":\"".to_vec();
        escape(text.as_bytes(), &mut record);
        record.extend_from_slice(b"\\n");
        put_suffix(&mut record, &self.attributes, Stream::Stderr, Time::now());
        record.append(&mut self.buffer);
        self.buffer = record;
    }

    fn remember_loss(&mut self, error: &io::Error) {
        let bytes = self.lost.as_ref().map_or(0, |lost| lost.bytes);
        self.lost = Some(Lost { bytes, error: error.to_string() });
    }

    fn lose(&mut self, written: usize) {
        if let Some(lost) = &mut self.lost {
            lost.bytes += (self.buffer.len() - written) as u64;
        }
        self.buffer.clear();
    }

    /// `.1` becomes `.2` and so on, the current file `.1`, and a new one begins. A reader that has the old one open
    /// reads it to its end.
    fn rotate(&mut self) -> Result<(), LogError> {
        let failed = |source| LogError::Rotate { path: self.path.clone(), source };
        // Nobody else renames where nothing is compressed.
        let lock = self.compressor.and_then(|_| try_lock(&self.path));
        for number in (1..self.max_files).rev() {
            self.shift(number).map_err(failed)?;
        }
        if self.max_files == 1 {
            missing_is_fine(std::fs::remove_file(&self.path)).map_err(failed)?;
        }
        drop(lock);
        self.start_compressor();
        if let Err(error) = self.open_current() {
            // Nothing to write to: try again with the next records.
            self.file = None;
            self.lost.get_or_insert_with(|| Lost { bytes: 0, error: "the log could not be rotated".to_owned() });
            return Err(error);
        }
        Ok(())
    }

    /// The file before the `number`th takes its place, compressed or not.
    fn shift(&self, number: u32) -> io::Result<()> {
        let (from, to) = (rotated(&self.path, number - 1), rotated(&self.path, number));
        if self.compressor.is_none() {
            return missing_is_fine(std::fs::rename(from, to));
        }
        match std::fs::rename(&from, &to) {
            Ok(()) => return missing_is_fine(std::fs::remove_file(compressed(&self.path, number))),
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Err(_) => {}
        }
        match std::fs::rename(compressed(&self.path, number - 1), compressed(&self.path, number)) {
            Ok(()) => missing_is_fine(std::fs::remove_file(to)),
            result => missing_is_fine(result),
        }
    }

    /// One at a time: it goes on as long as there is something to compress. Without it the files stay as they are.
    fn start_compressor(&mut self) {
        let Some(start) = self.compressor else { return };
        // The monitor's loop collects all children: then there is none to ask, and it has ended.
        let runs = self.child.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None)));
        if !runs {
            self.child = start(&self.dir, &self.id).ok();
        }
    }
}

/// How much of `records` fits into a file of `size` bytes: whole records, all of them where they fit, and one in any
/// case where the file is empty.
fn part(records: &[u8], size: u64, max_size: u64) -> usize {
    let room = usize::try_from(max_size.saturating_sub(size)).unwrap_or(usize::MAX);
    let newline = |found: Option<usize>| found.map(|position| position + 1);
    let fits = records.get(..room).unwrap_or(records);
    match newline(fits.iter().rposition(|byte| *byte == b'\n')) {
        Some(end) => end,
        None if size > 0 => 0,
        None => newline(records.iter().position(|byte| *byte == b'\n')).unwrap_or(records.len()),
    }
}

fn missing_is_fine(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

/// The end of a record, after its text.
fn put_suffix(out: &mut Vec<u8>, attributes: &[u8], stream: Stream, time: Time) {
    out.extend_from_slice(b"\",\"stream\":\"");
    out.extend_from_slice(stream.name().as_bytes());
    out.extend_from_slice(b"\",");
    out.extend_from_slice(attributes);
    out.extend_from_slice(b"\"time\":\"");
    out.extend_from_slice(&time.text());
    out.extend_from_slice(b"\"}\n");
}

#[cfg(test)]
mod tests {
    use super::part;

    #[test]
    fn whole_records_up_to_the_limit() {
        let records = b"12\n456\n89\n";
        for (size, max_size, expected) in [
            (0, u64::MAX, 10),
            (0, 10, 10),
            (0, 9, 7),
            (1, 9, 7),
            (3, 9, 3),
            (7, 9, 0),
            (9, 9, 0),
            (10, 9, 0),
            (0, 1, 3),
        ] {
            assert_eq!(part(records, size, max_size), expected, "{size} {max_size}");
        }
    }
}
