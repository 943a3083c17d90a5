//! The text as logical lines: continuations joined, comments and blank lines taken away, every part still knowing
//! where it stood.

use std::cell::Cell;

use super::ast::{Heredoc, Place, Text};
use super::error::{Fault, ParseError};
use super::heredoc::Head;

/// An instruction in one line.
#[derive(Debug)]
pub(crate) struct Line {
    /// The text, without the blanks it begins with.
    pub text: String,
    /// Where its parts stood: the byte they begin at, line and column.
    parts: Vec<(usize, usize, usize)>,
    /// The place found last, so that a long line is gone through once: part, byte, column.
    last: Cell<(usize, usize, usize)>,
    /// The number of the last line that was read for it.
    pub end: usize,
    /// Whether a blank line stood within.
    pub blank_inside: bool,
    /// The comments right above.
    pub comments: Vec<String>,
}

/// A part of a logical line, and the byte it begins at.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Piece<'a> {
    pub text: &'a str,
    pub at: usize,
}

impl<'a> Piece<'a> {
    /// From a byte on.
    pub fn from(self, start: usize) -> Self {
        Self { text: self.text.get(start..).unwrap_or_default(), at: self.at + start }
    }

    /// Up to a byte.
    pub fn to(self, end: usize) -> Self {
        Self { text: self.text.get(..end).unwrap_or_default(), ..self }
    }

    /// Without the blanks around.
    pub fn trim(self) -> Self {
        let text = self.text.trim_start();
        Self { text: text.trim_end(), at: self.at + (self.text.len() - text.len()) }
    }
}

impl Line {
    /// All of it.
    pub fn piece(&self) -> Piece<'_> {
        Piece { text: &self.text, at: 0 }
    }

    /// Where a part stands.
    pub fn place(&self, piece: Piece<'_>) -> Place {
        let (line, column) = self.point(piece.at);
        let (end_line, _) = self.point(piece.at + piece.text.len().saturating_sub(1));
        Place { line, end_line: end_line.max(line), column }
    }

    /// A part as text to expand.
    pub fn text_of(&self, piece: Piece<'_>) -> Text {
        Text { raw: piece.text.to_owned(), place: self.place(piece) }
    }

    fn point(&self, at: usize) -> (usize, usize) {
        let index = self.parts.partition_point(|(begin, ..)| *begin <= at).saturating_sub(1);
        let Some((begin, line, column)) = self.parts.get(index).copied() else {
            return (self.end, 1);
        };
        let (part, byte, known) = self.last.get();
        let (from, column) =
            if part == index && (begin..=at).contains(&byte) { (byte, known) } else { (begin, column) };
        let between = self.text.get(from..at).map_or(0, |text| text.chars().count());
        self.last.set((index, at, column + between));
        (line, column + between)
    }
}

/// Reads logical lines.
#[derive(Debug)]
pub(crate) struct Reader<'a> {
    lines: std::str::SplitInclusive<'a, char>,
    /// The number of the last line that was read.
    pub number: usize,
    pub escape: char,
}

impl<'a> Reader<'a> {
    pub fn new(source: &'a str, escape: char) -> Self {
        let source = source.strip_prefix('\u{feff}').unwrap_or(source);
        Self { lines: source.split_inclusive('\n'), number: 0, escape }
    }

    /// Goes past lines that were read otherwise.
    pub fn skip(&mut self, lines: usize) {
        for _ in 0..lines {
            self.raw();
        }
    }

    fn raw(&mut self) -> Option<&'a str> {
        let line = self.lines.next()?;
        self.number += 1;
        Some(line)
    }

    /// The next instruction; `None` at the end.
    pub fn line(&mut self) -> Option<Line> {
        let mut comments = Vec::new();
        loop {
            let raw = end_cut(self.raw()?);
            let begun = raw.trim_start();
            if let Some(comment) = begun.strip_prefix('#') {
                match comment.trim() {
                    "" => comments.clear(),
                    comment => comments.push(comment.to_owned()),
                }
                continue;
            }
            let (body, more) = self.continued(begun);
            if body.is_empty() && !more {
                continue;
            }
            let column = raw.get(..raw.len() - begun.len()).map_or(0, |blank| blank.chars().count()) + 1;
            let mut line = Line {
                text: body.to_owned(),
                parts: vec![(0, self.number, column)],
                last: Cell::new((0, 0, column)),
                end: self.number,
                blank_inside: false,
                comments,
            };
            if more {
                self.rest(&mut line);
            }
            return Some(line);
        }
    }

    /// The lines that continue one.
    fn rest(&mut self, line: &mut Line) {
        while let Some(raw) = self.raw() {
            line.end = self.number;
            let raw = end_cut(raw);
            match raw.trim_start().chars().next() {
                Some('#') => {}
                None => line.blank_inside = true,
                Some(_) => {
                    let (body, more) = self.continued(raw);
                    line.parts.push((line.text.len(), self.number, 1));
                    line.text.push_str(body);
                    if !more {
                        return;
                    }
                }
            }
        }
    }

    /// The text before an escape at its end, and whether there is one. An escaped escape is none.
    fn continued<'b>(&self, line: &'b str) -> (&'b str, bool) {
        match line.trim_end_matches([' ', '\t']).strip_suffix(self.escape) {
            Some(body) if !body.ends_with(self.escape) => (body, true),
            _ => (line, false),
        }
    }

    /// The text of a heredoc, whose head stands on `line`.
    pub fn heredoc(&mut self, head: Head, line: &Line) -> Result<Heredoc, ParseError> {
        let first = self.number + 1;
        let mut content = String::new();
        while let Some(raw) = self.raw() {
            let shown = if head.chomp { raw.trim_start_matches('\t') } else { raw };
            if end_cut(shown) == head.name {
                let place = Place { line: first, end_line: (self.number - 1).max(first), column: 1 };
                return Ok(Heredoc {
                    name: head.name,
                    fd: head.fd,
                    expand: head.expand,
                    chomp: head.chomp,
                    content,
                    place,
                });
            }
            content.push_str(shown);
        }
        let at = line.text.find("<<").unwrap_or(0);
        let place = line.place(line.piece().from(at));
        Err(ParseError::new(place, Fault::UnterminatedHeredoc { name: head.name }))
    }
}

/// A line without its end.
pub(crate) fn end_cut(line: &str) -> &str {
    line.trim_end_matches(['\r', '\n'])
}
