//! `pull`: the images of a project's services.

use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::Args;

use super::{Context, down};
use crate::engine::image::Policy;
use crate::parallel;
use crate::personality::Personality;
use crate::project::{images, load, lock, provider};
use crate::ui::progress::Progress;

/// Pull service images.
#[derive(Debug, Args)]
pub struct Pull {
    /// Pull without printing progress information
    #[arg(short, long)]
    quiet: bool,
    /// Also pull services declared as dependencies
    #[arg(long)]
    include_deps: bool,
    /// Pull what it can and ignore images with pull failures
    #[arg(long)]
    ignore_pull_failures: bool,
    /// Ignore images that can be built
    #[arg(long)]
    ignore_buildable: bool,
    /// Use exactly the images of umiak.lock
    #[arg(long)]
    locked: bool,
    /// Apply pull policy: missing, always
    #[arg(long, value_enum)]
    policy: Option<Policy>,
    /// Services; all if none
    services: Vec<String>,
}

impl Pull {
    /// Runs the command.
    pub fn run(self, context: &Context) -> Result<ExitCode> {
        let project = load::model(context, &self.services, false)?;
        if self.locked {
            lock::use_locked(&context.engine, &project)?;
        }
        let progress = if self.quiet { Progress::quiet() } else { context.progress() };
        let mut wanted = Vec::new();
        for chosen in provider::split(project.select(&self.services, self.include_deps)?).0 {
            let policy = match (self.policy, Policy::of_service(chosen)) {
                (Some(policy), _) => policy,
                (None, Policy::Never) => continue,
                (None, _) => Policy::Always,
            };
            let skipped = match (&chosen.build, &chosen.image) {
                (Some(_), None) => Some("Skipped - No image to be pulled"),
                (Some(_), Some(_)) if self.ignore_buildable => Some("Skipped - Image can be built"),
                _ => None,
            };
            if let Some(why) = skipped {
                progress.done(&chosen.name, why);
            }
            let own = skipped.is_none().then(|| images::key(&project, chosen));
            for (name, platform) in own.into_iter().chain(images::steps(&project, chosen)) {
                if !wanted.iter().any(|other: &Wanted<'_>| other.name == name && other.platform == platform) {
                    wanted.push(Wanted { service: &chosen.name, name, platform, policy });
                }
            }
        }
        let (mut errors, mut buildable) = (Vec::new(), Vec::new());
        for (index, error) in pull(context, &wanted, &progress) {
            let service = wanted.get(index).and_then(|wanted| project.services.get(wanted.service));
            buildable.extend(service.filter(|service| service.build.is_some()).map(|service| service.name.clone()));
            if self.ignore_pull_failures {
                progress.note(&format!("warning: {}", crate::failure::one_line(&error)));
            } else {
                errors.push(error);
            }
        }
        progress.finish();
        if !buildable.is_empty() && !self.ignore_pull_failures {
            crate::note!(
                "WARNING: Some service image(s) must be built from source by running:\n    {} build {}",
                Personality::current().command(),
                buildable.join(" ")
            );
        }
        down::finish(errors)
    }
}

/// One image, and the service that is named when it cannot be had.
struct Wanted<'a> {
    service: &'a str,
    name: String,
    platform: Option<String>,
    policy: Policy,
}

/// Pulls images, as many at a time as the command line says; the failures with the places of their
/// images.
fn pull(context: &Context, wanted: &[Wanted<'_>], progress: &Progress) -> Vec<(usize, anyhow::Error)> {
    let results = parallel::each(wanted, context.workers(), |one| one.pull(context, progress));
    results.into_iter().enumerate().filter_map(|(index, result)| Some((index, result.err()?))).collect()
}

impl Wanted<'_> {
    fn pull(&self, context: &Context, progress: &Progress) -> Result<()> {
        if context.global.dry_run {
            let what = format!("Image {}", self.name);
            progress.working(&what, "Pulling");
            progress.done(&what, "Pulled");
            return Ok(());
        }
        let pulled = context.engine.image(&self.name, self.policy, self.platform.as_deref(), progress);
        pulled.map(drop).with_context(|| format!("service {}", self.service))
    }
}
