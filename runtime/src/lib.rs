//! Running one container.

pub mod apparmor;
pub mod capabilities;
pub mod cgroup;
pub mod config;
pub mod console;
pub mod create;
pub mod devices;
pub mod environment;
pub mod exec;
pub mod executor;
pub mod hosts;
mod init;
pub mod logs;
pub mod mounts;
pub mod program;
pub mod report;
pub mod rootfs;
pub mod seccomp;
pub mod signals;
pub mod spec;
mod sys;
mod trace;
pub mod users;
pub mod view;
pub mod volumes;

pub use config::Config;
