//! Reading bodies: never more than allowed, never slower than allowed.

use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::time::timeout;

use super::failure::{Failure, classify};
use super::retry::Policy;
use super::transport::Answer;

/// A body that must keep a pace. Only the time spent waiting for the network counts.
#[derive(Debug)]
pub(super) struct Body<'a> {
    answer: Answer,
    policy: &'a Policy,
    waited: Duration,
    read: u64,
}

impl<'a> Body<'a> {
    pub(super) const fn new(answer: Answer, policy: &'a Policy) -> Self {
        Self { answer, policy, waited: Duration::ZERO, read: 0 }
    }

    /// Who sends it.
    pub(super) fn host(&self) -> String {
        self.answer.host.clone()
    }

    /// The next bytes; `None` at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, Failure> {
        let stall = self.policy.stall;
        let start = Instant::now();
        let Ok(chunk) = timeout(stall.saturating_sub(self.waited), self.answer.response.chunk()).await else {
            return Err(Failure::Stalled { host: self.host(), seconds: stall.as_secs() });
        };
        let chunk = chunk.map_err(|error| classify(error, self.host(), self.policy.connect))?;
        self.waited += start.elapsed();
        self.read += chunk.as_ref().map_or(0, |chunk| len(chunk));
        if self.read >= self.policy.pace {
            (self.waited, self.read) = (Duration::ZERO, 0);
        }
        Ok(chunk)
    }

    /// The whole body, at most `limit` bytes of it.
    pub(super) async fn whole(mut self, limit: u64) -> Result<Vec<u8>, Failure> {
        let too_large = || Failure::TooLarge { host: self.answer.host.clone(), limit };
        if self.answer.response.content_length().is_some_and(|length| length > limit) {
            return Err(too_large());
        }
        let mut bytes = Vec::new();
        let deadline = Instant::now() + self.policy.stall * 2;
        while let Some(chunk) = self.next().await? {
            if len(&bytes) + len(&chunk) > limit {
                return Err(Failure::TooLarge { host: self.host(), limit });
            }
            if Instant::now() > deadline {
                return Err(Failure::Stalled { host: self.host(), seconds: self.policy.stall.as_secs() * 2 });
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    }
}

pub(super) fn len(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}
