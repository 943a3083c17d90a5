//! `umiak network`.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Subcommand};
use umiak_netns::Cidr;
use umiak_netns::ipam::SubnetRequest;

use super::{Context, Format};
use crate::engine::request::Join;
use crate::engine::{Container, inspect, network};
use crate::ui::table::Table;
use crate::{failure, out};

/// Manage networks.
#[derive(Debug, Subcommand)]
pub enum Network {
    /// List networks
    #[command(visible_alias = "list")]
    Ls(Ls),
    /// Display detailed information on networks
    Inspect(Names),
    /// Create a network
    Create(Create),
    /// Remove networks
    Rm(Names),
    /// Remove all unused networks
    Prune(Prune),
    /// Connect a container to a network
    Connect(Connect),
    /// Disconnect a container from a network
    Disconnect(Disconnect),
}

/// List networks.
#[derive(Debug, Args)]
pub struct Ls {
    /// Only display network IDs
    #[arg(short, long)]
    quiet: bool,
    /// Do not truncate the output
    #[arg(long)]
    no_trunc: bool,
    /// table or json
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
}

/// Networks by name or id.
#[derive(Debug, Args)]
pub struct Names {
    /// Networks, by name or id
    #[arg(required = true)]
    networks: Vec<String>,
}

/// Create a network.
#[derive(Debug, Args)]
pub struct Create {
    /// Driver to manage the network: bridge
    #[arg(short, long, default_value = "bridge")]
    driver: String,
    /// Driver specific options
    #[arg(short, long, value_name = "K=V")]
    opt: Vec<String>,
    /// Set metadata
    #[arg(long, value_name = "K=V")]
    label: Vec<String>,
    /// Restrict external access to the network
    #[arg(long)]
    internal: bool,
    /// Enable IPv6
    #[arg(long)]
    ipv6: bool,
    /// Subnet in CIDR format
    #[arg(long)]
    subnet: Vec<Cidr>,
    /// Gateway of the subnet
    #[arg(long)]
    gateway: Vec<IpAddr>,
    /// Allocate container addresses from a sub-range
    #[arg(long)]
    ip_range: Vec<Cidr>,
    /// The network's name
    name: String,
}

/// Remove all unused networks.
#[derive(Debug, Args)]
pub struct Prune {
    /// Do not ask for confirmation
    #[arg(short, long)]
    force: bool,
}

/// Connect a container to a network.
#[derive(Debug, Args)]
pub struct Connect {
    /// Add a name for the container on this network
    #[arg(long, value_name = "NAME")]
    alias: Vec<String>,
    /// IPv4 address
    #[arg(long)]
    ip: Option<Ipv4Addr>,
    /// The network
    network: String,
    /// The container
    container: String,
}

/// Disconnect a container from a network.
#[derive(Debug, Args)]
pub struct Disconnect {
    /// Force the container to disconnect from the network
    #[arg(short, long)]
    force: bool,
    /// The network
    network: String,
    /// The container
    container: String,
}

impl Network {
    /// Runs the command.
    pub fn run(self, context: &Context) -> Result<ExitCode> {
        let engine = &context.engine;
        match self {
            Self::Ls(command) => command.run(context),
            Self::Inspect(command) => command.inspect(context),
            Self::Create(command) => command.run(context),
            Self::Rm(command) => each(&command.networks, |name| network::remove(&engine.roots, name)),
            Self::Prune(command) => command.run(context),
            Self::Connect(command) => {
                let container = Container::find(&engine.roots, &command.container)?;
                let network = network::lookup(&engine.roots, &command.network)?;
                let join = Join { network: network.name, aliases: command.alias, ipv4: command.ip, ..Join::default() };
                engine.connect(&container, &join)?;
                Ok(ExitCode::SUCCESS)
            }
            Self::Disconnect(command) => {
                let container = Container::find(&engine.roots, &command.container)?;
                let network = network::lookup(&engine.roots, &command.network);
                let name = match (network, command.force) {
                    (Ok(network), _) => network.name,
                    (Err(_), true) => command.network,
                    (Err(error), false) => return Err(error),
                };
                engine.disconnect(&container, &name)?;
                Ok(ExitCode::SUCCESS)
            }
        }
    }
}

fn each(names: &[String], act: impl Fn(&str) -> Result<()>) -> Result<ExitCode> {
    let mut result = ExitCode::SUCCESS;
    for name in names {
        match act(name) {
            Ok(()) => out!("{name}"),
            Err(error) => result = failure::report(&error),
        }
    }
    Ok(result)
}

impl Ls {
    fn run(self, context: &Context) -> Result<ExitCode> {
        let mut table = Table::new(&["NETWORK ID", "NAME", "DRIVER", "SCOPE"]);
        for network in network::list(&context.engine.roots)? {
            let id = if self.no_trunc { network.id.as_str() } else { umiak_base::id::short(&network.id) };
            if self.quiet {
                out!("{id}");
                continue;
            }
            if self.format == Format::Json {
                let labels: Vec<String> = network.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
                out!(
                    "{}",
                    serde_json::json!({
                        "ID": id, "Name": network.name, "Driver": network.driver, "Scope": "local",
                        "Internal": network.internal.to_string(), "IPv6": network.enable_ipv6.to_string(),
                        "CreatedAt": network.created, "Labels": labels.join(","),
                    })
                );
                continue;
            }
            table.row(vec![id.to_owned(), network.name, network.driver, "local".into()]);
        }
        if !self.quiet && self.format == Format::Table {
            out!("{}", table.render());
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Names {
    fn inspect(self, context: &Context) -> Result<ExitCode> {
        let mut result = ExitCode::SUCCESS;
        let members = context.engine.containers()?;
        let mut found = Vec::new();
        for name in &self.networks {
            match network::lookup(&context.engine.roots, name) {
                Ok(network) => found.push(inspect::network(&network, &members)),
                Err(error) => result = failure::report(&error),
            }
        }
        out!("{}", serde_json::to_string_pretty(&found)?);
        Ok(result)
    }
}

impl Create {
    fn run(self, context: &Context) -> Result<ExitCode> {
        let map = |all: &[String]| -> BTreeMap<String, String> {
            all.iter().map(|text| super::container::pair(text)).collect()
        };
        let count = self.subnet.len().max(self.gateway.len()).max(self.ip_range.len());
        let subnets = (0..count)
            .map(|index| SubnetRequest {
                cidr: self.subnet.get(index).copied(),
                gateway: self.gateway.get(index).copied(),
                ip_range: self.ip_range.get(index).copied(),
                ..SubnetRequest::default()
            })
            .collect();
        let wanted = network::Wanted {
            name: self.name,
            driver: Some(self.driver),
            options: map(&self.opt),
            labels: map(&self.label),
            internal: self.internal,
            ipv6: self.ipv6,
            subnets,
        };
        out!("{}", network::create(&context.engine.roots, &wanted)?.id);
        Ok(ExitCode::SUCCESS)
    }
}

impl Prune {
    fn run(self, context: &Context) -> Result<ExitCode> {
        if !self.force && !super::confirm("This will remove all networks not used by at least one container.")? {
            return Ok(ExitCode::SUCCESS);
        }
        let roots = &context.engine.roots;
        let mut removed = Vec::new();
        for network in network::list(roots)? {
            if network::users(roots, &network)?.is_empty() {
                network::remove(roots, &network.name)?;
                removed.push(network.name);
            }
        }
        if !removed.is_empty() {
            out!("Deleted Networks:\n{}", removed.join("\n"));
        }
        Ok(ExitCode::SUCCESS)
    }
}
