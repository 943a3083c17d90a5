//! Consistency of the model: references, exclusions, cycles. All errors are reported, each at its place.

use std::collections::HashMap;

use super::diagnostic::Span;
use super::model::{FileMount, NetworkMode, Project, Service, VolumeKind};
use super::node::Problems;
use super::suggest::nearest;

/// Reports what does not fit together.
pub(crate) fn validate(project: &Project, problems: &mut Problems) {
    for service in project.services.values() {
        let mut check = Check { project, service, problems };
        check.image();
        check.networks();
        check.dependencies();
        check.storage();
        check.limits();
        check.scale();
        check.mounts();
    }
    for (name, secret) in &project.secrets {
        let given = secret.file.is_some() || secret.environment.is_some();
        if !secret.external && !given {
            problems.error(secret.span, format!("secret \"{name}\" must declare either `file` or `environment`"));
        }
    }
    if !problems.failed() {
        container_names(project, problems);
        cycles(project, problems);
    }
}

struct Check<'a> {
    project: &'a Project,
    service: &'a Service,
    problems: &'a mut Problems,
}

impl Check<'_> {
    fn error(&mut self, key: &str, message: String) {
        self.problems.error(self.service.at(key), message);
    }

    /// An error about a name that is not there, with the nearest one that is.
    fn undefined<'a>(&mut self, at: Span, message: String, name: &str, names: impl Iterator<Item = &'a String>) {
        let help = nearest(name, names.map(String::as_str)).map(|nearest| format!("did you mean `{nearest}`?"));
        self.problems.error(at, message).help = help;
    }

    fn image(&mut self) {
        let service = self.service;
        if service.build.is_none() && service.image.is_none() && service.provider.is_none() {
            let message = format!("service \"{}\" has neither an image nor a build context specified", service.name);
            self.problems.error(service.span, message).help = Some("add `image:` or `build:`".to_owned());
        }
        let Some(build) = &service.build else { return };
        if [&build.dockerfile_inline, &build.dockerfile].into_iter().flatten().filter(|text| !text.is_empty()).count()
            > 1
        {
            let message =
                format!("service \"{}\" declares mutually exclusive dockerfile and dockerfile_inline", service.name);
            self.error("build", message);
        }
        for (context, value) in &build.additional_contexts {
            let Some(target) = value.strip_prefix("service:") else { continue };
            let problem = match self.project.services.get(target) {
                None => "unknown",
                Some(other) if other.build.is_none() => "non-buildable",
                Some(_) => continue,
            };
            let message = format!(
                "service \"{}\" declares {problem} service \"{target}\" as additional contexts {context}",
                service.name
            );
            self.error("build", message);
        }
        if let Some(platform) = &service.platform
            && !build.platforms.is_empty()
            && !build.platforms.contains(platform)
        {
            self.error("build", format!("service.build.platforms MUST include service.platform \"{platform}\""));
        }
    }

    fn networks(&mut self) {
        let service = self.service;
        if !NetworkMode::is_unsaid(&service.network_mode) && !service.networks.is_empty() {
            let message = format!("service {} declares mutually exclusive `network_mode` and `networks`", service.name);
            self.error("network_mode", message);
        }
        for name in service.networks.keys().filter(|name| !self.project.networks.contains_key(*name)) {
            let message = format!("service \"{}\" refers to undefined network {name}", service.name);
            self.undefined(service.at("networks"), message, name, self.project.networks.keys());
        }
        if let Some(NetworkMode::Service(name)) = &service.network_mode
            && !self.project.services.contains_key(name)
        {
            let message = format!("service \"{name}\" not found for network_mode 'service:{name}'");
            self.undefined(service.at("network_mode"), message, name, self.project.services.keys());
        }
    }

    fn dependencies(&mut self) {
        let service = self.service;
        for (name, dependency) in &service.depends_on {
            let disabled = self.project.disabled_services.contains_key(name);
            if self.project.services.contains_key(name) || (disabled && !dependency.required) {
                continue;
            }
            let keys = ["depends_on", "links", "network_mode", "volumes_from", "ipc", "pid", "cgroup"];
            let key = keys.into_iter().find(|key| service.key_spans.contains_key(*key)).unwrap_or("depends_on");
            let message = format!("service \"{}\" depends on undefined service \"{name}\"", service.name);
            match self.project.disabled_services.get(name) {
                Some(other) => {
                    let help = format!("it is not active: its profiles are {}", other.profiles.join(", "));
                    self.problems.error(service.at(key), message).help = Some(help);
                }
                None => self.undefined(service.at(key), message, name, self.project.services.keys()),
            }
        }
    }

    fn storage(&mut self) {
        let service = self.service;
        for volume in service.volumes.iter().filter(|volume| volume.kind == VolumeKind::Volume) {
            if let Some(name) = volume.source.as_ref().filter(|name| !self.project.volumes.contains_key(*name)) {
                let message = format!("service \"{}\" refers to undefined volume {name}", service.name);
                self.undefined(volume.span, message, name, self.project.volumes.keys());
            }
        }
        let build_secrets = service.build.iter().flat_map(|build| &build.secrets);
        let secrets = self.project.secrets.keys().collect::<Vec<_>>();
        self.files("secret", service.secrets.iter(), &secrets);
        self.files("build secret", build_secrets, &secrets);
        self.files("config", service.configs.iter(), &self.project.configs.keys().collect::<Vec<_>>());
        for name in service.models.keys().filter(|name| !self.project.models.contains_key(*name)) {
            let message = format!("service \"{}\" refers to undefined model {name}", service.name);
            self.undefined(service.at("models"), message, name, self.project.models.keys());
        }
    }

    fn files<'a>(&mut self, what: &str, mounts: impl Iterator<Item = &'a FileMount>, known: &[&String]) {
        for mount in mounts.filter(|mount| !known.contains(&&mount.source)) {
            let message = format!("service \"{}\" refers to undefined {what} {}", self.service.name, mount.source);
            self.undefined(mount.span, message, &mount.source, known.iter().copied());
        }
    }

    fn limits(&mut self) {
        let service = self.service;
        let Some(deploy) = &service.deploy else { return };
        let (limits, reservations) = (deploy.resources.limits.as_ref(), deploy.resources.reservations.as_ref());
        let differs = |own: Option<i64>, deploy: Option<i64>| own.is_some_and(|own| deploy.unwrap_or(0) != own);
        let cpus = limits.is_some_and(|limits| service.cpus.is_some() && limits.cpus != service.cpus);
        let clashes = [
            (cpus, "cpus", "limits.cpus"),
            (limits.is_some_and(|limits| differs(service.mem_limit, limits.memory)), "mem_limit", "limits.memory"),
            (
                reservations.is_some_and(|reserved| differs(service.mem_reservation, reserved.memory)),
                "mem_reservation",
                "reservations.memory",
            ),
            (limits.is_some_and(|limits| differs(service.pids_limit, limits.pids)), "pids_limit", "limits.pids"),
        ];
        for (_, own, other) in clashes.into_iter().filter(|(clash, ..)| *clash) {
            let message = format!(
                "services.{}: can't set distinct values on '{own}' and 'deploy.resources.{other}'",
                service.name
            );
            self.error(own, message);
        }
    }

    fn scale(&mut self) {
        let service = self.service;
        let replicas = service.deploy.as_ref().and_then(|deploy| deploy.replicas);
        if service.scale.is_some_and(|scale| replicas.is_some_and(|replicas| replicas != scale)) {
            let message =
                format!("services.{}: can't set distinct values on 'scale' and 'deploy.replicas'", service.name);
            self.error("scale", message);
        }
        if service.replicas() > 1 && service.container_name.is_some() {
            let key = if service.scale.is_some() { "scale" } else { "deploy.replicas" };
            let message = format!(
                "services.{}: can't set container_name and {key} as container name must be unique",
                service.name
            );
            self.error("container_name", message);
        }
    }

    /// Every target is mounted once, tmpfs included.
    fn mounts(&mut self) {
        let service = self.service;
        let mut seen: HashMap<&str, String> = HashMap::new();
        let tmpfs = service.tmpfs.iter().enumerate().map(|(index, text)| {
            (text.split(':').next().unwrap_or(text), format!("tmpfs[{index}]"), service.at("tmpfs"))
        });
        let volumes = service.volumes.iter().enumerate();
        let volumes = volumes.map(|(index, volume)| (volume.target.as_str(), format!("volumes[{index}]"), volume.span));
        for (target, place, span) in tmpfs.chain(volumes) {
            let place = format!("services.{}.{place}", service.name);
            match seen.get(target) {
                Some(first) => {
                    self.problems.error(span, format!("{place}: target {target} already mounted as {first}"));
                }
                None => {
                    seen.insert(target, place);
                }
            }
        }
    }
}

/// No two services have the same fixed container name.
fn container_names(project: &Project, problems: &mut Problems) {
    let mut seen: HashMap<&str, &Service> = HashMap::new();
    for service in project.services.values() {
        let Some(name) = &service.container_name else { continue };
        if let Some(first) = seen.insert(name, service) {
            let before = problems.sources.place(first.at("container_name"));
            let message = format!(
                "services.{}: container name \"{name}\" is already in use by service {}",
                service.name, first.name
            );
            let error = problems.error(service.at("container_name"), message);
            error.related.extend(before.map(|place| (place, "used here".to_owned())));
        }
    }
}

fn cycles(project: &Project, problems: &mut Problems) {
    let all: Vec<&Service> = project.services.values().collect();
    if let Err(cycle) = project.levels(&all) {
        let at = cycle.path.first().and_then(|name| project.services.get(name)).map(|service| service.at("depends_on"));
        problems.error(at.unwrap_or_default(), cycle.to_string());
    }
}
