//! A new image from a container's changes: its writable layer becomes a layer
//! on top of its image's.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use umiak_images::config::{History, ImageConfig, RunConfig};
use umiak_images::pack::{NewImage, Options, Stat, pack_content};
use umiak_images::reference::Reference;
use umiak_images::store::Image;
use umiak_runtime::config::MountKind;

use super::container::{Container, Status};
use super::diff::{Change, is_own, open_upper};
use super::health::Healthcheck;
use super::{Engine, events};

/// How an image is made of a container.
#[derive(Debug, Clone, Default)]
pub struct CommitOptions {
    /// Who made it.
    pub author: String,
    /// Why.
    pub message: String,
    /// Instructions of a Dockerfile that change its config.
    pub changes: Vec<String>,
    /// The container stands still meanwhile.
    pub pause: bool,
}

impl Engine {
    /// Makes an image of a container, with a name if one is given.
    pub fn commit(&self, container: &Container, name: Option<&str>, options: &CommitOptions) -> Result<Image> {
        let reference: Option<Reference> =
            name.map(|name| name.parse().with_context(|| format!("invalid reference format: {name}"))).transpose()?;
        let mut run = run_config(container);
        for change in &options.changes {
            run.change(change)?;
        }
        let store = self.store()?;
        let base = store.resolve(&container.config.image_id).with_context(|| {
            format!("the image {} of container {} is needed", container.config.image, container.config.name)
        })?;
        run.healthcheck = run.healthcheck.or_else(|| base.config.config.healthcheck.clone());
        run.shell.clone_from(&base.config.config.shell);
        let new = NewImage::begin(store)?;
        let pause = options.pause && container.state.status == Status::Running;
        if pause {
            self.pause(container)?;
        }
        let layer = self.layer_of(container, &new);
        if pause {
            self.unpause(container)?;
        }
        let layer = layer?;
        let config = image_config(&base.config, run, container, options, layer.is_none());
        let mut layers: Vec<_> = base.manifest.layers.iter().cloned().zip(base.layers.iter().cloned()).collect();
        layers.extend(layer);
        let image = new.finish(config, &layers, reference.as_ref())?;
        let event = events::Event::of_container(&container.config, "commit");
        event.with("imageID", image.id.to_string()).emit(&self.roots);
        Ok(image)
    }

    /// The writable layer as a layer of an image; `None` where nothing is in it.
    fn layer_of(
        &self,
        container: &Container,
        new: &NewImage<'_>,
    ) -> Result<Option<(umiak_images::manifest::Descriptor, umiak_images::digest::Digest)>> {
        let changes = self.diff(container)?;
        let Some(upper) = open_upper(container)?.filter(|_| !changes.is_empty()) else { return Ok(None) };
        let skip = |path: &[u8], stat: &Stat| {
            is_own(path, stat, || is_changed_below(&changes, path)) && !listed(&changes, path)
        };
        let options = Options { overlay: true, skip: Some(&skip) };
        let layer = new
            .layer(|tar| pack_content(tar, std::os::fd::AsFd::as_fd(&upper), &options))
            .with_context(|| format!("write the changes of container {}", container.config.name))?;
        Ok((layer.entries > 0).then_some((layer.blob, layer.diff_id)))
    }
}

fn listed(changes: &[Change], path: &[u8]) -> bool {
    changes.iter().any(|change| change.path.strip_prefix(b"/") == Some(path))
}

fn is_changed_below(changes: &[Change], path: &[u8]) -> bool {
    let prefix = [b"/", path, b"/"].concat();
    changes.iter().any(|change| change.path.starts_with(&prefix))
}

/// What the container runs, in an image's words.
fn run_config(container: &Container) -> RunConfig {
    let (config, runtime) = (&container.config, &container.config.runtime);
    let list = |words: &[String]| Some(words.to_vec()).filter(|words| !words.is_empty());
    let mut volumes: Vec<String> = runtime
        .mounts
        .iter()
        .filter(
            |mount| matches!(&mount.kind, MountKind::Volume(volume) if config.anonymous_volumes.contains(&volume.name)),
        )
        .map(|mount| mount.target.clone())
        .collect();
    volumes.sort();
    RunConfig {
        user: runtime.user.clone(),
        exposed_ports: config.exposed.clone(),
        env: runtime.env.clone(),
        entrypoint: list(&config.entrypoint),
        cmd: list(&config.command),
        volumes,
        working_dir: runtime.cwd.clone(),
        labels: config.labels.iter().map(|(key, value)| (key.clone(), value.clone())).collect::<BTreeMap<_, _>>(),
        stop_signal: config.stop_signal.clone(),
        healthcheck: config.healthcheck.as_ref().filter(|check| !check.test.is_empty()).map(of_image),
        ..RunConfig::default()
    }
}

/// A health check in an image's words.
fn of_image(check: &Healthcheck) -> umiak_images::config::Healthcheck {
    let nanoseconds = |span: std::time::Duration| i64::try_from(span.as_nanos()).unwrap_or(i64::MAX);
    umiak_images::config::Healthcheck {
        test: check.test.clone(),
        interval: nanoseconds(check.interval),
        timeout: nanoseconds(check.timeout),
        start_period: nanoseconds(check.start_period),
        start_interval: nanoseconds(check.start_interval),
        retries: i64::from(check.retries),
    }
}

/// The config of the new image: that of its base, one step later.
fn image_config(
    base: &ImageConfig,
    run: RunConfig,
    container: &Container,
    options: &CommitOptions,
    empty: bool,
) -> ImageConfig {
    let text = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
    let created = jiff::Timestamp::now().to_string();
    let mut config = ImageConfig {
        created: Some(created.clone()),
        author: text(&options.author),
        comment: text(&options.message),
        config: run,
        cache: None,
        ..base.clone()
    };
    config.history.push(History {
        created: Some(created),
        created_by: Some(container.config.runtime.args.join(" ")),
        author: text(&options.author),
        comment: text(&options.message),
        empty_layer: empty,
    });
    config
}
