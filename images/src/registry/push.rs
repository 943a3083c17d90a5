//! Uploads: blobs that a repository does not have yet, and manifests.
//!
//! A blob is looked for first, then asked for from another repository of the
//! same registry, and only then sent: in one request when it is small, else in
//! parts, each as long as [`super::Policy::chunk`]. When the connection breaks,
//! the registry says how much it has and the rest follows; where it has
//! forgotten the upload, a new one is begun. The content is hashed as it is
//! read, and the request that makes a blob visible is only made when the hash
//! is right.

use std::fs::File;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{CONTENT_RANGE, CONTENT_TYPE, HeaderMap, HeaderValue, LOCATION, RANGE};
use reqwest::{Method, Url};
use tokio::sync::oneshot;

use super::answer::Asked;
use super::failure::{Failure, one_line};
use super::payload::{Content, Payload};
use super::retry::Attempts;
use super::token::Access;
use super::transport::{Answer, Call, target};
use super::{Client, Core, RegistryError, Retry};
use crate::digest::Digest;
use crate::manifest::Descriptor;
use crate::reference::Reference;
use crate::registries::Endpoint;

/// A blob up to this size is read at once and sent in one request.
const SMALL: u64 = 1 << 20;
/// From how many other repositories a blob is asked for.
const MOUNTS: usize = 3;
/// How often whoever waits for an upload is asked whether it is still wanted.
const CANCEL_POLL: Duration = Duration::from_millis(100);

/// Watches the upload of one blob.
pub trait UploadWatch {
    /// So many bytes of the blob have been sent.
    fn sent(&mut self, _bytes: u64) {}

    /// A pause after a failure.
    fn retrying(&mut self, _retry: &Retry) {}

    /// Asked several times a second; `true` ends the upload.
    fn cancelled(&self) -> bool {
        false
    }
}

/// How a repository came by a blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Uploaded {
    /// It had it.
    Existed,
    /// From another repository of the registry.
    Mounted {
        /// The other repository, without the registry.
        from: String,
    },
    /// It was sent.
    Sent,
}

enum Event {
    Sent(u64),
    Retry(Retry),
    End(Result<Uploaded, RegistryError>),
}

/// Runs on the caller's thread.
pub(super) fn upload(
    client: &Client,
    reference: &Reference,
    descriptor: &Descriptor,
    file: File,
    mounts: &[String],
    watch: &mut dyn UploadWatch,
) -> Result<Uploaded, RegistryError> {
    let (events, queue) = channel();
    // Dropped when this function ends, which ends the network side too.
    let (_listening, hung_up) = oneshot::channel::<()>();
    let core = Arc::clone(&client.core);
    let sent = events.clone();
    // Nobody listens any more after a hang-up.
    let content = Content::new(file, move |bytes| drop(sent.send(Event::Sent(bytes))));
    let upload = Upload {
        reference: reference.clone(),
        descriptor: descriptor.clone(),
        content: Arc::new(content),
        mounts: mounts.iter().filter(|from| *from != reference.repository()).take(MOUNTS).cloned().collect(),
        session: None,
        position: 0,
        looked: false,
        finishing: false,
        in_one: false,
        refused: false,
        events: events.clone(),
    };
    client.worker.spawn(move || async move {
        tokio::select! {
            end = upload.run(&core) => drop(events.send(Event::End(end))),
            _ = hung_up => {}
        };
    })?;
    drain(&queue, &descriptor.digest, watch)
}

fn drain(queue: &Receiver<Event>, digest: &Digest, watch: &mut dyn UploadWatch) -> Result<Uploaded, RegistryError> {
    loop {
        if watch.cancelled() {
            return Err(RegistryError::Cancelled { digest: digest.clone() });
        }
        match queue.recv_timeout(CANCEL_POLL) {
            Ok(Event::Sent(bytes)) => watch.sent(bytes),
            Ok(Event::Retry(retry)) => watch.retrying(&retry),
            Ok(Event::End(end)) => return end,
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Err(RegistryError::ThreadEnded),
        }
    }
}

/// Why an attempt ended.
enum Stop {
    /// On the registry's side.
    Failure(Failure),
    /// On ours: another attempt would end the same way.
    Ours(RegistryError),
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

/// One blob on its way.
struct Upload {
    reference: Reference,
    descriptor: Descriptor,
    content: Arc<Content>,
    /// Repositories that may have the blob and have not been tried.
    mounts: Vec<String>,
    /// Where the rest goes to.
    session: Option<Url>,
    /// How much the registry has of it.
    position: u64,
    /// The repository was asked whether it has the blob.
    looked: bool,
    /// The last request was made, whose answer may have been lost.
    finishing: bool,
    /// The registry does not take an upload in parts.
    in_one: bool,
    /// The registry has refused a whole upload before.
    refused: bool,
    events: Sender<Event>,
}

impl Upload {
    /// Runs on the network thread.
    async fn run(mut self, core: &Core) -> Result<Uploaded, RegistryError> {
        let endpoint = core.writable(&self.reference)?;
        let mut attempts = Attempts::default();
        let (mut mark, mut begun) = (0, false);
        loop {
            let failure = match self.attempt(core, &endpoint).await {
                Ok(end) => return Ok(end),
                Err(Stop::Ours(error)) => return Err(error),
                Err(Stop::Failure(failure)) => failure,
            };
            if let Some(source) = self.content.fault() {
                return Err(RegistryError::Unreadable { digest: self.descriptor.digest.clone(), source });
            }
            // Only what no attempt has reached before is progress: an upload that is begun anew again and again ends.
            if self.position > mark + core.policy.progress {
                mark = self.position;
                attempts.reset();
            }
            if self.session.is_some() && !begun {
                begun = true;
                attempts.reset();
            }
            let Some(wait) = attempts.after(&failure, &core.policy, self.looked, true) else {
                return Err(self.failed(&endpoint, failure));
            };
            let retry = Retry { registry: endpoint.name().to_owned(), reason: one_line(&failure), wait };
            drop(self.events.send(Event::Retry(retry)));
            tokio::time::sleep(wait).await;
        }
    }

    fn failed(&self, endpoint: &Endpoint, failure: Failure) -> RegistryError {
        RegistryError::Push {
            what: self.descriptor.digest.to_string(),
            reference: self.reference.familiar(),
            registry: endpoint.name().to_owned(),
            source: Box::new(failure),
        }
    }

    async fn attempt(&mut self, core: &Core, endpoint: &Endpoint) -> Result<Uploaded, Stop> {
        let repository = self.reference.repository().to_owned();
        let access = Access::write(endpoint, &repository);
        if !self.looked || self.finishing {
            let found = core.exists(&access, &format!("blobs/{}", self.descriptor.digest)).await?;
            self.looked = true;
            if found {
                return Ok(if self.finishing { Uploaded::Sent } else { Uploaded::Existed });
            }
            self.finishing = false;
        }
        if let Some(session) = self.session.clone() {
            match self.resume(core, &access, &session).await {
                // Registries may forget an upload that broke off: the next begins at once.
                Err(_) if self.session.is_none() => {}
                other => other?,
            }
        }
        if self.session.is_none()
            && let Some(from) = self.begin(core, &access).await?
        {
            return Ok(Uploaded::Mounted { from });
        }
        self.send(core, &access).await?;
        Ok(Uploaded::Sent)
    }

    /// Asks other repositories for the blob, and begins an upload when none has it.
    async fn begin(&mut self, core: &Core, access: &Access<'_>) -> Result<Option<String>, Stop> {
        self.position = 0;
        loop {
            let from = (!self.mounts.is_empty()).then(|| self.mounts.remove(0));
            let mut url =
                core.transport.url(access.endpoint, &format!("/v2/{}/blobs/uploads/", access.repository)).await?;
            if let Some(from) = &from {
                let digest = self.descriptor.digest.as_str();
                url.query_pairs_mut().append_pair("mount", digest).append_pair("from", from);
            }
            let allowed = Access { from: from.as_deref(), ..*access };
            let answer = match (core.post(&allowed, &url).await, &from) {
                // A repository that we may not read is none to mount from.
                (Err(Failure::Denied { .. } | Failure::WrongCredentials { .. }), Some(_)) => continue,
                (answer, _) => answer?,
            };
            if let (201, Some(from)) = (answer.status().as_u16(), &from) {
                return Ok(Some(from.clone()));
            }
            let session = location(&answer, &url)?;
            if self.mounts.is_empty() {
                self.session = Some(session);
                return Ok(None);
            }
            core.cancel(access, &session).await;
        }
    }

    /// Asks how much of the upload has arrived.
    async fn resume(&mut self, core: &Core, access: &Access<'_>, session: &Url) -> Result<(), Stop> {
        let headers = HeaderMap::new();
        let call = Call { method: Method::GET, headers: &headers, payload: None };
        let answer = match core.call(access, session, &call, Asked::Upload).await {
            Ok(answer) => answer,
            Err(failure) => return Err(self.lost(failure)),
        };
        let sent = self.content.read();
        match received(&answer) {
            Some(position) if position <= sent => self.position = position,
            _ => return Err(self.lost(self.strange(&answer, sent))),
        }
        self.session = Some(location(&answer, session).unwrap_or_else(|_| session.clone()));
        Ok(())
    }

    /// Makes a new beginning where a registry no longer goes on with an upload.
    fn lost(&mut self, failure: Failure) -> Stop {
        let begin_anew = matches!(
            failure,
            Failure::UploadUnknown { .. }
                | Failure::UploadRefused { .. }
                | Failure::UploadRange { .. }
                | Failure::Status { .. }
        );
        if begin_anew {
            self.session = None;
            self.position = 0;
        }
        match failure {
            // The same again would be refused again; a new upload may not be.
            Failure::Status { host, message, .. } => Failure::UploadRefused { host, message }.into(),
            other => other.into(),
        }
    }

    fn strange(&self, answer: &Answer, sent: u64) -> Failure {
        let found = answer.header(RANGE).unwrap_or_default().chars().take(100).collect();
        Failure::UploadRange { host: answer.host.clone(), found, sent }
    }

    /// Sends what is missing, and makes the blob visible.
    async fn send(&mut self, core: &Core, access: &Access<'_>) -> Result<(), Stop> {
        let size = self.descriptor.size;
        let payload = if size <= SMALL && self.position == 0 {
            let bytes = self.content.whole(size).map_err(|source| self.unreadable(source))?;
            self.verify()?;
            drop(self.events.send(Event::Sent(size)));
            Payload::Bytes(bytes)
        } else {
            while self.position < size {
                self.part(core, access).await?;
            }
            if let Err(stop) = self.verify() {
                if let Some(session) = &self.session {
                    core.cancel(access, session).await;
                }
                return Err(stop);
            }
            Payload::Bytes(Bytes::new())
        };
        self.finish(core, access, &payload).await
    }

    fn unreadable(&self, source: std::io::Error) -> Stop {
        Stop::Ours(RegistryError::Unreadable { digest: self.descriptor.digest.clone(), source })
    }

    fn verify(&self) -> Result<(), Stop> {
        let verified = self.content.verify(&self.descriptor.digest, self.descriptor.size);
        verified
            .map(drop)
            .map_err(|source| Stop::Ours(RegistryError::Damaged { digest: self.descriptor.digest.clone(), source }))
    }

    /// Sends the next part.
    async fn part(&mut self, core: &Core, access: &Access<'_>) -> Result<(), Stop> {
        let (from, size) = (self.position, self.descriptor.size);
        let Some(session) = self.session.clone() else { return Err(self.no_session(access)) };
        let end = if self.in_one { size } else { size.min(from.saturating_add(core.policy.chunk.max(1))) };
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        if from > 0 || end < size {
            let range = HeaderValue::from_str(&format!("{from}-{}", end - 1));
            headers.extend(range.ok().map(|range| (CONTENT_RANGE, range)));
        }
        let payload = Payload::part(&self.content, from, end);
        let call = Call { method: Method::PATCH, headers: &headers, payload: Some(&payload) };
        let answer = match core.call(access, &session, &call, Asked::Upload).await {
            Ok(answer) => answer,
            Err(Failure::Status { host, message, .. }) if !self.in_one && end - from < size => {
                self.in_one = true;
                return Err(self.lost(Failure::UploadRefused { host, message }));
            }
            Err(failure @ (Failure::UploadUnknown { .. } | Failure::UploadRefused { .. })) => {
                return Err(self.lost(failure));
            }
            Err(failure) => return Err(failure.into()),
        };
        self.session = Some(location(&answer, &session)?);
        self.position = match received(&answer) {
            Some(position) if position > end || position <= from => return Err(self.lost(self.strange(&answer, end))),
            Some(position) => position,
            // Not said: then it is all.
            None => end,
        };
        Ok(())
    }

    async fn finish(&mut self, core: &Core, access: &Access<'_>, payload: &Payload) -> Result<(), Stop> {
        let Some(mut url) = self.session.clone() else { return Err(self.no_session(access)) };
        url.query_pairs_mut().append_pair("digest", self.descriptor.digest.as_str());
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        let call = Call { method: Method::PUT, headers: &headers, payload: Some(payload) };
        self.finishing = true;
        match core.call(access, &url, &call, Asked::Upload).await {
            Ok(_) => Ok(()),
            // The content is right here; that it got lost on the way is worth one more try.
            Err(failure @ Failure::UploadRefused { .. }) if self.refused => {
                Err(Stop::Ours(self.failed(access.endpoint, failure)))
            }
            Err(failure) => {
                self.refused |= matches!(failure, Failure::UploadRefused { .. });
                Err(self.lost(failure))
            }
        }
    }

    fn no_session(&self, access: &Access<'_>) -> Stop {
        Failure::NoLocation { host: access.endpoint.authority.clone() }.into()
    }
}

impl Core {
    /// The registry itself: mirrors take nothing.
    fn writable(&self, reference: &Reference) -> Result<Endpoint, RegistryError> {
        let registry = reference.registry();
        let mut endpoints = self.registries.endpoints(registry).into_iter();
        let own = endpoints.find(|endpoint| !endpoint.mirror);
        own.ok_or_else(|| RegistryError::MirrorOnly { registry: registry.to_owned() })
    }

    /// Whether a repository has a blob or manifest.
    async fn exists(&self, access: &Access<'_>, what: &str) -> Result<bool, Failure> {
        let url = self.transport.url(access.endpoint, &format!("/v2/{}/{what}", access.repository)).await?;
        let mut headers = HeaderMap::new();
        for media_type in crate::manifest::ACCEPTED {
            headers.append(reqwest::header::ACCEPT, HeaderValue::from_static(media_type));
        }
        let call = Call { method: Method::HEAD, headers: &headers, payload: None };
        match self.call(access, &url, &call, Asked::Blob).await {
            Ok(_) => Ok(true),
            Err(Failure::BlobUnknown { .. } | Failure::RepositoryUnknown { .. }) => Ok(false),
            Err(failure) => Err(failure),
        }
    }

    async fn post(&self, access: &Access<'_>, url: &Url) -> Result<Answer, Failure> {
        let (headers, nothing) = (HeaderMap::new(), Payload::Bytes(Bytes::new()));
        let call = Call { method: Method::POST, headers: &headers, payload: Some(&nothing) };
        self.call(access, url, &call, Asked::Upload).await
    }

    /// Gives an upload up. A registry that does not hear of it forgets it by itself after a while.
    async fn cancel(&self, access: &Access<'_>, session: &Url) {
        let headers = HeaderMap::new();
        let call = Call { method: Method::DELETE, headers: &headers, payload: None };
        if let Err(failure) = self.call(access, session, &call, Asked::Upload).await {
            tracing::debug!(%failure, "an upload could not be cancelled");
        }
    }

    /// Something at one registry, with retries.
    pub(super) async fn patiently<T>(
        &self,
        endpoint: &Endpoint,
        one: impl AsyncFn() -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let mut attempts = Attempts::default();
        loop {
            let failure = match one().await {
                Ok(done) => return Ok(done),
                Err(failure) => failure,
            };
            match attempts.after(&failure, &self.policy, false, true) {
                Some(wait) => {
                    tracing::info!(registry = endpoint.name(), %failure, ?wait, "trying again");
                    tokio::time::sleep(wait).await;
                }
                None => return Err(failure),
            }
        }
    }

    pub(super) async fn has_manifest(&self, reference: &Reference) -> Result<bool, RegistryError> {
        let endpoint = self.writable(reference)?;
        let access = Access::write(&endpoint, reference.repository());
        let what = format!("manifests/{}", reference.selector());
        let found = self.patiently(&endpoint, async || self.exists(&access, &what).await).await;
        found.map_err(|failure| manifest_error(reference, &endpoint, failure))
    }

    pub(super) async fn put_manifest(
        &self,
        reference: &Reference,
        media_type: &str,
        bytes: Bytes,
    ) -> Result<(), RegistryError> {
        let endpoint = self.writable(reference)?;
        let access = Access::write(&endpoint, reference.repository());
        let path = format!("/v2/{}/manifests/{}", reference.repository(), reference.selector());
        let payload = Payload::Bytes(bytes);
        let put = async || {
            let url = self.transport.url(&endpoint, &path).await?;
            let mut headers = HeaderMap::new();
            headers.extend(HeaderValue::from_str(media_type).ok().map(|value| (CONTENT_TYPE, value)));
            let call = Call { method: Method::PUT, headers: &headers, payload: Some(&payload) };
            self.call(&access, &url, &call, Asked::Manifest(reference.selector())).await
        };
        let put = self.patiently(&endpoint, put).await;
        put.map(drop).map_err(|failure| manifest_error(reference, &endpoint, failure))
    }
}

fn manifest_error(reference: &Reference, endpoint: &Endpoint, failure: Failure) -> RegistryError {
    RegistryError::Push {
        what: "the manifest".to_owned(),
        reference: reference.familiar(),
        registry: endpoint.name().to_owned(),
        source: Box::new(failure),
    }
}

/// Where an upload goes on.
fn location(answer: &Answer, from: &Url) -> Result<Url, Failure> {
    match answer.header(LOCATION) {
        Some(location) => target(from, location),
        None => Err(Failure::NoLocation { host: answer.host.clone() }),
    }
}

/// How many bytes an upload has, by its `Range: 0-N`, whose end counts too.
fn received(answer: &Answer) -> Option<u64> {
    parse_received(answer.header(RANGE)?)
}

fn parse_received(text: &str) -> Option<u64> {
    let span = text.trim();
    let span = span.strip_prefix("bytes=").or_else(|| span.strip_prefix("bytes ")).unwrap_or(span);
    let last: u64 = span.strip_prefix("0-")?.parse().ok()?;
    // Registries say so of nothing at all; of one byte, too, which is then sent again.
    if last == 0 { Some(0) } else { last.checked_add(1) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_registry_has_is_read_from_its_range() {
        for (text, expected) in [
            ("0-0", Some(0)),
            ("0-99", Some(100)),
            ("bytes=0-99", Some(100)),
            ("bytes 0-99", Some(100)),
            ("0-18446744073709551615", None),
            ("1-99", None),
            ("99", None),
            ("0--1", None),
            ("", None),
        ] {
            assert_eq!(parse_received(text), expected, "{text:?}");
        }
    }
}
