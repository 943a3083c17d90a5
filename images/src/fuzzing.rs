//! What the fuzz targets in `fuzz/` call, and the tests with what they found. Nothing here touches the disk.

use std::io::Read as _;

use crate::config::ImageConfig;
use crate::manifest::{Document, OCI_INDEX, OCI_MANIFEST, own_media_type, parse};
use crate::platform::{Platform, select};
use crate::unpack::Limits;

/// A manifest, as a registry or an archive gives it.
pub fn manifest(input: &[u8]) {
    let media_type = own_media_type(input).unwrap_or_else(|_| OCI_MANIFEST.to_owned());
    match parse(input, &media_type) {
        Ok(Document::Manifest(manifest)) => {
            let _ = manifest.require_image();
            manifest.layers.iter().for_each(|layer| drop(layer.compression()));
            // What is written again is what was read.
            let text = serde_json::to_vec(&manifest).unwrap_or_default();
            assert!(matches!(parse(&text, OCI_MANIFEST), Ok(Document::Manifest(_)) | Err(_)));
        }
        Ok(Document::Index(found)) => drop(select(&found, &Platform::new("linux", "amd64", None))),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// An index, as a registry gives it, and as the list of names of a store.
pub fn index(input: &[u8]) {
    if let Ok(Document::Index(found)) = parse(input, OCI_INDEX) {
        for platform in [Platform::new("linux", "arm", Some("v7")), Platform::new("linux", "amd64", None)] {
            let _ = select(&found, &platform);
        }
    }
    crate::store::read_names(input);
}

/// An image config.
pub fn config(input: &[u8]) {
    match ImageConfig::parse(input) {
        Ok(config) => {
            let _ = config.platform();
            let text = serde_json::to_vec(&config).unwrap_or_default();
            // Written again, it can be read again, and says the same of its layers.
            let again = ImageConfig::parse(&text);
            assert!(again.is_ok_and(|again| again.rootfs.diff_ids == config.rootfs.diff_ids));
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// The entries of a layer's archive, compressed or not, and the tree that they make. Checksums of headers are made
/// right first, or nothing would get past them.
pub fn layer(input: &[u8]) {
    let mut plain = Vec::new();
    let limits = Limits { entries: 10_000, bytes: 1 << 20, ..Limits::default() };
    match crate::layer::decoder(input) {
        Ok(decoder) => drop(decoder.take(limits.bytes).read_to_end(&mut plain)),
        Err(_) => plain.extend_from_slice(input),
    }
    for block in plain.chunks_exact_mut(512).filter(|block| block[257..262] == *b"ustar") {
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
    crate::check::read_layer(&plain, &limits);
}
