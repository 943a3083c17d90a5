//! `container inspect`: Docker's shape.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;

use crate::commands::Context;
use crate::engine::{Container, inspect};
use crate::{failure, out};

/// Display detailed information on containers.
#[derive(Debug, Args)]
pub struct Inspect {
    /// Containers, by name or id
    #[arg(required = true)]
    containers: Vec<String>,
}

impl Inspect {
    /// Runs the command.
    pub fn run(self, context: &Context) -> Result<ExitCode> {
        let mut result = ExitCode::SUCCESS;
        let mut found = Vec::new();
        for key in &self.containers {
            match Container::find(&context.engine.roots, key) {
                Ok(container) => found.push(inspect::container(&context.engine, &container)),
                Err(error) => result = failure::report(&error),
            }
        }
        out!("{}", serde_json::to_string_pretty(&found)?);
        Ok(result)
    }
}
