//! YAML as Go's yaml package writes it: which text is quoted, and how, follows its emitter.

use std::fmt::Write as _;

use serde_json::Value;

use crate::node::Value as Resolved;
use crate::scalar;

/// Keys longer than this are written behind a `?`.
const SIMPLE_KEY: usize = 128;

/// A value as a YAML document, each level indented by `indent` spaces.
pub(super) fn text(value: &Value, indent: usize) -> String {
    let mut writer = Writer { text: String::new(), indent };
    match value {
        Value::Object(map) if !map.is_empty() => writer.map(map, 0, false),
        Value::Array(list) if !list.is_empty() => writer.list(list, 0, false),
        scalar => {
            writer.scalar(scalar, 0);
            writer.text.push('\n');
        }
    }
    writer.text
}

struct Writer {
    text: String,
    indent: usize,
}

impl Writer {
    /// A mapping at a column; its first line goes on where the writer stands when `inline`.
    fn map(&mut self, map: &serde_json::Map<String, Value>, column: usize, inline: bool) {
        for (index, (key, value)) in map.iter().enumerate() {
            if index > 0 || !inline {
                self.pad(column);
            }
            self.key(key, column);
            match value {
                Value::Object(map) if !map.is_empty() => {
                    self.text.push('\n');
                    self.map(map, column + self.indent, false);
                }
                Value::Array(list) if !list.is_empty() => {
                    self.text.push('\n');
                    self.list(list, column + self.indent, false);
                }
                scalar => {
                    self.text.push(' ');
                    self.scalar(scalar, column + self.indent);
                    self.text.push('\n');
                }
            }
        }
    }

    fn key(&mut self, key: &str, column: usize) {
        if key.len() <= SIMPLE_KEY && !key.contains('\n') {
            self.text.push_str(&key_text(key));
        } else {
            self.text.push_str("? ");
            self.scalar(&Value::from(key), column + self.indent);
            self.text.push('\n');
            self.pad(column);
        }
        self.text.push(':');
    }

    fn list(&mut self, list: &[Value], column: usize, inline: bool) {
        // what stands behind the dash begins in the column of the next level
        let dash = format!("-{}", " ".repeat(self.indent.saturating_sub(1)));
        for (index, value) in list.iter().enumerate() {
            if index > 0 || !inline {
                self.pad(column);
            }
            match value {
                Value::Object(map) if !map.is_empty() => {
                    self.text.push_str(&dash);
                    self.map(map, column + self.indent, true);
                }
                Value::Array(list) if !list.is_empty() => {
                    self.text.push_str(&dash);
                    self.list(list, column + self.indent, true);
                }
                scalar => {
                    self.text.push_str("- ");
                    self.scalar(scalar, column + self.indent);
                    self.text.push('\n');
                }
            }
        }
    }

    fn pad(&mut self, column: usize) {
        self.text.extend(std::iter::repeat_n(' ', column));
    }

    /// A scalar or an empty collection; the lines of a text stand in `column`.
    fn scalar(&mut self, value: &Value, column: usize) {
        match value {
            Value::Null => self.text.push_str("null"),
            Value::Bool(value) => self.text.push_str(if *value { "true" } else { "false" }),
            Value::Number(number) => self.text.push_str(&super::number::yaml(number)),
            Value::Array(_) => self.text.push_str("[]"),
            Value::Object(_) => self.text.push_str("{}"),
            Value::String(text) => match style(text) {
                Style::Literal => self.literal(text, column),
                Style::Plain => self.text.push_str(text),
                Style::Single => self.text.push_str(&single(text)),
                Style::Double => self.text.push_str(&double(text)),
            },
        }
    }

    /// `|`, with the hints that its first and last characters need.
    fn literal(&mut self, text: &str, column: usize) {
        self.text.push('|');
        if text.starts_with([' ', '\n']) {
            let _ = write!(self.text, "{}", self.indent);
        }
        match text.strip_suffix('\n') {
            None => self.text.push('-'),
            Some(rest) if rest.is_empty() || rest.ends_with('\n') => self.text.push('+'),
            Some(_) => {}
        }
        for line in text.strip_suffix('\n').unwrap_or(text).split('\n') {
            self.text.push('\n');
            if !line.is_empty() {
                self.pad(column);
                self.text.push_str(line);
            }
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Style {
    Plain,
    Single,
    Double,
    Literal,
}

fn key_text(key: &str) -> String {
    match style(key) {
        Style::Plain => key.to_owned(),
        Style::Single => single(key),
        Style::Double | Style::Literal => double(key),
    }
}

/// How a text is written.
fn style(text: &str) -> Style {
    let shape = Shape::of(text);
    if text.contains('\n') {
        return if shape.literal { Style::Literal } else { Style::Double };
    }
    if !is_text(text) {
        return Style::Double;
    }
    match shape {
        Shape { plain: true, .. } => Style::Plain,
        Shape { single: true, .. } => Style::Single,
        _ => Style::Double,
    }
}

/// Whether a reader of YAML, old or new, takes the bare text for text.
fn is_text(text: &str) -> bool {
    const OLD_BOOLEANS: [&str; 16] =
        ["y", "Y", "yes", "Yes", "YES", "on", "On", "ON", "n", "N", "no", "No", "NO", "off", "Off", "OFF"];
    matches!(scalar::resolve(text), Resolved::Text(_))
        && !OLD_BOOLEANS.contains(&text)
        && !is_base_60(text)
        && !is_date(text)
}

/// `190:20:30`: a number to readers of YAML 1.1.
fn is_base_60(text: &str) -> bool {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    let mut parts = digits.split(':');
    let first = parts.next().unwrap_or_default();
    let starts = first.starts_with(|c: char| c.is_ascii_digit()) && all(first, |c| c.is_ascii_digit() || c == '_');
    let rest: Vec<&str> = parts.collect();
    let Some((last, middle)) = rest.split_last() else { return false };
    let sixty = |part: &str| match part.as_bytes() {
        [one] => one.is_ascii_digit(),
        [ten, one] => (b'0'..=b'5').contains(ten) && one.is_ascii_digit(),
        _ => false,
    };
    let (whole, fraction) = last.split_once('.').unwrap_or((last, ""));
    starts && middle.iter().all(|part| sixty(part)) && sixty(whole) && all(fraction, |c| c.is_ascii_digit() || c == '_')
}

/// A date, or a date and a time, as YAML 1.1 has them.
fn is_date(text: &str) -> bool {
    let (date, time) = match text.find(['T', 't', ' ']) {
        Some(at) => (&text[..at], Some(&text[at + 1..])),
        None => (text, None),
    };
    let parts: Vec<&str> = date.split('-').collect();
    let [year, month, day] = parts.as_slice() else { return false };
    let within = |part: &str, last: u32| {
        (1..=2).contains(&part.len()) && part.parse::<u32>().is_ok_and(|value| (1..=last).contains(&value))
    };
    year.len() == 4
        && all(year, |c| c.is_ascii_digit())
        && within(month, 12)
        && within(day, 31)
        && time.is_none_or(is_time)
}

fn is_time(text: &str) -> bool {
    let end = text.find(['Z', '+', '-']).unwrap_or(text.len());
    let (clock, zone) = text.split_at(end);
    let parts: Vec<&str> = clock.split(':').collect();
    let [hour, minute, second] = parts.as_slice() else { return false };
    let (second, fraction) = second.split_once('.').unwrap_or((second, "0"));
    let number = |part: &str, limit: u32| (1..=2).contains(&part.len()) && part.parse::<u32>().is_ok_and(|v| v < limit);
    let zone = zone.is_empty() || zone == "Z" || zone.len() == 6;
    number(hour, 24) && number(minute, 60) && number(second, 60) && all(fraction, |c| c.is_ascii_digit()) && zone
}

fn all(text: &str, test: impl Fn(char) -> bool) -> bool {
    text.chars().all(test)
}

/// Which styles a text's characters leave open.
struct Shape {
    plain: bool,
    single: bool,
    literal: bool,
}

impl Shape {
    fn of(text: &str) -> Self {
        let mut shape = Self { plain: true, single: true, literal: !text.is_empty() };
        if text.starts_with("---") || text.starts_with("...") {
            shape.plain = false;
        }
        let chars: Vec<char> = text.chars().collect();
        let is_blank = |at: usize| chars.get(at).is_none_or(|c| matches!(c, ' ' | '\t' | '\n' | '\r'));
        for (at, c) in chars.iter().copied().enumerate() {
            let (first, last) = (at == 0, at + 1 == chars.len());
            let before = at.checked_sub(1).map(|at| chars[at]);
            if is_indicator(c, first, is_blank(at + 1), first || is_blank(at.wrapping_sub(1))) {
                shape.plain = false;
            }
            match c {
                '\t' => (shape.plain, shape.single) = (false, false),
                c if !is_printable(c) => shape = Self { plain: false, single: false, literal: false },
                _ => {}
            }
            match c {
                ' ' => {
                    shape.plain &= !first && !last;
                    shape.literal &= !last;
                    if before == Some('\n') {
                        (shape.plain, shape.single) = (false, false);
                    }
                }
                '\n' => {
                    shape.plain = false;
                    if before == Some(' ') {
                        shape = Self { plain: false, single: false, literal: false };
                    }
                }
                // breaks of a line to a reader, although not to a person
                '\u{2028}' | '\u{2029}' => (shape.plain, shape.single) = (false, false),
                _ => {}
            }
        }
        shape
    }
}

/// Whether a character at its place would mean something in bare text.
fn is_indicator(c: char, first: bool, blank_after: bool, blank_before: bool) -> bool {
    match c {
        ':' => blank_after,
        '#' => first || blank_before,
        '?' | '-' => first && blank_after,
        ',' | '[' | ']' | '{' | '}' | '&' | '*' | '!' | '|' | '>' | '\'' | '"' | '%' | '@' | '`' => first,
        _ => false,
    }
}

/// Whether Go's package writes a character as it is; beyond the first plane it does not.
fn is_printable(c: char) -> bool {
    matches!(c, '\n' | ' '..='~' | '\u{a0}'..='\u{d7ff}' | '\u{e000}'..='\u{fefe}' | '\u{ff00}'..='\u{fffd}')
}

fn single(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

fn double(text: &str) -> String {
    let mut result = String::from('"');
    for c in text.chars() {
        let short = match c {
            '\0' => '0',
            '\u{7}' => 'a',
            '\u{8}' => 'b',
            '\t' => 't',
            '\n' => 'n',
            '\u{b}' => 'v',
            '\u{c}' => 'f',
            '\r' => 'r',
            '\u{1b}' => 'e',
            '"' | '\\' => c,
            '\u{85}' => 'N',
            '\u{2028}' => 'L',
            '\u{2029}' => 'P',
            c if is_printable(c) => {
                result.push(c);
                continue;
            }
            c => {
                // writing into a String cannot fail
                let _ = match u32::from(c) {
                    code @ 0..=0xff => write!(result, "\\x{code:02X}"),
                    code @ 0x100..=0xffff => write!(result, "\\u{code:04X}"),
                    code => write!(result, "\\U{code:08X}"),
                };
                continue;
            }
        };
        result.extend(['\\', short]);
    }
    result.push('"');
    result
}
