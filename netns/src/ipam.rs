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

/// The ranges that networks are given by default: Docker's pools, in pieces of /24.
#[must_use]
pub fn default_pools() -> Vec<Cidr> {
    let sixteen = (17..=31).map(|second| [172, second, 0, 0]).chain([[192, 168, 0, 0]]);
    sixteen.filter_map(|address| Cidr::new(address.into(), 16)).collect()
}

/// The first free /24 of the pools (/64 of IPv6 pools).
///
/// # Errors
/// When all are in use.
pub fn choose_subnet(pools: &[Cidr], taken: &[Taken]) -> Result<Cidr, IpamError> {
    let blocks = || pools.iter().flat_map(|pool| pool.split(if pool.is_ipv4() { 24 } else { 64 }));
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
        let held = self.all()?;
        if let Some((address, _)) = held.iter().find(|(address, holder)| holder == id && subnet.cidr.contains(*address))
        {
            return Ok(*address);
        }
        let held: std::collections::HashSet<IpAddr> = held.into_iter().map(|(address, _)| address).collect();
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
        let entries = match fs::read_dir(&self.dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => return Err(self.error(&self.dir, source)),
        };
        let mut leases = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|source| self.error(&self.dir, source))?;
            let Some(address) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            match fs::read_to_string(entry.path()) {
                Ok(holder) => leases.push((address, holder)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(source) => return Err(self.error(&entry.path(), source)),
            }
        }
        leases.sort_unstable();
        Ok(leases)
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
        Ok(FileLock::exclusive(&self.dir.join(".lock"))?)
    }

    fn path(&self, address: IpAddr) -> PathBuf {
        self.dir.join(address.to_string())
    }

    fn error(&self, path: &Path, source: io::Error) -> IpamError {
        IpamError::Lease { path: path.to_owned(), source }
    }
}
