//! The `--health-*` flags of `container run`.

use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use clap::Args;

use crate::engine::health::Healthcheck;
use crate::failure::Coded;
use crate::personality::Personality;

/// How the container's health is checked.
#[derive(Debug, Args)]
pub struct HealthFlags {
    /// Command to run to check health
    #[arg(long, value_name = "COMMAND")]
    health_cmd: Option<String>,
    /// Time between running the check (ms|s|m|h)
    #[arg(long, value_name = "DURATION", allow_hyphen_values = true)]
    health_interval: Option<String>,
    /// Consecutive failures needed to report unhealthy
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    health_retries: Option<i64>,
    /// Start period for the container to initialize before counting failures (ms|s|m|h)
    #[arg(long, value_name = "DURATION", allow_hyphen_values = true)]
    health_start_period: Option<String>,
    /// Time between running the check during the start period (ms|s|m|h)
    #[arg(long, value_name = "DURATION", allow_hyphen_values = true)]
    health_start_interval: Option<String>,
    /// Maximum time to allow one check to run (ms|s|m|h)
    #[arg(long, value_name = "DURATION", allow_hyphen_values = true)]
    health_timeout: Option<String>,
    /// Disable any container-specified HEALTHCHECK
    #[arg(long)]
    no_healthcheck: bool,
}

impl HealthFlags {
    /// What replaces the image's health check, field by field; `None` where no flag was given.
    pub fn request(&self) -> Result<Option<Healthcheck>> {
        let asked = Healthcheck {
            test: self.health_cmd.iter().filter(|text| !text.is_empty()).flat_map(|text| shell(text)).collect(),
            interval: span("health-interval", self.health_interval.as_deref())?,
            timeout: span("health-timeout", self.health_timeout.as_deref())?,
            start_period: span("health-start-period", self.health_start_period.as_deref())?,
            start_interval: span("health-start-interval", self.health_start_interval.as_deref())?,
            retries: self.retries()?,
            ..Healthcheck::default()
        };
        asked.check()?;
        let given = asked != Healthcheck::default();
        if self.no_healthcheck {
            if given {
                return Err(wrong("--no-healthcheck conflicts with --health-* options"));
            }
            return Ok(Some(Healthcheck { test: vec!["NONE".into()], ..Healthcheck::default() }));
        }
        Ok(given.then_some(asked))
    }

    fn retries(&self) -> Result<u32> {
        u32::try_from(self.health_retries.unwrap_or(0)).map_err(|_| wrong("--health-retries cannot be negative"))
    }
}

/// What Docker's client says, and not its daemon.
fn wrong(what: &str) -> anyhow::Error {
    match Personality::current() {
        Personality::Docker => {
            let text = format!("docker: {what}\n\nRun 'docker run --help' for more information");
            Coded { text, code: 125 }.into()
        }
        Personality::Own | Personality::Compose => anyhow!("{what}"),
    }
}

fn shell(text: &str) -> [String; 2] {
    ["CMD-SHELL".to_owned(), text.to_owned()]
}

fn span(flag: &str, text: Option<&str>) -> Result<Duration> {
    let Some(text) = text else { return Ok(Duration::ZERO) };
    if text.starts_with('-') {
        return Err(wrong(&format!("--{flag} cannot be negative")));
    }
    umiak_compose::units::parse_duration(text)
        .map_err(|error| anyhow!(error))
        .with_context(|| format!("--{flag}: {text}"))
}
