//! Netlink messages as bytes: attributes nested in attributes, and their reading.
//!
//! An attribute is a 16-bit length, a 16-bit type and a payload padded to four
//! bytes; nf_tables writes its integers big-endian (linux/netfilter/nf_tables.h).

/// The attribute type's bit that marks a payload made of attributes.
const NESTED: u16 = 1 << 15;
/// Attributes of one message or of one nested attribute.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Attributes(Vec<u8>);

impl Attributes {
    /// No attributes.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// The encoded bytes.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// An attribute of raw bytes.
    pub(crate) fn bytes(mut self, kind: u16, value: &[u8]) -> Self {
        // The callers' values are names, keys and chunked lists, all far below 64 KiB.
        let length = u16::try_from(value.len() + 4).unwrap_or(u16::MAX);
        self.0.extend_from_slice(&length.to_ne_bytes());
        self.0.extend_from_slice(&kind.to_ne_bytes());
        self.0.extend_from_slice(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    /// A string with its closing NUL.
    pub(crate) fn string(self, kind: u16, value: &str) -> Self {
        let mut bytes = value.as_bytes().to_vec();
        bytes.push(0);
        self.bytes(kind, &bytes)
    }

    /// A big-endian integer.
    pub(crate) fn u32(self, kind: u16, value: u32) -> Self {
        self.bytes(kind, &value.to_be_bytes())
    }

    /// A big-endian integer of 64 bits.
    pub(crate) fn u64(self, kind: u16, value: u64) -> Self {
        self.bytes(kind, &value.to_be_bytes())
    }

    /// Attributes inside an attribute.
    pub(crate) fn nest(self, kind: u16, inner: &Self) -> Self {
        self.bytes(kind | NESTED, &inner.0)
    }
}

/// Iterates over (type without flags, payload); stops at damage.
pub(crate) fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16::from_ne_bytes(bytes.get(..2)?.try_into().ok()?));
        let kind = u16::from_ne_bytes(bytes.get(2..4)?.try_into().ok()?) & !(NESTED | 1 << 14);
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// The payload of the first attribute of a type.
pub(crate) fn find(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(bytes).find(|(found, _)| *found == kind).map(|(_, value)| value)
}

/// A big-endian integer attribute.
pub(crate) fn find_u32(bytes: &[u8], kind: u16) -> Option<u32> {
    Some(u32::from_be_bytes(find(bytes, kind)?.try_into().ok()?))
}

/// A string attribute, without its NUL.
pub(crate) fn find_string(bytes: &[u8], kind: u16) -> Option<String> {
    let value = find(bytes, kind)?;
    let end = value.iter().position(|byte| *byte == 0).unwrap_or(value.len());
    Some(String::from_utf8_lossy(&value[..end]).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let inner = Attributes::new().u32(1, 7).string(2, "abc");
        let outer = Attributes::new().string(5, "x").nest(6, &inner).u64(7, 9);
        assert_eq!(outer.as_bytes().len() % 4, 0);
        let nested = find(outer.as_bytes(), 6).unwrap();
        assert_eq!(find_u32(nested, 1), Some(7));
        assert_eq!(find_string(nested, 2).as_deref(), Some("abc"));
        assert_eq!(find(outer.as_bytes(), 7), Some(&9_u64.to_be_bytes()[..]));
        assert_eq!(find(outer.as_bytes(), 9), None);
    }

    #[test]
    fn damage_ends_the_reading() {
        assert_eq!(attributes(&[200, 0, 1, 0, 1]).count(), 0);
        assert_eq!(attributes(&[1, 0, 1, 0, 1]).count(), 0);
        assert_eq!(attributes(&[4]).count(), 0);
    }
}
