//! `push`: the images of a project's services that are built here.

use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::Args;
use umiak_compose::Service;
use umiak_images::digest::Digest;
use umiak_images::push::{Event, Watch};

use super::{Context, down, image};
use crate::engine::push::{Session, reference};
use crate::parallel;
use crate::project::{load, provider};
use crate::ui::progress::Progress;

/// Push service images.
#[derive(Debug, Args)]
pub struct Push {
    /// Also push images of services declared as dependencies
    #[arg(long)]
    include_deps: bool,
    /// Push what it can and ignore images with push failures
    #[arg(long)]
    ignore_push_failures: bool,
    /// Push without printing progress information
    #[arg(short, long)]
    quiet: bool,
    /// Services; all if none
    services: Vec<String>,
}

/// The images of services that are built here, by all their names; the others are shown as skipped.
pub(super) fn wanted(services: &[&Service], progress: &Progress) -> Vec<Wanted> {
    let mut wanted: Vec<Wanted> = Vec::new();
    for service in services {
        let (Some(build), Some(image)) = (&service.build, &service.image) else {
            // What is only pulled is not ours to push, and what has no name goes nowhere.
            progress.done(&service.name, "Skipped");
            continue;
        };
        for name in std::iter::once(image).chain(&build.tags) {
            if !wanted.iter().any(|other| other.name == *name) {
                wanted.push(Wanted { service: service.name.clone(), name: name.clone() });
            }
        }
    }
    wanted
}

/// One name of one service's image.
pub(super) struct Wanted {
    service: String,
    name: String,
}

impl Push {
    /// Runs the command.
    pub fn run(self, context: &Context) -> Result<ExitCode> {
        let project = load::model(context, &self.services, false)?;
        let progress = if self.quiet { Progress::quiet() } else { context.progress() };
        let wanted = wanted(&provider::split(project.select(&self.services, self.include_deps)?).0, &progress);
        let mut errors = Vec::new();
        for (service, error) in each(context, &wanted, &progress)? {
            if self.ignore_push_failures {
                let text = format!("Pushing {service}: {}", crate::failure::one_line(&error));
                if !self.quiet {
                    progress.note(&text);
                }
            } else {
                errors.push(error.context(format!("service {service}")));
            }
        }
        progress.finish();
        down::finish(errors)
    }
}

/// Pushes images under these names, each with its service's.
pub(super) fn all(context: &Context, names: impl Iterator<Item = (String, String)>, progress: &Progress) -> Result<()> {
    let wanted: Vec<Wanted> = names.map(|(service, name)| Wanted { service, name }).collect();
    let mut failures = each(context, &wanted, progress)?.into_iter();
    let first = failures.next();
    for (service, error) in failures {
        crate::note!("Error: service {service}: {}", crate::failure::one_line(&error));
    }
    first.map_or(Ok(()), |(service, error)| Err(error.context(format!("service {service}"))))
}

/// Pushes images, as many at a time as the command line says; the failures in the order of the images.
pub(super) fn each<'w>(
    context: &Context,
    wanted: &'w [Wanted],
    progress: &Progress,
) -> Result<Vec<(&'w str, anyhow::Error)>> {
    if context.global.dry_run {
        for one in wanted {
            progress.working(&format!("Pushing {}", one.name), "Pushing");
            progress.done(&format!("Pushing {}", one.name), "Pushed");
        }
        return Ok(Vec::new());
    }
    let session = context.engine.pushing()?;
    let results = parallel::each(wanted, context.workers(), |one| one.push(&session, progress));
    let failures = wanted.iter().zip(results).filter_map(|(one, result)| Some((one.service.as_str(), result.err()?)));
    Ok(failures.collect())
}

impl Wanted {
    fn push(&self, session: &Session<'_>, progress: &Progress) -> Result<()> {
        let name = reference(&self.name)?;
        let lines = Lines { name: &self.name, progress };
        session.push(&[name], None, &lines, |_, _| {}).with_context(|| format!("push {}", self.name))
    }
}

/// A line per image and layer.
struct Lines<'a> {
    name: &'a str,
    progress: &'a Progress,
}

impl Watch for Lines<'_> {
    fn event(&self, layer: &Digest, event: Event<'_>) {
        let what = format!("Pushing {}: {}", self.name, layer.short());
        match event {
            Event::Pushing { bytes, total } => self.progress.bytes(&what, "Pushing", bytes, total),
            Event::Exists | Event::Mounted { .. } | Event::Pushed => {
                self.progress.done(&what, &image::push::words(&event));
            }
            other => self.progress.working(&what, &image::push::words(&other)),
        }
    }
}
