//! The options of one attachment: `driver_opts` of a service's network, `--network-opt`. Pure.

use anyhow::{Context as _, Result, bail};

/// What they mean.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct EndpointOptions {
    /// The interface's name in the container.
    pub ifname: Option<String>,
    /// Paths below /proc/sys/net with `IFNAME` in them, and values.
    pub sysctls: Vec<(String, String)>,
}

/// Reads them; one that does nothing is refused.
pub fn parse(options: &[(String, String)]) -> Result<EndpointOptions> {
    let mut parsed = EndpointOptions::default();
    for (key, value) in options {
        match key.as_str() {
            "com.docker.network.endpoint.ifname" => parsed.ifname = Some(value.clone()),
            "com.docker.network.endpoint.sysctls" => {
                parsed.sysctls = value.split(',').map(sysctl).collect::<Result<_>>()?;
            }
            _ => bail!("driver option {key} of an attachment is not supported"),
        }
    }
    Ok(parsed)
}

/// `net.ipv4.conf.IFNAME.log_martians=1`: only what belongs to the interface.
fn sysctl(text: &str) -> Result<(String, String)> {
    let wrong = || format!("invalid endpoint sysctl {text:?}: expected net.ipv4.conf.IFNAME.<name>=<value>");
    let (name, value) = text.split_once('=').with_context(wrong)?;
    let parts: Vec<&str> = name.trim().split('.').collect();
    let plain = |part: &&str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    match parts.as_slice() {
        ["net", family @ ("ipv4" | "ipv6" | "mpls"), group @ ("conf" | "neigh"), "IFNAME", key] if plain(key) => {
            Ok((format!("{family}/{group}/IFNAME/{key}"), value.trim().to_owned()))
        }
        _ => bail!(wrong()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_of_an_attachment_are_understood_or_refused() {
        let one = |key: &str, value: &str| parse(&[(format!("com.docker.network.endpoint.{key}"), value.to_owned())]);
        let parsed =
            one("sysctls", "net.ipv4.conf.IFNAME.log_martians=1, net.ipv6.neigh.IFNAME.ucast_solicit=2").unwrap();
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        let expected = vec![pair("ipv4/conf/IFNAME/log_martians", "1"), pair("ipv6/neigh/IFNAME/ucast_solicit", "2")];
        assert_eq!(parsed.sysctls, expected);
        assert_eq!(one("ifname", "lan0").unwrap().ifname.as_deref(), Some("lan0"));
        for text in ["net.ipv4.ip_forward=1", "net.ipv4.conf.all.rp_filter=1", "net.ipv4.conf.IFNAME.../x=1", "x"] {
            assert!(one("sysctls", text).is_err(), "{text}");
        }
        assert!(one("magic", "1").is_err());
    }
}
