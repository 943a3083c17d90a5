//! `start`: containers that are there; dependencies first.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, bail};
use clap::Args;
use umiak_compose::Dependency;

use super::{Context, down};
use crate::engine::Container;
use crate::project::observe::Member;
use crate::project::pre_start::PreStarts;
use crate::project::{hooks, load, observe, pre_start, provider, sequence, wait};

/// Start services.
#[derive(Debug, Args)]
pub struct Start {
    /// Wait for services to be running|healthy
    #[arg(long)]
    wait: bool,
    /// Maximum duration in seconds to wait for the project to be running|healthy
    #[arg(long, value_name = "SECONDS")]
    wait_timeout: Option<u64>,
    /// Services; all if none
    services: Vec<String>,
}

impl Start {
    /// Runs the command.
    pub fn run(self, context: &Context) -> Result<ExitCode> {
        let project = load::named(context, &self.services)?;
        let _lock = context.lock_project(&project.name)?;
        let all = observe::replicas(observe::members(&context.engine, &project.name)?);
        let members = observe::select(all.clone(), &self.services, &|name| project.knows(name))?;
        for service in &self.services {
            if !members.iter().any(|member| member.service == *service) {
                bail!("service \"{service}\" has no container to start");
            }
        }
        let depends_on =
            |member: &Member| match project.model.as_ref().and_then(|model| model.services.get(&member.service)) {
                Some(service) => wait::of_service(service),
                None => wait::of_label(&member.container),
            };
        let members = with_dependencies(members, &all, &depends_on);
        let progress = context.progress();
        let pre_starts = project.model.as_ref().map(|model| PreStarts::new(&context.engine, model, &progress, None));
        let timeout = self.wait_timeout.filter(|seconds| *seconds > 0).map(Duration::from_secs);
        let limit = timeout.filter(|_| self.wait);
        let errors = sequence::forward(&members, project.model.as_ref(), |member| {
            if member.container.state.status.is_up() {
                return context.act(|| context.engine.adopt(&member.container).map(drop));
            }
            let mut depends_on = depends_on(member);
            let provided = |name: &str| project.model.as_ref().is_some_and(|model| provider::is_provided(model, name));
            depends_on.retain(|(name, _)| !provided(name));
            let of = |name: &str| {
                all.iter().filter(|member| member.service == name).map(|member| member.container.clone()).collect()
            };
            context.act(|| wait::dependencies(&context.engine, &progress, &depends_on, &of, limit))?;
            context.act(|| pre_start::before_first(pre_starts.as_ref(), &all, project.model.as_ref(), member))?;
            let what = format!("Container {}", member.container.config.name);
            progress.working(&what, "Starting");
            context.act(|| hooks::start(&context.engine, &member.container))?;
            progress.done(&what, "Started");
            Ok(())
        });
        let mut errors = errors;
        if self.wait && errors.is_empty() && !context.global.dry_run {
            let containers: Vec<Container> = members.iter().map(|member| member.container.clone()).collect();
            errors.extend(wait::all_up(&context.engine, &progress, &containers, timeout).err());
        }
        progress.finish();
        down::finish(errors)
    }
}

/// The chosen containers, and of all those that the services of these depend on, however far.
fn with_dependencies(
    mut chosen: Vec<Member>,
    all: &[Member],
    depends_on: &dyn Fn(&Member) -> Vec<(String, Dependency)>,
) -> Vec<Member> {
    let mut next = 0;
    while let Some(member) = chosen.get(next) {
        let missing: Vec<Member> = all
            .iter()
            .filter(|other| depends_on(member).iter().any(|(name, _)| *name == other.service))
            .filter(|other| chosen.iter().all(|known| known.container.config.id != other.container.config.id))
            .cloned()
            .collect();
        chosen.extend(missing);
        next += 1;
    }
    chosen
}
