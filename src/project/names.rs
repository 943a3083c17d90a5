//! Names of a project's containers.

use umiak_compose::{Project, Service};

/// `<project>-<service>-<number>`, or the fixed `container_name`.
pub fn container(project: &Project, service: &Service, number: u32) -> String {
    service.container_name.clone().unwrap_or_else(|| format!("{}-{}-{number}", project.name, service.name))
}

/// A container's name as logs show it: without the project in front.
pub fn in_logs<'a>(project: &str, name: &'a str) -> &'a str {
    name.strip_prefix(project).and_then(|rest| rest.strip_prefix('-')).unwrap_or(name)
}
