//! `container update`: other limits and another restart policy for containers
//! that are there, without recreating them.

use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Args;
use umiak_runtime::config::Limits;

use super::flags::{bytes, size_text};
use super::host_flags::warn_of_missing;
use super::lifecycle::each;
use crate::commands::Context;
use crate::engine::restart::{Condition, RestartPolicy};
use crate::engine::{Container, events};
use crate::failure::Plain;

/// Update the configuration of containers.
#[derive(Debug, Args)]
pub struct Update {
    /// Block I/O weight, 10 to 1000
    #[arg(long, value_name = "WEIGHT")]
    blkio_weight: Option<u16>,
    /// Length of a CPU period
    #[arg(long, value_name = "MICROSECONDS")]
    cpu_period: Option<u64>,
    /// CPU time in microseconds per period
    #[arg(long, value_name = "MICROSECONDS", allow_hyphen_values = true)]
    cpu_quota: Option<i64>,
    /// Length of a period of real-time tasks
    #[arg(long, value_name = "MICROSECONDS")]
    cpu_rt_period: Option<u64>,
    /// Time that real-time tasks may use of a period
    #[arg(long, value_name = "MICROSECONDS")]
    cpu_rt_runtime: Option<i64>,
    /// CPU shares (relative weight)
    #[arg(short, long, value_name = "N")]
    cpu_shares: Option<u64>,
    /// Number of CPUs
    #[arg(long, value_name = "N")]
    cpus: Option<f64>,
    /// CPUs in which to allow execution (0-3, 0,1)
    #[arg(long, value_name = "CPUS")]
    cpuset_cpus: Option<String>,
    /// Memory nodes in which to allow execution
    #[arg(long, value_name = "NODES")]
    cpuset_mems: Option<String>,
    /// Memory limit
    #[arg(short, long, value_name = "BYTES", value_parser = size_text)]
    memory: Option<String>,
    /// Memory soft limit
    #[arg(long, value_name = "BYTES", value_parser = size_text)]
    memory_reservation: Option<String>,
    /// Memory plus swap; -1 for unlimited swap
    #[arg(long, value_name = "BYTES", allow_hyphen_values = true, value_parser = size_text)]
    memory_swap: Option<String>,
    /// Limit of processes; -1 for unlimited
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    pids_limit: Option<i64>,
    /// Restart policy: no, always, on-failure[:N], unless-stopped
    #[arg(long, value_name = "POLICY")]
    restart: Option<String>,
    /// Containers, by name or id
    #[arg(required = true)]
    containers: Vec<String>,
}

impl Update {
    /// Runs the command.
    pub fn run(self, context: &Context) -> Result<ExitCode> {
        if !self.asks() {
            return Err(Plain("you must provide one or more flags when using this command".into()).into());
        }
        each(context, &self.containers, |container, _| self.update(context, container))
    }

    /// Whether there is a flag.
    fn asks(&self) -> bool {
        let texts = [
            &self.cpuset_cpus,
            &self.cpuset_mems,
            &self.memory,
            &self.memory_reservation,
            &self.memory_swap,
            &self.restart,
        ];
        let numbers = [self.cpu_quota, self.cpu_rt_runtime, self.pids_limit];
        let sizes = [self.cpu_period, self.cpu_rt_period, self.cpu_shares, self.blkio_weight.map(u64::from)];
        texts.iter().any(|text| text.is_some())
            || numbers.iter().any(Option::is_some)
            || sizes.iter().any(Option::is_some)
            || self.cpus.is_some()
    }

    fn update(&self, context: &Context, container: &Container) -> Result<()> {
        let config = &container.config;
        let limits = self.limits(&config.runtime.limits)?;
        let restart = match &self.restart {
            Some(text) => RestartPolicy::parse(text)?,
            None => config.restart.clone(),
        };
        if config.auto_remove && restart.condition != Condition::No {
            bail!("Restart policy cannot be updated because AutoRemove is enabled for the container");
        }
        context.engine.update(container, &limits, &restart)?;
        events::container(&context.engine.roots, config, "update");
        Ok(())
    }

    /// What is there, with what is asked for in its place.
    fn limits(&self, now: &Limits) -> Result<Limits> {
        let mut limits = now.clone();
        let size = |flag: &str, text: &Option<String>, now: Option<u64>| match text {
            Some(text) => bytes(flag, text).map(Some),
            None => Ok(now),
        };
        limits.memory = size("--memory", &self.memory, now.memory)?;
        limits.memory_reservation = size("--memory-reservation", &self.memory_reservation, now.memory_reservation)?;
        match self.memory_swap.as_deref() {
            Some("-1") => limits.memory_swap = Some(-1),
            Some(text) => limits.memory_swap = Some(i64::try_from(bytes("--memory-swap", text)?)?),
            None => {}
        }
        if let (Some(memory), Some(swap)) = (limits.memory, limits.memory_swap)
            && u64::try_from(swap).is_ok_and(|swap| memory > swap)
        {
            bail!(
                "Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time"
            );
        }
        if self.cpus.is_some() && (now.cpu_quota.is_some() || now.cpu_period.is_some()) {
            bail!("Conflicting options: Nano CPUs cannot be updated as CPU Quota or Period has already been set");
        }
        if (self.cpu_quota.is_some() || self.cpu_period.is_some()) && now.nano_cpus.is_some() {
            bail!("Conflicting options: CPU Quota and Period cannot be updated as NanoCPUs has already been set");
        }
        if let Some(cpus) = self.cpus {
            limits.nano_cpus = Some(crate::engine::limits::nano_cpus(cpus)?);
        }
        limits.cpu_quota = self.cpu_quota.or(now.cpu_quota);
        limits.cpu_period = self.cpu_period.or(now.cpu_period);
        limits.cpu_shares = self.cpu_shares.or(now.cpu_shares);
        limits.blkio_weight = self.blkio_weight.or(now.blkio_weight);
        if let Some(cpus) = &self.cpuset_cpus {
            limits.cpuset_cpus.clone_from(cpus);
        }
        if let Some(nodes) = &self.cpuset_mems {
            limits.cpuset_mems.clone_from(nodes);
        }
        if let Some(pids) = self.pids_limit {
            limits.pids = if pids == 0 { -1 } else { pids };
        }
        limits.cpu_rt_period = self.cpu_rt_period.or(now.cpu_rt_period);
        limits.cpu_rt_runtime = self.cpu_rt_runtime.or(now.cpu_rt_runtime);
        warn_of_missing(&mut limits);
        Ok(limits)
    }
}
