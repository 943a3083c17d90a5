//! Which containers are started after a boot, and after which others: a pure
//! function of what is known of all of them.
//!
//! As Docker's daemon does when it starts: `always` comes back even if it was
//! stopped by hand before the boot, `unless-stopped` does not. Beyond Docker:
//! `on-failure` comes back when the host ended it, whatever its exit code, and not
//! when it was stopped by hand; and what a container that comes back depends on
//! comes back with it, if it ran until the host went down.

use std::fmt;

use umiak_compose::Dependency;

use super::Services;
use crate::engine::container::{Status, Want};
use crate::engine::restart::{Condition, RestartPolicy};

/// What is known of a container.
#[derive(Debug, Clone)]
pub struct Facts {
    /// Where it stands, checked against the kernel.
    pub status: Status,
    /// When it is started again.
    pub policy: RestartPolicy,
    /// How its last run ended.
    pub exit_code: Option<i32>,
    /// How often its monitor has started it again.
    pub restart_count: u32,
    /// Nobody saw it end: it ran until the host went down, or its monitor was killed.
    pub unseen: bool,
    /// What its user wants.
    pub want: Want,
    /// Its last run began after the boot.
    pub this_boot: bool,
    /// It goes when it has ended.
    pub auto_remove: bool,
}

/// A container as the decision sees it.
#[derive(Debug, Clone)]
pub struct Node {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its project.
    pub project: Option<String>,
    /// Its service.
    pub service: Option<String>,
    /// It is none of its service's replicas.
    pub one_off: bool,
    /// Services that it waits for.
    pub depends_on: Vec<(String, Dependency)>,
    /// Containers whose namespaces it joins, by id.
    pub joins: Vec<String>,
    /// What is known of it.
    pub facts: Facts,
}

/// What becomes of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// It is started.
    Start(Why),
    /// It stays as it is.
    Stay(Whynot),
    /// It is removed: `--rm`, and nobody was there at its end.
    Remove,
}

/// Why one is started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Why {
    /// Its restart policy wants it.
    Policy(Condition),
    /// The container of this name needs it, and is started.
    NeededBy(String),
}

/// Why one is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whynot {
    /// It runs.
    Running,
    /// It has never been started.
    NeverStarted,
    /// It was stopped by hand.
    StoppedByHand,
    /// Its policy is `no`.
    NoPolicy,
    /// `on-failure`, and it succeeded.
    Succeeded,
    /// It was started again as often as it may be.
    UsedUp,
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Start(Why::Policy(condition)) => write!(f, "restart: {}", condition.name()),
            Self::Start(Why::NeededBy(name)) => write!(f, "needed by {name}"),
            Self::Remove => f.write_str("--rm"),
            Self::Stay(Whynot::Running) => f.write_str("running"),
            Self::Stay(Whynot::NeverStarted) => f.write_str("never started"),
            Self::Stay(Whynot::StoppedByHand) => f.write_str("stopped by hand"),
            Self::Stay(Whynot::NoPolicy) => f.write_str("restart: no"),
            Self::Stay(Whynot::Succeeded) => f.write_str("restart: on-failure, and it succeeded"),
            Self::Stay(Whynot::UsedUp) => f.write_str("its restarts are used up"),
        }
    }
}

/// Decides about one container by itself.
pub fn alone(facts: &Facts) -> Decision {
    use Decision::{Remove, Start, Stay};
    let by_hand = facts.want == Want::DOWN;
    let condition = facts.policy.condition;
    let used_up = facts.policy.max_retries != 0 && facts.restart_count >= facts.policy.max_retries;
    match condition {
        _ if facts.status.is_up() => Stay(Whynot::Running),
        _ if facts.status == Status::Created => Stay(Whynot::NeverStarted),
        _ if facts.auto_remove => Remove,
        Condition::No => Stay(Whynot::NoPolicy),
        // What was stopped since the boot, somebody wants to stay down now.
        _ if by_hand && (facts.this_boot || condition != Condition::Always) => Stay(Whynot::StoppedByHand),
        Condition::OnFailure if facts.exit_code == Some(0) && !facts.want.halted => Stay(Whynot::Succeeded),
        _ if used_up && (facts.this_boot || condition == Condition::OnFailure) => Stay(Whynot::UsedUp),
        policy => Start(Why::Policy(policy)),
    }
}

/// What is decided about all containers.
#[derive(Debug)]
pub struct Plan {
    /// One for each, in their order.
    pub decisions: Vec<Decision>,
    /// Those that are started, dependencies first.
    pub order: Vec<Start>,
}

/// One that is started.
#[derive(Debug, PartialEq, Eq)]
pub struct Start {
    /// Its place among the containers.
    pub node: usize,
    /// Those that must have been started before, by their places in the order: always smaller than its own.
    pub after: Vec<usize>,
}

/// Decides about all containers.
pub fn plan(nodes: &[Node], services: &Services<'_>) -> Plan {
    let mut decisions: Vec<Decision> = nodes.iter().map(|node| alone(&node.facts)).collect();
    let mut open: Vec<usize> = (0..nodes.len()).filter(|index| starts(&decisions[*index])).collect();
    while let Some(index) = open.pop() {
        for needed in needs(nodes, services, index) {
            let facts = &nodes[needed].facts;
            let ran = facts.want.halted || (facts.unseen && facts.want != Want::DOWN);
            if ran && matches!(decisions[needed], Decision::Stay(Whynot::NoPolicy | Whynot::UsedUp)) {
                decisions[needed] = Decision::Start(Why::NeededBy(nodes[index].name.clone()));
                open.push(needed);
            }
        }
    }
    let order = order(nodes, services, &decisions);
    Plan { decisions, order }
}

fn starts(decision: &Decision) -> bool {
    matches!(decision, Decision::Start(_))
}

/// The containers that one depends on: replicas of services, and owners of namespaces.
fn needs(nodes: &[Node], services: &Services<'_>, index: usize) -> Vec<usize> {
    let node = &nodes[index];
    let mut all: Vec<usize> =
        node.joins.iter().filter_map(|id| nodes.iter().position(|other| other.id == *id)).collect();
    if let Some(project) = &node.project {
        for (service, _) in &node.depends_on {
            all.extend(services.get(&(project.as_str(), service.as_str())).into_iter().flatten());
        }
    }
    all.retain(|needed| *needed != index);
    all.sort_unstable();
    all.dedup();
    all
}

fn order(nodes: &[Node], services: &Services<'_>, decisions: &[Decision]) -> Vec<Start> {
    let mut waiting: Vec<usize> = (0..nodes.len()).filter(|index| starts(&decisions[*index])).collect();
    let mut placed: Vec<usize> = Vec::new();
    let mut order = Vec::new();
    while !waiting.is_empty() {
        let free = |index: &usize| needs(nodes, services, *index).iter().all(|needed| !waiting.contains(needed));
        // Labels written by others may hold a cycle: then the oldest goes first, and does not wait for the rest.
        let next = waiting.iter().position(free).unwrap_or(0);
        let node = waiting.remove(next);
        let before = needs(nodes, services, node);
        let after = before.iter().filter_map(|needed| placed.iter().position(|other| other == needed)).collect();
        placed.push(node);
        order.push(Start { node, after });
    }
    order
}

/// What one waits for at its start.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Gates {
    /// Services with the containers that have to be as it says.
    pub wait: Vec<(String, Dependency, Vec<usize>)>,
    /// Containers that it would wait for if they did not stay down.
    pub without: Vec<usize>,
}

/// What the container at `index` waits for: those that run or are started. To wait for others would be in vain, and
/// Docker would not do it.
pub fn gates(nodes: &[Node], services: &Services<'_>, decisions: &[Decision], index: usize) -> Gates {
    let mut gates = Gates::default();
    let Some(project) = &nodes[index].project else { return gates };
    for (service, dependency) in &nodes[index].depends_on {
        let replicas = services.get(&(project.as_str(), service.as_str())).into_iter().flatten().copied();
        let comes = |node: &usize| starts(&decisions[*node]) || decisions[*node] == Decision::Stay(Whynot::Running);
        let (up, down): (Vec<usize>, Vec<usize>) = replicas.filter(|node| *node != index).partition(comes);
        let fulfilled = |node: &usize| match dependency.condition {
            umiak_compose::Condition::Started => true,
            umiak_compose::Condition::CompletedSuccessfully => nodes[*node].facts.exit_code == Some(0),
            umiak_compose::Condition::Healthy => false,
        };
        gates.without.extend(down.into_iter().filter(|node| !fulfilled(node)));
        if !up.is_empty() {
            gates.wait.push((service.clone(), *dependency, up));
        }
    }
    gates
}

#[cfg(test)]
mod tests {
    use super::*;
    use umiak_compose::Condition as On;

    fn facts(policy: &str) -> Facts {
        Facts {
            status: Status::Exited,
            policy: RestartPolicy::parse(policy).unwrap(),
            exit_code: Some(255),
            restart_count: 0,
            unseen: true,
            want: Want::UP,
            this_boot: false,
            auto_remove: false,
        }
    }

    fn node(name: &str, service: &str, facts: Facts) -> Node {
        let (name, service) = (name.to_owned(), Some(service.to_owned()));
        let project = Some("demo".to_owned());
        let (depends_on, joins) = (Vec::new(), Vec::new());
        Node { id: format!("id-{name}"), name, project, service, one_off: false, depends_on, joins, facts }
    }

    fn on(mut node: Node, services: &[&str]) -> Node {
        let dependency = Dependency { condition: On::Healthy, ..Dependency::default() };
        node.depends_on = services.iter().map(|name| ((*name).to_owned(), dependency)).collect();
        node
    }

    /// The names in their order, each with those that it waits for; and what stays, with the reason.
    fn planned(nodes: &[Node]) -> (Vec<String>, Vec<String>) {
        let plan = plan(nodes, &super::super::services(nodes));
        let name = |place: usize| nodes[plan.order[place].node].name.as_str();
        let line = |place: usize| {
            let after: Vec<&str> = plan.order[place].after.iter().map(|before| name(*before)).collect();
            format!("{} after [{}]", name(place), after.join(" "))
        };
        let stay = nodes.iter().zip(&plan.decisions).filter(|(_, decision)| !starts(decision));
        (
            (0..plan.order.len()).map(line).collect(),
            stay.map(|(node, decision)| format!("{}: {decision}", node.name)).collect(),
        )
    }

    #[test]
    fn each_policy_after_each_end() {
        let ended = |policy, code| Facts { unseen: false, exit_code: Some(code), ..facts(policy) };
        let stopped = |policy| Facts { want: Want::DOWN, ..ended(policy, 137) };
        let halted = |policy| Facts { want: Want::HALTED, ..ended(policy, 0) };
        let cases: [(&str, [bool; 6]); 5] = [
            // ran when the power went; ended by `system halt`; stopped by hand; failed; succeeded; stopped since the boot
            ("no", [false; 6]),
            ("always", [true, true, true, true, true, false]),
            ("unless-stopped", [true, true, false, true, true, false]),
            ("on-failure", [true, true, false, true, false, false]),
            ("on-failure:2", [true, true, false, true, false, false]),
        ];
        for (policy, expected) in cases {
            let found = [
                facts(policy),
                halted(policy),
                stopped(policy),
                ended(policy, 3),
                ended(policy, 0),
                Facts { this_boot: true, ..stopped(policy) },
            ]
            .map(|facts| starts(&alone(&facts)));
            assert_eq!(found, expected, "{policy}");
        }
    }

    #[test]
    fn what_runs_was_never_started_or_used_its_restarts_up_stays() {
        let always = || facts("always");
        let up = Facts { status: Status::Running, ..always() };
        assert_eq!(alone(&up), Decision::Stay(Whynot::Running));
        let created = Facts { status: Status::Created, exit_code: None, unseen: false, ..always() };
        assert_eq!(alone(&created), Decision::Stay(Whynot::NeverStarted));
        let twice = Facts { restart_count: 2, ..facts("on-failure:2") };
        assert_eq!(alone(&twice), Decision::Stay(Whynot::UsedUp));
        assert!(starts(&alone(&Facts { restart_count: 1, ..twice.clone() })));
        // `deploy.restart_policy: {condition: any, max_attempts: 2}` is counted anew by each boot.
        let policy = RestartPolicy { max_retries: 2, ..RestartPolicy::parse("always").unwrap() };
        let any = Facts { policy, restart_count: 2, ..always() };
        assert!(starts(&alone(&any)));
        assert_eq!(alone(&Facts { this_boot: true, ..any }), Decision::Stay(Whynot::UsedUp));
        assert_eq!(alone(&Facts { auto_remove: true, ..facts("no") }), Decision::Remove);
        // Started by this boot, and dead with its monitor.
        assert!(starts(&alone(&Facts { this_boot: true, ..always() })));
    }

    #[test]
    fn dependencies_come_first_and_all_replicas_count() {
        let always = || facts("always");
        let nodes = [
            on(node("web", "web", always()), &["api", "nobody"]),
            on(node("api-1", "api", always()), &["db"]),
            on(node("api-2", "api", always()), &["db"]),
            node("db", "db", always()),
            on(node("beside", "beside", Facts { status: Status::Running, ..always() }), &["db"]),
        ];
        let (order, stay) = planned(&nodes);
        assert_eq!(order, ["db after []", "api-1 after [db]", "api-2 after [db]", "web after [api-1 api-2]"]);
        assert_eq!(stay, ["beside: running"]);
    }

    #[test]
    fn what_one_needs_comes_back_with_it_if_it_ran() {
        let ended = |code| Facts { unseen: false, exit_code: Some(code), ..facts("no") };
        let nodes = [
            on(node("web", "web", facts("always")), &["db", "job", "cache"]),
            on(node("db", "db", facts("no")), &["disk"]),
            node("disk", "disk", Facts { want: Want::HALTED, ..ended(0) }),
            node("job", "job", ended(0)),
            node("cache", "cache", Facts { want: Want::DOWN, ..ended(137) }),
            node("alone", "alone", facts("no")),
        ];
        let (order, stay) = planned(&nodes);
        assert_eq!(order, ["disk after []", "db after [disk]", "web after [db]"]);
        assert_eq!(stay, ["job: restart: no", "cache: restart: no", "alone: restart: no"]);
        let plan = plan(&nodes, &super::super::services(&nodes));
        assert_eq!(plan.decisions[2].to_string(), "needed by db");
    }

    #[test]
    fn nobody_waits_for_what_stays_down() {
        let job = |code| Facts { unseen: false, exit_code: Some(code), ..facts("no") };
        let mut web = on(node("web", "web", facts("always")), &["db", "cache"]);
        let completed = Dependency { condition: On::CompletedSuccessfully, ..Dependency::default() };
        web.depends_on.extend([("done".to_owned(), completed), ("failed".to_owned(), completed)]);
        let nodes = [
            web,
            node("db", "db", facts("always")),
            node("cache", "cache", Facts { want: Want::DOWN, ..facts("unless-stopped") }),
            node("done", "done", job(0)),
            node("failed", "failed", job(3)),
        ];
        let services = super::super::services(&nodes);
        let gates = gates(&nodes, &services, &plan(&nodes, &services).decisions, 0);
        let waits: Vec<(&str, &[usize])> = gates.wait.iter().map(|(name, _, who)| (name.as_str(), &who[..])).collect();
        assert_eq!((waits, gates.without), (vec![("db", &[1][..])], vec![2, 4]));
    }

    #[test]
    fn the_owner_of_a_namespace_comes_first_also_in_another_project() {
        let mut guest = node("guest", "guest", facts("always"));
        guest.joins = vec!["id-owner".into()];
        let mut owner = node("owner", "owner", facts("always"));
        owner.project = None;
        assert_eq!(planned(&[guest, owner]).0, ["owner after []", "guest after [owner]"]);
    }

    #[test]
    fn a_cycle_of_labels_does_not_keep_anybody_from_starting() {
        let nodes = [on(node("a", "a", facts("always")), &["b"]), on(node("b", "b", facts("always")), &["a"])];
        assert_eq!(planned(&nodes).0, ["a after []", "b after [a]"]);
        // Neither does a container of `run`, for which nobody waits.
        let mut one_off = node("b-run", "b", facts("always"));
        one_off.one_off = true;
        let nodes = [on(node("a", "a", facts("always")), &["b"]), one_off];
        assert_eq!(planned(&nodes).0, ["a after []", "b-run after []"]);
    }
}
