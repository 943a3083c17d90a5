//! Following the logs of several containers at once: everything that is there,
//! then what comes, in one poll loop, until all have ended.

use std::os::fd::{AsFd as _, BorrowedFd};
use std::time::Instant;

use anyhow::{Context as _, Result};
use umiak_runtime::logs::{Line, Query, Reader, Status, Stream};

use crate::engine::wait::{StateWatch, readable};
use crate::engine::{Container, Engine, logs};
use crate::ui::logs::{Prefixes, put_line};

/// What is shown.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Which lines.
    pub query: Query,
    /// With their times.
    pub timestamps: bool,
    /// Error output goes to our own error output.
    pub separate_streams: bool,
    /// With the attributes that the log driver adds, of which there are none: a space stands for them.
    pub details: bool,
    /// Say when a container has ended.
    pub announce_exits: bool,
}

/// What came of one turn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// The container's id.
    pub id: String,
    /// Its name in the logs.
    pub name: String,
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
                    batch.push(b' ');
                }
                batch.extend_from_slice(line.text.as_bytes());
                continue;
            }
            let begun = &mut self.begun[usize::from(is_error)];
            begun.push_str(&line.text);
            if begun.ends_with('\n') {
                let time = options.timestamps.then(|| line.time.to_string());
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
        Ok(Self { engine, options, prefixes, sources: Vec::new(), watch: StateWatch::nothing()? })
    }

    /// Other options for the containers that are added from now on.
    pub fn set_options(&mut self, options: Options) {
        self.options = options;
    }

    /// Adds a container under a name for its prefix.
    pub fn add(&mut self, container: &Container, name: String) -> Result<()> {
        self.watch.add(&self.engine.roots, &container.config.id)?;
        let reader = logs::reader(&self.engine.roots, &container.config, &self.options.query)?;
        let index = self.sources.len();
        self.prefixes.widen(&name);
        self.sources.push(Source {
            id: container.config.id.clone(),
            name,
            index,
            reader,
            begun: Default::default(),
            ended: false,
            within: [false; 2],
        });
        Ok(())
    }

    /// Shows what is there and, with `follow`, what comes until every container has ended.
    pub fn run(&mut self, follow: bool) -> Result<()> {
        loop {
            self.turn()?;
            if !follow {
                return self.put_rest();
            }
            if self.all_ended() {
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
        let mut fds: Vec<BorrowedFd<'_>> = others.to_vec();
        fds.push(self.watch.as_fd());
        for source in self.sources.iter().filter(|source| !source.ended) {
            fds.extend(source.reader.iter().filter_map(Reader::fd));
        }
        readable(&fds, deadline)?;
        Ok(())
    }

    /// Prints what has come. Containers that have ended since the last turn are returned.
    pub fn turn(&mut self) -> Result<Vec<Ended>> {
        let (mut out, mut err, mut ended) = (Vec::new(), Vec::new(), Vec::new());
        self.watch.clear();
        for source in self.sources.iter_mut().filter(|source| !source.ended) {
            // The state first: what is in the log when a container has ended is all there will be.
            let state = Container::load(&self.engine.roots, &source.id)?.map(|container| container.state);
            let up = state.as_ref().is_some_and(|state| state.status.is_up());
            let lines = source.read(up).with_context(|| format!("read the log of {}", source.name))?;
            let prefix = self.prefixes.of(&source.name, source.index);
            source.put(&lines, &prefix, &self.options, &mut out, &mut err);
            if !up {
                source.ended = true;
                let code = state.as_ref().and_then(|state| state.exit_code).unwrap_or(0);
                source.put_begun(&prefix, &self.options, &mut out, &mut err);
                if self.options.announce_exits {
                    let why = state.as_ref().and_then(super::explain::of_end);
                    let why = why.map(|why| format!(" ({why})")).unwrap_or_default();
                    let text = format!("{} exited with code {code}{why}\n", source.name);
                    out.extend_from_slice(text.as_bytes());
                }
                ended.push(Ended { id: source.id.clone(), name: source.name.clone(), code });
            }
        }
        put_both(&out, &err);
        Ok(ended)
    }

    /// Whether every container has ended.
    pub fn all_ended(&self) -> bool {
        self.sources.iter().all(|source| source.ended)
    }
}

fn put_both(out: &[u8], err: &[u8]) {
    if !out.is_empty() {
        crate::ui::write_raw(out);
    }
    if !err.is_empty() {
        let _ = std::io::Write::write_all(&mut std::io::stderr().lock(), err);
    }
}
