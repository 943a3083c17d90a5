//! `system info`, which is `docker info`.

use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::Args;
use serde_json::{Value, json};

use crate::commands::Context;
use crate::engine::cgroup;
use crate::out;
use crate::template::Template;
use crate::ui::human;

/// Display system-wide information.
#[derive(Debug, Args)]
pub struct Info {
    /// Format output: json, or a Go template
    #[arg(short, long, value_name = "FORMAT")]
    format: Option<String>,
}

impl Info {
    /// Runs the command.
    pub fn run(self, context: &Context) -> Result<ExitCode> {
        let info = gather(context)?;
        match self.format.as_deref() {
            None => out!("{}", text(&info)),
            Some("json" | "{{json .}}") => out!("{info}"),
            Some(format) => {
                let template = Template::parse(format).context("template parsing error")?;
                out!("{}", template.inspect(&info).context("template parsing error")?);
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// The system as `os-release` calls it.
fn system_name() -> String {
    let text = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    let name = text.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    name.map_or_else(|| "Linux".to_owned(), |name| name.trim_matches('"').to_owned())
}

fn gather(context: &Context) -> Result<Value> {
    let containers = context.engine.containers()?;
    let count = |status: &str| containers.iter().filter(|container| container.state.status.as_str() == status).count();
    let (running, paused) = (count("running"), count("paused"));
    let kernel = rustix::system::uname();
    let text = |part: &std::ffi::CStr| part.to_string_lossy().into_owned();
    let unified = std::path::Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
    let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    Ok(json!({
        "ID": "",
        "Containers": containers.len(),
        "ContainersRunning": running,
        "ContainersPaused": paused,
        "ContainersStopped": containers.len() - running - paused,
        "Images": context.engine.store()?.list()?.images.len(),
        "Driver": "overlay2",
        "DriverStatus": [],
        "Plugins": { "Volume": ["local"], "Network": ["bridge", "host", "null"], "Log": ["journald", "json-file", "local", "none", "syslog"] },
        "LoggingDriver": "json-file",
        "CgroupDriver": "cgroupfs",
        "CgroupVersion": if unified { "2" } else { "1" },
        "KernelVersion": text(kernel.release()),
        "OperatingSystem": system_name(),
        "OSType": "linux",
        "Architecture": text(kernel.machine()),
        "NCPU": cpus,
        "MemTotal": cgroup::host_memory(),
        "DockerRootDir": context.engine.roots.data,
        "Name": text(kernel.nodename()),
        "Labels": [],
        "ServerVersion": env!("CARGO_PKG_VERSION"),
        "SecurityOptions": ["name=seccomp,profile=builtin"],
        "Swarm": { "LocalNodeState": "inactive" },
        "LiveRestoreEnabled": true,
        "Warnings": null,
        "ClientInfo": { "Version": env!("CARGO_PKG_VERSION"), "Context": "default", "Debug": false },
    }))
}

fn text(info: &Value) -> String {
    let field = |name: &str| match &info[name] {
        Value::String(text) => text.clone(),
        value => value.to_string(),
    };
    let memory = info["MemTotal"].as_u64().map(human::binary_size).unwrap_or_default();
    let lines = [
        format!("Client:\n Version:    {}\n Context:    default\n Debug Mode: false\n", field("ServerVersion")),
        format!("Server:\n Containers: {}", field("Containers")),
        format!("  Running: {}", field("ContainersRunning")),
        format!("  Paused: {}", field("ContainersPaused")),
        format!("  Stopped: {}", field("ContainersStopped")),
        format!(" Images: {}", field("Images")),
        format!(" Server Version: {} (umiak, no daemon)", field("ServerVersion")),
        format!(" Storage Driver: {}", field("Driver")),
        format!(" Logging Driver: {}", field("LoggingDriver")),
        format!(" Cgroup Driver: {}", field("CgroupDriver")),
        format!(" Cgroup Version: {}", field("CgroupVersion")),
        " Plugins:\n  Volume: local\n  Network: bridge host null\n  Log: journald json-file local none syslog"
            .to_owned(),
        " Swarm: inactive\n Security Options:\n  seccomp\n   Profile: builtin".to_owned(),
        format!(" Kernel Version: {}", field("KernelVersion")),
        format!(" Operating System: {}", field("OperatingSystem")),
        format!(" OSType: {}", field("OSType")),
        format!(" Architecture: {}", field("Architecture")),
        format!(" CPUs: {}", field("NCPU")),
        format!(" Total Memory: {memory}"),
        format!(" Name: {}", field("Name")),
        format!(" Docker Root Dir: {}", field("DockerRootDir")),
    ];
    lines.join("\n")
}
