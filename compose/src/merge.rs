//! One file over another, both in long form: the rule per key, and lists whose entries have an identity.

use std::collections::HashMap;

use super::node::{Edit, Entry, Map, Node, Problems, Value};

/// What a later file does to an earlier one at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rule {
    /// Mappings are merged key by key, lists appended, the rest replaced.
    Deep,
    /// Replaced as a whole.
    Replace,
    /// Key by key, where null replaces too.
    KeyValues,
    /// Merged when the drivers are the same.
    Logging,
    /// Pools by subnet.
    Pools,
    /// Appended without what is there already.
    Hosts,
}

fn rule(path: &[&str]) -> Rule {
    match path {
        ["services", _, "command" | "entrypoint"]
        | ["services", _, "healthcheck", "test"]
        | ["services", _, "ulimits", _] => Rule::Replace,
        ["services", _, "environment" | "labels" | "annotations" | "sysctls"]
        | ["services", _, "build", "args" | "labels" | "additional_contexts"]
        | ["services", _, "deploy", "labels"]
        | ["networks" | "volumes", _, "labels"] => Rule::KeyValues,
        ["services", _, "extra_hosts"] | ["services", _, "build", "extra_hosts"] => Rule::Hosts,
        ["services", _, "logging"] => Rule::Logging,
        ["networks", _, "ipam", "config"] => Rule::Pools,
        _ => Rule::Deep,
    }
}

/// Puts `over` on top of `base`; both stand at `path`.
pub(crate) fn merge(base: &mut Node, over: Node, path: &[&str], problems: &mut Problems) {
    match rule(path) {
        Rule::Replace => *base = over,
        _ if over.is_null() => {}
        _ if base.is_null() => *base = over,
        Rule::Logging if drivers_differ(base, &over) => *base = over,
        Rule::KeyValues => merge_maps(base, over, path, problems, |base, over, _, _| *base = over),
        Rule::Pools => merge_pools(base, over, path, problems),
        Rule::Hosts => merge_hosts(base, over),
        Rule::Deep | Rule::Logging => match (&mut base.value, over.value) {
            (Value::Map(_), Value::Map(map)) => {
                let over = Node { value: Value::Map(map), ..Node::new(over.span, Value::Null) };
                merge_maps(base, over, path, problems, merge);
            }
            (Value::List(list), Value::List(more)) => {
                base.short = false;
                list.extend(more);
            }
            (Value::Map(_) | Value::List(_), value) => {
                let (what, is) = (base.kind(), Node::new(over.span, value));
                let message = format!("cannot override {}: it is {what}, this is {}", path.join("."), is.kind());
                let before = problems.sources.place(base.span);
                let error = problems.error(over.span, message);
                error.related.extend(before.map(|place| (place, "defined here".to_owned())));
            }
            (_, value) => *base = Node { value, edit: None, span: over.span, short: over.short },
        },
    }
}

fn merge_maps(
    base: &mut Node,
    over: Node,
    path: &[&str],
    problems: &mut Problems,
    each: fn(&mut Node, Node, &[&str], &mut Problems),
) {
    let (Some(_), Value::Map(more)) = (base.as_map(), over.value) else {
        let message = format!("cannot override {}", path.join("."));
        problems.error(over.span, message);
        return;
    };
    base.short = false;
    let Some(map) = base.as_map_mut() else { return };
    for (key, entry) in more {
        match map.get_mut(&key) {
            None => {
                map.insert(key, entry);
            }
            Some(old) => {
                let path: Vec<&str> = path.iter().copied().chain([key.as_str()]).collect();
                old.key = entry.key;
                each(&mut old.node, entry.node, &path, problems);
            }
        }
    }
}

fn drivers_differ(base: &Node, over: &Node) -> bool {
    match (base.get("driver"), over.get("driver")) {
        (Some(base), Some(over)) => !base.same(over),
        _ => false,
    }
}

fn merge_hosts(base: &mut Node, over: Node) {
    if let (Value::List(list), Value::List(more)) = (&mut base.value, over.value) {
        let known = list.len();
        for node in more {
            if !list[..known].iter().any(|old| old.same(&node)) {
                list.push(node);
            }
        }
    }
}

fn merge_pools(base: &mut Node, over: Node, path: &[&str], problems: &mut Problems) {
    let (Value::List(list), Value::List(more)) = (&mut base.value, over.value) else {
        problems.error(over.span, format!("cannot override {}", path.join(".")));
        return;
    };
    for pool in more {
        let subnet = |node: &Node| node.get("subnet").and_then(Node::scalar_text);
        match list.iter_mut().find(|old| subnet(old) == subnet(&pool)) {
            Some(old) => merge_maps(old, pool, path, problems, merge),
            None => list.push(pool),
        }
    }
}

/// A place in a tree, by keys.
pub(crate) type KeyPath = Vec<String>;

/// Takes the `!reset` and `!override` tags out of a tree: what is reset disappears, the rest stays. Returns the
/// places that earlier files lose.
pub(crate) fn take_edits(root: &mut Node) -> Vec<KeyPath> {
    let mut places = Vec::new();
    collect_edits(root, &mut Vec::new(), &mut places);
    places
}

fn collect_edits(node: &mut Node, path: &mut KeyPath, places: &mut Vec<KeyPath>) {
    match &mut node.value {
        Value::Map(map) => map.retain(|key, entry| {
            path.push(key.clone());
            match entry.node.edit.take() {
                Some(edit) => {
                    places.push(path.clone());
                    path.pop();
                    edit == Edit::Override
                }
                None => {
                    collect_edits(&mut entry.node, path, places);
                    path.pop();
                    true
                }
            }
        }),
        Value::List(list) => {
            list.retain(|item| item.edit != Some(Edit::Reset));
            // places inside lists name nothing in earlier files: entries have no stable position there
            list.iter_mut().for_each(|item| collect_edits(item, &mut Vec::new(), &mut Vec::new()));
        }
        _ => {}
    }
}

/// Deletes places from a tree.
pub(crate) fn delete(root: &mut Node, places: &[KeyPath]) {
    for place in places {
        let Some((last, parents)) = place.split_last() else { continue };
        let mut node = Some(&mut *root);
        for key in parents {
            node = node.and_then(|node| node.as_map_mut()?.get_mut(key).map(|entry| &mut entry.node));
        }
        if let Some(map) = node.and_then(Node::as_map_mut) {
            map.shift_remove(last);
        }
    }
}

/// In lists whose entries have an identity, keeps of equal ones the last, at the place of the first.
pub(crate) fn unify(root: &mut Node) {
    unify_at(root, &mut Vec::new());
}

fn unify_at(node: &mut Node, path: &mut KeyPath) {
    match &mut node.value {
        Value::Map(map) => {
            for (key, entry) in map.iter_mut() {
                path.push(key.clone());
                unify_at(&mut entry.node, path);
                path.pop();
            }
        }
        Value::List(list) => {
            let path: Vec<&str> = path.iter().map(String::as_str).collect();
            let Some(identity) = identity(&path) else { return };
            let mut places: HashMap<String, usize> = HashMap::new();
            let mut kept: Vec<Node> = Vec::with_capacity(list.len());
            for item in std::mem::take(list) {
                let place = identity(&item).map(|id| *places.entry(id).or_insert(kept.len()));
                match place.and_then(|place| kept.get_mut(place)) {
                    Some(old) => *old = item,
                    None => kept.push(item),
                }
            }
            *list = kept;
        }
        _ => {}
    }
}

type Identity = fn(&Node) -> Option<String>;

/// What makes two entries of the list at `path` the same thing.
fn identity(path: &[&str]) -> Option<Identity> {
    let ["services", _, rest @ ..] = path else { return None };
    match rest {
        ["cap_add" | "cap_drop" | "dns" | "dns_opt" | "dns_search" | "links" | "profiles" | "tmpfs"]
        | ["networks", _, "aliases" | "link_local_ips"]
        | ["build", "tags"] => Some(|node| Some(node.as_text()?.split('=').next().unwrap_or_default().to_owned())),
        ["expose"] => Some(Node::scalar_text),
        ["env_file"] => Some(|node| node.get("path")?.scalar_text()),
        ["volumes" | "devices"] => Some(|node| node.get("target")?.scalar_text()),
        ["secrets"] => Some(|node| mount_target(node, "/run/secrets")),
        ["configs"] => Some(|node| mount_target(node, "")),
        ["ports"] => Some(|node| {
            let part = |key: &str, default: &str| {
                node.get(key).and_then(Node::scalar_text).unwrap_or_else(|| default.to_owned())
            };
            let (host, published) = (part("host_ip", "0.0.0.0"), part("published", ""));
            Some(format!("{host}:{published}:{}/{}", part("target", ""), part("protocol", "tcp")))
        }),
        _ => None,
    }
}

fn mount_target(node: &Node, directory: &str) -> Option<String> {
    match node.get("target") {
        Some(target) => target.scalar_text(),
        None => Some(format!("{directory}/{}", node.get("source")?.scalar_text()?)),
    }
}

/// An empty tree to merge files onto.
pub(crate) fn empty() -> Node {
    Node::new(super::diagnostic::Span::default(), Value::Map(Map::new()))
}

/// Adds the entries of `section` of an included project to `target`; what both define is merged, `target` winning.
pub(crate) fn import(target: &mut Map, section: &str, source: Entry, edits: &[KeyPath], problems: &mut Problems) {
    let Some(entry) = target.get_mut(section).filter(|entry| !entry.node.is_null()) else {
        target.insert(section.to_owned(), source);
        return;
    };
    let (Some(own), Value::Map(imported)) = (entry.node.as_map_mut(), source.node.value) else { return };
    for (name, mut entry) in imported {
        if let Some(local) = own.shift_remove(&name) {
            let mut holder = Node::map(entry.node.span, [(name.as_str(), entry.node)]);
            let path = [section.to_owned()];
            let below = edits.iter().filter_map(|edit| Some(edit.strip_prefix(&path)?.to_vec()));
            delete(&mut holder, &below.collect::<Vec<_>>());
            let base = holder.as_map_mut().and_then(|map| map.shift_remove(&name));
            entry = match base {
                Some(mut base) => {
                    merge(&mut base.node, local.node, &[section, &name], problems);
                    Entry { key: local.key, node: base.node }
                }
                None => local,
            };
        }
        own.insert(name, entry);
    }
}
