//! `--filter name=value`, as all lists and prunes take it: values of one name
//! are alternatives (labels all have to be there), different names add up.

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use clap::Args;
use indexmap::IndexMap;

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

/// The pieces of regular expressions that names are looked for with: `^`, `$`, `.`, `.*`, and alternatives.
pub fn matches(pattern: &str, name: &str) -> bool {
    pattern.split('|').any(|one| {
        let one = one.strip_prefix("^/").map_or_else(|| one.to_owned(), |rest| format!("^{rest}"));
        let one = one.trim_start_matches('/');
        let (start, one) = one.strip_prefix('^').map_or((false, one), |rest| (true, rest));
        let (end, one) = one.strip_suffix('$').map_or((false, one), |rest| (true, rest));
        let body = one.replace("\\.", "\u{1}").replace(".*", "\u{2}");
        let pieces: Vec<char> = body.chars().collect();
        let text: Vec<char> = name.chars().collect();
        let starts = if start { 0..=0 } else { 0..=text.len() };
        starts.into_iter().any(|from| fits(&pieces, &text[from..], end))
    })
}

fn fits(pattern: &[char], text: &[char], end: bool) -> bool {
    match pattern.split_first() {
        None => !end || text.is_empty(),
        Some(('\u{2}', rest)) => (0..=text.len()).any(|skip| fits(rest, &text[skip..], end)),
        Some((c, rest)) => match text.split_first() {
            Some((found, after)) => {
                let same = *c == '.' || *c == *found || (*c == '\u{1}' && *found == '.');
                same && fits(rest, after, end)
            }
            None => false,
        },
    }
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
