//! One word of `EXPOSE`: the ports it stands for.

use std::net::IpAddr;

/// The ports of a word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ports {
    /// `80/tcp`, one by one.
    pub ports: Vec<String>,
    /// Whether an address or a host port was given, which means nothing here.
    pub mapping: bool,
    /// Whether the protocol has upper case letters.
    pub upper_case: bool,
}

/// A word that is no port.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum PortError {
    #[error("invalid port: {word:?}: no port specified")]
    Missing { word: String },
    #[error("invalid port: {word:?}: invalid proto: {protocol}")]
    Protocol { word: String, protocol: String },
    #[error("invalid IP address: {address}")]
    Address { address: String },
    #[error("invalid containerPort: {port}")]
    Container { port: String },
    #[error("invalid hostPort: {port}")]
    Host { port: String },
    #[error("invalid ranges specified for container and host Ports: {container} and {host}")]
    Ranges { container: String, host: String },
}

/// Reads `[[ip:]host:]port[-port][/protocol]`, whose variables are replaced already.
///
/// # Errors
/// A part of it is none.
pub fn ports(word: &str) -> Result<Ports, PortError> {
    let (head, container) = word.rsplit_once(':').unwrap_or(("", word));
    let (address, host) = head.rsplit_once(':').unwrap_or(("", head));
    let (range, protocol) = container.split_once('/').unwrap_or((container, ""));
    if range.is_empty() {
        return Err(PortError::Missing { word: word.to_owned() });
    }
    let lower = if protocol.is_empty() { "tcp".to_owned() } else { protocol.to_lowercase() };
    if !["tcp", "udp", "sctp"].contains(&lower.as_str()) {
        return Err(PortError::Protocol { word: word.to_owned(), protocol: protocol.to_owned() });
    }
    let bare = address.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(address);
    if !bare.is_empty() && bare.parse::<IpAddr>().is_err() {
        return Err(PortError::Address { address: address.to_owned() });
    }
    let (first, last) = range_of(range).ok_or_else(|| PortError::Container { port: range.to_owned() })?;
    if !host.is_empty() {
        let (from, to) = range_of(host).ok_or_else(|| PortError::Host { port: host.to_owned() })?;
        if to - from != last - first && last != first {
            return Err(PortError::Ranges { container: range.to_owned(), host: host.to_owned() });
        }
    }
    Ok(Ports {
        ports: (first..=last).map(|port| format!("{port}/{lower}")).collect(),
        mapping: !address.is_empty() || !host.is_empty(),
        upper_case: protocol != protocol.to_lowercase(),
    })
}

/// `80` or `80-90`.
fn range_of(text: &str) -> Option<(u16, u16)> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (first.parse().ok()?, last.parse().ok()?);
    (first <= last).then_some((first, last))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_stand_for_ports() {
        for (word, expected) in [
            ("80", Some((vec!["80/tcp"], false, false))),
            ("80/UDP", Some((vec!["80/udp"], false, true))),
            ("80-82/sctp", Some((vec!["80/sctp", "81/sctp", "82/sctp"], false, false))),
            ("8080:80", Some((vec!["80/tcp"], true, false))),
            ("127.0.0.1:8080:80/tcp", Some((vec!["80/tcp"], true, false))),
            ("[::1]:8080:80", Some((vec!["80/tcp"], true, false))),
            ("::1:8080:80", Some((vec!["80/tcp"], true, false))),
            ("8080-8090:80", Some((vec!["80/tcp"], true, false))),
            ("8080-8090:80-81", None),
            ("", None),
            ("/tcp", None),
            ("80/icmp", None),
            ("65536", None),
            ("90-80", None),
            ("x:80", None),
            ("x:1:80", None),
        ] {
            let seen = ports(word).ok();
            let seen = seen
                .as_ref()
                .map(|seen| (seen.ports.iter().map(String::as_str).collect::<Vec<_>>(), seen.mapping, seen.upper_case));
            assert_eq!(seen, expected, "{word}");
        }
    }
}
