//! Resource limits of processes (setrlimit(2)): fixed values, so that a
//! container does not depend on the shell it was started from, and the user's.

use std::io;

use oci_spec::OciSpecError;
use oci_spec::runtime::{PosixRlimit, PosixRlimitBuilder, PosixRlimitType};
use rustix::process::{Resource, getrlimit};

use crate::config::Ulimit;

/// Why an rlimit cannot be given.
#[derive(Debug, thiserror::Error)]
pub enum RlimitError {
    /// Not a name of one.
    #[error("invalid ulimit type: {name}")]
    Unknown {
        /// As written.
        name: String,
    },
    /// Soft above hard, or a negative other than -1.
    #[error("invalid ulimit {name}: soft limit {soft} must not exceed hard limit {hard}")]
    Order {
        /// Its name.
        name: String,
        /// Soft limit asked for.
        soft: i64,
        /// Hard limit asked for.
        hard: i64,
    },
    /// Above what this process may hand on.
    #[error("cannot apply ulimit {name}={asked}: the hard limit here is {allowed}, raising it takes CAP_SYS_RESOURCE")]
    TooHigh {
        /// Its name.
        name: String,
        /// Hard limit asked for.
        asked: i64,
        /// Hard limit of this process.
        allowed: u64,
    },
    /// Capabilities could not be read.
    #[error("find out which capabilities this process has")]
    Capabilities(#[source] io::Error),
    /// The spec's builder refused.
    #[error("describe an rlimit")]
    Build(#[from] OciSpecError),
}

const UNLIMITED: u64 = u64::MAX;

struct Known {
    name: &'static str,
    kind: PosixRlimitType,
    resource: Option<Resource>,
    /// Soft and hard; `None` leaves the kernel's or the boot's value, which scales with the machine.
    default: Option<(u64, u64)>,
}

const fn known(
    name: &'static str,
    kind: PosixRlimitType,
    resource: Option<Resource>,
    default: Option<(u64, u64)>,
) -> Known {
    Known { name, kind, resource, default }
}

const OPEN: Option<(u64, u64)> = Some((UNLIMITED, UNLIMITED));

/// The values that systemd gives a service today; Docker's containers inherit them from its daemon, with
/// processes and core files unlimited by its unit file.
const KNOWN: [Known; 16] = [
    known("as", PosixRlimitType::RlimitAs, Some(Resource::As), OPEN),
    known("core", PosixRlimitType::RlimitCore, Some(Resource::Core), OPEN),
    known("cpu", PosixRlimitType::RlimitCpu, Some(Resource::Cpu), OPEN),
    known("data", PosixRlimitType::RlimitData, Some(Resource::Data), OPEN),
    known("fsize", PosixRlimitType::RlimitFsize, Some(Resource::Fsize), OPEN),
    known("locks", PosixRlimitType::RlimitLocks, Some(Resource::Locks), OPEN),
    known("memlock", PosixRlimitType::RlimitMemlock, Some(Resource::Memlock), Some((8 << 20, 8 << 20))),
    known("msgqueue", PosixRlimitType::RlimitMsgqueue, Some(Resource::Msgqueue), Some((819_200, 819_200))),
    known("nice", PosixRlimitType::RlimitNice, Some(Resource::Nice), Some((0, 0))),
    known("nofile", PosixRlimitType::RlimitNofile, Some(Resource::Nofile), Some((1024, 524_288))),
    known("nproc", PosixRlimitType::RlimitNproc, Some(Resource::Nproc), OPEN),
    known("rss", PosixRlimitType::RlimitRss, Some(Resource::Rss), OPEN),
    known("rtprio", PosixRlimitType::RlimitRtprio, Some(Resource::Rtprio), Some((0, 0))),
    known("rttime", PosixRlimitType::RlimitRttime, Some(Resource::Rttime), OPEN),
    known("sigpending", PosixRlimitType::RlimitSigpending, Some(Resource::Sigpending), None),
    known("stack", PosixRlimitType::RlimitStack, Some(Resource::Stack), Some((8 << 20, UNLIMITED))),
];

/// The rlimits of a container.
///
/// # Errors
/// An unknown name, or one asked for that this host cannot give. Defaults are lowered to what it can.
pub fn plan(asked: &[Ulimit]) -> Result<Vec<PosixRlimit>, RlimitError> {
    if let Some(unknown) = asked.iter().find(|ulimit| !KNOWN.iter().any(|known| known.name == ulimit.name)) {
        return Err(RlimitError::Unknown { name: unknown.name.clone() });
    }
    let may_raise = caps::has_cap(None, caps::CapSet::Effective, caps::Capability::CAP_SYS_RESOURCE)
        .map_err(|error| RlimitError::Capabilities(io::Error::other(error)))?;
    let mut out = Vec::with_capacity(KNOWN.len());
    for known in &KNOWN {
        let ceiling = match known.resource {
            Some(resource) if !may_raise => getrlimit(resource).maximum.unwrap_or(UNLIMITED),
            _ => UNLIMITED,
        };
        let wish = asked.iter().find(|ulimit| ulimit.name == known.name);
        if let Some((soft, hard)) = value(known, wish, ceiling)? {
            out.push(PosixRlimitBuilder::default().typ(known.kind).soft(soft).hard(hard).build()?);
        }
    }
    Ok(out)
}

fn value(known: &Known, wish: Option<&Ulimit>, ceiling: u64) -> Result<Option<(u64, u64)>, RlimitError> {
    let Some(wish) = wish else {
        return Ok(known.default.map(|(soft, hard)| (soft.min(ceiling), hard.min(ceiling))));
    };
    let number = |limit: i64| if limit == -1 { Some(UNLIMITED) } else { u64::try_from(limit).ok() };
    let (Some(soft), Some(hard)) = (number(wish.soft), number(wish.hard)) else {
        return Err(RlimitError::Order { name: wish.name.clone(), soft: wish.soft, hard: wish.hard });
    };
    if soft > hard {
        return Err(RlimitError::Order { name: wish.name.clone(), soft: wish.soft, hard: wish.hard });
    }
    if hard > ceiling {
        return Err(RlimitError::TooHigh { name: wish.name.clone(), asked: wish.hard, allowed: ceiling });
    }
    Ok(Some((soft, hard)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nofile() -> &'static Known {
        KNOWN.iter().find(|known| known.name == "nofile").unwrap()
    }

    fn wish(soft: i64, hard: i64) -> Ulimit {
        Ulimit { name: "nofile".into(), soft, hard }
    }

    #[test]
    fn defaults_are_fixed_and_lowered_where_they_must_be() {
        assert_eq!(value(nofile(), None, UNLIMITED).unwrap(), Some((1024, 524_288)));
        assert_eq!(value(nofile(), None, 20_000).unwrap(), Some((1024, 20_000)));
    }

    #[test]
    fn what_was_asked_for_is_given_or_refused() {
        assert_eq!(value(nofile(), Some(&wish(10, 20)), UNLIMITED).unwrap(), Some((10, 20)));
        assert_eq!(value(nofile(), Some(&wish(-1, -1)), UNLIMITED).unwrap(), Some((UNLIMITED, UNLIMITED)));
        assert!(value(nofile(), Some(&wish(30, 20)), UNLIMITED).is_err());
        assert!(value(nofile(), Some(&wish(-2, 20)), UNLIMITED).is_err());
        let error = value(nofile(), Some(&wish(10, 30_000)), 20_000).unwrap_err().to_string();
        assert!(error.starts_with("cannot apply ulimit nofile=30000: the hard limit here is 20000"), "{error}");
        let error = plan(&[Ulimit { name: "x".into(), soft: 1, hard: 1 }]).unwrap_err().to_string();
        assert_eq!(error, "invalid ulimit type: x");
    }
}
