//! The flags of `container run`, as `docker run` has them, turned into a
//! request. Nothing is made here, and nothing looked up but devices by CDI names.

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use umiak_runtime::config::{Device, DeviceRate, Mount, Namespace, Ulimit};

use super::health;
use super::host_flags::HostFlags;
use super::mount_flag::{self, volume};
use super::network_flag::{self, NetworkFlag};
use crate::engine::cdi;
use crate::engine::container::{DnsConfig, LogConfig};
use crate::engine::docker_config;
use crate::engine::request::{Join, NetworkRequest, Request};
use crate::engine::restart::{Condition, RestartPolicy};
use crate::failure::Plain;
use crate::ui::human::parse_size;

/// What a container is made of.
#[derive(Debug, Args)]
#[allow(clippy::struct_excessive_bools, reason = "one per flag")]
pub struct Flags {
    /// Assign a name to the container
    #[arg(long)]
    name: Option<String>,
    /// Set environment variables
    #[arg(short, long, value_name = "K=V", value_parser = named_variable)]
    env: Vec<String>,
    /// Read in a file of environment variables
    #[arg(long, value_name = "FILE")]
    env_file: Vec<PathBuf>,
    /// Set labels
    #[arg(short, long, value_name = "K=V", value_parser = label)]
    label: Vec<String>,
    /// Read in a file of labels
    #[arg(long, value_name = "FILE")]
    label_file: Vec<PathBuf>,
    /// Add an annotation to the container
    #[arg(long, value_name = "K=V")]
    annotation: Vec<String>,
    /// Write the container ID to the file
    #[arg(long, value_name = "FILE")]
    pub cidfile: Option<PathBuf>,
    /// Username or UID (format: <name|uid>[:<group|gid>])
    #[arg(short, long)]
    user: Option<String>,
    /// Additional groups to join
    #[arg(long, value_name = "GROUP")]
    group_add: Vec<String>,
    /// Working directory inside the container
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<String>,
    /// Overwrite the entrypoint of the image
    #[arg(long)]
    entrypoint: Option<String>,
    /// Container host name
    #[arg(short = 'h', long)]
    hostname: Option<String>,
    /// Container NIS domain name
    #[arg(long, value_name = "NAME")]
    domainname: Option<String>,
    /// Publish a container's ports: [[IP:]HOST:]CONTAINER[/PROTO]
    #[arg(short, long, value_name = "PORT")]
    publish: Vec<String>,
    /// Publish all exposed ports on random ports
    #[arg(short = 'P', long)]
    publish_all: bool,
    /// Expose a port or a range of ports
    #[arg(long, value_name = "PORT")]
    expose: Vec<String>,
    /// Bind mount or volume: [SOURCE:]TARGET[:OPTIONS]
    #[arg(short, long, value_name = "VOLUME")]
    volume: Vec<String>,
    /// Mount: type=bind|volume|tmpfs|image,source=…,target=…[,readonly]
    #[arg(long, value_name = "MOUNT", value_parser = mount_flag::parse)]
    mount: Vec<Mount>,
    /// Mount a tmpfs directory: PATH[:OPTIONS]
    #[arg(long, value_name = "PATH")]
    tmpfs: Vec<String>,
    /// Connect to a network: NAME, none, host, container:NAME, or name=NAME,alias=…,ip=…,gw-priority=…
    #[arg(long, visible_alias = "net", value_name = "NETWORK", value_parser = network_flag::parse)]
    network: Vec<NetworkFlag>,
    /// Network-scoped alias
    #[arg(long, visible_alias = "net-alias", value_name = "NAME")]
    network_alias: Vec<String>,
    /// IPv4 address
    #[arg(long)]
    ip: Option<std::net::Ipv4Addr>,
    /// IPv6 address
    #[arg(long)]
    ip6: Option<std::net::Ipv6Addr>,
    /// Add an address to the interfaces, such as a link-local one
    #[arg(long, value_name = "IP")]
    link_local_ip: Vec<std::net::IpAddr>,
    /// Add a link to another container: NAME[:ALIAS]
    #[arg(long, value_name = "NAME")]
    link: Vec<String>,
    /// Hardware address
    #[arg(long, value_name = "MAC")]
    mac_address: Option<String>,
    /// Custom DNS servers
    #[arg(long)]
    dns: Vec<String>,
    /// Custom DNS search domains
    #[arg(long)]
    dns_search: Vec<String>,
    /// DNS options
    #[arg(long)]
    dns_option: Vec<String>,
    /// Add a host-to-IP mapping: HOST:IP
    #[arg(long, value_name = "HOST:IP")]
    add_host: Vec<String>,
    /// Memory limit
    #[arg(short, long, value_name = "BYTES", value_parser = size_text)]
    memory: Option<String>,
    /// Memory soft limit
    #[arg(long, value_name = "BYTES", value_parser = size_text)]
    memory_reservation: Option<String>,
    /// Memory plus swap; -1 for unlimited swap
    #[arg(long, value_name = "BYTES", allow_hyphen_values = true, value_parser = size_text)]
    memory_swap: Option<String>,
    /// Number of CPUs
    #[arg(long, value_name = "N")]
    cpus: Option<f64>,
    /// CPU shares (relative weight)
    #[arg(short, long, value_name = "N")]
    cpu_shares: Option<u64>,
    /// CPU time in microseconds per period
    #[arg(long, value_name = "MICROSECONDS")]
    cpu_quota: Option<i64>,
    /// Length of a CPU period
    #[arg(long, value_name = "MICROSECONDS")]
    cpu_period: Option<u64>,
    /// CPUs in which to allow execution (0-3, 0,1)
    #[arg(long, value_name = "CPUS")]
    cpuset_cpus: Option<String>,
    /// Memory nodes in which to allow execution
    #[arg(long, value_name = "NODES")]
    cpuset_mems: Option<String>,
    /// Limit of processes; -1 for unlimited
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    pids_limit: Option<i64>,
    /// Block I/O weight, 10 to 1000
    #[arg(long, value_name = "WEIGHT")]
    blkio_weight: Option<u16>,
    /// Limit the read rate of a device: DEVICE:BYTES
    #[arg(long, value_name = "DEVICE:BYTES")]
    device_read_bps: Vec<String>,
    /// Limit the write rate of a device: DEVICE:BYTES
    #[arg(long, value_name = "DEVICE:BYTES")]
    device_write_bps: Vec<String>,
    /// Limit the read operations of a device: DEVICE:N
    #[arg(long, value_name = "DEVICE:N")]
    device_read_iops: Vec<String>,
    /// Limit the write operations of a device: DEVICE:N
    #[arg(long, value_name = "DEVICE:N")]
    device_write_iops: Vec<String>,
    /// Tune the host's OOM preferences (-1000 to 1000)
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    oom_score_adj: Option<i32>,
    /// Add a Linux capability
    #[arg(long, value_name = "CAP")]
    cap_add: Vec<String>,
    /// Drop a Linux capability
    #[arg(long, value_name = "CAP")]
    cap_drop: Vec<String>,
    /// Give extended privileges to the container
    #[arg(long)]
    privileged: bool,
    /// Mount the container's root filesystem as read only
    #[arg(long)]
    read_only: bool,
    /// Security options: no-new-privileges, seccomp=…, systempaths=unconfined
    #[arg(long, value_name = "OPTION")]
    security_opt: Vec<String>,
    /// Add a host device: HOST[:CONTAINER[:rwm]], or the name of one in a CDI specification
    #[arg(long, value_name = "DEVICE")]
    device: Vec<String>,
    /// Sysctl options
    #[arg(long, value_name = "K=V")]
    sysctl: Vec<String>,
    /// Ulimit options: NAME=SOFT[:HARD]
    #[arg(long, value_name = "LIMIT")]
    ulimit: Vec<String>,
    /// Size of /dev/shm
    #[arg(long, value_name = "BYTES", value_parser = size_text)]
    shm_size: Option<String>,
    /// Run an init inside the container that forwards signals and reaps processes
    #[arg(long)]
    init: bool,
    /// Kernel memory limit: cgroups have none any more
    #[arg(long, value_name = "BYTES", hide = true)]
    kernel_memory: Option<String>,
    /// Skip image verification: there is none of that kind
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    disable_content_trust: Option<bool>,
    /// Attach to STDIN, STDOUT or STDERR; to all of them, if not given
    #[arg(short, long, value_name = "STREAM", value_parser = stream)]
    pub attach: Vec<Stream>,
    /// Allocate a pseudo-TTY
    #[arg(short, long)]
    pub tty: bool,
    /// Keep STDIN open
    #[arg(short, long)]
    pub interactive: bool,
    /// Signal to stop the container
    #[arg(long, value_name = "SIGNAL")]
    stop_signal: Option<String>,
    /// Seconds to wait before killing the container
    #[arg(long, value_name = "SECONDS")]
    stop_timeout: Option<u64>,
    /// Logging driver: json-file, local, none, journald, syslog
    #[arg(long, value_name = "DRIVER")]
    log_driver: Option<String>,
    /// Log driver options: max-size, max-file, compress, mode, tag, syslog-address and the like
    #[arg(long, value_name = "K=V")]
    log_opt: Vec<String>,
    /// PID namespace to use: host, container:NAME
    #[arg(long, value_name = "MODE")]
    pid: Option<String>,
    /// IPC namespace to use: host, shareable, private, none, container:NAME
    #[arg(long, value_name = "MODE")]
    ipc: Option<String>,
    /// Cgroup namespace to use: host, private
    #[arg(long, value_name = "MODE")]
    cgroupns: Option<String>,
    /// UTS namespace to use: host
    #[arg(long, value_name = "MODE")]
    uts: Option<String>,
    /// Automatically remove the container when it exits
    #[arg(long)]
    pub rm: bool,
    /// Restart policy to apply when a container exits: no, always, on-failure[:N], unless-stopped
    #[arg(long, value_name = "POLICY")]
    restart: Option<String>,
    #[command(flatten)]
    health: health::HealthFlags,
    #[command(flatten)]
    host: HostFlags,
}

/// A stream of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Its input.
    Stdin,
    /// Its output.
    Stdout,
    /// Its errors.
    Stderr,
}

fn stream(text: &str) -> Result<Stream, String> {
    match text.to_lowercase().as_str() {
        "stdin" => Ok(Stream::Stdin),
        "stdout" => Ok(Stream::Stdout),
        "stderr" => Ok(Stream::Stderr),
        _ => Err("valid streams are STDIN, STDOUT and STDERR".to_owned()),
    }
}

impl Flags {
    /// Whether a stream of a container in the foreground is attached to.
    pub fn attaches(&self, stream: Stream) -> bool {
        (self.attach.is_empty() || self.attach.contains(&stream)) && (stream != Stream::Stdin || self.interactive)
    }

    /// The request for `image` with the command line `command`.
    pub fn request(&self, image: &str, command: &[String]) -> Result<Request> {
        let mut request = Request {
            name: self.name.clone().filter(|name| !name.is_empty()),
            image: image.to_owned(),
            entrypoint: self.entrypoint.as_ref().map(|e| if e.is_empty() { Vec::new() } else { vec![e.clone()] }),
            command: (!command.is_empty()).then(|| command.to_vec()),
            env: [docker_config::container_proxies(), environment(&self.env_file, &self.env)?].concat(),
            labels: self.labels()?,
            annotations: self.annotation.iter().map(|annotation| pair(annotation)).collect(),
            working_dir: self.workdir.clone(),
            user: self.user.clone(),
            hostname: self.hostname.clone(),
            ports: self.ports()?,
            publish_all: self.publish_all,
            expose: self.expose.iter().map(|ports| exposed(ports)).collect::<Result<_>>()?,
            network: self.networks()?,
            extra_hosts: self.extra_hosts()?,
            dns: DnsConfig {
                servers: self.dns.clone(),
                search: self.dns_search.clone(),
                options: self.dns_option.clone(),
                links: self.links(),
            },
            log: LogConfig {
                driver: self.log_driver.clone().unwrap_or_else(|| LogConfig::default().driver),
                options: self.log_opt.iter().map(|option| pair(option)).collect(),
            },
            stop_signal: self.stop_signal.clone(),
            stop_timeout: self.stop_timeout,
            auto_remove: self.rm,
            restart: self.restart()?,
            healthcheck: self.health.request()?,
            ..Request::default()
        };
        self.runtime(&mut request)?;
        self.limits(&mut request)?;
        self.host.apply(&mut request)?;
        let named: Vec<String> = self.device.iter().filter(|device| cdi::is_name(device)).cloned().collect();
        cdi::inject(&named, &mut request)?;
        Ok(request)
    }

    fn restart(&self) -> Result<RestartPolicy> {
        let policy = RestartPolicy::parse(self.restart.as_deref().unwrap_or_default())?;
        if self.rm && policy.condition != Condition::No {
            return Err(Plain("conflicting options: cannot specify both --restart and --rm".into()).into());
        }
        Ok(policy)
    }

    fn labels(&self) -> Result<indexmap::IndexMap<String, String>> {
        let mut all = indexmap::IndexMap::new();
        for path in &self.label_file {
            let text = read(path)?;
            let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
            all.extend(lines.map(pair));
        }
        all.extend(self.label.iter().map(|label| pair(label)));
        Ok(all)
    }

    fn links(&self) -> Vec<(String, String)> {
        self.link.iter().map(|text| link(text)).collect()
    }

    fn ports(&self) -> Result<Vec<umiak_netns::publish::PortSpec>> {
        let mut ports = Vec::new();
        for text in &self.publish {
            ports.extend(crate::engine::ports::parse(text).map_err(|error| Plain(format!("{error:#}")))?);
        }
        Ok(ports)
    }

    fn networks(&self) -> Result<NetworkRequest> {
        let defaults = Join {
            aliases: self.network_alias.clone(),
            ipv4: self.ip,
            ipv6: self.ip6,
            mac: self.mac_address.clone(),
            link_local: self.link_local_ip.clone(),
            ..Join::default()
        };
        network_flag::request(&self.network, &defaults).map_err(anyhow::Error::msg)
    }

    fn extra_hosts(&self) -> Result<Vec<(String, String)>> {
        let split = |entry: &String| {
            let (host, address) = entry.split_once([':', '='])?;
            (!host.is_empty() && !address.is_empty()).then(|| (host.to_owned(), address.to_owned()))
        };
        self.add_host
            .iter()
            .map(|entry| split(entry).with_context(|| format!("bad format for add-host: \"{entry}\"")))
            .collect()
    }

    fn runtime(&self, request: &mut Request) -> Result<()> {
        let runtime = &mut request.runtime;
        for text in &self.volume {
            runtime.mounts.push(volume(text)?);
        }
        request.asked.mounts.extend(self.mount.iter().map(|mount| mount.target.clone()));
        runtime.mounts.extend(self.mount.iter().cloned());
        for text in &self.tmpfs {
            runtime.mounts.push(crate::engine::mounts::tmpfs(text)?);
        }
        runtime.domainname = self.domainname.clone().unwrap_or_default();
        runtime.group_add.clone_from(&self.group_add);
        runtime.cap_add.clone_from(&self.cap_add);
        runtime.cap_drop.clone_from(&self.cap_drop);
        runtime.privileged = self.privileged;
        runtime.rootfs.read_only = self.read_only;
        runtime.init = self.init;
        runtime.tty = self.tty;
        runtime.stdin_open = self.interactive;
        for option in &self.security_opt {
            crate::engine::security::apply(
                runtime,
                option,
                &std::env::current_dir().context("the current directory")?,
            )?;
        }
        for device in self.device.iter().filter(|device| !cdi::is_name(device)) {
            runtime.devices.push(self::device(device)?);
        }
        runtime.sysctls = self.sysctl.iter().map(|entry| pair(entry)).collect();
        for text in &self.ulimit {
            runtime.ulimits.push(ulimit(text)?);
        }
        if let Some(size) = &self.shm_size {
            runtime.shm_size = bytes("--shm-size", size)?;
        }
        self.namespaces(request)
    }

    fn namespaces(&self, request: &mut Request) -> Result<()> {
        for (flag, value) in [("pid", &self.pid), ("ipc", &self.ipc), ("uts", &self.uts), ("cgroupns", &self.cgroupns)]
        {
            let Some(value) = value else { continue };
            let mode = match (flag, value.as_str(), value.strip_prefix("container:")) {
                (_, "host", _) => Namespace::Host,
                (_, "private", _) => Namespace::Private,
                ("ipc", "shareable", _) => Namespace::Shareable,
                ("ipc", "none", _) => Namespace::Bare,
                ("pid" | "ipc", _, Some(container)) => {
                    request.join.push((if flag == "pid" { "pid" } else { "ipc" }, container.to_owned()));
                    continue;
                }
                _ => bail!("--{flag}: invalid mode \"{value}\""),
            };
            match flag {
                "pid" => request.runtime.pid_ns = mode,
                "ipc" => request.runtime.ipc_ns = mode,
                "cgroupns" => request.runtime.cgroup_ns = mode,
                _ => request.runtime.uts_ns = mode,
            }
        }
        Ok(())
    }

    fn limits(&self, request: &mut Request) -> Result<()> {
        let limits = &mut request.runtime.limits;
        let size = |flag: &str, value: &Option<String>| value.as_deref().map(|text| bytes(flag, text)).transpose();
        limits.memory = size("--memory", &self.memory)?;
        limits.memory_reservation = size("--memory-reservation", &self.memory_reservation)?;
        limits.memory_swap = match self.memory_swap.as_deref() {
            Some("-1") => Some(-1),
            Some(text) => Some(i64::try_from(bytes("--memory-swap", text)?)?),
            None => None,
        };
        limits.nano_cpus = self.cpus.map(crate::engine::limits::nano_cpus).transpose()?;
        limits.cpu_shares = self.cpu_shares;
        limits.cpu_quota = self.cpu_quota;
        limits.cpu_period = self.cpu_period;
        limits.cpuset_cpus = self.cpuset_cpus.clone().unwrap_or_default();
        limits.cpuset_mems = self.cpuset_mems.clone().unwrap_or_default();
        if let Some(pids) = self.pids_limit {
            limits.pids = if pids == 0 { -1 } else { pids };
        }
        limits.blkio_weight = self.blkio_weight;
        let rates = |flag: &str, all: &[String]| -> Result<Vec<DeviceRate>> {
            all.iter().map(|text| rate(flag, text)).collect()
        };
        limits.blkio_read_bps = rates("--device-read-bps", &self.device_read_bps)?;
        limits.blkio_write_bps = rates("--device-write-bps", &self.device_write_bps)?;
        limits.blkio_read_iops = rates("--device-read-iops", &self.device_read_iops)?;
        limits.blkio_write_iops = rates("--device-write-iops", &self.device_write_iops)?;
        if self.kernel_memory.is_some() {
            crate::note!(
                "WARNING: --kernel-memory is ignored: Linux counts the kernel's memory with the container's own"
            );
        }
        limits.oom_score_adj = self.oom_score_adj.unwrap_or(0);
        Ok(())
    }
}

/// `K=V` or `K`, with a name.
pub fn named_variable(text: &str) -> Result<String, String> {
    match text.split('=').next() {
        None | Some("") => Err(format!("invalid environment variable: {text}")),
        Some(_) => Ok(text.to_owned()),
    }
}

/// The same of a label, whose key has no blanks.
pub fn label(text: &str) -> Result<String, String> {
    match text.split('=').next().unwrap_or_default().trim_start() {
        "" => Err(format!("invalid label '{text}': empty name")),
        key if key.contains(char::is_whitespace) => Err(format!("label '{key}' contains whitespaces")),
        _ => Ok(text.to_owned()),
    }
}

/// A port or a range of ports, as it was given.
fn exposed(text: &str) -> Result<String> {
    let range = text.split('/').next().unwrap_or_default();
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    for port in [first, last] {
        if port.parse::<u16>().is_err() {
            return Err(Plain(format!(
                "invalid range format for --expose: {text}, error: strconv.ParseUint: parsing \"{port}\": invalid syntax"
            )).into());
        }
    }
    Ok(text.to_owned())
}

/// `K=V`; a value is empty where there is none.
pub fn pair(text: &str) -> (String, String) {
    let (key, value) = text.split_once('=').unwrap_or((text, ""));
    (key.to_owned(), value.to_owned())
}

/// `K=V`, or `K` to take it from our own environment; `None` where that has none.
pub fn variable(text: &str) -> Option<(String, Option<String>)> {
    match text.split_once('=') {
        Some((key, value)) => Some((key.to_owned(), Some(value.to_owned()))),
        None => std::env::var(text).ok().map(|value| (text.to_owned(), Some(value))),
    }
}

/// A file of the command line.
fn read(path: &std::path::Path) -> Result<String> {
    std::fs::read_to_string(path).map_err(|error| Plain(format!("open {}: {error}", path.display())).into())
}

/// The variables of files and flags; flags are later and win.
pub fn environment(files: &[PathBuf], flags: &[String]) -> Result<Vec<(String, Option<String>)>> {
    let mut all = Vec::new();
    for path in files {
        let text = read(path)?;
        let lines = text.lines().map(str::trim_start).filter(|line| !line.is_empty() && !line.starts_with('#'));
        for line in lines {
            let name = line.split('=').next().unwrap_or_default();
            let wrong = match () {
                () if name.is_empty() => format!("no variable name on line '{line}'"),
                () if name.contains(char::is_whitespace) => format!("variable '{name}' contains whitespaces"),
                () => {
                    all.extend(variable(line));
                    continue;
                }
            };
            return Err(Plain(format!("invalid env file ({}): {wrong}", path.display())).into());
        }
    }
    all.extend(flags.iter().filter_map(|entry| variable(entry)));
    Ok(all)
}

/// `NAME[:ALIAS]`: the alias and the name.
pub fn link(text: &str) -> (String, String) {
    let (name, alias) = text.split_once(':').unwrap_or((text, text));
    (alias.trim_start_matches('/').to_owned(), name.trim_start_matches('/').to_owned())
}

/// The text of a size; -1 stands for none.
pub fn size_text(text: &str) -> Result<String, String> {
    match text == "-1" || parse_size(text).is_some() {
        true => Ok(text.to_owned()),
        false => Err(format!("invalid size: '{text}'")),
    }
}

/// A size of memory.
pub(in crate::commands) fn bytes(flag: &str, text: &str) -> Result<u64> {
    parse_size(text).with_context(|| format!("{flag}: \"{text}\" is not a size like 64m or 1.5g"))
}

fn rate(flag: &str, text: &str) -> Result<DeviceRate> {
    let (path, rate) = text.rsplit_once(':').with_context(|| format!("{flag}: \"{text}\" is not DEVICE:RATE"))?;
    Ok(DeviceRate { path: path.into(), rate: bytes(flag, rate)? })
}

fn device(text: &str) -> Result<Device> {
    let mut parts = text.split(':');
    let host = parts.next().unwrap_or_default();
    let second = parts.next();
    let (container, permissions) = match (second, parts.next()) {
        (Some(permissions), None) if permissions.bytes().all(|b| b"rwm".contains(&b)) => (host, permissions),
        (container, permissions) => (container.unwrap_or(host), permissions.unwrap_or("rwm")),
    };
    if !host.starts_with('/') || !container.starts_with('/') || !permissions.bytes().all(|b| b"rwm".contains(&b)) {
        bail!("bad device specification: {text}");
    }
    Ok(Device { host: host.into(), container: container.into(), permissions: permissions.to_owned() })
}

pub(in crate::commands) fn ulimit(text: &str) -> Result<Ulimit> {
    let wrong = || format!("invalid ulimit argument: {text}");
    let (name, values) = text.split_once('=').with_context(wrong)?;
    let (soft, hard) = values.split_once(':').unwrap_or((values, values));
    let number = |value: &str| value.parse::<i64>().with_context(wrong);
    Ok(Ulimit { name: name.to_owned(), soft: number(soft)?, hard: number(hard)? })
}
