//! Devices by their names in the Container Device Interface (`vendor.com/class=name`): what a vendor's specification,
//! a JSON or YAML file in /etc/cdi or /var/run/cdi, says a container needs to use one.
//! <https://github.com/cncf-tags/container-device-interface/blob/main/SPEC.md>

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;
use umiak_runtime::config::{Bind, Device, Mount, MountKind};

use super::request::Request;

/// Names other directories than the two, separated by colons.
const DIRECTORIES: &str = "UMIAK_CDI_SPEC_DIRS";

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Spec {
    kind: String,
    devices: Vec<Named>,
    container_edits: Edits,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Named {
    name: String,
    container_edits: Edits,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Edits {
    env: Vec<String>,
    device_nodes: Vec<Node>,
    mounts: Vec<CdiMount>,
    hooks: Vec<serde_json::Value>,
    additional_gids: Vec<u32>,
    #[serde(flatten)]
    other: BTreeMap<String, serde_json::Value>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Node {
    path: PathBuf,
    host_path: Option<PathBuf>,
    permissions: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct CdiMount {
    host_path: PathBuf,
    container_path: String,
    options: Vec<String>,
}

/// Whether a text is such a name rather than a path.
pub fn is_name(text: &str) -> bool {
    text.split_once('=').is_some_and(|(kind, name)| !kind.starts_with('/') && kind.contains('/') && !name.is_empty())
}

/// The names of what is asked for as in `gpus`: by count (-1 for all) or ids.
///
/// # Errors
/// A driver for which there is no specification, in Docker's words.
pub fn names_of_gpus(
    driver: Option<&str>,
    capabilities: &[String],
    count: Option<i64>,
    ids: &[String],
) -> Result<Vec<String>> {
    let asked = driver.unwrap_or_default();
    if asked == "cdi" {
        return Ok(ids.to_vec());
    }
    let is_gpu = capabilities.iter().any(|capability| capability == "gpu");
    let kinds: &[&str] = match asked {
        "" if is_gpu => &["nvidia.com/gpu", "amd.com/gpu"],
        "nvidia" => &["nvidia.com/gpu"],
        "amd" => &["amd.com/gpu"],
        _ => &[],
    };
    let specs = load()?;
    let Some(kind) = kinds.iter().find(|kind| specs.iter().any(|spec| spec.kind == **kind)) else {
        bail!(
            "could not select device driver \"{asked}\" with capabilities: [[{}]]: no CDI specification in {} has such devices",
            capabilities.join(" "),
            directories().iter().map(|dir| dir.display().to_string()).collect::<Vec<_>>().join(" or ")
        );
    };
    let names: Vec<String> = match (ids, count) {
        ([], None | Some(-1)) => vec!["all".to_owned()],
        ([], Some(count)) => (0..count).map(|index| index.to_string()).collect(),
        (ids, _) => ids.to_vec(),
    };
    Ok(names.iter().map(|name| if is_name(name) { name.clone() } else { format!("{kind}={name}") }).collect())
}

/// Puts what the named devices need into the request.
///
/// # Errors
/// A name that no specification has, or something in one that cannot be done here.
pub fn inject(names: &[String], request: &mut Request) -> Result<()> {
    if names.is_empty() {
        return Ok(());
    }
    for edits in edits(&load()?, names)? {
        apply(&edits, request)?;
    }
    Ok(())
}

fn directories() -> Vec<PathBuf> {
    match std::env::var_os(DIRECTORIES) {
        Some(list) => std::env::split_paths(&list).collect(),
        None => vec!["/etc/cdi".into(), "/var/run/cdi".into()],
    }
}

/// The specifications, those of later directories last.
fn load() -> Result<Vec<Spec>> {
    let mut all = Vec::new();
    for dir in directories() {
        let mut files: Vec<PathBuf> =
            std::fs::read_dir(&dir).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
        files.sort();
        for file in files.iter().filter(|file| file.extension().is_some_and(|e| e == "json" || e == "yaml")) {
            all.push(read(file).with_context(|| format!("read the CDI specification {}", file.display()))?);
        }
    }
    Ok(all)
}

fn read(file: &Path) -> Result<Spec> {
    // JSON is YAML.
    Ok(serde_yaml::from_str(&std::fs::read_to_string(file)?)?)
}

/// Each device's own edits, after those of its specification, which come once.
fn edits(specs: &[Spec], names: &[String]) -> Result<Vec<Edits>> {
    let mut all: Vec<Edits> = Vec::new();
    let mut missing = Vec::new();
    for name in names {
        let (kind, device) = name.split_once('=').unwrap_or((name, ""));
        // The last directory goes before the others.
        let found =
            specs.iter().rev().filter(|spec| spec.kind == kind).find_map(|spec| {
                Some((&spec.container_edits, spec.devices.iter().find(|other| other.name == device)?))
            });
        let Some((shared, device)) = found else {
            missing.push(name.as_str());
            continue;
        };
        if !all.contains(shared) {
            all.push(shared.clone());
        }
        all.push(device.container_edits.clone());
    }
    if !missing.is_empty() {
        bail!("CDI device injection failed: unresolvable CDI devices {}", missing.join(", "));
    }
    Ok(all)
}

fn apply(edits: &Edits, request: &mut Request) -> Result<()> {
    if !edits.hooks.is_empty() {
        bail!("CDI device injection failed: the specification has hooks, programs of the host that umiak does not run");
    }
    if let Some(key) = edits.other.keys().next() {
        bail!("CDI device injection failed: the specification has `{key}`, which is not supported");
    }
    for text in &edits.env {
        let (key, value) = text.split_once('=').unwrap_or((text, ""));
        request.env.push((key.to_owned(), Some(value.to_owned())));
    }
    for node in &edits.device_nodes {
        request.runtime.devices.push(Device {
            host: node.host_path.clone().unwrap_or_else(|| node.path.clone()),
            container: node.path.clone(),
            permissions: node.permissions.clone().unwrap_or_else(|| "rwm".to_owned()),
        });
    }
    for mount in &edits.mounts {
        let kind = MountKind::Bind(Bind { source: mount.host_path.clone(), ..Bind::default() });
        let read_only = mount.options.iter().any(|option| option == "ro");
        request.runtime.mounts.push(Mount { target: mount.container_path.clone(), kind, read_only });
    }
    request.runtime.group_add.extend(edits.additional_gids.iter().map(u32::to_string));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPEC: &str = r#"
cdiVersion: "0.6.0"
kind: example.com/gpu
containerEdits: {env: [SHARED=1]}
devices:
  - name: "0"
    containerEdits:
      env: [WHICH=zero]
      deviceNodes: [{path: /dev/gpu0, hostPath: /dev/null, permissions: rw}]
      mounts: [{hostPath: /etc/hostname, containerPath: /opt/name, options: [ro, nosuid]}]
      additionalGids: [44]
  - name: hooked
    containerEdits: {hooks: [{hookName: createContainer, path: /bin/true}]}
"#;

    #[test]
    fn a_device_brings_what_its_specification_says() {
        let specs: Vec<Spec> = vec![serde_yaml::from_str(SPEC).unwrap()];
        let named = |names: &[&str]| edits(&specs, &names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
        let found = named(&["example.com/gpu=0", "example.com/gpu=0"]).unwrap();
        assert_eq!(found.len(), 3, "what all devices share comes once");
        let mut request = Request::default();
        for edits in found.iter().take(2) {
            apply(edits, &mut request).unwrap();
        }
        assert_eq!(request.env.len(), 2);
        assert_eq!(request.runtime.devices[0].host, Path::new("/dev/null"));
        assert!(request.runtime.mounts[0].read_only);
        assert_eq!(request.runtime.group_add, ["44"]);
        let error = named(&["example.com/gpu=1", "other.com/x=y"]).unwrap_err().to_string();
        assert_eq!(error, "CDI device injection failed: unresolvable CDI devices example.com/gpu=1, other.com/x=y");
        let hooked = named(&["example.com/gpu=hooked"]).unwrap();
        assert!(apply(&hooked[1], &mut request).unwrap_err().to_string().contains("hooks"));
        assert!(is_name("a.com/b=c") && !is_name("/dev/x=y") && !is_name("a=b"));
    }
}
