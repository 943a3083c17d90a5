//! `run IMAGE -t word`: what stands behind the image is the program's own command line, whatever it looks like. clap sees
//! it as such from its second word on only, so that a first one which is also a flag of ours would be taken for it.

use std::ffi::OsString;

use clap::{Arg, Command};

/// The words with `--` before the first operand of a command whose operands end with a command line.
pub fn separated(tree: &Command, words: Vec<OsString>) -> Vec<OsString> {
    let Some(place) = place(tree, &words) else { return words };
    let mut separated = words;
    separated.insert(place, OsString::from("--"));
    separated
}

/// Where that is; nowhere in other commands, and in lines that clap will find wrong.
fn place(tree: &Command, words: &[OsString]) -> Option<usize> {
    let mut path = vec![tree];
    let mut index = 0;
    while let Some(word) = words.get(index) {
        let word = word.to_str()?;
        let current = *path.last()?;
        match word.strip_prefix('-') {
            Some("-") => return None,
            Some("") | None => match current.find_subcommand(word) {
                Some(inner) => path.push(inner),
                None => return ends_with_a_command_line(current).then_some(index),
            },
            Some(flags) if takes_next(&path, flags)? => index += 1,
            Some(_) => {}
        }
        index += 1;
    }
    None
}

/// Whether the last operand is a command line, and not the first one, too.
fn ends_with_a_command_line(command: &Command) -> bool {
    let operands: Vec<&Arg> = command.get_positionals().collect();
    operands.len() > 1 && operands.last().is_some_and(|last| last.is_trailing_var_arg_set())
}

/// Whether the value of `-flags` is the next word; `None` where a flag is not known.
fn takes_next(path: &[&Command], flags: &str) -> Option<bool> {
    if let Some(long) = flags.strip_prefix('-') {
        if long.contains('=') {
            return Some(false);
        }
        let named = |arg: &&Arg| {
            arg.get_long() == Some(long) || arg.get_all_aliases().is_some_and(|aliases| aliases.contains(&long))
        };
        return match find(path, named) {
            Some(arg) => Some(needs_value(arg)),
            None => (long == "help" || long == "version").then_some(false),
        };
    }
    let mut letters = flags.chars();
    while let Some(letter) = letters.next() {
        let named = |arg: &&Arg| {
            arg.get_short() == Some(letter)
                || arg.get_all_short_aliases().is_some_and(|aliases| aliases.contains(&letter))
        };
        match find(path, named) {
            Some(arg) if needs_value(arg) => return Some(letters.as_str().is_empty()),
            Some(_) => {}
            None if letter == 'h' => {}
            // The rest of `-t=false`.
            None if letter == '=' => return Some(false),
            None => return None,
        }
    }
    Some(false)
}

/// A flag of the innermost command, or one that holds for all.
fn find<'t>(path: &[&'t Command], named: impl Fn(&&'t Arg) -> bool) -> Option<&'t Arg> {
    let (innermost, outer) = path.split_last()?;
    let global = outer.iter().flat_map(|command| command.get_arguments()).filter(|arg| arg.is_global_set());
    innermost.get_arguments().chain(global).find(named)
}

fn needs_value(arg: &Arg) -> bool {
    let least = arg.get_num_args().map_or(1, |range| range.min_values());
    arg.get_action().takes_values() && least > 0 && !arg.is_require_equals_set()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn separated_text(tree: &Command, line: &str) -> String {
        let words = line.split(' ').map(OsString::from).collect();
        let words: Vec<String> = separated(tree, words).into_iter().map(|word| word.into_string().unwrap()).collect();
        words.join(" ")
    }

    #[test]
    fn a_command_line_begins_behind_the_first_operand() {
        let tree = crate::docker::tree();
        for (line, expected) in [
            ("run busybox -t hi", "run -- busybox -t hi"),
            ("run -it --rm -e A=1 --name x busybox --rm", "run -it --rm -e A=1 --name x -- busybox --rm"),
            ("run -eA=1 -v/a:/b --network=x busybox sh", "run -eA=1 -v/a:/b --network=x -- busybox sh"),
            ("run -dp 80:80 --sig-proxy busybox -p", "run -dp 80:80 --sig-proxy -- busybox -p"),
            ("run -t=false busybox", "run -t=false -- busybox"),
            ("-c default container exec -u 0 web -u", "-c default container exec -u 0 -- web -u"),
            ("create --entrypoint echo busybox -t", "create --entrypoint echo -- busybox -t"),
            ("run -- busybox -t", "run -- busybox -t"),
            ("run --nosuch busybox -t", "run --nosuch busybox -t"),
            ("ps -a", "ps -a"),
            ("stop -t 5 web", "stop -t 5 web"),
            ("compose -f x run web -T", "compose -f x run web -T"),
        ] {
            assert_eq!(separated_text(&tree, line), expected);
        }
        let tree = crate::commands::tree();
        for (line, expected) in [
            ("-f x.yaml --dry-run run --rm web -T", "-f x.yaml --dry-run run --rm -- web -T"),
            ("exec -T --dry-run web ls -T", "exec -T --dry-run -- web ls -T"),
            ("up -d web", "up -d web"),
        ] {
            assert_eq!(separated_text(&tree, line), expected);
        }
    }
}
