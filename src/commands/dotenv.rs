//! Variables of the project's `.env` that are about the command line itself, as far as Docker Compose takes them from there.

use std::path::{Path, PathBuf};

use clap::ArgMatches;
use clap::builder::{FalseyValueParser, TypedValueParser as _};
use clap::parser::ValueSource;

use super::Global;

/// Fills in what neither the command line nor the environment has said. What is wrong with the file is told by whoever
/// loads the project.
pub fn complete(global: &mut Global, matches: &ArgMatches) {
    let open = |id: &str| matches!(matches.value_source(id), None | Some(ValueSource::DefaultValue));
    let variables = variables(global);
    let value = |name: &str| variables.get(name).filter(|value| !value.is_empty());
    if let Some(value) = value("COMPOSE_COMPATIBILITY").filter(|_| open("compatibility")) {
        let command = clap::Command::new("");
        global.compatibility = FalseyValueParser::new().parse_ref(&command, None, value.as_ref()).unwrap_or_default();
    }
    if let Some(value) = value("COMPOSE_ANSI").filter(|_| open("ansi")) {
        global.ansi = clap::ValueEnum::from_str(value, false).unwrap_or(global.ansi);
    }
    if let Some(value) = value("COMPOSE_PARALLEL_LIMIT").filter(|_| open("parallel")) {
        global.parallel = value.parse().ok();
    }
}

fn variables(global: &Global) -> std::collections::BTreeMap<String, String> {
    let said = |name: &str| std::env::var(name).unwrap_or_default();
    let files: Vec<PathBuf> = if !global.env_files.is_empty() {
        global.env_files.clone()
    } else if !said("COMPOSE_ENV_FILES").is_empty() {
        said("COMPOSE_ENV_FILES").split(',').map(PathBuf::from).collect()
    } else if matches!(said("COMPOSE_DISABLE_ENV_FILE").as_str(), "1" | "t" | "T" | "true" | "True" | "TRUE") {
        Vec::new()
    } else {
        let of_file = || global.files.iter().find(|file| file.as_os_str() != "-")?.parent().map(Path::to_owned);
        let directory = global.project_directory.clone().or_else(of_file).unwrap_or_default();
        vec![directory.join(".env")]
    };
    let lookup = |name: &str| std::env::var(name).ok();
    let read =
        files.iter().filter(|file| file.is_file()).filter_map(|file| umiak_compose::env_file(file, &lookup).ok());
    read.flatten().collect()
}
