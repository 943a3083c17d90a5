//! Quotes, escapes and variables in a word: `$V`, `${V}`, `${V:-x}` and its relatives, as the Dockerfile reference has
//! them.

use std::collections::HashSet;

use super::pattern::Pattern;

/// How deep `${A:-${B:-…}}` may go.
const MAX_DEPTH: usize = 64;

/// How much longer than the text its expansion may be, in bytes: `ENV A=$A$A` doubles with every line.
const MAX_GROWTH: usize = 1 << 20;

/// What a text became.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Expanded {
    /// The text.
    pub text: String,
    /// Names that were looked up and found nowhere, each once, in their order.
    pub unset: Vec<String>,
    /// Names that were looked up and found, each once, in their order.
    pub used: Vec<String>,
}

/// Why a text cannot be expanded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("failed to process {text:?}: {fault}")]
pub struct ExpandError {
    /// The text, shortened when it is long.
    pub text: String,
    /// The byte in it where the fault was noticed.
    pub offset: usize,
    /// What is wrong.
    pub fault: ExpandFault,
}

/// What can be wrong with a word.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum ExpandFault {
    #[error("unexpected end of statement while looking for matching single-quote")]
    SingleQuote,
    #[error("unexpected end of statement while looking for matching double-quote")]
    DoubleQuote,
    #[error("syntax error: missing '}}'")]
    MissingBrace,
    #[error("syntax error: missing '/' in ${{}}")]
    MissingSlash,
    #[error("syntax error: bad substitution")]
    BadSubstitution,
    #[error("unsupported modifier ({modifier}) in substitution")]
    Modifier { modifier: String },
    #[error("invalid pattern ({pattern}) in substitution: {reason}")]
    Pattern { pattern: String, reason: String },
    /// `${V:?message}`.
    #[error("{name}: {message}")]
    Required { name: String, message: String },
    #[error("substitutions more than {MAX_DEPTH} deep")]
    TooDeep,
    #[error("it becomes longer than {} bytes", MAX_GROWTH)]
    TooLong,
}

/// Replaces variables; the fields say what else happens to a text.
#[derive(Clone, Copy)]
pub struct Expander<'a> {
    /// The file's escape character.
    pub escape: char,
    /// The value of a variable.
    pub lookup: &'a dyn Fn(&str) -> Option<String>,
    /// Quotes stay, and still quote.
    pub raw_quotes: bool,
    /// Escapes stay, and still escape.
    pub raw_escapes: bool,
    /// Quotes are characters like others.
    pub skip_quotes: bool,
    /// A variable that is not set stays as it is written.
    pub keep_unset: bool,
}

impl std::fmt::Debug for Expander<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Expander").field("escape", &self.escape).finish_non_exhaustive()
    }
}

/// Replaces the variables of one word, and takes its quotes and escapes away.
///
/// # Errors
/// A quote or brace has no partner, `${V:?x}` of what is not set, a pattern that is none.
pub fn expand(text: &str, escape: char, lookup: &dyn Fn(&str) -> Option<String>) -> Result<Expanded, ExpandError> {
    Expander::new(escape, lookup).word(text)
}

/// The same where a variable may hold several words (`EXPOSE`): splits after replacing, except inside of quotes.
///
/// # Errors
/// As [`expand`].
pub fn expand_words(
    text: &str,
    escape: char,
    lookup: &dyn Fn(&str) -> Option<String>,
) -> Result<Vec<String>, ExpandError> {
    Ok(Expander::new(escape, lookup).words(text)?.0)
}

/// Replaces the variables of a heredoc's content: quotes stay, and the escape is `\` whatever the file says.
///
/// # Errors
/// As [`expand`].
pub fn expand_heredoc(text: &str, lookup: &dyn Fn(&str) -> Option<String>) -> Result<Expanded, ExpandError> {
    Expander { skip_quotes: true, ..Expander::new('\\', lookup) }.word(text)
}

/// Replaces the variables of a line that is only shown; what cannot be replaced stays.
pub fn expand_for_display(text: &str, escape: char, lookup: &dyn Fn(&str) -> Option<String>) -> String {
    let expander = Expander { raw_quotes: true, keep_unset: true, ..Expander::new(escape, lookup) };
    expander.word(text).map_or_else(|_| text.to_owned(), |expanded| expanded.text)
}

impl<'a> Expander<'a> {
    /// One that takes quotes and escapes away.
    pub fn new(escape: char, lookup: &'a dyn Fn(&str) -> Option<String>) -> Self {
        Self { escape, lookup, raw_quotes: false, raw_escapes: false, skip_quotes: false, keep_unset: false }
    }

    /// The text as one word.
    ///
    /// # Errors
    /// As [`expand`].
    pub fn word(&self, text: &str) -> Result<Expanded, ExpandError> {
        self.run(text).map(|(_, expanded)| expanded)
    }

    /// The text as several words, and what was looked up for them.
    ///
    /// # Errors
    /// As [`expand`].
    pub fn words(&self, text: &str) -> Result<(Vec<String>, Expanded), ExpandError> {
        self.run(text)
    }

    fn run(&self, text: &str) -> Result<(Vec<String>, Expanded), ExpandError> {
        let mut lexer = Lexer {
            expander: *self,
            text,
            at: 0,
            depth: 0,
            escapes_stay: self.raw_escapes,
            left: MAX_GROWTH.saturating_add(text.len()),
            checking: false,
            seen: Expanded::default(),
            names: HashSet::new(),
        };
        match lexer.until(None) {
            Ok(part) => Ok((part.words(), Expanded { text: part.text, ..lexer.seen })),
            Err(fault) => Err(lexer.error(fault)),
        }
    }
}

/// Whether a text could be expanded, as far as that does not depend on values: quotes, braces, modifiers.
pub(crate) fn check(text: &str, escape: char, skip_quotes: bool) -> Result<(), ExpandError> {
    let expander = Expander { skip_quotes, ..Expander::new(escape, &|_| None) };
    let mut lexer = Lexer {
        expander,
        text,
        at: 0,
        depth: 0,
        escapes_stay: false,
        left: MAX_GROWTH.saturating_add(text.len()),
        checking: true,
        seen: Expanded::default(),
        names: HashSet::new(),
    };
    match lexer.until(None) {
        Ok(_) => Ok(()),
        Err(fault) => Err(lexer.error(fault)),
    }
}

/// Whether the text has a variable in it, as [`expand`] sees it.
pub(crate) fn has_variable(text: &str, escape: char) -> bool {
    text.contains('$') && expand(text, escape, &|_| None).map_or(true, |found| !found.unset.is_empty())
}

/// What was read so far: the text, and the words it falls into.
#[derive(Default)]
struct Part {
    text: String,
    words: Vec<String>,
    word: String,
}

impl Part {
    /// Characters where blanks part words.
    fn split(&mut self, text: &str) {
        self.text.push_str(text);
        for character in text.chars() {
            if !character.is_whitespace() {
                self.word.push(character);
            } else if !self.word.is_empty() {
                self.words.push(std::mem::take(&mut self.word));
            }
        }
    }

    /// Characters that belong to the word, whatever they are.
    fn keep(&mut self, text: &str) {
        self.text.push_str(text);
        self.word.push_str(text);
    }

    fn words(&self) -> Vec<String> {
        let last = (!self.word.is_empty()).then(|| self.word.clone());
        self.words.iter().cloned().chain(last).collect()
    }
}

struct Lexer<'a> {
    expander: Expander<'a>,
    text: &'a str,
    /// The byte that comes next.
    at: usize,
    depth: usize,
    escapes_stay: bool,
    /// Bytes the result may still grow by.
    left: usize,
    /// Only the syntax matters: values are not asked for.
    checking: bool,
    seen: Expanded,
    /// The names in `seen`: whether they are set, and each.
    names: HashSet<(bool, String)>,
}

type Result2<T> = Result<T, ExpandFault>;

impl Lexer<'_> {
    fn error(&self, fault: ExpandFault) -> ExpandError {
        const SHOWN: usize = 200;
        let mut text: String = self.text.chars().take(SHOWN).collect();
        if text.len() < self.text.len() {
            text.push('…');
        }
        ExpandError { text, offset: self.at.min(self.text.len()), fault }
    }

    fn peek(&self) -> Option<char> {
        self.text.get(self.at..)?.chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let character = self.peek()?;
        self.at += character.len_utf8();
        Some(character)
    }

    /// Counts what a value adds.
    fn grow(&mut self, bytes: usize) -> Result2<()> {
        self.left = self.left.checked_sub(bytes).ok_or(ExpandFault::TooLong)?;
        Ok(())
    }

    /// Reads to the end, or to `stop` and past it.
    fn until(&mut self, stop: Option<char>) -> Result2<Part> {
        let begin = self.at;
        let mut part = Part::default();
        let mut buffer = [0; 4];
        while let Some(character) = self.peek() {
            if Some(character) == stop {
                self.next();
                return Ok(part);
            }
            match character {
                '$' => part.split(&self.dollar()?),
                '<' => part.keep(self.angle()),
                '\'' if !self.expander.skip_quotes => part.keep(&self.single_quoted()?),
                '"' if !self.expander.skip_quotes => part.keep(&self.double_quoted()?),
                _ if character == self.expander.escape => {
                    self.next();
                    if self.escapes_stay {
                        part.keep(character.encode_utf8(&mut buffer));
                    }
                    match self.next() {
                        Some(escaped) => part.keep(escaped.encode_utf8(&mut buffer)),
                        None => break,
                    }
                }
                _ => {
                    self.next();
                    part.split(character.encode_utf8(&mut buffer));
                }
            }
        }
        match stop {
            None => Ok(part),
            Some(stop) => {
                self.at = begin;
                Err(if stop == '/' { ExpandFault::MissingSlash } else { ExpandFault::MissingBrace })
            }
        }
    }

    /// `<<` with the blanks behind it, which belong to a heredoc's word.
    fn angle(&mut self) -> &str {
        let begin = self.at;
        self.next();
        if self.peek() == Some('<') {
            self.next();
            while matches!(self.peek(), Some('\t' | '\r' | ' ')) {
                self.next();
            }
        }
        self.text.get(begin..self.at).unwrap_or_default()
    }

    fn single_quoted(&mut self) -> Result2<String> {
        let begin = self.at;
        self.next();
        let rest = self.text.get(self.at..).unwrap_or_default();
        let Some(length) = rest.find('\'') else {
            return Err(ExpandFault::SingleQuote);
        };
        self.at += length + 1;
        let inside = rest.get(..length).unwrap_or_default();
        Ok(if self.expander.raw_quotes {
            self.text.get(begin..self.at).unwrap_or_default().to_owned()
        } else {
            inside.to_owned()
        })
    }

    fn double_quoted(&mut self) -> Result2<String> {
        let begin = self.at;
        let mut result = String::new();
        self.next();
        if self.expander.raw_quotes {
            result.push('"');
        }
        loop {
            match self.peek() {
                None => {
                    self.at = begin;
                    return Err(ExpandFault::DoubleQuote);
                }
                Some('"') => {
                    self.next();
                    if self.expander.raw_quotes {
                        result.push('"');
                    }
                    return Ok(result);
                }
                Some('$') => result.push_str(&self.dollar()?),
                Some(character) => {
                    self.next();
                    if character != self.expander.escape {
                        result.push(character);
                        continue;
                    }
                    if self.escapes_stay {
                        result.push(character);
                    }
                    match self.peek() {
                        None => {}
                        Some(escaped) if escaped == '"' || escaped == '$' || escaped == self.expander.escape => {
                            self.next();
                            result.push(escaped);
                        }
                        Some(_) => result.push(character),
                    }
                }
            }
        }
    }

    /// `$`, and whatever it begins.
    fn dollar(&mut self) -> Result2<String> {
        let begin = self.at;
        self.next();
        if self.peek() == Some('{') {
            self.next();
            if self.depth >= MAX_DEPTH {
                return Err(ExpandFault::TooDeep);
            }
            self.depth += 1;
            let result = self.braced(begin);
            self.depth -= 1;
            return result;
        }
        let name = self.name();
        if name.is_empty() {
            return Ok("$".to_owned());
        }
        match self.value(&name)? {
            Some(value) => Ok(value),
            None if self.expander.keep_unset => Ok(format!("${name}")),
            None => Ok(String::new()),
        }
    }

    /// A variable's name: letters, digits and `_`, only digits, or one of the shell's special ones.
    fn name(&mut self) -> String {
        let rest = self.text.get(self.at..).unwrap_or_default();
        let length_of = |inside: &dyn Fn(char) -> bool| rest.find(|c| !inside(c)).unwrap_or(rest.len());
        let length = match rest.chars().next() {
            Some(first) if first.is_numeric() => length_of(&char::is_numeric),
            Some('@' | '*' | '#' | '?' | '-' | '$' | '!') => 1,
            _ => length_of(&|character| character.is_alphanumeric() || character == '_'),
        };
        self.at += length;
        rest.get(..length).unwrap_or_default().to_owned()
    }

    fn value(&mut self, name: &str) -> Result2<Option<String>> {
        let value = if self.checking { None } else { (self.expander.lookup)(name) };
        if !self.checking && self.names.insert((value.is_some(), name.to_owned())) {
            let list = if value.is_some() { &mut self.seen.used } else { &mut self.seen.unset };
            list.push(name.to_owned());
        }
        if let Some(value) = &value {
            self.grow(value.len())?;
        }
        Ok(value)
    }

    /// What stands behind `${`.
    fn braced(&mut self, begin: usize) -> Result2<String> {
        match self.peek() {
            None => {
                self.at = begin;
                return Err(ExpandFault::MissingBrace);
            }
            Some('{' | '}' | ':') => return Err(ExpandFault::BadSubstitution),
            Some(_) => {}
        }
        let name = self.name();
        match self.next() {
            None => {
                self.at = begin;
                Err(ExpandFault::MissingBrace)
            }
            Some('}') => match self.value(&name)? {
                Some(value) => Ok(value),
                None if self.expander.keep_unset => Ok(format!("${{{name}}}")),
                None => Ok(String::new()),
            },
            Some(':') => match self.next() {
                Some(operator @ ('+' | '-' | '?')) => self.default(&name, operator, true),
                Some(operator) => Err(ExpandFault::Modifier { modifier: format!(":{operator}") }),
                None => Err(ExpandFault::MissingBrace),
            },
            Some(operator @ ('+' | '-' | '?')) => self.default(&name, operator, false),
            Some(operator @ ('#' | '%')) => self.trimmed(&name, operator),
            Some('/') => self.replaced(&name),
            Some(operator) => Err(ExpandFault::Modifier { modifier: operator.to_string() }),
        }
    }

    /// The word up to `stop`, in which patterns keep their escapes.
    fn operand(&mut self, stop: char, escapes_stay: bool) -> Result2<String> {
        let before = std::mem::replace(&mut self.escapes_stay, escapes_stay);
        let part = self.until(Some(stop));
        self.escapes_stay = before;
        let part = part?;
        self.grow(part.text.len())?;
        Ok(part.text)
    }

    /// `${V:-x}`, `${V:+x}`, `${V:?x}`, and without `:` where an empty value counts as one.
    fn default(&mut self, name: &str, operator: char, empty_is_unset: bool) -> Result2<String> {
        let begin = self.at;
        let word = self.operand('}', false)?;
        let value = self.value(name)?;
        if self.expander.keep_unset && value.is_none() {
            let colon = if empty_is_unset { ":" } else { "" };
            return Ok(format!("${{{name}{colon}{operator}{word}}}"));
        }
        let unset = value.is_none();
        let value = value.filter(|value| !(empty_is_unset && value.is_empty()));
        match (operator, value) {
            ('+', Some(_)) | ('-', None) => Ok(word),
            ('+', None) => Ok(String::new()),
            (_, Some(value)) => Ok(value),
            (_, None) if self.checking => Ok(String::new()),
            (_, None) => {
                self.at = begin;
                let message = match (word.is_empty(), unset) {
                    (false, _) => word,
                    (true, true) => "is not allowed to be unset".to_owned(),
                    (true, false) => "is not allowed to be empty".to_owned(),
                };
                Err(ExpandFault::Required { name: name.to_owned(), message })
            }
        }
    }

    /// `${V#p}`, `${V##p}`, `${V%p}`, `${V%%p}`.
    fn trimmed(&mut self, name: &str, operator: char) -> Result2<String> {
        let word = self.operand('}', true)?;
        let value = self.value(name)?;
        if self.expander.keep_unset && value.is_none() {
            return Ok(format!("${{{name}{operator}{word}}}"));
        }
        let (greedy, pattern) = match word.strip_prefix(operator) {
            Some(pattern) => (true, pattern),
            None => (false, word.as_str()),
        };
        let compiled = Self::pattern(pattern)?;
        let value = value.unwrap_or_default();
        let trimmed =
            if operator == '#' { compiled.trim_start(&value, greedy) } else { compiled.trim_end(&value, greedy) };
        trimmed.map_err(|reason| ExpandFault::Pattern { pattern: pattern.to_owned(), reason })
    }

    /// `${V/p/x}`, `${V//p/x}`.
    fn replaced(&mut self, name: &str) -> Result2<String> {
        let all = self.peek() == Some('/');
        if all {
            self.next();
        }
        let pattern = self.operand('/', true)?;
        let replacement = self.operand('}', true)?;
        let value = self.value(name)?;
        if self.expander.keep_unset && value.is_none() {
            return Ok(format!("${{{name}/{pattern}/{replacement}}}"));
        }
        let compiled = Self::pattern(&pattern)?;
        let result = compiled.replace(&value.unwrap_or_default(), &replacement, all, self.left);
        let result = result.map_err(|reason| ExpandFault::Pattern { pattern, reason })?.ok_or(ExpandFault::TooLong)?;
        self.grow(result.len())?;
        Ok(result)
    }

    fn pattern(text: &str) -> Result2<Pattern> {
        Pattern::parse(text).map_err(|reason| ExpandFault::Pattern { pattern: text.to_owned(), reason })
    }
}
