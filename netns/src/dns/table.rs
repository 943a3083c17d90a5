//! The names of this container's networks, kept from the peers' records.
//!
//! Nothing watches the directories: inotify instances are few (128 for all
//! processes of root, containers included), so one per container would use them
//! up. Instead each round of questions first looks at each directory's time of
//! change, which every rename and removal moves. The kernel's file times have the
//! grain of its clock tick, so what changed within the last ticks counts as
//! changed still: then no update can be missed, whoever made it.

use std::collections::HashMap;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{AtFlags, Mode, OFlags, Stat};
use rustix::io::Errno;
use rustix::time::ClockId;
use umiak_base::state::{self, StateError};

use super::{Config, Record, names};

/// Longer than a tick of any kernel (10 ms at 100 Hz), in nanoseconds.
const GRAIN: i128 = 25_000_000;

/// `all.<name>` asks for all replicas, also those that are unwell. As on the wire: length, then the label.
const ALL: &[u8] = b"\x03all";

/// When and what a file or directory was: another stamp means another content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    modified: i128,
    size: i64,
}

impl Stamp {
    fn of(stat: &Stat) -> Self {
        let modified = i128::from(stat.st_mtime) * 1_000_000_000 + i128::from(stat.st_mtime_nsec);
        Self { inode: stat.st_ino, modified, size: stat.st_size }
    }

    /// Whether a second change could still fall into the same tick.
    fn is_fresh(&self, now: i128) -> bool {
        (now - self.modified).abs() < GRAIN
    }
}

fn now() -> i128 {
    let now = rustix::time::clock_gettime(ClockId::RealtimeCoarse);
    i128::from(now.tv_sec) * 1_000_000_000 + i128::from(now.tv_nsec)
}

/// A record's file, and what came out of it. Sorted by name.
#[derive(Debug, Clone)]
struct File {
    name: Box<str>,
    stamp: Stamp,
    fresh: bool,
    /// `None` for a damaged file.
    entry: Option<Arc<Entry>>,
}

/// A peer on one network.
#[derive(Debug, Default)]
pub(super) struct Entry {
    addresses: [Option<IpAddr>; 2],
    /// All names it has on this network.
    names: Box<[Box<[u8]>]>,
    /// What its addresses resolve to.
    pointer: Option<Box<[u8]>>,
    project: Option<Box<[u8]>>,
    service: Option<Box<[u8]>>,
    /// Its last health checks failed.
    unwell: bool,
}

/// A network's directory.
#[derive(Debug)]
struct Network {
    path: PathBuf,
    name: Option<Box<[u8]>>,
    dir: Option<OwnedFd>,
    /// The directory's stamp when it was read; `None` when it must be read again.
    seen: Option<Stamp>,
    files: Vec<File>,
}

/// Everything that carries one name.
#[derive(Debug, Default)]
struct Named {
    peers: Vec<Peer>,
    /// Which peer comes first in the next answer, for A and for AAAA: one counter for both would give
    /// a client that always asks both the same A for ever.
    turns: [usize; 2],
}

#[derive(Debug)]
struct Peer {
    network: usize,
    entry: Arc<Entry>,
}

/// What a name stands for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// Nothing in these networks.
    Nothing,
    /// Peers, whose addresses of the wanted families were collected.
    Peers,
}

/// The names that this container can ask for.
#[derive(Debug)]
pub(super) struct Table {
    networks: Vec<Network>,
    project: Option<Box<[u8]>>,
    /// Alias and target.
    links: Vec<[Box<[u8]>; 2]>,
    index: HashMap<Box<[u8]>, Named>,
}

impl Table {
    pub(super) fn new(config: &Config) -> Self {
        let network = |network: &super::Network| Network {
            path: config.records.join(&network.id),
            name: names::from_dotted(&network.name),
            dir: None,
            seen: None,
            files: Vec::new(),
        };
        let link = |link: &super::Link| Some([names::from_dotted(&link.alias)?, names::from_dotted(&link.target)?]);
        Self {
            networks: config.networks.iter().map(network).collect(),
            project: config.project.as_deref().and_then(names::from_dotted),
            links: config.links.iter().filter_map(link).collect(),
            index: HashMap::new(),
        }
    }

    /// Takes in what changed since the last call: one `fstat` per network when nothing did.
    pub(super) fn refresh(&mut self) {
        let mut changed = false;
        for network in &mut self.networks {
            changed |= network.refresh();
        }
        if changed {
            self.rebuild();
        }
    }

    fn rebuild(&mut self) {
        let mut old = std::mem::take(&mut self.index);
        for (number, network) in self.networks.iter().enumerate() {
            for entry in network.files.iter().filter_map(|file| file.entry.as_ref()) {
                for name in &entry.names {
                    let named = self.index.entry(name.clone()).or_insert_with(|| {
                        let turns = old.remove(name).map(|named| named.turns).unwrap_or_default();
                        Named { peers: Vec::new(), turns }
                    });
                    named.peers.push(Peer { network: number, entry: Arc::clone(entry) });
                }
            }
        }
    }

    /// Collects the addresses of `name`: A (`families[0]`) and AAAA (`families[1]`), each time
    /// beginning with another peer.
    pub(super) fn find(&mut self, name: &[u8], families: [bool; 2], addresses: &mut Vec<IpAddr>) -> Found {
        let target = self.links.iter().find(|[alias, _]| **alias == *name).map(|[_, target]| target.clone());
        if let Some(target) = target
            && self.find_name(&target, families, addresses) == Found::Peers
        {
            return Found::Peers;
        }
        self.find_name(name, families, addresses)
    }

    fn find_name(&mut self, name: &[u8], families: [bool; 2], addresses: &mut Vec<IpAddr>) -> Found {
        match (self.find_peers(name, false, families, addresses), name.strip_prefix(ALL)) {
            (Found::Nothing, Some(rest)) if !rest.is_empty() => self.find_peers(rest, true, families, addresses),
            (found, _) => found,
        }
    }

    fn find_peers(&mut self, name: &[u8], all: bool, families: [bool; 2], addresses: &mut Vec<IpAddr>) -> Found {
        let project = self.project.as_deref();
        if let Some(named) = self.index.get_mut(name) {
            return named.collect(&|_| true, project, all, families, addresses);
        }
        for cut in names::cuts(name) {
            let (head, tail) = name.split_at(cut);
            let Some(named) = self.index.get_mut(head) else { continue };
            // `<name>.<network>`, the first network of that name.
            let number = self.networks.iter().position(|network| network.name.as_deref() == Some(tail));
            if let Some(number) = number
                && named.collect(&|peer| peer.network == number, project, all, families, addresses) == Found::Peers
            {
                return Found::Peers;
            }
            // `<service>.<project>`
            let asked = |peer: &Peer| {
                peer.entry.project.as_deref() == Some(tail) && peer.entry.service.as_deref() == Some(head)
            };
            if named.collect(&asked, project, all, families, addresses) == Found::Peers {
                return Found::Peers;
            }
        }
        Found::Nothing
    }

    /// The name of the peer with this address, on the first network that has one.
    pub(super) fn name_of(&self, address: IpAddr) -> Option<Box<[u8]>> {
        self.networks.iter().find_map(|network| {
            let mut entries = network.files.iter().filter_map(|file| file.entry.as_ref());
            let entry = entries.find(|entry| entry.addresses.contains(&Some(address)))?;
            let name = [entry.pointer.as_deref()?, network.name.as_deref().unwrap_or_default()].concat();
            (name.len() <= names::MAX_NAME).then(|| name.into_boxed_slice())
        })
    }
}

impl Named {
    /// The peers that `asked` for are narrowed to one network, the first that has some of `project`,
    /// else the first that has some; there to those of `project` if there are any; and of those, unless `all` are
    /// wanted, to those that are not unwell, if there are any.
    fn collect(
        &mut self,
        asked: &dyn Fn(&Peer) -> bool,
        project: Option<&[u8]>,
        all: bool,
        families: [bool; 2],
        out: &mut Vec<IpAddr>,
    ) -> Found {
        let own = |peer: &Peer| project.is_some() && peer.entry.project.as_deref() == project;
        let wanted = || self.peers.iter().filter(|peer| asked(peer));
        let mine = wanted().filter(|peer| own(peer)).map(|peer| peer.network).min();
        let Some(network) = mine.or_else(|| wanted().map(|peer| peer.network).min()) else { return Found::Nothing };
        let there = || wanted().filter(|peer| peer.network == network && (mine.is_none() || own(peer)));
        let unwell = !all && there().any(|peer| !peer.entry.unwell);
        let chosen = || there().filter(|peer| !unwell || !peer.entry.unwell);
        for family in [0, 1].into_iter().filter(|&family| families[family]) {
            let first = out.len();
            out.extend(chosen().filter_map(|peer| peer.entry.addresses[family]));
            let found = out.get_mut(first..).unwrap_or_default();
            if !found.is_empty() {
                found.rotate_left(self.turns[family] % found.len());
                self.turns[family] = self.turns[family].wrapping_add(1);
            }
        }
        Found::Peers
    }
}

impl Network {
    /// Whether anything changed.
    fn refresh(&mut self) -> bool {
        let Some(stamp) = self.directory_stamp() else {
            // The network has no records (yet), or is gone.
            let had = !self.files.is_empty();
            self.files.clear();
            self.seen = None;
            return had;
        };
        if self.seen == Some(stamp) {
            return false;
        }
        let Ok(changed) = self.read(now()) else {
            // Out of descriptors, say: what is known stays, and the next question tries again.
            self.seen = None;
            return false;
        };
        // Judged by the clock after reading: what changes from here on gets a later time.
        self.seen = (!stamp.is_fresh(now()) && !self.files.iter().any(|file| file.fresh)).then_some(stamp);
        changed
    }

    /// Opens the directory where it is not open, or was removed and made again.
    fn directory_stamp(&mut self) -> Option<Stamp> {
        if let Some(dir) = &self.dir {
            match rustix::fs::fstat(dir) {
                Ok(stat) if stat.st_nlink > 0 => return Some(Stamp::of(&stat)),
                _ => self.dir = None,
            }
        }
        self.seen = None;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let dir = rustix::fs::open(&self.path, flags, Mode::empty()).ok()?;
        let stat = rustix::fs::fstat(&dir).ok()?;
        self.dir = Some(dir);
        Some(Stamp::of(&stat))
    }

    /// Reads the files that are new or changed, forgets those that are gone.
    fn read(&mut self, now: i128) -> rustix::io::Result<bool> {
        let Some(dir) = &self.dir else { return Ok(false) };
        let mut files = Vec::with_capacity(self.files.len());
        let mut changed = false;
        for item in rustix::fs::Dir::read_from(dir)? {
            let item = item?;
            let Ok(name) = item.file_name().to_str() else { continue };
            if name.starts_with('.') || !name.ends_with(".json") {
                continue;
            }
            let stamp = match rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => Stamp::of(&stat),
                Err(Errno::NOENT) => continue,
                Err(error) => return Err(error),
            };
            let known = self.files.binary_search_by(|file| (*file.name).cmp(name)).ok().map(|at| &self.files[at]);
            let file = match known {
                Some(file) if file.stamp == stamp && !file.fresh => file.clone(),
                _ => {
                    changed = true;
                    let entry = read_entry(&self.path.join(name))?;
                    File { name: name.into(), stamp, fresh: stamp.is_fresh(now), entry }
                }
            };
            files.push(file);
        }
        changed |= files.len() != self.files.len();
        files.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        self.files = files;
        Ok(changed)
    }
}

/// A record from its file; `None` for a damaged one, which must not take its neighbours' names away. An error
/// when the kernel is out of something, which says nothing about the file.
fn read_entry(path: &Path) -> rustix::io::Result<Option<Arc<Entry>>> {
    let record: Record = match state::read(path) {
        Ok(Some(record)) => record,
        Err(StateError::Read { source, .. }) => match Errno::from_io_error(&source) {
            Some(error @ (Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::INTR)) => return Err(error),
            _ => return Ok(None),
        },
        Ok(None) | Err(_) => return Ok(None),
    };
    let pointer = names::from_dotted(&record.container_name);
    let mut all: Vec<_> = record.names.iter().filter_map(|name| names::from_dotted(name)).collect();
    all.extend(pointer.clone());
    all.sort_unstable();
    all.dedup();
    Ok(Some(Arc::new(Entry {
        addresses: [record.ipv4.map(IpAddr::V4), record.ipv6.map(IpAddr::V6)],
        names: all.into_boxed_slice(),
        pointer,
        project: record.project.as_deref().and_then(names::from_dotted),
        service: record.service.as_deref().and_then(names::from_dotted),
        unwell: record.healthy == Some(false),
    })))
}

#[cfg(test)]
mod tests;
