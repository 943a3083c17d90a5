//! `system info`, which is `docker info`.

use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::Args;
use serde_json::{Value, json};
use umiak_runtime::apparmor;

use crate::commands::Context;
use crate::engine::cgroup;
use crate::out;
use crate::personality::{COMPOSE_VERSION, Personality};
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
    let version = Personality::current().version();
    let mut info = json!({
        "ID": "",
        "Containers": containers.len(),
        "ContainersRunning": running,
        "ContainersPaused": paused,
        "ContainersStopped": containers.len() - running - paused,
        "Images": context.engine.store()?.list()?.images.len(),
        "Driver": "overlay2",
        "DriverStatus": [],
        "Plugins": { "Volume": ["local"], "Network": ["bridge", "host", "null"], "Log": ["journald", "json-file", "local", "none", "syslog"] },
        "RegistryConfig": {
            "InsecureRegistryCIDRs": ["::1/128", "127.0.0.0/8"], "Mirrors": [],
            "IndexConfigs": { "docker.io": { "Mirrors": [], "Name": "docker.io", "Official": true, "Secure": true } },
        },
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
        "ServerVersion": version,
        "SecurityOptions": security_options(),
        "LiveRestoreEnabled": true,
        "Warnings": warnings(),
        "ClientInfo": {
            "Version": version, "Context": "default", "Debug": false,
            "Plugins": [{ "Name": "compose", "ShortDescription": "Docker Compose", "Version": COMPOSE_VERSION }],
        },
    });
    if let (Value::Object(all), Value::Object(fixed)) = (&mut info, fixed()) {
        all.extend(fixed);
    }
    Ok(info)
}

/// What confines containers by default.
fn security_options() -> Vec<&'static str> {
    let apparmor = apparmor::is_enabled() && apparmor::load().is_ok();
    apparmor.then_some("name=apparmor").into_iter().chain(["name=seccomp,profile=builtin"]).collect()
}

fn warnings() -> Value {
    match apparmor::load() {
        Ok(()) => Value::Null,
        Err(error) => {
            let why = crate::failure::one_line(&error.into());
            json!([format!("WARNING: AppArmor is on, but containers run without a profile of it: {why}")])
        }
    }
}

/// What scripts ask before they begin, and what is the same everywhere or said by the kernel.
fn fixed() -> Value {
    let controller = |name: &str| {
        let listed = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let unified = listed("/sys/fs/cgroup/cgroup.controllers");
        let v1 = listed("/proc/cgroups");
        unified.split_whitespace().any(|word| word == name) || v1.lines().any(|line| line.starts_with(name))
    };
    let forwards = |path: &str| std::fs::read_to_string(path).is_ok_and(|text| text.trim() == "1");
    let unified = std::path::Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
    let (memory, cpu) = (controller("memory"), controller("cpu"));
    json!({
        "MemoryLimit": memory,
        "SwapLimit": memory,
        "OomKillDisable": memory && !unified,
        "PidsLimit": controller("pids"),
        "CpuCfsPeriod": cpu,
        "CpuCfsQuota": cpu,
        "CPUShares": cpu,
        "CPUSet": controller("cpuset"),
        "IPv4Forwarding": forwards("/proc/sys/net/ipv4/ip_forward"),
        "DefaultRuntime": "runc",
        "Runtimes": { "runc": { "path": "umiak" }, "umiak": { "path": "umiak" } },
        "InitBinary": "umiak",
        "Isolation": "",
        "Debug": false,
        "ExperimentalBuild": false,
        "IndexServerAddress": "https://index.docker.io/v1/",
        "HttpProxy": "",
        "HttpsProxy": "",
        "NoProxy": "",
        "FirewallBackend": { "Driver": "nftables" },
        "CDISpecDirs": ["/etc/cdi", "/var/run/cdi"],
        "GenericResources": null,
        "SystemTime": jiff::Timestamp::now().to_string(),
        "Swarm": {
            "NodeID": "", "NodeAddr": "", "LocalNodeState": "inactive", "ControlAvailable": false, "Error": "",
            "RemoteManagers": null,
        },
    })
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
