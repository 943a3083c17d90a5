//! What of a project is there: its containers, found by their labels, its
//! networks and volumes.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use umiak_base::ProcessRef;
use umiak_compose::Project;
use umiak_netns::Network;

use super::labels;
use crate::engine::container::Status;
use crate::engine::volume::{self, Volume};
use crate::engine::{Container, Engine, cgroup, network};

/// How long a container that was killed may take until its end is recorded.
const DYING: Duration = Duration::from_secs(10);

/// What of a project is there.
#[derive(Debug, Clone, Default)]
pub struct Observed {
    /// Its containers, by service and number.
    pub members: Vec<Member>,
    /// Its networks that are there, by name.
    pub networks: BTreeMap<String, Network>,
    /// Its volumes that are there, by name.
    pub volumes: BTreeMap<String, Volume>,
    /// Containers, by id, that another directory's project of the same name has made, and that directory.
    pub elsewhere: BTreeMap<String, String>,
}

/// Looks at everything that a project's plan depends on.
pub fn project(engine: &Engine, project: &Project) -> Result<Observed> {
    let mut observed = Observed { members: settled(engine, &project.name)?, ..Observed::default() };
    for definition in project.networks.values() {
        if let Some(network) = network::find(&engine.roots, &definition.name)? {
            observed.networks.insert(definition.name.clone(), network);
        }
    }
    for definition in project.volumes.values() {
        if let Some(volume) = volume::get(&engine.roots, &definition.name)? {
            observed.volumes.insert(definition.name.clone(), volume);
        }
    }
    observed.elsewhere = elsewhere(&observed.members, &project.working_dir);
    Ok(observed)
}

/// Containers made from another directory, by id. One that has gone was moved, and is nobody else's.
pub fn elsewhere(members: &[Member], working_dir: &Path) -> BTreeMap<String, String> {
    let here = working_dir.display().to_string();
    let other = |member: &Member| {
        let dir = member.container.label(labels::WORKING_DIR)?;
        (dir != here && Path::new(dir).is_dir()).then(|| (member.container.config.id.clone(), dir.to_owned()))
    };
    members.iter().filter_map(other).collect()
}

/// One container of a project.
#[derive(Debug, Clone)]
pub struct Member {
    /// The container.
    pub container: Container,
    /// Its service.
    pub service: String,
    /// Its number among the replicas.
    pub number: u32,
}

impl Member {
    /// Whether `run` made it.
    pub fn is_one_off(&self) -> bool {
        self.container.label(labels::ONEOFF) == Some("True")
    }
}

/// All containers of a project, by service and number. A damaged one is reported and left out.
pub fn members(engine: &Engine, project: &str) -> Result<Vec<Member>> {
    let mut members: Vec<Member> = engine
        .containers()?
        .into_iter()
        .filter(|container| container.label(labels::PROJECT) == Some(project))
        .filter_map(|container| {
            let service = container.label(labels::SERVICE)?.to_owned();
            // Those of `run` have no number, and come after all replicas.
            let last = if container.label(labels::ONEOFF) == Some("True") { u32::MAX } else { 1 };
            let number = container.label(labels::NUMBER).and_then(|number| number.parse().ok()).unwrap_or(last);
            Some(Member { container, service, number })
        })
        .collect();
    members.sort_by(|a, b| (&a.service, a.number).cmp(&(&b.service, b.number)));
    Ok(members)
}

/// As [`members`]; of those that were killed a moment ago, the ends are waited for: what is planned with them as running
/// could not be carried out.
fn settled(engine: &Engine, project: &str) -> Result<Vec<Member>> {
    let found = members(engine, project)?;
    let is_ending = |container: &Container| {
        container.state.status == Status::Running && container.state.init.is_some_and(ProcessRef::is_ending)
    };
    let ending: Vec<&Container> =
        found.iter().map(|member| &member.container).filter(|container| is_ending(container)).collect();
    if ending.is_empty() {
        return Ok(found);
    }
    let deadline = Some(Instant::now() + DYING);
    for container in ending {
        // The command that killed it may have been killed itself while everything stood still for that.
        let _ = cgroup::thaw(&container.config.runtime.cgroup_path);
        engine.wait_since(&container.config.id, Some(container.state.restart_count), deadline)?;
    }
    members(engine, project)
}

/// Without the containers of `run`.
pub fn replicas(mut members: Vec<Member>) -> Vec<Member> {
    members.retain(|member| !member.is_one_off());
    members
}

/// The members of the named services, or all. A name that no container has is an error, unless the model knows it.
pub fn select(members: Vec<Member>, services: &[String], known: &dyn Fn(&str) -> bool) -> Result<Vec<Member>> {
    if services.is_empty() {
        return Ok(members);
    }
    for service in services {
        if !known(service) && !members.iter().any(|member| member.service == *service) {
            bail!("no such service: {service}");
        }
    }
    Ok(members.into_iter().filter(|member| services.contains(&member.service)).collect())
}

/// The container of a service that `export` and `commit` mean, whether it runs or not: the lowest number, or exactly
/// `index`.
pub fn one(engine: &Engine, project: &str, service: &str, index: Option<u32>) -> Result<Member> {
    let found = members(engine, project)?
        .into_iter()
        .find(|member| member.service == service && index.is_none_or(|index| member.number == index));
    match (found, index) {
        (Some(member), _) => Ok(member),
        (None, None) => bail!("service \"{service}\" is not running"),
        (None, Some(index)) => bail!("service \"{service}\" is not running container #{index}"),
    }
}

/// The running container of a service that `exec` and `port` mean: the lowest number, or exactly `index`.
pub fn running(engine: &Engine, project: &str, service: &str, index: Option<u32>) -> Result<Member> {
    let found = members(engine, project)?
        .into_iter()
        .filter(|member| member.service == service && index.is_none_or(|index| member.number == index))
        .find(|member| member.container.state.status.is_up());
    match (found, index) {
        (Some(member), _) => Ok(member),
        (None, None) => bail!("service \"{service}\" is not running"),
        (None, Some(index)) => bail!("service \"{service}\" is not running container #{index}"),
    }
}
