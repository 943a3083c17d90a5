//! Services of an external provider: a program that makes them available on
//! `up` and takes them away on `down`, and tells in JSON lines on its standard
//! output what its dependents find in their environment. Reading what it says is
//! pure; running it is thin.

use std::borrow::Cow;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, anyhow, bail};
use umiak_compose::model::Provider;
use umiak_compose::{Project, Service};

use crate::commands::Context;
use crate::failure::WithHint as _;
use crate::ui::progress::Progress;

/// Where Docker's plugins lie, but for the user's own.
const PLUGIN_DIRS: [&str; 4] = [
    "/usr/local/lib/docker/cli-plugins",
    "/usr/local/libexec/docker/cli-plugins",
    "/usr/lib/docker/cli-plugins",
    "/usr/libexec/docker/cli-plugins",
];

/// One line of what a provider says.
#[derive(Debug, PartialEq, Eq)]
enum Message {
    Info(String),
    Debug,
    Error(String),
    /// A variable, by the name that dependents see.
    Variable(String, String),
}

/// The services that are containers, and those that a provider gives; each in the order they came in.
pub fn split(services: Vec<&Service>) -> (Vec<&Service>, Vec<&Service>) {
    services.into_iter().partition(|service| service.provider.is_none())
}

/// Whether a service depends on one that a provider gives.
pub fn serves(project: &Project, service: &Service) -> bool {
    service.depends_on.keys().any(|name| is_provided(project, name))
}

/// Whether the service of this name is one that a provider gives.
pub fn is_provided(project: &Project, name: &str) -> bool {
    let service = project.services.get(name).or_else(|| project.disabled_services.get(name));
    service.is_some_and(|service| service.provider.is_some())
}

/// Has the provider of a service give it. The project, in which those that depend on it have the variables that the
/// provider has set.
pub fn up<'p>(
    context: &Context,
    mut project: Cow<'p, Project>,
    service: &Service,
    progress: &Progress,
) -> Result<Cow<'p, Project>> {
    let what = format!("Service {}", service.name);
    progress.working(&what, "Creating");
    if !context.global.dry_run {
        match run(&project, service, "up", progress) {
            Ok(variables) if variables.is_empty() => {}
            Ok(variables) => give(project.to_mut(), &service.name, &variables),
            Err(error) => {
                progress.failed(&what, "Error");
                return Err(error);
            }
        }
    }
    progress.done(&what, "Created");
    Ok(project)
}

/// The services of providers among the named ones, or all, in the order in which they are taken away: dependents first.
pub fn leaving<'p>(project: &'p Project, names: &[String]) -> Result<Vec<&'p Service>> {
    let provided = |service: &&Service| service.provider.is_some();
    let chosen = |service: &&Service| names.is_empty() || names.contains(&service.name);
    let all: Vec<&Service> = project.services.values().collect();
    Ok(project.levels(&all)?.into_iter().flatten().rev().filter(provided).filter(chosen).collect())
}

/// Has the provider of a service take it away.
pub fn down(context: &Context, project: &Project, service: &Service, progress: &Progress) -> Result<()> {
    let what = format!("Service {}", service.name);
    progress.working(&what, "Removing");
    match context.act(|| run(project, service, "down", progress).map(drop)) {
        Ok(()) => progress.done(&what, "Removed"),
        Err(error) => {
            progress.failed(&what, "Error");
            return Err(error);
        }
    }
    Ok(())
}

/// Puts variables into the environment of all that depend on a service.
fn give(project: &mut Project, service: &str, variables: &[(String, String)]) {
    let all = project.services.values_mut().chain(project.disabled_services.values_mut());
    for dependent in all.filter(|other| other.depends_on.contains_key(service)) {
        for (key, value) in variables {
            dependent.environment.insert(key.clone(), Some(value.clone()));
        }
    }
}

/// What a provider says of itself: `metadata`, which it need not know.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(default)]
struct Metadata {
    description: String,
    up: Verb,
    down: Verb,
}

#[derive(Debug, Default, serde::Deserialize)]
#[serde(default)]
struct Verb {
    parameters: Option<Vec<Parameter>>,
}

#[derive(Debug, Default, serde::Deserialize)]
#[serde(default)]
struct Parameter {
    name: String,
    required: bool,
}

impl Metadata {
    /// The parameters of a verb; nothing where the provider says nothing at all, and gets every option.
    fn parameters(&self, verb: &str) -> Option<&[Parameter]> {
        if self.description.is_empty() && self.up.parameters.is_none() && self.down.parameters.is_none() {
            return None;
        }
        let verb = if verb == "up" { &self.up } else { &self.down };
        Some(verb.parameters.as_deref().unwrap_or_default())
    }
}

/// What a provider is called with, as Docker Compose calls it: options that it knows for this verb, where it says
/// which.
fn arguments(
    project: &str,
    service: &str,
    provider: &Provider,
    verb: &str,
    known: Option<&[Parameter]>,
) -> Result<Vec<String>> {
    let missing =
        known.unwrap_or_default().iter().find(|one| one.required && !provider.options.contains_key(&one.name));
    if let Some(missing) = missing {
        bail!("required parameter \"{}\" is missing from provider \"{}\" definition", missing.name, provider.kind);
    }
    let mut words = vec!["compose".to_owned(), format!("--project-name={project}"), verb.to_owned()];
    for (key, values) in &provider.options {
        if known.is_none_or(|known| known.iter().any(|one| one.name == *key)) {
            words.extend(values.iter().map(|value| format!("--{key}={value}")));
        }
    }
    words.push(service.to_owned());
    Ok(words)
}

/// Asks a provider what it knows. One that cannot tell is taken to know everything.
fn metadata(program: &Path, project: &Project) -> Metadata {
    let mut command = Command::new(program);
    command.args(["compose", "metadata"]).envs(&project.environment).stdin(Stdio::null()).stderr(Stdio::null());
    let told = command.output().ok().filter(|output| output.status.success());
    told.and_then(|output| serde_json::from_slice(&output.stdout).ok()).unwrap_or_default()
}

/// Reads one line of what the provider of `service` says.
fn parse(service: &str, line: &str) -> Result<Message> {
    let unexpected = || format!("unexpected line from the provider: {line}");
    let value: serde_json::Value = serde_json::from_str(line).with_context(unexpected)?;
    let text = |key: &str| value.get(key).and_then(serde_json::Value::as_str);
    let (kind, message) = text("type").zip(text("message")).with_context(unexpected)?;
    let pair = || message.split_once('=').filter(|(key, _)| !key.is_empty()).with_context(unexpected);
    Ok(match kind {
        "info" => Message::Info(message.to_owned()),
        "debug" => Message::Debug,
        "error" => Message::Error(message.to_owned()),
        "setenv" => {
            let (key, value) = pair()?;
            let prefix = service.to_uppercase().replace('-', "_");
            Message::Variable(format!("{prefix}_{key}"), value.to_owned())
        }
        "rawsetenv" => {
            let (key, value) = pair()?;
            Message::Variable(key.to_owned(), value.to_owned())
        }
        _ => bail!("{}", unexpected()),
    })
}

/// The places of a provider's program, the first one that is there counts.
fn candidates(kind: &str, home: Option<&Path>, path: Option<&std::ffi::OsStr>) -> Vec<PathBuf> {
    if kind.contains('/') {
        return vec![PathBuf::from(kind)];
    }
    let plugin = format!("docker-{kind}");
    let own = home.map(|home| home.join(".docker/cli-plugins"));
    let plugins = own.into_iter().chain(PLUGIN_DIRS.iter().map(PathBuf::from)).map(|dir| dir.join(&plugin));
    let dirs: Vec<PathBuf> = path.map(|path| std::env::split_paths(path).collect()).unwrap_or_default();
    let by_name = dirs.iter().map(|dir| dir.join(kind));
    plugins.chain(by_name).chain(dirs.iter().map(|dir| dir.join(&plugin))).collect()
}

fn find(kind: &str) -> Result<PathBuf> {
    let home = std::env::var_os("HOME").map(PathBuf::from);
    let all = candidates(kind, home.as_deref(), std::env::var_os("PATH").as_deref());
    let runs =
        |path: &PathBuf| path.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0);
    all.into_iter()
        .find(runs)
        .ok_or_else(|| anyhow!("provider {kind} was not found"))
        .hint(|| format!("install the program `{kind}`, or the Docker plugin `docker-{kind}`, in a directory of PATH"))
}

/// Runs the provider of a service to its end. The variables that it sets.
fn run(project: &Project, service: &Service, verb: &str, progress: &Progress) -> Result<Vec<(String, String)>> {
    let Some(provider) = &service.provider else { return Ok(Vec::new()) };
    let about = || format!("service {}", service.name);
    let program = find(&provider.kind).with_context(about)?;
    let metadata = metadata(&program, project);
    let known = metadata.parameters(verb);
    let words = arguments(&project.name, &service.name, provider, verb, known).with_context(about)?;
    let mut child = Command::new(&program)
        .args(words)
        .envs(&project.environment)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("run {}", program.display()))
        .with_context(about)?;
    let said = listen(&mut child, &service.name, progress);
    if said.is_err() {
        // It speaks another language; nobody would read the rest.
        let _ = child.kill();
    }
    let status = child.wait().with_context(|| format!("wait for {}", program.display()))?;
    let (variables, error) = said.with_context(about)?;
    match error {
        Some(message) => bail!("service {}: {message}", service.name),
        None if !status.success() => {
            bail!("service {}: provider {} {verb} failed: {status}", service.name, provider.kind)
        }
        None => Ok(variables),
    }
}

/// Variables, and the first error that was told.
type Said = (Vec<(String, String)>, Option<String>);

fn listen(child: &mut Child, service: &str, progress: &Progress) -> Result<Said> {
    let (mut variables, mut failed) = (Vec::new(), None);
    let Some(output) = child.stdout.take() else { return Ok((variables, failed)) };
    for line in BufReader::new(output).lines() {
        let line = line.context("read what the provider says")?;
        if line.trim().is_empty() {
            continue;
        }
        match parse(service, &line)? {
            Message::Info(text) => progress.working(&format!("Service {service}"), &text),
            Message::Debug => {}
            Message::Error(text) => drop(failed.get_or_insert(text)),
            Message::Variable(key, value) => variables.push((key, value)),
        }
    }
    Ok((variables, failed))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_by_their_type() {
        let variable = |key: &str, value: &str| Message::Variable(key.to_owned(), value.to_owned());
        let parse = |line: &str| parse("my-db", line);
        assert_eq!(parse(r#"{"type":"info","message":"working"}"#).unwrap(), Message::Info("working".to_owned()));
        assert_eq!(parse(r#"{"type":"debug","message":"x"}"#).unwrap(), Message::Debug);
        assert_eq!(parse(r#"{"type":"error","message":"no"}"#).unwrap(), Message::Error("no".to_owned()));
        assert_eq!(parse(r#"{"type":"setenv","message":"URL=a=b"}"#).unwrap(), variable("MY_DB_URL", "a=b"));
        assert_eq!(parse(r#"{"type":"rawsetenv","message":"URL="}"#).unwrap(), variable("URL", ""));
        for wrong in ["hello", "{}", r#"{"type":"setenv","message":"URL"}"#, r#"{"type":"other","message":"x"}"#] {
            assert!(format!("{:#}", parse(wrong).unwrap_err()).contains(wrong));
        }
    }

    #[test]
    fn a_provider_is_called_as_docker_compose_calls_it() {
        let values = vec!["1".to_owned(), "2".to_owned()];
        let provider = Provider { options: [("size".to_owned(), values)].into_iter().collect(), ..Provider::default() };
        let words = |metadata: &str| {
            let metadata: Metadata = serde_json::from_str(metadata).unwrap();
            arguments("demo", "db", &provider, "up", metadata.parameters("up")).map(|words| words.join(" "))
        };
        assert_eq!(words("{}").unwrap(), "compose --project-name=demo up --size=1 --size=2 db");
        assert_eq!(words(r#"{"description":"none"}"#).unwrap(), "compose --project-name=demo up db");
        let known = r#"{"up":{"parameters":[{"name":"size","required":true}]}}"#;
        assert_eq!(words(known).unwrap(), words("{}").unwrap());
        let other = words(&known.replace("size", "zone")).unwrap_err().to_string();
        assert_eq!(other, "required parameter \"zone\" is missing from provider \"\" definition");
    }

    #[test]
    fn a_program_is_a_path_or_looked_for_among_plugins_and_on_the_path() {
        assert_eq!(candidates("./cloud", None, Some("/bin".as_ref())), [PathBuf::from("./cloud")]);
        let all = candidates("cloud", Some(Path::new("/home/me")), Some("/a:/b".as_ref()));
        assert_eq!(all.first().unwrap(), Path::new("/home/me/.docker/cli-plugins/docker-cloud"));
        let last: Vec<&str> = all.iter().rev().take(4).rev().filter_map(|path| path.to_str()).collect();
        assert_eq!(last, ["/a/cloud", "/b/cloud", "/a/docker-cloud", "/b/docker-cloud"]);
    }
}
