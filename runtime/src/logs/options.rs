//! A service's `logging`: driver and options.

/// Docker's log options that change nothing here: what they add is only shown by `docker logs --details`, and this
/// writer never makes a container wait.
const WITHOUT_EFFECT: [&str; 8] =
    ["compress", "labels", "labels-regex", "env", "env-regex", "tag", "mode", "max-buffer-size"];

const DEFAULT_MAX_SIZE: u64 = 10 << 20;
const DEFAULT_MAX_FILES: u32 = 3;

/// Where output goes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Driver {
    /// Into json-file logs; also for `local`, whose file format nothing but Docker reads.
    #[default]
    JsonFile,
    /// Nowhere.
    None,
}

/// How a container's output is logged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Where to.
    pub driver: Driver,
    /// A file is rotated before it grows beyond this many bytes; `None` for never.
    pub max_size: Option<u64>,
    /// How many files there are at most, the current one included.
    pub max_files: u32,
    /// Options that are Docker's but have no effect here, to be named in a warning.
    pub without_effect: Vec<String>,
}

impl Default for Options {
    /// 10 MiB × 3: bounded, where Docker's are not.
    fn default() -> Self {
        Self {
            driver: Driver::JsonFile,
            max_size: Some(DEFAULT_MAX_SIZE),
            max_files: DEFAULT_MAX_FILES,
            without_effect: Vec::new(),
        }
    }
}

/// Why a `logging` section is refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum OptionsError {
    /// A driver that does not exist here.
    #[error("logging driver {name:?} is not supported: use json-file, local or none")]
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
        driver: String,
    },
    /// A value that does not parse.
    #[error("invalid value {value:?} for log opt {name}: {wanted}")]
    Value {
        /// The option.
        name: &'static str,
        /// Its value.
        value: String,
        /// What it should be.
        wanted: &'static str,
    },
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
        let mut parsed = Self::default();
        match driver {
            "" | "json-file" | "local" => {}
            "none" => parsed.driver = Driver::None,
            name => return Err(OptionsError::Driver { name: name.to_owned() }),
        }
        for (name, value) in options {
            match name {
                "max-size" => parsed.max_size = max_size(value, driver == "local")?,
                "max-file" => parsed.max_files = max_files(value)?,
                name if WITHOUT_EFFECT.contains(&name) => parsed.without_effect.push(name.to_owned()),
                name => {
                    let driver = if driver.is_empty() { "json-file" } else { driver };
                    return Err(OptionsError::Unknown { name: name.to_owned(), driver: driver.to_owned() });
                }
            }
        }
        Ok(parsed)
    }
}

fn max_files(value: &str) -> Result<u32, OptionsError> {
    let wanted = "a number of files, at least 1";
    let error = || OptionsError::Value { name: "max-file", value: value.to_owned(), wanted };
    value.parse().ok().filter(|files| *files >= 1).ok_or_else(error)
}

/// Docker's json-file counts decimally, its local driver in binary.
fn max_size(value: &str, binary: bool) -> Result<Option<u64>, OptionsError> {
    if value == "-1" {
        return Ok(None);
    }
    let wanted = "a size such as 10m or 1g, or -1 for no limit";
    let error = || OptionsError::Value { name: "max-size", value: value.to_owned(), wanted };
    size(value, binary).filter(|size| *size > 0).map(Some).ok_or_else(error)
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
        assert_eq!(
            (own.max_size, own.max_files, own.without_effect.as_slice()),
            (Some(10_000_000), 5, ["tag".to_owned()].as_slice())
        );
        assert_eq!(options("local", &[("max-size", "10m")]).unwrap().max_size, Some(10 << 20));
        assert_eq!(options("", &[("max-size", "-1")]).unwrap().max_size, None);
        assert!(options("syslog", &[]).unwrap_err().to_string().contains("\"syslog\" is not supported"));
        let unknown = options("", &[("max-sizes", "1")]).unwrap_err().to_string();
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
            assert_eq!(max_size(text, false).ok().flatten(), expected, "{text}");
        }
        for text in ["0", "-1", "x", "", "99999999999"] {
            assert!(max_files(text).is_err(), "{text}");
        }
    }
}
