//! What Docker's builder was seen to do (`scripts/record-dockerfile-cases` writes the files anew).

use crate::ignore::{Patterns, Verdict};
use crate::{CheckContext, check, expand, parse};

const TREE: &str = include_str!("../../tests/recorded/ignore-tree.txt");
const CHECKS: &str = include_str!("../../tests/recorded/checks.txt");
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

#[test]
fn files_are_refused_and_warned_of_as_by_docker() {
    let predefined: Vec<(String, String)> = [
        ("BUILDPLATFORM", "linux/amd64"),
        ("BUILDOS", "linux"),
        ("BUILDOSVERSION", ""),
        ("BUILDARCH", "amd64"),
        ("BUILDVARIANT", ""),
        ("TARGETPLATFORM", "linux/amd64"),
        ("TARGETOS", "linux"),
        ("TARGETOSVERSION", ""),
        ("TARGETARCH", "amd64"),
        ("TARGETVARIANT", ""),
        ("TARGETSTAGE", "default"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .to_vec();
    let context = CheckContext { build_arg: &|_| None, predefined: &predefined, environment: &|_| None, ignore: None };
    let mut wrong = String::new();
    for case in CHECKS.split("==\n") {
        let (text, expected) = case.split_once("--\n").unwrap();
        let mut seen: Vec<String> = match parse(text) {
            Ok(file) => check(&file, &context)
                .iter()
                .map(|warning| format!("{} {} {}", warning.place.line, warning.rule.name(), warning.text))
                .collect(),
            // Docker names the line of the instruction at best.
            Err(error) => vec![format!("! {}", error.fault).replace('\n', "\\n")],
        };
        seen.sort();
        let mut expected: Vec<String> = expected.lines().map(without_line).collect();
        expected.sort();
        if seen != expected && !is_meant(text, &seen, &expected) {
            wrong.push_str(&format!("{text}  is     {seen:#?}\n  not    {expected:#?}\n\n"));
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

/// A recorded line, without the number before an error.
fn without_line(line: &str) -> String {
    match line.strip_prefix("! ") {
        Some(rest) => format!("! {}", rest.trim_start_matches(|c: char| c.is_ascii_digit()).trim_start()),
        None => line.to_owned(),
    }
}

/// Messages that say more or the like here: the beginning of Docker's, the beginning of ours.
const WORDS: [(&str, &str); 9] = [
    ("the Dockerfile cannot be empty", "file with no instructions"),
    ("no build stage in current context", "no build stage in current context: "),
    ("failed to parse check options: ", "invalid check option "),
    ("unterminated heredoc", "unterminated heredoc: "),
    ("failed to process \"${", "failed to process \"${"),
    ("time: ", "invalid duration "),
    ("strconv.ParseInt: ", "invalid number of retries: "),
    ("invalid value 9 for mode", "invalid value for mode: 9"),
    ("failed to parse csv mounts: EOF", "invalid field ''"),
];

/// What is refused here and not by `--check`: a part of the file.
const STRICTER: [&str; 5] = [
    // Docker says it when somebody builds upon the image.
    "ONBUILD ",
    // There it fails when it is run.
    "RUN\n",
    "RUN []",
    // There the flags of these are passed over in silence.
    "ARG --",
    "STOPSIGNAL --",
];

/// What is refused there and is not the reader's to refuse: the build does it when it knows the values; a part of
/// the message.
const LATER: [&str; 13] = [
    "invalid mount target ",
    "invalid port: ",
    "invalid containerPort: ",
    "invalid signal: ",
    "failed to parse stage name ",
    "failed to parse platform ",
    "empty platform value ",
    "base name ($",
    "unsupported mount type \"\"",
    "VOLUME specified can not be an empty string",
    "lint violation found ",
    // The order of a mount's options means nothing here.
    "unexpected key 'required' for mount type 'bind'",
    // Docker's own frontend lacks what the current reference has.
    "unknown flag: --security",
];

/// What the recorded version did not have yet: comments above an instruction, names that only name files.
const NEWER: [&str; 2] = ["FROM scratch\n# check=skip=", "TOKEN_FILE"];

fn is_meant(text: &str, seen: &[String], expected: &[String]) -> bool {
    let fault = |lines: &[String]| match lines {
        [line] => line.strip_prefix("! ").map(str::to_owned),
        _ => None,
    };
    match (fault(seen), fault(expected)) {
        (Some(ours), Some(theirs)) => {
            WORDS.iter().any(|(their, our)| theirs.starts_with(their) && ours.starts_with(our))
                || LATER.iter().any(|message| theirs.contains(message))
        }
        (Some(_), None) => STRICTER.iter().any(|part| text.contains(part)),
        (None, Some(theirs)) => LATER.iter().any(|message| theirs.contains(message)),
        (None, None) => NEWER.iter().any(|part| text.contains(part)),
    }
}

const EXPANDED: &str = include_str!("../../tests/recorded/words.txt");

#[test]
fn words_become_what_docker_makes_of_them() {
    let lookup = |name: &str| {
        let value = match name {
            "A" => "a",
            "PATH_" => "/usr/local/lib/x.tar.gz",
            "TWO" => "one  two",
            "EMPTY" => "",
            "STAR" => "a*b*c",
            "Q" => "\"q",
            _ => return None,
        };
        Some(value.to_owned())
    };
    let mut wrong = String::new();
    for line in EXPANDED.lines() {
        let (word, expected) = line.split_once('\t').unwrap();
        // The cases were written behind an `x`, in the old form of a label.
        let seen = match expand(&format!("x{word}"), '\\', &lookup) {
            Ok(expanded) => expanded.text.strip_prefix('x').unwrap_or_default().to_owned(),
            Err(_) => "!".to_owned(),
        };
        let expected = if expected.starts_with("! ") { "!" } else { expected };
        if seen != expected {
            wrong.push_str(&format!("{word}\n  is     {seen}\n  not    {expected}\n"));
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}
