//! From what a model wants and what is there to the steps that lead from one
//! to the other, each with its reason. Pure: `up` runs a plan and nothing else.

use std::collections::{BTreeMap, BTreeSet};

use super::labels;
use super::observe::Member;
use crate::compose::{Project, Service};

/// What the command line says about the plan.
#[derive(Debug, Clone, Default)]
#[allow(clippy::struct_excessive_bools, reason = "one per flag")]
pub struct Options {
    /// Recreate every container of the named services.
    pub force_recreate: bool,
    /// Recreate none.
    pub no_recreate: bool,
    /// Remove containers of services that the model does not have.
    pub remove_orphans: bool,
    /// Make, but do not start.
    pub no_start: bool,
    /// Replicas by service.
    pub scale: BTreeMap<String, u32>,
    /// The services named on the command line: only these are forced to be recreated. Empty: all.
    pub named: Vec<String>,
}

/// What a service should look like now.
#[derive(Debug, Clone)]
pub struct Wanted<'a> {
    /// The service.
    pub service: &'a Service,
    /// The hash of its configuration.
    pub hash: String,
    /// The id of its image.
    pub image_id: String,
}

/// The steps.
#[derive(Debug, Default)]
pub struct Plan {
    /// For each service, in an order in which dependencies come first.
    pub services: Vec<ServicePlan>,
    /// Containers of services that the model does not have.
    pub orphans: Vec<Member>,
    /// Containers to remove before anything is made.
    pub remove: Vec<(Member, Reason)>,
}

/// The steps of one service.
#[derive(Debug)]
pub struct ServicePlan {
    /// Its name.
    pub service: String,
    /// Services of this plan whose containers must have been started first.
    pub after: BTreeSet<String>,
    /// Its containers.
    pub steps: Vec<Step>,
}

/// What happens to one container.
#[derive(Debug)]
pub struct Step {
    /// Its number.
    pub number: u32,
    /// The container that is there, unless it is to be made.
    pub existing: Option<Member>,
    /// Why the existing one is replaced.
    pub recreate: Option<Reason>,
    /// Whether it is started.
    pub start: bool,
}

/// Why a container is replaced or removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// The service's configuration differs.
    Configuration,
    /// The image's name leads to another image now.
    Image,
    /// The user asked for it.
    Forced,
    /// There are more replicas than wanted.
    Surplus,
    /// It joins a namespace of a container that is replaced.
    Namespace(String),
    /// The model has no such service.
    Orphan,
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Configuration => f.write_str("configuration changed"),
            Self::Image => f.write_str("image changed"),
            Self::Forced => f.write_str("forced"),
            Self::Surplus => f.write_str("scaled down"),
            Self::Namespace(service) => write!(f, "joins a namespace of {service}, which is recreated"),
            Self::Orphan => f.write_str("not in the Compose file"),
        }
    }
}

/// Plans `wanted`, which holds dependencies before what depends on them.
pub fn plan(project: &Project, wanted: &[Wanted<'_>], members: Vec<Member>, options: &Options) -> Plan {
    let mut plan = Plan::default();
    let planned: BTreeSet<&str> = wanted.iter().map(|wanted| wanted.service.name.as_str()).collect();
    let mut by_service: BTreeMap<String, Vec<Member>> = BTreeMap::new();
    for member in members {
        let known = |name: &str| project.services.contains_key(name) || project.disabled_services.contains_key(name);
        let one_off = member.container.label(labels::ONEOFF) == Some("True");
        match () {
            () if one_off => {}
            () if !known(&member.service) => plan.orphans.push(member),
            () => by_service.entry(member.service.clone()).or_default().push(member),
        }
    }
    let mut replaced: BTreeSet<String> = BTreeSet::new();
    for wanted in wanted {
        let service = wanted.service;
        let mut existing = by_service.remove(&service.name).unwrap_or_default();
        let count = options.scale.get(&service.name).copied().unwrap_or_else(|| service.replicas());
        // The lowest numbers stay.
        existing.sort_by_key(|member| member.number);
        let keep = usize::try_from(count).unwrap_or(usize::MAX).min(existing.len());
        for surplus in existing.split_off(keep) {
            plan.remove.push((surplus, Reason::Surplus));
        }
        let mut steps: Vec<Step> = Vec::new();
        for member in existing {
            let recreate = reason(wanted, &member, &replaced, options);
            let up = member.container.state.status.is_up();
            let start = !options.no_start && (recreate.is_some() || !up);
            if recreate.is_some() {
                replaced.insert(service.name.clone());
            }
            steps.push(Step { number: member.number, existing: Some(member), recreate, start });
        }
        let mut taken: BTreeSet<u32> = steps.iter().map(|step| step.number).collect();
        while steps.len() < usize::try_from(count).unwrap_or(usize::MAX) {
            let number = taken.last().map_or(1, |highest| highest.saturating_add(1));
            taken.insert(number);
            steps.push(Step { number, existing: None, recreate: None, start: !options.no_start });
        }
        let after = service.depends_on.keys().filter(|name| planned.contains(name.as_str())).cloned().collect();
        plan.services.push(ServicePlan { service: service.name.clone(), after, steps });
    }
    if options.remove_orphans {
        plan.remove.extend(std::mem::take(&mut plan.orphans).into_iter().map(|member| (member, Reason::Orphan)));
    }
    plan
}

fn reason(wanted: &Wanted<'_>, member: &Member, replaced: &BTreeSet<String>, options: &Options) -> Option<Reason> {
    if options.no_recreate {
        return None;
    }
    let service = wanted.service;
    let label = |key| member.container.label(key);
    let parent = service.namespace_services().find(|name| replaced.contains(*name));
    match () {
        () if options.force_recreate && (options.named.is_empty() || options.named.contains(&service.name)) => {
            Some(Reason::Forced)
        }
        () if label(labels::CONFIG_HASH) != Some(&wanted.hash) => Some(Reason::Configuration),
        () if label(labels::IMAGE) != Some(&wanted.image_id) => Some(Reason::Image),
        () => parent.map(|name| Reason::Namespace(name.to_owned())),
    }
}

impl Plan {
    /// Whether there is anything to do.
    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        let idle = |step: &Step| step.existing.is_some() && step.recreate.is_none() && !step.start;
        self.remove.is_empty() && self.services.iter().all(|service| service.steps.iter().all(idle))
    }
}
