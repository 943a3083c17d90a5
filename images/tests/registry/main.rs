//! The registry client against a scripted registry and against a real one.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr, reason = "helpers of tests fail as tests do")]

mod artifacts;
mod auth;
mod faults;
#[path = "../harness/mod.rs"]
mod harness;
mod login;
mod manifests;
mod push;
mod push_faults;
mod real;
mod support;
