//! Running one container.

pub mod config;
pub mod hosts;
pub mod mounts;
pub mod rootfs;
pub mod users;

pub use config::Config;
