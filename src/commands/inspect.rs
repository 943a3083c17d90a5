//! `inspect` of any object: as JSON, or through a template. What cannot be
//! found is told, and the others are shown all the same.

use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::Args;
use serde_json::{Value, json};

use super::Context;
use crate::engine::{Container, disk, inspect, network, volume};
use crate::failure::{self, Coded, Plain};
use crate::out;
use crate::template::Template;

/// Return low-level information on objects of any kind.
#[derive(Debug, Args)]
pub struct Inspect {
    /// Format output: json, or a Go template
    #[arg(short, long, value_name = "FORMAT")]
    format: Option<String>,
    /// Display total file sizes if the type is container
    #[arg(short, long)]
    size: bool,
    /// Only inspect objects of this type: container, image, network, volume
    #[arg(long = "type", value_name = "TYPE")]
    kind: Option<String>,
    /// Names or ids
    #[arg(required = true, value_name = "NAME|ID")]
    names: Vec<String>,
}

/// Docker's types; those of a swarm have no objects here.
const TYPES: [&str; 10] =
    ["config", "container", "image", "network", "node", "plugin", "secret", "service", "task", "volume"];

impl Inspect {
    /// Runs the command.
    pub fn run(self, context: &Context) -> Result<ExitCode> {
        let kind = self.kind.as_deref().unwrap_or("");
        if !kind.is_empty() && !TYPES.contains(&kind) {
            let known = TYPES.map(|name| format!("\"{name}\"")).join(", ");
            return Err(Plain(format!("unknown type: \"{kind}\": must be one of {known}")).into());
        }
        show(&self.names, self.format.as_deref(), |key| match kind {
            "" => any(context, key, self.size),
            "container" => container(context, key, self.size).map(Some),
            "image" => image(context, key).map(Some),
            "network" => network(context, key).map(Some),
            "volume" => volume(context, key).map(Some),
            _ => Ok(None),
        })
    }
}

/// The first object of that name, in Docker's order of types.
fn any(context: &Context, key: &str, size: bool) -> Result<Option<Value>> {
    if Container::find(&context.engine.roots, key).is_ok() {
        return container(context, key, size).map(Some);
    }
    let found = image(context, key).or_else(|_| network(context, key)).or_else(|_| volume(context, key));
    Ok(found.ok())
}

/// A container's description.
pub fn container(context: &Context, key: &str, size: bool) -> Result<Value> {
    let container = Container::find(&context.engine.roots, key)?;
    let mut value = inspect::container(&context.engine, &container);
    if let (Some(map), true) = (value.as_object_mut(), size) {
        let size = disk::container_size(&context.engine, &container);
        map.insert("SizeRw".into(), json!(size.own));
        map.insert("SizeRootFs".into(), json!(size.all));
    }
    Ok(value)
}

/// An image's description.
pub fn image(context: &Context, key: &str) -> Result<Value> {
    super::image::inspected(context, &super::image::resolve(context, key)?)
}

/// A network's description.
pub fn network(context: &Context, key: &str) -> Result<Value> {
    let found = network::lookup(&context.engine.roots, key)?;
    Ok(inspect::network(&found, &context.engine.containers()?))
}

/// A volume's description.
pub fn volume(context: &Context, key: &str) -> Result<Value> {
    Ok(inspect::volume(&context.engine, &volume::find(&context.engine.roots, key)?))
}

/// Shows all that are found; `Ok(None)` stands for an object of no kind.
pub fn show(
    keys: &[String],
    format: Option<&str>,
    mut find: impl FnMut(&str) -> Result<Option<Value>>,
) -> Result<ExitCode> {
    let template = match format {
        None | Some("" | "json") => None,
        Some(text) => {
            // Docker ends with 64 here, and with 1 where a template does not fit.
            let wrong = |error| Coded { text: format!("template parsing error: {error}"), code: 64 };
            Some(Template::parse(text).map_err(wrong)?)
        }
    };
    let (mut found, mut failed) = (Vec::new(), Vec::new());
    for key in keys {
        match find(key) {
            Ok(Some(value)) => match &template {
                None => found.push(value),
                Some(template) => match template.inspect(&value) {
                    Ok(text) => out!("{text}"),
                    Err(error) => {
                        // As Docker: what was there before it is told, here nothing.
                        out!("");
                        return Err(error).context("template parsing error");
                    }
                },
            },
            Ok(None) => failed.push(Coded { text: format!("Error: No such object: {key}"), code: 1 }.into()),
            Err(error) => failed.push(error),
        }
    }
    match format {
        _ if template.is_some() => {}
        Some("json") => out!("{}", Value::Array(found)),
        _ => out!("{}", pretty(&Value::Array(found))),
    }
    for error in &failed {
        match error.downcast_ref::<Coded>() {
            Some(coded) => crate::note!("{coded}"),
            None => drop(failure::report(error)),
        }
    }
    Ok(if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// JSON with Docker's indentation.
pub fn pretty(value: &Value) -> String {
    use serde::Serialize as _;
    let mut out = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    let mut serializer = serde_json::Serializer::with_formatter(&mut out, formatter);
    match value.serialize(&mut serializer) {
        Ok(()) => String::from_utf8_lossy(&out).into_owned(),
        Err(_) => value.to_string(),
    }
}
