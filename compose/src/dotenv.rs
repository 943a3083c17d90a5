//! Environment files: the grammar of `.env` and `env_file`, and the raw format.

use std::collections::BTreeMap;

use super::template::{TemplateError, substitute};

/// What is wrong with an environment file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DotenvError {
    /// Line from 1.
    pub line: usize,
    /// What is wrong.
    pub message: String,
}

/// Gives the value of a variable that the file refers to.
pub(crate) type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Reads `text` into `vars`, later lines over earlier ones. References see `lookup` first, then `vars`; `unset` is
/// told of those without a value.
pub(crate) fn parse(
    text: &str,
    vars: &mut BTreeMap<String, String>,
    lookup: Lookup<'_>,
    unset: &mut dyn FnMut(&str),
) -> Result<(), DotenvError> {
    let mut parser = Parser { rest: text.strip_prefix('\u{feff}').unwrap_or(text), line: 1 };
    while parser.next_statement() {
        let Some(key) = parser.key()? else { continue };
        match key {
            Key::Inherited(name) => {
                if let Some(value) = lookup(&name) {
                    vars.insert(name, value);
                }
            }
            Key::Assigned(name) => {
                let line = parser.line;
                let (value, expand) = parser.value()?;
                let value = match expand {
                    false => value,
                    true => {
                        let seen = |name: &str| lookup(name).or_else(|| vars.get(name).cloned());
                        substitute(&value, &seen, unset)
                            .map_err(|error| DotenvError { line, message: expansion_message(&error, &value) })?
                    }
                };
                vars.insert(name, value);
            }
        }
    }
    Ok(())
}

fn expansion_message(error: &TemplateError, value: &str) -> String {
    match error {
        TemplateError::Invalid => format!("invalid template: \"{value}\""),
        missing @ TemplateError::Missing { .. } => missing.to_string(),
    }
}

/// Reads the raw format: `NAME=value` lines, nothing quoted, nothing expanded; `NAME` alone is inherited.
pub(crate) fn parse_raw(
    text: &str,
    vars: &mut BTreeMap<String, String>,
    lookup: Lookup<'_>,
) -> Result<(), DotenvError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    for (index, line) in text.lines().enumerate() {
        let line = line.trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (name, value) = line.split_once('=').map_or((line, None), |(name, value)| (name, Some(value)));
        let error = |message: String| Err(DotenvError { line: index + 1, message });
        if name.is_empty() {
            return error(format!("no variable name on line '{line}'"));
        }
        if name.contains(char::is_whitespace) {
            return error(format!("variable '{name}' contains whitespaces"));
        }
        if let Some(value) = value.map(str::to_owned).or_else(|| lookup(name)) {
            vars.insert(name.to_owned(), value);
        }
    }
    Ok(())
}

enum Key {
    /// `NAME` alone.
    Inherited(String),
    /// `NAME=` or `NAME:`.
    Assigned(String),
}

struct Parser<'a> {
    rest: &'a str,
    line: usize,
}

impl<'a> Parser<'a> {
    fn advance(&mut self, bytes: usize) -> &'a str {
        let (taken, rest) = self.rest.split_at(bytes);
        self.line += taken.matches('\n').count();
        self.rest = rest;
        taken
    }

    fn error<T>(&self, message: impl Into<String>) -> Result<T, DotenvError> {
        Err(DotenvError { line: self.line, message: message.into() })
    }

    /// Goes to the next thing that is neither blank nor a comment.
    fn next_statement(&mut self) -> bool {
        loop {
            let blank = self.rest.len() - self.rest.trim_start().len();
            self.advance(blank);
            if !self.rest.starts_with('#') {
                return !self.rest.is_empty();
            }
            self.advance(self.rest.find('\n').unwrap_or(self.rest.len()));
        }
    }

    /// Takes a name and what ends it.
    fn key(&mut self) -> Result<Option<Key>, DotenvError> {
        if let Some(after) = self.rest.strip_prefix("export").filter(|after| after.starts_with(char::is_whitespace)) {
            self.rest = after.trim_start_matches(is_space);
        }
        for (index, character) in self.rest.char_indices() {
            match character {
                '=' | ':' => {
                    let name = self.name(&self.rest[..index])?;
                    self.advance(index + 1);
                    self.rest = self.rest.trim_start_matches(is_space);
                    return Ok(Some(Key::Assigned(name)));
                }
                '\n' => {
                    let name = self.name(&self.rest[..index])?;
                    self.advance(index + 1);
                    return Ok((!name.is_empty()).then_some(Key::Inherited(name)));
                }
                '_' | '.' | '-' | '[' | ']' => {}
                character if is_space(character) || character.is_alphanumeric() => {}
                character => {
                    let line = self.rest.lines().next().unwrap_or_default();
                    return self.error(format!("unexpected character \"{character}\" in variable name \"{line}\""));
                }
            }
        }
        let name = self.name(self.rest)?;
        self.advance(self.rest.len());
        Ok((!name.is_empty()).then_some(Key::Inherited(name)))
    }

    fn name(&self, text: &str) -> Result<String, DotenvError> {
        let name = text.trim_end();
        match name.contains(' ') {
            true => self.error("key cannot contain a space"),
            false => Ok(name.to_owned()),
        }
    }

    /// Takes a value; the flag says whether variables are to be expanded in it.
    fn value(&mut self) -> Result<(String, bool), DotenvError> {
        match self.rest.chars().next() {
            Some(quote @ ('"' | '\'')) => self.quoted(quote),
            _ => {
                let line = self.advance(self.rest.find('\n').unwrap_or(self.rest.len()));
                let value = line.split(" #").next().unwrap_or_default();
                Ok((value.trim_end().to_owned(), true))
            }
        }
    }

    fn quoted(&mut self, quote: char) -> Result<(String, bool), DotenvError> {
        let mut value = String::new();
        let mut escaped = false;
        for (index, character) in self.rest.char_indices().skip(1) {
            match (character, escaped) {
                ('\\', false) => {
                    escaped = true;
                    continue;
                }
                (character, false) if character == quote => {
                    self.advance(index + 1);
                    let double = quote == '"';
                    return Ok((if double { unescape(&value) } else { value }, double));
                }
                (character, true) if character == quote => {}
                (_, true) => value.push('\\'),
                (_, false) => {}
            }
            value.push(character);
            escaped = false;
        }
        let line = self.rest.lines().next().unwrap_or_default();
        self.error(format!("unterminated quoted value {line}"))
    }
}

/// Replaces the escapes of double quotes; `\$` becomes `$$`, so that it survives the expansion.
fn unescape(text: &str) -> String {
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(index) = rest.find('\\') {
        result.push_str(&rest[..index]);
        let after = &rest[index + 1..];
        let replaced = match after.chars().next() {
            Some('a') => Some(("\u{7}", 1)),
            Some('b') => Some(("\u{8}", 1)),
            Some('f') => Some(("\u{c}", 1)),
            Some('n') => Some(("\n", 1)),
            Some('r') => Some(("\r", 1)),
            Some('t') => Some(("\t", 1)),
            Some('v') => Some(("\u{b}", 1)),
            Some('"') => Some(("\"", 1)),
            Some('\\') => Some(("\\", 1)),
            Some('$') => Some(("$$", 1)),
            _ => None,
        };
        let used = match replaced {
            Some((text, used)) => {
                result.push_str(text);
                used
            }
            None => {
                let (character, used) = octal(after);
                result.push(character.unwrap_or('\\'));
                used
            }
        };
        rest = &after[used..];
    }
    result.push_str(rest);
    result
}

/// The character of `0NNN`, three octal digits, and how much of the text it takes. Of what is no such thing, the zero is
/// lost.
fn octal(text: &str) -> (Option<char>, usize) {
    let Some(digits) = text.strip_prefix('0') else { return (None, 0) };
    let value = digits
        .get(..3)
        .filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))
        .and_then(|digits| u32::from_str_radix(digits, 8).ok());
    match value.filter(|value| *value < 256).and_then(char::from_u32) {
        Some(character) => (Some(character), 4),
        None => (None, 1),
    }
}

/// White space within a line.
fn is_space(character: char) -> bool {
    matches!(character, '\t' | '\u{b}' | '\u{c}' | '\r' | ' ' | '\u{85}' | '\u{a0}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lookup(name: &str) -> Option<String> {
        (name == "SHELL_VAR").then(|| "from shell".to_owned())
    }

    fn read(text: &str) -> Result<BTreeMap<String, String>, DotenvError> {
        let mut vars = BTreeMap::new();
        parse(text, &mut vars, &lookup, &mut |_| {}).map(|()| vars)
    }

    #[test]
    fn grammar() {
        for (text, expected) in [
            ("A=1\nB=2", vec![("A", "1"), ("B", "2")]),
            ("\u{feff}A=1", vec![("A", "1")]),
            ("# c\n\n  A = 1  \r\nB=2\r\n", vec![("A", "1"), ("B", "2")]),
            ("export A=1\nexport\tB=2", vec![("A", "1"), ("B", "2")]),
            ("exported=1", vec![("exported", "1")]),
            ("A: yaml style", vec![("A", "yaml style")]),
            ("A=x # comment\nB=x#not\nC= #value", vec![("A", "x"), ("B", "x#not"), ("C", "#value")]),
            ("A=\nB=''\nC=\"\"", vec![("A", ""), ("B", ""), ("C", "")]),
            ("A='$B \\n it\\'s'", vec![("A", "$B \\n it's")]),
            ("A=\"a\\tb\\n\\\"q\\\" \\\\ \\$x \\0101\"", vec![("A", "a\tb\n\"q\" \\ $x A")]),
            ("A=\"\\x \\012\"", vec![("A", "\\x \\12")]),
            ("A=\"two\nlines\" # c\nB=1", vec![("A", "two\nlines"), ("B", "1")]),
            ("A='two\nlines'", vec![("A", "two\nlines")]),
            ("A=1\nB=$A-${A}\nC=\"${A:-x}\"\nD='$A'", vec![("A", "1"), ("B", "1-1"), ("C", "1"), ("D", "$A")]),
            ("A=${NONE:-d}\nB=$SHELL_VAR", vec![("A", "d"), ("B", "from shell")]),
            ("SHELL_VAR\nNONE\nA=1", vec![("A", "1"), ("SHELL_VAR", "from shell")]),
            ("SHELL_VAR", vec![("SHELL_VAR", "from shell")]),
            ("A.b-c[0]=1", vec![("A.b-c[0]", "1")]),
            ("A=a=b:c", vec![("A", "a=b:c")]),
            ("A=1\nA=2", vec![("A", "2")]),
            ("A=\"x\" B=y", vec![("A", "x"), ("B", "y")]),
            ("A=$$x", vec![("A", "$x")]),
            ("Ä=ö", vec![("Ä", "ö")]),
            ("", vec![]),
        ] {
            let expected = expected.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
            assert_eq!(read(text), Ok(expected), "{text:?}");
        }
    }

    #[test]
    fn errors_name_the_line() {
        for (text, line, message) in [
            ("A=1\n\nB C=2", 3, "key cannot contain a space"),
            ("A=1\nB!=2", 2, "unexpected character \"!\" in variable name \"B!=2\""),
            ("A=1\nB=\"x\nC=2", 2, "unterminated quoted value \"x"),
            ("A=${", 1, "invalid template: \"${\""),
            ("A=${B:?need B}", 1, "required variable B is missing a value: need B"),
            ("%", 1, "unexpected character \"%\" in variable name \"%\""),
        ] {
            assert_eq!(read(text), Err(DotenvError { line, message: message.to_owned() }), "{text:?}");
        }
    }

    #[test]
    fn raw_format() {
        let mut vars = BTreeMap::new();
        parse_raw("# c\n A='x' # y\nB=$A\nSHELL_VAR\nNONE\n", &mut vars, &lookup).unwrap();
        let expected = [("A", "'x' # y"), ("B", "$A"), ("SHELL_VAR", "from shell")];
        assert_eq!(vars, expected.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect());
        assert_eq!(parse_raw("A=1\nB C=2", &mut vars, &lookup).unwrap_err().line, 2);
        assert_eq!(parse_raw("=2", &mut vars, &lookup).unwrap_err().message, "no variable name on line '=2'");
    }
}
