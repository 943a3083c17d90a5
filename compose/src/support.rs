//! What umiak does with each key: the one table that the loader, the documentation and `config --support` use.

use std::collections::HashMap;

use super::diagnostic::{Diagnostic, Sources, Span};
use super::model::Project;
use super::model::{Condition, Namespace, PullPolicy, RestartPolicy, Service, VolumeKind};
use super::node::{Node, Value};

/// What happens with a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Support {
    /// It does what Docker Compose does.
    Works,
    /// It is read and kept; the command that needs it says that it cannot be done yet.
    WhenUsed(&'static str),
    /// It has no effect here, for this reason; a warning says so.
    Warns(&'static str),
    /// It is understood but cannot be run yet; an error says so.
    Later(&'static str),
}

const SWARM: Support = Support::Warns("it only has a meaning in a Swarm");
const WINDOWS: Support = Support::Warns("it only has a meaning on Windows");
const GPU: Support = Support::Later("device requests such as GPUs");
const HOOK: Support = Support::Later("commands run at a container's start or stop");
const MODEL: Support = Support::Later("AI models");
const RT: Support = Support::Later("real-time scheduling limits");

/// Every key by its path, `*` standing for names and list entries; a key below one of the table is treated like it.
/// Some values of a key that works do not: see [`values`].
pub const TABLE: &[(&str, Support)] = &[
    ("name", Support::Works),
    ("version", Support::Warns("it is obsolete")),
    ("include", Support::Works),
    ("services", Support::Works),
    ("services.*.annotations", Support::Works),
    ("services.*.attach", Support::Works),
    ("services.*.blkio_config", Support::Works),
    ("services.*.build", Support::WhenUsed("building images")),
    ("services.*.cap_add", Support::Works),
    ("services.*.cap_drop", Support::Works),
    ("services.*.cgroup", Support::Works),
    ("services.*.cgroup_parent", Support::Later("a parent cgroup of one's own")),
    ("services.*.command", Support::Works),
    ("services.*.configs", Support::Works),
    ("services.*.container_name", Support::Works),
    ("services.*.cpu_count", WINDOWS),
    ("services.*.cpu_percent", WINDOWS),
    ("services.*.cpu_period", Support::Works),
    ("services.*.cpu_quota", Support::Works),
    ("services.*.cpu_rt_period", RT),
    ("services.*.cpu_rt_runtime", RT),
    ("services.*.cpu_shares", Support::Works),
    ("services.*.cpus", Support::Works),
    ("services.*.cpuset", Support::Works),
    ("services.*.credential_spec", WINDOWS),
    ("services.*.depends_on", Support::Works),
    ("services.*.deploy", Support::Works),
    ("services.*.deploy.endpoint_mode", SWARM),
    ("services.*.deploy.mode", SWARM),
    ("services.*.deploy.placement", SWARM),
    ("services.*.deploy.resources.reservations.cpus", SWARM),
    ("services.*.deploy.resources.reservations.devices", GPU),
    ("services.*.deploy.resources.reservations.generic_resources", SWARM),
    ("services.*.deploy.restart_policy", Support::Works),
    ("services.*.deploy.restart_policy.delay", SWARM),
    ("services.*.deploy.restart_policy.window", SWARM),
    ("services.*.deploy.rollback_config", SWARM),
    ("services.*.deploy.update_config", SWARM),
    ("services.*.develop", Support::WhenUsed("watching files")),
    ("services.*.device_cgroup_rules", Support::Works),
    ("services.*.devices", Support::Works),
    ("services.*.dns", Support::Works),
    ("services.*.dns_opt", Support::Works),
    ("services.*.dns_search", Support::Works),
    ("services.*.domainname", Support::Works),
    ("services.*.entrypoint", Support::Works),
    ("services.*.env_file", Support::Works),
    ("services.*.environment", Support::Works),
    ("services.*.expose", Support::Works),
    ("services.*.extends", Support::Works),
    ("services.*.external_links", Support::Later("links to containers outside the project")),
    ("services.*.extra_hosts", Support::Works),
    ("services.*.gpus", GPU),
    ("services.*.group_add", Support::Works),
    ("services.*.healthcheck", Support::Works),
    ("services.*.hostname", Support::Works),
    ("services.*.image", Support::Works),
    ("services.*.init", Support::Works),
    ("services.*.ipc", Support::Works),
    ("services.*.isolation", WINDOWS),
    ("services.*.label_file", Support::Works),
    ("services.*.labels", Support::Works),
    ("services.*.links", Support::Works),
    ("services.*.logging", Support::Works),
    ("services.*.mac_address", Support::Works),
    ("services.*.mem_limit", Support::Works),
    ("services.*.mem_reservation", Support::Works),
    ("services.*.mem_swappiness", Support::Works),
    ("services.*.memswap_limit", Support::Works),
    ("services.*.models", MODEL),
    ("services.*.network_mode", Support::Works),
    ("services.*.networks", Support::Works),
    ("services.*.networks.*.driver_opts", Support::Later("driver options of one attachment")),
    ("services.*.networks.*.gw_priority", Support::Works),
    ("services.*.networks.*.interface_name", Support::Works),
    ("services.*.networks.*.link_local_ips", Support::Later("link-local addresses")),
    ("services.*.oom_kill_disable", Support::Later("switching the OOM killer off")),
    ("services.*.oom_score_adj", Support::Works),
    ("services.*.pid", Support::Works),
    ("services.*.pids_limit", Support::Works),
    ("services.*.platform", Support::Works),
    ("services.*.ports", Support::Works),
    ("services.*.post_start", HOOK),
    ("services.*.pre_stop", HOOK),
    ("services.*.privileged", Support::Works),
    ("services.*.profiles", Support::Works),
    ("services.*.provider", Support::Later("services of an external provider")),
    ("services.*.pull_policy", Support::Works),
    ("services.*.read_only", Support::Works),
    ("services.*.restart", Support::Works),
    ("services.*.runtime", Support::Warns("there is one runtime here")),
    ("services.*.scale", Support::Works),
    ("services.*.secrets", Support::Works),
    ("services.*.security_opt", Support::Works),
    ("services.*.shm_size", Support::Works),
    ("services.*.stdin_open", Support::Works),
    ("services.*.stop_grace_period", Support::Works),
    ("services.*.stop_signal", Support::Works),
    ("services.*.storage_opt", Support::Later("storage options")),
    ("services.*.sysctls", Support::Works),
    ("services.*.tmpfs", Support::Works),
    ("services.*.tty", Support::Works),
    ("services.*.ulimits", Support::Works),
    ("services.*.use_api_socket", Support::Later("an API socket")),
    ("services.*.user", Support::Works),
    ("services.*.userns_mode", Support::Works),
    ("services.*.uts", Support::Works),
    ("services.*.volumes", Support::Works),
    ("services.*.volumes.*.consistency", Support::Warns("it only has a meaning on macOS")),
    ("services.*.volumes_from", Support::Later("mounting another container's volumes")),
    ("services.*.working_dir", Support::Works),
    ("networks", Support::Works),
    ("networks.*.attachable", SWARM),
    ("networks.*.driver", Support::Works),
    ("volumes", Support::Works),
    ("volumes.*.driver", Support::Works),
    ("secrets", Support::Works),
    ("secrets.*.driver", Support::Later("secret drivers")),
    ("secrets.*.driver_opts", Support::Later("secret drivers")),
    ("secrets.*.external", Support::Later("secrets from outside the project")),
    ("secrets.*.template_driver", Support::Later("template drivers")),
    ("configs", Support::Works),
    ("configs.*.external", Support::Later("configs from outside the project")),
    ("configs.*.template_driver", Support::Later("template drivers")),
    ("models", MODEL),
];

/// What was found in the parts of a project that take part.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    /// Keys without effect.
    pub warnings: Vec<Diagnostic>,
    /// Keys that cannot be run yet.
    pub later: Vec<Diagnostic>,
}

/// Looks up every key of the tree that belongs to a service, network, volume, secret or config of the project.
pub(crate) fn check(project: &Project, tree: &Node, sources: &Sources) -> Findings {
    let table = TABLE.iter().copied().collect();
    let mut walk = Walk { table, sources, findings: Findings::default() };
    for (section, entry) in tree.as_map().into_iter().flatten() {
        let takes_part = |name: &String| match section.as_str() {
            "services" => project.services.contains_key(name),
            "networks" => project.services.values().any(|service| service.networks.contains_key(name)),
            _ => true,
        };
        for (name, entry) in entry.node.as_map().into_iter().flatten().filter(|(name, _)| takes_part(name)) {
            walk.node(&entry.node, &format!("{section}.*"), &format!("{section}.{name}"));
        }
    }
    for service in project.services.values() {
        walk.values(service);
    }
    for (name, network) in &project.networks {
        let driver = network.driver.as_deref().unwrap_or("bridge");
        if !matches!(driver, "bridge" | "host" | "none") && !network.external {
            walk.later(network.span, &format!("networks.{name}.driver"), &format!("networks with the driver {driver}"));
        }
    }
    for (name, volume) in &project.volumes {
        let driver = volume.driver.as_deref().unwrap_or("local");
        if driver != "local" && !volume.external {
            walk.later(volume.span, &format!("volumes.{name}.driver"), &format!("volumes with the driver {driver}"));
        }
    }
    walk.findings
}

struct Walk<'a> {
    table: HashMap<&'static str, Support>,
    sources: &'a Sources,
    findings: Findings,
}

impl Walk<'_> {
    fn node(&mut self, node: &Node, pattern: &str, path: &str) {
        match &node.value {
            Value::Map(map) => {
                let named = matches!(pattern, "services.*.networks" | "services.*.depends_on");
                for (key, entry) in map.iter().filter(|(_, entry)| !is_off(&entry.node)) {
                    let pattern = format!("{pattern}.{}", if named { "*" } else { key });
                    let path = format!("{path}.{key}");
                    match self.table.get(pattern.as_str()).copied() {
                        Some(Support::Later(what)) => self.later(entry.key, &path, what),
                        Some(Support::Warns(reason)) => {
                            let place = self.sources.place(entry.key);
                            let message = format!("{path} is ignored: {reason}");
                            self.findings.warnings.push(Diagnostic::warning(message).at(place));
                        }
                        _ => self.node(&entry.node, &pattern, &path),
                    }
                }
            }
            Value::List(list) => {
                for (index, node) in list.iter().enumerate() {
                    self.node(node, &format!("{pattern}.*"), &format!("{path}[{index}]"));
                }
            }
            _ => {}
        }
    }

    fn later(&mut self, at: Span, path: &str, what: &str) {
        let message = format!("{path}: {what}: not supported yet by this version of umiak");
        self.findings.later.push(Diagnostic::error(message).at(self.sources.place(at)));
    }

    /// Values of working keys that cannot be run yet.
    fn values(&mut self, service: &Service) {
        for (key, what) in values(service) {
            let path = format!("services.{}.{key}", service.name);
            let top = key.split(['.', '[']).next().unwrap_or(key);
            self.later(service.at(top), &path, what);
        }
    }
}

/// Whether a value says "no": then its key has no effect to speak of.
fn is_off(node: &Node) -> bool {
    match &node.value {
        Value::Null | Value::Bool(false) => true,
        Value::Text(text) => text.is_empty(),
        Value::List(list) => list.is_empty(),
        Value::Map(map) => map.is_empty(),
        _ => false,
    }
}

/// The keys of a service that work, but not with the value they have, and what would be needed.
pub fn values(service: &Service) -> Vec<(&'static str, &'static str)> {
    let mut found = Vec::new();
    let conditions = service.depends_on.values().map(|dependency| dependency.condition);
    for condition in conditions {
        match condition {
            Condition::Started => {}
            Condition::Healthy => found.push(("depends_on", "waiting for a service to be healthy")),
            Condition::CompletedSuccessfully => found.push(("depends_on", "waiting for a service to complete")),
        }
    }
    if service.healthcheck.as_ref().is_some_and(|check| !check.is_off()) {
        found.push(("healthcheck", "health checks"));
    }
    if service.restart.is_some_and(|policy| policy != RestartPolicy::No) {
        found.push(("restart", "restarting containers"));
    }
    let condition = service.deploy.as_ref().and_then(|deploy| deploy.restart_policy.as_ref()?.condition.as_deref());
    if condition.is_some_and(|condition| condition != "none") {
        found.push(("deploy.restart_policy", "restarting containers"));
    }
    if service.userns_mode.as_deref().is_some_and(|mode| mode != "host") {
        found.push(("userns_mode", "user namespaces"));
    }
    if service.volumes.iter().any(|volume| volume.kind == VolumeKind::Image) {
        found.push(("volumes", "mounting images"));
    }
    if service.volumes.iter().any(|volume| matches!(volume.kind, VolumeKind::Npipe | VolumeKind::Cluster)) {
        found.push(("volumes", "npipe and cluster volumes"));
    }
    if service.volumes.iter().any(|volume| volume.volume.as_ref().is_some_and(|options| !options.labels.is_empty())) {
        found.push(("volumes", "labels of a volume that a mount makes"));
    }
    match service.pull_policy {
        Some(PullPolicy::Build) => found.push(("pull_policy", "building images")),
        Some(PullPolicy::Daily | PullPolicy::Weekly | PullPolicy::Every(..)) => {
            found.push(("pull_policy", "pulling images by their age"));
        }
        _ => {}
    }
    if let Some(driver) = service.logging.as_ref().and_then(|logging| logging.driver.as_deref())
        && !matches!(driver, "json-file" | "local" | "none")
    {
        found.push(("logging.driver", "log drivers other than json-file, local and none"));
    }
    if matches!(service.cgroup, Some(Namespace::Service(_) | Namespace::Container(_))) {
        found.push(("cgroup", "sharing a cgroup namespace"));
    }
    found.dedup();
    found
}
