//! Our own keys, `x-umiak-…`: to everybody else they are extensions that may hold anything, so what is wrong in one is
//! found here, where its place is known.

use super::Walk;
use crate::diagnostic::Diagnostic;
use crate::node::{Entry, Node};
use crate::suggest::nearest;

/// The keys of a service.
const KEYS: [&str; 2] = ["x-umiak-healthcheck", "x-umiak-on-unhealthy"];

impl Walk<'_> {
    /// Looks at the keys of the service at `path`.
    pub(super) fn own_keys(&mut self, service: &Node, path: &str) {
        for (key, entry) in service.as_map().into_iter().flatten() {
            match key.as_str() {
                "x-umiak-healthcheck" => {
                    if let Some(what) = not_a_check(&entry.node) {
                        self.wrong(entry, path, key, what);
                    }
                }
                "x-umiak-on-unhealthy" if entry.node.as_text() != Some("restart") => {
                    self.wrong(entry, path, key, "the only value is restart");
                }
                key if key.starts_with("x-umiak-") && !KEYS.contains(&key) => {
                    let message = format!("{path}.{key} is ignored: umiak has no such key");
                    let mut warning = Diagnostic::warning(message).at(self.sources.place(entry.key));
                    warning.help = nearest(key, KEYS).map(|key| format!("did you mean `{key}`?"));
                    self.findings.warnings.push(warning);
                }
                _ => {}
            }
        }
    }

    fn wrong(&mut self, entry: &Entry, path: &str, key: &str, what: &str) {
        let error = Diagnostic::error(format!("{path}.{key}: {what}"));
        self.findings.later.push(error.at(self.sources.place(entry.node.span)));
    }
}

/// What is wrong with a way to check, where it is not one and a text.
fn not_a_check(node: &Node) -> Option<&'static str> {
    let one = node.as_map().filter(|map| map.len() == 1).and_then(|map| map.iter().next());
    match one {
        Some((kind, _)) if !matches!(kind.as_str(), "http" | "tcp") => Some("only http and tcp can be checked"),
        Some((_, entry)) if entry.node.as_text().is_some() => None,
        _ => Some("{http: \":PORT/PATH\"} or {tcp: \":PORT\"} is expected"),
    }
}
