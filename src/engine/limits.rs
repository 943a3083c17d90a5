//! Limits as people write them, in the units of the runtime.

use anyhow::{Result, bail};

/// CPUs in billionths.
pub fn nano_cpus(cpus: f64) -> Result<u64> {
    let nano = cpus * 1e9;
    if !(0.0..=1e18).contains(&nano) {
        bail!("invalid number of CPUs: {cpus}");
    }
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked above")]
    Ok(nano.round() as u64)
}
