//! Why a request failed: what people are told, and what is worth another try.

use std::error::Error;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::auth::AuthError;
use crate::digest::Digest;
use crate::manifest::ManifestError;

/// Why one request to one registry failed.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The host's name has no address.
    #[error("the name {host} cannot be resolved")]
    Unresolved {
        /// The host.
        host: String,
        /// What the resolver said.
        #[source]
        source: reqwest::Error,
    },
    /// Nobody listens there.
    #[error("connection to {address} refused: no registry listens there")]
    Refused {
        /// `host:port`.
        address: String,
    },
    /// No connection, for another reason.
    #[error("connect to {address}")]
    Connect {
        /// `host:port`.
        address: String,
        /// What went wrong.
        #[source]
        source: reqwest::Error,
    },
    /// No connection within the time.
    #[error("connect to {address}: no answer within {seconds} s")]
    ConnectTimeout {
        /// `host:port`.
        address: String,
        /// The time in seconds.
        seconds: u64,
    },
    /// The certificate is not trusted, expired, or of another host.
    #[error(
        "the certificate of {host} is not accepted; if it comes from a private CA, name that as ca_file in the registries file"
    )]
    Certificate {
        /// The host.
        host: String,
        /// What is wrong with it.
        #[source]
        source: rustls::Error,
    },
    /// The TLS handshake fails otherwise.
    #[error("{host} does not speak TLS as expected; if it speaks plain http, set insecure_http in the registries file")]
    Tls {
        /// The host.
        host: String,
        /// What went wrong.
        #[source]
        source: rustls::Error,
    },
    /// A CA file of the registries file cannot be used.
    #[error("read the CA file {path}")]
    CaFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: io::Error,
    },
    /// TLS cannot be set up at all.
    #[error("set up TLS")]
    TlsSetup {
        /// What went wrong.
        #[source]
        source: rustls::Error,
    },
    /// The HTTP client cannot be set up, for example for a proxy variable that is no URL.
    #[error("set up the HTTP client")]
    HttpSetup {
        /// What went wrong.
        #[source]
        source: reqwest::Error,
    },
    /// The connection broke, or what came over it is not HTTP.
    #[error("the connection to {host} broke")]
    Broken {
        /// The host.
        host: String,
        /// What went wrong.
        #[source]
        source: reqwest::Error,
    },
    /// The host is silent or much too slow.
    #[error("{host} sent nothing, or next to nothing, for {seconds} s")]
    Stalled {
        /// The host.
        host: String,
        /// The time in seconds.
        seconds: u64,
    },
    /// The host has a problem of its own.
    #[error("{host} answers {status}{message}")]
    Server {
        /// The host.
        host: String,
        /// The HTTP status.
        status: u16,
        /// The host's own words, after a colon; may be empty.
        message: String,
        /// How long it asks us to wait.
        retry_after: Option<Duration>,
    },
    /// Too many requests.
    #[error("{host} limits the rate of requests{}{message}", wait_text(*.retry_after))]
    RateLimited {
        /// The host.
        host: String,
        /// The host's own words, after a colon; may be empty.
        message: String,
        /// How long it asks us to wait.
        retry_after: Option<Duration>,
    },
    /// An answer that has no place here.
    #[error("{host} gives the unexpected answer {status}{message}")]
    Status {
        /// The host.
        host: String,
        /// The HTTP status.
        status: u16,
        /// The host's own words, after a colon; may be empty.
        message: String,
    },
    /// The host that the registry sent us to for a blob refuses it.
    #[error("the storage {host} that the registry leads to answers {status}")]
    Storage {
        /// The storage's host.
        host: String,
        /// The HTTP status.
        status: u16,
    },
    /// No access without credentials.
    #[error(
        "{access} access denied for {repository}: the repository does not exist or may require 'docker login {registry}'{message}"
    )]
    Denied {
        /// `pull` or `push`.
        access: &'static str,
        /// The repository.
        repository: String,
        /// The registry that credentials would be for.
        registry: String,
        /// The registry's own words, after a colon; may be empty.
        message: String,
        /// Why no credentials were sent, if some were meant to be.
        #[source]
        source: Option<Box<AuthError>>,
    },
    /// No access with the credentials we have.
    #[error(
        "{access} access denied for {repository}: the credentials for {registry} are wrong, or the repository does not exist or is not open to them{message}"
    )]
    WrongCredentials {
        /// `pull` or `push`.
        access: &'static str,
        /// The repository.
        repository: String,
        /// The registry that the credentials are for.
        registry: String,
        /// The registry's own words, after a colon; may be empty.
        message: String,
    },
    /// A registry or its token server does not accept credentials that are tried.
    #[error("login attempt to {url} failed with status: {status}")]
    Login {
        /// Who was asked.
        url: String,
        /// The HTTP status and its name.
        status: String,
    },
    /// The registry asks for credentials in a way not known.
    #[error("{host} wants authentication of an unknown kind: {offered:?}")]
    Challenge {
        /// The host.
        host: String,
        /// Its header.
        offered: String,
    },
    /// The token server is not one to send secrets to.
    #[error("{host} wants credentials sent to {realm:?}, which is not an https URL")]
    Realm {
        /// The registry's host.
        host: String,
        /// The token server.
        realm: String,
    },
    /// The token server's answer has no token.
    #[error("the token server {host} gives no usable token")]
    Token {
        /// The token server's host.
        host: String,
        /// Where the answer fails to parse, if it does.
        #[source]
        source: Option<serde_json::Error>,
    },
    /// There is no such tag or manifest.
    #[error("manifest unknown: {repository} has no {selector}")]
    ManifestUnknown {
        /// The repository.
        repository: String,
        /// The tag or digest.
        selector: String,
    },
    /// There is no such repository.
    #[error("repository {repository} does not exist")]
    RepositoryUnknown {
        /// The repository.
        repository: String,
    },
    /// There is no such blob.
    #[error("{host} does not have this blob")]
    BlobUnknown {
        /// The host.
        host: String,
    },
    /// The registry has forgotten an upload.
    #[error("{host} no longer knows the upload")]
    UploadUnknown {
        /// The host.
        host: String,
    },
    /// The registry does not go on with an upload, or does not take what it was sent.
    #[error("{host} refuses the upload{message}")]
    UploadRefused {
        /// The host.
        host: String,
        /// The host's own words, after a colon; may be empty.
        message: String,
    },
    /// The registry begins an upload without saying where.
    #[error("{host} says no place to upload to")]
    NoLocation {
        /// The host.
        host: String,
    },
    /// The registry has another part of an upload than it was sent.
    #[error("{host} says it has {found:?} of the upload, it was sent {sent} bytes")]
    UploadRange {
        /// The host.
        host: String,
        /// Its `Range`.
        found: String,
        /// Bytes it was sent.
        sent: u64,
    },
    /// One redirect after the other.
    #[error("{host} redirects more than {limit} times")]
    Redirects {
        /// The first host.
        host: String,
        /// How many are followed.
        limit: usize,
    },
    /// A redirect to something that is not a URL, or not http.
    #[error("{host} redirects to {location:?}, which cannot be followed")]
    Redirect {
        /// The host.
        host: String,
        /// Its header, shortened.
        location: String,
    },
    /// A redirect from TLS to plain http.
    #[error("{host} redirects from https to plain http at {target}, which is refused")]
    Downgrade {
        /// The host.
        host: String,
        /// The target's host.
        target: String,
    },
    /// More than may be read.
    #[error("{host} sends more than {limit} bytes")]
    TooLarge {
        /// The host.
        host: String,
        /// The limit in bytes.
        limit: u64,
    },
    /// The blob ended early.
    #[error("the connection to {host} ended after {received} of {size} bytes")]
    Ended {
        /// The host.
        host: String,
        /// Bytes of the blob so far.
        received: u64,
        /// The blob's size.
        size: u64,
    },
    /// The blob goes on beyond its size.
    #[error("{host} sends more than the {size} bytes that the manifest states")]
    Excess {
        /// The host.
        host: String,
        /// The blob's size.
        size: u64,
    },
    /// The host has a blob of another size.
    #[error("{host} has {found} bytes for this blob, the manifest states {size}")]
    Length {
        /// The host.
        host: String,
        /// The host's size.
        found: u64,
        /// The manifest's size.
        size: u64,
    },
    /// A part of the blob came that was not asked for.
    #[error("{host} was asked for the blob from byte {asked} and sends {found:?}")]
    Range {
        /// The host.
        host: String,
        /// The first byte asked for.
        asked: u64,
        /// Its `Content-Range`.
        found: String,
    },
    /// The content is not what its digest says.
    #[error("{host} sends a manifest with the digest {found} instead of {expected}")]
    Digest {
        /// The host.
        host: String,
        /// What was asked for or promised.
        expected: String,
        /// What came.
        found: Digest,
    },
    /// The answer is not a manifest.
    #[error("{host} sends a manifest that is refused")]
    Manifest {
        /// The host.
        host: String,
        /// Why.
        #[source]
        source: ManifestError,
    },
    /// The list of tags does not parse.
    #[error("{host} sends a list of tags that does not parse")]
    TagList {
        /// The host.
        host: String,
        /// Where.
        #[source]
        source: serde_json::Error,
    },
}

impl Failure {
    /// Whether the same request may well succeed a little later.
    pub(super) const fn is_transient(&self) -> bool {
        matches!(
            self,
            Self::Unresolved { .. }
                | Self::Refused { .. }
                | Self::Connect { .. }
                | Self::ConnectTimeout { .. }
                | Self::Broken { .. }
                | Self::Stalled { .. }
                | Self::Server { .. }
                | Self::RateLimited { .. }
                | Self::Storage { .. }
                | Self::Ended { .. }
                | Self::Range { .. }
                | Self::UploadUnknown { .. }
                | Self::UploadRefused { .. }
                | Self::UploadRange { .. }
        )
    }

    /// Whether the host was not even reached.
    pub(super) const fn is_unreachable(&self) -> bool {
        matches!(
            self,
            Self::Unresolved { .. } | Self::Refused { .. } | Self::Connect { .. } | Self::ConnectTimeout { .. }
        )
    }

    /// How long the host asks us to wait.
    pub(super) const fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Server { retry_after, .. } | Self::RateLimited { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}

fn wait_text(retry_after: Option<Duration>) -> String {
    retry_after.map_or_else(String::new, |wait| format!(", try again in {} s", wait.as_secs()))
}

/// The whole chain of an error in one line.
pub(super) fn one_line(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let part = error.to_string();
        if !text.ends_with(&part) {
            text.push_str(": ");
            text.push_str(&part);
        }
        source = error.source();
    }
    text
}

/// One registry that was asked in vain.
#[derive(Debug)]
pub struct Attempt {
    /// The registry or mirror.
    pub registry: String,
    /// Why it failed.
    pub failure: Failure,
}

/// All registries that were asked in vain, in order.
///
/// Several errors have no single source, so the text holds each one's whole chain.
#[derive(Debug)]
pub struct Attempts(pub Vec<Attempt>);

impl fmt::Display for Attempts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no registry could serve it")?;
        for attempt in &self.0 {
            write!(f, "; {}: {}", attempt.registry, one_line(&attempt.failure))?;
        }
        Ok(())
    }
}

/// What an HTTP error means, from the chain of its causes.
pub(super) fn classify(error: reqwest::Error, host: String, connect: Duration) -> Failure {
    // The URL may carry a signature of the storage.
    let source = error.without_url();
    if let Some(tls) = find::<rustls::Error>(&source) {
        let tls = tls.clone();
        return match tls {
            rustls::Error::InvalidCertificate(_) => Failure::Certificate { host, source: tls },
            _ => Failure::Tls { host, source: tls },
        };
    }
    if source.is_dns() {
        return Failure::Unresolved { host, source };
    }
    if !source.is_connect() {
        return Failure::Broken { host, source };
    }
    if source.is_timeout() {
        return Failure::ConnectTimeout { address: host, seconds: connect.as_secs() };
    }
    match find::<io::Error>(&source).map(io::Error::kind) {
        Some(io::ErrorKind::ConnectionRefused) => Failure::Refused { address: host },
        _ => Failure::Connect { address: host, source },
    }
}

/// The innermost cause of type `T`. An `io::Error` hides the error it wraps from `source()`.
fn find<'a, T: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a T> {
    let mut found = None;
    let mut next = Some(error);
    while let Some(error) = next {
        found = error.downcast_ref::<T>().or(found);
        next = match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    found
}
