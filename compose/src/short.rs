//! The short forms of `ports`, `volumes` and `devices`.

use std::net::{IpAddr, Ipv6Addr};

use super::diagnostic::Span;
use super::model::{PortRange, Protocol};
use super::node::{Node, Value};
use super::units::port_range;

/// `[[ip:][published]:]target[/protocol]`: as many long forms as the target has ports.
pub(crate) fn ports(text: &str, span: Span) -> Result<Vec<Node>, String> {
    let (address, protocol) = text.rsplit_once('/').unwrap_or((text, "tcp"));
    let protocol = protocol_name(protocol).ok_or_else(|| format!("invalid protocol: {protocol}"))?;
    let (host, target) = match address.rsplit_once(':') {
        Some((host, target)) => (Some(host), target),
        None => (None, address),
    };
    let (ip, published) = match host.map(|host| host.rsplit_once(':').unwrap_or(("", host))) {
        Some((ip, published)) => (ip, published),
        None => ("", ""),
    };
    if ip.parse::<Ipv6Addr>().is_ok() {
        return Err(format!("invalid IP address: {ip}: an IPv6 address stands in brackets"));
    }
    let ip = host_ip(ip)?;
    if target.is_empty() {
        return Err(format!("no port specified: {text}<empty>"));
    }
    let target = port_range(target).ok_or_else(|| format!("invalid container port: {target}"))?;
    let published = match published {
        "" => None,
        published => Some(port_range(published).ok_or_else(|| format!("invalid host port: {published}"))?),
    };
    let count = |range: PortRange| range.end - range.start;
    if published.is_some_and(|published| count(published) != count(target) && count(target) != 0) {
        return Err(format!("invalid ranges specified for container and host ports: {text}"));
    }
    let long = |offset: u16| {
        let published = published.map(|range| match count(target) {
            0 => range.to_string(),
            _ => (range.start + offset).to_string(),
        });
        let mut node = Node::map(
            span,
            [
                ("mode", Node::text(span, "ingress")),
                ("target", Node::new(span, Value::Int(i128::from(target.start + offset)))),
                ("protocol", Node::text(span, protocol.to_string())),
            ],
        );
        let extra = [("published", published), ("host_ip", ip.map(|ip| ip.to_string()))];
        for (key, value) in extra.into_iter().filter_map(|(key, value)| Some((key, value?))) {
            put(&mut node, key, Node::text(span, value));
        }
        node
    };
    Ok((0..=count(target)).map(long).collect())
}

fn host_ip(text: &str) -> Result<Option<IpAddr>, String> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    match bare {
        "" => Ok(None),
        bare => bare.parse().map(Some).map_err(|_| format!("invalid IP address: {text}")),
    }
}

/// The protocol of a name, in any case.
pub(crate) fn protocol_name(text: &str) -> Option<Protocol> {
    match text.to_ascii_lowercase().as_str() {
        "tcp" => Some(Protocol::Tcp),
        "udp" => Some(Protocol::Udp),
        "sctp" => Some(Protocol::Sctp),
        _ => None,
    }
}

/// `[source:]target[:options]`.
pub(crate) fn volume(text: &str, span: Span) -> Result<Vec<Node>, String> {
    if text.is_empty() {
        return Err("invalid empty volume spec".to_owned());
    }
    let parts = split_volume(text);
    if parts.iter().any(|part| part.is_empty()) {
        return Err(format!("invalid spec: {text}: empty section between colons"));
    }
    let (source, target, options) = match parts.as_slice() {
        [target] => (None, *target, ""),
        [source, target] => (Some(*source), *target, ""),
        [source, target, options] => (Some(*source), *target, *options),
        _ => return Err(format!("invalid spec: {text}: too many colons")),
    };
    let is_bind = source.is_some_and(is_path);
    let mut node = Node::map(
        span,
        [
            ("type", Node::text(span, if is_bind { "bind" } else { "volume" })),
            ("target", Node::text(span, clean_path(target))),
        ],
    );
    if let Some(source) = source {
        put(&mut node, "source", Node::text(span, source));
    }
    let mut bind = Node::map(span, []);
    let mut volume = Node::map(span, []);
    if is_bind {
        put(&mut bind, "create_host_path", Node::new(span, Value::Bool(true)));
    }
    for option in options.split(',') {
        match option {
            "ro" => put(&mut node, "read_only", Node::new(span, Value::Bool(true))),
            "rw" => put(&mut node, "read_only", Node::new(span, Value::Bool(false))),
            "nocopy" => put(&mut volume, "nocopy", Node::new(span, Value::Bool(true))),
            "private" | "rprivate" | "shared" | "rshared" | "slave" | "rslave" => {
                put(&mut bind, "propagation", Node::text(span, option));
            }
            "z" | "Z" => put(&mut bind, "selinux", Node::text(span, option)),
            // Docker Compose ignores what it does not know here, and files rely on it ("cached", "delegated")
            _ => {}
        }
    }
    let empty = |node: &Node| node.as_map().is_none_or(|map| map.is_empty());
    if is_bind || !empty(&bind) {
        put(&mut node, "bind", bind);
    }
    // Docker Compose takes one or two characters as a target without looking further
    if (!is_bind && text.len() > 2) || !empty(&volume) {
        put(&mut node, "volume", volume);
    }
    Ok(vec![node])
}

/// Splits at colons, but not after a Windows drive letter.
fn split_volume(text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut start = 0;
    for (index, _) in text.match_indices(':') {
        let part = &text[start..index];
        let is_drive = part.chars().count() == 1 && part.chars().all(char::is_alphabetic) && text.len() > 2;
        if !is_drive {
            parts.push(part);
            start = index + 1;
        }
    }
    parts.push(&text[start..]);
    parts
}

/// Whether a volume's source is a path rather than a name.
fn is_path(source: &str) -> bool {
    let mut chars = source.chars();
    let drive = chars.next().is_some_and(char::is_alphabetic) && chars.next() == Some(':');
    source.starts_with(['.', '/', '~']) || source.starts_with("\\\\") || drive
}

/// A path without empty, `.` and inner `..` parts, as Go's `path.Clean` gives it.
pub(crate) fn clean_path(path: &str) -> String {
    let absolute = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => {
                parts.pop();
            }
            ".." if absolute => {}
            part => parts.push(part),
        }
    }
    match (absolute, parts.join("/")) {
        (true, rest) => format!("/{rest}"),
        (false, rest) if rest.is_empty() => ".".to_owned(),
        (false, rest) => rest,
    }
}

/// `source[:target[:permissions]]`.
pub(crate) fn device(text: &str, span: Span) -> Result<Vec<Node>, String> {
    let parts: Vec<&str> = text.split(':').collect();
    let (source, target, permissions) = match parts.as_slice() {
        [source] => (*source, *source, "rwm"),
        [source, target] => (*source, *target, "rwm"),
        [source, target, permissions] => (*source, *target, *permissions),
        _ => return Err(format!("confusing device mapping, please use long syntax: {text}")),
    };
    let target = if target.is_empty() { source } else { target };
    let entries = [("source", source), ("target", target), ("permissions", permissions)];
    Ok(vec![Node::map(span, entries.map(|(key, text)| (key, Node::text(span, text))))])
}

fn put(node: &mut Node, key: &str, value: Node) {
    let span = value.span;
    if let Some(map) = node.as_map_mut() {
        map.insert(key.to_owned(), super::node::Entry { key: span, node: value });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(result: Result<Vec<Node>, String>) -> String {
        match result {
            Ok(nodes) => nodes.iter().map(|node| node.to_json().to_string()).collect::<Vec<_>>().join(" "),
            Err(message) => format!("error: {message}"),
        }
    }

    #[test]
    fn ports_table() {
        for (text, expected) in [
            ("80", r#"{"mode":"ingress","target":80,"protocol":"tcp"}"#),
            ("8080:80", r#"{"mode":"ingress","target":80,"protocol":"tcp","published":"8080"}"#),
            ("53:53/UDP", r#"{"mode":"ingress","target":53,"protocol":"udp","published":"53"}"#),
            ("127.0.0.1::53", r#"{"mode":"ingress","target":53,"protocol":"tcp","host_ip":"127.0.0.1"}"#),
            ("[::1]:81:80", r#"{"mode":"ingress","target":80,"protocol":"tcp","published":"81","host_ip":"::1"}"#),
            ("9000-9002:80", r#"{"mode":"ingress","target":80,"protocol":"tcp","published":"9000-9002"}"#),
            (
                "90-91:80-81",
                r#"{"mode":"ingress","target":80,"protocol":"tcp","published":"90"} {"mode":"ingress","target":81,"protocol":"tcp","published":"91"}"#,
            ),
            ("8000-8002:80-81", "error: invalid ranges specified for container and host ports: 8000-8002:80-81"),
            ("80:80:80:80", "error: invalid IP address: 80:80"),
            ("99999:80", "error: invalid host port: 99999"),
            ("80:", "error: no port specified: 80:<empty>"),
            ("80/icmp", "error: invalid protocol: icmp"),
            ("abc", "error: invalid container port: abc"),
            ("90-80", "error: invalid container port: 90-80"),
        ] {
            assert_eq!(shown(ports(text, Span::default())), expected, "{text}");
        }
    }

    #[test]
    fn volumes_table() {
        for (text, expected) in [
            ("/data/", r#"{"type":"volume","target":"/data","volume":{}}"#),
            ("vol:/d", r#"{"type":"volume","target":"/d","source":"vol","volume":{}}"#),
            // one letter is a Windows drive, for Docker Compose too
            ("v:/d", r#"{"type":"volume","target":"v:/d","volume":{}}"#),
            (
                "./a:/b:ro,Z,rshared,cached",
                r#"{"type":"bind","target":"/b","source":"./a","read_only":true,"bind":{"create_host_path":true,"selinux":"Z","propagation":"rshared"}}"#,
            ),
            ("vol:/e:nocopy", r#"{"type":"volume","target":"/e","source":"vol","volume":{"nocopy":true}}"#),
            ("C:\\x:/y", r#"{"type":"bind","target":"/y","source":"C:\\x","bind":{"create_host_path":true}}"#),
            ("", "error: invalid empty volume spec"),
            ("aa::/b", "error: invalid spec: aa::/b: empty section between colons"),
            ("aa:/b:ro:x", "error: invalid spec: aa:/b:ro:x: too many colons"),
        ] {
            assert_eq!(shown(volume(text, Span::default())), expected, "{text}");
        }
    }

    #[test]
    fn paths_are_cleaned() {
        for (path, expected) in
            [("/a//b/./c/..", "/a/b"), ("/", "/"), ("/..", "/"), ("a/../..", ".."), ("", "."), ("/a/", "/a")]
        {
            assert_eq!(clean_path(path), expected, "{path}");
        }
    }
}
