//! When to try again, and how long to wait before.

use std::time::{Duration, SystemTime};

use super::failure::Failure;

/// Times and limits of a [`super::Client`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// How often a request is repeated after the first attempt. Progress of
    /// [`Policy::progress`] bytes starts the count anew.
    pub retries: u32,
    /// The pause before the first repetition; it doubles each time.
    pub first_delay: Duration,
    /// The longest pause.
    pub max_delay: Duration,
    /// The longest `Retry-After` that is waited for; a longer one is an error at once.
    pub max_retry_after: Duration,
    /// How long a TCP and TLS connection may take.
    pub connect: Duration,
    /// How long a registry may take to answer, or to send [`Policy::pace`] bytes.
    pub stall: Duration,
    /// How long a registry may take to keep a blob that it has received.
    pub commit: Duration,
    /// How many bytes of a blob are sent in one request at most.
    pub chunk: u64,
    /// How many bytes must come within [`Policy::stall`].
    pub pace: u64,
    /// How many new bytes of a blob count as progress.
    pub progress: u64,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            retries: 5,
            first_delay: Duration::from_millis(500),
            max_delay: Duration::from_secs(15),
            max_retry_after: Duration::from_secs(60),
            connect: Duration::from_secs(10),
            stall: Duration::from_secs(30),
            commit: Duration::from_secs(300),
            chunk: 64 << 20,
            pace: 16 << 10,
            progress: 256 << 10,
        }
    }
}

/// The attempts made for one request at one registry.
#[derive(Debug, Default)]
pub(super) struct Attempts {
    made: u32,
}

impl Attempts {
    /// How long to wait before the next attempt; `None` to give up.
    ///
    /// `begun` says that the registry has answered before, so that a refused
    /// connection is a restart rather than a wrong address; `last` that there
    /// is no other registry to ask.
    pub(super) fn after(&mut self, failure: &Failure, policy: &Policy, begun: bool, last: bool) -> Option<Duration> {
        let allowed = match failure.is_transient() {
            false => 0,
            true if !begun && failure.is_unreachable() => policy.retries.min(if last { 1 } else { 0 }),
            true if !last => policy.retries.min(1),
            true => policy.retries,
        };
        if self.made >= allowed {
            return None;
        }
        let delay = backoff(policy, self.made, random());
        self.made += 1;
        match failure.retry_after() {
            Some(asked) if asked > policy.max_retry_after => None,
            Some(asked) => Some(asked.max(delay)),
            None => Some(delay),
        }
    }

    /// Forgets past attempts, after progress.
    pub(super) const fn reset(&mut self) {
        self.made = 0;
    }
}

/// Doubling, then between half and all of it, so that clients that failed
/// together do not come back together.
fn backoff(policy: &Policy, made: u32, random: u8) -> Duration {
    let full = policy.first_delay.saturating_mul(1 << made.min(16)).min(policy.max_delay);
    full / 2 + (full / 2).saturating_mul(u32::from(random)) / 255
}

fn random() -> u8 {
    let mut byte = [0_u8; 1];
    match rustix::rand::getrandom(&mut byte, rustix::rand::GetRandomFlags::NONBLOCK) {
        Ok(_) => byte[0],
        // Early at boot. The middle will do.
        Err(_) => 128,
    }
}

/// A `Retry-After` header: seconds, or a date (RFC 9110 §10.2.3).
pub(super) fn parse_retry_after(text: &str, now: SystemTime) -> Option<Duration> {
    let text = text.trim();
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        return Some(Duration::from_secs(text.parse().unwrap_or(u64::MAX)));
    }
    let then = parse_http_date(text)?;
    let now = now.duration_since(SystemTime::UNIX_EPOCH).ok()?.as_secs();
    Some(Duration::from_secs(then.saturating_sub(now)))
}

/// Seconds since the epoch of `Sun, 06 Nov 1994 08:49:37 GMT`.
fn parse_http_date(text: &str) -> Option<u64> {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let (_, rest) = text.split_once(", ")?;
    let parts: Vec<&str> = rest.split(' ').collect();
    let [day, month, year, time, "GMT"] = parts.as_slice() else { return None };
    let month = u64::try_from(MONTHS.iter().position(|name| name == month)?).ok()? + 1;
    let (day, year): (u64, u64) = (day.parse().ok()?, year.parse().ok()?);
    let clock: Vec<u64> = time.split(':').map_while(|part| part.parse().ok()).collect();
    let [hour, minute, second] = clock.as_slice() else { return None };
    let plausible =
        (1970..=9999).contains(&year) && (1..=31).contains(&day) && *hour < 24 && *minute < 60 && *second <= 60;
    plausible.then(|| days(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second)
}

/// Days from 1970-01-01 in the Gregorian calendar; years count from March, so
/// that the leap day is the last.
fn days(year: u64, month: u64, day: u64) -> u64 {
    let year = if month <= 2 { year - 1 } else { year };
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    (year * 365 + year / 4 - year / 100 + year / 400 + of_year).saturating_sub(719_468)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server() -> Failure {
        Failure::Server { host: "h".into(), status: 503, message: String::new(), retry_after: None }
    }

    #[test]
    fn delays_double_up_to_the_longest() {
        let policy = Policy::default();
        let delays: Vec<u128> = (0..8).map(|made| backoff(&policy, made, 255).as_millis()).collect();
        assert_eq!(delays, [500, 1000, 2000, 4000, 8000, 15_000, 15_000, 15_000]);
        assert_eq!(backoff(&policy, 0, 0), Duration::from_millis(250));
    }

    #[test]
    fn retries_are_bounded() {
        let policy = Policy { retries: 3, ..Policy::default() };
        let count = |failure: &Failure, begun, last| {
            let mut attempts = Attempts::default();
            (0..100).take_while(|_| attempts.after(failure, &policy, begun, last).is_some()).count()
        };
        assert_eq!(count(&server(), false, true), 3);
        assert_eq!(count(&server(), false, false), 1, "with another registry at hand");
        let refused = Failure::Refused { address: "h:1".into() };
        assert_eq!(count(&refused, false, true), 1);
        assert_eq!(count(&refused, false, false), 0);
        assert_eq!(count(&refused, true, true), 3, "a registry that restarts in the middle of a pull");
        assert_eq!(count(&Failure::BlobUnknown { host: "h".into() }, true, true), 0);
    }

    #[test]
    fn retry_after_is_honoured_but_not_for_ever() {
        let policy = Policy::default();
        let limited = |seconds| Failure::RateLimited {
            host: "h".into(),
            message: String::new(),
            retry_after: Some(Duration::from_secs(seconds)),
        };
        assert_eq!(Attempts::default().after(&limited(7), &policy, true, true), Some(Duration::from_secs(7)));
        assert!(Attempts::default().after(&limited(0), &policy, true, true) >= Some(Duration::from_millis(250)));
        assert_eq!(Attempts::default().after(&limited(3600), &policy, true, true), None);
    }

    #[test]
    fn retry_after_parses() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        for (text, expected) in [
            ("120", Some(120)),
            (" 0 ", Some(0)),
            ("99999999999999999999999", Some(u64::MAX)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(0)),
            ("Sun, 06 Nov 1994 08:50:07 GMT", Some(30)),
            ("Sat, 05 Nov 1994 08:49:37 GMT", Some(0)),
            ("Tue, 29 Feb 2028 00:00:00 GMT", Some(1_835_395_200 - 784_111_777)),
            ("", None),
            ("-1", None),
            ("soon", None),
            ("Sun, 06 Nov 1994", None),
            ("Sun, 99 Foo 1994 08:49:37 GMT", None),
        ] {
            assert_eq!(parse_retry_after(text, now).map(|wait| wait.as_secs()), expected, "{text:?}");
        }
    }
}
