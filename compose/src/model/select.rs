//! Which services a command means, and in which order they start.

use std::collections::HashSet;

use indexmap::{IndexMap, IndexSet};

use super::{Namespace, NetworkMode, Project, Service};

/// A service was named that the project does not have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no such service: {name}")]
pub struct UnknownService {
    /// The name.
    pub name: String,
    /// The nearest name the project has.
    pub nearest: Option<String>,
}

/// Services that wait for each other.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("dependency cycle detected: {}", path.join(" -> "))]
pub struct DependencyCycle {
    /// The cycle; first and last are the same service.
    pub path: Vec<String>,
}

impl Project {
    /// Whether the files have this service, active or not.
    pub fn knows(&self, service: &str) -> bool {
        self.services.contains_key(service) || self.disabled_services.contains_key(service)
    }

    /// The service with this name among those that take part.
    ///
    /// # Errors
    /// [`UnknownService`] when the project has none of that name.
    pub fn service(&self, name: &str) -> Result<&Service, UnknownService> {
        self.services.get(name).ok_or_else(|| UnknownService {
            name: name.to_owned(),
            nearest: crate::suggest::nearest(name, self.services.keys().map(String::as_str)),
        })
    }

    /// Leaves out all but the named services and what they depend on; all stay when none is named.
    ///
    /// # Errors
    /// [`UnknownService`] for a name the project does not have.
    pub fn restrict(&mut self, names: &[String]) -> Result<(), UnknownService> {
        let wanted: HashSet<String> =
            self.select(names, true)?.into_iter().map(|service| service.name.clone()).collect();
        let (services, others) = std::mem::take(&mut self.services)
            .into_iter()
            .partition(|(name, _): &(String, Service)| wanted.contains(name));
        self.services = services;
        self.disabled_services.extend::<IndexMap<String, Service>>(others);
        Ok(())
    }

    /// Leaves out networks, volumes, configs, secrets and models that no service uses.
    pub fn drop_unused(&mut self) {
        crate::normalise::drop_unused(self);
    }

    /// The named services, all of them when none is named, in the project's order; with what they depend on when
    /// `with_dependencies` is set.
    ///
    /// # Errors
    /// [`UnknownService`] for a name the project does not have.
    pub fn select(&self, names: &[String], with_dependencies: bool) -> Result<Vec<&Service>, UnknownService> {
        if names.is_empty() {
            return Ok(self.services.values().collect());
        }
        let mut wanted: IndexSet<&str> = IndexSet::new();
        let mut queue: Vec<&Service> = names.iter().map(|name| self.service(name)).collect::<Result<_, _>>()?;
        while let Some(service) = queue.pop() {
            if wanted.insert(&service.name) && with_dependencies {
                queue.extend(service.depends_on.keys().filter_map(|name| self.services.get(name)));
            }
        }
        Ok(self.services.values().filter(|service| wanted.contains(service.name.as_str())).collect())
    }

    /// The given services in levels: those of a level depend only on services of earlier levels. Dependencies that
    /// are not among the given services do not count. Stop in the reverse order.
    ///
    /// # Errors
    /// [`DependencyCycle`] when services wait for each other.
    pub fn levels<'a>(&self, services: &[&'a Service]) -> Result<Vec<Vec<&'a Service>>, DependencyCycle> {
        let mut waiting: IndexMap<&str, &'a Service> = services.iter().map(|s| (s.name.as_str(), *s)).collect();
        let mut levels = Vec::new();
        while !waiting.is_empty() {
            let free = |service: &Service| !service.depends_on.keys().any(|name| waiting.contains_key(name.as_str()));
            let level: Vec<&'a Service> = waiting.values().copied().filter(|service| free(service)).collect();
            if level.is_empty() {
                return Err(cycle_among(&waiting));
            }
            waiting.retain(|name, _| !level.iter().any(|service| service.name == *name));
            levels.push(level);
        }
        Ok(levels)
    }
}

/// Finds a cycle in services of which each depends on another of them.
fn cycle_among(waiting: &IndexMap<&str, &Service>) -> DependencyCycle {
    let mut path: IndexSet<&str> = IndexSet::new();
    let mut next = waiting.keys().next().copied();
    while let Some(name) = next {
        if !path.insert(name) {
            let start = path.get_index_of(name).unwrap_or_default();
            let cycle = path.iter().skip(start).copied().chain([name]).map(str::to_owned).collect();
            return DependencyCycle { path: cycle };
        }
        next = waiting.get(name).and_then(|service| {
            service.depends_on.keys().map(String::as_str).find(|dependency| waiting.contains_key(dependency))
        });
    }
    DependencyCycle { path: path.into_iter().map(str::to_owned).collect() }
}

impl Service {
    /// The services whose namespaces this one joins; they are in `depends_on` too.
    pub fn namespace_services(&self) -> impl Iterator<Item = &str> {
        let network = self.network_mode.iter().filter_map(|mode| match mode {
            NetworkMode::Service(name) => Some(name.as_str()),
            _ => None,
        });
        let modes = [&self.ipc, &self.pid, &self.uts, &self.cgroup];
        let others = modes.into_iter().flatten().filter_map(|mode| match mode {
            Namespace::Service(name) => Some(name.as_str()),
            _ => None,
        });
        network.chain(others)
    }

    /// Services whose volumes this one mounts.
    pub fn volume_services(&self) -> impl Iterator<Item = &str> {
        let own = self.volumes_from.iter().filter(|text| !text.starts_with("container:"));
        own.map(|text| text.split(':').next().unwrap_or(text))
    }
}
