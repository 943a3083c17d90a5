//! What a plan consists of: steps with their reasons, and what each waits for.

use std::collections::{BTreeMap, BTreeSet};

use umiak_runtime::config::Limits;

use super::super::hash::Change;
use super::super::observe::Member;
use super::super::pre_start::Due;
use crate::engine::restart::RestartPolicy;

/// The steps, in an order in which each comes after those it waits for.
#[derive(Debug, Default)]
pub struct Plan {
    /// The steps.
    pub steps: Vec<Step>,
    /// What is to be run before the containers of services start, by service: part of the steps that start them.
    pub pre_start: BTreeMap<String, Due>,
    /// Containers of chosen services that stay as they are.
    pub kept: Vec<Member>,
    /// What people should know, and no step changes.
    pub warnings: Vec<String>,
    /// Volumes whose definition differs from what is there; making them anew loses their content, so it is asked for.
    pub volumes_differ: Vec<String>,
}

/// One change, with its reasons.
#[derive(Debug)]
pub struct Step {
    /// What is done.
    pub action: Action,
    /// Why.
    pub reasons: Vec<Reason>,
    /// The steps that must be done before, by their places in the plan.
    pub after: BTreeSet<usize>,
}

/// What is done. Networks and volumes by their keys in the Compose file, containers by service and number.
#[derive(Debug)]
pub enum Action {
    /// Get an image from its registry.
    Pull {
        /// Its name.
        image: String,
    },
    /// Build an image.
    Build {
        /// Its name.
        image: String,
    },
    /// Make a network.
    CreateNetwork {
        /// Its key.
        key: String,
        /// Its name.
        name: String,
    },
    /// Remove a network that nobody is attached to any more, and make it anew.
    RecreateNetwork {
        /// Its key.
        key: String,
        /// Its name.
        name: String,
    },
    /// Make a volume.
    CreateVolume {
        /// Its key.
        key: String,
        /// Its name.
        name: String,
    },
    /// Remove a volume with its content, and make it anew.
    RecreateVolume {
        /// Its key.
        key: String,
        /// Its name.
        name: String,
    },
    /// Make a container.
    Create {
        /// The container to be.
        target: Target,
        /// One that was removed in this plan, whose anonymous volumes it gets.
        inherit: Option<Box<Member>>,
    },
    /// Make a container anew: the old one stays until the new one is there, and comes back when that fails.
    Recreate {
        /// The container to be.
        target: Target,
        /// The one that is there.
        old: Box<Member>,
        /// Whether the new one is started.
        start: bool,
    },
    /// Make the containers of a service anew a few at a time, as its `update_config` says.
    Roll {
        /// The service.
        service: String,
        /// The containers that are there, and why each is replaced.
        old: Vec<(Member, Vec<Reason>)>,
        /// How.
        rolling: Rolling,
    },
    /// Give a container that replaced another one its name.
    Rename {
        /// The container.
        target: Target,
        /// As it is now.
        member: Box<Member>,
    },
    /// Apply limits and a restart policy to a container as it is.
    Update {
        /// The container.
        target: Target,
        /// As it is now.
        member: Box<Member>,
        /// Its limits from now on.
        limits: Box<Limits>,
        /// Its restart policy from now on.
        restart: RestartPolicy,
    },
    /// Start a container: the one that is there, or the one that this plan makes.
    Start {
        /// The container.
        target: Target,
        /// The one that is there.
        member: Option<Box<Member>>,
    },
    /// Stop a container.
    Stop {
        /// The container.
        member: Box<Member>,
    },
    /// Take a stopped container off all its networks.
    Detach {
        /// The container.
        member: Box<Member>,
    },
    /// Attach a container to the networks of its service.
    Attach {
        /// The container.
        target: Target,
        /// As it was.
        member: Box<Member>,
    },
    /// Stop and remove a container.
    Remove {
        /// The container.
        member: Box<Member>,
        /// The member that keeps its anonymous volumes; none: they are kept as they are.
        heir: Option<Box<Member>>,
    },
}

/// A container as the model means it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Target {
    /// Its service.
    pub service: String,
    /// Its number.
    pub number: u32,
    /// Its name.
    pub name: String,
}

/// How the containers of a service are replaced while it runs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rolling {
    /// How many at a time; 0: all.
    pub parallelism: usize,
    /// The new one is started before the old one is stopped.
    pub start_first: bool,
    /// Between two batches.
    pub delay: std::time::Duration,
    /// For how long a new one must run to count as well.
    pub monitor: std::time::Duration,
    /// What happens when too many fail.
    pub on_failure: OnFailure,
    /// The share of failures that is borne.
    pub max_failure_ratio: f64,
}

/// What happens when too many containers fail while a service is rolled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnFailure {
    /// The rest stays as it is, and the command fails.
    Pause,
    /// The rest is replaced all the same, and the command fails at the end.
    Continue,
    /// Everything goes back to what it was, and the command fails.
    Rollback,
}

/// Why something is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// It is not there.
    Missing,
    /// It is there, but does not run: `exited`.
    Stopped(&'static str),
    /// A key of the service differs: `environment FOO`.
    Key(String, Change),
    /// The definition differs, and what in it is not known.
    Definition,
    /// The image's name leads to another image now.
    Image,
    /// So does the name of an image that it mounts.
    MountedImage(String),
    /// A service whose volumes it mounts is recreated.
    VolumesFrom(String),
    /// The image is not there, or its policy asks for a pull.
    Pull(&'static str),
    /// The image is not there, or a build is asked for.
    Build(&'static str),
    /// The user asked for it.
    Forced,
    /// There are more replicas than wanted.
    Surplus,
    /// It joins a namespace of a service that is recreated.
    Namespace(String),
    /// The service it depends on, with `restart: true`, is recreated.
    Dependency(String),
    /// The model has no such service.
    Orphan,
    /// A command that was interrupted left it.
    Leftover,
    /// It has not this volume.
    Volume(String),
    /// It is not attached to this network.
    Network(String),
    /// The network is made anew.
    NetworkRecreated(String),
    /// The volume is made anew.
    VolumeRecreated(String),
    /// A limit differs.
    Limit(&'static str, String, String),
}

impl Reason {
    /// The kind, for programs.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Stopped(_) => "stopped",
            Self::Key(..) => "configuration",
            Self::Definition => "definition",
            Self::Image => "image",
            Self::MountedImage(_) => "mounted-image",
            Self::VolumesFrom(_) => "volumes-from",
            Self::Pull(_) => "pull",
            Self::Build(_) => "build",
            Self::Forced => "forced",
            Self::Surplus => "surplus",
            Self::Namespace(_) => "namespace",
            Self::Dependency(_) => "dependency",
            Self::Orphan => "orphan",
            Self::Leftover => "leftover",
            Self::Volume(_) => "volume",
            Self::Network(_) => "network",
            Self::NetworkRecreated(_) => "network-recreated",
            Self::VolumeRecreated(_) => "volume-recreated",
            Self::Limit(..) => "limit",
        }
    }
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Missing => f.write_str("not there"),
            Self::Stopped(status) => f.write_str(status),
            Self::Key(key, change) => write!(f, "{key} {change}"),
            Self::Definition => f.write_str("configuration changed"),
            Self::Image => f.write_str("image changed"),
            Self::MountedImage(name) => write!(f, "mounted image {name} changed"),
            Self::VolumesFrom(service) => write!(f, "mounts the volumes of {service}, which is recreated"),
            Self::Pull(why) | Self::Build(why) => f.write_str(why),
            Self::Forced => f.write_str("forced"),
            Self::Surplus => f.write_str("scaled down"),
            Self::Namespace(service) => write!(f, "joins a namespace of {service}, which is recreated"),
            Self::Dependency(service) => write!(f, "depends on {service}, which is recreated"),
            Self::Orphan => f.write_str("not in the Compose file"),
            Self::Leftover => f.write_str("left by an interrupted command"),
            Self::Volume(name) => write!(f, "volume {name} is not mounted"),
            Self::Network(name) => write!(f, "not attached to network {name}"),
            Self::NetworkRecreated(name) => write!(f, "network {name} is recreated"),
            Self::VolumeRecreated(name) => write!(f, "volume {name} is recreated"),
            Self::Limit(what, from, to) => write!(f, "{what} {from} -> {to}"),
        }
    }
}

/// Reasons as one text: the first few, and how many more.
pub fn reasons(all: &[Reason]) -> String {
    const SHOWN: usize = 5;
    let mut texts: Vec<String> = all.iter().take(SHOWN).map(ToString::to_string).collect();
    if all.len() > SHOWN {
        texts.push(format!("{} more", all.len() - SHOWN));
    }
    texts.join(", ")
}

impl Plan {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }
}
