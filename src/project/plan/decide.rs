//! What is to become of every container, network and volume that is there, seen
//! one by one; [`build`](super::build) puts it in order.

use std::collections::{BTreeMap, BTreeSet};

use umiak_compose::{Project, Service, VolumeKind};
use umiak_runtime::config::MountKind;

use super::{Definitions, Options, Reason, Wanted};
use crate::engine::restart::RestartPolicy;
use crate::engine::update;
use crate::project::labels;
use crate::project::names;
use crate::project::observe::{Member, Observed};
use crate::project::pre_start;

/// What happens to a container that is there.
#[derive(Debug, Clone, PartialEq)]
pub enum Fate {
    /// It stays.
    Keep,
    /// Another one takes its place.
    Recreate(Vec<Reason>),
    /// It is removed before a volume that it has is made anew, and then made anew itself.
    Rebuild(Vec<Reason>),
    /// Its limits change.
    Limits(Vec<Reason>),
}

/// A container that is there, and what happens to it.
#[derive(Debug)]
pub struct Item {
    pub member: Member,
    pub fate: Fate,
    /// It is stopped before something else changes, and started again after.
    pub bounce: Option<Reason>,
    /// It is taken off its networks and attached to them anew.
    pub reattach: Option<Reason>,
}

/// What is to become of everything.
#[derive(Debug, Default)]
pub struct Decided {
    /// Containers by service; also those of services that the command does not name.
    pub items: BTreeMap<String, Vec<Item>>,
    /// Numbers of containers to be made, by service.
    pub create: BTreeMap<String, Vec<u32>>,
    /// Containers to be removed, the reason, and who keeps their anonymous volumes.
    pub remove: Vec<(Member, Reason, Option<Member>)>,
    /// Networks to be made (false) or made anew (true), by key.
    pub networks: BTreeMap<String, bool>,
    /// Volumes to be made (false) or made anew (true), by key.
    pub volumes: BTreeMap<String, bool>,
    /// Volumes whose definition differs, by key.
    pub volumes_differ: Vec<String>,
    /// What people should know.
    pub warnings: Vec<String>,
}

pub fn decide(
    project: &Project,
    definitions: &Definitions,
    wanted: &[Wanted<'_>],
    observed: &Observed,
    options: &Options,
) -> Decided {
    let mut decided = Decided::default();
    let mut by_service = sort_out(project, wanted, observed, options, &mut decided);
    resources(project, definitions, wanted, observed, options, &mut decided);
    let mut replaced: BTreeSet<String> = BTreeSet::new();
    for wanted in wanted {
        let service = wanted.service;
        let members = by_service.remove(&service.name).unwrap_or_default();
        let members = without_leftovers(members, wanted, &mut decided);
        let mut items: Vec<Item> = members
            .into_iter()
            .map(|member| {
                let fate = fate(project, wanted, &member, observed, &replaced, options, &decided);
                Item { member, fate, bounce: None, reattach: None }
            })
            .collect();
        scale(wanted, &mut items, options, &mut decided);
        if items.iter().any(|item| matches!(item.fate, Fate::Recreate(_) | Fate::Rebuild(_))) {
            replaced.insert(service.name.clone());
        }
        decided.items.insert(service.name.clone(), items);
    }
    for (service, members) in by_service {
        let keep = |member| Item { member, fate: Fate::Keep, bounce: None, reattach: None };
        decided.items.insert(service, members.into_iter().map(keep).collect());
    }
    bounce(project, &replaced, &mut decided);
    decided
}

/// Containers by service; those of no service of the model are orphans, but for those of another directory.
fn sort_out(
    project: &Project,
    wanted: &[Wanted<'_>],
    observed: &Observed,
    options: &Options,
    decided: &mut Decided,
) -> BTreeMap<String, Vec<Member>> {
    let chosen = |member: &Member| wanted.iter().any(|wanted| wanted.service.name == member.service);
    let (mut orphans, mut strangers, mut shared) = (Vec::new(), Vec::new(), BTreeSet::new());
    let mut by_service: BTreeMap<String, Vec<Member>> = BTreeMap::new();
    for member in &observed.members {
        let one_off = member.container.label(labels::ONEOFF) == Some("True");
        let elsewhere = observed.elsewhere.get(&member.container.config.id);
        match () {
            // The project is locked: nobody waits for one that a killed command started, or that has failed.
            () if pre_start::is_one(&member.container) && project.knows(&member.service) => {
                if elsewhere.is_none() && chosen(member) {
                    decided.remove.push((member.clone(), Reason::Leftover, None));
                }
            }
            // A one-off that runs is somebody's session.
            () if one_off && member.container.state.status.is_up() => {}
            () if one_off || !project.knows(&member.service) => match elsewhere {
                Some(dir) => strangers.push((member.container.config.name.clone(), dir.clone())),
                None => orphans.push(member.clone()),
            },
            () => {
                if let Some(dir) = elsewhere.filter(|_| member.container.state.status.is_up()) {
                    shared.insert(dir.clone());
                }
                by_service.entry(member.service.clone()).or_default().push(member.clone());
            }
        }
    }
    for dir in shared {
        decided.warnings.push(format!(
            "project \"{}\" has running services that were started from {dir}: this directory's project has the same \
             name and takes them over. Give one of the two another name, with `name:` or -p",
            project.name
        ));
    }
    if !strangers.is_empty() && !options.ignore_orphans {
        let names: Vec<String> = strangers.iter().map(|(name, dir)| format!("{name} of {dir}")).collect();
        decided.warnings.push(format!(
            "another directory has a project of the same name \"{}\": its containers ({}) are left alone. Give one of \
             the two another name, with `name:` or -p",
            project.name,
            names.join(", ")
        ));
    }
    if options.remove_orphans {
        decided.remove.extend(orphans.into_iter().map(|member| (member, Reason::Orphan, None)));
    } else if !orphans.is_empty() && !options.ignore_orphans {
        let names: Vec<&str> = orphans.iter().map(|member| member.container.config.name.as_str()).collect();
        decided.warnings.push(format!(
            "found orphan containers ({}) for this project: services that the Compose file does not have. \
             `--remove-orphans` removes them",
            names.join(", ")
        ));
    }
    by_service
}

/// The networks and volumes that the wanted services use.
fn resources(
    project: &Project,
    definitions: &Definitions,
    wanted: &[Wanted<'_>],
    observed: &Observed,
    options: &Options,
    decided: &mut Decided,
) {
    let differs = |labels: &BTreeMap<String, String>, hash: Option<&String>| {
        let made_for_us = labels.get(labels::PROJECT) == Some(&project.name);
        made_for_us && labels.get(labels::CONFIG_HASH).is_some_and(|there| Some(there) != hash)
    };
    for (key, definition) in &project.networks {
        if !wanted.iter().any(|wanted| wanted.service.networks.contains_key(key)) {
            continue;
        }
        match observed.networks.get(&definition.name) {
            None => drop(decided.networks.insert(key.clone(), false)),
            Some(there) if !definition.external && !options.no_recreate => {
                if differs(&there.labels, definitions.networks.get(key)) {
                    decided.networks.insert(key.clone(), true);
                }
            }
            Some(_) => {}
        }
    }
    for (key, definition) in &project.volumes {
        if !wanted.iter().any(|wanted| volume_keys(wanted.service).any(|used| used == key)) {
            continue;
        }
        match observed.volumes.get(&definition.name) {
            None => drop(decided.volumes.insert(key.clone(), false)),
            Some(there) if !definition.external && differs(&there.labels, definitions.volumes.get(key)) => {
                let chosen = |member: &Member| wanted.iter().any(|wanted| wanted.service.name == member.service);
                let outside =
                    observed.members.iter().find(|member| has_volume(member, &definition.name) && !chosen(member));
                match outside {
                    Some(member) => decided.warnings.push(format!(
                        "volume \"{}\" differs from its definition, and stays as it is: container {} has it, too",
                        definition.name, member.container.config.name
                    )),
                    None if options.renew_volumes.contains(key) => drop(decided.volumes.insert(key.clone(), true)),
                    None => decided.volumes_differ.push(key.clone()),
                }
            }
            Some(_) => {}
        }
    }
}

/// The keys of the top-level volumes that a service mounts.
pub fn volume_keys(service: &Service) -> impl Iterator<Item = &str> {
    let named = service.volumes.iter().filter(|mount| mount.kind == VolumeKind::Volume);
    named.filter_map(|mount| mount.source.as_deref())
}

fn has_volume(member: &Member, name: &str) -> bool {
    let mounts = &member.container.config.runtime.mounts;
    mounts.iter().any(|mount| matches!(&mount.kind, MountKind::Volume(volume) if volume.name == name))
}

/// Of two containers with one number, which an interrupted command has left, the one that fits better stays.
fn without_leftovers(members: Vec<Member>, wanted: &Wanted<'_>, decided: &mut Decided) -> Vec<Member> {
    let current = |member: &Member| member.container.label(labels::CONFIG_HASH) == Some(&wanted.hash);
    let mut by_number: BTreeMap<u32, Vec<Member>> = BTreeMap::new();
    for member in members {
        by_number.entry(member.number).or_default().push(member);
    }
    let mut kept = Vec::new();
    for (_, mut same) in by_number {
        // Up to date before outdated, then the younger: the older one was about to go.
        same.sort_by_key(|member| (current(member), member.container.config.created));
        let Some(keeper) = same.pop() else { continue };
        decided.remove.extend(same.into_iter().map(|old| (old, Reason::Leftover, Some(keeper.clone()))));
        kept.push(keeper);
    }
    kept
}

/// Takes away what is too much, and says what is missing.
fn scale(wanted: &Wanted<'_>, items: &mut Vec<Item>, options: &Options, decided: &mut Decided) {
    let service = wanted.service;
    let count = options.scale.get(&service.name).copied().unwrap_or_else(|| service.replicas());
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    let highest = items.iter().map(|item| item.member.number).max().unwrap_or(0);
    // Outdated containers go first, then those with the highest numbers.
    items.sort_by_key(|item| (matches!(item.fate, Fate::Recreate(_) | Fate::Rebuild(_)), item.member.number));
    let surplus = items.split_off(count.min(items.len()));
    decided.remove.extend(surplus.into_iter().map(|item| (item.member, Reason::Surplus, None)));
    items.sort_by_key(|item| item.member.number);
    let missing = u32::try_from(count - items.len()).unwrap_or(u32::MAX);
    let first = highest.saturating_add(1);
    let numbers: Vec<u32> = (first..first.saturating_add(missing)).collect();
    if !numbers.is_empty() {
        decided.create.insert(service.name.clone(), numbers);
    }
}

fn fate(
    project: &Project,
    wanted: &Wanted<'_>,
    member: &Member,
    observed: &Observed,
    replaced: &BTreeSet<String>,
    options: &Options,
    decided: &Decided,
) -> Fate {
    let service = wanted.service;
    let renewed = |key: &&str| decided.volumes.get(*key) == Some(&true);
    if let Some(key) = volume_keys(service).find(renewed) {
        let name = project.volumes.get(key).map_or(key, |definition| definition.name.as_str());
        return Fate::Rebuild(vec![Reason::VolumeRecreated(name.to_owned())]);
    }
    let reasons = match options.no_recreate {
        true => Vec::new(),
        false => reasons(project, wanted, member, observed, replaced, options, decided),
    };
    if !reasons.is_empty() {
        return Fate::Recreate(reasons);
    }
    let config = &member.container.config;
    let mut changes = update::changes(&config.runtime.limits, &wanted.limits);
    if config.restart != wanted.restart {
        changes.push(("restart policy", policy(&config.restart), policy(&wanted.restart)));
    }
    if changes.is_empty() || options.no_recreate {
        return Fate::Keep;
    }
    Fate::Limits(changes.into_iter().map(|(what, from, to)| Reason::Limit(what, from, to)).collect())
}

fn policy(policy: &RestartPolicy) -> String {
    let mut text = policy.condition.name().to_owned();
    if policy.max_retries > 0 {
        text = format!("{text}:{}", policy.max_retries);
    }
    if let Some(delay) = policy.delay {
        text = format!("{text} after {delay:?}");
    }
    text
}

fn reasons(
    project: &Project,
    wanted: &Wanted<'_>,
    member: &Member,
    observed: &Observed,
    replaced: &BTreeSet<String>,
    options: &Options,
    decided: &Decided,
) -> Vec<Reason> {
    let service = wanted.service;
    let label = |key| member.container.label(key);
    let config = &member.container.config;
    let mut all = Vec::new();
    if options.forces(&service.name) {
        all.push(Reason::Forced);
    }
    if label(labels::CONFIG_HASH) != Some(&wanted.hash) {
        let changes = wanted.fingerprint.changes(&config.fingerprint);
        match config.fingerprint.is_empty() || changes.is_empty() {
            true => all.push(Reason::Definition),
            false => all.extend(changes.into_iter().map(|(key, change)| Reason::Key(key, change))),
        }
    }
    if wanted.image_id.as_deref().is_some_and(|id| label(labels::IMAGE) != Some(id)) {
        all.push(Reason::Image);
    }
    let mounted = |name: &str| {
        config.runtime.mounts.iter().find_map(|mount| match &mount.kind {
            MountKind::Image(image) if image.image == name => Some(image.image_id.as_str()),
            _ => None,
        })
    };
    for (name, id) in &wanted.mounted_images {
        if mounted(name).is_some_and(|there| there != id) {
            all.push(Reason::MountedImage(name.clone()));
        }
    }
    for mount in service.volumes.iter().filter(|mount| mount.kind == VolumeKind::Volume) {
        let Some(key) = &mount.source else { continue };
        let name = project.volumes.get(key).map_or(key, |definition| &definition.name);
        if !has_volume(member, name) {
            all.push(Reason::Volume(name.clone()));
        }
    }
    for key in service.networks.keys() {
        let Some(definition) = project.networks.get(key) else { continue };
        let id = observed.networks.get(&definition.name).map(|network| &network.id);
        let joined = config.network.attachments().iter().find(|attachment| attachment.network == definition.name);
        // One that is made anew takes its containers along.
        if joined.is_some() && decided.networks.get(key) == Some(&true) {
            continue;
        }
        if joined.is_none_or(|attachment| id != Some(&attachment.network_id)) {
            all.push(Reason::Network(definition.name.clone()));
        }
    }
    let parents = service.namespace_services().filter(|name| replaced.contains(*name));
    all.extend(parents.map(|name| Reason::Namespace(name.to_owned())));
    let sources = service.volume_services().filter(|name| replaced.contains(*name));
    all.extend(sources.map(|name| Reason::VolumesFrom(name.to_owned())));
    all
}

/// Containers that stay, but not running, while something that they hold on to changes.
fn bounce(project: &Project, replaced: &BTreeSet<String>, decided: &mut Decided) {
    let renewed: BTreeSet<&str> = decided
        .networks
        .iter()
        .filter(|(_, anew)| **anew)
        .filter_map(|(key, _)| project.networks.get(key))
        .map(|definition| definition.name.as_str())
        .collect();
    let mut owners: BTreeMap<String, Reason> = BTreeMap::new();
    for (name, items) in &mut decided.items {
        for item in items.iter_mut() {
            let config = &item.member.container.config;
            let attached = config.network.attachments().iter().map(|attachment| attachment.network.as_str());
            if let Some(network) = attached.into_iter().find(|network| renewed.contains(network)) {
                let reason = Reason::NetworkRecreated(network.to_owned());
                item.reattach = Some(reason.clone());
                item.bounce = Some(reason.clone());
                owners.insert(config.id.clone(), reason);
            }
            let Some(service) = project.services.get(name) else { continue };
            let restarted = service.depends_on.iter().find(|(on, how)| how.restart && replaced.contains(*on));
            if let (None, Some((on, _)), Fate::Keep | Fate::Limits(_)) = (&item.bounce, restarted, &item.fate) {
                item.bounce = Some(Reason::Dependency(on.clone()));
            }
        }
    }
    // Who shares the network of a container that is taken off it starts again in the new one.
    for item in decided.items.values_mut().flatten().filter(|item| item.bounce.is_none()) {
        if let crate::engine::container::NetworkMode::Container(owner) = &item.member.container.config.network {
            item.bounce = owners.get(owner).cloned();
        }
    }
}

/// The name that a container should have, if it still bears the one it was made with while another one was there.
pub fn renamed(project: &Project, service: &Service, member: &Member) -> Option<String> {
    let name = names::container(project, service, member.number);
    let (front, rest) = member.container.config.name.split_once('_')?;
    let temporary = front.len() == 12 && front.bytes().all(|byte| byte.is_ascii_hexdigit()) && rest == name;
    temporary.then_some(name)
}
