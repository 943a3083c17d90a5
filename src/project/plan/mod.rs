//! From what a model wants and what is there to a graph of steps that leads from
//! one to the other, each with its reasons. Pure: `up` carries a plan out and
//! does nothing else, so `plan` and `--dry-run` are exact.

mod build;
mod decide;
pub mod step;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use umiak_compose::{Project, Service};
use umiak_runtime::config::Limits;

use super::hash::Fingerprint;
use super::observe::Observed;
use crate::engine::restart::RestartPolicy;
pub use step::{Action, OnFailure, Plan, Reason, Rolling, Step, Target};

/// What the command line says about the plan.
#[derive(Debug, Clone, Default)]
#[allow(clippy::struct_excessive_bools, reason = "one per flag")]
pub struct Options {
    /// Recreate every container of the named services.
    pub force_recreate: bool,
    /// Recreate none.
    pub no_recreate: bool,
    /// Recreate the containers of services that the named ones depend on.
    pub always_recreate_deps: bool,
    /// Recreate the named services, without what their anonymous volumes hold.
    pub renew_anonymous: bool,
    /// Remove containers of services that the model does not have.
    pub remove_orphans: bool,
    /// Say nothing of them.
    pub ignore_orphans: bool,
    /// Make, but do not start.
    pub no_start: bool,
    /// Replicas by service.
    pub scale: BTreeMap<String, u32>,
    /// The services named on the command line: only these are forced to be recreated. Empty: all.
    pub named: Vec<String>,
    /// Services that this command has brought to what they should be already: they are not forced again.
    pub settled: BTreeSet<String>,
    /// Volumes, by key, that are made anew with their definition's new options.
    pub renew_volumes: BTreeSet<String>,
}

impl Options {
    fn names(&self, service: &str) -> bool {
        self.named.is_empty() || self.named.iter().any(|name| name == service)
    }

    fn forces(&self, service: &str) -> bool {
        if self.settled.contains(service) {
            return false;
        }
        match self.names(service) {
            true => self.force_recreate || self.renew_anonymous,
            false => self.always_recreate_deps,
        }
    }
}

/// What a service should look like now.
#[derive(Debug, Clone)]
pub struct Wanted<'a> {
    /// The service.
    pub service: &'a Service,
    /// The digests of its configuration.
    pub fingerprint: Fingerprint,
    /// Their hash.
    pub hash: String,
    /// The limits of its containers.
    pub limits: Limits,
    /// Their restart policy.
    pub restart: RestartPolicy,
    /// Its image's name.
    pub image: String,
    /// The id of its image, if that is in the store.
    pub image_id: Option<String>,
    /// The ids of the images that its containers mount, by name, as far as they are in the store.
    pub mounted_images: BTreeMap<String, String>,
    /// Why the image is to be pulled, if it is.
    pub pull: Option<&'static str>,
    /// The images that are built for it, and why: its own, after those that this one stands on.
    pub builds: Vec<(String, &'static str)>,
    /// Images of what runs before its containers that are to be pulled, and why.
    pub step_pulls: Vec<(String, &'static str)>,
}

/// The hashes of a project's networks and volumes, by key.
#[derive(Debug, Clone, Default)]
pub struct Definitions {
    /// Networks.
    pub networks: BTreeMap<String, String>,
    /// Volumes.
    pub volumes: BTreeMap<String, String>,
}

/// Plans `wanted`, which holds dependencies before what depends on them.
pub fn plan(
    project: &Project,
    definitions: &Definitions,
    wanted: &[Wanted<'_>],
    observed: &Observed,
    options: &Options,
) -> Plan {
    let decided = decide::decide(project, definitions, wanted, observed, options);
    build::build(project, wanted, options, decided)
}
