//! `docker version`.

use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::Args;
use serde_json::{Value, json};

use crate::out;
use crate::personality::DOCKER_VERSION;
use crate::template::Template;

/// The version of Docker's API whose language is spoken.
const API: &str = "1.51";

/// Show the version information.
#[derive(Debug, Args)]
pub struct Version {
    /// Format output: json, or a Go template
    #[arg(short, long, value_name = "FORMAT")]
    format: Option<String>,
}

impl Version {
    /// Runs the command.
    pub fn run(self) -> Result<ExitCode> {
        let version = gather();
        match self.format.as_deref() {
            None => out!("{}", text(&version)),
            Some("json" | "{{json .}}") => out!("{version}"),
            Some(format) => {
                let template = Template::parse(format).context("template parsing error")?;
                out!("{}", template.inspect(&with_go_names(version)).context("template parsing error")?);
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// The architecture in Go's words.
pub fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// The versions of Docker that scripts compare; what runs here is named as the platform and its component.
fn gather() -> Value {
    let own = env!("CARGO_PKG_VERSION");
    let kernel = rustix::system::uname().release().to_string_lossy().into_owned();
    json!({
        "Client": {
            "Version": DOCKER_VERSION, "ApiVersion": API, "DefaultAPIVersion": API, "GitCommit": "", "GoVersion": "",
            "Os": "linux", "Arch": architecture(), "BuildTime": "", "Context": "default",
        },
        "Server": {
            "Platform": { "Name": format!("umiak {own}") },
            "Components": [{ "Name": "umiak", "Version": own, "Details": {
                "ApiVersion": API, "Arch": architecture(), "Experimental": "false", "KernelVersion": kernel,
                "MinAPIVersion": API, "Os": "linux",
            } }],
            "Version": DOCKER_VERSION, "ApiVersion": API, "MinAPIVersion": API, "GitCommit": "", "GoVersion": "",
            "Os": "linux", "Arch": architecture(), "KernelVersion": kernel, "BuildTime": "",
        },
    })
}

/// Templates know this field by its name in Go.
fn with_go_names(mut version: Value) -> Value {
    for side in ["Client", "Server"] {
        version[side]["APIVersion"] = json!(API);
    }
    version
}

fn text(version: &Value) -> String {
    let word = |side: &str, field: &str| version[side][field].as_str().unwrap_or_default().to_owned();
    [
        format!("Client: umiak {}", env!("CARGO_PKG_VERSION")),
        format!(" Version:           {}", word("Client", "Version")),
        format!(" API version:       {}", word("Client", "ApiVersion")),
        format!(" OS/Arch:           {}/{}", word("Client", "Os"), word("Client", "Arch")),
        " Context:           default\n".to_owned(),
        "Server: umiak, no daemon\n Engine:".to_owned(),
        format!("  Version:          {}", word("Server", "Version")),
        format!("  API version:      {}", word("Server", "ApiVersion")),
        format!("  OS/Arch:          {}/{}", word("Server", "Os"), word("Server", "Arch")),
    ]
    .join("\n")
}
