//! Finds the project that a command means: from its Compose files, or by name
//! alone from the labels of what is there.

use std::path::PathBuf;

use anyhow::{Context as _, Result};

use crate::commands::{Context, Global};
use umiak_compose::{LoadOptions, Project, Skip};

/// Loads the project's model. `services` are those named on the command line: naming one activates its profiles.
pub fn model(context: &Context, services: &[String], for_running: bool) -> Result<Project> {
    let project = load(context, services, for_running)?;
    for warning in project.warnings.iter().chain(&super::host_keys::warnings(&project)) {
        crate::note!("{}", warning.render());
    }
    Ok(project)
}

fn load(context: &Context, services: &[String], for_running: bool) -> Result<Project> {
    Ok(umiak_compose::load(&options(&context.global, services, for_running)?)?)
}

/// What the command line and the environment say about the project to load.
pub fn options(global: &Global, services: &[String], for_running: bool) -> Result<LoadOptions> {
    Ok(LoadOptions {
        files: global.files.clone(),
        project_name: global.project_name.clone(),
        project_dir: global.project_directory.clone(),
        env_files: global.env_files.clone(),
        profiles: global.profiles.clone(),
        services: services.to_vec(),
        environment: std::env::vars_os()
            .filter_map(|(key, value)| Some((key.into_string().ok()?, value.into_string().ok()?)))
            .collect(),
        current_dir: std::env::current_dir().context("the current directory")?,
        for_running,
        all_resources: global.all_resources,
        skip: Skip::default(),
        disk: umiak_compose::Disk::Fetching(super::remote::fetching(&global.registries)),
    })
}

/// A project as far as a command needs it: its name, and its model where there are files.
#[derive(Debug)]
pub struct Named {
    /// The project's name.
    pub name: String,
    /// Its model, unless only a name was given.
    pub model: Option<Project>,
}

impl Named {
    /// Whether the model has this service; without a model nothing is known.
    pub fn knows(&self, service: &str) -> bool {
        self.model.as_ref().is_some_and(|model| model.knows(service))
    }
}

/// The project by `-p` alone, or by its files. With a name and no file, what is there is found by labels.
pub fn named(context: &Context, services: &[String]) -> Result<Named> {
    let global = &context.global;
    let only_name = global.files.is_empty() && global.project_directory.is_none();
    match (load(context, services, false), &global.project_name) {
        (Ok(project), _) => Ok(Named { name: project.name.clone(), model: Some(project) }),
        (Err(_), Some(name)) if only_name && !has_files() => Ok(Named { name: name.clone(), model: None }),
        (Err(error), _) => Err(error),
    }
}

fn has_files() -> bool {
    let names = ["compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml"];
    std::env::var_os("COMPOSE_FILE").is_some() || names.iter().any(|name| PathBuf::from(name).exists())
}
