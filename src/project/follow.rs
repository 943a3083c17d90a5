//! Following the logs of several containers at once: everything that is there,
//! then what comes, in one poll loop, until all have ended for good. A run that
//! another follows is not an end.

mod newcomers;
mod source;

use std::os::fd::{AsFd as _, BorrowedFd};
use std::time::{Duration, Instant};

use anyhow::Result;
use umiak_runtime::logs::{Query, Time};

use crate::engine::wait::{StateWatch, readable};
use crate::engine::{Container, Engine, logs};
use crate::project::{labels, names};
use crate::ui::logs::Prefixes;

use source::{Batch, Source};

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

/// Several containers' logs.
pub struct Follow<'a> {
    engine: &'a Engine,
    options: Options,
    prefixes: Prefixes,
    sources: Vec<Source>,
    /// Tells of changes of all states and of all logs.
    watch: StateWatch,
    newcomers: Option<Newcomers<'a>>,
    /// All have ended and nobody starts another: the next look is the last one.
    last_look: bool,
    /// The last turn has left something to show.
    more: bool,
}

/// How many bytes one turn shows at most: whoever calls it has other things to look after, too.
const TURN: usize = 1 << 20;

impl std::fmt::Debug for Follow<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Follow").field("options", &self.options).finish_non_exhaustive()
    }
}

impl<'a> Follow<'a> {
    /// Follows nothing yet.
    pub fn new(engine: &'a Engine, options: Options, prefixes: Prefixes) -> Result<Self> {
        let (sources, watch) = (Vec::new(), StateWatch::nothing()?);
        Ok(Self { engine, options, prefixes, sources, watch, newcomers: None, last_look: false, more: false })
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
        // One that takes another's place takes its colour.
        let same = self.sources.iter().find(|source| source.name == name);
        let index = same.map_or(self.sources.len(), |source| source.index);
        self.prefixes.widen(&name);
        self.sources.push(Source::new(self.engine, container, name, index, &self.options, self.watch.as_fd())?);
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
            if self.more {
                continue;
            }
            if !follow {
                self.put_rest();
                return Ok(());
            }
            if self.is_over()? {
                return Ok(());
            }
            self.wait(&[], None)?;
        }
    }

    fn put_rest(&mut self) {
        let mut batch = Batch::default();
        for source in &mut self.sources {
            let prefix = self.prefixes.of(&source.name, source.index);
            source.put_begun(&prefix, &self.options, &mut batch);
        }
        batch.flush();
    }

    /// Waits for something new, or for one of `others` to be readable.
    pub fn wait(&self, others: &[BorrowedFd<'_>], deadline: Option<Instant>) -> Result<()> {
        if self.last_look || self.more {
            return Ok(());
        }
        let mut fds: Vec<BorrowedFd<'_>> = others.to_vec();
        fds.push(self.watch.as_fd());
        fds.extend(self.newcomers.iter().flat_map(Newcomers::fds));
        let until = self.options.query.until.map(|until| Instant::now() + left_until(until));
        readable(&fds, deadline.into_iter().chain(until).min())?;
        Ok(())
    }

    /// Prints what has come. Containers that have ended for good since the last turn are returned.
    pub fn turn(&mut self) -> Result<Vec<Ended>> {
        let (mut batch, mut ended) = (Batch::default(), Vec::new());
        self.watch.clear();
        self.welcome()?;
        for source in self.sources.iter_mut().filter(|source| !source.ended) {
            source.look(self.engine)?;
        }
        self.more = self.put_in_order(&mut batch)?;
        for source in self.sources.iter_mut().filter(|source| !source.ended) {
            let prefix = self.prefixes.of(&source.name, source.index);
            ended.extend(source.put_ends(&prefix, &self.options, self.engine, &mut batch));
        }
        batch.flush();
        Ok(ended)
    }

    /// Shows lines by their time, whichever container they are from, and keeps little of each log in memory. Whether
    /// there is more to show at once.
    fn put_in_order(&mut self, batch: &mut Batch) -> Result<bool> {
        loop {
            for source in self.sources.iter_mut().filter(|source| !source.ended) {
                source.fill()?;
            }
            let times = || self.sources.iter().map(|source| source.next().filter(|_| !source.ended));
            let first = times().enumerate().filter_map(|(index, time)| Some((time?, index))).min();
            let Some((_, index)) = first else { return Ok(false) };
            // Up to where another one's turn is.
            let others = times().enumerate().filter(|(other, _)| *other != index);
            let last = others.filter_map(|(_, time)| time).min();
            if let Some(source) = self.sources.get_mut(index) {
                let prefix = self.prefixes.of(&source.name, source.index);
                source.put_until(last, &prefix, &self.options, batch);
            }
            // What has ended is read to its end: it may have begun again by the next turn.
            if batch.total >= TURN && self.sources.iter().all(|source| source.ended || source.is_up()) {
                return Ok(true);
            }
        }
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
                let watch = self.watch.as_fd();
                let reader = logs::reader_of_many(&self.engine.roots, &container.config, &query, watch)?;
                source.begin_again(reader);
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

fn time(moment: jiff::Timestamp) -> Time {
    Time::from_nanoseconds(i64::try_from(moment.as_nanosecond()).unwrap_or(i64::MAX))
}

/// How long it is until then; a moment more, so that it has passed.
fn left_until(until: Time) -> Duration {
    let left = until.nanoseconds().saturating_sub(Time::now().nanoseconds());
    Duration::from_nanos(u64::try_from(left).unwrap_or(0)) + Duration::from_millis(1)
}
