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

/// The name that a container will have: one that takes another's place starts as `<old id>_<name>`.
pub fn lasting(name: &str) -> &str {
    match name.split_once('_') {
        Some((id, rest)) if id.len() == 12 && id.bytes().all(|byte| byte.is_ascii_hexdigit()) => rest,
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_name_of_the_meantime_gives_way_to_the_lasting_one() {
        assert_eq!(super::lasting("0123456789ab_demo-web-1"), "demo-web-1");
        assert_eq!(super::lasting("demo_web_1"), "demo_web_1");
    }
}
