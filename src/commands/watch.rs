//! `watch`: files that change on the host are brought into the containers.

use std::collections::BTreeSet;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use clap::{Args, FromArgMatches as _};
use nix::sys::signal::Signal;
use umiak_compose::{Hook, Project, WatchAction};

use super::{Context, up};
use crate::build::interrupt;
use crate::engine::exec::Request;
use crate::engine::inject::Inside;
use crate::engine::{attach, events, wait};
use crate::project::apply;
use crate::project::build::run::Shown;
use crate::project::build::{self, Flags};
use crate::project::observe::{self, Member};
use crate::project::watch::tree::Trees;
use crate::project::watch::{Rule, Work, work};
use crate::project::{converge, hooks, images, load, plan};
use crate::ui::progress::Progress;
use crate::{failure, out};

/// How long it has to be quiet before a batch of changes is taken for complete.
const QUIET: Duration = Duration::from_millis(200);
/// How long a batch waits for quiet at most.
const PATIENCE: Duration = Duration::from_secs(2);

/// Watch build context for service and rebuild/refresh containers when files are updated.
#[derive(Debug, Args)]
pub struct Watch {
    /// Do not start services before watching
    #[arg(long)]
    no_up: bool,
    /// Prune dangling images on rebuild
    #[arg(long, num_args = 0..=1, require_equals = true, default_value_t = true, default_missing_value = "true", action = clap::ArgAction::Set)]
    prune: bool,
    /// Hide what is done
    #[arg(long)]
    quiet: bool,
    /// Services; all if none
    services: Vec<String>,
}

impl Watch {
    /// Runs the command, until it is interrupted.
    pub fn run(self, context: &Context) -> Result<ExitCode> {
        let project = load::model(context, &self.services, true)?;
        let rules = self.rules(&project)?;
        if !self.no_up {
            self.up(context)?;
        }
        let ignored = |path: &Path| {
            let below: Vec<&Rule> = rules.iter().filter(|rule| path.starts_with(&rule.path)).collect();
            !below.is_empty() && below.iter().all(|rule| rule.ignores(path))
        };
        let roots: Vec<PathBuf> = rules.iter().map(|rule| rule.path.clone()).collect();
        let mut trees = Trees::new(&roots, &ignored)?;
        for rule in rules.iter().filter(|rule| rule.initial_sync && rule.syncs()) {
            let found = trees.files(&rule.path);
            let one = std::slice::from_ref(rule);
            for (service, mut work) in work(one, &found) {
                (work.restart, work.exec) = (false, Vec::new());
                self.report(self.apply(context, &project, &service, &work));
            }
        }
        // An exec takes signals over as well: they are read here, not left to their default course.
        let signals = attach::signals(&[Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP])?;
        out!("Watch enabled");
        loop {
            let mut changed = BTreeSet::new();
            wait::readable(&[trees.as_fd(), signals.as_fd()], None)?;
            if signals.read_signal().context("read the signalfd")?.is_some() {
                return Ok(failure::code(130));
            }
            let last = Instant::now() + PATIENCE;
            loop {
                trees.changes(&mut changed)?;
                let deadline = (Instant::now() + QUIET).min(last);
                if !wait::readable(&[trees.as_fd()], Some(deadline))? || Instant::now() >= last {
                    break;
                }
            }
            for (service, work) in work(&rules, &changed) {
                let done = self.apply(context, &project, &service, &work);
                let is_told = done.as_ref().err().is_some_and(apply::interrupt::is_told_by);
                self.report(done);
                // Builds take signals for themselves, and so does what makes the containers anew.
                if work.rebuild && (is_told || interrupt::check().is_err()) {
                    return Ok(failure::code(130));
                }
            }
        }
    }

    /// Builds a service's image and makes its containers anew from it.
    fn rebuild(&self, context: &Context, project: &Project, service: &str) -> Result<()> {
        self.say(&format!("Rebuilding service(s) [\"{service}\"] after changes were detected..."));
        let progress = if self.quiet { Progress::quiet() } else { context.progress() };
        let _lock = context.lock_project(&project.name)?;
        let shown = if self.quiet { Shown::Images } else { Shown::Steps };
        build::run::run(context, project, &[project.service(service)?], &Flags::of_up(), shown, &progress)?;
        self.say(&format!("service(s) [\"{service}\"] successfully built"));
        let replicas = observe::replicas(observe::members(&context.engine, &project.name)?);
        let count = replicas.iter().filter(|member| member.service == service).count();
        let request = converge::Request {
            services: vec![service.to_owned()],
            no_deps: true,
            options: plan::Options {
                force_recreate: true,
                ignore_orphans: true,
                // As many as there are: `up --scale` may have said how many.
                scale: [(service.to_owned(), u32::try_from(count.max(1))?)].into(),
                named: vec![service.to_owned()],
                ..plan::Options::default()
            },
            ..converge::Request::default()
        };
        request.converge(context, project, &progress)?;
        progress.finish();
        if self.prune {
            images::prune_dangling(&context.engine, project)?;
        }
        Ok(())
    }

    fn rules(&self, project: &Project) -> Result<Vec<Rule>> {
        let ignore_file = |files: &[PathBuf]| files.iter().find_map(|path| std::fs::read_to_string(path).ok());
        let mut rules = Vec::new();
        for service in project.select(&self.services, false)? {
            let of_service = Rule::of(service, &ignore_file);
            let of_service = of_service.with_context(|| format!("reading what service {:?} watches", service.name))?;
            if service.build.is_none() && of_service.iter().any(|rule| rule.action == WatchAction::Rebuild) {
                bail!("can't watch service \"{}\" with action rebuild without a build context", service.name);
            }
            rules.extend(of_service);
        }
        if rules.is_empty() {
            bail!("none of the selected services is configured for watch, consider setting a 'develop' section");
        }
        Ok(rules)
    }

    fn up(&self, context: &Context) -> Result<()> {
        let words = ["up", "--detach", "--"].into_iter().chain(self.services.iter().map(String::as_str));
        let matches = up::Up::augment_args(clap::Command::new("up")).try_get_matches_from(words)?;
        up::Up::from_arg_matches(&matches)?.run(context)?;
        Ok(())
    }

    /// A batch that fails does not end the watch: the next change may go well.
    fn report(&self, result: Result<()>) {
        if let Err(error) = result {
            failure::report(&error);
        }
    }

    fn say(&self, text: &str) {
        if !self.quiet {
            out!("{text}");
        }
    }

    fn apply(&self, context: &Context, project: &Project, service: &str, work: &Work) -> Result<()> {
        let engine = &context.engine;
        if work.rebuild {
            // What else has changed is in the new image, or comes to the new containers with the next change.
            return self.rebuild(context, project, service);
        }
        let members = observe::replicas(observe::members(engine, &project.name)?);
        let members: Vec<Member> = members
            .into_iter()
            .filter(|member| member.service == service && member.container.state.status.is_up())
            .collect();
        if !work.sync.is_empty() {
            self.say(&format!("Syncing service \"{service}\" after {} changes were detected", work.sync.len()));
        }
        for member in &members {
            if !work.sync.is_empty() {
                sync(&Inside::of(&member.container)?, work)?;
            }
            for hook in &work.exec {
                let code = engine.exec(&member.container, command(hook))?;
                if let attach::Left::Ended(code @ 1..) = code {
                    crate::note!("service {service}: {} ended with exit code {code}", hook.command.join(" "));
                }
            }
        }
        if work.restart && !members.is_empty() {
            for member in &members {
                hooks::stop(engine, &member.container, None)?;
                hooks::start(engine, &member.container)?;
                events::container(&engine.roots, &member.container.config, "restart");
            }
            self.say(&format!("service(s) [\"{service}\"] restarted"));
        }
        Ok(())
    }
}

/// Brings files in; what is not there any more is taken away.
fn sync(inside: &Inside, work: &Work) -> Result<()> {
    for (path, targets) in &work.sync {
        for target in targets {
            match path.symlink_metadata() {
                Ok(_) => inside.put(path, target)?,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => inside.remove(target)?,
                Err(error) => return Err(error).with_context(|| format!("read {}", path.display())),
            }
        }
    }
    Ok(())
}

fn command(hook: &Hook) -> Request {
    Request {
        args: hook.command.clone(),
        env: hook.environment.iter().map(|(key, value)| (key.clone(), value.clone())).collect(),
        user: hook.user.clone(),
        cwd: hook.working_dir.clone(),
        privileged: hook.privileged,
        ..Request::default()
    }
}
