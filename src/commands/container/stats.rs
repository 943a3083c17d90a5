//! `container stats`: what each container uses, against its limits.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::Args;
use serde::Serialize;
use umiak_runtime::cgroup::Stats as Usage;

use crate::commands::{Context, Format};
use crate::engine::{Container, cgroup};
use crate::out;
use crate::ui::human::{binary_size, size};
use crate::ui::table::Table;

/// Display resource usage.
#[derive(Debug, Args)]
pub struct Stats {
    /// Show all containers, not only running ones
    #[arg(short, long)]
    all: bool,
    /// Print once and end
    #[arg(long)]
    no_stream: bool,
    /// table or json
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
    /// Containers, by name or id; all running ones if none
    containers: Vec<String>,
}

/// One line, in Docker's words.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Row {
    #[serde(rename = "ID")]
    id: String,
    name: String,
    #[serde(rename = "CPUPerc")]
    cpu: String,
    #[serde(rename = "MemUsage")]
    memory: String,
    #[serde(rename = "MemPerc")]
    memory_share: String,
    #[serde(rename = "NetIO")]
    net: String,
    #[serde(rename = "BlockIO")]
    block: String,
    #[serde(rename = "PIDs")]
    pids: String,
}

/// The time over which CPU usage is measured.
const WINDOW: Duration = Duration::from_millis(500);

impl Stats {
    /// Runs the command.
    pub fn run(self, context: &Context) -> Result<ExitCode> {
        loop {
            let containers = self.select(context)?;
            let before: Vec<(Option<Usage>, Instant)> =
                containers.iter().map(|container| (usage(container), Instant::now())).collect();
            std::thread::sleep(WINDOW);
            let rows: Vec<Row> =
                containers.iter().zip(before).map(|(container, (usage, when))| row(container, usage, when)).collect();
            if !self.no_stream && std::io::IsTerminal::is_terminal(&std::io::stdout()) {
                crate::ui::write_raw(b"\x1b[H\x1b[2J");
            }
            self.print(&rows)?;
            if self.no_stream {
                return Ok(ExitCode::SUCCESS);
            }
        }
    }

    fn select(&self, context: &Context) -> Result<Vec<Container>> {
        if !self.containers.is_empty() {
            return self.containers.iter().map(|key| Container::find(&context.engine.roots, key)).collect();
        }
        let mut all = context.engine.containers()?;
        all.retain(|container| self.all || container.state.status.is_up());
        Ok(all)
    }

    fn print(&self, rows: &[Row]) -> Result<()> {
        if self.format == Format::Json {
            for row in rows {
                out!("{}", serde_json::to_string(row)?);
            }
            return Ok(());
        }
        let mut table = Table::new(&[
            "CONTAINER ID",
            "NAME",
            "CPU %",
            "MEM USAGE / LIMIT",
            "MEM %",
            "NET I/O",
            "BLOCK I/O",
            "PIDS",
        ]);
        for row in rows.iter().cloned() {
            table.row(vec![row.id, row.name, row.cpu, row.memory, row.memory_share, row.net, row.block, row.pids]);
        }
        out!("{}", table.render());
        Ok(())
    }
}

fn usage(container: &Container) -> Option<Usage> {
    if !container.state.status.is_up() {
        return None;
    }
    cgroup::stats(&container.config.runtime.cgroup_path).ok()
}

#[allow(clippy::cast_precision_loss, reason = "shown as a percentage with two decimals")]
fn row(container: &Container, before: Option<Usage>, when: Instant) -> Row {
    let now = usage(container).unwrap_or_default();
    let elapsed = when.elapsed().as_nanos() as f64;
    let used = now.cpu_ns.saturating_sub(before.unwrap_or_default().cpu_ns) as f64;
    let limit = now.memory_limit.unwrap_or_else(cgroup::host_memory).min(cgroup::host_memory());
    let net = container.state.init.map(|init| cgroup::net_io(init.pid)).unwrap_or_default();
    Row {
        id: container.short_id().to_owned(),
        name: container.config.name.clone(),
        cpu: format!("{:.2}%", used / elapsed.max(1.0) * 100.0),
        memory: format!("{} / {}", binary_size(now.memory), binary_size(limit)),
        memory_share: format!("{:.2}%", now.memory as f64 / (limit.max(1)) as f64 * 100.0),
        net: format!("{} / {}", size(net.0), size(net.1)),
        block: format!("{} / {}", size(now.read_bytes), size(now.written_bytes)),
        pids: now.pids.to_string(),
    }
}
