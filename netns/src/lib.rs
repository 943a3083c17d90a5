//! Container networks.
//!
//! ```text
//! network    what a network is; bringing it up and down
//! ipam       which ranges networks get, which addresses containers get
//! bridge     the network's link on the host
//! endpoint   a container's veth pair, addresses and routes
//! namespace  pinned network namespaces
//! link       links, addresses, routes over rtnetlink
//! firewall   isolation, outbound translation and published ports, in nf_tables
//! publish    holding ports of the host
//! holder     who holds a port
//! sysctl     kernel settings, and putting them back
//! dns        names inside networks
//! ```

pub mod bridge;
pub mod cidr;
pub mod direct;
pub mod dns;
pub mod endpoint;
pub mod firewall;
pub mod holder;
pub mod ipam;
pub mod link;
pub mod namespace;
pub mod network;
pub mod publish;

mod sysctl;

pub use cidr::Cidr;
pub use link::Links;
pub use network::{Network, NetworkRequest};
pub use sysctl::SysctlError;
