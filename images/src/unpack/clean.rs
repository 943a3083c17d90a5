//! Names as they are written in archives, made into names inside the root.

use super::Limits;
use super::error::{UnpackError, shown};

/// The components of `name` joined by single slashes: no leading slash, no `.`,
/// and `..` taken back lexically, never above the root. Empty for the root itself.
pub(crate) fn clean(name: &[u8], limits: &Limits) -> Result<Vec<u8>, UnpackError> {
    let bad = |reason| UnpackError::Name { path: shown(name), reason };
    if name.contains(&0) {
        return Err(bad("it contains a NUL byte"));
    }
    if name.len() > limits.path {
        return Err(bad("it is too long"));
    }
    let mut clean: Vec<u8> = Vec::with_capacity(name.len());
    for component in name.split(|byte| *byte == b'/') {
        match component {
            b"" | b"." => {}
            b".." => clean.truncate(clean.iter().rposition(|byte| *byte == b'/').unwrap_or(0)),
            component => {
                if !clean.is_empty() {
                    clean.push(b'/');
                }
                clean.extend_from_slice(component);
            }
        }
    }
    Ok(clean)
}

/// A clean name as its parent and its last component.
pub(crate) fn split(clean: &[u8]) -> (&[u8], &[u8]) {
    match clean.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => (&clean[..slash], &clean[slash + 1..]),
        None => (b"", clean),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cleaned(name: &[u8]) -> String {
        String::from_utf8(clean(name, &Limits::default()).unwrap()).unwrap()
    }

    #[test]
    fn every_name_ends_inside_the_root() {
        for (name, expected) in [
            ("a/b", "a/b"),
            ("/a//b/", "a/b"),
            ("./a/./b/.", "a/b"),
            ("../../a", "a"),
            ("a/../../b", "b"),
            ("a/b/../c", "a/c"),
            ("/..", ""),
            ("/.", ""),
            ("./", ""),
            ("", ""),
            ("...", "..."),
            ("a/..b", "a/..b"),
        ] {
            assert_eq!(cleaned(name.as_bytes()), expected, "{name}");
        }
    }

    #[test]
    fn impossible_names_are_refused() {
        assert!(clean(b"a\0b", &Limits::default()).is_err());
        assert!(clean(&[b'a'; 5000], &Limits::default()).is_err());
    }

    #[test]
    fn names_split_at_the_last_slash() {
        assert_eq!(split(b"a/b/c"), (&b"a/b"[..], &b"c"[..]));
        assert_eq!(split(b"c"), (&b""[..], &b"c"[..]));
    }
}
