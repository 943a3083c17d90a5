//! Times and sizes in the words that Docker uses.

use jiff::Timestamp;

/// `3 minutes`, `About an hour`, as Docker's units.HumanDuration.
pub fn duration(seconds: i64) -> String {
    let (minutes, hours) = (seconds / 60, (seconds + 1800) / 3600);
    match () {
        () if seconds < 1 => "Less than a second".into(),
        () if seconds == 1 => "1 second".into(),
        () if seconds < 60 => format!("{seconds} seconds"),
        () if minutes == 1 => "About a minute".into(),
        () if minutes < 60 => format!("{minutes} minutes"),
        () if hours == 1 => "About an hour".into(),
        () if hours < 48 => format!("{hours} hours"),
        () if hours < 24 * 7 * 2 => format!("{} days", hours / 24),
        () if hours < 24 * 30 * 2 => format!("{} weeks", hours / 24 / 7),
        () if hours < 24 * 365 * 2 => format!("{} months", hours / 24 / 30),
        () => format!("{} years", hours / 24 / 365),
    }
}

/// How long ago a moment was.
pub fn since(moment: Timestamp) -> String {
    duration(Timestamp::now().as_second() - moment.as_second())
}

/// `2 hours ago`.
pub fn ago(moment: Timestamp) -> String {
    format!("{} ago", since(moment))
}

/// `12.3MB`: decimal units with four significant digits, as `docker images`.
pub fn size(bytes: u64) -> String {
    scaled(bytes, 1000.0, &["B", "kB", "MB", "GB", "TB", "PB"])
}

/// `12.3MB`: decimal units with three significant digits, as lists of images and what was reclaimed.
pub fn size3(bytes: u64) -> String {
    digits(bytes, 1000.0, &["B", "kB", "MB", "GB", "TB", "PB"], 3)
}

/// `12.3MiB`: binary units, as `docker stats`.
pub fn binary_size(bytes: u64) -> String {
    scaled(bytes, 1024.0, &["B", "KiB", "MiB", "GiB", "TiB", "PiB"])
}

fn scaled(bytes: u64, base: f64, units: &[&str]) -> String {
    digits(bytes, base, units, 4)
}

#[allow(clippy::cast_precision_loss, reason = "shown with a few digits")]
fn digits(bytes: u64, base: f64, units: &[&str], count: usize) -> String {
    let (mut value, mut unit) = (bytes as f64, 0);
    while value >= base && unit + 1 < units.len() {
        (value, unit) = (value / base, unit + 1);
    }
    let decimals = match value {
        v if v >= 1000.0 || unit == 0 => 0,
        v if v >= 100.0 => count - 3,
        v if v >= 10.0 => count - 2,
        _ => count - 1,
    };
    let digits = format!("{value:.decimals$}");
    let digits = if digits.contains('.') { digits.trim_end_matches('0').trim_end_matches('.') } else { &digits };
    format!("{digits}{}", units[unit])
}

/// A size as people write it for `--memory`: `64m`, `1.5g`, `1024`; binary units.
pub fn parse_size(text: &str) -> Option<u64> {
    umiak_compose::units::parse_bytes(text.trim()).and_then(|bytes| bytes.try_into().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_dockers() {
        let cases = [
            (0, "Less than a second"),
            (1, "1 second"),
            (59, "59 seconds"),
            (60, "About a minute"),
            (180, "3 minutes"),
            (3600, "About an hour"),
            (7200, "2 hours"),
            (3600 * 50, "2 days"),
        ];
        for (seconds, text) in cases {
            assert_eq!(duration(seconds), text);
        }
    }

    #[test]
    fn sizes_read_as_dockers_and_are_read_as_binary() {
        assert_eq!(size(4_261_550), "4.262MB");
        assert_eq!(size(999), "999B");
        assert_eq!(binary_size(64 << 20), "64MiB");
        let cases = [("64m", 64 << 20), ("1.5g", 3 << 29), ("1024", 1024), ("10MiB", 10 << 20), ("7kb", 7168)];
        for (text, bytes) in cases {
            assert_eq!(parse_size(text), Some(bytes), "{text}");
        }
        for bad in ["", "x", "1q", "-1", "1e400"] {
            assert_eq!(parse_size(bad), None, "{bad}");
        }
    }
}
