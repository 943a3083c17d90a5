//! What becomes of a stage's state: an image in the store, or its files
//! elsewhere.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::os::fd::AsFd as _;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use umiak_images::digest::Digest;
use umiak_images::manifest::Descriptor;
use umiak_images::pack::{Options as PackOptions, TarWriter, pack_content};
use umiak_images::push::{Event, Watch};
use umiak_images::reference::Reference;
use umiak_images::store::Image;
use umiak_runtime::view;

use super::caches;
use super::ignored::Ignored;
use super::options::Output;
use super::state::State;
use super::tree::{Read, Tree};
use super::write::Writer;
use super::{Built, One};
use crate::outfile::archive_output;
use crate::ui::build::Step;

/// What was built for all platforms.
pub(super) type States = [Built];

/// Gives the result everywhere it is wanted; the image, if it is wanted as one.
pub(super) fn everything(
    one: &One<'_>,
    states: &States,
    outputs: &[Output],
    names: &[Reference],
) -> Result<Option<Image>> {
    let mut image = None;
    if outputs.iter().any(Output::wants_image) {
        let kept = outputs.iter().any(Output::keeps_image);
        image = Some(step(one, "exporting to image", |step| store(one, states, if kept { names } else { &[] }, step))?);
    }
    for output in outputs {
        match (output, &image) {
            (Output::Store | Output::Nothing, _) => {}
            (Output::Push, _) => push(one, names)?,
            (Output::Directory(path), _) => {
                step(one, "exporting to client directory", |_| directories(one, states, path))?;
            }
            (Output::Tar(path), _) => {
                step(one, "exporting to client tarball", |_| {
                    archive_output(path.as_deref(), |out| tar(one, states, out))
                })?;
            }
            (Output::Archive(path), Some(image)) => {
                let images = [(image.clone(), names.to_vec())];
                step(one, "exporting to image archive", |_| {
                    let store = one.engine.store()?;
                    archive_output(path.as_deref(), |out| {
                        Ok(umiak_images::archive::save_as(store, &images, BufWriter::new(out))?)
                    })
                })?;
            }
            (Output::Archive(_), None) => bail!("there is no image to write"),
        }
    }
    if let (Some(image), false) = (&image, outputs.iter().any(Output::keeps_image)) {
        // It was made to be written down, and is nobody's image. What stays of it goes with the next clean-up.
        let _ = one.engine.remove_image(image.id.as_ref(), &[], false);
    }
    Ok(image)
}

pub(super) fn step<T>(one: &One<'_>, title: &str, act: impl FnOnce(&Step<'_>) -> Result<T>) -> Result<T> {
    let step = one.display.step(title);
    match act(&step) {
        Ok(done) => {
            step.done();
            Ok(done)
        }
        Err(error) => {
            step.failed(&crate::failure::one_line(&error));
            Err(error)
        }
    }
}

fn store(one: &One<'_>, states: &States, names: &[Reference], step: &Step<'_>) -> Result<Image> {
    let mut images = Vec::new();
    for Built { state, keys, .. } in states {
        let blobs = blobs(one, &state.layers)?;
        step.note("exporting layers done");
        let own = if states.len() == 1 { names } else { &[] };
        let mut config = config(one, state);
        config.cache = caches::inline(&one.options.cache_to, keys).map(|keys| one.cache.shared(keys));
        images.push(one.building.finish(config, &blobs, own)?);
    }
    let image = match images.as_slice() {
        [_] => images.remove(0),
        several => one.building.finish_index(several, names)?,
    };
    step.note(&format!("writing image {} done", image.id));
    for name in names {
        step.note(&format!("naming to {name} done"));
    }
    Ok(image)
}

fn config(one: &One<'_>, state: &State) -> umiak_images::config::ImageConfig {
    let mut config = state.image.clone();
    config.created = state.created.clone().or_else(|| Some(now(one)));
    config.config.labels.extend(one.options.labels.iter().map(|(key, value)| (key.clone(), value.clone())));
    // Where nothing was made the history has no time of its own.
    for entry in &mut config.history {
        entry.created = entry.created.take().or_else(|| config.created.clone());
    }
    config
}

fn now(one: &One<'_>) -> String {
    let epoch = one.options.epoch.and_then(|seconds| jiff::Timestamp::from_second(seconds).ok());
    epoch.unwrap_or_else(jiff::Timestamp::now).to_string()
}

/// The blobs of the layers, compressed where they are not yet.
pub(super) fn blobs(one: &One<'_>, layers: &[Digest]) -> Result<Vec<(Descriptor, Digest)>> {
    let compression = one.options.compression;
    layers.iter().map(|diff_id| Ok((one.building.blob(diff_id, compression)?, diff_id.clone()))).collect()
}

/// Hears of a push and says nothing: the step says that it goes on.
struct Silent;

impl Watch for Silent {
    fn event(&self, _: &Digest, _: Event<'_>) {}
}

fn push(one: &One<'_>, names: &[Reference]) -> Result<()> {
    if names.is_empty() {
        bail!("a tag is needed when pushing to a registry");
    }
    for name in names {
        step(one, &format!("pushing {name}"), |step| push_one(one, name, &|text| step.note(text)))?;
    }
    Ok(())
}

/// Pushes what has a name in the store.
pub(super) fn push_one(one: &One<'_>, name: &Reference, note: &dyn Fn(&str)) -> Result<()> {
    one.engine.pushing()?.push(std::slice::from_ref(name), None, &Silent, |_, pushed| {
        note(&format!("pushing manifest for {name}@{} done", pushed.digest));
    })
}

/// Hands `look` the files of a state.
fn files<T: Send>(
    one: &One<'_>,
    state: &State,
    look: impl FnOnce(std::os::fd::BorrowedFd<'_>) -> Result<T> + Send,
) -> Result<T> {
    let layers = one.engine.store()?.stack(&state.layers)?;
    let scratch = one.building.scratch()?;
    view::layers(&layers, &scratch.upper(), look)?
}

fn directories(one: &One<'_>, states: &States, path: &Path) -> Result<()> {
    for Built { platform, state, .. } in states {
        let path = match states.len() {
            1 => path.to_owned(),
            // As in BuildKit.
            _ => path.join(platform.to_string().replace('/', "_")),
        };
        directory(one, state, &path).with_context(|| format!("write into {}", path.display()))?;
    }
    Ok(())
}

fn directory(one: &One<'_>, state: &State, path: &Path) -> Result<()> {
    std::fs::create_dir_all(path)?;
    let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC;
    let into = rustix::fs::open(path, flags, rustix::fs::Mode::empty())?;
    files(one, state, |root| {
        let tree = Tree { root, ignored: None, contents: &Read, owners: true };
        let mut writer = Writer {
            root: into.as_fd(),
            chown: None,
            chmod: None,
            owners: true,
            epoch: one.options.epoch,
            links: HashMap::new(),
        };
        tree.find("", &Ignored::default())?.iter().try_for_each(|found| writer.copy(found, "/", true))
    })
}

fn tar(one: &One<'_>, states: &States, out: &mut File) -> Result<()> {
    let [Built { state, .. }] = states else { bail!("a tar archive holds the files of one platform") };
    files(one, state, |root| {
        let mut tar = TarWriter::new(BufWriter::new(out));
        pack_content(&mut tar, root, &PackOptions::default())?;
        Ok(tar.finish()?.flush()?)
    })
}
