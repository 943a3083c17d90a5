//! `down`: stops and removes a project's containers and networks, and what else
//! is asked for.

use std::collections::BTreeSet;
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};

use super::Context;
use crate::engine::{Container, image, network, volume};
use crate::failpoint;
use crate::project::observe::{self, Member};
use crate::project::{hooks, images, labels, load, provider, sequence, service};
use crate::ui::progress::Progress;

/// Stop and remove containers, networks.
#[derive(Debug, Args)]
pub struct Down {
    /// Remove named volumes declared in the Compose file and anonymous volumes attached to containers
    #[arg(short, long)]
    volumes: bool,
    /// Remove images used by services: "local" removes only images that don't have a custom tag
    #[arg(long, value_enum, value_name = "WHICH")]
    rmi: Option<Rmi>,
    /// Remove containers for services not defined in the Compose file
    #[arg(long)]
    remove_orphans: bool,
    /// Seconds to wait for a container to stop before it is killed
    #[arg(short, long, value_name = "SECONDS", allow_negative_numbers = true)]
    timeout: Option<i64>,
    /// Services; all if none
    services: Vec<String>,
}

/// Which images go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Rmi {
    /// Those that have no name of their own in the Compose file.
    Local,
    /// All.
    All,
}

impl Down {
    /// Runs the command.
    pub fn run(self, context: &Context) -> Result<ExitCode> {
        let engine = &context.engine;
        let project = load::named(context, &self.services)?;
        let _lock = context.lock_project(&project.name)?;
        let progress = context.progress();
        let everybody = observe::members(engine, &project.name)?;
        let all = observe::select(everybody.clone(), &self.services, &|name| project.knows(name))?;
        let sorted = Sorted::new(all, &project, self.remove_orphans(&project));
        sorted.warn(&project.name);
        let mut errors = self.containers(context, &project, sorted.ours.clone(), &progress)?;
        let gone: BTreeSet<&str> = sorted.ours.iter().map(|member| member.container.config.id.as_str()).collect();
        let stays: Vec<Container> =
            engine.containers()?.into_iter().filter(|container| !gone.contains(container.config.id.as_str())).collect();
        self.networks(context, &project.name, &stays, &progress, &mut errors)?;
        if self.volumes {
            volumes(context, &project.name, &stays, &progress, &mut errors)?;
        }
        if let Some(which) = self.rmi {
            self.images(context, &project, &sorted.ours, which, &stays, &progress, &mut errors)?;
        }
        progress.finish();
        finish(errors)
    }

    /// Stops and removes containers, dependents first. Those that a provider's service depends on outlive it, those that
    /// depend on it do not.
    fn containers(
        &self,
        context: &Context,
        project: &load::Named,
        mut rest: Vec<Member>,
        progress: &Progress,
    ) -> Result<Vec<anyhow::Error>> {
        let (engine, mut errors) = (&context.engine, Vec::new());
        let remove = |members: &[Member]| {
            sequence::reverse(members, project.model.as_ref(), |member| {
                let what = format!("Container {}", member.container.config.name);
                if member.container.state.status.is_up() {
                    failpoint::reach("stop");
                    progress.working(&what, "Stopping");
                    context.act(|| hooks::stop(engine, &member.container, self.timeout))?;
                    progress.done(&what, "Stopped");
                }
                failpoint::reach("remove");
                progress.working(&what, "Removing");
                context.act(|| engine.remove(&member.container, true, self.volumes))?;
                progress.done(&what, "Removed");
                Ok(())
            })
        };
        if let Some(model) = &project.model {
            let mut leaving = provider::leaving(model, &self.services)?;
            while !leaving.is_empty() {
                let names: Vec<String> = leaving.iter().map(|service| service.name.clone()).collect();
                let needed: BTreeSet<&str> =
                    model.select(&names, true)?.into_iter().map(|service| service.name.as_str()).collect();
                let (later, now): (Vec<Member>, Vec<Member>) =
                    rest.into_iter().partition(|member| needed.contains(member.service.as_str()));
                errors.extend(remove(&now));
                errors.extend(provider::down(context, model, leaving.remove(0), progress).err());
                rest = later;
            }
        }
        errors.extend(remove(&rest));
        Ok(errors)
    }

    fn remove_orphans(&self, project: &load::Named) -> bool {
        let set = |model: &umiak_compose::Project| {
            let value = model.environment.get("COMPOSE_REMOVE_ORPHANS").map(|value| value.to_ascii_lowercase());
            value.is_some_and(|value| matches!(value.as_str(), "1" | "t" | "true" | "y" | "yes"))
        };
        self.remove_orphans || project.model.as_ref().is_some_and(set)
    }

    fn networks(
        &self,
        context: &Context,
        project: &str,
        stays: &[Container],
        progress: &Progress,
        errors: &mut Vec<anyhow::Error>,
    ) -> Result<()> {
        for owned in network::list(&context.engine.roots)?.into_iter().filter(|n| is_of(&n.labels, project)) {
            let what = format!("Network {}", owned.name);
            progress.working(&what, "Removing");
            let used = |container: &Container| {
                container.config.network.attachments().iter().any(|attachment| attachment.network_id == owned.id)
            };
            if stays.iter().any(used) {
                progress.done(&what, "Resource is still in use");
                continue;
            }
            failpoint::reach("remove network");
            match context.act(|| network::remove(&context.engine.roots, &owned.name)) {
                Ok(()) => progress.done(&what, "Removed"),
                Err(error) => errors.push(error),
            }
        }
        Ok(())
    }

    #[allow(clippy::too_many_arguments, reason = "what one command knows")]
    fn images(
        &self,
        context: &Context,
        project: &load::Named,
        members: &[Member],
        which: Rmi,
        stays: &[Container],
        progress: &Progress,
        errors: &mut Vec<anyhow::Error>,
    ) -> Result<()> {
        let mut names: BTreeSet<String> = BTreeSet::new();
        match &project.model {
            Some(model) => {
                let chosen =
                    model.services.values().filter(|s| self.services.is_empty() || self.services.contains(&s.name));
                let chosen = chosen.filter(|s| s.provider.is_none() && (which == Rmi::All || s.image.is_none()));
                for chosen in chosen {
                    names.insert(service::image(model, chosen));
                    names.extend(images::steps(model, chosen).filter(|_| which == Rmi::All).map(|(name, _)| name));
                }
            }
            None if which == Rmi::All => {
                names.extend(members.iter().map(|member| member.container.config.image.clone()))
            }
            None => {}
        }
        for name in names {
            let what = format!("Image {name}");
            let Ok(found) = context.engine.store()?.resolve(&name) else {
                crate::note!("warning: image {name} is not there");
                continue;
            };
            progress.working(&what, "Removing");
            if !image::in_use(stays, &found.id).is_empty() {
                progress.done(&what, "Resource is still in use");
                continue;
            }
            let remove = || {
                context.engine.store()?.remove(&name, &|id| image::in_use(stays, id), false)?;
                Ok(())
            };
            match context.act(remove) {
                Ok(()) => progress.done(&what, "Removed"),
                Err(error) => errors.push(error),
            }
        }
        Ok(())
    }
}

/// A project's containers: which go, and which stay.
struct Sorted {
    ours: Vec<Member>,
    orphans: Vec<String>,
    strangers: Vec<String>,
}

impl Sorted {
    fn new(all: Vec<Member>, project: &load::Named, remove_orphans: bool) -> Self {
        let mut sorted = Self { ours: Vec::new(), orphans: Vec::new(), strangers: Vec::new() };
        let Some(model) = &project.model else { return Self { ours: all, ..sorted } };
        let elsewhere = observe::elsewhere(&all, &model.working_dir);
        for member in all {
            let name = member.container.config.name.clone();
            match elsewhere.get(&member.container.config.id) {
                _ if model.knows(&member.service) => sorted.ours.push(member),
                Some(dir) => sorted.strangers.push(format!("{name} of {dir}")),
                None if remove_orphans => sorted.ours.push(member),
                None => sorted.orphans.push(name),
            }
        }
        sorted
    }

    fn warn(&self, project: &str) {
        if !self.orphans.is_empty() {
            crate::note!(
                "warning: found orphan containers ({}) for this project; `--remove-orphans` removes them",
                self.orphans.join(", ")
            );
        }
        if !self.strangers.is_empty() {
            crate::note!(
                "warning: another directory has a project of the same name \"{project}\": its containers ({}) are left alone",
                self.strangers.join(", ")
            );
        }
    }
}

fn volumes(
    context: &Context,
    project: &str,
    stays: &[Container],
    progress: &Progress,
    errors: &mut Vec<anyhow::Error>,
) -> Result<()> {
    use umiak_runtime::config::MountKind;
    for owned in volume::list(&context.engine.roots)?.into_iter().filter(|volume| is_of(&volume.labels, project)) {
        let what = format!("Volume {}", owned.name);
        let used = |container: &Container| {
            let mounts = &container.config.runtime.mounts;
            mounts.iter().any(|mount| matches!(&mount.kind, MountKind::Volume(volume) if volume.name == owned.name))
        };
        progress.working(&what, "Removing");
        if stays.iter().any(used) {
            progress.done(&what, "Resource is still in use");
            continue;
        }
        failpoint::reach("remove volume");
        match context.act(|| volume::remove_unused(&context.engine, &owned.name)) {
            Ok(()) => progress.done(&what, "Removed"),
            Err(error) => errors.push(error),
        }
    }
    Ok(())
}

fn is_of<'a>(labels: impl IntoIterator<Item = (&'a String, &'a String)>, project: &str) -> bool {
    labels.into_iter().any(|(key, value)| key == labels::PROJECT && value == project)
}

/// All failures are told; any makes the command fail.
pub fn finish(mut errors: Vec<anyhow::Error>) -> Result<ExitCode> {
    let Some(last) = errors.pop() else { return Ok(ExitCode::SUCCESS) };
    if errors.is_empty() {
        return Err(last);
    }
    for error in errors.iter().chain([&last]) {
        crate::note!("Error: {}", crate::failure::one_line(error));
    }
    bail!("{} steps failed", errors.len() + 1)
}
