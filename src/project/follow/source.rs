//! One container's log while it is followed: what has been read and is not
//! shown yet, lines whose ends have not come, and the ends of its runs.

use std::collections::VecDeque;
use std::os::fd::BorrowedFd;

use anyhow::{Context as _, Result};
use umiak_runtime::logs::{Line, Reader, Status, Stream, Time};

use super::{Announce, Ended, Options, time};
use crate::engine::container::State;
use crate::engine::events::read::Journal;
use crate::engine::{Container, Engine, logs};
use crate::project::{explain, labels};
use crate::ui::logs::put_line;

/// An unfinished line is shown when it has grown to this: nobody waits for the end of a stream without newlines.
const MAX_LINE: usize = 1 << 20;

/// A container that is followed.
pub(super) struct Source {
    pub id: String,
    pub name: String,
    /// Which colour it has.
    pub index: usize,
    /// Nothing more of it is shown, unless it starts again.
    pub ended: bool,
    /// When its last run ended, as far as that was seen.
    pub finished: Option<jiff::Timestamp>,
    /// It was up when it was seen last: its end is news.
    pub was_up: bool,
    /// How often it had been started again when it was seen last.
    pub restarts: u32,
    /// Its service; empty where it has none.
    service: String,
    reader: Option<Reader>,
    /// Read, and not shown yet.
    queue: VecDeque<Line>,
    /// Everything has been read that there was when its state was looked at.
    drained: bool,
    /// There will be nothing more that is asked for.
    over: bool,
    /// As it was when it was looked at; `None` where it is gone.
    state: Option<State>,
    /// The beginnings of lines whose ends have not come yet: output, error output.
    begun: [Begun; 2],
    /// Whether a line has begun whose end has not come, where bytes are shown as they are.
    within: [bool; 2],
}

#[derive(Default)]
struct Begun {
    text: String,
    time: String,
}

/// What is to be printed, in one order for both outputs: where both are the same terminal or file, that is seen.
#[derive(Default)]
pub(super) struct Batch {
    bytes: Vec<u8>,
    is_error: bool,
    /// How much there has been.
    pub total: usize,
}

impl Batch {
    /// Where bytes for one of the outputs are to be appended.
    pub fn of(&mut self, is_error: bool) -> &mut Vec<u8> {
        if self.is_error != is_error || self.bytes.len() > 64 << 10 {
            self.flush();
            self.is_error = is_error;
        }
        &mut self.bytes
    }

    /// Prints it.
    pub fn flush(&mut self) {
        self.total += self.bytes.len();
        if self.is_error {
            let _ = std::io::Write::write_all(&mut std::io::stderr().lock(), &self.bytes);
        } else if !self.bytes.is_empty() {
            crate::ui::write_raw(&self.bytes);
        }
        self.bytes.clear();
    }
}

impl Source {
    /// One of which nothing has been shown. `watch` tells when there may be more.
    pub fn new(
        engine: &Engine,
        container: &Container,
        name: String,
        index: usize,
        options: &Options,
        watch: BorrowedFd<'_>,
    ) -> Result<Self> {
        Ok(Self {
            id: container.config.id.clone(),
            name,
            index,
            ended: false,
            finished: container.state.finished_at,
            was_up: container.state.status.is_up(),
            restarts: container.state.restart_count,
            service: container.label(labels::SERVICE).unwrap_or_default().to_owned(),
            reader: logs::reader_of_many(&engine.roots, &container.config, &options.query, watch)?,
            queue: VecDeque::new(),
            drained: false,
            over: false,
            state: None,
            begun: Default::default(),
            within: [false; 2],
        })
    }

    /// It has been started by a command; what its monitor has done since is news.
    pub fn begin_again(&mut self, reader: Option<Reader>) {
        self.reader = reader;
        (self.ended, self.over, self.was_up, self.restarts) = (false, false, true, 0);
    }

    /// Looks at its state. Before its log: what is there when it has ended is all there will be.
    pub fn look(&mut self, engine: &Engine) -> Result<()> {
        self.state = Container::load(&engine.roots, &self.id)?.map(|container| container.state);
        self.drained = self.over;
        if !self.is_up()
            && let Some(reader) = &mut self.reader
        {
            reader.container_ended();
        }
        Ok(())
    }

    /// Whether it was up when it was looked at.
    pub fn is_up(&self) -> bool {
        self.state.as_ref().is_some_and(|state| state.status.is_up())
    }

    /// Reads on until there is a line to show, or none is left.
    pub fn fill(&mut self) -> Result<()> {
        if !self.queue.is_empty() {
            return Ok(());
        }
        let Some(reader) = self.reader.as_mut().filter(|_| !self.drained) else {
            self.drained = true;
            return Ok(());
        };
        let mut lines = Vec::new();
        while lines.is_empty() && !self.drained {
            let status = reader.next_lines(&mut lines).with_context(|| format!("read the log of {}", self.name))?;
            self.drained = status != Status::More;
            self.over = status == Status::End;
        }
        self.queue = lines.into();
        Ok(())
    }

    /// The time of the next line to show.
    pub fn next(&self) -> Option<Time> {
        self.queue.front().map(|line| line.time)
    }

    /// Shows lines up to a time, or all that have been read.
    pub fn put_until(&mut self, last: Option<Time>, prefix: &str, options: &Options, batch: &mut Batch) {
        while self.next().is_some_and(|time| last.is_none_or(|last| time <= last)) {
            let Some(line) = self.queue.pop_front() else { return };
            // A run that another follows has its end told between the two.
            let of_next = self.restarted().and_then(|state| state.finished_at).is_some_and(|end| line.time > time(end));
            if of_next {
                self.announce_restarts(prefix, options, batch);
            }
            self.put(&line, prefix, options, batch);
        }
    }

    fn put(&mut self, line: &Line, prefix: &str, options: &Options, batch: &mut Batch) {
        let is_error = line.stream == Stream::Stderr;
        let out = batch.of(is_error && options.separate_streams);
        let index = usize::from(is_error);
        if options.separate_streams && !options.timestamps {
            // A single container's bytes as they are, also a line without its end.
            if options.details && !std::mem::replace(&mut self.within[index], !line.text.ends_with('\n')) {
                out.extend_from_slice(line.details.as_bytes());
                out.push(b' ');
            }
            out.extend_from_slice(line.text.as_bytes());
            return;
        }
        let begun = &mut self.begun[index];
        if options.timestamps && begun.text.is_empty() {
            begun.time = line.time.to_string();
            if options.details {
                begun.time.push(' ');
                begun.time.push_str(&line.details);
            }
        }
        let time = options.timestamps.then_some(begun.time.as_str());
        if begun.text.is_empty() && line.text.ends_with('\n') {
            put_line(out, prefix, time, line.text.as_bytes());
            return;
        }
        begun.text.push_str(&line.text);
        if begun.text.ends_with('\n') || begun.text.len() >= MAX_LINE {
            put_line(out, prefix, time, begun.text.as_bytes());
            begun.text.clear();
        }
    }

    /// A last line without its end is shown all the same.
    pub fn put_begun(&mut self, prefix: &str, options: &Options, batch: &mut Batch) {
        for (index, begun) in self.begun.iter_mut().enumerate().filter(|(_, begun)| !begun.text.is_empty()) {
            let out = batch.of(index == 1 && options.separate_streams);
            let time = options.timestamps.then_some(begun.time.as_str());
            put_line(out, prefix, time, begun.text.as_bytes());
            begun.text.clear();
        }
    }

    /// All lines are shown that there were: tells the ends that came after them. The last one is returned.
    pub fn put_ends(&mut self, prefix: &str, options: &Options, engine: &Engine, batch: &mut Batch) -> Option<Ended> {
        if !self.drained || !self.queue.is_empty() {
            return None;
        }
        self.announce_restarts(prefix, options, batch);
        let up = self.is_up();
        self.was_up |= up;
        if up {
            // With --until nothing more is asked for, whatever it still says.
            self.ended = self.over;
            return None;
        }
        self.ended = true;
        let state = self.state.take().unwrap_or_else(|| last_words(engine, &self.id));
        self.finished = state.finished_at;
        self.restarts = state.restart_count;
        self.put_begun(prefix, options, batch);
        self.announce(options, &state, false, batch);
        Some(Ended { service: self.service.clone(), code: state.exit_code.unwrap_or(0) })
    }

    /// The state, where it has been started again since it was seen last.
    fn restarted(&self) -> Option<&State> {
        self.state.as_ref().filter(|state| state.restart_count > self.restarts)
    }

    fn announce_restarts(&mut self, prefix: &str, options: &Options, batch: &mut Batch) {
        let Some(state) = self.restarted().cloned() else { return };
        self.put_begun(prefix, options, batch);
        // Several, where they came faster than they were looked at.
        for _ in self.restarts..state.restart_count {
            self.announce(options, &state, true, batch);
        }
        (self.restarts, self.was_up) = (state.restart_count, true);
    }

    /// Tells the end of a run, where that is wanted.
    fn announce(&self, options: &Options, state: &State, again: bool, batch: &mut Batch) {
        let wanted = match options.announce {
            Announce::Nothing => false,
            Announce::WhatComes => self.was_up || again,
            Announce::All => true,
        };
        if !wanted {
            return;
        }
        let (name, code) = (&self.name, state.exit_code.unwrap_or(0));
        let why = explain::of_end(state).map(|why| format!(" ({why})")).unwrap_or_default();
        let again = if again { " (restarting)" } else { "" };
        batch.of(false).extend_from_slice(format!("{name} exited with code {code}{again}{why}\n").as_bytes());
    }
}

/// How a container ended that was removed before anybody looked: what the journal tells.
fn last_words(engine: &Engine, id: &str) -> State {
    let events = Journal::open(&engine.roots, false).and_then(|mut journal| journal.next()).unwrap_or_default();
    let died = events.iter().rev().find(|event| event.actor.id == id && event.action == "die");
    let exit_code = died.and_then(|event| event.attribute("exitCode")?.parse().ok());
    State { exit_code, ..State::default() }
}
