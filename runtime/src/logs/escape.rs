//! Output into JSON strings, fast.

/// What stands for a byte that is not UTF-8, one for each, as Go's encoder does.
const REPLACEMENT: &[u8] = b"\\ufffd";

/// Bytes that a JSON string cannot hold as they are (RFC 8259, section 7).
const SPECIAL: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 0x20 {
        table[byte] = true;
        byte += 1;
    }
    table[b'"' as usize] = true;
    table[b'\\' as usize] = true;
    table
};

/// Appends `text` to `out` as the inside of a JSON string.
pub fn escape(text: &[u8], out: &mut Vec<u8>) {
    if std::str::from_utf8(text).is_ok() {
        return escape_valid(text, out);
    }
    for chunk in text.utf8_chunks() {
        escape_valid(chunk.valid().as_bytes(), out);
        for _ in chunk.invalid() {
            out.extend_from_slice(REPLACEMENT);
        }
    }
}

fn escape_valid(mut text: &[u8], out: &mut Vec<u8>) {
    while let Some(position) = first_special(text) {
        let (plain, rest) = text.split_at(position);
        out.extend_from_slice(plain);
        let Some((byte, rest)) = rest.split_first() else { return };
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            byte => out.extend_from_slice(&[b'\\', b'u', b'0', b'0', hex(byte >> 4), hex(byte & 15)]),
        }
        text = rest;
    }
    out.extend_from_slice(text);
}

const fn hex(digit: u8) -> u8 {
    if digit < 10 { b'0' + digit } else { b'a' + digit - 10 }
}

/// Eight bytes at a time: most output holds nothing special for a whole line.
fn first_special(text: &[u8]) -> Option<usize> {
    let mut offset = 0;
    for block in text.chunks(8) {
        if let Ok(bytes) = <[u8; 8]>::try_from(block)
            && !any_special(u64::from_le_bytes(bytes))
        {
            offset += 8;
            continue;
        }
        if let Some(position) = block.iter().position(|byte| SPECIAL[usize::from(*byte)]) {
            return Some(offset + position);
        }
        offset += block.len();
    }
    None
}

/// Whether a byte of `word` is below 0x20, `"` or `\`; may say so wrongly, never misses one.
const fn any_special(word: u64) -> bool {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGHS: u64 = ONES * 0x80;
    // (x - n) & !x has the high bit of a byte set where that byte is below n.
    let control = word.wrapping_sub(ONES * 0x20) & !word;
    let quote = word ^ (ONES * b'"' as u64);
    let slash = word ^ (ONES * b'\\' as u64);
    let zero = (quote.wrapping_sub(ONES) & !quote) | (slash.wrapping_sub(ONES) & !slash);
    (control | zero) & HIGHS != 0
}

/// How many bytes at the end of `text` begin a character that is not complete yet (0 to 3).
pub fn unfinished_character(text: &[u8]) -> usize {
    let tail = text.get(text.len().saturating_sub(3)..).unwrap_or_default();
    let Some(lead) = tail.iter().rposition(|byte| *byte >= 0xc0) else { return 0 };
    let have = tail.len() - lead;
    let need = match tail.get(lead) {
        Some(0xc2..=0xdf) => 2,
        Some(0xe0..=0xef) => 3,
        Some(0xf0..=0xf4) => 4,
        _ => return 0,
    };
    if have < need { have } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn escaped(text: &[u8]) -> String {
        let mut out = Vec::new();
        escape(text, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn every_byte_survives_or_becomes_the_replacement_character() {
        for byte in 0..=255_u8 {
            for padding in 0..9 {
                let mut text = vec![b'x'; padding];
                text.push(byte);
                text.extend_from_slice(b"yyyyyyyyyyyy");
                let json = format!("\"{}\"", escaped(&text));
                let back: String = serde_json::from_str(&json).unwrap();
                assert_eq!(back, String::from_utf8_lossy(&text), "{byte:#x}");
            }
        }
    }

    #[test]
    fn text_is_kept_and_rubbish_counted_byte_by_byte() {
        assert_eq!(
            escaped("é \u{2028} 🛶\"\\\n\r\t\u{1}\u{7f}".as_bytes()),
            "é \u{2028} 🛶\\\"\\\\\\n\\r\\t\\u0001\u{7f}"
        );
        assert_eq!(escaped(b"\xff\xe2\x82x\xc3"), "\\ufffd\\ufffd\\ufffdx\\ufffd");
        assert_eq!(escaped(b""), "");
    }

    #[test]
    fn a_split_falls_between_characters() {
        let table: [(&[u8], usize); 9] = [
            (b"abc", 0),
            ("é".as_bytes(), 0),
            (b"a\xc3", 1),
            (b"a\xe2\x82", 2),
            (b"\xf0\x9f\x9b", 3),
            ("🛶".as_bytes(), 0),
            (b"\x80\x80\x80", 0),
            (b"\xff", 0),
            (b"", 0),
        ];
        for (text, expected) in table {
            assert_eq!(unfinished_character(text), expected, "{text:?}");
        }
    }
}
