//! What Docker's builder was seen to do (`scripts/record-dockerfile-cases` writes the files anew).

use crate::ignore::{Patterns, Verdict};

const TREE: &str = include_str!("../../tests/recorded/ignore-tree.txt");
const IGNORED: &str = include_str!("../../tests/recorded/ignore.txt");

/// Cases where Docker does what nobody can want: in a class, `*` is no character there.
const MEANT: [&str; 1] = ["star[*]x\n"];

/// Every file of the tree that is taken, found by a walk that goes only where it has to; directories that are taken
/// with nothing below them end with `/`.
fn walk(patterns: &Patterns, directory: &str, above: &Verdict, taken: &mut Vec<String>) {
    let prefix = if directory.is_empty() { String::new() } else { format!("{directory}/") };
    let mut seen = Vec::new();
    for path in TREE.lines().filter_map(|path| path.strip_prefix(&prefix)) {
        let (name, below) = path.split_once('/').map_or((path, false), |(name, _)| (name, true));
        if seen.contains(&name) {
            continue;
        }
        seen.push(name);
        let path = format!("{prefix}{name}");
        let verdict = patterns.look(&path, above);
        assert_eq!(verdict.ignored, patterns.matches(&path), "{path}");
        let before = taken.len();
        if below && (!verdict.ignored || patterns.reach_below(&path)) {
            walk(patterns, &path, &verdict, taken);
        }
        if !verdict.ignored && (!below || taken.len() == before) {
            taken.push(if below { format!("{path}/") } else { path });
        }
    }
}

#[test]
fn a_context_has_the_files_that_docker_takes() {
    let mut wrong = String::new();
    for case in IGNORED.split("==\n") {
        let (text, expected) = case.split_once("--\n").unwrap();
        if MEANT.contains(&text) {
            continue;
        }
        let mut taken = Vec::new();
        match Patterns::of_file(text) {
            Ok(patterns) => walk(&patterns, "", &Verdict::default(), &mut taken),
            Err(_) => taken.push("error".to_owned()),
        }
        taken.sort();
        let mut expected: Vec<&str> = expected.lines().collect();
        if expected.first().is_some_and(|line| line.starts_with("! ")) {
            expected = vec!["error"];
        }
        if taken != expected {
            let missing: Vec<_> = expected.iter().filter(|path| !taken.iter().any(|taken| taken == *path)).collect();
            let extra: Vec<_> = taken.iter().filter(|path| !expected.contains(&path.as_str())).collect();
            wrong.push_str(&format!("{text}  missing {missing:?}\n  too much {extra:?}\n"));
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}
