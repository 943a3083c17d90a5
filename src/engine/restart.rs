//! Restart policies: when a container that has ended is started again, and how
//! long it waits before. Decisions are pure; the monitor carries them out.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};

/// The first pause between two runs.
const FIRST: Duration = Duration::from_millis(100);
/// The longest: each pause is twice the one before.
const LONGEST: Duration = Duration::from_secs(60);
/// A run of this length makes the next pause the first again.
const SETTLED: Duration = Duration::from_secs(10);
/// The same for one that was ended for being unhealthy.
const SETTLED_UNHEALTHY: Duration = Duration::from_secs(600);

/// After which ends a container is started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Condition {
    /// After none.
    #[default]
    No,
    /// After each, unless it was stopped by hand; after a reboot even then.
    Always,
    /// After an exit code that is not 0.
    OnFailure,
    /// As `always`, but what was stopped by hand stays down after a reboot, too.
    UnlessStopped,
}

/// A restart policy.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct RestartPolicy {
    /// After which ends.
    pub condition: Condition,
    /// How many times at most; 0 for without end.
    pub max_retries: u32,
    /// The pause before each restart; without it, Docker's that grows.
    pub delay: Option<Duration>,
    /// A run of this length was a success: retries are counted anew after it.
    pub window: Option<Duration>,
}

impl Condition {
    /// Docker's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::No => "no",
            Self::Always => "always",
            Self::OnFailure => "on-failure",
            Self::UnlessStopped => "unless-stopped",
        }
    }
}

impl RestartPolicy {
    /// Reads what `--restart` takes: `no`, `always`, `on-failure[:N]`, `unless-stopped`.
    pub fn parse(text: &str) -> Result<Self> {
        let (name, count) = text.split_once(':').map_or((text, None), |(name, count)| (name, Some(count)));
        let condition = match name {
            "no" => Condition::No,
            "always" => Condition::Always,
            "on-failure" => Condition::OnFailure,
            "unless-stopped" => Condition::UnlessStopped,
            "" if count.is_some() => bail!("invalid restart policy format: no policy provided before colon"),
            "" => Condition::No,
            other => bail!(
                "invalid restart policy: unknown policy '{other}'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'"
            ),
        };
        let count = count.filter(|count| !count.is_empty());
        let count: i64 = count
            .map_or(Ok(0), str::parse)
            .context("invalid restart policy format: maximum retry count must be an integer")?;
        if count < 0 {
            bail!("invalid restart policy: maximum retry count cannot be negative");
        }
        if count > 0 && condition != Condition::OnFailure {
            bail!("invalid restart policy: maximum retry count can only be used with 'on-failure'");
        }
        Ok(Self { condition, max_retries: u32::try_from(count).unwrap_or(u32::MAX), ..Self::default() })
    }
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// Its exit code.
    pub code: i32,
    /// How long it was.
    pub lasted: Duration,
    /// Somebody wanted it to end and stay down.
    pub by_hand: bool,
    /// It was ended for being unhealthy, to be started again whatever the policy.
    pub unhealthy: bool,
}

/// What is remembered from one run to the next.
#[derive(Debug, Clone, Default)]
pub struct Backoff {
    pause: Option<Duration>,
    retries: u32,
}

impl Backoff {
    /// As after so many retries, for one that was not there to count them.
    pub fn after_retries(retries: u32) -> Self {
        Self { pause: None, retries }
    }

    /// The pause before the next run; `None` where there shall be none.
    pub fn after(&mut self, policy: &RestartPolicy, ended: Ended) -> Option<Duration> {
        if ended.by_hand {
            return None;
        }
        // It takes a while to become unhealthy: that long a run was not yet a good one.
        if ended.lasted >= if ended.unhealthy { SETTLED_UNHEALTHY } else { SETTLED } {
            self.pause = None;
        }
        if policy.window.is_some_and(|window| ended.lasted >= window) {
            self.retries = 0;
        }
        let wanted = match policy.condition {
            Condition::No => false,
            Condition::Always | Condition::UnlessStopped => true,
            Condition::OnFailure => ended.code != 0,
        };
        let exhausted = policy.max_retries != 0 && self.retries >= policy.max_retries;
        if (!wanted || exhausted) && !ended.unhealthy {
            return None;
        }
        self.retries = self.retries.saturating_add(1);
        let grown = self.pause.map_or(FIRST, |pause| (pause * 2).min(LONGEST));
        self.pause = Some(grown);
        Some(policy.delay.unwrap_or(grown))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Ended = Ended { code: 1, lasted: Duration::from_secs(1), by_hand: false, unhealthy: false };

    fn pauses(policy: &RestartPolicy, runs: &[Ended]) -> Vec<Option<u128>> {
        let mut backoff = Backoff::default();
        runs.iter().map(|ended| backoff.after(policy, *ended).map(|pause| pause.as_millis())).collect()
    }

    #[test]
    fn pauses_double_up_to_a_minute_and_begin_anew_after_a_long_run() {
        let always = RestartPolicy::parse("always").unwrap();
        let mut runs = vec![SHORT; 12];
        runs.push(Ended { lasted: Duration::from_secs(10), ..SHORT });
        let expected = [100, 200, 400, 800, 1600, 3200, 6400, 12800, 25600, 51200, 60000, 60000, 100];
        assert_eq!(pauses(&always, &runs), expected.map(Some));
    }

    #[test]
    fn what_becomes_unhealthy_again_and_again_waits_ever_longer() {
        let no = RestartPolicy::default();
        let sick = |seconds| Ended { unhealthy: true, lasted: Duration::from_secs(seconds), ..SHORT };
        let mut runs = vec![sick(90); 12];
        // After a good while it is another matter.
        runs.push(sick(600));
        let expected = [100, 200, 400, 800, 1600, 3200, 6400, 12800, 25600, 51200, 60000, 60000, 100];
        assert_eq!(pauses(&no, &runs), expected.map(Some));
    }

    #[test]
    fn each_policy_has_its_ends() {
        let fine = Ended { code: 0, ..SHORT };
        let by_hand = Ended { by_hand: true, ..SHORT };
        let restarts = |policy: &str, ended| pauses(&RestartPolicy::parse(policy).unwrap(), &[ended])[0].is_some();
        for (policy, after_fine, after_failure) in
            [("no", false, false), ("always", true, true), ("on-failure", false, true), ("unless-stopped", true, true)]
        {
            assert_eq!((restarts(policy, fine), restarts(policy, SHORT)), (after_fine, after_failure), "{policy}");
            assert!(!restarts(policy, by_hand), "{policy}");
            assert!(restarts(policy, Ended { unhealthy: true, ..SHORT }), "{policy}");
        }
    }

    #[test]
    fn retries_are_bounded_and_a_window_forgives_them() {
        let twice = RestartPolicy::parse("on-failure:2").unwrap();
        assert_eq!(pauses(&twice, &[SHORT; 3]), [Some(100), Some(200), None]);
        let window = RestartPolicy {
            window: Some(Duration::from_secs(5)),
            delay: Some(Duration::from_secs(2)),
            max_retries: 1,
            ..RestartPolicy::parse("always").unwrap()
        };
        let long = Ended { lasted: Duration::from_secs(6), ..SHORT };
        assert_eq!(pauses(&window, &[SHORT, long, SHORT]), [Some(2000), Some(2000), None]);
    }

    #[test]
    fn wrong_policies_are_refused_in_dockers_words() {
        for (text, said) in [
            ("foo", "unknown policy 'foo'"),
            ("always:3", "can only be used with 'on-failure'"),
            ("on-failure:-1", "cannot be negative"),
            ("on-failure:x", "must be an integer"),
            (":3", "no policy provided before colon"),
        ] {
            let error = RestartPolicy::parse(text).unwrap_err().to_string();
            assert!(error.contains(said), "{text}: {error}");
        }
        assert_eq!(RestartPolicy::parse("").unwrap(), RestartPolicy::default());
    }
}
