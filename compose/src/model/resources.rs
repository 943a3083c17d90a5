//! Networks, volumes, configs, secrets and models as the top level defines them.

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use indexmap::IndexMap;
use serde::{Serialize, Serializer};

use super::{Extensions, TextMap, is_false};
use crate::diagnostic::Span;

/// A network of the project.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct NetworkDef {
    /// The real name: `<project>_<key>`, or as written; the key for an external one.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Driver; `None` is `bridge`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub driver: Option<String>,
    /// Options for the driver.
    #[serde(skip_serializing_if = "IndexMap::is_empty")]
    pub driver_opts: TextMap,
    /// Addressing.
    pub ipam: Ipam,
    /// Made by someone else; must exist.
    #[serde(skip_serializing_if = "is_false")]
    pub external: bool,
    /// No way out.
    #[serde(skip_serializing_if = "is_false")]
    pub internal: bool,
    /// Without meaning on one host.
    #[serde(skip_serializing_if = "is_false")]
    pub attachable: bool,
    /// Labels.
    #[serde(skip_serializing_if = "IndexMap::is_empty")]
    pub labels: TextMap,
    /// IPv4 on (default yes).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enable_ipv4: Option<bool>,
    /// IPv6 on (default no).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enable_ipv6: Option<bool>,
    /// Where the key stands.
    #[serde(skip)]
    pub span: Span,
    /// `x-…` keys.
    #[serde(flatten)]
    pub extensions: Extensions,
}

/// `ipam`.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Ipam {
    /// IPAM driver.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub driver: Option<String>,
    /// Pools, at most one per address family is usual.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub config: Vec<IpamPool>,
    /// Options for the IPAM driver.
    #[serde(skip_serializing_if = "IndexMap::is_empty")]
    pub options: TextMap,
    /// `x-…` keys.
    #[serde(flatten)]
    pub extensions: Extensions,
}

/// One entry of `ipam.config`.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct IpamPool {
    /// The subnet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subnet: Option<Cidr>,
    /// Part of the subnet that containers get addresses from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ip_range: Option<Cidr>,
    /// Address of the bridge.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gateway: Option<IpAddr>,
    /// Addresses never given to a container, by host name.
    #[serde(skip_serializing_if = "IndexMap::is_empty")]
    pub aux_addresses: IndexMap<String, IpAddr>,
    /// `x-…` keys.
    #[serde(flatten)]
    pub extensions: Extensions,
}

/// An address and a prefix length, as written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Cidr {
    /// The address; host bits are kept.
    pub address: IpAddr,
    /// Prefix length.
    pub prefix: u8,
}

impl Cidr {
    /// Reads `address/prefix`; `None` when it is not that.
    pub fn parse(text: &str) -> Option<Self> {
        let (address, prefix) = text.split_once('/')?;
        let (address, prefix) = (address.parse::<IpAddr>().ok()?, prefix.parse::<u8>().ok()?);
        let longest = if address.is_ipv4() { 32 } else { 128 };
        (prefix <= longest).then_some(Self { address, prefix })
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl Serialize for Cidr {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A volume of the project.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct VolumeDef {
    /// The real name: `<project>_<key>`, or as written; the key for an external one.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Driver; `None` is `local`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub driver: Option<String>,
    /// Options for the driver: `type`, `o`, `device` for `local`.
    #[serde(skip_serializing_if = "IndexMap::is_empty")]
    pub driver_opts: TextMap,
    /// Made by someone else; must exist.
    #[serde(skip_serializing_if = "is_false")]
    pub external: bool,
    /// Labels.
    #[serde(skip_serializing_if = "IndexMap::is_empty")]
    pub labels: TextMap,
    /// Where the key stands.
    #[serde(skip)]
    pub span: Span,
    /// `x-…` keys.
    #[serde(flatten)]
    pub extensions: Extensions,
}

/// A secret or a config of the project.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct FileDef {
    /// The real name: `<project>_<key>`, or as written.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Content from a file, absolute.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<PathBuf>,
    /// Content from a variable of the project's environment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub environment: Option<String>,
    /// The content itself.
    #[serde(skip_serializing_if = "super::no_text")]
    pub content: Option<String>,
    /// The value of the variable that `environment` names, if it is set.
    #[serde(skip)]
    pub value: Option<String>,
    /// Made by someone else.
    #[serde(skip_serializing_if = "is_false")]
    pub external: bool,
    /// Labels.
    #[serde(skip_serializing_if = "IndexMap::is_empty")]
    pub labels: TextMap,
    /// Driver (Swarm).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub driver: Option<String>,
    /// Options for the driver (Swarm).
    #[serde(skip_serializing_if = "IndexMap::is_empty")]
    pub driver_opts: TextMap,
    /// Template driver (Swarm).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub template_driver: Option<String>,
    /// Where the key stands.
    #[serde(skip)]
    pub span: Span,
    /// `x-…` keys.
    #[serde(flatten)]
    pub extensions: Extensions,
}

/// Where a secret or config has its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileSource<'a> {
    /// In a file.
    File(&'a Path),
    /// In the model: inline, or from a variable.
    Content(&'a str),
    /// In a variable that is not set.
    UnsetVariable(&'a str),
    /// Elsewhere: external, or nothing given.
    External,
}

impl FileDef {
    /// Where the content is.
    pub fn source(&self) -> FileSource<'_> {
        match (&self.file, self.content.as_ref().or(self.value.as_ref()), &self.environment) {
            (Some(file), _, _) => FileSource::File(file),
            (None, Some(content), _) => FileSource::Content(content),
            (None, None, Some(variable)) => FileSource::UnsetVariable(variable),
            (None, None, None) => FileSource::External,
        }
    }
}

/// An AI model of the project.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct ModelDef {
    /// Real name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The model's reference.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Context size in tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub context_size: Option<i64>,
    /// Flags for the model runner.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub runtime_flags: Vec<String>,
    /// `x-…` keys.
    #[serde(flatten)]
    pub extensions: Extensions,
}
