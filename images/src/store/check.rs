//! Looks through all of the store for damage. Reads every blob; what is
//! unpacked is only looked for, for nothing is known of its content but the
//! blob it came from.

use std::fs::File;
use std::io::{self, Read as _};

use super::{Damaged, Image, Store, StoreError, names_of};
use crate::digest::Hasher;
use crate::manifest::Descriptor;

/// Bytes read at a time.
const CHUNK: usize = 256 << 10;

impl Store {
    /// All images of which something is missing or damaged, once for each damaged part. A pull makes them whole.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub fn check(&self) -> Result<Vec<Damaged>, StoreError> {
        let listing = self.list()?;
        let names = self.names()?;
        let mut damaged = listing.damaged;
        for image in &listing.images {
            damaged.extend(self.check_image(image).into_iter().map(|error| Damaged {
                manifest_digest: image.manifest_digest.clone(),
                names: names_of(&names, &image.manifest_digest),
                error,
            }));
        }
        Ok(damaged)
    }

    /// The manifest and the config were checked when they were read.
    fn check_image(&self, image: &Image) -> Vec<StoreError> {
        let blobs = image.manifest.layers.iter().filter_map(|layer| self.check_blob(layer).err());
        let layers = image.layers.iter().filter(|diff_id| !self.has_layer(diff_id));
        blobs.chain(layers.map(|diff_id| StoreError::MissingLayer { diff_id: diff_id.clone() })).collect()
    }

    fn check_blob(&self, blob: &Descriptor) -> Result<(), StoreError> {
        let path = self.blob_path(&blob.digest);
        let failed = |source: io::Error| match source.kind() {
            io::ErrorKind::NotFound => StoreError::MissingBlob { digest: blob.digest.clone() },
            _ => StoreError::io("read", &path, source),
        };
        let mut file = File::open(&path).map_err(failed)?;
        let mut hasher = Hasher::new();
        let mut buffer = vec![0; CHUNK];
        loop {
            match file.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => hasher.update(&buffer[..count]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(failed(error)),
            }
        }
        let checked = hasher.verify(&blob.digest, blob.size);
        checked.map(drop).map_err(|source| StoreError::DamagedBlob { digest: blob.digest.clone(), source })
    }
}
