//! Running one container.

pub mod config;

pub use config::Config;
