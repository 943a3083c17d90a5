//! OCI images: names, registries, the store, and unpacking.

pub mod archive;
pub mod auth;
pub mod cache;
pub mod check;
pub mod config;
pub mod decompress;
pub mod digest;
pub mod download;
pub mod fuzzing;
pub mod layer;
pub mod manifest;
pub mod pack;
pub mod platform;
pub mod progress;
pub mod pull;
pub mod push;
pub mod reference;
pub mod registries;
pub mod registry;
pub mod store;
pub mod unpack;
