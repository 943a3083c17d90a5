//! Removing a container: everything that was made for it goes, and nothing
//! else. A part that fails does not keep the others from being removed.

use anyhow::{Context as _, Result, bail};

use super::container::{Container, NetworkMode, Status};
use super::{Engine, cgroup, events, names, network, volume};

impl Engine {
    /// Removes a container that does not run; with `force` one that does is killed first.
    pub fn remove(&self, container: &Container, force: bool, volumes: bool) -> Result<()> {
        let config = &container.config;
        let up =
            || Ok::<_, anyhow::Error>(Container::load(&self.roots, &config.id)?.filter(|now| now.state.status.is_up()));
        let _lock = loop {
            if let Some(current) = up()? {
                if !force && current.state.status == Status::Paused {
                    bail!(
                        "cannot remove container \"{}\": container is paused and must be unpaused first",
                        config.name
                    );
                }
                if !force {
                    bail!(
                        "cannot remove container \"{}\": container is running: stop the container before removing or force remove",
                        config.name
                    );
                }
                self.kill(&current, rustix::process::Signal::KILL)?;
            }
            self.recover(container)?;
            let lock = self.lock(&config.id)?;
            // A start whose command was killed may have come to its end meanwhile.
            if up()?.is_none() {
                break lock;
            }
        };
        let mut first_error = None;
        let mut note = |result: Result<()>| {
            if let Err(error) = result {
                first_error.get_or_insert(error);
            }
        };
        // Of a start whose command, monitor and keeper were all killed; before its root goes.
        note(cgroup::clear(&config.runtime.cgroup_path));
        // The interfaces of a network's last container go with the bridge: the kernel waits once instead of twice.
        let with_bridge = network::goes_with(&self.roots, config)?;
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
            for name in &config.anonymous_volumes {
                // Another container may have it through `volumes_from`; it stays then, as in Docker.
                match volume::users(self, name) {
                    Ok(users) if users.is_empty() => note(volume::remove(&self.roots, name)),
                    users => note(users.map(drop)),
                }
            }
        }
        for attachment in config.network.attachments() {
            note(network::leave(&self.roots, attachment));
        }
        if with_bridge {
            note(self.remove_namespace(container));
        }
        let _ = std::fs::remove_file(self.roots.lock(&format!("container-{}", config.id)));
        events::container(&self.roots, config, "destroy");
        first_error.map_or(Ok(()), Err)
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
            let Some(_lock) = umiak_base::FileLock::try_exclusive(&path)? else { continue };
            if self.roots.container(&id).join("config.json").exists() {
                continue;
            }
            network::detach_all(&self.roots, &id)?;
            network::release(&self.roots, &id)?;
            self.roots.forget_run(&id);
            remove_tree(&self.roots.container(&id))?;
            let _ = std::fs::remove_file(&path);
        }
        volume::sweep(&self.roots);
        names::sweep(&self.roots)?;
        network::sweep(&self.roots)
    }
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
