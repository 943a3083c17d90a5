//! Kernel settings under `/proc/sys/net`: those of a link vanish with it, those
//! of the whole host are written down before they change and put back when the
//! last network goes.
//!
//! `/proc/sys/net` shows the network namespace of the thread that reads it.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use umiak_base::state::{self, StateError};

/// Why a setting could not be read, written, or remembered.
#[derive(Debug, thiserror::Error)]
pub enum SysctlError {
    /// It could not be read.
    #[error("read sysctl {key}")]
    Read {
        /// The setting, e.g. `net.ipv4.ip_forward`.
        key: String,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// It could not be written.
    #[error("set sysctl {key} to {value}")]
    Write {
        /// The setting.
        key: String,
        /// The value.
        value: String,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// The file with the values to put back failed.
    #[error(transparent)]
    Record(#[from] StateError),
    /// The file with the values to put back could not be removed.
    #[error("remove {path}")]
    Forget {
        /// The file.
        path: PathBuf,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
}

/// A value before we changed it, and what we set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Change {
    before: String,
    after: String,
}

/// Changed settings by name below `net/`.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Record {
    changes: BTreeMap<String, Change>,
}

fn path(name: &str) -> PathBuf {
    Path::new("/proc/sys/net").join(name)
}

fn key(name: &str) -> String {
    format!("net.{}", name.replace('/', "."))
}

/// Reads a setting, named below `net/`, e.g. `ipv4/ip_forward`.
pub(crate) fn read(name: &str) -> Result<String, SysctlError> {
    let text = std::fs::read_to_string(path(name)).map_err(|source| SysctlError::Read { key: key(name), source })?;
    Ok(text.trim().to_owned())
}

/// Writes a setting.
pub(crate) fn write(name: &str, value: &str) -> Result<(), SysctlError> {
    std::fs::write(path(name), value).map_err(|source| SysctlError::Write {
        key: key(name),
        value: value.to_owned(),
        source,
    })
}

/// As [`write`]; a setting that is not there (no IPv6 in this kernel) needs no change.
pub(crate) fn write_if_there(name: &str, value: &str) -> Result<(), SysctlError> {
    match write(name, value) {
        Err(SysctlError::Write { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

/// Whether this namespace has IPv6.
pub(crate) fn has_ipv6() -> bool {
    path("ipv6/conf/all/forwarding").exists() && read("ipv6/conf/all/disable_ipv6").is_ok_and(|value| value == "0")
}

/// Whether br_netfilter is loaded and shows bridged packets to the IP firewall.
pub(crate) fn bridged_packets_are_filtered() -> bool {
    ["iptables", "ip6tables"].iter().any(|tool| read(&format!("bridge/bridge-nf-call-{tool}")).is_ok_and(|v| v == "1"))
}

/// Turns on forwarding of packets between links, remembering in `record` how it was.
pub(crate) fn enable_forwarding(record: &Path, ipv6: bool) -> Result<(), SysctlError> {
    let mut wanted = Vec::new();
    if read("ipv4/ip_forward")? != "1" {
        wanted.push(("ipv4/ip_forward".to_owned(), "1"));
    }
    if ipv6 && read("ipv6/conf/all/forwarding")? != "1" {
        // A router ignores router advertisements unless accept_ra is 2 (Documentation/networking/ip-sysctl):
        // without this a host that learned its default route from them would lose it.
        for link in ipv6_links()? {
            let name = format!("ipv6/conf/{link}/accept_ra");
            if read(&name).is_ok_and(|value| value == "1") {
                wanted.push((name, "2"));
            }
        }
        wanted.push(("ipv6/conf/all/forwarding".to_owned(), "1"));
    }
    if wanted.is_empty() {
        return Ok(());
    }
    let mut changed: Record = state::read(record)?.unwrap_or_default();
    for (name, value) in &wanted {
        let before = read(name)?;
        // A value of ours that somebody reset keeps its first `before`.
        changed.changes.entry(name.clone()).or_insert(Change { before, after: (*value).to_owned() });
    }
    state::write_volatile(record, &changed)?;
    wanted.iter().try_for_each(|(name, value)| write(name, value))
}

fn ipv6_links() -> Result<Vec<String>, SysctlError> {
    let error = |source| SysctlError::Read { key: "net.ipv6.conf".to_owned(), source };
    let entries = std::fs::read_dir(path("ipv6/conf")).map_err(error)?;
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    Ok(names.filter(|name| name != "all" && name != "default" && name != "lo").collect())
}

/// Puts all settings back that still have the value we gave them.
pub(crate) fn restore(record: &Path) -> Result<(), SysctlError> {
    let Some(changed) = state::read::<Record>(record)? else { return Ok(()) };
    // `forwarding` first: it resets what depends on it.
    let (first, rest): (Vec<_>, Vec<_>) = changed.changes.iter().partition(|(name, _)| name.ends_with("forwarding"));
    for (name, change) in first.into_iter().chain(rest) {
        // A link that is gone took its settings with it.
        if read(name).is_ok_and(|value| value == change.after) {
            write(name, &change.before)?;
        }
    }
    std::fs::remove_file(record).map_err(|source| SysctlError::Forget { path: record.to_owned(), source })
}
