//! What a quoted string in a template stands for.

/// The text of a quoted string of Go, without its quotes.
pub(super) fn unescape(text: &str) -> Option<String> {
    let mut out: Vec<u8> = Vec::new();
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        if c != '\\' {
            out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            continue;
        }
        let piece = match rest.next()? {
            'x' => u8::try_from(digits(&mut rest, "", 2, 16)?).ok().map(|byte| vec![byte]),
            'u' => char::from_u32(digits(&mut rest, "", 4, 16)?).map(|c| c.to_string().into_bytes()),
            'U' => char::from_u32(digits(&mut rest, "", 8, 16)?).map(|c| c.to_string().into_bytes()),
            first @ '0'..='7' => {
                u8::try_from(digits(&mut rest, first.encode_utf8(&mut [0; 4]), 2, 8)?).ok().map(|byte| vec![byte])
            }
            other => Some(vec![match other {
                'a' => 7,
                'b' => 8,
                'f' => 12,
                'n' => b'\n',
                'r' => b'\r',
                't' => b'\t',
                'v' => 11,
                '\\' | '"' | '\'' => u8::try_from(u32::from(other)).ok()?,
                _ => return None,
            }]),
        };
        out.extend(piece?);
    }
    Some(String::from_utf8_lossy(&out).into_owned())
}

fn digits(rest: &mut std::str::Chars<'_>, first: &str, count: usize, radix: u32) -> Option<u32> {
    let taken: String = first.chars().chain(rest.by_ref().take(count)).collect();
    u32::from_str_radix(&taken, radix).ok()
}
