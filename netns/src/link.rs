//! Links, addresses and routes over rtnetlink: an asynchronous library on a
//! current-thread runtime, behind functions that return when the kernel has answered.

use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::time::Duration;

use futures_util::TryStreamExt as _;
use netlink_packet_route::address::{AddressAttribute, AddressHeaderFlags};
use netlink_packet_route::link::{
    InfoBridgePort, InfoData, InfoIpVlan, InfoKind, InfoMacVlan, InfoPortData, InfoPortKind, InfoVeth, InfoVlan,
    IpVlanFlags, IpVlanMode, LinkAttribute, LinkFlags, LinkInfo, LinkMessage, MacVlanMode,
};
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteScope, RouteType};
use rtnetlink::{Handle, LinkMessageBuilder, LinkUnspec, RouteMessageBuilder};
use tokio::runtime::Runtime;

use crate::cidr::Cidr;
use crate::ipam::Taken;

/// How long a module may take to be there once it is being loaded: milliseconds from one question to the next.
const LOADING: [u64; 7] = [10, 20, 40, 80, 160, 320, 640];

/// Why a link, address or route could not be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// There is no netlink socket, or no runtime for it.
    #[error("open a netlink socket to rtnetlink")]
    Open(#[source] io::Error),
    /// Links, addresses or routes could not be listed.
    #[error("list {what}")]
    List {
        /// What was listed.
        what: &'static str,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// The kernel refused a change.
    #[error("{action} {link}")]
    Change {
        /// What was to be done, e.g. `create bridge`.
        action: &'static str,
        /// The link's name.
        link: String,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// The kernel gave no random number.
    #[error("get a random number")]
    Random(#[source] io::Error),
    /// There is no link of that name.
    #[error("there is no link {0}")]
    Missing(String),
}

impl LinkError {
    /// The kernel's error number, where it gave one.
    #[must_use]
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Open(source) | Self::Random(source) | Self::List { source, .. } | Self::Change { source, .. } => {
                source.raw_os_error()
            }
            Self::Missing(_) => None,
        }
    }
}

/// A link as the kernel lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Its number.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// The bridge that it is a port of, by number.
    pub master: Option<u32>,
    /// The alias, a free text.
    pub alias: Option<String>,
    /// Whether it is a bridge.
    pub is_bridge: bool,
    /// The group, a number that nothing but `delete_all` cares about here.
    pub group: u32,
}

/// A veth pair to make: one end a port of a bridge here, the other in a namespace.
#[derive(Debug)]
pub(crate) struct Veth<'a> {
    pub(crate) host: &'a str,
    pub(crate) bridge: u32,
    pub(crate) peer: &'a str,
    pub(crate) netns: BorrowedFd<'a>,
    pub(crate) mac: [u8; 6],
    pub(crate) mtu: u32,
}

/// A link that hangs on another, or on none.
#[derive(Debug)]
pub(crate) struct Sub<'a> {
    pub(crate) name: &'a str,
    /// The other's number.
    pub(crate) parent: u32,
    pub(crate) kind: SubKind,
    /// Where it is to be; here otherwise.
    pub(crate) netns: Option<BorrowedFd<'a>>,
    pub(crate) mac: Option<[u8; 6]>,
    pub(crate) mtu: u32,
}

/// What kind of link that is.
#[derive(Debug)]
pub(crate) enum SubKind {
    Dummy,
    Vlan(u16),
    /// With its mode.
    Macvlan(String),
    /// With its mode and flag.
    Ipvlan(String, String),
}

impl SubKind {
    fn info(&self) -> Vec<LinkInfo> {
        match self {
            Self::Dummy => vec![LinkInfo::Kind(InfoKind::Dummy)],
            Self::Vlan(id) => {
                vec![LinkInfo::Kind(InfoKind::Vlan), LinkInfo::Data(InfoData::Vlan(vec![InfoVlan::Id(*id)]))]
            }
            Self::Macvlan(mode) => {
                let mode = match mode.as_str() {
                    "private" => MacVlanMode::Private,
                    "vepa" => MacVlanMode::Vepa,
                    "passthru" => MacVlanMode::Passthrough,
                    _ => MacVlanMode::Bridge,
                };
                let data = InfoData::MacVlan(vec![InfoMacVlan::Mode(mode)]);
                vec![LinkInfo::Kind(InfoKind::MacVlan), LinkInfo::Data(data)]
            }
            Self::Ipvlan(mode, flag) => {
                let mode = match mode.as_str() {
                    "l3" => IpVlanMode::L3,
                    "l3s" => IpVlanMode::L3S,
                    _ => IpVlanMode::L2,
                };
                // IPVLAN_F_PRIVATE, IPVLAN_F_VEPA (linux/if_link.h)
                let flags = match flag.as_str() {
                    "private" => 1,
                    "vepa" => 2,
                    _ => 0,
                };
                let flags = InfoIpVlan::Flags(IpVlanFlags::from_bits_retain(flags));
                let data = InfoData::IpVlan(vec![InfoIpVlan::Mode(mode), flags]);
                vec![LinkInfo::Kind(InfoKind::IpVlan), LinkInfo::Data(data)]
            }
        }
    }
}

/// A connection to rtnetlink in the network namespace of the thread that opened it.
#[derive(Debug)]
pub struct Links {
    runtime: Runtime,
    handle: Handle,
}

impl Links {
    /// Connects.
    ///
    /// # Errors
    /// When there is no socket.
    pub fn open() -> Result<Self, LinkError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().map_err(LinkError::Open)?;
        let (connection, handle, _) = {
            let _entered = runtime.enter();
            rtnetlink::new_connection().map_err(LinkError::Open)?
        };
        runtime.spawn(connection);
        Ok(Self { runtime, handle })
    }

    /// All links.
    ///
    /// # Errors
    /// When the kernel refuses the listing.
    pub fn list(&self) -> Result<Vec<Link>, LinkError> {
        let messages: Vec<LinkMessage> = self
            .runtime
            .block_on(self.handle.link().get().execute().try_collect())
            .map_err(|error| LinkError::List { what: "links", source: io_error(error) })?;
        Ok(messages.iter().map(link).collect())
    }

    /// A link by its name.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn get(&self, name: &str) -> Result<Option<Link>, LinkError> {
        let found = self.runtime.block_on(async {
            let request = self.handle.link().get().match_name(name).execute();
            std::pin::pin!(request).try_next().await
        });
        match found.map_err(io_error) {
            Ok(message) => Ok(message.as_ref().map(link)),
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(None),
            Err(source) => Err(LinkError::List { what: "links", source }),
        }
    }

    /// As [`Links::get`], where the link must be there.
    pub(crate) fn index(&self, name: &str) -> Result<u32, LinkError> {
        self.get(name)?.map(|link| link.index).ok_or_else(|| LinkError::Missing(name.to_owned()))
    }

    /// The addresses of all links, with the links' numbers.
    ///
    /// # Errors
    /// When the kernel refuses the listing.
    pub fn addresses(&self) -> Result<Vec<(u32, Cidr)>, LinkError> {
        let messages: Vec<_> = self
            .runtime
            .block_on(self.handle.address().get().execute().try_collect())
            .map_err(|error| LinkError::List { what: "addresses", source: io_error(error) })?;
        let cidr = |message: &netlink_packet_route::address::AddressMessage| {
            let address = message.attributes.iter().find_map(|attribute| match attribute {
                AddressAttribute::Address(address) => Some(*address),
                _ => None,
            });
            Some((message.header.index, Cidr::new(address?, message.header.prefix_len)?))
        };
        Ok(messages.iter().filter_map(cidr).collect())
    }

    /// The ranges that this host has addresses in or routes to, but for default
    /// routes and what belongs to the link `except`.
    ///
    /// # Errors
    /// When the kernel refuses a listing.
    pub fn taken(&self, except: Option<&str>) -> Result<Vec<Taken>, LinkError> {
        let links = self.list()?;
        let name = |index: u32| links.iter().find(|link| link.index == index).map_or("?", |link| link.name.as_str());
        let mut taken = Vec::new();
        for (index, cidr) in self.addresses()? {
            if Some(name(index)) != except {
                taken.push(Taken { cidr, by: format!("the network of {}", name(index)), via: false });
            }
        }
        for family in [RouteMessageBuilder::<Ipv4Addr>::new().build(), RouteMessageBuilder::<Ipv6Addr>::new().build()] {
            let routes: Vec<RouteMessage> = self
                .runtime
                .block_on(self.handle.route().get(family).execute().try_collect())
                .map_err(|error| LinkError::List { what: "routes", source: io_error(error) })?;
            for route in &routes {
                let Some((cidr, link)) = destination(route) else { continue };
                let link = link.map(name);
                if link.is_some() && link == except {
                    continue;
                }
                let by = link.map_or_else(|| "a route".to_owned(), |link| format!("the route through {link}"));
                let via = route.attributes.iter().any(|attribute| matches!(attribute, RouteAttribute::Gateway(_)));
                taken.push(Taken { cidr, by, via });
            }
        }
        Ok(taken)
    }

    pub(crate) fn add_bridge(&self, name: &str, mac: [u8; 6], mtu: u32) -> Result<(), LinkError> {
        let message = LinkMessageBuilder::<LinkUnspec>::new_with_info_kind(InfoKind::Bridge)
            .name(name)
            .address(mac.to_vec())
            .mtu(mtu)
            .build();
        self.create("create bridge", name, &message)
    }

    /// Makes a veth pair whose peer is born in its namespace with its final name, enslaved and up on this side.
    pub(crate) fn add_veth(&self, veth: &Veth<'_>) -> Result<(), LinkError> {
        let mut peer = LinkMessage::default();
        peer.attributes = vec![
            LinkAttribute::IfName(veth.peer.to_owned()),
            LinkAttribute::Address(veth.mac.to_vec()),
            LinkAttribute::Mtu(veth.mtu),
            LinkAttribute::NetNsFd(veth.netns.as_raw_fd()),
        ];
        let mut message = LinkMessage::default();
        message.header.flags = LinkFlags::Up;
        message.header.change_mask = LinkFlags::Up;
        message.attributes = vec![
            LinkAttribute::IfName(veth.host.to_owned()),
            LinkAttribute::Mtu(veth.mtu),
            LinkAttribute::Controller(veth.bridge),
            LinkAttribute::LinkInfo(vec![
                LinkInfo::Kind(InfoKind::Veth),
                LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer))),
            ]),
        ];
        self.create("create veth", veth.host, &message)
    }

    /// Makes a link on another one, born in its namespace.
    pub(crate) fn add_sub(&self, sub: &Sub<'_>) -> Result<(), LinkError> {
        let mut message = LinkMessage::default();
        message.attributes = vec![LinkAttribute::IfName(sub.name.to_owned())];
        if sub.parent != 0 {
            message.attributes.push(LinkAttribute::Link(sub.parent));
        }
        message.attributes.extend(sub.netns.map(|netns| LinkAttribute::NetNsFd(netns.as_raw_fd())));
        message.attributes.extend(sub.mac.map(|mac| LinkAttribute::Address(mac.to_vec())));
        if !matches!(sub.kind, SubKind::Vlan(_)) {
            message.attributes.push(LinkAttribute::Mtu(sub.mtu));
        }
        message.attributes.push(LinkAttribute::LinkInfo(sub.kind.info()));
        let action = match sub.kind {
            SubKind::Dummy => "create the dummy link",
            SubKind::Vlan(_) => "create the VLAN link",
            SubKind::Macvlan(_) => "create the macvlan link",
            SubKind::Ipvlan(..) => "create the ipvlan link",
        };
        self.create(action, sub.name, &message)
    }

    /// Sets how a bridge treats a port. `isolated`: not forwarded to other isolated ports (KERNEL(4.18)).
    /// `hairpin`: may go out where it came in.
    pub(crate) fn set_port(&self, name: &str, isolated: bool, hairpin: bool) -> Result<(), LinkError> {
        let message = LinkMessageBuilder::<LinkUnspec>::default()
            .name(name)
            .set_port_kind(InfoPortKind::Bridge)
            .set_port_data(InfoPortData::BridgePort(vec![
                InfoBridgePort::Isolated(isolated),
                InfoBridgePort::HairpinMode(hairpin),
            ]))
            .build();
        self.change("set up the bridge port", name, self.handle.link().set_port(message).execute())
    }

    /// Sets a link up, and gives it an alias.
    pub(crate) fn up(&self, index: u32, name: &str, alias: Option<&str>) -> Result<(), LinkError> {
        let message = LinkUnspec::new_with_index(index).up();
        let message = match alias {
            Some(alias) => message.alias(alias),
            None => message,
        };
        self.change("set up", name, self.handle.link().set(message.build()).execute())
    }

    /// Gives a link that is down another name.
    pub(crate) fn rename(&self, index: u32, from: &str, to: &str) -> Result<(), LinkError> {
        let message = LinkUnspec::new_with_index(index).name(to).build();
        self.change("rename", from, self.handle.link().set(message).execute())
    }

    /// Gives a link an address; one that it has already is no error.
    pub(crate) fn add_address(&self, index: u32, name: &str, address: Cidr) -> Result<(), LinkError> {
        let mut request = self.handle.address().add(index, address.address(), address.prefix()).replace();
        if !address.is_ipv4() {
            // Without this the address cannot be bound for a second: the kernel asks whether another has it.
            request.message_mut().header.flags |= AddressHeaderFlags::Nodad;
        }
        self.change("add an address to", name, request.execute())
    }

    pub(crate) fn add_default_route(&self, index: u32, name: &str, gateway: IpAddr) -> Result<(), LinkError> {
        let route = match gateway {
            IpAddr::V4(v4) => RouteMessageBuilder::<Ipv4Addr>::new().gateway(v4).output_interface(index).build(),
            IpAddr::V6(v6) => RouteMessageBuilder::<Ipv6Addr>::new().gateway(v6).output_interface(index).build(),
        };
        self.change("add the default route through", name, self.handle.route().add(route).replace().execute())
    }

    /// A default route that needs no gateway: whoever is at the other end of the link routes.
    pub(crate) fn add_device_route(&self, index: u32, name: &str, ipv4: bool) -> Result<(), LinkError> {
        let route = match ipv4 {
            true => RouteMessageBuilder::<Ipv4Addr>::new().output_interface(index).scope(RouteScope::Link).build(),
            false => RouteMessageBuilder::<Ipv6Addr>::new().output_interface(index).build(),
        };
        self.change("add the default route through", name, self.handle.route().add(route).replace().execute())
    }

    /// Deletes a link. `false`: there was none.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn delete(&self, name: &str) -> Result<bool, LinkError> {
        let Some(link) = self.get(name)? else { return Ok(false) };
        match self.change("delete link", name, self.handle.link().del(link.index).execute()) {
            Ok(()) => Ok(true),
            Err(error) if error.errno() == Some(libc::ENODEV) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Deletes links together, which takes as long as one: each deletion waits until
    /// no processor can be using the link. Gone already: no error.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn delete_all(&self, names: &[&str]) -> Result<(), LinkError> {
        if let [name] = names {
            return self.delete(name).map(drop);
        }
        let all = self.list()?;
        let doomed: Vec<&Link> = all.iter().filter(|link| names.contains(&link.name.as_str())).collect();
        let Some(first) = doomed.first() else { return Ok(()) };
        let group = unused_group(&all)?;
        for link in &doomed {
            let message = LinkMessageBuilder::<LinkUnspec>::default().name(&link.name).link_group(group).build();
            match self.change("mark for deletion", &link.name, self.handle.link().set(message).execute()) {
                // Gone meanwhile, with its namespace.
                Err(error) if error.errno() == Some(libc::ENODEV) => {}
                result => result?,
            }
        }
        let mut message = LinkMessage::default();
        message.attributes = vec![LinkAttribute::Group(group)];
        match self.change("delete links", &first.name, self.handle.link().del_with_message(message).execute()) {
            Err(error) if error.errno() == Some(libc::ENODEV) => Ok(()),
            result => result,
        }
    }

    /// Makes a link. Where its kind is a module, the kernel says that there is no such kind to all but the first who ask
    /// for one while the module is being loaded (what `modprobe` finds listed counts as loaded for it).
    fn create(&self, action: &'static str, link: &str, message: &LinkMessage) -> Result<(), LinkError> {
        let mut waits = LOADING.iter();
        loop {
            let result = self.change(action, link, self.handle.link().add(message.clone()).execute());
            match (&result, waits.next()) {
                (Err(error), Some(wait)) if error.errno() == Some(libc::EOPNOTSUPP) => {
                    std::thread::sleep(Duration::from_millis(*wait))
                }
                _ => return result,
            }
        }
    }

    fn change(
        &self,
        action: &'static str,
        link: &str,
        request: impl Future<Output = Result<(), rtnetlink::Error>>,
    ) -> Result<(), LinkError> {
        self.runtime.block_on(request).map_err(|error| LinkError::Change {
            action,
            link: link.to_owned(),
            source: io_error(error),
        })
    }
}

/// A random group, so that two commands do not delete each other's links.
fn unused_group(links: &[Link]) -> Result<u32, LinkError> {
    loop {
        let random = umiak_base::id::random_hex(4).map_err(LinkError::Random)?;
        match u32::from_str_radix(&random, 16) {
            Ok(group) if group != 0 && !links.iter().any(|link| link.group == group) => return Ok(group),
            _ => {}
        }
    }
}

fn io_error(error: rtnetlink::Error) -> io::Error {
    match error {
        rtnetlink::Error::NetlinkError(message) => message.to_io(),
        other => io::Error::other(other),
    }
}

fn link(message: &LinkMessage) -> Link {
    let mut link = Link {
        index: message.header.index,
        name: String::new(),
        master: None,
        alias: None,
        is_bridge: false,
        group: 0,
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name.clone_from(name),
            LinkAttribute::Controller(master) => link.master = Some(*master),
            LinkAttribute::Group(group) => link.group = *group,
            LinkAttribute::IfAlias(alias) => link.alias = Some(alias.clone()),
            LinkAttribute::LinkInfo(infos) => {
                link.is_bridge = infos.iter().any(|info| matches!(info, LinkInfo::Kind(InfoKind::Bridge)));
            }
            _ => {}
        }
    }
    link
}

/// The range that a route leads to, with its link's number; `None` for default
/// routes and for the kernel's own (local, broadcast, multicast).
fn destination(route: &RouteMessage) -> Option<(Cidr, Option<u32>)> {
    let ours = matches!(
        route.header.kind,
        RouteType::Unicast | RouteType::BlackHole | RouteType::Unreachable | RouteType::Prohibit
    );
    let prefix = route.header.destination_prefix_length;
    if !ours || prefix == 0 || route.header.table == LOCAL_TABLE {
        return None;
    }
    let mut address = None;
    let mut link = None;
    for attribute in &route.attributes {
        match attribute {
            RouteAttribute::Destination(RouteAddress::Inet(v4)) => address = Some(IpAddr::V4(*v4)),
            RouteAttribute::Destination(RouteAddress::Inet6(v6)) => address = Some(IpAddr::V6(*v6)),
            RouteAttribute::Oif(index) => link = Some(*index),
            _ => {}
        }
    }
    let cidr = Cidr::new(address?, prefix)?;
    // Every link has fe80::/64; no network can.
    (!is_link_local(cidr)).then_some((cidr, link))
}

/// `RT_TABLE_LOCAL`.
const LOCAL_TABLE: u8 = RouteHeader::RT_TABLE_MAIN + 1;

fn is_link_local(cidr: Cidr) -> bool {
    matches!(cidr.address(), IpAddr::V6(v6) if v6.is_unicast_link_local())
}
