//! `build` and `develop`.

use indexmap::IndexMap;
use serde::{Serialize, Serializer};

use super::{Extensions, FileMount, Hook, TextMap, Ulimit, is_false, no_text};
use crate::units::bytes_text;

/// `build`.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Build {
    /// Absolute directory, or a URL.
    #[serde(skip_serializing_if = "no_text")]
    pub context: Option<String>,
    /// Dockerfile, relative to the context.
    #[serde(skip_serializing_if = "no_text")]
    pub dockerfile: Option<String>,
    /// The Dockerfile's text.
    #[serde(skip_serializing_if = "no_text")]
    pub dockerfile_inline: Option<String>,
    /// Entitlements.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub entitlements: Vec<String>,
    /// Build arguments; `None` was not set in the environment.
    #[serde(skip_serializing_if = "IndexMap::is_empty")]
    pub args: IndexMap<String, Option<String>>,
    /// Attestation: provenance.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provenance: Option<String>,
    /// Attestation: SBOM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sbom: Option<String>,
    /// SSH agents or keys.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ssh: Vec<SshKey>,
    /// Image labels.
    #[serde(skip_serializing_if = "IndexMap::is_empty")]
    pub labels: TextMap,
    /// Cache sources.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cache_from: Vec<String>,
    /// Cache targets.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cache_to: Vec<String>,
    /// Build without the cache.
    #[serde(skip_serializing_if = "is_false")]
    pub no_cache: bool,
    /// Stages built without the cache.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub no_cache_filter: Vec<String>,
    /// Named contexts.
    #[serde(skip_serializing_if = "IndexMap::is_empty")]
    pub additional_contexts: TextMap,
    /// Pull base images always.
    #[serde(skip_serializing_if = "is_false")]
    pub pull: bool,
    /// Lines for /etc/hosts.
    #[serde(skip_serializing_if = "IndexMap::is_empty", serialize_with = "super::service::hosts_list")]
    pub extra_hosts: IndexMap<String, Vec<String>>,
    /// Windows only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub isolation: Option<String>,
    /// Network of RUN.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<String>,
    /// Stage to build.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// Secrets for RUN.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<FileMount>,
    /// Size of /dev/shm.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "bytes_text")]
    pub shm_size: Option<i64>,
    /// More tags.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// Resource limits of RUN.
    #[serde(skip_serializing_if = "IndexMap::is_empty")]
    pub ulimits: IndexMap<String, Ulimit>,
    /// Platforms to build for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub platforms: Vec<String>,
    /// With full privileges.
    #[serde(skip_serializing_if = "is_false")]
    pub privileged: bool,
    /// `x-…` keys.
    #[serde(flatten)]
    pub extensions: Extensions,
}

/// One entry of `build.ssh`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SshKey {
    /// Id, or `default`.
    pub id: String,
    /// Socket or key file.
    pub path: Option<String>,
}

impl Serialize for SshKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.path {
            Some(path) => serializer.collect_str(&format_args!("{}={path}", self.id)),
            None => serializer.serialize_str(&self.id),
        }
    }
}

/// `develop`.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Develop {
    /// What to do when files change.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub watch: Vec<Watch>,
    /// `x-…` keys.
    #[serde(flatten)]
    pub extensions: Extensions,
}

/// What `watch` does on a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum WatchAction {
    /// Build and recreate.
    #[serde(rename = "rebuild")]
    Rebuild,
    /// Restart.
    #[serde(rename = "restart")]
    Restart,
    /// Copy the files.
    #[serde(rename = "sync")]
    Sync,
    /// Copy the files and restart.
    #[serde(rename = "sync+restart")]
    SyncRestart,
    /// Copy the files and run a command.
    #[serde(rename = "sync+exec")]
    SyncExec,
}

/// One entry of `develop.watch`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Watch {
    /// Absolute path that is watched.
    pub path: String,
    /// What to do.
    pub action: WatchAction,
    /// Path in the container.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// Command for `sync+exec`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exec: Option<Hook>,
    /// Only these.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub include: Vec<String>,
    /// Never these.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ignore: Vec<String>,
    /// Sync everything at the start.
    #[serde(skip_serializing_if = "is_false")]
    pub initial_sync: bool,
    /// `x-…` keys.
    #[serde(flatten)]
    pub extensions: Extensions,
}
