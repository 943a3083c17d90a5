//! Points in time as logs have them, and as people type them.

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use jiff::civil::DateTime;
use jiff::tz::TimeZone;

/// Nanoseconds since 1970 UTC. Shown as RFC 3339 with nine digits, as Docker shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(i64);

/// Why a text is no point in time.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("invalid time {text:?}: use a date (2026-01-31T10:00:00Z), a duration (10m, 1h30m) or seconds since 1970")]
pub struct TimeError {
    /// The text.
    pub text: String,
}

const SECOND: i64 = 1_000_000_000;

impl Time {
    /// The present, by the system's clock.
    #[must_use]
    pub fn now() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(i64::try_from(since.as_nanos()).unwrap_or(i64::MAX))
    }

    /// From nanoseconds since 1970 UTC.
    #[must_use]
    pub const fn from_nanoseconds(nanoseconds: i64) -> Self {
        Self(nanoseconds)
    }

    /// Nanoseconds since 1970 UTC.
    #[must_use]
    pub const fn nanoseconds(self) -> i64 {
        self.0
    }

    /// The fixed-width text, without going through a formatter.
    pub(super) fn text(self) -> [u8; 30] {
        let mut text = *b"0000-00-00T00:00:00.000000000Z";
        let (seconds, nanoseconds) = (self.0.div_euclid(SECOND), self.0.rem_euclid(SECOND));
        let (day, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
        let (year, month, day) = civil(day);
        let mut put = |start: usize, width: usize, mut value: i64| {
            for digit in text.iter_mut().skip(start).take(width).rev() {
                *digit = b'0' + u8::try_from(value.rem_euclid(10)).unwrap_or(0);
                value /= 10;
            }
        };
        put(0, 4, year);
        put(5, 2, month);
        put(8, 2, day);
        put(11, 2, second / 3600);
        put(14, 2, second / 60 % 60);
        put(17, 2, second % 60);
        put(20, 9, nanoseconds);
        text
    }

    /// From RFC 3339, any precision and offset.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if let Some(time) = Self::parse_own(text.as_bytes()) {
            return Some(time);
        }
        let timestamp: jiff::Timestamp = text.parse().ok()?;
        i64::try_from(timestamp.as_nanosecond()).ok().map(Self)
    }
}

impl Time {
    /// The fixed-width text of [`Time::text`], several times faster than the general way: every record has one.
    fn parse_own(text: &[u8]) -> Option<Self> {
        const SHAPE: &[u8; 30] = b"0000-00-00T00:00:00.000000000Z";
        let fits = |(shape, byte): (&u8, &u8)| if *shape == b'0' { byte.is_ascii_digit() } else { shape == byte };
        if text.len() != SHAPE.len() || !SHAPE.iter().zip(text).all(fits) {
            return None;
        }
        let number = |from: usize, to: usize| {
            text.iter().take(to).skip(from).fold(0, |number: i64, digit| number * 10 + i64::from(digit - b'0'))
        };
        let (year, month, day) = (number(0, 4), number(5, 7), number(8, 10));
        let (hour, minute, second) = (number(11, 13), number(14, 16), number(17, 19));
        let days = days(year, month, day);
        // The way back finds what no calendar has, the 31st of June.
        if hour > 23 || minute > 59 || second > 59 || civil(days) != (year, month, day) {
            return None;
        }
        let seconds = ((days * 24 + hour) * 60 + minute) * 60 + second;
        seconds.checked_mul(SECOND)?.checked_add(number(20, 29)).map(Self)
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::str::from_utf8(&self.text()).unwrap_or_default())
    }
}

/// Year, month and day of a day counted from 1970-01-01, in the proleptic Gregorian calendar: eras of 400 years,
/// with the year begun in March so that the leap day is its last.
const fn civil(day: i64) -> (i64, i64, i64) {
    let day = day + 719_468;
    let era = day.div_euclid(146_097);
    let of_era = day.rem_euclid(146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let from_march = (5 * of_year + 2) / 153;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    (year + era * 400 + (month <= 2) as i64, month, of_year - (153 * from_march + 2) / 5 + 1)
}

/// The reverse of [`civil`].
const fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let from_march = (month + 9) % 12;
    let of_year = (153 * from_march + 2) / 5 + day - 1;
    let of_era = year.rem_euclid(400);
    year.div_euclid(400) * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// Reads `--since` and `--until`: RFC 3339, a date or a time without an offset (in the local time zone), seconds
/// since 1970 with an optional fraction, or a duration before `now` as Go writes it.
///
/// # Errors
/// When it is none of these.
pub fn parse_time(text: &str, now: Time) -> Result<Time, TimeError> {
    let trimmed = text.trim();
    unix(trimmed)
        .or_else(|| duration(trimmed).and_then(|length| now.0.checked_sub(length)).map(Time))
        .or_else(|| Time::parse(trimmed))
        .or_else(|| shortened(trimmed))
        .or_else(|| local(trimmed))
        .ok_or_else(|| TimeError { text: text.to_owned() })
}

fn unix(text: &str) -> Option<Time> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(fraction) || fraction.len() > 9 {
        return None;
    }
    let nanoseconds: i64 = format!("{fraction:0<9}").parse().ok()?;
    whole.parse::<i64>().ok()?.checked_mul(SECOND)?.checked_add(nanoseconds).map(Time)
}

/// A date, hours, or minutes with an offset behind them: `2026-01-31Z`, `2026-01-31T10+01:00`.
fn shortened(text: &str) -> Option<Time> {
    [(10, "T00:00:00"), (13, ":00:00"), (16, ":00")].into_iter().find_map(|(length, rest)| {
        let (start, offset) = text.split_at_checked(length)?;
        let fits = offset == "Z" || offset.starts_with(['+', '-']);
        fits.then(|| Time::parse(&format!("{start}{rest}{offset}"))).flatten()
    })
}

fn local(text: &str) -> Option<Time> {
    let civil = text.parse::<DateTime>().ok().or_else(|| {
        // Docker takes hours and minutes alone, too.
        let (date, time) = text.split_once('T')?;
        format!("{date}T{time}:00").parse().ok().filter(|_| time.len() == 2 || time.len() == 5)
    })?;
    let zoned = civil.to_zoned(TimeZone::system()).ok()?;
    i64::try_from(zoned.timestamp().as_nanosecond()).ok().map(Time)
}

/// Nanoseconds of a Go duration: numbers, with fractions if need be, each with its unit.
fn duration(text: &str) -> Option<i64> {
    let (negative, mut rest) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let mut total = 0_i64;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at(end);
        let unit_end = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_end);
        let scale = match unit {
            "ns" => 1,
            "us" | "µs" => 1_000,
            "ms" => 1_000_000,
            "s" => SECOND,
            "m" => 60 * SECOND,
            "h" => 3600 * SECOND,
            _ => return None,
        };
        total = total.checked_add(scaled(number, scale)?)?;
        rest = tail;
    }
    Some(if negative { -total } else { total })
}

/// `number` (digits with an optional fraction) times `scale`, without floating point.
fn scaled(number: &str, scale: i64) -> Option<i64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let whole: i64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let mut total = whole.checked_mul(scale)?;
    let mut unit = scale;
    for digit in fraction.chars() {
        unit /= 10;
        total = total.checked_add(i64::from(digit.to_digit(10)?) * unit)?;
    }
    Some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shown_as_rfc_3339_and_read_back() {
        for (nanoseconds, text) in [
            (0, "1970-01-01T00:00:00.000000000Z"),
            (-1, "1969-12-31T23:59:59.999999999Z"),
            (951_782_400 * SECOND + 5, "2000-02-29T00:00:00.000000005Z"),
            (1_709_251_199 * SECOND, "2024-02-29T23:59:59.000000000Z"),
            (1_795_305_632_410_301_887, "2026-11-22T00:00:32.410301887Z"),
            (4_102_444_799 * SECOND, "2099-12-31T23:59:59.000000000Z"),
        ] {
            let time = Time(nanoseconds);
            let jiff = jiff::Timestamp::from_nanosecond(i128::from(nanoseconds)).unwrap();
            assert_eq!(Time::parse(text), Some(time));
            assert_eq!(Time::parse_own(text.as_bytes()), Some(time));
            assert_eq!(time.to_string(), text);
            assert_eq!(format!("{jiff:.9}"), text);
        }
        // Docker's: trailing zeros are cut, offsets may be there.
        assert_eq!(Time::parse("1970-01-01T00:00:01.5Z"), Some(Time(3 * SECOND / 2)));
        assert_eq!(Time::parse("1970-01-01T02:00:00+02:00"), Some(Time(0)));
    }

    #[test]
    fn every_day_there_and_back_and_no_others() {
        for day in -200_000..200_000 {
            let (year, month, of_month) = civil(day);
            assert_eq!(days(year, month, of_month), day);
        }
        for text in ["2026-02-29", "2026-06-31", "2026-13-01", "2026-00-10", "2026-01-00"] {
            assert_eq!(Time::parse(&format!("{text}T00:00:00.000000000Z")), None, "{text}");
        }
        assert_eq!(Time::parse("2026-01-01T24:00:00.000000000Z"), None);
    }

    #[test]
    fn people_s_ways_to_say_when() {
        let now = Time(1_000_000 * SECOND);
        let ago = |nanoseconds: i64| Time(now.0 - nanoseconds);
        for (text, expected) in [
            ("10m", ago(600 * SECOND)),
            ("1h30m", ago(5400 * SECOND)),
            ("1.5h", ago(5400 * SECOND)),
            ("300ms", ago(300_000_000)),
            ("0.5s", ago(500_000_000)),
            ("-10s", ago(-10 * SECOND)),
            ("5", Time(5 * SECOND)),
            ("5.000000001", Time(5 * SECOND + 1)),
            ("5.5", Time(5 * SECOND + 500_000_000)),
            ("1970-01-02T00:00:00Z", Time(86_400 * SECOND)),
            ("1970-01-02Z", Time(86_400 * SECOND)),
            ("1970-01-02T01+01:00", Time(86_400 * SECOND)),
            ("1970-01-01T22:30-01:30", Time(86_400 * SECOND)),
        ] {
            assert_eq!(parse_time(text, now), Ok(expected), "{text}");
        }
        for text in ["2026-01-31", "2026-01-31T10:00", "2026-01-31T10:00:00", "2026-01-31T10:00:00.5", "2026-01-31T10"]
        {
            assert!(parse_time(text, now).is_ok(), "{text}");
        }
        for text in ["", "yesterday", "10", "10x", "m", "1.2.3", "1m-", "--1m", "99999999999999999999h", "2026-13-01"] {
            assert_eq!(parse_time(text, now).is_ok(), text == "10", "{text}");
        }
    }
}
