//! A network: what it is (its state file), how it is planned from what the user
//! asks, and its coming up and going down on this host.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use umiak_base::FileLock;
use umiak_base::lock::LockError;

use crate::bridge::{self, BridgeError};
use crate::cidr::Cidr;
use crate::direct::{Direct, DirectError, Kind};
use crate::endpoint::{EndpointSpec, valid_ifname};
use crate::firewall::{self, FirewallError};
use crate::ipam::{self, IpamError, Subnet, SubnetRequest, Taken};
use crate::link::Links;
use crate::sysctl::{self, SysctlError};

/// Why a network could not be planned, brought up or taken down.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// Addresses.
    #[error("network {network}")]
    Ipam {
        /// The network.
        network: String,
        /// What is wrong with them.
        #[source]
        source: IpamError,
    },
    /// A driver that is not here.
    #[error("network {network}: driver {driver} is not supported, only bridge, macvlan and ipvlan")]
    Driver {
        /// The network.
        network: String,
        /// What was asked for.
        driver: String,
    },
    /// A driver option that does nothing here.
    #[error("network {network}: driver option {option} is not supported")]
    Option {
        /// The network.
        network: String,
        /// The option.
        option: String,
    },
    /// A driver option with a value that it cannot have.
    #[error("network {network}: driver option {option} cannot be `{value}`: {expected}")]
    OptionValue {
        /// The network.
        network: String,
        /// The option.
        option: String,
        /// Its value.
        value: String,
        /// What it can be.
        expected: &'static str,
    },
    /// More than one subnet of a family, or none where one is needed.
    #[error("network {network}: {problem}")]
    Subnets {
        /// The network.
        network: String,
        /// What is wrong.
        problem: &'static str,
    },
    /// The bridge.
    #[error("network {network}")]
    Bridge {
        /// The network.
        network: String,
        /// What failed.
        #[source]
        source: BridgeError,
    },
    /// The link that the containers' interfaces hang on.
    #[error("network {network}")]
    Parent {
        /// The network.
        network: String,
        /// What failed.
        #[source]
        source: DirectError,
    },
    /// The firewall.
    #[error("network {network}")]
    Firewall {
        /// The network.
        network: String,
        /// What failed.
        #[source]
        source: FirewallError,
    },
    /// A setting of the host.
    #[error("network {network}")]
    Sysctl {
        /// The network.
        network: String,
        /// What failed.
        #[source]
        source: SysctlError,
    },
    /// The lock that networks come and go under.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The directory of that lock.
    #[error("create {path}")]
    LockDirectory {
        /// The directory.
        path: PathBuf,
        /// The kernel's answer.
        #[source]
        source: std::io::Error,
    },
}

/// A bridge network, as its state file has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// 64 hex digits.
    pub id: String,
    /// Its name.
    pub name: String,
    /// `bridge`, `macvlan` or `ipvlan`.
    pub driver: String,
    /// The bridge's name; empty where there is none.
    pub bridge: String,
    /// With macvlan and ipvlan, how interfaces hang on a link of the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub direct: Option<Direct>,
    /// Its ranges: an IPv4 one, and an IPv6 one with `enable_ipv6`.
    pub subnets: Vec<Subnet>,
    /// No way out, none in.
    #[serde(default)]
    pub internal: bool,
    /// Whether containers have IPv6 addresses.
    #[serde(default)]
    pub enable_ipv6: bool,
    /// The largest packet, in bytes.
    pub mtu: u32,
    /// Whether its containers may talk to each other.
    pub icc: bool,
    /// Whether outbound packets take the host's address.
    pub masquerade: bool,
    /// Where ports without an address are published; otherwise everywhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_binding_ipv4: Option<IpAddr>,
    /// What interfaces in containers are called, before their number.
    #[serde(default = "default_prefix")]
    pub interface_prefix: String,
    /// The user's labels.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Driver options as given.
    #[serde(default)]
    pub options: BTreeMap<String, String>,
    /// For `inspect`: only a Swarm has networks that single containers may not join.
    #[serde(default)]
    pub attachable: bool,
    /// When it was made, RFC 3339.
    pub created: String,
}

/// What the user asks of a network.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NetworkRequest {
    /// Its name.
    pub name: String,
    /// `bridge`, or nothing; `macvlan`; `ipvlan`.
    pub driver: Option<String>,
    /// Containers get no addresses of ours: somebody else gives them.
    pub no_addresses: bool,
    /// Containers have no IPv4 addresses.
    pub disable_ipv4: bool,
    /// Its ranges.
    pub subnets: Vec<SubnetRequest>,
    /// No way out, none in.
    pub internal: bool,
    /// Whether containers have IPv6 addresses.
    pub enable_ipv6: bool,
    /// The user's labels.
    pub labels: BTreeMap<String, String>,
    /// Driver options (`com.docker.network.…`).
    pub options: BTreeMap<String, String>,
    /// For `inspect`.
    pub attachable: bool,
    /// Where an IPv4 range that nobody asked for is chosen from; [`ipam::default_pools`] if there are none.
    pub pools: Vec<Cidr>,
}

fn default_prefix() -> String {
    "eth".to_owned()
}

impl Network {
    /// Whether containers have IPv4 addresses; where somebody else gives addresses, they may.
    #[must_use]
    pub fn enable_ipv4(&self) -> bool {
        self.subnets.is_empty() || self.subnets.iter().any(|subnet| subnet.cidr.is_ipv4())
    }

    /// Decides what a network will be. `taken` is what [`Links::taken`] finds, with the ranges of all
    /// networks that are not up.
    ///
    /// # Errors
    /// When an option is unknown or wrong, or no range can be had.
    pub fn plan(request: &NetworkRequest, id: &str, created: &str, taken: &[Taken]) -> Result<Self, NetworkError> {
        let name = &request.name;
        let driver = request.driver.as_deref().filter(|driver| !driver.is_empty()).unwrap_or("bridge");
        let direct = match driver {
            "bridge" => None,
            "macvlan" => Some(Direct::new(Kind::Macvlan, id)),
            "ipvlan" => Some(Direct::new(Kind::Ipvlan, id)),
            other => return Err(NetworkError::Driver { network: name.clone(), driver: other.to_owned() }),
        };
        let bridge = if direct.is_none() { format!("ub-{}", umiak_base::id::short(id)) } else { String::new() };
        let mut network = Self {
            id: id.to_owned(),
            name: name.clone(),
            driver: driver.to_owned(),
            bridge,
            direct,
            subnets: Vec::new(),
            internal: request.internal,
            enable_ipv6: request.enable_ipv6,
            mtu: 1500,
            icc: true,
            masquerade: true,
            host_binding_ipv4: None,
            interface_prefix: default_prefix(),
            labels: request.labels.clone(),
            options: request.options.clone(),
            attachable: request.attachable,
            created: created.to_owned(),
        };
        for (option, value) in &request.options {
            match network.direct.take() {
                Some(mut direct) => {
                    if !direct.apply_option(option, value).map_err(|expected| network.wrong(option, value, expected))? {
                        network.apply_shared_option(option, value)?;
                    }
                    network.direct = Some(direct);
                }
                None => network.apply_option(option, value)?,
            }
        }
        if request.no_addresses {
            if !request.subnets.is_empty() {
                return Err(NetworkError::Subnets {
                    network: name.clone(),
                    problem: "the null IPAM driver has no subnets",
                });
            }
            return Ok(network);
        }
        network.subnets = network.plan_subnets(request, taken)?;
        Ok(network)
    }

    fn wrong(&self, option: &str, value: &str, expected: &'static str) -> NetworkError {
        let (option, value) = (option.to_owned(), value.to_owned());
        NetworkError::OptionValue { network: self.name.clone(), option, value, expected }
    }

    /// The options that every driver has.
    fn apply_shared_option(&mut self, option: &str, value: &str) -> Result<(), NetworkError> {
        match option {
            "com.docker.network.driver.mtu" | "com.docker.network.container_iface_prefix" => {
                self.apply_option(option, value)
            }
            _ => Err(NetworkError::Option { network: self.name.clone(), option: option.to_owned() }),
        }
    }

    fn apply_option(&mut self, option: &str, value: &str) -> Result<(), NetworkError> {
        let network = self.name.clone();
        let wrong = |expected| NetworkError::OptionValue {
            network: network.clone(),
            option: option.to_owned(),
            value: value.to_owned(),
            expected,
        };
        let flag = || match value {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
            _ => Err(wrong("true or false")),
        };
        match option {
            "com.docker.network.bridge.name" if valid_ifname(value) => value.clone_into(&mut self.bridge),
            "com.docker.network.bridge.name" => return Err(wrong("at most 15 letters, digits or dashes")),
            "com.docker.network.bridge.enable_icc" => self.icc = flag()?,
            "com.docker.network.bridge.enable_ip_masquerade" => self.masquerade = flag()?,
            "com.docker.network.enable_ipv6" => self.enable_ipv6 = flag()?,
            "com.docker.network.bridge.host_binding_ipv4" => {
                let address = value.parse().ok().filter(IpAddr::is_ipv4).ok_or_else(|| wrong("an IPv4 address"))?;
                self.host_binding_ipv4 = Some(address);
            }
            "com.docker.network.driver.mtu" => {
                // 68 is the least that IPv4 allows.
                let mtu = value.parse().ok().filter(|mtu| (68..=65535).contains(mtu));
                self.mtu = mtu.ok_or_else(|| wrong("68 to 65535"))?;
            }
            "com.docker.network.container_iface_prefix" if valid_ifname(&format!("{value}999")) => {
                value.clone_into(&mut self.interface_prefix);
            }
            "com.docker.network.container_iface_prefix" => return Err(wrong("at most 12 letters or digits")),
            _ => return Err(NetworkError::Option { network: self.name.clone(), option: option.to_owned() }),
        }
        Ok(())
    }

    fn plan_subnets(&self, request: &NetworkRequest, taken: &[Taken]) -> Result<Vec<Subnet>, NetworkError> {
        let problem = |problem| NetworkError::Subnets { network: self.name.clone(), problem };
        let failed = |source| NetworkError::Ipam { network: self.name.clone(), source };
        // A request without a range can only be told by its other addresses; otherwise it is IPv4's.
        let is_ipv6 = |subnet: &&SubnetRequest| {
            let addresses = subnet.cidr.map(Cidr::address).or(subnet.gateway);
            addresses.or(subnet.ip_range.map(Cidr::address)).is_some_and(|address| address.is_ipv6())
        };
        let (v6, v4): (Vec<_>, Vec<_>) = request.subnets.iter().partition(is_ipv6);
        if v4.len() > 1 || v6.len() > 1 {
            return Err(problem("one subnet per address family is supported"));
        }
        if !v6.is_empty() && !self.enable_ipv6 {
            return Err(problem("an IPv6 subnet needs enable_ipv6"));
        }
        if !v4.is_empty() && request.disable_ipv4 {
            return Err(problem("an IPv4 subnet needs enable_ipv4"));
        }
        if request.disable_ipv4 && !self.enable_ipv6 {
            return Err(problem("IPv4 or IPv6 must be enabled"));
        }
        let unique_local = unique_local_pool(&self.id);
        let usual = if request.pools.is_empty() { ipam::default_pools() } else { request.pools.clone() };
        let families = [(v4.first(), usual), (v6.first(), unique_local)];
        let mut subnets = Vec::new();
        let wanted = [!request.disable_ipv4, self.enable_ipv6];
        for ((asked, pools), _) in families.into_iter().zip(wanted).filter(|(_, wanted)| *wanted) {
            let asked = asked.copied().cloned().unwrap_or_default();
            let cidr = match asked.cidr {
                // The containers are to be in the network of the parent link: only other networks are in the way.
                Some(cidr) if self.direct.is_some() => {
                    let networks: Vec<Taken> =
                        taken.iter().filter(|taken| taken.by.starts_with("network ")).cloned().collect();
                    ipam::check_subnet(cidr, &networks).map(|()| cidr)
                }
                Some(cidr) => ipam::check_subnet(cidr, taken).map(|()| cidr),
                None => ipam::choose_subnet(&pools, taken),
            };
            subnets.push(cidr.and_then(|cidr| ipam::complete(&asked, cidr)).map_err(failed)?);
        }
        Ok(subnets)
    }

    /// The ranges of this network, for the planning of others.
    pub fn taken(&self) -> impl Iterator<Item = Taken> {
        let by = format!("network {}", self.name);
        self.subnets.iter().map(move |subnet| Taken { cidr: subnet.cidr, by: by.clone(), via: false })
    }

    /// Whether the bridge's name was made from the network's id.
    #[must_use]
    pub fn has_default_bridge_name(&self) -> bool {
        self.bridge == format!("ub-{}", umiak_base::id::short(&self.id))
    }

    /// The subnet of an address family.
    #[must_use]
    pub fn subnet(&self, ipv4: bool) -> Option<&Subnet> {
        self.subnets.iter().find(|subnet| subnet.cidr.is_ipv4() == ipv4)
    }

    /// The gateways that an endpoint's default routes go through: none in an internal network.
    #[must_use]
    pub fn gateways(&self, spec: &EndpointSpec) -> Vec<IpAddr> {
        if !spec.default_route || self.internal || self.direct.as_ref().is_some_and(Direct::is_routed) {
            return Vec::new();
        }
        let has_family = |subnet: &&Subnet| spec.addresses.iter().any(|address| subnet.cidr.contains(*address));
        self.subnets.iter().filter(has_family).map(|subnet| subnet.gateway).collect()
    }

    /// Brings the network up on this host: settings, firewall, bridge. Up already: only what is missing
    /// is done, so it is right before every use, and after a reboot. `run_root` remembers what is
    /// put back when the last network goes.
    ///
    /// # Errors
    /// When any step fails. What was made stays, for [`Network::down`] or another try.
    pub fn up(&self, links: &Links, run_root: &Path) -> Result<(), NetworkError> {
        let _lock = lock(run_root)?;
        let network = || self.name.clone();
        if let Some(direct) = &self.direct {
            return direct.up(links, self).map_err(|source| NetworkError::Parent { network: network(), source });
        }
        // The firewall before the bridge and forwarding: no moment without isolation.
        firewall::ensure_network(self).map_err(|source| NetworkError::Firewall { network: network(), source })?;
        bridge::ensure(links, self).map_err(|source| NetworkError::Bridge { network: network(), source })?;
        if !self.internal {
            sysctl::enable_forwarding(&record(run_root), self.enable_ipv6)
                .map_err(|source| NetworkError::Sysctl { network: network(), source })?;
        }
        Ok(())
    }

    /// Takes the network down: bridge, firewall, and with the last network the host's settings.
    /// Down already: no error.
    ///
    /// # Errors
    /// The first step's that failed; the others are done all the same.
    pub fn down(&self, links: &Links, run_root: &Path) -> Result<(), NetworkError> {
        let _lock = lock(run_root)?;
        let network = || self.name.clone();
        if let Some(direct) = &self.direct {
            return direct.down(links, self).map_err(|source| NetworkError::Parent { network: network(), source });
        }
        let bridge = bridge::remove(links, self).map_err(|source| NetworkError::Bridge { network: network(), source });
        let last =
            firewall::remove_network(self).map_err(|source| NetworkError::Firewall { network: network(), source });
        let settings = match last {
            Ok(true) => {
                sysctl::restore(&record(run_root)).map_err(|source| NetworkError::Sysctl { network: network(), source })
            }
            _ => Ok(()),
        };
        bridge.and(last.map(drop)).and(settings)
    }
}

/// For root alone, as all locks are.
const HOST_LOCK: &str = "/run/umiak-networks.lock";

/// What `up` changed on the whole host.
fn record(run_root: &Path) -> PathBuf {
    run_root.join("sysctls.json")
}

/// Networks come and go one at a time: the last one takes the table and the settings with it. They are the host's, so
/// those of other run roots wait, too; where there is no place for a lock of all, each has its own.
fn lock(run_root: &Path) -> Result<(FileLock, Option<FileLock>), NetworkError> {
    let dir = run_root.join("locks");
    std::fs::create_dir_all(&dir).map_err(|source| NetworkError::LockDirectory { path: dir.clone(), source })?;
    let own = FileLock::exclusive(&dir.join("networks"))?;
    // Not a lock of the namespace itself: everybody in it could hold that one.
    Ok((own, FileLock::exclusive(Path::new(HOST_LOCK)).ok()))
}

/// A unique local prefix (RFC 4193): `fd`, 40 bits that are random as the id is, and room for one /64 after another.
fn unique_local_pool(id: &str) -> Vec<Cidr> {
    let random = id.get(..10).and_then(|digits| u128::from_str_radix(digits, 16).ok()).unwrap_or_default();
    let address = std::net::Ipv6Addr::from(0xfd << 120 | random << 80);
    Cidr::new(address.into(), 48).into_iter().collect()
}
