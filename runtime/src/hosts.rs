//! The text of a container's /etc/hosts, /etc/resolv.conf and /etc/hostname.
//! Pure functions with Docker's content; the engine writes the files beside the
//! container's config, and [`crate::mounts`] binds them over the image's.

use std::fmt::Write as _;
use std::io;
use std::net::IpAddr;
use std::path::Path;

/// Where the container's own DNS server listens.
pub const INTERNAL_NAMESERVER: &str = "127.0.0.11";

/// The word in `extra_hosts` that stands for the host's address on the container's network.
pub const HOST_GATEWAY: &str = "host-gateway";

const DEFAULT_HOSTS: &str = "\
127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
fe00::\tip6-localnet
ff00::\tip6-mcastprefix
ff02::1\tip6-allnodes
ff02::2\tip6-allrouters
";

/// Why one of the files cannot be written.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum HostsError {
    /// A value of `extra_hosts` is no address.
    #[error("invalid extra host {name}={value}: {value:?} is not an IP address")]
    Address {
        /// The name.
        name: String,
        /// The value.
        value: String,
    },
    /// `host-gateway` where the container has no network with a gateway.
    #[error("extra host {name}={HOST_GATEWAY}: the container has no network with a gateway")]
    NoGateway {
        /// The name.
        name: String,
    },
    /// A name or option that would break the file's lines.
    #[error("invalid {what} {value:?}: it may not be empty or hold white space or control characters")]
    Word {
        /// What it is.
        what: &'static str,
        /// The value.
        value: String,
    },
}

fn word<'a>(what: &'static str, value: &'a str) -> Result<&'a str, HostsError> {
    let bad = |c: char| c.is_whitespace() || c.is_control() || c == '#';
    if value.is_empty() || value.contains(bad) {
        return Err(HostsError::Word { what, value: value.to_owned() });
    }
    Ok(value)
}

/// What goes into /etc/hosts.
#[derive(Debug, Clone, Default)]
pub struct Hosts<'a> {
    /// The container's host name, with or without a domain.
    pub hostname: &'a str,
    /// Its domain name; empty for none.
    pub domainname: &'a str,
    /// Its addresses, those of the first network first; empty with `none` and `host`.
    pub addresses: &'a [IpAddr],
    /// `extra_hosts`: name and address or [`HOST_GATEWAY`], in order.
    pub extra: &'a [(String, String)],
    /// What [`HOST_GATEWAY`] means: the host's addresses on the container's network, IPv4 first.
    pub gateways: &'a [IpAddr],
    /// The text to begin with: the host's own file where the container shares the host's network, else `None`.
    pub base: Option<&'a str>,
}

impl Hosts<'_> {
    /// The file's text.
    ///
    /// # Errors
    /// An extra host without a usable name or address.
    pub fn text(&self) -> Result<String, HostsError> {
        let mut text = self.base.unwrap_or(DEFAULT_HOSTS).to_owned();
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
        for (name, value) in self.extra {
            let name = word("extra host", name)?;
            for address in self.extra_addresses(name, value)? {
                let _ = writeln!(text, "{address}\t{name}");
            }
        }
        if !self.hostname.is_empty() {
            let names = self.own_names()?;
            for address in self.addresses {
                let _ = writeln!(text, "{address}\t{names}");
            }
        }
        Ok(text)
    }

    fn extra_addresses(&self, name: &str, value: &str) -> Result<Vec<IpAddr>, HostsError> {
        if value == HOST_GATEWAY {
            let none = || HostsError::NoGateway { name: name.to_owned() };
            return if self.gateways.is_empty() { Err(none()) } else { Ok(self.gateways.to_vec()) };
        }
        let bare = value.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(value);
        let wrong = |_| HostsError::Address { name: name.to_owned(), value: value.to_owned() };
        Ok(vec![bare.parse().map_err(wrong)?])
    }

    /// `web.example.com web`, or `web`.
    fn own_names(&self) -> Result<String, HostsError> {
        let hostname = word("host name", self.hostname)?;
        let full = if self.domainname.is_empty() {
            hostname.to_owned()
        } else {
            format!("{hostname}.{}", word("domain name", self.domainname)?)
        };
        Ok(match full.split_once('.') {
            Some((short, _)) if !short.is_empty() => format!("{full} {short}"),
            _ => full,
        })
    }
}

/// The settings of a container's resolver.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ResolvConf(pub umiak_base::resolv::ResolvConf);

impl ResolvConf {
    /// Reads the text of a resolv.conf.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        Self(umiak_base::resolv::ResolvConf::parse(text))
    }

    /// The host's settings. Where its resolv.conf only points to systemd-resolved on a loopback address, which no
    /// other network namespace reaches, those that resolved itself uses.
    ///
    /// # Errors
    /// When `etc` (/etc/resolv.conf) is there and cannot be read.
    pub fn of_host(etc: &Path, systemd: &Path) -> io::Result<Self> {
        let text = match std::fs::read_to_string(etc) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(error),
        };
        let conf = Self::parse(&text);
        if conf.0.nameservers == ["127.0.0.53"] {
            return Ok(std::fs::read_to_string(systemd).map_or(conf, |text| Self::parse(&text)));
        }
        Ok(conf)
    }

    /// The host's settings with a service's `dns`, `dns_search` and `dns_opt` in the place of its own; an empty list
    /// keeps the host's, the search domain `.` alone means none.
    ///
    /// # Errors
    /// A word that would break the file's lines.
    pub fn overridden(mut self, dns: &[String], search: &[String], options: &[String]) -> Result<Self, HostsError> {
        let words = |what, list: &[String]| -> Result<Vec<String>, HostsError> {
            list.iter().map(|value| word(what, value).map(ToOwned::to_owned)).collect()
        };
        if !dns.is_empty() {
            self.0.nameservers = words("nameserver", dns)?;
        }
        if !search.is_empty() {
            self.0.search = words("search domain", search)?;
        }
        if self.0.search == ["."] {
            self.0.search.clear();
        }
        if !options.is_empty() {
            self.0.options = words("resolver option", options)?;
        }
        Ok(self)
    }

    /// For a container with its own DNS server: everything is asked there, and it is asked for single-label names too.
    #[must_use]
    pub fn internal(mut self) -> Self {
        self.0.nameservers = vec![INTERNAL_NAMESERVER.to_owned()];
        if !self.0.options.iter().any(|option| option.starts_with("ndots:")) {
            self.0.options.push("ndots:0".to_owned());
        }
        self
    }

    /// The file's text.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        for server in &self.0.nameservers {
            let _ = writeln!(text, "nameserver {server}");
        }
        for (keyword, words) in [("search", &self.0.search), ("options", &self.0.options)] {
            if !words.is_empty() {
                let _ = writeln!(text, "{keyword} {}", words.join(" "));
            }
        }
        text
    }
}

/// The text of /etc/hostname.
#[must_use]
pub fn hostname(name: &str) -> String {
    format!("{name}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
        list.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
    }

    fn own(text: &str) -> Vec<&str> {
        text.strip_prefix(DEFAULT_HOSTS).unwrap().lines().collect()
    }

    #[test]
    fn hosts_reads_as_docker_s() {
        let extra = pairs(&[("foo", "1.2.3.4"), ("hg", "host-gateway"), ("six", "[fd00::1]")]);
        let hosts = Hosts {
            hostname: "myhost",
            addresses: &["172.20.0.2".parse().unwrap(), "172.21.0.2".parse().unwrap()],
            extra: &extra,
            gateways: &["172.17.0.1".parse().unwrap()],
            ..Hosts::default()
        };
        let text = hosts.text().unwrap();
        assert!(text.starts_with("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"));
        let expected = ["1.2.3.4\tfoo", "172.17.0.1\thg", "fd00::1\tsix", "172.20.0.2\tmyhost", "172.21.0.2\tmyhost"];
        assert_eq!(own(&text), expected);
    }

    #[test]
    fn a_host_name_with_a_domain_has_its_short_form_too() {
        let names = |hostname, domainname| {
            let addresses = &["10.0.0.2".parse().unwrap()];
            let text = Hosts { hostname, domainname, addresses, ..Hosts::default() }.text().unwrap();
            own(&text)[0].to_owned()
        };
        assert_eq!(names("a.example.com", ""), "10.0.0.2\ta.example.com a");
        assert_eq!(names("a", "example.com"), "10.0.0.2\ta.example.com a");
        assert_eq!(names("a", ""), "10.0.0.2\ta");
    }

    #[test]
    fn nothing_gets_a_line_of_its_own_into_hosts() {
        let text = |extra: &[(&str, &str)]| Hosts { extra: &pairs(extra), ..Hosts::default() }.text();
        assert!(matches!(text(&[("a", "nope")]), Err(HostsError::Address { .. })));
        assert!(matches!(text(&[("a", "1.2.3.4\n5.6.7.8 b")]), Err(HostsError::Address { .. })));
        assert!(matches!(text(&[("a\n1.1.1.1 b", "1.2.3.4")]), Err(HostsError::Word { .. })));
        assert!(matches!(text(&[("", "1.2.3.4")]), Err(HostsError::Word { .. })));
        assert_eq!(text(&[("a", "host-gateway")]), Err(HostsError::NoGateway { name: "a".into() }));
        let base = Hosts { base: Some("127.0.0.1 me"), extra: &pairs(&[("a", "1.2.3.4")]), ..Hosts::default() };
        assert_eq!(base.text().unwrap(), "127.0.0.1 me\n1.2.3.4\ta\n");
    }

    const HOST: &str = "# c\ndomain old\nsearch corp.example example # x\nnameserver 10.0.0.1\n\
                        nameserver fe80::1%eth0\noptions edns0 trust-ad\nnonsense\n";

    #[test]
    fn resolv_conf_of_the_host_and_with_the_internal_server() {
        let conf = ResolvConf::parse(HOST);
        let text =
            "nameserver 10.0.0.1\nnameserver fe80::1%eth0\nsearch corp.example example\noptions edns0 trust-ad\n";
        assert_eq!(conf.text(), text);
        let internal = conf.clone().internal().text();
        assert_eq!(internal, "nameserver 127.0.0.11\nsearch corp.example example\noptions edns0 trust-ad ndots:0\n");
        let list = |list: &[&str]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
        let own = conf.clone().overridden(&list(&["9.9.9.9"]), &list(&["a.b"]), &list(&["ndots:3"])).unwrap();
        assert_eq!(own.text(), "nameserver 9.9.9.9\nsearch a.b\noptions ndots:3\n");
        assert_eq!(own.internal().text(), "nameserver 127.0.0.11\nsearch a.b\noptions ndots:3\n");
        assert!(conf.clone().overridden(&[], &list(&["."]), &[]).unwrap().0.search.is_empty());
        assert!(matches!(conf.overridden(&[], &list(&["a\nnameserver 6.6.6.6"]), &[]), Err(HostsError::Word { .. })));
        assert_eq!(hostname("web"), "web\n");
    }

    #[test]
    fn a_stub_resolver_is_looked_through() {
        let dir = tempfile::tempdir().unwrap();
        let (etc, systemd) = (dir.path().join("resolv.conf"), dir.path().join("systemd"));
        assert_eq!(ResolvConf::of_host(&etc, &systemd).unwrap(), ResolvConf::default());
        std::fs::write(&etc, "nameserver 127.0.0.53\nsearch x\n").unwrap();
        assert_eq!(ResolvConf::of_host(&etc, &systemd).unwrap().0.nameservers, ["127.0.0.53"]);
        std::fs::write(&systemd, "nameserver 10.0.0.9\n").unwrap();
        assert_eq!(ResolvConf::of_host(&etc, &systemd).unwrap().0.nameservers, ["10.0.0.9"]);
    }
}
