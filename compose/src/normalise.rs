//! What a project means without saying it: the default network, real names, implied dependencies, defaults.

use std::collections::HashSet;

use super::model::{Dependency, NetworkMode, Project, Service, ServiceNetwork, VolumeKind};

/// Fills in everything implied.
pub(crate) fn normalise(project: &mut Project) {
    default_network(project);
    let environment = std::mem::take(&mut project.environment);
    for service in project.services.values_mut() {
        imply_dependencies(service);
        if let Some(build) = &mut service.build {
            if build.dockerfile.is_none() && build.dockerfile_inline.is_none() {
                build.dockerfile = Some("Dockerfile".to_owned());
            }
            // an argument without a value is that of the environment, or not given at all
            for (name, value) in &mut build.args {
                *value = value.take().or_else(|| environment.get(name).cloned());
            }
            build.args.retain(|_, value| value.is_some());
        }
        if let (Some(scale), Some(deploy)) = (service.scale, &mut service.deploy) {
            deploy.replicas.get_or_insert(scale);
        }
    }
    project.environment = environment;
    name_resources(project);
}

/// Fills in what a single value leaves out, whatever stands around it.
pub(crate) fn defaults(project: &mut Project) {
    for secret in project.services.values_mut().flat_map(|service| &mut service.secrets) {
        secret.target.get_or_insert_with(|| format!("/run/secrets/{}", secret.source));
    }
}

fn default_network(project: &mut Project) {
    let mut used = false;
    for service in project.services.values_mut() {
        if service.network_mode.is_none() && service.provider.is_none() && service.networks.is_empty() {
            service.networks.insert("default".to_owned(), ServiceNetwork::default());
        }
        used |= service.networks.contains_key("default");
    }
    if used {
        project.networks.entry("default".to_owned()).or_default();
    }
}

/// What an empty `network_mode` comes to: the default network if another service has it, else none.
pub(crate) fn settle_modes(project: &mut Project) {
    let default = project.services.values().any(|service| service.networks.contains_key("default"));
    for service in project.services.values_mut().filter(|service| service.network_mode == Some(NetworkMode::Unsaid)) {
        service.network_mode = (service.networks.is_empty() && !default).then_some(NetworkMode::None);
        if service.networks.is_empty() && default {
            service.networks.insert("default".to_owned(), ServiceNetwork::default());
        }
    }
}

fn imply_dependencies(service: &mut Service) {
    let mut implied: Vec<(String, bool)> = Vec::new();
    for link in &service.links {
        implied.push((link.split(':').next().unwrap_or(link).to_owned(), true));
    }
    implied.extend(service.namespace_services().map(|name| (name.to_owned(), true)));
    implied.extend(service.volume_services().map(|name| (name.to_owned(), false)));
    for (name, restart) in implied {
        let dependency = Dependency { restart, ..Dependency::default() };
        service.depends_on.entry(name).or_insert(dependency);
    }
}

fn name_resources(project: &mut Project) {
    let prefix = project.name.clone();
    let name = |key: &str, external: bool, name: &mut String| {
        if name.is_empty() {
            *name = if external { key.to_owned() } else { format!("{prefix}_{key}") };
        }
    };
    for (key, network) in &mut project.networks {
        name(key, network.external, &mut network.name);
    }
    for (key, volume) in &mut project.volumes {
        name(key, volume.external, &mut volume.name);
    }
    for (key, file) in project.configs.iter_mut().chain(&mut project.secrets) {
        name(key, file.external, &mut file.name);
    }
}

/// The keys of what services that take part use.
pub(crate) struct Used<'a> {
    networks: HashSet<&'a str>,
    volumes: HashSet<&'a str>,
    configs: HashSet<&'a str>,
    secrets: HashSet<&'a str>,
    models: HashSet<&'a str>,
}

impl<'a> Used<'a> {
    /// What the services of a project use.
    pub(crate) fn of(project: &'a Project) -> Self {
        let services = || project.services.values();
        let mounts = services().flat_map(|service| &service.volumes).filter(|mount| mount.kind == VolumeKind::Volume);
        let build_secrets = services().filter_map(|service| service.build.as_ref()).flat_map(|build| &build.secrets);
        let secrets = services().flat_map(|service| &service.secrets).chain(build_secrets);
        Self {
            networks: services().flat_map(|service| service.networks.keys()).map(String::as_str).collect(),
            volumes: mounts.filter_map(|mount| mount.source.as_deref()).collect(),
            configs: services().flat_map(|service| &service.configs).map(|file| file.source.as_str()).collect(),
            secrets: secrets.map(|file| file.source.as_str()).collect(),
            models: services().flat_map(|service| service.models.keys()).map(String::as_str).collect(),
        }
    }

    /// Whether something of a section is used.
    pub(crate) fn has(&self, section: &str, key: &str) -> bool {
        match section {
            "networks" => self.networks.contains(key),
            "volumes" => self.volumes.contains(key),
            "configs" => self.configs.contains(key),
            "secrets" => self.secrets.contains(key),
            "models" => self.models.contains(key),
            _ => true,
        }
    }
}

/// Drops networks, volumes, configs, secrets and models that no taking-part service uses.
pub(crate) fn drop_unused(project: &mut Project) {
    let without = Project { services: std::mem::take(&mut project.services), ..Project::default() };
    let used = Used::of(&without);
    project.networks.retain(|key, _| used.has("networks", key));
    project.volumes.retain(|key, _| used.has("volumes", key));
    project.configs.retain(|key, _| used.has("configs", key));
    project.secrets.retain(|key, _| used.has("secrets", key));
    project.models.retain(|key, _| used.has("models", key));
    project.services = without.services;
}
