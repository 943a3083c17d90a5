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
        let header = ["CONTAINER", "REPOSITORY", "TAG", "PLATFORM", "IMAGE ID", "SIZE", "CREATED"];
        let mut table = Table::wide(&header);
        let (mut objects, mut ids) = (Vec::new(), Vec::new());
        for member in &members {
            let config = &member.container.config;
            let (repository, tag) = crate::engine::image::split_name(&config.image);
            let image = context.engine.store()?.resolve(&config.image_id).ok();
            let id = config.image_id.trim_start_matches("sha256:").to_owned();
            let size = image.as_ref().map_or(0, |image| image.size);
            let platform = image.as_ref().map(|image| image.platform.to_string()).unwrap_or_default();
            let created = image.as_ref().and_then(|image| image.created.as_deref()?.parse().ok());
            objects.push(serde_json::json!({
                "ID": config.image_id, "ContainerName": config.name, "Repository": repository, "Tag": tag,
                "Platform": platform, "Size": size,
            }));
            table.row(vec![
                config.name.clone(),
                repository,
                tag,
                platform,
                umiak_base::id::short(&id).to_owned(),
                human::size3(size),
                created.map_or_else(|| "N/A".to_owned(), human::ago),
            ]);
            if !ids.contains(&id) {
                ids.push(id);
            }
        }
        if self.quiet {
            ids.iter().for_each(|id| out!("{id}"));
        }
        match self.format {
            _ if self.quiet => {}
            Format::Json => out!("{}", serde_json::to_string(&objects)?),
            Format::Table => out!("{}", table.render()),
        }
        Ok(ExitCode::SUCCESS)
    }
}
