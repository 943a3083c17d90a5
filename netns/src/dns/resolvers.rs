//! Where questions about the rest of the world go: `resolv.conf(5)`, or a
//! service's `dns:` list.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV6};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use umiak_base::resolv::ResolvConf;

use super::Upstreams;

/// As `resolv.conf(5)` (MAXNS) and Docker: no more than three are asked.
const MAX_RESOLVERS: usize = 3;
/// A resolver that let this many questions in a row go by is asked after the others. Not the first time: a
/// name may be slow with a sound resolver, and the first one may know names that the others do not.
const PATIENCE: u8 = 3;
/// For how long.
const PENALTY: Duration = Duration::from_secs(10);
const DNS_PORT: u16 = 53;

/// An address, for IPv6 with the zone that link-local ones need.
fn nameserver(word: &str) -> Option<SocketAddr> {
    let Some((address, zone)) = word.split_once('%') else {
        return Some(SocketAddr::new(word.parse().ok()?, DNS_PORT));
    };
    let scope = zone.parse().ok().or_else(|| interface_index(zone))?;
    Some(SocketAddrV6::new(address.parse().ok()?, DNS_PORT, 0, scope).into())
}

fn interface_index(name: &str) -> Option<u32> {
    std::fs::read_to_string(format!("/sys/class/net/{name}/ifindex")).ok()?.trim().parse().ok()
}

/// A resolver to ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Resolver {
    pub(super) address: SocketAddr,
    /// Asked from inside the container's namespace: its own loopback, not the host's.
    pub(super) inside: bool,
}

#[derive(Debug)]
struct Known {
    resolver: Resolver,
    /// Questions without an answer since its last answer.
    missed: u8,
    /// Until then the others are asked first.
    until: Option<Instant>,
}

/// The resolvers in use.
#[derive(Debug)]
pub(super) struct Resolvers {
    file: Option<PathBuf>,
    stamp: Option<(u64, i64, u64, i64)>,
    known: Vec<Known>,
}

impl Resolvers {
    pub(super) fn new(upstreams: &Upstreams) -> Self {
        match upstreams {
            Upstreams::Host(file) => Self { file: Some(file.clone()), stamp: None, known: known(Vec::new(), false) },
            Upstreams::Listed(list) => Self { file: None, stamp: None, known: known(list.clone(), true) },
        }
    }

    /// The resolvers in the order in which to ask them: those that failed lately last. The file is read
    /// again when it changed; one that cannot be read leaves the last list in force.
    pub(super) fn order(&mut self, now: Instant) -> Vec<Resolver> {
        self.refresh();
        let failed = |known: &&Known| known.until.is_some_and(|until| until > now);
        let (last, first): (Vec<_>, Vec<_>) = self.known.iter().partition(failed);
        first.iter().chain(&last).map(|known| known.resolver).collect()
    }

    /// Takes note of a resolver that answered, or did not in time.
    pub(super) fn judge(&mut self, resolver: Resolver, answered: bool, now: Instant) {
        if let Some(known) = self.known.iter_mut().find(|known| known.resolver == resolver) {
            known.missed = if answered { 0 } else { known.missed.saturating_add(1) };
            known.until = (known.missed >= PATIENCE).then(|| now + PENALTY);
        }
    }

    fn refresh(&mut self) {
        let Some(file) = &self.file else { return };
        let Ok(stat) = rustix::fs::stat(file) else { return };
        let stamp = Some((stat.st_ino, stat.st_mtime, stat.st_mtime_nsec, stat.st_size));
        if self.stamp == stamp {
            return;
        }
        if let Ok(text) = std::fs::read_to_string(file) {
            self.stamp = stamp;
            let conf = ResolvConf::parse(&text);
            let mut list: Vec<SocketAddr> = conf.nameservers.iter().filter_map(|word| nameserver(word)).collect();
            if list.is_empty() {
                // resolv.conf(5): with no nameserver line, the one on this machine.
                list.push(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), DNS_PORT));
            }
            self.known = known(list, false);
        }
    }
}

fn known(mut list: Vec<SocketAddr>, listed: bool) -> Vec<Known> {
    list.truncate(MAX_RESOLVERS);
    let resolver = |address: SocketAddr| Resolver { address, inside: listed && address.ip().is_loopback() };
    list.into_iter().map(|address| Known { resolver: resolver(address), missed: 0, until: None }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(list: &[Resolver]) -> Vec<String> {
        list.iter().map(|resolver| resolver.address.to_string()).collect()
    }

    #[test]
    fn addresses_may_have_a_zone() {
        let shown = |word| nameserver(word).map(|address| address.to_string());
        assert_eq!(shown("10.0.0.1").as_deref(), Some("10.0.0.1:53"));
        assert_eq!(shown("::1").as_deref(), Some("[::1]:53"));
        assert_eq!(shown("fe80::1%7").as_deref(), Some("[fe80::1%7]:53"));
        assert!(shown("junk").is_none() && shown("fe80::1%nosuchlink").is_none());
    }

    #[test]
    fn the_file_is_read_again_when_it_changes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("resolv.conf");
        let mut resolvers = Resolvers::new(&Upstreams::Host(path.clone()));
        let now = Instant::now();
        assert!(resolvers.order(now).is_empty(), "no file yet");
        std::fs::write(&path, "nameserver 10.0.0.1\n").unwrap();
        assert_eq!(addresses(&resolvers.order(now)), ["10.0.0.1:53"]);
        std::fs::write(&path, "nameserver 10.0.0.22\nnameserver 1.1.1.1\nnameserver 2.2.2.2\nnameserver 3.3.3.3\n")
            .unwrap();
        assert_eq!(addresses(&resolvers.order(now)), ["10.0.0.22:53", "1.1.1.1:53", "2.2.2.2:53"]);
        std::fs::remove_file(&path).unwrap();
        assert_eq!(resolvers.order(now).len(), 3, "what was known stays");
        std::fs::write(&path, "options edns0\n").unwrap();
        assert_eq!(addresses(&resolvers.order(now)), ["127.0.0.1:53"]);
        assert!(!resolvers.order(now)[0].inside, "the host's loopback");
    }

    #[test]
    fn a_resolver_that_failed_is_asked_last_for_a_while() {
        let list: Vec<SocketAddr> = ["10.0.0.1:53", "127.0.0.1:53"].iter().map(|a| a.parse().unwrap()).collect();
        let mut resolvers = Resolvers::new(&Upstreams::Listed(list));
        let now = Instant::now();
        let first = resolvers.order(now)[0];
        resolvers.judge(first, false, now);
        resolvers.judge(first, false, now);
        assert_eq!(resolvers.order(now)[0], first);
        resolvers.judge(first, false, now);
        let order = resolvers.order(now);
        assert_eq!(addresses(&order), ["127.0.0.1:53", "10.0.0.1:53"]);
        assert!(order[0].inside, "a listed loopback address is the container's");
        assert_eq!(resolvers.order(now + PENALTY)[0], first);
        resolvers.judge(first, true, now);
        assert_eq!(resolvers.order(now)[0], first);
    }
}
