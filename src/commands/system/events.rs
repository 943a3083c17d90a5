//! `system events`, which is `docker events`.

use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use serde_json::{Value, json};

use crate::commands::Context;
use crate::commands::filters::Filters;
use crate::engine::events::read::{Window, follow};
use crate::engine::events::{Event, Kind};
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

const FILTERS: [&str; 9] = ["container", "event", "image", "label", "network", "scope", "type", "volume", "daemon"];

impl Events {
    /// Runs the command.
    pub fn run(self, context: &Context) -> Result<ExitCode> {
        self.filters.only(&FILTERS)?;
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
            if wanted(&self.filters, event) {
                match &template {
                    Some(template) => out!("{}", template.inspect(&object(event))?),
                    None if format.is_some() => out!("{}", object(event)),
                    None => out!("{}", line(event)),
                }
            }
            Ok(())
        })?;
        Ok(ExitCode::SUCCESS)
    }
}

fn wanted(filters: &Filters, event: &Event) -> bool {
    let attributes = &event.actor.attributes;
    let is = |kind: Kind, value: &str| {
        event.kind == kind && (event.actor.id.starts_with(value) || event.attribute("name") == Some(value))
    };
    let action = |wanted: &str| event.action == wanted || event.action.split(':').next() == Some(wanted);
    let image = |value: &str| {
        let name = event.attribute(if event.kind == Kind::Image { "name" } else { "image" }).unwrap_or_default();
        name == value || name.split(':').next() == Some(value)
    };
    filters.any("type", |kind| event.kind.as_str() == kind)
        && filters.any("event", action)
        && filters.any("container", |value| is(Kind::Container, value) || event.attribute("container") == Some(value))
        && filters.any("network", |value| is(Kind::Network, value))
        && filters.any("volume", |value| is(Kind::Volume, value))
        && filters.any("image", image)
        && filters.any("scope", |scope| scope == "local")
        && filters.any("daemon", |_| false)
        && filters.labels(attributes)
}

fn line(event: &Event) -> String {
    let time = event.zoned().strftime("%Y-%m-%dT%H:%M:%S%.9f%:z").to_string().replace("+00:00", "Z");
    let all: Vec<String> = event.actor.attributes.iter().map(|(key, value)| format!("{key}={value}")).collect();
    format!("{time} {} {} {} ({})", event.kind.as_str(), event.action, event.actor.id, all.join(", "))
}

fn object(event: &Event) -> Value {
    let old = event.kind == Kind::Container;
    let mut all = serde_json::Map::new();
    if old {
        all.insert("status".into(), json!(event.action));
        all.insert("id".into(), json!(event.actor.id));
        all.insert("from".into(), json!(event.attribute("image").unwrap_or_default()));
    }
    all.insert("Type".into(), json!(event.kind.as_str()));
    all.insert("Action".into(), json!(event.action));
    all.insert("Actor".into(), json!({ "ID": event.actor.id, "Attributes": event.actor.attributes }));
    all.insert("scope".into(), json!("local"));
    all.insert("time".into(), json!(event.time / 1_000_000_000));
    all.insert("timeNano".into(), json!(event.time));
    Value::Object(all)
}
