//! `images`: what the project's containers were made from.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;

use super::{Context, Format};
use crate::out;
use crate::project::{load, observe};
use crate::ui::human;
use crate::ui::table::Table;

/// List images used by the created containers.
#[derive(Debug, Args)]
pub struct Images {
    /// Only display IDs
    #[arg(short, long)]
    quiet: bool,
    /// table or json
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
    /// Services; all if none
    services: Vec<String>,
}

impl Images {
    /// Runs the command.
    pub fn run(self, context: &Context) -> Result<ExitCode> {
        let project = load::named(context, &self.services)?;
        let members = observe::members(&context.engine, &project.name)?;
        let members = observe::select(members, &self.services, &|name| project.knows(name))?;
        let mut table = Table::new(&["CONTAINER", "REPOSITORY", "TAG", "IMAGE ID", "SIZE"]);
        let mut objects = Vec::new();
        for member in &members {
            let config = &member.container.config;
            let (repository, tag) = crate::engine::image::split_name(&config.image);
            let image = context.engine.store()?.resolve(&config.image_id).ok();
            let id = config.image_id.trim_start_matches("sha256:");
            let size = image.as_ref().map_or(0, |image| image.size);
            if self.quiet {
                out!("{}", config.image_id);
                continue;
            }
            objects.push(serde_json::json!({
                "ID": config.image_id, "ContainerName": config.name, "Repository": repository, "Tag": tag, "Size": size,
            }));
            table.row(vec![
                config.name.clone(),
                repository,
                tag,
                umiak_base::id::short(id).to_owned(),
                human::size(size),
            ]);
        }
        match self.format {
            _ if self.quiet => {}
            Format::Json => out!("{}", serde_json::to_string(&objects)?),
            Format::Table => out!("{}", table.render()),
        }
        Ok(ExitCode::SUCCESS)
    }
}
