//! What a container publishes about itself: one small file per network, which
//! the servers of all containers on that network read.
//!
//! ```text
//! <run root>/dns/<network id>/<container id>.json
//! ```
//!
//! Files are replaced by rename, so a reader sees a whole record or none.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use umiak_base::state;

use super::DnsError;

/// A container as its peers on one network know it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The container's id: the name of the file.
    pub container: String,
    /// The container's name, which is also what its addresses resolve to (`<name>.<network name>`).
    pub container_name: String,
    /// All other names on this network: service, aliases, short id, hostname. Matched without regard
    /// to case; one that DNS cannot carry (a label of more than 63 bytes) is never asked for.
    pub names: Vec<String>,
    /// Its IPv4 address there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv4: Option<Ipv4Addr>,
    /// Its IPv6 address there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv6: Option<Ipv6Addr>,
    /// The network's name, for people who read the file.
    pub network_name: String,
    /// The Compose project it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
    /// The Compose service it is a replica of: also found as `<service>.<project>`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// What its health checks say. A name that several have leads to those of them that are not unhealthy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub healthy: Option<bool>,
}

/// Makes a container known on a network, or replaces what is known. `dir` is the directory of all
/// networks' records. Every answer to a question asked after the return takes it into account.
///
/// # Errors
/// When an id is not a plain name, or the file or its directory cannot be written.
pub fn publish(dir: &Path, network: &str, record: &Record) -> Result<(), DnsError> {
    let path = file(dir, network, &record.container)?;
    // The directory may go away between the two steps, when the last container of the network
    // leaves at this moment: then once more.
    for last in [false, true] {
        make_dir(&dir.join(network))?;
        match state::write_volatile(&path, record) {
            Ok(()) => break,
            Err(state::StateError::Write { source, .. }) if !last && source.kind() == ErrorKind::NotFound => {}
            Err(source) => return Err(DnsError::Publish { container: record.container.clone(), source }),
        }
    }
    Ok(())
}

/// Makes a container unknown on a network; no error when it is.
///
/// # Errors
/// When an id is not a plain name, or the file cannot be removed.
pub fn withdraw(dir: &Path, network: &str, container: &str) -> Result<(), DnsError> {
    remove(&file(dir, network, container)?, |path| std::fs::remove_file(path))
}

/// Removes the directory of a network that is gone, with any records left in it.
///
/// # Errors
/// When the id is not a plain name, or the directory cannot be removed.
pub fn forget_network(dir: &Path, network: &str) -> Result<(), DnsError> {
    remove(&dir.join(plain(network)?), |path| std::fs::remove_dir_all(path))
}

fn remove(path: &Path, how: impl Fn(&Path) -> std::io::Result<()>) -> Result<(), DnsError> {
    match how(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        result => result.map_err(|source| DnsError::Remove { path: path.to_owned(), source }),
    }
}

fn make_dir(path: &Path) -> Result<(), DnsError> {
    use std::os::unix::fs::DirBuilderExt as _;
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|source| DnsError::MakeDir { path: path.to_owned(), source })
}

fn file(dir: &Path, network: &str, container: &str) -> Result<PathBuf, DnsError> {
    Ok(dir.join(plain(network)?).join(format!("{}.json", plain(container)?)))
}

/// An id becomes part of a path: letters, digits, `-`, `_` and `.`, not first.
fn plain(id: &str) -> Result<&str, DnsError> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    if id.is_empty() || id.starts_with('.') || !id.bytes().all(allowed) {
        return Err(DnsError::Id { id: id.to_owned() });
    }
    Ok(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        Record {
            container: "c1".into(),
            container_name: "demo-web-1".into(),
            names: vec!["web".into()],
            ipv4: Some(Ipv4Addr::new(10, 0, 0, 2)),
            ipv6: None,
            network_name: "demo_default".into(),
            project: None,
            service: None,
            healthy: None,
        }
    }

    #[test]
    fn published_is_read_back_and_withdrawn_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("dns");
        publish(&root, "n1", &record()).unwrap();
        publish(&root, "n1", &record()).unwrap();
        assert_eq!(state::read::<Record>(&root.join("n1/c1.json")).unwrap(), Some(record()));
        withdraw(&root, "n1", "c1").unwrap();
        withdraw(&root, "n1", "c1").unwrap();
        assert_eq!(std::fs::read_dir(root.join("n1")).unwrap().count(), 0);
        publish(&root, "n1", &record()).unwrap();
        forget_network(&root, "n1").unwrap();
        forget_network(&root, "n1").unwrap();
        assert!(!root.join("n1").exists());
    }

    #[test]
    fn an_id_never_leaves_the_directory() {
        let dir = tempfile::tempdir().unwrap();
        for id in ["", "..", ".x", "a/b", "a b", "/etc"] {
            assert!(matches!(withdraw(dir.path(), "n", id), Err(DnsError::Id { .. })), "{id}");
            assert!(matches!(forget_network(dir.path(), id), Err(DnsError::Id { .. })), "{id}");
        }
    }
}
