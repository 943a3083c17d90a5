//! `up`: plan, apply, and follow.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::AsFd as _;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use nix::sys::signal::Signal;

use super::Context;
use umiak_images::store::Image;

use crate::engine::image::Policy;
use crate::engine::{Container, attach};
use crate::failure::{self, WithHint as _};
use crate::project::apply::Apply;
use crate::project::follow::{Ended, Follow, Options as FollowOptions};
use crate::project::{hash, image_mounts, labels, load, names, observe, plan, service};
use crate::ui::logs::Prefixes;
use crate::ui::progress::Progress;
use umiak_compose::Service;

/// Create and start containers.
#[derive(Debug, Args)]
#[allow(clippy::struct_excessive_bools, reason = "one per flag")]
pub struct Up {
    /// Detached mode: run containers in the background
    #[arg(short, long)]
    detach: bool,
    /// Pull image before running: always, missing, never
    #[arg(long, value_enum)]
    pull: Option<Policy>,
    /// Pull without printing progress information
    #[arg(long)]
    quiet_pull: bool,
    /// Scale SERVICE to NUM instances; overrides the scale setting in the Compose file
    #[arg(long, value_name = "SERVICE=NUM")]
    scale: Vec<String>,
    /// Recreate containers even if their configuration and image haven't changed
    #[arg(long, conflicts_with = "no_recreate")]
    force_recreate: bool,
    /// If containers already exist, don't recreate them
    #[arg(long)]
    no_recreate: bool,
    /// Don't start linked services
    #[arg(long)]
    no_deps: bool,
    /// Don't start the services after creating them
    #[arg(long)]
    no_start: bool,
    /// Remove containers for services not defined in the Compose file
    #[arg(long)]
    remove_orphans: bool,
    /// Seconds to wait for a container to stop before it is killed
    #[arg(short, long, value_name = "SECONDS")]
    timeout: Option<i64>,
    /// Stops all containers if any container was stopped
    #[arg(long, conflicts_with = "detach")]
    abort_on_container_exit: bool,
    /// Return the exit code of the selected service container; implies --abort-on-container-exit
    #[arg(long, value_name = "SERVICE", conflicts_with = "detach")]
    exit_code_from: Option<String>,
    /// Restrict attaching to the specified services
    #[arg(long, value_name = "SERVICE")]
    attach: Vec<String>,
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
    /// Services; all if none
    services: Vec<String>,
}

impl Up {
    /// Runs the command.
    pub fn run(self, context: &Context) -> Result<ExitCode> {
        let engine = &context.engine;
        let began = jiff::Timestamp::now();
        let project = load::model(context, &self.services, true)?;
        let _lock = engine.lock_project(&project.name)?;
        let chosen = project.select(&self.services, !self.no_deps)?;
        if chosen.is_empty() {
            bail!("no service selected");
        }
        let scale = self.scale()?;
        if let Some((first, second, port)) = service::clashing_ports(&chosen, &scale) {
            self.refuse_clash(&first, &second, port)?;
        }
        let progress = context.progress();
        let images = self.images(context, &project, &chosen, &progress)?;
        let mut wanted = Vec::new();
        for service in project.levels(&chosen)?.into_iter().flatten() {
            let image_id = images.get(&service.name).map(|image| image.id.to_string()).unwrap_or_default();
            wanted.push(plan::Wanted { service, hash: hash::service(&project, service)?, image_id });
        }
        let options = plan::Options {
            force_recreate: self.force_recreate,
            no_recreate: self.no_recreate,
            remove_orphans: self.remove_orphans,
            no_start: self.no_start,
            scale,
            named: self.services.clone(),
        };
        let plan = plan::plan(&project, &wanted, observe::members(engine, &project.name)?, &options);
        warn_of_orphans(&plan);
        let apply = Apply { engine, project: &project, images: &images, progress: &progress, timeout: self.timeout };
        let containers = apply.run(plan)?;
        progress.finish();
        if self.detach || self.no_start {
            return Ok(ExitCode::SUCCESS);
        }
        drop(_lock);
        self.follow(context, &project, containers, began)
    }

    /// The images of the services; each name is looked up or pulled once, several at a time.
    fn images(
        &self,
        context: &Context,
        project: &umiak_compose::Project,
        chosen: &[&Service],
        progress: &Progress,
    ) -> Result<BTreeMap<String, Image>> {
        let quiet = Progress::quiet();
        let shown = if self.quiet_pull { &quiet } else { progress };
        let mut wanted: BTreeMap<(String, Option<String>), &Service> = BTreeMap::new();
        for service in chosen {
            wanted.entry((service::image(project, service), service.platform.clone())).or_insert(service);
        }
        let get = |name: &str, service: &Service| -> Result<Image> {
            let policy = self.pull.unwrap_or_else(|| Policy::of_service(service));
            let image = context.engine.image(name, policy, service.platform.as_deref(), shown);
            match (&service.build, image) {
                (Some(_), Err(error)) => Err(error).hint(|| {
                    format!(
                        "service {} has a build section, and this version of umiak cannot build images yet: \
                         build {name} elsewhere and load it with `umiak image load`",
                        service.name
                    )
                }),
                (_, image) => image.with_context(|| format!("service {}", service.name)),
            }
        };
        let results: Vec<Result<Image>> = std::thread::scope(|scope| {
            let threads: Vec<_> =
                wanted.iter().map(|((name, _), service)| scope.spawn(|| get(name, service))).collect();
            let join = |thread: std::thread::ScopedJoinHandle<'_, Result<Image>>| {
                thread.join().unwrap_or_else(|_| Err(anyhow::anyhow!("the pull ended unexpectedly")))
            };
            threads.into_iter().map(join).collect()
        });
        image_mounts::get(&context.engine, chosen, self.pull, shown)?;
        let mut found = BTreeMap::new();
        for (key, result) in wanted.into_keys().zip(results) {
            found.insert(key, result?);
        }
        let image = |service: &&Service| {
            let key = (service::image(project, service), service.platform.clone());
            found.get(&key).map(|image| (service.name.clone(), image.clone()))
        };
        Ok(chosen.iter().filter_map(image).collect())
    }

    fn refuse_clash(&self, first: &str, second: &str, port: u16) -> Result<()> {
        if first == second {
            bail!(
                "service \"{first}\" cannot run more than one container on host port {port}: \
                 give a range of ports, or none, to scale it"
            );
        }
        bail!("services \"{first}\" and \"{second}\" both publish host port {port}");
    }

    fn scale(&self) -> Result<BTreeMap<String, u32>> {
        let split = |text: &String| {
            let (service, count) = text.split_once('=')?;
            Some((service.to_owned(), count.parse().ok()?))
        };
        self.scale
            .iter()
            .map(|text| split(text).with_context(|| format!("invalid --scale option: {text}; should be SERVICE=NUM")))
            .collect()
    }

    fn shows(&self, project: &umiak_compose::Project, service: &str) -> bool {
        if self.no_attach.iter().any(|name| name == service) {
            return false;
        }
        if !self.attach.is_empty() {
            return self.attach.iter().any(|name| name == service);
        }
        let selected = self.services.is_empty() || self.services.iter().any(|name| name == service);
        selected && project.services.get(service).and_then(|service| service.attach).unwrap_or(true)
    }

    /// Shows the logs until everything has ended. The first Ctrl-C stops, the second kills.
    fn follow(
        &self,
        context: &Context,
        project: &umiak_compose::Project,
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
            FollowOptions { timestamps: self.timestamps, announce_exits: true, ..FollowOptions::default() };
        options.query.follow = true;
        let since = umiak_runtime::logs::Time::from_nanoseconds(i64::try_from(began.as_nanosecond()).unwrap_or(0));
        let mut follow = Follow::new(engine, options.clone(), prefixes.clone())?;
        for (_, _, container) in &shown {
            // What a container that was there before has said already was shown to whoever started it.
            options.query.since = (container.config.created < began).then_some(since);
            follow.set_options(options.clone());
            follow.add(container, name(container))?;
        }
        let mut stopping = Stopping::default();
        let mut first_exit: Option<(String, i32)> = None;
        loop {
            for Ended { id, code, .. } in follow.turn()? {
                let service =
                    containers.iter().find(|(_, _, c)| c.config.id == id).map(|(service, ..)| service.clone());
                first_exit.get_or_insert((service.unwrap_or_default(), code));
                if (self.abort_on_container_exit || self.exit_code_from.is_some()) && !stopping.begun {
                    crate::note!("Aborting on container exit...");
                    stopping.next(context, &containers, self.timeout);
                }
            }
            if follow.all_ended() {
                break;
            }
            follow.wait(&[signals.as_fd()], None)?;
            while signals.read_signal().context("read the signalfd")?.is_some() {
                stopping.interrupted = true;
                stopping.next(context, &containers, self.timeout);
            }
        }
        stopping.wait();
        self.exit_code(context, &containers, stopping.interrupted, first_exit)
    }

    fn exit_code(
        &self,
        context: &Context,
        containers: &[(String, u32, Container)],
        interrupted: bool,
        first_exit: Option<(String, i32)>,
    ) -> Result<ExitCode> {
        if let Some(service) = &self.exit_code_from {
            let (_, _, container) = containers
                .iter()
                .find(|(name, ..)| name == service)
                .with_context(|| format!("no such service: {service}"))?;
            let code = context.engine.wait(&container.config.id, None)?.unwrap_or(1);
            return Ok(failure::code(code));
        }
        Ok(match first_exit {
            _ if interrupted => failure::code(130),
            Some((_, code)) if self.abort_on_container_exit => failure::code(code),
            _ => ExitCode::SUCCESS,
        })
    }
}

fn warn_of_orphans(plan: &plan::Plan) {
    let ignored = std::env::var("COMPOSE_IGNORE_ORPHANS").is_ok_and(|value| value == "1" || value == "true");
    if plan.orphans.is_empty() || ignored {
        return;
    }
    let names: Vec<&str> = plan.orphans.iter().map(|member| member.container.config.name.as_str()).collect();
    crate::note!(
        "warning: found orphan containers ({}) for this project: services that the Compose file does not have. \
         `--remove-orphans` removes them",
        names.join(", ")
    );
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
