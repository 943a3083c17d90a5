//! Puts what was decided into an order: a graph of steps, each after those
//! without which it cannot be done.

use std::collections::{BTreeMap, BTreeSet};

use umiak_compose::{Project, Service};

use super::decide::{Decided, Fate, Item, renamed, volume_keys};
use super::step::{Action, OnFailure, Plan, Reason, Rolling, Step, Target};
use super::{Options, Wanted};
use crate::project::observe::Member;
use crate::project::{names, pre_start};

type Steps = BTreeSet<usize>;

struct Build<'a> {
    project: &'a Project,
    options: &'a Options,
    plan: Plan,
    /// What must be done before anything depends on a service.
    ready: BTreeMap<String, Steps>,
    /// Removals by service.
    removed: BTreeMap<String, Steps>,
    /// Removals of what is of no service.
    cleared: Steps,
    networks: BTreeMap<String, usize>,
    volumes: BTreeMap<String, usize>,
    /// Pulls and builds of images.
    pulls: BTreeMap<String, usize>,
    /// Stops of containers that are started again later, by their ids.
    stops: BTreeMap<String, usize>,
    /// Stops of containers because of a service that is recreated.
    stops_for: BTreeMap<String, Steps>,
    detached: Steps,
}

pub fn build(project: &Project, wanted: &[Wanted<'_>], options: &Options, mut decided: Decided) -> Plan {
    let plan = Plan {
        warnings: std::mem::take(&mut decided.warnings),
        volumes_differ: std::mem::take(&mut decided.volumes_differ),
        ..Plan::default()
    };
    let mut build = Build {
        project,
        options,
        plan,
        ready: BTreeMap::new(),
        removed: BTreeMap::new(),
        cleared: Steps::new(),
        networks: BTreeMap::new(),
        volumes: BTreeMap::new(),
        pulls: BTreeMap::new(),
        stops: BTreeMap::new(),
        stops_for: BTreeMap::new(),
        detached: Steps::new(),
    };
    build.removals(&mut decided);
    build.images(wanted);
    build.stops(&decided);
    build.resources(&decided);
    for wanted in wanted {
        let items = decided.items.remove(&wanted.service.name).unwrap_or_default();
        let numbers = decided.create.remove(&wanted.service.name).unwrap_or_default();
        build.service(wanted, items, &numbers);
    }
    // Services that the command does not name, but whose networks are made anew.
    for (name, items) in std::mem::take(&mut decided.items) {
        let service = project.services.get(&name).or_else(|| project.disabled_services.get(&name));
        if let Some(service) = service {
            build.others(service, items);
        }
    }
    build.plan
}

impl Build<'_> {
    fn add(&mut self, action: Action, reasons: Vec<Reason>, after: Steps) -> usize {
        self.plan.steps.push(Step { action, reasons, after });
        self.plan.steps.len() - 1
    }

    fn target(&self, service: &Service, number: u32) -> Target {
        let name = names::container(self.project, service, number);
        Target { service: service.name.clone(), number, name }
    }

    fn removals(&mut self, decided: &mut Decided) {
        for (member, reason, heir) in std::mem::take(&mut decided.remove) {
            let service = (reason != Reason::Orphan).then(|| member.service.clone());
            let action = Action::Remove { member: Box::new(member), heir: heir.map(Box::new) };
            let step = self.add(action, vec![reason], Steps::new());
            match service {
                Some(service) => self.removed.entry(service).or_default().insert(step),
                None => self.cleared.insert(step),
            };
        }
    }

    /// What is pulled, and then what is built.
    fn images(&mut self, wanted: &[Wanted<'_>]) {
        for wanted in wanted {
            let own = wanted.pull.map(|why| (wanted.image.clone(), why));
            for (image, why) in own.into_iter().chain(wanted.step_pulls.iter().cloned()) {
                if !self.pulls.contains_key(&image) {
                    let action = Action::Pull { image: image.clone() };
                    let step = self.add(action, vec![Reason::Pull(why)], Steps::new());
                    self.pulls.insert(image, step);
                }
            }
        }
        let pulled: Steps = self.pulls.values().copied().collect();
        for (image, why) in wanted.iter().flat_map(|wanted| &wanted.builds) {
            if !self.pulls.contains_key(image) {
                let action = Action::Build { image: image.clone() };
                let step = self.add(action, vec![Reason::Build(why)], pulled.clone());
                self.pulls.insert(image.clone(), step);
            }
        }
    }

    /// Stops before anything changes that a container holds on to.
    fn stops(&mut self, decided: &Decided) {
        for item in decided.items.values().flatten() {
            let Some(reason) = item.bounce.as_ref().or(item.reattach.as_ref()) else { continue };
            let mut last = Steps::new();
            if item.member.container.state.status.is_up() {
                let action = Action::Stop { member: Box::new(item.member.clone()) };
                let stop = self.add(action, vec![reason.clone()], Steps::new());
                self.stops.insert(item.member.container.config.id.clone(), stop);
                last.insert(stop);
                if let Reason::Dependency(service) = reason {
                    self.stops_for.entry(service.clone()).or_default().insert(stop);
                }
            }
            if let Some(reason) = &item.reattach {
                let action = Action::Detach { member: Box::new(item.member.clone()) };
                last = Steps::from([self.add(action, vec![reason.clone()], last)]);
            }
            if !matches!(reason, Reason::Dependency(_)) {
                self.detached.extend(last);
            }
        }
    }

    fn resources(&mut self, decided: &Decided) {
        let gone: Steps = self.removed.values().flatten().chain(&self.cleared).copied().collect();
        for (key, anew) in &decided.networks {
            let Some(definition) = self.project.networks.get(key) else { continue };
            let (key, name) = (key.clone(), definition.name.clone());
            // One that is external and missing is an error of that step.
            let step = match anew {
                false => {
                    let action = Action::CreateNetwork { key: key.clone(), name };
                    self.add(action, vec![Reason::Missing], Steps::new())
                }
                true => {
                    let after = self.detached.union(&gone).copied().collect();
                    let action = Action::RecreateNetwork { key: key.clone(), name };
                    self.add(action, vec![Reason::Definition], after)
                }
            };
            self.networks.insert(key, step);
        }
        for (key, anew) in &decided.volumes {
            let Some(definition) = self.project.volumes.get(key) else { continue };
            let (key, name) = (key.clone(), definition.name.clone());
            let step = match anew {
                false => {
                    let action = Action::CreateVolume { key: key.clone(), name };
                    self.add(action, vec![Reason::Missing], Steps::new())
                }
                true => {
                    let mut after = gone.clone();
                    for item in decided.items.values().flatten() {
                        let Fate::Rebuild(reasons) = &item.fate else { continue };
                        if !reasons.contains(&Reason::VolumeRecreated(name.clone())) {
                            continue;
                        }
                        let stopped = self.stops.get(&item.member.container.config.id).copied();
                        let action = Action::Remove { member: Box::new(item.member.clone()), heir: None };
                        let step = self.add(action, reasons.clone(), stopped.into_iter().collect());
                        self.removed.entry(item.member.service.clone()).or_default().insert(step);
                        after.insert(step);
                    }
                    let action = Action::RecreateVolume { key: key.clone(), name };
                    self.add(action, vec![Reason::Definition], after)
                }
            };
            self.volumes.insert(key, step);
        }
    }

    /// What must be done before any container of a service is touched.
    fn base(&self, wanted: &Wanted<'_>) -> Steps {
        let service = wanted.service;
        let mut base = self.cleared.clone();
        base.extend(service.networks.keys().filter_map(|key| self.networks.get(key)));
        base.extend(volume_keys(service).filter_map(|key| self.volumes.get(key)));
        base.extend(self.pulls.get(&wanted.image));
        base.extend(wanted.step_pulls.iter().filter_map(|(image, _)| self.pulls.get(image)));
        base.extend(self.removed.get(&service.name).into_iter().flatten());
        base.extend(self.stops_for.get(&service.name).into_iter().flatten());
        base.extend(self.dependencies(service));
        base
    }

    fn dependencies(&self, service: &Service) -> Steps {
        service.depends_on.keys().filter_map(|name| self.ready.get(name)).flatten().copied().collect()
    }

    fn service(&mut self, wanted: &Wanted<'_>, items: Vec<Item>, numbers: &[u32]) {
        let service = wanted.service;
        let (base, first_own) = (self.base(wanted), self.plan.steps.len());
        self.pre_start(service, &items, numbers);
        let mut rolled: Vec<(Member, Vec<Reason>)> = Vec::new();
        let rolling = if self.options.no_start { None } else { self.rolling(service, &items) };
        for item in items {
            let target = self.target(service, item.member.number);
            let mut after = base.clone();
            after.extend(self.stops.get(&item.member.container.config.id));
            match item.fate.clone() {
                Fate::Recreate(reasons) if rolling.is_some() && item.reattach.is_none() => {
                    rolled.push((item.member, reasons));
                }
                Fate::Recreate(reasons) => {
                    let start = !self.options.no_start;
                    self.add(Action::Recreate { target, old: Box::new(item.member), start }, reasons, after);
                }
                Fate::Rebuild(reasons) => {
                    let inherit = (!self.options.renew_anonymous).then(|| Box::new(item.member));
                    self.create(target, inherit, reasons, after);
                }
                Fate::Keep | Fate::Limits(_) => self.keep(service, target, item, Some(wanted), after),
            }
        }
        if let (Some(rolling), false) = (rolling, rolled.is_empty()) {
            self.add(Action::Roll { service: service.name.clone(), old: rolled, rolling }, Vec::new(), base.clone());
        }
        for number in numbers {
            let target = self.target(service, *number);
            self.create(target, None, vec![Reason::Missing], base.clone());
        }
        let own: Steps = (first_own..self.plan.steps.len()).collect();
        // Where nothing happens, what comes after waits for what came before.
        let ready = if own.is_empty() { self.dependencies(service) } else { own };
        self.ready.insert(service.name.clone(), ready);
    }

    /// Steps of `pre_start` are run before containers that have never run, and once for the service where none of
    /// those that stay has.
    fn pre_start(&mut self, service: &Service, items: &[Item], numbers: &[u32]) {
        if self.options.no_start || service.pre_start.is_empty() {
            return;
        }
        let stays = |item: &Item| matches!(item.fate, Fate::Keep | Fate::Limits(_));
        let passed = |item: &&Item| stays(item) && !pre_start::is_fresh(&item.member.container);
        let mut fresh: Vec<u32> = items.iter().filter(|item| !passed(item)).map(|item| item.member.number).collect();
        fresh.extend(numbers);
        if let Some(due) = pre_start::due(self.project, service, &fresh, items.iter().any(|item| passed(&item))) {
            self.plan.pre_start.insert(service.name.clone(), due);
        }
    }

    fn create(&mut self, target: Target, inherit: Option<Box<Member>>, reasons: Vec<Reason>, after: Steps) {
        let made = self.add(Action::Create { target: target.clone(), inherit }, reasons, after);
        if !self.options.no_start {
            let reasons = vec![Reason::Stopped("created")];
            self.add(Action::Start { target, member: None }, reasons, Steps::from([made]));
        }
    }

    /// A container that stays: it may get its name, its limits, its networks, and be started.
    fn keep(&mut self, service: &Service, target: Target, item: Item, wanted: Option<&Wanted<'_>>, mut after: Steps) {
        let (first, status) = (self.plan.steps.len(), item.member.container.state.status);
        let member = Box::new(item.member);
        if let Some(name) = renamed(self.project, service, &member) {
            let target = Target { name, ..target.clone() };
            let step =
                self.add(Action::Rename { target, member: member.clone() }, vec![Reason::Leftover], after.clone());
            after.insert(step);
        }
        if let (Fate::Limits(reasons), Some(wanted)) = (item.fate, wanted) {
            let limits = Box::new(wanted.limits.clone());
            let action = Action::Update {
                target: target.clone(),
                member: member.clone(),
                limits,
                restart: wanted.restart.clone(),
            };
            after = Steps::from([self.add(action, reasons, after)]);
        }
        if let Some(reason) = item.reattach {
            after.extend(service.networks.keys().filter_map(|key| self.networks.get(key)));
            let action = Action::Attach { target: target.clone(), member: member.clone() };
            after = Steps::from([self.add(action, vec![reason], after)]);
        }
        let bounced = item.bounce.filter(|_| status.is_up());
        let start = match wanted {
            Some(_) => !self.options.no_start && (bounced.is_some() || !status.is_up()),
            None => bounced.is_some(),
        };
        if start {
            let reason = bounced.unwrap_or(Reason::Stopped(status.as_str()));
            // Who shares a network starts after the one whose network it is.
            after.extend(self.dependencies(service));
            self.add(Action::Start { target, member: Some(member.clone()) }, vec![reason], after);
        }
        if self.plan.steps.len() == first && wanted.is_some() {
            self.plan.kept.push(*member);
        }
    }

    fn others(&mut self, service: &Service, items: Vec<Item>) {
        let first = self.plan.steps.len();
        for item in items {
            let target = self.target(service, item.member.number);
            let stop = self.stops.get(&item.member.container.config.id).copied();
            self.keep(service, target, item, None, stop.into_iter().collect());
        }
        self.ready.insert(service.name.clone(), (first..self.plan.steps.len()).collect());
    }

    /// How the containers of a service are replaced one after the other, if its `update_config` says so.
    fn rolling(&mut self, service: &Service, items: &[Item]) -> Option<Rolling> {
        let config = service.deploy.as_ref()?.update_config.as_ref()?;
        if !items.iter().any(|item| matches!(item.fate, Fate::Recreate(_))) {
            return None;
        }
        let mut start_first = config.order.as_deref() == Some("start-first");
        if let Some(why) = start_first.then(|| alone(service)).flatten() {
            self.plan.warnings.push(format!(
                "service {}: order start-first is not possible, because {why}: stop-first is used",
                service.name
            ));
            start_first = false;
        }
        Some(Rolling {
            parallelism: usize::try_from(config.parallelism.unwrap_or(1)).unwrap_or(usize::MAX),
            start_first,
            delay: config.delay.unwrap_or_default(),
            monitor: config.monitor.unwrap_or_default(),
            on_failure: match config.failure_action.as_deref() {
                Some("continue") => OnFailure::Continue,
                Some("rollback") => OnFailure::Rollback,
                _ => OnFailure::Pause,
            },
            max_failure_ratio: config.max_failure_ratio.unwrap_or(0.0),
        })
    }
}

/// What only one container at a time can have.
fn alone(service: &Service) -> Option<String> {
    let fixed = service.ports.iter().filter_map(|port| port.published).find(|r| r.start == r.end && r.start != 0);
    if let Some(port) = fixed {
        return Some(format!("only one container at a time can have the host's port {}", port.start));
    }
    let address =
        |network: &umiak_compose::ServiceNetwork| network.ipv4_address.is_some() || network.ipv6_address.is_some();
    if service.networks.values().any(address) {
        return Some("only one container at a time can have its fixed address".to_owned());
    }
    let mac = service.mac_address.is_some() || service.networks.values().any(|network| network.mac_address.is_some());
    mac.then(|| "only one container at a time can have its hardware address".to_owned())
}
