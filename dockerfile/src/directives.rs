//! The comments at the beginning that direct the parser: `# syntax=`, `# escape=`, `# check=`.

use super::ast::{Check, Directives, Place};
use super::error::{Fault, ParseError};
use super::source::end_cut;

/// Reads them, and how many lines they are.
pub(crate) fn read(source: &str) -> Result<(Directives, usize), ParseError> {
    let mut found = Directives { syntax: None, escape: '\\', check: None };
    let mut seen: Vec<String> = Vec::new();
    let source = source.strip_prefix('\u{feff}').unwrap_or(source);
    let mut lines = source.split('\n').enumerate().peekable();
    let mut read = 0;
    if lines.next_if(|(_, line)| line.starts_with("#!")).is_some() {
        read = 1;
    }
    for (index, line) in lines {
        let Some((name, value)) = directive(end_cut(line).trim_start().strip_prefix('#').unwrap_or_default()) else {
            break;
        };
        let number = index + 1;
        let column = line.chars().take_while(|character| *character != '#').count() + 1;
        let place = Place { line: number, end_line: number, column };
        if seen.contains(&name) {
            return Err(ParseError::new(place, Fault::RepeatedDirective { name }));
        }
        let first = value.split(' ').next().unwrap_or_default();
        match name.as_str() {
            "syntax" => found.syntax = Some(first.to_owned()),
            "escape" => {
                found.escape = match value {
                    "\\" => '\\',
                    "`" => '`',
                    _ => return Err(ParseError::new(place, Fault::InvalidEscape { value: value.to_owned() })),
                }
            }
            "check" => {
                found.check =
                    Some(check(first).map_err(|option| ParseError::new(place, Fault::InvalidCheck { option }))?);
            }
            _ => break,
        }
        seen.push(name);
        read = number;
    }
    Ok((found, read))
}

/// `name = value`, with the name in lower case.
fn directive(comment: &str) -> Option<(String, &str)> {
    let (name, value) = comment.split_once('=')?;
    let (name, value) = (name.trim(), value.trim());
    let begins = name.chars().next().is_some_and(|first| first.is_ascii_alphabetic());
    let good = begins && name.chars().all(|character| character.is_ascii_alphanumeric()) && !value.is_empty();
    good.then(|| (name.to_ascii_lowercase(), value))
}

/// What a comment above an instruction says about checks.
pub(crate) fn of_comments(comments: &[String]) -> Option<Check> {
    comments.iter().find_map(|comment| match directive(comment) {
        Some((name, value)) if name == "check" => check(value.split(' ').next().unwrap_or_default()).ok(),
        _ => None,
    })
}

/// `skip=A,B;error=true;experimental=all`; fails with the option that is none.
fn check(text: &str) -> Result<Check, String> {
    let mut check = Check::default();
    for option in text.splitn(3, ';') {
        let bad = || option.to_owned();
        let (key, value) = option.split_once('=').ok_or_else(bad)?;
        let value = value.trim();
        let rules = || value.split(',').map(|rule| rule.trim().to_owned()).collect();
        match key.trim() {
            "skip" if value == "all" => check.skip_all = true,
            "skip" => check.skip = rules(),
            "experimental" if value == "all" => check.experimental_all = true,
            "experimental" => check.experimental = rules(),
            "error" => check.error = super::flags::boolean(value).ok_or_else(bad)?,
            other => return Err(other.to_owned()),
        }
    }
    Ok(check)
}
