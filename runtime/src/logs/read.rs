//! The reading side: the last lines, a span of time, and following a log that
//! grows and rotates, for anyone who may read the files. Nothing is asked of
//! the monitor, and it waits for nobody.

use std::borrow::Cow;
use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use serde::Deserialize;

use super::files::{LogFile, current_identity, lines_backwards, open_newer};
use super::{Line, LogError, Stream, Time, path};

/// Bytes read by one [`Reader::next_lines`].
const BLOCK: usize = 128 << 10;

/// A line of the file longer than this is no record but damage: the largest record has 6 bytes for each of 16 KiB.
const MAX_FILE_LINE: usize = 1 << 20;

/// Which part of a log is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    /// Only that many lines at the end (counted as a terminal shows them, not as records); `None` for all.
    pub tail: Option<usize>,
    /// Not before.
    pub since: Option<Time>,
    /// Not after.
    pub until: Option<Time>,
    /// Go on with what is written later.
    pub follow: bool,
    /// Standard output.
    pub stdout: bool,
    /// Standard error.
    pub stderr: bool,
    /// With the attributes that the log has.
    pub details: bool,
}

impl Default for Query {
    /// Everything that there is, once.
    fn default() -> Self {
        Self { tail: None, since: None, until: None, follow: false, stdout: true, stderr: true, details: false }
    }
}

impl Query {
    fn wants(&self, record: &Record<'_>) -> bool {
        let stream = match record.stream {
            Stream::Stdout => self.stdout,
            Stream::Stderr => self.stderr,
        };
        stream
            && self.since.is_none_or(|since| record.time >= since)
            && self.until.is_none_or(|until| record.time <= until)
    }
}

/// How it goes on after [`Reader::next_lines`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Call again at once.
    More,
    /// Nothing more now: call again when [`Reader::fd`] is readable, or after [`Reader::container_ended`].
    Idle,
    /// Nothing more ever.
    End,
}

/// Reads one container's log.
///
/// For a program that follows many: poll every [`Reader::fd`], and call
/// [`Reader::next_lines`] of those that are readable until it says
/// [`Status::Idle`]. Files that are rotated away are held open until they have
/// been read; only a reader that is not called while the whole log is rotated
/// through misses lines, and [`Reader::missed_lines`] says so.
#[derive(Debug)]
pub struct Reader {
    current: PathBuf,
    query: Query,
    /// To read, oldest first; the last one is the newest known.
    files: VecDeque<LogFile>,
    /// Where a reader that does not follow stops in the last file.
    limit: Option<u64>,
    /// Read, up to a newline that has not come yet.
    pending: Vec<u8>,
    /// Reading over a line that is too long, up to its newline.
    skipping: bool,
    /// [`Query::since`] had come when the log was opened.
    since_has_come: bool,
    watch: Option<OwnedFd>,
    container_ended: bool,
    missed: bool,
    damaged: u64,
    block: Vec<u8>,
}

/// One record, as it lies in the file.
struct Record<'a> {
    stream: Stream,
    time: Time,
    text: Cow<'a, str>,
}

#[derive(Deserialize)]
struct Raw<'a> {
    #[serde(borrow)]
    log: Cow<'a, str>,
    #[serde(borrow)]
    stream: Cow<'a, str>,
    #[serde(borrow)]
    time: Cow<'a, str>,
}

#[derive(Deserialize)]
struct RawDetails<'a> {
    #[serde(borrow, default)]
    attrs: BTreeMap<Cow<'a, str>, Cow<'a, str>>,
}

/// `a=1,b=x%2Fy`, as `docker logs --details` has them.
fn details(line: &[u8]) -> String {
    let start = line.iter().position(|byte| *byte != 0).unwrap_or(0);
    let raw: Option<RawDetails<'_>> = line.get(start..).and_then(|line| serde_json::from_slice(line).ok());
    let pairs = raw.into_iter().flat_map(|raw| raw.attrs);
    let pairs: Vec<String> = pairs.map(|(name, value)| format!("{}={}", quoted(&name), quoted(&value))).collect();
    pairs.join(",")
}

/// As in the query of an address (Go's `url.QueryEscape`).
fn quoted(text: &str) -> String {
    let mut quoted = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => quoted.push(char::from(byte)),
            b' ' => quoted.push('+'),
            byte => {
                let _ = write!(quoted, "%{byte:02X}");
            }
        }
    }
    quoted
}

/// `None` for what is no record: a torn line, NULs that a power cut left, anything else.
fn parse(line: &[u8]) -> Option<Record<'_>> {
    let start = line.iter().position(|byte| *byte != 0)?;
    let raw: Raw<'_> = serde_json::from_slice(line.get(start..)?).ok()?;
    let stream = match raw.stream.as_ref() {
        "stdout" => Stream::Stdout,
        "stderr" => Stream::Stderr,
        _ => return None,
    };
    Some(Record { stream, time: Time::parse(&raw.time)?, text: raw.log })
}

impl Reader {
    /// Opens the log of container `id` in `dir`. A log without a file yet is an empty one.
    ///
    /// # Errors
    /// When a file cannot be opened or read, or the directory not be watched.
    pub fn open(dir: &Path, id: &str, query: Query) -> Result<Self, LogError> {
        // The watch first: what is written after the files are looked at is then announced.
        let watch = if query.follow { Some(watch(dir)?) } else { None };
        Self::start(dir, id, query, watch)
    }

    /// As [`Reader::open`], for who follows many logs: the kernel gives a user only 128 inotify descriptors, so `watch`
    /// is one for all of them. Whoever owns it takes from it what was told, and then calls [`Reader::next_lines`] of all.
    ///
    /// # Errors
    /// As there.
    pub fn open_watched(dir: &Path, id: &str, query: Query, watch: BorrowedFd<'_>) -> Result<Self, LogError> {
        if query.follow {
            add_watch(watch, dir)?;
        }
        Self::start(dir, id, query, None)
    }

    fn start(dir: &Path, id: &str, query: Query, watch: Option<OwnedFd>) -> Result<Self, LogError> {
        let current = path(dir, id);
        let (files, _) =
            open_newer(&current, None).map_err(|source| LogError::Open { path: current.clone(), source })?;
        let since_has_come = query.since.is_none_or(|since| since <= Time::now());
        let mut reader = Self {
            current,
            query,
            since_has_come,
            files: files.into(),
            limit: None,
            pending: Vec::new(),
            skipping: false,
            watch,
            container_ended: false,
            missed: false,
            damaged: 0,
            block: Vec::new(),
        };
        reader.seek().map_err(|source| LogError::Read { path: reader.current.clone(), source })?;
        Ok(reader)
    }

    /// Becomes readable when there may be more; `None` without [`Query::follow`], and where the watch is somebody else's.
    #[must_use]
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.watch.as_ref().map(|watch| watch.as_fd())
    }

    /// Tells the reader that nobody writes any more: what is there is still read, then comes [`Status::End`].
    pub const fn container_ended(&mut self) {
        self.container_ended = true;
    }

    /// Whether lines may be missing, because files were rotated away before they were met. With a single file and no
    /// rotated ones, that is so after every rotation.
    #[must_use]
    pub const fn missed_lines(&self) -> bool {
        self.missed
    }

    /// How many lines of the files were no records and have been left out.
    #[must_use]
    pub const fn damaged_lines(&self) -> u64 {
        self.damaged
    }

    /// Appends some of the next lines to `lines`.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn next_lines(&mut self, lines: &mut Vec<Line>) -> Result<Status, LogError> {
        self.advance(lines).map_err(|source| LogError::Read { path: self.current.clone(), source })
    }

    fn advance(&mut self, lines: &mut Vec<Line>) -> std::io::Result<Status> {
        if self.query.follow {
            self.drain_watch();
            // Before reading: an end of file is final only in a file that had a successor by then.
            self.refresh()?;
        }
        let following = self.query.follow && !self.container_ended;
        let last = self.files.len() <= 1;
        let Some(file) = self.files.front_mut() else { return Ok(self.idle(following)) };
        let limit = if last { self.limit } else { None };
        let wanted =
            limit.map_or(BLOCK, |limit| BLOCK.min(usize::try_from(limit.saturating_sub(file.offset)).unwrap_or(BLOCK)));
        self.block.resize(wanted, 0);
        let offset = file.offset;
        let length = file.file(&self.current)?.read_at(&mut self.block, offset)?;
        if length > 0 {
            file.offset += length as u64;
            let block = std::mem::take(&mut self.block);
            let goes_on = self.take(block.get(..length).unwrap_or_default(), lines);
            self.block = block;
            return Ok(if goes_on { Status::More } else { Status::End });
        }
        if !last {
            self.files.pop_front();
            self.end_of_file(lines);
            return Ok(Status::More);
        }
        if file.size(&self.current)? < file.offset {
            // Somebody emptied the file under us.
            file.offset = 0;
            self.pending.clear();
            return Ok(Status::More);
        }
        if !following {
            self.end_of_file(lines);
        }
        Ok(self.idle(following))
    }

    fn idle(&mut self, following: bool) -> Status {
        self.block = Vec::new();
        if self.since_has_come {
            // What is written from now on is later, whatever time the clock was set to meanwhile.
            self.query.since = None;
        }
        let over = self.query.until.is_some_and(|until| Time::now() > until);
        if following && !over { Status::Idle } else { Status::End }
    }

    /// Splits a block into lines; false where the log is past `until`.
    fn take(&mut self, block: &[u8], lines: &mut Vec<Line>) -> bool {
        for piece in block.split_inclusive(|byte| *byte == b'\n') {
            let Some(line) = piece.strip_suffix(b"\n") else {
                self.keep(piece);
                return true;
            };
            if std::mem::take(&mut self.skipping) {
                self.damaged += 1;
                continue;
            }
            let past = if self.pending.is_empty() {
                self.line(line, lines)
            } else {
                let mut whole = std::mem::take(&mut self.pending);
                whole.extend_from_slice(line);
                let past = self.line(&whole, lines);
                whole.clear();
                self.pending = whole;
                past
            };
            // Without following, the clock may have been set back: what comes later may belong here.
            if past && self.query.follow {
                return false;
            }
        }
        true
    }

    /// The beginning of a line whose end is not here yet.
    fn keep(&mut self, piece: &[u8]) {
        if self.skipping {
            return;
        }
        let piece = if self.pending.is_empty() {
            // A block of NULs may have any length, with a good record right behind it.
            piece.iter().position(|byte| *byte != 0).and_then(|start| piece.get(start..)).unwrap_or_default()
        } else {
            piece
        };
        if self.pending.len() + piece.len() > MAX_FILE_LINE {
            self.skipping = true;
            self.pending = Vec::new();
        } else {
            self.pending.extend_from_slice(piece);
        }
    }

    /// Takes one line of the file; true where it is later than `until`.
    fn line(&mut self, line: &[u8], lines: &mut Vec<Line>) -> bool {
        if line.is_empty() {
            return false;
        }
        let Some(record) = parse(line) else {
            self.damaged += 1;
            return false;
        };
        if self.query.wants(&record) {
            // As in Docker: the clock may be set back, and what comes after the first line belongs to it.
            self.query.since = None;
            let details = if self.query.details { details(line) } else { String::new() };
            lines.push(Line { stream: record.stream, time: record.time, text: record.text.into_owned(), details });
        }
        self.query.until.is_some_and(|until| record.time > until)
    }

    /// What is left without a newline is a record all the same, or torn.
    fn end_of_file(&mut self, lines: &mut Vec<Line>) {
        let rest = std::mem::take(&mut self.pending);
        self.skipping = false;
        self.line(&rest, lines);
    }

    /// Looks for files that are newer than the newest one known.
    fn refresh(&mut self) -> std::io::Result<()> {
        let known = self.files.back();
        let now = current_identity(&self.current)?;
        if now.is_none() || now == known.map(|file| file.identity) {
            return Ok(());
        }
        let (newer, met) = open_newer(&self.current, known)?;
        self.missed |= known.is_some() && !met;
        self.files.extend(newer);
        Ok(())
    }

    fn drain_watch(&self) {
        let Some(watch) = &self.watch else { return };
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut events = inotify::Reader::new(watch, &mut buffer);
        // What happened does not matter: the files are looked at anyway. EAGAIN ends it.
        while events.next().is_ok() {}
    }

    /// Goes to where the query begins.
    fn seek(&mut self) -> std::io::Result<()> {
        if !self.query.follow
            && let Some(last) = self.files.back_mut()
        {
            self.limit = Some(last.size(&self.current)?);
        }
        let Some(tail) = self.query.tail else { return Ok(()) };
        let mut counter = TailCounter { wanted: tail, begun: [false; 2], start: None };
        for index in (0..self.files.len()).rev() {
            let limit = self.limit.filter(|_| index + 1 == self.files.len());
            let Some(file) = self.files.get_mut(index) else { break };
            let end = limit.map_or_else(|| file.size(&self.current), Ok)?;
            if counter.start.is_none() {
                counter.start = Some((index, end));
            }
            let mut full = false;
            lines_backwards(file.file(&self.current)?, end, |offset, line| {
                full = !counter.count(&self.query, index, offset, line, end);
                !full
            })?;
            if full {
                break;
            }
        }
        if let Some((index, offset)) = counter.start {
            self.files.drain(..index);
            if let Some(first) = self.files.front_mut() {
                first.offset = offset;
            }
        }
        Ok(())
    }
}

/// Counts lines from the end of a log.
struct TailCounter {
    wanted: usize,
    /// By stream: whether a line has been met, of which earlier records may be a part.
    begun: [bool; 2],
    /// File and offset of the earliest record that belongs to the tail.
    start: Option<(usize, u64)>,
}

impl TailCounter {
    /// False when the record at `offset` is before the tail.
    fn count(&mut self, query: &Query, index: usize, offset: u64, line: &[u8], end: u64) -> bool {
        let Some(record) = parse(line) else {
            // At the very end: a record that is being written right now.
            if offset + line.len() as u64 == end && self.start == Some((index, end)) {
                self.start = Some((index, offset));
            }
            return true;
        };
        if !query.wants(&record) {
            return true;
        }
        let begun = &mut self.begun[usize::from(record.stream == Stream::Stderr)];
        // A record that ends in a newline, or is the stream's last, is the end of a line.
        if record.text.ends_with('\n') || !*begun {
            if self.wanted == 0 {
                return false;
            }
            self.wanted -= 1;
            *begun = true;
        }
        self.start = Some((index, offset));
        true
    }
}

fn watch(dir: &Path) -> Result<OwnedFd, LogError> {
    let fd = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)
        .map_err(|error| LogError::Watch { path: dir.to_owned(), source: error.into() })?;
    add_watch(fd.as_fd(), dir)?;
    Ok(fd)
}

/// Anything that may mean more to read: bytes, a rotation, the log's first file.
fn add_watch(watch: BorrowedFd<'_>, dir: &Path) -> Result<(), LogError> {
    let events = WatchFlags::MODIFY | WatchFlags::CREATE | WatchFlags::MOVED_TO | WatchFlags::ONLYDIR;
    inotify::add_watch(watch, dir, events)
        .map_err(|error| LogError::Watch { path: dir.to_owned(), source: error.into() })?;
    Ok(())
}
