//! `container port`: where a container's ports are on the host.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;

use crate::commands::Context;
use crate::engine::Container;
use crate::failure::Coded;
use crate::out;

/// List port mappings or a specific mapping for the container.
#[derive(Debug, Args)]
pub struct Port {
    /// The container
    container: String,
    /// The port inside the container: PORT[/PROTO]
    private_port: Option<String>,
}

impl Port {
    /// Runs the command.
    pub fn run(self, context: &Context) -> Result<ExitCode> {
        let container = Container::find(&context.engine.roots, &self.container)?;
        let address = |port: &crate::engine::container::PublishedPort| {
            std::net::SocketAddr::new(port.host_ip, port.host_port).to_string()
        };
        let ports = &container.state.ports;
        let Some(wanted) = &self.private_port else {
            let mut lines: Vec<String> = ports
                .iter()
                .map(|port| format!("{}/{} -> {}", port.container_port, port.protocol, address(port)))
                .collect();
            lines.sort();
            lines.iter().for_each(|line| out!("{line}"));
            return Ok(ExitCode::SUCCESS);
        };
        let (number, protocol) = wanted.split_once('/').unwrap_or((wanted, "tcp"));
        let found: Vec<_> = ports
            .iter()
            .filter(|port| number.parse() == Ok(port.container_port) && port.protocol == protocol)
            .collect();
        if found.is_empty() {
            let text = format!("Error: No public port '{wanted}' published for {}", self.container);
            return Err(Coded { text, code: 1 }.into());
        }
        found.iter().for_each(|port| out!("{}", address(port)));
        Ok(ExitCode::SUCCESS)
    }
}
