//! What a pull tells whoever watches it.

use crate::digest::Digest;

/// Something that happened to one layer, named by the digest of its blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event<'a> {
    /// The layer's turn is to come.
    Waiting {
        /// The layer.
        layer: &'a Digest,
        /// Bytes to download.
        total: u64,
    },
    /// The layer is there already.
    Exists {
        /// The layer.
        layer: &'a Digest,
    },
    /// Bytes have arrived, those kept from an earlier pull included.
    Downloading {
        /// The layer.
        layer: &'a Digest,
        /// Bytes so far.
        bytes: u64,
        /// Bytes in all.
        total: u64,
    },
    /// All bytes are there; the rest is unpacked and checked.
    Extracting {
        /// The layer.
        layer: &'a Digest,
    },
    /// The layer is in the store.
    Done {
        /// The layer.
        layer: &'a Digest,
    },
    /// A download broke off and is tried again.
    Retrying {
        /// The layer.
        layer: &'a Digest,
        /// What went wrong.
        reason: &'a str,
    },
}

/// Watches a pull; called from several threads.
pub trait Progress: Sync {
    /// Called at each event; should return soon.
    fn event(&self, event: Event<'_>);
}

/// Watches nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Progress for Silent {
    fn event(&self, _: Event<'_>) {}
}
