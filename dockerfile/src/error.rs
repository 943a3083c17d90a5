//! What is wrong with a Dockerfile, and where.

use super::ast::Place;
use super::expand::ExpandError;

/// A file that cannot be read. [`Self::render`] shows it with its line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("dockerfile parse error on line {}", place.line)]
pub struct ParseError {
    /// Where.
    pub place: Place,
    /// What.
    #[source]
    pub fault: Fault,
}

impl ParseError {
    pub(crate) fn new(place: Place, fault: Fault) -> Self {
        Self { place, fault }
    }

    /// `NAME:5:8: MESSAGE`, then the line and a mark under its column.
    ///
    /// `source` is the text that was parsed, `name` what the user knows it by.
    pub fn render(&self, name: &str, source: &str) -> String {
        show(name, source, self.place, &self.fault.to_string())
    }
}

/// A message with its place, the line, and a mark under its column.
pub(crate) fn show(name: &str, source: &str, place: Place, message: &str) -> String {
    if place.line == 0 {
        return format!("{name}: {message}");
    }
    let head = format!("{name}:{}:{}: {message}", place.line, place.column);
    let source = source.strip_prefix('\u{feff}').unwrap_or(source);
    let Some(line) = source.split('\n').nth(place.line - 1) else {
        return head;
    };
    let (line, column) = window(line.trim_end_matches('\r'), place.column);
    // A tab stays one, so that the mark stands where the terminal shows the character.
    let before = line.chars().take(column.saturating_sub(1));
    let blank: String = before.map(|character| if character == '\t' { '\t' } else { ' ' }).collect();
    let line: String = line.chars().map(|c| if c.is_control() && c != '\t' { '\u{fffd}' } else { c }).collect();
    let number = place.line.to_string();
    let margin = " ".repeat(number.len());
    format!("{head}\n{margin} |\n{number} | {line}\n{margin} | {blank}^")
}

/// The part of a long line around a column, and the column in it.
fn window(line: &str, column: usize) -> (String, usize) {
    const BEFORE: usize = 80;
    const WIDTH: usize = 160;
    let skipped = if line.chars().take(WIDTH + 1).count() > WIDTH { column.saturating_sub(BEFORE) } else { 0 };
    (line.chars().skip(skipped).take(WIDTH).collect(), column - skipped.min(column))
}

/// What can be wrong. The words are those Docker's users know.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum Fault {
    #[error("file with no instructions")]
    Empty,
    #[error("dockerfile contains no stages to build")]
    NoStages,
    #[error("no build stage in current context: the first instruction has to be FROM (or ARG)")]
    BeforeFrom,
    #[error("unknown instruction: {name}{}", meant(suggestion))]
    UnknownInstruction { name: String, suggestion: Option<String> },
    #[error("unterminated heredoc: no line is {name:?}")]
    UnterminatedHeredoc { name: String },
    #[error("a NUL character")]
    Nul,

    #[error("only one {name} parser directive can be used")]
    RepeatedDirective { name: String },
    #[error("invalid escape token '{value}' does not match ` or \\")]
    InvalidEscape { value: String },
    #[error("invalid check option {option:?}")]
    InvalidCheck { option: String },

    #[error("unknown flag: --{name}{}", meant(suggestion))]
    UnknownFlag { name: String, suggestion: Option<String> },
    #[error("duplicate flag specified: --{name}")]
    RepeatedFlag { name: String },
    #[error("missing a value on flag: --{name}")]
    FlagWithoutValue { name: String },
    #[error("expecting boolean value for flag --{name}, not: {value}")]
    FlagNotBoolean { name: String, value: String },

    #[error("{instruction} requires at least one argument")]
    AtLeastOneArgument { instruction: &'static str },
    #[error("{instruction} requires exactly one argument")]
    ExactlyOneArgument { instruction: &'static str },
    #[error(
        "{instruction} requires at least two arguments, but only one was provided. Destination could not be determined"
    )]
    NoDestination { instruction: &'static str },
    #[error("{instruction} must have two arguments")]
    TwoArguments { instruction: &'static str },
    #[error("{instruction} names can not be blank")]
    BlankName { instruction: &'static str },
    #[error("Syntax error - can't find = in {word:?}. Must be of the form: name=value")]
    NoEquals { word: String },
    #[error("{instruction} cannot accept a heredoc as a destination")]
    HeredocDestination { instruction: &'static str },
    #[error("when using JSON array syntax, arrays must be comprised of strings only")]
    NotStrings,
    #[error("{instruction} requires the arguments to be in JSON form")]
    NotJson { instruction: &'static str },

    #[error("FROM requires either one or three arguments")]
    FromArguments,
    #[error("invalid name for build stage: {name:?}, name can't start with a number or contain symbols")]
    StageName { name: String },
    #[error("base name ({name}) should not be blank")]
    BlankBase { name: String },
    #[error("invalid stage index {index}")]
    StageIndex { index: String },
    #[error("circular dependency detected on stage: {stage}")]
    Circular { stage: String },
    #[error("cannot copy from stage {from:?}, it needs to be defined before current stage {stage:?}")]
    LaterStage { from: String, stage: String },
    #[error("cannot mount from stage {from:?} to {target:?}, stage needs to be defined before current command")]
    LaterMount { from: String, target: String },
    #[error(
        "variable expansion is not supported for --from, define a new stage with FROM using ARG from global scope as a workaround"
    )]
    VariableInFrom,

    #[error("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed")]
    OnBuildChain,
    #[error("{instruction} isn't allowed as an ONBUILD trigger")]
    OnBuildTrigger { instruction: String },
    #[error("onbuild trigger should be a single expression")]
    OnBuildSeveral,

    #[error("HEALTHCHECK NONE takes no arguments")]
    HealthcheckNone,
    #[error("Missing command after HEALTHCHECK CMD")]
    HealthcheckCommand,
    #[error("Unknown type {name:?} in HEALTHCHECK (try CMD)")]
    HealthcheckType { name: String },
    #[error("invalid duration {value:?}: it is a number with a unit, like 30s or 1m30s")]
    Duration { value: String },
    #[error("Interval {name:?} cannot be less than 1ms")]
    ShortInterval { name: String },
    #[error("invalid number of retries: {value:?}")]
    Retries { value: String },
    #[error("--retries cannot be negative ({value})")]
    NegativeRetries { value: String },
    #[error("VOLUME specified can not be an empty string")]
    BlankVolume,

    #[error("failed to parse csv fields of {value:?}: a quote inside a field, or without its partner")]
    Csv { value: String },
    #[error("unsupported mount type {value:?}{}", meant(suggestion))]
    MountType { value: String, suggestion: Option<String> },
    #[error("unexpected key '{key}' in '{field}'{}", meant(suggestion))]
    UnexpectedKey { key: String, field: String, suggestion: Option<String> },
    #[error("unexpected key '{key}' for mount type '{kind}'")]
    KeyOfOtherMount { key: String, kind: &'static str },
    #[error("invalid field '{field}' must be a key=value pair")]
    NotKeyValue { field: String },
    #[error("'{key}' doesn't support variable expansion, define alias stage instead")]
    VariableInMountFrom { key: String },
    #[error("invalid value for {key}: {value}")]
    MountValue { key: String, value: String },
    #[error("unsupported sharing value {value:?}{}", meant(suggestion))]
    Sharing { value: String, suggestion: Option<String> },
    #[error("{key} not allowed for {kind:?} type mounts")]
    OwnerOfMount { key: &'static str, kind: &'static str },
    #[error("secret mount should not have a from")]
    SecretFrom,
    #[error("secret mount should not define sharing")]
    SecretSharing,
    #[error("invalid secret mount. one of source, target required")]
    SecretWithoutName,
    #[error("both source and id can't be set")]
    SecretTwoNames,
    #[error("invalid cache sharing set for {kind} mount")]
    SharingOfMount { kind: &'static str },
    #[error("device name already set to {name}")]
    DeviceName { name: String },
    #[error("invalid network mode {value:?}")]
    Network { value: String },
    #[error("security {value:?} is not valid")]
    Security { value: String },

    #[error(transparent)]
    Expand(#[from] ExpandError),
}

fn meant(suggestion: &Option<String>) -> String {
    suggestion.as_ref().map(|word| format!(" (did you mean {word}?)")).unwrap_or_default()
}
