//! Containers of a project that start while it is followed: started again, made
//! anew, or new. And whether more may come: whoever starts them holds the
//! project's lock.

use std::io::PipeReader;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::time::Instant;

use anyhow::{Context as _, Result};
use umiak_base::FileLock;

use crate::engine::events::Kind;
use crate::engine::events::read::Journal;
use crate::engine::wait::readable;
use crate::engine::{Container, Engine};
use crate::project::labels;

/// Those of one project.
pub struct Newcomers<'a> {
    engine: &'a Engine,
    project: String,
    journal: Journal<'a>,
    /// Which services are followed.
    chosen: Box<dyn Fn(&str) -> bool + 'a>,
    /// Ends when the command has ended that changes the project.
    changing: Option<PipeReader>,
}

impl std::fmt::Debug for Newcomers<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Newcomers").field("project", &self.project).finish_non_exhaustive()
    }
}

impl<'a> Newcomers<'a> {
    /// Those that start from now on, of chosen services.
    pub fn new(engine: &'a Engine, project: &str, chosen: impl Fn(&str) -> bool + 'a) -> Result<Self> {
        let journal = Journal::open(&engine.roots, true)?;
        Ok(Self { engine, project: project.to_owned(), journal, chosen: Box::new(chosen), changing: None })
    }

    /// What has started since the last call. Containers of `run` are no part of it.
    pub fn next(&mut self) -> Result<Vec<Container>> {
        let mut started = Vec::new();
        for event in self.journal.next()? {
            let of_project = event.attribute(labels::PROJECT) == Some(&self.project);
            let one_off = event.attribute(labels::ONEOFF) == Some("True");
            let chosen = event.attribute(labels::SERVICE).is_some_and(|service| (self.chosen)(service));
            if event.kind == Kind::Container && event.action == "start" && of_project && chosen && !one_off {
                // It may be gone by now.
                started.extend(Container::load(&self.engine.roots, &event.actor.id)?);
            }
        }
        Ok(started)
    }

    /// Whether a command is at work that may start some.
    pub fn may_come(&mut self) -> Result<bool> {
        if let Some(changing) = &self.changing {
            if !readable(&[changing.as_fd()], Some(Instant::now()))? {
                return Ok(true);
            }
            self.changing = None;
        }
        let path = self.engine.roots.lock(&format!("project-{}", self.project));
        if FileLock::try_exclusive(&path)?.is_some() {
            return Ok(false);
        }
        let (reader, writer) = std::io::pipe().context("make a pipe")?;
        std::thread::spawn(move || {
            // What cannot be waited for is asked for again.
            drop(FileLock::shared(&path));
            drop(writer);
        });
        self.changing = Some(reader);
        Ok(true)
    }

    /// Become readable when there may be news.
    pub fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        std::iter::once(self.journal.as_fd()).chain(self.changing.iter().map(|changing| changing.as_fd()))
    }
}
