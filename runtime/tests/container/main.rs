//! Containers of busybox, run for real: rights, limits, devices, terminals,
//! and what is left afterwards. Needs root, busybox-static and cgroups.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod confinement;
mod exec;
mod limits;
mod program;
mod support;
