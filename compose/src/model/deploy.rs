//! `deploy`, `blkio_config` and device requests.

use std::time::Duration;

use indexmap::IndexMap;
use serde::Serialize;

use super::{Extensions, TextMap};
use crate::units::{bytes_text, duration_text};

/// `deploy`: on one host, replicas, resources and the restart policy have a meaning.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Deploy {
    /// `replicated`, `global`, …
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
    /// Number of containers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replicas: Option<u32>,
    /// Labels of the service, not of its containers.
    #[serde(skip_serializing_if = "IndexMap::is_empty")]
    pub labels: TextMap,
    /// How a change is rolled out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub update_config: Option<UpdateConfig>,
    /// How a change is rolled back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rollback_config: Option<UpdateConfig>,
    /// Limits and reservations.
    pub resources: Resources,
    /// Overrides `restart`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restart_policy: Option<RestartPolicyConfig>,
    /// Swarm placement.
    pub placement: Placement,
    /// Swarm endpoint mode.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint_mode: Option<String>,
    /// `x-…` keys.
    #[serde(flatten)]
    pub extensions: Extensions,
}

/// `update_config` and `rollback_config`.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct UpdateConfig {
    /// Containers at a time; 0 is all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parallelism: Option<u64>,
    /// Time between batches.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "duration_text")]
    pub delay: Option<Duration>,
    /// `continue`, `rollback` or `pause`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure_action: Option<String>,
    /// Time to watch an updated container.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "duration_text")]
    pub monitor: Option<Duration>,
    /// Tolerated failures.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_failure_ratio: Option<f64>,
    /// `start-first` or `stop-first`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub order: Option<String>,
    /// `x-…` keys.
    #[serde(flatten)]
    pub extensions: Extensions,
}

/// `resources`.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Resources {
    /// Hard limits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limits: Option<Limits>,
    /// Reservations.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reservations: Option<Reservations>,
    /// `x-…` keys.
    #[serde(flatten)]
    pub extensions: Extensions,
}

/// `resources.limits`.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Limits {
    /// CPUs' worth of time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpus: Option<f64>,
    /// Memory in bytes.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "bytes_text")]
    pub memory: Option<i64>,
    /// Processes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pids: Option<i64>,
    /// `x-…` keys.
    #[serde(flatten)]
    pub extensions: Extensions,
}

/// `resources.reservations`.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Reservations {
    /// CPUs' worth of time (Swarm).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpus: Option<f64>,
    /// Soft memory limit in bytes.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "bytes_text")]
    pub memory: Option<i64>,
    /// Devices, such as GPUs.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<DeviceRequest>,
    /// Swarm's generic resources.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub generic_resources: Vec<GenericResource>,
    /// `x-…` keys.
    #[serde(flatten)]
    pub extensions: Extensions,
}

/// A request for devices; `count` -1 is all.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct DeviceRequest {
    /// What the device must be able to do.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub capabilities: Vec<String>,
    /// Driver.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub driver: Option<String>,
    /// How many; -1 is all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub count: Option<i64>,
    /// Which ones.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub device_ids: Vec<String>,
    /// Options for the driver.
    #[serde(skip_serializing_if = "IndexMap::is_empty")]
    pub options: TextMap,
    /// `x-…` keys.
    #[serde(flatten)]
    pub extensions: Extensions,
}

/// One entry of `generic_resources`.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct GenericResource {
    /// The resource.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub discrete_resource_spec: Option<DiscreteResource>,
}

/// A countable resource of a node.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct DiscreteResource {
    /// Kind of resource.
    pub kind: String,
    /// How many.
    pub value: i64,
}

/// `deploy.restart_policy`.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct RestartPolicyConfig {
    /// `none`, `on-failure` or `any`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub condition: Option<String>,
    /// Time between restarts (Swarm).
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "duration_text")]
    pub delay: Option<Duration>,
    /// Restarts at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_attempts: Option<u64>,
    /// Time after which a start has succeeded (Swarm).
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "duration_text")]
    pub window: Option<Duration>,
    /// `x-…` keys.
    #[serde(flatten)]
    pub extensions: Extensions,
}

/// `deploy.placement` (Swarm).
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Placement {
    /// Constraints.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub constraints: Vec<String>,
    /// Preferences.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub preferences: Vec<PlacementPreference>,
    /// Replicas per node at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_replicas_per_node: Option<u64>,
    /// `x-…` keys.
    #[serde(flatten)]
    pub extensions: Extensions,
}

/// One entry of `placement.preferences`.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct PlacementPreference {
    /// Node label to spread over.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spread: Option<String>,
    /// `x-…` keys.
    #[serde(flatten)]
    pub extensions: Extensions,
}

/// `blkio_config`.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct BlkioConfig {
    /// Weight 10 to 1000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight: Option<u16>,
    /// Weight per device.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub weight_device: Vec<WeightDevice>,
    /// Bytes read per second.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub device_read_bps: Vec<ThrottleDevice>,
    /// Reads per second.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub device_read_iops: Vec<ThrottleDevice>,
    /// Bytes written per second.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub device_write_bps: Vec<ThrottleDevice>,
    /// Writes per second.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub device_write_iops: Vec<ThrottleDevice>,
    /// `x-…` keys.
    #[serde(flatten)]
    pub extensions: Extensions,
}

/// A device and its weight.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct WeightDevice {
    /// Device node on the host.
    pub path: String,
    /// Weight 10 to 1000.
    pub weight: u16,
}

/// A device and a rate.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct ThrottleDevice {
    /// Device node on the host.
    pub path: String,
    /// Bytes or operations per second.
    #[serde(serialize_with = "rate_text")]
    pub rate: i64,
}

fn rate_text<S: serde::Serializer>(rate: &i64, serializer: S) -> Result<S::Ok, S::Error> {
    bytes_text(&Some(*rate), serializer)
}
