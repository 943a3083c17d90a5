//! `system events`, which is `docker events`.

use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use clap::Args;

use crate::commands::Context;
use crate::commands::filters::Filters;
use crate::engine::events::Event;
use crate::engine::events::read::{self, Window, follow};
use crate::out;
use crate::template::Template;

/// Get real time events.
#[derive(Debug, Args)]
pub struct Events {
    #[command(flatten)]
    filters: Filters,
    /// Format output: json, or a Go template
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Show all events created since timestamp
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Stream events until this timestamp
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
}

impl Events {
    /// Runs the command.
    pub fn run(self, context: &Context) -> Result<ExitCode> {
        let filters = read::Filters::new(self.filters.pairs())?;
        let format = self.format.as_deref().map(str::trim).filter(|format| !format.is_empty());
        let template = match format {
            None | Some("json" | "{{json .}}") => None,
            Some("table") => bail!("events cannot be shown as a table"),
            Some(text) => Some(
                Template::parse(&text.replace("\\t", "\t").replace("\\n", "\n")).context("failed to parse template")?,
            ),
        };
        let window = Window::parse(self.since.as_deref(), self.until.as_deref())?;
        follow(&context.engine.roots, window, &mut |event| {
            if filters.pass(event) {
                match &template {
                    Some(template) => out!("{}", template.inspect(&event.docker_json())?),
                    None if format.is_some() => out!("{}", event.docker_json()),
                    None => out!("{}", line(event)),
                }
            }
            Ok(())
        })?;
        Ok(ExitCode::SUCCESS)
    }
}

fn line(event: &Event) -> String {
    let time = event.zoned().strftime("%Y-%m-%dT%H:%M:%S%.9f%:z").to_string().replace("+00:00", "Z");
    let all: Vec<String> = event.actor.attributes.iter().map(|(key, value)| format!("{key}={value}")).collect();
    format!("{time} {} {} {} ({})", event.kind.as_str(), event.action, event.actor.id, all.join(", "))
}
