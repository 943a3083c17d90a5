//! `version`.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;

use crate::out;
use crate::personality::{COMPOSE_VERSION, Personality};

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
        let personality = Personality::current();
        let version = personality.version();
        match (self.short, self.format.as_str()) {
            (true, _) => out!("{version}"),
            (_, "json") if personality == Personality::Compose => out!(r#"{{"version":"v{version}"}}"#),
            (_, "json") => out!("{}", serde_json::json!({ "version": version })),
            _ if personality == Personality::Compose => out!("{}", of_compose()),
            _ => out!("umiak version {version}"),
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// What Docker Compose says of itself.
pub fn of_compose() -> String {
    format!("Docker Compose version v{COMPOSE_VERSION} (umiak {})", env!("CARGO_PKG_VERSION"))
}
