//! `events`: what happens to the project's containers.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use serde_json::json;

use super::Context;
use crate::engine::events::read::{Window, follow};
use crate::engine::events::{Event, Kind};
use crate::out;
use crate::project::{labels, load};

/// Receive real time events from containers.
#[derive(Debug, Args)]
pub struct Events {
    /// Output events as a stream of JSON objects
    #[arg(long)]
    json: bool,
    /// Show all events created since timestamp
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Stream events until this timestamp
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// Services; all if none
    services: Vec<String>,
}

impl Events {
    /// Runs the command.
    pub fn run(self, context: &Context) -> Result<ExitCode> {
        let project = load::named(context, &[])?;
        let window = Window::parse(self.since.as_deref(), self.until.as_deref())?;
        follow(&context.engine.roots, window, &mut |event| {
            if self.wanted(event, &project.name) {
                match self.json {
                    true => out!("{}", object(event)),
                    // Docker Compose puts an empty line between them.
                    false => out!("{}\n", line(event)),
                }
            }
            Ok(())
        })?;
        Ok(ExitCode::SUCCESS)
    }

    fn wanted(&self, event: &Event, project: &str) -> bool {
        let service = event.attribute(labels::SERVICE).unwrap_or_default();
        event.kind == Kind::Container
            && event.attribute(labels::PROJECT) == Some(project)
            && event.attribute(labels::ONEOFF) != Some("True")
            && (self.services.is_empty() || self.services.iter().any(|name| name == service))
    }
}

/// The attributes that are not Compose's own labels.
fn attributes(event: &Event) -> impl Iterator<Item = (&String, &String)> {
    event.actor.attributes.iter().filter(|(key, _)| !key.starts_with("com.docker.compose."))
}

fn line(event: &Event) -> String {
    let time = event.zoned().strftime("%Y-%m-%d %H:%M:%S%.6f");
    let all: Vec<String> = attributes(event).map(|(key, value)| format!("{key}={value}")).collect();
    format!("{time} {} {} {} ({})", event.kind.as_str(), event.action, event.actor.id, all.join(", "))
}

fn object(event: &Event) -> serde_json::Value {
    let time = event.zoned();
    let zone = if time.offset().is_zero() { "Z".to_owned() } else { time.strftime("%:z").to_string() };
    json!({
        "action": event.action,
        "attributes": attributes(event).collect::<std::collections::BTreeMap<_, _>>(),
        "id": event.actor.id,
        "service": event.attribute(labels::SERVICE).unwrap_or_default(),
        "time": format!("{}{zone}", time.strftime("%Y-%m-%dT%H:%M:%S%.f")),
        "type": event.kind.as_str(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_shown_as_docker_compose_shows_it() {
        let mut event = Event::now(Kind::Container, "die", "c3f7")
            .with("exitCode", "3")
            .with("com.docker.compose.service", "job")
            .with("name", "p-job-1");
        event.time = 1_795_238_549_669_973_000;
        assert!(line(&event).ends_with(" container die c3f7 (exitCode=3, name=p-job-1)"), "{}", line(&event));
        let shown = object(&event);
        assert_eq!((&shown["service"], &shown["action"]), (&json!("job"), &json!("die")));
        assert_eq!(shown["attributes"], json!({ "exitCode": "3", "name": "p-job-1" }));
        let time: jiff::Timestamp = shown["time"].as_str().unwrap().parse().unwrap();
        assert_eq!(time.as_nanosecond(), 1_795_238_549_669_973_000);
    }
}
