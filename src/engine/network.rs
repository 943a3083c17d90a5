//! Networks as objects: `networks/<name>.json` and what the kernel holds of them.
//!
//! A bridge is made when the first container is attached, also after a reboot;
//! it goes when the network is removed. The default network of single containers
//! removes itself with its last container, so that nothing stays behind.

pub mod default;
mod pools;

use std::collections::BTreeMap;
use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use umiak_base::{FileLock, state};
use umiak_netns::cidr::Cidr;
use umiak_netns::endpoint::{EndpointSpec, host_ifname};
use umiak_netns::ipam::{Leases, SubnetRequest};
use umiak_netns::link::Links;
use umiak_netns::publish::PortSpec;
use umiak_netns::{Network, NetworkRequest, dns, endpoint, firewall, namespace};

use super::Roots;
use super::container::{Attachment, Config};
use super::request::{Join, Request};
use super::roots::make_dir;
use crate::failpoint::reach;
use crate::project::labels;
use umiak_compose::{NetworkDef, Project};

/// The network of containers that name none.
pub const DEFAULT: &str = "bridge";

/// What is wanted of a network.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// Its name.
    pub name: String,
    /// `bridge`.
    pub driver: Option<String>,
    /// `com.docker.network.bridge.name` and so on.
    pub options: BTreeMap<String, String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// No way out.
    pub internal: bool,
    /// With an IPv6 subnet.
    pub ipv6: bool,
    /// Subnets asked for.
    pub subnets: Vec<SubnetRequest>,
    /// Without IPv4.
    pub no_ipv4: bool,
    /// `default`, or `null`: no addresses.
    pub ipam: Option<String>,
    /// For `inspect`.
    pub attachable: bool,
}

impl Wanted {
    /// A project's network.
    pub fn of_project(project: &Project, key: &str, definition: &NetworkDef) -> Result<Self> {
        let hash = crate::project::hash::network(definition)?;
        let own = [
            (labels::CONFIG_HASH, hash.as_str()),
            (labels::PROJECT, project.name.as_str()),
            (labels::NETWORK, key),
            (labels::VERSION, env!("CARGO_PKG_VERSION")),
        ];
        let mut all: BTreeMap<String, String> = definition.labels.clone().into_iter().collect();
        all.extend(own.map(|(key, value)| (key.to_owned(), value.to_owned())));
        let cidr = |cidr: &umiak_compose::Cidr| Cidr::new(cidr.address, cidr.prefix);
        let subnets = definition
            .ipam
            .config
            .iter()
            .map(|pool| SubnetRequest {
                cidr: pool.subnet.as_ref().and_then(cidr),
                gateway: pool.gateway,
                ip_range: pool.ip_range.as_ref().and_then(cidr),
                aux: pool.aux_addresses.iter().map(|(name, address)| (name.clone(), *address)).collect(),
            })
            .collect();
        Ok(Self {
            name: definition.name.clone(),
            driver: definition.driver.clone(),
            options: definition.driver_opts.clone().into_iter().collect(),
            labels: all,
            internal: definition.internal,
            ipv6: definition.enable_ipv6.unwrap_or(false),
            subnets,
            no_ipv4: definition.enable_ipv4 == Some(false),
            ipam: definition.ipam.driver.clone(),
            attachable: definition.attachable,
        })
    }
}

impl Wanted {
    fn request(&self) -> NetworkRequest {
        NetworkRequest {
            name: self.name.clone(),
            driver: self.driver.clone(),
            no_addresses: self.ipam.as_deref() == Some("null"),
            disable_ipv4: self.no_ipv4,
            subnets: self.subnets.clone(),
            internal: self.internal,
            enable_ipv6: self.ipv6,
            labels: self.labels.clone(),
            options: self.options.clone(),
            attachable: self.attachable,
            pools: Vec::new(),
        }
    }
}

fn path(roots: &Roots, name: &str) -> PathBuf {
    roots.networks().join(format!("{name}.json"))
}

fn leases(roots: &Roots, name: &str) -> Leases {
    Leases::new(roots.networks().join(format!("{name}.leases")))
}

/// One network changes at a time; commands that only read take no lock.
fn lock(roots: &Roots, name: &str) -> Result<FileLock> {
    Ok(FileLock::exclusive(&roots.lock(&format!("network-{name}")))?)
}

/// A network by its name.
pub fn find(roots: &Roots, name: &str) -> Result<Option<Network>> {
    if check_name(name).is_err() {
        return Ok(None);
    }
    Ok(state::read(&path(roots, name))?)
}

/// A network by name, id, or a prefix of its id.
pub fn lookup(roots: &Roots, key: &str) -> Result<Network> {
    if let Some(network) = find(roots, key)? {
        return Ok(network);
    }
    let mut by_id: Vec<Network> =
        list(roots)?.into_iter().filter(|n| !key.is_empty() && n.id.starts_with(key)).collect();
    match (by_id.pop(), by_id.is_empty()) {
        (Some(network), true) => Ok(network),
        (Some(_), false) => bail!("the id prefix {key} is ambiguous"),
        (None, _) => bail!("network {key} not found"),
    }
}

/// All networks, by name. A damaged one is reported and left out.
pub fn list(roots: &Roots) -> Result<Vec<Network>> {
    let dir = roots.networks();
    let mut all = Vec::new();
    let entries = match std::fs::read_dir(&dir) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(all),
        entries => entries.with_context(|| format!("list {}", dir.display()))?,
    };
    for entry in entries {
        let name = entry.with_context(|| format!("list {}", dir.display()))?.file_name();
        let Some(name) = name.to_str().and_then(|name| name.strip_suffix(".json")) else { continue };
        match find(roots, name) {
            Ok(network) => all.extend(network),
            Err(error) => crate::note!("warning: {}", crate::failure::one_line(&error)),
        }
    }
    all.sort_by(|a: &Network, b| a.name.cmp(&b.name));
    Ok(all)
}

/// Docker's rule for names.
pub fn check_name(name: &str) -> Result<()> {
    let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
    if name.is_empty() || name.len() > 200 || !name.as_bytes()[0].is_ascii_alphanumeric() || !name.bytes().all(legal) {
        bail!("invalid network name: \"{name}\", only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed");
    }
    Ok(())
}

/// Makes the network unless it is there; whether it was made. An external one must be there.
pub fn ensure(roots: &Roots, wanted: &Wanted, external: bool) -> Result<bool> {
    if external {
        // These are not files: a container that joins one is in the host's namespace, or has nothing but `lo`.
        if matches!(wanted.name.as_str(), "host" | "none" | DEFAULT) {
            return Ok(false);
        }
        return match find(roots, &wanted.name)? {
            Some(_) => Ok(false),
            None => bail!("network {} declared as external, but could not be found", wanted.name),
        };
    }
    if let Some(there) = find(roots, &wanted.name)? {
        let owner = |labels: &BTreeMap<String, String>| labels.get(labels::PROJECT).cloned();
        if owner(&there.labels) != owner(&wanted.labels) {
            bail!(
                "a network with name {} exists but was not created for this project: set `external: true` to use an existing network",
                wanted.name
            );
        }
        return Ok(false);
    }
    create(roots, wanted).map(|_| true)
}

/// Makes a network: chooses its subnet and writes it down. The bridge comes with the first container.
pub fn create(roots: &Roots, wanted: &Wanted) -> Result<Network> {
    check_name(&wanted.name)?;
    // The first one is made like all others, when it is needed.
    if matches!(wanted.name.as_str(), "host" | "none" | "default") {
        bail!("operation is not permitted on predefined {} network", wanted.name);
    }
    if let Some(driver @ ("host" | "none" | "null")) = wanted.driver.as_deref() {
        bail!(
            "only one instance of \"{driver}\" network is allowed: use it with `name: {driver}` and `external: true`"
        );
    }
    if let Some(driver) = wanted.ipam.as_deref().filter(|driver| !matches!(*driver, "" | "default" | "null")) {
        bail!("network {}: the IPAM driver \"{driver}\" is not supported: use default or null", wanted.name);
    }
    // Subnets are chosen one network at a time, or two would choose the same.
    let _all = FileLock::exclusive(&roots.lock("subnets"))?;
    if find(roots, &wanted.name)?.is_some() {
        bail!("network with name {} already exists", wanted.name);
    }
    let mut taken = Links::open()?.taken(None)?;
    taken.extend(list(roots)?.iter().flat_map(Network::taken));
    let id = umiak_base::id::new_id().context("random bytes")?;
    let request = NetworkRequest { pools: pools::of_environment()?, ..wanted.request() };
    let network = Network::plan(&request, &id, &jiff::Timestamp::now().to_string(), &taken)?;
    state::write(&path(roots, &wanted.name), &network)?;
    super::events::network(roots, "create", &network.name, &network.id);
    Ok(network)
}

/// Removes a network: its bridge, its rules, its file. Containers that are attached are named.
pub fn remove(roots: &Roots, name: &str) -> Result<()> {
    let _lock = lock(roots, &lookup(roots, name)?.name)?;
    // Looked up anew: it may have gone, or come back as another, before the lock was ours.
    let network = lookup(roots, name)?;
    let users = users(roots, &network)?;
    if !users.is_empty() {
        bail!("network {} has active endpoints: {}", network.name, users.join(", "));
    }
    tear_down(roots, &network)?;
    let file = path(roots, &network.name);
    std::fs::remove_file(&file).with_context(|| format!("remove {}", file.display()))?;
    let _ = std::fs::remove_file(roots.lock(&format!("network-{}", network.name)));
    super::events::network(roots, "destroy", &network.name, &network.id);
    Ok(())
}

fn tear_down(roots: &Roots, network: &Network) -> Result<()> {
    network.down(&Links::open()?, &roots.run)?;
    dns::forget_network(&roots.run.join("dns"), &network.id)?;
    leases(roots, &network.name).remove()?;
    Ok(())
}

/// The names of containers attached to a network.
pub fn users(roots: &Roots, network: &Network) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for container in super::Container::list(roots, &mut |_| {})? {
        if container.config.network.attachments().iter().any(|a| a.network_id == network.id) {
            names.push(container.config.name);
        }
    }
    Ok(names)
}

impl super::Engine {
    /// The networks that a request names must be there; the default one is made when a container joins it.
    pub fn check_networks(&self, request: &Request) -> Result<()> {
        for (_, name) in &request.dns.links {
            if super::container::Container::find(&self.roots, name).is_err() {
                bail!("could not get container for {name}: No such container: {name}");
            }
        }
        let super::request::NetworkRequest::Networks(joins) = &request.network else { return Ok(()) };
        for join in joins.iter().filter(|join| join.network != DEFAULT) {
            if find(&self.roots, &join.network)?.is_none() {
                bail!("network {} not found", join.network);
            }
        }
        Ok(())
    }
}

/// Gives a new container an address on each network it joins.
pub fn attachments(roots: &Roots, id: &str, joins: &[Join]) -> Result<Vec<Attachment>> {
    let mut all = Vec::new();
    for (index, join) in joins.iter().enumerate() {
        let _lock = lock(roots, &join.network)?;
        let network = joined(roots, &join.network)?;
        all.push(
            attachment(roots, id, index, join, &network, true).with_context(|| format!("network {}", join.network))?,
        );
    }
    choose_default_route(&mut all);
    Ok(all)
}

/// The default route goes through the network with the highest priority, the first one among equals.
pub fn choose_default_route(attachments: &mut [Attachment]) {
    let usable = attachments.iter().enumerate().filter(|(_, attachment)| !attachment.internal);
    let best = usable.max_by_key(|(index, attachment)| (attachment.gateway_priority, std::cmp::Reverse(*index)));
    let best = best.map(|(index, _)| index);
    for (index, attachment) in attachments.iter_mut().enumerate() {
        attachment.default_route = best == Some(index);
    }
}

/// The network that a container joins; the default one is made for its first container.
fn joined(roots: &Roots, name: &str) -> Result<Network> {
    match find(roots, name)? {
        Some(network) => Ok(network),
        None if name == DEFAULT => create(roots, &Wanted { name: DEFAULT.into(), ..Wanted::default() }),
        None => bail!("network {name} not found"),
    }
}

/// Gives a container an address on one more network, in the `place`th interface.
pub fn one_attachment(roots: &Roots, id: &str, place: usize, join: &Join) -> Result<Attachment> {
    let _lock = lock(roots, &join.network)?;
    let network = find(roots, &join.network)?.with_context(|| format!("network {} not found", join.network))?;
    attachment(roots, id, place, join, &network, false)
}

fn attachment(
    roots: &Roots,
    id: &str,
    index: usize,
    join: &Join,
    network: &Network,
    is_new: bool,
) -> Result<Attachment> {
    let exists = |id: &str| roots.container(id).exists();
    let options = super::endpoint_options::parse(&join.driver_opts)?;
    let ifname = join.ifname.clone().or(options.ifname);
    let mut attachment = Attachment {
        network: network.name.clone(),
        network_id: network.id.clone(),
        place: index,
        ifname: ifname.unwrap_or_else(|| format!("{}{index}", network.interface_prefix)),
        aliases: join.aliases.clone(),
        static_address: join.ipv4.is_some() || join.ipv6.is_some(),
        mac: join.mac.clone(),
        internal: network.internal,
        gateway_priority: join.gateway_priority,
        link_local: join.link_local.clone(),
        sysctls: options.sysctls,
        ..Attachment::default()
    };
    if network.subnets.is_empty() && attachment.mac.is_none() {
        // Otherwise it is made from the address.
        let random = umiak_base::id::random_hex(4).context("random bytes")?;
        let pairs: Vec<&str> = (0..4).filter_map(|index| random.get(index * 2..index * 2 + 2)).collect();
        attachment.mac = Some(format!("02:42:{}", pairs.join(":")));
    }
    if let Some(mac) = &join.mac {
        parse_mac(mac)?;
    }
    for subnet in &network.subnets {
        let wanted = match subnet.cidr.is_ipv4() {
            true => join.ipv4.map(IpAddr::V4),
            false => join.ipv6.map(IpAddr::V6),
        };
        let leases = leases(roots, &network.name);
        let lease = if is_new { Leases::first_lease } else { Leases::lease };
        let address = match lease(&leases, subnet, wanted, id, &exists) {
            // It may be free in a moment.
            Err(error) => {
                let held = leases.all()?;
                match super::remnants::wait_for_leaving(roots, held.iter().map(|(_, holder)| holder.as_str()))? {
                    true => leases.lease(subnet, wanted, id, &exists)?,
                    false => return Err(error.into()),
                }
            }
            address => address?,
        };
        match (address, subnet.gateway) {
            (IpAddr::V4(ip), IpAddr::V4(gateway)) => {
                attachment.ipv4 = Some((ip, subnet.cidr.prefix()));
                attachment.gateway = Some(gateway);
            }
            (IpAddr::V6(ip), IpAddr::V6(gateway)) => {
                attachment.ipv6 = Some((ip, subnet.cidr.prefix()));
                attachment.gateway6 = Some(gateway);
            }
            _ => bail!("the gateway of {} is of another family", subnet.cidr),
        }
    }
    Ok(attachment)
}

fn parse_mac(text: &str) -> Result<[u8; 6]> {
    let bytes: Vec<u8> = text.split([':', '-']).filter_map(|part| u8::from_str_radix(part, 16).ok()).collect();
    bytes.try_into().ok().with_context(|| format!("invalid mac address: {text}"))
}

/// The ports of a container; those without an address of the host are published where their network says.
pub fn with_host_binding(roots: &Roots, config: &Config) -> Result<Vec<PortSpec>> {
    let mut ports = config.ports.clone();
    let attachments = config.network.attachments();
    let Some(attachment) = attachments.iter().find(|a| a.default_route).or(attachments.first()) else {
        return Ok(ports);
    };
    let binding = find(roots, &attachment.network)?.and_then(|network| network.host_binding_ipv4);
    for port in ports.iter_mut().filter(|port| port.host_ip.is_none()) {
        port.host_ip = binding;
    }
    Ok(ports)
}

/// Makes firewall rules anew that somebody has flushed, with those of everything that runs.
pub fn repair_if_flushed(roots: &Roots, network: &Network, links: &Links) -> Result<()> {
    if network.direct.is_some() || links.get(&network.bridge)?.is_none() || firewall::has_network(network)? {
        return Ok(());
    }
    repair(roots, links)
}

/// Makes the firewall's whole table anew from what is there.
pub fn repair(roots: &Roots, links: &Links) -> Result<()> {
    let mut up = Vec::new();
    for network in list(roots)? {
        if network.direct.is_none() && links.get(&network.bridge)?.is_some() {
            up.push(network);
        }
    }
    let mut published = Vec::new();
    for container in super::Container::list(roots, &mut |_| {})? {
        if container.state.status.is_up() {
            published.extend(super::ports::translations(&container.config, &container.state.ports));
        }
    }
    Ok(firewall::repair(&up, &published)?)
}

/// Makes the container's namespace with all its interfaces, unless it is there.
pub fn attach(roots: &Roots, config: &Config) -> Result<()> {
    let pin = roots.netns(&config.id);
    let unfinished = roots.container_run(&config.id).join("network");
    if unfinished.exists() {
        // A command was killed while it made it: nothing runs in it yet.
        detach(roots, config)?;
    }
    if namespace::open(&pin).is_ok() {
        // It outlived the last run; of its networks, settings and rules may have been changed since.
        if !config.network.attachments().is_empty() {
            let links = Links::open()?;
            for attachment in config.network.attachments() {
                bring_up(roots, &links, attachment)?;
            }
        }
        return Ok(());
    }
    make_dir(&roots.container_run(&config.id))?;
    std::fs::write(&unfinished, "").with_context(|| format!("write {}", unfinished.display()))?;
    let netns = namespace::create(&pin)?;
    reach("start: the namespace is there");
    let result = connect_all(roots, config, &netns);
    reach("start: the networks are attached");
    if result.is_ok() || detach(roots, config).is_ok() {
        std::fs::remove_file(&unfinished).with_context(|| format!("remove {}", unfinished.display()))?;
    }
    result
}

fn connect_all(roots: &Roots, config: &Config, netns: &File) -> Result<()> {
    let attachments = config.network.attachments();
    if attachments.is_empty() {
        return Ok(endpoint::loopback_up(netns)?);
    }
    let links = Links::open()?;
    for attachment in attachments {
        connect_one(roots, &links, config, netns, attachment)
            .with_context(|| format!("attach to network {}", attachment.network))?;
    }
    Ok(())
}

/// Adds one interface to a namespace that is there; a container that has none yet gets it at its start.
pub fn attach_one(roots: &Roots, config: &Config, attachment: &Attachment) -> Result<()> {
    let Ok(netns) = namespace::open(&roots.netns(&config.id)) else { return Ok(()) };
    connect_one(roots, &Links::open()?, config, &netns, attachment)
}

/// Takes one interface away.
pub fn detach_one(roots: &Roots, config: &Config, attachment: &Attachment) -> Result<()> {
    if let Ok(netns) = namespace::open(&roots.netns(&config.id)) {
        endpoint::detach(&Links::open()?, &[&host_ifname(&config.id, attachment.place)])?;
        // An interface without a side on the host is still there.
        endpoint::detach_inside(&netns, &attachment.ifname)?;
    }
    Ok(())
}

/// Gives back a container's addresses on one network.
pub fn release_one(roots: &Roots, attachment: &Attachment, id: &str) -> Result<()> {
    Ok(leases(roots, &attachment.network).release(id)?)
}

fn bring_up(roots: &Roots, links: &Links, attachment: &Attachment) -> Result<Network> {
    let _lock = lock(roots, &attachment.network)?;
    let network = find(roots, &attachment.network)?
        .filter(|network| network.id == attachment.network_id)
        .with_context(|| format!("network {} not found: it was removed; recreate the container", attachment.network))?;
    repair_if_flushed(roots, &network, links)?;
    network.up(links, &roots.run)?;
    Ok(network)
}

fn connect_one(roots: &Roots, links: &Links, config: &Config, netns: &File, attachment: &Attachment) -> Result<()> {
    let network = bring_up(roots, links, attachment)?;
    endpoint::attach(links, &network, netns, &endpoint_spec(config, attachment, &network)?)?;
    Ok(())
}

/// Leads a running container's default route through one of its networks.
pub fn lead_through(roots: &Roots, config: &Config, attachment: &Attachment) -> Result<()> {
    let Ok(netns) = namespace::open(&roots.netns(&config.id)) else { return Ok(()) };
    let network = lookup(roots, &attachment.network)?;
    endpoint::lead_through(&network, &netns, &endpoint_spec(config, attachment, &network)?)?;
    Ok(())
}

fn endpoint_spec(config: &Config, attachment: &Attachment, network: &Network) -> Result<EndpointSpec> {
    let v4 = |(ip, _): (Ipv4Addr, u8)| IpAddr::V4(ip);
    let v6 = |(ip, _): (Ipv6Addr, u8)| IpAddr::V6(ip);
    Ok(EndpointSpec {
        ifname: attachment.ifname.clone(),
        addresses: attachment.ipv4.map(v4).into_iter().chain(attachment.ipv6.map(v6)).collect(),
        mac: attachment.mac.as_deref().map(parse_mac).transpose()?,
        default_route: attachment.default_route && !network.internal,
        host_ifname: host_ifname(&config.id, attachment.place),
        extra: attachment.link_local.iter().filter_map(|address| link_local(*address)).collect(),
        sysctls: attachment.sysctls.clone(),
    })
}

/// With the prefix of its kind, as Docker gives it.
fn link_local(address: IpAddr) -> Option<Cidr> {
    Cidr::new(address, if address.is_ipv4() { 16 } else { 64 })
}

/// Removes the container's interfaces and namespace.
pub fn detach(roots: &Roots, config: &Config) -> Result<()> {
    detach_networks(roots, config, config.network.attachments())
}

/// As [`detach`], for attachments that the container has or had.
pub fn detach_networks(roots: &Roots, config: &Config, attachments: &[Attachment]) -> Result<()> {
    if !attachments.is_empty() {
        // Not left to the namespace's end: that comes later, when nobody waits for it.
        let names: Vec<String> = attachments.iter().map(|a| host_ifname(&config.id, a.place)).collect();
        endpoint::detach(&Links::open()?, &names.iter().map(String::as_str).collect::<Vec<_>>())?;
    }
    namespace::remove(&roots.netns(&config.id))?;
    Ok(())
}

/// Gives back all addresses of a container.
pub fn release(roots: &Roots, id: &str) -> Result<()> {
    for network in list(roots)? {
        leases(roots, &network.name).release(id)?;
    }
    Ok(())
}

/// Removes what killed commands had begun to write; not while another one writes.
pub fn sweep(roots: &Roots) -> Result<()> {
    let Some(_lock) = FileLock::try_exclusive(&roots.lock("subnets"))? else { return Ok(()) };
    let dir = roots.networks();
    for entry in std::fs::read_dir(&dir).with_context(|| format!("list {}", dir.display()))?.flatten() {
        let name = entry.file_name();
        if name.to_str().is_some_and(|name| name.starts_with('.') && name.ends_with(".tmp")) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
    Ok(())
}

/// As [`detach`], for a container of which nothing is known but its id.
pub fn detach_all(roots: &Roots, id: &str) -> Result<()> {
    let links = Links::open()?;
    let prefix = host_ifname(id, 0);
    let prefix = prefix.trim_end_matches('0');
    let names: Vec<String> =
        links.list()?.into_iter().map(|link| link.name).filter(|name| name.starts_with(prefix)).collect();
    endpoint::detach(&links, &names.iter().map(String::as_str).collect::<Vec<_>>())?;
    namespace::remove(&roots.netns(id))?;
    Ok(())
}
