//! The ports of EXPOSE. Pure.

use anyhow::{Result, bail};

/// `80`, `80/udp`, `8000-8002/tcp` as the ports that they are: `80/tcp`.
pub fn ports(text: &str) -> Result<Vec<String>> {
    let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = if protocol.is_empty() { "tcp".to_owned() } else { protocol.to_ascii_lowercase() };
    if !matches!(protocol.as_str(), "tcp" | "udp" | "sctp") {
        bail!("invalid proto: {protocol}");
    }
    let number = |text: &str| text.parse::<u16>().ok();
    // `8080:80` names the port of the container last.
    let ports = ports.rsplit(':').next().unwrap_or(ports);
    let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
    match (number(first), number(last)) {
        (Some(first), Some(last)) if first <= last => {
            Ok((first..=last).map(|port| format!("{port}/{protocol}")).collect())
        }
        _ => bail!("invalid containerPort: {ports}"),
    }
}

#[cfg(test)]
mod tests {
    use super::ports;

    #[test]
    fn ranges_and_protocols() {
        assert_eq!(ports("80").unwrap(), ["80/tcp"]);
        assert_eq!(ports("53/UDP").unwrap(), ["53/udp"]);
        assert_eq!(ports("1-3/tcp").unwrap(), ["1/tcp", "2/tcp", "3/tcp"]);
        for wrong in ["", "x", "3-1", "70000", "80/icmp"] {
            assert!(ports(wrong).is_err(), "{wrong}");
        }
    }
}
