//! The patterns of `.dockerignore`, of `develop.watch` and of a build's context, as Docker matches them: not those of
//! git. A pattern is anchored at the root, `*` stays within a name, `**` does not, and the last one that says something
//! about a path decides. A directory that is matched takes with it what is below, until an exception names that.

use std::fmt::Write;

use regex::bytes::Regex;

/// Patterns in their order.
#[derive(Debug, Clone, Default)]
pub struct Patterns(Vec<Pattern>);

#[derive(Debug, Clone)]
struct Pattern {
    text: String,
    /// `!`: takes back what others match.
    exception: bool,
    matcher: Matcher,
}

/// The forms that are seen most need no expression.
#[derive(Debug, Clone)]
enum Matcher {
    Exact,
    /// Any text behind these many bytes of the pattern.
    Begins(usize),
    /// `**` and these last bytes.
    Ends(usize),
    Regex(Regex),
}

/// A pattern that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// A bracket or an escape without its end, or a range from back to front.
    #[error("{}syntax error in pattern {pattern:?}", of_line(*line))]
    Syntax {
        /// Its line in the file, from 1; 0 when it is not from a file.
        line: usize,
        /// As it was written.
        pattern: String,
    },
    /// Nothing behind `!`.
    #[error("{}illegal exclusion pattern: \"!\"", of_line(*line))]
    Bare {
        /// Its line in the file, from 1; 0 when it is not from a file.
        line: usize,
    },
}

fn of_line(line: usize) -> String {
    if line == 0 { String::new() } else { format!("line {line}: ") }
}

/// What the patterns say about one path, and what its entries need to know of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Whether the path is left out. Of a directory, something below may still be taken: [`Patterns::reach_below`].
    pub ignored: bool,
    /// Which patterns match it or what is above.
    matched: Vec<bool>,
}

/// The files that may hold the patterns of a build, the one that counts first: one that is named after the Dockerfile
/// and lies beside it, then the one at the root of the context.
pub fn candidates(dockerfile: &str) -> [String; 2] {
    [format!("{dockerfile}.dockerignore"), ".dockerignore".to_owned()]
}

impl Patterns {
    /// From single patterns, as in a Compose file. Empty ones are left out.
    ///
    /// # Errors
    /// One of them is none.
    pub fn new<'a>(texts: impl IntoIterator<Item = &'a str>) -> Result<Self, PatternError> {
        Self::read(texts.into_iter().map(|text| (0, text)))
    }

    /// From the text of a `.dockerignore` file: one pattern per line, `#` at its beginning makes a comment.
    ///
    /// # Errors
    /// One of them is none; the error has its line.
    pub fn of_file(text: &str) -> Result<Self, PatternError> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let lines = text.split('\n').enumerate().map(|(index, line)| (index + 1, line));
        Self::read(lines.filter(|(_, line)| !line.starts_with('#')))
    }

    fn read<'a>(texts: impl Iterator<Item = (usize, &'a str)>) -> Result<Self, PatternError> {
        texts
            .filter_map(|(line, text)| Pattern::parse(text.trim(), line).transpose())
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether some of them take back what others match.
    pub fn has_exceptions(&self) -> bool {
        self.0.iter().any(|pattern| pattern.exception)
    }

    /// Whether all of the root's entries are left out.
    pub fn leave_out_all(&self) -> bool {
        self.0.iter().any(|pattern| !pattern.exception && matches!(pattern.text.as_str(), "*" | "**" | "**/*"))
    }

    /// Whether a path (relative, with `/`) is left out.
    pub fn matches(&self, path: &str) -> bool {
        let mut verdict = Verdict::default();
        let ends = path.match_indices('/').map(|(at, _)| at).chain([path.len()]);
        for parent in ends.filter_map(|end| path.get(..end)).filter(|parent| !parent.is_empty()) {
            verdict = self.look(parent, &verdict);
        }
        verdict.ignored
    }

    /// What they say about a path (relative, with `/`) in a directory about which they said `above`: that of the root
    /// is [`Verdict::default`]. For walks, which would else ask for every directory again.
    pub fn look(&self, path: &str, above: &Verdict) -> Verdict {
        let mut verdict = Verdict { ignored: false, matched: Vec::with_capacity(self.0.len()) };
        for (index, pattern) in self.0.iter().enumerate() {
            let inherited = above.matched.get(index).copied().unwrap_or(false);
            // What would change nothing is not looked at; it is not inherited either.
            let matched = inherited || (pattern.exception == verdict.ignored && pattern.matches(path));
            verdict.matched.push(matched);
            if matched {
                verdict.ignored = !pattern.exception;
            }
        }
        verdict
    }

    /// Whether something below a directory that is left out may still be taken: `false` is certain.
    pub fn reach_below(&self, directory: &str) -> bool {
        self.0.iter().any(|pattern| pattern.exception && pattern.may_match_below(directory))
    }
}

impl Pattern {
    fn parse(text: &str, line: usize) -> Result<Option<Self>, PatternError> {
        let (exception, name) = match text.strip_prefix('!') {
            Some(rest) => (true, rest.trim()),
            None => (false, text),
        };
        if name.is_empty() {
            return if exception { Err(PatternError::Bare { line }) } else { Ok(None) };
        }
        let name = clean(name);
        // A pattern that names the root itself says nothing.
        if name.is_empty() {
            return Ok(None);
        }
        let matcher = compile(&name).ok_or_else(|| PatternError::Syntax { line, pattern: text.to_owned() })?;
        Ok(Some(Self { text: name, exception, matcher }))
    }

    fn matches(&self, path: &str) -> bool {
        match &self.matcher {
            Matcher::Exact => path == self.text,
            Matcher::Begins(length) => self.text.get(..*length).is_some_and(|begin| path.starts_with(begin)),
            Matcher::Ends(length) => {
                let end = self.text.len().checked_sub(*length).and_then(|at| self.text.get(at..)).unwrap_or_default();
                path.ends_with(end) || end.strip_prefix('/') == Some(path)
            }
            Matcher::Regex(regex) => regex.is_match(path.as_bytes()),
        }
    }

    /// Compares name by name, as far as both go.
    fn may_match_below(&self, directory: &str) -> bool {
        let mut names = directory.split('/');
        for part in self.text.split('/') {
            // `**` takes any number of names, and a class may hold the slash.
            if part.contains("**") || part.contains(['[', '\\']) {
                return true;
            }
            match names.next() {
                None => return true,
                Some(name) if part.contains(['*', '?']) => {
                    if !fits(part.as_bytes(), name.as_bytes()) {
                        return false;
                    }
                }
                Some(name) if name == part => {}
                Some(_) => return false,
            }
        }
        false
    }
}

/// Whether a name fits `*` and `?`. `?` takes a byte here, and may take more: this may say yes too often.
fn fits(pattern: &[u8], name: &[u8]) -> bool {
    let (mut p, mut n) = (0, 0);
    let mut retry = None;
    let simple = !pattern.contains(&b'?') || name.is_ascii();
    if !simple {
        return true;
    }
    while n < name.len() {
        match pattern.get(p) {
            Some(b'*') => {
                retry = Some((p + 1, n));
                p += 1;
            }
            Some(byte) if *byte == b'?' || Some(byte) == name.get(n) => (p, n) = (p + 1, n + 1),
            _ => match retry {
                Some((after, from)) => {
                    retry = Some((after, from + 1));
                    (p, n) = (after, from + 1);
                }
                None => return false,
            },
        }
    }
    pattern.get(p..).is_some_and(|rest| rest.iter().all(|byte| *byte == b'*'))
}

/// The path without `.`, `..` and empty names; what goes above the root of an absolute path stays at the root.
pub(crate) fn clean(text: &str) -> String {
    let rooted = text.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in text.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => drop(parts.pop()),
            ".." if rooted => {}
            other => parts.push(other),
        }
    }
    parts.join("/")
}

/// How a pattern is matched; `None` when it is none.
fn compile(pattern: &str) -> Option<Matcher> {
    let mut kind = Matcher::Exact;
    let mut expression = String::from(BEGIN);
    let mut regular = false;
    let mut rest = pattern;
    while let Some(character) = rest.chars().next() {
        let first = rest.len() == pattern.len();
        rest = rest.get(character.len_utf8()..)?;
        match character {
            '*' if rest.starts_with('*') => {
                rest = rest.get(1..)?;
                rest = rest.strip_prefix('/').unwrap_or(rest);
                if !rest.is_empty() {
                    expression.push_str("(.*/)?");
                    regular = true;
                } else if matches!(kind, Matcher::Exact) && !regular {
                    kind = Matcher::Begins(pattern.len() - 2);
                } else {
                    expression.push_str(".*");
                    regular = true;
                }
                if first {
                    // As long as only literal text follows.
                    (kind, regular) = (Matcher::Ends(pattern.len() - 2), false);
                }
            }
            '*' => {
                expression.push_str("[^/]*");
                regular = true;
            }
            '?' => {
                expression.push_str("(?u:[^/])");
                regular = true;
            }
            '[' => {
                rest = class(rest, &mut expression)?;
                regular = true;
            }
            '\\' => {
                let escaped = rest.chars().next()?;
                rest = rest.get(escaped.len_utf8()..)?;
                literal(escaped, &mut expression);
                regular = true;
            }
            other => literal(other, &mut expression),
        }
    }
    if !regular {
        return Some(kind);
    }
    expression.push('$');
    Regex::new(&expression).ok().map(Matcher::Regex)
}

/// One name of a source of `COPY` and `ADD`, with `*`, `?` and classes: `**` is no more than `*`, and `!` is a
/// character.
#[derive(Debug, Clone)]
pub struct Glob(Regex);

impl Glob {
    /// Reads it.
    ///
    /// # Errors
    /// A bracket or an escape without its end, or a range from back to front.
    pub fn new(pattern: &str) -> Result<Self, PatternError> {
        Self::compile(pattern).ok_or_else(|| PatternError::Syntax { line: 0, pattern: pattern.to_owned() })
    }

    /// Whether a name, without a slash, is meant.
    pub fn matches(&self, name: &str) -> bool {
        self.0.is_match(name.as_bytes())
    }

    fn compile(pattern: &str) -> Option<Self> {
        let mut expression = String::from(BEGIN);
        let mut rest = pattern;
        while let Some(character) = rest.chars().next() {
            rest = rest.get(character.len_utf8()..)?;
            match character {
                '*' => expression.push_str(".*"),
                '?' => expression.push_str("(?u:.)"),
                '[' => rest = class(rest, &mut expression)?,
                '\\' => {
                    let escaped = rest.chars().next()?;
                    rest = rest.get(escaped.len_utf8()..)?;
                    literal(escaped, &mut expression);
                }
                other => literal(other, &mut expression),
            }
        }
        expression.push('$');
        Regex::new(&expression).ok().map(Self)
    }
}

/// How expressions begin. They match bytes: characters make them a hundred times as big, and only `?` and classes need
/// to know where one ends.
const BEGIN: &str = "(?s-u)^";

/// A character as itself.
fn literal(character: char, expression: &mut String) {
    expression.push_str(&regex::escape(character.encode_utf8(&mut [0; 4])));
}

/// Reads a class behind its `[`; what comes after it.
fn class<'a>(text: &'a str, expression: &mut String) -> Option<&'a str> {
    expression.push_str("(?u:[");
    let mut rest = text.strip_prefix('^').inspect(|_| expression.push('^')).unwrap_or(text);
    let mut empty = true;
    loop {
        if !empty && let Some(after) = rest.strip_prefix(']') {
            expression.push_str("])");
            return Some(after);
        }
        let (first, after) = member(rest)?;
        let (last, after) = match after.strip_prefix('-') {
            Some(after) => member(after)?,
            None => (first, after),
        };
        if last < first {
            return None;
        }
        let _ = write!(expression, "\\x{{{:x}}}-\\x{{{:x}}}", u32::from(first), u32::from(last));
        rest = after;
        empty = false;
    }
}

/// One character of a class; `-` and `]` have to be escaped.
fn member(text: &str) -> Option<(char, &str)> {
    let mut characters = text.chars();
    let character = match characters.next()? {
        '-' | ']' => return None,
        '\\' => characters.next()?,
        other => other,
    };
    Some((character, characters.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patterns(texts: &[&str]) -> Patterns {
        Patterns::new(texts.iter().copied()).unwrap()
    }

    #[test]
    fn single_patterns_match_as_in_docker() {
        let cases = [
            ("a", "a", true),
            ("a", "a/b", true),
            ("a", "b/a", false),
            ("*.log", "x.log", true),
            ("*.log", "d/x.log", false),
            ("*/*.log", "d/x.log", true),
            ("**/*.log", "x.log", true),
            ("**/*.log", "a/b/x.log", true),
            ("**/node_modules", "a/node_modules/x/y", true),
            ("**/node_modules", "a/xnode_modules", false),
            ("a/**", "a/b/c", true),
            ("a/**", "a", false),
            ("a/**/c", "a/c", true),
            ("a/**/c", "a/x/y/c", true),
            ("a/**/c", "a/xc", false),
            ("**", "anything/at/all", true),
            ("**c", "abc", true),
            ("a**", "abc/d", true),
            ("/a/./b/../c/", "a/c/d", true),
            ("te?t", "test", true),
            ("te?t", "te/t", false),
            ("te?t", "teüt", true),
            ("[a-c]x", "bx", true),
            ("[^a-c]x", "bx", false),
            ("a\\*", "a*", true),
            ("a\\*", "ab", false),
            ("a.b", "axb", false),
            ("ü*", "über", true),
        ];
        for (pattern, path, expected) in cases {
            assert_eq!(patterns(&[pattern]).matches(path), expected, "{pattern} {path}");
        }
    }

    #[test]
    fn the_last_pattern_that_matches_decides() {
        let patterns =
            Patterns::of_file("\u{feff}# comment\r\n\n*.md\r\n!README.md\n  docs  \n!docs/keep\nREADME-secret.md\n")
                .unwrap();
        let seen: Vec<bool> = ["a.md", "README.md", "README-secret.md", "docs/x", "docs/keep/x", "src"]
            .iter()
            .map(|path| patterns.matches(path))
            .collect();
        assert_eq!(seen, [true, false, true, true, false, false]);
        assert!(Patterns::new(["", ".", "/"]).unwrap().is_empty());
    }

    #[test]
    fn a_walk_need_not_go_where_nothing_can_be_taken_back() {
        for (exception, directory, expected) in [
            ("a/b/c", "a", true),
            ("a/b/c", "a/b", true),
            ("a/b/c", "a/b/c", false),
            ("a/b/c", "a/x", false),
            ("a/b/c", "b", false),
            ("*/b", "x", true),
            ("x*/b", "yx", false),
            ("?/b", "yx", false),
            ("**/b", "x/y", true),
            ("a/**", "b", false),
            ("a/**/c", "a/x/y", true),
            ("[a]/b", "c", true),
        ] {
            let patterns = patterns(&["**", &format!("!{exception}")]);
            assert_eq!(patterns.reach_below(directory), expected, "{exception} {directory}");
        }
        assert!(!patterns(&["**"]).reach_below("a"));
    }

    #[test]
    fn bad_patterns_are_named_with_their_line() {
        for (text, message) in [
            ("a\n[b", "line 2: syntax error in pattern \"[b\""),
            ("!", "line 1: illegal exclusion pattern: \"!\""),
            ("a\\", "line 1: syntax error in pattern \"a\\\\\""),
            ("[]a]", "line 1: syntax error in pattern \"[]a]\""),
            ("[b-a]", "line 1: syntax error in pattern \"[b-a]\""),
        ] {
            assert_eq!(Patterns::of_file(text).unwrap_err().to_string(), message, "{text}");
        }
    }

    #[test]
    fn names_match_one_by_one() {
        for (pattern, name, expected) in [
            ("*.rs", "a.rs", true),
            ("a**c", "abc", true),
            ("a?c", "aüc", true),
            ("!a", "!a", true),
            ("#*", "#a", true),
            ("[!a]", "!", true),
            ("[^a]", "b", true),
            ("\\*", "a", false),
            ("a.c", "abc", false),
        ] {
            assert_eq!(Glob::new(pattern).unwrap().matches(name), expected, "{pattern} {name}");
        }
        assert!(Glob::new("[a").is_err());
    }

    #[test]
    fn a_dockerfile_may_have_its_own() {
        assert_eq!(candidates("docker/Dockerfile.dev"), ["docker/Dockerfile.dev.dockerignore", ".dockerignore"]);
    }
}
