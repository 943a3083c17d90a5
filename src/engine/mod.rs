//! Containers, images, networks and volumes as objects: what commands and
//! projects call. Joins the three libraries; none of them knows another.

pub mod adopt;
pub mod attach;
mod build_step;
pub mod builders;
pub mod cdi;
pub mod cgroup;
pub mod check;
pub mod commit;
mod connect;
pub mod container;
pub mod copy;
mod create;
pub mod detach;
pub mod diff;
pub mod disk;
pub mod docker_config;
pub mod endpoint_options;
pub mod events;
pub mod exec;
mod export;
pub mod health;
pub mod hosts;
pub mod image;
pub mod inject;
pub mod inspect;
pub mod limits;
pub mod logs;
pub mod mounts;
pub mod names;
pub mod network;
pub mod pause;
pub mod pins;
pub mod ports;
pub mod processes;
pub mod push;
mod reboot;
pub mod remnants;
mod remove;
mod rename;
pub mod request;
pub mod restart;
pub mod roots;
pub mod security;
pub mod start;
pub mod stop;
pub mod update;
pub mod usage;
pub mod volume;
pub mod wait;

use std::path::PathBuf;
use std::sync::OnceLock;

use anyhow::Result;
use umiak_images::store::Store;

pub use container::Container;
pub use roots::Roots;

/// The objects, and where they are kept. Holds no state of its own, so threads may share it.
#[derive(Debug)]
pub struct Engine {
    /// Where everything lies.
    pub roots: Roots,
    registries: PathBuf,
    store: OnceLock<Store>,
    /// The images that a command may use, if not all.
    pins: OnceLock<pins::Pins>,
}

impl Engine {
    /// The engine whose state lies below `roots`; `registries` is the file of registry settings.
    pub fn new(roots: Roots, registries: PathBuf) -> Self {
        Self { roots, registries, store: OnceLock::new(), pins: OnceLock::new() }
    }

    /// The image store, opened at the first use.
    pub fn store(&self) -> Result<&Store> {
        if let Some(store) = self.store.get() {
            return Ok(store);
        }
        let store = Store::open(&self.roots.data)?;
        Ok(self.store.get_or_init(|| store))
    }

    /// All containers, oldest first; damaged ones are named on stderr.
    pub fn containers(&self) -> Result<Vec<Container>> {
        Container::list(&self.roots, &mut |error| crate::note!("warning: {}", crate::failure::one_line(&error)))
    }
}

/// The host's name.
pub fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}
