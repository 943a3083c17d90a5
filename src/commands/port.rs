//! `port`: where a container's port is on the host.

use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::Args;

use super::Context;
use crate::out;
use crate::project::{load, observe};

/// Print the public port for a port binding.
#[derive(Debug, Args)]
pub struct Port {
    /// tcp or udp
    #[arg(long, default_value = "tcp")]
    protocol: String,
    /// Index of the container if the service has multiple replicas
    #[arg(long, value_name = "N")]
    index: Option<u32>,
    /// The service
    service: String,
    /// The port inside the container
    private_port: u16,
}

impl Port {
    /// Runs the command.
    pub fn run(self, context: &Context) -> Result<ExitCode> {
        let project = load::named(context, &[])?;
        let member = observe::running(&context.engine, &project.name, &self.service, self.index)?;
        let found = member
            .container
            .state
            .ports
            .iter()
            .find(|port| port.container_port == self.private_port && port.protocol == self.protocol);
        let port = found.with_context(|| {
            let name = &member.container.config.name;
            let all = member.container.state.ports.iter();
            let all: Vec<String> = all.map(|port| format!("{}/{}", port.host_port, port.protocol)).collect();
            let all = if all.is_empty() { String::new() } else { format!(": {}", all.join(", ")) };
            format!("no port {}/{} for container {name}{all}", self.private_port, self.protocol)
        })?;
        out!("{}", std::net::SocketAddr::new(port.host_ip, port.host_port));
        Ok(ExitCode::SUCCESS)
    }
}
