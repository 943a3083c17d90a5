//! Volumes, secrets and configs of a service.

use super::fields::{Context, Fields};
use crate::model::{BindOptions, FileMount, ImageOptions, ServiceVolume, TmpfsOptions, VolumeKind, VolumeOptions};
use crate::node::{Node, Value};
use crate::short::clean_path;

const KINDS: [(&str, VolumeKind); 6] = [
    ("bind", VolumeKind::Bind),
    ("volume", VolumeKind::Volume),
    ("tmpfs", VolumeKind::Tmpfs),
    ("cluster", VolumeKind::Cluster),
    ("npipe", VolumeKind::Npipe),
    ("image", VolumeKind::Image),
];

/// One long-form volume.
pub(super) fn volume(cx: &Context, node: &Node, path: &str) -> Option<ServiceVolume> {
    if !matches!(node.value, Value::Map(_)) {
        cx.error(node.span, format!("{path} must be a string or a mapping"));
        return None;
    }
    Fields::new(cx, node, path)?.finish_with(|f| {
        if f.raw("type").is_none() {
            f.missing(node.span, "type");
        }
        let kind = f.one_of("type", &KINDS);
        let source = f.word("source");
        let target = f.word("target");
        if target.is_none() {
            cx.error(node.span, format!("{path} is missing a mount target"));
        }
        if source.is_none() && kind == Some(VolumeKind::Bind) {
            cx.error(
                node.span,
                format!("{path}: invalid mount config for type \"bind\": field Source must not be empty"),
            );
        }
        let volume = ServiceVolume {
            kind: kind.unwrap_or(VolumeKind::Volume),
            source,
            target: target.as_deref().map(clean_path).unwrap_or_default(),
            read_only: f.flag("read_only"),
            consistency: f.word("consistency"),
            bind: f.object("bind", bind),
            volume: f.object("volume", |f| VolumeOptions {
                labels: f.text_map("labels"),
                nocopy: f.flag("nocopy"),
                subpath: f.word("subpath"),
                extensions: f.extensions(),
            }),
            tmpfs: f.object("tmpfs", tmpfs),
            image: f.object("image", |f| ImageOptions { subpath: f.word("subpath"), extensions: f.extensions() }),
            span: node.span,
            extensions: f.extensions(),
        };
        kind.and(target).map(|_| volume)
    })
}

fn bind(f: &Fields<'_, '_>) -> BindOptions {
    let words = |words: &[&'static str]| words.iter().map(|word| (*word, (*word).to_owned())).collect::<Vec<_>>();
    BindOptions {
        propagation: f.word("propagation"),
        create_host_path: f.bool("create_host_path"),
        recursive: f.one_of("recursive", &words(&["enabled", "disabled", "writable", "readonly"])),
        selinux: f.one_of("selinux", &words(&["z", "Z"])),
        extensions: f.extensions(),
    }
}

fn tmpfs(f: &Fields<'_, '_>) -> TmpfsOptions {
    TmpfsOptions { size: tmpfs_size(f), mode: tmpfs_mode(f).filter(|mode| *mode != 0), extensions: f.extensions() }
}

fn tmpfs_size(f: &Fields<'_, '_>) -> Option<i64> {
    let size = f.bytes("size")?;
    if size < 0 {
        f.cx.error(f.raw("size")?.span, format!("{} must be greater than or equal to 0", f.path("size")));
    }
    Some(size).filter(|size| *size != 0)
}

/// The mode of a tmpfs: a number only.
fn tmpfs_mode(f: &Fields<'_, '_>) -> Option<u32> {
    let node = f.raw("mode")?;
    if matches!(node.value, Value::Text(_)) {
        f.cx.error(node.span, format!("{} must be a number such as 0700", f.path("mode")));
        return None;
    }
    mode(f)
}

/// A file mode: a number as YAML reads it (so `0440` is octal), or octal text.
fn mode(f: &Fields<'_, '_>) -> Option<u32> {
    let node = f.raw("mode")?;
    let mode = match &node.value {
        Value::Int(value) => u32::try_from(*value).ok(),
        Value::Text(text) => u32::from_str_radix(text, 8).ok(),
        _ => None,
    };
    if mode.is_none_or(|mode| mode > 0o7777) {
        f.cx.error(node.span, format!("{} must be a file mode such as 0440", f.path("mode")));
    }
    mode
}

/// `secrets` or `configs` of a service or a build.
pub(super) fn files(f: &Fields<'_, '_>, key: &'static str) -> Vec<FileMount> {
    f.list(key, |node, path| {
        if !matches!(node.value, Value::Map(_)) {
            f.cx.error(node.span, format!("{path} must be a string or a mapping"));
            return None;
        }
        Fields::new(f.cx, node, path)?.finish_with(|f| {
            let source = f.word("source");
            if source.is_none() {
                f.missing(node.span, "source");
            }
            let (target, uid, gid, mode) = (f.text("target"), f.word("uid"), f.word("gid"), mode(f));
            let (source, span, extensions) = (source?, node.span, f.extensions());
            Some(FileMount { source, target, uid, gid, mode, span, extensions })
        })
    })
}
