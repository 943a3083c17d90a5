//! `system events`, which is `docker events`.

use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Args;
use serde_json::{Value, json};
use umiak_runtime::logs::TimeError;

use crate::commands::Context;
use crate::commands::filters::Filters;
use crate::engine::events::read::{self, Window, follow};
use crate::engine::events::{Event, Kind};
use crate::failure::{Coded, Plain};
use crate::out;
use crate::personality::Personality;
use crate::template::Template;

/// What errors in templates call an event.
const TYPE: &str = "*events.Message";

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
        let docker = Personality::current() == Personality::Docker;
        // Docker passes over filters that it does not know.
        let known = |(name, _): &&(String, String)| !docker || read::Filters::knows(name);
        let pairs: Vec<_> = self.filters.pairs().iter().filter(known).cloned().collect();
        let filters = read::Filters::new(&pairs)?;
        let format = self.format.as_deref().map(str::trim).filter(|format| !format.is_empty());
        let template = match format {
            None | Some("json") => None,
            Some(text) if text.replace(' ', "") == "{{json.}}" => None,
            Some("table") => bail!("events cannot be shown as a table"),
            Some(text) => Some(template(text)?),
        };
        // As Docker: with an end alone, all that is still known.
        let since = self.since.as_deref().or(self.until.as_deref().filter(|_| docker).map(|_| "1"));
        let window =
            Window::parse(since, self.until.as_deref()).map_err(|error| match error.downcast::<TimeError>() {
                Ok(TimeError { text }) if docker => {
                    Plain(format!("failed to parse value as time or duration: {text:?}")).into()
                }
                Ok(error) => error.into(),
                Err(error) => error,
            })?;
        follow(&context.engine.roots, window, &mut |event| {
            if filters.pass(event) {
                match &template {
                    Some(template) => out!("{}", template.row(&fields(event), TYPE, &Value::Null)?),
                    None if format.is_some() => out!("{}", event.docker_json()),
                    None => out!("{}", line(event)),
                }
            }
            Ok(())
        })?;
        Ok(ExitCode::SUCCESS)
    }
}

/// A template whose fields an event has; Docker ends with 64 where it has not.
fn template(text: &str) -> Result<Template> {
    let wrong = |error: String| Coded { text: format!("Error parsing format: {error}"), code: 64 };
    let text = text.replace("\\t", "\t").replace("\\n", "\n");
    let template = Template::parse(&text).map_err(|error| wrong(error.to_string()))?;
    match template.row(&fields(&Event::now(Kind::Container, "", "")), TYPE, &Value::Null) {
        // Other words are about values, which an event may well have.
        Err(error) if error.to_string().ends_with(&format!(" in type {TYPE}")) => Err(wrong(error.to_string()).into()),
        _ => Ok(template),
    }
}

/// An event as Docker's struct has it, whose names are not those of its JSON.
fn fields(event: &Event) -> Value {
    let shown = event.docker_json();
    let old = |name: &str| shown.get(name).cloned().unwrap_or_else(|| json!(""));
    json!({
        "Status": old("status"), "ID": old("id"), "From": old("from"),
        "Type": shown["Type"], "Action": shown["Action"], "Actor": shown["Actor"],
        "Scope": shown["scope"], "Time": shown["time"], "TimeNano": shown["timeNano"],
    })
}

fn line(event: &Event) -> String {
    let time = event.zoned().strftime("%Y-%m-%dT%H:%M:%S%.9f%:z").to_string().replace("+00:00", "Z");
    let all: Vec<String> = event.actor.attributes.iter().map(|(key, value)| format!("{key}={value}")).collect();
    format!("{time} {} {} {} ({})", event.kind.as_str(), event.action, event.actor.id, all.join(", "))
}
