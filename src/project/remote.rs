//! Compose files that are not on this machine, for `-f`, `include` and `extends`: those of git repositories and those that
//! were published to registries. They are kept in the user's cache, by commit or digest, where a project's files stay as
//! long as its containers may need them.

pub mod ask;
mod git;
pub mod published;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use anyhow::{Context as _, Result, bail};
use umiak_compose::Fetch;

/// What this command has fetched: a project may be loaded several times, and is the same each time.
static FETCHED: Mutex<BTreeMap<String, PathBuf>> = Mutex::new(BTreeMap::new());

/// Fetches Compose files; `registries` is the file of registry settings.
pub fn fetching(registries: &Path) -> Fetch {
    let registries = registries.to_owned();
    Fetch::new(move |name| fetch(&registries, name))
}

/// Whether a name is that of a file elsewhere.
pub fn is_remote(name: &str) -> bool {
    name.starts_with(published::SCHEME) || crate::build::git::parse(name).is_some()
}

/// The names of what this command has fetched, and what they lead to.
pub fn fetched() -> BTreeMap<String, PathBuf> {
    FETCHED.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
}

/// Where the Compose file of a name lies, fetched if it is not there. `None` for a path.
fn fetch(registries: &Path, name: &str) -> Option<Result<PathBuf, String>> {
    if !is_remote(name) {
        return None;
    }
    let mut fetched = FETCHED.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if let Some(path) = fetched.get(name) {
        return Some(Ok(path.clone()));
    }
    let found = match (name.strip_prefix(published::SCHEME), crate::build::git::parse(name)) {
        (Some(artifact), _) => published::find(registries, artifact),
        (None, Some(repository)) => git::find(&repository),
        (None, None) => return None,
    };
    let found = found.map_err(|error| format!("{name}: {}", crate::failure::one_line(&error)));
    if let Ok(path) = &found {
        fetched.insert(name.to_owned(), path.clone());
    }
    Some(found)
}

/// Refuses a kind of remote files that a variable of the environment has switched off.
fn refuse_switched_off(kind: &str, variable: &str) -> Result<()> {
    let off = |value: String| matches!(value.as_str(), "0" | "f" | "false" | "F" | "False" | "FALSE");
    if std::env::var(variable).is_ok_and(off) {
        bail!("{kind} remote resource is disabled by \"{variable}\"");
    }
    Ok(())
}

/// What is being fetched; what is left of it when that fails goes.
struct Aside(PathBuf);

impl Aside {
    /// A new directory beside the place that it will have.
    fn beside(place: &Path) -> Result<Self> {
        let (cache, name) = (place.parent().unwrap_or(place), place.file_name().unwrap_or_default());
        std::fs::create_dir_all(cache).with_context(|| format!("make {}", cache.display()))?;
        let aside = Self(cache.join(format!(".{}-{}", name.display(), std::process::id())));
        std::os::unix::fs::DirBuilderExt::mode(&mut std::fs::DirBuilder::new(), 0o700)
            .create(&aside.0)
            .with_context(|| format!("make {}", aside.0.display()))?;
        Ok(aside)
    }

    /// Gives it its name.
    fn done(&self, place: &Path) -> Result<()> {
        match std::fs::rename(&self.0, place) {
            // Another command was faster.
            Err(_) if place.is_dir() => Ok(()),
            result => result.with_context(|| format!("make {}", place.display())),
        }
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn cache() -> Result<PathBuf> {
    let given = |name: &str| std::env::var_os(name).filter(|value| Path::new(value).is_absolute()).map(PathBuf::from);
    let base = given("XDG_CACHE_HOME").or_else(|| Some(given("HOME")?.join(".cache")));
    Ok(base.context("HOME is not set: there is no place to keep remote files")?.join("umiak/compose"))
}
