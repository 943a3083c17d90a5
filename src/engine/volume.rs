//! Volumes as objects, for those that know who uses them. What is in one is
//! the user's: it goes only when asked for, and never while a container has it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use umiak_runtime::config::MountKind;
use umiak_runtime::volumes::{Description, VolumeError, Volumes, valid_name};

use super::{Engine, Roots};
use crate::project::labels;
use umiak_compose::{Project, VolumeDef};

/// A volume.
pub type Volume = Description;

fn volumes(roots: &Roots) -> Volumes {
    Volumes::new(roots.volumes())
}

/// Docker's rule for names.
pub fn check_name(name: &str) -> Result<()> {
    if valid_name(name) { Ok(()) } else { Err(VolumeError::Name { name: name.to_owned() }.into()) }
}

/// Where its content lies.
pub fn data_dir(roots: &Roots, name: &str) -> PathBuf {
    roots.volumes().join(name).join("_data")
}

/// A volume by its name.
pub fn find(roots: &Roots, name: &str) -> Result<Volume> {
    volumes(roots).get(name)?.with_context(|| format!("get {name}: no such volume"))
}

/// A volume by its name, if there is one.
pub fn get(roots: &Roots, name: &str) -> Result<Option<Volume>> {
    Ok(volumes(roots).get(name)?)
}

/// All volumes, by name. A damaged one is reported and left out.
pub fn list(roots: &Roots) -> Result<Vec<Volume>> {
    let mut all = Vec::new();
    for volume in volumes(roots).list()? {
        match volume {
            Ok(volume) => all.push(volume),
            Err(error) => crate::note!("warning: {}", crate::failure::one_line(&error.into())),
        }
    }
    Ok(all)
}

/// Makes a volume, and tells whether it is new; one that is there already stays as it is.
pub fn create(
    roots: &Roots,
    name: &str,
    driver: &str,
    driver_opts: BTreeMap<String, String>,
    labels: BTreeMap<String, String>,
    anonymous: bool,
) -> Result<bool> {
    let driver = if matches!(driver, "" | "default") { "local" } else { driver }.to_owned();
    let created = jiff::Timestamp::now().to_string();
    let description = Description { name: name.to_owned(), labels, driver, driver_opts, anonymous, created };
    let new = volumes(roots).create(&description)?;
    if new {
        super::events::volume(roots, "create", name);
    }
    Ok(new)
}

/// Clears away what a killed command has left of a volume that it was making. Nobody needs a minute to make one.
pub fn sweep(roots: &Roots) {
    const OLD: std::time::Duration = std::time::Duration::from_secs(60);
    for entry in std::fs::read_dir(roots.volumes()).into_iter().flatten().flatten() {
        let made = entry.metadata().and_then(|meta| meta.modified()).ok();
        let old = made.and_then(|made| made.elapsed().ok()).is_some_and(|age| age > OLD);
        if old && entry.file_name().to_string_lossy().starts_with(".new-") {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

/// A container's volume, made where it is missing: its content's directory, and whether it was made.
pub fn ensure(
    roots: &Roots,
    name: &str,
    labels: &BTreeMap<String, String>,
    anonymous: bool,
) -> Result<(PathBuf, bool)> {
    let new = create(roots, name, "local", BTreeMap::new(), labels.clone(), anonymous)?;
    Ok((data_dir(roots, name), new))
}

/// A project's volume; whether it was made. An external one must be there.
pub fn ensure_of_project(roots: &Roots, project: &Project, key: &str, definition: &VolumeDef) -> Result<bool> {
    let name = &definition.name;
    if definition.external {
        return match volumes(roots).get(name)? {
            Some(_) => Ok(false),
            None => bail!("external volume \"{name}\" not found"),
        };
    }
    let hash = crate::project::hash::volume(definition)?;
    let own = [
        (labels::PROJECT, project.name.as_str()),
        (labels::VOLUME, key),
        (labels::VERSION, env!("CARGO_PKG_VERSION")),
        (labels::CONFIG_HASH, hash.as_str()),
    ];
    let mut all: BTreeMap<String, String> = definition.labels.clone().into_iter().collect();
    all.extend(own.map(|(key, value)| (key.to_owned(), value.to_owned())));
    if let Some(there) = volumes(roots).get(name)? {
        if there.labels.get(labels::PROJECT).is_none_or(|owner| *owner != project.name) {
            crate::note!(
                "warning: volume \"{name}\" already exists but was not created for project \"{}\": \
                 set `external: true` to use an existing volume",
                project.name
            );
        }
        return Ok(false);
    }
    let options = definition.driver_opts.clone().into_iter().collect();
    create(roots, name, definition.driver.as_deref().unwrap_or_default(), options, all, false)
}

/// The names of containers that have a volume.
pub fn users(engine: &Engine, name: &str) -> Result<Vec<String>> {
    let has =
        |mount: &umiak_runtime::config::Mount| matches!(&mount.kind, MountKind::Volume(volume) if volume.name == name);
    let containers = engine.containers()?;
    Ok(containers.into_iter().filter(|c| c.config.runtime.mounts.iter().any(has)).map(|c| c.config.name).collect())
}

/// Removes a volume that no container has.
pub fn remove_unused(engine: &Engine, name: &str) -> Result<()> {
    find(&engine.roots, name)?;
    let users = users(engine, name)?;
    if !users.is_empty() {
        bail!("remove {name}: volume is in use - [{}]", users.join(", "));
    }
    remove(&engine.roots, name)
}

/// Removes a volume with all that is in it. Gone already: no error.
pub fn remove(roots: &Roots, name: &str) -> Result<()> {
    match volumes(roots).remove(name) {
        Ok(()) => {
            super::events::volume(roots, "destroy", name);
            Ok(())
        }
        Err(VolumeError::Missing { .. }) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Removes a volume in which nothing lies.
pub fn remove_empty(roots: &Roots, name: &str) -> Result<()> {
    let data = data_dir(roots, name);
    let empty = std::fs::read_dir(&data).map(|mut entries| entries.next().is_none()).unwrap_or(true);
    if empty { remove(roots, name) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_volume_is_made_once_and_goes_with_its_content() {
        let temp = tempfile::tempdir().unwrap();
        let roots = Roots { data: temp.path().join("data"), run: temp.path().join("run") };
        roots.prepare().unwrap();
        assert!(ensure(&roots, "data", &BTreeMap::new(), false).unwrap().1);
        assert!(!ensure(&roots, "data", &BTreeMap::new(), false).unwrap().1);
        std::fs::write(data_dir(&roots, "data").join("file"), "x").unwrap();
        remove_empty(&roots, "data").unwrap();
        assert_eq!(list(&roots).unwrap().len(), 1, "a volume with content is kept");
        remove(&roots, "data").unwrap();
        assert!(list(&roots).unwrap().is_empty());
        assert!(create(&roots, "../x", "local", BTreeMap::new(), BTreeMap::new(), false).is_err());
    }
}
