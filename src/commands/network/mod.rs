//! `umiak network`.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use serde_json::json;
use umiak_netns::Cidr;
use umiak_netns::ipam::SubnetRequest;

use super::Context;
use super::filters::{Filters, LongFilters};
use crate::engine::request::Join;
use crate::engine::{Container, network};
use crate::failure::Plain;
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
    /// Verbose output: in a Swarm, the services of a network
    #[arg(short, long, hide = true)]
    verbose: bool,
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
    #[arg(long, value_name = "K=V", value_parser = super::container::label)]
    label: Vec<String>,
    /// Restrict external access to the network
    #[arg(long)]
    internal: bool,
    /// Show the network as one that single containers may join, as all are outside of a Swarm
    #[arg(long)]
    attachable: bool,
    /// Enable or disable IPv4 address assignment
    #[arg(long, num_args = 0..=1, require_equals = true, default_value_t = true, default_missing_value = "true", action = clap::ArgAction::Set)]
    ipv4: bool,
    /// Enable IPv6
    #[arg(long, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true", action = clap::ArgAction::Set)]
    ipv6: bool,
    /// IP address management: default, or null (containers get no addresses)
    #[arg(long, value_name = "DRIVER")]
    ipam_driver: Option<String>,
    /// Auxiliary addresses that containers are not given: NAME=IP
    #[arg(long, value_name = "NAME=IP")]
    aux_address: Vec<String>,
    /// The network's scope: local
    #[arg(long, value_name = "SCOPE", value_parser = scope, hide = true)]
    scope: Option<()>,
    /// Subnet in CIDR format
    #[arg(long)]
    subnet: Vec<String>,
    /// Gateway of the subnet
    #[arg(long)]
    gateway: Vec<String>,
    /// Allocate container addresses from a sub-range
    #[arg(long)]
    ip_range: Vec<String>,
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
    /// Driver options of the attachment
    #[arg(long, value_name = "K=V")]
    driver_opt: Vec<String>,
    /// Priority of the network's gateway: the highest is the container's default route
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true, allow_hyphen_values = true)]
    gw_priority: i32,
    /// IPv4 address
    #[arg(long)]
    ip: Option<String>,
    /// IPv6 address
    #[arg(long)]
    ip6: Option<String>,
    /// Add a link to another container: NAME[:ALIAS]
    #[arg(long, value_name = "NAME")]
    link: Vec<String>,
    /// Add an address to the interface, such as a link-local one
    #[arg(long, value_name = "IP")]
    link_local_ip: Vec<IpAddr>,
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
            Self::Rm(command) => {
                // Of what is not there nothing is said, as in Docker.
                let wanted = |name: &&String| !command.force || network::lookup(&engine.roots, name).is_ok();
                let names: Vec<String> = command.networks.iter().filter(wanted).cloned().collect();
                each(&names, |name| network::remove(&engine.roots, name))
            }
            Self::Prune(command) => command.run(context),
            Self::Connect(command) => {
                let container = Container::find(&engine.roots, &command.container)?;
                let network = network::lookup(&engine.roots, &command.network)?;
                let links: Vec<_> = command.link.iter().map(|text| super::container::link(text)).collect();
                let join = Join {
                    network: network.name,
                    aliases: command.alias,
                    ipv4: command.ip.map(|text| address(&text, "IPv4")).transpose()?,
                    ipv6: command.ip6.map(|text| address(&text, "IPv6")).transpose()?,
                    gateway_priority: command.gw_priority,
                    link_local: command.link_local_ip,
                    driver_opts: command.driver_opt.iter().map(|option| super::container::pair(option)).collect(),
                    ..Join::default()
                };
                engine.connect(&container, &join, &links)?;
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

/// What the daemon finds wrong with an address in Docker, and its client does not.
fn address<T: std::str::FromStr>(text: &str, family: &str) -> Result<T> {
    text.parse().map_err(|_| anyhow::anyhow!("invalid endpoint settings:\ninvalid {family} address: {text}"))
}

fn subnet(text: &str) -> Result<Cidr> {
    let invalid = |why: String| anyhow::anyhow!("invalid network config:\ninvalid subnet {text}: {why}");
    let cidr: Cidr = text.parse().map_err(|_| invalid("invalid CIDR block notation".to_owned()))?;
    match cidr.network() == cidr {
        true => Ok(cidr),
        false => Err(invalid(format!("it should be {}", cidr.network()))),
    }
}

fn scope(text: &str) -> Result<(), String> {
    match text {
        "local" => Ok(()),
        "swarm" => Err("cannot create a swarm scoped network when swarm is not active".to_owned()),
        other => Err(format!("there is no scope {other}: use local")),
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
        if let Some(bad) = self.filters.values("type").find(|kind| !["builtin", "custom"].contains(kind)) {
            bail!("invalid filter: 'type'='{bad}'");
        }
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
                ("IPv4", json!(found.enable_ipv4().to_string())),
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
        let plain = |text: String| anyhow::Error::from(Plain(text));
        let of_no_subnet = |what: &str, text: &str| plain(format!("no matching subnet for {what} {text}"));
        let subnet = self.subnet.iter().map(|text| subnet(text)).collect::<Result<Vec<_>>>()?;
        let gateway = |text: &String| text.parse().map_err(|_| of_no_subnet("gateway", text));
        let gateway = self.gateway.iter().map(gateway).collect::<Result<Vec<IpAddr>>>()?;
        let range = |text: &String| text.parse().map_err(|_| plain(format!("invalid CIDR address: {text}")));
        let ip_range = self.ip_range.iter().map(range).collect::<Result<Vec<Cidr>>>()?;
        if subnet.is_empty() && !(gateway.is_empty() && ip_range.is_empty()) {
            return Err(plain("every ip-range or gateway must have a corresponding subnet".to_owned()));
        }
        let request = |cidr: &Cidr| SubnetRequest { cidr: Some(*cidr), ..SubnetRequest::default() };
        let mut subnets: Vec<SubnetRequest> = subnet.iter().map(request).collect();
        for range in ip_range {
            let within = |subnet: &&mut SubnetRequest| subnet.cidr.is_some_and(|cidr| cidr.covers(range));
            match subnets.iter_mut().find(within) {
                Some(subnet) => subnet.ip_range = Some(range),
                None => return Err(of_no_subnet("range", &range.to_string())),
            }
        }
        for gateway in gateway {
            let within = |subnet: &&mut SubnetRequest| subnet.cidr.is_some_and(|cidr| cidr.contains(gateway));
            match subnets.iter_mut().find(within) {
                Some(subnet) => subnet.gateway = Some(gateway),
                None => return Err(of_no_subnet("gateway", &gateway.to_string())),
            }
        }
        for text in &self.aux_address {
            let (name, address) = text.split_once('=').unwrap_or((text, ""));
            let address: IpAddr = address.parse().map_err(|_| of_no_subnet("aux-address", address))?;
            let within = |subnet: &&mut SubnetRequest| subnet.cidr.is_some_and(|cidr| cidr.contains(address));
            match subnets.iter_mut().find(within) {
                Some(subnet) => drop(subnet.aux.insert(name.to_owned(), address)),
                None => return Err(of_no_subnet("aux-address", &address.to_string())),
            }
        }
        let wanted = network::Wanted {
            name: self.name,
            driver: Some(self.driver),
            options: map(&self.opt),
            labels: map(&self.label),
            internal: self.internal,
            ipv6: self.ipv6,
            subnets,
            no_ipv4: !self.ipv4,
            ipam: self.ipam_driver,
            attachable: self.attachable,
        };
        out!("{}", network::create(&context.engine.roots, &wanted)?.id);
        Ok(ExitCode::SUCCESS)
    }
}

impl Prune {
    fn run(self, context: &Context) -> Result<ExitCode> {
        if !self.force && !super::confirm("This will remove all custom networks not used by at least one container.")? {
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
