//! One instruction: its keyword, its flags, its arguments, by the rules of each.

use super::ast::{
    Add, ArgItem, Command, Copy, Healthcheck, Heredoc, Instruction, Kind, Place, Run, Source, Stage, Text,
};
use super::error::{Fault, ParseError};
use super::flags::{Flags, Takes};
use super::mount::{Device, Mount};
use super::source::{Line, Piece};
use super::suggest::nearest;
use super::words::{RawFlag, split_blanks, split_command, split_first, split_quoted};
use super::{duration, expand, heredoc};

/// All keywords.
const KEYWORDS: [&str; 18] = [
    "ADD",
    "ARG",
    "CMD",
    "COPY",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "FROM",
    "HEALTHCHECK",
    "LABEL",
    "MAINTAINER",
    "ONBUILD",
    "RUN",
    "SHELL",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
];

/// A stage begins, or anything else.
#[derive(Debug)]
pub(crate) enum Parsed {
    From(Stage),
    Other(Instruction),
}

/// A line taken apart, before its instruction's own rules.
#[derive(Debug)]
pub(crate) struct Statement<'a> {
    line: &'a Line,
    whole: Piece<'a>,
    keyword: Piece<'a>,
    flags: Vec<RawFlag<'a>>,
    args: Piece<'a>,
    escape: char,
}

impl<'a> Statement<'a> {
    pub fn new(line: &'a Line, whole: Piece<'a>, escape: char) -> Self {
        let whole = whole.trim();
        let (keyword, flags, args) = split_command(whole, escape);
        Self { line, whole, keyword, flags, args, escape }
    }

    /// The instruction's name; fails when there is none such.
    fn name(&self) -> Result<&'static str, ParseError> {
        let upper = self.keyword.text.to_ascii_uppercase();
        KEYWORDS.iter().find(|known| **known == upper).copied().ok_or_else(|| {
            let suggestion = nearest(self.keyword.text, KEYWORDS);
            let name = self.keyword.text.to_owned();
            self.fault(self.keyword, Fault::UnknownInstruction { name, suggestion })
        })
    }

    /// Whether `<<` in its arguments begins a heredoc.
    pub fn takes_heredocs(&self) -> bool {
        let takes = |statement: &Self| {
            matches!(statement.name(), Ok("ADD" | "COPY" | "RUN")) && !matches!(json(statement.args.text), Ok(Some(_)))
        };
        match self.name() {
            Ok("ONBUILD") => takes(&Self::new(self.line, self.args, self.escape)),
            _ => takes(self),
        }
    }

    fn fault(&self, piece: Piece<'_>, fault: Fault) -> ParseError {
        ParseError::new(self.line.place(piece), fault)
    }

    /// A fault of the arguments, or of the whole where there are none.
    fn args_fault(&self, fault: Fault) -> ParseError {
        self.fault(if self.args.text.is_empty() { self.whole } else { self.args }, fault)
    }

    fn flags(&self, known: &[(&str, Takes)]) -> Result<Flags, ParseError> {
        Flags::read(&self.flags, known, self.line)
    }

    /// A word to be expanded later, whose quotes and braces close.
    fn word(&self, piece: Piece<'_>) -> Result<Text, ParseError> {
        self.checked(self.line.text_of(piece), Some(piece))
    }

    fn checked(&self, text: Text, piece: Option<Piece<'_>>) -> Result<Text, ParseError> {
        match expand::check(&text.raw, self.escape, false) {
            Ok(()) => Ok(text),
            Err(error) => {
                let place = piece.map_or(text.place, |piece| self.line.place(piece.from(error.offset)));
                Err(ParseError::new(place, error.into()))
            }
        }
    }

    fn checked_flag(&self, text: Option<Text>) -> Result<Option<Text>, ParseError> {
        text.map(|text| self.checked(text, None)).transpose()
    }

    /// All arguments as one text.
    fn single(&self, instruction: &'static str) -> Result<Text, ParseError> {
        self.flags(&[])?;
        if self.args.text.is_empty() {
            return Err(self.args_fault(Fault::ExactlyOneArgument { instruction }));
        }
        self.word(self.args)
    }

    /// A JSON array, or a text for the shell.
    fn command(&self, args: Piece<'_>) -> Result<Command, ParseError> {
        match json(args.text).map_err(|fault| self.fault(args, fault))? {
            Some(words) => Ok(Command::Exec(words)),
            None => Ok(Command::Shell(args.text.to_owned())),
        }
    }

    /// A JSON array, or words between blanks; each with its place as far as it is known.
    fn list(&self) -> Result<Vec<Text>, ParseError> {
        match json(self.args.text).map_err(|fault| self.args_fault(fault))? {
            Some(words) => {
                let place = self.line.place(self.args);
                words.into_iter().map(|raw| self.checked(Text { raw, place }, None)).collect()
            }
            None => split_blanks(self.args).map(|piece| Ok(self.line.text_of(piece))).collect(),
        }
    }
}

/// The strings of a JSON array; `None` when it is none.
fn json(text: &str) -> Result<Option<Vec<String>>, Fault> {
    if !text.trim_start().starts_with('[') {
        return Ok(None);
    }
    let Ok(values) = serde_json::from_str::<Vec<serde_json::Value>>(text) else {
        return Ok(None);
    };
    let strings = values.into_iter().map(|value| match value {
        serde_json::Value::String(text) => Ok(text),
        _ => Err(Fault::NotStrings),
    });
    strings.collect::<Result<_, _>>().map(Some)
}

/// Reads an instruction by its own rules. Place, original and comments are the caller's to add.
pub(crate) fn parse(statement: Statement<'_>, heredocs: Vec<Heredoc>) -> Result<Parsed, ParseError> {
    let name = statement.name()?;
    if name == "FROM" {
        return from(&statement).map(Parsed::From);
    }
    let kind = kind(name, &statement, heredocs)?;
    Ok(Parsed::Other(Instruction {
        kind,
        keyword: statement.keyword.text.to_owned(),
        place: Place::default(),
        line: statement.whole.text.to_owned(),
        original: String::new(),
        check: None,
        comment: None,
    }))
}

fn kind(name: &'static str, statement: &Statement<'_>, heredocs: Vec<Heredoc>) -> Result<Kind, ParseError> {
    Ok(match name {
        "ADD" => Kind::Add(add(statement, &heredocs)?),
        "ARG" => Kind::Arg(arg(statement)?),
        "CMD" => {
            statement.flags(&[])?;
            Kind::Cmd(statement.command(statement.args)?)
        }
        "COPY" => Kind::Copy(copy(statement, &heredocs)?),
        "ENTRYPOINT" => {
            statement.flags(&[])?;
            Kind::Entrypoint(statement.command(statement.args)?)
        }
        "ENV" => Kind::Env(pairs(name, statement)?),
        "EXPOSE" => Kind::Expose(expose(statement)?),
        "HEALTHCHECK" => Kind::Healthcheck(healthcheck(statement)?),
        "LABEL" => Kind::Label(pairs(name, statement)?),
        "MAINTAINER" => {
            statement.flags(&[])?;
            match statement.args.text {
                "" => return Err(statement.args_fault(Fault::ExactlyOneArgument { instruction: name })),
                author => Kind::Maintainer(author.to_owned()),
            }
        }
        "ONBUILD" => Kind::OnBuild(onbuild(statement, heredocs)?),
        "RUN" => Kind::Run(run(statement, heredocs)?),
        "SHELL" => Kind::Shell(shell(statement)?),
        "STOPSIGNAL" => Kind::StopSignal(statement.single(name)?),
        "USER" => Kind::User(statement.single(name)?),
        "VOLUME" => Kind::Volume(volume(statement)?),
        _ => Kind::Workdir(statement.single("WORKDIR")?),
    })
}

fn from(statement: &Statement<'_>) -> Result<Stage, ParseError> {
    let words: Vec<Piece<'_>> = split_blanks(statement.args).collect();
    let (image, name) = match words.as_slice() {
        [image] => (*image, None),
        [image, keyword, name] if keyword.text.eq_ignore_ascii_case("as") => (*image, Some(*name)),
        _ => return Err(statement.args_fault(Fault::FromArguments)),
    };
    let name = match name {
        None => None,
        Some(piece) => {
            let lower = piece.text.to_lowercase();
            let begins = lower.starts_with(|first: char| first.is_ascii_lowercase());
            let good = |character: char| character.is_ascii_alphanumeric() || matches!(character, '-' | '_' | '.');
            if !begins || !lower.chars().all(good) {
                return Err(statement.fault(piece, Fault::StageName { name: piece.text.to_owned() }));
            }
            Some(lower)
        }
    };
    let mut flags = statement.flags(&[("platform", Takes::Value)])?;
    let platform = statement.checked_flag(flags.take("platform"))?;
    let base = statement.word(image)?;
    if expand(&base.raw, statement.escape, &|_| None).is_ok_and(|base| base.text.is_empty() && base.unset.is_empty()) {
        return Err(statement.fault(image, Fault::BlankBase { name: base.raw }));
    }
    Ok(Stage {
        keyword: statement.keyword.text.to_owned(),
        image: base,
        platform,
        name,
        place: Place::default(),
        original: String::new(),
        check: None,
        comment: None,
        instructions: Vec::new(),
    })
}

/// Sources and target of `COPY` and `ADD`.
fn paths(
    instruction: &'static str,
    statement: &Statement<'_>,
    heredocs: &[Heredoc],
) -> Result<(Vec<Source>, Text), ParseError> {
    let mut words = statement.list()?;
    let target = words.pop().filter(|_| !words.is_empty());
    let Some(target) = target else {
        return Err(statement.args_fault(Fault::NoDestination { instruction }));
    };
    if heredoc::of_word(&target.raw).is_some() {
        return Err(ParseError::new(target.place, Fault::HeredocDestination { instruction }));
    }
    let mut sources = Vec::with_capacity(words.len());
    for text in words {
        sources.push(match heredoc::of_word(&text.raw) {
            None => Source::File(statement.checked_at(text)?),
            Some(head) => {
                let found = heredocs.iter().rev().find(|heredoc| heredoc.name == head.name).cloned();
                let heredoc = found.unwrap_or(Heredoc {
                    name: head.name,
                    fd: head.fd,
                    expand: head.expand,
                    chomp: head.chomp,
                    content: String::new(),
                    place: text.place,
                });
                if heredoc.expand {
                    check_content(&heredoc)?;
                }
                Source::Heredoc(heredoc)
            }
        });
    }
    Ok((sources, statement.checked_at(target)?))
}

impl Statement<'_> {
    /// [`Self::checked`] with the column of the fault, where the text is a part of the line.
    fn checked_at(&self, text: Text) -> Result<Text, ParseError> {
        match expand::check(&text.raw, self.escape, false) {
            Ok(()) => Ok(text),
            Err(error) => {
                let before = text.raw.get(..error.offset).map_or(0, |before| before.chars().count());
                let exact = text.place.line == text.place.end_line && !self.args.text.starts_with('[');
                let column = text.place.column + if exact { before } else { 0 };
                Err(ParseError::new(Place { column, ..text.place }, error.into()))
            }
        }
    }
}

/// Whether the variables of a heredoc are written well.
fn check_content(heredoc: &Heredoc) -> Result<(), ParseError> {
    expand::check(&heredoc.content, '\\', true).map_err(|error| {
        let before = heredoc.content.get(..error.offset).unwrap_or_default();
        let line = heredoc.place.line + before.matches('\n').count();
        let column = before.rsplit('\n').next().map_or(0, |text| text.chars().count()) + 1;
        ParseError::new(Place { line, end_line: line, column }, error.into())
    })
}

fn copy(statement: &Statement<'_>, heredocs: &[Heredoc]) -> Result<Copy, ParseError> {
    let mut flags = statement.flags(&[
        ("chown", Takes::Value),
        ("from", Takes::Value),
        ("chmod", Takes::Value),
        ("link", Takes::Switch),
        ("exclude", Takes::Values),
        ("parents", Takes::Switch),
    ])?;
    let (sources, target) = paths("COPY", statement, heredocs)?;
    let from = flags.take("from");
    if let Some(from) = &from {
        let expanded = expand(&from.raw, statement.escape, &|_| None);
        if expanded.is_ok_and(|expanded| expanded.text != from.raw) {
            return Err(ParseError::new(from.place, Fault::VariableInFrom));
        }
    }
    Ok(Copy {
        sources,
        target,
        from,
        chown: statement.checked_flag(flags.take("chown"))?,
        chmod: statement.checked_flag(flags.take("chmod"))?,
        link: flags.switch("link").unwrap_or(false),
        parents: flags.switch("parents").unwrap_or(false),
        exclude: flags.take_all("exclude"),
    })
}

fn add(statement: &Statement<'_>, heredocs: &[Heredoc]) -> Result<Add, ParseError> {
    let mut flags = statement.flags(&[
        ("chown", Takes::Value),
        ("chmod", Takes::Value),
        ("link", Takes::Switch),
        ("keep-git-dir", Takes::Switch),
        ("checksum", Takes::Value),
        ("unpack", Takes::Switch),
        ("exclude", Takes::Values),
    ])?;
    let (sources, target) = paths("ADD", statement, heredocs)?;
    Ok(Add {
        sources,
        target,
        chown: statement.checked_flag(flags.take("chown"))?,
        chmod: statement.checked_flag(flags.take("chmod"))?,
        link: flags.switch("link").unwrap_or(false),
        exclude: flags.take_all("exclude"),
        checksum: statement.checked_flag(flags.take("checksum"))?,
        keep_git_dir: flags.switch("keep-git-dir"),
        unpack: flags.switch("unpack"),
    })
}

fn arg(statement: &Statement<'_>) -> Result<Vec<ArgItem>, ParseError> {
    statement.flags(&[])?;
    let words = split_quoted(statement.args, statement.escape);
    if words.is_empty() {
        return Err(statement.args_fault(Fault::AtLeastOneArgument { instruction: "ARG" }));
    }
    let item = |word: Piece<'_>| {
        let (name, default) = match word.text.find('=') {
            Some(0) => return Err(statement.fault(word, Fault::BlankName { instruction: "ARG" })),
            Some(at) => (word.to(at), Some(statement.word(word.from(at + 1))?)),
            None => (word, None),
        };
        Ok(ArgItem { name: name.text.to_owned(), default, place: statement.line.place(word) })
    };
    words.into_iter().map(item).collect()
}

/// Names and values of `ENV` and `LABEL`: `name=value …`, or the old `name value`.
fn pairs(instruction: &'static str, statement: &Statement<'_>) -> Result<Vec<(Text, Text)>, ParseError> {
    statement.flags(&[])?;
    let words = split_quoted(statement.args, statement.escape);
    let Some(first) = words.first() else {
        return Err(statement.args_fault(Fault::AtLeastOneArgument { instruction }));
    };
    if !first.text.contains('=') {
        let Some((name, value)) = split_first(statement.args) else {
            return Err(statement.args_fault(Fault::TwoArguments { instruction }));
        };
        return Ok(vec![(statement.word(name)?, statement.word(value)?)]);
    }
    let pair = |word: Piece<'_>| match word.text.find('=') {
        None => Err(statement.fault(word, Fault::NoEquals { word: word.text.to_owned() })),
        Some(0) => Err(statement.fault(word, Fault::BlankName { instruction })),
        Some(at) => Ok((statement.word(word.to(at))?, statement.word(word.from(at + 1))?)),
    };
    words.into_iter().map(pair).collect()
}

fn expose(statement: &Statement<'_>) -> Result<Vec<Text>, ParseError> {
    statement.flags(&[])?;
    let mut ports =
        split_blanks(statement.args).map(|piece| statement.word(piece)).collect::<Result<Vec<Text>, ParseError>>()?;
    if ports.is_empty() {
        return Err(statement.args_fault(Fault::AtLeastOneArgument { instruction: "EXPOSE" }));
    }
    // The order in which an image's history names them.
    ports.sort_by(|a, b| a.raw.cmp(&b.raw));
    Ok(ports)
}

fn volume(statement: &Statement<'_>) -> Result<Vec<Text>, ParseError> {
    statement.flags(&[])?;
    let mut paths = statement.list()?;
    if paths.is_empty() {
        return Err(statement.args_fault(Fault::AtLeastOneArgument { instruction: "VOLUME" }));
    }
    for path in &mut paths {
        path.raw = path.raw.trim().to_owned();
        if path.raw.is_empty() {
            return Err(ParseError::new(path.place, Fault::BlankVolume));
        }
    }
    paths.into_iter().map(|path| statement.checked_at(path)).collect()
}

fn shell(statement: &Statement<'_>) -> Result<Vec<String>, ParseError> {
    statement.flags(&[])?;
    match statement.command(statement.args)? {
        Command::Exec(words) if !words.is_empty() => Ok(words),
        Command::Shell(text) if !text.is_empty() => Err(statement.args_fault(Fault::NotJson { instruction: "SHELL" })),
        _ => Err(statement.args_fault(Fault::AtLeastOneArgument { instruction: "SHELL" })),
    }
}

fn onbuild(statement: &Statement<'_>, heredocs: Vec<Heredoc>) -> Result<String, ParseError> {
    statement.flags(&[])?;
    if statement.args.text.is_empty() {
        return Err(statement.args_fault(Fault::AtLeastOneArgument { instruction: "ONBUILD" }));
    }
    let later = Statement::new(statement.line, statement.args, statement.escape);
    match later.name()? {
        "ONBUILD" => return Err(later.fault(later.keyword, Fault::OnBuildChain)),
        name @ ("FROM" | "MAINTAINER") => {
            return Err(later.fault(later.keyword, Fault::OnBuildTrigger { instruction: name.to_owned() }));
        }
        _ => {}
    }
    let text = super::ast::with_heredocs(statement.args.text, &heredocs);
    parse(later, heredocs)?;
    Ok(text)
}

fn run(statement: &Statement<'_>, heredocs: Vec<Heredoc>) -> Result<Run, ParseError> {
    let mut flags = statement.flags(&[
        ("mount", Takes::Values),
        ("network", Takes::Value),
        ("security", Takes::Value),
        ("device", Takes::Values),
    ])?;
    let command = statement.command(statement.args)?;
    if matches!(&command, Command::Exec(words) if words.is_empty()) || statement.args.text.is_empty() {
        return Err(statement.args_fault(Fault::AtLeastOneArgument { instruction: "RUN" }));
    }
    let one_of = |text: Option<Text>, known: &[&str], fault: fn(String) -> Fault| match text {
        Some(text) if !known.contains(&text.raw.as_str()) => Err(ParseError::new(text.place, fault(text.raw))),
        text => Ok(text),
    };
    let mounts = flags.take_all("mount");
    let devices = flags.take_all("device");
    Ok(Run {
        mounts: mounts.iter().map(|text| Mount::parse(text, statement.escape)).collect::<Result<_, _>>()?,
        network: one_of(flags.take_raw("network"), &["default", "none", "host"], |value| Fault::Network { value })?,
        security: one_of(flags.take_raw("security"), &["sandbox", "insecure"], |value| Fault::Security { value })?,
        devices: devices.iter().map(Device::parse).collect::<Result<_, _>>()?,
        command,
        heredocs,
    })
}

fn healthcheck(statement: &Statement<'_>) -> Result<Healthcheck, ParseError> {
    let mut flags = statement.flags(&[
        ("interval", Takes::Value),
        ("timeout", Takes::Value),
        ("start-period", Takes::Value),
        ("start-interval", Takes::Value),
        ("retries", Takes::Value),
    ])?;
    let args = statement.args;
    let end = args.text.find(char::is_whitespace).unwrap_or(args.text.len());
    let (kind, rest) = (args.to(end), args.from(end).trim());
    match kind.text.to_uppercase().as_str() {
        "" => return Err(statement.args_fault(Fault::AtLeastOneArgument { instruction: "HEALTHCHECK" })),
        "NONE" if rest.text.is_empty() => return Ok(Healthcheck::None),
        "NONE" => return Err(statement.fault(rest, Fault::HealthcheckNone)),
        "CMD" => {}
        name => return Err(statement.fault(kind, Fault::HealthcheckType { name: name.to_owned() })),
    }
    let command = statement.command(rest)?;
    if rest.text.is_empty() || matches!(&command, Command::Exec(words) if words.is_empty()) {
        return Err(statement.fault(kind, Fault::HealthcheckCommand));
    }
    let mut interval = |name: &str| match flags.take(name) {
        None => Ok(None),
        Some(text) => duration_of(name, &text.raw).map_err(|fault| ParseError::new(text.place, fault)),
    };
    Ok(Healthcheck::Check {
        command,
        interval: interval("interval")?,
        timeout: interval("timeout")?,
        start_period: interval("start-period")?,
        start_interval: interval("start-interval")?,
        retries: match flags.take("retries") {
            None => None,
            Some(text) => retries(&text.raw).map_err(|fault| ParseError::new(text.place, fault))?,
        },
    })
}

fn duration_of(name: &str, text: &str) -> Result<Option<std::time::Duration>, Fault> {
    match duration::parse(text) {
        Ok(found) if found.is_zero() => Ok(None),
        Ok(found) if found.as_millis() > 0 => Ok(Some(found)),
        Ok(_) | Err(true) => Err(Fault::ShortInterval { name: name.to_owned() }),
        Err(false) => Err(Fault::Duration { value: text.to_owned() }),
    }
}

fn retries(text: &str) -> Result<Option<u32>, Fault> {
    match text.parse::<i32>() {
        Ok(number) => match u32::try_from(number) {
            Ok(number) => Ok(Some(number).filter(|number| *number > 0)),
            Err(_) => Err(Fault::NegativeRetries { value: text.to_owned() }),
        },
        Err(_) => Err(Fault::Retries { value: text.to_owned() }),
    }
}
