//! Doing something to a project's containers in order: dependencies first, or
//! last, everything between in parallel.

use anyhow::Result;

use super::labels;
use super::observe::Member;
use crate::parallel;
use umiak_compose::Project;

/// Most of the time is spent waiting for processes to end, so more threads than cores.
const WORKERS: usize = 32;

/// Containers grouped so that each group depends only on earlier ones. The order comes from the model, and
/// without one from the label that the containers carry.
fn levels<'a>(members: &'a [Member], model: Option<&Project>) -> Vec<Vec<&'a Member>> {
    let depends = |member: &Member| -> Vec<String> {
        match model.and_then(|model| model.services.get(&member.service)) {
            Some(service) => service.depends_on.keys().cloned().collect(),
            None => member
                .container
                .label(labels::DEPENDS_ON)
                .unwrap_or_default()
                .split(',')
                .filter_map(|entry| entry.split(':').next())
                .filter(|name| !name.is_empty())
                .map(str::to_owned)
                .collect(),
        }
    };
    let mut waiting: Vec<&Member> = members.iter().collect();
    let mut levels = Vec::new();
    while !waiting.is_empty() {
        let blocked = |member: &Member| {
            let needs = depends(member);
            waiting.iter().any(|other| other.service != member.service && needs.contains(&other.service))
        };
        let (later, level): (Vec<&Member>, Vec<&Member>) = waiting.iter().partition(|member| blocked(member));
        if level.is_empty() {
            // A cycle cannot be made by `up`; labels written by others may hold one.
            levels.push(later);
            return levels;
        }
        levels.push(level);
        waiting = later;
    }
    levels
}

/// Dependencies first. All are tried; the failures are returned.
pub fn forward(
    members: &[Member],
    model: Option<&Project>,
    act: impl Fn(&Member) -> Result<()> + Sync,
) -> Vec<anyhow::Error> {
    levels(members, model).iter().flat_map(|level| at_once(level, &act)).collect()
}

/// Dependencies last. All are tried; the failures are returned.
pub fn reverse(
    members: &[Member],
    model: Option<&Project>,
    act: impl Fn(&Member) -> Result<()> + Sync,
) -> Vec<anyhow::Error> {
    levels(members, model).iter().rev().flat_map(|level| at_once(level, &act)).collect()
}

fn at_once(level: &[&Member], act: &(impl Fn(&Member) -> Result<()> + Sync)) -> Vec<anyhow::Error> {
    parallel::each(level, WORKERS, |member| act(member)).into_iter().filter_map(Result::err).collect()
}
