//! Compose files of git repositories, for `-f`, `include` and `extends`: kept by commit in the user's cache, where a
//! project's files stay as long as its containers may need them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use anyhow::{Context as _, Result, bail};
use rustix::fs::OFlags;

use crate::build::git::{self, NamedBy, Repository};

const FILES: [&str; 4] = ["compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml"];
const SWITCH: &str = "COMPOSE_EXPERIMENTAL_GIT_REMOTE";

/// What this command has fetched: a project may be loaded several times, and is the same each time.
static FETCHED: Mutex<BTreeMap<String, PathBuf>> = Mutex::new(BTreeMap::new());

/// Where the Compose file of a repository's URL lies, fetched if it is not there. `None` for a path.
pub fn fetch(name: &str) -> Option<Result<PathBuf, String>> {
    if name.starts_with("oci://") {
        return Some(Err(format!("{name}: Compose files are not taken from registries; give a path or a git URL")));
    }
    let repository = git::parse(name)?;
    let mut fetched = FETCHED.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if let Some(path) = fetched.get(name) {
        return Some(Ok(path.clone()));
    }
    let found = find(&repository).map_err(|error| format!("{name}: {error:#}"));
    if let Ok(path) = &found {
        fetched.insert(name.to_owned(), path.clone());
    }
    Some(found)
}

fn find(repository: &Repository) -> Result<PathBuf> {
    if std::env::var(SWITCH).is_ok_and(|value| matches!(value.as_str(), "0" | "f" | "false" | "F" | "False" | "FALSE"))
    {
        bail!("git remote resource is disabled by \"{SWITCH}\"");
    }
    let path = match &repository.directory {
        None => checkout(repository)?,
        Some(directory) => {
            let root = checkout(repository)?;
            git::inside(&root, directory, OFlags::PATH).with_context(|| format!("the repository has no {directory}"))?
        }
    };
    if !path.is_dir() {
        return Ok(path);
    }
    let found = FILES.iter().map(|name| path.join(name)).find(|file| file.is_file());
    found.context("no Compose file there: compose.yaml, compose.yml, docker-compose.yml or docker-compose.yaml")
}

/// The directory of the repository's commit.
fn checkout(repository: &Repository) -> Result<PathBuf> {
    let cache = cache()?;
    let commit = git::resolve(repository, NamedBy::User)?;
    let place = cache.join(&commit);
    if place.is_dir() {
        return Ok(place);
    }
    std::fs::create_dir_all(&cache).with_context(|| format!("make {}", cache.display()))?;
    let aside = Aside(cache.join(format!(".{commit}-{}", std::process::id())));
    std::fs::create_dir(&aside.0).with_context(|| format!("make {}", aside.0.display()))?;
    let whole = Repository { directory: None, ..repository.clone() };
    let made = git::checkout(&whole, NamedBy::User, &aside.0, false, &|_| {})?;
    let place = cache.join(made.commit);
    match std::fs::rename(&aside.0, &place) {
        // Another command was faster.
        Err(_) if place.is_dir() => {}
        result => result.with_context(|| format!("make {}", place.display()))?,
    }
    Ok(place)
}

/// A checkout under way; what is left of one goes.
struct Aside(PathBuf);

impl Drop for Aside {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn cache() -> Result<PathBuf> {
    let given = |name: &str| std::env::var_os(name).filter(|value| Path::new(value).is_absolute()).map(PathBuf::from);
    let base = given("XDG_CACHE_HOME").or_else(|| Some(given("HOME")?.join(".cache")));
    Ok(base.context("HOME is not set: there is no place to keep a repository")?.join("umiak/compose"))
}
