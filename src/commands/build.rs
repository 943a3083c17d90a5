//! `build`: the images of a project's services.

use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use umiak_compose::{Project, Service};

use super::{Context, push};
use crate::out;
use crate::project::build::run::{self, Shown};
use crate::project::build::{self, Flags, bake};
use crate::project::load;
use crate::ui::human::parse_size;
use crate::ui::progress::{Mode, Progress};

/// Build or rebuild services.
#[derive(Debug, Args)]
#[allow(clippy::struct_excessive_bools, reason = "one per flag")]
pub struct Build {
    /// Set build-time variables for services
    #[arg(long, value_name = "NAME[=VALUE]")]
    build_arg: Vec<String>,
    /// Set builder to use: there is one, `default`
    #[arg(long, value_name = "NAME")]
    builder: Option<String>,
    /// Check build configuration
    #[arg(long)]
    check: bool,
    #[arg(long, hide = true)]
    compress: bool,
    /// When a RUN fails, open a shell in the state before it
    #[arg(long)]
    debug_shell: bool,
    #[arg(long, hide = true)]
    force_rm: bool,
    /// Use exactly the base images of umiak.lock
    #[arg(long)]
    locked: bool,
    /// Set memory limit for RUN
    #[arg(short, long, value_name = "BYTES")]
    memory: Option<String>,
    /// Do not use cache when building the image
    #[arg(long)]
    no_cache: bool,
    #[arg(long, hide = true)]
    no_rm: bool,
    #[arg(long = "parallel", id = "in_parallel", hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    parallel: Option<bool>,
    /// Print equivalent bake file
    #[arg(long)]
    print: bool,
    #[arg(long = "progress", id = "progress_of_build", hide = true, value_name = "MODE")]
    progress: Option<String>,
    /// Add a provenance attestation: images get none
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    provenance: Option<String>,
    /// Always attempt to pull a newer version of the image
    #[arg(long)]
    pull: bool,
    /// Push service images
    #[arg(long)]
    push: bool,
    /// Suppress the build output
    #[arg(short, long)]
    quiet: bool,
    /// Add a SBOM attestation: images get none
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    sbom: Option<String>,
    /// Set SSH authentications used when building service images (use 'default' for using your default SSH Agent)
    #[arg(long, value_name = "ID[=SOCKET|KEY]")]
    ssh: Vec<String>,
    /// Also build dependencies (transitively)
    #[arg(long)]
    with_dependencies: bool,
    /// Services; all if none
    services: Vec<String>,
}

impl Build {
    /// Runs the command.
    pub fn run(self, context: &Context) -> Result<ExitCode> {
        self.check_flags()?;
        let project = load::model(context, &self.services, false)?;
        if self.locked {
            crate::project::lock::use_locked(&context.engine, &project)?;
        }
        let chosen: Vec<&Service> = project.select(&self.services, self.with_dependencies)?;
        let flags = Flags {
            no_cache: self.no_cache,
            pull: self.pull,
            args: self.build_arg.clone(),
            ssh: self.ssh.clone(),
            debug_shell: self.debug_shell,
            memory: self.memory.as_deref().map(memory).transpose()?.filter(|bytes| *bytes > 0),
            ..Flags::default()
        };
        if self.print {
            let targets = build::targets(&project, &chosen)?;
            out!("{}", bake::print(&project, &targets, &flags, self.push)?);
            return Ok(ExitCode::SUCCESS);
        }
        if self.check {
            return run::check(context, &project, &chosen, &flags);
        }
        let silent =
            self.quiet || matches!(self.progress.as_deref(), Some("quiet")) || context.global.progress == Mode::Quiet;
        let progress = if silent { Progress::quiet() } else { context.progress() };
        let shown = if silent { Shown::Images } else { Shown::Steps };
        // As for `up`: one change of a project at a time.
        let _lock = context.lock_project(&project.name)?;
        run::run(context, &project, &chosen, &flags, shown, &progress)?;
        if self.push {
            self.push(context, &project, &chosen, &progress)?;
        }
        progress.finish();
        Ok(ExitCode::SUCCESS)
    }

    fn push(&self, context: &Context, project: &Project, chosen: &[&Service], progress: &Progress) -> Result<()> {
        let targets = build::targets(project, chosen)?;
        let names = targets
            .iter()
            .flat_map(|service| build::names(project, service).into_iter().map(|name| (service.name.clone(), name)));
        push::all(context, names, progress)
    }

    /// Refuses what there is not.
    fn check_flags(&self) -> Result<()> {
        if let Some(name) = self.builder.as_ref().filter(|name| *name != "default") {
            bail!("no builder \"{name}\" found: there is one, default");
        }
        for (flag, value) in [("--provenance", &self.provenance), ("--sbom", &self.sbom)] {
            let asked = value.as_deref().filter(|value| !matches!(*value, "false" | "0" | "disabled=true"));
            if asked.is_some() {
                bail!("{flag}: attestations are not supported by this version of umiak: its images get none");
            }
        }
        Ok(())
    }
}

fn memory(text: &str) -> Result<u64> {
    parse_size(text).with_context(|| format!("--memory: \"{text}\" is not a size like 64m or 1.5g"))
}
