//! Texts as they may be shown: what a build says must not drive the terminal.

/// Without control characters and escape sequences; a tab becomes a space.
pub fn clean(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '\u{1b}' => match characters.next() {
                // CSI: parameters, then one final character (ECMA-48 5.4).
                Some('[') => drop(characters.by_ref().find(|c| ('\u{40}'..='\u{7e}').contains(c))),
                // OSC and other strings: up to BEL or ESC \.
                Some(']' | 'P' | 'X' | '^' | '_') => {
                    let end = characters.by_ref().find(|c| matches!(c, '\u{7}' | '\u{1b}'));
                    if end == Some('\u{1b}') && characters.peek() == Some(&'\\') {
                        characters.next();
                    }
                }
                // A character set, chosen by the next character.
                Some('(' | ')' | '#' | ' ') => drop(characters.next()),
                _ => {}
            },
            '\t' => clean.push('\t'),
            '\n' => clean.push(' '),
            other if other.is_control() => {}
            other => clean.push(other),
        }
    }
    clean
}

/// A line of output as it stands on the screen in the end: what a carriage return has overwritten is gone.
pub fn of_line(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(line);
    let last = text.trim_end_matches('\r').rsplit('\r').next().unwrap_or_default();
    clean(last)
}

/// At most so many characters.
pub fn cut(text: &str, longest: usize) -> String {
    match text.char_indices().nth(longest) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// Columns of a character: two for those of East Asia and most pictures.
fn columns(character: char) -> usize {
    match character {
        '\u{1100}'..='\u{115f}'
        | '\u{2e80}'..='\u{a4cf}'
        | '\u{ac00}'..='\u{d7a3}'
        | '\u{f900}'..='\u{faff}'
        | '\u{fe30}'..='\u{fe6f}'
        | '\u{ff00}'..='\u{ff60}'
        | '\u{ffe0}'..='\u{ffe6}'
        | '\u{1f300}'..='\u{1faff}'
        | '\u{20000}'..='\u{3fffd}' => 2,
        _ => 1,
    }
}

/// Columns of a text.
pub fn width(text: &str) -> usize {
    text.chars().map(columns).sum()
}

/// As much of a text as has room, with tabs as spaces.
pub fn fit(text: &str, room: usize) -> String {
    let mut left = room;
    let fits = |character: &char| {
        let columns = columns(*character);
        let fits = columns <= left;
        left = left.saturating_sub(if fits { columns } else { left });
        fits
    };
    text.chars().map(|c| if c == '\t' { ' ' } else { c }).take_while(fits).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_does_not_drive_the_terminal() {
        assert_eq!(clean("a\u{1b}[31mred\u{1b}[0m b\u{1b}]0;title\u{7}c\u{1b}]8;;x\u{1b}\\d\u{7}e"), "ared bcde");
        assert_eq!(clean("\u{1b}[2J\u{1b}(B\u{9b}1mx\ty"), "1mx\ty");
        assert_eq!(of_line(b" 10%\r 50%\r100%\r"), "100%");
        assert_eq!(of_line(b"a\xffb"), "a\u{fffd}b");
    }

    #[test]
    fn texts_are_cut_to_their_room() {
        assert_eq!(fit("abcdef", 3), "abc");
        assert_eq!(fit("\u{65e5}\u{672c}", 3), "\u{65e5}");
        assert_eq!(width("a\u{65e5}"), 3);
        assert_eq!(cut("abcd", 2), "ab…");
        assert_eq!(cut("ab", 2), "ab");
    }
}
