//! The client of registries (OCI distribution spec 1.1, Docker registry API v2).
//!
//! oci-client gives the error format of the wire and brings the HTTP client,
//! reqwest. Requests are driven here and not by oci-client's own `Client`,
//! because a pull needs what that has no hook for: retries with back-off and
//! `Retry-After` (the headers of an error are dropped there), `Range` resume
//! with the caller's running hash (it hashes every blob once or twice itself),
//! OAuth2 refresh tokens, tokens renewed in the middle of a pull, mirrors with
//! fall-back, and a bound on the size of a manifest (it reads any).
//!
//! The face is blocking and may be used from several threads at once. Inside,
//! one thread with a current-thread tokio runtime does all network work;
//! blobs travel to the calling threads in bounded memory.
//!
//! **Nothing that comes from [`Client::blob`] has been verified.** Bytes go to
//! the caller unhashed, so that they are hashed once, where they are written.
//! A [`Received`] is only the promise that as many bytes as the descriptor
//! says were delivered; [`Received::verify`] turns it and the caller's
//! [`Hasher`] into the [`Verified`] that makes a blob usable.

mod answer;
pub mod artifact;
mod blob;
mod body;
mod challenge;
mod failure;
mod login;
mod manifests;
mod payload;
mod push;
mod retry;
mod tls;
mod token;
mod transport;
mod worker;

use std::fmt;
use std::fs::File;
use std::io;
use std::sync::Arc;
use std::time::Duration;

pub use failure::{Attempt, Attempts, Failure};
pub use push::{UploadWatch, Uploaded};
pub use retry::Policy;

use crate::auth::Credentials;
use crate::digest::{Digest, DigestError, Hasher, Verified, VerifyError};
use crate::manifest::{Descriptor, Manifest, ManifestError};
use crate::platform::{Platform, PlatformError};
use crate::reference::Reference;
use crate::registries::Registries;
use worker::Worker;

/// TLS with the system's roots.
pub(crate) fn tls_config() -> Result<rustls::ClientConfig, Failure> {
    tls::config(true, None)
}

/// Why a registry could not give what was asked for.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// The network thread does not start.
    #[error("start the thread for registries")]
    Thread {
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// The network thread ended before it answered.
    #[error("the thread for registries ended early")]
    ThreadEnded,
    /// A manifest could not be fetched.
    #[error("fetch the manifest of {reference} from {registry}")]
    Manifest {
        /// The image.
        reference: String,
        /// The registry or mirror that was asked.
        registry: String,
        /// Why.
        #[source]
        source: Box<Failure>,
    },
    /// A blob could not be fetched.
    #[error("fetch {digest} of {reference} from {registry}")]
    Blob {
        /// The image.
        reference: String,
        /// The blob.
        digest: Digest,
        /// The registry or mirror that was asked.
        registry: String,
        /// Why.
        #[source]
        source: Box<Failure>,
    },
    /// The tags could not be listed.
    #[error("list the tags of {repository} in {registry}")]
    Tags {
        /// The repository.
        repository: String,
        /// The registry or mirror that was asked.
        registry: String,
        /// Why.
        #[source]
        source: Box<Failure>,
    },
    /// Mirrors and registry were asked, and each failed.
    #[error("fetch {what}: {attempts}")]
    Everywhere {
        /// What was asked for.
        what: String,
        /// Each registry with its reason.
        attempts: Attempts,
    },
    /// The index has no image for the platform.
    #[error("choose the image of {reference}")]
    Platform {
        /// The image.
        reference: String,
        /// What there is.
        #[source]
        source: PlatformError,
    },
    /// The manifest is not one of an image that can be run.
    #[error("read the manifest of {reference}")]
    Image {
        /// The image.
        reference: String,
        /// What is wrong.
        #[source]
        source: ManifestError,
    },
    /// Indexes within indexes without end.
    #[error("the index of {reference} leads to more than {limit} further indexes")]
    Nested {
        /// The image.
        reference: String,
        /// How many are followed.
        limit: usize,
    },
    /// The blob's digest is of a kind that is not verified.
    #[error(transparent)]
    Digest(#[from] DigestError),
    /// Resume beyond the end.
    #[error("resume {digest} at byte {from}, but it has only {size} bytes")]
    Offset {
        /// The blob.
        digest: Digest,
        /// Where to resume.
        from: u64,
        /// The blob's size in bytes.
        size: u64,
    },
    /// The receiver of a blob failed.
    #[error("store {digest} of {reference}")]
    Sink {
        /// The image.
        reference: String,
        /// The blob.
        digest: Digest,
        /// What the receiver said.
        #[source]
        source: io::Error,
    },
    /// A manifest or blob could not be pushed.
    #[error("push {what} of {reference} to {registry}")]
    Push {
        /// What was pushed.
        what: String,
        /// The image.
        reference: String,
        /// The registry.
        registry: String,
        /// Why.
        #[source]
        source: Box<Failure>,
    },
    /// Credentials were not accepted.
    #[error("log in to {registry}")]
    Login {
        /// The registry.
        registry: String,
        /// Why.
        #[source]
        source: Box<Failure>,
    },
    /// A blob that was to be pushed cannot be read.
    #[error("read the blob {digest}")]
    Unreadable {
        /// The blob.
        digest: Digest,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// A blob that was to be pushed is not what it should be; nothing of it can be seen in the registry.
    #[error("the blob {digest} is not pushed")]
    Damaged {
        /// The blob.
        digest: Digest,
        /// In which way.
        #[source]
        source: VerifyError,
    },
    /// A registry that is only asked through its mirrors.
    #[error(
        "{registry} is used through its mirrors alone (mirror_only in the registries file), and those take nothing"
    )]
    MirrorOnly {
        /// The registry.
        registry: String,
    },
    /// Whoever waits for a blob does so no longer.
    #[error("transfer of {digest} was cancelled")]
    Cancelled {
        /// The blob.
        digest: Digest,
    },
}

/// A manifest or index as the registry gave it; its digest is verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// The exact bytes, at most [`crate::manifest::MAX_MANIFEST_BYTES`].
    pub bytes: Vec<u8>,
    /// What they are.
    pub media_type: String,
    /// The digest of `bytes`.
    pub digest: Digest,
}

/// An image for one platform.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// The outermost index the image was chosen from, if it came from one.
    pub index: Option<Fetched>,
    /// The manifest as the registry gave it.
    pub fetched: Fetched,
    /// The same, parsed: a container image with layers of known formats.
    pub manifest: Manifest,
    /// The platform that the index states. Without an index only the image config knows.
    pub platform: Option<Platform>,
}

impl Resolved {
    /// The digest that pins the name for all platforms: that of the index, or of the manifest.
    #[must_use]
    pub fn digest(&self) -> &Digest {
        self.index.as_ref().map_or(&self.fetched.digest, |index| &index.digest)
    }
}

/// A pause before the next attempt, for progress output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retry {
    /// The registry or mirror that failed.
    pub registry: String,
    /// Why, in one line.
    pub reason: String,
    /// How long the pause is.
    pub wait: Duration,
}

/// Takes a blob's bytes, in order and each once, whatever happens on the network.
pub trait BlobSink {
    /// Takes the next bytes. An error ends the fetch.
    ///
    /// # Errors
    ///
    /// Whatever the receiver runs into; it comes back as [`RegistryError::Sink`].
    fn write(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Hears of a pause after a failure. Bytes already written stay valid.
    fn retrying(&mut self, _retry: &Retry) {}

    /// Asked several times a second; `true` ends the fetch.
    fn cancelled(&self) -> bool {
        false
    }
}

/// Proof that a blob was delivered to its last byte, but not that it is the right one.
#[derive(Debug)]
#[must_use = "the bytes are not verified yet"]
pub struct Received {
    digest: Digest,
    size: u64,
    fetched: u64,
}

impl Received {
    /// How many bytes this fetch delivered, without those resumed from.
    #[must_use]
    pub const fn fetched(&self) -> u64 {
        self.fetched
    }

    /// Compares what the caller hashed (all of it, resumed bytes too) with the descriptor.
    ///
    /// # Errors
    ///
    /// [`VerifyError`] when the content is not the blob's.
    pub fn verify(self, hasher: Hasher) -> Result<Verified, VerifyError> {
        hasher.verify(&self.digest, self.size)
    }
}

/// What the network thread works with.
struct Core {
    registries: Registries,
    transport: transport::Transport,
    tokens: token::Tokens,
    policy: Policy,
}

/// A client of registries. Blocking, and usable from several threads at once.
pub struct Client {
    core: Arc<Core>,
    worker: Worker,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("registries", &self.core.registries).finish_non_exhaustive()
    }
}

impl Client {
    /// A client with the default [`Policy`]. Neither network nor certificates
    /// are touched before the first request.
    ///
    /// # Errors
    ///
    /// [`RegistryError::Thread`].
    pub fn new(registries: Registries, credentials: Credentials, user_agent: &str) -> Result<Self, RegistryError> {
        Self::with_policy(registries, credentials, user_agent, Policy::default())
    }

    /// A client with its own times and number of retries.
    ///
    /// # Errors
    ///
    /// [`RegistryError::Thread`].
    pub fn with_policy(
        registries: Registries,
        credentials: Credentials,
        user_agent: &str,
        policy: Policy,
    ) -> Result<Self, RegistryError> {
        let core = Core {
            registries,
            transport: transport::Transport::new(user_agent, &policy),
            tokens: token::Tokens::new(credentials),
            policy,
        };
        Ok(Self { core: Arc::new(core), worker: Worker::start().map_err(|source| RegistryError::Thread { source })? })
    }

    /// Fetches the manifest or index that `reference` names, by its digest if
    /// it has one. The digest is verified.
    ///
    /// # Errors
    ///
    /// [`RegistryError::Manifest`], or [`RegistryError::Everywhere`] where there are mirrors.
    pub fn manifest(&self, reference: &Reference) -> Result<Fetched, RegistryError> {
        let (core, reference) = (Arc::clone(&self.core), reference.clone());
        self.worker.call(async move || core.manifest(&reference).await)?
    }

    /// Fetches the manifest that `reference` names, going through an index to
    /// the image that runs best on `platform`.
    ///
    /// # Errors
    ///
    /// As [`Client::manifest`]; [`RegistryError::Platform`] lists what the index
    /// has; [`RegistryError::Image`] for what is not a container image.
    pub fn resolve(&self, reference: &Reference, platform: &Platform) -> Result<Resolved, RegistryError> {
        let (core, reference, platform) = (Arc::clone(&self.core), reference.clone(), platform.clone());
        self.worker.call(async move || core.resolve(&reference, &platform).await)?
    }

    /// Fetches a blob into `sink`, from byte `from` on (0, or where an earlier
    /// fetch of the same blob ended).
    ///
    /// A connection that breaks or stalls is taken up again at the byte
    /// reached. The bytes are **not verified**: see [`Received`].
    ///
    /// # Errors
    ///
    /// [`RegistryError::Blob`] (or [`RegistryError::Everywhere`]) names registry
    /// and digest; [`RegistryError::Sink`] passes on the sink's own error.
    pub fn blob(
        &self,
        reference: &Reference,
        descriptor: &Descriptor,
        from: u64,
        sink: &mut dyn BlobSink,
    ) -> Result<Received, RegistryError> {
        descriptor.digest.require_verifiable()?;
        let (digest, size) = (descriptor.digest.clone(), descriptor.size);
        if from > size {
            return Err(RegistryError::Offset { digest, from, size });
        }
        if from < size {
            blob::fetch(self, reference, descriptor, from, sink)?;
        }
        Ok(Received { digest, size, fetched: size - from })
    }

    /// Brings a blob into `reference`'s repository: nothing is sent when it has it, or when the registry takes it
    /// from one of the repositories `mounts`. What is sent is read from `file`, and verified before it can be seen.
    ///
    /// # Errors
    ///
    /// [`RegistryError::Push`] names registry and digest; [`RegistryError::Damaged`] and
    /// [`RegistryError::Unreadable`] are about the file.
    pub fn upload(
        &self,
        reference: &Reference,
        descriptor: &Descriptor,
        file: File,
        mounts: &[String],
        watch: &mut dyn UploadWatch,
    ) -> Result<Uploaded, RegistryError> {
        descriptor.digest.require_verifiable()?;
        push::upload(self, reference, descriptor, file, mounts, watch)
    }

    /// Whether the registry itself, not a mirror, has a manifest or index.
    ///
    /// # Errors
    ///
    /// [`RegistryError::Push`] when it does not say so.
    pub fn has_manifest(&self, reference: &Reference) -> Result<bool, RegistryError> {
        let (core, reference) = (Arc::clone(&self.core), reference.clone());
        self.worker.call(async move || core.has_manifest(&reference).await)?
    }

    /// Pushes a manifest or index, whose parts must be there, under `reference`'s digest or else its tag.
    ///
    /// # Errors
    ///
    /// [`RegistryError::Push`].
    pub fn put_manifest(&self, reference: &Reference, media_type: &str, bytes: Vec<u8>) -> Result<(), RegistryError> {
        let (core, reference, media_type) = (Arc::clone(&self.core), reference.clone(), media_type.to_owned());
        self.worker.call(async move || core.put_manifest(&reference, &media_type, bytes.into()).await)?
    }

    /// The tags of `reference`'s repository, as the registry sorts them.
    ///
    /// # Errors
    ///
    /// [`RegistryError::Tags`], or [`RegistryError::Everywhere`] where there are mirrors.
    pub fn list_tags(&self, reference: &Reference) -> Result<Vec<String>, RegistryError> {
        let (core, reference) = (Arc::clone(&self.core), reference.clone());
        self.worker.call(async move || core.list_tags(&reference).await)?
    }
}
