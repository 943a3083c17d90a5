//! Containers of busybox, run for real: rights, limits, devices, terminals,
//! and what is left afterwards. Needs root, busybox-static and cgroups.

mod confinement;
mod exec;
mod limits;
mod program;
mod support;
