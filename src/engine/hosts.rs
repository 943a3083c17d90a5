//! The files that are bound over a container's /etc/hosts, /etc/resolv.conf and
//! /etc/hostname. Written beside the container at each start.

use std::net::IpAddr;
use std::path::Path;

use anyhow::{Context as _, Result};
use umiak_runtime::hosts::{Hosts, ResolvConf, hostname};

use super::Roots;
use super::container::{Config, NetworkMode};

/// Writes the three files of a container. One that shares another's network gets that one's.
pub fn write(roots: &Roots, config: &Config) -> Result<()> {
    let dir = roots.container(&config.id);
    let name = match config.runtime.hostname.is_empty() {
        true => super::host_name(),
        false => config.runtime.hostname.clone(),
    };
    put(&dir.join("hostname"), &hostname(&name))?;
    if let NetworkMode::Container(owner) = &config.network {
        for file in ["hosts", "resolv.conf"] {
            let source = roots.container(owner).join(file);
            let text = std::fs::read_to_string(&source).with_context(|| format!("read {}", source.display()))?;
            put(&dir.join(file), &text)?;
        }
        return Ok(());
    }
    let on_host = matches!(config.network, NetworkMode::Host);
    let base = if on_host { Some(std::fs::read_to_string("/etc/hosts").unwrap_or_default()) } else { None };
    let attachments = config.network.attachments();
    let addresses: Vec<IpAddr> = attachments
        .iter()
        .flat_map(|a| [a.ipv4.map(|(ip, _)| IpAddr::V4(ip)), a.ipv6.map(|(ip, _)| IpAddr::V6(ip))])
        .flatten()
        .collect();
    let gateways: Vec<IpAddr> = match (on_host, attachments.first()) {
        (true, _) => vec![IpAddr::V4(std::net::Ipv4Addr::LOCALHOST)],
        (false, Some(first)) => {
            [first.gateway.map(IpAddr::V4), first.gateway6.map(IpAddr::V6)].into_iter().flatten().collect()
        }
        (false, None) => Vec::new(),
    };
    let hosts = Hosts {
        hostname: if on_host { "" } else { &config.runtime.hostname },
        domainname: &config.runtime.domainname,
        addresses: &addresses,
        extra: &config.extra_hosts,
        gateways: &gateways,
        base: base.as_deref(),
    };
    put(&dir.join("hosts"), &hosts.text()?)?;
    let conf = ResolvConf::of_host(Path::new("/etc/resolv.conf"), Path::new("/run/systemd/resolve/resolv.conf"))
        .context("read /etc/resolv.conf")?
        .overridden(&config.dns.servers, &config.dns.search, &config.dns.options)?;
    let conf = if attachments.is_empty() { conf } else { conf.internal() };
    put(&dir.join("resolv.conf"), &conf.text())
}

/// These mean nothing after a crash: written again at the next start.
fn put(path: &Path, text: &str) -> Result<()> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let wrong = || format!("write {}", path.display());
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o644).open(path).with_context(wrong)?;
    std::io::Write::write_all(&mut file, text.as_bytes()).with_context(wrong)
}
