//! A project before its variables are replaced: a tree instead of a model, for `config --no-interpolate` and
//! `config --variables`.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::canonical::KEY_VALUES;
use super::diagnostic::Diagnostic;
use super::interpolate::Environment;
use super::load::Skip;
use super::node::{Node, Value as NodeValue};
use super::template::uses;

/// A project's files merged to one tree, variables as they were written.
#[derive(Debug, Clone)]
pub struct RawProject {
    /// Project name.
    pub name: String,
    /// The tree in long form.
    pub tree: Value,
    /// What would replace variables.
    pub environment: BTreeMap<String, String>,
    /// What should be said once about these files.
    pub warnings: Vec<Diagnostic>,
}

/// A variable that the files use, as scripts read it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Variable {
    /// Name.
    pub name: String,
    /// What stands for it when it is not set.
    pub default_value: String,
    /// What stands for it when it is set.
    pub presence_value: String,
    /// Loading fails without it.
    pub required: bool,
}

impl RawProject {
    /// The variables of all texts, by name; of several uses the last counts.
    pub fn variables(&self) -> BTreeMap<String, Variable> {
        let mut found = BTreeMap::new();
        variables(&self.tree, &mut found);
        found
    }
}

fn variables(value: &Value, found: &mut BTreeMap<String, Variable>) {
    match value {
        Value::String(text) => {
            for used in uses(text) {
                let operand = |operator: char| match used.operator {
                    Some(own) if own == operator => used.operand.to_owned(),
                    _ => String::new(),
                };
                let variable = Variable {
                    name: used.name.to_owned(),
                    default_value: operand('-'),
                    presence_value: operand('+'),
                    required: used.operator == Some('?'),
                };
                found.insert(variable.name.clone(), variable);
            }
        }
        Value::Array(list) => list.iter().for_each(|value| variables(value, found)),
        Value::Object(map) => map.values().for_each(|value| variables(value, found)),
        _ => {}
    }
}

/// The tree as data, with what it means unsaid unless that is skipped.
pub(crate) fn project(tree: &Node, name: &str, environment: Environment, skip: Skip) -> RawProject {
    let mut tree = value(tree, "");
    if let Some(top) = tree.as_object_mut().filter(|_| !skip.normalization) {
        top.insert("name".to_owned(), name.into());
        normalise(top, name, &environment);
    }
    RawProject { name: name.to_owned(), tree, environment, warnings: Vec::new() }
}

/// A node as data; what merging alone made long is short again.
fn value(node: &Node, key: &str) -> Value {
    match &node.value {
        NodeValue::Map(map) if node.short && (KEY_VALUES.contains(&key) || key == "args") => {
            let item = |(name, entry): (&String, &super::node::Entry)| match entry.node.as_text() {
                Some(text) => format!("{name}={text}").into(),
                None => Value::from(name.as_str()),
            };
            map.iter().map(item).collect()
        }
        NodeValue::Map(map) => {
            let entries = map.iter().filter(|(key, _)| !key.starts_with('#'));
            Value::Object(entries.map(|(key, entry)| (key.clone(), value(&entry.node, key))).collect())
        }
        NodeValue::List(list) if node.short && matches!(key, "tmpfs" | "dns_search") && list.len() == 1 => {
            list.first().map(|item| value(item, "")).unwrap_or_default()
        }
        NodeValue::List(list) => list.iter().map(|item| value(item, "")).collect(),
        _ => node.to_json(),
    }
}

/// The default network, names, implied dependencies and defaults, as the model has them.
fn normalise(top: &mut Map<String, Value>, project: &str, environment: &Environment) {
    let mut default = false;
    for service in each(top, "services") {
        let joined = service.get("networks").is_some_and(|networks| !is_empty(networks));
        if !joined && !service.contains_key("network_mode") && !service.contains_key("provider") {
            service.insert("networks".to_owned(), json!({"default": null}));
        }
        default |= service.get("networks").is_some_and(|networks| networks.get("default").is_some());
        normalise_service(service, environment);
    }
    if default {
        let networks = top.entry("networks").or_insert_with(|| json!({}));
        if let Some(networks) = networks.as_object_mut() {
            networks.entry("default").or_insert_with(|| json!({}));
        }
    }
    for section in ["networks", "volumes", "configs", "secrets"] {
        let Some(entries) = top.get_mut(section).and_then(Value::as_object_mut) else { continue };
        for (key, entry) in entries {
            if entry.is_null() {
                *entry = json!({});
            }
            let Some(entry) = entry.as_object_mut().filter(|entry| !entry.contains_key("name")) else { continue };
            let external = entry.get("external").is_some_and(|external| *external == json!(true));
            let name = if external { key.clone() } else { format!("{project}_{key}") };
            entry.insert("name".to_owned(), name.into());
        }
    }
}

fn normalise_service(service: &mut Map<String, Value>, environment: &Environment) {
    for secret in service.get_mut("secrets").and_then(Value::as_array_mut).into_iter().flatten() {
        let Some(secret) = secret.as_object_mut().filter(|secret| !secret.contains_key("target")) else { continue };
        let target = secret.get("source").and_then(Value::as_str).map(|source| format!("/run/secrets/{source}"));
        secret.extend(target.map(|target| ("target".to_owned(), target.into())));
    }
    if let Some(build) = service.get_mut("build").and_then(Value::as_object_mut)
        && !build.contains_key("dockerfile_inline")
    {
        build.entry("dockerfile").or_insert_with(|| "Dockerfile".into());
    }
    let build = service.get_mut("build").and_then(Value::as_object_mut);
    if let Some(args) = build.and_then(|build| build.get_mut("args")).and_then(Value::as_object_mut) {
        // an argument without a value is that of the environment, or not given at all
        for (name, value) in args.iter_mut().filter(|(_, value)| value.is_null()) {
            *value = environment.get(name).map_or(Value::Null, |value| value.as_str().into());
        }
        args.retain(|_, value| !value.is_null());
    }
    let implied = implied(service);
    if !implied.is_empty() {
        let dependencies = service.entry("depends_on").or_insert_with(|| json!({}));
        for (name, restart) in implied {
            let mut dependency = json!({"condition": "service_started", "required": true});
            if restart {
                dependency["restart"] = true.into();
            }
            if let Some(dependencies) = dependencies.as_object_mut() {
                dependencies.entry(name).or_insert(dependency);
            }
        }
    }
    for dependency in service.get_mut("depends_on").and_then(Value::as_object_mut).into_iter().flatten() {
        if let Some(dependency) = dependency.1.as_object_mut() {
            dependency.entry("required").or_insert(true.into());
        }
    }
    for file in service.get_mut("env_file").and_then(Value::as_array_mut).into_iter().flatten() {
        if let Some(file) = file.as_object_mut() {
            file.entry("required").or_insert(true.into());
        }
    }
}

/// Services that others refer to, and whether a restart concerns them.
fn implied(service: &Map<String, Value>) -> BTreeSet<(String, bool)> {
    let mut found = BTreeSet::new();
    let texts = |key: &str| service.get(key).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    let first = |text: &str| text.split(':').next().unwrap_or(text).to_owned();
    found.extend(texts("links").map(|link| (first(link), true)));
    for key in ["network_mode", "ipc", "pid", "uts", "cgroup"] {
        let mode = service.get(key).and_then(Value::as_str);
        found.extend(mode.and_then(|mode| mode.strip_prefix("service:")).map(|name| (name.to_owned(), true)));
    }
    let sources = texts("volumes_from").filter(|source| !source.starts_with("container:"));
    found.extend(sources.map(|source| (first(source), false)));
    found
}

fn each<'a>(map: &'a mut Map<String, Value>, key: &str) -> impl Iterator<Item = &'a mut Map<String, Value>> {
    let section = map.get_mut(key).and_then(Value::as_object_mut);
    section.into_iter().flat_map(|map| map.values_mut()).filter_map(Value::as_object_mut)
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(map) => map.is_empty(),
        Value::Array(list) => list.is_empty(),
        _ => false,
    }
}
