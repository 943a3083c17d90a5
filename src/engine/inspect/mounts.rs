//! Mounts as `docker inspect` has them: `Binds` (`-v` and short forms) and
//! `Mounts` (`--mount`) of what was asked for, and what is mounted.

use serde_json::{Map, Value, json};
use umiak_runtime::config::{Mount, MountKind, Propagation, Recursive};

use super::{mount_name, or_null};
use crate::engine::container::Config;
use crate::project::labels;

/// Whether Docker knows it by its mount API, and not as text.
fn is_long(config: &Config, mount: &Mount) -> bool {
    config.asked.mounts.contains(&mount.target)
        || match &mount.kind {
            MountKind::Bind(bind) => !bind.create_missing || bind.recursive != Recursive::Enabled,
            MountKind::Volume(volume) => volume.nocopy || !volume.subpath.is_empty() || !volume.labels.is_empty(),
            MountKind::Image(_) => true,
            MountKind::Tmpfs(_) | MountKind::File(_) => false,
        }
}

fn is_anonymous(config: &Config, mount: &Mount) -> bool {
    matches!(&mount.kind, MountKind::Volume(volume) if config.anonymous_volumes.contains(&volume.name))
}

/// The third part of `SOURCE:TARGET:MODE`. Docker Compose says `rw`, Docker nothing.
fn mode(config: &Config, mount: &Mount) -> String {
    let by_compose = config.labels.contains_key(labels::PROJECT);
    let mut words: Vec<String> = Vec::new();
    if mount.read_only || by_compose {
        words.push(if mount.read_only { "ro" } else { "rw" }.to_owned());
    }
    if let MountKind::Bind(bind) = &mount.kind {
        words.extend(Some(propagation(bind.propagation)).filter(|_| bind.propagation != Propagation::Rprivate));
        words.extend(bind.selinux.map(String::from));
    }
    words.join(",")
}

fn propagation(propagation: Propagation) -> String {
    format!("{propagation:?}").to_lowercase()
}

/// `SOURCE:TARGET[:MODE]`; anonymous volumes are no binds.
pub(super) fn binds(config: &Config) -> Value {
    let bind = |mount: &Mount| {
        let is_bind = matches!(mount.kind, MountKind::Bind(_) | MountKind::Volume(_));
        let wanted = is_bind && !is_long(config, mount) && !is_anonymous(config, mount);
        let mode = mode(config, mount);
        let end = if mode.is_empty() { String::new() } else { format!(":{mode}") };
        Some(format!("{}:{}{end}", mount_name(mount)?, mount.target)).filter(|_| wanted)
    };
    or_null(&config.runtime.mounts.iter().filter_map(bind).collect::<Vec<_>>())
}

/// Whether it stands in `HostConfig.Tmpfs`.
pub(super) fn is_short_tmpfs(config: &Config, mount: &Mount) -> bool {
    matches!(mount.kind, MountKind::Tmpfs(_)) && !is_long(config, mount)
}

/// `HostConfig.Mounts`; left out where there are none.
pub(super) fn asked(config: &Config) -> Option<Value> {
    let wanted = |mount: &&Mount| is_long(config, mount) && !is_anonymous(config, mount);
    let all: Vec<Value> = config.runtime.mounts.iter().filter(wanted).filter_map(asked_for).collect();
    (!all.is_empty()).then_some(Value::Array(all))
}

fn asked_for(mount: &Mount) -> Option<Value> {
    let mut options = Map::new();
    let (kind, key, source) = match &mount.kind {
        MountKind::Bind(bind) => {
            if bind.propagation != Propagation::Rprivate {
                options.insert("Propagation".into(), propagation(bind.propagation).into());
            }
            match bind.recursive {
                Recursive::Enabled => None,
                Recursive::Disabled => Some("NonRecursive"),
                Recursive::Writable => Some("ReadOnlyNonRecursive"),
                Recursive::Readonly => Some("ReadOnlyForceRecursive"),
            }
            .map(|key| options.insert(key.into(), true.into()));
            ("bind", "BindOptions", json!(bind.source))
        }
        MountKind::Volume(volume) => {
            if volume.nocopy {
                options.insert("NoCopy".into(), true.into());
            }
            if !volume.labels.is_empty() {
                options.insert("Labels".into(), json!(volume.labels));
            }
            if !volume.subpath.is_empty() {
                options.insert("Subpath".into(), json!(volume.subpath));
            }
            ("volume", "VolumeOptions", json!(volume.name))
        }
        MountKind::Tmpfs(tmpfs) => {
            if tmpfs.size > 0 {
                options.insert("SizeBytes".into(), tmpfs.size.into());
            }
            if let Some(mode) = tmpfs.mode {
                options.insert("Mode".into(), mode.into());
            }
            ("tmpfs", "TmpfsOptions", Value::Null)
        }
        MountKind::Image(image) => {
            if !image.subpath.is_empty() {
                options.insert("Subpath".into(), json!(image.subpath));
            }
            ("image", "ImageOptions", json!(image.image))
        }
        MountKind::File(_) => return None,
    };
    let mut shown = Map::new();
    shown.insert("Type".into(), kind.into());
    if !source.is_null() {
        shown.insert("Source".into(), source);
    }
    shown.insert("Target".into(), json!(mount.target));
    if mount.read_only {
        shown.insert("ReadOnly".into(), true.into());
    }
    if !options.is_empty() {
        shown.insert(key.into(), Value::Object(options));
    }
    Some(Value::Object(shown))
}

/// `Mounts`: what there is inside. Docker leaves out what `--tmpfs` mounts.
pub(super) fn mounted(config: &Config) -> Value {
    let inside = |mount: &&Mount| !is_short_tmpfs(config, mount);
    config.runtime.mounts.iter().filter(inside).map(|mount| point(config, mount)).collect()
}

fn point(config: &Config, mount: &Mount) -> Value {
    let long = is_long(config, mount);
    let text = if long { String::new() } else { mode(config, mount) };
    let rw = !mount.read_only;
    match &mount.kind {
        MountKind::Bind(bind) => json!({
            "Type": "bind", "Source": bind.source, "Destination": mount.target, "Mode": text, "RW": rw,
            "Propagation": propagation(bind.propagation),
        }),
        MountKind::Volume(volume) => json!({
            "Type": "volume", "Name": volume.name, "Source": volume.source, "Destination": mount.target,
            "Driver": "local", "Mode": if text.is_empty() && (!long || rw) { "z" } else { text.as_str() }, "RW": rw,
            "Propagation": "",
        }),
        MountKind::Image(image) => json!({
            "Type": "image", "Source": image.image, "Destination": mount.target, "Mode": text, "RW": false,
            "Propagation": "",
        }),
        MountKind::Tmpfs(_) | MountKind::File(_) => json!({
            "Type": "tmpfs", "Source": "", "Destination": mount.target, "Mode": text, "RW": rw, "Propagation": "",
        }),
    }
}
