//! A line as keyword, flags and words.

use super::source::Piece;

/// `--name=value`, without its quotes.
#[derive(Debug, Clone)]
pub(crate) struct RawFlag<'a> {
    pub name: String,
    pub value: Option<String>,
    /// All of it.
    pub piece: Piece<'a>,
    /// What stands behind `=`.
    pub value_piece: Piece<'a>,
}

/// The keyword, the flags behind it, and the rest.
pub(crate) fn split_command<'a>(line: Piece<'a>, escape: char) -> (Piece<'a>, Vec<RawFlag<'a>>, Piece<'a>) {
    let line = line.trim();
    let end = line.text.find(is_blank).unwrap_or(line.text.len());
    let keyword = line.to(end);
    let (flags, rest) = flags(line.from(end), escape);
    (keyword, flags, rest.trim())
}

/// What parts words where quotes mean nothing.
fn is_blank(character: char) -> bool {
    matches!(character, '\t' | '\u{b}' | '\u{c}' | '\r' | ' ')
}

/// The words between blanks.
pub(crate) fn split_blanks(piece: Piece<'_>) -> impl Iterator<Item = Piece<'_>> {
    let mut rest = piece;
    std::iter::from_fn(move || {
        let skipped = rest.text.find(|character| !is_blank(character))?;
        let word = rest.from(skipped);
        let end = word.text.find(is_blank).unwrap_or(word.text.len());
        rest = word.from(end);
        Some(word.to(end))
    })
}

/// Two words, the second being all the rest.
pub(crate) fn split_first(piece: Piece<'_>) -> Option<(Piece<'_>, Piece<'_>)> {
    let end = piece.text.find(is_blank)?;
    let rest = piece.from(end);
    let begin = rest.text.find(|character| !is_blank(character)).unwrap_or(rest.text.len());
    Some((piece.to(end), rest.from(begin)))
}

/// The flags that a text begins with. `--` ends them.
fn flags<'a>(mut rest: Piece<'a>, escape: char) -> (Vec<RawFlag<'a>>, Piece<'a>) {
    let mut found = Vec::new();
    loop {
        let begin = rest.text.len() - rest.text.trim_start().len();
        rest = rest.from(begin);
        if !rest.text.starts_with("--") {
            return (found, rest);
        }
        let (flag, length) = flag(rest, escape);
        rest = rest.from(length);
        if flag.name.is_empty() && flag.value.is_none() {
            return (found, rest);
        }
        found.push(flag);
    }
}

/// One flag, and how many bytes it takes.
fn flag(piece: Piece<'_>, escape: char) -> (RawFlag<'_>, usize) {
    let mut text = String::new();
    let mut value_at = None;
    let mut quote = None;
    let mut characters = piece.text.char_indices();
    let mut end = piece.text.len();
    while let Some((at, character)) = characters.next() {
        let mut character = character;
        match quote {
            None if character.is_whitespace() => {
                end = at;
                break;
            }
            None if character == '\'' || character == '"' => {
                quote = Some(character);
                continue;
            }
            Some(open) if open == character => {
                quote = None;
                continue;
            }
            _ => {}
        }
        if character == escape {
            match characters.next() {
                Some((_, escaped)) => character = escaped,
                None => break,
            }
        }
        if character == '=' && value_at.is_none() {
            value_at = Some(characters.offset());
        }
        text.push(character);
    }
    let (name, value) = match text.split_once('=') {
        Some((name, value)) => (name, Some(value.to_owned())),
        None => (text.as_str(), None),
    };
    let piece = piece.to(end);
    let flag = RawFlag {
        name: name.strip_prefix("--").unwrap_or(name).to_owned(),
        value,
        piece,
        value_piece: piece.from(value_at.unwrap_or(end).min(end)),
    };
    (flag, end)
}

/// The words between blanks, where quotes and escapes hold them together. They keep both; only an escape at the very
/// end is dropped.
pub(crate) fn split_quoted(piece: Piece<'_>, escape: char) -> Vec<Piece<'_>> {
    let mut words = Vec::new();
    let mut quote = None;
    let mut begin = None;
    let mut end = piece.text.len();
    let mut characters = piece.text.char_indices();
    while let Some((at, character)) = characters.next() {
        if quote.is_none() && character.is_whitespace() {
            words.extend(begin.take().map(|begin| piece.from(begin).to(at - begin)));
            continue;
        }
        if begin.is_none() {
            begin = Some(at);
        }
        match quote {
            None if character == '\'' || character == '"' => quote = Some(character),
            Some(open) if open == character => quote = None,
            _ if character == escape && quote != Some('\'') && characters.next().is_none() => end = at,
            _ => {}
        }
    }
    words.extend(begin.filter(|begin| *begin < end).map(|begin| piece.from(begin).to(end - begin)));
    words
}
