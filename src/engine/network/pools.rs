//! The ranges that networks without a subnet of their own get theirs from: Docker's, or those that the environment names,
//! for hosts where others have Docker's.

use anyhow::{Result, bail};
use umiak_netns::{Cidr, ipam};

/// Ranges, separated by commas.
const VARIABLE: &str = "UMIAK_ADDRESS_POOLS";

/// What networks are given pieces of.
pub fn of_environment() -> Result<Vec<Cidr>> {
    match std::env::var(VARIABLE) {
        Ok(text) if !text.trim().is_empty() => parse(&text),
        _ => Ok(ipam::default_pools()),
    }
}

fn parse(text: &str) -> Result<Vec<Cidr>> {
    text.split(',').map(str::trim).map(one).collect()
}

fn one(text: &str) -> Result<Cidr> {
    match text.parse::<Cidr>() {
        // Each network gets a piece of this length.
        Ok(range) if range.is_ipv4() && range.prefix() <= ipam::IPV4_PREFIX => Ok(range.network()),
        _ => bail!(
            "{VARIABLE}: `{text}` is not a range of IPv4 addresses such as 10.200.0.0/16, of a /{} or more",
            ipam::IPV4_PREFIX
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_and_what_is_none_is_refused() {
        let shown = |text: &str| parse(text).map(|all| all.iter().map(ToString::to_string).collect::<Vec<_>>());
        assert_eq!(shown("10.200.0.0/16, 10.64.3.7/20").unwrap(), ["10.200.0.0/16", "10.64.0.0/20"]);
        for wrong in ["10.0.0.0", "10.0.0.0/23", "fd00::/48", "10.0.0.0/16,", "ten"] {
            let error = shown(wrong).unwrap_err().to_string();
            assert!(error.starts_with("UMIAK_ADDRESS_POOLS: `"), "{wrong}: {error}");
        }
    }
}
