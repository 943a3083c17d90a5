//! Artifacts: what registries keep and is no image, a Compose project for example. The artifact type of an OCI 1.1
//! manifest says what it is; in a manifest of OCI 1.0, which has none, the media type of the config does.
//!
//! Artifacts are small: their blobs are held in memory, each bounded, and given out only when their digest is right.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write as _};

use rustix::fs::{MemfdFlags, memfd_create};
use serde::{Deserialize, Serialize};

use super::{BlobSink, Client, Failure, Fetched, RegistryError, UploadWatch};
use crate::digest::{Digest, Hasher, VerifyError};
use crate::manifest::{Descriptor, Document, ManifestError, OCI_MANIFEST, parse};
use crate::reference::Reference;

/// The config that says nothing, of OCI 1.1.
pub const EMPTY: &str = "application/vnd.oci.empty.v1+json";
const NOTHING: &[u8] = b"{}";

/// Why an artifact could not be fetched or pushed.
#[derive(Debug, thiserror::Error)]
pub enum ArtifactError {
    /// The registry failed.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The manifest does not parse.
    #[error("read the manifest of {reference}")]
    Manifest {
        /// The artifact.
        reference: String,
        /// What is wrong.
        #[source]
        source: ManifestError,
    },
    /// It is something else.
    #[error("{reference} is not of the type {wanted}, but {found:?}")]
    Type {
        /// What was asked for.
        reference: String,
        /// The artifact type that was expected.
        wanted: &'static str,
        /// What it says it is.
        found: String,
    },
    /// An index, none of whose entries is it.
    #[error("the index {reference} leads to nothing of the type {wanted}")]
    NotInIndex {
        /// The index.
        reference: String,
        /// The artifact type that was expected.
        wanted: &'static str,
    },
    /// A blob is larger than is read.
    #[error("{digest} of {reference} has {size} bytes, more than the {limit} allowed")]
    TooLarge {
        /// The artifact.
        reference: String,
        /// The blob.
        digest: Digest,
        /// Its size in bytes.
        size: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// The registry sent something else than the blob.
    #[error("{digest} of {reference} is refused")]
    Damaged {
        /// The artifact.
        reference: String,
        /// The blob.
        digest: Digest,
        /// In which way.
        #[source]
        source: VerifyError,
    },
    /// What is to be pushed cannot be put aside for it.
    #[error("keep {what} in memory")]
    Memory {
        /// What.
        what: String,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// The manifest cannot be written as JSON.
    #[error("encode the manifest")]
    Encode {
        /// Why.
        #[source]
        source: serde_json::Error,
    },
}

/// What an artifact is, in both versions of the OCI image specification.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kind {
    /// The artifact type, of OCI 1.1.
    pub artifact_type: &'static str,
    /// The media type of the config, in OCI 1.0; the config itself is `{}`.
    pub config_type: &'static str,
}

/// An artifact in a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Artifact {
    /// The digest of what its name leads to: its manifest, or the index that has it.
    pub digest: Digest,
    /// Its parts, in order.
    pub layers: Vec<Descriptor>,
}

/// A part of an artifact to push.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// What it is.
    pub media_type: String,
    /// What else there is to say about it.
    pub annotations: BTreeMap<String, String>,
    /// Its content.
    pub bytes: Vec<u8>,
}

/// The version of the OCI image specification that a manifest is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// 1.0.
    V1_0,
    /// 1.1.
    V1_1,
    /// 1.1, or 1.0 where the registry does not take that.
    Any,
}

/// The members that say what a manifest or an entry of an index is.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Typed {
    artifact_type: Option<String>,
}

#[derive(Deserialize)]
struct TypedIndex {
    manifests: Vec<Typed>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Written<'a> {
    schema_version: u64,
    media_type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    artifact_type: Option<&'static str>,
    config: Descriptor,
    layers: &'a [Descriptor],
    annotations: &'a BTreeMap<String, String>,
}

impl Client {
    /// Finds an artifact; through an index, where the name leads to one. Digests of manifests are verified.
    ///
    /// # Errors
    ///
    /// [`ArtifactError::Type`] and [`ArtifactError::NotInIndex`] for what is something else.
    pub fn artifact(&self, reference: &Reference, kind: &Kind) -> Result<Artifact, ArtifactError> {
        let fetched = self.manifest(reference)?;
        let digest = fetched.digest.clone();
        let layers = match read(reference, &fetched)? {
            Document::Manifest(manifest) => checked(reference, kind, &fetched, manifest)?,
            Document::Index(index) => {
                let types: TypedIndex = typed(reference, &fetched)?;
                let mut entries = index.manifests.into_iter().zip(types.manifests);
                let found = entries.rfind(|(_, entry)| entry.artifact_type.as_deref() == Some(kind.artifact_type));
                let (entry, _) = found.ok_or_else(|| ArtifactError::NotInIndex {
                    reference: reference.familiar(),
                    wanted: kind.artifact_type,
                })?;
                entry.digest.require_verifiable().map_err(RegistryError::from)?;
                let fetched = self.manifest(&reference.with_digest(entry.digest))?;
                match read(reference, &fetched)? {
                    Document::Manifest(manifest) => checked(reference, kind, &fetched, manifest)?,
                    Document::Index(_) => return Err(other(reference, kind, &fetched.media_type)),
                }
            }
        };
        Ok(Artifact { digest, layers })
    }

    /// A blob of an artifact of at most `limit` bytes; its digest is verified.
    ///
    /// # Errors
    ///
    /// [`ArtifactError::TooLarge`] before anything is fetched; [`ArtifactError::Damaged`].
    pub fn part(&self, reference: &Reference, blob: &Descriptor, limit: u64) -> Result<Vec<u8>, ArtifactError> {
        let (digest, size) = (blob.digest.clone(), blob.size);
        if size > limit {
            return Err(ArtifactError::TooLarge { reference: reference.familiar(), digest, size, limit });
        }
        let mut sink = Kept { bytes: Vec::new(), hasher: Hasher::new() };
        let received = self.blob(reference, blob, 0, &mut sink)?;
        received.verify(sink.hasher).map(drop).map_err(|source| ArtifactError::Damaged {
            reference: reference.familiar(),
            digest,
            source,
        })?;
        Ok(sink.bytes)
    }

    /// Pushes an artifact: its parts, and last the manifest that makes it visible. Gives the manifest's digest.
    ///
    /// # Errors
    ///
    /// As [`Client::upload`] and [`Client::put_manifest`].
    pub fn put_artifact(
        &self,
        reference: &Reference,
        kind: &Kind,
        parts: &[Part],
        annotations: &BTreeMap<String, String>,
        form: Form,
    ) -> Result<Digest, ArtifactError> {
        let mut layers = Vec::new();
        for part in parts {
            let mut blob = self.put_bytes(reference, &part.media_type, &part.bytes)?;
            blob.annotations = (!part.annotations.is_empty()).then(|| part.annotations.clone());
            layers.push(blob);
        }
        // Both forms have the same two bytes as config.
        self.put_bytes(reference, EMPTY, NOTHING)?;
        let put = |artifact_type: Option<&'static str>| {
            let config_type = if artifact_type.is_some() { EMPTY } else { kind.config_type };
            let config = Descriptor::new(config_type, Digest::of(NOTHING), len(NOTHING));
            let written = Written {
                schema_version: 2,
                media_type: OCI_MANIFEST,
                artifact_type,
                config,
                layers: &layers,
                annotations,
            };
            let bytes = serde_json::to_vec(&written).map_err(|source| ArtifactError::Encode { source })?;
            let digest = Digest::of(&bytes);
            self.put_manifest(reference, OCI_MANIFEST, bytes)?;
            Ok(digest)
        };
        match form {
            Form::V1_0 => put(None),
            Form::V1_1 => put(Some(kind.artifact_type)),
            Form::Any => match put(Some(kind.artifact_type)) {
                Err(ArtifactError::Registry(error)) if is_not_taken(&error) => put(None),
                done => done,
            },
        }
    }

    fn put_bytes(&self, reference: &Reference, media_type: &str, bytes: &[u8]) -> Result<Descriptor, ArtifactError> {
        let blob = Descriptor::new(media_type, Digest::of(bytes), len(bytes));
        let file =
            in_memory(bytes).map_err(|source| ArtifactError::Memory { what: blob.digest.to_string(), source })?;
        self.upload(reference, &blob, file, &[], &mut Unwatched)?;
        Ok(blob)
    }
}

/// Whether the registry refuses a manifest for what it is: one that knows no artifact types, perhaps.
fn is_not_taken(error: &RegistryError) -> bool {
    let RegistryError::Push { source, .. } = error else { return false };
    match source.as_ref() {
        Failure::Status { status, .. } => (400..500).contains(status) && *status != 407,
        Failure::ManifestUnknown { .. } => true,
        _ => false,
    }
}

fn read(reference: &Reference, fetched: &Fetched) -> Result<Document, ArtifactError> {
    parse(&fetched.bytes, &fetched.media_type)
        .map_err(|source| ArtifactError::Manifest { reference: reference.familiar(), source })
}

fn typed<'a, T: Deserialize<'a>>(reference: &Reference, fetched: &'a Fetched) -> Result<T, ArtifactError> {
    serde_json::from_slice(&fetched.bytes).map_err(|source| ArtifactError::Manifest {
        reference: reference.familiar(),
        source: ManifestError::Parse { media_type: fetched.media_type.clone(), source },
    })
}

fn checked(
    reference: &Reference,
    kind: &Kind,
    fetched: &Fetched,
    manifest: crate::manifest::Manifest,
) -> Result<Vec<Descriptor>, ArtifactError> {
    let own: Typed = typed(reference, fetched)?;
    match own.artifact_type.filter(|own| !own.is_empty()) {
        Some(own) if own != kind.artifact_type => Err(other(reference, kind, &own)),
        None if manifest.config.media_type != kind.config_type => {
            Err(other(reference, kind, &manifest.config.media_type))
        }
        _ => Ok(manifest.layers),
    }
}

fn other(reference: &Reference, kind: &Kind, found: &str) -> ArtifactError {
    let (reference, wanted) = (reference.familiar(), kind.artifact_type);
    ArtifactError::Type { reference, wanted, found: found.chars().take(100).collect() }
}

fn len(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

fn in_memory(bytes: &[u8]) -> io::Result<File> {
    let mut file = File::from(memfd_create(c"artifact", MemfdFlags::CLOEXEC)?);
    file.write_all(bytes)?;
    Ok(file)
}

struct Kept {
    bytes: Vec<u8>,
    hasher: Hasher,
}

impl BlobSink for Kept {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hasher.update(bytes);
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }
}

/// Small blobs are sent before anybody could see how far they are.
struct Unwatched;

impl UploadWatch for Unwatched {}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const KIND: Kind = Kind { artifact_type: "application/x.thing", config_type: "application/x.thing.config" };

    fn look(document: &Value) -> Result<Vec<Descriptor>, ArtifactError> {
        let reference: Reference = "registry.example/thing:1".parse().unwrap();
        let bytes = document.to_string().into_bytes();
        let fetched = Fetched { digest: Digest::of(&bytes), bytes, media_type: OCI_MANIFEST.to_owned() };
        let Document::Manifest(manifest) = read(&reference, &fetched)? else { panic!("a manifest") };
        checked(&reference, &KIND, &fetched, manifest)
    }

    #[test]
    fn the_type_decides_and_without_one_the_config() {
        let blob = |media_type: &str| json!({"mediaType": media_type, "digest": Digest::of(b""), "size": 0});
        let document = |own: Option<&str>, config: &str| {
            let mut document = json!({"schemaVersion": 2, "config": blob(config), "layers": [blob("text/plain")]});
            if let Some(own) = own {
                document["artifactType"] = own.into();
            }
            document
        };
        for (own, config, good) in [
            (Some(KIND.artifact_type), EMPTY, true),
            (None, KIND.config_type, true),
            (Some(""), KIND.config_type, true),
            (Some("application/x.other"), KIND.config_type, false),
            (None, EMPTY, false),
            (None, crate::manifest::OCI_CONFIG, false),
        ] {
            let found = look(&document(own, config));
            assert_eq!(found.is_ok(), good, "{own:?} {config}: {found:?}");
            assert!(good || matches!(found, Err(ArtifactError::Type { .. })));
        }
    }
}
