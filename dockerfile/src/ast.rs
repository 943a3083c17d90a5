//! What a Dockerfile says: its stages and instructions, each with its place in the text.

use std::time::Duration;

use super::mount::{Device, Mount};
use super::rules::Warning;

/// A whole file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dockerfile {
    /// The comments at its beginning that direct the parser.
    pub directives: Directives,
    /// The `ARG`s before the first `FROM`, in their order.
    pub meta_args: Vec<Instruction>,
    /// The stages, in their order; at least one.
    pub stages: Vec<Stage>,
    /// What is legal and better written otherwise, as far as the text alone shows it; what [`Check`] skips is left
    /// out.
    pub warnings: Vec<Warning>,
}

/// `# syntax=`, `# escape=` and `# check=`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directives {
    /// The frontend the file asks for, an image reference. Every file is read as the current Dockerfile reference says.
    pub syntax: Option<String>,
    /// What escapes a character and continues a line: `\` or a backquote.
    pub escape: char,
    /// How the file wants to be checked.
    pub check: Option<Check>,
}

/// `check=skip=A,B;error=true`, at the beginning of the file or in a comment above an instruction.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Check {
    /// Names of the rules that are not looked at.
    pub skip: Vec<String>,
    /// `skip=all`.
    pub skip_all: bool,
    /// Whether a warning ends the build.
    pub error: bool,
    /// Names of the experimental rules that are looked at.
    pub experimental: Vec<String>,
    /// `experimental=all`.
    pub experimental_all: bool,
}

/// One `FROM` and what follows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stage {
    /// `FROM` as it was written.
    pub keyword: String,
    /// The base: an image, an earlier stage, or `scratch`.
    pub image: Text,
    /// `--platform`.
    pub platform: Option<Text>,
    /// `AS name`, in lower case.
    pub name: Option<String>,
    /// Where its `FROM` stands.
    pub place: Place,
    /// Its `FROM`, as [`Instruction::original`].
    pub original: String,
    /// What a comment right above `FROM` says about checks.
    pub check: Option<Check>,
    /// The last comment right above `FROM`.
    pub comment: Option<String>,
    /// What follows, in its order.
    pub instructions: Vec<Instruction>,
}

/// One instruction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instruction {
    /// What it does.
    pub kind: Kind,
    /// Its keyword as it was written.
    pub keyword: String,
    /// Where it stands; its end is that of its last heredoc.
    pub place: Place,
    /// As written, in one line: continuation lines joined, comments between them left out, no heredocs. What the
    /// progress of a build shows.
    pub line: String,
    /// The same with its heredocs below.
    pub original: String,
    /// What a comment right above says about checks.
    pub check: Option<Check>,
    /// The last comment right above.
    pub comment: Option<String>,
}

impl Instruction {
    /// The line for the progress of a build: a script in a heredoc shows its first line.
    pub fn title(&self) -> String {
        let (keyword, rest) = self.line.split_at(self.keyword.len().min(self.line.len()));
        let title = format!("{}{rest}", keyword.to_uppercase());
        match &self.kind {
            Kind::Run(run) => match run.form() {
                RunForm::Script(heredoc) => format!("{title} ({})", heredoc.summary()),
                _ => title,
            },
            _ => title,
        }
    }
}

/// Where something stands. Lines and columns (in characters) count from 1; line 0 means the file as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The line it begins on.
    pub line: usize,
    /// The line it ends on.
    pub end_line: usize,
    /// The column of its first character.
    pub column: usize,
}

/// A text before its variables are replaced, with the quotes and escapes that expansion takes away.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Text {
    /// As it was written.
    pub raw: String,
    /// Where.
    pub place: Place,
}

/// What an instruction does.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are those of the instructions")]
pub enum Kind {
    Add(Add),
    Arg(Vec<ArgItem>),
    Cmd(Command),
    Copy(Copy),
    Entrypoint(Command),
    /// Names and values.
    Env(Vec<(Text, Text)>),
    /// Each may hold several ports once its variables are replaced.
    Expose(Vec<Text>),
    Healthcheck(Healthcheck),
    /// Names and values.
    Label(Vec<(Text, Text)>),
    Maintainer(String),
    /// An instruction for later, with its heredocs; [`parse_onbuild`](super::parse_onbuild) reads it.
    OnBuild(String),
    Run(Run),
    Shell(Vec<String>),
    StopSignal(Text),
    User(Text),
    Volume(Vec<Text>),
    Workdir(Text),
}

/// One variable of an `ARG`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArgItem {
    /// Its name.
    pub name: String,
    /// What it is when nobody sets it.
    pub default: Option<Text>,
    /// Where it stands.
    pub place: Place,
}

/// A command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// A JSON array.
    Exec(Vec<String>),
    /// Anything else: for the shell. Empty where nothing was written.
    Shell(String),
}

/// `RUN`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// The command, as it stands in the line.
    pub command: Command,
    /// Its heredocs, in their order.
    pub heredocs: Vec<Heredoc>,
    /// `--mount`.
    pub mounts: Vec<Mount>,
    /// `--network`: `default`, `none` or `host`.
    pub network: Option<Text>,
    /// `--security`: `sandbox` or `insecure`.
    pub security: Option<Text>,
    /// `--device`.
    pub devices: Vec<Device>,
}

/// What a `RUN` runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunForm<'a> {
    /// These words.
    Exec(&'a [String]),
    /// This text, by the shell; heredocs are part of it.
    Shell(String),
    /// The heredoc is all there is. One that begins with `#!` is run as a file of its own (named `/dev/pipes/NAME`);
    /// any other is what the shell runs. Its variables are the shell's, whether its delimiter is quoted or not.
    Script(&'a Heredoc),
}

impl Run {
    /// What is to be run.
    pub fn form(&self) -> RunForm<'_> {
        match &self.command {
            Command::Exec(words) => RunForm::Exec(words),
            Command::Shell(line) => match self.heredocs.first() {
                None => RunForm::Shell(line.clone()),
                Some(heredoc) if super::heredoc::is_only(line) => RunForm::Script(heredoc),
                Some(_) => RunForm::Shell(with_heredocs(line, &self.heredocs)),
            },
        }
    }
}

/// A line with its heredocs below, and no line break at its end.
pub(crate) fn with_heredocs(line: &str, heredocs: &[Heredoc]) -> String {
    let mut text = line.to_owned();
    for heredoc in heredocs {
        text.push('\n');
        text.push_str(&heredoc.content);
        text.push_str(&heredoc.name);
    }
    text
}

/// A text between `<<NAME` and a line that is `NAME`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heredoc {
    /// Its delimiter, without quotes; in `COPY` and `ADD` the name of the file.
    pub name: String,
    /// The number before `<<`.
    pub fd: Option<u32>,
    /// Whether variables in it are replaced: the delimiter has no quotes. Only in `COPY` and `ADD`; in `RUN` it is the
    /// shell that does it.
    pub expand: bool,
    /// `<<-`: tabs at the beginning of its lines are not part of it. They are gone from [`Self::content`].
    pub chomp: bool,
    /// The text, with the line break of its last line.
    pub content: String,
    /// Where the text stands, without the delimiters; column 1.
    pub place: Place,
}

impl Heredoc {
    /// Its first line, with dots when there are more.
    pub fn summary(&self) -> String {
        let mut lines = self.content.trim().lines();
        let first = lines.next().unwrap_or_default();
        if lines.next().is_some() { format!("{first}...") } else { first.to_owned() }
    }
}

/// `COPY`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copy {
    /// What is copied, in its order; at least one.
    pub sources: Vec<Source>,
    /// Where to.
    pub target: Text,
    /// `--from`: a stage, an image or a context; variables are not replaced.
    pub from: Option<Text>,
    /// `--chown`.
    pub chown: Option<Text>,
    /// `--chmod`.
    pub chmod: Option<Text>,
    /// `--link`.
    pub link: bool,
    /// `--parents`.
    pub parents: bool,
    /// `--exclude`; variables are not replaced.
    pub exclude: Vec<Text>,
}

/// `ADD`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Add {
    /// What is added, in its order; at least one.
    pub sources: Vec<Source>,
    /// Where to.
    pub target: Text,
    /// `--chown`.
    pub chown: Option<Text>,
    /// `--chmod`.
    pub chmod: Option<Text>,
    /// `--link`.
    pub link: bool,
    /// `--exclude`; variables are not replaced.
    pub exclude: Vec<Text>,
    /// `--checksum`.
    pub checksum: Option<Text>,
    /// `--keep-git-dir`.
    pub keep_git_dir: Option<bool>,
    /// `--unpack`; unsaid, local archives are unpacked and remote ones are not.
    pub unpack: Option<bool>,
}

/// What `COPY` and `ADD` take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A path, a pattern, or (`ADD`) a URL.
    File(Text),
    /// A file whose content stands in the Dockerfile.
    Heredoc(Heredoc),
}

/// `HEALTHCHECK`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Healthcheck {
    /// `NONE`.
    None,
    /// `CMD`. What is not said, or said as 0, is `None`.
    #[allow(missing_docs, reason = "the names are those of the flags")]
    Check {
        command: Command,
        interval: Option<Duration>,
        timeout: Option<Duration>,
        start_period: Option<Duration>,
        start_interval: Option<Duration>,
        retries: Option<u32>,
    },
}
