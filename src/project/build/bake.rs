//! What is built, as the file that `docker buildx bake` reads: for `build --print`.

use std::collections::BTreeMap;

use anyhow::Result;
use serde::Serialize;
use umiak_compose::{FileSource, Project, Service};

use super::{Flags, args, image_labels, names, platforms};
use crate::build::options::Source;

/// The whole file.
#[derive(Debug, Serialize)]
struct Bake {
    group: BTreeMap<&'static str, Group>,
    target: BTreeMap<String, Target>,
}

#[derive(Debug, Serialize)]
struct Group {
    targets: Vec<String>,
}

/// One image, with the keys in Docker Compose's order.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Target {
    #[serde(skip_serializing_if = "String::is_empty")]
    context: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    contexts: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    dockerfile: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    dockerfile_inline: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    args: BTreeMap<String, String>,
    labels: BTreeMap<String, String>,
    tags: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    cache_from: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    cache_to: Vec<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    target: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    secret: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    ssh: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    platforms: Vec<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pull: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    no_cache: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    no_cache_filter: Vec<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    network: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    shm_size: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    ulimits: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    entitlements: Vec<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    extra_hosts: BTreeMap<String, String>,
    output: Vec<&'static str>,
}

/// The file for these services, as text.
pub fn print(project: &Project, services: &[&Service], flags: &Flags, push: bool) -> Result<String> {
    let mut bake = Bake { group: BTreeMap::new(), target: BTreeMap::new() };
    for service in services {
        bake.target.insert(service.name.clone(), target(project, service, flags, push)?);
    }
    let targets = services.iter().map(|service| service.name.clone()).collect();
    bake.group.insert("default", Group { targets });
    Ok(serde_json::to_string_pretty(&bake)?)
}

fn target(project: &Project, service: &Service, flags: &Flags, push: bool) -> Result<Target> {
    let Some(build) = &service.build else { return Ok(Target::default()) };
    let context = build.context.clone().unwrap_or_else(|| ".".to_owned());
    let inline = build.dockerfile_inline.clone().unwrap_or_default();
    let dockerfile = build.dockerfile.clone().filter(|name| !name.is_empty());
    let dockerfile = match super::source(&context) {
        _ if !inline.is_empty() => String::new(),
        Source::Directory(dir) => {
            super::lexical(&dir.join(dockerfile.as_deref().unwrap_or("Dockerfile"))).display().to_string()
        }
        _ => dockerfile.unwrap_or_default(),
    };
    let referred = |value: &String| match value.strip_prefix("service:") {
        Some(other) => format!("target:{other}"),
        None => value.clone(),
    };
    let ulimit = |(name, limit): (&String, &umiak_compose::Ulimit)| match limit.single {
        true => format!("{name}={}", limit.soft),
        false => format!("{name}={}:{}", limit.soft, limit.hard),
    };
    let privileged = build.privileged.then(|| "security.insecure".to_owned());
    Ok(Target {
        context,
        contexts: build.additional_contexts.iter().map(|(name, value)| (name.clone(), referred(value))).collect(),
        dockerfile,
        dockerfile_inline: inline,
        args: args(project, build, flags).into_iter().collect(),
        labels: image_labels(project, service).into_iter().collect(),
        tags: names(project, service),
        cache_from: build.cache_from.clone(),
        cache_to: build.cache_to.clone(),
        target: build.target.clone().unwrap_or_default(),
        secret: build.secrets.iter().filter_map(|used| secret(project, used)).collect(),
        ssh: ssh(build, flags),
        platforms: platforms(project, service, flags.single_platform)?,
        pull: build.pull || flags.pull,
        no_cache: build.no_cache || flags.no_cache,
        no_cache_filter: build.no_cache_filter.clone(),
        network: build.network.clone().unwrap_or_default(),
        shm_size: build.shm_size.map(|size| size.to_string()).unwrap_or_default(),
        ulimits: build.ulimits.iter().map(ulimit).collect(),
        entitlements: build.entitlements.iter().cloned().chain(privileged).collect(),
        extra_hosts: build.extra_hosts.iter().map(|(name, all)| (name.clone(), all.join(","))).collect(),
        output: vec![if push { "type=registry" } else { "type=docker" }],
    })
}

/// Where a secret comes from; what it is, the file does not say.
fn secret(project: &Project, used: &umiak_compose::FileMount) -> Option<String> {
    let definition = project.secrets.get(&used.source)?;
    let id = used.target.as_ref().filter(|target| !target.is_empty()).unwrap_or(&used.source);
    match (definition.source(), &definition.environment) {
        (FileSource::File(path), _) => Some(format!("id={id},type=file,src={}", path.display())),
        (_, Some(variable)) => Some(format!("id={id},type=env,env={variable}")),
        _ => None,
    }
}

fn ssh(build: &umiak_compose::Build, flags: &Flags) -> Vec<String> {
    let keys = build.ssh.iter().map(|key| format!("{}={}", key.id, key.path.as_deref().unwrap_or_default()));
    keys.chain(flags.ssh.iter().cloned()).collect()
}
