//! `--filter name=value`, as all lists and prunes take it: values of one name
//! are alternatives (labels all have to be there), different names add up.

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use clap::Args;
use indexmap::IndexMap;
use regex::Regex;

/// The flag.
#[derive(Debug, Clone, Default, Args)]
pub struct Filters {
    /// Filter output based on conditions provided
    #[arg(short, long = "filter", value_name = "NAME=VALUE", value_parser = pair)]
    filter: Vec<(String, String)>,
}

/// The same for commands whose `-f` is something else.
#[derive(Debug, Clone, Default, Args)]
pub struct LongFilters {
    /// Provide filter values
    #[arg(long = "filter", value_name = "NAME=VALUE", value_parser = pair)]
    filter: Vec<(String, String)>,
}

impl From<LongFilters> for Filters {
    fn from(long: LongFilters) -> Self {
        Self { filter: long.filter }
    }
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("bad format of filter (expected name=value)")?;
    Ok((name.trim().to_lowercase(), value.trim().to_owned()))
}

/// Labels of either kind.
pub trait Labels {
    /// A label's value.
    fn get_label(&self, key: &str) -> Option<&str>;
}

impl Labels for IndexMap<String, String> {
    fn get_label(&self, key: &str) -> Option<&str> {
        self.get(key).map(String::as_str)
    }
}

impl Labels for BTreeMap<String, String> {
    fn get_label(&self, key: &str) -> Option<&str> {
        self.get(key).map(String::as_str)
    }
}

impl Filters {
    /// All but those of one name.
    pub fn without(&self, name: &str) -> Self {
        Self { filter: self.filter.iter().filter(|(known, _)| known != name).cloned().collect() }
    }

    /// No other names than these.
    pub fn only(&self, names: &[&str]) -> Result<()> {
        match self.filter.iter().find(|(name, _)| !names.contains(&name.as_str())) {
            Some((name, _)) => bail!("invalid filter '{name}'"),
            None => Ok(()),
        }
    }

    /// All names and values.
    pub fn pairs(&self) -> &[(String, String)] {
        &self.filter
    }

    /// The values of one name.
    pub fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.filter.iter().filter(move |(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Whether one of a name's values fits, or it has none.
    pub fn any(&self, name: &str, fits: impl FnMut(&str) -> bool) -> bool {
        let mut values = self.values(name).peekable();
        values.peek().is_none() || values.any(fits)
    }

    /// `label=` and `label!=`.
    pub fn labels(&self, labels: &impl Labels) -> bool {
        let has = |text: &str| match text.split_once('=') {
            Some((key, value)) => labels.get_label(key) == Some(value),
            None => labels.get_label(text).is_some(),
        };
        self.values("label").all(has) && !self.values("label!").any(has)
    }

    /// A name that contains one of the values; `^` and `$` stand for its ends.
    pub fn name(&self, name: &str) -> bool {
        self.any("name", |pattern| matches(pattern, name))
    }

    /// A yes or no.
    pub fn flag(&self, name: &str) -> Result<Option<bool>> {
        self.values(name)
            .last()
            .map(|value| match value {
                "1" | "true" => Ok(true),
                "0" | "false" => Ok(false),
                other => bail!("invalid filter '{name}={other}'"),
            })
            .transpose()
    }
}

/// Whether a name, or part of it, fits a regular expression. Docker's names of containers begin with a slash, too. One
/// that is none fits only itself.
pub fn matches(pattern: &str, name: &str) -> bool {
    let found = |regex: Regex| regex.is_match(name) || regex.is_match(&format!("/{name}"));
    pattern == name || Regex::new(pattern).is_ok_and(found)
}

/// A shell pattern with `*` and `?`, as references of images are filtered.
pub fn glob(pattern: &str, text: &str) -> bool {
    fn fits(pattern: &[char], text: &[char]) -> bool {
        match pattern.split_first() {
            None => text.is_empty(),
            Some(('*', rest)) => {
                let reach = text.iter().position(|c| *c == '/').unwrap_or(text.len());
                (0..=reach).any(|skip| fits(rest, &text[skip..]))
            }
            Some((c, rest)) => {
                text.split_first().is_some_and(|(found, after)| (*c == '?' || c == found) && fits(rest, after))
            }
        }
    }
    fits(&pattern.chars().collect::<Vec<_>>(), &text.chars().collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_looked_for_as_docker_does() {
        let cases = [
            ("web", "my-web-1", true),
            ("^web", "my-web", false),
            ("^/web$", "web", true),
            ("web$", "web-1", false),
            ("^a.*z$", "a-to-z", true),
            ("a|b", "xbx", true),
            ("^web-[12]$", "web-2", true),
            ("^web-[12]$", "web-3", false),
            ("web_?\\d+", "my-web12", true),
            ("[", "a[b", false),
            ("[", "[", true),
            ("a\\.b", "axb", false),
        ];
        for (pattern, name, found) in cases {
            assert_eq!(matches(pattern, name), found, "{pattern} {name}");
        }
        assert!(glob("busy*", "busybox") && !glob("*", "a/b") && glob("*/b:?", "a/b:1"));
    }

    #[test]
    fn labels_have_to_be_there_all() {
        let labels = BTreeMap::from([("a".to_owned(), "1".to_owned()), ("b".to_owned(), String::new())]);
        let filter = |all: &[&str]| Filters { filter: all.iter().map(|text| pair(text).unwrap()).collect() };
        assert!(filter(&["label=a", "label=b="]).labels(&labels));
        assert!(!filter(&["label=a=2"]).labels(&labels) && !filter(&["label!=a"]).labels(&labels));
        assert!(filter(&["x=1"]).only(&["label"]).is_err() && pair("x").is_err());
    }
}
