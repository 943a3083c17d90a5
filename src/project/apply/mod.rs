//! Carrying out a plan: its steps run in parallel where nothing stands between
//! them, and a failed `up` takes back what it made.

pub mod interrupt;
mod recreate;
mod roll;
mod schedule;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use anyhow::{Context as _, Result, bail};
use umiak_images::store::Image;
use umiak_runtime::config::MountKind;

use self::interrupt::Interrupt;
use super::observe::Member;
use super::plan::step::reasons;
use super::plan::{Action, Plan, Step, Target};
use super::pre_start::{Due, PreStarts, is_fresh, is_one};
use super::wait::{Gate, Signals};
use super::{hooks, observe, service, wait};
use crate::engine::request::volume_mount;
use crate::engine::{Container, Engine, logs, network, volume};
use crate::failpoint;
use crate::ui::progress::Progress;
use umiak_compose::{Project, Service};

/// How many containers are worked on at a time where nobody says otherwise.
pub const WORKERS: usize = 8;
/// Lines of its log that the report of a failed start shows.
const LAST_LINES: usize = 10;

/// What carrying out needs.
pub struct Apply<'a> {
    /// Containers, images, networks, volumes.
    pub engine: &'a Engine,
    /// The model.
    pub project: &'a Project,
    /// Images by service.
    pub images: &'a BTreeMap<String, Image>,
    /// Shows what is done.
    pub progress: &'a Progress,
    /// Seconds for a container to stop before it is killed.
    pub timeout: Option<i64>,
    /// How long what others depend on is waited for; without end if nothing is said.
    pub wait_timeout: Option<std::time::Duration>,
    /// Steps at a time.
    pub workers: usize,
    /// What a failed run made stays.
    pub keep: bool,
    /// New containers get anonymous volumes of their own.
    pub renew_anonymous: bool,
    /// The services of the plan: what others depend on is waited for only where it is one of them.
    pub chosen: BTreeSet<String>,
    /// What is due before containers start, by service.
    pub due: BTreeMap<String, Due>,
    /// Runs it.
    pub pre_starts: PreStarts<'a>,
    /// Ctrl-C meanwhile.
    pub interrupt: &'a Interrupt,
}

impl std::fmt::Debug for Apply<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Apply").field("project", &self.project.name).finish_non_exhaustive()
    }
}

/// What this run made, to be taken back when it fails.
#[derive(Debug, Default)]
struct Made {
    networks: Vec<String>,
    volumes: Vec<String>,
    containers: Vec<Container>,
    started: bool,
    /// Containers of the plan as they are now, by service and number.
    current: BTreeMap<(String, u32), Container>,
}

/// The containers of a finished `up`, by service and number.
pub type Containers = Vec<(String, u32, Container)>;

impl Apply<'_> {
    /// Runs the plan. The containers of its services, whether new or not.
    pub fn run(&self, plan: &Plan) -> Result<Containers> {
        let made = Mutex::new(Made::default());
        for member in &plan.kept {
            let container = &member.container;
            self.progress.done(&what(&container.config.name), container.state.status.title());
            lock(&made).current.insert((member.service.clone(), member.number), container.clone());
        }
        let mut gates = BTreeMap::new();
        let open = |step: &Step, signals: &mut Signals| self.is_open(step, &mut gates, signals);
        let result = schedule::run(&plan.steps, self.workers.max(1), Some(self.interrupt), open, |step| {
            failpoint::reach(step.action.verb());
            self.step(step, &made)
        });
        let made = made.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Err(error) = result {
            if !self.keep {
                self.take_back(&made);
            }
            return Err(error);
        }
        failpoint::reach("end");
        let current = made.current.into_iter();
        Ok(current.map(|((service, number), container)| (service, number, container)).collect())
    }

    fn step(&self, step: &Step, made: &Mutex<Made>) -> Result<()> {
        match &step.action {
            // Images come before the plan that the steps are of.
            Action::Pull { image } | Action::Build { image } => bail!("image {image} is not there"),
            Action::CreateNetwork { key, name } => self.network(key, name, false, made),
            Action::RecreateNetwork { key, name } => self.network(key, name, true, made),
            Action::CreateVolume { key, name } => self.volume(key, name, false, made),
            Action::RecreateVolume { key, name } => self.volume(key, name, true, made),
            Action::Create { target, inherit } => {
                let text = what(&target.name);
                self.progress.working(&text, "Creating");
                let old = inherit.as_ref().map(|member| &member.container);
                let container = self.tell_failure(&text, self.make(target, &target.name, old))?;
                self.progress.done(&text, "Created");
                let mut made = lock(made);
                made.containers.push(container.clone());
                made.put(target, container);
                Ok(())
            }
            Action::Recreate { target, old, start } => {
                let why = reasons(&step.reasons);
                let container = self.recreate(target, &old.container, *start, &why)?;
                self.replaced(made, target, container);
                Ok(())
            }
            Action::Roll { service, old, rolling } => self.roll(service, old, rolling, made),
            Action::Rename { target, member } => {
                self.engine.rename(&member.container, &target.name)?;
                self.progress.done(&what(&target.name), "Renamed");
                self.reload(made, target, &member.container)
            }
            Action::Update { target, member, limits, restart } => {
                let text = what(&target.name);
                self.progress.working(&text, "Updating");
                let updated = self.engine.update(&member.container, limits, restart);
                self.tell_failure(&text, updated.with_context(|| format!("update container {}", target.name)))?;
                self.progress.done(&text, &format!("Updated ({})", reasons(&step.reasons)));
                self.reload(made, target, &member.container)
            }
            Action::Start { target, member } => self.start(target, member.as_deref(), made),
            Action::Stop { member } => {
                let text = what(&member.container.config.name);
                self.progress.working(&text, "Stopping");
                self.tell_failure(&text, hooks::stop(self.engine, &member.container, self.timeout))?;
                self.progress.done(&text, &format!("Stopped ({})", reasons(&step.reasons)));
                Ok(())
            }
            Action::Detach { member } => self.engine.leave_networks(&member.container),
            Action::Attach { target, member } => {
                let service = self.service(&target.service)?;
                self.engine.join_networks(&member.container, &service::joins(self.project, service)?)?;
                self.reload(made, target, &member.container)
            }
            Action::Remove { member, heir } => self.remove(member, heir.as_deref(), &reasons(&step.reasons)),
        }
    }

    /// A service by its name, also one that the command line did not name.
    fn service(&self, name: &str) -> Result<&Service> {
        match self.project.disabled_services.get(name) {
            Some(service) => Ok(service),
            None => Ok(self.project.service(name)?),
        }
    }

    fn tell_failure<T>(&self, text: &str, result: Result<T>) -> Result<T> {
        if result.is_err() {
            self.progress.failed(text, "Error");
        }
        result
    }

    fn network(&self, key: &str, name: &str, anew: bool, made: &Mutex<Made>) -> Result<()> {
        let definition = self.project.networks.get(key).with_context(|| format!("network {key} is not defined"))?;
        let text = format!("Network {name}");
        if anew {
            self.progress.working(&text, "Recreating");
            self.tell_failure(&text, network::remove(&self.engine.roots, name))?;
            failpoint::reach("network removed");
        }
        let request = network::Wanted::of_project(self.project, key, definition)?;
        if self.tell_failure(&text, network::ensure(&self.engine.roots, &request, definition.external))? {
            self.progress.done(&text, if anew { "Recreated (configuration changed)" } else { "Created" });
            if !anew {
                lock(made).networks.push(name.to_owned());
            }
        }
        Ok(())
    }

    fn volume(&self, key: &str, name: &str, anew: bool, made: &Mutex<Made>) -> Result<()> {
        let definition = self.project.volumes.get(key).with_context(|| format!("volume {key} is not defined"))?;
        let text = format!("Volume {name}");
        if anew {
            self.progress.working(&text, "Recreating");
            self.tell_failure(&text, volume::remove_unused(self.engine, name))?;
            failpoint::reach("volume removed");
        }
        let new = volume::ensure_of_project(&self.engine.roots, self.project, key, definition);
        if self.tell_failure(&text, new)? {
            self.progress.done(&text, if anew { "Recreated (configuration changed)" } else { "Created" });
            if !anew {
                lock(made).volumes.push(name.to_owned());
            }
        }
        Ok(())
    }

    /// Stops and removes a container. Its anonymous volumes stay; those that an heir has not go with it.
    fn remove(&self, member: &Member, heir: Option<&Member>, why: &str) -> Result<()> {
        let container = &member.container;
        let text = what(&container.config.name);
        self.progress.working(&text, &format!("Removing ({why})"));
        let removed = hooks::stop(self.engine, container, self.timeout)
            .and_then(|()| self.engine.remove(container, true, is_one(container)));
        self.tell_failure(&text, removed)?;
        if let Some(heir) = heir {
            self.drop_volumes(container, &heir.container);
        }
        self.progress.done(&text, &format!("Removed ({why})"));
        Ok(())
    }

    /// Removes the anonymous volumes of a container that is gone, but for those that another one has.
    fn drop_volumes(&self, gone: &Container, heir: &Container) {
        let kept = &heir.config.anonymous_volumes;
        for name in gone.config.anonymous_volumes.iter().filter(|name| !kept.contains(name)) {
            // One that cannot be removed is listed by `volume ls`.
            let _ = volume::remove(&self.engine.roots, name);
        }
    }

    /// Makes a container; `old` bequeaths its anonymous volumes.
    fn make(&self, target: &Target, name: &str, old: Option<&Container>) -> Result<Container> {
        let service = self.service(&target.service)?;
        let image =
            self.images.get(&target.service).with_context(|| format!("service {} has no image", service.name))?;
        let mut request = service::request(self.project, service, target.number, image.id.as_ref())?;
        request.name = Some(name.to_owned());
        for old in old.into_iter().filter(|_| !self.renew_anonymous) {
            // What an anonymous volume holds is the user's, and outlives the container that it was made for.
            for mount in &old.config.runtime.mounts {
                if let MountKind::Volume(volume) = &mount.kind
                    && old.config.anonymous_volumes.contains(&volume.name)
                    && !request.runtime.mounts.iter().any(|other| other.target == mount.target && !is_anonymous(other))
                {
                    request.runtime.mounts.retain(|other| other.target != mount.target);
                    request.runtime.mounts.push(volume_mount(mount.target.clone(), volume.name.clone()));
                    request.inherited_volumes.push(volume.name.clone());
                }
            }
        }
        self.engine.create(request, image).with_context(|| format!("service {}", service.name))
    }

    fn start(&self, target: &Target, member: Option<&Member>, made: &Mutex<Made>) -> Result<()> {
        let key = (target.service.clone(), target.number);
        let current = lock(made).current.get(&key).cloned();
        let container = current.or_else(|| member.map(|member| member.container.clone()));
        let container = container.with_context(|| format!("container {} has not been made", target.name))?;
        lock(made).started = true;
        self.pre_start(target, &container)?;
        self.start_one(&container)?;
        self.reload(made, target, &container)
    }

    /// Whether the conditions of `depends_on` are met for a step that starts something; the order alone has seen to it
    /// that what is waited for was started. Replicas of a service share one gate.
    fn is_open(&self, step: &Step, gates: &mut BTreeMap<String, Gate>, signals: &mut Signals) -> Result<bool> {
        let service = match &step.action {
            Action::Start { target, .. } | Action::Recreate { target, start: true, .. } => &target.service,
            Action::Roll { service, .. } => service,
            _ => return Ok(true),
        };
        if !gates.contains_key(service) {
            signals.limit(self.wait_timeout);
            let mut depends_on = wait::of_service(self.service(service)?);
            depends_on.retain(|(name, on)| self.chosen.contains(name) && wait::goal(on.condition).is_some());
            let members = match depends_on.is_empty() {
                true => Vec::new(),
                false => observe::replicas(observe::members(self.engine, &self.project.name)?),
            };
            let of = |name: &str| {
                members.iter().filter(|member| member.service == name).map(|member| member.container.clone()).collect()
            };
            gates.insert(service.clone(), Gate::new(self.engine, self.progress, &depends_on, &of, signals)?);
        }
        match gates.get_mut(service) {
            Some(gate) => gate.look(self.engine, self.progress, signals),
            None => Ok(true),
        }
    }

    /// What runs to its end before a container's first start.
    fn pre_start(&self, target: &Target, container: &Container) -> Result<()> {
        match self.due.get(&target.service).filter(|_| is_fresh(container)) {
            Some(due) => self.pre_starts.before(self.service(&target.service)?, container, target.number, due.once),
            None => Ok(()),
        }
    }

    fn start_one(&self, container: &Container) -> Result<()> {
        let text = what(&container.config.name);
        self.progress.working(&text, "Starting");
        match hooks::start(self.engine, container) {
            Ok(()) => {
                self.progress.done(&text, "Started");
                Ok(())
            }
            Err(error) => {
                self.progress.failed(&text, "Error");
                self.show_last_lines(container);
                Err(error.context(format!("start container {}", container.config.name)))
            }
        }
    }

    fn show_last_lines(&self, container: &Container) {
        for line in logs::last_lines(&self.engine.roots, &container.config, LAST_LINES) {
            self.progress.note(&format!("{}  | {line}", container.config.name));
        }
    }

    /// What a step has changed, as it is now.
    fn reload(&self, made: &Mutex<Made>, target: &Target, container: &Container) -> Result<()> {
        let now = Container::load(&self.engine.roots, &container.config.id)?;
        lock(made).put(target, now.with_context(|| format!("container {} has gone", target.name))?);
        Ok(())
    }

    /// The old container is gone, so the new one stays whatever fails later.
    fn replaced(&self, made: &Mutex<Made>, target: &Target, container: Container) {
        let mut made = lock(made);
        made.started = true;
        made.put(target, container);
    }

    /// Nothing half-made stays. Volumes that something may have written to are kept.
    fn take_back(&self, made: &Made) {
        for container in made.containers.iter().rev() {
            let _ = self.engine.remove(container, true, true);
        }
        for name in &made.networks {
            let _ = network::remove(&self.engine.roots, name);
        }
        for name in made.volumes.iter().filter(|_| !made.started) {
            let _ = volume::remove_empty(&self.engine.roots, name);
        }
        if !made.containers.is_empty() || !made.networks.is_empty() {
            self.progress.note("What this command had made was removed again; --keep leaves it there.");
        }
    }
}

impl Made {
    fn put(&mut self, target: &Target, container: Container) {
        self.current.insert((target.service.clone(), target.number), container);
    }
}

fn what(name: &str) -> String {
    format!("Container {name}")
}

fn is_anonymous(mount: &umiak_runtime::config::Mount) -> bool {
    matches!(&mount.kind, MountKind::Volume(volume) if volume.name.is_empty())
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // A panic elsewhere does not make a list of names wrong.
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
