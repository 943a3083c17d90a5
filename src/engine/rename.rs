//! Giving a container another name, also while it runs: it is found by it at
//! once, by people and by other containers.

use anyhow::{Result, bail};

use super::container::Container;
use super::{Engine, events, names};

impl Engine {
    /// Renames a container.
    pub fn rename(&self, container: &Container, name: &str) -> Result<()> {
        let name = name.strip_prefix('/').unwrap_or(name);
        let _lock = self.lock(&container.config.id)?;
        let mut config = self.changeable(container)?;
        if config.name == name {
            bail!("Renaming a container with the same name as its current name");
        }
        names::take(&self.roots, name, &config.id)?;
        let old = std::mem::replace(&mut config.name, name.to_owned());
        if let Err(error) = self.write_changed(&config) {
            // The error is what is told.
            let _ = names::release(&self.roots, name, &config.id);
            return Err(error);
        }
        names::release(&self.roots, &old, &config.id)?;
        events::Event::of_container(&config, "rename").with("oldName", format!("/{old}")).emit(&self.roots);
        Ok(())
    }
}
