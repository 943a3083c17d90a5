//! Bringing a project to what its model says: what `up`, `create` and `scale` do,
//! and `plan` only shows.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, bail};
use umiak_compose::{Project, Service};

use super::apply::interrupt::Interrupt;
use super::apply::{Apply, Containers};
use super::images::{self, Ask, Pull};
use super::plan::{self, Definitions, Plan, Wanted};
use super::pre_start::PreStarts;
use super::{hash, image_mounts, observe, provider, service, show, wait};
use crate::commands::Context;
use crate::engine::Engine;
use crate::ui::progress::Progress;

/// What the command line says.
#[derive(Debug, Clone, Default)]
#[allow(clippy::struct_excessive_bools, reason = "one per flag")]
pub struct Request {
    /// The services; all if none.
    pub services: Vec<String>,
    /// Without the services that they depend on.
    pub no_deps: bool,
    /// What goes into the plan.
    pub options: plan::Options,
    /// When images are pulled and built.
    pub images: Ask,
    /// Questions are answered with yes.
    pub yes: bool,
    /// Seconds for a container to stop before it is killed.
    pub timeout: Option<i64>,
    /// How long what others depend on is waited for; without end if nothing is said.
    pub wait_timeout: Option<std::time::Duration>,
    /// What a failed run made stays.
    pub keep: bool,
    /// Somebody takes signals from then on: one that comes when all is done is left to them.
    pub goes_on: bool,
}

/// `SERVICE=NUM`, of which `flag` is the name in errors.
pub fn scale(all: &[String], flag: &str) -> Result<BTreeMap<String, u32>> {
    let split = |text: &String| {
        let (service, count) = text.split_once('=')?;
        Some((service.to_owned(), count.parse().ok()?))
    };
    let mut scale = BTreeMap::new();
    for text in all {
        match split(text) {
            Some((service, count)) => drop(scale.insert(service, count)),
            None => bail!("invalid {flag}: {text}; should be SERVICE=NUM"),
        }
    }
    Ok(scale)
}

/// `COMPOSE_REMOVE_ORPHANS` and `COMPOSE_IGNORE_ORPHANS` beside the flag: whether orphans are removed, and ignored.
pub fn orphans(project: &Project, flag: bool) -> Result<(bool, bool)> {
    let says_yes = |name: &str| {
        let value = project.environment.get(name).map(|value| value.to_ascii_lowercase());
        value.is_some_and(|value| matches!(value.as_str(), "1" | "t" | "true" | "y" | "yes"))
    };
    let ignore = says_yes("COMPOSE_IGNORE_ORPHANS");
    if ignore && flag {
        bail!("cannot combine COMPOSE_IGNORE_ORPHANS and --remove-orphans");
    }
    Ok((flag || (says_yes("COMPOSE_REMOVE_ORPHANS") && !ignore), ignore))
}

impl Request {
    /// The services that the command means, dependencies first.
    pub fn chosen<'p>(&self, project: &'p Project) -> Result<Vec<&'p Service>> {
        let chosen = project.select(&self.services, !self.no_deps)?;
        if chosen.is_empty() {
            bail!("no service selected");
        }
        for (name, count) in &self.options.scale {
            if let Some(container) = project.service(name)?.container_name.as_ref().filter(|_| *count > 1) {
                bail!(
                    "The \"{name}\" service is using the custom container name \"{container}\". Docker requires each \
                     container to have a unique name. Remove the custom name to scale the service"
                );
            }
        }
        if let Some((first, second, port)) = service::clashing_ports(&chosen, &self.options.scale) {
            refuse_clash(&first, &second, port)?;
        }
        Ok(project.levels(&chosen)?.into_iter().flatten().collect())
    }

    /// The plan as it would be carried out now. Changes nothing.
    pub fn plan(&self, engine: &Engine, project: &Project) -> Result<Plan> {
        let (chosen, _) = provider::split(self.chosen(project)?);
        let states = images::observe(engine, project, &chosen, self.images, true)?;
        self.plan_with(engine, project, &chosen, &states, false)
    }

    fn plan_with(
        &self,
        engine: &Engine,
        project: &Project,
        chosen: &[&Service],
        states: &images::States,
        provided: bool,
    ) -> Result<Plan> {
        let observed = observe::project(engine, project)?;
        let mut wanted = Vec::new();
        for service in chosen {
            let state = states.get(&images::key(project, service));
            let mut fingerprint = hash::service(project, service)?;
            let earlier = observed.members.iter().find(|member| member.service == service.name);
            if let Some(earlier) = earlier.filter(|_| !provided && provider::serves(project, service)) {
                // A provider that is not asked is taken to give what it gave.
                fingerprint.assume(&earlier.container.config.fingerprint);
            }
            wanted.push(Wanted {
                service,
                hash: fingerprint.hash(),
                fingerprint,
                limits: service::limits(service)?,
                restart: service::restart(service)?,
                image: service::image(project, service),
                image_id: state.and_then(|state| Some(state.image.as_ref()?.id.to_string())),
                pull: state.and_then(|state| state.pull),
                builds: images::builds(project, service, states)?,
                mounted_images: image_mounts::ids(engine, service)?,
                step_pulls: images::steps(project, service)
                    .filter_map(|key| Some((key.0.clone(), states.get(&key)?.pull?)))
                    .collect(),
            });
        }
        let mut definitions = Definitions::default();
        for (key, network) in &project.networks {
            definitions.networks.insert(key.clone(), hash::network(network)?);
        }
        for (key, volume) in &project.volumes {
            definitions.volumes.insert(key.clone(), hash::volume(volume)?);
        }
        Ok(plan::plan(project, &definitions, &wanted, &observed, &self.options))
    }

    /// Plans and carries the plan out; the containers of the project's chosen services. With `--dry-run` it is only
    /// shown, and there are none.
    pub fn converge(mut self, context: &Context, project: &Project, progress: &Progress) -> Result<Containers> {
        let (engine, dry_run) = (&context.engine, context.global.dry_run);
        let (chosen, providers) = provider::split(self.chosen(project)?);
        let mut states = images::observe(engine, project, &chosen, self.images, dry_run)?;
        if !dry_run {
            images::provide(context, project, &mut states, self.images, progress)?;
            let quiet = progress.quietly();
            let shown = if self.images.quiet_pull { &quiet } else { progress };
            image_mounts::get(engine, &chosen, self.images.pull.and_then(Pull::policy), shown)?;
        }
        let mut given = Cow::Borrowed(project);
        for service in providers {
            if !dry_run && !self.no_deps {
                self.before_provider(context, &given, service, &states, progress)?;
            }
            given = provider::up(context, given, service, progress)?;
        }
        let (chosen, _) = provider::split(self.chosen(&given)?);
        self.carry_out(context, &given, &chosen, &states, progress)
    }

    /// The containers that the service of a provider depends on are there, and as it wants them, before it is given.
    fn before_provider(
        &mut self,
        context: &Context,
        project: &Project,
        service: &Service,
        states: &images::States,
        progress: &Progress,
    ) -> Result<()> {
        let needed = project.select(std::slice::from_ref(&service.name), true)?;
        let (needed, _) = provider::split(project.levels(&needed)?.concat());
        let new: Vec<&Service> =
            needed.into_iter().filter(|needed| !self.options.settled.contains(&needed.name)).collect();
        if !new.is_empty() {
            let mut early = self.clone();
            (early.options.remove_orphans, early.options.ignore_orphans) = (false, true);
            early.carry_out(context, project, &new, states, progress)?;
            self.options.settled.extend(new.iter().map(|service| service.name.clone()));
        }
        if self.options.no_start {
            return Ok(());
        }
        let mut depends_on = wait::of_service(service);
        depends_on.retain(|(name, _)| !provider::is_provided(project, name));
        wait::of_project(&context.engine, progress, &project.name, &depends_on)
    }

    fn carry_out(
        &mut self,
        context: &Context,
        project: &Project,
        chosen: &[&Service],
        states: &images::States,
        progress: &Progress,
    ) -> Result<Containers> {
        let (engine, dry_run) = (&context.engine, context.global.dry_run);
        let asked = !dry_run && !self.no_deps;
        let mut plan = self.plan_with(engine, project, chosen, states, asked)?;
        let renewed = self.ask(project, &plan, dry_run)?;
        if !renewed.is_empty() {
            self.options.renew_volumes = renewed;
            plan = self.plan_with(engine, project, chosen, states, asked)?;
        }
        for warning in &plan.warnings {
            progress.note(&format!("warning: {warning}"));
        }
        if dry_run {
            show::dry_run(project, &plan, progress);
            return Ok(Vec::new());
        }
        let image = |service: &&Service| {
            let state = states.get(&images::key(project, service))?;
            Some((service.name.clone(), state.image.clone()?))
        };
        // Services of networks that are made anew may need theirs, too; they are only started again.
        let images = chosen.iter().filter_map(image).collect();
        let interrupt = Interrupt::new()?;
        let apply = Apply {
            engine,
            project,
            images: &images,
            progress,
            timeout: self.timeout,
            wait_timeout: self.wait_timeout,
            workers: context.workers(),
            keep: self.keep,
            renew_anonymous: self.options.renew_anonymous,
            chosen: chosen.iter().map(|service| service.name.clone()).collect(),
            due: plan.pre_start.clone(),
            pre_starts: PreStarts::new(engine, project, progress, Some(&interrupt)),
            interrupt: &interrupt,
        };
        let mut containers = apply.run(&plan)?;
        for (.., container) in &containers {
            // One that stayed as it is.
            engine.adopt(container)?;
        }
        drop(apply);
        if self.goes_on {
            interrupt.leave_to_others()?;
        }
        containers.retain(|(service, ..)| chosen.iter().any(|chosen| chosen.name == *service));
        Ok(containers)
    }

    /// Asks whether volumes whose definition differs are made anew; without an answer they stay as they are.
    fn ask(&self, project: &Project, plan: &Plan, dry_run: bool) -> Result<BTreeSet<String>> {
        use std::io::{IsTerminal as _, Write as _};
        let mut renewed = BTreeSet::new();
        for key in &plan.volumes_differ {
            let name = project.volumes.get(key).map_or(key, |definition| &definition.name);
            let text = format!("Volume \"{name}\" exists but doesn't match configuration in compose file.");
            if self.yes {
                renewed.insert(key.clone());
                continue;
            }
            if dry_run || !std::io::stdin().is_terminal() {
                crate::note!("warning: {text} It stays as it is; --yes recreates it, and its data will be lost");
                continue;
            }
            let _ = write!(std::io::stderr(), "{text} Recreate (data will be lost)? [y/N] ");
            let mut answer = String::new();
            std::io::stdin().read_line(&mut answer)?;
            if matches!(answer.trim(), "y" | "Y" | "yes") {
                renewed.insert(key.clone());
            }
        }
        Ok(renewed)
    }
}

fn refuse_clash(first: &str, second: &str, port: u16) -> Result<()> {
    if first == second {
        bail!(
            "service \"{first}\" cannot run more than one container on host port {port}: \
             give a range of ports, or none, to scale it"
        );
    }
    bail!("services \"{first}\" and \"{second}\" both publish host port {port}");
}
