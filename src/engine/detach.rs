//! The keys that leave a container without ending it: ctrl-p,ctrl-q unless the
//! user says otherwise.

use anyhow::{Result, bail};

/// Docker's default.
pub const DEFAULT: &[u8] = &[16, 17];

/// The keys that a flag gives, else those of Docker's `config.json`, else Docker's default.
pub fn keys(flag: &str) -> Result<Vec<u8>> {
    if flag.is_empty() { parse(&super::docker_config::detach_keys()) } else { parse(flag) }
}

/// `ctrl-p,ctrl-q` as the bytes that a terminal sends. Empty: Docker's default.
fn parse(text: &str) -> Result<Vec<u8>> {
    if text.is_empty() {
        return Ok(DEFAULT.to_vec());
    }
    text.split(',').map(|key| one(key, text)).collect()
}

fn one(key: &str, all: &str) -> Result<u8> {
    match (key.as_bytes(), key.strip_prefix("ctrl-").map(str::as_bytes)) {
        ([byte], _) => Ok(*byte),
        (_, Some([letter @ (b'a'..=b'z')])) => Ok(letter - b'a' + 1),
        (_, Some([sign @ (b'@' | b'[' | b'\\' | b']' | b'^' | b'_')])) => Ok(sign - b'@'),
        _ => bail!("Invalid escape keys ({all}): Unknown character: '{key}'"),
    }
}

/// Looks for the keys in what is typed.
#[derive(Debug, Clone)]
pub struct Keys {
    sequence: Vec<u8>,
    matched: usize,
}

impl Keys {
    /// Looks for this sequence.
    pub fn new(sequence: Vec<u8>) -> Self {
        Self { sequence, matched: 0 }
    }

    /// What of `typed` is to be passed on, and whether the keys were among it. The beginning of the sequence is held
    /// back until it is known to be none.
    pub fn filter(&mut self, typed: &[u8]) -> (Vec<u8>, bool) {
        let mut passed = Vec::with_capacity(typed.len());
        for byte in typed {
            if self.sequence.get(self.matched) == Some(byte) {
                self.matched += 1;
                if self.matched == self.sequence.len() {
                    self.matched = 0;
                    return (passed, true);
                }
                continue;
            }
            passed.extend_from_slice(&self.sequence[..self.matched]);
            self.matched = usize::from(self.sequence.len() > 1 && self.sequence.first() == Some(byte));
            if self.matched == 0 {
                passed.push(*byte);
            }
        }
        (passed, false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_keys_are_found_also_when_they_come_one_by_one() {
        let mut keys = Keys::new(parse("").unwrap());
        assert_eq!(keys.filter(b"ab\x10"), (b"ab".to_vec(), false));
        assert_eq!(keys.filter(b"c"), (b"\x10c".to_vec(), false));
        assert_eq!(keys.filter(b"\x10\x10"), (b"\x10".to_vec(), false));
        assert_eq!(keys.filter(b"\x11rest"), (Vec::new(), true));
        let mut one = Keys::new(parse("x").unwrap());
        assert_eq!(one.filter(b"yx"), (b"y".to_vec(), true));
    }

    #[test]
    fn keys_are_written_as_for_docker() {
        assert_eq!(parse("ctrl-p,ctrl-q").unwrap(), DEFAULT);
        assert_eq!(parse("a,ctrl-@,ctrl-_").unwrap(), [b'a', 0, 31]);
        assert!(parse("ctrl-P").is_err() && parse("a,,b").is_err() && parse("strg-c").is_err());
    }
}
