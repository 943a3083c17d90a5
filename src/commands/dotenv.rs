//! Variables of the project's `.env` that are about the command line itself, as far as Docker Compose takes them from there.

use clap::ArgMatches;
use clap::builder::{FalseyValueParser, TypedValueParser as _};
use clap::parser::ValueSource;

use super::Global;
use crate::project::load;

/// Fills in what neither the command line nor the environment has said. What is wrong with the file is told by whoever
/// loads the project.
pub fn complete(global: &mut Global, matches: &ArgMatches) {
    let open = |id: &str| matches!(matches.value_source(id), None | Some(ValueSource::DefaultValue));
    let Ok(options) = load::options(global, &[], false) else { return };
    let variables = umiak_compose::project_environment(&options);
    let value = |name: &str| variables.get(name).filter(|value| !value.is_empty());
    if let Some(value) = value("COMPOSE_COMPATIBILITY").filter(|_| open("compatibility")) {
        let command = clap::Command::new("");
        global.compatibility = FalseyValueParser::new().parse_ref(&command, None, value.as_ref()).unwrap_or_default();
    }
    if let Some(value) = value("COMPOSE_ANSI").filter(|_| open("ansi") && !global.no_ansi) {
        global.ansi = clap::ValueEnum::from_str(value, false).unwrap_or(global.ansi);
    }
    if let Some(value) = value("COMPOSE_PARALLEL_LIMIT").filter(|_| open("parallel")) {
        global.parallel = value.parse().ok();
    }
}
