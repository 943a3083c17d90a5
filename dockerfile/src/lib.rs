//! The Dockerfile: from text to typed instructions, each with its place in the text.
//!
//! [`parse`] touches nothing but the text it is given and fails on everything that can be seen there; [`Expander`]
//! replaces variables when their values are known. Neither panics, whatever the text is. The way of a text through
//! the modules: `source` (lines, continuations, comments, heredocs), `words` (flags, words), `instructions` with
//! `flags` and `mount` (one instruction), `parse` (stages).

pub mod ast;
pub mod check;
pub mod error;
pub mod expand;
pub mod expose;
#[doc(hidden)]
pub mod fuzzing;
pub mod ignore;
pub mod mount;

mod directives;
mod duration;
mod flags;
mod heredoc;
mod instructions;
mod parse;
mod pattern;
mod rules;
mod source;
mod stages;
mod suggest;
mod words;

#[cfg(test)]
mod tests;

pub use ast::*;
pub use check::{CheckContext, check};
pub use error::{Fault, ParseError};
pub use expand::{ExpandError, Expanded, Expander, expand, expand_for_display, expand_heredoc, expand_words};
pub use mount::{Device, Mount, MountKind, MountSpec, Sharing};
pub use parse::{parse, parse_onbuild};
pub use rules::{Rule, Warning};
