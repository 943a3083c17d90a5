//! Containers that run to their end before a service's own start (`pre_start`),
//! one after the other. What such a container is made from is pure; running it
//! is thin. One that succeeds is removed, one that fails is kept to be looked at.

use std::collections::BTreeMap;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context as _, Result, bail};
use umiak_compose::{PreStart, Project, Service};
use umiak_runtime::config::{Mount, MountKind};
use umiak_runtime::logs::{Line, Query, Status};

use super::apply::interrupt::Interrupt;
use super::observe::{self, Member};
use super::{images, labels, names, service};
use crate::engine::container::Status as State;
use crate::engine::health::Healthcheck;
use crate::engine::image::Policy;
use crate::engine::request::{NetworkRequest, Request, volume_mount};
use crate::engine::restart::RestartPolicy;
use crate::engine::wait::{StateWatch, readable, supervisor};
use crate::engine::{Container, Engine, logs};
use crate::failpoint;
use crate::failure::WithHint as _;
use crate::ui::progress::Progress;

/// What the label [`labels::HOOK`] of these containers says.
const HOOK: &str = "pre_start";
/// Lines of its output that the report of a failed step has.
const LAST_LINES: usize = 5;

/// What of a service's steps is to be run before its containers start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Due {
    /// Those that run once for the service; without it only those that run before each container.
    pub once: bool,
    /// The names of their containers, for people.
    pub names: Vec<String>,
}

/// Runs the steps of a project's services, each as often as it is to be run, however many threads ask for it.
#[derive(Debug)]
pub struct PreStarts<'a> {
    engine: &'a Engine,
    project: &'a Project,
    progress: &'a Progress,
    interrupt: Option<&'a Interrupt>,
    gates: Mutex<Gates>,
}

/// By service and step.
type Gates = BTreeMap<(String, usize), Arc<Mutex<Gate>>>;

/// How far the steps that run once have come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Gate {
    #[default]
    Closed,
    Passed,
    Failed,
}

/// One step before one container.
#[derive(Debug)]
struct Step<'a> {
    service: &'a Service,
    index: usize,
    step: &'a PreStart,
    /// The number of the container that it runs for, if it is for that one alone.
    number: Option<u32>,
}

/// Whether a container is one of these.
pub fn is_one(container: &Container) -> bool {
    container.label(labels::HOOK) == Some(HOOK)
}

/// What is due of a service's steps: `fresh` are the numbers of containers that have never run, `passed` says that
/// others of the same definition have.
pub fn due(project: &Project, service: &Service, fresh: &[u32], passed: bool) -> Option<Due> {
    let mut names = Vec::new();
    for (index, step) in service.pre_start.iter().enumerate() {
        match step.per_replica {
            true => names.extend(fresh.iter().map(|number| name(project, service, index, Some(*number)))),
            false if !passed && !fresh.is_empty() => names.push(name(project, service, index, None)),
            false => {}
        }
    }
    (!names.is_empty()).then_some(Due { once: !passed, names })
}

fn name(project: &Project, service: &Service, index: usize, number: Option<u32>) -> String {
    let (index, number) = (index.to_string(), number.map(|number| number.to_string()));
    let mut parts = vec![project.name.as_str(), service.name.as_str(), HOOK, &index];
    parts.extend(number.as_deref());
    names::joined(&parts)
}

impl Step<'_> {
    /// The service's container, but for what makes it one of several that go on running.
    fn request(&self, project: &Project, owner: &Container, image_id: &str) -> Result<Request> {
        let step = self.step;
        let mut service = self.service.clone();
        service.image = step.image.clone().or(service.image);
        // The image's own; the service's is the way into the service's program.
        service.entrypoint = None;
        service.command.clone_from(&step.command);
        service.user = step.user.clone().or(service.user);
        service.working_dir = step.working_dir.clone().or(service.working_dir);
        service.privileged = service.privileged.filter(|_| !step.privileged).or(step.privileged.then_some(true));
        service.environment.extend(step.environment.iter().map(|(key, value)| (key.clone(), value.clone())));
        service.ports.clear();
        service.mac_address = None;
        for network in service.networks.values_mut() {
            (network.ipv4_address, network.ipv6_address, network.mac_address) = (None, None, None);
            network.link_local_ips.clear();
        }
        (service.tty, service.stdin_open) = (None, None);
        let mut request = service::request(project, &service, 1, image_id)?;
        request.name = Some(name(project, self.service, self.index, self.number));
        request.restart = RestartPolicy::default();
        request.restart_unhealthy = false;
        request.healthcheck = Some(Healthcheck { test: vec!["NONE".into()], ..Healthcheck::default() });
        request.hooks = crate::engine::container::Hooks::default();
        request.fingerprint = BTreeMap::new();
        if let NetworkRequest::Networks(joins) = &mut request.network {
            joins.iter_mut().for_each(|join| join.aliases.clear());
        }
        self.label(&mut request);
        share_anonymous(&mut request, owner);
        for mount in &mut request.runtime.mounts {
            if let MountKind::Volume(volume) = &mut mount.kind {
                volume.nocopy |= !volume.name.is_empty();
            }
        }
        Ok(request)
    }

    fn label(&self, request: &mut Request) {
        request.labels.shift_remove(labels::CONFIG_HASH);
        request.labels.shift_remove(labels::NUMBER);
        request.labels.insert(labels::ONEOFF.to_owned(), "True".to_owned());
        request.labels.insert(labels::HOOK.to_owned(), HOOK.to_owned());
        request.labels.insert(labels::HOOK_INDEX.to_owned(), self.index.to_string());
        if let Some(number) = self.number {
            request.labels.insert(labels::HOOK_REPLICA.to_owned(), number.to_string());
        }
    }

    /// Whether a container was made for this very step.
    fn left(&self, member: &Member) -> bool {
        let label = |key| member.container.label(key);
        is_one(&member.container)
            && member.service == self.service.name
            && label(labels::HOOK_INDEX) == Some(&self.index.to_string())
            && label(labels::HOOK_REPLICA) == self.number.map(|number| number.to_string()).as_deref()
    }

    fn title(&self) -> String {
        format!("service \"{}\" pre_start[{}]", self.service.name, self.index)
    }
}

/// The anonymous volumes of the container that it runs for are its own, too.
fn share_anonymous(request: &mut Request, owner: &Container) {
    let nameless = |mount: &Mount| matches!(&mount.kind, MountKind::Volume(volume) if volume.name.is_empty());
    for mount in &owner.config.runtime.mounts {
        let MountKind::Volume(volume) = &mount.kind else { continue };
        let taken = |other: &Mount| other.target == mount.target && !nameless(other);
        if owner.config.anonymous_volumes.contains(&volume.name) && !request.runtime.mounts.iter().any(taken) {
            request.runtime.mounts.retain(|other| other.target != mount.target);
            request.runtime.mounts.push(volume_mount(mount.target.clone(), volume.name.clone()));
            request.inherited_volumes.push(volume.name.clone());
        }
    }
}

impl<'a> PreStarts<'a> {
    /// Nothing has been run yet.
    pub fn new(
        engine: &'a Engine,
        project: &'a Project,
        progress: &'a Progress,
        interrupt: Option<&'a Interrupt>,
    ) -> Self {
        Self { engine, project, progress, interrupt, gates: Mutex::default() }
    }

    /// Runs what is due before a container of a service starts for the first time. With `once`, those steps too that
    /// run before the first container alone: others wait for them meanwhile.
    pub fn before(&self, service: &Service, container: &Container, number: u32, once: bool) -> Result<()> {
        for (index, step) in service.pre_start.iter().enumerate() {
            let number = step.per_replica.then_some(number);
            let step = Step { service, index, step, number };
            match number {
                Some(_) => self.run(&step, container)?,
                None if once => self.once(&step, container)?,
                None => {}
            }
        }
        Ok(())
    }

    fn once(&self, step: &Step<'_>, container: &Container) -> Result<()> {
        let key = (step.service.name.clone(), step.index);
        let gate = Arc::clone(lock(&self.gates).entry(key).or_default());
        let mut gate = lock(&gate);
        match *gate {
            Gate::Passed => return Ok(()),
            Gate::Failed => bail!("{} failed", step.title()),
            Gate::Closed => {}
        }
        let result = self.run(step, container);
        *gate = if result.is_ok() { Gate::Passed } else { Gate::Failed };
        result
    }

    fn run(&self, step: &Step<'_>, owner: &Container) -> Result<()> {
        failpoint::reach("pre_start");
        for old in observe::members(self.engine, &self.project.name)?.iter().filter(|member| step.left(member)) {
            self.engine.remove(&old.container, true, true)?;
        }
        let container = self.make(step, owner).with_context(|| step.title())?;
        let text = format!("Container {}", container.config.name);
        self.progress.working(&text, "Starting");
        failpoint::reach("pre_start made");
        if let Err(error) = self.engine.start(&container) {
            self.progress.failed(&text, "Error");
            // Nothing was run in it: it would only be in the way.
            let _ = self.engine.remove(&container, true, true);
            return Err(error.context(step.title()));
        }
        failpoint::reach("pre_start runs");
        self.progress.working(&text, "Waiting");
        let code = self.follow(&container)?;
        if self.interrupted() {
            self.engine.remove(&container, true, true)?;
            bail!("{} was interrupted", step.title());
        }
        if code == 0 {
            failpoint::reach("pre_start ended");
            self.engine.remove(&container, true, true)?;
            self.progress.done(&text, "Exited");
            return Ok(());
        }
        self.progress.failed(&text, "Error");
        let last = logs::last_lines(&self.engine.roots, &container.config, LAST_LINES).join("\n");
        let colon = if last.is_empty() { "" } else { ":\n" };
        let (title, name) = (step.title(), &container.config.name);
        Err(anyhow::anyhow!("{title} exited with status {code}{colon}{last}"))
            .hint(|| format!("its container is kept: see `umiak container logs {name}` and `umiak inspect {name}`"))
    }

    fn make(&self, step: &Step<'_>, owner: &Container) -> Result<Container> {
        let (engine, platform) = (self.engine, images::platform(self.project, step.service));
        // It was pulled with all others, where the command pulls at all.
        let policy = match Policy::of_service(step.service) {
            Policy::Never => Policy::Never,
            Policy::Always | Policy::Missing => Policy::Missing,
        };
        let image = match &step.step.image {
            Some(name) => engine.image(name, policy, platform.as_deref(), self.progress)?,
            None => engine.store()?.resolve(&owner.config.image_id)?,
        };
        let request = step.request(self.project, owner, image.id.as_ref())?;
        if request.runtime.mounts.iter().any(is_volume) {
            // Empty volumes are filled from the service's image before a step sees them, and never after one.
            engine.with_root(owner, |_| Ok(()))?;
        }
        engine.create(request, &image)
    }

    fn interrupted(&self) -> bool {
        self.interrupt.is_some_and(Interrupt::has_come)
    }

    /// Shows what a container says until it has ended, or the command is interrupted; its exit code.
    fn follow(&self, container: &Container) -> Result<i32> {
        let (roots, id) = (&self.engine.roots, &container.config.id);
        let watch = StateWatch::new(roots, id)?;
        let mut reader = logs::reader(roots, &container.config, &Query { follow: true, ..Query::default() })?;
        let mut begun = String::new();
        loop {
            watch.clear();
            let now = Container::load(roots, id)?
                .with_context(|| format!("container {} was removed", container.config.name))?;
            let monitor = supervisor(&now.state);
            // Without its monitor nothing more is written.
            let going = now.state.status.is_up() && monitor.is_some();
            if let Some(reader) = &mut reader {
                let mut lines: Vec<Line> = Vec::new();
                if !going {
                    reader.container_ended();
                }
                while reader.next_lines(&mut lines)? == Status::More {}
                lines.iter().for_each(|line| show(&container.config.name, &mut begun, &line.text));
            }
            if !going {
                if !begun.is_empty() {
                    show(&container.config.name, &mut begun, "\n");
                }
                return Ok(self.engine.wait(id, None)?.unwrap_or(crate::engine::container::EXIT_UNKNOWN));
            }
            let mut fds: Vec<BorrowedFd<'_>> = vec![watch.as_fd()];
            fds.extend(reader.iter().filter_map(umiak_runtime::logs::Reader::fd));
            fds.extend(monitor.iter().map(|monitor| monitor.as_fd()));
            fds.extend(self.interrupt.map(Interrupt::fd));
            readable(&fds, None)?;
            if self.interrupted() {
                return Ok(crate::engine::container::EXIT_UNKNOWN);
            }
        }
    }
}

/// What the service runs before a container that `create` has made starts for the first time.
/// `all` are the project's containers.
pub fn before_first(
    pre_starts: Option<&PreStarts<'_>>,
    all: &[Member],
    model: Option<&Project>,
    member: &Member,
) -> Result<()> {
    let config = &member.container.config;
    // The digest tells that the container's service has steps.
    if !is_fresh(&member.container) || !config.fingerprint.contains_key("pre_start") {
        return Ok(());
    }
    let service = model.and_then(|model| model.services.get(&member.service));
    let (Some(service), Some(pre_starts)) = (service, pre_starts) else {
        bail!(
            "container {} has never run, and its service's pre_start steps stand in the Compose file: start it from \
             the directory of that file, or name it with -f",
            config.name
        );
    };
    let passed = |other: &&Member| other.service == member.service && !is_fresh(&other.container);
    pre_starts.before(service, &member.container, member.number, !all.iter().any(|other| passed(&other)))
}

/// One line, once its end has come.
fn show(name: &str, begun: &mut String, text: &str) {
    begun.push_str(text);
    if begun.ends_with('\n') {
        crate::note!("{name} ->  | {}", begun.trim_end_matches('\n'));
        begun.clear();
    }
}

fn is_volume(mount: &Mount) -> bool {
    matches!(mount.kind, MountKind::Volume(_))
}

/// Whether a container has never run.
pub fn is_fresh(container: &Container) -> bool {
    container.state.status == State::Created
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic elsewhere does not make a gate wrong: it stays closed.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
