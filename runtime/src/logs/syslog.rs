//! Syslog messages in the formats that Docker's driver sends, and the address
//! of who receives them. Pure.

use std::net::{IpAddr, Ipv6Addr};
use std::path::PathBuf;

use jiff::tz::TimeZone;

use super::options::{OptionsError, boolean};
use super::tls::TlsOptions;
use super::{Stream, Time};

/// Names of facilities by their number (RFC 5424, section 6.2.1), with srslog's words.
const FACILITIES: [&str; 24] = [
    "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp", "", "", "",
    "", "local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7",
];
const DAEMON: u8 = 3;
/// The well-known port of syslog, where the address has none.
const PORT: u16 = 514;

/// Where messages go.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Address {
    /// To the host's own receiver: the first of its usual sockets that is there.
    #[default]
    Host,
    /// One datagram each.
    Udp(String, u16),
    /// A stream, one line each.
    Tcp(String, u16),
    /// A stream inside TLS.
    Tls(String, u16),
    /// A socket of the host, as a stream or with datagrams, whichever it is.
    Unix(PathBuf),
    /// A socket of the host, with datagrams.
    Unixgram(PathBuf),
}

/// How a message is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Format {
    /// As programs write to their host's receiver: no host name.
    #[default]
    Unix,
    /// RFC 3164.
    Rfc3164,
    /// RFC 5424, with seconds.
    Rfc5424,
    /// RFC 5424, with microseconds.
    Rfc5424Micro,
}

/// The driver's options.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// `syslog-address`.
    pub address: Address,
    /// `syslog-facility`, as its number.
    pub facility: u8,
    /// `syslog-format`.
    pub format: Format,
    /// `syslog-tls-…`.
    pub tls: TlsOptions,
}

impl Default for Settings {
    fn default() -> Self {
        Self { address: Address::Host, facility: DAEMON, format: Format::Unix, tls: TlsOptions::default() }
    }
}

impl Settings {
    pub(super) fn option(&mut self, name: &str, value: &str) -> Result<(), OptionsError> {
        let error = |wanted| OptionsError::Value { name: name.to_owned(), value: value.to_owned(), wanted };
        match name {
            "syslog-address" => {
                let wanted =
                    "udp://HOST[:PORT], tcp://HOST[:PORT], tcp+tls://HOST[:PORT], unix:///PATH or unixgram:///PATH";
                self.address = address(value).ok_or_else(|| error(wanted))?;
                Ok(())
            }
            "syslog-facility" => {
                self.facility = facility(value).ok_or_else(|| error("a facility's name or its number, 0 to 23"))?;
                Ok(())
            }
            "syslog-format" => {
                self.format = match value {
                    "" => Format::Unix,
                    "rfc3164" => Format::Rfc3164,
                    "rfc5424" => Format::Rfc5424,
                    "rfc5424micro" => Format::Rfc5424Micro,
                    _ => return Err(error("rfc3164, rfc5424 or rfc5424micro")),
                };
                Ok(())
            }
            "syslog-tls-ca-cert" | "syslog-tls-cert" | "syslog-tls-key" => {
                let path = PathBuf::from(value);
                if !path.is_absolute() {
                    return Err(error("an absolute path"));
                }
                let place = match name {
                    "syslog-tls-ca-cert" => &mut self.tls.ca,
                    "syslog-tls-cert" => &mut self.tls.cert,
                    _ => &mut self.tls.key,
                };
                *place = Some(path);
                Ok(())
            }
            "syslog-tls-skip-verify" => {
                self.tls.skip_verify = boolean(name, value)?;
                Ok(())
            }
            name => Err(OptionsError::Unknown { name: name.to_owned(), driver: "syslog" }),
        }
    }
}

fn address(text: &str) -> Option<Address> {
    if text.is_empty() {
        return Some(Address::Host);
    }
    let (scheme, rest) = text.split_once("://")?;
    match scheme {
        "unix" | "unixgram" if rest.starts_with('/') => {
            let path = PathBuf::from(rest);
            Some(if scheme == "unix" { Address::Unix(path) } else { Address::Unixgram(path) })
        }
        "udp" => host_and_port(rest).map(|(host, port)| Address::Udp(host, port)),
        "tcp" => host_and_port(rest).map(|(host, port)| Address::Tcp(host, port)),
        "tcp+tls" => host_and_port(rest).map(|(host, port)| Address::Tls(host, port)),
        _ => None,
    }
}

fn host_and_port(text: &str) -> Option<(String, u16)> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']')?;
            host.parse::<Ipv6Addr>().ok()?;
            (host, port.strip_prefix(':'))
        }
        None => text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port))),
    };
    let good = !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._:".contains(&byte));
    let port = port.map_or(Ok(PORT), str::parse).ok()?;
    (good && port != 0 && (host.parse::<IpAddr>().is_ok() || !host.contains(':'))).then(|| (host.to_owned(), port))
}

fn facility(text: &str) -> Option<u8> {
    if text.is_empty() {
        return Some(DAEMON);
    }
    let number = match text.parse::<usize>() {
        Ok(number) => Some(number).filter(|number| *number < FACILITIES.len()),
        Err(_) => FACILITIES.iter().position(|name| *name == text),
    };
    number.and_then(|number| u8::try_from(number).ok())
}

/// Who a message comes from.
#[derive(Debug, Clone)]
pub struct Sender {
    /// The host's name.
    pub host: String,
    /// The tag.
    pub tag: String,
    /// The process that sends.
    pub pid: u32,
}

/// One message, with the newline that ends it on a stream.
pub fn message(settings: &Settings, sender: &Sender, stream: Stream, time: Time, text: &str) -> Vec<u8> {
    let severity = if stream == Stream::Stderr { 3 } else { 6 };
    let priority = settings.facility * 8 + severity;
    let Sender { host, tag, pid } = sender;
    // Times in the local time zone, as everybody who writes to a syslog has them.
    let zoned = jiff::Timestamp::from_nanosecond(i128::from(time.nanoseconds()))
        .unwrap_or(jiff::Timestamp::UNIX_EPOCH)
        .to_zoned(TimeZone::system());
    let head = match settings.format {
        Format::Unix => format!("<{priority}>{} {tag}[{pid}]: ", zoned.strftime("%b %e %H:%M:%S")),
        Format::Rfc3164 => format!("<{priority}>{} {host} {tag}[{pid}]: ", zoned.strftime("%b %e %H:%M:%S")),
        Format::Rfc5424 | Format::Rfc5424Micro => {
            let fraction = if settings.format == Format::Rfc5424 { "" } else { "%.6f" };
            let offset = if zoned.offset().is_zero() { "Z" } else { "%:z" };
            let time = zoned.strftime(&format!("%Y-%m-%dT%H:%M:%S{fraction}{offset}")).to_string();
            format!("<{priority}>1 {time} {host} {tag} {pid} {tag} - ")
        }
    };
    let mut message = head.into_bytes();
    message.extend_from_slice(text.as_bytes());
    message.push(b'\n');
    // RFC 5425, section 4.3, as Docker's driver has it.
    if matches!(settings.address, Address::Tls(..)) && matches!(settings.format, Format::Rfc5424 | Format::Rfc5424Micro)
    {
        message.splice(0..0, format!("{} ", message.len()).into_bytes());
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(options: &[(&str, &str)]) -> Result<Settings, String> {
        let mut settings = Settings::default();
        for (name, value) in options {
            settings.option(name, value).map_err(|error| error.to_string())?;
        }
        Ok(settings)
    }

    #[test]
    fn addresses() {
        let parsed = |text| settings(&[("syslog-address", text)]).map(|settings| settings.address).ok();
        for (text, expected) in [
            ("", Some(Address::Host)),
            ("udp://127.0.0.1:5514", Some(Address::Udp("127.0.0.1".into(), 5514))),
            ("tcp://logs.example", Some(Address::Tcp("logs.example".into(), 514))),
            ("tcp+tls://logs.example:6514", Some(Address::Tls("logs.example".into(), 6514))),
            ("tcp://[::1]:99", Some(Address::Tcp("::1".into(), 99))),
            ("udp://[::1]", Some(Address::Udp("::1".into(), 514))),
            ("unix:///dev/log", Some(Address::Unix("/dev/log".into()))),
            ("unixgram:///dev/log", Some(Address::Unixgram("/dev/log".into()))),
            ("unix://dev/log", None),
            ("udp://", None),
            ("udp://h:0", None),
            ("udp://h:x", None),
            ("udp://a b", None),
            ("tcp://[::1", None),
            ("http://h", None),
            ("h:514", None),
        ] {
            assert_eq!(parsed(text), expected, "{text}");
        }
        let said = settings(&[("syslog-address", "h")]).unwrap_err();
        assert!(said.contains("\"h\" for log opt syslog-address: udp://HOST"), "{said}");
    }

    #[test]
    fn facilities_and_formats() {
        for (text, expected) in [("", Some(3)), ("local7", Some(23)), ("5", Some(5)), ("24", None), ("x", None)] {
            assert_eq!(facility(text), expected, "{text}");
        }
        assert!(settings(&[("syslog-format", "json")]).is_err());
        assert_eq!(settings(&[("syslog-format", "rfc5424micro")]).unwrap().format, Format::Rfc5424Micro);
        assert!(settings(&[("syslog-tls-skip-verify", "1")]).unwrap().tls.skip_verify);
        assert!(settings(&[("syslog-nonsense", "1")]).unwrap_err().contains("unknown log opt"));
    }

    #[test]
    fn messages_are_those_of_docker() {
        let sender = Sender { host: "vm".into(), tag: "web".into(), pid: 7 };
        let time = Time::parse("2026-11-01T08:25:19.412794123Z").unwrap();
        let zone = jiff::Timestamp::from_second(time.nanoseconds() / 1_000_000_000).unwrap();
        let zone = zone.to_zoned(TimeZone::system());
        let stamp = zone.strftime("%b %e %H:%M:%S").to_string();
        let text = |format, stream| {
            let settings = Settings { format, ..Settings::default() };
            String::from_utf8(message(&settings, &sender, stream, time, "a b")).unwrap()
        };
        assert_eq!(text(Format::Unix, Stream::Stdout), format!("<30>{stamp} web[7]: a b\n"));
        assert_eq!(text(Format::Rfc3164, Stream::Stderr), format!("<27>{stamp} vm web[7]: a b\n"));
        let (seconds, micro) = (text(Format::Rfc5424, Stream::Stdout), text(Format::Rfc5424Micro, Stream::Stdout));
        assert!(seconds.starts_with("<30>1 2026-11-0") && seconds.ends_with(" vm web 7 web - a b\n"), "{seconds}");
        assert!(micro.contains(":19.412794"), "{micro}");
        let framed = Settings { address: Address::Tls("h".into(), 1), format: Format::Rfc5424, ..Settings::default() };
        let framed = String::from_utf8(message(&framed, &sender, Stream::Stdout, time, "a b")).unwrap();
        assert_eq!(framed, format!("{} {seconds}", seconds.len()));
    }
}
