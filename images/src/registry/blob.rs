//! Blobs: streamed to the caller's thread, taken up again where they broke off.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use bytes::Bytes;
use reqwest::StatusCode;
use reqwest::header::{ACCEPT_ENCODING, CONTENT_RANGE, HeaderMap, HeaderValue, RANGE};
use tokio::sync::{Semaphore, oneshot};

use super::answer::Asked;
use super::body::{Body, len};
use super::failure::{Attempt, Failure, one_line};
use super::manifests::give_up;
use super::retry::Attempts;
use super::transport::Answer;
use super::{BlobSink, Client, Core, RegistryError, Retry};
use crate::manifest::Descriptor;
use crate::reference::Reference;
use crate::registries::Endpoint;

/// How many bytes may wait between the network and a slow sink.
const BUFFER: usize = 4 << 20;
/// How often a sink is asked whether it still wants the blob.
const CANCEL_POLL: Duration = Duration::from_millis(100);

enum Event {
    Bytes(Bytes),
    Retry(Retry),
    End(Result<(), RegistryError>),
}

/// Runs on the caller's thread.
pub(super) fn fetch(
    client: &Client,
    reference: &Reference,
    descriptor: &Descriptor,
    from: u64,
    sink: &mut dyn BlobSink,
) -> Result<(), RegistryError> {
    let (events, queue) = channel();
    let room = Arc::new(Semaphore::new(BUFFER));
    // Dropped when this function ends, which ends the network side too.
    let (_listening, hung_up) = oneshot::channel::<()>();
    let core = Arc::clone(&client.core);
    let transfer = Transfer {
        reference: reference.clone(),
        descriptor: descriptor.clone(),
        position: from,
        ranges: true,
        answered: false,
        pipe: Pipe { events: events.clone(), room: Arc::clone(&room) },
    };
    client.worker.spawn(move || async move {
        let end = tokio::select! {
            end = transfer.run(&core) => end,
            _ = hung_up => Ok(()),
        };
        // Nobody listens any more after a hang-up.
        drop(events.send(Event::End(end)));
    })?;
    drain(&queue, &room, reference, descriptor, sink)
}

fn drain(
    queue: &Receiver<Event>,
    room: &Semaphore,
    reference: &Reference,
    descriptor: &Descriptor,
    sink: &mut dyn BlobSink,
) -> Result<(), RegistryError> {
    let digest = || descriptor.digest.clone();
    loop {
        if sink.cancelled() {
            return Err(RegistryError::Cancelled { digest: digest() });
        }
        match queue.recv_timeout(CANCEL_POLL) {
            Ok(Event::Bytes(bytes)) => {
                sink.write(&bytes).map_err(|source| RegistryError::Sink {
                    reference: reference.familiar(),
                    digest: digest(),
                    source,
                })?;
                room.add_permits(bytes.len().min(BUFFER));
            }
            Ok(Event::Retry(retry)) => sink.retrying(&retry),
            Ok(Event::End(end)) => return end,
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Err(RegistryError::ThreadEnded),
        }
    }
}

/// To the caller's thread.
struct Pipe {
    events: Sender<Event>,
    room: Arc<Semaphore>,
}

impl Pipe {
    /// Hands bytes over once there is room for them. Breaks when nobody listens.
    async fn bytes(&self, bytes: Bytes) -> ControlFlow<()> {
        let wanted = u32::try_from(bytes.len().min(BUFFER)).unwrap_or(u32::MAX);
        match self.room.acquire_many(wanted).await {
            Ok(permit) => permit.forget(),
            Err(_) => return ControlFlow::Break(()),
        }
        self.send(Event::Bytes(bytes))
    }

    fn send(&self, event: Event) -> ControlFlow<()> {
        if self.events.send(event).is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    }
}

/// One blob on its way.
struct Transfer {
    reference: Reference,
    descriptor: Descriptor,
    /// The next byte to hand over. It holds across connections and registries,
    /// because the content is the same everywhere; the digest has the last word.
    position: u64,
    /// Whether the current registry serves ranges as it should.
    ranges: bool,
    /// Whether the current registry has answered with content before.
    answered: bool,
    pipe: Pipe,
}

impl Transfer {
    /// Runs on the network thread.
    async fn run(mut self, core: &Core) -> Result<(), RegistryError> {
        let endpoints = core.registries.endpoints(self.reference.registry());
        let mut failures = Vec::new();
        for (index, endpoint) in endpoints.iter().enumerate() {
            (self.ranges, self.answered) = (true, false);
            match self.attempts(core, endpoint, index + 1 == endpoints.len()).await {
                Ok(()) => return Ok(()),
                Err(failure) => failures.push(Attempt { registry: endpoint.name().to_owned(), failure }),
            }
        }
        let what = format!("{} of {}", self.descriptor.digest, self.reference.familiar());
        Err(give_up(failures, &what, |registry, source| RegistryError::Blob {
            reference: self.reference.familiar(),
            digest: self.descriptor.digest.clone(),
            registry,
            source,
        }))
    }

    /// All attempts at one registry.
    async fn attempts(&mut self, core: &Core, endpoint: &Endpoint, last: bool) -> Result<(), Failure> {
        let mut attempts = Attempts::default();
        let mut mark = self.position;
        loop {
            let failure = match self.attempt(core, endpoint).await {
                Ok(_) => return Ok(()),
                Err(failure) => failure,
            };
            if self.position - mark >= core.policy.progress {
                mark = self.position;
                attempts.reset();
            }
            let Some(wait) = attempts.after(&failure, &core.policy, self.answered, last) else {
                return Err(failure);
            };
            let retry = Retry { registry: endpoint.name().to_owned(), reason: one_line(&failure), wait };
            if self.pipe.send(Event::Retry(retry)).is_break() {
                return Ok(());
            }
            tokio::time::sleep(wait).await;
        }
    }

    /// One request. Breaks when nobody listens any more.
    async fn attempt(&mut self, core: &Core, endpoint: &Endpoint) -> Result<ControlFlow<()>, Failure> {
        let path = format!("/v2/{}/blobs/{}", self.reference.repository(), self.descriptor.digest);
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        let ranged = self.ranges && self.position > 0;
        if ranged {
            let range = HeaderValue::from_str(&format!("bytes={}-", self.position));
            headers.extend(range.ok().map(|range| (RANGE, range)));
        }
        let answer = core.get(endpoint, self.reference.repository(), &path, &headers, Asked::Blob).await;
        let answer = match answer {
            // Range not satisfiable: the next attempt is for the whole.
            Err(Failure::Status { host, status: 416, .. }) if ranged => return Err(self.no_ranges(host, "nothing")),
            other => other?,
        };
        let skip = self.check(&answer, ranged)?;
        self.answered = true;
        self.copy(Body::new(answer, &core.policy), skip).await
    }

    /// How many bytes at the start of the body have been handed over already.
    fn check(&mut self, answer: &Answer, ranged: bool) -> Result<u64, Failure> {
        let host = || answer.host.clone();
        let (size, length) = (self.descriptor.size, answer.response.content_length());
        if answer.status() == StatusCode::PARTIAL_CONTENT {
            let found = answer.header(CONTENT_RANGE).unwrap_or_default();
            return match parse_range(found) {
                Some((start, total)) if ranged && start == self.position && total.is_none_or(|total| total == size) => {
                    Ok(0)
                }
                _ => Err(self.no_ranges(host(), found)),
            };
        }
        match length.filter(|length| *length != size) {
            Some(found) => Err(Failure::Length { host: host(), found, size }),
            None => Ok(self.position),
        }
    }

    fn no_ranges(&mut self, host: String, found: &str) -> Failure {
        self.ranges = false;
        Failure::Range { host, asked: self.position, found: found.chars().take(100).collect() }
    }

    async fn copy(&mut self, mut body: Body<'_>, mut skip: u64) -> Result<ControlFlow<()>, Failure> {
        let size = self.descriptor.size;
        loop {
            let Some(mut chunk) = body.next().await? else { break };
            let skipped = skip.min(len(&chunk));
            skip -= skipped;
            chunk = chunk.split_off(usize::try_from(skipped).unwrap_or(usize::MAX).min(chunk.len()));
            if chunk.is_empty() {
                continue;
            }
            if self.position + len(&chunk) > size {
                return Err(Failure::Excess { host: body.host(), size });
            }
            self.position += len(&chunk);
            if self.pipe.bytes(chunk).await.is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        if self.position == size {
            return Ok(ControlFlow::Continue(()));
        }
        Err(Failure::Ended { host: body.host(), received: self.position, size })
    }
}

/// First byte and total of `bytes 5-9/10` or `bytes 5-9/*`.
fn parse_range(text: &str) -> Option<(u64, Option<u64>)> {
    let (span, total) = text.trim().strip_prefix("bytes ")?.trim().split_once('/')?;
    let (first, last) = span.split_once('-')?;
    let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
    let total = if total == "*" { None } else { Some(total.parse().ok()?) };
    (first <= last && total.is_none_or(|total| last < total)).then_some((first, total))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_range_parses() {
        for (text, expected) in [
            ("bytes 5-9/10", Some((5, Some(10)))),
            ("bytes 5-9/*", Some((5, None))),
            ("bytes 0-0/1", Some((0, Some(1)))),
            ("bytes 9-5/10", None),
            ("bytes 5-10/10", None),
            ("bytes */10", None),
            ("bytes 5-/10", None),
            ("bytes -5/10", None),
            ("items 5-9/10", None),
            ("5-9/10", None),
            ("", None),
        ] {
            assert_eq!(parse_range(text), expected, "{text:?}");
        }
    }
}
