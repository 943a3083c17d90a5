//! The Compose file: from YAML text to a typed, checked model.
//!
//! [`load`] runs the whole pipeline and touches nothing but the files it reads. Its steps, in the order they run:
//! `discover` and `environment` (which files, which variables); for every file `yaml`, `interpolate`, `canonical`
//! (short forms to long ones), `include`, `extends`, `merge`; then once `paths`, `parse` (trees to types),
//! `normalise`, `profiles`, `validate`, `support`, `service_files`.

pub mod diagnostic;
#[doc(hidden)]
pub mod fuzzing;
pub mod model;
pub mod names;
pub mod output;
pub mod support;
pub mod units;

mod canonical;
mod discover;
mod disk;
mod dotenv;
mod environment;
mod extends;
mod files;
mod include;
mod interpolate;
mod load;
mod merge;
mod node;
mod normalise;
mod parse;
mod paths;
mod profiles;
mod raw;
mod scalar;
mod service_files;
mod short;
mod standalone;
mod suggest;
mod template;
mod validate;
mod yaml;

#[cfg(test)]
mod tests;

pub use diagnostic::{Diagnostic, LoadError};
pub use disk::{Disk, Fetch};
pub use environment::env_file;
pub use load::{LoadOptions, Skip, environment as project_environment, load, load_tree};
pub use model::*;
pub use raw::{RawProject, Variable};
pub use standalone::{Needed, Standalone, standalone};
