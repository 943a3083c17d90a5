//! Which files make up the project.

use std::path::{Path, PathBuf};

use super::diagnostic::Diagnostic;
use super::node::Problems;

const FILES: [&str; 4] = ["compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml"];
const OVERRIDES: [&str; 4] =
    ["compose.override.yml", "compose.override.yaml", "docker-compose.override.yml", "docker-compose.override.yaml"];

/// The project's file in `start` or the nearest directory above, with its override file; empty when there is none.
pub(crate) fn discover(start: &Path, problems: &mut Problems) -> Vec<PathBuf> {
    for directory in start.ancestors() {
        let present = |names: &[&str]| -> Vec<PathBuf> {
            names.iter().map(|name| directory.join(name)).filter(|path| problems.disk.exists(path)).collect()
        };
        let found = present(&FILES);
        let Some(first) = found.first() else { continue };
        warn_about_several(&found, "config", &mut problems.found);
        let overrides = present(&OVERRIDES);
        warn_about_several(&overrides, "override", &mut problems.found);
        return std::iter::once(first.clone()).chain(overrides.into_iter().next()).collect();
    }
    Vec::new()
}

fn warn_about_several(found: &[PathBuf], kind: &str, warnings: &mut Vec<Diagnostic>) {
    if let [first, _, ..] = found {
        let names: Vec<String> = found.iter().map(|path| path.display().to_string()).collect();
        let message = format!("Found multiple {kind} files with supported names: {}", names.join(", "));
        warnings.push(Diagnostic::warning(message));
        warnings.push(Diagnostic::warning(format!("Using {}", first.display())));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn touch(directory: &Path, names: &[&str]) {
        for name in names {
            std::fs::write(directory.join(name), "").unwrap();
        }
    }

    #[test]
    fn finds_up_the_tree_and_takes_one_override() {
        let root = tempfile::tempdir().unwrap();
        let below = root.path().join("a/b");
        std::fs::create_dir_all(&below).unwrap();
        let mut problems = Problems::default();
        touch(root.path(), &["docker-compose.yml", "docker-compose.override.yml"]);
        let found = discover(&below, &mut problems);
        assert_eq!(found, [root.path().join("docker-compose.yml"), root.path().join("docker-compose.override.yml")]);
        assert!(problems.found.is_empty());
        touch(&below, &["compose.yaml", "docker-compose.yaml"]);
        assert_eq!(discover(&below, &mut problems), [below.join("compose.yaml")]);
        assert_eq!(problems.found.len(), 2);
        assert!(problems.found[0].message.starts_with("Found multiple config files with supported names: "));
    }
}
