//! Starting what shall run since the host has booted: which containers, in which
//! order, and waiting for what. Everything comes from the containers' own
//! files; no Compose file is read.

pub mod decide;
pub mod run;

use std::collections::BTreeMap;

use crate::engine::container::{EXIT_UNKNOWN, NetworkMode, Want};
use crate::engine::{Container, Engine};

use super::{labels, pre_start, wait};
use decide::{Facts, Node};

/// What the decision depends on, of one container.
pub fn node(engine: &Engine, container: &Container) -> Node {
    let config = &container.config;
    let state = &container.state;
    let mut joins: Vec<String> = config.join.iter().map(|(_, id)| id.clone()).collect();
    if let NetworkMode::Container(owner) = &config.network {
        joins.push(owner.clone());
    }
    let boot = umiak_base::process::boot_id().unwrap_or_default();
    Node {
        id: config.id.clone(),
        name: config.name.clone(),
        project: container.label(labels::PROJECT).map(str::to_owned),
        service: container.label(labels::SERVICE).map(str::to_owned),
        one_off: container.label(labels::ONEOFF) == Some("True") || pre_start::is_one(container),
        depends_on: wait::of_label(container),
        joins,
        facts: Facts {
            status: state.status,
            policy: config.restart.clone(),
            exit_code: state.exit_code,
            restart_count: state.restart_count,
            unseen: container.lost || state.exit_code == Some(EXIT_UNKNOWN),
            want: Want::of(&engine.roots, &config.id).unwrap_or(Want::UP),
            this_boot: state.boot_id == boot,
            auto_remove: config.auto_remove,
        },
    }
}

/// The containers of each project by service, without those of `run` and of steps before a start.
pub type Services<'a> = BTreeMap<(&'a str, &'a str), Vec<usize>>;

/// Finds the replicas of a service.
pub fn services(nodes: &[Node]) -> Services<'_> {
    let mut all = Services::new();
    for (index, node) in nodes.iter().enumerate() {
        if let (Some(project), Some(service), false) = (&node.project, &node.service, node.one_off) {
            all.entry((project, service)).or_default().push(index);
        }
    }
    all
}
