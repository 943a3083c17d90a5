//! `build` and `develop`.

use super::fields::{Context, Fields};
use super::{mounts, network, service};
use crate::diagnostic::Span;
use crate::model::{Build, Develop, SshKey, Watch, WatchAction};
use crate::node::{Node, Value};

/// `build`.
pub(super) fn build(f: &Fields<'_, '_>, key: &'static str) -> Option<Build> {
    f.object(key, |f| Build {
        context: Some(f.text("context").unwrap_or_else(|| ".".to_owned())),
        dockerfile: f.text("dockerfile"),
        dockerfile_inline: f.text("dockerfile_inline"),
        entitlements: f.texts("entitlements"),
        args: f.key_values("args").into_iter().collect(),
        provenance: attestation(f, "provenance"),
        sbom: attestation(f, "sbom"),
        ssh: ssh(f),
        labels: f.text_map("labels"),
        cache_from: f.texts("cache_from"),
        cache_to: f.texts("cache_to"),
        no_cache: f.flag("no_cache"),
        no_cache_filter: f.text_or_texts("no_cache_filter"),
        additional_contexts: f.options("additional_contexts", "a string", |value| matches!(value, Value::Text(_))),
        pull: f.flag("pull"),
        extra_hosts: network::extra_hosts(f, "extra_hosts"),
        isolation: f.word("isolation"),
        network: f.word("network"),
        target: f.word("target"),
        secrets: mounts::files(f, "secrets"),
        shm_size: f.bytes("shm_size").filter(|size| *size != 0),
        tags: f.texts("tags"),
        ulimits: service::plain_ulimits(f, "ulimits"),
        platforms: f.texts("platforms"),
        privileged: f.flag("privileged"),
        extensions: f.extensions(),
    })
}

/// A boolean or the parameters of an attestation.
fn attestation(f: &Fields<'_, '_>, key: &'static str) -> Option<String> {
    let node = f.raw(key)?;
    match node.value {
        Value::Bool(_) | Value::Text(_) => node.scalar_text(),
        _ => {
            f.cx.error(node.span, format!("{} must be a boolean or string", f.path(key)));
            None
        }
    }
}

fn ssh(f: &Fields<'_, '_>) -> Vec<SshKey> {
    let read = |id: &str, node: &Node, _: Span, path: &str| {
        let path_of_key = node.scalar_text();
        if path_of_key.is_none() && !node.is_null() {
            f.cx.error(node.span, format!("{path} must be a boolean, null, number or string"));
        }
        Some(SshKey { id: id.to_owned(), path: path_of_key })
    };
    f.named("ssh", read).into_iter().map(|(_, key)| key).collect()
}

/// `develop`; null is as good as nothing.
pub(super) fn develop(f: &Fields<'_, '_>) -> Option<Develop> {
    if f.raw("develop")?.is_null() {
        return None;
    }
    f.object("develop", |f| Develop {
        watch: f.list("watch", |node, path| watch(f.cx, node, path)),
        extensions: f.extensions(),
    })
}

fn watch(cx: &Context, node: &Node, path: &str) -> Option<Watch> {
    const ACTIONS: [(&str, WatchAction); 5] = [
        ("rebuild", WatchAction::Rebuild),
        ("restart", WatchAction::Restart),
        ("sync", WatchAction::Sync),
        ("sync+restart", WatchAction::SyncRestart),
        ("sync+exec", WatchAction::SyncExec),
    ];
    Fields::new(cx, node, path)?.finish_with(|f| {
        for key in ["path", "action"] {
            if f.raw(key).is_none() {
                f.missing(node.span, key);
            }
        }
        let file = f.text("path");
        if file.as_deref() == Some("") {
            cx.error(node.span, format!("{path}.path: value can't be blank"));
        }
        let (action, target) = (f.one_of("action", &ACTIONS), f.word("target"));
        let needs_target = action.is_some_and(|action| !matches!(action, WatchAction::Rebuild | WatchAction::Restart));
        if needs_target && target.is_none() {
            cx.error(node.span, format!("{path}: target is required for non-rebuild actions"));
        }
        let exec = f.raw("exec").and_then(|node| service::hook(cx, node, &f.path("exec")));
        let (include, ignore) = (f.text_or_texts("include"), f.text_or_texts("ignore"));
        let (initial_sync, extensions) = (f.plain_flag("initial_sync"), f.extensions());
        Some(Watch { path: file?, action: action?, target, exec, include, ignore, initial_sync, extensions })
    })
}
