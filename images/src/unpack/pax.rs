//! PAX extended headers: records of `LENGTH KEY=VALUE\n` that override the next entry's header.

use super::Segment;
use super::entry::Timestamp;
use super::fields::decimal;

/// Prefix of the records that carry extended attributes.
const XATTR: &[u8] = b"SCHILY.xattr.";

/// What the records of one extended header say.
#[derive(Debug, Default)]
pub(super) struct Pax {
    pub(super) path: Option<Vec<u8>>,
    pub(super) linkpath: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) uid: Option<u64>,
    pub(super) gid: Option<u64>,
    pub(super) mtime: Option<Timestamp>,
    pub(super) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    pub(super) sparse: PaxSparse,
}

/// GNU's records of a sparse file, formats 0.0, 0.1 and 1.0.
#[derive(Debug, Default)]
pub(super) struct PaxSparse {
    pub(super) major: Option<u64>,
    pub(super) minor: Option<u64>,
    pub(super) name: Option<Vec<u8>>,
    pub(super) real_size: Option<u64>,
    /// 0.0: pairs of records; 0.1: one record with all numbers.
    pub(super) map: Option<Vec<Segment>>,
    offset: Option<u64>,
}

/// Parses the records; `None` when any is malformed.
pub(super) fn parse(mut records: &[u8]) -> Option<Pax> {
    let mut pax = Pax::default();
    while !records.is_empty() {
        let space = records.iter().position(|byte| *byte == b' ')?;
        let length = usize::try_from(decimal(&records[..space])?).ok()?;
        let record = records.get(space + 1..length)?;
        records = &records[length..];
        let record = record.strip_suffix(b"\n")?;
        let equals = record.iter().position(|byte| *byte == b'=')?;
        pax.take(&record[..equals], &record[equals + 1..])?;
    }
    Some(pax)
}

impl Pax {
    fn take(&mut self, key: &[u8], value: &[u8]) -> Option<()> {
        if let Some(name) = key.strip_prefix(XATTR) {
            self.xattrs.retain(|(other, _)| other != name);
            self.xattrs.push((name.to_vec(), value.to_vec()));
            return Some(());
        }
        // An empty value takes a record back; sparse ones never have one.
        let number = || if value.is_empty() { Some(None) } else { decimal(value).map(Some) };
        let bytes = || (!value.is_empty()).then(|| value.to_vec());
        match key {
            b"path" => self.path = bytes(),
            b"linkpath" => self.linkpath = bytes(),
            b"size" => self.size = number()?,
            b"uid" => self.uid = number()?,
            b"gid" => self.gid = number()?,
            b"mtime" => self.mtime = if value.is_empty() { None } else { Some(timestamp(value)?) },
            _ => {
                if let Some(key) = key.strip_prefix(b"GNU.sparse.") {
                    self.sparse.take(key, value)?;
                }
            }
        }
        Some(())
    }
}

impl PaxSparse {
    fn take(&mut self, key: &[u8], value: &[u8]) -> Option<()> {
        match key {
            b"major" => self.major = Some(decimal(value)?),
            b"minor" => self.minor = Some(decimal(value)?),
            b"name" => self.name = Some(value.to_vec()),
            b"size" | b"realsize" => self.real_size = Some(decimal(value)?),
            b"numblocks" => self.map = Some(self.map.take().unwrap_or_default()),
            b"offset" => self.offset = Some(decimal(value)?),
            b"numbytes" => {
                let segment = Segment { offset: self.offset.take()?, length: decimal(value)? };
                self.map.get_or_insert_default().push(segment);
            }
            b"map" => {
                let numbers: Vec<u64> = if value.is_empty() {
                    Vec::new()
                } else {
                    value.split(|byte| *byte == b',').map(decimal).collect::<Option<_>>()?
                };
                let (pairs, []) = numbers.as_chunks::<2>() else { return None };
                self.map = Some(pairs.iter().map(|&[offset, length]| Segment { offset, length }).collect());
            }
            _ => {}
        }
        Some(())
    }
}

/// `SECONDS[.FRACTION]`, possibly negative; digits beyond nanoseconds are dropped.
fn timestamp(text: &[u8]) -> Option<Timestamp> {
    let (negative, digits) = match text.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (whole, fraction) = match digits.iter().position(|byte| *byte == b'.') {
        Some(dot) => (&digits[..dot], &digits[dot + 1..]),
        None => (digits, &b""[..]),
    };
    let seconds = i64::try_from(decimal(whole)?).ok()?;
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let nanos = (0..9).fold(0_u32, |sum, place| sum * 10 + u32::from(fraction.get(place).map_or(0, |d| d - b'0')));
    Some(match (negative, nanos) {
        (false, nanos) => Timestamp { seconds, nanos },
        (true, 0) => Timestamp { seconds: -seconds, nanos: 0 },
        (true, nanos) => Timestamp { seconds: -seconds - 1, nanos: 1_000_000_000 - nanos },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(key: &str, value: &[u8]) -> Vec<u8> {
        let body = key.len() + value.len() + 3;
        let mut length = body + 1;
        while length != body + length.to_string().len() {
            length += 1;
        }
        [length.to_string().as_bytes(), b" ", key.as_bytes(), b"=", value, b"\n"].concat()
    }

    #[test]
    fn records_are_split_by_length_not_by_newline() {
        let bytes =
            [record("SCHILY.xattr.user.a", b"x\n7 k=v\n=\0"), record("path", b"a\nb"), record("uid", b"7")].concat();
        let pax = parse(&bytes).unwrap();
        assert_eq!(pax.xattrs, vec![(b"user.a".to_vec(), b"x\n7 k=v\n=\0".to_vec())]);
        assert_eq!(pax.path.unwrap(), b"a\nb");
        assert_eq!(pax.uid, Some(7));
    }

    #[test]
    fn malformed_records_are_refused() {
        for bad in [&b"x"[..], b"99 a=b\n", b"3 a=b\n", b"6 a=b_", b"5 ab\n", b"0 a=b\n", b"-1 a=b\n"] {
            assert!(parse(bad).is_none(), "{}", String::from_utf8_lossy(bad));
        }
        assert!(parse(&record("size", b"-1")).is_none());
        assert!(parse(&record("GNU.sparse.map", b"1,2,3")).is_none());
    }

    #[test]
    fn times_before_and_after_the_epoch() {
        assert_eq!(timestamp(b"1.5"), Some(Timestamp { seconds: 1, nanos: 500_000_000 }));
        assert_eq!(timestamp(b"-1.5"), Some(Timestamp { seconds: -2, nanos: 500_000_000 }));
        assert_eq!(timestamp(b"12.1234567899"), Some(Timestamp { seconds: 12, nanos: 123_456_789 }));
        assert_eq!(timestamp(b"-3"), Some(Timestamp { seconds: -3, nanos: 0 }));
        assert!(timestamp(b"1e3").is_none() && timestamp(b"1.x").is_none() && timestamp(b"").is_none());
    }
}
