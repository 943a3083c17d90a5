//! What a container asks of the host: `HostConfig` of `docker inspect`.

use serde_json::{Map, Value, json};
use umiak_runtime::config::{Config as Runtime, DeviceRate, MountKind, Namespace, Seccomp, Tmpfs};
use umiak_runtime::spec::paths;

use super::{mounts, network_mode, object, or_null, put_behind};
use crate::engine::container::{Config, Container};
use crate::engine::ports;

pub(super) fn host_config(container: &Container) -> Value {
    let config = &container.config;
    let (runtime, limits) = (&config.runtime, &config.runtime.limits);
    let open = runtime.privileged || runtime.unmask_system_paths;
    let paths = |list: Vec<String>| if open { Value::Null } else { json!(list) };
    let rates = |list: &[DeviceRate]| -> Value {
        list.iter().map(|device| json!({ "Path": device.path, "Rate": device.rate })).collect()
    };
    let swap = limits.memory_swap.or_else(|| limits.memory.and_then(|memory| i64::try_from(memory * 2).ok()));
    let mut value = object([
        ("Binds", mounts::binds(config)),
        ("ContainerIDFile", json!("")),
        ("LogConfig", json!({ "Type": config.log.driver, "Config": log_options(config) })),
        ("NetworkMode", json!(network_mode(&config.network))),
        ("PortBindings", bindings(config)),
        (
            "RestartPolicy",
            json!({ "Name": config.restart.condition.name(), "MaximumRetryCount": config.restart.max_retries }),
        ),
        ("AutoRemove", json!(config.auto_remove)),
        ("VolumeDriver", json!("")),
        ("VolumesFrom", Value::Null),
        ("ConsoleSize", json!([0, 0])),
        ("CapAdd", or_null(&capabilities(&runtime.cap_add))),
        ("CapDrop", or_null(&capabilities(&runtime.cap_drop))),
        ("CgroupnsMode", json!(namespace(&runtime.cgroup_ns))),
        ("Dns", json!(config.dns.servers)),
        ("DnsOptions", json!(config.dns.options)),
        ("DnsSearch", json!(config.dns.search)),
        (
            "ExtraHosts",
            or_null(&config.extra_hosts.iter().map(|(host, ip)| format!("{host}:{ip}")).collect::<Vec<_>>()),
        ),
        ("GroupAdd", or_null(&runtime.group_add)),
        ("IpcMode", json!(joined(config, "ipc").unwrap_or_else(|| namespace(&runtime.ipc_ns)))),
        ("Cgroup", json!("")),
        ("Links", Value::Null),
        ("OomScoreAdj", json!(limits.oom_score_adj)),
        ("PidMode", json!(joined(config, "pid").unwrap_or_else(|| shared(&runtime.pid_ns)))),
        ("Privileged", json!(runtime.privileged)),
        ("PublishAllPorts", json!(config.asked.publish_all)),
        ("ReadonlyRootfs", json!(runtime.rootfs.read_only)),
        ("SecurityOpt", or_null(&security(runtime))),
        ("UTSMode", json!(shared(&runtime.uts_ns))),
        ("UsernsMode", json!("")),
        ("ShmSize", json!(runtime.shm_size)),
        ("Runtime", json!("umiak")),
        ("Isolation", json!("")),
        ("CpuShares", json!(limits.cpu_shares.unwrap_or(0))),
        ("Memory", json!(limits.memory.unwrap_or(0))),
        ("NanoCpus", json!(limits.nano_cpus.unwrap_or(0))),
        ("CgroupParent", json!(cgroup_parent(config))),
        ("BlkioWeight", json!(limits.blkio_weight.unwrap_or(0))),
        (
            "BlkioWeightDevice",
            limits.blkio_weight_device.iter().map(|d| json!({ "Path": d.path, "Weight": d.weight })).collect(),
        ),
        ("BlkioDeviceReadBps", rates(&limits.blkio_read_bps)),
        ("BlkioDeviceWriteBps", rates(&limits.blkio_write_bps)),
        ("BlkioDeviceReadIOps", rates(&limits.blkio_read_iops)),
        ("BlkioDeviceWriteIOps", rates(&limits.blkio_write_iops)),
        ("CpuPeriod", json!(limits.cpu_period.unwrap_or(0))),
        ("CpuQuota", json!(limits.cpu_quota.unwrap_or(0))),
        ("CpuRealtimePeriod", json!(0)),
        ("CpuRealtimeRuntime", json!(0)),
        ("CpusetCpus", json!(limits.cpuset_cpus)),
        ("CpusetMems", json!(limits.cpuset_mems)),
        ("Devices", devices(runtime)),
        ("DeviceCgroupRules", or_null(&runtime.device_cgroup_rules)),
        ("DeviceRequests", Value::Null),
        ("MemoryReservation", json!(limits.memory_reservation.unwrap_or(0))),
        ("MemorySwap", json!(swap.unwrap_or(0))),
        ("MemorySwappiness", json!(limits.swappiness)),
        ("OomKillDisable", json!(limits.oom_kill_disable)),
        ("PidsLimit", json!(limits.pids)),
        (
            "Ulimits",
            runtime.ulimits.iter().map(|l| json!({ "Name": l.name, "Hard": l.hard, "Soft": l.soft })).collect(),
        ),
        ("CpuCount", json!(0)),
        ("CpuPercent", json!(0)),
        ("IOMaximumIOps", json!(0)),
        ("IOMaximumBandwidth", json!(0)),
        ("MaskedPaths", paths(paths::masked())),
        ("ReadonlyPaths", paths(paths::readonly())),
    ]);
    if let Some(map) = value.as_object_mut() {
        optional(map, config);
    }
    value
}

/// In the order of their names: Go's maps have no other.
fn log_options(config: &Config) -> std::collections::BTreeMap<&String, &String> {
    config.log.options.iter().collect()
}

/// What Docker leaves out where it is empty.
fn optional(map: &mut Map<String, Value>, config: &Config) {
    let runtime = &config.runtime;
    let tmpfs: Map<String, Value> = runtime
        .mounts
        .iter()
        .filter_map(|mount| match &mount.kind {
            MountKind::Tmpfs(tmpfs) if mounts::is_short_tmpfs(config, mount) => {
                Some((mount.target.clone(), json!(tmpfs_options(tmpfs, mount.read_only))))
            }
            _ => None,
        })
        .collect();
    if !tmpfs.is_empty() {
        map.insert("Tmpfs".into(), Value::Object(tmpfs));
    }
    if !config.annotations.is_empty() {
        map.insert("Annotations".into(), json!(config.annotations));
    }
    if !runtime.sysctls.is_empty() {
        let sysctls: Map<String, Value> =
            runtime.sysctls.iter().map(|(key, value)| (key.clone(), json!(value))).collect();
        map.insert("Sysctls".into(), Value::Object(sysctls));
    }
    if runtime.init {
        map.insert("Init".into(), json!(true));
    }
    if let Some(asked) = mounts::asked(config) {
        map.insert("Mounts".into(), asked);
    }
    // Behind the key that they follow in Docker's struct.
    for (key, before) in [
        ("Annotations", "ConsoleSize"),
        ("Tmpfs", "SecurityOpt"),
        ("Sysctls", "ShmSize"),
        ("Mounts", "IOMaximumBandwidth"),
    ] {
        if let Some(value) = map.shift_remove(key) {
            put_behind(map, key, before, value);
        }
    }
}

/// Where its cgroup was asked to be made.
fn cgroup_parent(config: &Config) -> String {
    let parent = config.runtime.cgroup_path.strip_suffix(&format!("/{}", config.id)).unwrap_or_default();
    if parent == "/umiak" { String::new() } else { parent.to_owned() }
}

fn bindings(config: &Config) -> Value {
    let mut bindings: Map<String, Value> = Map::new();
    for port in &config.ports {
        let range = |(first, last): (u16, u16)| match first == last {
            true => first.to_string(),
            false => format!("{first}-{last}"),
        };
        let host = json!({
            "HostIp": port.host_ip.map(|ip| ip.to_string()).unwrap_or_default(),
            "HostPort": port.host_ports.map(range).unwrap_or_default(),
        });
        if let Some(list) = bindings.entry(ports::target(port)).or_insert_with(|| json!([])).as_array_mut() {
            list.push(host);
        }
    }
    Value::Object(bindings)
}

/// `CAP_NET_ADMIN`, however it was written.
fn capabilities(names: &[String]) -> Vec<String> {
    let full = |name: &String| match name.to_ascii_uppercase() {
        name if name == "ALL" || name.starts_with("CAP_") => name,
        name => format!("CAP_{name}"),
    };
    names.iter().map(full).collect()
}

fn namespace(mode: &Namespace) -> String {
    match mode {
        Namespace::Private => "private".to_owned(),
        Namespace::Shareable => "shareable".to_owned(),
        Namespace::Bare => "none".to_owned(),
        Namespace::Host => "host".to_owned(),
        Namespace::Path(path) => path.display().to_string(),
    }
}

/// As [`namespace`], where Docker says nothing of one of its own.
fn shared(mode: &Namespace) -> String {
    if *mode == Namespace::Private { String::new() } else { namespace(mode) }
}

/// `container:ID` where another container's namespace is joined.
fn joined(config: &Config, kind: &str) -> Option<String> {
    let (_, id) = config.join.iter().find(|(joined, _)| joined == kind)?;
    Some(format!("container:{id}"))
}

fn security(runtime: &Runtime) -> Vec<String> {
    let mut options = Vec::new();
    if runtime.no_new_privileges {
        options.push("no-new-privileges".to_owned());
    }
    match &runtime.seccomp {
        Seccomp::Default => {}
        Seccomp::Unconfined => options.push("seccomp=unconfined".to_owned()),
        Seccomp::Profile(path) => options.push(format!("seccomp={}", path.display())),
    }
    if runtime.unmask_system_paths {
        options.push("systempaths=unconfined".to_owned());
    }
    options.extend(runtime.apparmor.iter().map(|profile| format!("apparmor={profile}")));
    options.extend(runtime.selinux.iter().map(|label| format!("label={label}")));
    options
}

fn devices(runtime: &Runtime) -> Value {
    let device = |device: &umiak_runtime::config::Device| {
        json!({
            "PathOnHost": device.host, "PathInContainer": device.container,
            "CgroupPermissions": device.permissions,
        })
    };
    runtime.devices.iter().map(device).collect()
}

fn tmpfs_options(tmpfs: &Tmpfs, read_only: bool) -> String {
    let mut options = tmpfs.options.clone();
    if read_only {
        options.push("ro".to_owned());
    }
    if tmpfs.size > 0 {
        options.push(format!("size={}", tmpfs.size));
    }
    options.extend(tmpfs.mode.map(|mode| format!("mode={mode:o}")));
    options.extend(tmpfs.uid.map(|uid| format!("uid={uid}")));
    options.extend(tmpfs.gid.map(|gid| format!("gid={gid}")));
    options.join(",")
}
