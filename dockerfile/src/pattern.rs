//! The patterns of `${V#p}`, `${V%p}` and `${V/p/x}`: `*` is any text in a line, `?` one character, `\` escapes these.

use regex::Regex;

/// A pattern, part by part.
#[derive(Debug, Clone)]
pub(crate) struct Pattern(Vec<Token>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token {
    One(char),
    Any,
    Many,
}

impl Pattern {
    /// Fails with the reason on an escape that escapes nothing.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut tokens = Vec::new();
        let mut characters = text.chars().peekable();
        while let Some(character) = characters.next() {
            tokens.push(match character {
                '*' => Token::Many,
                '?' => Token::Any,
                '\\' => match characters.next() {
                    // `}` and `/` are escaped for the sake of the braces around.
                    Some(escaped @ ('*' | '?' | '\\' | '}' | '/')) => Token::One(escaped),
                    Some(other) => return Err(format!("invalid escape '\\{other}'")),
                    None => return Err("invalid escape at its end".to_owned()),
                },
                other => Token::One(other),
            });
        }
        Ok(Self(tokens))
    }

    /// As a regular expression, which is matched in linear time; fails on patterns of absurd size.
    fn regex(tokens: impl Iterator<Item = Token>, begin: &str, greedy: bool) -> Result<Regex, String> {
        let mut text = begin.to_owned();
        for token in tokens {
            match token {
                Token::Many => text.push_str(if greedy { ".*" } else { ".*?" }),
                Token::Any => text.push('.'),
                Token::One(character) => text.push_str(&regex::escape(character.encode_utf8(&mut [0; 4]))),
            }
        }
        Regex::new(&text).map_err(|_| "too long".to_owned())
    }

    /// The value without the beginning that matches: the longest, or the shortest.
    pub(crate) fn trim_start(&self, value: &str, longest: bool) -> Result<String, String> {
        let found = Self::regex(self.0.iter().copied(), "^", longest)?.find(value);
        let end = found.map_or(0, |found| found.end());
        Ok(value.get(end..).unwrap_or_default().to_owned())
    }

    /// The value without the end that matches.
    pub(crate) fn trim_end(&self, value: &str, longest: bool) -> Result<String, String> {
        // Expressions find the leftmost: from behind, the end is the beginning.
        let backwards: String = value.chars().rev().collect();
        let found = Self::regex(self.0.iter().rev().copied(), "^", longest)?.find(&backwards).map(|found| found.end());
        let end = value.len() - found.unwrap_or(0);
        Ok(value.get(..end).unwrap_or_default().to_owned())
    }

    /// The value with the first match, or all, replaced; `None` when it would be longer than `limit` bytes.
    pub(crate) fn replace(&self, value: &str, by: &str, all: bool, limit: usize) -> Result<Option<String>, String> {
        let regex = Self::regex(self.0.iter().copied(), "", true)?;
        let mut result = String::new();
        let mut end = 0;
        for found in regex.find_iter(value).take(if all { usize::MAX } else { 1 }) {
            result.push_str(value.get(end..found.start()).unwrap_or_default());
            result.push_str(by);
            end = found.end();
            if result.len() > limit {
                return Ok(None);
            }
        }
        result.push_str(value.get(end..).unwrap_or_default());
        Ok(Some(result))
    }
}
