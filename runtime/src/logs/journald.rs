//! Entries of systemd's journal in its native protocol
//! (systemd.io/JOURNAL_NATIVE_PROTOCOL), with Docker's fields. Pure.

use super::{Stream, Time};

/// Where the journal listens.
pub const SOCKET: &str = "/run/systemd/journal/socket";

/// What all entries of a container have.
#[derive(Debug, Clone, Default)]
pub struct Fields(Vec<u8>);

impl Fields {
    /// Docker's fields, and the container's own attributes under names that the journal takes.
    pub fn new(source: &super::Source) -> Self {
        let mut fields = Self::default();
        for (name, value) in [
            ("CONTAINER_ID", source.id.get(..12).unwrap_or(&source.id)),
            ("CONTAINER_ID_FULL", &source.id),
            ("CONTAINER_NAME", &source.name),
            ("CONTAINER_TAG", &source.tag),
            ("IMAGE_NAME", &source.image),
            ("SYSLOG_IDENTIFIER", &source.tag),
        ] {
            put(&mut fields.0, name, value.as_bytes());
        }
        for (name, value) in &source.attributes {
            let name = field_name(name);
            if !name.is_empty() {
                put(&mut fields.0, &name, value.as_bytes());
            }
        }
        fields
    }

    /// One entry. `partial`: the line goes on in the next one.
    pub fn entry(&self, stream: Stream, time: Time, text: &str, partial: bool) -> Vec<u8> {
        let mut entry = Vec::with_capacity(self.0.len() + text.len() + 80);
        put(&mut entry, "MESSAGE", text.as_bytes());
        put(&mut entry, "PRIORITY", if stream == Stream::Stderr { b"3" } else { b"6" });
        put(&mut entry, "SYSLOG_TIMESTAMP", time.to_string().as_bytes());
        if partial {
            put(&mut entry, "CONTAINER_PARTIAL_MESSAGE", b"true");
        }
        entry.extend_from_slice(&self.0);
        entry
    }
}

/// `NAME=value`, or, where the value has a newline, its length before it.
fn put(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.extend_from_slice(name.as_bytes());
    if value.contains(&b'\n') {
        out.push(b'\n');
        out.extend_from_slice(&(value.len() as u64).to_le_bytes());
    } else {
        out.push(b'=');
    }
    out.extend_from_slice(value);
    out.push(b'\n');
}

/// Upper case, digits and `_`, not beginning with `_`: those are the journal's own (and Docker's way to make them).
fn field_name(name: &str) -> String {
    let name: String = name
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' })
        .skip_while(|c| *c == '_' || c.is_ascii_digit())
        .collect();
    // Longer ones are refused (systemd-journald, journal_field_valid).
    name.chars().take(64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_have_dockers_fields() {
        let source = super::super::Source {
            id: "0123456789abcdef".into(),
            name: "web".into(),
            image: "nginx".into(),
            tag: "t".into(),
            attributes: vec![("com.example.a".into(), "1\n2".into()), ("_9".into(), "x".into())],
        };
        let entry =
            Fields::new(&source).entry(Stream::Stderr, Time::parse("2026-01-01T00:00:00Z").unwrap(), "hi", true);
        let expected = b"MESSAGE=hi\nPRIORITY=3\nSYSLOG_TIMESTAMP=2026-01-01T00:00:00.000000000Z\n\
            CONTAINER_PARTIAL_MESSAGE=true\nCONTAINER_ID=0123456789ab\nCONTAINER_ID_FULL=0123456789abcdef\n\
            CONTAINER_NAME=web\nCONTAINER_TAG=t\nIMAGE_NAME=nginx\nSYSLOG_IDENTIFIER=t\n\
            COM_EXAMPLE_A\n\x03\0\0\0\0\0\0\x001\n2\n";
        assert_eq!(String::from_utf8_lossy(&entry), String::from_utf8_lossy(expected));
    }
}
