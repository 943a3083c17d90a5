//! Images in one file: `save` and `load`.
//!
//! What is saved is an OCI image layout that also has the `manifest.json` of
//! `docker save`, as Docker itself has written since version 25: `docker load`,
//! and skopeo's `oci-archive:` and `docker-archive:`, read it. What is loaded may
//! be that, a plain OCI layout, or an archive of an older Docker, compressed with
//! gzip, bzip2, xz or zstd, or not; all of it is checked as if it came from a registry.

mod import;
mod load;
mod save;

use std::io;

pub use import::import;
pub use load::{Loaded, load, load_only};
pub use save::{save, save_as, save_only};

use crate::config::ConfigError;
use crate::digest::{Digest, VerifyError};
use crate::layer::LayerError;
use crate::manifest::ManifestError;
use crate::pack::PackError;
use crate::platform::{Platform, PlatformError};
use crate::store::StoreError;
use crate::unpack::TarError;

/// Docker's list of the images in an archive.
const DOCKER_INDEX: &str = "manifest.json";
/// Docker's oldest list: repository, tag and uppermost layer.
const DOCKER_REPOSITORIES: &str = "repositories";
/// The OCI layout's list.
const OCI_INDEX_FILE: &str = "index.json";
/// Marks an OCI layout.
const OCI_LAYOUT_FILE: &str = "oci-layout";
/// The image's name, as containerd and Docker write it.
const CONTAINERD_NAME: &str = "io.containerd.image.name";
/// The image's tag, or its name, as others write it.
const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// One image of Docker's list.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerImage {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Option<Vec<String>>,
}

/// Why images could not be saved or loaded.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A layer failed.
    #[error(transparent)]
    Layer(#[from] LayerError),
    /// An image could not be made.
    #[error(transparent)]
    Pack(#[from] PackError),
    /// The archive could not be written.
    #[error("write the archive")]
    Write(#[source] io::Error),
    /// The archive could not be read.
    #[error("read the archive of images")]
    Read(#[source] TarError),
    /// The archive has no list of images.
    #[error("the archive holds no images: it has neither an index.json nor a manifest.json")]
    NoImages,
    /// A file that another names is not there.
    #[error("the archive has no file \"{name}\"")]
    Missing {
        /// The file.
        name: String,
    },
    /// A file that is read as a whole is too large.
    #[error("\"{name}\" in the archive has {size} bytes, at most {limit} are read")]
    Size {
        /// The file.
        name: String,
        /// Its size.
        size: u64,
        /// What is read.
        limit: u64,
    },
    /// A list of images that does not parse.
    #[error("\"{name}\" in the archive does not parse")]
    Parse {
        /// The file.
        name: String,
        /// Where it fails.
        #[source]
        source: serde_json::Error,
    },
    /// A file that is not what its name or a descriptor says.
    #[error("\"{name}\" in the archive is damaged or forged")]
    Blob {
        /// The file.
        name: String,
        /// In which way.
        #[source]
        source: VerifyError,
    },
    /// A manifest that cannot be used.
    #[error("the manifest {digest} in the archive is not usable")]
    Manifest {
        /// Its digest.
        digest: Digest,
        /// In which way.
        #[source]
        source: ManifestError,
    },
    /// An index without an image for the platform.
    #[error("choose the image of {digest} in the archive")]
    Platform {
        /// The index.
        digest: Digest,
        /// What there is.
        #[source]
        source: PlatformError,
    },
    /// An image is not for the platform asked for.
    #[error("no image for the platform {platform} is in it")]
    NotFor {
        /// The platform.
        platform: Box<Platform>,
    },
    /// An index within an index within an index.
    #[error("the index {digest} in the archive leads to further indexes")]
    Nested {
        /// The index.
        digest: Digest,
    },
    /// A config that cannot be used.
    #[error("the image config \"{name}\" in the archive is not usable")]
    Config {
        /// The file.
        name: String,
        /// In which way.
        #[source]
        source: ConfigError,
    },
}
