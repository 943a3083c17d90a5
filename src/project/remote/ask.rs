//! What is asked before a project from elsewhere runs, as Docker Compose asks it: whether its files are trusted, and
//! whether its variables may have the values that this machine gives them.

use std::io::{IsTerminal as _, Write};

use anyhow::{Context as _, Result, bail};

use super::is_remote;
use crate::commands::Context;
use crate::personality::Personality;
use crate::project::load;
use crate::ui::progress::Mode;
use crate::ui::table::Table;
use umiak_compose::{Project, RawProject};

/// Asks before the project runs, if its first file is from elsewhere. `yes` answers everything.
pub fn before_running(context: &Context, project: &Project, yes: bool) -> Result<()> {
    let files: Vec<&str> = context.global.files.iter().filter_map(|file| file.to_str()).collect();
    let Some(first) = files.first().filter(|first| is_remote(first)) else { return Ok(()) };
    let asks = !yes && !context.global.dry_run;
    let included: Vec<String> = super::fetched().into_keys().filter(|name| !files.contains(&name.as_str())).collect();
    if asks && !included.is_empty() {
        say("\nWarning: This Compose project includes files from remote sources:");
        for name in files.iter().filter(|name| is_remote(name)).copied().chain(included.iter().map(String::as_str)) {
            say(&format!("  - {name}"));
        }
        say("\nRemote includes could potentially be malicious. Make sure you trust the source.");
        confirm("Do you want to continue? [y/N]: ", false)?;
    }
    if !matches!(context.global.progress, Mode::Quiet | Mode::Json) {
        say(&format!("Your compose stack {first:?} is stored in {:?}", project.working_dir));
    }
    if asks {
        let tree = umiak_compose::load_tree(&load::options(&context.global, &[], false)?)?;
        if let Some(table) = variables(&tree, &|name| std::env::var(name).ok()) {
            say(&format!("\nFound the following variables in configuration:\n{table}"));
            confirm("\nDo you want to proceed with these variables? [Y/n]: ", true)?;
        }
    }
    Ok(())
}

/// The variables of the files with the values they get; `None` without any.
fn variables(project: &RawProject, own: &dyn Fn(&str) -> Option<String>) -> Option<String> {
    let variables = project.variables();
    let mut table = Table::close(&["VARIABLE", "VALUE", "SOURCE", "REQUIRED", "DEFAULT"]);
    for variable in variables.values() {
        let (value, source) = match (own(&variable.name), project.environment.get(&variable.name)) {
            (Some(value), _) => (value, "environment"),
            (None, Some(value)) => (value.clone(), "env file"),
            (None, None) if !variable.default_value.is_empty() => (variable.default_value.clone(), "compose file"),
            (None, None) => ("<unset>".to_owned(), "none"),
        };
        let required = if variable.required { "yes" } else { "no" };
        let cells = [&variable.name, &value, source, required, &variable.default_value];
        table.row(cells.iter().map(|cell| printable(cell)).collect());
    }
    (!variables.is_empty()).then(|| table.render())
}

/// A stranger's text goes to a terminal.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// Docker's scripts find what is asked on stdout.
fn asking() -> Box<dyn Write> {
    match Personality::current() {
        Personality::Own => Box::new(std::io::stderr()),
        Personality::Docker | Personality::Compose => Box::new(std::io::stdout()),
    }
}

fn say(text: &str) {
    let _ = writeln!(asking(), "{text}");
}

/// Fails unless the answer is yes. An empty line at a terminal is the default.
fn confirm(question: &str, default: bool) -> Result<()> {
    if ask(question, default)? == Some(true) {
        return Ok(());
    }
    bail!("operation cancelled by user")
}

/// One question; `None` when nobody answers.
pub fn ask(question: &str, default: bool) -> Result<Option<bool>> {
    let mut out = asking();
    let _ = write!(out, "{question}").and_then(|()| out.flush());
    let answer = line().context("read the answer")?;
    if !std::io::stdin().is_terminal() {
        // Nobody has seen the line that ended the answer.
        let _ = writeln!(out);
    }
    Ok(answer.map(|answer| match answer.trim().to_lowercase().as_str() {
        "" => default && std::io::stdin().is_terminal(),
        "y" | "yes" | "1" | "t" | "true" => true,
        _ => false,
    }))
}

/// A line of standard input, and nothing of what follows: that may be a container's.
fn line() -> std::io::Result<Option<String>> {
    let (mut line, mut byte) = (Vec::new(), [0]);
    while line.len() < 1000 && rustix::io::retry_on_intr(|| rustix::io::read(std::io::stdin(), &mut byte))? == 1 {
        if byte == *b"\n" {
            return Ok(Some(String::from_utf8_lossy(&line).into_owned()));
        }
        line.extend(byte);
    }
    Ok((!line.is_empty()).then(|| String::from_utf8_lossy(&line).into_owned()))
}
