//! A YAML value with its place in the source: what all steps before `parse` work on.

use indexmap::IndexMap;

use super::diagnostic::{Diagnostic, Severity, Sources, Span};
use super::disk::Disk;

/// A value and where it stands.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    /// Where the value stands; for a collection, where it begins.
    pub span: Span,
    /// The value.
    pub value: Value,
    /// `!reset` or `!override`.
    pub edit: Option<Edit>,
    /// Was written in a short form that has been expanded.
    pub short: bool,
}

/// A resolved YAML value.
#[derive(Debug, Clone)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    Int(i128),
    Float(f64),
    Text(String),
    /// A date, perhaps with a time, as RFC 3339 has it.
    Date(String),
    List(Vec<Node>),
    Map(Map),
}

/// A mapping in file order.
pub(crate) type Map = IndexMap<String, Entry>;

/// One entry of a mapping.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    /// Where the key stands.
    pub key: Span,
    /// The value.
    pub node: Node,
}

/// What a local tag asks the merge to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Edit {
    /// Delete what earlier files gave, and this.
    Reset,
    /// Delete what earlier files gave, use this.
    Override,
}

impl Node {
    /// A node without tags.
    pub(crate) fn new(span: Span, value: Value) -> Self {
        Self { span, value, edit: None, short: false }
    }

    /// A text node.
    pub(crate) fn text(span: Span, text: impl Into<String>) -> Self {
        Self::new(span, Value::Text(text.into()))
    }

    /// A mapping node, its keys placed at `span` too.
    pub(crate) fn map<const N: usize>(span: Span, entries: [(&str, Node); N]) -> Self {
        let entries = entries.into_iter().map(|(key, node)| (key.to_owned(), Entry { key: span, node }));
        Self::new(span, Value::Map(entries.collect()))
    }

    /// The text, if it is text.
    pub(crate) fn as_text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The mapping, if it is one.
    pub(crate) fn as_map(&self) -> Option<&Map> {
        match &self.value {
            Value::Map(map) => Some(map),
            _ => None,
        }
    }

    /// The mapping, if it is one.
    pub(crate) fn as_map_mut(&mut self) -> Option<&mut Map> {
        match &mut self.value {
            Value::Map(map) => Some(map),
            _ => None,
        }
    }

    /// The list, if it is one.
    pub(crate) fn as_list(&self) -> Option<&[Node]> {
        match &self.value {
            Value::List(list) => Some(list),
            _ => None,
        }
    }

    /// The value of a key, if this is a mapping that has it.
    pub(crate) fn get(&self, key: &str) -> Option<&Node> {
        self.as_map()?.get(key).map(|entry| &entry.node)
    }

    /// Whether it is null.
    pub(crate) fn is_null(&self) -> bool {
        matches!(self.value, Value::Null)
    }

    /// The word for its type in messages.
    pub(crate) fn kind(&self) -> &'static str {
        match self.value {
            Value::Null => "null",
            Value::Bool(_) => "a boolean",
            Value::Int(_) | Value::Float(_) => "a number",
            Value::Text(_) => "a string",
            Value::Date(_) => "a date",
            Value::List(_) => "a list",
            Value::Map(_) => "a mapping",
        }
    }

    /// A scalar as text, numbers in the canonical notation; `None` for null, dates and collections: where a text is
    /// wanted, a date has to be quoted.
    pub(crate) fn scalar_text(&self) -> Option<String> {
        match &self.value {
            Value::Bool(value) => Some(value.to_string()),
            Value::Int(value) => Some(value.to_string()),
            Value::Float(value) => Some(super::scalar::format_float(*value)),
            Value::Text(text) => Some(text.clone()),
            Value::Null | Value::Date(_) | Value::List(_) | Value::Map(_) => None,
        }
    }

    /// Whether two values are the same, places aside.
    pub(crate) fn same(&self, other: &Self) -> bool {
        match (&self.value, &other.value) {
            (Value::List(a), Value::List(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.same(b)),
            (Value::Map(a), Value::Map(b)) => {
                a.len() == b.len()
                    && a.iter().all(|(key, entry)| b.get(key).is_some_and(|other| entry.node.same(&other.node)))
            }
            (Value::Null, Value::Null) => true,
            (Value::Date(a), Value::Date(b)) => a == b,
            (Value::List(_) | Value::Map(_) | Value::Null, _) | (_, Value::List(_) | Value::Map(_) | Value::Null) => {
                false
            }
            _ => self.kind() == other.kind() && self.scalar_text() == other.scalar_text(),
        }
    }

    /// The value as JSON.
    pub(crate) fn to_json(&self) -> serde_json::Value {
        match &self.value {
            Value::Null => serde_json::Value::Null,
            Value::Bool(value) => serde_json::Value::Bool(*value),
            Value::Int(value) => match i64::try_from(*value) {
                Ok(value) => value.into(),
                Err(_) => u64::try_from(*value).map_or(serde_json::Value::Null, Into::into),
            },
            Value::Float(value) => serde_json::Number::from_f64(*value).map_or(serde_json::Value::Null, Into::into),
            Value::Text(text) | Value::Date(text) => text.as_str().into(),
            Value::List(list) => list.iter().map(Self::to_json).collect(),
            Value::Map(map) => map.iter().map(|(key, entry)| (key.clone(), entry.node.to_json())).collect(),
        }
    }
}

/// Collects texts, and what is wrong with them while a step runs to its end.
#[derive(Debug, Default)]
pub(crate) struct Problems {
    /// Where the texts come from.
    pub disk: Disk,
    /// The texts.
    pub sources: Sources,
    /// Errors and warnings so far.
    pub found: Vec<Diagnostic>,
    /// Variables have not been replaced: what is wrong with a text that has some cannot be said.
    pub templates: bool,
    /// Ports that ranges have been expanded to.
    pub ports: usize,
    ignored: Option<Diagnostic>,
}

/// Ports of a project at most, ranges expanded: all there are, several times.
pub(crate) const MAX_PORTS: usize = 200_000;

/// Diagnostics at most.
const MAX_FOUND: usize = 1000;

impl Problems {
    /// Nothing is wrong yet. With `templates`, variables of the files are left as they are.
    pub(crate) fn new(disk: Disk, templates: bool) -> Self {
        Self { disk, templates, ..Self::default() }
    }

    /// Counts ports (and other short items, which are few), and whether there are too many.
    pub(crate) fn too_many_ports(&mut self, more: usize) -> bool {
        self.ports += more;
        self.ports > MAX_PORTS
    }

    /// Reports an error.
    pub(crate) fn error(&mut self, span: Span, message: impl Into<String>) -> &mut Diagnostic {
        // finding the place goes through the text
        let place = (!self.is_full(Severity::Error)).then(|| self.sources.place(span)).flatten();
        self.push(Diagnostic::error(message).at(place))
    }

    /// Reports a warning.
    pub(crate) fn warning(&mut self, span: Span, message: impl Into<String>) -> &mut Diagnostic {
        let place = (!self.is_full(Severity::Warning)).then(|| self.sources.place(span)).flatten();
        self.push(Diagnostic::warning(message).at(place))
    }

    /// Adds a diagnostic unless the very same is there already, and gives access to it.
    pub(crate) fn push(&mut self, diagnostic: Diagnostic) -> &mut Diagnostic {
        if self.templates && diagnostic.place.as_ref().is_some_and(|place| place.marked().contains('$')) {
            return self.ignored.insert(diagnostic);
        }
        let same = |other: &Diagnostic| {
            other.severity == diagnostic.severity
                && other.message == diagnostic.message
                && other.place == diagnostic.place
        };
        let known = self.found.iter().position(same);
        if known.is_none() && self.is_full(diagnostic.severity) {
            return self.ignored.insert(diagnostic);
        }
        let index = known.unwrap_or_else(|| {
            self.found.push(diagnostic);
            self.found.len() - 1
        });
        &mut self.found[index]
    }

    /// Whether there is no room for one more: nobody reads that many. The first error always has room.
    fn is_full(&self, severity: Severity) -> bool {
        self.found.len() >= MAX_FOUND && (severity == Severity::Warning || self.failed())
    }

    /// Whether an error was reported.
    pub(crate) fn failed(&self) -> bool {
        self.found.iter().any(|diagnostic| diagnostic.severity == Severity::Error)
    }
}
