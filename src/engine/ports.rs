//! Ports: their text forms, holding them on the host, and publishing them.

use std::net::IpAddr;
use std::os::fd::OwnedFd;

use anyhow::{Context as _, Result, bail};
use umiak_netns::firewall::{self, FirewallError, Protocol, Published};
use umiak_netns::holder::Holder;
use umiak_netns::publish::{self, PortSpec, PortTaken, PublishError, Reserved};

use super::container::{Config, PublishedPort};
use super::{Container, Roots};

/// A port as a Compose file has it.
pub fn spec(host_ip: Option<IpAddr>, host_ports: Option<(u16, u16)>, container_port: u16, protocol: &str) -> PortSpec {
    PortSpec { host_ip, host_ports, container_port, protocol: self::protocol(protocol).unwrap_or_default() }
}

fn protocol(text: &str) -> Option<Protocol> {
    match text {
        "tcp" => Some(Protocol::Tcp),
        "udp" => Some(Protocol::Udp),
        "sctp" => Some(Protocol::Sctp),
        _ => None,
    }
}

/// `[[IP:]HOST:]CONTAINER[/PROTO]`, each port a number or a range.
pub fn parse(text: &str) -> Result<Vec<PortSpec>> {
    let wrong = || format!("invalid port specification: \"{text}\"");
    let (rest, kind) = text.split_once('/').unwrap_or((text, "tcp"));
    let kind = protocol(&kind.to_ascii_lowercase()).with_context(wrong)?;
    let (rest, container) = rest.rsplit_once(':').map_or((None, rest), |(rest, port)| (Some(rest), port));
    let (ip, host) = match rest {
        None => (None, None),
        Some(rest) => match rest.rsplit_once(':') {
            Some((ip, host)) => (Some(ip), Some(host)),
            None => (None, Some(rest)),
        },
    };
    let ip =
        ip.filter(|ip| !ip.is_empty()).map(|ip| ip.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>());
    let ip = ip.transpose().with_context(wrong)?;
    let (first, last) = range(container).with_context(wrong)?;
    let host =
        host.filter(|host| !host.is_empty() && *host != "0").map(|host| range(host).with_context(wrong)).transpose()?;
    Ok(PortSpec::expand(ip, host.map(|(first, last)| first..=last), first..=last, kind)?)
}

fn range(text: &str) -> Option<(u16, u16)> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (first.parse::<u16>().ok()?, last.parse::<u16>().ok()?);
    (first > 0 && first <= last).then_some((first, last))
}

/// An exposed port in its full form: `80` is `80/tcp`.
pub fn exposed(text: &str) -> String {
    if text.contains('/') { text.to_owned() } else { format!("{text}/tcp") }
}

/// The container's side of a port, as an exposed one.
pub fn target(spec: &PortSpec) -> String {
    format!("{}/{}", spec.container_port, spec.protocol)
}

/// An exposed port, to be published wherever is room; nothing for a range.
pub fn ephemeral(exposed: &str) -> Option<PortSpec> {
    let (port, kind) = exposed.split_once('/')?;
    Some(PortSpec { host_ip: None, host_ports: None, container_port: port.parse().ok()?, protocol: protocol(kind)? })
}

/// Holds the host's ports, or none of them. A container that has one is called by its name.
pub fn reserve(roots: &Roots, specs: &[PortSpec]) -> Result<Vec<Reserved>> {
    match publish::reserve(specs) {
        Err(PublishError::Taken(PortTaken { host_ip, port, holder: Some(Holder::Container(published)), .. })) => {
            let has = |container: &Container| {
                let attachments = container.config.network.attachments();
                attachments.iter().any(|a| a.ipv4.is_some_and(|(ip, _)| IpAddr::V4(ip) == published.container_ip))
            };
            let holder = Container::list(roots, &mut |_| {})?.into_iter().find(has);
            let holder = holder.map_or_else(|| published.container_ip.to_string(), |container| container.config.name);
            let address = std::net::SocketAddr::new(host_ip, port);
            bail!("Bind for {address} failed: port is already allocated by container {holder}")
        }
        result => Ok(result?),
    }
}

/// What is held, as state and as sockets.
pub fn split(reserved: Vec<Reserved>) -> (Vec<PublishedPort>, Vec<OwnedFd>) {
    let port = |reserved: &Reserved| PublishedPort {
        host_ip: reserved.host_ip,
        host_port: reserved.host_port,
        container_port: reserved.spec.container_port,
        protocol: reserved.spec.protocol.to_string(),
    };
    reserved.into_iter().map(|reserved| (port(&reserved), reserved.fd)).unzip()
}

/// Lets the host's ports lead into the container.
pub fn publish(config: &Config, ports: &[PublishedPort]) -> Result<()> {
    let translations = translations(config, ports);
    match firewall::publish(&translations) {
        // Somebody has flushed the host's rules: ours are made anew with those of all that runs.
        Err(FirewallError::TableGone) => bail!(
            "the firewall rules of umiak are gone: something has flushed the host's nftables ruleset; \
             stop and start the containers of this network again"
        ),
        result => Ok(result?),
    }
}

/// Ends what [`publish`] began.
pub fn withdraw(config: &Config, ports: &[PublishedPort]) -> Result<()> {
    match firewall::unpublish(&translations(config, ports)) {
        Err(FirewallError::TableGone) => Ok(()),
        result => Ok(result?),
    }
}

/// The container's address of the network that has the default route, or else the first.
pub fn translations(config: &Config, ports: &[PublishedPort]) -> Vec<Published> {
    let attachments = config.network.attachments();
    let Some(attachment) = attachments.iter().find(|a| a.default_route).or(attachments.first()) else {
        return Vec::new();
    };
    let v4 = attachment.ipv4.map(|(ip, _)| IpAddr::V4(ip));
    let v6 = attachment.ipv6.map(|(ip, _)| IpAddr::V6(ip));
    let translation = |port: &PublishedPort| {
        Some(Published {
            host_ip: port.host_ip,
            host_port: port.host_port,
            container_ip: if port.host_ip.is_ipv4() { v4 } else { v6 }?,
            container_port: port.container_port,
            protocol: protocol(&port.protocol)?,
        })
    };
    ports.iter().filter_map(translation).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_forms_of_ports() {
        let text = |spec: &PortSpec| {
            let host =
                spec.host_ports.map_or("*".into(), |(a, b)| if a == b { a.to_string() } else { format!("{a}-{b}") });
            let ip = spec.host_ip.map(|ip| format!("{ip}|")).unwrap_or_default();
            format!("{ip}{host}>{}", target(spec))
        };
        let cases = [
            ("80", "*>80/tcp"),
            ("8080:80", "8080>80/tcp"),
            ("127.0.0.1:53:53/udp", "127.0.0.1|53>53/udp"),
            ("[::1]:80:80", "::1|80>80/tcp"),
            ("127.0.0.1::80", "127.0.0.1|*>80/tcp"),
            ("9000-9002:80", "9000-9002>80/tcp"),
            ("1000-1001:2000-2001", "1000>2000/tcp 1001>2001/tcp"),
        ];
        for (short, long) in cases {
            let specs: Vec<String> = parse(short).unwrap().iter().map(text).collect();
            assert_eq!(specs.join(" "), long, "{short}");
        }
        for bad in ["", "x", "80:", "70000", "1-2:1-3", "80/xyz", "300.1.1.1:1:1", "9-8:1"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
