//! Address management: which range a network gets, which address a container gets.
//!
//! Choosing is pure. A given address is a file, `<leases>/<address>`, that holds
//! its container's id: linked into place with its content, so two commands can
//! never get the same one.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use umiak_base::FileLock;
use umiak_base::lock::LockError;

use crate::cidr::{self, Cidr};

/// Why a range or an address could not be had.
#[derive(Debug, thiserror::Error)]
pub enum IpamError {
    /// Every range of the default pools is in use.
    #[error("all {count} ranges of the default address pools are in use: remove networks, or give a subnet")]
    PoolsExhausted {
        /// How many ranges there are.
        count: usize,
    },
    /// A range that was asked for is in use.
    #[error("subnet {subnet} overlaps {taken}, which is {by}")]
    Overlap {
        /// What was asked for.
        subnet: Cidr,
        /// What it clashes with.
        taken: Cidr,
        /// Whose that is.
        by: String,
    },
    /// A range has no room for a gateway and a container.
    #[error("subnet {0} is too small for a gateway and a container")]
    TooSmall(Cidr),
    /// A gateway, range or auxiliary address outside its subnet.
    #[error("{what} {value} is not in subnet {subnet}")]
    Outside {
        /// Which setting.
        what: &'static str,
        /// Its value.
        value: String,
        /// The subnet.
        subnet: Cidr,
    },
    /// A static address that cannot be a container's.
    #[error("{address} cannot be used in {subnet}: it is the {what}")]
    Reserved {
        /// The address.
        address: IpAddr,
        /// Its subnet.
        subnet: Cidr,
        /// What it is reserved for.
        what: String,
    },
    /// A static address that another container holds.
    #[error("address {address} is in use by container {holder}")]
    InUse {
        /// The address.
        address: IpAddr,
        /// The holder's id.
        holder: String,
    },
    /// No address is left.
    #[error("no free address is left in {range}: all {count} are in use")]
    Exhausted {
        /// The range that addresses come from.
        range: Cidr,
        /// How many addresses it gives.
        count: u128,
    },
    /// A lease file could not be read or written.
    #[error("lease {path}")]
    Lease {
        /// The file or directory.
        path: PathBuf,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// The leases could not be locked.
    #[error(transparent)]
    Lock(#[from] LockError),
}

/// A range of addresses of a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subnet {
    /// The range.
    pub cidr: Cidr,
    /// The bridge's own address, the containers' way out.
    pub gateway: IpAddr,
    /// The part of the range that addresses are chosen from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip_range: Option<Cidr>,
    /// Addresses that other things in the network have, by name.
    #[serde(default, skip_serializing_if = "std::collections::BTreeMap::is_empty")]
    pub aux: std::collections::BTreeMap<String, IpAddr>,
}

/// What the user asks of a subnet.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SubnetRequest {
    /// The range.
    pub cidr: Option<Cidr>,
    /// The gateway; otherwise the first address (of `ip_range`, if that is given).
    pub gateway: Option<IpAddr>,
    /// Where addresses are chosen from.
    pub ip_range: Option<Cidr>,
    /// Addresses that must not be given out, by name.
    pub aux: std::collections::BTreeMap<String, IpAddr>,
}

/// A range that is in use on this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// The range.
    pub cidr: Cidr,
    /// Whose, in words: `the route through eth0`, `network web_default`.
    pub by: String,
    /// A route to somewhere else, not a link of this host: a subnet that was asked
    /// for may be a part of it, since the more specific route wins.
    pub via: bool,
}

/// How long the prefix of a range that nobody asked for is: room for as many containers as a bridge has ports.
pub const IPV4_PREFIX: u8 = 22;

/// The ranges that networks are given by default: Docker's pools, in pieces of /22.
#[must_use]
pub fn default_pools() -> Vec<Cidr> {
    let sixteen = (17..=31).map(|second| [172, second, 0, 0]).chain([[192, 168, 0, 0]]);
    sixteen.filter_map(|address| Cidr::new(address.into(), 16)).collect()
}

/// The first free /22 of the pools (/64 of IPv6 pools).
///
/// # Errors
/// When all are in use.
pub fn choose_subnet(pools: &[Cidr], taken: &[Taken]) -> Result<Cidr, IpamError> {
    let blocks = || pools.iter().flat_map(|pool| pool.split(if pool.is_ipv4() { IPV4_PREFIX } else { 64 }));
    blocks()
        .find(|block| !taken.iter().any(|taken| taken.cidr.overlaps(*block)))
        .ok_or_else(|| IpamError::PoolsExhausted { count: blocks().count() })
}

/// Checks a range that was asked for.
///
/// # Errors
/// When it overlaps what is in use.
pub fn check_subnet(subnet: Cidr, taken: &[Taken]) -> Result<(), IpamError> {
    let subnet = subnet.network();
    let clash = taken.iter().find(|taken| {
        let part_of_route = taken.via && taken.cidr.prefix() < subnet.prefix();
        taken.cidr.overlaps(subnet) && !part_of_route
    });
    match clash {
        Some(taken) => Err(IpamError::Overlap { subnet, taken: taken.cidr.network(), by: taken.by.clone() }),
        None => Ok(()),
    }
}

/// Completes a subnet: the range is `chosen` unless one was asked for.
///
/// # Errors
/// When a part of the request lies outside the range, or the range is too small.
pub fn complete(request: &SubnetRequest, chosen: Cidr) -> Result<Subnet, IpamError> {
    let cidr = request.cidr.unwrap_or(chosen).network();
    if cidr.last() - cidr.first() < 2 {
        return Err(IpamError::TooSmall(cidr));
    }
    let outside = |what, value: String| IpamError::Outside { what, value, subnet: cidr };
    if let Some(range) = request.ip_range
        && !cidr.covers(range)
    {
        return Err(outside("ip_range", range.to_string()));
    }
    if let Some((name, address)) = request.aux.iter().find(|(_, address)| !cidr.contains(**address)) {
        return Err(outside("auxiliary address", format!("{name}={address}")));
    }
    let gateway = match request.gateway {
        Some(gateway) if !cidr.contains(gateway) => return Err(outside("gateway", gateway.to_string())),
        Some(gateway) => gateway,
        None => first_free(request, cidr).ok_or(IpamError::TooSmall(cidr))?,
    };
    Ok(Subnet { cidr, gateway, ip_range: request.ip_range.map(Cidr::network), aux: request.aux.clone() })
}

fn first_free(request: &SubnetRequest, cidr: Cidr) -> Option<IpAddr> {
    let from = request.ip_range.unwrap_or(cidr).first().max(cidr.first() + 1);
    (from..cidr.last())
        .map(|number| cidr::from_number(number, cidr.is_ipv4()))
        .find(|address| !request.aux.values().any(|aux| aux == address))
}

impl Subnet {
    /// What an address is reserved for, if it is.
    fn reserved(&self, address: IpAddr) -> Option<String> {
        if address == self.gateway {
            Some("gateway".to_owned())
        } else if address == self.cidr.network().address() {
            Some("network address".to_owned())
        } else if self.cidr.is_ipv4() && address == self.cidr.last_address() {
            Some("broadcast address".to_owned())
        } else {
            self.aux.iter().find(|(_, aux)| **aux == address).map(|(name, _)| format!("auxiliary address {name}"))
        }
    }

    /// Where addresses are chosen from.
    #[must_use]
    pub fn range(&self) -> Cidr {
        self.ip_range.unwrap_or(self.cidr)
    }

    /// Checks a static address, whoever holds it.
    ///
    /// # Errors
    /// When it is outside the subnet or reserved.
    pub fn check(&self, address: IpAddr) -> Result<(), IpamError> {
        if !self.cidr.contains(address) {
            return Err(IpamError::Outside { what: "address", value: address.to_string(), subnet: self.cidr });
        }
        match self.reserved(address) {
            Some(what) => Err(IpamError::Reserved { address, subnet: self.cidr, what }),
            None => Ok(()),
        }
    }

    /// Addresses that can be given out, lowest first.
    pub fn candidates(&self) -> impl Iterator<Item = IpAddr> {
        let range = self.range();
        (range.first()..=range.last())
            .map(move |number| cidr::from_number(number, range.is_ipv4()))
            .filter(|address| self.reserved(*address).is_none())
    }

    fn capacity(&self) -> u128 {
        let range = self.range();
        let in_range = |address: &IpAddr| range.contains(*address);
        let broadcast = self.cidr.is_ipv4().then(|| self.cidr.last_address());
        let mut reserved: Vec<IpAddr> = self.aux.values().copied().chain(broadcast).collect();
        reserved.extend([self.gateway, self.cidr.network().address()]);
        reserved.sort_unstable();
        reserved.dedup();
        let reserved = u128::try_from(reserved.iter().filter(|a| in_range(a)).count()).unwrap_or(0);
        (range.last() - range.first()).saturating_add(1).saturating_sub(reserved)
    }
}

/// The addresses of one network that are given out.
#[derive(Debug, Clone)]
pub struct Leases {
    dir: PathBuf,
}

/// Whether a container is still there, by id.
pub type Exists<'a> = &'a dyn Fn(&str) -> bool;

impl Leases {
    /// The leases in a directory, which is made when the first is given.
    #[must_use]
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into() }
    }

    /// Gives an address to container `id`: `wanted`, or the lowest free one. The address that
    /// the container holds already is given again. A lease whose holder is gone counts as free.
    ///
    /// # Errors
    /// When the wanted address cannot be had, or none is left.
    pub fn lease(
        &self,
        subnet: &Subnet,
        wanted: Option<IpAddr>,
        id: &str,
        exists: Exists<'_>,
    ) -> Result<IpAddr, IpamError> {
        if wanted.is_none()
            && let Some((held, _)) =
                self.all()?.iter().find(|(address, holder)| holder == id && subnet.cidr.contains(*address))
        {
            return Ok(*held);
        }
        self.first_lease(subnet, wanted, id, exists)
    }

    /// As [`Leases::lease`], for a container that is new and so holds none: nobody's lease has to be read.
    ///
    /// # Errors
    /// As there.
    pub fn first_lease(
        &self,
        subnet: &Subnet,
        wanted: Option<IpAddr>,
        id: &str,
        exists: Exists<'_>,
    ) -> Result<IpAddr, IpamError> {
        fs::create_dir_all(&self.dir).map_err(|source| self.error(&self.dir, source))?;
        if let Some(address) = wanted {
            subnet.check(address)?;
            if self.link(address, id)? {
                return Ok(address);
            }
            return match self.reclaim(address, id, exists)? {
                None => Ok(address),
                Some(holder) => Err(IpamError::InUse { address, holder }),
            };
        }
        let held: std::collections::HashSet<IpAddr> = self.addresses()?.into_iter().collect();
        for address in subnet.candidates().filter(|address| !held.contains(address)) {
            if self.link(address, id)? {
                return Ok(address);
            }
        }
        for address in held.into_iter().filter(|address| subnet.range().contains(*address)) {
            if self.reclaim(address, id, exists)?.is_none() {
                return Ok(address);
            }
        }
        Err(IpamError::Exhausted { range: subnet.range(), count: subnet.capacity() })
    }

    /// Gives back all addresses of a container.
    ///
    /// # Errors
    /// When the directory cannot be read or changed.
    pub fn release(&self, id: &str) -> Result<(), IpamError> {
        if !self.dir.is_dir() {
            return Ok(());
        }
        let _lock = self.lock()?;
        for (address, _) in self.all()?.into_iter().filter(|(_, holder)| holder == id) {
            let path = self.path(address);
            match fs::remove_file(&path) {
                Err(source) if source.kind() != io::ErrorKind::NotFound => return Err(self.error(&path, source)),
                _ => {}
            }
        }
        Ok(())
    }

    /// All leases: address and container id.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn all(&self) -> Result<Vec<(IpAddr, String)>, IpamError> {
        let mut leases = Vec::new();
        for address in self.addresses()? {
            let path = self.path(address);
            match fs::read_to_string(&path) {
                Ok(holder) => leases.push((address, holder)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(source) => return Err(self.error(&path, source)),
            }
        }
        leases.sort_unstable();
        Ok(leases)
    }

    fn addresses(&self) -> Result<Vec<IpAddr>, IpamError> {
        let entries = match fs::read_dir(&self.dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => return Err(self.error(&self.dir, source)),
        };
        let mut addresses = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|source| self.error(&self.dir, source))?;
            addresses.extend(entry.file_name().to_str().and_then(|name| name.parse::<IpAddr>().ok()));
        }
        Ok(addresses)
    }

    /// Removes all, with the directory: the network goes.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub fn remove(&self) -> Result<(), IpamError> {
        match fs::remove_dir_all(&self.dir) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => Err(self.error(&self.dir, source)),
            _ => Ok(()),
        }
    }

    /// Takes a free address. `false`: it is taken.
    fn link(&self, address: IpAddr, id: &str) -> Result<bool, IpamError> {
        let path = self.path(address);
        let temporary = self.temporary(id)?;
        let result = fs::hard_link(&temporary, &path);
        let _ = fs::remove_file(&temporary);
        match result {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            Err(source) => Err(self.error(&path, source)),
        }
    }

    /// Takes over a lease whose holder is gone, or is `id` itself. Otherwise the holder.
    fn reclaim(&self, address: IpAddr, id: &str, exists: Exists<'_>) -> Result<Option<String>, IpamError> {
        let _lock = self.lock()?;
        let path = self.path(address);
        let holder = match fs::read_to_string(&path) {
            Ok(holder) => holder,
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(source) => return Err(self.error(&path, source)),
        };
        if holder == id {
            return Ok(None);
        }
        if !holder.is_empty() && exists(&holder) {
            return Ok(Some(holder));
        }
        let temporary = self.temporary(id)?;
        fs::rename(&temporary, &path).map_err(|source| self.error(&path, source))?;
        Ok(None)
    }

    fn temporary(&self, id: &str) -> Result<PathBuf, IpamError> {
        let random = umiak_base::id::random_hex(8).map_err(|source| self.error(&self.dir, source))?;
        let path = self.dir.join(format!(".{random}.tmp"));
        fs::write(&path, id).map_err(|source| self.error(&path, source))?;
        Ok(path)
    }

    fn lock(&self) -> Result<FileLock, IpamError> {
        Ok(FileLock::exclusive_without_room(&self.dir.join(".lock"))?)
    }

    fn path(&self, address: IpAddr) -> PathBuf {
        self.dir.join(address.to_string())
    }

    fn error(&self, path: &Path, source: io::Error) -> IpamError {
        IpamError::Lease { path: path.to_owned(), source }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cidr(text: &str) -> Cidr {
        text.parse().unwrap()
    }

    fn taken(text: &str, via: bool) -> Taken {
        Taken { cidr: cidr(text), by: "the route through tun0".to_owned(), via }
    }

    fn subnet(text: &str) -> Subnet {
        complete(&SubnetRequest { cidr: Some(cidr(text)), ..SubnetRequest::default() }, cidr(text)).unwrap()
    }

    #[test]
    fn the_first_range_that_is_free_is_chosen() {
        let pools = default_pools();
        let choose = |taken: &[Taken]| choose_subnet(&pools, taken).map(|cidr| cidr.to_string()).unwrap();
        assert_eq!(choose(&[]), "172.17.0.0/22");
        assert_eq!(choose(&[taken("172.17.0.0/16", false)]), "172.18.0.0/22");
        assert_eq!(choose(&[taken("172.17.0.77/32", true)]), "172.17.4.0/22");
        assert_eq!(choose(&[taken("172.16.0.0/12", false)]), "192.168.0.0/22");
        // A VPN that takes a part of 10.0.0.0/8 is in nobody's way.
        assert_eq!(choose(&[taken("10.0.0.0/8", true)]), "172.17.0.0/22");
    }

    #[test]
    fn pools_that_are_full_say_how_many_there_are() {
        let all = [taken("172.16.0.0/12", false), taken("192.168.0.0/16", false)];
        let error = choose_subnet(&default_pools(), &all).unwrap_err();
        assert!(error.to_string().contains("all 1024 ranges"), "{error}");
    }

    #[test]
    fn a_range_that_is_asked_for_may_be_part_of_a_route_but_not_of_a_link() {
        let check = |wanted, clash| check_subnet(cidr(wanted), &[clash]);
        check("10.5.0.0/16", taken("10.0.0.0/8", true)).unwrap();
        let error = check("10.5.0.0/16", taken("10.0.0.7/8", false)).unwrap_err();
        assert_eq!(error.to_string(), "subnet 10.5.0.0/16 overlaps 10.0.0.0/8, which is the route through tun0");
        assert!(check("10.5.0.0/16", taken("10.5.0.0/16", true)).is_err());
        assert!(check("10.5.0.0/16", taken("10.5.7.0/24", true)).is_err());
        check("10.5.0.0/16", taken("10.6.0.0/16", false)).unwrap();
    }

    #[test]
    fn gateways_are_the_first_address_or_what_was_asked_for() {
        let request = SubnetRequest {
            cidr: Some(cidr("10.5.0.0/16")),
            ip_range: Some(cidr("10.5.1.0/24")),
            aux: [("router".to_owned(), "10.5.1.0".parse().unwrap())].into(),
            ..SubnetRequest::default()
        };
        assert_eq!(complete(&request, cidr("10.5.0.0/16")).unwrap().gateway.to_string(), "10.5.1.1");
        assert_eq!(subnet("10.5.0.0/16").gateway.to_string(), "10.5.0.1");
        for wrong in [
            SubnetRequest { gateway: Some("10.6.0.1".parse().unwrap()), ..request.clone() },
            SubnetRequest { ip_range: Some(cidr("10.6.0.0/24")), ..request.clone() },
            SubnetRequest { ip_range: Some(cidr("10.0.0.0/8")), ..request.clone() },
            SubnetRequest { aux: [("x".to_owned(), "10.6.0.1".parse().unwrap())].into(), ..request },
        ] {
            assert!(matches!(complete(&wrong, cidr("10.5.0.0/16")), Err(IpamError::Outside { .. })));
        }
        for small in ["10.5.0.0/31", "10.5.0.0/32"] {
            let request = SubnetRequest { cidr: Some(cidr(small)), ..SubnetRequest::default() };
            assert!(matches!(complete(&request, cidr(small)), Err(IpamError::TooSmall(_))));
        }
    }

    #[test]
    fn addresses_are_leased_lowest_first_and_given_back() {
        let dir = tempfile::tempdir().unwrap();
        let leases = Leases::new(dir.path().join("leases"));
        let subnet = subnet("10.5.0.0/29");
        let lease = |id: &str| leases.lease(&subnet, None, id, &|_| true).map(|address| address.to_string());
        assert_eq!(lease("a").unwrap(), "10.5.0.2");
        assert_eq!(leases.first_lease(&subnet, None, "b", &|_| true).unwrap().to_string(), "10.5.0.3");
        assert_eq!(lease("b").unwrap(), "10.5.0.3");
        // The same again for the same container.
        assert_eq!(lease("a").unwrap(), "10.5.0.2");
        for id in ["c", "d", "e"] {
            lease(id).unwrap();
        }
        assert_eq!(lease("f").unwrap_err().to_string(), "no free address is left in 10.5.0.0/29: all 5 are in use");
        leases.release("b").unwrap();
        leases.release("b").unwrap();
        assert_eq!(lease("f").unwrap(), "10.5.0.3");
        assert_eq!(leases.all().unwrap().len(), 5);
        leases.remove().unwrap();
        leases.remove().unwrap();
        assert_eq!(leases.all().unwrap(), []);
    }

    #[test]
    fn leases_of_containers_that_are_gone_are_taken_over() {
        let dir = tempfile::tempdir().unwrap();
        let leases = Leases::new(dir.path());
        let subnet = subnet("10.5.0.0/30");
        let lease = |wanted: Option<&str>, id: &str, alive: &[&str]| {
            let wanted = wanted.map(|text| text.parse().unwrap());
            leases.lease(&subnet, wanted, id, &|id| alive.contains(&id)).map(|address| address.to_string())
        };
        assert_eq!(lease(None, "a", &[]).unwrap(), "10.5.0.2");
        assert!(lease(None, "b", &["a"]).is_err());
        assert_eq!(lease(None, "b", &[]).unwrap(), "10.5.0.2");
        assert_eq!(
            lease(Some("10.5.0.2"), "c", &["b"]).unwrap_err().to_string(),
            "address 10.5.0.2 is in use by container b"
        );
        assert_eq!(lease(Some("10.5.0.2"), "c", &[]).unwrap(), "10.5.0.2");
        assert_eq!(lease(Some("10.5.0.2"), "c", &[]).unwrap(), "10.5.0.2");
    }

    #[test]
    fn addresses_that_cannot_be_a_container_s_are_refused() {
        let mut subnet = subnet("10.5.0.0/24");
        subnet.aux.insert("router".to_owned(), "10.5.0.9".parse().unwrap());
        for (address, what) in [
            ("10.5.0.0", "network address"),
            ("10.5.0.1", "gateway"),
            ("10.5.0.255", "broadcast address"),
            ("10.5.0.9", "auxiliary address router"),
            ("10.6.0.1", "not in subnet 10.5.0.0/24"),
        ] {
            let error = subnet.check(address.parse().unwrap()).unwrap_err().to_string();
            assert!(error.contains(what), "{error}");
        }
        assert!(!subnet.candidates().any(|address| address.to_string() == "10.5.0.9"));
        subnet.ip_range = Some(cidr("10.5.0.128/25"));
        assert_eq!(subnet.candidates().next().unwrap().to_string(), "10.5.0.128");
        // A static address may lie outside the range that others are chosen from.
        subnet.check("10.5.0.7".parse().unwrap()).unwrap();
    }

    #[test]
    fn commands_at_once_never_get_the_same_address() {
        let dir = tempfile::tempdir().unwrap();
        let leases = Leases::new(dir.path());
        let subnet = subnet("10.5.0.0/24");
        let given = std::sync::Mutex::new(std::collections::HashSet::new());
        std::thread::scope(|scope| {
            for thread in 0..8 {
                let (leases, subnet, given) = (&leases, &subnet, &given);
                scope.spawn(move || {
                    for n in 0..20 {
                        let id = format!("{thread}-{n}");
                        let address = leases.lease(subnet, None, &id, &|_| true).unwrap();
                        assert!(given.lock().unwrap().insert(address), "{address} was given twice");
                    }
                });
            }
        });
        assert_eq!(leases.all().unwrap().len(), 160);
    }
}
