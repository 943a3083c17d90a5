//! A container's place in a network: a veth pair, one end a port of the bridge,
//! the other in the container's namespace with its name, addresses and routes.

use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};

use serde::{Deserialize, Serialize};

use crate::bridge;
use crate::cidr::Cidr;
use crate::direct::{Direct, Kind};
use crate::link::{LinkError, Links, Sub, Veth};
use crate::namespace::{self, NamespaceError};
use crate::network::Network;
use crate::sysctl::{self, SysctlError};

/// How many ports a Linux bridge has (`BR_MAX_PORTS`, one of which is not used).
pub const MAX_PORTS: usize = 1023;

/// Why a container could not be attached to or detached from a network.
#[derive(Debug, thiserror::Error)]
pub enum EndpointError {
    /// A change of a link failed.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The container's namespace failed.
    #[error(transparent)]
    Namespace(#[from] NamespaceError),
    /// A setting inside the namespace failed.
    #[error(transparent)]
    Sysctl(#[from] SysctlError),
    /// The bridge is full.
    #[error("network {network} is full: its bridge {bridge} takes {MAX_PORTS} containers; use more networks")]
    BridgeFull {
        /// The network.
        network: String,
        /// Its bridge.
        bridge: String,
    },
    /// The network's bridge is not there.
    #[error("network {network} is not up: there is no bridge {bridge}")]
    NoBridge {
        /// The network.
        network: String,
        /// Its bridge.
        bridge: String,
    },
    /// The parent link of the network is not there.
    #[error("network {0} is not up: there is no interface {1}")]
    NoParent(String, String),
    /// Macvlan and ipvlan, or two that want the parent for themselves.
    #[error("the parent interface {0} is in use by another network driver, or for one container alone")]
    ParentBusy(String),
    /// The container has a link of that name already.
    #[error("the container has an interface {0} already")]
    InterfaceExists(String),
    /// Neither a host name nor an interface name of the kernel.
    #[error("`{0}` is not a name for a network interface")]
    InterfaceName(String),
}

/// What an endpoint is to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointSpec {
    /// The interface's name in the container.
    pub ifname: String,
    /// Its addresses: one per subnet of the network.
    pub addresses: Vec<IpAddr>,
    /// Its hardware address; otherwise made from the first address.
    pub mac: Option<[u8; 6]>,
    /// Whether the container's default route goes through this network. Never in an internal one.
    pub default_route: bool,
    /// The name of the end on the host's side: see [`host_ifname`]. Not used where the network has no bridge.
    pub host_ifname: String,
    /// More addresses, outside the network's ranges: link-local ones.
    pub extra: Vec<Cidr>,
    /// Settings of the interface: a path below /proc/sys/net in which `IFNAME` stands for its name, and the value.
    pub sysctls: Vec<(String, String)>,
}

impl EndpointSpec {
    /// The hardware address that the interface gets.
    #[must_use]
    pub fn mac_address(&self) -> [u8; 6] {
        self.mac.unwrap_or_else(|| self.addresses.first().map_or([2, 0x42, 0, 0, 0, 2], |a| bridge::mac_of(*a)))
    }
}

/// The name of the host's side of container `id`'s `index`-th interface, the same whenever it is asked for.
#[must_use]
pub fn host_ifname(id: &str, index: usize) -> String {
    let index = format!("{index:x}");
    let digits = 12_usize.saturating_sub(1 + index.len());
    format!("uv-{}-{index}", id.get(..digits).unwrap_or(id))
}

/// Whether the kernel takes a text as an interface's name.
#[must_use]
pub fn valid_ifname(name: &str) -> bool {
    let bad = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '/' | ':' | '"' | '%') || !c.is_ascii();
    !name.is_empty() && name.len() < libc::IFNAMSIZ && name != "." && name != ".." && !name.contains(bad)
}

/// Attaches the container whose namespace this is: veth, addresses, routes, all up.
///
/// # Errors
/// When any step fails; the veth is gone then.
pub fn attach(links: &Links, network: &Network, netns: impl AsFd, spec: &EndpointSpec) -> Result<(), EndpointError> {
    for name in [&spec.ifname, &spec.host_ifname] {
        if !valid_ifname(name) {
            return Err(EndpointError::InterfaceName(name.clone()));
        }
    }
    let netns = netns.as_fd();
    if let Some(direct) = &network.direct {
        return attach_direct(links, network, direct, netns, spec);
    }
    let no_bridge = || EndpointError::NoBridge { network: network.name.clone(), bridge: network.bridge.clone() };
    let bridge = links.get(&network.bridge)?.ok_or_else(no_bridge)?;
    let veth = Veth {
        host: &spec.host_ifname,
        bridge: bridge.index,
        peer: &spec.ifname,
        netns,
        mac: spec.mac_address(),
        mtu: network.mtu,
    };
    create(links, network, &veth)?;
    let result = finish(links, network, spec).and_then(|()| namespace::with(netns, || inside(network, spec)));
    if result.is_err() {
        let _ = links.delete(&spec.host_ifname);
    }
    result
}

/// A macvlan or ipvlan interface: it has no side on the host, and goes with the namespace.
fn attach_direct(
    links: &Links,
    network: &Network,
    direct: &Direct,
    netns: BorrowedFd<'_>,
    spec: &EndpointSpec,
) -> Result<(), EndpointError> {
    let parent = links.get(&direct.parent)?;
    let parent = parent.ok_or_else(|| EndpointError::NoParent(network.name.clone(), direct.parent.clone()))?;
    let mac = (direct.kind == Kind::Macvlan && direct.mode != "passthru").then(|| spec.mac_address());
    // Its final name comes after: before KERNEL(6.13) a name that the host has, too, cannot be given at birth.
    let born = &spec.host_ifname;
    let sub = Sub { name: born, parent: parent.index, kind: direct.sub(), netns: Some(netns), mac, mtu: network.mtu };
    match links.add_sub(&sub) {
        Err(error) if error.errno() == Some(libc::EBUSY) => {
            return Err(EndpointError::ParentBusy(direct.parent.clone()));
        }
        result => result?,
    }
    let result = namespace::with(netns, || {
        let links = Links::open()?;
        match links.rename(links.index(born)?, born, &spec.ifname) {
            Err(error) if error.errno() == Some(libc::EEXIST) => {
                Err(EndpointError::InterfaceExists(spec.ifname.clone()))
            }
            result => Ok(result?),
        }?;
        inside(network, spec)
    });
    if let Err(error) = &result {
        let named = !matches!(error, EndpointError::InterfaceExists(_));
        let _ = detach_inside(netns, if named { &spec.ifname } else { born });
    }
    result
}

/// Deletes an interface of a namespace that has no side on the host. Gone already: no error.
///
/// # Errors
/// When the namespace cannot be entered or the kernel refuses.
pub fn detach_inside(netns: impl AsFd, ifname: &str) -> Result<(), EndpointError> {
    namespace::with(netns, || Ok(Links::open()?.delete(ifname).map(drop)?))
}

fn create(links: &Links, network: &Network, veth: &Veth<'_>) -> Result<(), EndpointError> {
    let result = match links.add_veth(veth) {
        // The name is made from the container's id: a crash left it.
        Err(error) if error.errno() == Some(libc::EEXIST) && links.delete(veth.host)? => links.add_veth(veth),
        result => result,
    };
    match result.map_err(|error| (error.errno(), error)) {
        Ok(()) => Ok(()),
        Err((Some(libc::EEXIST), _)) => Err(EndpointError::InterfaceExists(veth.peer.to_owned())),
        Err((Some(libc::EXFULL), _)) => {
            let _ = links.delete(veth.host);
            Err(EndpointError::BridgeFull { network: network.name.clone(), bridge: network.bridge.clone() })
        }
        Err((_, error)) => Err(error.into()),
    }
}

/// The host's side.
fn finish(links: &Links, network: &Network, spec: &EndpointSpec) -> Result<(), EndpointError> {
    // A port of a bridge needs no address of its own.
    sysctl::write_if_there(&format!("ipv6/conf/{}/disable_ipv6", spec.host_ifname), "1")?;
    // br_netfilter translates bridged packets while they are still in the bridge: then a container
    // that connects to its own published port is answered through the port that it came in by.
    let hairpin = sysctl::bridged_packets_are_filtered();
    if !network.icc || hairpin {
        links.set_port(&spec.host_ifname, !network.icc, hairpin)?;
    }
    Ok(())
}

/// The container's side, on a thread in its namespace.
fn inside(network: &Network, spec: &EndpointSpec) -> Result<(), EndpointError> {
    let name = &spec.ifname;
    let ipv6 = spec.addresses.iter().any(IpAddr::is_ipv6);
    sysctl::write_if_there(&format!("ipv6/conf/{name}/disable_ipv6"), if ipv6 { "0" } else { "1" })?;
    sysctl::write_if_there(&format!("ipv6/conf/{name}/accept_ra"), "0")?;
    let links = Links::open()?;
    let index = links.index(name)?;
    for address in &spec.addresses {
        let prefix = network.subnets.iter().find(|subnet| subnet.cidr.contains(*address)).map(|s| s.cidr.prefix());
        let cidr = prefix.and_then(|prefix| Cidr::new(*address, prefix)).unwrap_or(Cidr::single(*address));
        links.add_address(index, name, cidr)?;
    }
    for address in &spec.extra {
        links.add_address(index, name, *address)?;
    }
    for (path, value) in &spec.sysctls {
        sysctl::write(&path.replace("IFNAME", name), value)?;
    }
    links.up(links.index("lo")?, "lo", None)?;
    links.up(index, name, None)?;
    lead(&links, network, index, spec)
}

/// The default routes that go through an endpoint, in place of others.
fn lead(links: &Links, network: &Network, index: u32, spec: &EndpointSpec) -> Result<(), EndpointError> {
    let name = &spec.ifname;
    network.gateways(spec).iter().try_for_each(|gateway| links.add_default_route(index, name, *gateway))?;
    if spec.default_route && network.direct.as_ref().is_some_and(Direct::is_routed) {
        for ipv4 in [true, false] {
            if spec.addresses.iter().any(|address| address.is_ipv4() == ipv4) {
                links.add_device_route(index, name, ipv4)?;
            }
        }
    }
    Ok(())
}

/// Leads the default route of a namespace through an endpoint that it has.
///
/// # Errors
/// When the namespace cannot be entered, the interface is not there, or the kernel refuses.
pub fn lead_through(network: &Network, netns: impl AsFd, spec: &EndpointSpec) -> Result<(), EndpointError> {
    namespace::with(netns, || {
        let links = Links::open()?;
        lead(&links, network, links.index(&spec.ifname)?, spec)
    })
}

/// Sets `lo` up in a namespace that is attached to nothing.
///
/// # Errors
/// When the namespace cannot be entered or the kernel refuses.
pub fn loopback_up(netns: impl AsFd) -> Result<(), EndpointError> {
    namespace::with(netns, || {
        let links = Links::open()?;
        Ok(links.up(links.index("lo")?, "lo", None)?)
    })
}

/// Detaches: deletes veth pairs, by their host sides, together. Gone already, e.g. with their namespace: no error.
///
/// # Errors
/// When the kernel refuses.
pub fn detach(links: &Links, host_ifnames: &[&str]) -> Result<(), EndpointError> {
    Ok(links.delete_all(host_ifnames)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_names_fit_and_differ() {
        let id = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
        assert_eq!(host_ifname(id, 0), "uv-0123456789-0");
        assert_eq!(host_ifname(id, 17), "uv-012345678-11");
        assert!([0, 1, 15, 16, 300].iter().all(|index| valid_ifname(&host_ifname(id, *index))));
    }

    #[test]
    fn names_that_are_no_interface_are_refused() {
        for name in ["", ".", "..", "a/b", "a b", "a:1", "sixteen-letters-", "é"] {
            assert!(!valid_ifname(name), "{name}");
        }
        assert!(valid_ifname("eth0"));
    }

    #[test]
    fn hardware_addresses_come_from_addresses() {
        assert_eq!(bridge::mac_of("172.18.0.2".parse().unwrap()), [2, 0x42, 172, 18, 0, 2]);
        assert_eq!(bridge::mac_of("fd00::1:2".parse().unwrap()), [2, 0x42, 0, 1, 0, 2]);
    }
}
