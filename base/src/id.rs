//! Object ids: 64 lower-case hex digits, as Docker's.

use std::fmt::Write as _;

/// Random bytes from the kernel, as lower-case hex (two digits a byte).
///
/// # Errors
/// The kernel's, if `getrandom(2)` fails.
pub fn random_hex(bytes: usize) -> std::io::Result<String> {
    let mut buffer = vec![0_u8; bytes];
    let mut filled = 0;
    while filled < bytes {
        filled += rustix::rand::getrandom(&mut buffer[filled..], rustix::rand::GetRandomFlags::empty())?;
    }
    Ok(hex(&buffer))
}

/// A fresh object id: 64 hex digits.
///
/// # Errors
/// As [`random_hex`].
pub fn new_id() -> std::io::Result<String> {
    loop {
        let id = random_hex(32)?;
        // As Docker: an id whose short form is all digits could be mistaken for a number.
        if !id[..12].bytes().all(|b| b.is_ascii_digit()) {
            return Ok(id);
        }
    }
}

/// The short form that people see: the first 12 digits.
#[must_use]
pub fn short(id: &str) -> &str {
    id.get(..12).unwrap_or(id)
}

/// Bytes as lower-case hex.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut out, byte| {
        let _ = write!(out, "{byte:02x}");
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_64_hex_digits_and_differ() {
        let (a, b) = (new_id().unwrap(), new_id().unwrap());
        assert_ne!(a, b);
        assert_eq!(a.len(), 64);
        assert!(a.bytes().all(|c| c.is_ascii_digit() || (b'a'..=b'f').contains(&c)));
        assert_eq!(short(&a).len(), 12);
    }
}
