//! A copy of a Compose file that no longer depends on where other files lie: what it extends, and its services'
//! environment files, under names that the caller gives. Everything else stays as it was written, variables too.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::canonical::canonicalise;
use super::diagnostic::{Diagnostic, LoadError, Span};
use super::disk::Disk;
use super::files::{Failed, Files, Scope};
use super::interpolate::Environment;
use super::node::{Node, Problems};
use super::paths;

/// What a Compose file takes from another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Needed {
    /// A Compose file, one of whose services a service extends.
    Extended,
    /// An environment file of a service.
    EnvFile,
}

/// A Compose file whose references to others have been replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standalone {
    /// The text.
    pub text: String,
    /// Whether it includes files of this machine, which stay what they are.
    pub includes: bool,
}

/// Reads `file`, whose relative paths start from `dir`, and replaces the paths of other files of this machine by what
/// `name` makes of them.
///
/// # Errors
/// What is wrong with the file, or with the way a path is written that is to be replaced.
pub fn standalone(
    file: &Path,
    dir: &Path,
    environment: &Environment,
    name: &mut dyn FnMut(Needed, &Path) -> String,
) -> Result<Standalone, LoadError> {
    let mut names = BTreeMap::new();
    let (text, found, includes) = read(Disk::Machine, file, dir, environment)?;
    let mut places = BTreeMap::new();
    for one in &found {
        let new = names.entry((one.what, one.path.clone())).or_insert_with(|| name(one.what, &one.path));
        places.insert((one.at.line, one.at.column, one.at.length), new.clone());
    }
    let text = replaced(&text, &places);
    // Paths may be written in ways that cannot be replaced like that: then this finds another file than it should.
    let memory = Disk::Memory(BTreeMap::from([(file.to_path_buf(), text.clone())]));
    let expected = found.iter().map(|one| names.get(&(one.what, one.path.clone())).map(|new| dir.join(new)));
    let again = read(memory, file, dir, environment).map(|(_, again, _)| again).unwrap_or_default();
    if !expected.eq(again.iter().map(|one| Some(one.path.clone()))) {
        let message = format!(
            "{}: the paths of env_file and extends cannot be replaced: write each plainly, on one line",
            file.display()
        );
        return Err(LoadError(vec![Diagnostic::error(message)]));
    }
    Ok(Standalone { text, includes })
}

/// A path in a file, and where it stands.
struct Found {
    what: Needed,
    path: PathBuf,
    at: Span,
}

type Read = (String, Vec<Found>, bool);

fn read(disk: Disk, file: &Path, dir: &Path, environment: &Environment) -> Result<Read, LoadError> {
    let mut problems = Problems::new(disk, false);
    let home = environment.get("HOME").filter(|home| !home.is_empty()).map(PathBuf::from);
    let mut found = (Vec::new(), false);
    let result = look(&mut Files::new(&mut problems, dir, home), file, &Scope { dir, environment }, &mut found);
    if result.is_err() || problems.failed() {
        return Err(LoadError(problems.found));
    }
    let text = problems.sources.get(0).map(|source| source.text.to_string()).unwrap_or_default();
    let text = text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text);
    Ok((text, found.0, found.1))
}

fn look(files: &mut Files<'_>, file: &Path, scope: &Scope<'_>, found: &mut (Vec<Found>, bool)) -> Result<(), Failed> {
    for document in files.documents(file)? {
        let mut document = files.prepare(document, scope)?;
        canonicalise(&mut document, files.problems);
        found.1 |= includes(&document);
        let services = document.get("services").and_then(Node::as_map);
        for service in services.into_iter().flat_map(|services| services.values()) {
            let extended = service.node.get("extends").and_then(|extends| extends.get("file"));
            let env_files = service.node.get("env_file").and_then(Node::as_list).unwrap_or_default();
            let env_files = env_files.iter().filter_map(|entry| entry.get("path"));
            let all = extended.map(|node| (Needed::Extended, node)).into_iter();
            for (what, node) in all.chain(env_files.map(|node| (Needed::EnvFile, node))) {
                let Some(path) = node.as_text().filter(|path| !path.is_empty()) else { continue };
                if what == Needed::Extended && paths::is_remote(path) {
                    continue;
                }
                let path = paths::absolute(scope.dir, path, files.home.as_deref());
                found.0.push(Found { what, path, at: node.span });
            }
        }
    }
    Ok(())
}

/// Whether a document includes files of this machine.
fn includes(document: &Node) -> bool {
    let entries = document.get("include").and_then(Node::as_list).unwrap_or_default();
    let mut paths = entries.iter().filter_map(|entry| entry.get("path"));
    let local = |node: &Node| node.as_text().is_some_and(|path| !paths::is_remote(path));
    paths.any(|path| local(path) || path.as_list().is_some_and(|list| list.iter().any(local)))
}

/// The text with other words at some places (line and column from 1, length).
fn replaced(text: &str, places: &BTreeMap<(u32, u32, u32), String>) -> String {
    let mut lines: Vec<String> = text.split('\n').map(str::to_owned).collect();
    let number = |value: u32| usize::try_from(value).unwrap_or(usize::MAX);
    // from the end, so that places before stay where they are
    for ((line, column, length), new) in places.iter().rev() {
        let Some(line) = number(*line).checked_sub(1).and_then(|line| lines.get_mut(line)) else { continue };
        let start = number(column.saturating_sub(1));
        let before: String = line.chars().take(start).collect();
        let after: String = line.chars().skip(start.saturating_add(number(*length))).collect();
        *line = format!("{before}{new}{after}");
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewritten(text: &str) -> Result<(Standalone, Vec<String>), LoadError> {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("compose.yaml");
        std::fs::write(&file, text).unwrap();
        let mut seen = Vec::new();
        let environment = Environment::from([("X".to_owned(), "x".to_owned())]);
        let copy = standalone(&file, Path::new("/project"), &environment, &mut |what, path| {
            seen.push(format!("{what:?} {}", path.display()));
            format!("n{}", seen.len())
        })?;
        Ok((copy, seen))
    }

    #[test]
    fn paths_of_other_files_are_replaced_where_they_stand() {
        let (copy, seen) = rewritten(
            "# kept\nx-all: &all\n  env_file: ./all.env   # this\nservices:\n  a: { image: 'é ${X}', env_file: [\"a.env\", '${X}.env'], \
             extends: { service: s, file: ../b.yaml } }\n  b:\n    <<: *all\n    extends: { service: s }\n  c:\n    env_file:\n      - \
             path: a.env\n        required: false\n    extends:\n      file: https://example.org/x.git\n      service: s\n",
        )
        .unwrap();
        assert_eq!(
            copy.text,
            "# kept\nx-all: &all\n  env_file: n4   # this\nservices:\n  a: { image: 'é ${X}', env_file: [n2, n3], extends: { service: \
             s, file: n1 } }\n  b:\n    <<: *all\n    extends: { service: s }\n  c:\n    env_file:\n      - path: n2\n        required: \
             false\n    extends:\n      file: https://example.org/x.git\n      service: s\n"
        );
        assert_eq!(
            seen,
            ["Extended /b.yaml", "EnvFile /project/a.env", "EnvFile /project/x.env", "EnvFile /project/all.env"]
        );
        assert!(!copy.includes);
    }

    #[test]
    fn what_has_no_other_files_stays_as_it_is() {
        let text = "\u{feff}services:\r\n  a: { image: x }\r\n---\nservices: { b: { image: y } }\n";
        assert_eq!(rewritten(text).unwrap().0.text, text.trim_start_matches('\u{feff}'));
    }

    #[test]
    fn included_files_of_this_machine_are_told() {
        for (include, expected) in [
            ("[a.yaml]", true),
            ("[{ path: a.yaml }]", true),
            ("[{ path: ['oci://example.org/x', a.yaml] }]", true),
            ("['oci://example.org/x']", false),
            ("[]", false),
        ] {
            let text = format!("include: {include}\nservices: {{ a: {{ image: x }} }}\n");
            assert_eq!(rewritten(&text).unwrap().0.includes, expected, "{include}");
        }
    }

    #[test]
    fn a_path_that_cannot_be_replaced_is_an_error() {
        let error = rewritten("services:\n  a:\n    image: x\n    env_file: >-\n      a.env\n").unwrap_err();
        assert!(error.to_string().contains("write each plainly"), "{error}");
    }
}
