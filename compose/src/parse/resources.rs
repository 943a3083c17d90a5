//! Networks, volumes, secrets, configs and models of the project.

use super::fields::{Context, Fields};
use super::network::address;
use crate::diagnostic::Span;
use crate::files::VALUE_KEY;
use crate::model::{Cidr, FileDef, Ipam, IpamPool, ModelDef, NetworkDef, VolumeDef};
use crate::node::{Node, Value};

/// A network; null is a network without settings.
pub(super) fn network(cx: &Context, _: &str, node: &Node, key: Span, path: &str) -> Option<NetworkDef> {
    if node.is_null() {
        return Some(NetworkDef { span: key, ..NetworkDef::default() });
    }
    let fields = Fields::new(cx, node, path)?;
    Some(fields.finish_with(|f| NetworkDef {
        name: f.text("name").unwrap_or_default(),
        driver: f.word("driver"),
        driver_opts: f.driver_options("driver_opts"),
        ipam: f.object("ipam", ipam).unwrap_or_default(),
        external: f.flag("external"),
        internal: f.flag("internal"),
        attachable: f.flag("attachable"),
        labels: f.text_map("labels"),
        enable_ipv4: f.bool("enable_ipv4"),
        enable_ipv6: f.bool("enable_ipv6"),
        span: key,
        extensions: f.extensions(),
    }))
}

fn ipam(f: &Fields<'_, '_>) -> Ipam {
    Ipam {
        driver: f.word("driver"),
        config: f.list("config", |node, path| {
            Fields::new(f.cx, node, path).map(|f| {
                f.finish_with(|f| IpamPool {
                    subnet: cidr(f, "subnet"),
                    ip_range: cidr(f, "ip_range"),
                    gateway: address(f, "gateway"),
                    aux_addresses: aux_addresses(f),
                    extensions: f.extensions(),
                })
            })
        }),
        options: f.options("options", "a string", |value| matches!(value, Value::Text(_))),
        extensions: f.extensions(),
    }
}

fn cidr(f: &Fields<'_, '_>, key: &'static str) -> Option<Cidr> {
    let text = f.word(key)?;
    let cidr = Cidr::parse(&text);
    if cidr.is_none()
        && let Some(node) = f.raw(key)
    {
        let help = "write an address and a prefix length, such as 10.5.0.0/16";
        f.cx.error_with_help(node.span, format!("{}: invalid subnet: {text}", f.path(key)), help);
    }
    cidr
}

fn aux_addresses(f: &Fields<'_, '_>) -> indexmap::IndexMap<String, std::net::IpAddr> {
    let read = |_: &str, node: &Node, _: Span, path: &str| {
        let address = node.as_text().and_then(|text| text.parse().ok());
        if address.is_none() {
            f.cx.error(node.span, format!("{path} must be an IP address"));
        }
        address
    };
    f.named("aux_addresses", read).into_iter().collect()
}

/// A volume; null is a volume without settings.
pub(super) fn volume(cx: &Context, _: &str, node: &Node, key: Span, path: &str) -> Option<VolumeDef> {
    if node.is_null() {
        return Some(VolumeDef { span: key, ..VolumeDef::default() });
    }
    let fields = Fields::new(cx, node, path)?;
    Some(fields.finish_with(|f| {
        let volume = VolumeDef {
            name: f.text("name").unwrap_or_default(),
            driver: f.word("driver"),
            driver_opts: f.driver_options("driver_opts"),
            external: f.flag("external"),
            labels: f.text_map("labels"),
            span: key,
            extensions: f.extensions(),
        };
        for other in ["driver", "driver_opts", "labels"] {
            if volume.external && f.raw(other).is_some() {
                let at = f.key_span(other).unwrap_or(key);
                cx.error(at, format!("{path}: conflicting parameters \"external\" and \"{other}\" specified"));
            }
        }
        volume
    }))
}

/// A secret: from a file or a variable.
pub(super) fn secret(cx: &Context, _: &str, node: &Node, key: Span, path: &str) -> Option<FileDef> {
    file(cx, node, key, path, &["file", "environment"])
}

/// A config: from a file, a variable, or written out.
pub(super) fn config(cx: &Context, _: &str, node: &Node, key: Span, path: &str) -> Option<FileDef> {
    file(cx, node, key, path, &["file", "environment", "content"])
}

fn file(cx: &Context, node: &Node, key: Span, path: &str, sources: &[&str]) -> Option<FileDef> {
    if node.is_null() {
        cx.error(key, format!("{path} must be a mapping"));
        return None;
    }
    let fields = Fields::new(cx, node, path)?;
    let is_config = sources.contains(&"content");
    Some(fields.finish_with(|f| {
        let file = FileDef {
            name: f.text("name").unwrap_or_default(),
            file: f.word("file").map(Into::into),
            environment: f.word("environment"),
            content: if is_config { f.text("content") } else { None },
            value: f.key_span("environment").and_then(|_| f.text(VALUE_KEY)),
            external: f.flag("external"),
            labels: f.text_map("labels"),
            driver: if is_config { None } else { f.word("driver") },
            driver_opts: if is_config { Default::default() } else { f.driver_options("driver_opts") },
            template_driver: f.word("template_driver"),
            span: key,
            extensions: f.extensions(),
        };
        let given: Vec<&str> = sources.iter().copied().filter(|source| f.key_span(source).is_some()).collect();
        match given.as_slice() {
            [] if file.driver.is_none() && f.key_span("external").is_none() => {
                cx.error(key, format!("{path}: one of {} must be set", sources.join("|")));
            }
            [_, second, ..] => {
                let at = f.key_span(second).unwrap_or(key);
                cx.error(at, format!("{path}: {} attributes are mutually exclusive", sources.join("|")));
            }
            _ => {}
        }
        file
    }))
}

/// A model; `model` is required.
pub(super) fn model(cx: &Context, _: &str, node: &Node, key: Span, path: &str) -> Option<ModelDef> {
    let fields = Fields::new(cx, node, path)?;
    Some(fields.finish_with(|f| {
        if f.raw("model").is_none() {
            f.missing(key, "model");
        }
        ModelDef {
            name: f.word("name"),
            model: f.word("model"),
            context_size: f.plain_int("context_size").filter(|size| *size != 0),
            runtime_flags: f.texts("runtime_flags"),
            extensions: f.extensions(),
        }
    }))
}
