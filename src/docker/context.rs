//! `docker context`: there is one, and it is always in use.

use std::process::ExitCode;

use anyhow::Result;
use clap::Subcommand;
use serde_json::json;

use crate::commands::inspect;
use crate::failure::Plain;
use crate::out;
use crate::ui::listing::{Listing, Row};

/// Manage contexts.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List contexts
    #[command(visible_alias = "list")]
    Ls {
        /// Format output: table, json, or a Go template
        #[arg(long, value_name = "FORMAT")]
        format: Option<String>,
        /// Only show context names
        #[arg(short, long)]
        quiet: bool,
    },
    /// Print the name of the current context
    Show,
    /// Set the current docker context
    Use {
        /// The context: default
        name: String,
    },
    /// Display detailed information on contexts
    Inspect {
        /// Format output: json, or a Go template
        #[arg(short, long, value_name = "FORMAT")]
        format: Option<String>,
        /// Contexts
        names: Vec<String>,
    },
}

const LISTING: Listing = Listing {
    type_name: "*formatter.clientContextContext",
    headers: &[
        ("Name", "NAME"),
        ("Description", "DESCRIPTION"),
        ("DockerEndpoint", "DOCKER ENDPOINT"),
        ("Error", "ERROR"),
        ("Current", "CURRENT"),
    ],
};

/// What this host is called where Docker names the socket of its daemon; it is taken by `-H`, too.
const HERE: &str = "unix:///var/run/docker.sock";

/// What is said of a context that is not there.
pub fn unknown(name: &str) -> anyhow::Error {
    Plain(format!("context \"{name}\": context not found: there is only the context \"default\"")).into()
}

impl Command {
    /// Runs the command.
    pub fn run(self) -> Result<ExitCode> {
        match self {
            Self::Ls { quiet: true, .. } | Self::Show => out!("default"),
            Self::Ls { format, .. } => {
                let name = if format.is_none() { "default *" } else { "default" };
                let row = Row::new([
                    ("Name", json!(name)),
                    ("Description", json!("Current DOCKER_HOST based configuration")),
                    ("DockerEndpoint", json!(HERE)),
                    ("Current", json!(true)),
                    ("Error", json!("")),
                ]);
                LISTING.print(format.as_deref(), &["Name", "Description", "DockerEndpoint", "Error"], &[row])?;
            }
            Self::Use { name } if name == "default" => {
                out!("default");
                crate::note!("Current context is now \"default\"");
            }
            Self::Use { name } => return Err(unknown(&name)),
            Self::Inspect { format, names } => {
                let names = if names.is_empty() { vec!["default".to_owned()] } else { names };
                return inspect::show(&names, format.as_deref(), |name| match name {
                    "default" => Ok(Some(json!({
                        "Name": "default", "Metadata": {},
                        "Endpoints": { "docker": { "Host": HERE, "SkipTLSVerify": false } },
                        "TLSMaterial": {},
                        "Storage": { "MetadataPath": "<IN MEMORY>", "TLSPath": "<IN MEMORY>" },
                    }))),
                    other => Err(unknown(other)),
                });
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}
