//! Every case of `corpus/` gives what `docker compose config --format json` gave (`scripts/record-compose-corpus`), as
//! data; what Docker Compose refuses is refused.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::{Disk, LoadOptions, Project, load};
use serde_json::Value;

/// Cases that differ on purpose, with the reason.
const DIFFERENCES: &[(&str, &str)] = &[
    ("bad-extends-sibling-cast", "of a file that is extended from, only the services that are used are checked"),
    ("bom-second-document", "a byte order mark at the beginning of a document is none of its characters"),
    ("build-ssh-forms", "Docker Compose cannot print an ssh key with a path as JSON"),
    ("device-permissions-bad", "refused at once here; Docker refuses it when the container is created"),
    ("empty-text-bind-source", "an empty path would be the project's directory; it is refused here"),
    ("empty-text-devices", "refused at once here; Docker refuses it when the container is created"),
    ("empty-text-network-definition", "an empty name is none; Docker refuses it when the network is created"),
    ("empty-text-secret-file", "an empty path would be the project's directory; it is refused here"),
    ("escape-slash", "`\\/` is an escape of YAML 1.2 and of JSON; Docker Compose reads YAML 1.1 here"),
    ("float-shm", "Docker Compose reads it as no size"),
    ("hook-command-null", "no command is an empty one here"),
    ("include-conflict", "newer versions merge what an included file defines too, the local file on top"),
    ("include-conflict-network", "newer versions merge what an included file defines too, the local file on top"),
    ("include-extends", "newer versions include first, so that included services can be extended"),
    ("int-float", "Docker Compose cuts off the fraction"),
    ("interpolation-lazy", "newer versions evaluate a default only where it is used"),
    ("ipam-options", "Docker Compose drops `ipam.options`; it is kept here"),
    ("late-duration-negative", "refused at once here; Docker refuses it when the container is created"),
    ("late-ipv4", "refused at once here; Docker refuses it when the container is created"),
    ("late-merge-depends", "Docker Compose drops what cannot be merged without a word"),
    ("late-port-big-target", "refused at once here; Docker refuses it when the container is created"),
    ("late-port-long-protocol", "refused at once here; Docker refuses it when the container is created"),
    ("late-restart-policy", "refused at once here; Docker refuses it when the container is created"),
    ("late-subnet", "refused at once here; Docker refuses it when the network is created"),
    ("late-volume-long-empty-target", "refused at once here; Docker refuses it when the container is created"),
    ("merge-build-ssh", "Docker Compose cannot merge two lists of ssh keys"),
    ("merge-lists-active", "Docker Compose does not see that 81 and \"81\" are the same published port"),
    ("newer-keys", "newer versions know these keys"),
    ("port-protocol-empty", "`80/` has no protocol; it is refused here"),
    ("port-published-big", "refused at once here; Docker refuses it when the container is created"),
    ("port-published-negative", "refused at once here; Docker refuses it when the container is created"),
    ("port-published-range-backwards", "refused at once here; Docker refuses it when the container is created"),
    ("port-published-word", "refused at once here; Docker refuses it when the container is created"),
    ("reset-merge-key", "Docker Compose loses `!reset` behind an alias, and both tags in a list of merged mappings"),
    ("restart-on-failure-word", "refused at once here; Docker refuses it when the container is created"),
    ("size-exponent", "Docker Compose reads it as no limit"),
    ("size-fraction", "Docker Compose cuts off the fraction"),
    ("tab-comment", "a tab before a comment is a blank here"),
    ("ulimit-forms", "Docker Compose prints `{}` for a limit of 0; 0 is printed here"),
    ("ulimit-zero", "Docker Compose prints `{}` for a limit of 0; 0 is printed here"),
    ("uts-word", "refused at once here; Docker refuses it when the container is created"),
    ("volume-only-colon", "Docker Compose takes one or two characters as a target without looking further"),
];

pub(super) fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus")
}

/// Name of a case, its options, and the path without extension of what was recorded.
pub(super) struct Case {
    pub name: String,
    pub options: LoadOptions,
    expected: PathBuf,
}

pub(super) fn cases() -> Vec<Case> {
    let mut names: Vec<PathBuf> = std::fs::read_dir(corpus()).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.sort();
    names.retain(|path| path.is_dir() || path.extension().is_some_and(|extension| extension == "yaml"));
    names.iter().map(|path| case(path)).collect()
}

fn case(path: &Path) -> Case {
    let environment = [("HOME", "/root"), ("PATH", "/bin")].map(|(k, v)| (k.to_owned(), v.to_owned()));
    let mut options = LoadOptions { environment: BTreeMap::from(environment), ..LoadOptions::default() };
    let name = path.file_stem().unwrap().to_string_lossy().into_owned();
    if !path.is_dir() {
        options.current_dir = corpus();
        options.files = vec![path.to_path_buf()];
        options.project_name = Some("case".to_owned());
        return Case { name, options, expected: path.with_extension("") };
    }
    options.current_dir = path.to_path_buf();
    let said = |name: &str| std::fs::read_to_string(path.join(name)).ok();
    if let Some(directory) = said("cwd") {
        options.current_dir.push(directory.trim());
    }
    let variables = said("env").unwrap_or_default();
    let variables = variables.lines().filter_map(|line| line.split_once('='));
    options.environment.extend(variables.map(|(name, value)| (name.to_owned(), value.to_owned())));
    if let Some(stdin) = said("stdin") {
        let mut files = BTreeMap::from([(PathBuf::from("-"), stdin)]);
        read_all(path, &mut files);
        options.disk = Disk::Memory(files);
    }
    let args = std::fs::read_to_string(path.join("args")).unwrap();
    let mut words = args.split_whitespace();
    while let Some(word) = words.next() {
        let mut value = || words.next().unwrap().to_owned();
        match word {
            "-f" => options.files.push(value().into()),
            "-p" => options.project_name = Some(value()),
            "--env-file" => options.env_files.push(value().into()),
            "--profile" => options.profiles.push(value()),
            "--project-directory" => options.project_dir = Some(value().into()),
            word => panic!("{name}: unknown word {word}"),
        }
    }
    Case { name, options, expected: path.join("expected") }
}

fn read_all(directory: &Path, files: &mut BTreeMap<PathBuf, String>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        match std::fs::read_to_string(&path) {
            Ok(text) => drop(files.insert(path, text)),
            Err(_) => read_all(&path, files),
        }
    }
}

fn short_paths(text: &str) -> String {
    let (here, above) = (corpus(), corpus().parent().unwrap().to_path_buf());
    text.replace(&*here.to_string_lossy(), "@").replace(&*above.to_string_lossy(), "@^")
}

/// Writes paths from the corpus directory on, and what Go's JSON says by accident in one way only.
fn neutral(value: &mut Value, depth: usize) {
    match value {
        Value::String(text) => *text = short_paths(text),
        Value::Array(list) => list.iter_mut().for_each(|value| neutral(value, depth + 1)),
        Value::Object(map) => {
            if depth == 0 {
                // its JSON leaves models out, its YAML has them
                map.remove("models");
            } else {
                // its JSON leaves extensions out below the top, its YAML has them
                map.retain(|key, _| !key.starts_with("x-"));
            }
            if let Some(Value::Object(networks)) = map.get_mut("networks") {
                // `{}` and nothing are the same attachment
                for network in networks.values_mut().filter(|network| network.as_object().is_some_and(|n| n.is_empty()))
                {
                    *network = Value::Null;
                }
            }
            // it leaves out what is false, and then takes a missing `bind` for true
            if map.get("create_host_path") == Some(&Value::Bool(false)) {
                map.remove("create_host_path");
            }
            if map.get("exec").is_some_and(|exec| *exec == serde_json::json!({"command": null})) {
                map.remove("exec");
            }
            for (go, key) in [("Path", "path"), ("Weight", "weight"), ("Rate", "rate")] {
                if let Some(value) = map.remove(go) {
                    map.insert(key.to_owned(), value);
                }
            }
            map.values_mut().for_each(|value| neutral(value, depth + 1));
        }
        _ => {}
    }
}

fn compare(case: &Case) -> Result<(), String> {
    let recorded = std::fs::read_to_string(case.expected.with_extension("json")).ok();
    match (load(&case.options), recorded) {
        (Ok(project), Some(recorded)) => {
            let mut ours = serde_json::to_value(&project).unwrap();
            // `config` prints a file to be loaded again, where `$$` means `$`
            let mut theirs: Value = serde_json::from_str(&recorded.replace("$$", "$")).unwrap();
            neutral(&mut ours, 0);
            neutral(&mut theirs, 0);
            let mut found = Vec::new();
            differences("", &ours, &theirs, &mut found);
            found.extend(missing_warnings(case, &project));
            if found.is_empty() { Ok(()) } else { Err(found.join("\n")) }
        }
        (Err(_), None) => Ok(()),
        (Ok(_), None) => {
            let theirs = std::fs::read_to_string(case.expected.with_extension("error")).unwrap_or_default();
            Err(format!("accepted; Docker Compose says: {theirs}"))
        }
        (Err(error), Some(_)) => {
            let messages: Vec<String> = error.0.iter().map(|error| error.render().to_string()).collect();
            Err(format!("refused: {}", messages.join("\n")))
        }
    }
}

/// What Docker Compose warned of and the project's warnings do not have.
fn missing_warnings(case: &Case, project: &Project) -> Vec<String> {
    let recorded = std::fs::read_to_string(case.expected.with_extension("warnings")).unwrap_or_default();
    let ours: Vec<String> = project.warnings.iter().map(|warning| short_paths(&warning.message)).collect();
    // where Docker Compose begins with the file's name, the diagnostic has it as its place
    let has = |line: &str| ours.iter().any(|message| line == message || line.ends_with(&format!(": {message}")));
    let missing = recorded.lines().filter(|line| !has(line));
    missing.map(|line| format!("no warning: {line}\n  there are: {ours:?}")).collect()
}

fn differences(path: &str, ours: &Value, theirs: &Value, found: &mut Vec<String>) {
    match (ours, theirs) {
        (Value::Object(a), Value::Object(b)) => {
            for (key, value) in a {
                differences(
                    &format!("{path}.{key}"),
                    value,
                    b.get(key).unwrap_or(&Value::String("(nothing)".into())),
                    found,
                );
            }
            for (key, value) in b.iter().filter(|(key, _)| !a.contains_key(*key)) {
                found.push(format!("{path}.{key}: nothing, Docker Compose: {value}"));
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (index, (a, b)) in a.iter().zip(b).enumerate() {
                differences(&format!("{path}[{index}]"), a, b, found);
            }
        }
        (Value::Number(a), Value::Number(b)) if a.as_f64() == b.as_f64() => {}
        (a, b) if a == b => {}
        (a, b) => found.push(format!("{path}: {a}, Docker Compose: {b}")),
    }
}

#[test]
fn equals_docker_compose() {
    let (mut failed, mut equal, cases) = (Vec::new(), 0, cases());
    assert!(cases.len() > 1000, "the corpus is missing");
    for case in &cases {
        let known = DIFFERENCES.iter().find(|(name, _)| *name == case.name);
        match (compare(case), known) {
            (Ok(()), None) => equal += 1,
            (Ok(()), Some(_)) => failed.push(format!("{}: equal, but listed as a difference", case.name)),
            (Err(_), Some(_)) => {}
            (Err(difference), None) => failed.push(format!("== {}\n{difference}", case.name)),
        }
    }
    println!("{equal} of {} cases equal, {} explained differences", cases.len(), DIFFERENCES.len());
    for (name, reason) in DIFFERENCES {
        println!("  {name}: {reason}");
    }
    assert!(failed.is_empty(), "{} cases differ\n{}", failed.len(), failed.join("\n"));
}
