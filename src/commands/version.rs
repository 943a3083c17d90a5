//! `version`.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;

use crate::out;

/// Show the version.
#[derive(Debug, Args)]
pub struct Version {
    /// pretty or json
    #[arg(short, long, default_value = "pretty", value_parser = ["pretty", "json"])]
    format: String,
    /// Shows only the version number
    #[arg(long)]
    short: bool,
}

impl Version {
    /// Runs the command.
    pub fn run(&self) -> Result<ExitCode> {
        let version = env!("CARGO_PKG_VERSION");
        match (self.short, self.format.as_str()) {
            (true, _) => out!("{version}"),
            (_, "json") => out!("{}", serde_json::json!({ "version": version })),
            _ => out!("umiak version {version}"),
        }
        Ok(ExitCode::SUCCESS)
    }
}
