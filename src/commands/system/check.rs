//! `system check`: what is damaged, and what to do about it.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use crate::commands::Context;
use crate::engine::check::{Findings, Problem, Repair};
use crate::out;
use crate::ui::human;

/// Differences of a layer that are shown one by one.
const SHOWN: usize = 20;

/// How findings are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Text,
    /// One JSON document.
    Json,
}

/// Check every blob against its digest, every unpacked layer against its blob, and what containers, networks and volumes
/// are recorded in. Ends with 1 when something is wrong and stays so.
#[derive(Debug, Args)]
pub struct Check {
    /// Repair: layers are unpacked again, blobs are pulled again by their digests, leftovers are removed; what cannot
    /// be repaired is dropped only when nothing uses it
    #[arg(long)]
    repair: bool,
    /// Format output
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
    /// Print no progress
    #[arg(short, long)]
    quiet: bool,
}

impl Check {
    /// Runs the command.
    pub fn run(self, context: &Context) -> Result<ExitCode> {
        let progress = if self.quiet { crate::ui::progress::Progress::quiet() } else { context.progress() };
        let findings = context.engine.check(self.repair && !context.global.dry_run, &progress)?;
        progress.finish();
        match self.format {
            Format::Text => out!("{}", text(&findings)),
            Format::Json => out!("{:#}", document(&findings)),
        }
        Ok(if findings.problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

fn counted(count: usize, one: &str) -> String {
    if count == 1 { format!("1 {one}") } else { format!("{count} {one}s") }
}

fn text(findings: &Findings) -> String {
    let report = &findings.report;
    let mut lines = vec![format!(
        "Checked {}: {} ({}), {} with {} files",
        counted(report.images, "image"),
        counted(report.blobs, "blob"),
        human::size3(report.bytes),
        counted(report.layers, "layer"),
        report.files
    )];
    for repair in &findings.repairs {
        lines.push(match &repair.done {
            Ok(done) => format!("Repaired: {}: {done}", name(repair.kind, &repair.id)),
            Err(why) => format!("Not repaired: {}: {why}", name(repair.kind, &repair.id)),
        });
    }
    lines.extend(findings.freed.map(|bytes| format!("Removed leftovers: {}", human::size3(bytes))));
    for problem in &findings.problems {
        lines.extend(told(problem));
    }
    let left = findings.leftovers();
    if !left.is_empty() {
        let bytes = left.iter().map(|left| left.bytes).sum();
        let what = counted(left.len(), "leftover");
        lines.push(format!(
            "{what} of commands that were killed, {}: `umiak system prune` removes them",
            human::size3(bytes)
        ));
        lines.extend(left.iter().map(|left| format!("    {}: {}", left.path.display(), left.what)));
    }
    lines.push(match findings.problems.len() {
        0 => "Nothing is damaged".to_owned(),
        count => format!("{} found", counted(count, "problem")),
    });
    lines.join("\n")
}

fn name(kind: &str, id: &str) -> String {
    if id.is_empty() { kind.to_owned() } else { format!("{kind} {id}") }
}

fn told(problem: &Problem) -> Vec<String> {
    let mut lines = vec![format!("Damaged: {}: {}", name(problem.kind, &problem.id), problem.what)];
    for (path, what) in problem.differences.iter().take(SHOWN) {
        lines.push(format!("    {path}: {what}"));
    }
    if problem.differences.len() > SHOWN {
        lines.push(format!("    and {} more", problem.count - SHOWN as u64));
    }
    let list = |what: &str, names: &[String]| (!names.is_empty()).then(|| format!("    {what}: {}", names.join(", ")));
    lines.extend(list("images", &problem.images));
    lines.extend(list("containers", &problem.containers));
    if problem.images.is_empty() || problem.differences.is_empty() {
        lines.push(format!("    file: {}", problem.path.display()));
    }
    lines.push(format!("    {}", problem.advice));
    lines
}

fn document(findings: &Findings) -> Value {
    let report = &findings.report;
    let repair = |repair: &Repair| {
        json!({
            "kind": repair.kind,
            "id": repair.id,
            "done": repair.done.as_ref().ok(),
            "error": repair.done.as_ref().err(),
        })
    };
    let problem = |problem: &Problem| {
        let differences = problem.differences.iter().map(|(path, what)| json!({ "path": path, "problem": what }));
        json!({
            "kind": problem.kind,
            "id": problem.id,
            "path": problem.path.to_string_lossy(),
            "problem": problem.what,
            "differences": differences.collect::<Vec<_>>(),
            "differenceCount": problem.count,
            "images": problem.images,
            "containers": problem.containers,
            "advice": problem.advice,
        })
    };
    json!({
        "images": report.images,
        "blobs": report.blobs,
        "bytes": report.bytes,
        "layers": report.layers,
        "files": report.files,
        "problems": findings.problems.iter().map(problem).collect::<Vec<_>>(),
        "repairs": findings.repairs.iter().map(repair).collect::<Vec<_>>(),
        "leftovers": findings.leftovers().iter().map(|left| json!({
            "path": left.path.to_string_lossy(),
            "what": left.what,
            "bytes": left.bytes,
        })).collect::<Vec<_>>(),
        "freed": findings.freed,
    })
}
