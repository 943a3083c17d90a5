//! Durations as Go writes them: `1m30s`, `1.5h`, `300ms`.

use std::time::Duration;

/// The duration, negative ones as `Err(true)`, what is none as `Err(false)`.
pub(crate) fn parse(text: &str) -> Result<Duration, bool> {
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    if rest.is_empty() {
        return Err(false);
    }
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let (nanoseconds, after) = part(rest).ok_or(false)?;
        total = total.checked_add(nanoseconds).filter(|sum| i64::try_from(*sum).is_ok()).ok_or(false)?;
        rest = after;
    }
    if negative && total > 0 { Err(true) } else { Ok(Duration::from_nanos(total)) }
}

/// One number with its unit, in nanoseconds, and what comes after it.
fn part(text: &str) -> Option<(u64, &str)> {
    let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
    let (whole, rest) = text.split_at(digits(text));
    let (fraction, rest) = match rest.strip_prefix('.') {
        Some(rest) => rest.split_at(digits(rest)),
        None => ("", rest),
    };
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let end = rest.find(|character: char| character == '.' || character.is_ascii_digit()).unwrap_or(rest.len());
    let (unit, rest) = rest.split_at(end);
    let unit: u64 = match unit {
        "ns" => 1,
        "us" | "µs" | "μs" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return None,
    };
    let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let (mut tail, mut scale) = (0_u128, u128::from(unit));
    for digit in fraction.bytes() {
        scale /= 10;
        tail += u128::from(digit - b'0') * scale;
    }
    let nanoseconds = whole.checked_mul(unit)?.checked_add(u64::try_from(tail).ok()?)?;
    Some((nanoseconds, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_those_of_go() {
        for (text, expected) in [
            ("30s", Ok(30_000)),
            ("1m30s", Ok(90_000)),
            ("1.5h", Ok(5_400_000)),
            (".5s", Ok(500)),
            ("1.s", Ok(1000)),
            ("300ms", Ok(300)),
            ("0", Ok(0)),
            ("-0s", Ok(0)),
            ("+1s", Ok(1000)),
            ("-1s", Err(true)),
            ("5", Err(false)),
            ("s", Err(false)),
            ("1d", Err(false)),
            ("", Err(false)),
            ("9999999999h", Err(false)),
            ("1s 2s", Err(false)),
        ] {
            assert_eq!(parse(text), expected.map(Duration::from_millis), "{text}");
        }
    }
}
