//! Following the logs of several containers at once: everything that is there,
//! then what comes, in one poll loop, until all have ended for good. A run that
//! another follows is not an end.

mod newcomers;

use std::os::fd::{AsFd as _, BorrowedFd};
use std::time::Instant;

use anyhow::{Context as _, Result};
use umiak_runtime::logs::{Line, Query, Reader, Status, Stream, Time};

use crate::engine::container::State;
use crate::engine::events::read::Journal;
use crate::engine::wait::{StateWatch, readable};
use crate::engine::{Container, Engine, logs};
use crate::project::{explain, labels, names};
use crate::ui::logs::{Prefixes, put_line};

pub use newcomers::Newcomers;

/// What is shown.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Which lines.
    pub query: Query,
    /// With their times.
    pub timestamps: bool,
    /// Error output goes to our own error output.
    pub separate_streams: bool,
    /// With the attributes that the log's options add.
    pub details: bool,
    /// Which ends are told.
    pub announce: Announce,
}

/// Which ends of runs are told.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Announce {
    /// None.
    #[default]
    Nothing,
    /// Those that come while it is followed.
    WhatComes,
    /// Also of containers that have ended before.
    All,
}

/// What came of one turn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// The container's service; empty where it has none.
    pub service: String,
    /// Its exit code.
    pub code: i32,
}

struct Source {
    id: String,
    name: String,
    index: usize,
    reader: Option<Reader>,
    /// The beginnings of lines whose ends have not come yet: output, error output.
    begun: [String; 2],
    ended: bool,
    /// Its service; empty where it has none.
    service: String,
    /// It was up when it was seen last: its end is news.
    was_up: bool,
    /// How often it had been started again when it was seen last.
    restarts: u32,
    /// When its last run ended, as far as that was seen.
    finished: Option<jiff::Timestamp>,
    /// Whether a line has begun whose end has not come, where bytes are shown as they are.
    within: [bool; 2],
}

/// Several containers' logs.
pub struct Follow<'a> {
    engine: &'a Engine,
    options: Options,
    prefixes: Prefixes,
    sources: Vec<Source>,
    watch: StateWatch,
    newcomers: Option<Newcomers<'a>>,
    /// All have ended and nobody starts another: the next look is the last one.
    last_look: bool,
}

impl Source {
    fn read(&mut self, up: bool) -> Result<Vec<Line>, umiak_runtime::logs::LogError> {
        let mut lines = Vec::new();
        if let Some(reader) = &mut self.reader {
            if !up {
                reader.container_ended();
            }
            while reader.next_lines(&mut lines)? == Status::More {}
        }
        Ok(lines)
    }

    fn put(&mut self, lines: &[Line], prefix: &str, options: &Options, out: &mut Vec<u8>, err: &mut Vec<u8>) {
        for line in lines {
            let is_error = line.stream == Stream::Stderr;
            let batch = if is_error && options.separate_streams { &mut *err } else { &mut *out };
            if options.separate_streams && !options.timestamps {
                // A single container's bytes as they are, also a line without its end.
                if options.details
                    && !std::mem::replace(&mut self.within[usize::from(is_error)], !line.text.ends_with('\n'))
                {
                    batch.extend_from_slice(line.details.as_bytes());
                    batch.push(b' ');
                }
                batch.extend_from_slice(line.text.as_bytes());
                continue;
            }
            let begun = &mut self.begun[usize::from(is_error)];
            begun.push_str(&line.text);
            if begun.ends_with('\n') {
                let mut time = options.timestamps.then(|| line.time.to_string());
                if let Some(time) = time.as_mut().filter(|_| options.details) {
                    time.push(' ');
                    time.push_str(&line.details);
                }
                put_line(batch, prefix, time.as_deref(), begun.as_bytes());
                begun.clear();
            }
        }
    }

    /// A last line without its end is shown all the same.
    fn put_begun(&mut self, prefix: &str, options: &Options, out: &mut Vec<u8>, err: &mut Vec<u8>) {
        for (index, begun) in self.begun.iter_mut().enumerate().filter(|(_, begun)| !begun.is_empty()) {
            let batch = if index == 1 && options.separate_streams { &mut *err } else { &mut *out };
            put_line(batch, prefix, None, begun.as_bytes());
            begun.clear();
        }
    }
}

impl std::fmt::Debug for Follow<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Follow").field("options", &self.options).finish_non_exhaustive()
    }
}

impl<'a> Follow<'a> {
    /// Follows nothing yet.
    pub fn new(engine: &'a Engine, options: Options, prefixes: Prefixes) -> Result<Self> {
        let (sources, watch) = (Vec::new(), StateWatch::nothing()?);
        Ok(Self { engine, options, prefixes, sources, watch, newcomers: None, last_look: false })
    }

    /// Containers of a project that start later are followed, too.
    pub fn accompany(&mut self, newcomers: Newcomers<'a>) {
        self.newcomers = Some(newcomers);
    }

    /// Other options for the containers that are added from now on.
    pub fn set_options(&mut self, options: Options) {
        self.options = options;
    }

    /// Adds a container under a name for its prefix.
    pub fn add(&mut self, container: &Container, name: String) -> Result<()> {
        self.watch.add(&self.engine.roots, &container.config.id)?;
        let reader = logs::reader(&self.engine.roots, &container.config, &self.options.query)?;
        // One that takes another's place takes its colour.
        let same = self.sources.iter().find(|source| source.name == name);
        let index = same.map_or(self.sources.len(), |source| source.index);
        self.prefixes.widen(&name);
        self.sources.push(Source {
            id: container.config.id.clone(),
            name,
            index,
            reader,
            begun: Default::default(),
            ended: false,
            service: container.label(labels::SERVICE).unwrap_or_default().to_owned(),
            was_up: container.state.status.is_up(),
            restarts: container.state.restart_count,
            finished: container.state.finished_at,
            within: [false; 2],
        });
        Ok(())
    }

    /// The container that was added last is followed from its first start on, which may be some restarts ago.
    pub fn since_its_first_start(&mut self) {
        if let Some(source) = self.sources.last_mut() {
            source.restarts = 0;
        }
    }

    /// Shows what is there and, with `follow`, what comes until every container has ended.
    pub fn run(&mut self, follow: bool) -> Result<()> {
        loop {
            self.turn()?;
            if !follow {
                return self.put_rest();
            }
            if self.is_over()? {
                return Ok(());
            }
            self.wait(&[], None)?;
        }
    }

    fn put_rest(&mut self) -> Result<()> {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        for source in &mut self.sources {
            let prefix = self.prefixes.of(&source.name, source.index);
            source.put_begun(&prefix, &self.options, &mut out, &mut err);
        }
        put_both(&out, &err);
        Ok(())
    }

    /// Waits for something new, or for one of `others` to be readable.
    pub fn wait(&self, others: &[BorrowedFd<'_>], deadline: Option<Instant>) -> Result<()> {
        if self.last_look {
            return Ok(());
        }
        let mut fds: Vec<BorrowedFd<'_>> = others.to_vec();
        fds.push(self.watch.as_fd());
        fds.extend(self.newcomers.iter().flat_map(Newcomers::fds));
        for source in self.sources.iter().filter(|source| !source.ended) {
            fds.extend(source.reader.iter().filter_map(Reader::fd));
        }
        readable(&fds, deadline)?;
        Ok(())
    }

    /// Prints what has come. Containers that have ended for good since the last turn are returned.
    pub fn turn(&mut self) -> Result<Vec<Ended>> {
        let (mut out, mut err, mut ended) = (Vec::new(), Vec::new(), Vec::new());
        self.watch.clear();
        self.welcome()?;
        for source in self.sources.iter_mut().filter(|source| !source.ended) {
            // The state first: what is in the log when a container has ended is all there will be.
            let state = Container::load(&self.engine.roots, &source.id)?.map(|container| container.state);
            let up = state.as_ref().is_some_and(|state| state.status.is_up());
            let lines = source.read(up).with_context(|| format!("read the log of {}", source.name))?;
            let prefix = self.prefixes.of(&source.name, source.index);
            let again = state.as_ref().filter(|state| state.restart_count > source.restarts);
            let of_last_run = again.map_or(0, |state| lines_until(&lines, state.finished_at));
            let (before, after) = lines.split_at(of_last_run);
            source.put(before, &prefix, &self.options, &mut out, &mut err);
            if let Some(state) = again {
                source.put_begun(&prefix, &self.options, &mut out, &mut err);
                // Several, where they came faster than they were looked at.
                for _ in source.restarts..state.restart_count {
                    announce(source, &self.options, state, true, &mut out);
                }
            }
            source.put(after, &prefix, &self.options, &mut out, &mut err);
            source.was_up |= up || again.is_some();
            source.restarts = state.as_ref().map_or(source.restarts, |state| state.restart_count);
            if !up {
                source.ended = true;
                let state = state.unwrap_or_else(|| last_words(self.engine, &source.id));
                source.finished = state.finished_at;
                source.put_begun(&prefix, &self.options, &mut out, &mut err);
                announce(source, &self.options, &state, false, &mut out);
                ended.push(Ended { service: source.service.clone(), code: state.exit_code.unwrap_or(0) });
            }
        }
        put_both(&out, &err);
        Ok(ended)
    }

    /// Takes up what has started since the last turn.
    fn welcome(&mut self) -> Result<()> {
        let Some(newcomers) = &mut self.newcomers else { return Ok(()) };
        let started = newcomers.next()?;
        for container in started {
            let known = self.sources.iter_mut().find(|source| source.id == container.config.id);
            if known.as_ref().is_some_and(|source| !source.ended) {
                continue;
            }
            let mut query = Query { tail: None, since: None, ..self.options.query.clone() };
            if let Some(source) = known {
                // What it said before has been shown.
                query.since = source.finished.map(time);
                source.reader = logs::reader(&self.engine.roots, &container.config, &query)?;
                // A command has started it; what its monitor has done since is news.
                (source.ended, source.was_up, source.restarts) = (false, true, 0);
                continue;
            }
            let project = container.label(labels::PROJECT).unwrap_or_default();
            let name = names::in_logs(project, names::lasting(&container.config.name)).to_owned();
            let shown = std::mem::replace(&mut self.options.query, query);
            let added = self.add(&container, name);
            self.options.query = shown;
            added?;
            if let Some(source) = self.sources.last_mut() {
                // It has started, though it may have ended by now.
                source.was_up = true;
                source.restarts = 0;
            }
        }
        Ok(())
    }

    /// Whether every container has ended, and nobody is about to start one.
    pub fn is_over(&mut self) -> Result<bool> {
        if !self.sources.iter().all(|source| source.ended) {
            self.last_look = false;
            return Ok(false);
        }
        let Some(newcomers) = &mut self.newcomers else { return Ok(true) };
        if newcomers.may_come()? {
            self.last_look = false;
            return Ok(false);
        }
        // What was started before nobody was at work any more is seen by one more turn.
        Ok(std::mem::replace(&mut self.last_look, true))
    }
}

/// Tells the end of a run, where that is wanted.
fn announce(source: &Source, options: &Options, state: &State, again: bool, out: &mut Vec<u8>) {
    let wanted = match options.announce {
        Announce::Nothing => false,
        Announce::WhatComes => source.was_up || again,
        Announce::All => true,
    };
    if !wanted {
        return;
    }
    let (name, code) = (&source.name, state.exit_code.unwrap_or(0));
    let why = explain::of_end(state).map(|why| format!(" ({why})")).unwrap_or_default();
    let again = if again { " (restarting)" } else { "" };
    out.extend_from_slice(format!("{name} exited with code {code}{again}{why}\n").as_bytes());
}

/// How many lines were said by then.
fn lines_until(lines: &[Line], finished: Option<jiff::Timestamp>) -> usize {
    let Some(finished) = finished.map(time) else { return lines.len() };
    lines.iter().take_while(|line| line.time.nanoseconds() <= finished.nanoseconds()).count()
}

fn time(moment: jiff::Timestamp) -> Time {
    Time::from_nanoseconds(i64::try_from(moment.as_nanosecond()).unwrap_or(i64::MAX))
}

/// How a container ended that was removed before anybody looked: what the journal tells.
fn last_words(engine: &Engine, id: &str) -> State {
    let events = Journal::open(&engine.roots, false).and_then(|mut journal| journal.next()).unwrap_or_default();
    let died = events.iter().rev().find(|event| event.actor.id == id && event.action == "die");
    let exit_code = died.and_then(|event| event.attribute("exitCode")?.parse().ok());
    State { exit_code, ..State::default() }
}

fn put_both(out: &[u8], err: &[u8]) {
    if !out.is_empty() {
        crate::ui::write_raw(out);
    }
    if !err.is_empty() {
        let _ = std::io::Write::write_all(&mut std::io::stderr().lock(), err);
    }
}
