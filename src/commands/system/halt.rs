//! `system halt`: what the host's init runs before the host goes down.

use std::collections::BTreeMap;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;

use crate::commands::{Context, down};
use crate::project::{hooks, labels, observe, sequence};

/// Stop all containers, dependents first, without remembering it as a wish: `system boot` brings back those that ran.
#[derive(Debug, Args)]
pub struct Halt {
    /// Seconds to wait for a container to stop before it is killed
    #[arg(short, long, value_name = "SECONDS", allow_hyphen_values = true)]
    timeout: Option<i64>,
}

impl Halt {
    /// Runs the command.
    pub fn run(self, context: &Context) -> Result<ExitCode> {
        let mut groups: BTreeMap<String, Vec<observe::Member>> = BTreeMap::new();
        for container in context.engine.containers()? {
            if container.state.status.is_up() {
                // One that is of no project is stopped by itself.
                let (id, name) = (container.config.id.clone(), container.config.name.clone());
                let project = container.label(labels::PROJECT).map_or(id, str::to_owned);
                let service = container.label(labels::SERVICE).map_or(name, str::to_owned);
                groups.entry(project).or_default().push(observe::Member { container, service, number: 1 });
            }
        }
        let progress = context.progress();
        let halt = |member: &observe::Member| {
            let what = format!("Container {}", member.container.config.name);
            progress.working(&what, "Stopping");
            hooks::halt(&context.engine, &member.container, self.timeout)?;
            progress.done(&what, "Stopped");
            Ok(())
        };
        let mut errors = Vec::new();
        std::thread::scope(|scope| {
            let halt = &halt;
            let running: Vec<_> =
                groups.values().map(|members| scope.spawn(move || sequence::reverse(members, None, halt))).collect();
            for group in running {
                errors.extend(group.join().unwrap_or_else(|_| vec![anyhow::anyhow!("a thread panicked")]));
            }
        });
        progress.finish();
        down::finish(errors)
    }
}
