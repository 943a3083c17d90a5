//! From a service's `build` to the options of a build. Pure; [`run`] does it, and
//! [`bake`] writes it down as Docker's own file for builds.

pub mod bake;
pub mod run;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use indexmap::{IndexMap, IndexSet};
use umiak_compose::{Build, FileSource, Project, Service};
use umiak_runtime::config as rt;

use super::{labels, service};
use crate::build::options::{Allow, File, Network, Options, Secret, SecretSource, Source, Ssh};

/// What a command line adds to what the files say.
#[derive(Debug, Clone, Default)]
pub struct Flags {
    /// Nothing is taken from the cache.
    pub no_cache: bool,
    /// Base images are looked up in their registries.
    pub pull: bool,
    /// Arguments: `NAME=VALUE`, or a variable of the environment.
    pub args: Vec<String>,
    /// SSH agents and keys: `default|ID[=SOCKET|KEY]`.
    pub ssh: Vec<String>,
    /// A shell in the state before the RUN that fails.
    pub debug_shell: bool,
    /// The memory that RUN may use, in bytes.
    pub memory: Option<u64>,
    /// The image is to run here: of several platforms, the builder takes one.
    pub single_platform: bool,
}

impl Flags {
    /// What `up` and its like build: images that are to run here.
    pub fn of_up() -> Self {
        Self { single_platform: true, ..Self::default() }
    }
}

/// The services that are built when `services` are: those with a `build`, and those whose images are their contexts.
/// In the project's order.
pub fn targets<'p>(project: &'p Project, services: &[&'p Service]) -> Result<Vec<&'p Service>> {
    let mut wanted: BTreeSet<&str> = BTreeSet::new();
    let mut queue: Vec<&Service> = services.iter().copied().filter(|service| service.build.is_some()).collect();
    while let Some(service) = queue.pop() {
        if wanted.insert(&service.name) {
            for name in stands_on(service) {
                let known = project.services.get(name).or_else(|| project.disabled_services.get(name));
                queue.push(known.with_context(|| format!("service {}: no such service: {name}", service.name))?);
            }
        }
    }
    let all = project.services.values().chain(project.disabled_services.values());
    Ok(all.filter(|service| wanted.contains(service.name.as_str())).collect())
}

/// The services whose images are contexts of a service's build.
pub fn stands_on(service: &Service) -> impl Iterator<Item = &str> {
    let contexts = service.build.iter().flat_map(|build| build.additional_contexts.values());
    contexts.filter_map(|value| value.strip_prefix("service:"))
}

/// The names of a service's image: its tags, and at last the one that its containers are made from.
pub fn names(project: &Project, service: &Service) -> Vec<String> {
    let tags = service.build.iter().flat_map(|build| build.tags.iter().cloned());
    tags.chain([service::image(project, service)]).collect::<IndexSet<_>>().into_iter().collect()
}

/// The options of a service's build. `built` gives the image of a service that is a context of it.
pub fn options(
    project: &Project,
    service: &Service,
    flags: &Flags,
    built: &dyn Fn(&str) -> Option<String>,
) -> Result<Options> {
    let build = service.build.as_ref().with_context(|| format!("service {} has no build section", service.name))?;
    let context = source(build.context.as_deref().unwrap_or("."));
    let mut options = Options::new(context, File::InContext(None));
    options.dockerfile = dockerfile(build, &options.context);
    for (name, value) in &build.additional_contexts {
        let source = match value.strip_prefix("service:") {
            Some(other) => Source::Image(built(other).with_context(|| format!("service {other} was not built"))?),
            None => source(value),
        };
        options.contexts.insert(name.clone(), source);
    }
    options.args = args(project, build, flags);
    options.target = build.target.clone().filter(|target| !target.is_empty());
    options.names = names(project, service);
    options.labels = image_labels(project, service);
    options.secrets = secrets(project, build)?;
    options.ssh = ssh(build, flags);
    options.network = network(project, build);
    options.extra_hosts = build
        .extra_hosts
        .iter()
        .flat_map(|(name, addresses)| addresses.iter().map(move |address| (name.clone(), address.clone())))
        .collect();
    options.shm_size = build.shm_size.and_then(|size| u64::try_from(size).ok()).unwrap_or(0);
    let ulimit = |(name, limit): (&String, &umiak_compose::Ulimit)| rt::Ulimit {
        name: name.clone(),
        soft: limit.soft,
        hard: limit.hard,
    };
    options.ulimits = build.ulimits.iter().map(ulimit).collect();
    options.limits.memory = flags.memory;
    options.debug_shell = flags.debug_shell;
    for platform in platforms(project, service, flags.single_platform)? {
        options.platforms.push(crate::engine::image::parse_platform(&platform)?);
    }
    options.no_cache = build.no_cache || flags.no_cache;
    options.no_cache_filter.clone_from(&build.no_cache_filter);
    options.pull = build.pull || flags.pull;
    for text in &build.cache_from {
        options.cache_from.push(text.parse().with_context(|| format!("build.cache_from: {text}"))?);
    }
    for text in &build.cache_to {
        options.cache_to.push(text.parse().with_context(|| format!("build.cache_to: {text}"))?);
    }
    options.allow = allow(build)?;
    Ok(options)
}

/// A context as it is written.
pub fn source(text: &str) -> Source {
    if let Some(image) = text.strip_prefix("docker-image://") {
        return Source::Image(image.to_owned());
    }
    if let Some(layout) = text.strip_prefix("oci-layout://") {
        // A digest or a tag may follow the directory.
        let last = layout.rfind('/').map_or(0, |slash| slash + 1);
        let cut = layout.rfind('@').or_else(|| layout[last..].rfind(':').map(|colon| last + colon));
        return match cut {
            Some(cut) => Source::Layout(PathBuf::from(&layout[..cut]), layout[cut + 1..].to_owned()),
            None => Source::Layout(PathBuf::from(layout), String::new()),
        };
    }
    if crate::build::is_repository(text) {
        Source::Git(text.to_owned())
    } else if text.starts_with("http://") || text.starts_with("https://") {
        Source::Url(text.to_owned())
    } else {
        Source::Directory(PathBuf::from(text))
    }
}

fn dockerfile(build: &Build, context: &Source) -> File {
    if let Some(text) = build.dockerfile_inline.as_ref().filter(|text| !text.is_empty()) {
        return File::Text(text.clone());
    }
    let Some(name) = build.dockerfile.as_ref().filter(|name| !name.is_empty()) else { return File::InContext(None) };
    match context {
        Source::Directory(dir) => {
            let path = lexical(&dir.join(name));
            // A file in the context is known by its name there.
            match path.strip_prefix(dir) {
                Ok(inside) => File::InContext(Some(inside.to_string_lossy().into_owned())),
                Err(_) => File::At(path),
            }
        }
        _ => File::InContext(Some(name.clone())),
    }
}

/// A path without `.` and `..`, as it is written.
fn lexical(path: &Path) -> PathBuf {
    let mut clean = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => drop(clean.pop()),
            part => clean.push(part),
        }
    }
    clean
}

/// Arguments: the command line's before the files'.
pub fn args(project: &Project, build: &Build, flags: &Flags) -> IndexMap<String, String> {
    let lookup = |name: &str| project.environment.get(name).cloned();
    let mut args = IndexMap::new();
    for (name, value) in &build.args {
        if let Some(value) = value.clone().or_else(|| lookup(name)) {
            args.insert(name.clone(), value);
        }
    }
    args.extend(crate::commands::image::build::args(&flags.args, lookup));
    args
}

/// Labels: the files', and those that say whose image it is.
pub fn image_labels(project: &Project, service: &Service) -> IndexMap<String, String> {
    let mut all = service.build.as_ref().map(|build| build.labels.clone()).unwrap_or_default();
    for (key, value) in [
        (labels::PROJECT, project.name.as_str()),
        (labels::SERVICE, service.name.as_str()),
        (labels::VERSION, env!("CARGO_PKG_VERSION")),
    ] {
        all.insert(key.to_owned(), value.to_owned());
    }
    all
}

fn secrets(project: &Project, build: &Build) -> Result<Vec<Secret>> {
    let mut secrets = Vec::new();
    for used in &build.secrets {
        let definition = project.secrets.get(&used.source);
        let definition = definition.with_context(|| format!("build secret {} is not defined", used.source))?;
        let from = match definition.source() {
            FileSource::File(path) => SecretSource::File(path.to_owned()),
            FileSource::Content(text) => SecretSource::Bytes(text.as_bytes().to_vec()),
            // As good as not given: whether RUN needs it, RUN says.
            FileSource::UnsetVariable(_) => continue,
            FileSource::External => bail!("build secret {} is external: umiak keeps no secrets", used.source),
        };
        let id = used.target.clone().filter(|target| !target.is_empty()).unwrap_or_else(|| used.source.clone());
        secrets.push(Secret { id, from });
    }
    Ok(secrets)
}

fn ssh(build: &Build, flags: &Flags) -> Vec<Ssh> {
    let mut all: IndexMap<String, Ssh> = IndexMap::new();
    for key in &build.ssh {
        let paths = key.path.iter().filter(|path| !path.is_empty()).map(PathBuf::from).collect();
        all.insert(key.id.clone(), Ssh { id: key.id.clone(), paths });
    }
    for text in &flags.ssh {
        let ssh = crate::commands::image::build::ssh(text);
        all.insert(ssh.id.clone(), ssh);
    }
    all.into_values().collect()
}

/// A network of the project by its key, or whatever is written.
fn network(project: &Project, build: &Build) -> Network {
    let name = build.network.as_deref().unwrap_or_default();
    match name.parse().unwrap_or_default() {
        Network::Named(key) => Network::Named(project.networks.get(&key).map_or(key, |network| network.name.clone())),
        network => network,
    }
}

/// The platforms that an image is built for; none: the host's.
pub fn platforms(project: &Project, service: &Service, single: bool) -> Result<Vec<String>> {
    let build = service.build.as_ref();
    let mut all = build.map(|build| build.platforms.clone()).unwrap_or_default();
    let default = project.environment.get("DOCKER_DEFAULT_PLATFORM").filter(|text| !text.is_empty());
    let platform = match (&service.platform, default) {
        (Some(platform), _) => Some(platform),
        (None, Some(default)) if !all.is_empty() && !all.contains(default) => bail!(
            "service \"{}\" build.platforms does not support value set by DOCKER_DEFAULT_PLATFORM: {default}",
            service.name
        ),
        (None, default) => default,
    };
    if let Some(platform) = platform
        && (single || all.is_empty())
    {
        all = vec![platform.clone()];
    }
    if single && all.len() > 1 {
        all.clear();
    }
    Ok(all)
}

fn allow(build: &Build) -> Result<Allow> {
    let mut allow = Allow { insecure: build.privileged, host_network: false };
    for entitlement in &build.entitlements {
        match entitlement.as_str() {
            "network.host" => allow.host_network = true,
            "security.insecure" => allow.insecure = true,
            other => {
                bail!("build.entitlements: unknown entitlement {other}: there are network.host and security.insecure")
            }
        }
    }
    Ok(allow)
}
