//! `container stats`: what each container uses, against its limits.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::Args;
use serde_json::Value;

use crate::commands::Context;
use crate::engine::usage::{Reading, Sampler};
use crate::engine::{Container, Engine};
use crate::personality::Personality;
use crate::ui::human::{binary_size, size};
use crate::ui::listing::{Listing, Row};

/// What `stats` of a project and of single containers have in common.
#[derive(Debug, Args)]
pub struct How {
    /// Show all containers (default shows just running)
    #[arg(short, long)]
    all: bool,
    /// Format output: table, json, or a Go template
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Disable streaming stats and only pull the first result
    #[arg(long)]
    no_stream: bool,
    /// Do not truncate output
    #[arg(long)]
    no_trunc: bool,
}

/// Display a live stream of container(s) resource usage statistics.
#[derive(Debug, Args)]
pub struct Stats {
    #[command(flatten)]
    how: How,
    /// Containers, by name or id; all running ones if none
    containers: Vec<String>,
}

/// Docker's columns, and what the kernel tells besides.
const LISTING: Listing = Listing {
    type_name: "*container.statsContext",
    headers: &[
        ("Container", "CONTAINER"),
        ("ID", "CONTAINER ID"),
        ("Name", "NAME"),
        ("CPUPerc", "CPU %"),
        ("MemUsage", "MEM USAGE / LIMIT"),
        ("MemPerc", "MEM %"),
        ("NetIO", "NET I/O"),
        ("BlockIO", "BLOCK I/O"),
        ("PIDs", "PIDS"),
        ("CPUPressure", "CPU PSI"),
        ("MemPressure", "MEM PSI"),
        ("IOPressure", "IO PSI"),
    ],
};
const COLUMNS: [&str; 8] = ["ID", "Name", "CPUPerc", "MemUsage", "MemPerc", "NetIO", "BlockIO", "PIDs"];
const PRESSURE: [&str; 3] = ["CPUPressure", "MemPressure", "IOPressure"];

/// The time over which CPU usage is measured for the first time, and how often a live table is made anew.
const FIRST: Duration = Duration::from_millis(500);
const EVERY: Duration = Duration::from_secs(1);

impl Stats {
    /// Runs the command.
    pub fn run(self, context: &Context) -> Result<ExitCode> {
        let (engine, keys) = (&context.engine, &self.containers);
        self.how.show(keys, &|| match keys.is_empty() {
            true => engine.containers(),
            false => named(engine, keys),
        })
    }
}

fn named(engine: &Engine, keys: &[String]) -> Result<Vec<Container>> {
    keys.iter().map(|key| Container::find(&engine.roots, key)).collect()
}

fn key_of(key: &str, container: &Container) -> bool {
    container.config.name == key || container.config.id.starts_with(key)
}

impl How {
    /// Shows what `list` finds, once or until it is interrupted; `asked` are the words that containers were named by.
    pub fn show(&self, asked: &[String], list: &dyn Fn() -> Result<Vec<Container>>) -> Result<ExitCode> {
        let mut sampler = Sampler::default();
        loop {
            let containers = self.shown(list()?);
            let fresh = |container: &&Container| container.state.status.is_up() && !sampler.knows(&container.config.id);
            let fresh: Vec<&Container> = containers.iter().filter(fresh).collect();
            if !fresh.is_empty() {
                for container in fresh {
                    sampler.look(container);
                }
                std::thread::sleep(FIRST);
            }
            let rows: Vec<(Row, bool)> =
                containers.iter().map(|one| self.row(asked, one, &sampler.look(one))).collect();
            self.print(rows)?;
            if self.no_stream {
                return Ok(ExitCode::SUCCESS);
            }
            std::thread::sleep(EVERY);
        }
    }

    fn shown(&self, mut containers: Vec<Container>) -> Vec<Container> {
        containers.retain(|container| self.all || container.state.status.is_up());
        containers
    }

    fn print(&self, rows: Vec<(Row, bool)>) -> Result<()> {
        // Docker's own names get Docker's columns.
        let pressure = Personality::current() == Personality::Own && rows.iter().any(|(_, pressure)| *pressure);
        let columns: Vec<&str> = COLUMNS.into_iter().chain(PRESSURE.into_iter().filter(|_| pressure)).collect();
        let rows: Vec<Row> = rows.into_iter().map(|(row, _)| row).collect();
        let text = LISTING.render(self.format.as_deref(), &columns, &rows)?;
        if self.no_stream || !std::io::IsTerminal::is_terminal(&std::io::stdout()) {
            crate::ui::write_raw(text.as_bytes());
            return Ok(());
        }
        // Written over what was there, line by line, so that nothing flickers.
        let text = text.replace('\n', "\x1b[K\n");
        crate::ui::write_raw(format!("\x1b[H{text}\x1b[J").as_bytes());
        Ok(())
    }

    /// A row, and whether it has pressure.
    fn row(&self, asked: &[String], container: &Container, reading: &Reading) -> (Row, bool) {
        let id = if self.no_trunc { container.config.id.as_str() } else { container.short_id() };
        let pair = |(left, right): (u64, u64)| format!("{} / {}", size(left), size(right));
        let mut fields: Vec<(&str, Value)> = [
            ("Container", asked.iter().find(|key| key_of(key, container)).map_or(id, String::as_str).to_owned()),
            ("ID", id.to_owned()),
            ("Name", container.config.name.clone()),
            ("CPUPerc", format!("{:.2}%", reading.cpu)),
            ("MemUsage", format!("{} / {}", binary_size(reading.memory), binary_size(reading.memory_limit))),
            ("MemPerc", format!("{:.2}%", reading.memory_share())),
            ("NetIO", pair(reading.net)),
            ("BlockIO", pair(reading.block)),
            ("PIDs", reading.pids.to_string()),
        ]
        .map(|(field, text)| (field, Value::from(text)))
        .to_vec();
        if let Some(pressure) = reading.pressure.filter(|_| Personality::current() == Personality::Own) {
            let share = |hundredths: u32| Value::from(format!("{}.{:02}%", hundredths / 100, hundredths % 100));
            fields.extend(PRESSURE.into_iter().zip([pressure.cpu, pressure.memory, pressure.io].map(share)));
        }
        (Row::new(fields), reading.pressure.is_some())
    }
}
