//! Flags of `docker build` from before BuildKit, and of attestations: scripts
//! still have them. Limits mean what they say; the rest is how it is anyway, or
//! an error where it cannot be.

use anyhow::{Context as _, Result, bail};
use clap::Args;
use umiak_runtime::config::Limits;

use crate::commands::container::flags;
use crate::engine::{builders, roots::Roots};

/// What is not listed.
#[derive(Debug, Clone, Default, Args)]
pub struct Legacy {
    /// The builder: there is one
    #[arg(long, hide = true)]
    builder: Option<String>,
    /// There is nothing more to tell than what is told
    #[arg(short = 'D', long, hide = true)]
    debug: bool,
    /// Contexts are not sent anywhere
    #[arg(long, hide = true)]
    compress: bool,
    /// There are no signatures of that kind
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    disable_content_trust: Option<bool>,
    /// Containers of steps never stay
    #[arg(long, hide = true)]
    force_rm: bool,
    /// Containers of steps never stay
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    rm: Option<bool>,
    /// Windows only
    #[arg(long, hide = true)]
    isolation: Option<String>,
    /// Attestations: none are made
    #[arg(long, hide = true)]
    attest: Vec<String>,
    /// Attestations: none are made
    #[arg(long, hide = true, num_args = 0..=1, default_missing_value = "true")]
    provenance: Option<String>,
    /// Attestations: none are made
    #[arg(long, hide = true, num_args = 0..=1, default_missing_value = "true")]
    sbom: Option<String>,
    /// Memory of each RUN
    #[arg(short, long, hide = true)]
    memory: Option<String>,
    /// Memory and swap of each RUN
    #[arg(long, hide = true)]
    memory_swap: Option<String>,
    /// Relative weight of each RUN
    #[arg(short, long, hide = true)]
    cpu_shares: Option<u64>,
    /// Period of the CPU quota of each RUN, in microseconds
    #[arg(long, hide = true)]
    cpu_period: Option<u64>,
    /// CPU quota of each RUN, in microseconds
    #[arg(long, hide = true)]
    cpu_quota: Option<i64>,
    /// CPUs of each RUN
    #[arg(long, hide = true)]
    cpuset_cpus: Option<String>,
    /// Memory nodes of each RUN
    #[arg(long, hide = true)]
    cpuset_mems: Option<String>,
}

impl Legacy {
    /// Refuses a builder that nobody has made.
    pub fn check(&self, roots: &Roots) -> Result<()> {
        builders::check(roots, self.builder.as_deref())
    }

    /// The limits of RUN.
    pub fn limits(&self) -> Result<Limits> {
        let is_off = |text: &String| matches!(text.as_str(), "false" | "0" | "mode=disabled" | "disabled=true");
        for (flag, value) in [("--provenance", &self.provenance), ("--sbom", &self.sbom)] {
            if value.as_ref().is_some_and(|value| !is_off(value)) {
                bail!("{flag}: attestations are not made: leave it out, or say {flag}=false");
            }
        }
        if !self.attest.is_empty() {
            bail!("--attest: attestations are not made");
        }
        if let Some(isolation) = self.isolation.as_ref().filter(|name| !matches!(name.as_str(), "" | "default")) {
            bail!("--isolation {isolation}: on Linux there is only default");
        }
        let swap = match self.memory_swap.as_deref() {
            None => None,
            Some("-1") => Some(-1),
            Some(text) => {
                let bytes = flags::bytes("--memory-swap", text)?;
                Some(i64::try_from(bytes).with_context(|| format!("--memory-swap {text} is too large"))?)
            }
        };
        Ok(Limits {
            memory: self.memory.as_deref().map(|text| flags::bytes("--memory", text)).transpose()?,
            memory_swap: swap,
            cpu_shares: self.cpu_shares,
            cpu_period: self.cpu_period,
            cpu_quota: self.cpu_quota,
            cpuset_cpus: self.cpuset_cpus.clone().unwrap_or_default(),
            cpuset_mems: self.cpuset_mems.clone().unwrap_or_default(),
            ..Limits::default()
        })
    }
}
