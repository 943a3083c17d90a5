//! The digests that tell what of a service, network or volume has changed since
//! its object was made. Canonical and versioned: they are taken over the resolved
//! model with sorted keys, without what is empty or not given, so neither the
//! order of keys in a file nor a newer umiak changes them.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use umiak_compose::{FileDef, FileMount, FileSource, NetworkDef, Project, Service, VolumeDef};

/// Goes up only when the meaning of the hashed model changes.
const VERSION: &str = "umiak-2";

/// Keys of a service that do not make another container of it: how many there are, in which order they start, how the
/// image comes, and what is applied to a container that runs ([`crate::engine::update`]).
const NOT_HASHED: &[&str] = &[
    "attach",
    "blkio_config",
    "build",
    "cpu_period",
    "cpu_quota",
    "cpu_shares",
    "cpus",
    "cpuset",
    "depends_on",
    "deploy",
    "develop",
    "env_file",
    "label_file",
    "mem_limit",
    "mem_reservation",
    "memswap_limit",
    "pids_limit",
    "profiles",
    "pull_policy",
    "restart",
    "scale",
];
/// Keys whose entries are told apart: "environment FOO changed" says more than "environment changed".
const BY_ENTRY: &[&str] = &["annotations", "environment", "labels", "networks", "sysctls", "ulimits"];
/// Keys whose empty list means something else than no list.
const EMPTY_COUNTS: &[&str] = &["command", "entrypoint"];

/// The digests of a service by what they are about: `image`, `environment FOO`, `config nginx`. Values themselves are
/// not in it, so that it can be shown.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fingerprint {
    /// Digest by key.
    pub keys: BTreeMap<String, String>,
}

impl Fingerprint {
    /// One digest of all.
    pub fn hash(&self) -> String {
        let mut hasher = Sha256::new();
        hasher.update(VERSION);
        for (key, digest) in &self.keys {
            hasher.update(format!("{key}={digest}\n"));
        }
        umiak_base::id::hex(&hasher.finalize())
    }

    /// Takes the variables over that only an earlier one has: those that a provider gave.
    pub fn assume(&mut self, earlier: &BTreeMap<String, String>) {
        for (key, digest) in earlier.iter().filter(|(key, _)| key.starts_with("environment ")) {
            self.keys.entry(key.clone()).or_insert_with(|| digest.clone());
        }
    }

    /// What differs from an earlier one.
    pub fn changes(&self, earlier: &BTreeMap<String, String>) -> Vec<(String, Change)> {
        let mut changes = Vec::new();
        for (key, digest) in &self.keys {
            match earlier.get(key) {
                None => changes.push((key.clone(), Change::Added)),
                Some(before) if before != digest => changes.push((key.clone(), Change::Changed)),
                Some(_) => {}
            }
        }
        let gone = earlier.keys().filter(|key| !self.keys.contains_key(*key));
        changes.extend(gone.map(|key| (key.clone(), Change::Removed)));
        changes.sort();
        changes
    }
}

/// How a key differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    /// It was not there before.
    Added,
    /// It had another value.
    Changed,
    /// It is not there any more.
    Removed,
}

impl std::fmt::Display for Change {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Added => "added",
            Self::Changed => "changed",
            Self::Removed => "removed",
        })
    }
}

/// The digests of one service. Files of secrets and configs are read.
pub fn service(project: &Project, service: &Service) -> Result<Fingerprint> {
    let value = serde_json::to_value(service).context("encode the service's configuration")?;
    let mut found = Fingerprint::default();
    for (key, value) in value.as_object().into_iter().flatten() {
        if NOT_HASHED.contains(&key.as_str()) || key.starts_with("x-") {
            continue;
        }
        match value {
            Value::Object(entries) if BY_ENTRY.contains(&key.as_str()) => {
                for (name, value) in entries {
                    found.keys.insert(format!("{key} {name}"), digest(value));
                }
            }
            Value::Array(_) if EMPTY_COUNTS.contains(&key.as_str()) => {
                found.keys.insert(key.clone(), digest(value));
            }
            value if says_nothing(value) => {}
            value => drop(found.keys.insert(key.clone(), digest(value))),
        }
    }
    if let Some(devices) = value.pointer("/deploy/resources/reservations/devices") {
        found.keys.insert("deploy.resources.reservations.devices".to_owned(), digest(devices));
    }
    for (kind, used, all) in
        [("secret", &service.secrets, &project.secrets), ("config", &service.configs, &project.configs)]
    {
        for mount in used {
            if let Some(digest) = content(mount, all.get(&mount.source)) {
                found.keys.insert(format!("{kind} {}", mount.source), digest);
            }
        }
    }
    Ok(found)
}

/// The digest of what a secret or config holds. One that cannot be read fails when its container is made.
fn content(mount: &FileMount, definition: Option<&FileDef>) -> Option<String> {
    let mut hasher = Sha256::new();
    hasher.update(VERSION);
    match definition?.source() {
        FileSource::Content(text) => hasher.update(text),
        FileSource::File(path) if path.is_file() => hasher.update(std::fs::read(path).ok()?),
        FileSource::File(_) | FileSource::UnsetVariable(_) | FileSource::External => hasher.update(&mount.source),
    }
    Some(short(hasher))
}

/// The hash of a network's definition.
pub fn network(definition: &NetworkDef) -> Result<String> {
    let value = serde_json::to_value(definition).context("encode the network's configuration")?;
    Ok(of_keys(&value, &["driver", "driver_opts", "enable_ipv4", "enable_ipv6", "internal", "ipam", "labels"]))
}

/// The hash of a volume's definition: only of what cannot be changed without making it anew, for its content is lost then.
pub fn volume(definition: &VolumeDef) -> Result<String> {
    let value = serde_json::to_value(definition).context("encode the volume's configuration")?;
    Ok(of_keys(&value, &["driver", "driver_opts"]))
}

fn of_keys(value: &Value, keys: &[&str]) -> String {
    let mut hasher = Sha256::new();
    hasher.update(VERSION);
    for key in keys {
        hasher.update(format!("{key}:"));
        feed(&mut hasher, value.get(*key).unwrap_or(&Value::Null));
    }
    umiak_base::id::hex(&hasher.finalize())
}

fn digest(value: &Value) -> String {
    let mut hasher = Sha256::new();
    hasher.update(VERSION);
    feed(&mut hasher, value);
    short(hasher)
}

fn short(hasher: Sha256) -> String {
    umiak_base::id::hex(hasher.finalize().get(..16).unwrap_or_default())
}

/// What says nothing: not given, off, or empty.
fn says_nothing(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Object(map) => map.values().all(says_nothing),
        Value::Array(items) => items.is_empty(),
        _ => false,
    }
}

fn feed(hasher: &mut Sha256, value: &Value) {
    match value {
        Value::Object(map) => {
            let mut entries: Vec<_> = map.iter().filter(|(_, value)| !says_nothing(value)).collect();
            entries.sort_by_key(|(key, _)| key.as_str());
            hasher.update("{");
            for (key, value) in entries {
                hasher.update(format!("{key:?}:"));
                feed(hasher, value);
            }
            hasher.update("}");
        }
        Value::Array(items) => {
            hasher.update("[");
            items.iter().for_each(|item| feed(hasher, item));
            hasher.update("]");
        }
        scalar => hasher.update(format!("{scalar},")),
    }
}
