//! Joining a container to one more network, or taking it off one, also while it
//! runs: its config changes, its namespace gets or loses an interface, and its
//! monitor is told to read the config again.

use std::io::Write as _;
use std::os::unix::net::UnixStream;

use anyhow::{Context as _, Result, bail};
use umiak_base::state;

use super::container::{Config, Container, NetworkMode};
use super::request::Join;
use super::{Engine, events, network};
use crate::monitor::protocol::{Kind, put_frame};

/// For an answer of a monitor: it may be starting its container at this moment.
const ANSWER: std::time::Duration = std::time::Duration::from_secs(10);

impl Engine {
    /// Joins one more network, where `links` (alias and the target's name) are known to the container too.
    pub fn connect(&self, container: &Container, join: &Join, links: &[(String, String)]) -> Result<()> {
        let _lock = self.lock(&container.config.id)?;
        let mut config = self.changeable(container)?;
        let NetworkMode::Networks(attachments) = &mut config.network else {
            bail!("container {} does not have networks of its own", config.name);
        };
        if attachments.iter().any(|attachment| attachment.network == join.network) {
            bail!("endpoint with name {} already exists in network {}", config.name, join.network);
        }
        // Interfaces keep their places: a new one never takes the name of one that stays.
        let place = (0..).find(|place| attachments.iter().all(|attachment| attachment.place != *place)).unwrap_or(0);
        attachments.push(network::one_attachment(&self.roots, &config.id, place, join)?);
        network::choose_default_route(attachments);
        let Some(attachment) = attachments.last().cloned() else { return Ok(()) };
        config.dns.links.extend(links.iter().cloned());
        if let Err(error) = network::attach_one(&self.roots, &config, &attachment) {
            network::release_one(&self.roots, &attachment, &config.id)?;
            return Err(error);
        }
        self.write_changed(&config)?;
        let network_id = &attachment.network_id;
        events::membership(&self.roots, "connect", &join.network, network_id, &config.id);
        Ok(())
    }

    /// Forgets a link by its alias, and tells whether there was one.
    pub fn unlink(&self, container: &Container, alias: &str) -> Result<bool> {
        let _lock = self.lock(&container.config.id)?;
        let mut config = self.changeable(container)?;
        let before = config.dns.links.len();
        config.dns.links.retain(|(known, _)| known != alias);
        if config.dns.links.len() == before {
            return Ok(false);
        }
        self.write_changed(&config)?;
        Ok(true)
    }

    /// Leaves a network.
    pub fn disconnect(&self, container: &Container, name: &str) -> Result<()> {
        let _lock = self.lock(&container.config.id)?;
        let mut config = self.changeable(container)?;
        let NetworkMode::Networks(attachments) = &mut config.network else {
            bail!("container {} does not have networks of its own", config.name);
        };
        let Some(index) = attachments.iter().position(|attachment| attachment.network == name) else {
            bail!("container {} is not connected to network {name}", config.name);
        };
        let attachment = attachments.remove(index);
        if container.state.ports.iter().any(|_| attachment.default_route || index == 0)
            && container.state.status.is_up()
        {
            bail!(
                "container {} publishes ports through network {name}: stop it before it is disconnected from there",
                config.name
            );
        }
        network::detach_one(&self.roots, &config, &attachment)?;
        umiak_netns::dns::withdraw(&self.roots.run.join("dns"), &attachment.network_id, &config.id)?;
        if attachment.default_route
            && let NetworkMode::Networks(attachments) = &mut config.network
        {
            network::choose_default_route(attachments);
            if let Some(next) = attachments.iter().find(|attachment| attachment.default_route).cloned() {
                network::lead_through(&self.roots, &config, &next)?;
            }
        }
        self.write_changed(&config)?;
        network::release_one(&self.roots, &attachment, &config.id)?;
        events::membership(&self.roots, "disconnect", name, &attachment.network_id, &config.id);
        network::default::leave(&self.roots, &attachment)
    }

    /// Takes a stopped container off all its networks; its namespace goes, and comes back with its next start.
    pub fn leave_networks(&self, container: &Container) -> Result<()> {
        let _lock = self.lock(&container.config.id)?;
        let mut config = self.changeable(container)?;
        let NetworkMode::Networks(attachments) = &mut config.network else { return Ok(()) };
        let left = std::mem::take(attachments);
        network::detach_networks(&self.roots, &config, &left)?;
        self.write_changed(&config)?;
        for attachment in &left {
            network::release_one(&self.roots, attachment, &config.id)?;
            network::default::leave(&self.roots, attachment)?;
        }
        Ok(())
    }

    /// Attaches a stopped container to networks, instead of those that it had.
    pub fn join_networks(&self, container: &Container, joins: &[Join]) -> Result<()> {
        let _lock = self.lock(&container.config.id)?;
        let mut config = self.changeable(container)?;
        if let NetworkMode::Networks(attachments) = &mut config.network {
            *attachments = network::attachments(&self.roots, &config.id, joins)?;
            self.write_changed(&config)?;
        }
        Ok(())
    }

    pub(super) fn changeable(&self, container: &Container) -> Result<Config> {
        let path = self.roots.container(&container.config.id).join("config.json");
        state::read::<Config>(&path)?.with_context(|| format!("No such container: {}", container.config.name))
    }

    pub(super) fn write_changed(&self, config: &Config) -> Result<()> {
        state::write(&self.roots.container(&config.id).join("config.json"), config)?;
        self.tell_monitor(&config.id, Kind::Reload)
    }

    /// Tells a container's monitor something, and waits until it has taken it in. Nobody listens where it does not
    /// run; then the next start reads what was written anyway.
    pub fn tell_monitor(&self, id: &str, what: Kind) -> Result<()> {
        let path = self.roots.control_socket(id);
        if let Ok(mut stream) = super::roots::with_short_path(&path, |path| UnixStream::connect(path)) {
            stream.set_read_timeout(Some(ANSWER)).context("set a deadline")?;
            let mut frame = Vec::new();
            put_frame(&mut frame, what, b"");
            // One that ends at this moment needs not be told.
            let _ = stream.write_all(&frame);
            // It closes the connection once it has done so.
            let _ = std::io::Read::read(&mut stream, &mut [0_u8; 1]);
        }
        Ok(())
    }
}
