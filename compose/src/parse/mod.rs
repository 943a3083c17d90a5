//! The merged tree to the typed model. Everything the schema says is checked here, each error at its place.

mod build;
mod deploy;
mod fields;
mod mounts;
mod network;
mod resources;
mod service;

use indexmap::IndexMap;

use super::diagnostic::Span;
use super::model::{Project, Service};
use super::node::{Node, Problems};
#[cfg(test)]
pub(crate) use fields::asked;
pub(crate) use fields::{Context, Fields};

/// Names of services, networks, volumes…: `[a-zA-Z0-9._-]+`.
fn is_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}

/// Reads a whole project. Errors go to `problems`; what is returned is complete only when there are none.
pub(crate) fn project(root: &Node, problems: &mut Problems) -> Project {
    Context::with(problems, |cx| match Fields::new(cx, root, "") {
        Some(top) => top.finish_with(|top| sections(cx, top)),
        None => Project::default(),
    })
}

fn sections<'c>(cx: &'c Context, top: &Fields<'_, 'c>) -> Project {
    for key in ["name", "version"] {
        top.text(key);
    }
    let named = Named { cx, top };
    Project {
        services: named.services(),
        networks: named.section("networks", resources::network),
        volumes: named.section("volumes", resources::volume),
        secrets: named.section("secrets", resources::secret),
        configs: named.section("configs", resources::config),
        models: named.section("models", resources::model),
        extensions: top.extensions(),
        ..Project::default()
    }
}

/// The sections whose entries have names.
struct Named<'t, 'a, 'c> {
    cx: &'c Context,
    top: &'t Fields<'a, 'c>,
}

impl<'a, 'c> Named<'_, 'a, 'c> {
    fn services(&self) -> IndexMap<String, Service> {
        self.section("services", |cx, name, node, key, path| {
            if node.is_null() {
                cx.error(key, format!("{path} must be a mapping"));
                return None;
            }
            service::service(cx, name, node, key, path)
        })
    }

    fn section<T>(
        &self,
        key: &'static str,
        read: impl Fn(&'c Context, &str, &'a Node, Span, &str) -> Option<T>,
    ) -> IndexMap<String, T> {
        if self.top.raw(key).is_some_and(Node::is_null) {
            let at = self.top.key_span(key).unwrap_or_default();
            self.cx.error(at, format!("{key} must be a mapping"));
            return IndexMap::new();
        }
        let read = |name: &str, node: &'a Node, span: Span, path: &str| {
            if !is_name(name) {
                let help = "use letters, digits, '.', '_' and '-'";
                self.cx.error_with_help(span, format!("{key} additional properties '{name}' not allowed"), help);
                return None;
            }
            read(self.cx, name, node, span, path)
        };
        self.top.named(key, read).into_iter().collect()
    }
}
