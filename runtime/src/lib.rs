//! Running one container.

pub mod config;
pub mod rootfs;
pub mod users;

pub use config::Config;
