//! What is legal and better written otherwise: the rules of `docker build --check`.

use std::collections::HashMap;

use super::ast::{Check, Command, Dockerfile, Kind, Place, Stage};
use super::source::Piece;
use super::words::{split_command, split_quoted};

/// A rule, under the name it is skipped by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names are those of the reference")]
pub enum Rule {
    ConsistentInstructionCasing,
    CopyIgnoredFile,
    DuplicateStageName,
    ExposeInvalidFormat,
    ExposeProtoCasing,
    FromAsCasing,
    FromPlatformFlagConstDisallowed,
    InvalidDefaultArgInFrom,
    /// Experimental: only where it is asked for.
    InvalidDefinitionDescription,
    JSONArgsRecommended,
    LegacyKeyValueFormat,
    MaintainerDeprecated,
    MultipleInstructionsDisallowed,
    NoEmptyContinuation,
    RedundantTargetPlatform,
    ReservedStageName,
    SecretsUsedInArgOrEnv,
    StageNameCasing,
    UndefinedArgInFrom,
    UndefinedVar,
    WorkdirRelativePath,
}

impl Rule {
    /// Its name.
    pub fn name(self) -> String {
        format!("{self:?}")
    }

    /// What it asks for.
    pub fn description(self) -> &'static str {
        match self {
            Self::ConsistentInstructionCasing => {
                "All commands within the Dockerfile should use the same casing (either upper or lower)"
            }
            Self::CopyIgnoredFile => "Attempting to Copy file that is excluded by .dockerignore",
            Self::DuplicateStageName => "Stage names should be unique",
            Self::ExposeInvalidFormat => {
                "IP address and host-port mapping should not be used in EXPOSE instruction. This will become an error in \
                 a future release"
            }
            Self::ExposeProtoCasing => "Protocol in EXPOSE instruction should be lowercase",
            Self::FromAsCasing => "The 'as' keyword should match the case of the 'from' keyword",
            Self::FromPlatformFlagConstDisallowed => "FROM --platform flag should not use a constant value",
            Self::InvalidDefaultArgInFrom => {
                "Default value for global ARG results in an empty or invalid base image name"
            }
            Self::InvalidDefinitionDescription => {
                "Comment for build stage or argument should follow the format: `# <arg/stage name> <description>`. If \
                 this is not intended to be a description comment, add an empty line or comment between the instruction \
                 and the comment."
            }
            Self::JSONArgsRecommended => {
                "JSON arguments recommended for ENTRYPOINT/CMD to prevent unintended behavior related to OS signals"
            }
            Self::LegacyKeyValueFormat => "Legacy key/value format with whitespace separator should not be used",
            Self::MaintainerDeprecated => {
                "The MAINTAINER instruction is deprecated, use a label instead to define an image author"
            }
            Self::MultipleInstructionsDisallowed => {
                "Multiple instructions of the same type should not be used in the same stage"
            }
            Self::NoEmptyContinuation => "Empty continuation lines will become errors in a future release",
            Self::RedundantTargetPlatform => {
                "Setting platform to predefined $TARGETPLATFORM in FROM is redundant as this is the default behavior"
            }
            Self::ReservedStageName => "Reserved words should not be used as stage names",
            Self::SecretsUsedInArgOrEnv => "Sensitive data should not be used in the ARG or ENV commands",
            Self::StageNameCasing => "Stage names should be lowercase",
            Self::UndefinedArgInFrom => "FROM command must use declared ARGs",
            Self::UndefinedVar => "Variables should be defined before their use",
            Self::WorkdirRelativePath => {
                "Relative workdir without an absolute workdir declared within the build can have unexpected results if \
                 the base image changes"
            }
        }
    }

    /// Where it is explained.
    pub fn url(self) -> String {
        let mut dashed = String::new();
        let name = self.name();
        let name = name.strip_prefix("JSON").map_or(name.clone(), |rest| format!("Json{rest}"));
        for character in name.chars() {
            if character.is_uppercase() && !dashed.is_empty() {
                dashed.push('-');
            }
            dashed.extend(character.to_lowercase());
        }
        format!("https://docs.docker.com/go/dockerfile/rule/{dashed}/")
    }
}

/// A rule that a file does not keep.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// Which.
    pub rule: Rule,
    /// What is the matter.
    pub text: String,
    /// Where.
    pub place: Place,
}

impl Warning {
    /// As [`Error::render`](super::Error::render), with the rule's name before the text.
    pub fn render(&self, name: &str, source: &str) -> String {
        super::error::show(name, source, self.place, &format!("{}: {}", self.rule.name(), self.text))
    }
}

/// Collects warnings that nobody skips.
#[derive(Debug)]
pub(crate) struct Warnings<'a> {
    file: Option<&'a Check>,
    found: Vec<Warning>,
}

impl<'a> Warnings<'a> {
    pub fn new(file: &'a Dockerfile) -> Self {
        Self { file: file.directives.check.as_ref(), found: Vec::new() }
    }

    /// Adds one; `check` is what a comment above the instruction says.
    pub fn add(&mut self, rule: Rule, place: Place, check: Option<&Check>, text: String) {
        let name = rule.name();
        let skips = |check: &Check| match rule {
            Rule::InvalidDefinitionDescription => false,
            _ => check.skip_all || check.skip.contains(&name),
        };
        let asks = |check: &Check| check.experimental_all || check.experimental.contains(&name);
        let wanted =
            rule != Rule::InvalidDefinitionDescription || self.file.is_some_and(asks) || check.is_some_and(asks);
        if wanted && !self.file.is_some_and(skips) && !check.is_some_and(skips) {
            self.found.push(Warning { rule, text, place });
        }
    }

    pub fn finish(self) -> Vec<Warning> {
        self.found
    }
}

/// What the text alone shows. `blank_lines` are the ends of instructions with blank lines inside.
pub(crate) fn of_text(file: &Dockerfile, blank_lines: &[usize]) -> Vec<Warning> {
    let mut warnings = Warnings::new(file);
    for line in blank_lines {
        let place = Place { line: *line, end_line: *line, column: 1 };
        warnings.add(Rule::NoEmptyContinuation, place, None, "Empty continuation line".to_owned());
    }
    for stage in &file.stages {
        from_words(stage, &mut warnings);
    }
    descriptions(file, &mut warnings);
    names(file, &mut warnings);
    casing(file, &mut warnings);
    let mut shells: HashMap<&str, bool> = HashMap::new();
    for stage in &file.stages {
        let inherited = shells.get(stage.image.raw.as_str()).copied().unwrap_or(false);
        let shell = instructions(stage, file.directives.escape, inherited, &mut warnings);
        shells.extend(stage.name.as_deref().map(|name| (name, shell)));
    }
    warnings.finish()
}

/// The cases of `FROM`, `AS` and the name.
fn from_words(stage: &Stage, warnings: &mut Warnings<'_>) {
    let words: Vec<&str> = stage.original.split_whitespace().collect();
    if let [.., keyword, name] = words.as_slice()
        && stage.name.is_some()
    {
        let check = stage.check.as_ref();
        if *name != name.to_lowercase() {
            let text = format!("Stage name '{name}' should be lowercase");
            warnings.add(Rule::StageNameCasing, stage.place, check, text);
        }
        let from = &stage.keyword;
        let lower = *from == from.to_lowercase() && *keyword != keyword.to_lowercase();
        let upper = *from == from.to_uppercase() && *keyword != keyword.to_uppercase();
        if lower || upper {
            let text = format!("'{keyword}' and '{from}' keywords' casing do not match");
            warnings.add(Rule::FromAsCasing, stage.place, check, text);
        }
    }
    for instruction in stage.instructions.iter().filter(|one| matches!(one.kind, Kind::Maintainer(_))) {
        let text = "Maintainer instruction is deprecated in favor of using label".to_owned();
        warnings.add(Rule::MaintainerDeprecated, instruction.place, instruction.check.as_ref(), text);
    }
}

/// Comments above what has a name begin with it.
fn descriptions(file: &Dockerfile, warnings: &mut Warnings<'_>) {
    let mut look = |what: &str, names: &[&str], comment: &Option<String>, place, check: &Option<Check>| {
        let (Some(comment), Some(first)) = (comment, names.first()) else { return };
        if names.contains(&comment.split(' ').next().unwrap_or_default()) {
            return;
        }
        let name = if names.len() > 1 { "<arg_key>" } else { first };
        let text = format!("Comment for {what} should follow the format: `# {name} <description>`");
        warnings.add(Rule::InvalidDefinitionDescription, place, check.as_ref(), text);
    };
    let of_stages = file.stages.iter().flat_map(|stage| &stage.instructions);
    for instruction in file.meta_args.iter().chain(of_stages) {
        if let Kind::Arg(items) = &instruction.kind {
            let names: Vec<&str> = items.iter().map(|item| item.name.as_str()).collect();
            look("ARG", &names, &instruction.comment, instruction.place, &instruction.check);
        }
    }
    for stage in &file.stages {
        let names: Vec<&str> = stage.name.as_deref().into_iter().collect();
        look("FROM", &names, &stage.comment, stage.place, &stage.check);
    }
}

fn names(file: &Dockerfile, warnings: &mut Warnings<'_>) {
    let mut seen = std::collections::HashSet::new();
    for stage in &file.stages {
        let Some(name) = &stage.name else { continue };
        if name == "context" || name == "scratch" {
            let text = format!("Stage name should not use the same name as reserved stage {name:?}");
            warnings.add(Rule::ReservedStageName, stage.place, None, text);
        }
        if !seen.insert(name) {
            let text = format!("Duplicate stage name {name:?}, stage names should be unique");
            warnings.add(Rule::DuplicateStageName, stage.place, None, text);
        }
    }
}

/// Keywords in the case that most of them have.
fn casing(file: &Dockerfile, warnings: &mut Warnings<'_>) {
    let keywords = || {
        file.stages.iter().flat_map(|stage| {
            let rest = stage.instructions.iter().map(|one| (&one.keyword, one.place));
            std::iter::once((&stage.keyword, stage.place)).chain(rest)
        })
    };
    let lower = keywords().filter(|(keyword, _)| **keyword == keyword.to_lowercase()).count();
    let upper = keywords().filter(|(keyword, _)| **keyword == keyword.to_uppercase()).count();
    let (wanted, convert): (_, fn(&str) -> String) =
        if lower > upper { ("lowercase", str::to_lowercase) } else { ("uppercase", str::to_uppercase) };
    for (keyword, place) in keywords().filter(|(keyword, _)| **keyword != convert(keyword)) {
        let text = format!("Command '{keyword}' should match the case of the command majority ({wanted})");
        warnings.add(Rule::ConsistentInstructionCasing, place, None, text);
    }
}

/// What one instruction, or two of a kind, show; whether a `SHELL` holds at the end, as `shell` did at the beginning.
fn instructions(stage: &Stage, escape: char, mut shell: bool, warnings: &mut Warnings<'_>) -> bool {
    let mut last: [Option<Place>; 3] = [None; 3];
    for instruction in &stage.instructions {
        let check = instruction.check.as_ref();
        let place = instruction.place;
        let mut add = |rule, text| warnings.add(rule, place, check, text);
        let slot = match &instruction.kind {
            Kind::Cmd(_) => 0,
            Kind::Entrypoint(_) => 1,
            Kind::Healthcheck(_) => 2,
            _ => last.len(),
        };
        match &instruction.kind {
            Kind::Shell(_) => shell = true,
            Kind::Cmd(Command::Shell(_)) | Kind::Entrypoint(Command::Shell(_)) if !shell => {
                let name = &instruction.keyword;
                add(
                    Rule::JSONArgsRecommended,
                    format!(
                        "JSON arguments recommended for {name} to prevent unintended behavior related to OS signals"
                    ),
                );
            }
            Kind::Env(pairs) | Kind::Label(pairs) => {
                let name = &instruction.keyword;
                // The old form has one pair, and no `=` behind its name.
                if pairs.len() == 1 && legacy(&instruction.line, escape) {
                    let text =
                        format!(r#""{name} key=value" should be used instead of legacy "{name} key value" format"#);
                    add(Rule::LegacyKeyValueFormat, text);
                }
                if matches!(instruction.kind, Kind::Env(_)) {
                    let secret = pairs.iter().filter(|(name, _)| is_secret(&name.raw));
                    secret.for_each(|(name, _)| add(Rule::SecretsUsedInArgOrEnv, secret_text("ENV", &name.raw)));
                }
            }
            Kind::Arg(items) => {
                let secret = items.iter().filter(|item| is_secret(&item.name));
                secret.for_each(|item| add(Rule::SecretsUsedInArgOrEnv, secret_text("ARG", &item.name)));
            }
            _ => {}
        }
        if let Some(seen) = last.get_mut(slot)
            && let Some(before) = seen.replace(place)
        {
            let name = &instruction.keyword;
            let text = format!(
                "Multiple {name} instructions should not be used in the same stage because only the last one will be used"
            );
            warnings.add(Rule::MultipleInstructionsDisallowed, before, check, text);
        }
    }
    shell
}

fn legacy(line: &str, escape: char) -> bool {
    let (_, _, args) = split_command(Piece { text: line, at: 0 }, escape);
    split_quoted(args, escape).first().is_some_and(|word| !word.text.contains('='))
}

fn secret_text(instruction: &str, name: &str) -> String {
    format!("Do not use ARG or ENV instructions for sensitive data ({instruction} {name:?})")
}

/// Whether a name is that of a secret: one of its words, between `_`, at its beginning or end or in the middle.
fn is_secret(name: &str) -> bool {
    const SECRET: [&str; 10] =
        ["apikey", "auth", "credential", "credentials", "key", "password", "pword", "passwd", "secret", "token"];
    const HARMLESS: [&str; 3] = ["public", "file", "version"];
    let lower = name.to_lowercase();
    let has = |words: &[&str]| lower.split('_').any(|word| words.contains(&word));
    has(&SECRET) && !has(&HARMLESS)
}
