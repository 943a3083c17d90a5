//! From a service of the model to the request for one of its containers. Pure.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use umiak_netns::publish::PortSpec;
use umiak_runtime::config as rt;

use super::{hash, host_keys, labels, names};
use crate::engine::container::{DnsConfig, Hook, Hooks, LogConfig};
use crate::engine::docker_config::container_proxies;
use crate::engine::health::{Healthcheck, Reach};
use crate::engine::request::{Content, File, Join, NetworkRequest, Request, VolumesFrom};
use crate::engine::restart::{Condition, RestartPolicy};
use crate::engine::{cdi, limits, mounts, network, ports, security};
use umiak_compose::{
    FileDef, FileMount, FileSource, Namespace, NetworkMode, Project, Service, ServiceVolume, VolumeKind,
};

/// The request for container `number` of a service.
pub fn request(project: &Project, service: &Service, number: u32, image_id: &str) -> Result<Request> {
    let image = image(project, service);
    let mut request = Request {
        name: Some(names::container(project, service, number)),
        image,
        entrypoint: service.entrypoint.clone(),
        command: service.command.clone(),
        env: container_proxies()
            .into_iter()
            .chain(service.environment.iter().map(|(key, value)| (key.clone(), value.clone())))
            .collect(),
        labels: service.labels.clone(),
        annotations: service.annotations.clone(),
        working_dir: service.working_dir.clone(),
        user: service.user.clone(),
        hostname: service.hostname.clone(),
        ports: published(service),
        expose: service.expose.clone(),
        network: network(project, service)?,
        extra_hosts: extra_hosts(service),
        dns: DnsConfig {
            servers: service.dns.clone(),
            search: service.dns_search.clone(),
            options: service.dns_opt.clone(),
            links: links(service),
        },
        log: log(service),
        stop_signal: service.stop_signal.clone(),
        stop_timeout: service.stop_grace_period.map(|period| period.as_secs_f64().ceil()).map(seconds),
        restart: restart(service)?,
        restart_unhealthy: restart_unhealthy(service)?,
        healthcheck: health(service)?,
        ..Request::default()
    };
    let fingerprint = hash::service(project, service)?;
    request.labels.extend(ownership(project, service, number, image_id, fingerprint.hash()));
    request.fingerprint = fingerprint.keys;
    process(&mut request.runtime, service);
    security(&mut request.runtime, project, service)?;
    resources(&mut request.runtime, service)?;
    namespaces(&mut request, project, service)?;
    for volume in service.volumes.iter().filter(|volume| !host_keys::wants_docker(volume)) {
        request.runtime.mounts.push(mount(project, volume)?);
        if volume.kind == VolumeKind::Tmpfs {
            request.asked.mounts.push(volume.target.clone());
        }
    }
    for text in &service.tmpfs {
        request.runtime.mounts.push(mounts::tmpfs(text)?);
    }
    request.cgroup_parent.clone_from(&service.cgroup_parent);
    // As Docker Compose asks for it, whether or not anybody is attached.
    request.asked.attach_output = true;
    request.hooks = Hooks {
        post_start: service.post_start.iter().map(hook).collect(),
        pre_stop: service.pre_stop.iter().map(hook).collect(),
    };
    cdi::inject(&device_names(service)?, &mut request).with_context(|| format!("service {}", service.name))?;
    request.volumes_from = volumes_from(project, service)?;
    for (all, used, secret) in [(&project.secrets, &service.secrets, true), (&project.configs, &service.configs, false)]
    {
        for used in used {
            let definition = all.get(&used.source).with_context(|| format!("{} is not defined", used.source))?;
            file(&mut request, definition, used, secret)?;
        }
    }
    Ok(request)
}

/// `deploy.restart_policy` where there is one, else `restart`.
pub fn restart(service: &Service) -> Result<RestartPolicy> {
    let Some(policy) = service.deploy.as_ref().and_then(|deploy| deploy.restart_policy.as_ref()) else {
        return RestartPolicy::parse(&service.restart.unwrap_or_default().to_string());
    };
    let condition = match policy.condition.as_deref() {
        Some("none" | "no") => Condition::No,
        Some("on-failure") => Condition::OnFailure,
        Some("unless-stopped") => Condition::UnlessStopped,
        None | Some("" | "any" | "always") => Condition::Always,
        Some(other) => bail!(
            "service {}: deploy.restart_policy.condition: unknown condition \"{other}\"; use one of none, on-failure, any",
            service.name
        ),
    };
    Ok(RestartPolicy {
        condition,
        max_retries: policy.max_attempts.map_or(0, |count| u32::try_from(count).unwrap_or(u32::MAX)),
        delay: policy.delay,
        window: policy.window.filter(|window| !window.is_zero()),
    })
}

/// `healthcheck`, with `x-umiak-healthcheck` (or labels of that name, such as `x-umiak-healthcheck.http`) in place of
/// its test.
fn health(service: &Service) -> Result<Option<Healthcheck>> {
    let mut asked = service.healthcheck.as_ref().map(healthcheck).transpose()?;
    let key = service.extensions.get("x-umiak-healthcheck");
    let wrong = || {
        format!(
            "service {}: x-umiak-healthcheck: {{http: \":PORT/PATH\"}} or {{tcp: \":PORT\"}} is expected",
            service.name
        )
    };
    let reach = match key {
        Some(value) => {
            let one = value.as_object().filter(|map| map.len() == 1).and_then(|map| map.iter().next());
            let (kind, text) = one.and_then(|(kind, text)| Some((kind, text.as_str()?))).with_context(wrong)?;
            Some((kind.clone(), text.to_owned()))
        }
        None => ["http", "tcp"].into_iter().find_map(|kind| {
            let text = service.labels.get(&format!("x-umiak-healthcheck.{kind}"))?;
            Some((kind.to_owned(), text.clone()))
        }),
    };
    if let Some((kind, text)) = reach
        && !service.healthcheck.as_ref().is_some_and(umiak_compose::Healthcheck::is_off)
    {
        let reach = Reach::parse(&kind, &text).with_context(wrong)?;
        asked.get_or_insert_default().reach = Some(reach);
    }
    Ok(asked)
}

/// `x-umiak-on-unhealthy: restart`, which Docker has nothing for.
fn restart_unhealthy(service: &Service) -> Result<bool> {
    match service.extensions.get("x-umiak-on-unhealthy").map(|value| value.as_str()) {
        None => Ok(false),
        Some(Some("restart")) => Ok(true),
        Some(_) => bail!("service {}: x-umiak-on-unhealthy: the only value is restart", service.name),
    }
}

fn healthcheck(check: &umiak_compose::Healthcheck) -> Result<Healthcheck> {
    if check.is_off() {
        return Ok(Healthcheck { test: vec!["NONE".into()], ..Healthcheck::default() });
    }
    let asked = Healthcheck {
        test: check.test.clone().unwrap_or_default(),
        interval: check.interval.unwrap_or_default(),
        timeout: check.timeout.unwrap_or_default(),
        start_period: check.start_period.unwrap_or_default(),
        start_interval: check.start_interval.unwrap_or_default(),
        retries: check.retries.map_or(0, |count| u32::try_from(count).unwrap_or(u32::MAX)),
        ..Healthcheck::default()
    };
    asked.check()?;
    Ok(asked)
}

/// The image of a service: what is written, or the name that a build gives it.
pub fn image(project: &Project, service: &Service) -> String {
    service.image.clone().unwrap_or_else(|| names::joined(&[&project.name, &service.name]))
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rounded-up positive duration")]
fn seconds(seconds: f64) -> u64 {
    seconds as u64
}

/// The limits of a service's containers.
pub fn limits(service: &Service) -> Result<rt::Limits> {
    let mut runtime = rt::Config::default();
    resources(&mut runtime, service)?;
    Ok(runtime.limits)
}

fn ownership(project: &Project, service: &Service, number: u32, image_id: &str, hash: String) -> Vec<(String, String)> {
    let files: Vec<String> = project.files.iter().map(|file| file.display().to_string()).collect();
    let depends: Vec<String> = service
        .depends_on
        .iter()
        .map(|(name, on)| {
            let condition = serde_json::to_value(on.condition).ok();
            let condition = condition.as_ref().and_then(|value| value.as_str()).unwrap_or("service_started");
            format!("{name}:{condition}:{}", on.restart)
        })
        .collect();
    let mut all = vec![
        (labels::PROJECT, project.name.clone()),
        (labels::SERVICE, service.name.clone()),
        (labels::NUMBER, number.to_string()),
        (labels::ONEOFF, "False".to_owned()),
        (labels::CONFIG_HASH, hash),
        (labels::VERSION, env!("CARGO_PKG_VERSION").to_owned()),
        (labels::WORKING_DIR, project.working_dir.display().to_string()),
        (labels::CONFIG_FILES, files.join(",")),
        (labels::DEPENDS_ON, depends.join(",")),
        (labels::IMAGE, image_id.to_owned()),
    ];
    if !project.env_files.is_empty() {
        let files: Vec<String> = project.env_files.iter().map(|file| file.display().to_string()).collect();
        all.push((labels::ENVIRONMENT_FILE, files.join(",")));
    }
    all.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

fn published(service: &Service) -> Vec<PortSpec> {
    service
        .ports
        .iter()
        .map(|port| {
            let range = port.published.map(|range| (range.start, range.end)).filter(|range| *range != (0, 0));
            ports::spec(port.host_ip, range, port.target, &port.protocol.to_string())
        })
        .collect()
}

fn network(project: &Project, service: &Service) -> Result<NetworkRequest> {
    let one = |name: &str| NetworkRequest::Networks(vec![Join { network: name.to_owned(), ..Join::default() }]);
    Ok(match &service.network_mode {
        Some(NetworkMode::None) => NetworkRequest::None,
        Some(NetworkMode::Host) => NetworkRequest::Host,
        Some(NetworkMode::Bridge) => one(network::DEFAULT),
        Some(NetworkMode::Container(container)) => NetworkRequest::Container(container.clone()),
        Some(NetworkMode::Network(name)) => one(name),
        Some(NetworkMode::Service(name)) => {
            let target = project.services.get(name).with_context(|| format!("service {name} does not exist"))?;
            NetworkRequest::Container(names::container(project, target, 1))
        }
        None | Some(NetworkMode::Unsaid) => match predefined(project, service)? {
            Some("host") => NetworkRequest::Host,
            Some(_) => NetworkRequest::None,
            None => NetworkRequest::Networks(joins(project, service)?),
        },
    })
}

/// The engine's own networks `host` and `none`, which no other goes with.
fn predefined(project: &Project, service: &Service) -> Result<Option<&'static str>> {
    let mut found = None;
    for definition in service.networks.keys().filter_map(|key| project.networks.get(key)) {
        match definition.name.as_str() {
            "host" => found = Some("host"),
            "none" => found = Some("none"),
            _ => {}
        }
    }
    match found {
        Some(name) if service.networks.len() > 1 => {
            bail!("service {}: container cannot be connected to the network {name} and to others", service.name)
        }
        found => Ok(found),
    }
}

/// The networks in the order of their interfaces: by priority, then as in the file.
pub fn joins(project: &Project, service: &Service) -> Result<Vec<Join>> {
    let mut all = Vec::new();
    for (key, attached) in &service.networks {
        let network = project.networks.get(key).with_context(|| format!("network {key} is not defined"))?;
        let mut aliases = vec![service.name.clone()];
        aliases.extend(attached.aliases.iter().cloned());
        all.push((
            attached.priority.unwrap_or(0),
            Join {
                network: network.name.clone(),
                aliases,
                ipv4: attached.ipv4_address,
                ipv6: attached.ipv6_address,
                mac: attached.mac_address.clone(),
                ifname: attached.interface_name.clone(),
                gateway_priority: attached.gw_priority.and_then(|p| i32::try_from(p).ok()).unwrap_or(0),
                link_local: attached.link_local_ips.clone(),
                driver_opts: attached.driver_opts.clone().into_iter().collect(),
            },
        ));
    }
    all.sort_by_key(|(priority, _)| std::cmp::Reverse(*priority));
    let mut joins: Vec<Join> = all.into_iter().map(|(_, join)| join).collect();
    if let (Some(first), Some(mac)) = (joins.first_mut(), &service.mac_address) {
        first.mac.get_or_insert_with(|| mac.clone());
    }
    Ok(joins)
}

fn extra_hosts(service: &Service) -> Vec<(String, String)> {
    let each = |(host, addresses): (&String, &Vec<String>)| {
        addresses.iter().map(|address| (host.clone(), address.clone())).collect::<Vec<_>>()
    };
    service.extra_hosts.iter().flat_map(each).collect()
}

/// Names for services of the project, and for containers outside it.
fn links(service: &Service) -> Vec<(String, String)> {
    let split = |link: &String| match link.split_once(':') {
        Some((target, alias)) => (alias.to_owned(), target.to_owned()),
        None => (link.clone(), link.clone()),
    };
    service.links.iter().chain(&service.external_links).map(split).collect()
}

/// The CDI names of all devices that a service asks for.
fn device_names(service: &Service) -> Result<Vec<String>> {
    let named = service.devices.iter().map(|device| &device.source).filter(|source| cdi::is_name(source));
    let mut names: Vec<String> = named.cloned().collect();
    let reserved = service.deploy.as_ref().and_then(|deploy| deploy.resources.reservations.as_ref());
    let gpu = ["gpu".to_owned()];
    // What `gpus` asks for is one, without saying so.
    let gpus = service.gpus.iter().map(|wanted| (wanted, wanted.capabilities.is_empty()));
    let others = reserved.into_iter().flat_map(|reserved| &reserved.devices).map(|wanted| (wanted, false));
    for (wanted, implied) in gpus.chain(others) {
        let capabilities = if implied { gpu.as_slice() } else { wanted.capabilities.as_slice() };
        let found = cdi::names_of_gpus(wanted.driver.as_deref(), capabilities, wanted.count, &wanted.device_ids);
        names.extend(found.with_context(|| format!("service {}", service.name))?);
    }
    Ok(names)
}

fn hook(hook: &umiak_compose::Hook) -> Hook {
    Hook {
        command: hook.command.clone(),
        user: hook.user.clone(),
        privileged: hook.privileged,
        working_dir: hook.working_dir.clone(),
        environment: hook.environment.iter().map(|(key, value)| (key.clone(), value.clone())).collect(),
    }
}

/// `[container:]name[:ro|rw]`; of a service with several containers the first one.
fn volumes_from(project: &Project, service: &Service) -> Result<Vec<VolumesFrom>> {
    let one = |text: &String| {
        let (rest, external) = match text.strip_prefix("container:") {
            Some(rest) => (rest, true),
            None => (text.as_str(), false),
        };
        let (name, mode) = rest.split_once(':').unwrap_or((rest, ""));
        let read_only = match mode {
            "" => None,
            "rw" => Some(false),
            "ro" => Some(true),
            _ => bail!("service {}: volumes_from: invalid mode {mode:?} in {text:?}", service.name),
        };
        let container = if external {
            name.to_owned()
        } else {
            let target = project.services.get(name).with_context(|| format!("service {name} does not exist"))?;
            names::container(project, target, 1)
        };
        Ok(VolumesFrom { container, read_only })
    };
    service.volumes_from.iter().map(one).collect()
}

fn log(service: &Service) -> LogConfig {
    let Some(logging) = &service.logging else { return LogConfig::default() };
    let driver = logging.driver.clone().unwrap_or_else(|| LogConfig::default().driver);
    LogConfig { driver, options: logging.options.clone() }
}

fn process(runtime: &mut rt::Config, service: &Service) {
    runtime.domainname = service.domainname.clone().unwrap_or_default();
    runtime.group_add.clone_from(&service.group_add);
    runtime.rootfs.read_only = service.read_only.unwrap_or(false);
    runtime.init = service.init.unwrap_or(false);
    runtime.tty = service.tty.unwrap_or(false);
    runtime.stdin_open = service.stdin_open.unwrap_or(false);
    runtime.sysctls = service.sysctls.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
    let ulimit = |(name, limit): (&String, &umiak_compose::Ulimit)| rt::Ulimit {
        name: name.clone(),
        soft: limit.soft,
        hard: limit.hard,
    };
    runtime.ulimits = service.ulimits.iter().map(ulimit).collect();
}

fn security(runtime: &mut rt::Config, project: &Project, service: &Service) -> Result<()> {
    runtime.cap_add.clone_from(&service.cap_add);
    runtime.cap_drop.clone_from(&service.cap_drop);
    runtime.privileged = service.privileged.unwrap_or(false);
    for option in &service.security_opt {
        security::apply(runtime, option, &project.working_dir)?;
    }
    runtime.device_cgroup_rules.clone_from(&service.device_cgroup_rules);
    let device = |device: &umiak_compose::Device| rt::Device {
        host: device.source.clone().into(),
        container: device.target.clone().into(),
        permissions: device.permissions.clone().unwrap_or_else(|| "rwm".to_owned()),
    };
    runtime.devices = service.devices.iter().filter(|device| !cdi::is_name(&device.source)).map(device).collect();
    Ok(())
}

fn resources(runtime: &mut rt::Config, service: &Service) -> Result<()> {
    let unsigned = |value: i64| u64::try_from(value).ok();
    let limits = &mut runtime.limits;
    limits.memory = service.memory_limit().and_then(unsigned);
    limits.memory_reservation = service.memory_reservation().and_then(unsigned);
    limits.memory_swap = service.memswap_limit.filter(|bytes| *bytes != 0);
    let host = host_keys::host_limits(service);
    limits.swappiness = host.swappiness;
    limits.oom_kill_disable = host.oom_kill_disable;
    (limits.cpu_rt_period, limits.cpu_rt_runtime) = (host.cpu_rt_period, host.cpu_rt_runtime);
    limits.nano_cpus = service.cpu_limit().map(limits::nano_cpus).transpose()?;
    limits.cpu_shares = service.cpu_shares.and_then(unsigned).filter(|shares| *shares != 0);
    limits.cpu_quota = service.cpu_quota.filter(|quota| *quota != 0);
    limits.cpu_period = service.cpu_period.and_then(unsigned).filter(|period| *period != 0);
    limits.cpuset_cpus = service.cpuset.clone().unwrap_or_default();
    if let Some(pids) = service.process_limit() {
        limits.pids = pids;
    }
    limits.oom_score_adj = service.oom_score_adj.and_then(|adj| i32::try_from(adj).ok()).unwrap_or(0);
    if let Some(io) = &service.blkio_config {
        let rates = |all: &[umiak_compose::ThrottleDevice]| -> Vec<rt::DeviceRate> {
            let rate = |device: &umiak_compose::ThrottleDevice| rt::DeviceRate {
                path: device.path.clone().into(),
                rate: u64::try_from(device.rate).unwrap_or(0),
            };
            all.iter().map(rate).collect()
        };
        limits.blkio_weight = io.weight;
        limits.blkio_weight_device = io
            .weight_device
            .iter()
            .map(|device| rt::DeviceWeight { path: device.path.clone().into(), weight: device.weight })
            .collect();
        limits.blkio_read_bps = rates(&io.device_read_bps);
        limits.blkio_write_bps = rates(&io.device_write_bps);
        limits.blkio_read_iops = rates(&io.device_read_iops);
        limits.blkio_write_iops = rates(&io.device_write_iops);
    }
    host_keys::keep_possible(limits);
    if let Some(size) = service.shm_size.and_then(unsigned).filter(|size| *size != 0) {
        runtime.shm_size = size;
    }
    Ok(())
}

fn namespaces(request: &mut Request, project: &Project, service: &Service) -> Result<()> {
    for (kind, mode) in
        [("pid", &service.pid), ("ipc", &service.ipc), ("uts", &service.uts), ("cgroup", &service.cgroup)]
    {
        let Some(mode) = mode else { continue };
        let mode = match mode {
            Namespace::Private => rt::Namespace::Private,
            Namespace::Shareable => rt::Namespace::Shareable,
            Namespace::Host => rt::Namespace::Host,
            Namespace::Container(container) => {
                request.join.push((kind, container.clone()));
                continue;
            }
            Namespace::Service(name) => {
                let target = project.services.get(name).with_context(|| format!("service {name} does not exist"))?;
                request.join.push((kind, names::container(project, target, 1)));
                continue;
            }
            Namespace::None => rt::Namespace::Bare,
        };
        match kind {
            "pid" => request.runtime.pid_ns = mode,
            "ipc" => request.runtime.ipc_ns = mode,
            "uts" => request.runtime.uts_ns = mode,
            _ => request.runtime.cgroup_ns = mode,
        }
    }
    Ok(())
}

fn mount(project: &Project, volume: &ServiceVolume) -> Result<rt::Mount> {
    let kind = match volume.kind {
        VolumeKind::Bind => rt::MountKind::Bind(bind(volume)?),
        VolumeKind::Volume => {
            let name = match &volume.source {
                Some(key) => project.volumes.get(key).map_or(key, |definition| &definition.name).clone(),
                None => String::new(),
            };
            let options = volume.volume.clone().unwrap_or_default();
            let subpath = options.subpath.unwrap_or_default();
            let labels = options.labels.into_iter().collect();
            rt::MountKind::Volume(rt::Volume { name, nocopy: options.nocopy, subpath, labels, ..rt::Volume::default() })
        }
        VolumeKind::Tmpfs => {
            let options = volume.tmpfs.clone().unwrap_or_default();
            let size = options.size.and_then(|size| u64::try_from(size).ok()).unwrap_or(0);
            rt::MountKind::Tmpfs(rt::Tmpfs { size, mode: options.mode, ..rt::Tmpfs::default() })
        }
        VolumeKind::Image => {
            let image = volume.source.clone().unwrap_or_default();
            let subpath = volume.image.clone().unwrap_or_default().subpath.unwrap_or_default();
            rt::MountKind::Image(rt::ImageMount { image, subpath, ..rt::ImageMount::default() })
        }
        VolumeKind::Npipe => bail!("{}: a volume of type npipe exists on Windows only", volume.target),
        VolumeKind::Cluster => bail!("{}: a volume of type cluster exists in a Swarm only", volume.target),
    };
    Ok(rt::Mount { target: volume.target.clone(), kind, read_only: volume.read_only })
}

fn bind(volume: &ServiceVolume) -> Result<rt::Bind> {
    let options = volume.bind.clone().unwrap_or_default();
    Ok(rt::Bind {
        source: Path::new(volume.source.as_deref().unwrap_or_default()).to_owned(),
        create_missing: options.create_host_path.unwrap_or(true),
        propagation: options.propagation.as_deref().map(mounts::propagation).transpose()?.unwrap_or_default(),
        recursive: options.recursive.as_deref().map(mounts::recursive).transpose()?.unwrap_or_default(),
        selinux: options.selinux.as_deref().and_then(|text| text.chars().next()),
    })
}

fn file(request: &mut Request, definition: &FileDef, used: &FileMount, secret: bool) -> Result<()> {
    let what = if secret { "secret" } else { "config" };
    let target = if secret { used.secret_target() } else { used.config_target() };
    let plain = used.uid.is_none() && used.gid.is_none() && used.mode.is_none();
    let content = match definition.source() {
        FileSource::File(path) if plain => {
            let kind = rt::MountKind::Bind(rt::Bind { source: path.to_owned(), ..rt::Bind::default() });
            request.runtime.mounts.push(rt::Mount { target, kind, read_only: true });
            return Ok(());
        }
        FileSource::File(path) => {
            if !path.is_file() {
                bail!("{what} {}: {} is not a file that can be read", used.source, path.display());
            }
            Content::Host(path.to_owned())
        }
        FileSource::Content(text) => Content::Bytes(text.as_bytes().to_vec()),
        FileSource::UnsetVariable(variable) => {
            bail!("{what} {}: environment variable \"{variable}\" required by it is not set", used.source)
        }
        FileSource::External => bail!("unsupported external {what} {}", used.source),
    };
    let number = |text: &Option<String>, key: &str| -> Result<u32> {
        let parse = |text: &str| {
            text.parse().with_context(|| format!("{what} {}: {key} must be a number, not {text}", used.source))
        };
        text.as_deref().map_or(Ok(0), parse)
    };
    request.files.push(File {
        target,
        content,
        uid: number(&used.uid, "uid")?,
        gid: number(&used.gid, "gid")?,
        mode: used.mode.unwrap_or(0o444),
    });
    Ok(())
}

/// Two of the containers that are to run, by their services, that ask for the same address and port: they can never
/// both start. `scale` overrides the replicas of the model.
pub fn clashing_ports(chosen: &[&Service], scale: &BTreeMap<String, u32>) -> Option<(String, String, u16)> {
    let mut taken: Vec<(&str, Option<IpAddr>, u16, String)> = Vec::new();
    for service in chosen {
        let count = scale.get(&service.name).copied().unwrap_or_else(|| service.replicas());
        for port in &service.ports {
            let Some(range) = port.published.filter(|range| range.start == range.end && range.start != 0) else {
                continue;
            };
            for _ in 0..count.min(2) {
                let protocol = port.protocol.to_string();
                let overlaps = |other: &Option<IpAddr>| match (other, port.host_ip) {
                    (Some(a), Some(b)) => *a == b || a.is_unspecified() || b.is_unspecified(),
                    _ => true,
                };
                let clash = taken
                    .iter()
                    .find(|(_, ip, number, kind)| *number == range.start && *kind == protocol && overlaps(ip));
                if let Some((other, ..)) = clash {
                    return Some(((*other).to_owned(), service.name.clone(), range.start));
                }
                taken.push((&service.name, port.host_ip, range.start, protocol));
            }
        }
    }
    None
}
