//! `--flag=true` and `-d=false`: what is yes or no takes a value behind `=`, as with Docker's programs.

use std::ffi::OsString;

use clap::{Arg, ArgAction, Command};

/// The command line for these words. Where none of them has a value behind `=`, nothing changes, help texts included.
pub fn with_values(command: Command, words: &[OsString]) -> Command {
    let valued = |word: &OsString| word.to_str().is_some_and(|word| word.starts_with('-') && word.contains('='));
    if words.iter().any(valued) { take_values(command) } else { command }
}

fn take_values(command: Command) -> Command {
    command.mut_args(take_value).mut_subcommands(take_values)
}

fn take_value(arg: Arg) -> Arg {
    // Those that a variable may set have words of their own for it.
    if !matches!(arg.get_action(), ArgAction::SetTrue) || arg.get_env().is_some() {
        return arg;
    }
    arg.action(ArgAction::Set)
        .num_args(0..=1)
        .require_equals(true)
        .default_value("false")
        .default_missing_value("true")
        .value_parser(parse)
}

/// The words that Go takes.
fn parse(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(format!("strconv.ParseBool: parsing \"{text}\": invalid syntax")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{Args as _, FromArgMatches as _};

    #[derive(Debug, clap::Args)]
    struct Flags {
        #[arg(short, long)]
        detach: bool,
        #[arg(short, long)]
        tty: bool,
        #[arg(short, long)]
        interactive: bool,
        image: String,
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        rest: Vec<String>,
    }

    fn seen(line: &str) -> Option<String> {
        let words: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        let command = Command::new("x").subcommand(Flags::augment_args(Command::new("run")).args_override_self(true));
        let matches = with_values(command, &words).try_get_matches_from(words).ok()?;
        let flags = Flags::from_arg_matches(matches.subcommand()?.1).ok()?;
        let on = [(flags.detach, "d"), (flags.tty, "t"), (flags.interactive, "i")];
        let on: String = on.into_iter().filter(|(on, _)| *on).map(|(_, letter)| letter).collect();
        Some(format!("{on} {} {}", flags.image, flags.rest.join(" ")).trim_end().to_owned())
    }

    #[test]
    fn the_last_value_counts() {
        for (line, expected) in [
            ("x run -dit a", Some("dti a")),
            ("x run -d=false --tty=true a", Some("t a")),
            ("x run -dit=false a", Some("di a")),
            ("x run --detach --detach=false -i=1 a", Some("i a")),
            ("x run -d a b --tty=true -i=false", Some("d a b --tty=true -i=false")),
            ("x run --detach=F b --x=y", Some(" b --x=y")),
            ("x run --detach=perhaps a", None),
        ] {
            assert_eq!(seen(line).as_deref(), expected, "{line}");
        }
    }
}
