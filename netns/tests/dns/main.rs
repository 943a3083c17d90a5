//! The responder as containers meet it: real sockets in namespaces of the test's
//! own, the nftables redirect, real upstream servers with scripted answers.

mod forwarding;
mod names;
mod streams;
mod support;
mod updates;
