//! Reading a mapping key by key: each accessor checks the type, reports what is wrong at its place, and remembers the
//! key; what nobody asked for is an unknown key.

use std::cell::RefCell;
use std::collections::HashMap;
use std::time::Duration;

use crate::diagnostic::Span;
use crate::model::{Extensions, TextMap};
use crate::node::{Map, Node, Problems, Value};
use crate::suggest::nearest;
use crate::units::{parse_bytes, parse_duration};

/// What the parser reports to.
#[derive(Default)]
pub(crate) struct Context {
    problems: RefCell<Problems>,
}

impl Context {
    /// Runs `read`; what it reports goes to `problems`.
    pub(crate) fn with<T>(problems: &mut Problems, read: impl FnOnce(&Self) -> T) -> T {
        let cx = Self { problems: RefCell::new(std::mem::take(problems)) };
        let result = read(&cx);
        *problems = cx.problems.into_inner();
        result
    }

    pub(crate) fn error(&self, span: Span, message: impl Into<String>) {
        self.problems.borrow_mut().error(span, message);
    }

    /// An error about a value's type.
    fn mistyped(&self, node: &Node, message: String) {
        match node.value {
            Value::Date(_) => self.error_with_help(node.span, message, "a date that is meant as text stands in quotes"),
            _ => self.error(node.span, message),
        }
    }

    pub(crate) fn error_with_help(&self, span: Span, message: impl Into<String>, help: impl Into<String>) {
        self.problems.borrow_mut().error(span, message).help = Some(help.into());
    }

    pub(crate) fn warning(&self, span: Span, message: impl Into<String>) {
        self.problems.borrow_mut().warning(span, message);
    }
}

/// A mapping being read.
pub(crate) struct Fields<'a, 'c> {
    pub(crate) cx: &'c Context,
    map: &'a Map,
    path: String,
    known: RefCell<Vec<&'static str>>,
}

impl<'a, 'c> Fields<'a, 'c> {
    /// Starts reading; `None`, with an error, when the node is no mapping.
    pub(crate) fn new(cx: &'c Context, node: &'a Node, path: &str) -> Option<Self> {
        let Value::Map(map) = &node.value else {
            cx.error(node.span, format!("{path} must be a mapping"));
            return None;
        };
        Some(Self { cx, map, path: path.to_owned(), known: RefCell::default() })
    }

    /// The path of a key, for messages.
    pub(crate) fn path(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// The value of a key, null or not.
    pub(crate) fn raw(&self, key: &'static str) -> Option<&'a Node> {
        self.known.borrow_mut().push(key);
        self.map.get(key).map(|entry| &entry.node)
    }

    /// Where a key stands.
    pub(crate) fn key_span(&self, key: &str) -> Option<Span> {
        self.map.get(key).map(|entry| entry.key)
    }

    fn wrong(&self, key: &str, node: &Node, expected: &str) {
        let message = format!("{} must be {expected}", self.path(key));
        match self.key_span(key).filter(|_| node.is_null()) {
            Some(span) => self.cx.error(span, message),
            None => self.cx.mistyped(node, message),
        }
    }

    /// Text; numbers and booleans are errors.
    pub(crate) fn text(&self, key: &'static str) -> Option<String> {
        let node = self.raw(key)?;
        let text = node.as_text().map(str::to_owned);
        if text.is_none() {
            self.wrong(key, node, "a string");
        }
        text
    }

    /// Text that counts as not given when empty.
    pub(crate) fn word(&self, key: &'static str) -> Option<String> {
        self.text(key).filter(|text| !text.is_empty())
    }

    /// Text, a number or a boolean, as text.
    pub(crate) fn scalar(&self, key: &'static str) -> Option<String> {
        let node = self.raw(key)?;
        let text = node.scalar_text();
        if text.is_none() {
            self.wrong(key, node, "a string or number");
        }
        text
    }

    /// A boolean, or text that means one.
    pub(crate) fn bool(&self, key: &'static str) -> Option<bool> {
        let node = self.raw(key)?;
        let text = match &node.value {
            Value::Bool(value) => return Some(*value),
            Value::Text(text) => text,
            _ => {
                self.wrong(key, node, "a boolean or string");
                return None;
            }
        };
        let value = match text.to_ascii_lowercase().as_str() {
            "true" => return Some(true),
            "false" => return Some(false),
            "y" | "yes" | "on" => true,
            "n" | "no" | "off" => false,
            _ => {
                self.cx.error(node.span, format!("{}: invalid boolean: {text}", self.path(key)));
                return None;
            }
        };
        let message = format!("\"{text}\" for boolean is not supported by YAML 1.2, please use `{value}`");
        self.cx.warning(node.span, message);
        Some(value)
    }

    /// A boolean that cannot be written as text; false when not given.
    pub(crate) fn plain_flag(&self, key: &'static str) -> bool {
        self.plain_bool(key).unwrap_or(false)
    }

    /// A boolean that cannot be written as text.
    pub(crate) fn plain_bool(&self, key: &'static str) -> Option<bool> {
        let node = self.raw(key)?;
        match node.value {
            Value::Bool(value) => Some(value),
            _ => {
                self.wrong(key, node, "a boolean");
                None
            }
        }
    }

    /// A whole number that cannot be written as text.
    pub(crate) fn plain_int(&self, key: &'static str) -> Option<i64> {
        let node = self.raw(key)?;
        if matches!(node.value, Value::Text(_)) {
            self.wrong(key, node, "a number");
            return None;
        }
        self.int(key)
    }

    /// A size in text with a unit; a bare number is an error.
    pub(crate) fn text_bytes(&self, key: &'static str) -> Option<i64> {
        let node = self.raw(key)?;
        if matches!(node.value, Value::Int(_) | Value::Float(_)) {
            self.wrong(key, node, "a string");
            return None;
        }
        self.bytes(key)
    }

    /// A flag: a boolean, false when not given.
    pub(crate) fn flag(&self, key: &'static str) -> bool {
        self.bool(key).unwrap_or(false)
    }

    /// A whole number, or text that is one.
    pub(crate) fn int(&self, key: &'static str) -> Option<i64> {
        let node = self.raw(key)?;
        let value = match &node.value {
            Value::Int(value) => i64::try_from(*value).ok(),
            Value::Float(value) => whole(*value),
            Value::Text(text) => text.parse().ok(),
            _ => None,
        };
        if value.is_none() {
            self.wrong(key, node, "an integer");
        }
        value
    }

    /// A whole number within the limits of `T`.
    pub(crate) fn number<T: TryFrom<i64>>(&self, key: &'static str) -> Option<T> {
        let value = self.int(key)?;
        let number = T::try_from(value).ok();
        if number.is_none() {
            let span = self.raw(key)?.span;
            let what = if value < 0 { "must be greater than or equal to 0" } else { "is too large" };
            self.cx.error(span, format!("{} {what}", self.path(key)));
        }
        number
    }

    /// A whole number within the limits of `T` that cannot be written as text.
    pub(crate) fn plain_number<T: TryFrom<i64>>(&self, key: &'static str) -> Option<T> {
        self.plain_int(key)?;
        self.number(key)
    }

    /// A number, or text that is one.
    pub(crate) fn float(&self, key: &'static str) -> Option<f64> {
        let node = self.raw(key)?;
        let value = match &node.value {
            Value::Int(value) => value.to_string().parse().ok(),
            Value::Float(value) => Some(*value),
            Value::Text(text) => text.trim().parse().ok(),
            _ => None,
        };
        // single precision, as Compose has it, in its shortest notation
        let value = value.filter(|value: &f64| value.is_finite()).map(single);
        if value.is_none() {
            self.wrong(key, node, "a number");
        }
        value
    }

    /// A size: bytes, or text with a unit.
    pub(crate) fn bytes(&self, key: &'static str) -> Option<i64> {
        let node = self.raw(key)?;
        let value = match &node.value {
            Value::Int(value) => i64::try_from(*value).ok(),
            Value::Float(value) => whole(*value),
            Value::Text(text) => parse_bytes(text).filter(|bytes| *bytes >= 0),
            _ => {
                self.wrong(key, node, "a number or string");
                return None;
            }
        };
        if value.is_none() {
            let text = node.scalar_text().unwrap_or_default();
            let help = "write a number with a unit: 512k, 64m, 1.5g";
            self.cx.error_with_help(node.span, format!("{}: invalid size: '{text}'", self.path(key)), help);
        }
        value
    }

    /// A duration in Go's notation.
    pub(crate) fn duration(&self, key: &'static str) -> Option<Duration> {
        let text = self.text(key)?;
        match parse_duration(&text) {
            Ok(duration) => Some(duration),
            Err(message) => {
                let help = "write a number with a unit: 300ms, 10s, 1m30s";
                self.cx.error_with_help(self.raw(key)?.span, format!("{}: {message}", self.path(key)), help);
                None
            }
        }
    }

    /// One of the given words.
    pub(crate) fn one_of<T: Clone>(&self, key: &'static str, choices: &[(&str, T)]) -> Option<T> {
        let text = self.text(key)?;
        let found = choices.iter().find(|(word, _)| *word == text).map(|(_, value)| value.clone());
        if found.is_none() {
            let words: Vec<String> = choices.iter().map(|(word, _)| format!("'{word}'")).collect();
            let message = format!("{} must be one of {}", self.path(key), words.join(", "));
            let span = self.raw(key)?.span;
            match nearest(&text, choices.iter().map(|(word, _)| *word)) {
                Some(nearest) => self.cx.error_with_help(span, message, format!("did you mean `{nearest}`?")),
                None => self.cx.error(span, message),
            }
        }
        found
    }

    /// A list, each item read by `read` with its path.
    pub(crate) fn list<T>(&self, key: &'static str, read: impl Fn(&'a Node, &str) -> Option<T>) -> Vec<T> {
        let Some(node) = self.raw(key) else { return Vec::new() };
        let Value::List(list) = &node.value else {
            self.wrong(key, node, "a list");
            return Vec::new();
        };
        let path = self.path(key);
        list.iter().enumerate().filter_map(|(index, node)| read(node, &format!("{path}[{index}]"))).collect()
    }

    /// A list of texts.
    pub(crate) fn texts(&self, key: &'static str) -> Vec<String> {
        self.list(key, |node, path| {
            let text = node.as_text().map(str::to_owned);
            if text.is_none() {
                self.cx.mistyped(node, format!("{path} must be a string"));
            }
            text
        })
    }

    /// A list of texts without equal ones.
    pub(crate) fn unique_texts(&self, key: &'static str) -> Vec<String> {
        self.unique(key, self.texts(key))
    }

    /// A list of texts and whole numbers without equal ones, as texts.
    pub(crate) fn unique_scalars(&self, key: &'static str) -> Vec<String> {
        let list = self.list(key, |node, path| match node.value {
            Value::Text(_) | Value::Int(_) => node.scalar_text(),
            _ => {
                self.cx.error(node.span, format!("{path} must be a string or number"));
                None
            }
        });
        self.unique(key, list)
    }

    fn unique(&self, key: &'static str, list: Vec<String>) -> Vec<String> {
        let mut seen: HashMap<(bool, &str), usize> = HashMap::new();
        let node = |index: usize| self.raw(key).and_then(|node| node.as_list()?.get(index));
        for (index, item) in list.iter().enumerate() {
            // 1 and "1" are two things
            let is_text = node(index).is_some_and(|node| node.as_text().is_some());
            let first = *seen.entry((is_text, item)).or_insert(index);
            if first != index {
                let span = node(index).map(|node| node.span).unwrap_or_default();
                let path = self.path(key);
                self.cx.error(span, format!("{path} items at {first} and {index} are equal"));
            }
        }
        list
    }

    /// A text or a list of different texts.
    pub(crate) fn text_or_texts(&self, key: &'static str) -> Vec<String> {
        match self.raw(key).map(|node| &node.value) {
            Some(Value::Text(text)) => vec![text.clone()],
            _ => self.unique_texts(key),
        }
    }

    /// A mapping of scalars, or a list of `KEY=value`; what has no value stays `None`.
    pub(crate) fn key_values(&self, key: &'static str) -> Vec<(String, Option<String>)> {
        let Some(node) = self.raw(key) else { return Vec::new() };
        let (path, mut result) = (self.path(key), Vec::new());
        match &node.value {
            Value::Map(map) => {
                for (name, entry) in map {
                    // in a list, `=value` is one
                    if name.is_empty() && !node.short {
                        self.cx.error(entry.key, format!("{path} additional properties '' not allowed"));
                    }
                    let text = entry.node.scalar_text();
                    if text.is_none() && !entry.node.is_null() {
                        let message = format!("{path}.{name} must be a boolean, null, number or string");
                        self.cx.mistyped(&entry.node, message);
                    }
                    result.push((name.clone(), text));
                }
            }
            Value::List(_) => {
                for text in self.unique_texts(key) {
                    let (name, value) = text.split_once('=').map_or((text.as_str(), None), |(n, v)| (n, Some(v)));
                    result.push((name.to_owned(), value.map(str::to_owned)));
                }
            }
            _ => self.wrong(key, node, "a mapping"),
        }
        result
    }

    /// A mapping of texts; what has no value is empty.
    pub(crate) fn text_map(&self, key: &'static str) -> TextMap {
        self.key_values(key).into_iter().map(|(name, value)| (name, value.unwrap_or_default())).collect()
    }

    /// A mapping of texts to what `is_option` takes, named by `expected`; null is empty.
    pub(crate) fn options(&self, key: &'static str, expected: &str, is_option: fn(&Value) -> bool) -> TextMap {
        let read = |_: &str, node: &Node, _: Span, path: &str| {
            if !is_option(&node.value) {
                self.cx.mistyped(node, format!("{path} must be {expected}"));
            }
            Some(node.scalar_text().unwrap_or_default())
        };
        self.named(key, read).into_iter().collect()
    }

    /// Options of a driver: texts and numbers.
    pub(crate) fn driver_options(&self, key: &'static str) -> TextMap {
        self.options(key, "a number or string", |value| {
            matches!(value, Value::Text(_) | Value::Int(_) | Value::Float(_))
        })
    }

    /// A mapping read by `read`; null counts as not given where `read` has nothing required.
    pub(crate) fn object<T>(&self, key: &'static str, read: impl FnOnce(&Fields<'a, 'c>) -> T) -> Option<T> {
        let node = self.raw(key)?;
        Fields::new(self.cx, node, &self.path(key)).map(|fields| fields.finish_with(read))
    }

    /// A mapping of named things: each entry read by `read` with name, value, key's place and path.
    pub(crate) fn named<T>(
        &self,
        key: &'static str,
        read: impl Fn(&str, &'a Node, Span, &str) -> Option<T>,
    ) -> Vec<(String, T)> {
        let Some(node) = self.raw(key) else { return Vec::new() };
        let Value::Map(map) = &node.value else {
            self.wrong(key, node, "a mapping");
            return Vec::new();
        };
        let path = self.path(key);
        let read = |(name, entry): (&String, &'a crate::node::Entry)| {
            Some((name.clone(), read(name, &entry.node, entry.key, &format!("{path}.{name}"))?))
        };
        map.iter().filter_map(read).collect()
    }

    /// Reads with `read`, then reports unknown keys.
    pub(crate) fn finish_with<T>(&self, read: impl FnOnce(&Self) -> T) -> T {
        let result = read(self);
        self.report_unknown();
        result
    }

    /// The `x-…` keys.
    pub(crate) fn extensions(&self) -> Extensions {
        let extensions = self.map.iter().filter(|(key, _)| key.starts_with("x-"));
        extensions.map(|(key, entry)| (key.clone(), entry.node.to_json())).collect()
    }

    fn report_unknown(&self) {
        let known = self.known.borrow();
        #[cfg(test)]
        asked::remember(&self.path, &known);
        for (key, entry) in self.map {
            if key.starts_with("x-") || known.contains(&key.as_str()) {
                continue;
            }
            let place = if self.path.is_empty() { String::new() } else { format!("{} ", self.path) };
            let message = format!("{place}additional properties '{key}' not allowed");
            match nearest(key, known.iter().copied()) {
                Some(nearest) => self.cx.error_with_help(entry.key, message, format!("did you mean `{nearest}`?")),
                None => self.cx.error(entry.key, message),
            }
        }
    }

    /// Reports that a required key is missing.
    pub(crate) fn missing(&self, at: Span, key: &str) {
        self.cx.error(at, format!("{} missing property '{key}'", self.path));
    }
}

/// A float that is a whole number.
fn whole(value: f64) -> Option<i64> {
    // exact: whole numbers below 2^53
    #[allow(clippy::cast_possible_truncation)]
    (value.fract() == 0.0 && value.abs() < 9e15).then_some(value as i64)
}

fn single(value: f64) -> f64 {
    // the loss of precision is what is wanted
    #[allow(clippy::cast_possible_truncation)]
    let single = value as f32;
    single.to_string().parse().unwrap_or(value)
}

/// What the parser asked for, for the tests that hold other lists of keys to it.
#[cfg(test)]
pub(crate) mod asked {
    use std::cell::RefCell;
    use std::collections::BTreeSet;

    thread_local! {
        static KEYS: RefCell<BTreeSet<(String, &'static str)>> = const { RefCell::new(BTreeSet::new()) };
    }

    pub(super) fn remember(path: &str, keys: &[&'static str]) {
        KEYS.with_borrow_mut(|all| all.extend(keys.iter().map(|key| (path.to_owned(), *key))));
    }

    /// Every key asked for in this thread since the last call, with the path of its mapping.
    pub(crate) fn take() -> BTreeSet<(String, &'static str)> {
        KEYS.take()
    }
}
