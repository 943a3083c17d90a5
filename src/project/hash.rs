//! The hash that tells whether a service's configuration has changed since its
//! container was made. Canonical and versioned: it is taken over the resolved
//! model with sorted keys, so neither the order of keys in the file nor a newer
//! umiak changes it.

use anyhow::{Context as _, Result};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use umiak_compose::{FileDef, FileSource, Project, Service};

/// Goes up only when the meaning of the hashed model changes.
const VERSION: &str = "umiak-service-1";

/// Keys that do not change a container: how many there are, in which order they start, how the image comes.
const NOT_HASHED: &[&str] =
    &["build", "pull_policy", "scale", "depends_on", "profiles", "attach", "develop", "env_file"];

/// The hash of one service.
pub fn service(project: &Project, service: &Service) -> Result<String> {
    let mut value = serde_json::to_value(service).context("encode the service's configuration")?;
    if let Some(map) = value.as_object_mut() {
        map.retain(|key, _| !NOT_HASHED.contains(&key.as_str()) && !key.starts_with("x-"));
        if let Some(deploy) = map.get_mut("deploy").and_then(Value::as_object_mut) {
            deploy.remove("replicas");
        }
    }
    let mut hasher = Sha256::new();
    hasher.update(VERSION);
    feed(&mut hasher, &value);
    for key in service.networks.keys() {
        hasher.update(project.networks.get(key).map_or(key.as_str(), |network| network.name.as_str()));
    }
    for mount in service.secrets.iter().chain(&service.configs) {
        let definition = project.secrets.get(&mount.source).or_else(|| project.configs.get(&mount.source));
        if let Some(FileSource::Content(content)) = definition.map(FileDef::source) {
            hasher.update(content);
        }
    }
    Ok(umiak_base::id::hex(&hasher.finalize()))
}

/// `null` and `{}` are two ways to write the same thing.
fn says_nothing(value: &Value) -> bool {
    value.is_null() || value.as_object().is_some_and(serde_json::Map::is_empty)
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
