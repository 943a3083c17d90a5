//! Carrying out a plan: steps run in parallel where nothing stands between
//! them, and a failed `up` takes back what it made.

use std::collections::BTreeSet;
use std::sync::{Condvar, Mutex};

use anyhow::{Context as _, Result};
use umiak_images::store::Image;
use umiak_runtime::config::MountKind;

use super::plan::{Plan, ServicePlan, Step};
use super::{hooks, names, observe, service, wait};
use crate::engine::request::volume_mount;
use crate::engine::{Container, Engine, logs, network, volume};
use crate::ui::progress::Progress;
use umiak_compose::Project;

/// How many containers are worked on at a time.
const WORKERS: usize = 8;
/// Lines of its log that the report of a failed start shows.
const LAST_LINES: usize = 10;

/// What carrying out needs.
pub struct Apply<'a> {
    /// Containers, images, networks, volumes.
    pub engine: &'a Engine,
    /// The model.
    pub project: &'a Project,
    /// Images by service.
    pub images: &'a std::collections::BTreeMap<String, Image>,
    /// Shows what is done.
    pub progress: &'a Progress,
    /// Seconds for a container to stop before it is killed.
    pub timeout: Option<i64>,
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
}

/// The containers of a finished `up`, by service and number.
pub type Containers = Vec<(String, u32, Container)>;

impl Apply<'_> {
    /// Runs the plan. The containers of its services, whether new or not.
    pub fn run(&self, plan: Plan) -> Result<Containers> {
        let made = Mutex::new(Made::default());
        let result = self.run_steps(plan, &made);
        if result.is_err() {
            self.take_back(&made.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner));
        }
        result
    }

    fn run_steps(&self, plan: Plan, made: &Mutex<Made>) -> Result<Containers> {
        let used: BTreeSet<&str> = plan.services.iter().map(|planned| planned.service.as_str()).collect();
        self.networks(&used, made)?;
        self.volumes(&used, made)?;
        for (member, reason) in &plan.remove {
            self.remove(&member.container, &reason.to_string())?;
        }
        Schedule::new(plan.services).run(|planned, step| self.step(planned, step, made))
    }

    fn networks(&self, used: &BTreeSet<&str>, made: &Mutex<Made>) -> Result<()> {
        let services = || self.project.services.values().filter(|service| used.contains(service.name.as_str()));
        for (key, definition) in &self.project.networks {
            if !services().any(|service| service.networks.contains_key(key)) {
                continue;
            }
            let request = network::Wanted::of_project(self.project, key, definition);
            if network::ensure(&self.engine.roots, &request, definition.external)? {
                self.progress.done(&format!("Network {}", definition.name), "Created");
                lock(made).networks.push(definition.name.clone());
            }
        }
        Ok(())
    }

    fn volumes(&self, used: &BTreeSet<&str>, made: &Mutex<Made>) -> Result<()> {
        let services = || self.project.services.values().filter(|service| used.contains(service.name.as_str()));
        for (key, definition) in &self.project.volumes {
            let mounted = |service: &umiak_compose::Service| {
                service.volumes.iter().any(|mount| mount.source.as_deref() == Some(key))
            };
            if !services().any(mounted) {
                continue;
            }
            if volume::ensure_of_project(&self.engine.roots, self.project, key, definition)? {
                self.progress.done(&format!("Volume {}", definition.name), "Created");
                lock(made).volumes.push(definition.name.clone());
            }
        }
        Ok(())
    }

    fn remove(&self, container: &Container, why: &str) -> Result<()> {
        let what = format!("Container {}", container.config.name);
        self.progress.working(&what, &format!("Removing ({why})"));
        hooks::stop(self.engine, container, self.timeout)?;
        self.engine.remove(container, true, false)?;
        self.progress.done(&what, &format!("Removed ({why})"));
        Ok(())
    }

    fn step(&self, planned: &ServicePlan, step: &Step, made: &Mutex<Made>) -> Result<Container> {
        let service = self.project.service(&planned.service)?;
        let container = match (&step.existing, &step.recreate) {
            (Some(member), None) => member.container.clone(),
            (existing, reason) => {
                let name = names::container(self.project, service, step.number);
                let what = format!("Container {name}");
                let (doing, did) = match reason {
                    Some(reason) => (format!("Recreating ({reason})"), format!("Recreated ({reason})")),
                    None => ("Creating".to_owned(), "Created".to_owned()),
                };
                self.progress.working(&what, &doing);
                let made_it = self.make(planned, step, existing.as_ref().map(|member| &member.container));
                let container = match made_it {
                    Ok(container) => container,
                    Err(error) => {
                        self.progress.failed(&what, "Error");
                        return Err(error);
                    }
                };
                lock(made).containers.push(container.clone());
                self.progress.done(&what, &did);
                container
            }
        };
        if step.start {
            lock(made).started = true;
            self.await_dependencies(planned, service)?;
            self.start(&container)?;
        } else if step.existing.is_some() && step.recreate.is_none() {
            self.progress.done(&format!("Container {}", container.config.name), container.state.status.title());
        }
        Ok(container)
    }

    fn make(&self, planned: &ServicePlan, step: &Step, old: Option<&Container>) -> Result<Container> {
        let service = self.project.service(&planned.service)?;
        let image =
            self.images.get(&planned.service).with_context(|| format!("service {} has no image", service.name))?;
        let mut request = service::request(self.project, service, step.number, image.id.as_ref())?;
        let mut inherited = Vec::new();
        if let Some(old) = old {
            // What an anonymous volume holds is the user's, and outlives the container that it was made for.
            for mount in &old.config.runtime.mounts {
                if let MountKind::Volume(volume) = &mount.kind
                    && old.config.anonymous_volumes.contains(&volume.name)
                    && !request.runtime.mounts.iter().any(|other| other.target == mount.target && !is_anonymous(other))
                {
                    request.runtime.mounts.retain(|other| other.target != mount.target);
                    request.runtime.mounts.push(volume_mount(mount.target.clone(), volume.name.clone()));
                    inherited.push(volume.name.clone());
                }
            }
            hooks::stop(self.engine, old, self.timeout)?;
            self.engine.remove(old, true, false)?;
        }
        request.inherited_volumes = inherited;
        self.engine.create(request, image).with_context(|| format!("service {}", service.name))
    }

    /// The conditions of `depends_on`; the order alone has seen to it that what is waited for was started.
    fn await_dependencies(&self, planned: &ServicePlan, service: &umiak_compose::Service) -> Result<()> {
        let mut depends_on = wait::of_service(service);
        depends_on.retain(|(name, _)| planned.after.contains(name));
        if depends_on.iter().all(|(_, on)| on.condition == umiak_compose::Condition::Started) {
            return Ok(());
        }
        let members = observe::replicas(observe::members(self.engine, &self.project.name)?);
        let of = |name: &str| {
            members.iter().filter(|member| member.service == name).map(|member| member.container.clone()).collect()
        };
        wait::dependencies(self.engine, self.progress, &depends_on, &of)
    }

    fn start(&self, container: &Container) -> Result<()> {
        let what = format!("Container {}", container.config.name);
        self.progress.working(&what, "Starting");
        match hooks::start(self.engine, container) {
            Ok(()) => {
                self.progress.done(&what, "Started");
                Ok(())
            }
            Err(error) => {
                self.progress.failed(&what, "Error");
                let lines = logs::last_lines(&self.engine.roots, &container.config, LAST_LINES);
                for line in &lines {
                    self.progress.note(&format!("{}  | {line}", container.config.name));
                }
                Err(error.context(format!("start container {}", container.config.name)))
            }
        }
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
            self.progress.note("What this command had made was removed again.");
        }
    }
}

fn is_anonymous(mount: &umiak_runtime::config::Mount) -> bool {
    matches!(&mount.kind, MountKind::Volume(volume) if volume.name.is_empty())
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // A panic elsewhere does not make a list of names wrong.
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Containers whose network namespace another one joins must be there when that one is made; the order of
/// `depends_on` covers it, because the model makes such a service depend on the other.
struct Schedule {
    services: Vec<ServicePlan>,
}

#[derive(Default)]
struct Progressed {
    taken: BTreeSet<(usize, usize)>,
    done: Vec<usize>,
    results: Containers,
    error: Option<anyhow::Error>,
}

impl Schedule {
    fn new(services: Vec<ServicePlan>) -> Self {
        Self { services }
    }

    /// Runs every step, those of a service once all the services before it are done.
    fn run(self, act: impl Fn(&ServicePlan, &Step) -> Result<Container> + Sync) -> Result<Containers> {
        let steps: usize = self.services.iter().map(|planned| planned.steps.len()).sum();
        let state = Mutex::new(Progressed { done: vec![0; self.services.len()], ..Progressed::default() });
        let changed = Condvar::new();
        std::thread::scope(|scope| {
            for _ in 0..steps.min(WORKERS) {
                scope.spawn(|| self.work(&state, &changed, &act));
            }
        });
        let finished = state.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        match finished.error {
            Some(error) => Err(error),
            None => {
                let mut results = finished.results;
                results.sort_by(|a, b| (&a.0, a.1).cmp(&(&b.0, b.1)));
                Ok(results)
            }
        }
    }

    fn work(
        &self,
        state: &Mutex<Progressed>,
        changed: &Condvar,
        act: &(impl Fn(&ServicePlan, &Step) -> Result<Container> + Sync),
    ) {
        let mut guard = lock(state);
        loop {
            if guard.error.is_some() {
                return;
            }
            let Some((service, step)) = self.next(&guard) else {
                if self.all_taken(&guard) {
                    return;
                }
                guard = changed.wait(guard).unwrap_or_else(std::sync::PoisonError::into_inner);
                continue;
            };
            guard.taken.insert((service, step));
            drop(guard);
            let planned = &self.services[service];
            let result = act(planned, &planned.steps[step]);
            guard = lock(state);
            match result {
                Ok(container) => {
                    guard.done[service] += 1;
                    guard.results.push((planned.service.clone(), planned.steps[step].number, container));
                }
                Err(error) => drop(guard.error.get_or_insert(error)),
            }
            changed.notify_all();
        }
    }

    fn next(&self, state: &Progressed) -> Option<(usize, usize)> {
        let finished = |name: &String| {
            let index = self.services.iter().position(|planned| planned.service == *name);
            index.is_none_or(|index| state.done[index] == self.services[index].steps.len())
        };
        self.services.iter().enumerate().filter(|(_, planned)| planned.after.iter().all(finished)).find_map(
            |(index, planned)| {
                let step = (0..planned.steps.len()).find(|step| !state.taken.contains(&(index, *step)))?;
                Some((index, step))
            },
        )
    }

    fn all_taken(&self, state: &Progressed) -> bool {
        self.services
            .iter()
            .enumerate()
            .all(|(index, planned)| (0..planned.steps.len()).all(|step| state.taken.contains(&(index, step))))
    }
}
