//! The program as people use it: its command line against a real registry, real
//! namespaces and the real kernel. Each test has its own data and run root.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr, reason = "a test fails by panicking")]

mod bad_input;
mod boot;
mod build;
mod builder;
mod compose;
mod container;
mod depends;
mod docker;
mod dockerfiles;
mod dry_run;
mod events;
mod exec;
mod explain;
mod files;
mod flags;
mod follow;
mod graph;
mod harness;
mod health;
mod image_health;
mod keeper;
mod keys;
mod keys_network;
mod kills;
mod kills_pull;
mod leaks;
mod lifecycle;
mod log_drivers;
mod logs;
mod mounts;
mod network;
mod one_off;
mod plan;
mod ports;
mod pre_start;
mod provider;
mod proxy;
mod registry;
mod restart;
mod rolling;
mod services;
mod shapes;
mod stack;
mod store_check;
mod top;
mod tutorials;
mod tutorials_balance;
mod tutorials_data;
mod tutorials_health;
mod tutorials_limits;
mod tutorials_restart;
mod up_flags;
mod watch;
