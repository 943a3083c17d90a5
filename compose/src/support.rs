//! What umiak does with each key: the one table that the loader, the documentation and `config --support` use.

mod own;
mod rows;

use std::collections::HashMap;

use super::diagnostic::{Diagnostic, Sources, Span};
use super::model::{NetworkDef, Project, Service, VolumeDef, VolumeKind};
use super::node::{Node, Value};
use super::normalise::Used;
pub use rows::{Row, rows};

/// What happens with a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Support {
    /// It does what Docker Compose does.
    Works,
    /// It has no effect here, for this reason; a warning says so.
    Warns(&'static str),
    /// It is understood but cannot be run yet; an error says so.
    Later(&'static str),
    /// It cannot work here, for this reason; an error says so.
    Refused(&'static str),
}

const SWARM: Support = Support::Warns("it only has a meaning in a Swarm");
const WINDOWS: Support = Support::Warns("it only has a meaning on Windows");
const ATTESTATION: Support = Support::Warns("images get no attestations");
const MODEL: Support = Support::Refused("'models' support requires Docker Model plugin, and umiak runs no models");
const DRIVER: Support =
    Support::Refused("Docker Compose does not support secrets.*.driver: only a Swarm has drivers of secrets");
const TEMPLATE: Support =
    Support::Refused("Docker Compose does not support template_driver: only a Swarm has such drivers");

/// Every key by its path, `*` standing for names and list entries. What stands below a key that does not work does not
/// either, whatever its own line says. Some values of a key that works do not: see [`EXCEPT`].
#[rustfmt::skip]
pub const TABLE: &[(&str, Support)] = &[
    ("name", Support::Works),
    ("version", Support::Warns("it is obsolete")),
    ("include", Support::Works),
    ("include.*.env_file", Support::Works),
    ("include.*.path", Support::Works),
    ("include.*.project_directory", Support::Works),
    ("services", Support::Works),
    ("services.*.annotations", Support::Works),
    ("services.*.attach", Support::Works),
    ("services.*.blkio_config", Support::Works),
    ("services.*.blkio_config.device_read_bps", Support::Works),
    ("services.*.blkio_config.device_read_bps.*.path", Support::Works),
    ("services.*.blkio_config.device_read_bps.*.rate", Support::Works),
    ("services.*.blkio_config.device_read_iops", Support::Works),
    ("services.*.blkio_config.device_read_iops.*.path", Support::Works),
    ("services.*.blkio_config.device_read_iops.*.rate", Support::Works),
    ("services.*.blkio_config.device_write_bps", Support::Works),
    ("services.*.blkio_config.device_write_bps.*.path", Support::Works),
    ("services.*.blkio_config.device_write_bps.*.rate", Support::Works),
    ("services.*.blkio_config.device_write_iops", Support::Works),
    ("services.*.blkio_config.device_write_iops.*.path", Support::Works),
    ("services.*.blkio_config.device_write_iops.*.rate", Support::Works),
    ("services.*.blkio_config.weight", Support::Works),
    ("services.*.blkio_config.weight_device", Support::Works),
    ("services.*.blkio_config.weight_device.*.path", Support::Works),
    ("services.*.blkio_config.weight_device.*.weight", Support::Works),
    ("services.*.build", Support::Works),
    ("services.*.build.additional_contexts", Support::Works),
    ("services.*.build.args", Support::Works),
    ("services.*.build.cache_from", Support::Works),
    ("services.*.build.cache_to", Support::Works),
    ("services.*.build.context", Support::Works),
    ("services.*.build.dockerfile", Support::Works),
    ("services.*.build.dockerfile_inline", Support::Works),
    ("services.*.build.entitlements", Support::Works),
    ("services.*.build.extra_hosts", Support::Works),
    ("services.*.build.isolation", WINDOWS),
    ("services.*.build.labels", Support::Works),
    ("services.*.build.network", Support::Works),
    ("services.*.build.no_cache", Support::Works),
    ("services.*.build.no_cache_filter", Support::Works),
    ("services.*.build.platforms", Support::Works),
    ("services.*.build.privileged", Support::Works),
    ("services.*.build.provenance", ATTESTATION),
    ("services.*.build.pull", Support::Works),
    ("services.*.build.sbom", ATTESTATION),
    ("services.*.build.secrets", Support::Works),
    ("services.*.build.secrets.*.gid", Support::Warns("RUN --mount=type=secret says it")),
    ("services.*.build.secrets.*.mode", Support::Warns("RUN --mount=type=secret says it")),
    ("services.*.build.secrets.*.source", Support::Works),
    ("services.*.build.secrets.*.target", Support::Works),
    ("services.*.build.secrets.*.uid", Support::Warns("RUN --mount=type=secret says it")),
    ("services.*.build.shm_size", Support::Works),
    ("services.*.build.ssh", Support::Works),
    ("services.*.build.tags", Support::Works),
    ("services.*.build.target", Support::Works),
    ("services.*.build.ulimits", Support::Works),
    ("services.*.build.ulimits.*.hard", Support::Works),
    ("services.*.build.ulimits.*.soft", Support::Works),
    ("services.*.cap_add", Support::Works),
    ("services.*.cap_drop", Support::Works),
    ("services.*.cgroup", Support::Works),
    ("services.*.cgroup_parent", Support::Works),
    ("services.*.command", Support::Works),
    ("services.*.configs", Support::Works),
    ("services.*.configs.*.gid", Support::Works),
    ("services.*.configs.*.mode", Support::Works),
    ("services.*.configs.*.source", Support::Works),
    ("services.*.configs.*.target", Support::Works),
    ("services.*.configs.*.uid", Support::Works),
    ("services.*.container_name", Support::Works),
    ("services.*.cpu_count", WINDOWS),
    ("services.*.cpu_percent", WINDOWS),
    ("services.*.cpu_period", Support::Works),
    ("services.*.cpu_quota", Support::Works),
    ("services.*.cpu_rt_period", Support::Works),
    ("services.*.cpu_rt_runtime", Support::Works),
    ("services.*.cpu_shares", Support::Works),
    ("services.*.cpus", Support::Works),
    ("services.*.cpuset", Support::Works),
    ("services.*.credential_spec", WINDOWS),
    ("services.*.credential_spec.config", Support::Works),
    ("services.*.credential_spec.file", Support::Works),
    ("services.*.credential_spec.registry", Support::Works),
    ("services.*.depends_on", Support::Works),
    ("services.*.depends_on.*.condition", Support::Works),
    ("services.*.depends_on.*.required", Support::Works),
    ("services.*.depends_on.*.restart", Support::Works),
    ("services.*.deploy", Support::Works),
    ("services.*.deploy.endpoint_mode", SWARM),
    ("services.*.deploy.labels", Support::Works),
    ("services.*.deploy.mode", SWARM),
    ("services.*.deploy.placement", SWARM),
    ("services.*.deploy.placement.constraints", Support::Works),
    ("services.*.deploy.placement.max_replicas_per_node", Support::Works),
    ("services.*.deploy.placement.preferences", Support::Works),
    ("services.*.deploy.placement.preferences.*.spread", Support::Works),
    ("services.*.deploy.replicas", Support::Works),
    ("services.*.deploy.resources", Support::Works),
    ("services.*.deploy.resources.limits", Support::Works),
    ("services.*.deploy.resources.limits.cpus", Support::Works),
    ("services.*.deploy.resources.limits.memory", Support::Works),
    ("services.*.deploy.resources.limits.pids", Support::Works),
    ("services.*.deploy.resources.reservations", Support::Works),
    ("services.*.deploy.resources.reservations.cpus", SWARM),
    ("services.*.deploy.resources.reservations.devices", Support::Works),
    ("services.*.deploy.resources.reservations.devices.*.capabilities", Support::Works),
    ("services.*.deploy.resources.reservations.devices.*.count", Support::Works),
    ("services.*.deploy.resources.reservations.devices.*.device_ids", Support::Works),
    ("services.*.deploy.resources.reservations.devices.*.driver", Support::Works),
    ("services.*.deploy.resources.reservations.devices.*.options", Support::Works),
    ("services.*.deploy.resources.reservations.generic_resources", SWARM),
    ("services.*.deploy.resources.reservations.generic_resources.*.discrete_resource_spec", Support::Works),
    ("services.*.deploy.resources.reservations.generic_resources.*.discrete_resource_spec.kind", Support::Works),
    ("services.*.deploy.resources.reservations.generic_resources.*.discrete_resource_spec.value", Support::Works),
    ("services.*.deploy.resources.reservations.memory", Support::Works),
    ("services.*.deploy.restart_policy", Support::Works),
    ("services.*.deploy.restart_policy.condition", Support::Works),
    ("services.*.deploy.restart_policy.delay", Support::Works),
    ("services.*.deploy.restart_policy.max_attempts", Support::Works),
    ("services.*.deploy.restart_policy.window", Support::Works),
    ("services.*.deploy.rollback_config", SWARM),
    ("services.*.deploy.rollback_config.delay", Support::Works),
    ("services.*.deploy.rollback_config.failure_action", Support::Works),
    ("services.*.deploy.rollback_config.max_failure_ratio", Support::Works),
    ("services.*.deploy.rollback_config.monitor", Support::Works),
    ("services.*.deploy.rollback_config.order", Support::Works),
    ("services.*.deploy.rollback_config.parallelism", Support::Works),
    ("services.*.deploy.update_config", Support::Works),
    ("services.*.deploy.update_config.delay", Support::Works),
    ("services.*.deploy.update_config.failure_action", Support::Works),
    ("services.*.deploy.update_config.max_failure_ratio", Support::Works),
    ("services.*.deploy.update_config.monitor", Support::Works),
    ("services.*.deploy.update_config.order", Support::Works),
    ("services.*.deploy.update_config.parallelism", Support::Works),
    ("services.*.develop", Support::Works),
    ("services.*.develop.watch", Support::Works),
    ("services.*.develop.watch.*.action", Support::Works),
    ("services.*.develop.watch.*.exec", Support::Works),
    ("services.*.develop.watch.*.exec.command", Support::Works),
    ("services.*.develop.watch.*.exec.environment", Support::Works),
    ("services.*.develop.watch.*.exec.privileged", Support::Works),
    ("services.*.develop.watch.*.exec.user", Support::Works),
    ("services.*.develop.watch.*.exec.working_dir", Support::Works),
    ("services.*.develop.watch.*.ignore", Support::Works),
    ("services.*.develop.watch.*.include", Support::Works),
    ("services.*.develop.watch.*.initial_sync", Support::Works),
    ("services.*.develop.watch.*.path", Support::Works),
    ("services.*.develop.watch.*.target", Support::Works),
    ("services.*.device_cgroup_rules", Support::Works),
    ("services.*.devices", Support::Works),
    ("services.*.devices.*.permissions", Support::Works),
    ("services.*.devices.*.source", Support::Works),
    ("services.*.devices.*.target", Support::Works),
    ("services.*.dns", Support::Works),
    ("services.*.dns_opt", Support::Works),
    ("services.*.dns_search", Support::Works),
    ("services.*.domainname", Support::Works),
    ("services.*.entrypoint", Support::Works),
    ("services.*.env_file", Support::Works),
    ("services.*.env_file.*.format", Support::Works),
    ("services.*.env_file.*.path", Support::Works),
    ("services.*.env_file.*.required", Support::Works),
    ("services.*.environment", Support::Works),
    ("services.*.expose", Support::Works),
    ("services.*.extends", Support::Works),
    ("services.*.extends.file", Support::Works),
    ("services.*.extends.service", Support::Works),
    ("services.*.external_links", Support::Works),
    ("services.*.extra_hosts", Support::Works),
    ("services.*.gpus", Support::Works),
    ("services.*.gpus.*.capabilities", Support::Works),
    ("services.*.gpus.*.count", Support::Works),
    ("services.*.gpus.*.device_ids", Support::Works),
    ("services.*.gpus.*.driver", Support::Works),
    ("services.*.gpus.*.options", Support::Works),
    ("services.*.group_add", Support::Works),
    ("services.*.healthcheck", Support::Works),
    ("services.*.healthcheck.disable", Support::Works),
    ("services.*.healthcheck.interval", Support::Works),
    ("services.*.healthcheck.retries", Support::Works),
    ("services.*.healthcheck.start_interval", Support::Works),
    ("services.*.healthcheck.start_period", Support::Works),
    ("services.*.healthcheck.test", Support::Works),
    ("services.*.healthcheck.timeout", Support::Works),
    ("services.*.hostname", Support::Works),
    ("services.*.image", Support::Works),
    ("services.*.init", Support::Works),
    ("services.*.ipc", Support::Works),
    ("services.*.isolation", WINDOWS),
    ("services.*.label_file", Support::Works),
    ("services.*.labels", Support::Works),
    ("services.*.links", Support::Works),
    ("services.*.logging", Support::Works),
    ("services.*.logging.driver", Support::Works),
    ("services.*.logging.options", Support::Works),
    ("services.*.mac_address", Support::Works),
    ("services.*.mem_limit", Support::Works),
    ("services.*.mem_reservation", Support::Works),
    ("services.*.mem_swappiness", Support::Works),
    ("services.*.memswap_limit", Support::Works),
    ("services.*.models", MODEL),
    ("services.*.models.*.endpoint_var", Support::Works),
    ("services.*.models.*.model_var", Support::Works),
    ("services.*.network_mode", Support::Works),
    ("services.*.networks", Support::Works),
    ("services.*.networks.*.aliases", Support::Works),
    ("services.*.networks.*.driver_opts", Support::Works),
    ("services.*.networks.*.gw_priority", Support::Works),
    ("services.*.networks.*.interface_name", Support::Works),
    ("services.*.networks.*.ipv4_address", Support::Works),
    ("services.*.networks.*.ipv6_address", Support::Works),
    ("services.*.networks.*.link_local_ips", Support::Works),
    ("services.*.networks.*.mac_address", Support::Works),
    ("services.*.networks.*.priority", Support::Works),
    ("services.*.oom_kill_disable", Support::Works),
    ("services.*.oom_score_adj", Support::Works),
    ("services.*.pid", Support::Works),
    ("services.*.pids_limit", Support::Works),
    ("services.*.platform", Support::Works),
    ("services.*.ports", Support::Works),
    ("services.*.ports.*.app_protocol", Support::Works),
    ("services.*.ports.*.host_ip", Support::Works),
    ("services.*.ports.*.mode", Support::Works),
    ("services.*.ports.*.name", Support::Works),
    ("services.*.ports.*.protocol", Support::Works),
    ("services.*.ports.*.published", Support::Works),
    ("services.*.ports.*.target", Support::Works),
    ("services.*.post_start", Support::Works),
    ("services.*.post_start.*.command", Support::Works),
    ("services.*.post_start.*.environment", Support::Works),
    ("services.*.post_start.*.privileged", Support::Works),
    ("services.*.post_start.*.user", Support::Works),
    ("services.*.post_start.*.working_dir", Support::Works),
    ("services.*.pre_start", Support::Works),
    ("services.*.pre_start.*.command", Support::Works),
    ("services.*.pre_start.*.environment", Support::Works),
    ("services.*.pre_start.*.image", Support::Works),
    ("services.*.pre_start.*.per_replica", Support::Works),
    ("services.*.pre_start.*.privileged", Support::Works),
    ("services.*.pre_start.*.user", Support::Works),
    ("services.*.pre_start.*.working_dir", Support::Works),
    ("services.*.pre_stop", Support::Works),
    ("services.*.pre_stop.*.command", Support::Works),
    ("services.*.pre_stop.*.environment", Support::Works),
    ("services.*.pre_stop.*.privileged", Support::Works),
    ("services.*.pre_stop.*.user", Support::Works),
    ("services.*.pre_stop.*.working_dir", Support::Works),
    ("services.*.privileged", Support::Works),
    ("services.*.profiles", Support::Works),
    ("services.*.provider", Support::Works),
    ("services.*.provider.options", Support::Works),
    ("services.*.provider.type", Support::Works),
    ("services.*.pull_policy", Support::Works),
    ("services.*.pull_refresh_after", Support::Warns("Docker Compose has no meaning for it either")),
    ("services.*.read_only", Support::Works),
    ("services.*.restart", Support::Works),
    ("services.*.runtime", Support::Works),
    ("services.*.scale", Support::Works),
    ("services.*.secrets", Support::Works),
    ("services.*.secrets.*.gid", Support::Works),
    ("services.*.secrets.*.mode", Support::Works),
    ("services.*.secrets.*.source", Support::Works),
    ("services.*.secrets.*.target", Support::Works),
    ("services.*.secrets.*.uid", Support::Works),
    ("services.*.security_opt", Support::Works),
    ("services.*.shm_size", Support::Works),
    ("services.*.stdin_open", Support::Works),
    ("services.*.stop_grace_period", Support::Works),
    ("services.*.stop_signal", Support::Works),
    ("services.*.storage_opt", Support::Warns("sizes of containers need quotas on the file system below their layers, which umiak does not set")),
    ("services.*.sysctls", Support::Works),
    ("services.*.tmpfs", Support::Works),
    ("services.*.tty", Support::Works),
    ("services.*.ulimits", Support::Works),
    ("services.*.ulimits.*.hard", Support::Works),
    ("services.*.ulimits.*.soft", Support::Works),
    ("services.*.use_api_socket", Support::Refused("there is no daemon, and so no socket of its API that a container could be given")),
    ("services.*.user", Support::Works),
    ("services.*.userns_mode", Support::Works),
    ("services.*.uts", Support::Works),
    ("services.*.volumes", Support::Works),
    ("services.*.volumes.*.bind", Support::Works),
    ("services.*.volumes.*.bind.create_host_path", Support::Works),
    ("services.*.volumes.*.bind.propagation", Support::Works),
    ("services.*.volumes.*.bind.recursive", Support::Works),
    ("services.*.volumes.*.bind.selinux", Support::Works),
    ("services.*.volumes.*.consistency", Support::Warns("it only has a meaning on macOS")),
    ("services.*.volumes.*.image", Support::Works),
    ("services.*.volumes.*.image.subpath", Support::Works),
    ("services.*.volumes.*.read_only", Support::Works),
    ("services.*.volumes.*.source", Support::Works),
    ("services.*.volumes.*.target", Support::Works),
    ("services.*.volumes.*.tmpfs", Support::Works),
    ("services.*.volumes.*.tmpfs.mode", Support::Works),
    ("services.*.volumes.*.tmpfs.size", Support::Works),
    ("services.*.volumes.*.type", Support::Works),
    ("services.*.volumes.*.volume", Support::Works),
    ("services.*.volumes.*.volume.labels", Support::Works),
    ("services.*.volumes.*.volume.nocopy", Support::Works),
    ("services.*.volumes.*.volume.subpath", Support::Works),
    ("services.*.volumes_from", Support::Works),
    ("services.*.working_dir", Support::Works),
    ("networks", Support::Works),
    ("networks.*.attachable", SWARM),
    ("networks.*.driver", Support::Works),
    ("networks.*.driver_opts", Support::Works),
    ("networks.*.enable_ipv4", Support::Works),
    ("networks.*.enable_ipv6", Support::Works),
    ("networks.*.external", Support::Works),
    ("networks.*.external.name", Support::Works),
    ("networks.*.internal", Support::Works),
    ("networks.*.ipam", Support::Works),
    ("networks.*.ipam.config", Support::Works),
    ("networks.*.ipam.config.*.aux_addresses", Support::Works),
    ("networks.*.ipam.config.*.gateway", Support::Works),
    ("networks.*.ipam.config.*.ip_range", Support::Works),
    ("networks.*.ipam.config.*.subnet", Support::Works),
    ("networks.*.ipam.driver", Support::Works),
    ("networks.*.ipam.options", Support::Warns("the IPAM drivers default and null have no options")),
    ("networks.*.labels", Support::Works),
    ("networks.*.name", Support::Works),
    ("volumes", Support::Works),
    ("volumes.*.driver", Support::Works),
    ("volumes.*.driver_opts", Support::Works),
    ("volumes.*.external", Support::Works),
    ("volumes.*.external.name", Support::Works),
    ("volumes.*.labels", Support::Works),
    ("volumes.*.name", Support::Works),
    ("secrets", Support::Works),
    ("secrets.*.driver", DRIVER),
    ("secrets.*.driver_opts", DRIVER),
    ("secrets.*.environment", Support::Works),
    ("secrets.*.external", Support::Refused("unsupported external secret: only a Swarm keeps secrets outside of a project")),
    ("secrets.*.external.name", Support::Works),
    ("secrets.*.file", Support::Works),
    ("secrets.*.labels", Support::Works),
    ("secrets.*.name", Support::Works),
    ("secrets.*.template_driver", TEMPLATE),
    ("configs", Support::Works),
    ("configs.*.content", Support::Works),
    ("configs.*.environment", Support::Works),
    ("configs.*.external", Support::Refused("unsupported external config: only a Swarm keeps configs outside of a project")),
    ("configs.*.external.name", Support::Works),
    ("configs.*.file", Support::Works),
    ("configs.*.labels", Support::Works),
    ("configs.*.name", Support::Works),
    ("configs.*.template_driver", TEMPLATE),
    ("models", MODEL),
    ("models.*.context_size", Support::Works),
    ("models.*.model", Support::Works),
    ("models.*.name", Support::Works),
    ("models.*.runtime_flags", Support::Works),
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
    let used = Used::of(project);
    let mut walk = Walk { table, sources, findings: Findings::default() };
    for (section, entry) in tree.as_map().into_iter().flatten() {
        let takes_part = |name: &String| match section.as_str() {
            "services" => project.services.contains_key(name),
            section => used.has(section, name),
        };
        for (name, entry) in entry.node.as_map().into_iter().flatten().filter(|(name, _)| takes_part(name)) {
            let path = format!("{section}.{name}");
            walk.node(&entry.node, &format!("{section}.*"), &path);
            if section == "services" {
                walk.own_keys(&entry.node, &path);
            }
        }
    }
    walk.values(project, &used);
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
                        None | Some(Support::Works) => self.node(&entry.node, &pattern, &path),
                        Some(support) => self.found(entry.key, &path, support),
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

    fn found(&mut self, at: Span, path: &str, support: Support) {
        let place = self.sources.place(at);
        let error = |message| Diagnostic::error(message).at(place.clone());
        match support {
            Support::Works => {}
            Support::Warns(reason) => {
                let message = format!("{path} is ignored: {reason}");
                self.findings.warnings.push(Diagnostic::warning(message).at(place));
            }
            Support::Later(what) => {
                self.findings.later.push(error(format!("{path}: {what}: not supported yet by this version of umiak")));
            }
            Support::Refused(reason) => self.findings.later.push(error(format!("{path}: {reason}"))),
        }
    }

    fn values(&mut self, project: &Project, used: &Used<'_>) {
        for except in EXCEPT {
            let (section, key) = except.key.split_once(".*.").unwrap_or((except.key, ""));
            let path = |name: &str| format!("{section}.{name}.{}", key.split(".*").next().unwrap_or(key));
            match except.found {
                Found::Service(found) => {
                    let top = key.split('.').next().unwrap_or(key);
                    for service in project.services.values().filter(|service| found(service)) {
                        self.found(service.at(top), &path(&service.name), except.then);
                    }
                }
                Found::Network(found) => {
                    let networks = project.networks.iter().filter(|(name, _)| used.has("networks", name));
                    for (name, network) in networks.filter(|(_, network)| found(network)) {
                        self.found(network.span, &path(name), except.then);
                    }
                }
                Found::Volume(found) => {
                    let volumes = project.volumes.iter().filter(|(name, _)| used.has("volumes", name));
                    for (name, volume) in volumes.filter(|(_, volume)| found(volume)) {
                        self.found(volume.span, &path(name), except.then);
                    }
                }
            }
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

/// A key that works, but not with every value.
#[derive(Debug, Clone, Copy)]
pub struct Except {
    /// Path of the key, as in [`TABLE`].
    pub key: &'static str,
    /// Which values do not work.
    pub values: &'static str,
    /// What happens with them.
    pub then: Support,
    found: Found,
}

/// Whether a part of the project has such a value.
#[derive(Debug, Clone, Copy)]
enum Found {
    Service(fn(&Service) -> bool),
    Network(fn(&NetworkDef) -> bool),
    Volume(fn(&VolumeDef) -> bool),
}

const fn service(key: &'static str, values: &'static str, then: Support, found: fn(&Service) -> bool) -> Except {
    Except { key, values, then, found: Found::Service(found) }
}

/// Values of working keys that do not work.
#[rustfmt::skip]
pub const EXCEPT: &[Except] = &[
    service("services.*.logging.driver", "all but json-file, local, none, journald and syslog", Support::Later("log drivers other than json-file, local, none, journald and syslog"), |s| log_driver(s).is_some_and(|driver| !matches!(driver, "" | "json-file" | "local" | "none" | "journald" | "syslog"))),
    service("services.*.userns_mode", "all but host", Support::Warns("containers have the host's user namespace"), |s| s.userns_mode.as_deref().is_some_and(|mode| mode != "host")),
    service("services.*.volumes.*.type", "npipe and cluster", Support::Refused("such volumes exist on Windows and in a Swarm only"), |s| s.volumes.iter().any(|volume| matches!(volume.kind, VolumeKind::Npipe | VolumeKind::Cluster))),
    Except { key: "networks.*.driver", values: "all but bridge, macvlan, ipvlan, host and none", then: Support::Refused("there are no plugins with other drivers"), found: Found::Network(|n| !n.external && !matches!(n.driver.as_deref().unwrap_or("bridge"), "bridge" | "host" | "ipvlan" | "macvlan" | "none")) },
    Except { key: "volumes.*.driver", values: "all but local", then: Support::Refused("there are no plugins with other drivers"), found: Found::Volume(|v| !v.external && v.driver.as_deref().unwrap_or("local") != "local") },
];

fn log_driver(service: &Service) -> Option<&str> {
    service.logging.as_ref()?.driver.as_deref()
}
