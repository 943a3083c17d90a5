//! Names inside container networks: the responder that each container's
//! monitor runs on 127.0.0.11 in that container's network namespace.
//!
//! ```text
//! record     what a container publishes: <dir>/<network id>/<container id>.json
//! table      the records of this container's networks, reloaded when they change
//! names      names and addresses as DNS writes them
//! wire       reading a question, writing an answer
//! answer     question + table → answer, forward or refuse (a pure function)
//! resolvers  where questions about the rest of the world go (resolv.conf)
//! forward    the questions under way to a resolver
//! stream     clients over TCP
//! batch      datagrams by the batch
//! sockets    127.0.0.11 inside the namespace, and the redirect of port 53
//! server     the loop that joins them behind one descriptor
//! ```

mod answer;
mod batch;
mod forward;
mod names;
mod record;
mod redirect;
mod resolvers;
mod server;
mod slab;
mod sockets;
mod stream;
mod table;
mod wire;

use std::net::SocketAddr;
use std::path::PathBuf;

pub use record::{Record, forget_network, publish, withdraw};
pub use server::Server;
pub use sockets::{Ports, Sockets};

use umiak_base::state::StateError;

/// The address that containers ask, as Docker's.
pub const ADDRESS: std::net::Ipv4Addr = std::net::Ipv4Addr::new(127, 0, 0, 11);

/// A network that the container is on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network {
    /// The network's id: the name of its directory of records.
    pub id: String,
    /// Its name: `web` is also found as `web.<name>`.
    pub name: String,
    /// Whether it has no way out. A container whose networks are all internal has no
    /// question forwarded (CVE-2024-29018).
    pub internal: bool,
}

/// One more name for a peer, known to one container alone (Compose `links`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// The name to answer.
    pub alias: String,
    /// The service or container that it stands for.
    pub target: String,
}

/// Where the questions about other names go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Upstreams {
    /// The resolvers of the host, from this file (read again when it changes), asked from the
    /// namespace of the calling process.
    Host(PathBuf),
    /// These (a service's `dns:` list), at most the first three. Loopback addresses are those of
    /// the container itself.
    Listed(Vec<SocketAddr>),
}

/// What a server must know about its container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The directory that holds one directory of records per network.
    pub records: PathBuf,
    /// The networks, the first one asked first.
    pub networks: Vec<Network>,
    /// Names for this container alone.
    pub links: Vec<Link>,
    /// The container's Compose project: its own services win over those of others with the same name.
    pub project: Option<String>,
    /// Where other names are asked.
    pub upstreams: Upstreams,
}

/// Why the responder could not be set up or go on.
#[derive(Debug, thiserror::Error)]
pub enum DnsError {
    /// A container or network id that is not a plain file name.
    #[error("{id:?} is not an id")]
    Id {
        /// What was given.
        id: String,
    },
    /// A record could not be written.
    #[error("publish the names of container {container}")]
    Publish {
        /// The container.
        container: String,
        /// What failed.
        #[source]
        source: StateError,
    },
    /// The directory of a network's records could not be made.
    #[error("make the directory {path}")]
    MakeDir {
        /// The directory.
        path: PathBuf,
        /// The kernel's answer.
        #[source]
        source: std::io::Error,
    },
    /// A record or a network's directory could not be removed.
    #[error("remove {path}")]
    Remove {
        /// The file or directory.
        path: PathBuf,
        /// The kernel's answer.
        #[source]
        source: std::io::Error,
    },
    /// A socket on 127.0.0.11 could not be had.
    #[error("bind {protocol} on 127.0.0.11 port {port}")]
    Bind {
        /// `udp` or `tcp`.
        protocol: &'static str,
        /// The port asked for, 0 for any.
        port: u16,
        /// The kernel's answer.
        #[source]
        source: std::io::Error,
    },
    /// The calling thread's network namespace could not be opened.
    #[error("open the network namespace of the calling thread")]
    Namespace {
        /// The kernel's answer.
        #[source]
        source: std::io::Error,
    },
    /// The nftables rules that lead port 53 to the sockets could not be installed.
    #[error("redirect port 53 of 127.0.0.11 ({step})")]
    Redirect {
        /// The command that the kernel refused.
        step: String,
        /// The kernel's answer.
        #[source]
        source: std::io::Error,
    },
    /// The server's epoll descriptor could not be made or changed.
    #[error("watch the DNS sockets")]
    Watch {
        /// The kernel's answer.
        #[source]
        source: std::io::Error,
    },
}
