//! Those of git repositories, kept by commit.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use rustix::fs::OFlags;

use super::{Aside, cache, refuse_switched_off};
use crate::build::git::{self, NamedBy, Repository};

const FILES: [&str; 4] = ["compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml"];
const SWITCH: &str = "COMPOSE_EXPERIMENTAL_GIT_REMOTE";

/// Where the Compose file of a repository lies, fetched if it is not there.
pub(super) fn find(repository: &Repository) -> Result<PathBuf> {
    refuse_switched_off("git", SWITCH)?;
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
    let aside = Aside::beside(&place)?;
    let whole = Repository { directory: None, ..repository.clone() };
    let made = git::checkout(&whole, NamedBy::User, &aside.0, false, &|_| {})?;
    let place = cache.join(made.commit);
    aside.done(&place)?;
    Ok(place)
}
