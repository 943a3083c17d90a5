//! The patterns of `.dockerignore`, of `develop.watch` and of a build's
//! context: Go's `filepath.Match` with `**`, where the last one that matches
//! decides. Pure.

/// Patterns in their order.
#[derive(Debug, Clone, Default)]
pub struct Patterns(Vec<Pattern>);

#[derive(Debug, Clone)]
struct Pattern {
    text: Vec<char>,
    negated: bool,
}

impl Patterns {
    /// From single patterns, as in a Compose file. Empty ones are left out.
    pub fn new<'a>(texts: impl IntoIterator<Item = &'a str>) -> Self {
        Self(texts.into_iter().filter_map(Pattern::parse).collect())
    }

    /// From the text of a `.dockerignore` file: one pattern per line, `#` begins a comment.
    pub fn of_file(text: &str) -> Self {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        Self::new(text.lines().filter(|line| !line.starts_with('#')))
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a path (relative, with `/`) or one of the directories above it is matched; the last pattern that says
    /// something decides.
    pub fn matches(&self, path: &str) -> bool {
        let mut matched = false;
        for pattern in &self.0 {
            // What would change nothing is not looked at.
            if pattern.negated == matched && pattern.matches_or_parent(path) {
                matched = !pattern.negated;
            }
        }
        matched
    }
}

impl Pattern {
    fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let (negated, text) = match text.strip_prefix('!') {
            Some(rest) => (true, rest.trim()),
            None => (false, text),
        };
        let mut parts: Vec<&str> = Vec::new();
        for part in text.split('/') {
            match part {
                "" | "." => {}
                ".." if parts.last().is_some_and(|last| *last != "..") => drop(parts.pop()),
                other => parts.push(other),
            }
        }
        // A pattern that names the root itself says nothing, as in Docker.
        (!parts.is_empty()).then(|| Self { text: parts.join("/").chars().collect(), negated })
    }

    fn matches_or_parent(&self, path: &str) -> bool {
        let path: Vec<char> = path.chars().collect();
        let ends = (0..path.len()).filter(|index| path[*index] == '/').chain([path.len()]);
        ends.into_iter().any(|end| glob(&self.text, &path[..end]))
    }
}

/// Whether the whole of `text` is what `pattern` says.
fn glob(pattern: &[char], text: &[char]) -> bool {
    match pattern {
        [] => text.is_empty(),
        ['*', '*', rest @ ..] => {
            let rest = rest.strip_prefix(&['/']).unwrap_or(rest);
            // At the end it takes everything; else nothing, or any number of whole directories.
            rest.is_empty()
                || glob(rest, text)
                || (0..text.len()).any(|index| text[index] == '/' && glob(rest, &text[index + 1..]))
        }
        ['*', rest @ ..] => {
            let longest = text.iter().position(|character| *character == '/').unwrap_or(text.len());
            (0..=longest).any(|length| glob(rest, &text[length..]))
        }
        ['?', rest @ ..] => matches!(text, [character, left @ ..] if *character != '/' && glob(rest, left)),
        ['[', rest @ ..] => match (class(rest), text) {
            (Some((class, rest)), [character, left @ ..]) => {
                *character != '/' && class.has(*character) && glob(rest, left)
            }
            _ => false,
        },
        ['\\', escaped, rest @ ..] | [escaped, rest @ ..] => {
            matches!(text, [character, left @ ..] if character == escaped && glob(rest, left))
        }
    }
}

/// `[a-z]`, `[^x]`.
struct Class {
    negated: bool,
    ranges: Vec<(char, char)>,
}

impl Class {
    fn has(&self, character: char) -> bool {
        self.ranges.iter().any(|(first, last)| (*first..=*last).contains(&character)) != self.negated
    }
}

/// Reads a class behind its `[`; what comes after it.
fn class(pattern: &[char]) -> Option<(Class, &[char])> {
    let (negated, mut rest) = match pattern {
        ['^', rest @ ..] => (true, rest),
        rest => (false, rest),
    };
    let mut ranges = Vec::new();
    loop {
        let (first, after) = one(rest)?;
        let (last, after) = match after {
            ['-', ']', ..] => (first, after),
            ['-', after @ ..] => one(after)?,
            _ => (first, after),
        };
        ranges.push((first, last));
        rest = after;
        if let [']', after @ ..] = rest {
            return Some((Class { negated, ranges }, after));
        }
    }
}

fn one(pattern: &[char]) -> Option<(char, &[char])> {
    match pattern {
        ['\\', escaped, rest @ ..] => Some((*escaped, rest)),
        [character, rest @ ..] => Some((*character, rest)),
        [] => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
            ("a/**/c", "a/c", true),
            ("a/**/c", "a/x/y/c", true),
            ("a/**/c", "a/xc", false),
            ("**", "anything/at/all", true),
            ("/a/./b/../c/", "a/c/d", true),
            ("te?t", "test", true),
            ("te?t", "te/t", false),
            ("[a-c]x", "bx", true),
            ("[^a-c]x", "bx", false),
            ("[a-", "a", false),
            ("a\\*", "a*", true),
            ("a\\*", "ab", false),
            ("ü*", "über", true),
        ];
        for (pattern, path, expected) in cases {
            assert_eq!(Patterns::new([pattern]).matches(path), expected, "{pattern} {path}");
        }
    }

    #[test]
    fn the_last_pattern_that_matches_decides() {
        let patterns =
            Patterns::of_file("\u{feff}# comment\n\n*.md\n!README.md\n  docs  \n!docs/keep\nREADME-secret.md\n");
        let seen: Vec<bool> = ["a.md", "README.md", "README-secret.md", "docs/x", "docs/keep/x", "src"]
            .iter()
            .map(|path| patterns.matches(path))
            .collect();
        assert_eq!(seen, [true, false, true, true, false, false]);
        assert!(Patterns::new(["", ".", "/"]).is_empty());
    }
}
