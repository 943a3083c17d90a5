//! From the text of a template to tokens, by the rules of Go's text/template:
//! `{{` and `}}`, trim markers, comments, and what stands between.

use super::ParseError;

/// What a token is. The text of a token is a slice of the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Outside of actions.
    Text,
    /// `{{`
    Open,
    /// `}}`
    Close,
    /// Blanks inside an action; they separate arguments.
    Space,
    /// A function, or a keyword.
    Word,
    /// `.Name`
    Field,
    /// `$` or `$name`
    Variable,
    /// `.`
    Dot,
    /// 1, -2, 0x1F, 1.5
    Number,
    /// `'a'`
    Char,
    /// `"…"`
    Quoted,
    /// Between backquotes.
    Raw,
    /// `|`
    Pipe,
    /// `(`
    Left,
    /// `)`
    Right,
    /// `=`
    Assign,
    /// `:=`
    Declare,
    /// `,` and other signs that mean nothing where an operand is wanted.
    Other,
    /// The end.
    End,
}

/// One token.
#[derive(Debug, Clone, Copy)]
pub(super) struct Token<'a> {
    pub kind: Kind,
    /// Byte offset in the source.
    pub at: usize,
    pub text: &'a str,
}

struct Lexer<'a> {
    source: &'a str,
    at: usize,
    tokens: Vec<Token<'a>>,
    depth: usize,
}

/// All tokens, the last of which is [`Kind::End`].
pub(super) fn tokens(source: &str) -> Result<Vec<Token<'_>>, ParseError> {
    let mut lexer = Lexer { source, at: 0, tokens: Vec::new(), depth: 0 };
    lexer.run()?;
    lexer.push(Kind::End, source.len(), source.len());
    Ok(lexer.tokens)
}

fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n')
}

fn is_word(c: char) -> bool {
    c == '_' || c.is_alphanumeric()
}

impl<'a> Lexer<'a> {
    fn rest(&self) -> &'a str {
        self.source.get(self.at..).unwrap_or_default()
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn push(&mut self, kind: Kind, from: usize, to: usize) {
        let text = self.source.get(from..to).unwrap_or_default();
        self.tokens.push(Token { kind, at: from, text });
        self.at = to;
    }

    fn error<T>(&self, message: impl Into<String>) -> Result<T, ParseError> {
        Err(ParseError::at(self.source, self.at, message))
    }

    /// Whether a right delimiter comes, and the length of its trim marker.
    fn close(&self) -> Option<usize> {
        let rest = self.rest();
        if rest.starts_with("}}") {
            return Some(0);
        }
        let marker = rest.chars().next().is_some_and(is_blank) && rest[1..].starts_with("-}}");
        marker.then_some(2)
    }

    fn run(&mut self) -> Result<(), ParseError> {
        while self.at < self.source.len() {
            let Some(open) = self.rest().find("{{") else {
                self.push(Kind::Text, self.at, self.source.len());
                return Ok(());
            };
            let (start, open) = (self.at, self.at + open);
            let inner = self.source.get(open + 2..).unwrap_or_default();
            let trims = inner.starts_with('-') && inner[1..].starts_with(is_blank);
            let text = self.source.get(start..open).unwrap_or_default();
            let text = if trims { text.trim_end_matches(is_blank) } else { text };
            if !text.is_empty() {
                self.push(Kind::Text, start, start + text.len());
            }
            let skip = if trims { 2 } else { 0 };
            self.at = open + 2 + skip;
            if self.rest().starts_with("/*") {
                self.comment()?;
            } else {
                self.tokens.push(Token { kind: Kind::Open, at: open, text: "{{" });
                self.action()?;
            }
        }
        Ok(())
    }

    fn comment(&mut self) -> Result<(), ParseError> {
        let Some(end) = self.rest()[2..].find("*/") else { return self.error("unclosed comment") };
        self.at += 2 + end + 2;
        match self.close() {
            Some(marker) => self.leave(marker),
            None => return self.error("comment ends before closing delimiter"),
        }
        Ok(())
    }

    /// Behind the right delimiter, and behind the blanks that its marker trims.
    fn leave(&mut self, marker: usize) {
        self.at += marker + 2;
        if marker > 0 {
            let rest = self.rest();
            self.at += rest.len() - rest.trim_start_matches(is_blank).len();
        }
    }

    fn action(&mut self) -> Result<(), ParseError> {
        self.depth = 0;
        loop {
            if let Some(marker) = self.close() {
                if self.depth > 0 {
                    return self.error("unclosed left paren");
                }
                self.tokens.push(Token { kind: Kind::Close, at: self.at, text: "}}" });
                self.leave(marker);
                return Ok(());
            }
            let Some(c) = self.peek() else { return self.error("unclosed action") };
            self.inside(c)?;
        }
    }

    fn inside(&mut self, c: char) -> Result<(), ParseError> {
        let at = self.at;
        let rest = self.rest();
        let following = rest[c.len_utf8()..].chars().next();
        match c {
            c if is_blank(c) => {
                // A blank may belong to the marker of the right delimiter.
                let mut end = at;
                while self.peek().is_some_and(is_blank) && self.close().is_none() {
                    end += 1;
                    self.at = end;
                }
                self.push(Kind::Space, at, end);
            }
            '=' => self.push(Kind::Assign, at, at + 1),
            ':' if following == Some('=') => self.push(Kind::Declare, at, at + 2),
            ':' => return self.error("expected :="),
            '|' => self.push(Kind::Pipe, at, at + 1),
            '"' => self.quoted()?,
            '`' => match rest[1..].find('`') {
                Some(end) => self.push(Kind::Raw, at, at + end + 2),
                None => return self.error("unterminated raw quoted string"),
            },
            '\'' => self.character()?,
            '$' => self.name(Kind::Variable)?,
            '.' if !following.is_some_and(|c| c.is_ascii_digit()) => self.name(Kind::Field)?,
            '.' | '+' | '-' | '0'..='9' => self.number()?,
            c if is_word(c) => self.word()?,
            '(' => {
                self.depth += 1;
                self.push(Kind::Left, at, at + 1);
            }
            ')' if self.depth == 0 => return self.error("unexpected right paren"),
            ')' => {
                self.depth -= 1;
                self.push(Kind::Right, at, at + 1);
            }
            c if c.is_ascii_graphic() => self.push(Kind::Other, at, at + 1),
            c => return self.error(format!("unrecognized character in action: {}", show(c))),
        }
        Ok(())
    }

    /// Where a word, field or variable may end.
    fn at_terminator(&self) -> bool {
        match self.peek() {
            None | Some(' ' | '\t' | '\r' | '\n' | '.' | ',' | '|' | ':' | ')' | '(') => true,
            Some(_) => self.rest().starts_with("}}"),
        }
    }

    fn name(&mut self, kind: Kind) -> Result<(), ParseError> {
        let at = self.at;
        self.at += 1;
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start_matches(is_word).len();
        if !self.at_terminator() {
            return self.error(format!("bad character {}", self.peek().map(show).unwrap_or_default()));
        }
        let kind = if kind == Kind::Field && self.at == at + 1 { Kind::Dot } else { kind };
        let end = self.at;
        self.push(kind, at, end);
        Ok(())
    }

    fn word(&mut self) -> Result<(), ParseError> {
        let (at, rest) = (self.at, self.rest());
        self.at += rest.len() - rest.trim_start_matches(is_word).len();
        if !self.at_terminator() {
            return self.error(format!("bad character {}", self.peek().map(show).unwrap_or_default()));
        }
        let end = self.at;
        self.push(Kind::Word, at, end);
        Ok(())
    }

    fn number(&mut self) -> Result<(), ParseError> {
        let (at, rest) = (self.at, self.rest());
        let mut end = 0;
        let mut before = ' ';
        for c in rest.chars() {
            let sign = matches!(c, '+' | '-') && (end == 0 || matches!(before, 'e' | 'E' | 'p' | 'P'));
            if !(sign || c.is_ascii_alphanumeric() || matches!(c, '.' | '_')) {
                break;
            }
            (end, before) = (end + c.len_utf8(), c);
        }
        self.push(Kind::Number, at, at + end.max(1));
        Ok(())
    }

    fn quoted(&mut self) -> Result<(), ParseError> {
        match end_of_quoted(self.rest(), '"') {
            Some(end) => self.push(Kind::Quoted, self.at, self.at + end),
            None => return self.error("unterminated quoted string"),
        }
        Ok(())
    }

    fn character(&mut self) -> Result<(), ParseError> {
        match end_of_quoted(self.rest(), '\'') {
            Some(end) => self.push(Kind::Char, self.at, self.at + end),
            None => return self.error("unterminated character constant"),
        }
        Ok(())
    }
}

/// The length of a quoted text at the beginning of `rest`; it may not contain a newline.
fn end_of_quoted(rest: &str, quote: char) -> Option<usize> {
    let mut escaped = false;
    for (index, c) in rest.char_indices().skip(1) {
        match c {
            '\n' => return None,
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return Some(index + 1),
            _ => {}
        }
    }
    None
}

/// A character as Go's `%#U` writes it.
fn show(c: char) -> String {
    format!("U+{:04X} '{c}'", u32::from(c))
}
