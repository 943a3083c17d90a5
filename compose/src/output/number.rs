//! Numbers as Go prints them.

use serde_json::Number;

use crate::scalar::{format_float, with_exponent};

/// In YAML: shortest digits, with an exponent below 1e-4 and from 1e6 on.
pub(super) fn yaml(number: &Number) -> String {
    match number.as_f64().filter(|_| number.is_f64()) {
        Some(value) => format_float(value),
        None => number.to_string(),
    }
}

/// In JSON: shortest digits, with an exponent below 1e-6 and from 1e21 on.
pub(super) fn json(number: &Number) -> String {
    match number.as_f64().filter(|_| number.is_f64()) {
        Some(value) if value != 0.0 && !(1e-6..1e21).contains(&value.abs()) => {
            // only a negative exponent loses its zero
            with_exponent(value).replace("e-0", "e-")
        }
        Some(value) => value.to_string(),
        None => number.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_as_go_prints_them() {
        for (value, in_yaml, in_json) in [
            (0.5, "0.5", "0.5"),
            (2.0, "2", "2"),
            (1e6, "1e+06", "1000000"),
            (1_000_000.5, "1.0000005e+06", "1000000.5"),
            (0.00001, "1e-05", "0.00001"),
            (1e-7, "1e-07", "1e-7"),
            (1e21, "1e+21", "1e+21"),
        ] {
            let number = Number::from_f64(value).unwrap();
            assert_eq!((yaml(&number).as_str(), json(&number).as_str()), (in_yaml, in_json));
        }
    }
}
