//! The table as people and scripts read it: each key with what really happens to it.

use serde::Serialize;

use super::{EXCEPT, Except, Support, TABLE};

/// What umiak does with one key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Row {
    /// Path of the key, `*` standing for names and list entries.
    pub key: &'static str,
    /// In one or two words: `works`, `partly`, `ignored`, `refused`, `not yet`.
    pub support: &'static str,
    /// Why it is ignored or refused, or what would be needed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'static str>,
    /// Values that do not work yet.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub except: Vec<Exception>,
}

/// Values of a key that works otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Exception {
    /// Which.
    pub values: &'static str,
    /// What happens with them, in the words for keys.
    pub support: &'static str,
    /// Why, or what they need.
    pub reason: &'static str,
}

impl Row {
    /// The details in a line of text; empty when the key just works.
    pub fn details(&self) -> String {
        let except =
            self.except.iter().map(|except| format!("{} with {}: {}", except.support, except.values, except.reason));
        let reason = self.reason.map(|reason| match self.support {
            "ignored" => format!("with a warning: {reason}"),
            "refused" => format!("with an error: {reason}"),
            _ => reason.to_owned(),
        });
        reason.into_iter().chain(except).collect::<Vec<_>>().join("; ")
    }
}

/// Every key, in the order of the table.
pub fn rows() -> Vec<Row> {
    TABLE.iter().map(|(key, _)| row(key)).collect()
}

fn row(key: &'static str) -> Row {
    let (support, reason) = words(effective(key));
    let except = EXCEPT.iter().filter(|except| except.key == key && support == "works");
    let exception = |except: &Except| {
        let (support, reason) = words(except.then);
        Exception { values: except.values, support, reason: reason.unwrap_or_default() }
    };
    let except: Vec<_> = except.map(exception).collect();
    let support = if except.is_empty() { support } else { "partly" };
    Row { key, support, reason, except }
}

fn words(support: Support) -> (&'static str, Option<&'static str>) {
    match support {
        Support::Works => ("works", None),
        Support::Warns(reason) => ("ignored", Some(reason)),
        Support::Later(what) => ("not yet", Some(what)),
        Support::Refused(reason) => ("refused", Some(reason)),
    }
}

/// What happens to a key: what happens to the outermost key around it that does not work, else its own line.
fn effective(key: &str) -> Support {
    let around = key.match_indices('.').map(|(end, _)| &key[..end]).chain([key]);
    let lines = around.filter_map(|key| TABLE.iter().find(|(path, _)| *path == key));
    lines.map(|(_, support)| *support).find(|support| *support != Support::Works).unwrap_or(Support::Works)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_shares_the_fate_of_the_keys_around_it() {
        let all = rows();
        for row in &all {
            for other in all.iter().filter(|other| other.key.starts_with(&format!("{}.", row.key))) {
                if !matches!(row.support, "works" | "partly") {
                    assert_eq!(other.support, row.support, "{} in {}", other.key, row.key);
                }
            }
        }
    }

    #[test]
    fn a_row_reads_as_a_sentence() {
        let row = |support, reason, except| Row { key: "k", support, reason, except }.details();
        assert_eq!(row("works", None, vec![]), "");
        assert_eq!(row("ignored", Some("it is obsolete"), vec![]), "with a warning: it is obsolete");
        let except = vec![Exception { values: "build", support: "not yet", reason: "building images" }];
        assert_eq!(row("partly", None, except), "not yet with build: building images");
    }

    #[test]
    fn every_exception_is_about_a_key_of_the_table() {
        for except in EXCEPT {
            assert!(TABLE.iter().any(|(path, _)| *path == except.key), "{}", except.key);
        }
    }
}
