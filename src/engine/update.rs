//! Changing the limits of a container that is there, whether it runs or not:
//! first the kernel's, then `config.json`.

use anyhow::{Result, bail};
use umiak_runtime::cgroup::Cgroup;
use umiak_runtime::config::{DeviceRate, DeviceWeight, Limits};

use super::Engine;
use super::container::Container;
use super::restart::RestartPolicy;
use crate::ui::human;

impl Engine {
    /// Gives a container other limits and another restart policy. Those of [`Limits`] that are only set at a start
    /// (swappiness, the OOM killer's settings) are kept as they are.
    pub fn update(&self, container: &Container, limits: &Limits, restart: &RestartPolicy) -> Result<()> {
        let _lock = self.lock(&container.config.id)?;
        let Some(now) = Container::load(&self.roots, &container.config.id)? else {
            bail!("No such container: {}", container.config.name);
        };
        let mut config = now.config;
        let before = config.runtime.limits.clone();
        config.runtime.limits = live(&before, limits);
        config.restart = restart.clone();
        let cgroup = Cgroup::new(&config.runtime.cgroup_path)?;
        // Checked for one that does not run, too: its next start would fail.
        let settings = cgroup.changes(&before, &config.runtime.limits)?;
        if now.state.status.is_up() {
            cgroup.change(&settings)?;
        }
        if let Err(error) = self.write_changed(&config) {
            if now.state.status.is_up() {
                let _ = cgroup.changes(&config.runtime.limits, &before).and_then(|undo| cgroup.change(&undo));
            }
            return Err(error);
        }
        Ok(())
    }
}

/// `before` with those limits of `wanted` that can be changed at any time.
fn live(before: &Limits, wanted: &Limits) -> Limits {
    Limits {
        swappiness: before.swappiness,
        oom_kill_disable: before.oom_kill_disable,
        oom_score_adj: before.oom_score_adj,
        ..wanted.clone()
    }
}

/// The limits that [`Engine::update`] would change: what, from, to.
pub fn changes(before: &Limits, wanted: &Limits) -> Vec<(&'static str, String, String)> {
    let mut all = Vec::new();
    let mut compare = |what: &'static str, from: String, to: String| {
        if from != to {
            all.push((what, from, to));
        }
    };
    let size = |bytes: Option<u64>| bytes.map_or_else(none, human::binary_size);
    let number = |number: Option<u64>| number.map_or_else(none, |number| number.to_string());
    let signed = |number: Option<i64>| number.map_or_else(none, |number| number.to_string());
    let swap = |limits: &Limits| match limits.memory_swap.map(u64::try_from) {
        None => none(),
        Some(Ok(bytes)) => human::binary_size(bytes),
        Some(Err(_)) => "unlimited".to_owned(),
    };
    compare("memory limit", size(before.memory), size(wanted.memory));
    compare("memory reservation", size(before.memory_reservation), size(wanted.memory_reservation));
    compare("memory and swap limit", swap(before), swap(wanted));
    compare("CPU limit", cpus(before.nano_cpus), cpus(wanted.nano_cpus));
    compare("CPU shares", number(before.cpu_shares), number(wanted.cpu_shares));
    compare("CPU quota", signed(before.cpu_quota), signed(wanted.cpu_quota));
    compare("CPU period", number(before.cpu_period), number(wanted.cpu_period));
    compare("CPUs", list(&before.cpuset_cpus), list(&wanted.cpuset_cpus));
    compare("memory nodes", list(&before.cpuset_mems), list(&wanted.cpuset_mems));
    compare("process limit", before.pids.to_string(), wanted.pids.to_string());
    let weight = |limits: &Limits| number(limits.blkio_weight.map(u64::from));
    compare("block I/O weight", weight(before), weight(wanted));
    compare("block I/O weights", weights(&before.blkio_weight_device), weights(&wanted.blkio_weight_device));
    compare("block read rate", rates(&before.blkio_read_bps), rates(&wanted.blkio_read_bps));
    compare("block write rate", rates(&before.blkio_write_bps), rates(&wanted.blkio_write_bps));
    compare("block read operations", rates(&before.blkio_read_iops), rates(&wanted.blkio_read_iops));
    compare("block write operations", rates(&before.blkio_write_iops), rates(&wanted.blkio_write_iops));
    all
}

fn none() -> String {
    "none".to_owned()
}

fn list(text: &str) -> String {
    if text.is_empty() { "all".to_owned() } else { text.to_owned() }
}

#[allow(clippy::cast_precision_loss, reason = "shown")]
fn cpus(nano: Option<u64>) -> String {
    nano.map_or_else(none, |nano| format!("{}", nano as f64 / 1e9))
}

fn weights(all: &[DeviceWeight]) -> String {
    let texts: Vec<String> = all.iter().map(|one| format!("{} {}", one.path.display(), one.weight)).collect();
    if texts.is_empty() { none() } else { texts.join(" ") }
}

fn rates(all: &[DeviceRate]) -> String {
    let texts: Vec<String> = all.iter().map(|one| format!("{} {}", one.path.display(), one.rate)).collect();
    if texts.is_empty() { none() } else { texts.join(" ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_is_told_with_both_values() {
        let before = Limits { memory: Some(64 << 20), pids: 10, ..Limits::default() };
        let after = Limits { memory: None, pids: 20, nano_cpus: Some(1_500_000_000), ..before.clone() };
        let told: Vec<String> =
            changes(&before, &after).into_iter().map(|(what, from, to)| format!("{what} {from} {to}")).collect();
        assert_eq!(told.len(), 3, "{told:?}");
        assert!(told.contains(&"process limit 10 20".to_owned()) && told.contains(&"CPU limit none 1.5".to_owned()));
        assert!(changes(&before, &before).is_empty());
        let other = Limits { oom_score_adj: 5, ..before.clone() };
        assert_eq!(live(&before, &other), before, "what is set at the start stays");
    }
}
