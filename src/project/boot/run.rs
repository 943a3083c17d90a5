//! Carries the decision out: all projects at once, each under its lock, and in
//! each every container as soon as what it waits for is there. What fails takes
//! only those with it that depend on it.

use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use anyhow::{Context as _, Result, anyhow};

use super::decide::{self, Decision, Plan};
use super::{Services, node};
use crate::commands::Context;
use crate::engine::Container;
use crate::project::{hooks, wait};
use crate::ui::progress::Progress;
use umiak_compose::Dependency;

/// How many wait for the health of others at a time: each takes one of the 128 inotify instances that a user has.
const WAITERS: usize = 32;

/// What came of it.
#[derive(Debug, Default)]
pub struct Report {
    /// How many were started.
    pub started: usize,
    /// Those that were not: name and reason.
    pub failed: Vec<(String, anyhow::Error)>,
}

struct Run<'a> {
    context: &'a Context,
    progress: &'a Progress,
    containers: &'a [Container],
    nodes: &'a [decide::Node],
    services: &'a Services<'a>,
    plan: &'a Plan,
    /// By place in the order: whether it has been started, once that is known.
    done: Mutex<Vec<Option<bool>>>,
    changed: Condvar,
    starts: Permits,
    waits: Permits,
    report: Mutex<Report>,
}

/// Starts what the plan says, dependencies first.
pub fn run(
    context: &Context,
    progress: &Progress,
    containers: &[Container],
    nodes: &[decide::Node],
    plan: &Plan,
) -> Report {
    let services = super::services(nodes);
    let run = Run {
        context,
        progress,
        containers,
        nodes,
        services: &services,
        plan,
        done: Mutex::new(vec![None; plan.order.len()]),
        changed: Condvar::new(),
        starts: Permits::new(context.workers()),
        waits: Permits::new(WAITERS),
        report: Mutex::default(),
    };
    let mut groups: BTreeMap<Option<&str>, Vec<usize>> = BTreeMap::new();
    for (place, start) in plan.order.iter().enumerate() {
        groups.entry(nodes[start.node].project.as_deref()).or_default().push(place);
    }
    std::thread::scope(|scope| {
        for (project, places) in &groups {
            scope.spawn(|| run.group(*project, places));
        }
    });
    run.report.into_inner().unwrap_or_else(PoisonError::into_inner)
}

impl Run<'_> {
    /// All of a project, or all that are of none.
    fn group(&self, project: Option<&str>, places: &[usize]) {
        let locked = project.map(|name| self.context.lock_project(name)).transpose();
        if let Err(error) = &locked {
            let text = crate::failure::one_line(error);
            for place in places {
                self.finish(*place, Err(anyhow!("{text}")));
            }
            return;
        }
        std::thread::scope(|scope| {
            for place in places {
                scope.spawn(|| self.finish(*place, self.one(*place)));
            }
        });
    }

    /// Waits for what comes before, then starts one; whether it was started, rather than there already.
    fn one(&self, place: usize) -> Result<bool> {
        let start = &self.plan.order[place];
        self.wait_for(&start.after)?;
        let index = start.node;
        let container = &self.containers[index];
        let engine = &self.context.engine;
        // While somebody else had the lock of its project, it may have been started, stopped or removed.
        let Some(now) = Container::load(&engine.roots, &container.config.id)? else { return Ok(false) };
        let needed = matches!(self.plan.decisions[index], Decision::Start(decide::Why::NeededBy(_)));
        if now.state.status.is_up()
            || !(needed || matches!(decide::alone(&node(engine, &now).facts), Decision::Start(_)))
        {
            return Ok(false);
        }
        self.pass_gates(index)?;
        let what = format!("Container {}", now.config.name);
        let _permit = self.starts.take();
        self.progress.working(&what, "Starting");
        match hooks::start(engine, &now) {
            Ok(()) => self.progress.done(&what, "Started"),
            Err(error) => {
                self.progress.failed(&what, "Error");
                return Err(error);
            }
        }
        Ok(true)
    }

    /// Until all of those have been started; an error when one was not.
    fn wait_for(&self, places: &[usize]) -> Result<()> {
        let mut done = lock(&self.done);
        loop {
            if let Some(failed) = places.iter().find(|place| done[**place] == Some(false)) {
                let name = &self.nodes[self.plan.order[*failed].node].name;
                return Err(anyhow!("it depends on {name}, which was not started"));
            }
            if places.iter().all(|place| done[*place].is_some()) {
                return Ok(());
            }
            done = self.changed.wait(done).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn pass_gates(&self, index: usize) -> Result<()> {
        let gates = decide::gates(self.nodes, self.services, &self.plan.decisions, index);
        for other in &gates.without {
            let (name, other, why) = (&self.nodes[index].name, &self.nodes[*other].name, &self.plan.decisions[*other]);
            self.progress.note(&format!("{name} does not wait for {other}, which stays down ({why})"));
        }
        if gates.wait.is_empty() {
            return Ok(());
        }
        let depends_on: Vec<(String, Dependency)> =
            gates.wait.iter().map(|(service, dependency, _)| (service.clone(), *dependency)).collect();
        let of = |service: &str| -> Vec<Container> {
            let replicas = gates.wait.iter().filter(|(name, ..)| name == service).flat_map(|(_, _, replicas)| replicas);
            replicas.map(|replica| self.containers[*replica].clone()).collect()
        };
        let _permit = self.waits.take();
        wait::dependencies(&self.context.engine, self.progress, &depends_on, &of, None)
    }

    fn finish(&self, place: usize, result: Result<bool>) {
        let name = &self.nodes[self.plan.order[place].node].name;
        lock(&self.done)[place] = Some(result.is_ok());
        self.changed.notify_all();
        let mut report = lock(&self.report);
        match result {
            Ok(started) => report.started += usize::from(started),
            Err(error) => report.failed.push((name.clone(), error)),
        }
    }
}

/// Removes those that should have gone when they ended.
pub fn remove(context: &Context, progress: &Progress, container: &Container) -> Result<()> {
    let name = &container.config.name;
    let what = format!("Container {name}");
    progress.working(&what, "Removing");
    context.engine.remove(container, false, true).with_context(|| format!("remove container {name}"))?;
    progress.done(&what, "Removed");
    Ok(())
}

/// So many at a time.
struct Permits {
    left: Mutex<usize>,
    returned: Condvar,
}

struct Permit<'a>(&'a Permits);

impl Permits {
    fn new(count: usize) -> Self {
        Self { left: Mutex::new(count.max(1)), returned: Condvar::new() }
    }

    fn take(&self) -> Permit<'_> {
        let mut left = lock(&self.left);
        while *left == 0 {
            left = self.returned.wait(left).unwrap_or_else(PoisonError::into_inner);
        }
        *left -= 1;
        Permit(self)
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        *lock(&self.0.left) += 1;
        self.0.returned.notify_one();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
