//! The image of a stage's state: layers compressed, config written, named.

use anyhow::Result;
use umiak_images::digest::Digest;
use umiak_images::manifest::Descriptor;
use umiak_images::reference::Reference;
use umiak_images::store::Image;

use super::Build;
use super::state::State;

/// Writes the image and gives it its names.
pub fn image(build: &Build<'_>, state: &State, names: &[Reference]) -> Result<Image> {
    let step = build.display.step("exporting to image");
    let result = write(build, state, names, &|text| step.note(text));
    match result {
        Ok(image) => {
            step.note(&format!("writing image {} done", image.id));
            for name in names {
                step.note(&format!("naming to {name} done"));
            }
            step.done();
            Ok(image)
        }
        Err(error) => {
            step.failed(&crate::failure::one_line(&error));
            Err(error)
        }
    }
}

fn write(build: &Build<'_>, state: &State, names: &[Reference], note: &dyn Fn(&str)) -> Result<Image> {
    let blobs = blobs(build, &state.layers)?;
    note("exporting layers done");
    let mut config = state.image.clone();
    config.created = state.created.clone().or_else(|| Some(now(build)));
    config.config.labels.extend(build.options.labels.iter().map(|(key, value)| (key.clone(), value.clone())));
    // Where nothing was made the history has no time of its own.
    for entry in &mut config.history {
        entry.created = entry.created.take().or_else(|| config.created.clone());
    }
    Ok(build.building.finish(config, &blobs, names)?)
}

fn now(build: &Build<'_>) -> String {
    let epoch = build.options.epoch.and_then(|seconds| jiff::Timestamp::from_second(seconds).ok());
    epoch.unwrap_or_else(jiff::Timestamp::now).to_string()
}

/// The blobs of the layers, compressed where they are not yet.
fn blobs(build: &Build<'_>, layers: &[Digest]) -> Result<Vec<(Descriptor, Digest)>> {
    let compression = build.options.compression;
    layers.iter().map(|diff_id| Ok((build.building.blob(diff_id, compression)?, diff_id.clone()))).collect()
}
