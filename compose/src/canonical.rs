//! Short forms to long forms, so that merging and parsing see one form only. What has the wrong type is left as it is:
//! `parse` reports it.

use std::collections::HashMap;

use super::diagnostic::Span;
use super::node::{Entry, MAX_PORTS, Map, Node, Problems, Value};
use super::short;

/// Keys whose list or mapping form means a mapping of texts.
pub(crate) const KEY_VALUES: [&str; 4] = ["environment", "labels", "annotations", "sysctls"];

/// Expands every short form in a file's tree.
pub(crate) fn canonicalise(root: &mut Node, problems: &mut Problems) {
    let Some(root) = root.as_map_mut() else { return };
    for (name, service) in entries(root, "services") {
        if let Some(map) = service.as_map_mut() {
            self::service(map, &format!("services.{name}"), problems);
        }
    }
    for section in ["networks", "volumes", "secrets", "configs"] {
        for (name, resource) in entries(root, section) {
            if let Some(map) = resource.as_map_mut() {
                let path = format!("{section}.{name}");
                external(map, &path, problems);
                // those of networks have an identity, so that the last of several counts
                if section != "networks" {
                    refuse_equal(map, "labels", &path, problems);
                }
                key_values(map, "labels");
            }
        }
    }
    for node in items(root, "include") {
        wrap_text(node, "path");
    }
}

fn service(map: &mut Map, path: &str, problems: &mut Problems) {
    for key in KEY_VALUES {
        key_values(map, key);
    }
    for key in ["dns", "dns_search", "tmpfs", "label_file"] {
        text_to_list(map, key);
    }
    for key in ["networks", "models", "depends_on"] {
        refuse_equal(map, key, path, problems);
    }
    for key in ["networks", "models"] {
        names_to_map(map, key, |span| Node::new(span, Value::Null));
    }
    names_to_map(map, "depends_on", |span| Node::map(span, [("condition", Node::text(span, "service_started"))]));
    if let Some(entry) = map.get_mut("extends") {
        wrap_text(&mut entry.node, "service");
    }
    if let Some(entry) = map.get_mut("build") {
        wrap_text(&mut entry.node, "context");
        if let Some(build) = entry.node.as_map_mut() {
            self::build(build, path, problems);
        }
    }
    text_to_list(map, "env_file");
    for node in items(map, "env_file") {
        wrap_text(node, "path");
    }
    for key in ["secrets", "configs"] {
        for node in items(map, key) {
            wrap_text(node, "source");
        }
    }
    hosts(map, path, problems);
    expand_list(map, "ports", path, problems, short::ports);
    expand_list(map, "volumes", path, problems, short::volume);
    expand_list(map, "devices", path, problems, short::device);
    if let Some(node) = map.get_mut("gpus").map(|entry| &mut entry.node)
        && node.as_text() == Some("all")
    {
        let request = Node::map(node.span, [("count", Node::text(node.span, "all"))]);
        node.value = Value::List(vec![request]);
    }
    if let Some(deploy) = map.get_mut("deploy").and_then(|entry| entry.node.as_map_mut()) {
        key_values(deploy, "labels");
    }
    if let Some(develop) = map.get_mut("develop").and_then(|entry| entry.node.as_map_mut()) {
        for watch in items(develop, "watch").filter_map(Node::as_map_mut) {
            text_to_list(watch, "ignore");
            text_to_list(watch, "include");
        }
    }
}

fn build(build: &mut Map, path: &str, problems: &mut Problems) {
    for key in ["args", "labels", "additional_contexts"] {
        key_values(build, key);
    }
    text_to_list(build, "no_cache_filter");
    for node in items(build, "secrets") {
        wrap_text(node, "source");
    }
    hosts(build, &format!("{path}.build"), problems);
    if let Some(node) = build.get_mut("ssh").map(|entry| &mut entry.node)
        && let Value::List(list) = &node.value
    {
        let mut map = Map::new();
        for item in list {
            let Some(text) = item.as_text() else { return };
            let (id, file) = match text.split_once('=') {
                Some((id, file)) => (id, Node::text(item.span, file)),
                None => (text, Node::new(item.span, Value::Null)),
            };
            if file.is_null() && id != "default" {
                problems.error(item.span, format!("{path}.build.ssh: invalid ssh key \"{text}\""));
            }
            map.insert(id.to_owned(), Entry { key: item.span, node: file });
        }
        node.value = Value::Map(map);
    }
}

/// The entries of a mapping below `key`.
fn entries<'a>(map: &'a mut Map, key: &str) -> impl Iterator<Item = (&'a String, &'a mut Node)> {
    let section = map.get_mut(key).and_then(|entry| entry.node.as_map_mut());
    section.into_iter().flatten().map(|(name, entry)| (name, &mut entry.node))
}

/// The items of a list below `key`.
fn items<'a>(map: &'a mut Map, key: &str) -> impl Iterator<Item = &'a mut Node> {
    let list = match map.get_mut(key).map(|entry| &mut entry.node.value) {
        Some(Value::List(list)) => Some(list),
        _ => None,
    };
    list.into_iter().flatten()
}

/// `text` becomes `{key: text}`.
fn wrap_text(node: &mut Node, key: &str) {
    if let Value::Text(text) = &mut node.value {
        let text = std::mem::take(text);
        node.value = Node::map(node.span, [(key, Node::text(node.span, text))]).value;
        node.short = true;
    }
}

/// `text` becomes `[text]`.
fn text_to_list(map: &mut Map, key: &str) {
    if let Some(node) = map.get_mut(key).map(|entry| &mut entry.node)
        && let Value::Text(text) = &mut node.value
    {
        let text = std::mem::take(text);
        node.value = Value::List(vec![Node::text(node.span, text)]);
        node.short = true;
    }
}

/// A list of names becomes a mapping of names.
fn names_to_map(map: &mut Map, key: &str, value: impl Fn(Span) -> Node) {
    if let Some(node) = map.get_mut(key).map(|entry| &mut entry.node)
        && let Value::List(list) = &node.value
        && list.iter().all(|item| item.as_text().is_some())
    {
        let names = list.iter().filter_map(|item| Some((item.as_text()?.to_owned(), item.span)));
        node.value = Value::Map(names.map(|(name, span)| (name, Entry { key: span, node: value(span) })).collect());
    }
}

/// A list of `KEY=value` and `KEY` becomes a mapping of texts and nulls.
fn key_values(map: &mut Map, key: &str) {
    if let Some(node) = map.get_mut(key).map(|entry| &mut entry.node)
        && let Value::List(list) = &node.value
        && list.iter().all(|item| item.as_text().is_some())
    {
        let mut values = Map::new();
        for item in list {
            let text = item.as_text().unwrap_or_default();
            let (name, value) = match text.split_once('=') {
                Some((name, value)) => (name, Node::text(item.span, value)),
                None => (text, Node::new(item.span, Value::Null)),
            };
            values.insert(name.to_owned(), Entry { key: item.span, node: value });
        }
        node.value = Value::Map(values);
        node.short = true;
    }
}

/// Reports texts that are in a list twice.
fn refuse_equal(map: &Map, key: &str, path: &str, problems: &mut Problems) {
    let Some(Value::List(list)) = map.get(key).map(|entry| &entry.node.value) else { return };
    let mut seen: HashMap<&str, usize> = HashMap::new();
    for (index, item) in list.iter().enumerate() {
        let Some(text) = item.as_text() else { continue };
        match seen.get(text) {
            Some(first) => {
                problems.error(item.span, format!("{path}.{key} items at {first} and {index} are equal"));
            }
            None => drop(seen.insert(text, index)),
        }
    }
}

/// `extra_hosts` becomes a list of `host=address`.
fn hosts(map: &mut Map, path: &str, problems: &mut Problems) {
    refuse_equal(map, "extra_hosts", path, problems);
    let Some(node) = map.get_mut("extra_hosts").map(|entry| &mut entry.node) else { return };
    let path = format!("{path}.extra_hosts");
    let Value::Map(hosts) = &node.value else { return };
    let mut list = Vec::new();
    for (host, entry) in hosts {
        let single = std::slice::from_ref(&entry.node);
        for address in entry.node.as_list().unwrap_or(single) {
            match address.as_text() {
                Some(text) => list.push(Node::text(address.span, format!("{host}={text}"))),
                None => drop(problems.error(address.span, format!("{path}.{host} must be a string"))),
            }
        }
    }
    node.value = Value::List(list);
}

/// Replaces the short items of a list by what `expand` makes of them.
fn expand_list(
    map: &mut Map,
    key: &str,
    path: &str,
    problems: &mut Problems,
    expand: fn(&str, Span) -> Result<Vec<Node>, String>,
) {
    let Some(Value::List(list)) = map.get_mut(key).map(|entry| &mut entry.node.value) else { return };
    let mut expanded = Vec::with_capacity(list.len());
    for (index, node) in std::mem::take(list).into_iter().enumerate() {
        let text = match &node.value {
            Value::Text(text) => Some(text.clone()),
            Value::Int(number) if key == "ports" => Some(number.to_string()),
            _ => None,
        };
        match text.map(|text| expand(&text, node.span)) {
            None => expanded.push(node),
            Some(Err(_)) if problems.templates && node.as_text().is_some_and(|text| text.contains('$')) => {
                expanded.push(node);
            }
            Some(Ok(nodes)) if problems.too_many_ports(nodes.len()) => {
                problems.error(node.span, format!("{path}.{key}: more than {MAX_PORTS} ports in this project"));
                return;
            }
            Some(Ok(nodes)) => expanded.extend(nodes.into_iter().map(|long| Node { short: true, ..long })),
            Some(Err(message)) => {
                problems.error(node.span, format!("{path}.{key}[{index}]: {message}"));
            }
        }
    }
    *list = expanded;
}

/// `external: {name: x}` becomes `external: true` and `name: x`.
fn external(map: &mut Map, path: &str, problems: &mut Problems) {
    let Some(node) = map.get_mut("external").map(|entry| &mut entry.node) else { return };
    let Value::Map(legacy) = &node.value else { return };
    let (span, name) = (node.span, legacy.get("name").cloned());
    for (key, entry) in legacy.iter().filter(|(key, _)| *key != "name" && !key.starts_with("x-")) {
        problems.error(entry.key, format!("{path}.external additional properties '{key}' not allowed"));
    }
    node.value = Value::Bool(true);
    let Some(name) = name else { return };
    problems.warning(span, format!("{path}: external.name is deprecated. Please set name and external: true"));
    match map.get("name") {
        Some(entry) if !entry.node.same(&name.node) => {
            problems.error(span, format!("{path}: name and external.name conflict; only use name"));
        }
        Some(_) => {}
        None => {
            map.insert("name".to_owned(), name);
        }
    }
}
