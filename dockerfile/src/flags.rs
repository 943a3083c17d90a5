//! The flags of an instruction: which it has, of what kind, each once.

use super::ast::Text;
use super::error::{Fault, ParseError};
use super::source::Line;
use super::suggest::nearest;
use super::words::RawFlag;

/// What a flag takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Takes {
    /// Nothing, or `true` or `false`.
    Switch,
    /// One value.
    Value,
    /// A value each time it is given.
    Values,
}

/// Flags that were looked up in their instruction's list.
#[derive(Debug, Default)]
pub(crate) struct Flags(Vec<(String, Text)>);

impl Flags {
    /// Fails on what the instruction does not have, has once only, or takes otherwise.
    pub fn read(raw: &[RawFlag<'_>], known: &[(&str, Takes)], line: &Line) -> Result<Self, ParseError> {
        let mut flags = Self::default();
        for flag in raw {
            let place = line.place(flag.piece);
            let text = flags.one(flag, known, line).map_err(|fault| ParseError::new(place, fault))?;
            flags.0.push((flag.name.clone(), text));
        }
        Ok(flags)
    }

    fn one(&self, flag: &RawFlag<'_>, known: &[(&str, Takes)], line: &Line) -> Result<Text, Fault> {
        let name = flag.name.clone();
        let Some((_, takes)) = known.iter().find(|(known, _)| *known == name) else {
            let suggestion = nearest(&name, known.iter().map(|(known, _)| *known));
            return Err(Fault::UnknownFlag { name, suggestion });
        };
        if *takes != Takes::Values && self.0.iter().any(|(seen, _)| *seen == name) {
            return Err(Fault::RepeatedFlag { name });
        }
        let value = match (takes, &flag.value) {
            (Takes::Switch, None) => "true".to_owned(),
            (Takes::Switch, Some(value)) => match value.to_lowercase().as_str() {
                "" => return Err(Fault::FlagWithoutValue { name }),
                word @ ("true" | "false") => word.to_owned(),
                _ => return Err(Fault::FlagNotBoolean { name, value: value.clone() }),
            },
            (_, None) => return Err(Fault::FlagWithoutValue { name }),
            (_, Some(value)) => value.clone(),
        };
        Ok(Text { raw: value, place: line.place(flag.value_piece) })
    }

    /// The value of a flag; an empty one is as good as none.
    pub fn take(&mut self, name: &str) -> Option<Text> {
        self.take_raw(name).filter(|text| !text.raw.is_empty())
    }

    /// The value of a flag, even an empty one.
    pub fn take_raw(&mut self, name: &str) -> Option<Text> {
        let index = self.0.iter().position(|(seen, _)| seen == name)?;
        Some(self.0.remove(index).1)
    }

    /// All values of a flag.
    pub fn take_all(&mut self, name: &str) -> Vec<Text> {
        let (found, rest) = std::mem::take(&mut self.0).into_iter().partition(|(seen, _)| seen == name);
        self.0 = rest;
        let found: Vec<(String, Text)> = found;
        found.into_iter().map(|(_, text)| text).collect()
    }

    /// A switch, when it is given.
    pub fn switch(&mut self, name: &str) -> Option<bool> {
        self.take(name).map(|text| text.raw == "true")
    }
}

/// What Go takes for a truth value.
pub(crate) fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}
