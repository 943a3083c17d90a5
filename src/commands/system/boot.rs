//! `system boot`: what the host's init runs when the host has booted.

use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Args;

use crate::commands::Context;
use crate::engine::adopt::is_orphan;
use crate::engine::{Container, Engine};
use crate::project::boot::decide::{self, Decision, Whynot};
use crate::project::boot::{node, run, services};
use crate::ui::table::Table;
use crate::{failure, note, out};

/// Start the containers whose restart policy says so, as after a reboot: dependencies first, each as soon as what it
/// waits for is healthy. What was stopped by hand since the boot is left alone, and so is what runs, unless its monitor
/// was killed: then it gets a new one.
#[derive(Debug, Args)]
pub struct Boot {}

impl Boot {
    /// Runs the command; it fails when something could not be started, after trying all the rest.
    pub fn run(self, context: &Context) -> Result<ExitCode> {
        let engine = &context.engine;
        if !context.global.dry_run {
            engine.sweep()?;
        }
        let containers = engine.containers()?;
        let nodes: Vec<decide::Node> = containers.iter().map(|container| node(engine, container)).collect();
        let plan = decide::plan(&nodes, &services(&nodes));
        if context.global.dry_run {
            show(&containers, &nodes, &plan);
            return Ok(ExitCode::SUCCESS);
        }
        let progress = context.progress();
        for container in to_remove(&containers, &plan) {
            if let Err(error) = run::remove(context, &progress, container) {
                note!("warning: {}: {}", container.config.name, failure::one_line(&error));
            }
        }
        let adopted = adopt(engine, &containers);
        let report = run::run(context, &progress, &containers, &nodes, &plan);
        progress.finish();
        for (name, error) in &report.failed {
            note!("Error: {name}: {}", failure::one_line(error));
        }
        if !report.failed.is_empty() {
            bail!("{} of {} could not be started", report.failed.len(), counted(plan.order.len()));
        }
        match report.started {
            0 if adopted > 0 => {}
            0 => note!("nothing to start"),
            count => note!("started {}", counted(count)),
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn counted(count: usize) -> String {
    if count == 1 { "1 container".to_owned() } else { format!("{count} containers") }
}

/// Gives those that run without a monitor a new one; how many.
fn adopt(engine: &Engine, containers: &[Container]) -> usize {
    let adopted = containers.iter().filter(|container| match engine.adopt(container) {
        Ok(adopted) => adopted,
        Err(error) => {
            note!("warning: {}", failure::one_line(&error));
            false
        }
    });
    adopted.count()
}

fn to_remove<'a>(containers: &'a [Container], plan: &decide::Plan) -> Vec<&'a Container> {
    let doomed = containers.iter().zip(&plan.decisions).filter(|(_, decision)| **decision == Decision::Remove);
    doomed.map(|(container, _)| container).collect()
}

/// What would become of each: those that are started first, in their order.
fn show(containers: &[Container], nodes: &[decide::Node], plan: &decide::Plan) {
    let mut table = Table::new(&["CONTAINER", "ACTION", "REASON"]);
    let mut row = |index: usize, action: &str, reason: &str| {
        table.row(vec![nodes[index].name.clone(), action.to_owned(), reason.to_owned()]);
    };
    for start in &plan.order {
        row(start.node, "start", &plan.decisions[start.node].to_string());
    }
    for (index, decision) in plan.decisions.iter().enumerate() {
        let reason = decision.to_string();
        match decision {
            Decision::Start(_) => {}
            Decision::Remove => row(index, "remove", &reason),
            Decision::Stay(Whynot::Running) if is_orphan(&containers[index]) => {
                row(index, "adopt", "its monitor is gone")
            }
            Decision::Stay(Whynot::Running) => row(index, "leave", &reason),
            Decision::Stay(_) => row(index, "stay down", &reason),
        }
    }
    out!("{}", table.render());
}
