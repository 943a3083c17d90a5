//! What a plain YAML scalar means, by the rules of Go's yaml package, which Compose uses: `0440` is octal, `yes` and
//! `on` are text, `1_000` is a number, `2001-12-14` a date.

use super::node::Value;

/// Resolves a plain scalar.
pub(crate) fn resolve(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" => return Value::Bool(true),
        "false" | "False" | "FALSE" => return Value::Bool(false),
        ".nan" | ".NaN" | ".NAN" => return Value::Float(f64::NAN),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => return Value::Float(f64::INFINITY),
        "-.inf" | "-.Inf" | "-.INF" => return Value::Float(f64::NEG_INFINITY),
        _ => {}
    }
    match text.as_bytes().first() {
        Some(b'0'..=b'9' | b'+' | b'-') => match date(text) {
            Some(date) => Value::Date(date),
            None => number(text),
        },
        Some(b'.') if is_float(text) => float(text),
        _ => Value::Text(text.to_owned()),
    }
}

fn number(text: &str) -> Value {
    let plain: String = text.chars().filter(|c| *c != '_').collect();
    if let Some(value) = integer(&plain) {
        return Value::Int(value);
    }
    match is_float(&plain) {
        true => match float(&plain) {
            Value::Float(value) if value.is_finite() => Value::Float(value),
            _ => Value::Text(text.to_owned()),
        },
        false => Value::Text(text.to_owned()),
    }
}

fn float(text: &str) -> Value {
    text.parse().map_or_else(|_| Value::Text(text.to_owned()), Value::Float)
}

/// An integer in Go's notation, as far as it fits 64 bits with or without sign: `12`, `-0x1f`, `0b11`, `0o17`, `017`.
pub(crate) fn integer(text: &str) -> Option<i128> {
    let (negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let (radix, digits) = match digits.as_bytes() {
        [b'0', b'x' | b'X', ..] => (16, &digits[2..]),
        [b'0', b'b' | b'B', ..] => (2, &digits[2..]),
        [b'0', b'o' | b'O', ..] => (8, &digits[2..]),
        [b'0', _, ..] => (8, &digits[1..]),
        _ => (10, digits),
    };
    if digits.is_empty() || !digits.chars().all(|c| c.is_digit(radix)) {
        return None;
    }
    let value = i128::from_str_radix(digits, radix).ok()?;
    let value = if negative { -value } else { value };
    (i128::from(i64::MIN)..=i128::from(u64::MAX)).contains(&value).then_some(value)
}

/// `[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?`
fn is_float(text: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let unsigned = |text: &str| text.strip_prefix(['-', '+']).unwrap_or(text).to_owned();
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (text, None),
    };
    if exponent.is_some_and(|exponent| !digits(&unsigned(exponent))) {
        return false;
    }
    match unsigned(mantissa).split_once('.') {
        Some(("", fraction)) => digits(fraction),
        Some((whole, fraction)) => digits(whole) && (fraction.is_empty() || digits(fraction)),
        None => digits(&unsigned(mantissa)),
    }
}

/// Whether a value is what the tag of that name says.
pub(crate) fn is(value: &Value, tag: &str) -> bool {
    match value {
        Value::Int(_) => matches!(tag, "int" | "float"),
        Value::Float(_) => tag == "float",
        Value::Bool(_) => tag == "bool",
        Value::Null => tag == "null",
        _ => false,
    }
}

/// A date as RFC 3339 has it: `2001-12-14`, `2001-12-14 21:59:43`, `2001-12-14T21:59:43.1-05:00`.
pub(crate) fn date(text: &str) -> Option<String> {
    let (day, time) = match text.find(['T', 't', ' ']) {
        Some(at) => (&text[..at], Some(&text[at..])),
        None => (text, None),
    };
    let mut parts = day.split('-');
    let (year, month, day) = (parts.next()?, parts.next()?, parts.next()?);
    let year_number = small(year, 4, 0..=9999).filter(|_| year.len() == 4 && parts.next().is_none())?;
    let leap = year_number % 4 == 0 && (year_number % 100 != 0 || year_number % 400 == 0);
    let month = small(month, 2, 1..=12)?;
    let days = match month {
        2 => 28 + u32::from(leap),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    };
    let day = small(day, 2, 1..=days)?;
    let time = match time {
        None => "00:00:00Z".to_owned(),
        Some(time) => time_of_day(time)?,
    };
    Some(format!("{year}-{month:02}-{day:02}T{time}"))
}

/// What follows a day, from its `T` or space on; only after a space there is no time zone.
fn time_of_day(text: &str) -> Option<String> {
    let (clock, zone) = match text.strip_prefix(' ') {
        Some(clock) => (clock, "Z".to_owned()),
        None => {
            let text = &text[1..];
            let at = text.find(['Z', '+', '-'])?;
            (&text[..at], zone(&text[at..])?)
        }
    };
    let (clock, fraction) = clock.split_once('.').unwrap_or((clock, "0"));
    let mut parts = clock.split(':');
    let (hour, minute) = (small(parts.next()?, 2, 0..=23)?, small(parts.next()?, 2, 0..=59)?);
    let second = small(parts.next()?, 2, 0..=59).filter(|_| parts.next().is_none())?;
    small(fraction, 9, 0..=u32::MAX)?;
    let fraction = match fraction.trim_end_matches('0') {
        "" => String::new(),
        digits => format!(".{digits}"),
    };
    Some(format!("{hour:02}:{minute:02}:{second:02}{fraction}{zone}"))
}

fn zone(text: &str) -> Option<String> {
    if text == "Z" {
        return Some("Z".to_owned());
    }
    let (hours, minutes) = text[1..].split_once(':')?;
    let fits = hours.len() == 2 && minutes.len() == 2;
    (fits && small(hours, 2, 0..=24).is_some() && small(minutes, 2, 0..=59).is_some()).then(|| text.to_owned())
}

/// A number of few digits, without a sign.
fn small(text: &str, most: usize, range: std::ops::RangeInclusive<u32>) -> Option<u32> {
    let fits = (1..=most).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|number| fits && range.contains(number))
}

/// What base64 text stands for, as far as it is text again.
pub(crate) fn base64(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let (mut bits, mut count, mut padding) = (0_u32, 0, 0);
    for byte in text.bytes().filter(|byte| !matches!(byte, b'\n' | b'\r')) {
        let digit = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            b'=' => {
                padding += 1;
                continue;
            }
            _ => return None,
        };
        if padding > 0 {
            return None;
        }
        (bits, count) = (bits << 6 | u32::from(digit), count + 1);
        if count % 4 == 0 {
            bytes.extend_from_slice(&bits.to_be_bytes()[1..]);
            bits = 0;
        }
    }
    match (count % 4, padding) {
        (0, 0) => {}
        (2, 2) => bytes.push(bits.to_be_bytes()[2] << 4 | bits.to_be_bytes()[3] >> 4),
        (3, 1) => bytes.extend_from_slice(&(bits >> 2).to_be_bytes()[2..]),
        _ => return None,
    }
    String::from_utf8(bytes).ok()
}

/// A number as Go prints it: shortest digits, exponent below 1e-4 and from 1e6 on.
pub(crate) fn format_float(value: f64) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    let size = value.abs();
    if value == 0.0 || (1e-4..1e6).contains(&size) {
        return value.to_string();
    }
    with_exponent(value)
}

/// A number in Go's scientific notation, the exponent with a sign and two digits at least.
pub(crate) fn with_exponent(value: f64) -> String {
    let text = format!("{value:e}");
    match text.split_once('e') {
        Some((mantissa, exponent)) => {
            let (sign, digits) = exponent.strip_prefix('-').map_or(('+', exponent), |digits| ('-', digits));
            format!("{mantissa}e{sign}{digits:0>2}")
        }
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnostic::Span;
    use crate::node::Node;

    #[test]
    fn base64_is_read() {
        for (text, expected) in [
            ("aGVsbG8=", Some("hello")),
            ("aGVs\nbG8h", Some("hello!")),
            ("aGk=", Some("hi")),
            ("aA==", Some("h")),
            ("", Some("")),
            ("aA=", None),
            ("a", None),
            ("=aaa", None),
            ("a-b_", None),
            ("/w==", None),
        ] {
            assert_eq!(base64(text).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn plain_scalars_mean_what_go_says() {
        for (text, expected) in [
            ("0440", "a number 288"),
            ("08", "a number 8"),
            ("0o17", "a number 15"),
            ("0x1F", "a number 31"),
            ("0b11", "a number 3"),
            ("+12", "a number 12"),
            ("-12", "a number -12"),
            ("1_000", "a number 1000"),
            ("1_0.5", "a number 10.5"),
            (".5", "a number 0.5"),
            ("1e3", "a number 1000"),
            ("1.50", "a number 1.5"),
            ("1e21", "a number 1e+21"),
            ("1e6", "a number 1e+06"),
            ("123456.5", "a number 123456.5"),
            ("12345678.0", "a number 1.2345678e+07"),
            ("0.00001", "a number 1e-05"),
            ("18446744073709551615", "a number 18446744073709551615"),
            (".inf", "a number +Inf"),
            ("-.inf", "a number -Inf"),
            (".nan", "a number NaN"),
            ("1e400", "a string 1e400"),
            ("1:30", "a string 1:30"),
            ("yes", "a string yes"),
            ("on", "a string on"),
            ("2024-13-01", "a string 2024-13-01"),
            ("2023-02-29", "a string 2023-02-29"),
            ("2024-01-01T10:00:00", "a string 2024-01-01T10:00:00"),
            ("20240101", "a number 20240101"),
            ("127.0.0.1", "a string 127.0.0.1"),
            (".", "a string ."),
            ("-", "a string -"),
            ("0x", "a string 0x"),
            ("TRUE", "a boolean true"),
            ("tRUE", "a string tRUE"),
        ] {
            let node = Node::new(Span::default(), resolve(text));
            assert_eq!(format!("{} {}", node.kind(), node.scalar_text().unwrap()), expected, "{text}");
        }
        assert!(Node::new(Span::default(), resolve("~")).is_null());
        for (text, expected) in [
            ("2024-01-01", "2024-01-01T00:00:00Z"),
            ("2024-2-29", "2024-02-29T00:00:00Z"),
            ("2001-12-14 21:59:43.10", "2001-12-14T21:59:43.1Z"),
            ("2001-12-14t1:2:3Z", "2001-12-14T01:02:03Z"),
            ("2001-12-14T21:59:43.10-05:00", "2001-12-14T21:59:43.1-05:00"),
        ] {
            assert_eq!(Node::new(Span::default(), resolve(text)).to_json(), expected, "{text}");
        }
    }
}
