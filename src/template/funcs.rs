//! The functions of templates: Go's own, and those that Docker adds.

use std::cmp::Ordering;
use std::rc::Rc;

use super::printf::sprintf;
use super::value::{Kind, Of, Val, json};

/// What a parameter takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Call {
    Any,
    Text,
    Whole,
    Texts,
}

impl Call {
    pub(super) fn takes(self, value: &Val) -> bool {
        match self {
            Self::Any => true,
            Self::Text => matches!(value, Val::Text(_)),
            Self::Whole => matches!(value, Val::Int(_)),
            Self::Texts => matches!(value, Val::List(_, Of::Texts)),
        }
    }

    pub(super) fn type_name(self) -> &'static str {
        match self {
            Self::Any => "interface {}",
            Self::Text => "string",
            Self::Whole => "int",
            Self::Texts => "[]string",
        }
    }

    pub(super) fn noun(self) -> &'static str {
        if self == Self::Whole { "integer" } else { self.type_name() }
    }
}

/// The parameters of a function; `more` of the last kind may follow.
#[derive(Debug, Clone, Copy)]
pub(super) struct Signature {
    parameters: &'static [Call],
    more: bool,
}

use Call::{Any, Text, Texts, Whole};

const FUNCTIONS: &[(&str, &[Call], bool)] = &[
    ("and", &[Any], true),
    ("call", &[Any], true),
    ("eq", &[Any], true),
    ("ge", &[Any, Any], false),
    ("gt", &[Any, Any], false),
    ("html", &[], true),
    ("index", &[Any], true),
    ("join", &[Texts, Text], false),
    ("js", &[], true),
    ("json", &[Any], false),
    ("le", &[Any, Any], false),
    ("len", &[Any], false),
    ("lower", &[Text], false),
    ("lt", &[Any, Any], false),
    ("ne", &[Any, Any], false),
    ("not", &[Any], false),
    ("or", &[Any], true),
    ("pad", &[Text, Whole, Whole], false),
    ("print", &[], true),
    ("printf", &[Text], true),
    ("println", &[], true),
    ("slice", &[Any], true),
    ("split", &[Text, Text], false),
    ("title", &[Text], false),
    ("truncate", &[Text, Whole], false),
    ("upper", &[Text], false),
    ("urlquery", &[], true),
];

/// Whether there is a function of this name.
pub(super) fn exists(name: &str) -> bool {
    FUNCTIONS.iter().any(|(known, ..)| *known == name)
}

/// What a function takes. In a table's header, `json` takes text as well as anything else.
pub(super) fn signature(name: &str, header: bool) -> Option<Signature> {
    let (_, parameters, more) = FUNCTIONS.iter().find(|(known, ..)| *known == name)?;
    let parameters = if header && name == "json" { &[Text] } else { *parameters };
    Some(Signature { parameters, more: *more })
}

impl Signature {
    pub(super) fn wants(self, index: usize) -> Call {
        self.parameters.get(index).copied().unwrap_or(Any)
    }

    pub(super) fn accepts(self, name: &str, count: usize) -> Result<(), String> {
        let wanted = self.parameters.len();
        match self.more {
            true if count < wanted => {
                Err(format!("wrong number of args for {name}: want at least {wanted} got {count}"))
            }
            false if count != wanted => Err(format!("wrong number of args for {name}: want {wanted} got {count}")),
            _ => Ok(()),
        }
    }
}

type Called = Result<Val, String>;

/// Calls a function whose arguments have been checked. `written` is how its first argument was written.
pub(super) fn call(name: &str, args: &[Val], header: bool, written: &str) -> Called {
    let text = |index: usize| match args.get(index) {
        Some(Val::Text(text)) => text.to_string(),
        _ => String::new(),
    };
    let whole = |index: usize| match args.get(index) {
        Some(Val::Int(value)) => usize::try_from((*value).clamp(0, 1_000_000)).unwrap_or(0),
        _ => 0,
    };
    let first = args.first().unwrap_or(&Val::Missing);
    Ok(match name {
        "json" | "title" | "lower" | "upper" | "truncate" if header => first.clone(),
        "json" => Val::text(&json(first).to_string()),
        "title" => Val::text(&title(&text(0))),
        "lower" => Val::text(&text(0).to_lowercase()),
        "upper" => Val::text(&text(0).to_uppercase()),
        "truncate" => Val::text(&text(0).chars().take(whole(1)).collect::<String>()),
        "pad" if text(0).is_empty() => Val::text(""),
        "pad" => Val::text(&format!("{}{}{}", " ".repeat(whole(1)), text(0), " ".repeat(whole(2)))),
        "split" => split(&text(0), &text(1)),
        "join" => Val::text(&join(first, &text(1))),
        "printf" => Val::text(&sprintf(&text(0), args.get(1..).unwrap_or_default())),
        "print" => Val::text(&print(args)),
        "println" => Val::text(&format!("{}\n", args.iter().map(shown).collect::<Vec<_>>().join(" "))),
        "html" => Val::text(&html(&print(args))),
        "js" => Val::text(&js(&print(args))),
        "urlquery" => Val::text(&query(&print(args))),
        "not" => Val::Bool(!first.truth()),
        "len" => length(first)?,
        "index" => index(first, args.get(1..).unwrap_or_default())?,
        "slice" => slice(first, args.get(1..).unwrap_or_default())?,
        "call" => return Err(format!("non-function {written} of type {}", first.type_name())),
        "eq" => Val::Bool(equal_any(first, args.get(1..).unwrap_or_default())?),
        "ne" => Val::Bool(!equal(first, args.get(1).unwrap_or(&Val::Missing))?),
        _ => {
            let order = order(first, args.get(1).unwrap_or(&Val::Missing))?;
            Val::Bool(match name {
                "lt" => order == Some(Ordering::Less),
                "le" => matches!(order, Some(Ordering::Less | Ordering::Equal)),
                "gt" => order == Some(Ordering::Greater),
                _ => matches!(order, Some(Ordering::Greater | Ordering::Equal)),
            })
        }
    })
}

/// As an argument of `print`: what is nil is `<nil>`.
fn shown(value: &Val) -> String {
    if matches!(value, Val::Missing) { "<nil>".into() } else { value.to_string() }
}

/// Spaces stand between operands when neither is a string.
fn print(args: &[Val]) -> String {
    let mut out = String::new();
    let mut before_text = true;
    for arg in args {
        let text = matches!(arg, Val::Text(_));
        if !before_text && !text {
            out.push(' ');
        }
        out.push_str(&shown(arg));
        before_text = text;
    }
    out
}

fn title(text: &str) -> String {
    let mut start = true;
    text.chars()
        .map(|c| {
            let upper = start;
            start = !(c.is_alphanumeric() || matches!(c, '_' | '\''));
            if upper { c.to_uppercase().collect::<String>() } else { c.to_string() }
        })
        .collect()
}

fn split(text: &str, separator: &str) -> Val {
    match separator {
        "" => Val::texts(text.chars().map(|c| c.to_string())),
        separator => Val::texts(text.split(separator).map(str::to_owned)),
    }
}

fn join(list: &Val, separator: &str) -> String {
    match list {
        Val::List(all, _) => all.iter().map(ToString::to_string).collect::<Vec<_>>().join(separator),
        _ => String::new(),
    }
}

fn length(value: &Val) -> Called {
    let count = match value {
        Val::Text(text) => text.len(),
        Val::List(all, _) => all.len(),
        Val::Object(object) if !matches!(object.kind, Kind::Struct(_)) => object.fields.len(),
        Val::Missing | Val::Nil => return Err("len of nil pointer".into()),
        other => return Err(format!("len of type {}", other.type_name().trim_start_matches('*'))),
    };
    Ok(Val::Int(i64::try_from(count).unwrap_or(i64::MAX)))
}

fn index(value: &Val, keys: &[Val]) -> Called {
    let mut value = value.clone();
    for key in keys {
        value = match &value {
            Val::Missing => return Err("index of untyped nil".into()),
            Val::Nil => return Err("index of nil pointer".into()),
            Val::List(all, of) => {
                let place = place(key, all.len())?;
                match (all.get(place), of) {
                    (Some(item), _) => item.clone(),
                    (None, _) => return Err(format!("index out of range: {key}")),
                }
            }
            Val::Text(text) => {
                let place = place(key, text.len())?;
                match text.as_bytes().get(place) {
                    Some(byte) => Val::Int(i64::from(*byte)),
                    None => return Err(format!("index out of range: {key}")),
                }
            }
            Val::Object(object) if !matches!(object.kind, Kind::Struct(_)) => match key {
                Val::Text(key) => object.get(key).cloned().unwrap_or(match object.kind {
                    Kind::Texts => Val::text(""),
                    Kind::Map => Val::Nil,
                    _ => Val::Missing,
                }),
                Val::Missing | Val::Nil => return Err("value is nil; should be of type string".into()),
                other => return Err(format!("value has type {}; should be string", other.type_name())),
            },
            other => return Err(format!("can't index item of type {}", other.type_name())),
        };
    }
    Ok(value)
}

/// An index that may be one behind the end.
fn place(key: &Val, length: usize) -> Result<usize, String> {
    match key {
        Val::Int(number) => usize::try_from(*number)
            .ok()
            .filter(|place| *place <= length)
            .ok_or_else(|| format!("index out of range: {number}")),
        Val::Missing | Val::Nil => Err("cannot index slice/array with nil".into()),
        other => Err(format!("cannot index slice/array with type {}", other.type_name())),
    }
}

fn slice(value: &Val, places: &[Val]) -> Called {
    let length = match value {
        Val::Text(text) => text.len(),
        Val::List(all, _) => all.len(),
        Val::Missing => return Err("slice of untyped nil".into()),
        other => return Err(format!("can't slice item of type {}", other.type_name())),
    };
    match places.len() {
        0..=2 => {}
        3 if matches!(value, Val::Text(_)) => return Err("cannot 3-index slice a string".into()),
        3 => {}
        count => return Err(format!("too many slice indexes: {count}")),
    }
    let from = places.first().map_or(Ok(0), |key| place(key, length))?;
    let to = places.get(1).map_or(Ok(length), |key| place(key, length))?;
    if from > to {
        return Err(format!("invalid slice index: {from} > {to}"));
    }
    if let Some(most) = places.get(2) {
        let most = place(most, length)?;
        if to > most {
            return Err(format!("invalid slice index: {to} > {most}"));
        }
    }
    Ok(match value {
        Val::Text(text) => Val::text(&String::from_utf8_lossy(text.as_bytes().get(from..to).unwrap_or_default())),
        Val::List(all, of) => Val::List(Rc::new(all.get(from..to).unwrap_or_default().to_vec()), *of),
        _ => Val::Missing,
    })
}

fn equal_any(first: &Val, others: &[Val]) -> Result<bool, String> {
    if others.is_empty() {
        return Err("missing argument for comparison".into());
    }
    for other in others {
        if equal(first, other)? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn incompatible(a: &Val, b: &Val) -> String {
    format!("incompatible types for comparison: {} and {}", a.type_name(), b.type_name())
}

fn equal(a: &Val, b: &Val) -> Result<bool, String> {
    let is_nil = |value: &Val| matches!(value, Val::Missing | Val::Nil);
    match (a, b) {
        _ if is_nil(a) || is_nil(b) => Ok(is_nil(a) && is_nil(b)),
        (Val::Bool(a), Val::Bool(b)) => Ok(a == b),
        (Val::Int(_) | Val::Float(_) | Val::Text(_), Val::Int(_) | Val::Float(_) | Val::Text(_)) => {
            Ok(order(a, b)? == Some(Ordering::Equal))
        }
        (Val::List(..) | Val::Object(_), _) => Err(format!("non-comparable type {a}: {}", a.type_name())),
        (_, Val::List(..) | Val::Object(_)) => Err(format!("non-comparable type {b}: {}", b.type_name())),
        _ => Err(incompatible(a, b)),
    }
}

fn order(a: &Val, b: &Val) -> Result<Option<Ordering>, String> {
    match (a, b) {
        (Val::Int(a), Val::Int(b)) => Ok(Some(a.cmp(b))),
        (Val::Float(a), Val::Float(b)) => Ok(a.partial_cmp(b)),
        (Val::Text(a), Val::Text(b)) => Ok(Some(a.cmp(b))),
        (Val::Bool(_), Val::Bool(_)) => Err("invalid type for comparison".into()),
        (
            Val::Int(_) | Val::Float(_) | Val::Text(_) | Val::Bool(_),
            Val::Int(_) | Val::Float(_) | Val::Text(_) | Val::Bool(_),
        ) => Err(incompatible(a, b)),
        _ => Err("invalid type for comparison".into()),
    }
}

fn html(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '"' => out.push_str("&#34;"),
            '\'' => out.push_str("&#39;"),
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '\0' => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

fn js(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '\\' | '\'' | '"' => out.extend(['\\', c]),
            '<' | '>' | '&' | '=' => out.push_str(&format!("\\u{:04X}", u32::from(c))),
            c if (c as u32) < 0x20 => out.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => out.push(c),
        }
    }
    out
}

fn query(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b' ' => out.push('+'),
            b if b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'~') => out.push(char::from(b)),
            b => out.push_str(&format!("%{b:02X}")),
        }
    }
    out
}
