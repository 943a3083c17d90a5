//! OCI images: names, registries, the store, and unpacking.

pub mod digest;
pub mod manifest;
pub mod platform;
pub mod reference;
pub mod unpack;
