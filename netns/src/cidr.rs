//! Address ranges in CIDR notation.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// An address with the length of its network's prefix. The host part may be set:
/// `172.18.0.1/24` is an interface's address, [`Cidr::network`] its range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Cidr {
    address: IpAddr,
    prefix: u8,
}

/// A text that is not `address/prefix`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a range of addresses such as 172.18.0.0/24")]
pub struct ParseCidrError(String);

impl Cidr {
    /// A range, or `None` where the prefix is longer than the address.
    #[must_use]
    pub fn new(address: IpAddr, prefix: u8) -> Option<Self> {
        (prefix <= bits(address)).then_some(Self { address, prefix })
    }

    /// A single address.
    #[must_use]
    pub fn single(address: IpAddr) -> Self {
        Self { address, prefix: bits(address) }
    }

    /// The address as given.
    #[must_use]
    pub fn address(self) -> IpAddr {
        self.address
    }

    /// The number of leading bits that all its addresses share.
    #[must_use]
    pub fn prefix(self) -> u8 {
        self.prefix
    }

    /// Whether it is IPv4.
    #[must_use]
    pub fn is_ipv4(self) -> bool {
        self.address.is_ipv4()
    }

    /// The same range with a zero host part.
    #[must_use]
    pub fn network(self) -> Self {
        Self { address: from_number(self.first(), self.is_ipv4()), ..self }
    }

    /// The last address: the broadcast address of an IPv4 range.
    #[must_use]
    pub fn last_address(self) -> IpAddr {
        from_number(self.last(), self.is_ipv4())
    }

    /// The address this many places after the first, if it is in the range.
    #[must_use]
    pub fn nth(self, offset: u128) -> Option<IpAddr> {
        let number = self.first().checked_add(offset)?;
        (number <= self.last()).then(|| from_number(number, self.is_ipv4()))
    }

    /// Whether an address is in the range.
    #[must_use]
    pub fn contains(self, address: IpAddr) -> bool {
        self.is_ipv4() == address.is_ipv4() && (self.first()..=self.last()).contains(&number(address))
    }

    /// Whether all of another range is in this one.
    #[must_use]
    pub fn covers(self, other: Self) -> bool {
        self.prefix <= other.prefix && self.contains(other.address)
    }

    /// Whether some address is in both.
    #[must_use]
    pub fn overlaps(self, other: Self) -> bool {
        self.covers(other) || other.covers(self)
    }

    /// The ranges of a longer prefix that it is made of, in order.
    pub fn split(self, prefix: u8) -> impl Iterator<Item = Self> {
        let width = u32::from(bits(self.address).saturating_sub(prefix));
        let count = u32::from(prefix.saturating_sub(self.prefix)).min(32);
        let count = if prefix < self.prefix { 0 } else { 1_u128 << count };
        (0..count).filter_map(move |index| Self::new(self.nth(index.checked_shl(width)?)?, prefix))
    }

    pub(crate) fn first(self) -> u128 {
        number(self.address) & !self.host_mask()
    }

    pub(crate) fn last(self) -> u128 {
        self.first() | self.host_mask()
    }

    fn host_mask(self) -> u128 {
        let host_bits = u32::from(bits(self.address) - self.prefix);
        1_u128.checked_shl(host_bits).map_or(u128::MAX, |range| range - 1)
    }
}

fn bits(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

pub(crate) fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(u32::from(v4)),
        IpAddr::V6(v6) => u128::from(v6),
    }
}

/// The reverse of [`number`]; an IPv4 number has 32 bits.
pub(crate) fn from_number(number: u128, ipv4: bool) -> IpAddr {
    if ipv4 { Ipv4Addr::from(u32::try_from(number).unwrap_or(u32::MAX)).into() } else { Ipv6Addr::from(number).into() }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl FromStr for Cidr {
    type Err = ParseCidrError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parse = || {
            let (address, prefix) = text.split_once('/')?;
            if !prefix.bytes().all(|byte| byte.is_ascii_digit()) {
                return None;
            }
            Self::new(address.parse().ok()?, prefix.parse().ok()?)
        };
        parse().ok_or_else(|| ParseCidrError(text.to_owned()))
    }
}

impl TryFrom<String> for Cidr {
    type Error = ParseCidrError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Cidr> for String {
    fn from(cidr: Cidr) -> Self {
        cidr.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cidr(text: &str) -> Cidr {
        text.parse().unwrap()
    }

    #[test]
    fn ranges_are_computed() {
        assert_eq!(cidr("172.18.0.1/24").network(), cidr("172.18.0.0/24"));
        assert_eq!(cidr("172.18.0.1/24").last_address().to_string(), "172.18.0.255");
        assert_eq!(cidr("fd00::1/64").network(), cidr("fd00::/64"));
        assert_eq!(cidr("10.0.0.0/30").nth(3).unwrap().to_string(), "10.0.0.3");
        assert_eq!(cidr("10.0.0.0/30").nth(4), None);
        assert_eq!(cidr("0.0.0.0/0").last_address().to_string(), "255.255.255.255");
        assert_eq!(cidr("::/0").last(), u128::MAX);
        assert_eq!(cidr("172.17.0.0/16").split(24).count(), 256);
        assert_eq!(cidr("172.17.0.0/16").split(24).nth(1), Some(cidr("172.17.1.0/24")));
        assert_eq!(cidr("172.17.0.0/24").split(16).count(), 0);
    }

    #[test]
    fn overlap_is_mutual_and_by_family() {
        assert!(cidr("10.0.0.0/8").overlaps(cidr("10.5.0.0/16")));
        assert!(cidr("10.5.0.0/16").overlaps(cidr("10.0.0.0/8")));
        assert!(!cidr("10.5.0.0/16").overlaps(cidr("10.6.0.0/16")));
        assert!(!cidr("0.0.0.0/0").overlaps(cidr("fd00::/8")));
    }

    #[test]
    fn what_is_no_range_is_refused() {
        for text in ["", "10.0.0.0", "10.0.0.0/33", "10.0.0/8", "10.0.0.0/+8", "fd00::/129", "x/8"] {
            assert!(text.parse::<Cidr>().is_err(), "{text}");
        }
    }
}
