//! Names of a project's containers.

use std::sync::OnceLock;

use umiak_compose::{Project, Service};

static SEPARATOR: OnceLock<char> = OnceLock::new();

/// Names with `_`, as the first Docker Compose made them (`--compatibility`).
pub fn use_underscores() {
    let _ = SEPARATOR.set('_');
}

/// What stands between the parts of a name.
fn separator() -> char {
    SEPARATOR.get().copied().unwrap_or('-')
}

/// Parts joined to a name.
pub fn joined(parts: &[&str]) -> String {
    parts.join(separator().encode_utf8(&mut [0; 4]))
}

/// `<project>-<service>-<number>`, or the fixed `container_name`.
pub fn container(project: &Project, service: &Service, number: u32) -> String {
    service.container_name.clone().unwrap_or_else(|| joined(&[&project.name, &service.name, &number.to_string()]))
}

/// A container's name as logs show it: without the project in front.
pub fn in_logs<'a>(project: &str, name: &'a str) -> &'a str {
    name.strip_prefix(project).and_then(|rest| rest.strip_prefix(['-', '_'])).unwrap_or(name)
}
