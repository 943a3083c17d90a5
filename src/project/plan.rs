//! From what a model wants and what is there to the steps that lead from one
//! to the other, each with its reason. Pure: `up` runs a plan and nothing else.

use std::collections::{BTreeMap, BTreeSet};

use super::labels;
use super::observe::Member;
use umiak_compose::{Project, Service};

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Container;
    use crate::engine::container::{Config, State, Status};

    const STACK: &str = "
services:
  web: { image: web, depends_on: [db] }
  db: { image: db }
";

    fn project(text: &str) -> Project {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("compose.yaml"), text).unwrap();
        let options = umiak_compose::LoadOptions {
            project_name: Some("p".into()),
            current_dir: dir.path().to_owned(),
            ..umiak_compose::LoadOptions::default()
        };
        umiak_compose::load(&options).unwrap()
    }

    fn wanted(project: &Project) -> Vec<Wanted<'_>> {
        let all: Vec<&Service> = project.services.values().collect();
        let ordered = project.levels(&all).unwrap().into_iter().flatten();
        let hash = |service| crate::project::hash::service(project, service).unwrap();
        ordered
            .map(|service| Wanted { service, hash: hash(service), image_id: format!("id of {}", service.name) })
            .collect()
    }

    /// A container as an `up` with `wanted` would have left it.
    fn member(wanted: &Wanted<'_>, number: u32, status: Status) -> Member {
        let service = wanted.service.name.clone();
        let config: Config = serde_json::from_value(serde_json::json!({
            "id": "0".repeat(64), "name": format!("p-{service}-{number}"), "created": "2026-01-01T00:00:00Z",
            "image": service, "image_id": wanted.image_id, "network": "none", "runtime": {},
            "labels": { labels::CONFIG_HASH: wanted.hash, labels::IMAGE: wanted.image_id },
        }))
        .unwrap();
        let container = Container { config, state: State { status, ..State::default() }, health: None, lost: false };
        Member { container, service, number }
    }

    fn running(wanted: &[Wanted<'_>]) -> Vec<Member> {
        wanted.iter().map(|wanted| member(wanted, 1, Status::Running)).collect()
    }

    #[test]
    fn an_empty_host_gets_everything_dependencies_first() {
        let project = project(STACK);
        let plan = plan(&project, &wanted(&project), Vec::new(), &Options::default());
        let services: Vec<(&str, bool)> =
            plan.services.iter().map(|planned| (planned.service.as_str(), planned.after.contains("db"))).collect();
        assert_eq!(services, [("db", false), ("web", true)]);
        assert!(plan.services.iter().all(|planned| planned.steps.len() == 1 && planned.steps[0].start));
    }

    #[test]
    fn the_second_up_has_nothing_to_do() {
        let project = project(STACK);
        let wanted = wanted(&project);
        assert!(plan(&project, &wanted, running(&wanted), &Options::default()).is_empty());
    }

    #[test]
    fn only_what_changed_is_recreated_and_the_reason_is_told() {
        let (before, after) = (project(STACK), project(&STACK.replace("image: db", "image: db, user: '5'")));
        let (old, mut new) = (wanted(&before), wanted(&after));
        let reasons = |new: &[Wanted<'_>], options: &Options| -> Vec<Option<Reason>> {
            let plan = plan(&after, new, running(&old), options);
            plan.services.iter().map(|planned| planned.steps[0].recreate.clone()).collect()
        };
        assert_eq!(reasons(&new, &Options::default()), [Some(Reason::Configuration), None]);
        assert_eq!(reasons(&new, &Options { no_recreate: true, ..Options::default() }), [None, None]);
        let forced = Options { force_recreate: true, named: vec!["web".into()], ..Options::default() };
        assert_eq!(reasons(&new, &forced), [Some(Reason::Configuration), Some(Reason::Forced)]);
        new[1].image_id = "another".into();
        assert_eq!(reasons(&new, &Options::default())[1], Some(Reason::Image));
    }

    #[test]
    fn scaling_keeps_the_lowest_numbers_and_new_ones_come_after_the_highest() {
        let project = project(STACK);
        let wanted = wanted(&project);
        let there = || {
            let mut there = running(&wanted);
            there.push(member(&wanted[0], 4, Status::Exited));
            there
        };
        let scaled = |count| {
            let scale = BTreeMap::from([("db".to_owned(), count)]);
            plan(&project, &wanted, there(), &Options { scale, ..Options::default() })
        };
        let numbers = |plan: &Plan| -> Vec<u32> { plan.services[0].steps.iter().map(|step| step.number).collect() };
        assert_eq!(numbers(&scaled(3)), [1, 4, 5]);
        assert!(scaled(3).services[0].steps[1].start, "a container that has ended is started again");
        let down = scaled(1);
        assert_eq!((numbers(&down), down.remove.len()), (vec![1], 1));
        assert_eq!(down.remove[0].1, Reason::Surplus);
    }

    #[test]
    fn orphans_are_only_removed_when_asked() {
        let (before, after) = (project(STACK), project("services: { db: { image: db } }"));
        let (old, new) = (wanted(&before), wanted(&after));
        let planned =
            |remove_orphans| plan(&after, &new, running(&old), &Options { remove_orphans, ..Options::default() });
        assert_eq!((planned(false).orphans.len(), planned(false).remove.len()), (1, 0));
        assert_eq!(planned(true).remove[0].1, Reason::Orphan);
    }
}
