//! The bridge of a network: a link of the host, with the network's gateway addresses.

use std::net::IpAddr;

use crate::cidr::Cidr;
use crate::link::{LinkError, Links};
use crate::network::Network;
use crate::sysctl::{self, SysctlError};

/// Why a bridge could not be made or removed.
#[derive(Debug, thiserror::Error)]
pub enum BridgeError {
    /// A change of the link failed.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// A setting of the link failed.
    #[error(transparent)]
    Sysctl(#[from] SysctlError),
    /// A link of the bridge's name is there and is no bridge.
    #[error("link {0} exists and is not a bridge")]
    NotABridge(String),
    /// The bridge is another network's.
    #[error("bridge {name} belongs to {owner}")]
    Owned {
        /// The bridge.
        name: String,
        /// What its alias says.
        owner: String,
    },
}

/// The alias that marks a bridge as made for a network; a bridge without it is never deleted.
fn alias(network: &Network) -> String {
    format!("umiak network {}", network.id)
}

/// Makes the bridge of a network, or completes it: address, settings, up. A bridge that is there
/// already under a name that the user chose is used, and kept when the network goes.
///
/// # Errors
/// When the kernel refuses, or the name is taken by something else.
pub fn ensure(links: &Links, network: &Network) -> Result<(), BridgeError> {
    let name = &network.bridge;
    let ours = alias(network);
    let mut owned = true;
    match links.get(name)? {
        None => match links.add_bridge(name, mac(network), network.mtu) {
            // Another command was first.
            Err(error) if error.errno() == Some(libc::EEXIST) => {}
            result => result?,
        },
        Some(link) if !link.is_bridge => return Err(BridgeError::NotABridge(name.clone())),
        Some(link) => match link.alias {
            Some(owner) if owner.starts_with("umiak network ") && owner != ours => {
                return Err(BridgeError::Owned { name: name.clone(), owner });
            }
            Some(owner) => owned = owner == ours,
            None => owned = network.has_default_bridge_name(),
        },
    }
    settings(network)?;
    let index = links.index(name)?;
    for subnet in &network.subnets {
        if let Some(address) = Cidr::new(subnet.gateway, subnet.cidr.prefix()) {
            links.add_address(index, name, address)?;
        }
    }
    links.up(index, name, owned.then_some(ours.as_str()))?;
    Ok(())
}

/// Deletes the bridge of a network, with what is left of its ports. Gone already: no error.
///
/// # Errors
/// When the kernel refuses.
pub fn remove(links: &Links, network: &Network) -> Result<(), BridgeError> {
    let Some(link) = links.get(&network.bridge)? else { return Ok(()) };
    let ours =
        link.alias.as_deref() == Some(&alias(network)) || (link.alias.is_none() && network.has_default_bridge_name());
    if !link.is_bridge || !ours {
        return Ok(());
    }
    // A veth whose other end is in a namespace that still lives goes with its pair.
    let all = links.list()?;
    let ports = all.iter().filter(|port| port.master == Some(link.index)).map(|port| port.name.as_str());
    let doomed: Vec<&str> = ports.chain([network.bridge.as_str()]).collect();
    Ok(links.delete_all(&doomed)?)
}

fn settings(network: &Network) -> Result<(), SysctlError> {
    let name = &network.bridge;
    let v6 = |key: &str| format!("ipv6/conf/{name}/{key}");
    // A container can send router advertisements (CVE-2020-13401).
    sysctl::write_if_there(&v6("accept_ra"), "0")?;
    sysctl::write_if_there(&v6("accept_redirects"), "0")?;
    sysctl::write_if_there(&v6("disable_ipv6"), if network.enable_ipv6 { "0" } else { "1" })?;
    if !network.internal {
        // Packets to 127.0.0.1 that are translated to a container leave through the bridge.
        // The firewall's `raw` chain drops what comes in for 127.0.0.0/8.
        sysctl::write(&format!("ipv4/conf/{name}/route_localnet"), "1")?;
    }
    Ok(())
}

/// A fixed address, since a bridge otherwise takes the lowest of its ports' and
/// containers would have to ask for it again. Made from the gateway's as Docker made it.
fn mac(network: &Network) -> [u8; 6] {
    network.subnets.first().map_or([2, 0x42, 0, 0, 0, 1], |subnet| mac_of(subnet.gateway))
}

/// `02:42` and the address, or the end of an IPv6 address.
#[must_use]
pub fn mac_of(address: IpAddr) -> [u8; 6] {
    let [a, b, c, d] = match address {
        IpAddr::V4(v4) => v4.octets(),
        IpAddr::V6(v6) => {
            let [.., a, b, c, d] = v6.octets();
            [a, b, c, d]
        }
    };
    [2, 0x42, a, b, c, d]
}
