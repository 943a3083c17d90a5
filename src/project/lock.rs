//! `umiak.lock`, beside the Compose file: which digests the names of images stand for, so that everybody gets the
//! same ones.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use indexmap::IndexMap;
use serde::Deserialize;
use umiak_compose::{Build, Project, Service, VolumeKind};
use umiak_images::digest::Digest;
use umiak_images::platform::Platform;
use umiak_images::reference::Reference;

use super::{images, provider, service};
use crate::build;
use crate::engine::Engine;
use crate::engine::image::parse_platform;
use crate::engine::pins::Pins;
use crate::failure::WithHint as _;

/// The file's name.
const NAME: &str = "umiak.lock";
/// The file's format.
const VERSION: u32 = 1;
const HEAD: &str =
    "# Which images the names stand for. Written by `umiak lock`; `umiak up --locked` uses exactly these.\n";

/// The images of a project, by name and platform.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lock {
    images: BTreeMap<(Reference, Platform), Digest>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    version: u32,
    #[serde(default)]
    image: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: Reference,
    platform: String,
    digest: Digest,
}

/// Where the lock file of a project is: beside its first Compose file.
pub fn path(project: &Project) -> PathBuf {
    let beside = project.files.iter().find(|file| file.is_absolute()).and_then(|file| file.parent());
    beside.unwrap_or(&project.working_dir).join(NAME)
}

/// `--locked`: from now on `engine` uses the images of the lock file alone, for containers and for builds.
pub fn use_locked(engine: &Engine, project: &Project) -> Result<()> {
    let path = path(project);
    let lock = Lock::read(&path)?;
    let lock =
        lock.with_context(|| format!("there is no {}", path.display())).hint(|| "write it with `umiak lock`".into())?;
    engine.pin(lock.pins(project, &path)?);
    Ok(())
}

impl Lock {
    /// Reads a lock file; `None` when there is none.
    pub fn read(path: &Path) -> Result<Option<Self>> {
        match std::fs::read_to_string(path) {
            Ok(text) => Self::parse(&text).with_context(|| format!("read {}", path.display())).map(Some),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("read {}", path.display())),
        }
    }

    fn parse(text: &str) -> Result<Self> {
        let file: File = toml::from_str(text)?;
        if file.version != VERSION {
            bail!("its version is {}, this umiak knows {VERSION}", file.version);
        }
        let mut images = BTreeMap::new();
        for entry in file.image {
            let platform = parse_platform(&entry.platform)?;
            images.insert((entry.name, platform), entry.digest);
        }
        Ok(Self { images })
    }

    /// The file's text: the same images give the same text.
    pub fn text(&self) -> String {
        let mut text = format!("{HEAD}version = {VERSION}\n");
        for ((name, platform), digest) in &self.images {
            text.push_str(&format!(
                "\n[[image]]\nname = \"{name}\"\nplatform = \"{platform}\"\ndigest = \"{digest}\"\n"
            ));
        }
        text
    }

    fn pins(&self, project: &Project, path: &Path) -> Result<Pins> {
        let mut pins = Pins::new(path.display().to_string());
        for ((name, platform), digest) in &self.images {
            pins.pin(name, platform.clone(), digest.clone());
        }
        for service in every_service(project).filter(|service| service.build.is_some()) {
            pins.free(&reference(&service::image(project, service))?);
        }
        Ok(pins)
    }

    /// Asks the registries for all images of a project. What `before` says of the platform of an image that has not
    /// changed stays: on another machine the file is the same.
    pub fn of_project(engine: &Engine, project: &Project, before: Option<&Self>, workers: usize) -> Result<Self> {
        let wanted = wanted(project)?;
        let asked: Vec<(Reference, Platform)> =
            wanted.iter().map(|one| (one.name.clone(), one.platform.clone().unwrap_or_else(Platform::host))).collect();
        let mut images = BTreeMap::new();
        for (one, digest) in wanted.iter().zip(engine.digests(&asked, workers)?) {
            let digest = digest.with_context(|| format!("service {}", one.service))?;
            let known = before.into_iter().flat_map(|before| &before.images);
            let mut known = known.filter(|((name, _), found)| *name == one.name && **found == digest);
            let platform = match &one.platform {
                Some(platform) => platform.clone(),
                None => known.next().map_or_else(host, |((_, platform), _)| platform.clone()),
            };
            images.insert((one.name.clone(), platform), digest);
        }
        Ok(Self { images })
    }

    /// What is different in `new`, a line each.
    pub fn changes(&self, new: &Self) -> Vec<String> {
        let shown = |(name, platform): &(Reference, Platform)| format!("{} ({platform})", name.familiar());
        let mut lines = Vec::new();
        for (key, digest) in &new.images {
            match self.images.get(key) {
                None => lines.push(format!("{} is new: {digest}", shown(key))),
                Some(old) if old != digest => lines.push(format!("{}: {old} is now {digest}", shown(key))),
                Some(_) => {}
            }
        }
        let gone = self.images.keys().filter(|key| !new.images.contains_key(key));
        lines.extend(gone.map(|key| format!("{} is no longer used", shown(key))));
        lines
    }

    /// How many images it has.
    pub fn len(&self) -> usize {
        self.images.len()
    }
}

/// The host without what its processor can do: machines of one kind write the same.
fn host() -> Platform {
    Platform { variant: None, ..Platform::host() }.normalised()
}

/// An image that a service needs.
struct Wanted {
    service: String,
    name: Reference,
    /// Stated by the service.
    platform: Option<Platform>,
}

/// All services of the files, whatever profiles are active: the lock file is that of all.
fn every_service(project: &Project) -> impl Iterator<Item = &Service> {
    project.services.values().chain(project.disabled_services.values())
}

fn reference(name: &str) -> Result<Reference> {
    name.parse().with_context(|| format!("invalid reference format: {name}"))
}

/// The images of a project, without those that it builds, and with those that these stand on.
fn wanted(project: &Project) -> Result<Vec<Wanted>> {
    let built: Vec<String> = every_service(project)
        .filter(|service| service.build.is_some())
        .map(|one| reference(&service::image(project, one)).map(|name| name.to_string()))
        .collect::<Result<_>>()?;
    let mut wanted: Vec<Wanted> = Vec::new();
    for service in provider::split(every_service(project).collect()).0 {
        let own = service.build.is_none().then(|| images::key(project, service).0);
        let mounted = service.volumes.iter().filter(|volume| volume.kind == VolumeKind::Image);
        let mounted = mounted.filter_map(|volume| volume.source.clone());
        let bases = bases(service).with_context(|| format!("service {}", service.name))?;
        let names =
            own.into_iter().chain(images::steps(project, service).map(|(name, _)| name)).chain(mounted).chain(bases);
        for name in names {
            let name = reference(&name).with_context(|| format!("service {}", service.name))?;
            if built.contains(&name.to_string()) {
                continue;
            }
            let platform = images::platform(project, service).as_deref().map(parse_platform).transpose()?;
            wanted.push(Wanted { service: service.name.clone(), name, platform });
        }
    }
    Ok(wanted)
}

/// The images that the build of a service takes from, by the names that its Dockerfile has for them; none of a service
/// that is not built, or whose Dockerfile is elsewhere.
pub fn bases(service: &Service) -> Result<Vec<String>> {
    let Some(build) = &service.build else { return Ok(Vec::new()) };
    let images = build.additional_contexts.values().filter_map(|from| from.strip_prefix("docker-image://"));
    let mut all: Vec<String> = images.map(str::to_owned).collect();
    if let Some((text, name)) = dockerfile(build)? {
        let file = umiak_dockerfile::parse(&text).map_err(|error| anyhow::anyhow!("{}", error.render(&name, &text)))?;
        let args: IndexMap<String, String> =
            build.args.iter().filter_map(|(name, value)| Some((name.clone(), value.clone()?))).collect();
        let platform = service.platform.as_deref().or(build.platforms.first().map(String::as_str));
        let platform = platform.map_or_else(|| Ok(Platform::host()), parse_platform)?;
        let contexts = |name: &str| build.additional_contexts.contains_key(name);
        all.extend(build::bases(&file, &args, build.target.as_deref(), &platform, &contexts)?);
    }
    all.sort();
    all.dedup();
    Ok(all)
}

/// The text of a build's Dockerfile, and its name for messages.
fn dockerfile(build: &Build) -> Result<Option<(String, String)>> {
    if let Some(text) = &build.dockerfile_inline {
        return Ok(Some((text.clone(), "dockerfile_inline".to_owned())));
    }
    let context = build.context.as_deref().unwrap_or(".");
    if build::is_repository(context) || context.contains("://") {
        crate::note!("warning: the Dockerfile is in {context}: the images that it stands on are not locked");
        return Ok(None);
    }
    let mut path = Path::new(context).join(build.dockerfile.as_deref().unwrap_or("Dockerfile"));
    let small = Path::new(context).join("dockerfile");
    if build.dockerfile.is_none() && !path.exists() && small.exists() {
        path = small;
    }
    let text = std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    Ok(Some((text, path.display().to_string())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lock(images: &[(&str, &str, &str)]) -> Lock {
        let entry = |(name, platform, content): &(&str, &str, &str)| {
            ((name.parse().unwrap(), platform.parse().unwrap()), Digest::of(content.as_bytes()))
        };
        Lock { images: images.iter().map(entry).collect() }
    }

    #[test]
    fn a_file_is_read_as_it_was_written_and_is_sorted() {
        let one =
            lock(&[("redis:7", "linux/amd64", "a"), ("alpine", "linux/arm64", "b"), ("alpine", "linux/amd64", "c")]);
        let text = one.text();
        assert_eq!(Lock::parse(&text).unwrap(), one);
        let names: Vec<&str> = text.lines().filter(|line| line.starts_with("name")).collect();
        assert_eq!(
            names,
            [
                "name = \"docker.io/library/alpine:latest\"",
                "name = \"docker.io/library/alpine:latest\"",
                "name = \"docker.io/library/redis:7\""
            ]
        );
        assert!(text.starts_with("# "));
    }

    #[test]
    fn what_is_no_lock_file_is_refused() {
        for text in ["", "version = 2", "version = 1\nimages = 3", "version = 1\n[[image]]\nname = \"A/b/\""] {
            assert!(Lock::parse(text).is_err(), "{text:?}");
        }
        let digest = Digest::of(b"");
        let text = format!("version = 1\n[[image]]\nname = \"a\"\nplatform = \"x\"\ndigest = \"{digest}\"\n");
        assert!(Lock::parse(&text).is_err());
    }

    #[test]
    fn changes_are_told() {
        let old = lock(&[("a:1", "linux/amd64", "a"), ("b:1", "linux/amd64", "b"), ("c:1", "linux/amd64", "c")]);
        let new = lock(&[("a:1", "linux/amd64", "a"), ("b:1", "linux/amd64", "B"), ("d:1", "linux/amd64", "d")]);
        let lines = old.changes(&new);
        assert_eq!(lines.len(), 3, "{lines:?}");
        assert!(lines[0].starts_with("b:1 (linux/amd64): sha256:") && lines[0].contains(" is now sha256:"));
        assert!(lines[1].starts_with("d:1 (linux/amd64) is new: ") && lines[2].starts_with("c:1"));
        assert!(new.changes(&new).is_empty());
    }
}
