//! `pull`: the images of a project's services.

use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::Args;

use super::{Context, down};
use crate::engine::image::Policy;
use crate::project::{load, provider, service};
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
        let progress = if self.quiet { Progress::quiet() } else { context.progress() };
        let mut errors = Vec::new();
        let mut pulled = std::collections::BTreeSet::new();
        for chosen in provider::split(project.select(&self.services, self.include_deps)?).0 {
            let name = service::image(&project, chosen);
            let buildable = chosen.build.is_some() && (self.ignore_buildable || chosen.image.is_none());
            let policy = match (self.policy, Policy::of_service(chosen)) {
                (Some(policy), _) => policy,
                (None, Policy::Never) => continue,
                (None, _) => Policy::Always,
            };
            if buildable || !pulled.insert(name.clone()) {
                continue;
            }
            if context.global.dry_run {
                let what = format!("Image {name}");
                progress.working(&what, "Pulling");
                progress.done(&what, "Pulled");
                continue;
            }
            let result = context.engine.image(&name, policy, chosen.platform.as_deref(), &progress);
            if let Err(error) = result.with_context(|| format!("service {}", chosen.name)) {
                if self.ignore_pull_failures {
                    progress.note(&format!("warning: {}", crate::failure::one_line(&error)));
                } else {
                    errors.push(error);
                }
            }
        }
        progress.finish();
        down::finish(errors)
    }
}
