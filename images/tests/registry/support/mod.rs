//! Registries to test against, and what the tests share.

pub mod fake;
pub mod pull;
pub mod server;
