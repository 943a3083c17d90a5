//! The parser of YAML's events: libyaml's, in its translation to Rust. Docker Compose reads its files with another
//! translation of libyaml, so that what one of the two takes for YAML the other does, with the same faults in it. All
//! of the crate's unsafe code is here.
#![allow(unsafe_code)]

use std::ffi::CStr;
use std::marker::PhantomData;
use std::mem::MaybeUninit;

use libyaml_rs::{
    YAML_PLAIN_SCALAR_STYLE, YAML_UTF8_ENCODING, yaml_event_delete, yaml_event_t, yaml_event_type_t, yaml_mark_t,
    yaml_parser_delete, yaml_parser_initialize, yaml_parser_parse, yaml_parser_set_encoding,
    yaml_parser_set_input_string, yaml_parser_t,
};

/// A place in the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    /// From 0.
    pub(super) line: usize,
    /// In characters, from 0.
    pub(super) column: usize,
}

/// What the text has next.
#[derive(Debug)]
pub(super) struct Event {
    pub(super) kind: Kind,
    pub(super) start: Mark,
    pub(super) end: Mark,
}

/// The kinds of events (YAML 1.1, 3.1.1).
#[derive(Debug)]
pub(super) enum Kind {
    Document,
    DocumentEnd,
    Scalar {
        text: String,
        plain: bool,
        name: Naming,
    },
    List(Naming),
    ListEnd,
    Map(Naming),
    MapEnd,
    /// What an anchor of that name stands for.
    Alias(String),
    /// The beginning of the text.
    Begin,
    End,
}

/// Anchor and tag of a node.
#[derive(Debug, Default)]
pub(super) struct Naming {
    pub(super) anchor: Option<String>,
    /// The whole of it, as in `tag:yaml.org,2002:str` and `!reset`.
    pub(super) tag: Option<String>,
}

/// What makes the text no YAML.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) problem: String,
    pub(super) at: Mark,
    /// What was being read then, as in `while parsing a block mapping`, and where that began.
    pub(super) within: Option<(String, Mark)>,
}

/// Reads a text event by event.
pub(super) struct Parser<'t> {
    /// On the heap, because it has pointers to itself.
    parser: Box<yaml_parser_t>,
    text: PhantomData<&'t str>,
}

impl<'t> Parser<'t> {
    pub(super) fn new(text: &'t str) -> Result<Self, Fault> {
        let mut parser = Box::new(MaybeUninit::<yaml_parser_t>::uninit());
        // SAFETY: the function fills in all of what it is given a pointer to, unless it fails.
        let made = unsafe { yaml_parser_initialize(parser.as_mut_ptr()) };
        if made.fail {
            return Err(Fault { problem: "out of memory".to_owned(), at: Mark { line: 0, column: 0 }, within: None });
        }
        // SAFETY: it has just been initialised; the two types have the same layout.
        let mut parser = unsafe { Box::from_raw(Box::into_raw(parser).cast::<yaml_parser_t>()) };
        // SAFETY: the parser is initialised and has no input yet; the text outlives it (`'t`), and stays where it is.
        unsafe {
            yaml_parser_set_encoding(&raw mut *parser, YAML_UTF8_ENCODING);
            yaml_parser_set_input_string(&raw mut *parser, text.as_ptr(), text.len() as u64);
        }
        Ok(Self { parser, text: PhantomData })
    }

    /// The next event; after [`Kind::End`] and a fault there is none.
    pub(super) fn next(&mut self) -> Result<Event, Fault> {
        let mut event = MaybeUninit::<yaml_event_t>::uninit();
        // SAFETY: the parser is initialised and has an input; the function fills in the event, also when it fails.
        let parsed = unsafe { yaml_parser_parse(&raw mut *self.parser, event.as_mut_ptr()) };
        if parsed.fail {
            return Err(self.fault());
        }
        // SAFETY: filled in by the call above, and deleted once, after the last use.
        let mut event = unsafe { event.assume_init() };
        let taken = Event { kind: kind(&event), start: mark(&event.start_mark), end: mark(&event.end_mark) };
        // SAFETY: as above.
        unsafe { yaml_event_delete(&raw mut event) };
        Ok(taken)
    }

    fn fault(&self) -> Fault {
        // SAFETY: problem and context are null, or constant texts that end with a null byte.
        let (problem, context) = unsafe { (string(self.parser.problem.cast()), string(self.parser.context.cast())) };
        Fault {
            problem: problem.unwrap_or_else(|| "it cannot be read".to_owned()),
            at: mark(&self.parser.problem_mark),
            within: context.map(|context| (context, mark(&self.parser.context_mark))),
        }
    }
}

impl Drop for Parser<'_> {
    fn drop(&mut self) {
        // SAFETY: it was initialised, and nothing uses it any more.
        unsafe { yaml_parser_delete(&raw mut *self.parser) };
    }
}

/// Copies what an event holds.
fn kind(event: &yaml_event_t) -> Kind {
    // SAFETY: the type says which member of the union was filled in, with pointers that are null or lead to texts that
    // end with a null byte, or have the length beside them, and live as long as the event.
    unsafe {
        match event.type_ {
            yaml_event_type_t::YAML_STREAM_END_EVENT | yaml_event_type_t::YAML_NO_EVENT => Kind::End,
            yaml_event_type_t::YAML_DOCUMENT_START_EVENT => Kind::Document,
            yaml_event_type_t::YAML_DOCUMENT_END_EVENT => Kind::DocumentEnd,
            yaml_event_type_t::YAML_ALIAS_EVENT => {
                Kind::Alias(string(event.data.alias.anchor.cast()).unwrap_or_default())
            }
            yaml_event_type_t::YAML_SCALAR_EVENT => {
                let scalar = &event.data.scalar;
                let length = usize::try_from(scalar.length).unwrap_or(0);
                let bytes = match scalar.value.is_null() {
                    true => &[],
                    false => std::slice::from_raw_parts(scalar.value.cast_const(), length),
                };
                Kind::Scalar {
                    text: String::from_utf8_lossy(bytes).into_owned(),
                    plain: scalar.style == YAML_PLAIN_SCALAR_STYLE,
                    name: Naming { anchor: string(scalar.anchor.cast()), tag: string(scalar.tag.cast()) },
                }
            }
            yaml_event_type_t::YAML_SEQUENCE_START_EVENT => {
                let list = &event.data.sequence_start;
                Kind::List(Naming { anchor: string(list.anchor.cast()), tag: string(list.tag.cast()) })
            }
            yaml_event_type_t::YAML_SEQUENCE_END_EVENT => Kind::ListEnd,
            yaml_event_type_t::YAML_MAPPING_START_EVENT => {
                let map = &event.data.mapping_start;
                Kind::Map(Naming { anchor: string(map.anchor.cast()), tag: string(map.tag.cast()) })
            }
            yaml_event_type_t::YAML_MAPPING_END_EVENT => Kind::MapEnd,
            _ => Kind::Begin,
        }
    }
}

fn mark(mark: &yaml_mark_t) -> Mark {
    Mark {
        line: usize::try_from(mark.line).unwrap_or(usize::MAX),
        column: usize::try_from(mark.column).unwrap_or(usize::MAX),
    }
}

/// A copy of a text that ends with a null byte.
///
/// # Safety
/// The pointer must be null or lead to such a text.
unsafe fn string(text: *const std::ffi::c_char) -> Option<String> {
    // SAFETY: as the caller promises.
    (!text.is_null()).then(|| unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned())
}
