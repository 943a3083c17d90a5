//! The Compose file: from YAML text to a typed, checked model.
//!
//! [`load`] runs the whole pipeline and touches nothing but the files it reads.

pub mod diagnostic;
mod load;
pub mod model;
mod suggest;
pub mod units;

pub use diagnostic::{Diagnostic, LoadError, Severity, Source, Sources, Span};
pub use load::{LoadOptions, load};
pub use model::*;
