//! Keys that this host cannot honour: a warning names each, and the container runs without it.

use std::path::Path;

use umiak_compose::{Diagnostic, Project, Service, ServiceVolume, VolumeKind};
use umiak_runtime::cgroup::Cgroup;
use umiak_runtime::cgroup::limits::take_missing;
use umiak_runtime::config::Limits;

use crate::engine::mounts::is_docker_socket;

/// Names under which Docker knows the runtime that containers have here.
const RUNTIMES: [&str; 4] = ["runc", "umiak", "io.containerd.runc.v2", ""];

/// One warning for each such key of the services that take part.
pub fn warnings(project: &Project) -> Vec<Diagnostic> {
    let cgroup = Cgroup::new("/umiak").ok();
    let mut all = Vec::new();
    for service in project.services.values() {
        let mut found = Vec::new();
        if let Some(cgroup) = &cgroup {
            found = take_missing(&mut host_limits(service), cgroup);
        }
        if service.runtime.as_deref().is_some_and(|name| !RUNTIMES.contains(&name)) {
            found.push(("runtime", "there is one runtime here"));
        }
        for socket in
            service.volumes.iter().filter(|volume| wants_docker(volume)).filter_map(|volume| volume.source.as_ref())
        {
            let name = &service.name;
            let message = format!(
                "services.{name}.volumes: {socket} is not mounted: Docker's daemon, whose API it is, does not run here"
            );
            all.push(Diagnostic::warning(message).at(project.sources.place(service.at("volumes"))));
        }
        for (key, why) in found {
            let message = format!("services.{}.{key} is ignored: {why}", service.name);
            all.push(Diagnostic::warning(message).at(project.sources.place(service.at(key))));
        }
    }
    all
}

/// Whether what is mounted is the API of a daemon that is not there.
pub fn wants_docker(volume: &ServiceVolume) -> bool {
    let source = volume.source.as_deref().map(Path::new).filter(|_| volume.kind == VolumeKind::Bind);
    source.is_some_and(|source| is_docker_socket(source) && !source.exists())
}

/// The limits of a service that not every host has.
pub fn host_limits(service: &Service) -> Limits {
    let unsigned = |value: i64| u64::try_from(value).ok();
    Limits {
        swappiness: service.mem_swappiness.and_then(unsigned),
        oom_kill_disable: service.oom_kill_disable.unwrap_or(false),
        cpu_rt_period: service.cpu_rt_period.and_then(unsigned),
        cpu_rt_runtime: service.cpu_rt_runtime,
        ..Limits::default()
    }
}

/// Takes those away that this host does not have.
pub fn keep_possible(limits: &mut Limits) {
    if let Ok(cgroup) = Cgroup::new("/umiak") {
        // The warning was given when the file was loaded.
        drop(take_missing(limits, &cgroup));
    }
}
