//! From tokens to the tree of a template.

use std::collections::BTreeMap;

use super::lex::{Kind, Token, tokens};
use super::literal::unescape;
use super::{ParseError, funcs};

/// How deep actions and parentheses may stand in one another.
const MAX_DEPTH: usize = 100;

/// One element of a template's body.
#[derive(Debug, Clone)]
pub(super) enum Node {
    Text(String),
    /// A pipeline whose value is printed.
    Action(Pipe),
    If(Branch),
    With(Branch),
    Range(Branch),
    Break,
    Continue,
    /// `{{template "name" pipeline}}`
    Call {
        at: usize,
        name: String,
        pipe: Option<Pipe>,
    },
}

/// A pipeline that decides, and what it decides about.
#[derive(Debug, Clone)]
pub(super) struct Branch {
    pub pipe: Pipe,
    pub then: Vec<Node>,
    pub otherwise: Vec<Node>,
}

/// Commands, each of which gets the value of the one before.
#[derive(Debug, Clone, Default)]
pub(super) struct Pipe {
    pub at: usize,
    /// Variables that take its value.
    pub variables: Vec<String>,
    /// `=` rather than `:=`.
    pub assigns: bool,
    pub commands: Vec<Command>,
}

/// An operand and its arguments.
#[derive(Debug, Clone)]
pub(super) struct Command {
    pub at: usize,
    pub operands: Vec<Operand>,
}

/// A value or function as it is written.
#[derive(Debug, Clone)]
pub(super) struct Operand {
    pub at: usize,
    pub kind: What,
}

/// What an operand is.
#[derive(Debug, Clone)]
pub(super) enum What {
    Dot,
    Nil,
    Bool(bool),
    Int(i64),
    Float(f64),
    /// The text as written, and what it says.
    Text(String, String),
    Number(String, Box<What>),
    Function(String),
    Field(Vec<String>),
    Variable(String, Vec<String>),
    /// `(pipeline).Field.Field`
    Group(Box<Pipe>, Vec<String>),
}

/// Templates by name; the one without is the main one.
pub(super) type Trees = BTreeMap<String, Vec<Node>>;

/// Parses a whole text.
pub(super) fn parse(source: &str) -> Result<Trees, ParseError> {
    let tokens = tokens(source)?;
    let mut parser = Parser {
        source,
        tokens: &tokens,
        next: 0,
        trees: Trees::new(),
        variables: vec!["$".into()],
        loops: 0,
        depth: 0,
    };
    let (nodes, end) = parser.list()?;
    if let Some(end) = end {
        return parser.error(format!("unexpected {{{{{end}}}}}"));
    }
    let mut trees = parser.trees;
    trees.insert(String::new(), nodes);
    Ok(trees)
}

struct Parser<'a> {
    source: &'a str,
    tokens: &'a [Token<'a>],
    next: usize,
    trees: Trees,
    variables: Vec<String>,
    loops: usize,
    depth: usize,
}

/// What ended a list of nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Ending {
    End,
    Else,
}

impl std::fmt::Display for Ending {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if *self == Self::End { "end" } else { "else" })
    }
}

type Parsed<T> = Result<T, ParseError>;

impl<'a> Parser<'a> {
    fn peek(&self) -> Token<'a> {
        let end = Token { kind: Kind::End, at: self.source.len(), text: "" };
        self.tokens.get(self.next).copied().unwrap_or(end)
    }

    fn take(&mut self) -> Token<'a> {
        let token = self.peek();
        self.next += 1;
        token
    }

    fn skip_space(&mut self) -> Token<'a> {
        while self.peek().kind == Kind::Space {
            self.next += 1;
        }
        self.peek()
    }

    fn error<T>(&self, message: impl Into<String>) -> Parsed<T> {
        let at = self.tokens.get(self.next.saturating_sub(1)).map_or(0, |token| token.at);
        Err(ParseError::at(self.source, at, message))
    }

    fn unexpected<T>(&self, token: Token<'_>, place: &str) -> Parsed<T> {
        match token.kind {
            Kind::End => self.error("unexpected EOF"),
            Kind::Dot | Kind::Word => self.error(format!("unexpected <{}> in {place}", token.text)),
            _ => self.error(format!("unexpected {:?} in {place}", token.text)),
        }
    }

    fn enter(&mut self) -> Parsed<()> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return self.error("max expression depth exceeded");
        }
        Ok(())
    }

    /// Nodes up to `{{end}}` or `{{else}}` (whose keyword has been taken, nothing behind it) or the end of the text.
    fn list(&mut self) -> Parsed<(Vec<Node>, Option<Ending>)> {
        let mut nodes = Vec::new();
        loop {
            let token = self.take();
            match token.kind {
                Kind::End => return Ok((nodes, None)),
                Kind::Text => nodes.push(Node::Text(token.text.to_owned())),
                Kind::Open => match self.action()? {
                    Action::Node(node) => nodes.push(node),
                    Action::Nothing => {}
                    Action::Ending(ending) => return Ok((nodes, Some(ending))),
                },
                _ => return self.unexpected(token, "input"),
            }
        }
    }

    fn action(&mut self) -> Parsed<Action> {
        let token = self.skip_space();
        let keyword = if token.kind == Kind::Word { token.text } else { "" };
        if !matches!(keyword, "" | "true" | "false" | "nil") {
            self.next += 1;
        }
        Ok(match keyword {
            "end" => {
                self.close("end")?;
                Action::Ending(Ending::End)
            }
            "else" => {
                let after = self.skip_space();
                if !(after.kind == Kind::Word && matches!(after.text, "if" | "with")) {
                    self.close("else")?;
                }
                Action::Ending(Ending::Else)
            }
            "if" => Action::Node(Node::If(self.branch("if")?)),
            "with" => Action::Node(Node::With(self.branch("with")?)),
            "range" => Action::Node(Node::Range(self.branch("range")?)),
            "break" | "continue" => {
                self.close(keyword)?;
                if self.loops == 0 {
                    return self.error(format!("{{{{{keyword}}}}} outside {{{{range}}}}"));
                }
                Action::Node(if keyword == "break" { Node::Break } else { Node::Continue })
            }
            "template" => Action::Node(self.template(token.at)?),
            "define" => {
                self.define()?;
                Action::Nothing
            }
            "block" => Action::Node(self.block(token.at)?),
            _ => {
                if !matches!(keyword, "" | "true" | "false" | "nil") {
                    self.next -= 1;
                }
                let pipe = self.pipeline("command", Kind::Close)?;
                Action::Node(Node::Action(pipe))
            }
        })
    }

    fn close(&mut self, place: &str) -> Parsed<()> {
        self.skip_space();
        let token = self.take();
        if token.kind == Kind::Close { Ok(()) } else { self.unexpected(token, place) }
    }

    fn branch(&mut self, keyword: &str) -> Parsed<Branch> {
        self.enter()?;
        let scope = self.variables.len();
        let pipe = self.pipeline(keyword, Kind::Close)?;
        let looping = usize::from(keyword == "range");
        self.loops += looping;
        let (then, mut end) = self.list()?;
        self.loops -= looping;
        let mut otherwise = Vec::new();
        if end == Some(Ending::Else) {
            let after = self.peek();
            // `{{else if x}}` is `{{else}}{{if x}}` with one `{{end}}` for both.
            if after.kind == Kind::Word
                && self.tokens.get(self.next.wrapping_sub(1)).is_some_and(|t| t.kind != Kind::Close)
            {
                if keyword == "range" || (keyword != after.text) {
                    return self.unexpected(after, "else");
                }
                self.next += 1;
                let inner = self.branch(after.text)?;
                otherwise.push(if after.text == "if" { Node::If(inner) } else { Node::With(inner) });
                end = Some(Ending::End);
            } else {
                (otherwise, end) = self.list()?;
                if end == Some(Ending::Else) {
                    return self.error("expected end; found {{else}}");
                }
            }
        }
        if end.is_none() {
            return self.error("unexpected EOF");
        }
        self.variables.truncate(scope);
        self.depth -= 1;
        Ok(Branch { pipe, then, otherwise })
    }

    fn string(&mut self, place: &str) -> Parsed<String> {
        self.skip_space();
        let token = self.take();
        match token.kind {
            Kind::Quoted | Kind::Raw => self.unquote(token),
            _ => self.unexpected(token, place),
        }
    }

    fn template(&mut self, at: usize) -> Parsed<Node> {
        let name = self.string("template clause")?;
        let pipe = match self.skip_space().kind {
            Kind::Close => {
                self.next += 1;
                None
            }
            _ => Some(self.pipeline("template clause", Kind::Close)?),
        };
        Ok(Node::Call { at: at + "template ".len(), name, pipe })
    }

    fn body(&mut self, name: String) -> Parsed<()> {
        self.enter()?;
        let outer = std::mem::replace(&mut self.variables, vec!["$".into()]);
        let loops = std::mem::take(&mut self.loops);
        let (nodes, end) = self.list()?;
        if end != Some(Ending::End) {
            return self.error("unexpected EOF");
        }
        (self.variables, self.loops) = (outer, loops);
        self.depth -= 1;
        self.trees.insert(name, nodes);
        Ok(())
    }

    fn define(&mut self) -> Parsed<()> {
        let name = self.string("define clause")?;
        self.close("define clause")?;
        self.body(name)
    }

    fn block(&mut self, at: usize) -> Parsed<Node> {
        let name = self.string("block clause")?;
        let pipe = self.pipeline("block clause", Kind::Close)?;
        self.body(name.clone())?;
        Ok(Node::Call { at, name, pipe: Some(pipe) })
    }

    fn declarations(&mut self, place: &str, pipe: &mut Pipe) -> Parsed<()> {
        loop {
            let before = self.next;
            let token = self.skip_space();
            if token.kind != Kind::Variable {
                return Ok(());
            }
            self.next += 1;
            let sign = self.skip_space();
            match sign.kind {
                Kind::Assign | Kind::Declare => {
                    self.next += 1;
                    pipe.assigns = sign.kind == Kind::Assign;
                    pipe.variables.push(token.text.to_owned());
                    if pipe.assigns && !self.variables.iter().any(|known| known == token.text) {
                        return self.error(format!("undefined variable {:?}", token.text));
                    }
                    return Ok(());
                }
                Kind::Other if sign.text == "," && place == "range" && pipe.variables.is_empty() => {
                    self.next += 1;
                    pipe.variables.push(token.text.to_owned());
                }
                Kind::Other if sign.text == "," => return self.error(format!("too many declarations in {place}")),
                _ => {
                    self.next = before;
                    return Ok(());
                }
            }
        }
    }

    fn pipeline(&mut self, place: &str, end: Kind) -> Parsed<Pipe> {
        self.enter()?;
        let mut pipe = Pipe { at: self.skip_space().at, ..Pipe::default() };
        self.declarations(place, &mut pipe)?;
        loop {
            let token = self.skip_space();
            if token.kind == end {
                self.next += 1;
                break;
            }
            match token.kind {
                Kind::Pipe | Kind::Other | Kind::Assign | Kind::Declare | Kind::Close | Kind::End | Kind::Right => {
                    self.next += 1;
                    return self.unexpected(token, "command");
                }
                _ => pipe.commands.push(self.command()?),
            }
        }
        if pipe.commands.is_empty() {
            return self.error(format!("missing value for {place}"));
        }
        for (index, command) in pipe.commands.iter().enumerate().skip(1) {
            let first = command.operands.first().map(|operand| &operand.kind);
            if matches!(
                first,
                Some(
                    What::Bool(_)
                        | What::Dot
                        | What::Nil
                        | What::Number(..)
                        | What::Text(..)
                        | What::Int(_)
                        | What::Float(_)
                )
            ) {
                return self.error(format!("non executable command in pipeline stage {}", index + 1));
            }
        }
        if !pipe.assigns {
            self.variables.extend(pipe.variables.iter().cloned());
        }
        self.depth -= 1;
        Ok(pipe)
    }

    fn command(&mut self) -> Parsed<Command> {
        let mut command = Command { at: self.skip_space().at, operands: Vec::new() };
        loop {
            self.skip_space();
            if let Some(operand) = self.operand()? {
                command.operands.push(operand);
            }
            let token = self.peek();
            match token.kind {
                Kind::Space => {
                    self.next += 1;
                    if matches!(self.skip_space().kind, Kind::Close | Kind::Right | Kind::Pipe) {
                        continue;
                    }
                }
                Kind::Close | Kind::Right => break,
                Kind::Pipe => {
                    self.next += 1;
                    break;
                }
                _ => {
                    self.next += 1;
                    return self.unexpected(token, "operand");
                }
            }
        }
        if command.operands.is_empty() {
            return self.error("empty command");
        }
        Ok(command)
    }

    fn operand(&mut self) -> Parsed<Option<Operand>> {
        let token = self.peek();
        let Some(mut kind) = self.term(token)? else { return Ok(None) };
        let mut at = token.at;
        let mut first = true;
        while self.peek().kind == Kind::Field {
            let field = self.take();
            let name = field.text[1..].to_owned();
            match &mut kind {
                What::Field(path) | What::Variable(_, path) | What::Group(_, path) => path.push(name),
                What::Dot => kind = What::Field(vec![name]),
                _ => return self.error(format!("unexpected . after term {:?}", token.text)),
            }
            // Errors point at the first dot behind the beginning, as Go's do.
            if first {
                at = field.at;
                first = false;
            }
        }
        Ok(Some(Operand { at, kind }))
    }

    fn term(&mut self, token: Token<'a>) -> Parsed<Option<What>> {
        let kind = match token.kind {
            Kind::Word => match token.text {
                "true" => What::Bool(true),
                "false" => What::Bool(false),
                "nil" => What::Nil,
                name if funcs::exists(name) => What::Function(name.to_owned()),
                name => {
                    self.next += 1;
                    return self.error(format!("function {name:?} not defined"));
                }
            },
            Kind::Dot => What::Dot,
            Kind::Field => What::Field(vec![token.text[1..].to_owned()]),
            Kind::Variable if self.variables.iter().any(|known| known == token.text) => {
                What::Variable(token.text.to_owned(), Vec::new())
            }
            Kind::Variable => {
                self.next += 1;
                return self.error(format!("undefined variable {:?}", token.text));
            }
            Kind::Quoted | Kind::Raw => What::Text(token.text.to_owned(), self.unquote(token)?),
            Kind::Char | Kind::Number => {
                self.next += 1;
                let value = self.number(token)?;
                self.next -= 1;
                What::Number(token.text.to_owned(), Box::new(value))
            }
            Kind::Left => {
                self.next += 1;
                let pipe = self.pipeline("parenthesized pipeline", Kind::Right)?;
                return Ok(Some(What::Group(Box::new(pipe), Vec::new())));
            }
            _ => return Ok(None),
        };
        self.next += 1;
        Ok(Some(kind))
    }

    fn unquote(&self, token: Token<'_>) -> Parsed<String> {
        let inner = token.text.get(1..token.text.len().saturating_sub(1)).unwrap_or_default();
        match token.kind {
            Kind::Raw => Ok(inner.to_owned()),
            _ => unescape(inner).map_or_else(|| self.error("invalid syntax"), Ok),
        }
    }

    fn number(&self, token: Token<'_>) -> Parsed<What> {
        if token.kind == Kind::Char {
            let inner = token.text.get(1..token.text.len().saturating_sub(1)).unwrap_or_default();
            let text = unescape(inner).unwrap_or_default();
            let mut chars = text.chars();
            return match (chars.next(), chars.next()) {
                (Some(c), None) => Ok(What::Int(i64::from(u32::from(c)))),
                _ => self.error(format!("malformed character constant: {}", token.text)),
            };
        }
        let plain = token.text.replace('_', "");
        let (sign, digits) = match plain.strip_prefix('-') {
            Some(digits) => (-1, digits),
            None => (1, plain.strip_prefix('+').unwrap_or(&plain)),
        };
        let lower = digits.to_ascii_lowercase();
        let radix = |prefix: &str, radix| lower.strip_prefix(prefix).and_then(|d| i64::from_str_radix(d, radix).ok());
        let octal = || lower.strip_prefix('0').filter(|d| !d.is_empty()).and_then(|d| i64::from_str_radix(d, 8).ok());
        let whole = radix("0x", 16).or_else(|| radix("0b", 2)).or_else(|| radix("0o", 8)).or_else(octal);
        let whole = whole.or_else(|| lower.parse::<i64>().ok()).and_then(|value| value.checked_mul(sign));
        if let Some(value) = whole {
            return Ok(What::Int(value));
        }
        let numeric = lower.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'+' | b'-'));
        match lower.parse::<f64>() {
            #[allow(clippy::cast_precision_loss, reason = "the sign is one")]
            Ok(value) if numeric && value.is_finite() => Ok(What::Float(value * sign as f64)),
            _ => self.error(format!("bad number syntax: {:?}", token.text)),
        }
    }
}

enum Action {
    Node(Node),
    Nothing,
    Ending(Ending),
}

fn path(fields: &[String]) -> String {
    fields.iter().map(|field| format!(".{field}")).collect()
}

/// As Go writes nodes in its errors.
impl std::fmt::Display for Operand {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.kind {
            What::Dot => f.write_str("."),
            What::Nil => f.write_str("nil"),
            What::Bool(value) => write!(f, "{value}"),
            What::Int(value) => write!(f, "{value}"),
            What::Float(value) => write!(f, "{value}"),
            What::Text(text, _) | What::Number(text, _) => f.write_str(text),
            What::Function(name) => f.write_str(name),
            What::Field(fields) => f.write_str(&path(fields)),
            What::Variable(name, fields) => write!(f, "{name}{}", path(fields)),
            What::Group(pipe, fields) => write!(f, "({pipe}){}", path(fields)),
        }
    }
}

impl std::fmt::Display for Command {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (index, operand) in self.operands.iter().enumerate() {
            // Parentheses are a pipeline's only where it is an argument.
            match &operand.kind {
                What::Group(pipe, fields) if fields.is_empty() => {
                    write!(f, "{}({pipe})", if index > 0 { " " } else { "" })?
                }
                _ => write!(f, "{}{operand}", if index > 0 { " " } else { "" })?,
            }
        }
        Ok(())
    }
}

impl std::fmt::Display for Pipe {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if !self.variables.is_empty() {
            write!(f, "{} {} ", self.variables.join(", "), if self.assigns { "=" } else { ":=" })?;
        }
        let commands: Vec<String> = self.commands.iter().map(ToString::to_string).collect();
        f.write_str(&commands.join(" | "))
    }
}
