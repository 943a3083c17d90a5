//! What containers use, from one look to the next.

use std::collections::HashMap;
use std::time::Instant;

use umiak_runtime::cgroup::{Pressure, Stats};

use super::cgroup;
use super::container::{Container, NetworkMode};

/// One look at one container. All zero where it does not run.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Reading {
    /// Whether there was anything to look at.
    pub runs: bool,
    /// Of one CPU, in percent, since the last look.
    pub cpu: f64,
    /// Bytes in use.
    pub memory: u64,
    /// Bytes there may be: the limit or the host's memory.
    pub memory_limit: u64,
    /// Bytes received and sent.
    pub net: (u64, u64),
    /// Bytes read and written.
    pub block: (u64, u64),
    /// Processes and threads.
    pub pids: u64,
    /// What it waits for, where the kernel tells.
    pub pressure: Option<Pressure>,
}

impl Reading {
    /// Memory in use, in percent of what there may be.
    #[allow(clippy::cast_precision_loss, reason = "shown as a percentage with two decimals")]
    pub fn memory_share(&self) -> f64 {
        if self.memory_limit == 0 { 0.0 } else { self.memory as f64 / self.memory_limit as f64 * 100.0 }
    }
}

/// Looks at containers again and again, and remembers the last time.
#[derive(Debug, Default)]
pub struct Sampler {
    before: HashMap<String, (u64, Instant)>,
}

impl Sampler {
    /// Whether the container has been looked at before: only then its CPU usage means something.
    pub fn knows(&self, id: &str) -> bool {
        self.before.contains_key(id)
    }

    /// Looks at a container.
    pub fn look(&mut self, container: &Container) -> Reading {
        let up = container.state.status.is_up();
        let stats = Some(()).filter(|()| up).and_then(|()| cgroup::stats(&container.config.runtime.cgroup_path).ok());
        let Some(stats) = stats else {
            self.before.remove(&container.config.id);
            return Reading::default();
        };
        let now = Instant::now();
        let cpu = match self.before.insert(container.config.id.clone(), (stats.cpu_ns, now)) {
            Some((before, then)) => percent(stats.cpu_ns.saturating_sub(before), now.duration_since(then).as_nanos()),
            None => 0.0,
        };
        reading(container, &stats, cpu)
    }
}

#[allow(clippy::cast_precision_loss, reason = "shown as a percentage with two decimals")]
fn percent(used: u64, elapsed: u128) -> f64 {
    if elapsed == 0 { 0.0 } else { used as f64 / elapsed as f64 * 100.0 }
}

fn reading(container: &Container, stats: &Stats, cpu: f64) -> Reading {
    let host = cgroup::host_memory();
    // As Docker: what it does not own is not counted as its own.
    let own_network = matches!(container.config.network, NetworkMode::None | NetworkMode::Networks(_));
    let init = container.state.init.filter(|_| own_network);
    Reading {
        runs: true,
        cpu,
        memory: stats.memory,
        memory_limit: stats.memory_limit.unwrap_or(host).min(host),
        net: init.map(|init| cgroup::net_io(init.pid)).unwrap_or_default(),
        block: (stats.read_bytes, stats.written_bytes),
        pids: stats.pids,
        pressure: stats.pressure,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares() {
        assert!((percent(500_000_000, 1_000_000_000) - 50.0).abs() < f64::EPSILON);
        assert!(percent(1, 0).abs() < f64::EPSILON);
        let half = Reading { memory: 5, memory_limit: 10, ..Reading::default() };
        assert!((half.memory_share() - 50.0).abs() < f64::EPSILON);
        assert!(Reading::default().memory_share().abs() < f64::EPSILON);
    }
}
