//! Builds the images of services: several at a time, and each after those that
//! it takes as contexts.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use anyhow::{Result, bail};
use umiak_compose::{Project, Service};
use umiak_images::store::Image;

use super::{Flags, options, stands_on, targets};
use crate::build::check::Call;
use crate::build::interrupt;
use crate::commands::Context;
use crate::failure::Coded;
use crate::project::service;
use crate::ui::build::{Display, Mode};
use crate::ui::progress::{self, Progress};

/// How builds are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shown {
    /// Their steps, and what was built.
    Steps,
    /// What was built.
    Images,
}

/// What goes on.
struct Board<'p> {
    waiting: Vec<&'p Service>,
    done: BTreeMap<String, Image>,
    failure: Option<anyhow::Error>,
}

/// One set of builds.
struct Builds<'b> {
    context: &'b Context,
    project: &'b Project,
    flags: &'b Flags,
    display: Display,
    several: bool,
    board: Mutex<Board<'b>>,
    changed: Condvar,
}

/// Builds what [`targets`] says of `services`; the images by service. With `--dry-run` they are only named.
pub fn run(
    context: &Context,
    project: &Project,
    services: &[&Service],
    flags: &Flags,
    shown: Shown,
    progress: &Progress,
) -> Result<BTreeMap<String, Image>> {
    let targets = targets(project, services)?;
    acyclic(&targets)?;
    // What is wrong with one is said before anything is built.
    for service in &targets {
        options(project, service, flags, &|_| Some(String::new()))?;
    }
    if context.global.dry_run {
        for service in &targets {
            let what = service::image(project, service);
            progress.working(&what, "Building");
            progress.done(&what, "Built");
        }
        return Ok(BTreeMap::new());
    }
    progress.finish();
    let several = targets.len() > 1;
    let workers = targets.len().min(context.workers());
    let watch = interrupt::Watch::new()?;
    let builds = Builds {
        context,
        project,
        flags,
        display: Display::new(mode(context, shown)),
        several,
        board: Mutex::new(Board { waiting: targets.clone(), done: BTreeMap::new(), failure: None }),
        changed: Condvar::new(),
    };
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| builds.work());
        }
    });
    drop(watch);
    // What failed is shown before it is said.
    drop(builds.display);
    let board = builds.board.into_inner().unwrap_or_else(PoisonError::into_inner);
    if let Some(error) = board.failure {
        return Err(error);
    }
    for service in &targets {
        progress.done(&service::image(project, service), "Built");
    }
    Ok(board.done)
}

/// Checks the Dockerfiles of these services, and ends with 1 when something is better written otherwise.
pub fn check(context: &Context, project: &Project, services: &[&Service], flags: &Flags) -> Result<ExitCode> {
    let mut clean = true;
    for (place, service) in targets(project, services)?.into_iter().enumerate() {
        let options = options(project, service, flags, &|name| Some(name.to_owned()))?;
        let checked = crate::build::check::call(&context.engine, &options, Call::Check, false);
        let checked = checked.map_err(|error| of_target(&service.name, error))?;
        let before = if place == 0 { "" } else { "\n" };
        crate::out!("{before}{}\n\n{}", service.name, checked.text.trim_end());
        clean &= checked.good;
    }
    Ok(if clean { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// How steps are shown: as the command shows its progress.
fn mode(context: &Context, shown: Shown) -> Mode {
    match context.global.progress {
        _ if shown == Shown::Images => Mode::Quiet,
        progress::Mode::Auto => Mode::Auto,
        progress::Mode::Tty => Mode::Tty,
        progress::Mode::Plain => Mode::Plain,
        progress::Mode::Json => Mode::RawJson,
        progress::Mode::Quiet => Mode::Quiet,
    }
}

impl<'b> Builds<'b> {
    fn board(&self) -> MutexGuard<'_, Board<'b>> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Builds one after the other until none is left or one has failed.
    fn work(&self) {
        while let Some(service) = self.next() {
            let result = self.one(service);
            let mut board = self.board();
            match result {
                Ok(image) => drop(board.done.insert(service.name.clone(), image)),
                Err(error) => board.failure = board.failure.take().or(Some(error)),
            }
            drop(board);
            self.changed.notify_all();
        }
    }

    /// One whose contexts are there.
    fn next(&self) -> Option<&'b Service> {
        let mut board = self.board();
        loop {
            if board.failure.is_some() || board.waiting.is_empty() {
                return None;
            }
            let done = &board.done;
            let free = |service: &&Service| stands_on(service).all(|name| done.contains_key(name));
            if let Some(place) = board.waiting.iter().position(free) {
                return Some(board.waiting.remove(place));
            }
            board = self.changed.wait(board).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn one(&self, service: &Service) -> Result<Image> {
        interrupt::check()?;
        let built = |name: &str| self.board().done.get(name).map(|image| image.id.to_string());
        let mut options = options(self.project, service, self.flags, &built)?;
        options.epoch = crate::commands::image::build::epoch()?;
        let engine = &self.context.engine;
        if !self.several {
            return crate::build::build(engine, &options, &self.display);
        }
        let display = self.display.named(&service.name);
        crate::build::build(engine, &options, &display).map_err(|error| of_target(&service.name, error))
    }
}

/// The error says whose it is; one that is said already in BuildKit's words keeps them.
fn of_target(name: &str, error: anyhow::Error) -> anyhow::Error {
    match error.downcast::<Coded>() {
        Ok(coded) => Coded { text: format!("target {name}: {}", coded.text), code: coded.code }.into(),
        Err(error) => error.context(format!("target {name}")),
    }
}

/// Refuses images that stand on each other.
fn acyclic(targets: &[&Service]) -> Result<()> {
    let mut left: Vec<&Service> = targets.to_vec();
    loop {
        let names: Vec<&str> = left.iter().map(|service| service.name.as_str()).collect();
        let before = left.len();
        left.retain(|service| stands_on(service).any(|name| names.contains(&name)));
        if left.is_empty() {
            return Ok(());
        }
        if left.len() == before {
            bail!("additional_contexts: these services are contexts of each other: {}", names.join(", "));
        }
    }
}
