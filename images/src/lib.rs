//! OCI images: names, registries, the store, and unpacking.

pub mod auth;
pub mod digest;
pub mod manifest;
pub mod platform;
pub mod reference;
pub mod registries;
pub mod unpack;
