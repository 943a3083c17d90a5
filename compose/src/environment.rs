//! The project's environment: the process environment over environment files, and the `COMPOSE_*` variables in it.

use std::path::{Path, PathBuf};

use super::diagnostic::Span;
use super::dotenv::{self, DotenvError};
use super::interpolate::Environment;
use super::node::Problems;
use super::paths::{clean, is_remote};

/// Reads an environment file into `vars`; errors and unset variables are reported at their line.
pub(crate) fn read_file(
    path: &Path,
    name: &str,
    raw: bool,
    vars: &mut Environment,
    lookup: dotenv::Lookup<'_>,
    problems: &mut Problems,
) -> Result<(), ()> {
    let text = match problems.disk.read(path) {
        Ok(text) => text,
        Err(error) => {
            problems.error(Span::default(), format!("failed to read {name}: {error}")).place = None;
            return Err(());
        }
    };
    let mut unset = Vec::new();
    let result = match raw {
        true => dotenv::parse_raw(&text, vars, lookup),
        false => dotenv::parse(&text, vars, lookup, &mut |name| unset.push(name.to_owned())),
    };
    for variable in unset {
        let message = format!("The \"{variable}\" variable is not set. Defaulting to a blank string.");
        let warning = problems.warning(Span::default(), message);
        warning.place = None;
        warning.help = Some(format!("it is used in {name}"));
    }
    result.map_err(|DotenvError { line, message }| {
        let source = problems.sources.add(name, text);
        let line = u32::try_from(line).unwrap_or(u32::MAX);
        let span = Span { source, line, column: 1, length: u32::from(u16::MAX) };
        problems.error(span, format!("failed to read {name}: line {line}: {message}"));
    })
}

/// What the environment says about the command line's defaults.
pub(crate) struct Defaults<'a>(pub(crate) &'a Environment);

impl Defaults<'_> {
    /// `COMPOSE_FILE`, split at `COMPOSE_PATH_SEPARATOR`.
    pub(crate) fn files(&self, current_dir: &Path) -> Vec<PathBuf> {
        let separator =
            self.0.get("COMPOSE_PATH_SEPARATOR").filter(|text| !text.is_empty()).map_or(":", String::as_str);
        let Some(files) = self.0.get("COMPOSE_FILE") else { return Vec::new() };
        let absolute = |file: &str| match file {
            "-" => PathBuf::from(file),
            file if is_remote(file) => PathBuf::from(file),
            file => clean(&current_dir.join(file)),
        };
        files.split(separator).map(absolute).collect()
    }

    /// `COMPOSE_ENV_FILES`, split at commas.
    pub(crate) fn env_files(&self) -> Vec<PathBuf> {
        let files = self.0.get("COMPOSE_ENV_FILES").map(String::as_str).unwrap_or_default();
        files.split(',').filter(|file| !file.is_empty()).map(PathBuf::from).collect()
    }

    /// `COMPOSE_PROFILES`, split at commas, trimmed.
    pub(crate) fn profiles(&self) -> Vec<String> {
        let profiles = self.0.get("COMPOSE_PROFILES").map(String::as_str).unwrap_or_default();
        profiles.split(',').map(|profile| profile.trim().to_owned()).collect()
    }

    /// Whether `COMPOSE_DISABLE_ENV_FILE` switches `.env` off.
    pub(crate) fn env_file_disabled(&self) -> bool {
        let value = self.0.get("COMPOSE_DISABLE_ENV_FILE").map(String::as_str).unwrap_or_default();
        matches!(value, "1" | "t" | "T" | "true" | "True" | "TRUE")
    }
}

/// The variables of an environment file that a command names (`--env-from-file`), later lines over earlier ones.
/// References see `lookup` first.
///
/// # Errors
/// What is wrong with the file, in words.
pub fn env_file(path: &Path, lookup: &dyn Fn(&str) -> Option<String>) -> Result<Environment, String> {
    let text =
        super::disk::Disk::Machine.read(path).map_err(|error| format!("failed to read {}: {error}", path.display()))?;
    let mut vars = Environment::new();
    dotenv::parse(&text, &mut vars, lookup, &mut |_| {}).map_err(|DotenvError { line, message }| {
        format!("failed to read {}: line {line}: {message}", path.display())
    })?;
    Ok(vars)
}
