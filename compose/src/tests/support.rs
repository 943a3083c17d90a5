//! The table of what is supported and the parser know the same keys.

use std::collections::BTreeSet;
use std::path::Path;

use crate::parse::asked;
use crate::support::{TABLE, rows};
use crate::{LoadOptions, load};

/// Every key that the parser asks for, as the table writes its path.
fn parsed() -> BTreeSet<String> {
    asked::take();
    // a service's name with a dot in it cannot be told from two keys
    for case in super::corpus::cases().into_iter().filter(|case| !case.name.contains("names")) {
        drop(load(&LoadOptions { profiles: vec!["*".to_owned()], ..case.options }));
    }
    let internal = |key: &str| key.starts_with('#');
    let asked = asked::take();
    asked.iter().filter(|(_, key)| !internal(key)).map(|(path, key)| pattern(path, key)).collect()
}

/// `services.web.ports[0]` and `target` are `services.*.ports.*.target`.
fn pattern(path: &str, key: &str) -> String {
    let path = path.replace(']', "").replace('[', ".");
    let mut pattern = String::new();
    let words = path.split('.').filter(|word| !word.is_empty());
    for word in words {
        let named = match pattern.as_str() {
            "services" | "networks" | "volumes" | "secrets" | "configs" | "models" => true,
            below => NAMED.contains(&below),
        };
        let number = word.bytes().all(|byte| byte.is_ascii_digit());
        if !pattern.is_empty() {
            pattern.push('.');
        }
        pattern.push_str(if named || number { "*" } else { word });
    }
    if pattern.is_empty() { key.to_owned() } else { format!("{pattern}.{key}") }
}

/// Mappings whose keys are names.
const NAMED: [&str; 6] = [
    "services.*.networks",
    "services.*.depends_on",
    "services.*.ulimits",
    "services.*.build.ulimits",
    "services.*.models",
    "services.*.build.ssh",
];

/// Keys that steps before the parser take away.
const TAKEN: [&str; 7] = [
    "include",
    "services.*.extends.file",
    "services.*.extends.service",
    "networks.*.external.name",
    "volumes.*.external.name",
    "secrets.*.external.name",
    "configs.*.external.name",
];

#[test]
fn the_table_has_every_key_of_the_parser() {
    let (parsed, table) = (parsed(), TABLE.iter().map(|(key, _)| (*key).to_owned()).collect::<BTreeSet<_>>());
    let missing: Vec<&String> = parsed.difference(&table).collect();
    assert!(missing.is_empty(), "not in the table: {missing:?}");
    let unknown: Vec<&String> = table.difference(&parsed).filter(|key| !TAKEN.contains(&key.as_str())).collect();
    assert!(unknown.is_empty(), "in the table, but the parser does not know them (or the corpus): {unknown:?}");
}

#[test]
fn the_table_is_sorted_within_its_sections() {
    let mut before: Option<&str> = None;
    for (key, _) in TABLE {
        if let Some(before) = before.filter(|before| before.split('.').next() == key.split('.').next()) {
            assert!(before.split('.').lt(key.split('.')), "{before} stands before {key}");
        }
        before = Some(key);
    }
}

/// What the README says is not built is not built: a word of its row that is a key has a line that says so too.
#[test]
fn the_readme_says_what_the_table_says() {
    let readme = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md")).unwrap();
    let Some(row) = readme.lines().find(|line| line.starts_with("| **Not yet** |")) else { return };
    let rows = rows();
    for word in row.split('`').skip(1).step_by(2) {
        let of_key = rows.iter().filter(|row| row.key == format!("services.*.{word}") || row.key == word);
        let wrong: Vec<&str> = of_key.filter(|row| row.support == "works").map(|row| row.key).collect();
        assert!(wrong.is_empty(), "the README says that `{word}` is not built yet, the table that it works");
    }
}
