//! `up`: plan, apply, and follow.

mod menu;

use std::collections::BTreeSet;
use std::os::fd::AsFd as _;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use nix::sys::signal::Signal;

use self::menu::{Menu, Wish};
use super::Context;
use super::plan_flags::PlanFlags;
use crate::engine::{Container, attach};
use crate::failure;
use crate::project::apply::Containers;
use crate::project::converge::Request;
use crate::project::follow::{Announce, Ended, Follow, Newcomers, Options as FollowOptions};
use crate::project::images::Ask;
use crate::project::{labels, load, names, timeline, wait};
use crate::ui::logs::Prefixes;
use crate::ui::progress::{Progress, Recorder};
use umiak_compose::Project;

/// Create and start containers.
#[derive(Debug, Args)]
#[allow(clippy::struct_excessive_bools, reason = "one per flag")]
pub struct Up {
    /// Detached mode: run containers in the background
    #[arg(short, long)]
    detach: bool,
    #[command(flatten)]
    plan: PlanFlags,
    /// Suppress the build output
    #[arg(long)]
    quiet_build: bool,
    /// Pull without printing progress information
    #[arg(long)]
    quiet_pull: bool,
    /// Seconds to wait for a container to stop before it is killed
    #[arg(short, long, value_name = "SECONDS")]
    timeout: Option<i64>,
    /// Stops all containers if any container was stopped
    #[arg(long)]
    abort_on_container_exit: bool,
    /// Stops all containers if any container exited with failure
    #[arg(long)]
    abort_on_container_failure: bool,
    /// Return the exit code of the selected service container; implies --abort-on-container-exit
    #[arg(long, value_name = "SERVICE")]
    exit_code_from: Option<String>,
    /// Restrict attaching to the specified services
    #[arg(long, value_name = "SERVICE")]
    attach: Vec<String>,
    /// Automatically attach to log output of dependent services
    #[arg(long)]
    attach_dependencies: bool,
    /// Do not attach (stream logs) to the specified services
    #[arg(long, value_name = "SERVICE")]
    no_attach: Vec<String>,
    /// Produce monochrome output
    #[arg(long)]
    no_color: bool,
    /// Don't print prefix in logs
    #[arg(long)]
    no_log_prefix: bool,
    /// Show timestamps
    #[arg(long)]
    timestamps: bool,
    /// Wait for services to be running|healthy; implies detached mode
    #[arg(long)]
    wait: bool,
    /// Maximum duration in seconds to wait for the project to be running|healthy
    #[arg(long, value_name = "SECONDS")]
    wait_timeout: Option<u64>,
    /// Enable interactive shortcuts when running attached: w to watch files, d to detach
    #[arg(long, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true", action = clap::ArgAction::Set)]
    menu: bool,
    /// Watch source code and rebuild/refresh containers when files are updated
    #[arg(short, long)]
    watch: bool,
    /// Keep what was made when something fails
    #[arg(long)]
    keep: bool,
    /// Draw how the start went: what took how long, and the critical path
    #[arg(long, value_name = "FILE.svg")]
    timeline: Option<std::path::PathBuf>,
    /// Services; all if none
    services: Vec<String>,
}

impl Up {
    /// Runs the command.
    pub fn run(self, context: &Context) -> Result<ExitCode> {
        self.check_flags()?;
        let began = jiff::Timestamp::now();
        let project = load::model(context, &self.services, true)?;
        self.check_names(&project)?;
        crate::project::remote::ask::before_running(context, &project, self.plan.yes)?;
        if self.plan.locked {
            crate::project::lock::use_locked(&context.engine, &project)?;
        }
        let lock = context.lock_project(&project.name)?;
        let recorder = self.timeline.as_ref().filter(|_| !context.global.dry_run).map(|_| Recorder::new());
        let progress = context.progress().recorded_by(recorder.clone());
        let came = self.come_up(context, &project, &progress, lock);
        if let (Some(file), Some(recorder)) = (&self.timeline, recorder) {
            let (marks, end) = recorder.marks();
            let drawn = timeline::of_project(&project, &marks, end);
            let written = std::fs::write(file, drawn).with_context(|| format!("write {}", file.display()));
            // What went wrong before matters more.
            if came.is_ok() {
                written?;
            }
        }
        let containers = came?;
        if context.global.dry_run {
            return Ok(ExitCode::SUCCESS);
        }
        if self.detach || self.wait || self.plan.no_start {
            return Ok(ExitCode::SUCCESS);
        }
        self.follow(context, &project, containers, began)
    }

    /// Makes and starts the containers and, with `--wait`, waits until they are up.
    fn come_up(
        &self,
        context: &Context,
        project: &Project,
        progress: &Progress,
        lock: Option<umiak_base::FileLock>,
    ) -> Result<Containers> {
        let containers = self.request(project)?.converge(context, project, progress)?;
        progress.finish();
        drop(lock);
        if self.wait && !self.plan.no_start && !context.global.dry_run {
            let all: Vec<Container> = containers.iter().map(|(_, _, container)| container.clone()).collect();
            wait::all_up(&context.engine, progress, &all, self.wait_timeout())?;
            progress.finish();
        }
        Ok(containers)
    }

    /// Zero is none.
    fn wait_timeout(&self) -> Option<Duration> {
        self.wait_timeout.filter(|seconds| *seconds > 0).map(Duration::from_secs)
    }

    /// `--menu`, or the variable that stands for it.
    fn wants_menu(&self, project: &Project) -> bool {
        self.menu || project.environment.get("COMPOSE_MENU").is_some_and(|text| matches!(text.as_str(), "1" | "true"))
    }

    /// Whether containers that end stop all others.
    const fn cascades(&self) -> bool {
        self.abort_on_container_exit || self.abort_on_container_failure || self.exit_code_from.is_some()
    }

    /// Refuses what makes no sense together, in Docker Compose's words.
    fn check_flags(&self) -> Result<()> {
        let attaches = !self.attach.is_empty() || self.attach_dependencies;
        if self.abort_on_container_exit && self.abort_on_container_failure {
            bail!("--abort-on-container-failure cannot be combined with --abort-on-container-exit");
        }
        if self.wait && (self.cascades() || attaches) {
            bail!("--wait cannot be combined with --abort-on-container-exit, --attach or --attach-dependencies");
        }
        if self.detach && (self.cascades() || attaches || self.watch) {
            bail!(
                "--detach cannot be combined with --abort-on-container-exit, --abort-on-container-failure, --attach, --attach-dependencies or --watch"
            );
        }
        if !self.attach.is_empty() && self.attach_dependencies {
            bail!("cannot combine --attach and --attach-dependencies");
        }
        Ok(())
    }

    /// Refuses services that flags name and that are not there.
    fn check_names(&self, project: &Project) -> Result<()> {
        let known = |name: &&String| project.services.contains_key(name.as_str());
        if let Some(name) = self.exit_code_from.iter().find(|name| !known(name)) {
            bail!("no such service: {name}: not found");
        }
        let unknown: Vec<&str> = self.attach.iter().filter(|name| !known(name)).map(String::as_str).collect();
        if !unknown.is_empty() {
            bail!("cannot attach to services not included in up: {}", unknown.join(", "));
        }
        Ok(())
    }

    fn request(&self, project: &Project) -> Result<Request> {
        let request = self.plan.request(project, &self.services)?;
        let images = Ask { quiet_pull: self.quiet_pull, quiet_build: self.quiet_build, ..request.images };
        let wait_timeout = self.wait_timeout().filter(|_| self.wait);
        let goes_on = !(self.detach || self.wait || self.plan.no_start);
        Ok(Request { images, timeout: self.timeout, wait_timeout, keep: self.keep, goes_on, ..request })
    }

    fn shows(&self, project: &Project, service: &str) -> bool {
        if self.no_attach.iter().any(|name| name == service) {
            return false;
        }
        if !self.attach.is_empty() {
            return self.attach.iter().any(|name| name == service);
        }
        let selected =
            self.attach_dependencies || self.services.is_empty() || self.services.iter().any(|name| name == service);
        selected && project.services.get(service).and_then(|service| service.attach).unwrap_or(true)
    }

    /// Shows the logs until everything has ended. The first Ctrl-C stops, the second kills.
    fn follow(
        &self,
        context: &Context,
        project: &Project,
        containers: Vec<(String, u32, Container)>,
        began: jiff::Timestamp,
    ) -> Result<ExitCode> {
        let engine = &context.engine;
        let signals = attach::signals(&[Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP])?;
        let shown: Vec<&(String, u32, Container)> =
            containers.iter().filter(|(service, ..)| self.shows(project, service)).collect();
        let name = |container: &Container| names::in_logs(&project.name, &container.config.name).to_owned();
        let all_names: Vec<String> = shown.iter().map(|(_, _, container)| name(container)).collect();
        crate::note!("Attaching to {}", all_names.join(", "));
        let colour = !self.no_color && context.global.ansi.stdout();
        let prefixes = Prefixes::new(all_names.iter().map(String::as_str), colour, !self.no_log_prefix);
        let mut options =
            FollowOptions { timestamps: self.timestamps, announce: Announce::All, ..FollowOptions::default() };
        options.query.follow = true;
        let since = umiak_runtime::logs::Time::from_nanoseconds(i64::try_from(began.as_nanosecond()).unwrap_or(0));
        let mut follow = Follow::new(engine, options.clone(), prefixes.clone())?;
        follow.accompany(Newcomers::new(engine, &project.name, |service| self.shows(project, service))?);
        for (_, _, container) in &shown {
            // What a container that was there before has said already was shown to whoever started it.
            let was_there = container.config.created < began;
            options.query.since = was_there.then_some(since);
            follow.set_options(options.clone());
            follow.add(container, name(container))?;
            if !was_there {
                follow.since_its_first_start();
            }
        }
        let mut stopping = Stopping::default();
        let mut watching = self.watch.then(|| self.start_watch(context, project)).transpose()?;
        let mut first_exit = None;
        let mut menu = if self.wants_menu(project) { Menu::open()? } else { None };
        loop {
            for Ended { service, code } in follow.turn()? {
                // As in Docker Compose, what was only started for others does not count.
                let selected = self.services.is_empty() || self.services.contains(&service);
                let aborts = self.cascades() && (code != 0 || !self.abort_on_container_failure);
                if selected && aborts && !stopping.begun {
                    first_exit = Some(code);
                    crate::note!("Aborting on container exit...");
                    stopping.next(context, &containers, self.timeout);
                }
            }
            if follow.is_over()? {
                break;
            }
            let keys = menu.as_ref().and_then(Menu::fd);
            follow.wait(&std::iter::once(signals.as_fd()).chain(keys).collect::<Vec<_>>(), None)?;
            for wish in menu.as_mut().map_or_else(|| Ok(Vec::new()), Menu::wishes)? {
                match (wish, watching.take()) {
                    (Wish::Detach, watch) => {
                        menu::end_watch(watch)?;
                        return Ok(ExitCode::SUCCESS);
                    }
                    (Wish::Watch, None) => watching = Some(self.start_watch(context, project)?),
                    (Wish::Watch, watch) => {
                        menu::end_watch(watch)?;
                        crate::note!("Watch disabled");
                    }
                }
            }
            while signals.read_signal().context("read the signalfd")?.is_some() {
                stopping.interrupted = true;
                stopping.next(context, &containers, self.timeout);
            }
        }
        menu::end_watch(watching)?;
        stopping.wait();
        self.exit_code(context, &containers, stopping.interrupted, first_exit)
    }

    /// `watch --no-up` beside the logs, with the same files, and in a process group that no Ctrl-C reaches.
    fn start_watch(&self, context: &Context, project: &Project) -> Result<std::process::Child> {
        let (global, roots) = (&context.global, &context.engine.roots);
        let mut command = std::process::Command::new("/proc/self/exe");
        std::os::unix::process::CommandExt::arg0(&mut command, "umiak");
        command.arg("--root").arg(&roots.data).arg("--run-root").arg(&roots.run);
        command.arg("--registries").arg(&global.registries).args(["-p", &project.name]);
        for file in &global.files {
            if file.as_os_str() == "-" {
                bail!("--watch cannot be used with a Compose file from standard input");
            }
            command.arg("-f").arg(file);
        }
        if let Some(directory) = &global.project_directory {
            command.arg("--project-directory").arg(directory);
        }
        for profile in &global.profiles {
            command.arg("--profile").arg(profile);
        }
        for file in &global.env_files {
            command.arg("--env-file").arg(file);
        }
        command.args(["watch", "--no-up", "--"]).args(&self.services).stdin(std::process::Stdio::null());
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        command.spawn().context("start watching")
    }

    fn exit_code(
        &self,
        context: &Context,
        containers: &[(String, u32, Container)],
        interrupted: bool,
        first_exit: Option<i32>,
    ) -> Result<ExitCode> {
        if let Some(service) = self.exit_code_from.as_ref().filter(|_| !self.abort_on_container_failure) {
            let (_, _, container) = containers
                .iter()
                .find(|(name, ..)| name == service)
                .with_context(|| format!("no such service: {service}"))?;
            let code = context.engine.wait(&container.config.id, None)?.unwrap_or(1);
            return Ok(failure::code(code));
        }
        Ok(match first_exit {
            _ if interrupted => failure::code(130),
            Some(code) => failure::code(code),
            None => ExitCode::SUCCESS,
        })
    }
}

/// Stopping a followed project from another process, so that logs are shown meanwhile.
#[derive(Debug, Default)]
struct Stopping {
    begun: bool,
    interrupted: bool,
    children: Vec<std::process::Child>,
    killed: bool,
}

impl Stopping {
    /// The first call stops in reverse order of dependency, the second kills.
    fn next(&mut self, context: &Context, containers: &[(String, u32, Container)], timeout: Option<i64>) {
        if self.begun {
            if !self.killed {
                crate::note!("Killing...");
                self.killed = true;
                for (_, _, container) in containers {
                    if let Ok(Some(current)) = Container::load(&context.engine.roots, &container.config.id)
                        && current.state.status.is_up()
                    {
                        let _ = crate::engine::cgroup::kill(&current.config.runtime.cgroup_path);
                    }
                }
            }
            return;
        }
        self.begun = true;
        crate::note!("Gracefully stopping... (press Ctrl+C again to force)");
        let Some((_, _, any)) = containers.first() else { return };
        let Some(project) = any.label(labels::PROJECT) else { return };
        let services: BTreeSet<&str> = containers.iter().map(|(service, ..)| service.as_str()).collect();
        let roots = &context.engine.roots;
        let mut command = std::process::Command::new("/proc/self/exe");
        command.arg("--root").arg(&roots.data).arg("--run-root").arg(&roots.run).args(["--progress", "plain"]);
        for file in any.label(labels::CONFIG_FILES).into_iter().flat_map(|files| files.split(',')) {
            if file != "-" {
                command.arg("-f").arg(file);
            }
        }
        command.args(["-p", project, "stop"]);
        if let Some(timeout) = timeout {
            command.arg(format!("--timeout={timeout}"));
        }
        command.args(services).stdin(std::process::Stdio::null());
        // A process group of its own: the terminal's second Ctrl-C is meant for us alone.
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        self.children.extend(command.spawn());
    }

    fn wait(&mut self) {
        for child in &mut self.children {
            let _ = child.wait();
        }
    }
}
