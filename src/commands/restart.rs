//! `restart`: stopped in reverse order, started in order.

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};

use anyhow::Result;
use clap::Args;

use super::{Context, down};
use crate::engine::restart::Condition;
use crate::engine::{Container, Engine, events};
use crate::project::pre_start::{self, PreStarts};
use crate::project::{hooks, load, observe, sequence, wait};
use umiak_compose::{Dependency, Project};

/// Restart services.
#[derive(Debug, Args)]
pub struct Restart {
    /// Seconds to wait for a container to stop before it is killed
    #[arg(short, long, value_name = "SECONDS", allow_hyphen_values = true)]
    timeout: Option<i64>,
    /// Don't restart dependent services
    #[arg(long)]
    no_deps: bool,
    /// Services; all but those stopped by hand if none
    services: Vec<String>,
}

impl Restart {
    /// Runs the command.
    pub fn run(self, context: &Context) -> Result<ExitCode> {
        let project = load::named(context, &self.services)?;
        let _lock = context.lock_project(&project.name)?;
        let mut services = self.services.clone();
        if let (Some(model), false, false) = (&project.model, self.no_deps, services.is_empty()) {
            go_along(model, &mut services);
        }
        let all = observe::replicas(observe::members(&context.engine, &project.name)?);
        let members = observe::select(all.clone(), &services, &|name| project.knows(name))?;
        let progress = context.progress();
        let pre_starts = project.model.as_ref().map(|model| PreStarts::new(&context.engine, model, &progress, None));
        let (members, left) = match self.services.is_empty() {
            true => without_stopped(&context.engine, members),
            false => (members, Vec::new()),
        };
        for member in left {
            let (name, service) = (&member.container.config.name, &member.service);
            progress
                .note(&format!("container {name} was stopped by hand and stays down: `restart {service}` starts it"));
        }
        let what = |member: &observe::Member| format!("Container {}", member.container.config.name);
        let up = Mutex::new(BTreeSet::new());
        let mut errors = sequence::reverse(&members, project.model.as_ref(), |member| {
            progress.working(&what(member), "Restarting");
            context.act(|| hooks::stop(&context.engine, &member.container, self.timeout)).inspect_err(|_| {
                progress.failed(&what(member), "Error");
                up.lock().unwrap_or_else(PoisonError::into_inner).insert(member.container.config.id.clone());
            })
        });
        // What could not be stopped is not started.
        let up = up.into_inner().unwrap_or_else(PoisonError::into_inner);
        let stopped: Vec<_> = members.into_iter().filter(|member| !up.contains(&member.container.config.id)).collect();
        let restarted = |name: &str| -> Vec<Container> {
            let of = stopped.iter().filter(|member| member.service == name);
            of.map(|member| member.container.clone()).collect()
        };
        errors.extend(sequence::forward(&stopped, project.model.as_ref(), |member| {
            context.act(|| {
                let service = project.model.as_ref().and_then(|model| model.services.get(&member.service));
                let mut depends_on = service.map(wait::of_service).unwrap_or_default();
                depends_on.retain(|(_, on)| on.restart);
                wait::dependencies(&context.engine, &progress, &depends_on, &restarted, None)?;
                pre_start::before_first(pre_starts.as_ref(), &all, project.model.as_ref(), member)?;
                hooks::start(&context.engine, &member.container)?;
                events::container(&context.engine.roots, &member.container.config, "restart");
                Ok(())
            })?;
            progress.done(&what(member), "Started");
            Ok(())
        }));
        progress.finish();
        down::finish(errors)
    }
}

/// Those that depend on a restarted service with `restart: true` go along, and those that depend on them.
fn go_along(model: &Project, services: &mut Vec<String>) {
    loop {
        let before = services.len();
        for service in model.services.values() {
            let bound = |(name, on): (&String, &Dependency)| on.restart && services.contains(name);
            if service.depends_on.iter().any(bound) && !services.contains(&service.name) {
                services.push(service.name.clone());
            }
        }
        if services.len() == before {
            return;
        }
    }
}

/// What a restart of the whole stack is about, and what it leaves alone: containers that somebody has stopped while
/// others run. Where nothing runs, or the policy is `always`, "restart" can only mean "start".
fn without_stopped(engine: &Engine, members: Vec<observe::Member>) -> (Vec<observe::Member>, Vec<observe::Member>) {
    if !members.iter().any(|member| member.container.state.status.is_up()) {
        return (members, Vec::new());
    }
    members.into_iter().partition(|member| {
        let always = member.container.config.restart.condition == Condition::Always;
        always || !engine.is_stopped_by_hand(&member.container)
    })
}
