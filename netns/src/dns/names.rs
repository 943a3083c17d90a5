//! Names and addresses as DNS writes them: length-prefixed labels, lower-cased,
//! without the closing root label, so that a name is a plain key.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The longest name that fits (RFC 1035 §2.3.4: 255 bytes with the root label).
pub(super) const MAX_NAME: usize = 254;
const MAX_LABEL: usize = 63;

/// A dotted name as labels, lower-cased; `None` for one that DNS cannot carry: empty, a label of
/// none or more than 63 bytes, more than 254 in all. Any byte may stand in a label (RFC 2181 §11).
pub(super) fn from_dotted(name: &str) -> Option<Box<[u8]>> {
    let name = name.strip_suffix('.').unwrap_or(name);
    let mut labels = Vec::with_capacity(name.len() + 1);
    for label in name.split('.') {
        let length = u8::try_from(label.len()).ok().filter(|&n| n > 0 && usize::from(n) <= MAX_LABEL)?;
        labels.push(length);
        labels.extend(label.bytes().map(|b| b.to_ascii_lowercase()));
    }
    (labels.len() <= MAX_NAME).then(|| labels.into_boxed_slice())
}

/// The places where a name can be cut in two: the offset of each label but the first.
pub(super) fn cuts(name: &[u8]) -> impl Iterator<Item = usize> + '_ {
    let next = move |at: usize| name.get(at).map(|&length| at + 1 + usize::from(length)).filter(|&n| n < name.len());
    std::iter::successors(next(0), move |&at| next(at))
}

/// The address that a reverse name stands for: `d.c.b.a.in-addr.arpa` (RFC 1035 §3.5) or 32 nibbles
/// under `ip6.arpa` (RFC 3596 §2.5).
pub(super) fn reverse(name: &[u8]) -> Option<IpAddr> {
    if let Some(rest) = name.strip_suffix(b"\x07in-addr\x04arpa") {
        let mut octets = [0_u8; 4];
        let mut parts = labels(rest);
        for octet in octets.iter_mut().rev() {
            let digits = std::str::from_utf8(parts.next()?).ok()?;
            // `+1` and `01` are not how an address is written.
            if digits.starts_with(['+', '0']) && digits != "0" {
                return None;
            }
            *octet = digits.parse().ok()?;
        }
        return parts.next().is_none().then(|| Ipv4Addr::from(octets).into());
    }
    let rest = name.strip_suffix(b"\x03ip6\x04arpa")?;
    let mut address = 0_u128;
    let mut parts = labels(rest);
    for nibble in 0..32 {
        let [digit] = parts.next()? else { return None };
        address |= u128::from(char::from(*digit).to_digit(16)?) << (4 * nibble);
    }
    parts.next().is_none().then(|| Ipv6Addr::from(address).into())
}

fn labels(name: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = name;
    std::iter::from_fn(move || {
        let (&length, tail) = rest.split_first()?;
        let (label, tail) = tail.split_at_checked(length.into())?;
        rest = tail;
        Some(label)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dotted_names_become_keys() {
        assert_eq!(from_dotted("Web.X.").unwrap().as_ref(), b"\x03web\x01x");
        assert_eq!(from_dotted("a b,c\n").unwrap().as_ref(), b"\x06a b,c\n");
        assert_eq!(from_dotted("käse").unwrap().as_ref(), "\x05käse".as_bytes());
        assert!(from_dotted(&"a".repeat(63)).is_some());
        let long = ["a".repeat(63), "b".repeat(63), "c".repeat(63), "d".repeat(61)].join(".");
        assert_eq!(from_dotted(&long).unwrap().len(), MAX_NAME);
        for bad in ["", ".", "a..b", ".a", &"a".repeat(64), &format!("{long}d")] {
            assert!(from_dotted(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn cuts_lie_between_labels() {
        let name = from_dotted("db.my.net").unwrap();
        assert_eq!(cuts(&name).collect::<Vec<_>>(), [3, 6]);
        assert_eq!(cuts(&from_dotted("db").unwrap()).count(), 0);
        assert_eq!(cuts(b"").count(), 0);
    }

    #[test]
    fn reverse_names_are_addresses() {
        let reverse = |name: &str| reverse(&from_dotted(name).unwrap());
        assert_eq!(reverse("2.0.18.172.IN-ADDR.arpa"), Some(IpAddr::from([172, 18, 0, 2])));
        let six = format!(
            "{}.ip6.arpa",
            ["1"; 1].iter().chain(&["0"; 30]).chain(&["f"; 1]).copied().collect::<Vec<_>>().join(".")
        );
        assert_eq!(reverse(&six), Some("f000::1".parse().unwrap()));
        for bad in [
            "0.18.172.in-addr.arpa",
            "1.2.0.18.172.in-addr.arpa",
            "256.0.0.1.in-addr.arpa",
            "01.0.0.1.in-addr.arpa",
            "a.0.0.1.in-addr.arpa",
            "1.ip6.arpa",
            "in-addr.arpa",
            "web",
        ] {
            assert_eq!(reverse(bad), None, "{bad}");
        }
    }
}
