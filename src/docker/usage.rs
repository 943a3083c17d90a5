//! What is said of a command line that is wrong, and with which exit code: 125
//! for a flag, 1 for a command or an argument, as Docker's client does.

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::Result;
use clap::error::{ContextKind, ContextValue, ErrorKind};

use crate::failure;

/// Docker's commands that this version does not have.
const COMMANDS: &[&str] = &[
    "buildx bake",
    "buildx dial-stdio",
    "buildx history",
    "buildx imagetools",
    "checkpoint",
    "config",
    "context create",
    "context export",
    "context import",
    "context rm",
    "context update",
    "manifest",
    "node",
    "plugin",
    "search",
    "secret",
    "service",
    "stack",
    "swarm",
    "system dial-stdio",
    "trust",
    "volume update",
];

/// The same for flags.
const FLAGS: &[&str] = &[
    "build --annotation",
    "create --use-api-socket",
    "image ls --tree",
    "images --tree",
    "network create --config-from",
    "network create --config-only",
    "network create --ingress",
    "network create --ipam-opt",
    "run --use-api-socket",
];

fn text(error: &clap::Error, kind: ContextKind) -> String {
    match error.get(kind) {
        Some(ContextValue::String(text)) => text.clone(),
        Some(ContextValue::Strings(all)) => all.first().cloned().unwrap_or_default(),
        _ => String::new(),
    }
}

/// The words of the command line that name a command, and how it is used.
fn command(arguments: &[OsString]) -> (String, String) {
    let tree = super::tree();
    let mut path = "docker".to_owned();
    let mut current = &tree;
    for word in arguments.iter().filter_map(|word| word.to_str()).filter(|word| !word.starts_with('-')) {
        let Some(found) = current.find_subcommand(word) else { break };
        path = format!("{path} {}", found.get_name());
        current = found;
    }
    let usage = current.clone().render_usage().to_string();
    (path, usage.trim_start_matches("Usage:").trim().to_owned())
}

/// Says it, and gives the exit code.
pub fn explain(error: &clap::Error, arguments: &[OsString]) -> Result<ExitCode> {
    let tree = super::tree();
    let (path, usage) = command(arguments);
    let wrong = |what: String| {
        crate::note!("{what}\n\nUsage:  {usage}\n\nRun '{path} --help' for more information");
        Ok(failure::code(125))
    };
    match error.kind() {
        ErrorKind::UnknownArgument => {
            let name = text(error, ContextKind::InvalidArg);
            let name = name.split('=').next().unwrap_or_default();
            let whole = format!("{path} {name}");
            if FLAGS.iter().any(|flag| whole.ends_with(&format!(" {flag}"))) {
                crate::note!("{path}: the option '{name}' is not supported yet by this version of umiak");
                return Ok(failure::code(125));
            }
            match name.strip_prefix("--") {
                Some(_) => wrong(format!("unknown flag: {name}")),
                None if name.starts_with('-') => {
                    let letter = name.chars().nth(1).unwrap_or_default();
                    wrong(format!("unknown shorthand flag: '{letter}' in {name}"))
                }
                None => {
                    let needs = needs(&line(&tree, arguments));
                    crate::note!(
                        "docker: '{path}' {needs}\n\nUsage:  {usage}\n\nRun '{path} --help' for more information"
                    );
                    Ok(failure::code(1))
                }
            }
        }
        ErrorKind::InvalidSubcommand => {
            let name = text(error, ContextKind::InvalidSubcommand);
            let whole = format!("{path} {name}");
            if let Some(known) = whole.strip_prefix("docker ").filter(|name| COMMANDS.contains(name)) {
                crate::note!("docker: the command '{known}' is not supported yet by this version of umiak");
                return Ok(failure::code(125));
            }
            crate::note!("docker: unknown command: {path} {name}\n\nRun '{path} --help' for more information");
            Ok(failure::code(1))
        }
        ErrorKind::InvalidValue | ErrorKind::ValueValidation => {
            let (flag, value) = (text(error, ContextKind::InvalidArg), text(error, ContextKind::InvalidValue));
            let flag = flag.split([' ', '[']).next().unwrap_or_default();
            // Where there is a cause, the value is just empty.
            if value.is_empty() && std::error::Error::source(error).is_none() {
                return wrong(format!("flag needs an argument: {flag}"));
            }
            let (flag, cause) = (both(&line(&tree, arguments), flag), cause(error, &value));
            wrong(format!("invalid argument \"{value}\" for \"{flag}\" flag: {cause}"))
        }
        ErrorKind::MissingRequiredArgument => {
            let needs = needs(&line(&tree, arguments));
            crate::note!("docker: '{path}' {needs}\n\nUsage:  {usage}\n\nRun '{path} --help' for more information");
            Ok(failure::code(1))
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand | ErrorKind::MissingSubcommand => {
            let inner = path.split(' ').skip(1).try_fold(&tree, |command, word| command.find_subcommand(word));
            let help = inner.unwrap_or(&tree).clone().render_help().to_string();
            // Told as an error, which it is not.
            crate::note!("{}", help.trim_end());
            Ok(ExitCode::SUCCESS)
        }
        _ => error.exit(),
    }
}

/// Says what is wrong with a command line of Docker Compose, in one line; the exit code is always 1.
///
/// # Errors
/// Always, but where help was asked for, or no command at all was given.
pub fn of_compose(error: &clap::Error, tree: &clap::Command, words: &[OsString]) -> Result<ExitCode> {
    let mut path = vec![tree];
    for word in words.iter().filter_map(|word| word.to_str()) {
        path.extend(path.last().and_then(|current| current.find_subcommand(word)));
    }
    let current = path.last().copied().unwrap_or(tree);
    let name = match current.get_name() {
        name if path.len() > 1 => format!("{} {name}", tree.get_name()),
        name => name.to_owned(),
    };
    let invalid = |kind| text(error, kind);
    let said = match error.kind() {
        ErrorKind::MissingSubcommand => {
            crate::ui::write_raw(current.clone().render_help().to_string().as_bytes());
            return Ok(ExitCode::SUCCESS);
        }
        ErrorKind::UnknownArgument => match invalid(ContextKind::InvalidArg).split('=').next().unwrap_or_default() {
            flag if flag.starts_with("--") => format!("unknown flag: {flag}"),
            flag if flag.starts_with('-') => {
                format!("unknown shorthand flag: '{}' in {flag}", flag.chars().nth(1).unwrap_or_default())
            }
            _ if takes_one(current) => one_argument(&name, current),
            word => format!("unknown command \"{word}\" for \"{name}\""),
        },
        ErrorKind::InvalidSubcommand => {
            let word = invalid(ContextKind::InvalidSubcommand);
            let called = name.strip_prefix("docker ").unwrap_or(&name);
            format!("unknown docker command: \"{called} {word}\"\n\nRun '{name} --help' for more information")
        }
        ErrorKind::InvalidValue | ErrorKind::ValueValidation => {
            let (flag, value) = (invalid(ContextKind::InvalidArg), invalid(ContextKind::InvalidValue));
            let long = flag.split([' ', '[', '=']).next().unwrap_or_default();
            match words.last().and_then(|word| word.to_str()) {
                Some(last) if value.is_empty() && last.starts_with('-') && !last.starts_with("--") => {
                    format!("flag needs an argument: '{}' in {last}", last.chars().last().unwrap_or_default())
                }
                _ if value.is_empty() => format!("flag needs an argument: {long}"),
                _ if long.starts_with("--") => {
                    format!("invalid argument \"{value}\" for \"{}\" flag: {}", both(&path, long), cause(error, &value))
                }
                _ => cause(error, &value),
            }
        }
        ErrorKind::MissingRequiredArgument if takes_one(current) => one_argument(&name, current),
        ErrorKind::MissingRequiredArgument => {
            let needed = current.get_positionals().filter(|arg| arg.is_required_set()).count();
            let missing = match error.get(ContextKind::InvalidArg) {
                Some(ContextValue::Strings(all)) => all.len(),
                _ => 1,
            };
            format!("requires at least {needed} arg(s), only received {}", needed.saturating_sub(missing))
        }
        ErrorKind::ArgumentConflict => {
            let flag = |text: String| text.split([' ', '[', '=']).next().unwrap_or_default().to_owned();
            let (one, other) = (flag(invalid(ContextKind::InvalidArg)), flag(invalid(ContextKind::PriorArg)));
            format!("{one} and {other} are incompatible")
        }
        _ if error.use_stderr() => error.to_string().trim_start_matches("error: ").trim_end().to_owned(),
        _ => error.exit(),
    };
    Err(failure::Coded { text: said, code: 1 }.into())
}

/// The commands that the words name, each inside the one before.
fn line<'t>(tree: &'t clap::Command, words: &[OsString]) -> Vec<&'t clap::Command> {
    let mut path = vec![tree];
    for word in words.iter().filter_map(|word| word.to_str()).filter(|word| !word.starts_with('-')) {
        let Some(found) = path.last().and_then(|current| current.find_subcommand(word)) else { break };
        path.push(found);
    }
    path
}

/// How many arguments a command takes, in Docker's words.
fn needs(path: &[&clap::Command]) -> String {
    let operands: Vec<&clap::Arg> = path.last().map(|command| command.get_positionals().collect()).unwrap_or_default();
    let least = operands.iter().filter(|operand| operand.is_required_set()).count();
    let several = |operand: &&clap::Arg| operand.get_num_args().is_some_and(|range| range.max_values() > 1);
    let bounded = !operands.last().is_some_and(several);
    let counted = |count: usize| if count == 1 { "1 argument".to_owned() } else { format!("{count} arguments") };
    match operands.len() {
        0 => "accepts no arguments".to_owned(),
        most if bounded && most == least => format!("requires {}", counted(least)),
        most if bounded && least == 0 => format!("requires at most {}", counted(most)),
        _ => format!("requires at least {}", counted(least)),
    }
}

/// `-t, --timeout`, where a flag has both.
fn both(path: &[&clap::Command], long: &str) -> String {
    let mut args = path.iter().rev().flat_map(|command| command.get_arguments());
    let found = args.find(|arg| arg.get_long().is_some_and(|name| long.strip_prefix("--") == Some(name)));
    found.and_then(clap::Arg::get_short).map_or_else(|| long.to_owned(), |short| format!("-{short}, {long}"))
}

/// Why a value is none.
fn cause(error: &clap::Error, value: &str) -> String {
    if let Some(source) = std::error::Error::source(error) {
        return match source.to_string() {
            digits if digits.contains("digit found") => {
                format!("strconv.ParseInt: parsing \"{value}\": invalid syntax")
            }
            other => other,
        };
    }
    match error.get(ContextKind::ValidValue) {
        Some(ContextValue::Strings(all)) => format!("must be one of {}", all.join(", ")),
        _ => "invalid value".to_owned(),
    }
}

/// Whether Docker Compose says of a command that it takes one argument, neither more nor less.
fn takes_one(command: &clap::Command) -> bool {
    command.get_name() == "publish"
}

fn one_argument(name: &str, command: &clap::Command) -> String {
    let names = command.get_positionals().flat_map(|arg| arg.get_value_names().unwrap_or_default());
    let argument: String = names.map(|name| format!(" {name}")).collect();
    format!(
        "docker: '{name}' requires 1 argument\n\nUsage:  {name} [OPTIONS]{argument}\n\nRun '{name} --help' for more information"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    use clap::CommandFactory as _;

    #[test]
    fn what_is_said_to_come_later_is_not_there() {
        let tree = super::super::tree();
        let find = |path: &str| path.split(' ').try_fold(&tree, |command, word| command.find_subcommand(word));
        for name in COMMANDS {
            assert!(find(name).is_none(), "{name}");
        }
        for flag in FLAGS {
            let (command, flag) = flag.rsplit_once(" --").unwrap();
            let known = find(command).unwrap().get_arguments().any(|arg| arg.get_long() == Some(flag));
            assert!(!known, "{command} --{flag}");
        }
        super::super::Cli::command().debug_assert();
    }

    #[test]
    fn usage_names_the_command_that_was_meant() {
        let words = |text: &str| text.split(' ').map(OsString::from).collect::<Vec<_>>();
        assert_eq!(command(&words("container ls --bad")).0, "docker container ls");
        assert!(command(&words("rm")).1.starts_with("docker rm [OPTIONS] <CONTAINERS>"), "{}", command(&words("rm")).1);
        assert_eq!(command(&words("nosuch")).0, "docker");
    }
}
