//! `umiak builder`: the build cache.

pub mod du;
pub mod prune;

use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use jiff::Timestamp;
use regex::Regex;
use umiak_images::cache::Row;

use super::Context;
use crate::engine::image::in_use;
use crate::ui::human;

/// Manage the build cache.
#[derive(Debug, Subcommand)]
pub enum Builder {
    /// Show what the build cache holds
    Du(du::Du),
    /// Remove build cache
    Prune(prune::Prune),
}

impl Builder {
    /// Runs the command.
    pub fn run(self, context: &Context) -> Result<ExitCode> {
        match self {
            Self::Du(command) => command.run(context),
            Self::Prune(command) => command.run(context),
        }
    }
}

/// Flags about builders, of which there is one under whatever name.
#[derive(Debug, Clone, Default, Args)]
pub struct Which {
    /// The builder, by a name that was given to it
    #[arg(long, hide = true)]
    builder: Option<String>,
    /// There is nothing more to tell than what is told
    #[arg(short = 'D', long, hide = true)]
    debug: bool,
}

/// Which rows are meant: all conditions have to hold.
#[derive(Debug, Clone, Default, Args)]
pub struct RowFilters {
    /// Provide filter values: id, description, type, parents, until; inuse, shared, private, mutable, immutable
    #[arg(long = "filter", value_name = "FILTER")]
    filter: Vec<String>,
}

/// One condition.
#[derive(Debug)]
enum Condition {
    Present(String),
    Equal(String, String),
    NotEqual(String, String),
    Match(String, Regex),
}

impl RowFilters {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.filter.is_empty()
    }

    /// How long something was not used, in the words of `until=24h`; the longest where there are several.
    fn until(&self) -> Result<Option<std::time::Duration>> {
        let mut longest = None;
        for filter in &self.filter {
            let Some((name, value)) = filter.split_once('=') else { continue };
            if matches!(name.trim(), "until" | "unused-for") {
                let parsed = umiak_compose::units::parse_duration(value.trim());
                let Ok(parsed) = parsed else {
                    bail!("\"until\" filter expects a duration (e.g., '24h'): invalid duration {:?}", value.trim())
                };
                longest = longest.max(Some(parsed));
            }
        }
        Ok(longest)
    }

    fn conditions(&self) -> Result<Vec<Condition>> {
        let words = self.filter.iter().flat_map(|filter| filter.split(','));
        let mut all = Vec::new();
        for word in words.map(str::trim).filter(|word| !word.is_empty()) {
            all.push(match word.split_once('=') {
                Some(("until" | "unused-for", _)) => continue,
                None => Condition::Present(word.to_owned()),
                Some((name, value)) => {
                    // `==` is `=`.
                    let value = value.strip_prefix('=').unwrap_or(value).trim().trim_matches('"').to_owned();
                    if let Some(name) = name.strip_suffix('!') {
                        Condition::NotEqual(name.to_owned(), value)
                    } else if let Some(name) = name.strip_suffix('~').or((name == "id").then_some(name)) {
                        match Regex::new(&value) {
                            Ok(pattern) if !value.is_empty() => Condition::Match(name.to_owned(), pattern),
                            _ => bail!("failed to parse prune filters [{word}]: expected a regular expression"),
                        }
                    } else {
                        Condition::Equal(name.to_owned(), value)
                    }
                }
            });
        }
        Ok(all)
    }

    /// What decides.
    fn decide(&self) -> Result<impl Fn(&Row) -> bool + use<>> {
        let conditions = self.conditions()?;
        Ok(move |row: &Row| conditions.iter().all(|condition| condition.holds(row)))
    }
}

impl Condition {
    fn holds(&self, row: &Row) -> bool {
        match self {
            Self::Present(name) => field(row, name).is_some(),
            Self::Equal(name, value) => field(row, name).is_some_and(|text| text == *value),
            Self::NotEqual(name, value) => field(row, name).is_none_or(|text| text != *value),
            Self::Match(name, pattern) => field(row, name).is_some_and(|text| pattern.is_match(&text)),
        }
    }
}

/// What a filter sees of a row, as BuildKit shows it.
fn field(row: &Row, name: &str) -> Option<String> {
    let flag = |set: bool| set.then(String::new);
    match name {
        "id" => Some(row.id.clone()),
        "description" => Some(row.description.clone()),
        "type" => Some(row.kind.to_string()),
        "parents" => Some(row.parents.join(";")).filter(|parents| !parents.is_empty()),
        "inuse" => flag(row.in_use),
        "mutable" => flag(row.mutable),
        "immutable" => flag(!row.mutable),
        "shared" => flag(row.shared),
        "private" => flag(!row.shared),
        _ => None,
    }
}

/// When it was used last, in words; nothing where that is not known.
pub fn last_used(row: &Row) -> String {
    let moment = row.last_used.and_then(|time| Timestamp::try_from(time).ok());
    moment.map(human::ago).unwrap_or_default()
}

/// When it was made, as Go prints times.
pub fn created(row: &Row) -> String {
    let moment: Option<Timestamp> = row.created.as_deref().and_then(|text| text.parse().ok());
    moment.map(|moment| moment.strftime("%Y-%m-%d %H:%M:%S%.f +0000 UTC").to_string()).unwrap_or_default()
}

/// Removes what may go; containers keep the layers that they use.
pub fn unused(
    context: &Context,
    options: &umiak_images::cache::PruneCache<'_>,
) -> Result<umiak_images::cache::PrunedCache> {
    let store = context.engine.store()?;
    let containers = context.engine.containers()?;
    Ok(store.cache().prune(options, &|id| in_use(&containers, id))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filters(words: &[&str]) -> RowFilters {
        RowFilters { filter: words.iter().map(ToString::to_string).collect() }
    }

    #[test]
    fn durations_are_those_of_go() {
        let hours = |hours: u64| Some(std::time::Duration::from_secs(hours * 3600));
        assert_eq!(filters(&[]).until().unwrap(), None);
        assert_eq!(filters(&["until=24h", "unused-for=1h", "type=regular"]).until().unwrap(), hours(24));
        let error = filters(&["until=xx"]).until().unwrap_err().to_string();
        assert_eq!(error, "\"until\" filter expects a duration (e.g., '24h'): invalid duration \"xx\"");
    }

    #[test]
    fn patterns_that_are_none_are_refused() {
        assert!(filters(&["id="]).conditions().is_err());
        assert!(filters(&["description~=("]).conditions().is_err());
        assert_eq!(filters(&["until=1h", "type=regular,shared", "description~=COPY"]).conditions().unwrap().len(), 3);
    }
}
