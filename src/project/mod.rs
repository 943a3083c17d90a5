//! A Compose project at work: what its model wants, what is there, the plan
//! that leads from one to the other, and carrying it out.

pub mod apply;
pub mod boot;
pub mod build;
pub mod converge;
pub mod explain;
pub mod follow;
pub mod graph;
pub mod hash;
pub mod hooks;
pub mod host_keys;
pub mod image_mounts;
pub mod images;
pub mod labels;
pub mod load;
pub mod lock;
pub mod names;
pub mod observe;
pub mod plan;
pub mod pre_start;
pub mod provider;
pub mod publish;
pub mod remote;
pub mod sequence;
pub mod service;
pub mod show;
pub mod timeline;
pub mod wait;
pub mod watch;
