//! `<<NAME` in a line: where heredocs are announced. What the shell calls one and what a Dockerfile does differ: here
//! a heredoc is a whole word.

use super::expand::Expander;

/// `3<<-"NAME"`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Head {
    pub name: String,
    pub fd: Option<u32>,
    pub expand: bool,
    pub chomp: bool,
}

/// Those of a line, in their order. A line whose quotes do not close has none.
pub(crate) fn of_line(line: &str) -> Vec<Head> {
    if !line.contains("<<") {
        return Vec::new();
    }
    let lexer = Expander { raw_quotes: true, raw_escapes: true, ..nothing_set() };
    let words = lexer.words(line).map(|(words, _)| words).unwrap_or_default();
    words.iter().filter_map(|word| of_word(word)).collect()
}

/// Whether a heredoc is all there is.
pub(crate) fn is_only(line: &str) -> bool {
    of_word(line).is_some()
}

/// The heredoc that a word is.
pub(crate) fn of_word(word: &str) -> Option<Head> {
    let rest = word.trim_start_matches(|character: char| character.is_ascii_digit());
    let fd = word.get(..word.len() - rest.len()).and_then(|digits| digits.parse().ok());
    let rest = rest.strip_prefix("<<")?;
    let (chomp, rest) = match rest.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, rest),
    };
    let rest = rest.trim_start_matches(|character: char| character.is_ascii_whitespace());
    if rest.is_empty() || rest.contains('<') {
        return None;
    }
    let name = single(&nothing_set(), rest)?;
    // Where quotes went, there were some: nothing in the text is replaced.
    let quoted = single(&Expander { raw_quotes: true, ..nothing_set() }, rest)?;
    let quotes = |text: &str| text.matches(['\'', '"']).count();
    let expand = quotes(&name) == quotes(&quoted);
    Some(Head { name, fd, expand, chomp })
}

fn nothing_set() -> Expander<'static> {
    Expander { keep_unset: true, ..Expander::new('\\', &|_| None) }
}

/// The text, when it is one word.
fn single(lexer: &Expander<'_>, text: &str) -> Option<String> {
    match lexer.words(text).ok()?.0.as_mut_slice() {
        [word] => Some(std::mem::take(word)),
        _ => None,
    }
}
