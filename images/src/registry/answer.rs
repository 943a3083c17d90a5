//! From HTTP statuses and the registry's own words to a [`Failure`].

use std::time::SystemTime;

use oci_client::errors::{OciEnvelope, OciErrorCode};
use reqwest::header::RETRY_AFTER;

use super::Core;
use super::body::Body;
use super::failure::Failure;
use super::retry::{Policy, parse_retry_after};
use super::token::{Access, Grant};
use super::transport::Answer;

/// Largest error body that is read, in bytes.
const MAX_ERROR: u64 = 64 << 10;
/// Longest text of a registry that is shown, in characters.
const MAX_WORDS: usize = 300;

/// What is asked for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Asked<'a> {
    /// A manifest by tag or digest.
    Manifest(&'a str),
    /// A blob.
    Blob,
    /// The tags.
    Tags,
    /// An upload's session.
    Upload,
    /// A token for the repository.
    Token,
}

/// What a registry says in the body of an error.
#[derive(Debug, Default)]
struct Words {
    /// Empty, or `: ` and its text.
    message: String,
    codes: Vec<OciErrorCode>,
}

impl Core {
    /// Lets success through and makes everything else a [`Failure`].
    pub(super) async fn judge(
        &self,
        answer: Answer,
        asked: Asked<'_>,
        access: &Access<'_>,
        grant: Option<&Grant>,
    ) -> Result<Answer, Failure> {
        let status = answer.status().as_u16();
        // Of a push it depends on the request which success is meant.
        if matches!(status, 200 | 206) || (access.write && matches!(status, 201 | 202 | 204)) {
            return Ok(answer);
        }
        let host = answer.host.clone();
        // Where storage refuses, its links have expired; the registry gives new ones.
        if answer.elsewhere && (400..500).contains(&status) && status != 429 {
            return Err(Failure::Storage { host, status });
        }
        let retry_after = answer.header(RETRY_AFTER).and_then(|text| parse_retry_after(text, SystemTime::now()));
        let Words { message, codes } = words(answer, &self.policy).await;
        Err(match status {
            401 | 403 => self.denied(access, message, grant).await,
            429 => Failure::RateLimited { host, message, retry_after },
            _ if codes.contains(&OciErrorCode::Toomanyrequests) => Failure::RateLimited { host, message, retry_after },
            404 => not_found(host, asked, access.repository, message, &codes),
            _ if refuses_upload(&codes) => Failure::UploadRefused { host, message },
            408 | 500 | 502..=599 => Failure::Server { host, status, message, retry_after },
            _ => Failure::Status { host, status, message },
        })
    }

    async fn denied(&self, access: &Access<'_>, message: String, grant: Option<&Grant>) -> Failure {
        let (repository, registry) = (access.repository.to_owned(), access.endpoint.credentials_of.clone());
        let access = access.verb();
        if grant.is_some_and(|grant| grant.identified) {
            return Failure::WrongCredentials { access, repository, registry, message };
        }
        let source = self.tokens.credential(&registry).await.err().map(Box::new);
        Failure::Denied { access, repository, registry, message, source }
    }
}

fn not_found(host: String, asked: Asked<'_>, repository: &str, message: String, codes: &[OciErrorCode]) -> Failure {
    let repository = repository.to_owned();
    match asked {
        _ if codes.contains(&OciErrorCode::NameUnknown) => Failure::RepositoryUnknown { repository },
        Asked::Manifest(selector) => Failure::ManifestUnknown { repository, selector: selector.to_owned() },
        Asked::Blob => Failure::BlobUnknown { host },
        Asked::Tags => Failure::RepositoryUnknown { repository },
        Asked::Upload => Failure::UploadUnknown { host },
        Asked::Token => Failure::Status { host, status: 404, message },
    }
}

/// The registry has lost track of an upload, or says that the content is not what its digest promises.
fn refuses_upload(codes: &[OciErrorCode]) -> bool {
    let refusals = [OciErrorCode::BlobUploadInvalid, OciErrorCode::BlobUploadUnknown, OciErrorCode::DigestInvalid];
    codes.iter().any(|code| refusals.contains(code))
}

async fn words(answer: Answer, policy: &Policy) -> Words {
    // The status alone will do where the body cannot be read.
    let Ok(body) = Body::new(answer, policy).whole(MAX_ERROR).await else { return Words::default() };
    let Ok(envelope) = serde_json::from_slice::<OciEnvelope>(&body) else { return Words::default() };
    let texts: Vec<String> =
        envelope.errors.iter().map(|error| printable(&error.message)).filter(|text| !text.is_empty()).collect();
    let message = if texts.is_empty() { String::new() } else { format!(": {}", texts.join(", ")) };
    Words { message, codes: envelope.errors.into_iter().map(|error| error.code).collect() }
}

/// A stranger's text goes to a terminal: one line, no control characters.
fn printable(text: &str) -> String {
    text.trim().chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_WORDS).collect()
}
