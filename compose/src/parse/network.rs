//! Ports, networks and hosts of a service.

use indexmap::IndexMap;

use super::fields::{Context, Fields};
use crate::diagnostic::Span;
use crate::model::{NetworkMode, PortMapping, PortRange, Protocol, ServiceNetwork};
use crate::node::{Node, Value};
use crate::short::protocol_name;
use crate::units::port_range;

/// One long-form port.
pub(super) fn port(cx: &Context, node: &Node, path: &str) -> Option<PortMapping> {
    if !matches!(node.value, Value::Map(_)) {
        cx.error(node.span, format!("{path} must be a number, string or mapping"));
        return None;
    }
    Fields::new(cx, node, path)?.finish_with(|f| {
        let at = |key: &'static str| f.raw(key).map_or(node.span, |node| node.span);
        let protocol = match f.word("protocol") {
            None if f.key_span("protocol").is_some() => Some(Protocol::Unsaid),
            None => Some(Protocol::Tcp),
            Some(text) => protocol_name(&text).or_else(|| {
                cx.error(at("protocol"), format!("{path}: invalid protocol: {text}"));
                None
            }),
        };
        let published = f.scalar("published").filter(|text| !text.is_empty()).and_then(|text| {
            let range = port_range(&text);
            if range.is_none() {
                cx.error(at("published"), format!("{path}: invalid published port: {text}"));
            }
            range.map(|range| PortRange { digits: text.len().try_into().unwrap_or(0), ..range })
        });
        let host_ip = f.text("host_ip").and_then(|text| match text.parse() {
            Ok(ip) => Some(ip),
            Err(_) => {
                cx.error(at("host_ip"), format!("{path}: invalid ip address: {text}"));
                None
            }
        });
        if f.raw("target").is_none() {
            f.missing(node.span, "target");
        }
        let (name, app_protocol) = (f.word("name"), f.word("app_protocol"));
        let mode = match f.key_span("mode") {
            Some(_) => f.word("mode"),
            None => Some("ingress".to_owned()),
        };
        let target = f.number("target").filter(|port: &u16| {
            if *port == 0 {
                cx.error(at("target"), format!("{path}: invalid container port: 0"));
            }
            *port != 0
        });
        let (target, protocol, extensions) = (target?, protocol?, f.extensions());
        Some(PortMapping { name, mode, host_ip, target, published, protocol, app_protocol, extensions })
    })
}

/// `networks` of a service.
pub(super) fn service_networks(f: &Fields<'_, '_>) -> IndexMap<String, ServiceNetwork> {
    let read = |name: &str, node: &Node, at: Span, path: &str| {
        if !super::is_name(name) {
            f.cx.error(at, format!("{} additional properties '{name}' not allowed", f.path("networks")));
            return None;
        }
        match node.is_null() {
            true => Some(ServiceNetwork::default()),
            false => Fields::new(f.cx, node, path).map(|f| f.finish_with(service_network)),
        }
    };
    f.named("networks", read).into_iter().collect()
}

fn service_network(f: &Fields<'_, '_>) -> ServiceNetwork {
    let link_local = f.list("link_local_ips", |node, path| {
        let address = node.as_text().and_then(|text| text.parse().ok());
        if address.is_none() {
            f.cx.error(node.span, format!("{path} must be an IP address"));
        }
        address
    });
    ServiceNetwork {
        aliases: f.unique_texts("aliases"),
        ipv4_address: address(f, "ipv4_address"),
        ipv6_address: address(f, "ipv6_address"),
        link_local_ips: link_local,
        mac_address: f.word("mac_address"),
        driver_opts: f.driver_options("driver_opts"),
        interface_name: f.word("interface_name"),
        priority: f.plain_int("priority").filter(|priority| *priority != 0),
        gw_priority: f.plain_int("gw_priority").filter(|priority| *priority != 0),
        is_map: true,
        extensions: f.extensions(),
    }
}

/// An address of the wanted kind.
pub(super) fn address<T: std::str::FromStr>(f: &Fields<'_, '_>, key: &'static str) -> Option<T> {
    let text = f.word(key)?;
    let address = text.parse().ok();
    if address.is_none()
        && let Some(node) = f.raw(key)
    {
        f.cx.error(node.span, format!("{}: invalid address: {text}", f.path(key)));
    }
    address
}

/// `network_mode`.
pub(super) fn mode(f: &Fields<'_, '_>) -> Option<NetworkMode> {
    let text = f.text("network_mode")?;
    Some(match text.split_once(':') {
        Some(("service", name)) => NetworkMode::Service(name.to_owned()),
        Some(("container", name)) => NetworkMode::Container(name.to_owned()),
        _ => match text.as_str() {
            "none" => NetworkMode::None,
            "host" => NetworkMode::Host,
            "bridge" | "default" => NetworkMode::Bridge,
            "" => NetworkMode::Unsaid,
            _ => NetworkMode::Network(text),
        },
    })
}

fn host(cx: &Context, node: &Node, path: &str) -> Option<(String, Span)> {
    let text = node.as_text().map(|text| (text.to_owned(), node.span));
    if text.is_none() {
        cx.error(node.span, format!("{path} must be a string"));
    }
    text
}

/// `extra_hosts`: in long form a list of `host=address`, but `host:address` may be in it too.
pub(super) fn extra_hosts(f: &Fields<'_, '_>, key: &'static str) -> IndexMap<String, Vec<String>> {
    let mut hosts: IndexMap<String, Vec<String>> = IndexMap::new();
    for (text, span) in f.list(key, |node, path| host(f.cx, node, path)) {
        let Some((host, addresses)) = text.split_once('=').or_else(|| text.split_once(':')) else {
            f.cx.error(span, format!("{}: invalid additional host, missing IP: {text}", f.path(key)));
            continue;
        };
        if host.is_empty() || host.contains([':', '=']) {
            f.cx.error(span, format!("{}: bad host name '{host}'", f.path(key)));
        }
        for address in addresses.split(',') {
            let bare = address.strip_prefix('[').and_then(|address| address.strip_suffix(']')).unwrap_or(address);
            hosts.entry(host.to_owned()).or_default().push(bare.to_owned());
        }
    }
    hosts
}
