//! The rules of `docker build --check` that depend on values: variables that nobody set, what they come to, what the
//! context holds. The other ones are in `rules`.

use std::collections::HashMap;
use std::sync::LazyLock;

use regex::Regex;

use super::ast::{Dockerfile, Instruction, Kind, Source, Stage, Text};
use super::expand::Expander;
use super::expose;
use super::ignore::Patterns;
use super::rules::{Rule, Warning, Warnings};
use super::suggest::closest;

/// What a build knows besides its Dockerfile.
#[derive(Clone, Copy)]
pub struct CheckContext<'a> {
    /// The value of a build argument.
    pub build_arg: &'a dyn Fn(&str) -> Option<String>,
    /// What is set without being declared before the first `FROM`: `TARGETPLATFORM`, `BUILDARCH` and their like.
    pub predefined: &'a [(String, String)],
    /// The environment of the image a stage begins with, by the stage's index; `None` when it is not known, and then
    /// the stage's variables are not looked at.
    pub environment: &'a dyn Fn(usize) -> Option<Vec<(String, String)>>,
    /// The patterns of the context, where it has some.
    pub ignore: Option<&'a Patterns>,
}

impl std::fmt::Debug for CheckContext<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CheckContext").field("predefined", &self.predefined).finish_non_exhaustive()
    }
}

/// How many stages, instructions and variables a file may have to be looked at here: what is longer was not written by
/// a person, and every variable is compared with every other.
const MOST: usize = 5000;

/// All that is better written otherwise, in the order of the lines: [`Dockerfile::warnings`] and what values show.
pub fn check(file: &Dockerfile, context: &CheckContext<'_>) -> Vec<Warning> {
    if size(file) > MOST {
        return file.warnings.clone();
    }
    let mut warnings = Warnings::new(file);
    let globals = Globals::of(file, context);
    let defaults = Globals::of(file, &CheckContext { build_arg: &|_| None, ..*context });
    for stage in &file.stages {
        check_from(file, stage, &globals, &defaults, &mut warnings);
    }
    let mut done: HashMap<String, Scope> = HashMap::new();
    for (index, stage) in file.stages.iter().enumerate() {
        let base = globals.expand(file, &stage.image).map(|(text, _)| text).unwrap_or_default();
        let mut scope = done.get(&base).cloned().unwrap_or_else(|| Scope::begin(&base, index, context));
        for instruction in &stage.instructions {
            Checker { file, context, globals: &globals, instruction, warnings: &mut warnings }.run(&mut scope);
        }
        if let Some(name) = &stage.name {
            done.insert(name.clone(), scope);
        }
    }
    let mut all = file.warnings.clone();
    for warning in warnings.finish() {
        if !all.contains(&warning) {
            all.push(warning);
        }
    }
    all.sort_by_key(|warning| warning.place.line);
    all
}

/// Stages, instructions and variables.
fn size(file: &Dockerfile) -> usize {
    let of = |instruction: &Instruction| {
        let declared = match &instruction.kind {
            Kind::Env(pairs) => pairs.len(),
            Kind::Arg(items) => items.len(),
            _ => 0,
        };
        1 + declared + instruction.original.matches('$').count()
    };
    let stages = file.stages.iter().map(|stage| 1 + stage.instructions.iter().map(of).sum::<usize>());
    stages.chain(file.meta_args.iter().map(of)).sum()
}

/// The arguments before the first `FROM`.
#[derive(Debug)]
struct Globals {
    set: Vec<(String, String)>,
    /// Also those without a value.
    declared: Vec<String>,
}

impl Globals {
    fn of(file: &Dockerfile, context: &CheckContext<'_>) -> Self {
        let mut globals = Self { set: Vec::new(), declared: Vec::new() };
        for (name, value) in context.predefined {
            let value = (context.build_arg)(name).unwrap_or_else(|| value.clone());
            globals.set.push((name.clone(), value));
        }
        let items = file.meta_args.iter().filter_map(|instruction| match &instruction.kind {
            Kind::Arg(items) => Some(items),
            _ => None,
        });
        for item in items.flatten() {
            let default = item.default.as_ref().and_then(|text| globals.expand(file, text)).map(|(text, _)| text);
            if let Some(value) = (context.build_arg)(&item.name).or(default) {
                set(&mut globals.set, &item.name, value);
            }
            globals.declared.push(item.name.clone());
        }
        globals
    }

    fn get(&self, name: &str) -> Option<&str> {
        get(&self.set, name)
    }

    /// A text with these arguments, and the names that are not set.
    fn expand(&self, file: &Dockerfile, text: &Text) -> Option<(String, Looked)> {
        let lookup = |name: &str| self.get(name).map(str::to_owned);
        let expanded = Expander::new(file.directives.escape, &lookup).word(&text.raw).ok()?;
        Some((expanded.text, Looked { used: expanded.used, unset: expanded.unset }))
    }
}

/// Names that were looked up.
struct Looked {
    used: Vec<String>,
    unset: Vec<String>,
}

fn get<'a>(list: &'a [(String, String)], name: &str) -> Option<&'a str> {
    list.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
}

fn set(list: &mut Vec<(String, String)>, name: &str, value: String) {
    match list.iter_mut().find(|(known, _)| known == name) {
        Some((_, old)) => *old = value,
        None => list.push((name.to_owned(), value)),
    }
}

fn check_from(file: &Dockerfile, stage: &Stage, globals: &Globals, defaults: &Globals, warnings: &mut Warnings<'_>) {
    let mut add = |rule, text| warnings.add(rule, stage.place, stage.check.as_ref(), text);
    if let Some((image, _)) = defaults.expand(file, &stage.image)
        && !is_reference(&image)
    {
        let text = format!("Default value for ARG {} results in empty or invalid base image name", stage.image.raw);
        add(Rule::InvalidDefaultArgInFrom, text);
    }
    let mut undefined = |names: &[String]| {
        for name in names.iter().filter(|name| !globals.declared.contains(name)) {
            let known = globals.declared.iter().chain(globals.set.iter().map(|(name, _)| name));
            let hint = closest(name, known.map(String::as_str)).map(|word| format!(" (did you mean {word}?)"));
            let text = format!("FROM argument '{name}' is not declared{}", hint.unwrap_or_default());
            add(Rule::UndefinedArgInFrom, text);
        }
    };
    if let Some((_, looked)) = globals.expand(file, &stage.image) {
        undefined(&looked.unset);
    }
    let Some(platform) = &stage.platform else { return };
    let Some((value, looked)) = globals.expand(file, platform) else { return };
    undefined(&looked.unset);
    if looked.unset.is_empty() && looked.used == ["TARGETPLATFORM"] && globals.get("TARGETPLATFORM") == Some(&value) {
        let raw = &platform.raw;
        let text = format!("Setting platform to predefined {raw} in FROM is redundant as this is the default behavior");
        add(Rule::RedundantTargetPlatform, text);
    }
    let name = stage.name.as_deref().unwrap_or_default();
    if looked.unset.is_empty()
        && looked.used.is_empty()
        && let Some((system, architecture)) = platform_of(&value)
        && !name.contains(&system)
        && !name.contains(&architecture)
    {
        let text = format!("FROM --platform flag should not use constant value {value:?}");
        add(Rule::FromPlatformFlagConstDisallowed, text);
    }
}

/// What is set at a point of a stage.
#[derive(Debug, Clone)]
struct Scope {
    /// Whether all of it is known.
    known: bool,
    env: Vec<(String, String)>,
    /// Arguments that were declared, with or without a value.
    args: Vec<String>,
    workdir: bool,
}

impl Scope {
    fn begin(base: &str, index: usize, context: &CheckContext<'_>) -> Self {
        let env = if base == "scratch" { Some(Vec::new()) } else { (context.environment)(index) };
        let known = env.is_some();
        let mut env = env.unwrap_or_default();
        if get(&env, "PATH").is_none() {
            env.push(("PATH".to_owned(), "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned()));
        }
        Self { known, env, args: Vec::new(), workdir: false }
    }
}

struct Checker<'a, 'b> {
    file: &'a Dockerfile,
    context: &'a CheckContext<'a>,
    globals: &'a Globals,
    instruction: &'a Instruction,
    warnings: &'a mut Warnings<'b>,
}

impl Checker<'_, '_> {
    fn add(&mut self, rule: Rule, text: String) {
        self.warnings.add(rule, self.instruction.place, self.instruction.check.as_ref(), text);
    }

    /// A text with what is set; names that are not are told.
    fn expand(&mut self, scope: &Scope, text: &str) -> Option<String> {
        self.expand_as(scope, text, false)
    }

    fn expand_as(&mut self, scope: &Scope, text: &str, heredoc: bool) -> Option<String> {
        let lookup = |name: &str| get(&scope.env, name).map(str::to_owned);
        let escape = if heredoc { '\\' } else { self.file.directives.escape };
        let expander = Expander { skip_quotes: heredoc, ..Expander::new(escape, &lookup) };
        let expanded = expander.word(text).ok()?;
        self.undefined(scope, &expanded.unset);
        Some(expanded.text)
    }

    fn undefined(&mut self, scope: &Scope, names: &[String]) {
        if !scope.known {
            return;
        }
        for name in names.iter().filter(|name| !scope.args.contains(name)) {
            let known = scope.env.iter().map(|(name, _)| name.as_str());
            let hint = closest(name, known).map(|word| format!(" (did you mean ${word}?)"));
            self.add(Rule::UndefinedVar, format!("Usage of undefined variable '${name}'{}", hint.unwrap_or_default()));
        }
    }

    fn run(&mut self, scope: &mut Scope) {
        let instruction = self.instruction;
        match &instruction.kind {
            Kind::Env(pairs) => {
                let expanded: Vec<_> = pairs
                    .iter()
                    .filter_map(|(name, value)| Some((self.expand(scope, &name.raw)?, self.expand(scope, &value.raw)?)))
                    .collect();
                expanded.into_iter().for_each(|(name, value)| set(&mut scope.env, &name, value));
            }
            Kind::Label(pairs) => pairs.iter().for_each(|(name, value)| {
                self.expand(scope, &name.raw);
                self.expand(scope, &value.raw);
            }),
            Kind::Arg(_) => self.arg(scope),
            Kind::User(text) | Kind::StopSignal(text) => drop(self.expand(scope, &text.raw)),
            Kind::Volume(texts) => texts.iter().for_each(|text| drop(self.expand(scope, &text.raw))),
            Kind::Workdir(text) => {
                if let Some(path) = self.expand(scope, &text.raw) {
                    if !scope.workdir && !path.starts_with('/') {
                        let text =
                            format!("Relative workdir {path:?} can have unexpected results if the base image changes");
                        self.add(Rule::WorkdirRelativePath, text);
                    }
                    scope.workdir = true;
                }
            }
            Kind::Expose(words) => self.expose(scope, words),
            Kind::Copy(copy) => {
                let flags = [&copy.chown, &copy.chmod];
                let patterns = if copy.from.is_none() { self.context.ignore } else { None };
                self.files(scope, &flags, &copy.sources, &copy.target, ("Copy", patterns));
            }
            Kind::Add(add) => {
                let flags = [&add.chown, &add.chmod, &add.checksum];
                self.files(scope, &flags, &add.sources, &add.target, ("Add", self.context.ignore));
            }
            Kind::Run(run) => {
                for mount in &run.mounts {
                    let mut unset = Vec::new();
                    let lookup = |name: &str| get(&scope.env, name).map(str::to_owned);
                    let expander = Expander::new(self.file.directives.escape, &lookup);
                    let _ = mount.resolve(&mut |text| {
                        let expanded = expander.word(&text.raw)?;
                        unset.extend(expanded.unset);
                        Ok(expanded.text)
                    });
                    self.undefined(scope, &unset);
                }
            }
            _ => {}
        }
    }

    fn arg(&mut self, scope: &mut Scope) {
        let instruction = self.instruction;
        let Kind::Arg(items) = &instruction.kind else { return };
        for item in items {
            let value = match ((self.context.build_arg)(&item.name), &item.default) {
                (Some(value), _) => Some(value),
                (None, Some(text)) => self.expand(scope, &text.raw),
                (None, None) => self.globals.get(&item.name).map(str::to_owned),
            };
            if let Some(value) = value {
                set(&mut scope.env, &item.name, value);
            }
            scope.args.push(item.name.clone());
        }
    }

    fn expose(&mut self, scope: &Scope, words: &[Text]) {
        let lookup = |name: &str| get(&scope.env, name).map(str::to_owned);
        let expander = Expander::new(self.file.directives.escape, &lookup);
        let words = words.iter().filter_map(|text| expander.words(&text.raw).ok()).flat_map(|(words, _)| words);
        for word in words.collect::<Vec<_>>() {
            let Ok(ports) = expose::ports(&word) else { continue };
            if ports.upper_case {
                let text = format!("Defined protocol '{word}' in EXPOSE instruction should be lowercase");
                self.add(Rule::ExposeProtoCasing, text);
            }
            if ports.mapping {
                let text =
                    format!("EXPOSE instruction should not define an IP address or host-port mapping, found '{word}'");
                self.add(Rule::ExposeInvalidFormat, text);
            }
        }
    }

    fn files(
        &mut self,
        scope: &Scope,
        flags: &[&Option<Text>],
        sources: &[Source],
        target: &Text,
        (verb, patterns): (&str, Option<&Patterns>),
    ) {
        for flag in flags.iter().filter_map(|flag| flag.as_ref()) {
            self.expand(scope, &flag.raw);
        }
        for source in sources {
            match source {
                Source::Heredoc(heredoc) if heredoc.expand => drop(self.expand_as(scope, &heredoc.content, true)),
                Source::Heredoc(_) => {}
                Source::File(text) => {
                    let Some(path) = self.expand(scope, &text.raw) else { continue };
                    if patterns.is_some_and(|patterns| leaves_out(patterns, &path)) && !is_remote(&path) {
                        let path = super::ignore::clean(&path);
                        let path = if path.is_empty() { "." } else { &path };
                        let text = format!("Attempting to {verb} file {path:?} that is excluded by .dockerignore");
                        self.add(Rule::CopyIgnoredFile, text);
                    }
                }
            }
        }
        self.expand(scope, &target.raw);
    }
}

/// Whether the context has no such file for sure. With exceptions that is not told: something below may be there.
fn leaves_out(patterns: &Patterns, path: &str) -> bool {
    if patterns.has_exceptions() {
        return false;
    }
    match super::ignore::clean(path).as_str() {
        "" => patterns.leave_out_all(),
        path => patterns.matches(path),
    }
}

fn is_remote(path: &str) -> bool {
    ["http://", "https://", "git@", "git://", "ssh://"].iter().any(|scheme| path.starts_with(scheme))
}

/// System and architecture of `linux/arm64/v8`, `amd64` or `linux`.
fn platform_of(text: &str) -> Option<(String, String)> {
    const SYSTEMS: [&str; 9] =
        ["linux", "windows", "darwin", "freebsd", "netbsd", "openbsd", "wasip1", "solaris", "plan9"];
    let lower = text.to_lowercase();
    let good = |part: &str| !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c));
    let parts: Vec<&str> = lower.split('/').collect();
    if !parts.iter().all(|part| good(part)) {
        return None;
    }
    let architecture = |name: &str| match name {
        "x86_64" | "x86-64" => "amd64".to_owned(),
        "aarch64" => "arm64".to_owned(),
        "i386" => "386".to_owned(),
        "armhf" | "armel" => "arm".to_owned(),
        other => other.to_owned(),
    };
    match parts.as_slice() {
        [one] if SYSTEMS.contains(one) => Some(((*one).to_owned(), architecture(std::env::consts::ARCH))),
        [one] => Some(("linux".to_owned(), architecture(one))),
        [system, one] | [system, one, _] => Some(((*system).to_owned(), architecture(one))),
        _ => None,
    }
}

/// Whether a text can be the name of an image.
fn is_reference(text: &str) -> bool {
    static REFERENCE: LazyLock<Option<Regex>> = LazyLock::new(|| {
        let part = "[a-z0-9]+(?:(?:\\.|_|__|-+)[a-z0-9]+)*";
        let host = "(?:[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?(?:\\.[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?)*|\\[[a-fA-F0-9:]+\\])(?::[0-9]+)?";
        let tag = "(?::[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?";
        let digest = "(?:@[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,})?";
        Regex::new(&format!("^(?:{host}/)?{part}(?:/{part})*{tag}{digest}$")).ok()
    });
    let id = text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
    !id && REFERENCE.as_ref().is_none_or(|regex| regex.is_match(text))
}
