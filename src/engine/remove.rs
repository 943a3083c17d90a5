//! Removing a container: everything that was made for it goes, and nothing
//! else. A part that fails does not keep the others from being removed.

use anyhow::{Context as _, Result, bail};
use umiak_base::FileLock;

use super::container::{Config, Container, NetworkMode, Status};
use super::{Engine, Roots, cgroup, events, names, network, volume};

/// What the config of a container is called whose rest goes by itself: to all commands it is gone.
pub const LEAVING: &str = "leaving.json";

impl Engine {
    /// Removes a container that does not run; with `force` one that does is killed first.
    pub fn remove(&self, container: &Container, force: bool, volumes: bool) -> Result<()> {
        let config = &container.config;
        let _lock = self.hold_for_removal(container, force)?;
        let mut first_error = None;
        let mut note = |result: Result<()>| {
            if let Err(error) = result {
                first_error.get_or_insert(error);
            }
        };
        // Of a start whose command, monitor and keeper were all killed; before its root goes.
        note(cgroup::clear(&config.runtime.cgroup_path));
        // The interfaces of a network's last container go with the bridge: the kernel waits once instead of twice.
        let with_bridge = network::default::goes_with(&self.roots, config)?;
        if !with_bridge {
            note(self.remove_namespace(container));
        }
        note(network::release(&self.roots, &config.id));
        // The config goes first: with it, the container is gone, and what is left is rubbish to be swept.
        let dir = self.roots.container(&config.id);
        note(remove_file(&dir.join("config.json")));
        note(names::release(&self.roots, &config.name, &config.id));
        note(remove_tree(&dir));
        self.roots.forget_run(&config.id);
        if volumes {
            note(self.remove_anonymous_volumes(config));
        }
        for attachment in config.network.attachments() {
            note(network::default::leave(&self.roots, attachment));
        }
        if with_bridge {
            note(self.remove_namespace(container));
        }
        let _ = std::fs::remove_file(self.roots.lock(&format!("container-{}", config.id)));
        events::container(&self.roots, config, "destroy");
        first_error.map_or(Ok(()), Err)
    }

    /// Removes a container that has ended and was to remove itself. What the kernel holds of it goes afterwards, and
    /// nobody waits for that (`remnants.rs`).
    pub fn remove_ended(&self, container: &Container) -> Result<()> {
        let config = &container.config;
        let lock = self.hold_for_removal(container, true)?;
        let dir = self.roots.container(&config.id);
        if !dir.join("config.json").exists() {
            // Another command, or the container's own end, was here first.
            let _ = std::fs::remove_file(self.roots.lock(&format!("container-{}", config.id)));
            return Ok(());
        }
        let cleared = cgroup::clear(&config.runtime.cgroup_path);
        let removed = std::fs::rename(dir.join("config.json"), dir.join(LEAVING))
            .with_context(|| format!("remove {}", dir.join("config.json").display()))
            .and_then(|()| names::release(&self.roots, &config.name, &config.id))
            .and_then(|()| self.remove_anonymous_volumes(config));
        let rest = self.clear_away(config, &lock);
        events::container(&self.roots, config, "destroy");
        cleared.and(removed).and(rest)
    }

    /// The lock of a container that does not run; with `force` one that does is killed first.
    fn hold_for_removal(&self, container: &Container, force: bool) -> Result<FileLock> {
        let config = &container.config;
        let up =
            || Ok::<_, anyhow::Error>(Container::load(&self.roots, &config.id)?.filter(|now| now.state.status.is_up()));
        loop {
            if let Some(current) = up()? {
                if !force && current.state.status == Status::Paused {
                    bail!(
                        "cannot remove container \"{}\": container is paused and must be unpaused first",
                        config.name
                    );
                }
                if !force {
                    let is = if current.state.status == Status::Restarting { "restarting" } else { "running" };
                    bail!(
                        "cannot remove container \"{}\": container is {is}: stop the container before removing or force remove",
                        config.name
                    );
                }
                self.kill(&current, rustix::process::Signal::KILL)?;
            }
            self.recover(container)?;
            let lock = self.lock(&config.id)?;
            // A start whose command was killed may have come to its end meanwhile.
            if up()?.is_none() {
                return Ok(lock);
            }
        }
    }

    fn remove_anonymous_volumes(&self, config: &Config) -> Result<()> {
        let mut result = Ok(());
        for name in &config.anonymous_volumes {
            // Another container may have it through `volumes_from`; it stays then, as in Docker.
            let removed = match volume::users(self, name) {
                Ok(users) if users.is_empty() => volume::remove(&self.roots, name),
                users => users.map(drop),
            };
            result = result.and(removed);
        }
        result
    }

    fn remove_namespace(&self, container: &Container) -> Result<()> {
        let config = &container.config;
        if matches!(config.network, NetworkMode::Host | NetworkMode::Container(_)) {
            return Ok(());
        }
        network::detach(&self.roots, config)
    }
}

impl Engine {
    /// Clears away containers that a killed command left half made or half removed.
    pub fn sweep(&self) -> Result<()> {
        for id in super::container::ids(&self.roots)? {
            if self.roots.container(&id).join("config.json").exists() {
                continue;
            }
            let path = self.roots.lock(&format!("container-{id}"));
            let Some(_lock) = FileLock::try_exclusive(&path)? else { continue };
            if self.roots.container(&id).join("config.json").exists() {
                continue;
            }
            sweep_one(&self.roots, &id)?;
        }
        volume::sweep(&self.roots);
        names::sweep(&self.roots)?;
        network::sweep(&self.roots)?;
        super::remnants::sweep_default(&self.roots)
    }
}

/// What is left of a container that has no config any more, by whoever holds its lock.
pub fn sweep_one(roots: &Roots, id: &str) -> Result<()> {
    network::detach_all(roots, id)?;
    network::release(roots, id)?;
    roots.forget_run(id);
    remove_tree(&roots.container(id))?;
    let _ = std::fs::remove_file(roots.lock(&format!("container-{id}")));
    Ok(())
}

fn remove_file(path: &std::path::Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

fn remove_tree(path: &std::path::Path) -> Result<()> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("remove {}", path.display()))
        }
        _ => Ok(()),
    }
}
