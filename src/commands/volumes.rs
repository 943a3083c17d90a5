//! `volumes`: the project's volumes.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use umiak_runtime::config::MountKind;

use super::{Context, Format};
use crate::engine::volume;
use crate::out;
use crate::project::{labels, load, observe};
use crate::ui::table::Table;

/// List volumes.
#[derive(Debug, Args)]
pub struct Volumes {
    /// Only display volume names
    #[arg(short, long)]
    quiet: bool,
    /// table or json
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
    /// Services that use them; all volumes of the project if none
    services: Vec<String>,
}

impl Volumes {
    /// Runs the command.
    pub fn run(self, context: &Context) -> Result<ExitCode> {
        let (engine, project) = (&context.engine, load::named(context, &self.services)?);
        let members = observe::members(engine, &project.name)?;
        let members = observe::select(members, &self.services, &|name| project.knows(name))?;
        let mut volumes = volume::list(&engine.roots)?;
        volumes.retain(|volume| {
            let mounted = |mount: &umiak_runtime::config::Mount| matches!(&mount.kind, MountKind::Volume(used) if used.name == volume.name);
            let used = || members.iter().any(|member| member.container.config.runtime.mounts.iter().any(mounted));
            volume.labels.get(labels::PROJECT) == Some(&project.name) && (self.services.is_empty() || used())
        });
        let mut table = Table::new(&["DRIVER", "VOLUME NAME"]);
        for volume in volumes {
            if self.quiet {
                out!("{}", volume.name);
                continue;
            }
            if self.format == Format::Json {
                let all: Vec<String> = volume.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
                out!(
                    "{}",
                    serde_json::json!({
                        "Availability": "N/A", "Driver": "local", "Group": "N/A", "Labels": all.join(","),
                        "Links": "N/A", "Mountpoint": volume::data_dir(&engine.roots, &volume.name),
                        "Name": volume.name, "Scope": "local", "Size": "N/A", "Status": "N/A",
                    })
                );
                continue;
            }
            table.row(vec!["local".to_owned(), volume.name]);
        }
        if !self.quiet && self.format == Format::Table {
            out!("{}", table.render());
        }
        Ok(ExitCode::SUCCESS)
    }
}
