//! Registries to test against, and what the tests share.

pub mod fake;
pub mod proxy;
pub mod pull;
pub mod server;
pub mod store;
