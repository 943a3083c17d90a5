//! Sizes, durations and numbers as Compose writes them, both ways.

use std::time::Duration;

use serde::Serializer;

use super::model::PortRange;

/// Writes an optional byte count as Compose does: decimal digits in a string.
pub(super) fn bytes_text<S: Serializer>(bytes: &Option<i64>, serializer: S) -> Result<S::Ok, S::Error> {
    match bytes {
        Some(bytes) => serializer.serialize_str(&bytes.to_string()),
        None => serializer.serialize_none(),
    }
}

/// Writes an optional duration as Go does: `1m30s`.
pub(super) fn duration_text<S: Serializer>(duration: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    match duration {
        Some(duration) => serializer.serialize_str(&format_duration(*duration)),
        None => serializer.serialize_none(),
    }
}

/// A duration in Go's notation: `1h0m30s`, `1.5s`, `250ms`, `10µs`, `0s`.
pub fn format_duration(duration: Duration) -> String {
    let nanos = duration.as_nanos();
    let fraction = |unit: u128| {
        let (whole, rest) = (nanos / unit, nanos % unit);
        if rest == 0 {
            return whole.to_string();
        }
        let width = unit.to_string().len() - 1;
        let digits = format!("{rest:0width$}");
        format!("{whole}.{}", digits.trim_end_matches('0'))
    };
    match nanos {
        0 => "0s".to_owned(),
        1..1_000 => format!("{nanos}ns"),
        1_000..1_000_000 => format!("{}µs", fraction(1_000)),
        1_000_000..1_000_000_000 => format!("{}ms", fraction(1_000_000)),
        _ => {
            let minutes = duration.as_secs() / 60;
            let seconds = Duration::new(duration.as_secs() % 60, duration.subsec_nanos());
            let nanos = seconds.as_nanos();
            let (whole, rest) = (nanos / 1_000_000_000, nanos % 1_000_000_000);
            let seconds = match rest {
                0 => whole.to_string(),
                _ => format!("{whole}.{}", format!("{rest:09}").trim_end_matches('0')),
            };
            match (minutes / 60, minutes % 60) {
                (0, 0) => format!("{seconds}s"),
                (0, minutes) => format!("{minutes}m{seconds}s"),
                (hours, minutes) => format!("{hours}h{minutes}m{seconds}s"),
            }
        }
    }
}

/// A size in bytes: a number with a binary unit, `64m`, `1.5 GiB`, `1024`, `-1`.
pub fn parse_bytes(text: &str) -> Option<i64> {
    if let Ok(bytes) = text.parse::<i64>() {
        return Some(bytes);
    }
    let end = text.rfind(|c: char| c.is_ascii_digit() || c == '.' || c == ' ')?;
    let (number, unit) = text.split_at(end + 1);
    let number: f64 = number.trim_end().parse().ok().filter(|number: &f64| number.is_finite() && *number >= 0.0)?;
    let unit = unit.trim().to_ascii_lowercase();
    let power = match unit.strip_suffix("ib").or_else(|| unit.strip_suffix('b')).unwrap_or(&unit) {
        "" if unit != "ib" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        "p" => 5,
        _ => return None,
    };
    let bytes = number * 1024_f64.powi(power);
    // checked: not negative, and below the largest i64
    #[allow(clippy::cast_possible_truncation)]
    (bytes < 9.2e18).then_some(bytes as i64)
}

/// A duration in Go's notation, with days and weeks: `1m30s`, `1.5h`, `300ms`, `2d`, `0`. Not negative.
///
/// # Errors
/// What is wrong with it, in Go's words.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let invalid = || format!("time: invalid duration \"{text}\"");
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    if rest.is_empty() || rest.starts_with('-') {
        return Err(invalid());
    }
    let mut total: u128 = 0;
    while !rest.is_empty() {
        let number_end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, after) = rest.split_at(number_end);
        let unit_end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_end);
        if unit.is_empty() && !number.is_empty() {
            return Err(format!("time: missing unit in duration \"{text}\""));
        }
        let nanos: u128 = match unit {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            "d" => 24 * 3_600_000_000_000,
            "w" => 7 * 24 * 3_600_000_000_000,
            unit => return Err(format!("time: unknown unit \"{unit}\" in duration \"{text}\"")),
        };
        total = decimal(number, nanos).and_then(|nanos| total.checked_add(nanos)).ok_or_else(invalid)?;
        rest = after;
    }
    let nanos = i64::try_from(total).ok().and_then(|nanos| u64::try_from(nanos).ok());
    nanos.map(Duration::from_nanos).ok_or_else(invalid)
}

/// `number` (digits with at most one point) times `unit`, rounded down.
fn decimal(number: &str, unit: u128) -> Option<u128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return None;
    }
    let whole: u128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let fraction = &fraction[..fraction.len().min(15)];
    let scale = 10_u128.pow(u32::try_from(fraction.len()).ok()?);
    let fraction: u128 = if fraction.is_empty() { 0 } else { fraction.parse().ok()? };
    whole.checked_mul(unit)?.checked_add(fraction * unit / scale)
}

/// `8000` or `8000-8010`.
pub fn port_range(text: &str) -> Option<PortRange> {
    let port = |text: &str| text.parse::<u16>().ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()));
    let (start, end) = match text.split_once('-') {
        Some((start, end)) => (port(start)?, port(end)?),
        None => (port(text)?, port(text)?),
    };
    (start <= end).then_some(PortRange { start, end, digits: 0 })
}

/// The words of a shell command line: quotes and backslashes removed, nothing expanded. Like Docker Compose, stops at
/// an unquoted `;`, `&`, `|`, `<` or `>`. `None` when a quote is not closed.
pub fn shell_words(text: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = text.chars();
    while let Some(character) = chars.next() {
        match character {
            ' ' | '\t' | '\r' | '\n' => words.extend(word.take()),
            ';' | '&' | '|' | '<' | '>' => break,
            '\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next()? {
                        '\'' => break,
                        character => word.push(character),
                    }
                }
            }
            '"' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next()? {
                        '"' => break,
                        '\\' => word.push(chars.next()?),
                        character => word.push(character),
                    }
                }
            }
            '\\' => word.get_or_insert_default().push(chars.next()?),
            character => word.get_or_insert_default().push(character),
        }
    }
    words.extend(word);
    Some(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes() {
        for (text, expected) in [
            ("1024", Some(1024)),
            ("-1", Some(-1)),
            ("64m", Some(64 << 20)),
            ("64M", Some(64 << 20)),
            ("1.5g", Some(3 << 29)),
            ("1 GiB", Some(1 << 30)),
            ("2kb", Some(2048)),
            ("5b", Some(5)),
            ("1t", Some(1 << 40)),
            ("1x", None),
            ("m", None),
            ("1ib", None),
            ("-1m", None),
            ("", None),
            ("99999999p", None),
        ] {
            assert_eq!(parse_bytes(text), expected, "{text}");
        }
    }

    #[test]
    fn durations() {
        for (text, nanos) in [
            ("0", 0),
            ("0s", 0),
            ("1m30s", 90_000_000_000),
            ("1.5h", 5_400_000_000_000),
            ("300ms", 300_000_000),
            (".5s", 500_000_000),
            ("10us", 10_000),
            ("1d", 86_400_000_000_000),
            ("1h1m1s1ms1us1ns", 3_661_001_001_001),
        ] {
            assert_eq!(parse_duration(text), Ok(Duration::from_nanos(nanos)), "{text}");
        }
        for (text, message) in [
            ("10", "time: missing unit in duration \"10\""),
            ("", "time: invalid duration \"\""),
            ("-1s", "time: invalid duration \"-1s\""),
            ("1y", "time: unknown unit \"y\" in duration \"1y\""),
            ("s", "time: invalid duration \"s\""),
            ("1.2.3s", "time: invalid duration \"1.2.3s\""),
            ("99999999999h", "time: invalid duration \"99999999999h\""),
        ] {
            assert_eq!(parse_duration(text), Err(message.to_owned()), "{text}");
        }
    }

    #[test]
    fn durations_as_go_prints_them() {
        for (nanos, text) in [
            (0, "0s"),
            (1, "1ns"),
            (1_500, "1.5µs"),
            (250_000_000, "250ms"),
            (1_500_000_000, "1.5s"),
            (90_000_000_000, "1m30s"),
            (3_600_000_000_000, "1h0m0s"),
            (86_400_500_000_000, "24h0m0.5s"),
        ] {
            assert_eq!(format_duration(Duration::from_nanos(nanos)), text);
        }
    }

    #[test]
    fn words() {
        for (text, expected) in [
            ("a b  c", Some(vec!["a", "b", "c"])),
            ("sh -c 'echo \"x\" $HOME'", Some(vec!["sh", "-c", "echo \"x\" $HOME"])),
            ("a \"b \\\" c\" d\\ e", Some(vec!["a", "b \" c", "d e"])),
            ("a ''", Some(vec!["a", ""])),
            ("a;b", Some(vec!["a"])),
            ("a | b", Some(vec!["a"])),
            ("\n a\n", Some(vec!["a"])),
            ("", Some(vec![])),
            ("a 'b", None),
        ] {
            let expected = expected.map(|words| words.into_iter().map(str::to_owned).collect::<Vec<_>>());
            assert_eq!(shell_words(text), expected, "{text}");
        }
    }
}
