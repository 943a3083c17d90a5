//! The image config: what the image was built to run, and the layers' diff ids.
//!
//! Our own structures, because Docker writes more than the OCI specification
//! names (health check, shell, stop timeout), and as tolerant as Docker's own
//! reader: `null` is as good as absent. Field meanings: OCI image-spec
//! `config.md`, Docker Image Specification v1.3.

mod change;

use std::collections::BTreeMap;

use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer, Serialize};

use crate::cache::Shared;
use crate::digest::Digest;
use crate::manifest::{MAX_CONFIG_BYTES, MAX_LAYERS};
use crate::platform::Platform;

pub use change::ChangeError;

/// Why an image config was refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The config is too large.
    #[error("image config of {size} bytes, at most {MAX_CONFIG_BYTES} are read")]
    Size {
        /// Its size.
        size: u64,
    },
    /// The config is not the JSON it should be.
    #[error("the image config does not parse")]
    Parse(#[source] serde_json::Error),
    /// The root file system is not made of layers.
    #[error("the image config's rootfs has the type {found:?}, only \"layers\" is known")]
    Rootfs {
        /// The type it names.
        found: String,
    },
    /// More layers than may be stacked.
    #[error("the image has {count} layers, at most {MAX_LAYERS} can be stacked")]
    Layers {
        /// How many it has.
        count: usize,
    },
    /// Manifest and config disagree.
    #[error("the manifest has {manifest} layers and the image config {config}")]
    Mismatch {
        /// Layers in the manifest.
        manifest: usize,
        /// Diff ids in the config.
        config: usize,
    },
}

/// An image's config file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageConfig {
    /// CPU architecture, in Go's words: `amd64`, `arm64`.
    #[serde(default, deserialize_with = "or_default")]
    pub architecture: String,
    /// Operating system: `linux`.
    #[serde(default, deserialize_with = "or_default")]
    pub os: String,
    /// Variant of the architecture: `v7`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// When it was made, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// Who made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// Why it was made; Docker's `commit -m`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// What to run and how.
    #[serde(default, deserialize_with = "or_default")]
    pub config: RunConfig,
    /// The layers.
    #[serde(default, deserialize_with = "or_default")]
    pub rootfs: Rootfs,
    /// How each layer came to be, oldest first.
    #[serde(default, deserialize_with = "or_default")]
    pub history: Vec<History>,
    /// Build cache that travels with the image; what does not parse is none.
    #[serde(
        rename = "org.umiak.cache.v1",
        default,
        deserialize_with = "lenient",
        skip_serializing_if = "Option::is_none"
    )]
    pub cache: Option<Shared>,
}

/// The layers by the digests of their uncompressed content, bottom first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rootfs {
    /// Always `layers`.
    #[serde(rename = "type", default, deserialize_with = "or_default")]
    pub kind: String,
    /// Bottom layer first.
    #[serde(default, deserialize_with = "or_default")]
    pub diff_ids: Vec<Digest>,
}

/// One step of an image's build.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    /// When, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// The instruction.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_by: Option<String>,
    /// By whom.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// Free text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// Whether the step made no layer.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "std::ops::Not::not")]
    pub empty_layer: bool,
}

/// What a container of the image runs unless it is told otherwise.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct RunConfig {
    /// `user[:group]`, by name or number.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "String::is_empty")]
    pub user: String,
    /// `PORT[/PROTOCOL]`.
    #[serde(deserialize_with = "keys", serialize_with = "as_set", skip_serializing_if = "Vec::is_empty")]
    pub exposed_ports: Vec<String>,
    /// `NAME=VALUE`.
    #[serde(deserialize_with = "or_default")]
    pub env: Vec<String>,
    /// The program.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entrypoint: Option<Vec<String>>,
    /// Its arguments, or program and arguments where there is no entrypoint.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cmd: Option<Vec<String>>,
    /// Directories that get a volume.
    #[serde(deserialize_with = "keys", serialize_with = "as_set", skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<String>,
    /// Where the program starts.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "String::is_empty")]
    pub working_dir: String,
    /// Labels. They come from strangers and own nothing.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// The signal that asks the program to end: `SIGTERM`, `15`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_signal: Option<String>,
    /// Seconds that it then has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_timeout: Option<i64>,
    /// How its health is checked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<Healthcheck>,
    /// Instructions for builds on top of it.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub on_build: Vec<String>,
    /// The shell of shell-form instructions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shell: Option<Vec<String>>,
    /// Set by old Windows builds: the command is already escaped.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "std::ops::Not::not")]
    pub args_escaped: bool,
}

/// Docker's `HEALTHCHECK`. Zero means: inherit or default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Healthcheck {
    /// `NONE`, `CMD` and arguments, or `CMD-SHELL` and one text; empty inherits.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub test: Vec<String>,
    /// Nanoseconds between checks.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "is_zero")]
    pub interval: i64,
    /// Nanoseconds that one check has.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "is_zero")]
    pub timeout: i64,
    /// Nanoseconds after the start in which failures do not count.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "is_zero")]
    pub start_period: i64,
    /// Nanoseconds between checks during the start period.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "is_zero")]
    pub start_interval: i64,
    /// Failures in a row that make it unhealthy.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "is_zero")]
    pub retries: i64,
}

impl ImageConfig {
    /// Reads a config blob.
    ///
    /// # Errors
    /// When it is too large, does not parse, or has layers that cannot be stacked.
    pub fn parse(bytes: &[u8]) -> Result<Self, ConfigError> {
        let size = bytes.len() as u64;
        if size > MAX_CONFIG_BYTES {
            return Err(ConfigError::Size { size });
        }
        let config: Self = serde_json::from_slice(bytes).map_err(ConfigError::Parse)?;
        if !matches!(config.rootfs.kind.as_str(), "layers" | "") {
            return Err(ConfigError::Rootfs { found: config.rootfs.kind });
        }
        let count = config.rootfs.diff_ids.len();
        if count > MAX_LAYERS {
            return Err(ConfigError::Layers { count });
        }
        Ok(config)
    }

    /// The platform that the image is for.
    #[must_use]
    pub fn platform(&self) -> Platform {
        Platform::new(&self.os, &self.architecture, self.variant.as_deref())
    }
}

/// `null` is as good as absent.
fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(from: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

/// What is of no importance to whoever runs the image.
fn lenient<'de, D: Deserializer<'de>, T: serde::de::DeserializeOwned>(from: D) -> Result<Option<T>, D::Error> {
    let value = serde_json::Value::deserialize(from)?;
    Ok(serde_json::from_value(value).ok())
}

/// Go writes sets as maps to empty structs.
fn keys<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    let map: Option<BTreeMap<String, IgnoredAny>> = Option::deserialize(from)?;
    Ok(map.unwrap_or_default().into_keys().collect())
}

fn as_set<S: serde::Serializer>(keys: &[String], to: S) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct Empty {}
    to.collect_map(keys.iter().map(|key| (key, Empty {})))
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_zero(number: &i64) -> bool {
    *number == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCKER: &str = r#"{
        "architecture":"arm","os":"linux","variant":"v7","created":"2026-01-02T03:04:05.678Z",
        "config":{"User":"app","ExposedPorts":{"80/tcp":{},"53/udp":{}},"Env":["PATH=/bin"],
            "Entrypoint":["/start"],"Cmd":["-x"],"Volumes":{"/data":{}},"WorkingDir":"/srv",
            "Labels":{"a":"b"},"StopSignal":"SIGQUIT","StopTimeout":3,"Shell":["/bin/bash","-c"],
            "OnBuild":["RUN true"],"ArgsEscaped":true,
            "Healthcheck":{"Test":["CMD-SHELL","true"],"Interval":5000000000,"Timeout":1000000000,
                "StartPeriod":2000000000,"StartInterval":100000000,"Retries":4}},
        "rootfs":{"type":"layers","diff_ids":["sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"]},
        "history":[{"created":"2026-01-02T03:04:05Z","created_by":"COPY","empty_layer":true}],
        "docker_version":"28","container":"x","moby.buildkit.cache.v0":"y"}"#;

    #[test]
    fn all_that_docker_writes() {
        let image = ImageConfig::parse(DOCKER.as_bytes()).unwrap();
        let config = &image.config;
        assert_eq!(config.exposed_ports, ["53/udp", "80/tcp"]);
        assert_eq!(config.volumes, ["/data"]);
        assert_eq!(config.stop_signal.as_deref(), Some("SIGQUIT"));
        assert_eq!(config.stop_timeout, Some(3));
        let health = config.healthcheck.as_ref().unwrap();
        assert_eq!((health.interval, health.start_interval, health.retries), (5_000_000_000, 100_000_000, 4));
        assert_eq!(config.shell.as_ref().unwrap().len(), 2);
        assert!(config.args_escaped && image.history[0].empty_layer);
        assert_eq!(image.rootfs.diff_ids.len(), 1);
        // And back again.
        let again = ImageConfig::parse(&serde_json::to_vec(&image).unwrap()).unwrap();
        assert_eq!(again, image);
    }

    #[test]
    fn null_is_as_good_as_absent() {
        let nulls = r#"{"architecture":null,"config":{"User":null,"ExposedPorts":null,"Env":null,"Cmd":null,
            "Volumes":null,"Labels":null,"Healthcheck":null,"OnBuild":null,"ArgsEscaped":null},
            "rootfs":{"type":"layers","diff_ids":null},"history":null}"#;
        assert_eq!(ImageConfig::parse(nulls.as_bytes()).unwrap().config, RunConfig::default());
        assert_eq!(ImageConfig::parse(br#"{"config":null,"rootfs":null}"#).unwrap(), ImageConfig::default());
    }

    #[test]
    fn what_cannot_be_is_refused() {
        assert!(matches!(ImageConfig::parse(b"7"), Err(ConfigError::Parse(_))));
        let digest = format!("\"sha256:{}\"", "a".repeat(64));
        let many = vec![digest; 129].join(",");
        let many = format!(r#"{{"rootfs":{{"type":"layers","diff_ids":[{many}]}}}}"#);
        assert!(matches!(ImageConfig::parse(many.as_bytes()), Err(ConfigError::Layers { count: 129 })));
        let path = br#"{"rootfs":{"type":"layers","diff_ids":["sha256:../../etc/passwd"]}}"#;
        assert!(ImageConfig::parse(path).is_err());
        assert!(ImageConfig::parse(br#"{"rootfs":{"type":"other"}}"#).is_err());
        assert!(matches!(ImageConfig::parse(&vec![b' '; 5 << 20]), Err(ConfigError::Size { .. })));
    }
}
