//! Small things that every part of umiak needs: atomic state files, advisory
//! locks, object ids, resolv.conf, the identity of processes across reboots, and
//! whom a TLS client trusts.

pub mod id;
pub mod lock;
pub mod process;
pub mod resolv;
pub mod state;
pub mod tls;

pub use lock::FileLock;
pub use process::ProcessRef;
