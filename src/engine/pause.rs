//! Pausing a container: its cgroup is frozen. That it is meant to be is a file
//! in its run directory, whether it is comes from the kernel.

use anyhow::{Context as _, Result, bail};
use umiak_runtime::cgroup::Cgroup;

use super::container::{Container, Status};
use super::{Engine, Roots, events, wait};

fn marker(roots: &Roots, id: &str) -> std::path::PathBuf {
    roots.container_run(id).join("paused")
}

/// Whether a running container is paused.
pub fn is_paused(roots: &Roots, id: &str, cgroup: &str) -> bool {
    marker(roots, id).exists() && Cgroup::new(cgroup).is_ok_and(|cgroup| cgroup.frozen())
}

impl Engine {
    /// Stops all processes of a container where they are.
    pub fn pause(&self, container: &Container) -> Result<()> {
        let config = &container.config;
        let _lock = self.lock(&config.id)?;
        match self.status(container)? {
            Status::Running => {}
            Status::Paused => bail!("container {} is already paused", config.name),
            Status::Restarting => bail!("Container {} is restarting, wait until the container is running", config.id),
            _ => bail!("container {} is not running", config.name),
        }
        let path = marker(&self.roots, &config.id);
        std::fs::write(&path, "").with_context(|| format!("write {}", path.display()))?;
        let frozen = Cgroup::new(&config.runtime.cgroup_path)
            .and_then(|cgroup| cgroup.freeze())
            .with_context(|| format!("pause container {}", config.name));
        if frozen.is_err() {
            let _ = std::fs::remove_file(&path);
        }
        frozen?;
        // What stands still does not become healthy, and a check that stands still with it writes nothing.
        wait::tell(&self.roots, &config.id);
        events::container(&self.roots, config, "pause");
        Ok(())
    }

    /// Lets the processes of a paused container run on.
    pub fn unpause(&self, container: &Container) -> Result<()> {
        let config = &container.config;
        let _lock = self.lock(&config.id)?;
        if self.status(container)? != Status::Paused {
            bail!("container {} is not paused", config.name);
        }
        self.thaw(container)
    }

    /// As `unpause`, for a container that must run to receive a signal.
    pub(super) fn thaw(&self, container: &Container) -> Result<()> {
        let config = &container.config;
        Cgroup::new(&config.runtime.cgroup_path)
            .and_then(|cgroup| cgroup.thaw())
            .with_context(|| format!("unpause container {}", config.name))?;
        let _ = std::fs::remove_file(marker(&self.roots, &config.id));
        events::container(&self.roots, config, "unpause");
        Ok(())
    }

    fn status(&self, container: &Container) -> Result<Status> {
        let current = Container::load(&self.roots, &container.config.id)?;
        Ok(current.map_or(Status::Exited, |current| current.state.status))
    }
}
