//! Caches that travel: where a build looks for steps besides its own cache, and
//! where it leaves what it has found and made.

use std::path::PathBuf;
use std::str::FromStr;

use anyhow::{Context as _, Result, bail};
use umiak_images::cache::{Cache, Source};
use umiak_images::digest::Digest;
use umiak_images::reference::Reference;

use super::{One, export};
use crate::engine::Engine;
use crate::engine::image::Policy;
use crate::ui::build::Display;
use crate::ui::progress::Progress;

/// `--cache-from`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CacheFrom {
    /// A directory that a build has left.
    Local(PathBuf),
    /// An image that was built with an inline cache, or a cache that was pushed.
    Image(String),
}

/// `--cache-to`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheTo {
    /// Where to.
    pub place: CachePlace,
    /// Steps of all stages, not only of those that the image is made of.
    pub all: bool,
}

/// Where a cache is left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CachePlace {
    /// A directory, an OCI layout.
    Local(PathBuf),
    /// The config of the image itself.
    Inline,
    /// A name in a registry.
    Registry(String),
}

/// `type=…` and the fields that belong to it.
fn fields<'t>(text: &'t str, known: &[&str]) -> Result<Vec<(String, &'t str)>> {
    let mut fields = Vec::new();
    for field in text.split(',') {
        let (key, value) = field.split_once('=').with_context(|| format!("invalid field {field:?} in {text:?}"))?;
        let key = key.trim().to_ascii_lowercase();
        if !known.contains(&key.as_str()) {
            bail!("unknown field {key:?} in {text:?}: there are {}", known.join(", "));
        }
        fields.push((key, value));
    }
    Ok(fields)
}

fn get<'t>(fields: &[(String, &'t str)], wanted: &str) -> Option<&'t str> {
    fields.iter().rev().find(|(key, _)| key == wanted).map(|(_, value)| *value).filter(|value| !value.is_empty())
}

fn elsewhere<T>(kind: &str) -> Result<T> {
    bail!("cache type {kind:?} is not supported: there are local, registry and inline")
}

impl FromStr for CacheFrom {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        if !text.contains('=') {
            return Ok(Self::Image(text.to_owned()));
        }
        let fields = fields(text, &["type", "src", "ref"])?;
        match get(&fields, "type").unwrap_or("registry") {
            "local" => {
                let src = get(&fields, "src").with_context(|| format!("{text:?} has no src"))?;
                Ok(Self::Local(PathBuf::from(src)))
            }
            "registry" => {
                Ok(Self::Image(get(&fields, "ref").with_context(|| format!("{text:?} has no ref"))?.to_owned()))
            }
            kind => elsewhere(kind),
        }
    }
}

impl FromStr for CacheTo {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        if !text.contains('=') {
            let place = if text == "inline" { CachePlace::Inline } else { CachePlace::Registry(text.to_owned()) };
            return Ok(Self { place, all: false });
        }
        let known = ["type", "dest", "ref", "mode", "oci-mediatypes", "image-manifest"];
        let fields = fields(text, &known)?;
        for key in ["oci-mediatypes", "image-manifest"] {
            // So it is in every cache here.
            if get(&fields, key).is_some_and(|value| value != "true") {
                bail!("{key} in {text:?} can only be true");
            }
        }
        let place = match get(&fields, "type").unwrap_or("registry") {
            "local" => {
                CachePlace::Local(PathBuf::from(get(&fields, "dest").with_context(|| format!("{text:?} has no dest"))?))
            }
            "inline" => CachePlace::Inline,
            "registry" => {
                CachePlace::Registry(get(&fields, "ref").with_context(|| format!("{text:?} has no ref"))?.to_owned())
            }
            kind => return elsewhere(kind),
        };
        let all = match get(&fields, "mode").unwrap_or("min") {
            "min" => false,
            "max" => true,
            mode => bail!("invalid mode {mode:?} in {text:?}: there are min and max"),
        };
        Ok(Self { place, all })
    }
}

/// The cache of the store, which also looks where `from` says. What is not there is said and does no harm, as in Docker.
pub fn with_sources(engine: &Engine, cache: Cache, from: &[CacheFrom], display: &Display) -> Cache {
    let mut sources = Vec::new();
    for from in from {
        let name = match from {
            CacheFrom::Local(path) => format!("local:{}", path.display()),
            CacheFrom::Image(name) => name.clone(),
        };
        let step = display.step(&format!("importing cache manifest from {name}"));
        match source(engine, from) {
            Ok(source) => {
                step.done();
                sources.push(source);
            }
            Err(error) => step.note(&format!("ERROR: {}", crate::failure::one_line(&error))),
        }
    }
    cache.with_sources(sources)
}

fn source(engine: &Engine, from: &CacheFrom) -> Result<Source> {
    match from {
        CacheFrom::Local(path) => Ok(Source::open(path)?),
        CacheFrom::Image(name) => {
            let image = engine.image(name, Policy::Always, None, &Progress::quiet());
            // One that was built here may never have been pushed.
            let image = image.or_else(|error| engine.store()?.resolve(name).map_err(|_| error))?;
            Source::of_image(&image).with_context(|| format!("{name} has no cache in it"))
        }
    }
}

/// Keys of the steps of a build.
#[derive(Debug, Clone, Default)]
pub struct Keys {
    /// Of the stages that the image is made of.
    pub image: Vec<Digest>,
    /// Of all stages.
    pub all: Vec<Digest>,
}

/// The keys that go with an image itself, if any do.
pub fn inline<'k>(to: &[CacheTo], keys: &'k Keys) -> Option<&'k [Digest]> {
    // Layers that the image does not have cannot travel with it, whatever the mode.
    to.iter().any(|to| to.place == CachePlace::Inline).then_some(keys.image.as_slice())
}

/// Leaves the cache where it is wanted besides the image.
pub(super) fn leave(one: &One<'_>, states: &export::States) -> Result<()> {
    for to in &one.options.cache_to {
        let chosen = |keys: &Keys| if to.all { keys.all.clone() } else { keys.image.clone() };
        let keys: Vec<Digest> = states.iter().flat_map(|state| chosen(&state.keys)).collect();
        match &to.place {
            CachePlace::Inline => {}
            CachePlace::Local(path) => export::step(one, "exporting cache to client directory", |_| {
                let compression = one.options.compression;
                Ok(one.cache.export(one.building, path, &keys, compression)?)
            })?,
            CachePlace::Registry(name) => export::step(one, &format!("exporting cache to registry {name}"), |_| {
                let name: Reference = name.parse().with_context(|| format!("invalid reference format: {name}"))?;
                push(one, &name, &keys)
            })?,
        }
    }
    Ok(())
}

/// A cache in a registry is an image that nobody runs: the layers, and their records in its config.
fn push(one: &One<'_>, name: &Reference, keys: &[Digest]) -> Result<()> {
    let shared = one.cache.shared(keys);
    let mut layers: Vec<Digest> = Vec::new();
    for layer in shared.records.iter().filter_map(|record| record.layer.clone()) {
        if !layers.contains(&layer) {
            layers.push(layer);
        }
    }
    let host = super::host_platform();
    let config = umiak_images::config::ImageConfig {
        architecture: host.architecture,
        os: host.os,
        cache: Some(shared),
        ..umiak_images::config::ImageConfig::default()
    };
    let blobs = export::blobs(one, &layers)?;
    let before = one.engine.store()?.resolve(&name.to_string()).ok();
    one.building.finish(config, &blobs, std::slice::from_ref(name))?;
    let pushed = export::push_one(one, name, &|_| {});
    // The name is the registry's alone: here it leads where it led before.
    let store = one.engine.store()?;
    let _ = one.engine.remove_image(&name.to_string(), &[], false);
    if let Some(before) = before {
        store.tag(before.id.as_ref(), &name.to_string())?;
    }
    pushed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read_as_docker_reads_them() {
        let from = |text: &str| text.parse::<CacheFrom>().ok();
        assert_eq!(from("a/b:c"), Some(CacheFrom::Image("a/b:c".into())));
        assert_eq!(from("type=registry,ref=a/b"), Some(CacheFrom::Image("a/b".into())));
        assert_eq!(from("type=local,src=/d"), Some(CacheFrom::Local("/d".into())));
        for wrong in ["type=local", "type=gha", "type=registry", "type=local,src=/d,x=y"] {
            assert_eq!(from(wrong), None, "{wrong}");
        }
        let to = |text: &str| text.parse::<CacheTo>().ok();
        assert_eq!(to("type=inline"), Some(CacheTo { place: CachePlace::Inline, all: false }));
        let local = CacheTo { place: CachePlace::Local("/d".into()), all: true };
        assert_eq!(to("type=local,dest=/d,mode=max"), Some(local));
        for wrong in
            ["type=local", "type=s3", "type=inline,mode=most", "type=registry", "type=inline,image-manifest=false"]
        {
            assert_eq!(to(wrong), None, "{wrong}");
        }
    }
}
