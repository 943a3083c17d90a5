//! `umiak network`.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Subcommand};
use serde_json::json;
use umiak_netns::Cidr;
use umiak_netns::ipam::SubnetRequest;

use super::Context;
use super::filters::{Filters, LongFilters};
use crate::engine::request::Join;
use crate::engine::{Container, network};
use crate::ui::listing::{Listing, Row};
use crate::{failure, out};

/// Manage networks.
#[derive(Debug, Subcommand)]
pub enum Network {
    /// List networks
    #[command(visible_alias = "list")]
    Ls(Ls),
    /// Display detailed information on networks
    Inspect(Inspect),
    /// Create a network
    Create(Create),
    /// Remove networks
    Rm(Rm),
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
    #[command(flatten)]
    filters: Filters,
    /// Format output: table, json, or a Go template
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Do not truncate the output
    #[arg(long)]
    no_trunc: bool,
    /// Only display network IDs
    #[arg(short, long)]
    quiet: bool,
}

const LISTING: Listing = Listing {
    type_name: "*formatter.networkContext",
    headers: &[
        ("ID", "NETWORK ID"),
        ("Name", "NAME"),
        ("Driver", "DRIVER"),
        ("Scope", "SCOPE"),
        ("IPv4", "IPV4"),
        ("IPv6", "IPV6"),
        ("Internal", "INTERNAL"),
        ("Labels", "LABELS"),
        ("CreatedAt", "CREATED AT"),
    ],
};

/// Display detailed information on networks.
#[derive(Debug, Args)]
pub struct Inspect {
    /// Format output: json, or a Go template
    #[arg(short, long, value_name = "FORMAT")]
    format: Option<String>,
    /// Networks, by name or id
    #[arg(required = true)]
    networks: Vec<String>,
}

/// Remove networks.
#[derive(Debug, Args)]
pub struct Rm {
    /// No error for a network that is not there
    #[arg(short, long)]
    force: bool,
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
    #[command(flatten)]
    filters: LongFilters,
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
            Self::Inspect(command) => super::inspect::show(&command.networks, command.format.as_deref(), |name| {
                super::inspect::network(context, name).map(Some)
            }),
            Self::Create(command) => command.run(context),
            Self::Rm(command) => each(&command.networks, |name| {
                if command.force && network::lookup(&engine.roots, name).is_err() {
                    return Ok(());
                }
                network::remove(&engine.roots, name)
            }),
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
        self.filters.only(&["dangling", "driver", "id", "label", "label!", "name", "scope", "type"])?;
        let roots = &context.engine.roots;
        let dangling = self.filters.flag("dangling")?;
        let mut rows = Vec::new();
        for found in network::list(roots)? {
            let filters = &self.filters;
            let fits = filters.name(&found.name)
                && filters.any("id", |id| found.id.starts_with(id))
                && filters.any("driver", |driver| found.driver == driver)
                && filters.any("scope", |scope| scope == "local")
                && filters.any("type", |kind| (kind == "builtin") == (found.name == network::DEFAULT))
                && filters.labels(&found.labels);
            if !fits
                || dangling.is_some_and(|wanted| network::users(roots, &found).is_ok_and(|u| u.is_empty() != wanted))
            {
                continue;
            }
            let id = if self.no_trunc { found.id.as_str() } else { umiak_base::id::short(&found.id) };
            let created = found.created.parse::<jiff::Timestamp>().ok();
            let created = created.map(|time| time.strftime("%Y-%m-%d %H:%M:%S%.f +0000 UTC").to_string());
            let row = Row::new([
                ("ID", json!(id)),
                ("Name", json!(found.name)),
                ("Driver", json!(found.driver)),
                ("Scope", json!("local")),
                ("IPv4", json!("true")),
                ("IPv6", json!(found.enable_ipv6.to_string())),
                ("Internal", json!(found.internal.to_string())),
                ("CreatedAt", json!(created.unwrap_or_else(|| found.created.clone()))),
            ]);
            rows.push(row.with_labels(&found.labels));
        }
        if self.quiet && self.format.is_none() {
            Listing::print_field("ID", &rows);
        } else {
            LISTING.print(self.format.as_deref(), &["ID", "Name", "Driver", "Scope"], &rows)?;
        }
        Ok(ExitCode::SUCCESS)
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
            ..network::Wanted::default()
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
        report(&unused(context, &self.filters.into())?);
        Ok(ExitCode::SUCCESS)
    }
}

/// Removes networks that no container has: their names.
pub fn unused(context: &Context, filters: &Filters) -> Result<Vec<String>> {
    filters.only(&["label", "label!", "until"])?;
    let before = super::until(filters)?;
    let roots = &context.engine.roots;
    let mut removed = Vec::new();
    for found in network::list(roots)? {
        let created = found.created.parse::<jiff::Timestamp>().ok();
        let old = before.is_none_or(|before| created.is_some_and(|created| created < before));
        if old && filters.labels(&found.labels) && network::users(roots, &found)?.is_empty() {
            network::remove(roots, &found.name)?;
            removed.push(found.name);
        }
    }
    Ok(removed)
}

/// Says which were removed.
pub fn report(removed: &[String]) {
    if !removed.is_empty() {
        out!("Deleted Networks:\n{}\n", removed.join("\n"));
    }
}
