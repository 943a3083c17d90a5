//! Volumes as objects: `volumes/<name>/volume.json` and `_data`. What is in
//! one is the user's: it goes only when asked for, and never while a container
//! has it.

use std::collections::BTreeMap;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};
use umiak_base::{FileLock, state};
use umiak_runtime::config::MountKind;

use super::roots::make_dir;
use super::{Engine, Roots};
use crate::compose::{Project, VolumeDef};
use crate::project::labels;

/// A volume.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Volume {
    /// Its name.
    pub name: String,
    /// When it was made, RFC 3339.
    pub created: String,
    /// Labels.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// `type`, `o` and `device`, for one that is mounted from elsewhere.
    #[serde(default)]
    pub driver_opts: BTreeMap<String, String>,
    /// Made for a mount without a name.
    #[serde(default)]
    pub anonymous: bool,
}

/// Docker's rule for names.
pub fn check_name(name: &str) -> Result<()> {
    let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
    let first = name.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
    if !first || name.len() < 2 || name.len() > 255 || !name.bytes().all(legal) {
        bail!("\"{name}\" includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed");
    }
    Ok(())
}

fn dir(roots: &Roots, name: &str) -> PathBuf {
    roots.volumes().join(name)
}

/// Where its content lies.
pub fn data_dir(roots: &Roots, name: &str) -> PathBuf {
    dir(roots, name).join("_data")
}

fn lock(roots: &Roots, name: &str) -> Result<FileLock> {
    Ok(FileLock::exclusive(&roots.lock(&format!("volume-{name}")))?)
}

fn read(roots: &Roots, name: &str) -> Result<Option<Volume>> {
    check_name(name)?;
    Ok(state::read(&dir(roots, name).join("volume.json"))?)
}

/// A volume by its name.
pub fn find(roots: &Roots, name: &str) -> Result<Volume> {
    read(roots, name)?.with_context(|| format!("get {name}: no such volume"))
}

/// All volumes, by name. A damaged one is reported and left out.
pub fn list(roots: &Roots) -> Result<Vec<Volume>> {
    let root = roots.volumes();
    let mut all = Vec::new();
    for entry in std::fs::read_dir(&root).with_context(|| format!("list {}", root.display()))? {
        let name = entry.with_context(|| format!("list {}", root.display()))?.file_name();
        match name.to_str().map(|name| read(roots, name)) {
            Some(Ok(volume)) => all.extend(volume),
            Some(Err(error)) => crate::note!("warning: {}", crate::failure::one_line(&error)),
            None => {}
        }
    }
    all.sort_by(|a: &Volume, b| a.name.cmp(&b.name));
    Ok(all)
}

/// Makes a volume; one that is there already stays as it is.
pub fn create(
    roots: &Roots,
    name: &str,
    driver: &str,
    driver_opts: BTreeMap<String, String>,
    labels: BTreeMap<String, String>,
    anonymous: bool,
) -> Result<bool> {
    check_name(name)?;
    if !matches!(driver, "" | "local" | "default") {
        bail!("volume {name}: the driver \"{driver}\" is not supported; umiak has local volumes");
    }
    if let Some(option) = driver_opts.keys().find(|key| !matches!(key.as_str(), "type" | "o" | "device")) {
        bail!("volume {name}: invalid option: \"{option}\"");
    }
    let _lock = lock(roots, name)?;
    if read(roots, name)?.is_some() {
        return Ok(false);
    }
    let data = data_dir(roots, name);
    make_dir(&dir(roots, name))?;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(&data)
        .with_context(|| format!("make {}", data.display()))?;
    let created = jiff::Timestamp::now().to_string();
    let volume = Volume { name: name.to_owned(), created, labels, driver_opts, anonymous };
    state::write(&dir(roots, name).join("volume.json"), &volume)?;
    Ok(true)
}

/// A container's volume, made where it is missing: its content's directory, and whether it was made.
pub fn ensure(roots: &Roots, name: &str, anonymous: bool) -> Result<(PathBuf, bool)> {
    let new = create(roots, name, "local", BTreeMap::new(), BTreeMap::new(), anonymous)?;
    Ok((data_dir(roots, name), new))
}

/// A project's volume; whether it was made. An external one must be there.
pub fn ensure_of_project(roots: &Roots, project: &Project, key: &str, definition: &VolumeDef) -> Result<bool> {
    let name = &definition.name;
    if definition.external {
        return match read(roots, name)? {
            Some(_) => Ok(false),
            None => bail!("external volume \"{name}\" not found"),
        };
    }
    let own = [(labels::PROJECT, project.name.as_str()), (labels::VOLUME, key), (labels::VERSION, env!("CARGO_PKG_VERSION"))];
    let mut all: BTreeMap<String, String> = definition.labels.clone().into_iter().collect();
    all.extend(own.map(|(key, value)| (key.to_owned(), value.to_owned())));
    if let Some(there) = read(roots, name)? {
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
    let has = |mount: &umiak_runtime::config::Mount| matches!(&mount.kind, MountKind::Volume(volume) if volume.name == name);
    let containers = engine.containers()?;
    Ok(containers.into_iter().filter(|c| c.config.runtime.mounts.iter().any(has)).map(|c| c.config.name).collect())
}

/// Removes a volume that no container has.
pub fn remove_unused(engine: &Engine, name: &str) -> Result<()> {
    find(&engine.roots, name)?;
    let users = users(engine, name)?;
    if !users.is_empty() {
        bail!("remove {name}: volume is in use by {}", users.join(", "));
    }
    remove(&engine.roots, name)
}

/// Removes a volume with all that is in it. Gone already: no error.
pub fn remove(roots: &Roots, name: &str) -> Result<()> {
    check_name(name)?;
    let lock = lock(roots, name)?;
    let dir = dir(roots, name);
    // Without its description it is no volume any more, whatever of its content is still to go.
    let _ = std::fs::remove_file(dir.join("volume.json"));
    match std::fs::remove_dir_all(&dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("remove {}", dir.display()));
        }
        _ => {}
    }
    drop(lock);
    let _ = std::fs::remove_file(roots.lock(&format!("volume-{name}")));
    Ok(())
}

/// Removes a volume in which nothing lies.
pub fn remove_empty(roots: &Roots, name: &str) -> Result<()> {
    let data = data_dir(roots, name);
    let empty = std::fs::read_dir(&data).map(|mut entries| entries.next().is_none()).unwrap_or(true);
    if empty { remove(roots, name) } else { Ok(()) }
}

/// Bytes that its content takes on the disk; what cannot be read counts as nothing.
pub fn size(roots: &Roots, name: &str) -> u64 {
    fn walk(path: &Path) -> u64 {
        let Ok(meta) = std::fs::symlink_metadata(path) else { return 0 };
        let below = match meta.is_dir() {
            true => std::fs::read_dir(path).into_iter().flatten().flatten().map(|entry| walk(&entry.path())).sum(),
            false => 0,
        };
        meta.blocks() * 512 + below
    }
    walk(&data_dir(roots, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_volume_is_made_once_and_goes_with_its_content() {
        let temp = tempfile::tempdir().unwrap();
        let roots = Roots { data: temp.path().join("data"), run: temp.path().join("run") };
        roots.prepare().unwrap();
        assert!(ensure(&roots, "data", false).unwrap().1);
        assert!(!ensure(&roots, "data", false).unwrap().1);
        std::fs::write(data_dir(&roots, "data").join("file"), "x").unwrap();
        remove_empty(&roots, "data").unwrap();
        assert_eq!(list(&roots).unwrap().len(), 1, "a volume with content is kept");
        remove(&roots, "data").unwrap();
        assert!(list(&roots).unwrap().is_empty());
        assert!(create(&roots, "../x", "local", BTreeMap::new(), BTreeMap::new(), false).is_err());
    }
}
