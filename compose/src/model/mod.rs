//! The model that [`load`](super::load) gives: every value typed, every reference checked, names resolved.
//!
//! Serialising a [`Project`] gives what `docker compose config --format json` prints; fields that are not part of the
//! file (positions, resolved helpers) are skipped.

mod build;
mod deploy;
mod mounts;
mod network;
mod resources;
pub mod select;
mod service;
mod service_values;

use std::collections::BTreeMap;
use std::path::PathBuf;

use indexmap::IndexMap;
use serde::Serialize;

pub use build::{Build, Develop, SshKey, Watch, WatchAction};
pub use deploy::{
    BlkioConfig, Deploy, DeviceRequest, DiscreteResource, GenericResource, Limits, Placement, PlacementPreference,
    Reservations, Resources, RestartPolicyConfig, ThrottleDevice, UpdateConfig, WeightDevice,
};
pub use mounts::{BindOptions, FileMount, ImageOptions, ServiceVolume, TmpfsOptions, VolumeKind, VolumeOptions};
pub use network::{NetworkMode, PortMapping, PortRange, Protocol, ServiceNetwork};
pub use resources::{Cidr, FileDef, FileSource, Ipam, IpamPool, ModelDef, NetworkDef, VolumeDef};
pub use service::Service;
pub use service_values::{
    Condition, CredentialSpec, Dependency, Device, EnvFile, Healthcheck, Hook, Logging, Namespace, PreStart, Provider,
    PullPolicy, RestartPolicy, ServiceModel, Ulimit,
};

use super::diagnostic::{Diagnostic, Sources};

/// A loaded project.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Project {
    /// Project name: `[a-z0-9][a-z0-9_-]*`.
    pub name: String,
    /// The directory that relative paths start from.
    #[serde(skip)]
    pub working_dir: PathBuf,
    /// The Compose files, absolute, in the order they were merged (`-` for standard input).
    #[serde(skip)]
    pub files: Vec<PathBuf>,
    /// The environment files that fed interpolation and were named with `--env-file`, absolute.
    #[serde(skip)]
    pub env_files: Vec<PathBuf>,
    /// What `${…}` saw: the process environment over the environment files.
    #[serde(skip)]
    pub environment: BTreeMap<String, String>,
    /// The services that take part, in file order.
    pub services: IndexMap<String, Service>,
    /// Services left out because none of their profiles is active.
    #[serde(skip)]
    pub disabled_services: IndexMap<String, Service>,
    /// The networks, by key.
    #[serde(skip_serializing_if = "IndexMap::is_empty")]
    pub networks: IndexMap<String, NetworkDef>,
    /// The volumes, by key.
    #[serde(skip_serializing_if = "IndexMap::is_empty")]
    pub volumes: IndexMap<String, VolumeDef>,
    /// The configs, by key.
    #[serde(skip_serializing_if = "IndexMap::is_empty")]
    pub configs: IndexMap<String, FileDef>,
    /// The secrets, by key.
    #[serde(skip_serializing_if = "IndexMap::is_empty")]
    pub secrets: IndexMap<String, FileDef>,
    /// The AI models, by key.
    #[serde(skip_serializing_if = "IndexMap::is_empty")]
    pub models: IndexMap<String, ModelDef>,
    /// Active profiles.
    #[serde(skip)]
    pub profiles: Vec<String>,
    /// The `x-…` keys of the top level.
    #[serde(flatten)]
    pub extensions: Extensions,
    /// Everything that should be said once about these files.
    #[serde(skip)]
    pub warnings: Vec<Diagnostic>,
    /// Keys of taking-part services that are understood but not built at run time yet; empty when
    /// [`LoadOptions::for_running`](super::LoadOptions::for_running) is set, where they are errors.
    #[serde(skip)]
    pub unsupported: Vec<Diagnostic>,
    /// The texts that positions point into.
    #[serde(skip)]
    pub sources: Sources,
}

/// `x-…` keys, kept as they are.
pub type Extensions = IndexMap<String, serde_json::Value>;
/// Text by key, in file order.
pub type TextMap = IndexMap<String, String>;

fn is_false(value: &bool) -> bool {
    !*value
}

#[allow(clippy::ref_option, reason = "as serde calls it")]
fn no_text(value: &Option<String>) -> bool {
    value.as_ref().is_none_or(String::is_empty)
}
