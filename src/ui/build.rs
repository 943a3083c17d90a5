//! The progress of builds: their steps with output and times, as people know
//! them from BuildKit. Several builds share one screen; so do their threads.
//!
//! A `Screen` holds what is known of all steps. A pipe gets a line per change
//! at once (`plain`, `json`); a terminal is redrawn from what is known ten times
//! a second (`terminal`, which draws what `frame` makes of it).

mod frame;
mod json;
mod plain;
mod terminal;
mod text;

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::io::{IsTerminal as _, Write as _};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use terminal::Drawn;

/// Lines of a step that are shown once more when it has failed, where they were shown before.
const REPEATED: usize = 10;

/// Lines of a step that are kept, and shown when it has failed where nobody has seen them.
const KEPT: usize = 40;

/// Characters of such a line.
const LONGEST: usize = 2000;

/// How builds are shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Mode {
    /// A terminal is redrawn, anything else gets lines.
    #[default]
    Auto,
    /// Lines.
    Plain,
    /// A terminal is redrawn. What is no terminal gets lines all the same.
    Tty,
    /// Nothing but failures.
    Quiet,
    /// A JSON object per change, in BuildKit's form.
    RawJson,
}

impl std::str::FromStr for Mode {
    type Err = String;

    /// `quiet` and `none` are one here; what `quiet` prints besides is the caller's.
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "" | "auto" => Ok(Self::Auto),
            "plain" => Ok(Self::Plain),
            "tty" => Ok(Self::Tty),
            "quiet" | "none" => Ok(Self::Quiet),
            "rawjson" => Ok(Self::RawJson),
            other => Err(format!("invalid progress mode {other}")),
        }
    }
}

/// Shows one build; threads share it. What it shows has come to its end when the last one on its screen is dropped.
#[derive(Debug, Clone)]
pub struct Display {
    screen: Arc<Screen>,
    /// Which of several builds it is.
    name: Option<String>,
}

/// What all builds of a command are shown on: stderr.
#[derive(Debug)]
struct Screen {
    inner: Arc<Inner>,
    drawer: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Inner {
    mode: Mode,
    colour: bool,
    began: Instant,
    shown: Mutex<Shown>,
    /// Ends the drawing thread.
    over: Condvar,
    drawn: Mutex<Drawn>,
}

/// All that is known.
#[derive(Debug, Default)]
struct Shown {
    steps: Vec<Entry>,
    /// Steps that are to come or have come, without those that are internal.
    announced: usize,
    internal: usize,
    /// The step whose lines were printed last: others begin with an empty line.
    last: usize,
    /// The terminal is somebody else's: lines wait here.
    held: Option<String>,
    /// What is told after everything.
    epilogue: String,
    over: bool,
}

#[derive(Debug)]
struct Entry {
    title: String,
    began: Instant,
    ended: Option<(Instant, End)>,
    parts: Vec<Part>,
    log: Log,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum End {
    Done,
    Cached,
    Cancelled,
    Failed(String),
}

/// Something that a step does, as `transferring context`.
#[derive(Debug)]
struct Part {
    name: String,
    /// Of what has a size: bytes so far, and in all.
    bytes: Option<(u64, u64)>,
    began: Instant,
    ended: Option<Instant>,
    /// When lines told of it last.
    told: Instant,
    warning: bool,
}

#[derive(Debug, Default)]
struct Log {
    /// A line that has not ended.
    partial: Vec<u8>,
    kept: VecDeque<(f64, String)>,
}

/// One step. One that is dropped before it has ended was given up.
#[derive(Debug)]
pub struct Step<'d> {
    display: &'d Display,
    index: usize,
}

impl Display {
    /// The display of one build.
    pub fn new(mode: Mode) -> Self {
        let terminal = std::io::stderr().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
        let mode = match mode {
            Mode::Auto | Mode::Tty if terminal => Mode::Tty,
            Mode::Auto | Mode::Tty => Mode::Plain,
            other => other,
        };
        let inner = Arc::new(Inner {
            mode,
            colour: super::Ansi::Auto.stderr(),
            began: Instant::now(),
            shown: Mutex::default(),
            over: Condvar::new(),
            drawn: Mutex::default(),
        });
        let drawer = (mode == Mode::Tty).then(|| {
            let inner = Arc::clone(&inner);
            std::thread::spawn(move || terminal::draw_until_over(&inner))
        });
        Self { screen: Arc::new(Screen { inner, drawer }), name: None }
    }

    /// The display of another build on the same screen: its steps are called `[NAME 1/3] …`.
    pub fn named(&self, name: &str) -> Self {
        Self { screen: Arc::clone(&self.screen), name: Some(text::clean(name)) }
    }

    /// So many steps are to come, without those that are `[internal]` and without the export.
    pub fn expect(&self, steps: usize) {
        self.screen.inner.lock().announced += steps;
    }

    /// Begins a step.
    pub fn step(&self, title: &str) -> Step<'_> {
        let title = text::clean(title);
        let internal = !title.starts_with('[') || title.starts_with("[internal]");
        let title = match (&self.name, title.strip_prefix('[')) {
            (None, _) => title,
            (Some(name), Some(rest)) => format!("[{name} {rest}"),
            (Some(name), None) => format!("[{name}] {title}"),
        };
        let entry = Entry { title, began: Instant::now(), ended: None, parts: Vec::new(), log: Log::default() };
        let inner = &self.screen.inner;
        let mut shown = inner.lock();
        shown.internal += usize::from(internal);
        shown.steps.push(entry);
        let index = shown.steps.len() - 1;
        inner.begun(&mut shown, index);
        Step { display: self, index }
    }

    /// Told when all builds are over, in the order in which it is said.
    pub fn afterwards(&self, text: &str) {
        let mut shown = self.screen.inner.lock();
        shown.epilogue += text;
        if !text.ends_with('\n') {
            shown.epilogue.push('\n');
        }
    }

    /// The same, of what is no failure: nothing where only failures are shown.
    pub fn remark(&self, text: &str) {
        if matches!(self.screen.inner.mode, Mode::Plain | Mode::Tty) {
            self.afterwards(text);
        }
    }

    /// Whether escape sequences for colours may be used.
    pub fn colour(&self) -> bool {
        self.screen.inner.colour
    }

    /// Leaves the terminal to somebody else for as long as the result lives; what was to be told afterwards is told.
    pub fn suspend(&self) -> Suspended<'_> {
        let inner = &self.screen.inner;
        let mut shown = inner.lock();
        shown.held = Some(String::new());
        let epilogue = std::mem::take(&mut shown.epilogue);
        if inner.mode == Mode::Tty {
            terminal::leave(inner, &shown, false);
        }
        drop(shown);
        print(&epilogue);
        Suspended { inner }
    }
}

/// While it lives, nothing is shown.
#[derive(Debug)]
pub struct Suspended<'d> {
    inner: &'d Inner,
}

impl Drop for Suspended<'_> {
    fn drop(&mut self) {
        let lines = self.inner.lock().held.take();
        print(&lines.unwrap_or_default());
        terminal::come_back(self.inner);
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.inner.lock().over = true;
        self.inner.over.notify_all();
        if let Some(drawer) = self.drawer.take() {
            // It has panicked: there is no screen to be cleaned.
            let _ = drawer.join();
        }
        let mut shown = self.inner.lock();
        if self.inner.mode == Mode::Tty {
            terminal::leave(&self.inner, &shown, true);
        }
        print(&std::mem::take(&mut shown.epilogue));
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, Shown> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begun(&self, shown: &mut Shown, index: usize) {
        match self.mode {
            Mode::Plain => plain::begun(shown, index),
            Mode::RawJson => json::vertex(shown, index),
            _ => {}
        }
    }

    fn part(&self, shown: &mut Shown, index: usize, part: usize) {
        match self.mode {
            Mode::Plain => plain::part(shown, index, part),
            Mode::RawJson => json::status(shown, index, part),
            _ => {}
        }
    }

    fn lines(&self, shown: &mut Shown, index: usize, lines: &[(f64, String)]) {
        match self.mode {
            _ if lines.is_empty() => {}
            Mode::Plain => plain::lines(shown, index, lines),
            Mode::RawJson => json::logs(shown, index, lines),
            _ => {}
        }
    }

    /// The step has ended; only the first end counts.
    fn end(&self, index: usize, end: End) {
        let mut shown = self.lock();
        let Some(entry) = shown.steps.get_mut(index).filter(|entry| entry.ended.is_none()) else { return };
        let rest = entry.log.rest(entry.began);
        let now = Instant::now();
        let failed = matches!(end, End::Failed(_));
        if matches!(end, End::Done) {
            entry.parts.iter_mut().filter(|part| part.ended.is_none()).for_each(|part| part.ended = Some(now));
        }
        entry.ended = Some((now, end));
        let failure = failed.then(|| entry.failure(if self.mode == Mode::Plain { REPEATED } else { KEPT }));
        self.lines(&mut shown, index, rest.as_slice());
        match self.mode {
            Mode::Plain => plain::ended(&mut shown, index),
            Mode::RawJson => json::vertex(&mut shown, index),
            _ => {}
        }
        if self.mode != Mode::RawJson {
            shown.epilogue += &failure.unwrap_or_default();
        }
    }
}

impl Step<'_> {
    fn with(&self, change: impl FnOnce(&mut Entry) -> Option<usize>) {
        let inner = &self.display.screen.inner;
        let mut shown = inner.lock();
        if let Some(part) = shown.steps.get_mut(self.index).and_then(change) {
            inner.part(&mut shown, self.index, part);
        }
    }

    /// Something about it; ` done` at its end says that it has come to its end.
    pub fn note(&self, what: &str) {
        let what = text::clean(what);
        let (name, done) = match what.strip_suffix(" done") {
            Some(name) => (name, true),
            None => (what.as_str(), false),
        };
        self.with(|entry| {
            let part = entry.part(name);
            entry.parts.get_mut(part)?.ended = done.then(Instant::now);
            Some(part)
        });
    }

    /// What its author might want to write otherwise.
    pub fn warn(&self, what: &str) {
        self.with(|entry| {
            let part = entry.part(&format!("WARN: {}", text::clean(what)));
            let warned = entry.parts.get_mut(part)?;
            warned.warning = true;
            warned.ended = Some(warned.began);
            Some(part)
        });
    }

    /// Bytes of something, so far and in all; it has come to its end with `done`.
    pub fn bytes(&self, name: &str, now: u64, total: u64, done: bool) {
        self.with(|entry| {
            let known = entry.parts.len();
            let index = entry.part(name);
            let part = entry.parts.get_mut(index)?;
            part.bytes = Some((now, total));
            let ended = done && part.ended.is_none();
            part.ended = done.then(Instant::now);
            // Lines do not tell of every packet.
            let due = part.told.elapsed() >= Duration::from_secs(1);
            if index < known && !due && !ended {
                return None;
            }
            part.told = Instant::now();
            Some(index)
        });
    }

    /// What its command says.
    pub fn output(&self, bytes: &[u8]) {
        let inner = &self.display.screen.inner;
        let mut shown = inner.lock();
        let Some(entry) = shown.steps.get_mut(self.index) else { return };
        let lines = entry.log.add(bytes, entry.began);
        inner.lines(&mut shown, self.index, &lines);
    }

    fn end(&self, end: End) {
        self.display.screen.inner.end(self.index, end);
    }

    /// It has ended well.
    pub fn done(self) {
        self.end(End::Done);
    }

    /// Its result was there.
    pub fn cached(self) {
        self.end(End::Cached);
    }

    /// It was given up because another one failed.
    pub fn cancelled(self) {
        self.end(End::Cancelled);
    }

    /// It has failed; its last lines are shown once more after everything, with its title.
    pub fn failed(&self, error: &str) {
        self.end(End::Failed(text::clean(error)));
    }
}

impl Drop for Step<'_> {
    fn drop(&mut self) {
        self.end(End::Cancelled);
    }
}

impl Entry {
    /// The part of this name; a new one if there is none.
    fn part(&mut self, name: &str) -> usize {
        if let Some(index) = self.parts.iter().position(|part| part.name == name) {
            return index;
        }
        let now = Instant::now();
        let name = name.to_owned();
        self.parts.push(Part { name, bytes: None, began: now, ended: None, told: now, warning: false });
        self.parts.len() - 1
    }

    /// Seconds that it has taken.
    fn seconds(&self) -> f64 {
        let end = self.ended.as_ref().map_or_else(Instant::now, |(end, _)| *end);
        end.saturating_duration_since(self.began).as_secs_f64()
    }

    /// What is said of its failure after everything.
    fn failure(&self, count: usize) -> String {
        let mut text = format!("------\n > {}:\n", self.title);
        for (time, line) in self.log.kept.iter().skip(self.log.kept.len().saturating_sub(count)) {
            let _ = writeln!(text, "{time:.3} {line}");
        }
        text + "------\n"
    }
}

impl Part {
    fn seconds(&self) -> f64 {
        self.ended.unwrap_or_else(Instant::now).saturating_duration_since(self.began).as_secs_f64()
    }

    /// Its name, with its bytes.
    fn label(&self) -> String {
        match self.bytes {
            Some((now, total)) if total > 0 => {
                format!("{} {} / {}", self.name, super::human::size3(now), super::human::size3(total))
            }
            Some((now, _)) => format!("{} {}", self.name, super::human::size3(now)),
            None => self.name.clone(),
        }
    }
}

impl Log {
    /// The lines that these bytes end, with the seconds that had passed.
    fn add(&mut self, bytes: &[u8], began: Instant) -> Vec<(f64, String)> {
        self.partial.extend_from_slice(bytes);
        let mut lines = Vec::new();
        let mut rest = 0;
        while let Some(length) = self.partial.get(rest..).and_then(|rest| rest.iter().position(|b| *b == b'\n')) {
            let line = self.partial.get(rest..rest + length).map(text::of_line).unwrap_or_default();
            lines.push(self.keep(line, began));
            rest += length + 1;
        }
        self.partial.drain(..rest);
        // A line without an end is not waited for for ever.
        if self.partial.len() > 16 << 10 {
            lines.extend(self.rest(began));
        }
        lines
    }

    fn rest(&mut self, began: Instant) -> Option<(f64, String)> {
        let partial = std::mem::take(&mut self.partial);
        if partial.is_empty() { None } else { Some(self.keep(text::of_line(&partial), began)) }
    }

    fn keep(&mut self, line: String, began: Instant) -> (f64, String) {
        let line = (began.elapsed().as_secs_f64(), line);
        if self.kept.len() == KEPT {
            self.kept.pop_front();
        }
        self.kept.push_back((line.0, text::cut(&line.1, LONGEST)));
        line
    }
}

/// A command for a message: a long one without its end.
pub fn shortened(command: &str) -> String {
    text::cut(command, LONGEST)
}

fn print(text: &str) {
    if !text.is_empty() {
        // A terminal that has gone does not end a build.
        let _ = std::io::stderr().lock().write_all(text.as_bytes());
    }
}
