//! The monitor's side: chunks of output in, whole records out, to files and to
//! a receiver.

use std::os::fd::BorrowedFd;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::PollFlags;

use super::escape::unfinished_character;
use super::file::{Compressor, Files};
use super::remote::Remote;
use super::{Driver, LogError, MAX_RECORD, Options, Source, Stream, Time};

/// An unfinished line is written when its first byte has waited this long for a newline.
pub const PARTIAL_IDLE: Duration = Duration::from_millis(250);

/// Writes one container's log.
///
/// Per wake-up of its poll loop the monitor calls [`Writer::write`] for each
/// chunk and [`Writer::flush`] once; when [`Writer::deadline`] has come,
/// [`Writer::tick`]; at the end of a stream, [`Writer::end`].
///
/// A write that fails (a full disk) loses the records at hand and nothing else:
/// the file is cut back to whole records, the next flush tries again, and the
/// log then says how many bytes are missing. A receiver that is away loses what
/// does not fit into the queue, and is told how much that was.
#[derive(Debug)]
pub struct Writer {
    /// `None` with [`Driver::None`], and where only a receiver gets the output.
    files: Option<Files>,
    remote: Option<Remote>,
    non_blocking: bool,
    partial: [Partial; 2],
}

#[derive(Debug, Default)]
struct Partial {
    bytes: Vec<u8>,
    since: Option<Instant>,
}

impl Writer {
    /// Opens or makes the log of container `id` in `dir`, mode 0640, and goes on at its end.
    ///
    /// # Errors
    /// When the file cannot be opened.
    pub fn open(dir: &Path, id: &str, options: &Options) -> Result<Self, LogError> {
        let files =
            if options.files && options.driver != Driver::None { Some(Files::open(dir, id, options)?) } else { None };
        let non_blocking = options.buffer.is_some();
        Ok(Self { files, remote: None, non_blocking, partial: Default::default() })
    }

    /// Rotated files are compressed by a process that `start` starts, and that calls [`super::compress`].
    pub fn compress_with(&mut self, start: Compressor) {
        if let Some(files) = &mut self.files {
            files.set_compressor(start);
        }
    }

    /// Says whose output it is, and connects to the receiver that the driver has. `strict`: it must be there; without,
    /// it is looked for when there is something to send.
    ///
    /// # Errors
    /// When the receiver cannot be found or, with `strict`, reached.
    pub fn describe(&mut self, source: &Source, options: &Options, strict: bool) -> Result<(), LogError> {
        if let Some(files) = self.files.as_mut().filter(|_| options.driver == Driver::JsonFile) {
            let mut attributes = source.attributes.clone();
            attributes.extend(options.attributes.tag.as_ref().map(|_| ("tag".to_owned(), source.tag.clone())));
            attributes.sort();
            files.set_attributes(&attributes);
        }
        let mut remote = match options.driver {
            Driver::Syslog => Remote::syslog(&options.syslog, &source.tag, options.buffer)?,
            Driver::Journald => Remote::journald(&options.journal, source, options.buffer),
            Driver::JsonFile | Driver::Local | Driver::None => return Ok(()),
        };
        if strict {
            remote.connect()?;
        }
        self.remote = Some(remote);
        Ok(())
    }

    /// Whether more output should be read at once, so that the container never waits (`mode: non-blocking`).
    #[must_use]
    pub const fn non_blocking(&self) -> bool {
        self.non_blocking
    }

    /// Whether the receiver is so far behind that no more output should be read now.
    #[must_use]
    pub fn behind(&self) -> bool {
        self.remote.as_ref().is_some_and(Remote::behind)
    }

    /// The receiver's socket, and what is to be waited for there; then [`Writer::flush`].
    #[must_use]
    pub fn waits_for(&self) -> Option<(BorrowedFd<'_>, PollFlags)> {
        self.remote.as_ref().and_then(Remote::waits_for)
    }

    /// Takes a chunk of output, as the pipe gave it.
    ///
    /// # Errors
    /// When a full buffer could not be written; the writer stays usable.
    pub fn write(&mut self, stream: Stream, chunk: &[u8]) -> Result<(), LogError> {
        if (self.files.is_none() && self.remote.is_none()) || chunk.is_empty() {
            return Ok(());
        }
        let now = self.stamp(stream);
        let mut partial = std::mem::take(&mut self.partial[index(stream)]);
        let mut result = Ok(());
        for piece in chunk.split_inclusive(|byte| *byte == b'\n') {
            let done = self.piece(stream, now, &mut partial.bytes, piece);
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

    fn stamp(&mut self, stream: Stream) -> Time {
        let now = Time::now();
        if let Some(files) = &mut self.files {
            files.stamp(stream, now);
        }
        now
    }

    /// One line, or what there is of it.
    fn piece(&mut self, stream: Stream, time: Time, partial: &mut Vec<u8>, mut piece: &[u8]) -> Result<(), LogError> {
        let mut result = Ok(());
        let complete = piece.ends_with(b"\n");
        // The newline may go over the limit: it does not get a record to itself.
        while partial.len() + piece.len() > MAX_RECORD + usize::from(complete) {
            let (head, tail) = piece.split_at(MAX_RECORD.saturating_sub(partial.len()).min(piece.len()));
            partial.extend_from_slice(head);
            let cut = partial.len() - unfinished_character(partial);
            let rest = partial.split_off(cut);
            result = result.and(self.record(stream, time, partial));
            *partial = rest;
            piece = tail;
        }
        if complete && partial.is_empty() {
            return result.and(self.record(stream, time, piece));
        }
        partial.extend_from_slice(piece);
        if complete {
            result = result.and(self.record(stream, time, partial));
            partial.clear();
        }
        result
    }

    fn record(&mut self, stream: Stream, time: Time, text: &[u8]) -> Result<(), LogError> {
        if let Some(remote) = &mut self.remote {
            remote.record(stream, time, text);
        }
        self.files.as_mut().map_or(Ok(()), |files| files.record(text))
    }

    /// Writes what has been collected. Call it once after the chunks of a wake-up.
    ///
    /// # Errors
    /// When writing fails; what was at hand is lost, and counted.
    pub fn flush(&mut self) -> Result<(), LogError> {
        if let Some(remote) = &mut self.remote {
            remote.send();
        }
        self.files.as_mut().map_or(Ok(()), Files::flush)
    }

    /// When [`Writer::tick`] is to be called.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        let partial = self.partial.iter().filter_map(|partial| partial.since).min().map(|since| since + PARTIAL_IDLE);
        let files = self.files.as_ref().filter(|files| files.waiting()).map(|_| Instant::now());
        let remote = self.remote.as_ref().and_then(Remote::deadline);
        [partial, files, remote].into_iter().flatten().min()
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
        let result = result.and(self.flush());
        if let Some(files) = &mut self.files {
            files.shrink();
        }
        result
    }

    /// The stream has ended: its unfinished line is written as it is.
    ///
    /// # Errors
    /// As [`Writer::flush`].
    pub fn end(&mut self, stream: Stream) -> Result<(), LogError> {
        let put = self.put_partial(stream);
        if let Some(remote) = &mut self.remote {
            remote.end(stream);
            remote.send();
        }
        put.and(self.files.as_mut().map_or(Ok(()), Files::flush_all))
    }

    /// The container has ended for good: the receiver gets the rest, if it takes it within a moment.
    pub fn finish(mut self) {
        let _ = self.end(Stream::Stdout).and(self.end(Stream::Stderr));
        if let Some(remote) = &mut self.remote {
            remote.finish();
        }
    }

    fn put_partial(&mut self, stream: Stream) -> Result<(), LogError> {
        let partial = std::mem::take(&mut self.partial[index(stream)]);
        if partial.bytes.is_empty() {
            return Ok(());
        }
        let now = self.stamp(stream);
        self.record(stream, now, &partial.bytes)
    }
}

pub(super) const fn index(stream: Stream) -> usize {
    match stream {
        Stream::Stdout => 0,
        Stream::Stderr => 1,
    }
}
