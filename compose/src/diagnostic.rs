//! Errors and warnings about Compose files: where, what, the line itself with a marker, and what to do.

use std::fmt;
use std::sync::Arc;

/// A place in one of the loaded files. `line` and `column` count from 1; line 0 means "the file as a whole".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct Span {
    /// Index into [`Sources`].
    pub source: u32,
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
    /// Number of characters to mark on that line.
    pub length: u32,
}

/// One text that was read: a Compose file or an environment file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// The name that messages show, as the user wrote it where possible.
    pub name: String,
    /// The text.
    pub text: Arc<str>,
}

/// All texts of one load, addressed by [`Span::source`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sources(Vec<Source>);

impl Sources {
    /// Adds a text and returns its index.
    pub fn add(&mut self, name: impl Into<String>, text: impl Into<Arc<str>>) -> u32 {
        self.0.push(Source { name: name.into(), text: text.into() });
        u32::try_from(self.0.len() - 1).unwrap_or(u32::MAX)
    }

    /// The text with this index.
    pub fn get(&self, index: u32) -> Option<&Source> {
        self.0.get(usize::try_from(index).unwrap_or(usize::MAX))
    }

    /// The place a span stands for, with its line's text; `None` for a span of no known text.
    pub fn place(&self, span: Span) -> Option<Place> {
        let source = self.get(span.source)?;
        let index = usize::try_from(span.line).ok()?.checked_sub(1);
        let text = index.and_then(|i| source.text.lines().nth(i)).unwrap_or_default();
        Some(Place {
            file: source.name.clone(),
            line: span.line,
            column: span.column,
            length: span.length,
            text: text.to_owned(),
        })
    }
}

/// A resolved [`Span`]: self-contained, can outlive the [`Sources`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// File name as shown.
    pub file: String,
    /// Line from 1, 0 for the whole file.
    pub line: u32,
    /// Column from 1.
    pub column: u32,
    /// Characters to mark.
    pub length: u32,
    /// The text of the line.
    pub text: String,
}

impl Place {
    /// The characters that are marked.
    pub fn marked(&self) -> String {
        let number = |value: u32| usize::try_from(value).unwrap_or(usize::MAX);
        self.text.chars().skip(number(self.column.saturating_sub(1))).take(number(self.length)).collect()
    }
}

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The project loads; the user should know.
    Warning,
    /// The project does not load.
    Error,
}

/// One message about the project's files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// Error or warning.
    pub severity: Severity,
    /// What is wrong: one line, lower case, no full stop.
    pub message: String,
    /// Where, if the message belongs to a place.
    pub place: Option<Place>,
    /// Other places that matter, each with a word on why.
    pub related: Vec<(Place, String)>,
    /// What to do about it.
    pub help: Option<String>,
}

impl Diagnostic {
    /// An error without a place.
    pub fn error(message: impl Into<String>) -> Self {
        Self { severity: Severity::Error, message: message.into(), place: None, related: Vec::new(), help: None }
    }

    /// A warning without a place.
    pub fn warning(message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(message) }
    }

    /// The same message, at a place.
    #[must_use]
    pub fn at(mut self, place: Option<Place>) -> Self {
        self.place = place;
        self
    }
}

impl fmt::Display for Diagnostic {
    /// The one-line form: `file:line:column: message`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(place) = &self.place {
            write!(f, "{place}: ")?;
        }
        f.write_str(&self.message)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => f.write_str(&self.file),
            line => write!(f, "{}:{line}:{}", self.file, self.column),
        }
    }
}

/// The long form of a diagnostic: message, place, the line with a marker, related places, help.
#[derive(Debug)]
pub struct Rendered<'a>(&'a Diagnostic);

impl Diagnostic {
    /// The long form, as printed to a person. No colour, no final newline.
    pub fn render(&self) -> Rendered<'_> {
        Rendered(self)
    }
}

impl fmt::Display for Rendered<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let diagnostic = self.0;
        let word = match diagnostic.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        write!(f, "{word}: {}", diagnostic.message)?;
        let related = diagnostic.related.iter().map(|(place, why)| (place, why.as_str()));
        let places: Vec<(&Place, &str)> = diagnostic.place.iter().map(|place| (place, "")).chain(related).collect();
        let width = places.iter().map(|(place, _)| place.line.to_string().len()).max().unwrap_or(1);
        for (place, why) in &places {
            write_place(f, place, why, width)?;
        }
        if let Some(help) = &diagnostic.help {
            write!(f, "\n{:width$} = help: {help}", "")?;
        }
        Ok(())
    }
}

fn write_place(f: &mut fmt::Formatter<'_>, place: &Place, why: &str, width: usize) -> fmt::Result {
    write!(f, "\n{:width$}--> {place}", "")?;
    if place.line == 0 {
        return Ok(());
    }
    // tabs and control characters would move the marker away from what it marks
    let shown: String = place.text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let (column, length) = (place.column.max(1) as usize, place.length.max(1) as usize);
    let room = shown.chars().count().saturating_sub(column - 1).max(1);
    let marker = "^".repeat(length.min(room));
    write!(f, "\n{:width$} |\n{:width$} | {shown}\n{:width$} | ", "", place.line, "")?;
    write!(f, "{:skip$}{marker}", "", skip = column - 1)?;
    if !why.is_empty() {
        write!(f, " {why}")?;
    }
    Ok(())
}

/// Why a project could not be loaded: one or more errors, each with its place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.one_line())]
pub struct LoadError(pub Vec<Diagnostic>);

impl LoadError {
    /// The first error's message and how many more there are.
    fn one_line(&self) -> String {
        match self.0.as_slice() {
            [] => "the project could not be loaded".to_owned(),
            [only] => only.to_string(),
            [first, rest @ ..] => format!("{first} (and {} more)", rest.len()),
        }
    }
}

impl From<Diagnostic> for LoadError {
    fn from(diagnostic: Diagnostic) -> Self {
        Self(vec![diagnostic])
    }
}
