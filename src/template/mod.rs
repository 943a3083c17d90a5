//! Go's text/template with the functions that Docker adds, over JSON: what
//! `--format` and `inspect -f` take.
//!
//! Pure. Where Docker evaluates a template over its structs, JSON is all there
//! is here; [`value`] says which objects stand for structs and which for maps,
//! so that a name that is missing is told in Docker's words.

mod exec;
mod funcs;
mod lex;
mod literal;
mod parse;
mod printf;
mod value;

#[cfg(test)]
mod recorded;
#[cfg(test)]
mod tests;
#[cfg(test)]
pub use recorded::cases;

use serde_json::Value as Json;

pub use printf::quote;
use value::{Kind, Val};

/// A template that cannot be parsed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("template: :{line}: {message}")]
pub struct ParseError {
    line: usize,
    message: String,
}

impl ParseError {
    fn at(source: &str, at: usize, message: impl Into<String>) -> Self {
        let before = source.as_bytes().get(..at).unwrap_or(source.as_bytes());
        Self { line: 1 + before.iter().filter(|byte| **byte == b'\n').count(), message: message.into() }
    }
}

/// A template that does not fit what it is given.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("template: :{line}:{column}: executing {template:?} at <{node}>: {message}")]
pub struct ExecError {
    line: usize,
    column: usize,
    template: String,
    node: String,
    message: String,
}

/// A parsed template.
#[derive(Debug, Clone)]
pub struct Template {
    source: String,
    trees: parse::Trees,
}

impl Template {
    /// Parses a text.
    ///
    /// # Errors
    /// What is wrong, and in which line.
    pub fn parse(source: &str) -> Result<Self, ParseError> {
        Ok(Self { source: source.to_owned(), trees: parse::parse(source)? })
    }

    /// Over an object as `inspect` shows it: first as Docker's struct, and where that has no such field, as plain JSON.
    ///
    /// # Errors
    /// What does not fit, and where.
    pub fn inspect(&self, object: &Json) -> Result<String, ExecError> {
        let typed = Val::typed(object, "", Kind::Struct("struct"));
        self.run(typed, None, false).or_else(|_| self.run(Val::raw(object), None, false))
    }

    /// Over one row of a list. `type_name` is what an error calls it; `labels` is where `.Label "key"` looks.
    ///
    /// # Errors
    /// What does not fit, and where.
    pub fn row(&self, row: &Json, type_name: &'static str, labels: &Json) -> Result<String, ExecError> {
        let labels = labels.as_object().cloned().unwrap_or_default();
        self.run(Val::typed(row, "", Kind::Struct(type_name)), Some(exec::Labels::Of(labels)), false)
    }

    /// Over the headers of a table: functions leave them as they are, and a label's header is the last part of its key.
    ///
    /// # Errors
    /// What does not fit, and where.
    pub fn header(&self, headers: &Json) -> Result<String, ExecError> {
        self.run(Val::typed(headers, "Labels", Kind::Struct("")), Some(exec::Labels::Header), true)
    }

    fn run(&self, data: Val, labels: Option<exec::Labels>, header: bool) -> Result<String, ExecError> {
        exec::run(&self.source, &self.trees, data, labels, header)
    }
}
