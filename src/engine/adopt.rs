//! Giving a running container a new monitor, where both its monitor and the
//! keeper behind it were killed: names, health checks, restarts and the log go
//! on. What the container says is heard again where the pipes are still the
//! ones that it was started with.

use std::os::fd::AsFd as _;

use anyhow::{Context as _, Result};
use umiak_netns::publish::{self, PortSpec};

use super::container::{Container, Status};
use super::{Engine, ports, wait};
use crate::monitor::protocol::{Outcome, Start};

/// Whether a container runs without anybody who looks after it.
pub fn is_orphan(container: &Container) -> bool {
    matches!(container.state.status, Status::Running | Status::Paused) && wait::supervisor(&container.state).is_none()
}

impl Engine {
    /// Gives a container a new monitor if it runs without one; whether it did.
    pub fn adopt(&self, container: &Container) -> Result<bool> {
        if !is_orphan(container) {
            return Ok(false);
        }
        let _lock = self.lock(&container.config.id)?;
        match Container::load(&self.roots, &container.config.id)? {
            Some(now) if is_orphan(&now) => self.adopt_locked(&now).map(|()| true),
            _ => Ok(false),
        }
    }

    /// As [`Engine::adopt`], for one who has the container's lock.
    pub(super) fn adopt_locked(&self, container: &Container) -> Result<()> {
        if !is_orphan(container) {
            return Ok(());
        }
        let (config, published) = (&container.config, &container.state.ports);
        // They still lead into the container; held or not, nobody else can publish them.
        let reserved = publish::reserve(&published.iter().filter_map(spec).collect::<Vec<_>>()).unwrap_or_default();
        let (_, held) = ports::split(reserved);
        let order = Start {
            roots: self.roots.clone(),
            id: config.id.clone(),
            held: held.len(),
            ports: published.clone(),
            namespaces: Vec::new(),
            attach: None,
            adopt: true,
        };
        let fds: Vec<_> = held.iter().map(|fd| fd.as_fd()).collect();
        let outcome = self
            .spawn_monitor(&order, &fds)
            .with_context(|| format!("give container {} a new monitor, as the one it had was killed", config.name))?;
        let lost = match outcome {
            Outcome::Adopted { heard: true } => "what it wrote meanwhile may be lost",
            _ => "what it writes is lost until it is restarted",
        };
        crate::note!("warning: the monitor of container {} had been killed: it has a new one; {lost}", config.name);
        Ok(())
    }
}

/// Exactly the port that is published already.
fn spec(port: &super::container::PublishedPort) -> Option<PortSpec> {
    let at = (port.host_port, port.host_port);
    let spec = ports::spec(Some(port.host_ip), Some(at), port.container_port, &port.protocol);
    (port.host_port != 0).then_some(spec)
}
