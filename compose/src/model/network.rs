//! Networking keys of a service.

use std::fmt;
use std::net::IpAddr;

use serde::{Serialize, Serializer};

use super::{Extensions, TextMap};

/// `network_mode`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NetworkMode {
    /// Loopback only.
    None,
    /// The host's network.
    Host,
    /// The engine's default bridge, not the project's.
    Bridge,
    /// The network namespace of another service's container.
    Service(String),
    /// The network namespace of a container by name or id.
    Container(String),
    /// A network of the engine, by name.
    Network(String),
    /// Written as empty text: the project's default network if other services use it, else no network.
    Unsaid,
}

impl NetworkMode {
    /// Whether it was not written, or as empty text.
    #[allow(clippy::ref_option, reason = "as serde calls it")]
    pub(crate) fn is_unsaid(mode: &Option<Self>) -> bool {
        matches!(mode, None | Some(Self::Unsaid))
    }
}

impl fmt::Display for NetworkMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::Host => f.write_str("host"),
            Self::Bridge => f.write_str("bridge"),
            Self::Service(name) => write!(f, "service:{name}"),
            Self::Container(name) => write!(f, "container:{name}"),
            Self::Network(name) => f.write_str(name),
            Self::Unsaid => Ok(()),
        }
    }
}

impl Serialize for NetworkMode {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Transport protocol of a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    #[default]
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
    /// Written as empty text: TCP, but not shown.
    #[serde(rename = "")]
    Unsaid,
}

impl Protocol {
    #[allow(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
    fn is_unsaid(&self) -> bool {
        *self == Self::Unsaid
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp | Self::Unsaid => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        })
    }
}

/// Ports from `start` to `end`, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PortRange {
    /// First port.
    pub start: u16,
    /// Last port.
    pub end: u16,
    /// Digits that it was written with at least: `0400` keeps its zero.
    pub digits: u8,
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.start == self.end {
            true => write!(f, "{:0width$}", self.start, width = usize::from(self.digits)),
            false => write!(f, "{}-{}", self.start, self.end),
        }
    }
}

impl Serialize for PortRange {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// One published port.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PortMapping {
    /// A name for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// `ingress` or `host`; the same thing on one host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
    /// Address of the host; `None` is every address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host_ip: Option<IpAddr>,
    /// Port in the container.
    pub target: u16,
    /// Port of the host; a range means "a free one of these", `None` or port 0 "any free one".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub published: Option<PortRange>,
    /// Protocol.
    #[serde(skip_serializing_if = "Protocol::is_unsaid")]
    pub protocol: Protocol,
    /// Application protocol, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub app_protocol: Option<String>,
    /// `x-…` keys.
    #[serde(flatten)]
    pub extensions: Extensions,
}

/// How a service is attached to one network.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ServiceNetwork {
    /// Extra names on that network.
    pub aliases: Vec<String>,
    /// Fixed IPv4 address.
    pub ipv4_address: Option<std::net::Ipv4Addr>,
    /// Fixed IPv6 address.
    pub ipv6_address: Option<std::net::Ipv6Addr>,
    /// Link-local addresses.
    pub link_local_ips: Vec<IpAddr>,
    /// MAC address.
    pub mac_address: Option<String>,
    /// Options for the driver.
    pub driver_opts: TextMap,
    /// Name of the interface in the container.
    pub interface_name: Option<String>,
    /// Order in which networks are attached, highest first.
    pub priority: Option<i64>,
    /// The network with the highest one gives the default gateway.
    pub gw_priority: Option<i64>,
    /// Written as a mapping, even if an empty one.
    pub is_map: bool,
    /// `x-…` keys.
    pub extensions: Extensions,
}

impl Serialize for ServiceNetwork {
    /// `null` when nothing is set, as in the file's short form.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeMap;
        if *self == Self::default() {
            return serializer.serialize_none();
        }
        let mut map = serializer.serialize_map(None)?;
        if !self.aliases.is_empty() {
            map.serialize_entry("aliases", &self.aliases)?;
        }
        if let Some(address) = &self.ipv4_address {
            map.serialize_entry("ipv4_address", address)?;
        }
        if let Some(address) = &self.ipv6_address {
            map.serialize_entry("ipv6_address", address)?;
        }
        if !self.link_local_ips.is_empty() {
            map.serialize_entry("link_local_ips", &self.link_local_ips)?;
        }
        let texts = [("mac_address", &self.mac_address), ("interface_name", &self.interface_name)];
        for (key, text) in texts.into_iter().filter_map(|(key, text)| Some((key, text.as_ref()?))) {
            map.serialize_entry(key, text)?;
        }
        if !self.driver_opts.is_empty() {
            map.serialize_entry("driver_opts", &self.driver_opts)?;
        }
        let numbers = [("priority", self.priority), ("gw_priority", self.gw_priority)];
        for (key, number) in numbers.into_iter().filter_map(|(key, number)| Some((key, number?))) {
            map.serialize_entry(key, &number)?;
        }
        for (key, value) in &self.extensions {
            map.serialize_entry(key, value)?;
        }
        map.end()
    }
}
