//! Manifests and indexes (OCI image spec 1.1, Docker image manifest v2 schema 2).
//!
//! Parsing is strict where confusion is dangerous: a document must be what its
//! media type says (CVE-2021-41190), counts and sizes are bounded, and digests
//! that cannot be verified are refused.

use std::collections::BTreeMap;

use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use crate::digest::{Digest, DigestError};
use crate::platform::Platform;

/// Largest manifest or index that is read, in bytes.
pub const MAX_MANIFEST_BYTES: u64 = 4 << 20;
/// Largest image config that is read, in bytes.
pub const MAX_CONFIG_BYTES: u64 = 4 << 20;
/// Most layers an image may have. Overlayfs of older kernels takes no more lower directories.
pub const MAX_LAYERS: usize = 128;
/// Most entries an index may have.
pub const MAX_INDEX_ENTRIES: usize = 1024;

/// OCI image manifest.
pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// OCI image index.
pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// Docker image manifest, schema 2.
pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
/// Docker manifest list.
pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
/// OCI image config.
pub const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
/// Docker image config.
pub const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
/// OCI layer, not compressed.
pub const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
/// OCI layer, gzip.
pub const OCI_LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
/// OCI layer, zstd.
pub const OCI_LAYER_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
/// Docker layer, not compressed.
pub const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar";
/// Docker layer, gzip.
pub const DOCKER_LAYER_GZIP: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
/// Docker layer, zstd.
pub const DOCKER_LAYER_ZSTD: &str = "application/vnd.docker.image.rootfs.diff.tar.zstd";

/// The media types that a client accepts when it asks for a manifest.
pub const ACCEPTED: [&str; 4] = [OCI_INDEX, OCI_MANIFEST, DOCKER_LIST, DOCKER_MANIFEST];

/// Why a manifest or index is refused.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// More bytes than a manifest may have.
    #[error("manifest has {size} bytes, more than the {MAX_MANIFEST_BYTES} allowed")]
    TooLarge {
        /// Its size in bytes.
        size: u64,
    },
    /// Not JSON, or not of the shape that the media type asks for.
    #[error("{media_type} does not parse")]
    Parse {
        /// The media type it was read as.
        media_type: String,
        /// Where it fails.
        #[source]
        source: serde_json::Error,
    },
    /// A media type that is not an image's.
    #[error("{media_type:?} is not the media type of an image manifest or index")]
    MediaType {
        /// The media type.
        media_type: String,
    },
    /// Docker's first manifest format.
    #[error(
        "the image has Docker's manifest schema 1, which is no longer supported: push it again with a current tool"
    )]
    Schema1,
    /// `schemaVersion` is not 2.
    #[error("manifest has schemaVersion {found}, expected 2")]
    SchemaVersion {
        /// The number in the document.
        found: u64,
    },
    /// The document's own `mediaType` differs from the one it was served with.
    #[error("manifest was served as {served} but calls itself {own}")]
    Mismatch {
        /// The media type from outside (Content-Type, descriptor).
        served: String,
        /// The document's `mediaType`.
        own: String,
    },
    /// The document has members of both a manifest and an index (CVE-2021-41190).
    #[error("manifest is ambiguous: {media_type} must not have {member:?}")]
    Ambiguous {
        /// The media type it was read as.
        media_type: String,
        /// The member that belongs to the other kind of document.
        member: &'static str,
    },
    /// Too many layers.
    #[error("manifest has {found} layers, more than the {MAX_LAYERS} allowed")]
    Layers {
        /// How many.
        found: usize,
    },
    /// Too many entries.
    #[error("index has {found} entries, more than the {MAX_INDEX_ENTRIES} allowed")]
    Entries {
        /// How many.
        found: usize,
    },
    /// The config is not an image's: a Helm chart, a signature, some other artifact.
    #[error("this is not a container image: its config has the media type {media_type:?}")]
    NotAnImage {
        /// Media type of the config.
        media_type: String,
    },
    /// The config is too large.
    #[error("image config {digest} has {size} bytes, more than the {MAX_CONFIG_BYTES} allowed")]
    ConfigTooLarge {
        /// The config.
        digest: Digest,
        /// Its size in bytes.
        size: u64,
    },
    /// A layer that must be fetched from elsewhere.
    #[error(
        "layer {digest} is a foreign layer ({media_type}), which is not supported: its content is not in the registry"
    )]
    ForeignLayer {
        /// The layer.
        digest: Digest,
        /// Its media type.
        media_type: String,
    },
    /// A layer in a format that is not known.
    #[error("layer {digest} has the unknown media type {media_type:?}")]
    LayerType {
        /// The layer.
        digest: Digest,
        /// Its media type.
        media_type: String,
    },
    /// A digest that cannot be verified.
    #[error(transparent)]
    Digest(#[from] DigestError),
}

/// How a layer is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Compression {
    /// A plain tar.
    None,
    /// gzip, possibly of several members.
    Gzip,
    /// zstd, possibly of several frames.
    Zstd,
}

/// A reference to a blob with its type, digest and size.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What the blob is.
    pub media_type: String,
    /// Its digest.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// In an index: what the image runs on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// Where else the blob could be had; only foreign layers have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub urls: Option<Vec<String>>,
    /// Annotations, kept as they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,
}

impl Descriptor {
    /// A descriptor with only the required members.
    #[must_use]
    pub fn new(media_type: impl Into<String>, digest: Digest, size: u64) -> Self {
        Self { media_type: media_type.into(), digest, size, platform: None, urls: None, annotations: None }
    }

    /// How this layer is compressed, from its media type.
    ///
    /// # Errors
    ///
    /// [`ManifestError::ForeignLayer`] and [`ManifestError::LayerType`].
    pub fn compression(&self) -> Result<Compression, ManifestError> {
        let foreign = self.media_type.contains(".nondistributable.")
            || self.media_type.contains(".foreign.")
            || self.urls.as_ref().is_some_and(|urls| !urls.is_empty());
        if foreign {
            return Err(ManifestError::ForeignLayer {
                digest: self.digest.clone(),
                media_type: self.media_type.clone(),
            });
        }
        match self.media_type.as_str() {
            OCI_LAYER | DOCKER_LAYER => Ok(Compression::None),
            OCI_LAYER_GZIP | DOCKER_LAYER_GZIP => Ok(Compression::Gzip),
            OCI_LAYER_ZSTD | DOCKER_LAYER_ZSTD => Ok(Compression::Zstd),
            other => Err(ManifestError::LayerType { digest: self.digest.clone(), media_type: other.to_owned() }),
        }
    }

    /// Whether this names an index rather than a manifest.
    #[must_use]
    pub fn is_index(&self) -> bool {
        matches!(self.media_type.as_str(), OCI_INDEX | DOCKER_LIST)
    }
}

/// An image manifest: one config, and layers from the base up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// Always 2.
    pub schema_version: u64,
    /// The document's own media type, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// The image config.
    pub config: Descriptor,
    /// The layers, base first.
    pub layers: Vec<Descriptor>,
    /// Annotations, kept as they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,
}

impl Manifest {
    /// Checks that this is a container image that can be run: a config of an
    /// image's type and of bounded size, and layers of known formats.
    ///
    /// # Errors
    ///
    /// [`ManifestError`] naming what is not supported.
    pub fn require_image(&self) -> Result<(), ManifestError> {
        if !matches!(self.config.media_type.as_str(), OCI_CONFIG | DOCKER_CONFIG) {
            return Err(ManifestError::NotAnImage { media_type: self.config.media_type.clone() });
        }
        if self.config.size > MAX_CONFIG_BYTES {
            return Err(ManifestError::ConfigTooLarge { digest: self.config.digest.clone(), size: self.config.size });
        }
        self.layers.iter().try_for_each(|layer| layer.compression().map(drop))
    }
}

/// An index (Docker: manifest list): one image for several platforms.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    /// Always 2.
    pub schema_version: u64,
    /// The document's own media type, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// The images.
    pub manifests: Vec<Descriptor>,
    /// Annotations, kept as they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,
}

/// What a manifest's URL or an index's entry may lead to.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "few live at a time, and none is kept in a collection")]
pub enum Document {
    /// One image.
    Manifest(Manifest),
    /// Images for several platforms.
    Index(Index),
}

/// The members that decide what a document is. All are looked at before it is
/// read as anything.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Shape {
    schema_version: Option<u64>,
    media_type: Option<String>,
    config: Option<IgnoredAny>,
    layers: Option<IgnoredAny>,
    manifests: Option<IgnoredAny>,
    fs_layers: Option<IgnoredAny>,
}

impl Shape {
    fn read(bytes: &[u8], media_type: &str) -> Result<Self, ManifestError> {
        let size = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        if size > MAX_MANIFEST_BYTES {
            return Err(ManifestError::TooLarge { size });
        }
        let shape: Self = serde_json::from_slice(bytes)
            .map_err(|source| ManifestError::Parse { media_type: media_type.to_owned(), source })?;
        if shape.fs_layers.is_some() || shape.schema_version == Some(1) {
            return Err(ManifestError::Schema1);
        }
        match shape.schema_version {
            Some(2) => Ok(shape),
            other => Err(ManifestError::SchemaVersion { found: other.unwrap_or(0) }),
        }
    }

    fn forbid(&self, media_type: &str, members: &[(&'static str, bool)]) -> Result<(), ManifestError> {
        match members.iter().find(|(_, present)| *present) {
            Some((member, _)) => Err(ManifestError::Ambiguous { media_type: media_type.to_owned(), member }),
            None => Ok(()),
        }
    }
}

/// The media type without parameters: `application/json; charset=utf-8` → `application/json`.
#[must_use]
pub fn essence(media_type: &str) -> &str {
    media_type.split(';').next().unwrap_or_default().trim()
}

/// Whether `media_type` is one of [`ACCEPTED`].
#[must_use]
pub fn is_accepted(media_type: &str) -> bool {
    ACCEPTED.contains(&media_type)
}

/// The media type that a document gives itself, or, when it gives none, the
/// OCI one that its members show. For documents that come with no type from
/// outside: archives, registries that serve plain files.
///
/// # Errors
///
/// [`ManifestError`] when the document is neither a manifest nor an index.
pub fn own_media_type(bytes: &[u8]) -> Result<String, ManifestError> {
    let shape = Shape::read(bytes, "manifest")?;
    match (shape.media_type, shape.manifests.is_some(), shape.layers.is_some()) {
        (Some(media_type), ..) => Ok(media_type),
        (None, true, false) => Ok(OCI_INDEX.to_owned()),
        (None, false, true) => Ok(OCI_MANIFEST.to_owned()),
        (None, true, true) => Err(ManifestError::Ambiguous { media_type: OCI_INDEX.to_owned(), member: "layers" }),
        (None, false, false) => Err(ManifestError::MediaType { media_type: String::new() }),
    }
}

/// Reads a manifest or index that was served as `media_type`.
///
/// # Errors
///
/// [`ManifestError`]: too large, not of that type, ambiguous, too many layers
/// or entries, digests that cannot be verified.
pub fn parse(bytes: &[u8], media_type: &str) -> Result<Document, ManifestError> {
    let media_type = essence(media_type);
    let shape = Shape::read(bytes, media_type)?;
    if let Some(own) = shape.media_type.as_deref().filter(|own| *own != media_type) {
        return Err(ManifestError::Mismatch { served: media_type.to_owned(), own: own.to_owned() });
    }
    match media_type {
        OCI_MANIFEST | DOCKER_MANIFEST => {
            shape.forbid(media_type, &[("manifests", shape.manifests.is_some())])?;
            parse_manifest(bytes, media_type).map(Document::Manifest)
        }
        OCI_INDEX | DOCKER_LIST => {
            let members = [("layers", shape.layers.is_some()), ("config", shape.config.is_some())];
            shape.forbid(media_type, &members)?;
            parse_index(bytes, media_type).map(Document::Index)
        }
        other => Err(ManifestError::MediaType { media_type: other.to_owned() }),
    }
}

fn parse_manifest(bytes: &[u8], media_type: &str) -> Result<Manifest, ManifestError> {
    let manifest: Manifest = serde_json::from_slice(bytes)
        .map_err(|source| ManifestError::Parse { media_type: media_type.to_owned(), source })?;
    if manifest.layers.len() > MAX_LAYERS {
        return Err(ManifestError::Layers { found: manifest.layers.len() });
    }
    manifest.config.digest.require_verifiable()?;
    for layer in &manifest.layers {
        layer.digest.require_verifiable()?;
    }
    Ok(manifest)
}

fn parse_index(bytes: &[u8], media_type: &str) -> Result<Index, ManifestError> {
    let index: Index = serde_json::from_slice(bytes)
        .map_err(|source| ManifestError::Parse { media_type: media_type.to_owned(), source })?;
    if index.manifests.len() > MAX_INDEX_ENTRIES {
        return Err(ManifestError::Entries { found: index.manifests.len() });
    }
    Ok(index)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn descriptor(media_type: &str) -> Value {
        json!({"mediaType": media_type, "digest": Digest::of(media_type.as_bytes()), "size": 7})
    }

    fn manifest() -> Value {
        json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": descriptor(OCI_CONFIG),
               "layers": [descriptor(OCI_LAYER_GZIP), descriptor(OCI_LAYER_ZSTD)]})
    }

    fn index() -> Value {
        json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [descriptor(OCI_MANIFEST)]})
    }

    fn read(document: &Value, media_type: &str) -> Result<Document, ManifestError> {
        parse(document.to_string().as_bytes(), media_type)
    }

    fn with(mut document: Value, member: &str, value: Value) -> Value {
        document[member] = value;
        document
    }

    #[test]
    fn manifest_and_index_parse() {
        let Document::Manifest(read_back) = read(&manifest(), OCI_MANIFEST).unwrap() else { panic!("a manifest") };
        assert_eq!(read_back.layers.len(), 2);
        assert_eq!(read_back.layers[0].compression().unwrap(), Compression::Gzip);
        assert_eq!(read_back.layers[1].compression().unwrap(), Compression::Zstd);
        read_back.require_image().unwrap();
        assert!(matches!(read(&index(), OCI_INDEX).unwrap(), Document::Index(_)));
        let docker = with(manifest(), "mediaType", json!(DOCKER_MANIFEST));
        assert!(matches!(read(&docker, DOCKER_MANIFEST).unwrap(), Document::Manifest(_)));
    }

    #[test]
    fn content_type_parameters_are_ignored() {
        assert!(read(&manifest(), &format!("{OCI_MANIFEST}; charset=utf-8")).is_ok());
    }

    #[test]
    fn media_type_must_match() {
        assert!(matches!(read(&manifest(), OCI_INDEX), Err(ManifestError::Mismatch { .. })));
        assert!(matches!(read(&index(), DOCKER_LIST), Err(ManifestError::Mismatch { .. })));
        let mut untyped = manifest();
        untyped.as_object_mut().unwrap().remove("mediaType");
        assert!(read(&untyped, OCI_MANIFEST).is_ok());
        assert!(matches!(read(&untyped, OCI_INDEX), Err(ManifestError::Ambiguous { .. })));
        assert!(matches!(read(&manifest(), "application/json"), Err(ManifestError::Mismatch { .. })));
    }

    #[test]
    fn both_layers_and_manifests_is_refused() {
        let both = with(manifest(), "manifests", json!([]));
        assert!(matches!(read(&both, OCI_MANIFEST), Err(ManifestError::Ambiguous { member: "manifests", .. })));
        let both = with(index(), "layers", json!([]));
        assert!(matches!(read(&both, OCI_INDEX), Err(ManifestError::Ambiguous { member: "layers", .. })));
        let mut untyped = both;
        untyped.as_object_mut().unwrap().remove("mediaType");
        assert!(matches!(own_media_type(untyped.to_string().as_bytes()), Err(ManifestError::Ambiguous { .. })));
    }

    #[test]
    fn own_media_type_reads_the_document() {
        assert_eq!(own_media_type(manifest().to_string().as_bytes()).unwrap(), OCI_MANIFEST);
        let mut untyped = index();
        untyped.as_object_mut().unwrap().remove("mediaType");
        assert_eq!(own_media_type(untyped.to_string().as_bytes()).unwrap(), OCI_INDEX);
    }

    #[test]
    fn limits_hold() {
        let many = vec![descriptor(OCI_LAYER); MAX_LAYERS + 1];
        assert!(matches!(
            read(&with(manifest(), "layers", json!(many)), OCI_MANIFEST),
            Err(ManifestError::Layers { .. })
        ));
        let many = vec![descriptor(OCI_MANIFEST); MAX_INDEX_ENTRIES + 1];
        assert!(matches!(
            read(&with(index(), "manifests", json!(many)), OCI_INDEX),
            Err(ManifestError::Entries { .. })
        ));
        let huge = vec![b' '; usize::try_from(MAX_MANIFEST_BYTES).unwrap() + 1];
        assert!(matches!(parse(&huge, OCI_MANIFEST), Err(ManifestError::TooLarge { .. })));
    }

    #[test]
    fn hostile_documents_are_errors() {
        let sha512 = json!({"mediaType": OCI_LAYER, "digest": format!("sha512:{}", "0".repeat(128)), "size": 1});
        let negative = json!({"mediaType": OCI_LAYER, "digest": Digest::of(b""), "size": -1});
        let evil = json!({"mediaType": OCI_LAYER, "digest": "sha256:../../etc/passwd", "size": 1});
        for layer in [sha512, negative, evil, json!({}), json!(null), json!("x")] {
            assert!(read(&with(manifest(), "layers", json!([layer])), OCI_MANIFEST).is_err(), "{layer}");
        }
        for text in ["", "[]", "null", "{", "\u{0}", "{\"schemaVersion\":2}", "{\"schemaVersion\":3}"] {
            assert!(parse(text.as_bytes(), OCI_MANIFEST).is_err(), "{text:?}");
        }
        let twice = format!("{{\"layers\":[],{}", &manifest().to_string()[1..]);
        assert!(parse(twice.as_bytes(), OCI_MANIFEST).is_err(), "a member given twice");
        assert!(parse("[".repeat(100_000).as_bytes(), OCI_MANIFEST).is_err());
    }

    #[test]
    fn schema_1_has_its_own_message() {
        let old = json!({"schemaVersion": 1, "name": "library/x", "fsLayers": [], "history": []});
        assert!(matches!(read(&old, OCI_MANIFEST), Err(ManifestError::Schema1)));
    }

    #[test]
    fn foreign_and_unknown_layers_are_refused() {
        let foreign = [
            descriptor("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"),
            descriptor("application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"),
            with(descriptor(OCI_LAYER), "urls", json!(["https://example.com/layer"])),
        ];
        for layer in foreign {
            let layer: Descriptor = serde_json::from_value(layer).unwrap();
            assert!(matches!(layer.compression(), Err(ManifestError::ForeignLayer { .. })));
        }
        let layer: Descriptor = serde_json::from_value(descriptor("text/plain")).unwrap();
        assert!(matches!(layer.compression(), Err(ManifestError::LayerType { .. })));
    }

    #[test]
    fn artifacts_are_not_images() {
        let chart = with(manifest(), "config", descriptor("application/vnd.cncf.helm.config.v1+json"));
        let Document::Manifest(chart) = read(&chart, OCI_MANIFEST).unwrap() else { panic!("a manifest") };
        assert!(matches!(chart.require_image(), Err(ManifestError::NotAnImage { .. })));
    }
}
