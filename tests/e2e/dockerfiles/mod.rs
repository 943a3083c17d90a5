//! Every case of `tests/dockerfiles` gives the image that `docker buildx build` gave (`scripts/record-builds`),
//! compared as data: configuration, history and file tree. What Docker refuses is refused, with the words that matter.

mod case;
mod image;
mod record;
pub mod serve;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::Mutex;

use serde_json::Value;

use crate::harness::{Host, finish};
use case::Case;
use image::Image;

/// The images that cases begin with.
const BASES: &[&str] = &["busybox", "alpine"];
/// What names of images that are made here begin with.
const TAG: &str = "conform";
/// Cases at a time.
const THREADS: usize = 4;

/// Cases that differ on purpose, with the reason.
const DIFFERENCES: &[(&str, &str)] = &[
    ("copy-chown-unknown", "Docker gives a user that nobody knows the id 0; it is an error here"),
    ("copy-exclude-glob", "--exclude counts for a pattern's matches, too, as the reference has it"),
    ("copy-link", "a layer of its own has its own directories, with their own modes"),
    ("copy-link-over-symlink", "with --link nothing below is looked at; Docker without containerd's store does"),
    ("copy-parents-pivot", "a directory that is made gets no time of another one"),
    ("copy-several-no-slash", "several files onto one name: Docker keeps the last; it is an error here"),
    ("epoch", "no time in the image is later than SOURCE_DATE_EPOCH"),
    ("from-target-number", "a stage's number names it, as it does in --from"),
    ("run-empty", "RUN without a command is an error"),
    ("run-xattr", "attributes of users are kept; Docker's own store saves none but capabilities"),
    ("workdir-clean", "the path is cleaned"),
];

#[test]
fn equals_docker_build() {
    if let Some(docker) = record::Docker::from_env() {
        let failed = docker.record();
        assert!(failed.is_empty(), "{}", failed.join("\n"));
        return;
    }
    let Some(host) = Host::bare() else { return };
    for base in BASES {
        host.ok(&["image", "pull", "-q", base]);
    }
    let bases: Vec<Image> = BASES.iter().map(|name| save(&host, name, "base").unwrap()).collect();
    let only = std::env::var("CASES").unwrap_or_default();
    let only: Vec<&str> = only.split_whitespace().collect();
    let mut names = case::names();
    names.retain(|name| only.is_empty() || only.iter().any(|part| name.contains(part)));
    names.reverse();
    let all = names.len();
    let (names, failed) = (Mutex::new(names), Mutex::new(Vec::new()));
    let next = || names.lock().unwrap().pop();
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                while let Some(name) = next() {
                    if let Err(why) = check(&host, &name, &bases) {
                        failed.lock().unwrap().push(format!("== {name}\n{why}"));
                    }
                }
            });
        }
    });
    let mut failed = failed.into_inner().unwrap();
    failed.sort();
    println!("{all} cases, {} explained differences, {} failed", DIFFERENCES.len(), failed.len());
    assert!(failed.is_empty(), "{} of {all} cases failed\n{}", failed.len(), failed.join("\n"));
    assert!(!only.is_empty() || all >= 170, "only {all} cases were found");
}

/// Builds a case and compares it with what was recorded.
fn check(host: &Host, name: &str, bases: &[Image]) -> Result<(), String> {
    let case = Case::read(name);
    let recorded = case::directory().join(name).with_extension("json");
    let recorded = fs::read_to_string(&recorded).map_err(|error| format!("nothing was recorded: {error}"))?;
    let dir = host.path().join("cases").join(name);
    fs::create_dir_all(&dir).unwrap();
    case.write(&dir);
    let port = serve::serve(&dir);
    // Recorded on one architecture; a case that is about another one names it.
    let recorded = match std::env::consts::ARCH {
        "aarch64" => recorded.replace("amd64", "arm64"),
        _ => recorded,
    };
    let expected = recorded.replace("@DIR@", dir.to_str().unwrap()).replace("@PORT@", &port.to_string());
    let expected: Value = serde_json::from_str(&expected).unwrap();
    let difference = match build(host, &case, &dir, port)? {
        Some(_) if expected.get("error").is_some() => None,
        Some(message) => Some(format!("Docker builds it; here:\n{message}")),
        None if expected.get("error").is_some() => Some(format!("Docker refuses it: {}", expected["error"])),
        None => {
            let ours = save(host, &format!("{TAG}-{name}"), name)?.describe(bases);
            Some(differences(&expected, &ours)).filter(|lines| !lines.is_empty())
        }
    };
    fs::remove_dir_all(&dir).unwrap();
    let known = DIFFERENCES.iter().find(|(known, _)| *known == name);
    match (difference, known) {
        (None, None) | (Some(_), Some(_)) => Ok(()),
        (None, Some(_)) => Err("equal, but listed as a difference".into()),
        (Some(difference), None) => Err(difference),
    }
}

/// Runs the builds of a case; what the last one says when it fails.
fn build(host: &Host, case: &Case, dir: &Path, port: u16) -> Result<Option<String>, String> {
    let tag = format!("{TAG}-{}", case.name);
    let builds = case.arguments(dir, port);
    for (index, arguments) in builds.iter().enumerate() {
        let last = index + 1 == builds.len();
        let mut words = vec!["image", "build"];
        if last {
            words.extend(["-t", &tag]);
        }
        words.extend(arguments.iter().map(String::as_str));
        let mut command = host.command(&words);
        command.current_dir(dir).envs(case.environment(dir, port));
        let done = finish(command, &case.input(dir), &words.join(" "));
        if done.code == 0 {
            continue;
        }
        if done.code > 255 || done.err.contains("panicked at") {
            return Err(format!("ended with {}: {}", done.code, done.err));
        }
        if !last {
            return Err(format!("umiak {}: {}", words.join(" "), done.err));
        }
        let low = done.err.to_lowercase();
        if let Some(word) = case.says.iter().flatten().find(|word| !low.contains(&word.to_lowercase())) {
            return Err(format!("the message does not say {word:?}:\n{}", done.err));
        }
        return Ok(Some(done.err));
    }
    Ok(None)
}

fn save(host: &Host, image: &str, name: &str) -> Result<Image, String> {
    let file = host.path().join(format!("{name}.tar"));
    let done = host.run(&["image", "save", "-o", file.to_str().unwrap(), image]);
    if done.code != 0 {
        return Err(format!("image save {image}: {}", done.err));
    }
    let bytes = fs::read(&file).unwrap();
    fs::remove_file(&file).unwrap();
    Ok(Image::read(&bytes))
}

/// Every place at which two documents differ, one line each.
fn differences(expected: &Value, ours: &Value) -> String {
    let mut lines = Vec::new();
    compare("", Some(expected), Some(ours), &mut lines);
    lines.join("\n")
}

fn compare(at: &str, expected: Option<&Value>, ours: Option<&Value>, lines: &mut Vec<String>) {
    let (Some(Value::Object(theirs)), Some(Value::Object(mine))) = (expected, ours) else {
        let show = |value: Option<&Value>| value.map_or_else(|| "nothing".to_owned(), Value::to_string);
        if expected != ours {
            lines.push(format!("  {at}\n    Docker: {}\n    here:   {}", show(expected), show(ours)));
        }
        return;
    };
    let keys: BTreeSet<&String> = theirs.keys().chain(mine.keys()).collect();
    for key in keys {
        let at = if at.is_empty() { key.clone() } else { format!("{at} {key}") };
        compare(&at, theirs.get(key), mine.get(key), lines);
    }
}
