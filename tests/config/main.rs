//! `config`, `completion` and `man` through the binary. They touch nothing, so none of this needs root.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

/// Cases whose text differs from Docker Compose's on purpose, with the reason.
const DIFFERENCES: &[(&str, &str)] = &[(
    "paths/no-env-resolution",
    "Docker Compose reads environment files all the same; here they are not read, and named instead",
)];

/// Cases whose lines come in another order with each run of Docker Compose.
const UNORDERED: &[&str] = &[
    "stack/networks",
    "stack/networks-all",
    "stack/project-name",
    "stack/services-profile",
    "stack/services-no-interpolate",
    "variables/services",
    "variables/table",
    "stack/variables",
];

fn binary() -> PathBuf {
    match std::env::var_os("UMIAK_BIN") {
        Some(path) => PathBuf::from(path),
        None => option_env!("CARGO_BIN_EXE_umiak").map(PathBuf::from).expect("UMIAK_BIN names the binary"),
    }
}

fn flags() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("compose/tests/flags")
}

/// Runs the binary with nothing of this process's environment.
fn umiak(directory: &Path, words: &[&str]) -> Output {
    let mut command = Command::new(binary());
    command.args(words).current_dir(directory).env_clear().env("HOME", "/root").env("PATH", "/bin");
    command.output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn ok(directory: &Path, words: &[&str]) -> String {
    let output = umiak(directory, words);
    assert!(output.status.success(), "{words:?}: {}", text(&output.stderr));
    text(&output.stdout)
}

/// A project's copy in a directory of its own: what is printed has paths in it.
fn compare(project: &str, name: &str, words: &str) -> Result<(), String> {
    let directory = flags().join(project);
    let words: Vec<&str> = words.split_whitespace().collect();
    let output = umiak(&directory, &words);
    let Ok(expected) = std::fs::read_to_string(directory.join(name).with_extension("out")) else {
        let accepted = format!("accepted; Docker Compose refuses it\n{}", text(&output.stdout));
        return if output.status.code() == Some(1) { Ok(()) } else { Err(accepted) };
    };
    if !output.status.success() {
        return Err(format!("refused: {}", text(&output.stderr)));
    }
    let (here, above) = (directory.to_string_lossy().into_owned(), flags().to_string_lossy().into_owned());
    let ours = text(&output.stdout).replace(&here, "@").replace(&above, "@^");
    let lines = |text: &str| {
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        if UNORDERED.contains(&format!("{project}/{name}").as_str()) {
            lines.sort();
        }
        lines
    };
    if ours == expected || (lines(&ours) == lines(&expected) && ours.len() == expected.len()) {
        return Ok(());
    }
    let (ours, expected) = (lines(&ours), lines(&expected));
    let at = ours.iter().zip(&expected).position(|(a, b)| a != b).unwrap_or(ours.len().min(expected.len()));
    let line = |lines: &[String]| lines.get(at).cloned().unwrap_or_default();
    Err(format!("line {}: {:?}, Docker Compose: {:?}", at + 1, line(&ours), line(&expected)))
}

#[test]
fn flags_print_what_docker_compose_prints() {
    let (mut failed, mut equal) = (Vec::new(), 0);
    for project in std::fs::read_dir(flags()).unwrap() {
        let project = project.unwrap();
        let cases = std::fs::read_to_string(project.path().join("cases")).unwrap();
        let project = project.file_name().to_string_lossy().into_owned();
        for case in cases.lines() {
            let (name, words) = case.split_once(": ").unwrap();
            let id = format!("{project}/{name}");
            match (compare(&project, name, words), DIFFERENCES.iter().any(|(known, _)| *known == id)) {
                (Ok(()), false) => equal += 1,
                (Ok(()), true) => failed.push(format!("{id}: equal, but listed as a difference")),
                (Err(_), true) => {}
                (Err(difference), false) => failed.push(format!("{id} ({words}): {difference}")),
            }
        }
    }
    println!("{equal} outputs equal byte for byte, {} explained differences", DIFFERENCES.len());
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    assert!(equal >= 45, "only {equal} cases were found");
}

#[test]
fn output_goes_to_a_file() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("out.yaml");
    let project = flags().join("stack");
    let printed = ok(&project, &["config"]);
    assert_eq!(ok(&project, &["config", "-o", file.to_str().unwrap()]), "");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), printed);
    assert_eq!(ok(&project, &["convert"]), printed);
    // what was printed means the same when it is loaded
    assert_eq!(ok(&project, &["-f", file.to_str().unwrap(), "--project-directory", ".", "config"]), printed);
}

#[test]
fn extensions_are_in_the_json_too() {
    let directory = tempfile::tempdir().unwrap();
    let text = "name: x\nx-top: 1\nservices: {a: {image: x, x-own: {b: 2, a: 1}}}\nmodels: {m: {model: y}}\n";
    std::fs::write(directory.path().join("compose.yaml"), text).unwrap();
    let json: Value = serde_json::from_str(&ok(directory.path(), &["config", "--format", "json"])).unwrap();
    assert_eq!((&json["x-top"], &json["services"]["a"]["x-own"]["a"]), (&1.into(), &1.into()));
}

#[test]
fn environment_files_that_are_not_read_are_named() {
    let yaml = ok(&flags().join("paths"), &["config", "--no-env-resolution", "a"]);
    assert!(yaml.contains("env_file:\n      - path: ") && !yaml.contains("A: \"1\""), "{yaml}");
}

#[test]
fn hashes_name_every_service() {
    let project = flags().join("stack");
    let lines = ok(&project, &["--profile", "x", "config", "--hash", "*"]);
    let names: Vec<&str> = lines.lines().filter_map(|line| line.split_once(' ')).map(|(name, _)| name).collect();
    assert_eq!(names, ["db", "web"]);
    assert!(lines.lines().all(|line| line.rsplit(' ').next().is_some_and(|hash| hash.len() == 64)), "{lines}");
    assert_eq!(ok(&project, &["config", "--hash", "web"]), format!("{}\n", lines.lines().nth(1).unwrap()));
}

#[test]
fn the_environment_is_what_interpolation_sees() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("compose.yaml"), "name: env\nservices: {a: {image: x}}\n").unwrap();
    std::fs::write(directory.path().join(".env"), "FROM_FILE='a b'\nHOME=ignored\n").unwrap();
    let lines = ok(directory.path(), &["config", "--environment"]);
    for line in ["COMPOSE_PROJECT_NAME=env", "FROM_FILE=a b", "HOME=/root", "PATH=/bin"] {
        assert!(lines.lines().any(|other| other == line), "{line} is missing: {lines}");
    }
}

#[test]
fn the_table_of_keys_is_printed() {
    let directory = tempfile::tempdir().unwrap();
    let table = ok(directory.path(), &["config", "--support"]);
    assert!(table.starts_with("KEY ") && table.lines().count() > 340, "{table}");
    assert!(table.lines().any(|line| line.split_whitespace().collect::<Vec<_>>() == ["services.*.image", "works"]));
    let rows: Value =
        serde_json::from_str(&ok(directory.path(), &["config", "--support", "--format", "json"])).unwrap();
    let rows = rows.as_array().unwrap();
    assert_eq!(rows.len() + 1, table.lines().count());
    let row = |key: &str| rows.iter().find(|row| row["key"] == key).unwrap_or_else(|| panic!("{key}"));
    assert_eq!(row("version")["support"], "ignored");
    assert_eq!(row("services.*.deploy.placement.constraints")["support"], "ignored");
}

/// Every command with the words that lead to it; hidden ones are left out.
fn commands() -> Vec<Vec<String>> {
    let mut found = vec![Vec::new()];
    let mut queue = vec![Vec::<String>::new()];
    while let Some(words) = queue.pop() {
        let mut arguments: Vec<&str> = words.iter().map(String::as_str).collect();
        arguments.push("--help");
        let help = ok(Path::new("/"), &arguments);
        let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
        // descriptions that go on stand further right
        for line in listed.filter(|line| line.starts_with("  ") && !line.starts_with("   ")) {
            let name = line.split_whitespace().next().unwrap().to_owned();
            if name != "help" {
                let words: Vec<String> = words.iter().cloned().chain([name]).collect();
                found.push(words.clone());
                queue.push(words);
            }
        }
    }
    found
}

#[test]
fn every_command_has_a_manual_page() {
    let directory = tempfile::tempdir().unwrap();
    let pages = directory.path().join("man1");
    ok(directory.path(), &["man", pages.to_str().unwrap()]);
    let commands = commands();
    assert!(commands.len() > 30, "{commands:?}");
    for words in commands {
        let name = ["umiak".to_owned()].into_iter().chain(words).collect::<Vec<_>>().join("-");
        let page = std::fs::read_to_string(pages.join(format!("{name}.1")));
        let page = page.unwrap_or_else(|error| panic!("{name}.1: {error}"));
        assert!(page.contains(".TH ") && page.contains(".SH NAME"), "{name}: {page}");
    }
}

#[test]
fn completions_are_scripts_that_shells_can_read() {
    let directory = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish", "powershell"] {
        let script = ok(directory.path(), &["completion", shell]);
        assert!(script.contains("_UMIAK_COMPLETE") && script.contains("umiak"), "{shell}: {script}");
        std::fs::write(directory.path().join(shell), &script).unwrap();
    }
    for shell in ["bash", "zsh", "fish"] {
        let check = Command::new(shell).arg("-n").arg(directory.path().join(shell)).output();
        // a shell that is not here cannot judge; bash is everywhere
        let Ok(output) = check else {
            assert_ne!(shell, "bash");
            continue;
        };
        assert!(output.status.success(), "{shell}: {}", text(&output.stderr));
    }
}

/// What bash would offer for the last of these words.
fn offered(directory: &Path, name: &str, words: &[&str]) -> Vec<String> {
    let script = r#"
source <("$1" completion bash) || exit 1
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMP_TYPE=9
_clap_complete_${1//-/_} "$1" "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD-1]}"
printf '%s\n' "${COMPREPLY[@]}""#;
    let mut command = Command::new("bash");
    command.args(["--norc", "-c", script, "bash", name]).args(words).current_dir(directory).env_clear();
    command.env("PATH", format!("{}:/usr/bin:/bin", directory.join("bin").display())).env("HOME", "/root");
    let output = command.output().unwrap();
    assert!(output.status.success(), "{words:?}: {}", text(&output.stderr));
    text(&output.stdout).lines().map(str::to_owned).collect()
}

#[test]
fn completions_offer_commands_flags_and_what_the_files_have() {
    let directory = tempfile::tempdir().unwrap();
    let here = directory.path();
    std::fs::create_dir(here.join("bin")).unwrap();
    for name in ["umiak", "docker-compose"] {
        std::os::unix::fs::symlink(binary(), here.join("bin").join(name)).unwrap();
    }
    let file = "services: {web: {image: x}, worker: {image: x}, tool: {image: x, profiles: [debug]}}\n";
    std::fs::write(here.join("compose.yaml"), file).unwrap();
    std::fs::write(here.join("other.yaml"), "services: {elsewhere: {image: x}}\n").unwrap();
    for (words, expected) in [
        (&["up", "w"][..], &["web", "worker"][..]),
        (&["exec", "web"], &["web"]),
        (&["run", "--rm", "t"], &["tool"]),
        (&["-f", "other.yaml", "logs", "--follow", "e"], &["elsewhere"]),
        (&["--profile", ""], &["debug"]),
        (&["up", "--exit-code-from", "wo"], &["worker"]),
        (&["-f", "oth"], &["other.yaml"]),
        (&["up", "--force"], &["--force-recreate"]),
        (&["unp"], &["unpause"]),
        (&["up", "--pull", "a"], &["always"]),
    ] {
        assert_eq!(offered(here, "umiak", words), expected, "{words:?}");
    }
    assert_eq!(offered(here, "docker-compose", &["ps", "we"]), ["web"]);
    for (shell, line) in [("zsh", "web"), ("fish", "web")] {
        let mut command = Command::new(here.join("bin/umiak"));
        command.args(["--", "umiak", "up", "we"]).current_dir(here).env_clear();
        command.env("_UMIAK_COMPLETE", shell).env("_CLAP_COMPLETE_INDEX", "2");
        assert_eq!(text(&command.output().unwrap().stdout).trim(), line, "{shell}");
    }
}

#[test]
fn a_wrong_command_line_is_told_in_docker_composes_words() {
    let directory = tempfile::tempdir().unwrap();
    let program = directory.path().join("docker-compose");
    std::os::unix::fs::symlink(binary(), &program).unwrap();
    let run = |words: &[&str]| Command::new(&program).args(words).current_dir(directory.path()).output().unwrap();
    for (words, said) in [
        (&["up", "--bogus"][..], "unknown flag: --bogus"),
        (&["cp", "-q", "a", "b"], "unknown shorthand flag: 'q' in -q"),
        (&["ps", "--format"], "flag needs an argument: --format"),
        (&["kill", "-s"], "flag needs an argument: 's' in -s"),
        (
            &["up", "-t", "x"],
            "invalid argument \"x\" for \"-t, --timeout\" flag: strconv.ParseInt: parsing \"x\": invalid syntax",
        ),
        (&["run"], "requires at least 1 arg(s), only received 0"),
        (&["exec", "web"], "requires at least 2 arg(s), only received 1"),
        (&["up", "--no-recreate", "--always-recreate-deps"], "are incompatible"),
        (&["publish"], "requires 1 argument\n\nUsage:  docker-compose publish [OPTIONS] REPOSITORY[:TAG]\n"),
        (&["publish", "a", "b"], "requires 1 argument\n"),
        (&["alpha", "viz"], "`alpha` of Docker Compose is not supported yet"),
    ] {
        let output = run(words);
        assert_eq!(output.status.code(), Some(1), "{words:?}");
        assert!(text(&output.stderr).contains(said), "{words:?}: {}", text(&output.stderr));
        assert!(output.stdout.is_empty(), "{words:?}");
    }
    std::fs::write(directory.path().join("compose.yaml"), "services: {web: {image: x}}\n").unwrap();
    let old = run(&["--verbose", "--no-ansi", "--workdir", directory.path().to_str().unwrap(), "config", "--services"]);
    assert_eq!(text(&old.stdout), "web\n", "{}", text(&old.stderr));
    let alone = run(&[]);
    assert!(alone.status.success() && text(&alone.stdout).contains("Usage: docker-compose"), "{}", text(&alone.stderr));
    let version = run(&["version", "-f", "json"]);
    assert!(text(&version.stdout).starts_with("{\"version\":\"v2."), "{}", text(&version.stdout));
}

#[test]
fn nobody_needs_to_be_root() {
    use std::os::unix::fs::PermissionsExt as _;
    use std::os::unix::process::CommandExt as _;
    let directory = tempfile::tempdir().unwrap();
    let open = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(directory.path(), open.clone()).unwrap();
    // where the binary lies, others may not reach it
    let copy = directory.path().join("umiak");
    std::fs::copy(binary(), &copy).unwrap();
    std::fs::set_permissions(&copy, open).unwrap();
    std::fs::write(directory.path().join("compose.yaml"), "services: {a: {image: x}}\n").unwrap();
    let roots = ["UMIAK_ROOT", "UMIAK_RUN_ROOT"];
    for words in [&["config"][..], &["config", "--support"], &["completion", "bash"], &["version"]] {
        let mut command = Command::new(&copy);
        command.args(words).current_dir(directory.path()).env_clear();
        command.envs(roots.map(|name| (name, directory.path().join(name))));
        if rustix::process::geteuid().is_root() {
            command.uid(65534);
        }
        let output = command.output().unwrap();
        assert!(output.status.success(), "{words:?}: {}", text(&output.stderr));
    }
    assert!(roots.iter().all(|name| !directory.path().join(name).exists()), "config made a directory");
}
