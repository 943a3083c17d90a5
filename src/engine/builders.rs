//! Names of builders. There is one builder, `default`; scripts make others with `docker buildx create`, and mean it
//! under those names: they are kept, so that they are known, listed and removed as they are in Docker.

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};
use umiak_base::state;

use super::roots::Roots;

/// The builder that is always there.
pub const DEFAULT: &str = "default";

/// The names that were given, and the one in use.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Builders {
    /// Names, but for [`DEFAULT`].
    pub names: Vec<String>,
    /// The name in use, if it is not [`DEFAULT`].
    pub current: Option<String>,
}

impl Builders {
    /// Whether a builder has this name.
    pub fn knows(&self, name: &str) -> bool {
        name == DEFAULT || self.names.iter().any(|known| known == name)
    }

    /// The name in use.
    pub fn current(&self) -> &str {
        self.current.as_deref().unwrap_or(DEFAULT)
    }

    /// Takes a name in.
    pub fn add(&mut self, name: &str) {
        if !self.knows(name) {
            self.names.push(name.to_owned());
            self.names.sort();
        }
    }

    /// Uses a name.
    pub fn choose(&mut self, name: &str) {
        self.current = (name != DEFAULT).then(|| name.to_owned());
    }

    /// Forgets a name.
    pub fn forget(&mut self, name: &str) {
        self.names.retain(|known| known != name);
        if self.current() == name {
            self.current = None;
        }
    }
}

fn path(roots: &Roots) -> std::path::PathBuf {
    roots.data.join("build/builders.json")
}

/// The names that there are.
pub fn read(roots: &Roots) -> Result<Builders> {
    Ok(state::read(&path(roots)).context("read the names of builders")?.unwrap_or_default())
}

/// Changes the names, one command at a time.
pub fn change<T>(roots: &Roots, act: impl FnOnce(&mut Builders) -> Result<T>) -> Result<T> {
    super::roots::make_dir(&roots.data.join("build"))?;
    let _lock = umiak_base::FileLock::exclusive(&roots.lock("builders")).context("lock the names of builders")?;
    let mut all = read(roots)?;
    let before = all.clone();
    let result = act(&mut all)?;
    if all != before {
        state::write(&path(roots), &all).context("write the names of builders")?;
    }
    Ok(result)
}

/// Refuses a builder that nobody has made.
pub fn check(roots: &Roots, name: Option<&str>) -> Result<()> {
    match name.filter(|name| !name.is_empty()) {
        Some(name) if !read(roots)?.knows(name) => bail!("no builder \"{name}\" found"),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_and_go_and_default_stays() {
        let mut all = Builders::default();
        all.add("ci");
        all.add("ci");
        all.add(DEFAULT);
        all.choose("ci");
        assert_eq!((all.names.len(), all.current()), (1, "ci"));
        all.forget("ci");
        assert_eq!((all.current(), all.knows("ci"), all.knows(DEFAULT)), (DEFAULT, false, true));
    }
}
