//! `graph`: the project's services, dependencies, networks and health, drawn.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::{Args, ValueEnum};

use super::Context;
use crate::project::{graph, load, observe};

/// Draw services, what they depend on, their networks and their health.
#[derive(Debug, Args)]
pub struct Graph {
    /// Its form; by the name of the output file, or dot
    #[arg(long, value_enum, value_name = "FORMAT")]
    format: Option<Form>,
    /// Write to a file instead of the standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// The form of a drawing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Form {
    /// For Graphviz.
    Dot,
    /// For Mermaid, which many pages show.
    Mermaid,
    /// A picture.
    Svg,
}

impl Graph {
    /// Runs the command.
    pub fn run(self, context: &Context) -> Result<ExitCode> {
        let project = load::named(context, &[])?;
        let members = observe::members(&context.engine, &project.name)?;
        let graph = graph::of_project(&project.name, project.model.as_ref(), &members);
        let text = match self.form() {
            Form::Dot => graph::dot(&graph),
            Form::Mermaid => graph::mermaid(&graph),
            Form::Svg => graph::svg(&graph),
        };
        match &self.output {
            Some(path) => std::fs::write(path, text).with_context(|| format!("write {}", path.display()))?,
            None => crate::ui::write_raw(text.as_bytes()),
        }
        Ok(ExitCode::SUCCESS)
    }

    fn form(&self) -> Form {
        let extension = self.output.as_ref().and_then(|path| path.extension()?.to_str());
        self.format.unwrap_or(match extension {
            Some("svg") => Form::Svg,
            Some("mmd" | "mermaid" | "md") => Form::Mermaid,
            _ => Form::Dot,
        })
    }
}
