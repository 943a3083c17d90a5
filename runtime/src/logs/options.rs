//! A service's `logging`: driver and options, with Docker's names and words.

use std::path::PathBuf;

use super::{journald, syslog};

const DEFAULT_MAX_SIZE: u64 = 10 << 20;
const DEFAULT_MAX_FILES: u32 = 3;
/// Docker's, for its driver `local` and for the copies that it keeps of what goes elsewhere.
const LOCAL_MAX_SIZE: u64 = 20 << 20;
const LOCAL_MAX_FILES: u32 = 5;
/// Docker's `max-buffer-size`.
const DEFAULT_BUFFER: usize = 1_000_000;

/// Where output goes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Driver {
    /// Into json-file logs.
    #[default]
    JsonFile,
    /// The same file format with the driver `local`'s limits: its own format nothing but Docker reads.
    Local,
    /// Nowhere.
    None,
    /// To systemd's journal, with a copy in files.
    Journald,
    /// To a syslog receiver, with a copy in files.
    Syslog,
}

impl Driver {
    /// All there are.
    pub const ALL: [Self; 5] = [Self::JsonFile, Self::Local, Self::None, Self::Journald, Self::Syslog];

    /// Its name in a Compose file.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::JsonFile => "json-file",
            Self::Local => "local",
            Self::None => "none",
            Self::Journald => "journald",
            Self::Syslog => "syslog",
        }
    }

    /// By its name; empty for the default.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        if name.is_empty() {
            return Some(Self::default());
        }
        Self::ALL.into_iter().find(|driver| driver.name() == name)
    }

    const fn is_remote(self) -> bool {
        matches!(self, Self::Journald | Self::Syslog)
    }

    /// Whether Docker's driver of this name has the option, those aside that all have.
    fn knows(self, option: &str) -> bool {
        let files = matches!(option, "max-size" | "max-file" | "compress");
        let attributes = matches!(option, "labels" | "labels-regex" | "env" | "env-regex" | "tag");
        let cache = matches!(option, "cache-disabled" | "cache-max-size" | "cache-max-file" | "cache-compress");
        match self {
            Self::JsonFile => files || attributes,
            Self::Local => files,
            Self::None => false,
            Self::Journald => attributes || cache,
            Self::Syslog => attributes || cache || option.starts_with("syslog-"),
        }
    }
}

/// How a container's output is logged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Where to.
    pub driver: Driver,
    /// Whether files are written: by the drivers for files, and as a copy of what goes elsewhere.
    pub files: bool,
    /// A file is rotated before it grows beyond this many bytes; `None` for never.
    pub max_size: Option<u64>,
    /// How many files there are at most, the current one included.
    pub max_files: u32,
    /// Whether rotated files are compressed.
    pub compress: bool,
    /// With `mode: non-blocking`: so many bytes wait at most, and what comes on top is dropped and counted.
    pub buffer: Option<usize>,
    /// Where the receiver is and what it is sent, with [`Driver::Syslog`].
    pub syslog: syslog::Settings,
    /// Where the journal listens, with [`Driver::Journald`].
    pub journal: PathBuf,
    /// Which of the container's attributes go along.
    pub attributes: Attributes,
}

/// Attributes of a container that its log has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Attributes {
    /// A Go template.
    pub tag: Option<String>,
    /// Names of labels.
    pub labels: Vec<String>,
    /// A regular expression over names of labels.
    pub labels_regex: Option<String>,
    /// Names of environment variables.
    pub env: Vec<String>,
    /// A regular expression over names of environment variables.
    pub env_regex: Option<String>,
}

impl Default for Options {
    /// 10 MiB × 3: bounded, where Docker's are not.
    fn default() -> Self {
        Self {
            driver: Driver::JsonFile,
            files: true,
            max_size: Some(DEFAULT_MAX_SIZE),
            max_files: DEFAULT_MAX_FILES,
            compress: false,
            buffer: None,
            syslog: syslog::Settings::default(),
            journal: journald::SOCKET.into(),
            attributes: Attributes::default(),
        }
    }
}

/// Why a `logging` section is refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum OptionsError {
    /// A driver that does not exist here.
    #[error("logging driver {name:?} is not supported: use json-file, local, none, journald or syslog")]
    Driver {
        /// Its name.
        name: String,
    },
    /// An option that the driver does not know.
    #[error("unknown log opt {name:?} for {driver} log driver")]
    Unknown {
        /// The option.
        name: String,
        /// The driver.
        driver: &'static str,
    },
    /// A value that does not parse.
    #[error("invalid value {value:?} for log opt {name}: {wanted}")]
    Value {
        /// The option.
        name: String,
        /// Its value.
        value: String,
        /// What it should be.
        wanted: &'static str,
    },
    /// `max-buffer-size` where nothing is buffered.
    #[error("log opt max-buffer-size is only supported with mode=non-blocking")]
    BufferWithoutMode,
    /// Files that are to be compressed when they are rotated, and never are.
    #[error("log opt compress cannot be true when max-file is less than 2 or max-size is not set")]
    NothingToCompress,
    /// A certificate without its key, or the reverse.
    #[error("log opts syslog-tls-cert and syslog-tls-key are only supported together")]
    HalfOfAPair,
}

impl Options {
    /// Reads a driver's name (empty for the default) and its options.
    ///
    /// # Errors
    /// An unknown driver or option, or a value out of range.
    pub fn parse<'a>(
        driver: &str,
        options: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Self, OptionsError> {
        let known = Driver::named(driver).ok_or_else(|| OptionsError::Driver { name: driver.to_owned() })?;
        let mut parsed = Self { driver: known, files: known != Driver::None, ..Self::default() };
        if known == Driver::Local || known.is_remote() {
            (parsed.max_size, parsed.max_files, parsed.compress) = (Some(LOCAL_MAX_SIZE), LOCAL_MAX_FILES, true);
        }
        let (mut non_blocking, mut buffer, mut compress) = (false, None, None);
        for (name, value) in options {
            match name {
                "mode" => non_blocking = mode(value)?,
                "max-buffer-size" => buffer = Some(buffer_size(value)?),
                name if !known.knows(name) => {
                    return Err(OptionsError::Unknown { name: name.to_owned(), driver: known.name() });
                }
                "compress" | "cache-compress" => compress = Some(boolean(name, value)?),
                name => parsed.option(name, value)?,
            }
        }
        parsed.compress = parsed.compressed(compress)?;
        if parsed.syslog.tls.cert.is_some() != parsed.syslog.tls.key.is_some() {
            return Err(OptionsError::HalfOfAPair);
        }
        if buffer.is_some() && !non_blocking {
            return Err(OptionsError::BufferWithoutMode);
        }
        parsed.buffer = non_blocking.then(|| buffer.unwrap_or(DEFAULT_BUFFER));
        Ok(parsed)
    }

    fn option(&mut self, name: &str, value: &str) -> Result<(), OptionsError> {
        let list = || value.split(',').filter(|word| !word.is_empty()).map(str::to_owned).collect();
        let attributes = &mut self.attributes;
        match name {
            "max-size" => self.max_size = max_size(name, value, self.driver == Driver::Local)?,
            "cache-max-size" => self.max_size = max_size(name, value, true)?,
            "max-file" | "cache-max-file" => self.max_files = max_files(name, value)?,
            "cache-disabled" => self.files = !boolean(name, value)?,
            "tag" => attributes.tag = Some(value.to_owned()).filter(|tag| !tag.is_empty()),
            "labels" => attributes.labels = list(),
            "labels-regex" => attributes.labels_regex = Some(value.to_owned()),
            "env" => attributes.env = list(),
            "env-regex" => attributes.env_regex = Some(value.to_owned()),
            name => self.syslog.option(name, value)?,
        }
        Ok(())
    }

    /// Asked for where nothing is rotated it is a mistake; where it is only the driver's default, there is nothing to do.
    fn compressed(&self, asked: Option<bool>) -> Result<bool, OptionsError> {
        let rotates = self.max_files > 1 && self.max_size.is_some();
        if asked == Some(true) && !rotates {
            return Err(OptionsError::NothingToCompress);
        }
        Ok(asked.unwrap_or(self.compress) && rotates)
    }
}

fn value_error(name: &str, value: &str, wanted: &'static str) -> OptionsError {
    OptionsError::Value { name: name.to_owned(), value: value.to_owned(), wanted }
}

fn mode(value: &str) -> Result<bool, OptionsError> {
    match value {
        "" | "blocking" => Ok(false),
        "non-blocking" => Ok(true),
        _ => Err(value_error("mode", value, "blocking or non-blocking")),
    }
}

fn buffer_size(value: &str) -> Result<usize, OptionsError> {
    let bytes = size(value, true).and_then(|bytes| usize::try_from(bytes).ok());
    bytes.ok_or_else(|| value_error("max-buffer-size", value, "a size such as 4m"))
}

/// The words that Go takes for a boolean.
pub(super) fn boolean(name: &str, value: &str) -> Result<bool, OptionsError> {
    match value {
        "1" | "t" | "T" | "true" | "True" | "TRUE" => Ok(true),
        "0" | "f" | "F" | "false" | "False" | "FALSE" => Ok(false),
        _ => Err(value_error(name, value, "true or false")),
    }
}

fn max_files(name: &str, value: &str) -> Result<u32, OptionsError> {
    let files = value.parse().ok().filter(|files| *files >= 1);
    files.ok_or_else(|| value_error(name, value, "a number of files, at least 1"))
}

/// Docker's json-file counts decimally, its local driver in binary.
fn max_size(name: &str, value: &str, binary: bool) -> Result<Option<u64>, OptionsError> {
    if value == "-1" {
        return Ok(None);
    }
    let bytes = size(value, binary).filter(|size| *size > 0);
    bytes.map(Some).ok_or_else(|| value_error(name, value, "a size such as 10m or 1g, or -1 for no limit"))
}

fn size(value: &str, binary: bool) -> Option<u64> {
    let lower = value.trim().to_ascii_lowercase();
    let unit = lower.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
    let number = lower.strip_suffix(unit)?;
    let unit = unit.trim_start();
    let (prefix, binary) = match unit.strip_suffix("ib") {
        Some(prefix) => (prefix, true),
        None => (unit.strip_suffix('b').unwrap_or(unit), binary),
    };
    let power = ["", "k", "m", "g", "t", "p"].iter().position(|known| *known == prefix)?;
    let step: u64 = if binary { 1024 } else { 1000 };
    let scale = step.checked_pow(u32::try_from(power).ok()?)?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let mut total = whole.parse::<u64>().ok()?.checked_mul(scale)?;
    let mut unit = scale;
    for digit in fraction.chars() {
        unit /= 10;
        total = total.checked_add(u64::from(digit.to_digit(10)?) * unit)?;
    }
    Some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drivers_and_options() {
        let options = |driver, list: &[(&'static str, &'static str)]| Options::parse(driver, list.iter().copied());
        assert_eq!(options("", &[]).unwrap(), Options::default());
        assert_eq!(options("none", &[]).unwrap().driver, Driver::None);
        let own = options("json-file", &[("max-size", "10m"), ("max-file", "5"), ("tag", "x")]).unwrap();
        assert_eq!((own.max_size, own.max_files, own.compress), (Some(10_000_000), 5, false));
        assert_eq!(own.attributes.tag.as_deref(), Some("x"));
        let local = options("local", &[("max-size", "10m")]).unwrap();
        assert_eq!((local.max_size, local.max_files, local.compress), (Some(10 << 20), 5, true));
        assert!(!options("local", &[("max-file", "1")]).unwrap().compress);
        assert_eq!(options("", &[("max-size", "-1")]).unwrap().max_size, None);
        let sent = options("syslog", &[("cache-max-size", "1m"), ("cache-compress", "false"), ("env", "A,B")]).unwrap();
        assert_eq!((sent.max_size, sent.compress, sent.files), (Some(1 << 20), false, true));
        assert_eq!(sent.attributes.env, ["A", "B"]);
        assert!(!options("journald", &[("cache-disabled", "true")]).unwrap().files);
    }

    #[test]
    fn waiting_or_dropping() {
        let options = |list: &[(&'static str, &'static str)]| Options::parse("", list.iter().copied());
        assert_eq!(options(&[("mode", "blocking")]).unwrap().buffer, None);
        assert_eq!(options(&[("mode", "non-blocking")]).unwrap().buffer, Some(1_000_000));
        let small = options(&[("max-buffer-size", "4k"), ("mode", "non-blocking")]).unwrap();
        assert_eq!(small.buffer, Some(4096));
        assert_eq!(options(&[("max-buffer-size", "4k")]).unwrap_err(), OptionsError::BufferWithoutMode);
        assert!(options(&[("mode", "never")]).unwrap_err().to_string().contains("blocking or non-blocking"));
    }

    #[test]
    fn what_is_wrong_is_said() {
        let error = |driver, list: &[(&'static str, &'static str)]| {
            Options::parse(driver, list.iter().copied()).unwrap_err().to_string()
        };
        assert_eq!(
            error("gelf", &[]),
            "logging driver \"gelf\" is not supported: use json-file, local, none, journald or syslog"
        );
        assert_eq!(error("local", &[("tag", "x")]), "unknown log opt \"tag\" for local log driver");
        assert!(error("json-file", &[("compress", "true"), ("max-file", "1")]).contains("compress cannot be true"));
        assert!(error("syslog", &[("syslog-tls-cert", "/x")]).contains("only supported together"));
        assert!(error("syslog", &[("syslog-tls-ca-cert", "x")]).contains("an absolute path"));
        assert!(error("json-file", &[("compress", "yes")]).contains("true or false"));
        let unknown = error("", &[("max-sizes", "1")]);
        assert_eq!(unknown, "unknown log opt \"max-sizes\" for json-file log driver");
    }

    #[test]
    fn sizes() {
        for (text, expected) in [
            ("1", Some(1)),
            ("10k", Some(10_000)),
            ("10K", Some(10_000)),
            ("1.5m", Some(1_500_000)),
            ("1gb", Some(1_000_000_000)),
            ("1GiB", Some(1 << 30)),
            ("2 m", Some(2_000_000)),
            ("", None),
            ("0", None),
            ("m", None),
            ("-5", None),
            ("10x", None),
            ("1..5m", None),
            ("99999999999999999999", None),
            ("99999999p", None),
        ] {
            assert_eq!(max_size("max-size", text, false).ok().flatten(), expected, "{text}");
        }
        for text in ["0", "-1", "x", "", "99999999999"] {
            assert!(max_files("max-file", text).is_err(), "{text}");
        }
    }
}
