//! What is looked at before a project is published: what cannot be, and what its author may not want others to see. The
//! words are Docker Compose's.

use std::fmt::Write as _;
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use umiak_compose::{Project, ServiceVolume, VolumeKind};

use super::Files;
use super::secrets::{self, Finding};

/// Fails for services that nobody else could run: they are built here, and their image has no name.
pub fn refuse_only_built(project: &Project) -> Result<()> {
    let only = |service: &&umiak_compose::Service| service.build.is_some() && service.image.is_none();
    let mut names: Vec<&str> = project.services.values().filter(only).map(|service| service.name.as_str()).collect();
    names.sort_unstable();
    if names.is_empty() {
        return Ok(());
    }
    let lines: String = names.iter().map(|name| format!("\n- {name:?}")).collect();
    bail!("your Compose stack cannot be published as it only contains a build section for service(s):{lines}")
}

/// The questions to ask, each a whole text. `unread` is the project before its environment files were read. Fails where
/// variables would be published without `--with-env`.
pub fn questions(project: &Project, unread: &Project, files: &Files, with_env: bool) -> Result<Vec<String>> {
    let mut questions = Vec::new();
    questions.extend(bind_mounts(project));
    questions.extend(sensitive(&findings(project, files)?));
    questions.extend(environment(project, unread, with_env)?);
    Ok(questions)
}

fn bind_mounts(project: &Project) -> Option<String> {
    let mut lines = String::new();
    for service in project.services.values() {
        for volume in service.volumes.iter().filter(|volume| volume.kind == VolumeKind::Bind) {
            let _ = writeln!(lines, "{}: {}", service.name, short(volume));
        }
    }
    (!lines.is_empty()).then(|| {
        format!(
            "you are about to publish bind mounts declaration within your OCI artifact.\n\
             only the bind mount declarations will be added to the OCI artifact (not content)\n\
             please double check that you are not mounting potential user's sensitive directories or data\n\
             {lines}Are you ok to publish these bind mount declarations?"
        )
    })
}

fn short(volume: &ServiceVolume) -> String {
    let mode = if volume.read_only { ":ro" } else { "" };
    format!("{}:{}{mode}", volume.source.as_deref().unwrap_or_default(), volume.target)
}

fn sensitive(findings: &[Finding]) -> Option<String> {
    let mut lines = String::new();
    for finding in findings {
        let _ = writeln!(lines, "{}\n{}: {}", finding.kind, finding.place, finding.shown);
    }
    (!lines.is_empty()).then(|| {
        format!(
            "you are about to publish sensitive data within your OCI artifact.\n\
             please double check that you are not leaking sensitive data\n\
             {lines}Are you ok to publish these sensitive data?"
        )
    })
}

/// What looks like a secret in the Compose files, environment files, and the files of configs and secrets.
fn findings(project: &Project, files: &Files) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for copy in files.main.iter().chain(&files.extended) {
        findings.extend(secrets::find(&copy.path.display().to_string(), &copy.text));
    }
    let objects = project.configs.values().chain(project.secrets.values());
    let others = objects.filter_map(|object| object.file.as_ref());
    for path in files.env_files.keys().chain(others) {
        if let Some(text) = text(path)? {
            findings.extend(secrets::find(&path.display().to_string(), &text));
        }
    }
    Ok(findings)
}

/// A file's text; `None` without one, as where it is optional.
fn text(path: &PathBuf) -> Result<Option<String>> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("read {}", path.display())),
    }
}

fn environment(project: &Project, unread: &Project, with_env: bool) -> Result<Option<String>> {
    let (mut reasons, mut lines) = (String::new(), String::new());
    for service in project.services.values() {
        let name = &service.name;
        if unread.services.get(name).is_some_and(|service| !service.env_file.is_empty()) {
            let _ = writeln!(reasons, "service {name:?} has env_file declared.");
        }
        if !service.environment.is_empty() {
            let _ = writeln!(reasons, "service {name:?} has environment variable(s) declared.");
            let _ = writeln!(lines, "Service/Config  {name}");
            for (key, value) in &service.environment {
                let _ = writeln!(lines, "{key}={}", value.as_deref().unwrap_or_default());
            }
        }
    }
    for (name, config) in &project.configs {
        if let Some(variable) = &config.environment {
            let _ = writeln!(reasons, "config {name:?} is declare as an environment variable.");
            let _ = writeln!(lines, "Service/Config  {name}\n{name}={variable}");
        }
    }
    if !with_env && !reasons.is_empty() {
        bail!(
            "{reasons}To avoid leaking sensitive data, you must either explicitly allow the sending of environment \
             variables by using the --with-env flag,\nor remove sensitive data from your Compose configuration"
        );
    }
    Ok((!lines.is_empty()).then(|| {
        format!(
            "you are about to publish environment variables within your OCI artifact.\n\
             please double check that you are not leaking sensitive data\n\
             {lines}Are you ok to publish these environment variables?"
        )
    }))
}
