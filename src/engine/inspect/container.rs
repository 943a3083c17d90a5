//! `docker inspect` of a container, but for what it asks of the host.

use std::net::IpAddr;

use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};
use umiak_runtime::config::{Mount, MountKind};

use super::host::host_config;
use super::{exit_code, mounts, object, or_null, put_behind, target, time};
use crate::engine::container::{Attachment, Config, Container, NetworkMode, Status};
use crate::engine::network::DEFAULT;
use crate::engine::{Engine, logs};
use crate::project::labels;

/// `docker inspect` of a container.
pub fn container(engine: &Engine, container: &Container) -> Value {
    let config = &container.config;
    let dir = engine.roots.container(&config.id);
    let rootfs = &config.runtime.rootfs;
    let layers: Vec<String> = rootfs.layers.iter().map(|path| path.display().to_string()).collect();
    object([
        ("Id", json!(config.id)),
        ("Created", json!(config.created.to_string())),
        ("Path", json!(config.runtime.args.first().cloned().unwrap_or_default())),
        ("Args", json!(config.runtime.args.get(1..).unwrap_or_default())),
        ("State", state(container)),
        ("Image", json!(config.image_id)),
        ("ResolvConfPath", json!(dir.join("resolv.conf"))),
        ("HostnamePath", json!(dir.join("hostname"))),
        ("HostsPath", json!(dir.join("hosts"))),
        ("LogPath", json!(logs::path(&engine.roots, config).unwrap_or_default())),
        ("Name", json!(format!("/{}", config.name))),
        ("RestartCount", json!(container.state.restart_count)),
        ("Driver", json!("overlay2")),
        ("Platform", json!("linux")),
        ("MountLabel", json!("")),
        ("ProcessLabel", json!("")),
        ("AppArmorProfile", json!(apparmor(config))),
        ("ExecIDs", Value::Null),
        ("HostConfig", host_config(container)),
        (
            "GraphDriver",
            json!({ "Data": {
                "ID": config.id, "LowerDir": layers.join(":"), "MergedDir": rootfs.merged, "UpperDir": rootfs.upper,
                "WorkDir": rootfs.work,
            }, "Name": "overlay2" }),
        ),
        ("Mounts", mounts::mounted(config)),
        ("Config", process_config(container)),
        ("NetworkSettings", network_settings(engine, container)),
    ])
}

/// `State` of `docker inspect`, and what is known beyond it.
pub fn state(container: &Container) -> Value {
    let state = &container.state;
    let mut value = json!({
        "Status": state.status.as_str(),
        "Running": state.status.is_up(),
        "Paused": state.status == Status::Paused,
        "Restarting": state.status == Status::Restarting,
        "OOMKilled": state.oom_killed,
        "Dead": false,
        "Pid": state.init.map_or(0, |init| init.pid),
        "ExitCode": exit_code(container),
        "Error": state.error.clone().unwrap_or_default(),
        "StartedAt": time(state.started_at),
        "FinishedAt": time(state.finished_at),
    });
    if let Some(map) = value.as_object_mut() {
        if let Some(health) = &container.health {
            map.insert("Health".into(), health.inspect());
        }
        map.extend(end(container));
    }
    value
}

/// What Docker does not tell of the last run's end; each only where it is known.
fn end(container: &Container) -> impl Iterator<Item = (String, Value)> {
    let end = &container.state.end;
    let set = |is: bool| is.then_some(json!(true));
    let signal = end.signal.map(|number| json!(umiak_runtime::signals::name(number)));
    let next = end.next_start.map(|moment| json!(time(Some(moment))));
    [
        ("Signal", signal),
        ("StoppedByHand", set(end.by_hand)),
        ("StoppedUnhealthy", set(end.unhealthy)),
        ("StartFailed", set(end.not_started)),
        ("MemoryPeak", end.memory_peak.map(|bytes| json!(bytes))),
        ("MemoryLimit", end.memory_limit.map(|bytes| json!(bytes))),
        ("NextStart", next),
    ]
    .into_iter()
    .filter_map(|(key, value)| Some((key.to_owned(), value?)))
}

fn process_config(container: &Container) -> Value {
    let (config, runtime) = (&container.config, &container.config.runtime);
    let set = |names: &mut dyn Iterator<Item = String>| -> Map<String, Value> {
        names.map(|name| (name, json!({}))).collect()
    };
    let anonymous = |mount: &&Mount| matches!(&mount.kind, MountKind::Volume(volume) if config.anonymous_volumes.contains(&volume.name));
    let volumes = set(&mut runtime.mounts.iter().filter(anonymous).map(|mount| mount.target.clone()));
    let mut value = object([
        ("Hostname", json!(runtime.hostname)),
        ("Domainname", json!(runtime.domainname)),
        ("User", json!(runtime.user)),
        ("AttachStdin", json!(config.asked.attach_stdin)),
        ("AttachStdout", json!(config.asked.attach_output)),
        ("AttachStderr", json!(config.asked.attach_output)),
        ("Tty", json!(runtime.tty)),
        ("OpenStdin", json!(runtime.stdin_open)),
        ("StdinOnce", json!(config.asked.attach_stdin && runtime.stdin_open)),
        ("Env", json!(runtime.env)),
        ("Cmd", or_null(&config.command)),
        ("Image", json!(config.image)),
        ("Volumes", if volumes.is_empty() { Value::Null } else { Value::Object(volumes) }),
        ("WorkingDir", json!(runtime.cwd)),
        ("Entrypoint", or_null(&config.entrypoint)),
        ("OnBuild", Value::Null),
        ("Labels", json!(config.labels)),
    ]);
    // Those that Docker leaves out where they are not set, behind the keys that they follow in its struct.
    let ports = (!config.exposed.is_empty()).then(|| Value::Object(set(&mut config.exposed.iter().cloned())));
    let own = [
        ("ExposedPorts", "AttachStderr", ports),
        ("Healthcheck", "Cmd", config.healthcheck.as_ref().map(|check| check.inspect())),
        ("StopSignal", "Labels", config.stop_signal.as_ref().map(|signal| json!(signal))),
        ("StopTimeout", "", config.stop_timeout.map(|seconds| json!(seconds))),
    ];
    for (key, before, own) in own {
        if let (Some(map), Some(own)) = (value.as_object_mut(), own) {
            put_behind(map, key, before, own);
        }
    }
    value
}

fn network_settings(engine: &Engine, container: &Container) -> Value {
    let config = &container.config;
    let up = matches!(container.state.status, Status::Running | Status::Paused);
    let mut ports: Map<String, Value> = config.exposed.iter().map(|port| (port.clone(), Value::Null)).collect();
    for port in &container.state.ports {
        let entry = ports.entry(target(port)).or_insert(Value::Null);
        let host = json!({ "HostIp": port.host_ip.to_string(), "HostPort": port.host_port.to_string() });
        match entry.as_array_mut() {
            Some(list) => list.push(host),
            None => *entry = json!([host]),
        }
    }
    let mut networks = Map::new();
    for attachment in config.network.attachments() {
        networks.insert(attachment.network.clone(), endpoint(container, attachment, up));
    }
    for (mode, name) in
        [(matches!(config.network, NetworkMode::Host), "host"), (matches!(config.network, NetworkMode::None), "none")]
    {
        if mode {
            networks.insert(name.into(), endpoint(container, &Attachment::default(), false));
        }
    }
    // As in Docker, these are the default network's alone.
    let default = networks.get(DEFAULT).cloned().unwrap_or_default();
    let of_default = |key: &str, empty: Value| default.get(key).cloned().unwrap_or(empty);
    let own_namespace = up && !matches!(config.network, NetworkMode::Host | NetworkMode::Container(_));
    let sandbox = |value: Value| if own_namespace { value } else { json!("") };
    object([
        ("Bridge", json!("")),
        ("SandboxID", sandbox(json!(config.id))),
        ("SandboxKey", sandbox(json!(engine.roots.netns(&config.id)))),
        ("Ports", if up { Value::Object(ports) } else { json!({}) }),
        ("HairpinMode", json!(false)),
        ("LinkLocalIPv6Address", json!("")),
        ("LinkLocalIPv6PrefixLen", json!(0)),
        ("SecondaryIPAddresses", Value::Null),
        ("SecondaryIPv6Addresses", Value::Null),
        ("EndpointID", of_default("EndpointID", json!(""))),
        ("Gateway", of_default("Gateway", json!(""))),
        ("GlobalIPv6Address", of_default("GlobalIPv6Address", json!(""))),
        ("GlobalIPv6PrefixLen", of_default("GlobalIPv6PrefixLen", json!(0))),
        ("IPAddress", of_default("IPAddress", json!(""))),
        ("IPPrefixLen", of_default("IPPrefixLen", json!(0))),
        ("IPv6Gateway", of_default("IPv6Gateway", json!(""))),
        ("MacAddress", of_default("MacAddress", json!(""))),
        ("Networks", Value::Object(networks)),
    ])
}

/// A container on one network; addresses are shown while it runs.
fn endpoint(container: &Container, attachment: &Attachment, up: bool) -> Value {
    let a = attachment;
    let text = |value: Option<String>| value.filter(|_| up).unwrap_or_default();
    let mut fixed = Map::new();
    if a.static_address {
        fixed.extend(a.ipv4.map(|(ip, _)| ("IPv4Address".to_owned(), json!(ip.to_string()))));
        fixed.extend(a.ipv6.map(|(ip, _)| ("IPv6Address".to_owned(), json!(ip.to_string()))));
    }
    // Docker Compose gives a container its own name for an alias, too.
    let own = container.label(labels::SERVICE).map(|_| container.config.name.clone());
    let own = own.filter(|own| !a.network.is_empty() && !a.aliases.contains(own));
    let aliases: Vec<String> = own.into_iter().chain(a.aliases.iter().cloned()).collect();
    let mut names: Vec<String> = Vec::new();
    if up && a.network != DEFAULT {
        let (name, short) = (&container.config.name, container.short_id().to_owned());
        let hostname = &container.config.runtime.hostname;
        for name in [name].into_iter().chain(&a.aliases).chain([&short, hostname]) {
            if !name.is_empty() && !names.contains(name) {
                names.push(name.clone());
            }
        }
    }
    object([
        ("IPAMConfig", if fixed.is_empty() { Value::Null } else { Value::Object(fixed) }),
        ("Links", Value::Null),
        ("Aliases", or_null(&aliases)),
        ("MacAddress", json!(text(mac(a)))),
        ("DriverOpts", Value::Null),
        ("GwPriority", json!(a.gateway_priority)),
        ("NetworkID", json!(a.network_id)),
        ("EndpointID", json!(text(Some(endpoint_id(container, a))))),
        ("Gateway", json!(text(a.gateway.filter(|_| !a.internal).map(|ip| ip.to_string())))),
        ("IPAddress", json!(text(a.ipv4.map(|(ip, _)| ip.to_string())))),
        ("IPPrefixLen", json!(a.ipv4.filter(|_| up).map_or(0, |(_, prefix)| prefix))),
        ("IPv6Gateway", json!(text(a.gateway6.filter(|_| !a.internal).map(|ip| ip.to_string())))),
        ("GlobalIPv6Address", json!(text(a.ipv6.map(|(ip, _)| ip.to_string())))),
        ("GlobalIPv6PrefixLen", json!(a.ipv6.filter(|_| up).map_or(0, |(_, prefix)| prefix))),
        ("DNSNames", or_null(&names)),
    ])
}

/// Asked for, or made of its address.
pub(super) fn mac(attachment: &Attachment) -> Option<String> {
    let made = |(ip, _): (std::net::Ipv4Addr, u8)| {
        let bytes = umiak_netns::bridge::mac_of(IpAddr::V4(ip));
        bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(":")
    };
    attachment.mac.clone().or_else(|| attachment.ipv4.map(made))
}

/// Nothing here has such an id of its own: the same one for the same container on the same network.
pub(super) fn endpoint_id(container: &Container, attachment: &Attachment) -> String {
    let bytes = Sha256::digest(format!("{}\n{}", attachment.network_id, container.config.id));
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The profile that was asked for, else the one it has.
fn apparmor(config: &Config) -> String {
    let asked = config.runtime.apparmor.clone();
    asked.or_else(|| umiak_runtime::apparmor::of(&config.runtime)).unwrap_or_default()
}
