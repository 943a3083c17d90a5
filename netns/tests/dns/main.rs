//! The responder as containers meet it: real sockets in namespaces of the test's
//! own, the nftables redirect, real upstream servers with scripted answers.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "the clippy.toml exception covers test functions only")]

mod forwarding;
mod names;
mod streams;
mod support;
mod updates;
