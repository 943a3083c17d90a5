//! `run`: one container more of a service, with another command.

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use clap::{Args, FromArgMatches as _};
use umiak_compose::{Project, Service};
use umiak_images::store::Image;

use super::container::{check_terminal, pair, volume};
use super::{Context, up};
use crate::engine::attach::{self, How, Left};
use crate::engine::image::Policy;
use crate::engine::request::{NetworkRequest, Request};
use crate::engine::{Container, network, ports, volume as volumes};
use crate::monitor::protocol::Attach;
use crate::personality::Personality;
use crate::project::images::{self, Ask, Builds, Pull};
use crate::project::{image_mounts, labels, load, provider, service, wait};
use crate::ui::progress::Progress;
use crate::{failure, out};

/// Run a one-off command on a service.
#[derive(Debug, Args)]
#[allow(clippy::struct_excessive_bools, reason = "one per flag")]
pub struct Run {
    /// Run container in background and print container ID
    #[arg(short, long)]
    detach: bool,
    /// Automatically remove the container when it exits
    #[arg(long)]
    rm: bool,
    /// Set environment variables
    #[arg(short, long, value_name = "K=V")]
    env: Vec<String>,
    /// Set environment variables from file
    #[arg(long, value_name = "FILE")]
    env_from_file: Vec<PathBuf>,
    /// Run as specified username or uid
    #[arg(short, long)]
    user: Option<String>,
    /// Working directory inside the container
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<String>,
    /// Override the entrypoint of the image
    #[arg(long)]
    entrypoint: Option<String>,
    /// Bind mount a volume
    #[arg(short, long, value_name = "VOLUME")]
    volume: Vec<String>,
    /// Publish a container's port(s) to the host
    #[arg(short, long, value_name = "PORT")]
    publish: Vec<String>,
    /// Run command with all service's ports enabled and mapped to the host
    #[arg(short = 'P', long)]
    service_ports: bool,
    /// Assign a name to the container
    #[arg(long)]
    name: Option<String>,
    /// Don't start linked services
    #[arg(long)]
    no_deps: bool,
    /// Disable pseudo-TTY allocation; by default a TTY is allocated when input and output are one
    #[arg(short = 'T', long = "no-tty", visible_alias = "no-TTY")]
    no_tty: bool,
    #[arg(short, long, hide = true)]
    tty: bool,
    /// Keep STDIN open even if not attached
    #[arg(short, long, num_args = 0..=1, require_equals = true, default_value_t = true, default_missing_value = "true", action = clap::ArgAction::Set)]
    interactive: bool,
    /// Add or override a label
    #[arg(short, long, value_name = "K=V")]
    label: Vec<String>,
    /// Use the service's network aliases in the networks the container connects to
    #[arg(long)]
    use_aliases: bool,
    /// Pull image before running: always, missing, never
    #[arg(long, value_enum)]
    pull: Option<Policy>,
    /// Don't print anything but the output of the container
    #[arg(short, long)]
    quiet: bool,
    /// Build image before starting container
    #[arg(long)]
    build: bool,
    /// Suppress progress output from the build process
    #[arg(long)]
    quiet_build: bool,
    /// Pull without printing progress information
    #[arg(long)]
    quiet_pull: bool,
    /// Remove containers for services not defined in the Compose file
    #[arg(long)]
    remove_orphans: bool,
    /// Add Linux capabilities
    #[arg(long, value_name = "CAP")]
    cap_add: Vec<String>,
    /// Drop Linux capabilities
    #[arg(long, value_name = "CAP")]
    cap_drop: Vec<String>,
    /// Use exactly the images of umiak.lock
    #[arg(long)]
    locked: bool,
    /// The service
    service: String,
    /// The command and its arguments
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

impl Run {
    /// Runs the command; the exit code is the container's.
    pub fn run(self, context: &Context) -> Result<ExitCode> {
        let engine = &context.engine;
        let project = load::model(context, std::slice::from_ref(&self.service), true)?;
        crate::project::remote::ask::before_running(context, &project, false)?;
        if self.locked {
            crate::project::lock::use_locked(engine, &project)?;
        }
        let progress = if self.quiet { Progress::quiet() } else { context.progress() };
        let project = self.provided(context, &project, &progress)?;
        let service = self.changed(&project)?;
        if Personality::current() == Personality::Compose {
            if self.tty && self.no_tty {
                bail!("--tty and --no-TTY can't be used together");
            }
            check_terminal(self.interactive, self.tty)?;
        }
        self.dependencies(context, &project, &service, &progress)?;
        if context.global.dry_run {
            return self.show(context, &project, &service, &progress);
        }
        let lock = engine.lock_project(&project.name)?;
        self.prepare(context, &project, &service, &progress)?;
        let quiet = Progress::quiet();
        let shown = if self.quiet_pull { &quiet } else { &progress };
        let image = self.image(context, &project, &service, &progress)?;
        image_mounts::get(engine, &[&service], self.pull, shown)?;
        progress.finish();
        let request = self.request(&project, &service, image.id.as_ref())?;
        let container = engine.create(request, &image)?;
        let result = self.start(context, &container, lock);
        if result.is_err() {
            // Nothing was run in it: it would only be in the way.
            let _ = engine.remove(&container, true, true);
        }
        result
    }

    fn ask(&self) -> Ask {
        Ask {
            pull: self.pull.map(Pull::of_policy),
            build: if self.build { Builds::Always } else { Builds::Policy },
            quiet_pull: self.quiet_pull,
            quiet_build: self.quiet_build || self.quiet,
        }
    }

    /// The service's image, pulled or built where it has to be.
    fn image(&self, context: &Context, project: &Project, service: &Service, progress: &Progress) -> Result<Image> {
        let ask = self.ask();
        let mut states = images::observe(&context.engine, project, &[service], ask, false)?;
        // Steps before the service are not run.
        let key = images::key(project, service);
        states.retain(|other, _| *other == key);
        let quiet = Progress::quiet();
        let shown = if ask.quiet_build { &quiet } else { progress };
        images::provide(context, project, &mut states, ask, shown)?;
        states.remove(&key).and_then(|state| state.image).with_context(|| format!("No such image: {}", key.0))
    }

    fn start(&self, context: &Context, container: &Container, lock: umiak_base::FileLock) -> Result<ExitCode> {
        let engine = &context.engine;
        if self.detach {
            engine.start(container)?;
            out!("{}", container.config.id);
            return Ok(ExitCode::SUCCESS);
        }
        let stdin = self.interactive;
        let wanted = Attach { stdin, stdout: true, stderr: true, close_stdin: stdin };
        let (ours, theirs) = attach::pair()?;
        engine.start_attached(container, Some((wanted, theirs))).map_err(failure::without_code)?;
        // Others may change the project while this container runs.
        drop(lock);
        let code = match engine.converse(container, &ours, wanted, How::default())? {
            Left::Ended(code) => code,
            Left::Detached => return Ok(ExitCode::SUCCESS),
        };
        if self.rm {
            engine.gone(&container.config.id)?;
        }
        Ok(failure::code(code))
    }

    /// What would be made and started.
    fn show(&self, context: &Context, project: &Project, service: &Service, progress: &Progress) -> Result<ExitCode> {
        let states = images::observe(&context.engine, project, &[service], self.ask(), true)?;
        if states.get(&images::key(project, service)).is_some_and(|state| state.pull.is_some()) {
            progress.done(&format!("Image {}", service::image(project, service)), "Pulled");
        }
        for (name, _) in images::builds(project, service, &states)? {
            progress.done(&format!("Image {name}"), "Built");
        }
        self.prepare(context, project, service, progress)?;
        // The slug of the name is random, each time another.
        let what = self.name.clone().unwrap_or_else(|| format!("{}-{}-run", project.name, service.name));
        for status in ["Created", "Started"] {
            progress.done(&format!("Container {what}"), status);
        }
        if self.rm {
            progress.done(&format!("Container {what}"), "Removed");
        }
        progress.finish();
        Ok(ExitCode::SUCCESS)
    }

    /// The service as this command wants it.
    fn changed(&self, project: &Project) -> Result<Service> {
        let mut service = project.service(&self.service)?.clone();
        if !self.command.is_empty() {
            service.command = Some(self.command.clone());
        }
        if let Some(entrypoint) = &self.entrypoint {
            let words = umiak_compose::units::shell_words(entrypoint);
            service.entrypoint = Some(words.with_context(|| format!("--entrypoint: unbalanced quotes: {entrypoint}"))?);
            // A new entrypoint drops the service's command with the image's.
            service.command = Some(self.command.clone());
        }
        let lookup = |key: &str| project.environment.get(key).cloned();
        for path in &self.env_from_file {
            let variables = umiak_compose::env_file(path, &lookup).map_err(anyhow::Error::msg)?;
            service.environment.extend(variables.into_iter().map(|(key, value)| (key, Some(value))));
        }
        for text in &self.env {
            let (key, value) = match text.split_once('=') {
                Some((key, value)) => (key, Some(value.to_owned())),
                // One that is not set here changes nothing.
                None => match lookup(text) {
                    None => continue,
                    value => (text.as_str(), value),
                },
            };
            service.environment.insert(key.to_owned(), value);
        }
        let terminal = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
        service.tty = Some(!self.no_tty && terminal);
        service.stdin_open = Some(self.interactive);
        service.user = self.user.clone().or(service.user);
        service.working_dir = self.workdir.clone().or(service.working_dir);
        service.container_name = None;
        service.cap_drop.retain(|cap| !self.cap_add.contains(cap));
        service.cap_add.retain(|cap| !self.cap_drop.contains(cap));
        service.cap_add.extend(self.cap_add.iter().cloned());
        service.cap_drop.extend(self.cap_drop.iter().cloned());
        service.labels.extend(self.label.iter().map(|label| pair(label)));
        // One that ends is not brought back, and is not one of several.
        service.restart = None;
        service.deploy = service.deploy.map(|deploy| umiak_compose::Deploy { restart_policy: None, ..deploy });
        if !self.service_ports {
            service.ports.clear();
        }
        Ok(service)
    }

    fn request(&self, project: &Project, service: &Service, image_id: &str) -> Result<Request> {
        let mut request = service::request(project, service, 1, image_id)?;
        let slug = umiak_base::id::new_id().context("random bytes")?;
        let invented =
            crate::project::names::joined(&[&project.name, &service.name, "run", umiak_base::id::short(&slug)]);
        request.name = Some(self.name.clone().unwrap_or(invented));
        request.labels.shift_remove(labels::NUMBER);
        request.labels.insert(labels::ONEOFF.to_owned(), "True".to_owned());
        request.labels.insert(labels::SLUG.to_owned(), slug);
        request.auto_remove = self.rm;
        for text in &self.publish {
            request.ports.extend(ports::parse(text)?);
        }
        for text in &self.volume {
            let mount = volume(text)?;
            request.runtime.mounts.retain(|other| other.target != mount.target);
            request.runtime.mounts.push(mount);
        }
        if let (NetworkRequest::Networks(joins), false) = (&mut request.network, self.use_aliases) {
            joins.iter_mut().for_each(|join| join.aliases.clear());
        }
        Ok(request)
    }

    /// What the service depends on is brought up as `up -d` would, and is what its conditions ask for.
    fn dependencies(&self, context: &Context, project: &Project, service: &Service, progress: &Progress) -> Result<()> {
        let mut on = wait::of_service(service);
        on.retain(|(name, _)| !provider::is_provided(project, name) && project.services.contains_key(name));
        if self.no_deps || on.is_empty() {
            return Ok(());
        }
        self.bring_up(context, on.iter().map(|(name, _)| name.as_str()))?;
        if context.global.dry_run {
            return Ok(());
        }
        wait::of_project(&context.engine, progress, &project.name, &on)
    }

    fn bring_up<'n>(&self, context: &Context, services: impl Iterator<Item = &'n str>) -> Result<()> {
        let mut words = vec!["up", "--detach"];
        words.extend(self.quiet_pull.then_some("--quiet-pull"));
        words.extend(self.quiet_build.then_some("--quiet-build"));
        words.extend(self.remove_orphans.then_some("--remove-orphans"));
        words.push("--");
        words.extend(services);
        let matches = up::Up::augment_args(clap::Command::new("up")).try_get_matches_from(words)?;
        let quiet = super::Global { progress: crate::ui::progress::Mode::Quiet, ..context.global.clone() };
        let global = if self.quiet { quiet } else { context.global.clone() };
        let engine = crate::engine::Engine::new(context.engine.roots.clone(), context.global.registries.clone());
        up::Up::from_arg_matches(&matches)?.run(&Context { global, engine })?;
        Ok(())
    }

    /// The project with what the providers that the service depends on give it.
    fn provided<'p>(
        &self,
        context: &Context,
        project: &'p Project,
        progress: &Progress,
    ) -> Result<std::borrow::Cow<'p, Project>> {
        if project.service(&self.service)?.provider.is_some() {
            bail!("service {} is of a provider: there is no container to run", self.service);
        }
        let names: Vec<String> = project.service(&self.service)?.depends_on.keys().cloned().collect();
        let names: Vec<String> = names.into_iter().filter(|name| provider::is_provided(project, name)).collect();
        if self.no_deps || names.is_empty() {
            return Ok(std::borrow::Cow::Borrowed(project));
        }
        let (containers, providers) = provider::split(project.levels(&project.select(&names, true)?)?.concat());
        if !containers.is_empty() {
            self.bring_up(context, containers.iter().map(|service| service.name.as_str()))?;
        }
        let mut provided = std::borrow::Cow::Borrowed(project);
        for service in providers {
            provided = provider::up(context, provided, service, progress)?;
        }
        Ok(provided)
    }

    /// The networks and volumes of the service are made where they are missing, or shown.
    fn prepare(&self, context: &Context, project: &Project, service: &Service, progress: &Progress) -> Result<()> {
        let (roots, dry_run) = (&context.engine.roots, context.global.dry_run);
        for (key, definition) in project.networks.iter().filter(|(key, _)| service.networks.contains_key(*key)) {
            let wanted = network::Wanted::of_project(project, key, definition)?;
            let made = match dry_run {
                true => network::find(roots, &definition.name)?.is_none(),
                false => network::ensure(roots, &wanted, definition.external)?,
            };
            if made {
                progress.done(&format!("Network {}", definition.name), "Created");
            }
        }
        let mounted = |key: &str| service.volumes.iter().any(|mount| mount.source.as_deref() == Some(key));
        for (key, definition) in project.volumes.iter().filter(|(key, _)| mounted(key)) {
            let made = match dry_run {
                true => crate::engine::volume::find(roots, &definition.name).is_err(),
                false => volumes::ensure_of_project(roots, project, key, definition)?,
            };
            if made {
                progress.done(&format!("Volume {}", definition.name), "Created");
            }
        }
        Ok(())
    }
}
