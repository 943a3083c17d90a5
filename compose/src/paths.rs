//! Relative paths of a file's tree, made absolute from the directory that counts for that file.

use std::path::{Component, Path, PathBuf};

use super::node::{Entry, Map, Node, Value};

/// Makes every path in the long-form tree absolute.
pub(crate) fn resolve(root: &mut Node, base: &Path, home: Option<&Path>) {
    let paths = Paths { base, home };
    let Some(root) = root.as_map_mut() else { return };
    for service in each(root, "services") {
        paths.service(service);
    }
    for section in ["configs", "secrets"] {
        for map in each(root, section) {
            paths.at(map, "file");
        }
    }
    for volume in each(root, "volumes") {
        let is_local = volume.get("driver").is_some_and(|entry| entry.node.as_text() == Some("local"));
        let options = volume.get_mut("driver_opts").and_then(|entry| entry.node.as_map_mut());
        if let Some(options) = options.filter(|_| is_local)
            && options.get("o").is_some_and(|entry| entry.node.as_text() == Some("bind"))
        {
            paths.at(options, "device");
        }
    }
}

struct Paths<'a> {
    base: &'a Path,
    home: Option<&'a Path>,
}

impl Paths<'_> {
    fn service(&self, service: &mut Map) {
        if let Some(build) = service.get_mut("build").and_then(|entry| entry.node.as_map_mut()) {
            self.context(build.get_mut("context"));
            if let Some(contexts) = build.get_mut("additional_contexts").and_then(|entry| entry.node.as_map_mut()) {
                contexts.values_mut().for_each(|entry| self.context(Some(entry)));
            }
            if let Some(keys) = build.get_mut("ssh").and_then(|entry| entry.node.as_map_mut()) {
                keys.values_mut().for_each(|entry| self.node(&mut entry.node));
            }
        }
        if let Some(extends) = service.get_mut("extends").and_then(|entry| entry.node.as_map_mut()) {
            self.at(extends, "file");
        }
        for file in list(service, "env_file").filter_map(Node::as_map_mut) {
            self.at(file, "path");
        }
        for file in list(service, "label_file") {
            self.node(file);
        }
        for volume in list(service, "volumes").filter_map(Node::as_map_mut) {
            if volume.get("type").is_some_and(|entry| entry.node.as_text() == Some("bind")) {
                self.at(volume, "source");
            }
        }
        if let Some(develop) = service.get_mut("develop").and_then(|entry| entry.node.as_map_mut()) {
            for watch in list(develop, "watch").filter_map(Node::as_map_mut) {
                self.at(watch, "path");
            }
        }
    }

    fn at(&self, map: &mut Map, key: &str) {
        if let Some(entry) = map.get_mut(key) {
            self.node(&mut entry.node);
        }
    }

    fn node(&self, node: &mut Node) {
        if let Value::Text(text) = &mut node.value
            && !text.is_empty()
            && !is_windows_path(text)
        {
            // what is absolute already stays as it was written
            if !text.starts_with('/') {
                *text = absolute(self.base, text, self.home).to_string_lossy().into_owned();
            }
        }
    }

    /// A build context: a path unless it names something else.
    fn context(&self, entry: Option<&mut Entry>) {
        let Some(entry) = entry else { return };
        if entry.node.as_text().is_some_and(|text| !is_remote(text)) {
            self.node(&mut entry.node);
        }
    }
}

pub(crate) fn is_remote(context: &str) -> bool {
    const PREFIXES: [&str; 4] = ["git@", "github.com/", "service:", "oci-layout:"];
    context.contains("://") || PREFIXES.iter().any(|prefix| context.starts_with(prefix))
}

fn is_windows_path(text: &str) -> bool {
    let mut chars = text.chars();
    let drive = chars.next().is_some_and(|c| c.is_ascii_alphabetic()) && chars.next() == Some(':');
    text.starts_with("\\\\") || (drive && matches!(chars.next(), Some('\\' | '/')))
}

fn each<'a>(map: &'a mut Map, key: &str) -> impl Iterator<Item = &'a mut Map> {
    let section = map.get_mut(key).and_then(|entry| entry.node.as_map_mut());
    section.into_iter().flat_map(|map| map.values_mut()).filter_map(|entry| entry.node.as_map_mut())
}

fn list<'a>(map: &'a mut Map, key: &str) -> impl Iterator<Item = &'a mut Node> {
    let list = match map.get_mut(key).map(|entry| &mut entry.node.value) {
        Some(Value::List(list)) => Some(list),
        _ => None,
    };
    list.into_iter().flatten()
}

/// `path` from `base`, `~` expanded, without `.` and `..` parts.
pub(crate) fn absolute(base: &Path, path: &str, home: Option<&Path>) -> PathBuf {
    let path = match (path.strip_prefix('~'), home) {
        (Some(""), Some(home)) => home.to_path_buf(),
        // like Docker Compose, which does not know other users' homes
        (Some(rest), Some(home)) => home.join(rest.trim_start_matches('/')),
        _ => PathBuf::from(path),
    };
    clean(&base.join(path))
}

/// A path without `.` and `..` parts; links are not followed.
pub(crate) fn clean(path: &Path) -> PathBuf {
    let mut result = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => {
                result.pop();
            }
            component => result.push(component),
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_become_absolute() {
        let home = Some(Path::new("/home/me"));
        for (path, expected) in [
            ("a", "/base/a"),
            ("./a/../b", "/base/b"),
            ("..", "/"),
            ("/x", "/x"),
            ("~", "/home/me"),
            ("~/x", "/home/me/x"),
            ("~x", "/home/me/x"),
        ] {
            assert_eq!(absolute(Path::new("/base"), path, home), Path::new(expected), "{path}");
        }
    }
}
