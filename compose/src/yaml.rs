//! YAML text to [`Node`]s: anchors, aliases and merge keys resolved, duplicate keys refused, size and depth bounded.

mod sys;

use std::collections::HashMap;

use self::sys::{Event, Fault, Kind, Mark, Naming, Parser};
use super::diagnostic::{Diagnostic, Span};
use super::node::{Edit, Entry, Map, Node, Problems, Value};
use super::scalar;

/// Nodes of one document at most, aliases expanded: no real file comes near, an alias bomb does not fit the memory.
const MAX_NODES: usize = 100_000;
/// Nodes kept for anchors at most, those of anchors within anchors counted for each.
const MAX_ANCHORED: usize = 10 * MAX_NODES;
/// Nesting at most.
const MAX_DEPTH: usize = 100;
/// Bytes of one file at most.
pub(crate) const MAX_FILE_SIZE: usize = 16 << 20;

/// Bytes at most that are read again because of tabs before comments.
const MAX_REREAD: usize = 32 << 20;

/// Parses all documents of a source. An empty source has none.
pub(crate) fn parse(problems: &Problems, source: u32) -> Result<Vec<Node>, Box<Diagnostic>> {
    let text = problems.sources.get(source).map(|source| source.text.clone()).unwrap_or_default();
    let mut text = text.strip_prefix('\u{feff}').unwrap_or(&text).to_owned();
    let builder = Builder::new(problems, source);
    if let Some((line, column)) = control_character(&text) {
        let span = Span { source, line, column, length: 1 };
        return Err(builder.error(span, "invalid YAML: control characters are not allowed"));
    }
    let mut reread = 0;
    loop {
        let fault = match documents(problems, source, &text) {
            Ok(documents) => return Ok(documents),
            Err(Failure::Model(error)) => return Err(error),
            Err(Failure::Text(fault)) => fault,
        };
        reread += text.len();
        match without_tab(&text, fault.at).filter(|_| reread <= MAX_REREAD) {
            Some(better) => text = better,
            None => return Err(builder.syntax(&fault)),
        }
    }
}

/// Why a text cannot be read.
enum Failure {
    /// It is no YAML.
    Text(Fault),
    /// It is, but not what a Compose file may be.
    Model(Box<Diagnostic>),
}

fn documents(problems: &Problems, source: u32, text: &str) -> Result<Vec<Node>, Failure> {
    let mut builder = Builder::new(problems, source);
    let mut documents = Vec::new();
    let mut parser = Parser::new(text).map_err(Failure::Text)?;
    loop {
        let event = parser.next().map_err(Failure::Text)?;
        match event.kind {
            Kind::End => return Ok(documents),
            Kind::Document => builder.start(),
            Kind::DocumentEnd => documents.extend(builder.done.take()),
            _ => builder.event(event).map_err(Failure::Model)?,
        }
    }
}

/// Docker Compose takes tabs before some comments: a tab at `at` that only blanks and a comment follow becomes a space.
fn without_tab(text: &str, at: Mark) -> Option<String> {
    let line = text.split('\n').nth(at.line)?;
    let (blank, rest) = line.split_at(line.char_indices().nth(at.column)?.0);
    if !rest.starts_with('\t') || !blank.trim().is_empty() || !rest.trim_start().starts_with('#') {
        return None;
    }
    // of as many bytes, so that every place stays where it is
    let comment = rest.trim_start_matches([' ', '\t']);
    let spaces = " ".repeat(line.len() - comment.len());
    let before = text.split('\n').take(at.line).map(|line| line.len() + 1).sum::<usize>();
    Some(format!("{}{spaces}{comment}{}", &text[..before], &text[before + line.len()..]))
}

struct Builder<'a> {
    problems: &'a Problems,
    source: u32,
    /// Finished nodes by anchor, with their size.
    anchors: HashMap<String, (Node, usize)>,
    stack: Vec<Open>,
    size: usize,
    anchored: usize,
    done: Option<Node>,
}

/// A collection whose end has not been seen.
struct Open {
    anchor: Option<String>,
    edit: Option<Edit>,
    span: Span,
    /// `size` of the builder when it began.
    size: usize,
    content: Content,
}

enum Content {
    List(Vec<Node>),
    Map { entries: Map, merges: Vec<Node>, key: Option<Key>, merge_at: Option<Span> },
}

enum Key {
    Name(String, Span),
    Merge(Span),
}

impl<'a> Builder<'a> {
    fn new(problems: &'a Problems, source: u32) -> Self {
        Self { problems, source, anchors: HashMap::new(), stack: Vec::new(), size: 0, anchored: 0, done: None }
    }

    fn start(&mut self) {
        self.anchors.clear();
        self.stack.clear();
        self.size = 0;
        self.anchored = 0;
        self.done = None;
    }

    fn span(&self, start: Mark, end: Mark) -> Span {
        let length = match start.line == end.line {
            true => end.column.saturating_sub(start.column),
            // to the end of the line; the renderer cuts it there
            false => usize::from(u16::MAX),
        };
        Span {
            source: self.source,
            line: number(start.line + 1),
            column: number(start.column + 1),
            length: number(length.max(1)),
        }
    }

    fn error(&self, span: Span, message: impl Into<String>) -> Box<Diagnostic> {
        Box::new(Diagnostic::error(message).at(self.problems.sources.place(span)))
    }

    fn syntax(&self, fault: &Fault) -> Box<Diagnostic> {
        let text = self.problems.sources.get(self.source).map(|source| source.text.clone()).unwrap_or_default();
        let last = number(text.lines().count().max(1));
        let at = |mark: Mark| {
            let span = self.span(mark, mark);
            Span { line: span.line.min(last), ..span }
        };
        let mut error = self.error(at(fault.at), format!("invalid YAML: {}", fault.problem));
        let line = text.lines().nth(fault.at.line).unwrap_or_default();
        error.help = match line.chars().nth(fault.at.column) {
            Some('\t') => Some("this is a tab: YAML is indented with spaces".to_owned()),
            Some(c @ ('@' | '`' | '%')) => Some(format!("a value that begins with `{c}` has to be in quotes")),
            _ => None,
        };
        if let Some((context, began)) = &fault.within
            && began.line != fault.at.line
        {
            error.related.extend(self.problems.sources.place(at(*began)).map(|place| (place, context.clone())));
        }
        error
    }

    fn event(&mut self, event: Event) -> Result<(), Box<Diagnostic>> {
        let span = self.span(event.start, event.end);
        match event.kind {
            Kind::Scalar { text, plain, name } => self.scalar(text, plain, name, span),
            Kind::List(name) => self.open(name, span, Content::List(Vec::new())),
            Kind::Map(name) => {
                let content = Content::Map { entries: Map::new(), merges: Vec::new(), key: None, merge_at: None };
                self.open(name, span, content)
            }
            Kind::ListEnd | Kind::MapEnd => self.close(),
            Kind::Alias(anchor) => self.alias(&anchor, span),
            Kind::Begin | Kind::End | Kind::Document | Kind::DocumentEnd => Ok(()),
        }
    }

    fn scalar(&mut self, text: String, plain: bool, name: Naming, span: Span) -> Result<(), Box<Diagnostic>> {
        let Naming { anchor, tag } = name;
        if self.expects_key() {
            return self.key(&text, plain && tag.is_none(), anchor, span);
        }
        // `!` alone says nothing
        let tag = tag.as_deref().filter(|tag| *tag != "!");
        let value = match tag.map(core_tag) {
            Some(Some("str")) => Value::Text(text),
            Some(Some("binary")) => match scalar::base64(&text) {
                Some(text) => Value::Text(text),
                None => return Err(self.error(span, "!!binary value contains invalid base64 data")),
            },
            Some(Some(wanted @ ("int" | "float" | "bool" | "null"))) => {
                let value = scalar::resolve(&text);
                if !scalar::is(&value, wanted) {
                    let node = Node::new(span, value);
                    return Err(self.error(span, format!("cannot decode `{text}`, {}, as a !!{wanted}", node.kind())));
                }
                value
            }
            Some(Some("timestamp")) => match scalar::date(&text) {
                Some(date) => Value::Date(date),
                None => return Err(self.error(span, format!("cannot decode `{text}` as a !!timestamp"))),
            },
            None if plain => scalar::resolve(&text),
            // what stands behind a tag of somebody's own is a text
            Some(None) if plain && tag.and_then(edit).is_some() => scalar::resolve(&text),
            _ => Value::Text(text),
        };
        let node = Node { edit: tag.and_then(edit), ..Node::new(span, value) };
        self.count(1, span)?;
        if let Some(anchor) = anchor {
            self.anchors.insert(anchor, (node.clone(), 1));
        }
        self.add(node)
    }

    fn expects_key(&self) -> bool {
        matches!(self.stack.last(), Some(Open { content: Content::Map { key: None, .. }, .. }))
    }

    /// Takes a scalar as a mapping's next key.
    fn key(&mut self, text: &str, plain: bool, anchor: Option<String>, at: Span) -> Result<(), Box<Diagnostic>> {
        let is_text = !plain || matches!(scalar::resolve(text), Value::Text(_));
        if !is_text {
            let mut error = self.error(at, format!("non-string key: {text}"));
            error.help = Some(format!("write it as \"{text}\""));
            return Err(error);
        }
        if let Some(anchor) = anchor {
            self.anchors.insert(anchor, (Node::text(at, text), 1));
        }
        let Some(Open { content: Content::Map { entries, key, merge_at, .. }, .. }) = self.stack.last_mut() else {
            return Ok(());
        };
        let before = match plain && text == "<<" {
            true => merge_at.replace(at),
            false => entries.get(text).map(|entry| entry.key),
        };
        *key = Some(if plain && text == "<<" { Key::Merge(at) } else { Key::Name(text.to_owned(), at) });
        let Some(before) = before else { return Ok(()) };
        let mut error = self.error(at, format!("mapping key \"{text}\" already defined at line {}", before.line));
        error.related.extend(self.problems.sources.place(before).map(|place| (place, "first defined here".to_owned())));
        Err(error)
    }

    fn open(&mut self, name: Naming, span: Span, content: Content) -> Result<(), Box<Diagnostic>> {
        if self.expects_key() {
            return Err(self.error(span, "a mapping key must be a string"));
        }
        if self.stack.len() >= MAX_DEPTH {
            return Err(self.error(span, format!("nested deeper than {MAX_DEPTH} levels")));
        }
        let size = self.size;
        self.count(1, span)?;
        let edit = name.tag.as_deref().and_then(edit);
        self.stack.push(Open { anchor: name.anchor, edit, span, size, content });
        Ok(())
    }

    fn close(&mut self) -> Result<(), Box<Diagnostic>> {
        let Some(open) = self.stack.pop() else { return Ok(()) };
        let value = match open.content {
            Content::List(list) => Value::List(list),
            Content::Map { entries, merges, .. } => Value::Map(self.merged(entries, merges)?),
        };
        let node = Node { edit: open.edit, ..Node::new(open.span, value) };
        if let Some(anchor) = open.anchor {
            self.anchored += self.size - open.size;
            if self.anchored > MAX_ANCHORED {
                return Err(self.error(open.span, format!("more than {MAX_ANCHORED} values have anchors")));
            }
            self.anchors.insert(anchor, (node.clone(), self.size - open.size));
        }
        self.add(node)
    }

    /// Fills in what `<<` brings: the mapping's own keys win, then the first of several.
    fn merged(&self, mut entries: Map, merges: Vec<Node>) -> Result<Map, Box<Diagnostic>> {
        for node in merges {
            let span = node.span;
            let Value::Map(map) = node.value else {
                return Err(self.error(span, "map merge requires map or sequence of maps as the value"));
            };
            for (key, entry) in map {
                match entries.get_mut(&key) {
                    // the tag deletes what earlier files gave; what the merge key gives stays
                    Some(own) if own.node.edit == Some(Edit::Reset) => {
                        own.node = Node { edit: Some(Edit::Override), ..entry.node };
                    }
                    Some(_) => {}
                    None => {
                        entries.insert(key, entry);
                    }
                }
            }
        }
        Ok(entries)
    }

    fn alias(&mut self, anchor: &str, span: Span) -> Result<(), Box<Diagnostic>> {
        if self.stack.iter().any(|open| open.anchor.as_deref() == Some(anchor)) {
            return Err(self.error(span, "an alias inside the value it stands for"));
        }
        let Some((node, size)) = self.anchors.get(anchor) else {
            return Err(self.error(span, format!("invalid YAML: unknown anchor '{anchor}' referenced")));
        };
        // places inside the alias point to the anchor's text: that is what a person has to change
        let (node, size) = (node.clone(), *size);
        if self.expects_key() {
            let text = node.as_text().unwrap_or_default().to_owned();
            return self.key(&text, false, None, span);
        }
        self.count(size, span)?;
        self.add(node)
    }

    fn add(&mut self, node: Node) -> Result<(), Box<Diagnostic>> {
        match self.stack.last_mut().map(|open| &mut open.content) {
            None => self.done = Some(node),
            Some(Content::List(list)) => list.push(node),
            Some(Content::Map { entries, merges, key, .. }) => match key.take() {
                Some(Key::Name(name, at)) => {
                    entries.insert(name, Entry { key: at, node });
                }
                Some(Key::Merge(at)) => match node.value {
                    Value::List(list) => merges.extend(list),
                    value => merges.push(Node { span: at, ..Node::new(at, value) }),
                },
                None => return Err(self.error(node.span, "a mapping key must be a string")),
            },
        }
        Ok(())
    }

    fn count(&mut self, nodes: usize, span: Span) -> Result<(), Box<Diagnostic>> {
        self.size += nodes;
        match self.size > MAX_NODES {
            true => Err(self.error(span, format!("more than {MAX_NODES} values, aliases counted each time"))),
            false => Ok(()),
        }
    }
}

/// Line and column of the first character that no YAML text may have.
fn control_character(text: &str) -> Option<(u32, u32)> {
    let allowed =
        |c: char| matches!(c, '\t' | '\n' | '\r' | ' '..='~' | '\u{85}' | '\u{a0}'..='\u{fffd}' | '\u{10000}'..);
    let at = text.find(|c| !allowed(c))?;
    let (before, line) = (&text[..at], text[..at].matches('\n').count());
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count();
    Some((number(line + 1), number(column + 1)))
}

/// The name of a tag of YAML's core schema.
fn core_tag(tag: &str) -> Option<&str> {
    tag.strip_prefix("tag:yaml.org,2002:")
}

fn edit(tag: &str) -> Option<Edit> {
    match tag {
        "!reset" => Some(Edit::Reset),
        "!override" => Some(Edit::Override),
        _ => None,
    }
}

fn number(value: usize) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}
