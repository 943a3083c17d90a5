//! Small things that every part of umiak needs: atomic state files, advisory
//! locks, object ids, resolv.conf, and the identity of processes across reboots.

pub mod id;
pub mod lock;
pub mod process;
pub mod resolv;
pub mod state;

pub use lock::FileLock;
pub use process::ProcessRef;
