//! What is better written otherwise in a Dockerfile, and what it offers:
//! `--check`, `--call`, and the warnings at the end of a build.

use std::fmt::Write as _;

use anyhow::{Result, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use indexmap::IndexMap;
use serde_json::{Map, Value, json};
use umiak_dockerfile::{CheckContext, Dockerfile, Kind, MountKind, Place, Warning};

use super::failed::excerpt;
use super::options::Options;
use super::plan::{Base, Plan, Wanted, lookup, predefined, sources};
use super::{Loaded, context, host_platform, remote};
use crate::engine::Engine;
use crate::personality::Personality;
use crate::ui::build::{Display, Mode};

/// What is asked of a Dockerfile instead of a build.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    /// What is better written otherwise.
    Check,
    /// What can be given to a build: arguments, secrets, SSH agents.
    Outline,
    /// What can be built.
    Targets,
}

/// The answer, and whether it is a good one.
pub struct Answer {
    /// What is printed.
    pub text: String,
    /// There is nothing to mend.
    pub good: bool,
}

/// `JSONArgsRecommended: … (line 3)`
pub fn short(warning: &Warning) -> String {
    format!("{}: {} (line {})", warning.rule.name(), warning.text, warning.place.line)
}

/// Asks a Dockerfile something; `json` is the form of the answer.
pub fn call(engine: &Engine, options: &Options, call: Call, json: bool) -> Result<Answer> {
    let display = Display::new(Mode::Quiet);
    let building = engine.store()?.building()?;
    let local = remote::context(options, &building, &display)?;
    let options = &local.options;
    let loaded = context::dockerfile(options, &display)?;
    let file = umiak_dockerfile::parse(&loaded.text).map_err(|error| {
        display.afterwards(&error.render(&loaded.name, &loaded.text));
        crate::failure::Coded { text: format!("{error}: {}", error.fault), code: 1 }
    })?;
    let answer = match call {
        Call::Check => checked(options, &loaded, &file, &warnings(engine, options, &loaded, &file, true)?, json),
        Call::Outline => outline(options, &loaded, &file, json)?,
        Call::Targets => targets(options, &loaded, &file, json)?,
    };
    Ok(answer)
}

/// Where the file wants what is better written otherwise to be an error: whether it is one.
pub fn forbid(engine: &Engine, options: &Options, loaded: &Loaded, file: &Dockerfile, display: &Display) -> Result<()> {
    if !is_strict(file) {
        return Ok(());
    }
    let found = warnings(engine, options, loaded, file, true)?;
    if found.is_empty() {
        return Ok(());
    }
    tell(&found, display);
    let text = format!("failed to solve: {}", violation(&found));
    Err(crate::failure::Coded { text, code: 1 }.into())
}

/// Tells what is better written otherwise once the build is over.
pub fn warn(engine: &Engine, options: &Options, loaded: &Loaded, file: &Dockerfile, display: &Display) -> Result<()> {
    let found = warnings(engine, options, loaded, file, false)?;
    if !found.is_empty() {
        tell(&found, display);
    }
    Ok(())
}

fn is_strict(file: &Dockerfile) -> bool {
    file.directives.check.as_ref().is_some_and(|check| check.error)
}

fn tell(found: &[Warning], display: &Display) {
    let (yellow, reset) = if display.colour() { ("\u{1b}[33m", "\u{1b}[0m") } else { ("", "") };
    let (count, plural) = (found.len(), if found.len() == 1 { "" } else { "s" });
    let more = match Personality::current() {
        Personality::Own => "(--check shows them with their lines)",
        _ => "(use docker --debug to expand)",
    };
    let mut text = format!("\n {yellow}{count} warning{plural} found {more}:{reset}\n");
    for warning in found {
        let _ = writeln!(text, " - {}", short(warning));
    }
    display.remark(&text);
}

fn violation(found: &[Warning]) -> String {
    let mut names: Vec<String> = Vec::new();
    for name in found.iter().map(|warning| warning.rule.name()) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    format!("lint violation found for rules: {}", names.join(", "))
}

/// All warnings. Of base images that are not here the environment is not known, unless registries are asked.
fn warnings(engine: &Engine, options: &Options, loaded: &Loaded, file: &Dockerfile, ask: bool) -> Result<Vec<Warning>> {
    let host = host_platform();
    let platform = options.platforms.first().unwrap_or(&host);
    let contexts = |name: &str| options.contexts.contains_key(name);
    let target = options.target.as_deref();
    let wanted = Wanted { args: &options.args, target, platform, host: &host, contexts: &contexts };
    let predefined: Vec<(String, String)> =
        predefined(file, &wanted, file.stages.len().saturating_sub(1)).into_iter().collect();
    // A file that cannot be planned fails when it is built.
    let plan = Plan::new(file, wanted).ok();
    let store = engine.store()?;
    let environment = |index: usize| {
        let base = plan.as_ref()?.stages.get(index).map(|stage| stage.base.clone())?;
        match base {
            Base::Scratch => Some(Vec::new()),
            Base::Image(name) => {
                let config = match store.resolve(&name) {
                    Ok(image) => image.config,
                    Err(_) if ask => engine.remote_config(&name, platform).ok()?,
                    Err(_) => return None,
                };
                let env = config.config.env;
                Some(env.iter().filter_map(|entry| entry.split_once('=')).map(own).collect())
            }
            _ => None,
        }
    };
    let ignore = context::patterns(options, loaded);
    let context = CheckContext {
        build_arg: &|name| options.args.get(name).cloned(),
        predefined: &predefined,
        environment: &environment,
        ignore: ignore.as_ref(),
    };
    Ok(umiak_dockerfile::check(file, &context))
}

fn own((name, value): (&str, &str)) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

/// The name that a check shows: the file's path where it has one.
fn shown_name(options: &Options, loaded: &Loaded) -> String {
    match (&options.dockerfile, &options.context) {
        (super::options::File::At(path), _) => path.display().to_string(),
        (super::options::File::InContext(_), super::options::Source::Directory(dir)) => {
            dir.join(&loaded.name).display().to_string()
        }
        _ => loaded.name.clone(),
    }
}

fn checked(options: &Options, loaded: &Loaded, file: &Dockerfile, found: &[Warning], json: bool) -> Answer {
    let good = found.is_empty();
    if json {
        let warning = |warning: &Warning| {
            json!({
                "ruleName": warning.rule.name(),
                "description": warning.rule.description(),
                "url": warning.rule.url(),
                "detail": warning.text,
                "location": location(warning.place),
            })
        };
        let mut all = Map::new();
        let warnings: Vec<Value> = found.iter().map(warning).collect();
        all.insert("warnings".to_owned(), if good { Value::Null } else { warnings.into() });
        let source =
            json!({ "filename": loaded.name, "data": STANDARD.encode(&loaded.text), "language": "Dockerfile" });
        all.insert("sources".to_owned(), json!([source]));
        if !good && is_strict(file) {
            all.insert("buildError".to_owned(), json!({ "message": violation(found), "location": {} }));
        }
        return Answer { text: pretty(&all.into()), good };
    }
    let mut text = match found.len() {
        0 => "Check complete, no warnings found.\n".to_owned(),
        1 => "Check complete, 1 warning has been found!\n".to_owned(),
        count => format!("Check complete, {count} warnings have been found!\n"),
    };
    let name = shown_name(options, loaded);
    for warning in found {
        let lines = excerpt(&name, &loaded.text, warning.place);
        let _ =
            write!(text, "\nWARNING: {} - {}\n{}\n{lines}\n", warning.rule.name(), warning.rule.url(), warning.text);
    }
    Answer { text, good }
}

fn location(place: Place) -> Value {
    let end = place.end_line.max(place.line);
    json!({ "ranges": [{ "start": { "line": place.line }, "end": { "line": end } }] })
}

/// As Go prints it.
fn pretty(value: &Value) -> String {
    let text = serde_json::to_string_pretty(value).unwrap_or_default();
    text.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026") + "\n"
}

/// What the last comment above a line says of a name: `# NAME and this`.
fn described(text: &str, line: usize, name: &str) -> Option<String> {
    let lines: Vec<&str> = text.lines().collect();
    let above = lines.get(..line.checked_sub(1)?)?;
    let comments = above.iter().rev().map(|line| line.trim_start()).take_while(|line| line.starts_with('#'));
    let told = comments.filter_map(|line| line.trim_start_matches('#').trim().strip_prefix(name)?.strip_prefix(' '));
    told.map(|text| text.trim().to_owned()).next()
}

fn targets(options: &Options, loaded: &Loaded, file: &Dockerfile, json: bool) -> Result<Answer> {
    let plan = planned(options, file)?;
    let mut all = Vec::new();
    let mut rows = vec![vec!["TARGET".to_owned(), "DESCRIPTION".to_owned()]];
    for (index, (stage, planned)) in file.stages.iter().zip(&plan.stages).enumerate() {
        let name = stage.name.clone().unwrap_or_default();
        let default = index + 1 == file.stages.len();
        // A stage nobody can name is no target, unless it is what is built.
        if name.is_empty() && !default {
            continue;
        }
        let description = described(&loaded.text, stage.place.line, &name).filter(|_| !name.is_empty());
        let mut target = Map::new();
        if !name.is_empty() {
            target.insert("name".to_owned(), name.as_str().into());
        }
        if default {
            target.insert("default".to_owned(), true.into());
        }
        if let Some(description) = &description {
            target.insert("description".to_owned(), description.as_str().into());
        }
        let base = match &planned.base {
            Base::Scratch => "scratch".to_owned(),
            Base::Stage(base) => {
                file.stages.get(*base).and_then(|stage| stage.name.clone()).unwrap_or_else(|| base.to_string())
            }
            Base::Image(name) | Base::Context(name) => name.clone(),
        };
        target.insert("base".to_owned(), base.into());
        target.insert("location".to_owned(), location(stage.place));
        all.push(Value::from(target));
        let mark = if default { "(default)" } else { "" };
        let title = [name.as_str(), mark].into_iter().filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ");
        rows.push(vec![title, description.unwrap_or_default()]);
    }
    let text = match json {
        true => pretty(&json!({ "targets": all, "sources": [STANDARD.encode(&loaded.text)] })),
        false => table(&rows, 1),
    };
    Ok(Answer { text, good: true })
}

fn planned(options: &Options, file: &Dockerfile) -> Result<Plan> {
    let host = host_platform();
    let platform = options.platforms.first().unwrap_or(&host);
    let contexts = |name: &str| options.contexts.contains_key(name);
    let target = options.target.as_deref();
    Plan::new(file, Wanted { args: &options.args, target, platform, host: &host, contexts: &contexts })
}

/// Columns with blanks between; the last one ends where its text ends, all others are filled.
fn table(rows: &[Vec<String>], blanks: usize) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|c| c.chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0) + blanks).collect();
    let mut text = String::new();
    for row in rows {
        for (column, cell) in row.iter().enumerate() {
            let width = widths.get(column).copied().filter(|_| column + 1 < row.len()).unwrap_or(0);
            let _ = write!(text, "{cell:width$}");
        }
        text.push('\n');
    }
    text
}

/// An argument, a secret or an agent of an outline.
#[derive(Debug, Clone)]
struct Offer {
    name: String,
    description: String,
    value: String,
    required: bool,
    place: Place,
}

impl Offer {
    fn json(&self) -> Value {
        let mut all = Map::new();
        all.insert("name".to_owned(), self.name.as_str().into());
        for (key, text) in [("description", &self.description), ("value", &self.value)] {
            if !text.is_empty() {
                all.insert(key.to_owned(), text.as_str().into());
            }
        }
        if self.required {
            all.insert("required".to_owned(), true.into());
        }
        all.insert("location".to_owned(), location(self.place));
        all.into()
    }
}

/// What the stages of a target take from outside.
struct Outline<'o> {
    options: &'o Options,
    loaded: &'o Loaded,
    file: &'o Dockerfile,
    plan: &'o Plan,
    seen: Vec<usize>,
    /// Variables before the first FROM that stages take in, or FROM uses.
    globals: Vec<String>,
    args: Vec<Offer>,
    secrets: Vec<Offer>,
    agents: Vec<Offer>,
}

impl Outline<'_> {
    /// Adds a stage, after those it needs; its variables at its end.
    fn stage(&mut self, index: usize) -> Result<IndexMap<String, String>> {
        let (file, plan) = (self.file, self.plan);
        let (Some(stage), Some(planned)) = (file.stages.get(index), plan.stages.get(index)) else {
            bail!("there is no stage {index}");
        };
        let mut scope = match &planned.base {
            Base::Stage(base) => self.stage(*base)?,
            _ => IndexMap::new(),
        };
        if self.seen.contains(&index) {
            return Ok(scope);
        }
        self.seen.push(index);
        let image = umiak_dockerfile::expand(&stage.image.raw, file.directives.escape, &|_| None);
        self.globals.extend(image.into_iter().flat_map(|image| image.used.into_iter().chain(image.unset)));
        let contexts = |name: &str| self.options.contexts.contains_key(name);
        for instruction in &stage.instructions {
            for (from, _) in sources(instruction) {
                if let Ok(Base::Stage(other)) = lookup(file, from, index, &contexts) {
                    self.stage(other)?;
                }
            }
        }
        for instruction in &stage.instructions {
            match &instruction.kind {
                Kind::Arg(items) => items.iter().for_each(|item| self.arg(item, instruction.place, &mut scope)),
                Kind::Env(pairs) => {
                    for (name, value) in pairs {
                        let value = self.expand(&value.raw, &scope);
                        scope.insert(name.raw.clone(), value);
                    }
                }
                Kind::Run(run) => run.mounts.iter().for_each(|mount| self.mount(mount, instruction.place)),
                _ => {}
            }
        }
        Ok(scope)
    }

    fn expand(&self, text: &str, scope: &IndexMap<String, String>) -> String {
        let lookup = |name: &str| scope.get(name).cloned();
        let expanded = umiak_dockerfile::expand(text, self.file.directives.escape, &lookup);
        expanded.map(|expanded| expanded.text).unwrap_or_default()
    }

    fn arg(&mut self, item: &umiak_dockerfile::ArgItem, place: Place, scope: &mut IndexMap<String, String>) {
        let given = self.options.args.get(&item.name).cloned();
        let default = item.default.as_ref().map(|text| self.expand(&text.raw, scope));
        if default.is_none() && self.is_global(&item.name) {
            self.globals.push(item.name.clone());
            let value = given.or_else(|| self.plan.meta.get(&item.name).cloned());
            scope.insert(item.name.clone(), value.unwrap_or_default());
            return;
        }
        if self.plan.meta.contains_key(&item.name) && !self.is_global(&item.name) {
            // Nobody has to give what is predefined.
            return;
        }
        let value = given.or(default).unwrap_or_default();
        scope.insert(item.name.clone(), value.clone());
        let description = described(&self.loaded.text, place.line, &item.name).unwrap_or_default();
        self.args.push(Offer { name: item.name.clone(), description, value, required: false, place });
    }

    fn is_global(&self, name: &str) -> bool {
        self.file.meta_args.iter().any(|one| matches!(&one.kind, Kind::Arg(all) if all.iter().any(|a| a.name == name)))
    }

    fn mount(&mut self, mount: &umiak_dockerfile::Mount, place: Place) {
        let text = |text: &Option<umiak_dockerfile::Text>| text.as_ref().map(|text| text.raw.clone());
        let (list, usual) = match mount.kind {
            MountKind::Secret => (&mut self.secrets, text(&mount.target).or_else(|| text(&mount.source))),
            MountKind::Ssh => (&mut self.agents, Some("default".to_owned())),
            _ => return,
        };
        let usual = usual.map(|path| path.rsplit('/').next().unwrap_or_default().to_owned());
        let name = text(&mount.id).or(usual).unwrap_or_default();
        if let Some(known) = list.iter_mut().find(|offer| offer.name == name) {
            known.required |= mount.required;
            return;
        }
        let (description, value) = (String::new(), String::new());
        list.push(Offer { name, description, value, required: mount.required, place });
    }

    /// The variables before the first FROM that are used, in their order, before all others.
    fn with_globals(&mut self) {
        let mut all = Vec::new();
        for instruction in &self.file.meta_args {
            let Kind::Arg(items) = &instruction.kind else { continue };
            for item in items.iter().filter(|item| self.globals.contains(&item.name)) {
                let description = described(&self.loaded.text, instruction.place.line, &item.name).unwrap_or_default();
                let value = self.plan.meta.get(&item.name).cloned().unwrap_or_default();
                let (name, place) = (item.name.clone(), instruction.place);
                all.push(Offer { name, description, value, required: false, place });
            }
        }
        all.append(&mut self.args);
        self.args = all;
    }
}

fn outline(options: &Options, loaded: &Loaded, file: &Dockerfile, json: bool) -> Result<Answer> {
    let plan = planned(options, file)?;
    let mut outline = Outline {
        options,
        loaded,
        file,
        plan: &plan,
        seen: Vec::new(),
        globals: Vec::new(),
        args: Vec::new(),
        secrets: Vec::new(),
        agents: Vec::new(),
    };
    outline.stage(plan.target)?;
    outline.with_globals();
    let stage = file.stages.get(plan.target);
    let name = stage.and_then(|stage| stage.name.clone()).unwrap_or_default();
    let line = stage.map_or(0, |stage| stage.place.line);
    let description = described(&loaded.text, line, &name).filter(|_| !name.is_empty()).unwrap_or_default();
    let lists = [("args", &outline.args), ("secrets", &outline.secrets), ("ssh", &outline.agents)];
    if json {
        let mut all = Map::new();
        for (key, text) in [("name", &name), ("description", &description)] {
            if !text.is_empty() {
                all.insert(key.to_owned(), text.as_str().into());
            }
        }
        for (key, list) in lists.iter().filter(|(_, list)| !list.is_empty()) {
            all.insert((*key).to_owned(), list.iter().map(Offer::json).collect());
        }
        all.insert("sources".to_owned(), json!([STANDARD.encode(&loaded.text)]));
        return Ok(Answer { text: pretty(&all.into()), good: true });
    }
    let mut text = String::new();
    if !name.is_empty() {
        let blanks = if description.is_empty() { "" } else { "     " };
        let _ = writeln!(text, "TARGET: {blanks}{name}");
        if !description.is_empty() {
            let _ = writeln!(text, "DESCRIPTION: {description}");
        }
        text.push('\n');
    }
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    if !outline.args.is_empty() {
        let mut rows = vec![words(&["BUILD ARG", "VALUE", "DESCRIPTION"])];
        rows.extend(outline.args.iter().map(|arg| words(&[&arg.name, &arg.value, &arg.description])));
        text += &(table(&rows, 3) + "\n");
    }
    for (title, list) in [("SECRET", &outline.secrets), ("SSH", &outline.agents)] {
        if !list.is_empty() {
            let mut rows = vec![words(&[title, "REQUIRED"])];
            rows.extend(list.iter().map(|offer| words(&[&offer.name, if offer.required { "true" } else { "" }])));
            text += &(table(&rows, 3) + "\n");
        }
    }
    Ok(Answer { text, good: true })
}
