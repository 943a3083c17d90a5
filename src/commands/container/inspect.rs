//! `container inspect`: Docker's shape.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;

use crate::commands::{Context, inspect};

/// Display detailed information on containers.
#[derive(Debug, Args)]
pub struct Inspect {
    /// Format output: json, or a Go template
    #[arg(short, long, value_name = "FORMAT")]
    format: Option<String>,
    /// Display total file sizes
    #[arg(short, long)]
    size: bool,
    /// Containers, by name or id
    #[arg(required = true)]
    containers: Vec<String>,
}

impl Inspect {
    /// Runs the command.
    pub fn run(self, context: &Context) -> Result<ExitCode> {
        inspect::show(&self.containers, self.format.as_deref(), |key| {
            inspect::container(context, key, self.size).map(Some)
        })
    }
}
