//! Volumes, secrets and configs as a service mounts them.

use serde::{Serialize, Serializer};

use super::{Extensions, TextMap, is_false};
use crate::units::bytes_text;

/// What is mounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum VolumeKind {
    /// A file or directory of the host.
    Bind,
    /// A volume: named, or anonymous when there is no source.
    Volume,
    /// Memory.
    Tmpfs,
    /// The file system of an image.
    Image,
    /// A Windows pipe.
    Npipe,
    /// A Swarm cluster volume.
    Cluster,
}

/// One mount of a service.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ServiceVolume {
    /// Kind of mount.
    #[serde(rename = "type")]
    pub kind: VolumeKind,
    /// Absolute host path, key of a volume, or image; `None` for tmpfs and anonymous volumes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Path in the container.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub target: String,
    /// Read-only.
    #[serde(skip_serializing_if = "is_false")]
    pub read_only: bool,
    /// macOS tuning, without meaning on Linux.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub consistency: Option<String>,
    /// Options of a bind mount.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bind: Option<BindOptions>,
    /// Options of a volume.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volume: Option<VolumeOptions>,
    /// Options of a tmpfs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tmpfs: Option<TmpfsOptions>,
    /// Options of an image mount.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<ImageOptions>,
    /// Where it stands.
    #[serde(skip)]
    pub span: crate::diagnostic::Span,
    /// `x-…` keys.
    #[serde(flatten)]
    pub extensions: Extensions,
}

/// `bind` options.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct BindOptions {
    /// `private`, `rprivate`, `shared`, `rshared`, `slave`, `rslave`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub propagation: Option<String>,
    /// Whether a missing source is created as a directory. It is, unless this says no.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub create_host_path: Option<bool>,
    /// `enabled`, `disabled`, `writable`, `readonly`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recursive: Option<String>,
    /// `z` (shared) or `Z` (private).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub selinux: Option<String>,
    /// `x-…` keys.
    #[serde(flatten)]
    pub extensions: Extensions,
}

/// `volume` options.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct VolumeOptions {
    /// Labels of the volume.
    #[serde(skip_serializing_if = "indexmap::IndexMap::is_empty")]
    pub labels: TextMap,
    /// Do not copy the image's content into a new volume.
    #[serde(skip_serializing_if = "is_false")]
    pub nocopy: bool,
    /// Mount only this path of the volume.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subpath: Option<String>,
    /// `x-…` keys.
    #[serde(flatten)]
    pub extensions: Extensions,
}

/// `tmpfs` options.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct TmpfsOptions {
    /// Size in bytes.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "bytes_text")]
    pub size: Option<i64>,
    /// Mode of its root.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<u32>,
    /// `x-…` keys.
    #[serde(flatten)]
    pub extensions: Extensions,
}

/// `image` options.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct ImageOptions {
    /// Mount only this path of the image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subpath: Option<String>,
    /// `x-…` keys.
    #[serde(flatten)]
    pub extensions: Extensions,
}

/// A secret or config as a service uses it.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct FileMount {
    /// Key of the secret or config.
    pub source: String,
    /// Path in the container, or name under /run/secrets; see [`FileMount::secret_target`].
    #[serde(skip_serializing_if = "super::no_text")]
    pub target: Option<String>,
    /// Owner, default 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
    /// Group, default 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gid: Option<String>,
    /// Mode, default 0444.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "mode_text")]
    pub mode: Option<u32>,
    /// Where it stands.
    #[serde(skip)]
    pub span: crate::diagnostic::Span,
    /// `x-…` keys.
    #[serde(flatten)]
    pub extensions: Extensions,
}

impl FileMount {
    /// Where a secret appears: an absolute target as it is, else under /run/secrets.
    pub fn secret_target(&self) -> String {
        self.absolute_target("/run/secrets/")
    }

    /// Where a config appears: an absolute target as it is, else under the root.
    pub fn config_target(&self) -> String {
        self.absolute_target("/")
    }

    fn absolute_target(&self, base: &str) -> String {
        let name = self.target.as_deref().filter(|target| !target.is_empty()).unwrap_or(&self.source);
        if name.starts_with('/') { name.to_owned() } else { format!("{base}{name}") }
    }
}

fn mode_text<S: Serializer>(mode: &Option<u32>, serializer: S) -> Result<S::Ok, S::Error> {
    match mode {
        Some(mode) => serializer.serialize_str(&format!("0{mode:o}")),
        None => serializer.serialize_none(),
    }
}
