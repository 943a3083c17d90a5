//! `explain`: why the project's containers are as they are.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use owo_colors::OwoColorize as _;
use serde_json::json;

use super::{Context, Format};
use crate::engine::inspect;
use crate::out;
use crate::project::explain::{self, Cause, Explanation};
use crate::project::{load, observe};

/// Say why services are as they are, and what to try.
#[derive(Debug, Args)]
pub struct Explain {
    /// For people, or a JSON object per line
    #[arg(long, value_enum, default_value = "table", value_name = "FORMAT")]
    format: Format,
    /// Services; all if none
    #[arg(value_name = "SERVICE")]
    services: Vec<String>,
}

/// One container, or a service that has none.
struct Entry {
    name: String,
    service: String,
    member: Option<observe::Member>,
    explained: Explanation,
    last_lines: Vec<String>,
}

impl Explain {
    /// Runs the command.
    pub fn run(self, context: &Context) -> Result<ExitCode> {
        let engine = &context.engine;
        let project = load::named(context, &self.services)?;
        let all = observe::members(engine, &project.name)?;
        let members = observe::select(all.clone(), &self.services, &|name| project.knows(name))?;
        let mut entries = Vec::new();
        for member in members {
            let facts = explain::observe(engine, &member, &all)?;
            let explained = explain::explain(&facts);
            let (name, service) = (member.container.config.name.clone(), member.service.clone());
            entries.push(Entry { name, service, member: Some(member), explained, last_lines: facts.last_lines });
        }
        // What a provider runs has no containers here.
        let modelled = project.model.iter().flat_map(|model| model.services.values());
        let modelled = modelled.filter(|service| service.provider.is_none());
        for service in modelled.filter(|service| !all.iter().any(|member| member.service == service.name)) {
            let scaled = service.scale.or(service.deploy.as_ref().and_then(|deploy| deploy.replicas)) != Some(0);
            if (self.services.is_empty() && scaled) || self.services.contains(&service.name) {
                let (name, explained) = (service.name.clone(), explain::absent(&service.name));
                let service = name.clone();
                entries.push(Entry { name, service, member: None, explained, last_lines: Vec::new() });
            }
        }
        let colour = context.global.ansi.stdout();
        for entry in &entries {
            match self.format {
                Format::Table => out!("{}", entry.text(colour, !self.services.is_empty())),
                Format::Json => out!("{}", entry.json()),
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Entry {
    /// One line where nothing is wrong; the last lines, too, when it was asked for by name.
    fn text(&self, colour: bool, named: bool) -> String {
        let (cause, fine) = (self.explained.cause, self.explained.cause.is_fine());
        let name = match (colour, fine) {
            (true, true) => self.name.green().to_string(),
            (true, false) => self.name.red().to_string(),
            (false, _) => self.name.clone(),
        };
        let mut text = format!("{name}: {}", self.explained.says);
        let gone = matches!(cause, Cause::StoppedByHand | Cause::Completed);
        if (!fine || (named && !gone)) && !self.last_lines.is_empty() {
            text.push_str("\n  last lines:");
            self.last_lines.iter().for_each(|line| text.push_str(&format!("\n    | {line}")));
        }
        if (!fine || named) && !self.explained.tries.is_empty() {
            text.push_str("\n  try:");
            self.explained.tries.iter().for_each(|hint| text.push_str(&format!("\n    - {hint}")));
        }
        text
    }

    fn json(&self) -> serde_json::Value {
        let mut value = json!({
            "Name": self.name,
            "Service": self.service,
            "Cause": self.explained.cause,
            "Fine": self.explained.cause.is_fine(),
            "Says": self.explained.says,
            "Try": self.explained.tries,
            "LastLines": self.last_lines,
        });
        if let (Some(member), Some(map)) = (&self.member, value.as_object_mut()) {
            let state = inspect::state(&member.container);
            map.insert("RestartCount".into(), json!(member.container.state.restart_count));
            map.insert("State".into(), state);
        }
        value
    }
}
