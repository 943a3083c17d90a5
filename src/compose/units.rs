//! Sizes, durations and numbers as Compose writes them, both ways.

use std::time::Duration;

use serde::Serializer;

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
