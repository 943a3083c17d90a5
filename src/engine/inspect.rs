//! What is shown of objects, in Docker's shapes and words, because scripts
//! read them.

use std::net::IpAddr;

use serde_json::{Map, Value, json};
use umiak_images::store::Image;
use umiak_netns::Network;
use umiak_runtime::config::{Mount, MountKind, Namespace};

use super::container::{Container, NetworkMode, PublishedPort, Status};
use super::health::HealthStatus;
use super::{Engine, volume};
use crate::project::labels;
use crate::ui::human;

/// A moment as Docker writes one; the zero time where there is none.
fn time(moment: Option<jiff::Timestamp>) -> String {
    moment.map_or_else(|| "0001-01-01T00:00:00Z".to_owned(), |moment| moment.to_string())
}

/// `Up 3 minutes`, `Exited (0) 2 hours ago`, `Created`.
pub fn status(container: &Container) -> String {
    let state = &container.state;
    match state.status {
        Status::Created => "Created".to_owned(),
        Status::Running => {
            let since = state.started_at.map(human::since).unwrap_or_default();
            match container.health.as_ref().map(|health| health.status) {
                None => format!("Up {since}"),
                Some(HealthStatus::Starting) => format!("Up {since} (health: starting)"),
                Some(known) => format!("Up {since} ({})", known.as_str()),
            }
        }
        Status::Restarting => {
            let (code, since) = (state.exit_code.unwrap_or(0), state.finished_at.map(human::ago).unwrap_or_default());
            format!("Restarting ({code}) {since}").trim_end().to_owned()
        }
        Status::Paused => format!("Up {} (Paused)", state.started_at.map(human::since).unwrap_or_default()),
        Status::Exited => {
            let code = state.exit_code.unwrap_or(0);
            let since = state.finished_at.map(human::ago).unwrap_or_default();
            let oom = if state.oom_killed { ", out of memory" } else { "" };
            format!("Exited ({code}{oom}) {since}").trim_end().to_owned()
        }
    }
}

/// The command line in quotes, shortened as Docker does.
pub fn command(container: &Container, full: bool) -> String {
    let words: Vec<&str> = container.config.runtime.args.iter().map(String::as_str).collect();
    let text = words.join(" ");
    match full || text.chars().count() <= 20 {
        true => format!("\"{text}\""),
        false => format!("\"{}…\"", text.chars().take(19).collect::<String>()),
    }
}

fn address(ip: IpAddr, port: u16) -> String {
    std::net::SocketAddr::new(ip, port).to_string()
}

/// Address of the host, protocol, first and last port.
type Range = (Option<IpAddr>, String, u16, u16);

/// `443/tcp, 0.0.0.0:8080->80/tcp`: first ports that are not published or have the same number on the host, ranges of
/// them as one, then the others.
pub fn ports(container: &Container) -> String {
    if container.state.status == Status::Restarting {
        return String::new();
    }
    let published = &container.state.ports;
    // Port, address, port of the host, protocol.
    let mut all: Vec<(u16, Option<IpAddr>, u16, String)> = published
        .iter()
        .map(|port| (port.container_port, Some(port.host_ip), port.host_port, port.protocol.clone()))
        .collect();
    if container.state.status.is_up() {
        let is_published = |exposed: &String| published.iter().any(|port| *exposed == target(port));
        let exposed = container.config.exposed.iter().filter(|exposed| !is_published(exposed));
        let split =
            |text: &String| text.split_once('/').and_then(|(port, kind)| Some((port.parse().ok()?, kind.to_owned())));
        all.extend(exposed.filter_map(split).map(|(port, kind)| (port, None, 0, kind)));
    }
    all.sort();
    let (mut ranges, mut mapped): (Vec<Range>, Vec<String>) = (Vec::new(), Vec::new());
    for (port, ip, host, kind) in all {
        match ip {
            Some(ip) if host != port => mapped.push(format!("{}->{port}/{kind}", address(ip, host))),
            _ => match ranges.iter_mut().rev().find(|range| range.0 == ip && range.1 == kind) {
                Some(range) if range.3.checked_add(1) == Some(port) => range.3 = port,
                _ => ranges.push((ip, kind, port, port)),
            },
        }
    }
    let range = |(ip, kind, first, last): Range| match (ip, first == last) {
        (None, true) => format!("{first}/{kind}"),
        (None, false) => format!("{first}-{last}/{kind}"),
        (Some(ip), true) => format!("{}->{first}/{kind}", address(ip, first)),
        (Some(ip), false) => format!("{}-{last}->{first}-{last}/{kind}", address(ip, first)),
    };
    ranges.into_iter().map(range).chain(mapped).collect::<Vec<_>>().join(", ")
}

fn target(port: &PublishedPort) -> String {
    format!("{}/{}", port.container_port, port.protocol)
}

/// One line of `ps --format json`.
pub fn summary(container: &Container) -> Value {
    let config = &container.config;
    let publishers: Vec<Value> = container
        .state
        .ports
        .iter()
        .map(|port| {
            json!({
                "URL": port.host_ip.to_string(), "TargetPort": port.container_port,
                "PublishedPort": port.host_port, "Protocol": port.protocol,
            })
        })
        .collect();
    let all_labels: Vec<String> = config.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let networks: Vec<&str> = config.network.attachments().iter().map(|a| a.network.as_str()).collect();
    let mounted: Vec<String> = config.runtime.mounts.iter().filter_map(mount_name).collect();
    json!({
        "ID": container.short_id(),
        "Name": config.name,
        "Names": config.name,
        "Image": config.image,
        "Command": command(container, false),
        "Project": container.label(labels::PROJECT).unwrap_or_default(),
        "Service": container.label(labels::SERVICE).unwrap_or_default(),
        "Created": config.created.as_second(),
        "CreatedAt": config.created.to_zoned(jiff::tz::TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S %z %Z").to_string(),
        "RunningFor": human::ago(config.created),
        "State": container.state.status.as_str(),
        "Status": status(container),
        "Health": container.health.as_ref().filter(|_| container.state.status.is_up()).map_or("", |health| health.status.as_str()),
        "ExitCode": exit_code(container),
        "Publishers": publishers,
        "Ports": ports(container),
        "Labels": all_labels.join(","),
        "Mounts": mounted.join(","),
        "Networks": networks.join(","),
        "LocalVolumes": config.runtime.mounts.iter().filter(|m| matches!(m.kind, MountKind::Volume(_))).count().to_string(),
        "Size": "0B",
    })
}

/// What a mount shows of itself in a list.
pub fn mount_name(mount: &Mount) -> Option<String> {
    match &mount.kind {
        MountKind::Bind(bind) => Some(bind.source.display().to_string()),
        MountKind::Volume(volume) => Some(volume.name.clone()),
        MountKind::Tmpfs(_) => None,
    }
}

/// `docker inspect` of a container.
pub fn container(engine: &Engine, container: &Container) -> Value {
    let config = &container.config;
    let dir = engine.roots.container(&config.id);
    json!({
        "Id": config.id,
        "Created": config.created.to_string(),
        "Path": config.runtime.args.first(),
        "Args": config.runtime.args.get(1..).unwrap_or_default(),
        "State": state(container),
        "Image": config.image_id,
        "ResolvConfPath": dir.join("resolv.conf"),
        "HostnamePath": dir.join("hostname"),
        "HostsPath": dir.join("hosts"),
        "LogPath": super::logs::path(&engine.roots, &config.id),
        "Name": format!("/{}", config.name),
        "RestartCount": container.state.restart_count,
        "Driver": "overlay2",
        "Platform": "linux",
        "HostConfig": host_config(container),
        "GraphDriver": { "Name": "overlay2", "Data": {
            "LowerDir": config.runtime.rootfs.layers.iter().map(|p| p.display().to_string()).collect::<Vec<_>>().join(":"),
            "UpperDir": config.runtime.rootfs.upper, "WorkDir": config.runtime.rootfs.work,
        } },
        "Mounts": config.runtime.mounts.iter().map(mount).collect::<Vec<_>>(),
        "Config": process_config(container),
        "NetworkSettings": network_settings(container),
    })
}

/// That of the last run; none while another runs.
fn exit_code(container: &Container) -> i32 {
    let runs = matches!(container.state.status, Status::Running | Status::Paused);
    container.state.exit_code.filter(|_| !runs).unwrap_or(0)
}

fn state(container: &Container) -> Value {
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
    if let (Some(health), Some(map)) = (&container.health, value.as_object_mut()) {
        map.insert("Health".into(), health.inspect());
    }
    value
}

fn namespace(mode: &Namespace) -> String {
    match mode {
        Namespace::Private => "private".to_owned(),
        Namespace::Shareable => "shareable".to_owned(),
        Namespace::Host => "host".to_owned(),
        Namespace::Path(path) => path.display().to_string(),
    }
}

fn host_config(container: &Container) -> Value {
    let config = &container.config;
    let (runtime, limits) = (&config.runtime, &config.runtime.limits);
    let binds: Vec<String> = runtime
        .mounts
        .iter()
        .filter_map(|mount| {
            Some(format!("{}:{}:{}", mount_name(mount)?, mount.target, if mount.read_only { "ro" } else { "rw" }))
        })
        .collect();
    let mut bindings: Map<String, Value> = Map::new();
    for port in &config.ports {
        let host = json!({
            "HostIp": port.host_ip.map(|ip| ip.to_string()).unwrap_or_default(),
            "HostPort": port.host_ports.map(|(first, last)| if first == last { first.to_string() } else { format!("{first}-{last}") }).unwrap_or_default(),
        });
        let entry = bindings.entry(super::ports::target(port)).or_insert_with(|| json!([]));
        if let Some(list) = entry.as_array_mut() {
            list.push(host);
        }
    }
    let swap = limits.memory_swap.or_else(|| limits.memory.and_then(|memory| i64::try_from(memory * 2).ok()));
    let ulimits: Vec<Value> = runtime
        .ulimits
        .iter()
        .map(|limit| json!({ "Name": limit.name, "Soft": limit.soft, "Hard": limit.hard }))
        .collect();
    json!({
        "Binds": binds,
        "LogConfig": { "Type": config.log.driver, "Config": config.log.options },
        "NetworkMode": network_mode(&config.network),
        "PortBindings": bindings,
        "RestartPolicy": { "Name": config.restart.condition.name(), "MaximumRetryCount": config.restart.max_retries },
        "AutoRemove": config.auto_remove,
        "Annotations": config.annotations,
        "CapAdd": runtime.cap_add,
        "CapDrop": runtime.cap_drop,
        "Dns": config.dns.servers,
        "DnsOptions": config.dns.options,
        "DnsSearch": config.dns.search,
        "ExtraHosts": config.extra_hosts.iter().map(|(host, ip)| format!("{host}:{ip}")).collect::<Vec<_>>(),
        "GroupAdd": runtime.group_add,
        "IpcMode": namespace(&runtime.ipc_ns),
        "PidMode": if runtime.pid_ns == Namespace::Private { String::new() } else { namespace(&runtime.pid_ns) },
        "UTSMode": if runtime.uts_ns == Namespace::Private { String::new() } else { namespace(&runtime.uts_ns) },
        "CgroupnsMode": namespace(&runtime.cgroup_ns),
        "OomScoreAdj": limits.oom_score_adj,
        "OomKillDisable": limits.oom_kill_disable,
        "Privileged": runtime.privileged,
        "ReadonlyRootfs": runtime.rootfs.read_only,
        "ShmSize": runtime.shm_size,
        "Sysctls": runtime.sysctls.iter().cloned().collect::<std::collections::BTreeMap<_, _>>(),
        "Init": runtime.init,
        "Memory": limits.memory.unwrap_or(0),
        "MemoryReservation": limits.memory_reservation.unwrap_or(0),
        "MemorySwap": swap.unwrap_or(0),
        "NanoCpus": limits.nano_cpus.unwrap_or(0),
        "CpuShares": limits.cpu_shares.unwrap_or(0),
        "CpuPeriod": limits.cpu_period.unwrap_or(0),
        "CpuQuota": limits.cpu_quota.unwrap_or(0),
        "CpusetCpus": limits.cpuset_cpus,
        "CpusetMems": limits.cpuset_mems,
        "BlkioWeight": limits.blkio_weight.unwrap_or(0),
        "PidsLimit": limits.pids,
        "Ulimits": ulimits,
    })
}

/// `bridge`, `none`, `host`, `container:ID`, or the name of the first network.
pub fn network_mode(mode: &NetworkMode) -> String {
    match mode {
        NetworkMode::None => "none".to_owned(),
        NetworkMode::Host => "host".to_owned(),
        NetworkMode::Container(id) => format!("container:{id}"),
        NetworkMode::Networks(all) => all.first().map(|first| first.network.clone()).unwrap_or_default(),
    }
}

fn mount(mount: &Mount) -> Value {
    let (kind, name, source, spread) = match &mount.kind {
        MountKind::Bind(bind) => {
            ("bind", None, bind.source.display().to_string(), format!("{:?}", bind.propagation).to_lowercase())
        }
        MountKind::Volume(volume) => ("volume", Some(&volume.name), volume.source.display().to_string(), String::new()),
        MountKind::Tmpfs(_) => ("tmpfs", None, String::new(), String::new()),
    };
    let mut value = json!({
        "Type": kind, "Source": source, "Destination": mount.target, "Mode": "",
        "RW": !mount.read_only, "Propagation": spread,
    });
    if let (Some(name), Some(map)) = (name, value.as_object_mut()) {
        map.insert("Name".into(), json!(name));
        map.insert("Driver".into(), json!("local"));
    }
    value
}

fn process_config(container: &Container) -> Value {
    let (config, runtime) = (&container.config, &container.config.runtime);
    let exposed: Map<String, Value> = config.exposed.iter().map(|port| (port.clone(), json!({}))).collect();
    let mut value = json!({
        "Hostname": runtime.hostname,
        "Domainname": runtime.domainname,
        "User": runtime.user,
        "Tty": runtime.tty,
        "OpenStdin": runtime.stdin_open,
        "Env": runtime.env,
        "Cmd": config.command,
        "Entrypoint": if config.entrypoint.is_empty() { Value::Null } else { json!(config.entrypoint) },
        "Image": config.image,
        "WorkingDir": runtime.cwd,
        "ExposedPorts": exposed,
        "Labels": config.labels,
        "StopSignal": config.stop_signal,
        "StopTimeout": config.stop_timeout,
    });
    if let (Some(check), Some(map)) = (&config.healthcheck, value.as_object_mut()) {
        map.insert("Healthcheck".into(), check.inspect());
    }
    value
}

fn network_settings(container: &Container) -> Value {
    let config = &container.config;
    let mut ports: Map<String, Value> = config.exposed.iter().map(|port| (port.clone(), Value::Null)).collect();
    for port in &container.state.ports {
        let entry = ports.entry(target(port)).or_insert(Value::Null);
        let host = json!({ "HostIp": port.host_ip.to_string(), "HostPort": port.host_port.to_string() });
        match entry.as_array_mut() {
            Some(list) => list.push(host),
            None => *entry = json!([host]),
        }
    }
    let up = container.state.status.is_up();
    let networks: Map<String, Value> = config
        .network
        .attachments()
        .iter()
        .map(|a| {
            let shown = a.ipv4.filter(|_| up);
            let value = json!({
                "Aliases": a.aliases,
                "DNSNames": a.aliases.iter().cloned().chain([config.name.clone(), container.short_id().to_owned()]).collect::<Vec<_>>(),
                "MacAddress": a.mac.clone().or_else(|| a.ipv4.map(|(ip, _)| mac_of(ip))).filter(|_| up).unwrap_or_default(),
                "NetworkID": a.network_id,
                "Gateway": a.gateway.filter(|_| up && !a.internal).map(|ip| ip.to_string()).unwrap_or_default(),
                "IPAddress": shown.map(|(ip, _)| ip.to_string()).unwrap_or_default(),
                "IPPrefixLen": shown.map_or(0, |(_, prefix)| prefix),
                "GlobalIPv6Address": a.ipv6.filter(|_| up).map(|(ip, _)| ip.to_string()).unwrap_or_default(),
                "GlobalIPv6PrefixLen": a.ipv6.filter(|_| up).map_or(0, |(_, prefix)| prefix),
            });
            (a.network.clone(), value)
        })
        .collect();
    json!({ "Ports": if up { Value::Object(ports) } else { json!({}) }, "Networks": networks })
}

fn mac_of(ip: std::net::Ipv4Addr) -> String {
    let bytes = umiak_netns::bridge::mac_of(IpAddr::V4(ip));
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(":")
}

/// `docker network inspect`.
pub fn network(network: &Network, members: &[Container]) -> Value {
    let config: Vec<Value> = network
        .subnets
        .iter()
        .map(|subnet| json!({ "Subnet": subnet.cidr.to_string(), "Gateway": subnet.gateway.to_string() }))
        .collect();
    let mut containers = Map::new();
    for member in members.iter().filter(|member| member.state.status.is_up()) {
        for a in member.config.network.attachments().iter().filter(|a| a.network_id == network.id) {
            let cidr = |address: Option<(IpAddr, u8)>| {
                address.map(|(ip, prefix)| format!("{ip}/{prefix}")).unwrap_or_default()
            };
            containers.insert(
                member.config.id.clone(),
                json!({
                    "Name": member.config.name,
                    "MacAddress": a.mac.clone().or_else(|| a.ipv4.map(|(ip, _)| mac_of(ip))).unwrap_or_default(),
                    "IPv4Address": cidr(a.ipv4.map(|(ip, prefix)| (IpAddr::V4(ip), prefix))),
                    "IPv6Address": cidr(a.ipv6.map(|(ip, prefix)| (IpAddr::V6(ip), prefix))),
                }),
            );
        }
    }
    json!({
        "Name": network.name,
        "Id": network.id,
        "Created": network.created,
        "Scope": "local",
        "Driver": network.driver,
        "EnableIPv4": true,
        "EnableIPv6": network.enable_ipv6,
        "IPAM": { "Driver": "default", "Options": {}, "Config": config },
        "Internal": network.internal,
        "Attachable": false,
        "Ingress": false,
        "Containers": containers,
        "Options": network.options,
        "Labels": network.labels,
    })
}

/// `docker volume inspect`.
pub fn volume(engine: &Engine, found: &volume::Volume) -> Value {
    json!({
        "CreatedAt": found.created,
        "Driver": "local",
        "Labels": found.labels,
        "Mountpoint": volume::data_dir(&engine.roots, &found.name),
        "Name": found.name,
        "Options": found.driver_opts,
        "Scope": "local",
    })
}

/// `docker image inspect`.
pub fn image(image: &Image) -> Value {
    let config = &image.config;
    let familiar = |name: &String| {
        name.parse::<umiak_images::reference::Reference>().map_or_else(|_| name.clone(), |r| r.familiar())
    };
    json!({
        "Id": image.id.to_string(),
        "RepoTags": image.names.iter().map(familiar).collect::<Vec<_>>(),
        "RepoDigests": image.repo_digests,
        "Comment": config.comment.clone().unwrap_or_default(),
        "Created": image.created,
        "Author": config.author.clone().unwrap_or_default(),
        "Architecture": config.architecture,
        "Variant": config.variant,
        "Os": config.os,
        "Size": image.size,
        "Config": config.config,
        "RootFS": { "Type": "layers", "Layers": image.layers.iter().map(ToString::to_string).collect::<Vec<_>>() },
    })
}

/// The word for a container's health: `none` where nothing checks it.
pub fn health(container: &Container) -> &'static str {
    container.health.as_ref().map_or("none", |health| health.status.as_str())
}
