//! The images of a project's services: which are there, which are to be pulled
//! and why, and pulling them.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result};
use umiak_compose::{Project, PullPolicy, Service};
use umiak_images::store::{Image, StoreError};

use super::service;
use crate::engine::Engine;
use crate::engine::image::Policy;
use crate::failure::WithHint as _;
use crate::ui::progress::Progress;

/// The images of `up --pull`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Pull {
    /// Every time.
    Always,
    /// When the store does not have it.
    #[value(alias = "if_not_present")]
    Missing,
    /// Never.
    Never,
    /// As the service's `pull_policy` says.
    Policy,
}

impl Pull {
    /// The same for every service; `None` where each has its own.
    pub const fn policy(self) -> Option<Policy> {
        match self {
            Self::Always => Some(Policy::Always),
            Self::Missing => Some(Policy::Missing),
            Self::Never => Some(Policy::Never),
            Self::Policy => None,
        }
    }
}

/// An image by its name and platform.
pub type Key = (String, Option<String>);

/// What is known of one image.
#[derive(Debug, Clone)]
pub struct State {
    /// The image, if the store has it.
    pub image: Option<Image>,
    /// Why it is to be pulled, if it is.
    pub pull: Option<&'static str>,
    /// What is done when it is not there.
    policy: Policy,
    /// The service that asked for it first.
    service: String,
    builds: bool,
}

/// The images of services, by name and platform.
pub type States = BTreeMap<Key, State>;

/// The image of a service.
pub fn key(project: &Project, service: &Service) -> Key {
    (service::image(project, service), service.platform.clone())
}

/// The images of the containers that run before a service's own, but for the service's.
pub fn steps(service: &Service) -> impl Iterator<Item = Key> + '_ {
    service.pre_start.iter().filter_map(|step| Some((step.image.clone()?, service.platform.clone())))
}

/// Looks up the images of services and decides which are pulled. Changes nothing.
pub fn observe(
    engine: &Engine,
    project: &Project,
    services: &[&Service],
    pull: Option<Pull>,
    dry_run: bool,
) -> Result<States> {
    let mut states = States::new();
    let each = |service| {
        std::iter::once((key(project, service), service)).chain(steps(service).map(move |key| (key, service)))
    };
    for (key, service) in services.iter().copied().flat_map(each) {
        if states.contains_key(&key) {
            continue;
        }
        let exact = engine.exact_name(&key.0, key.1.as_deref());
        let exact = exact.with_context(|| format!("service {}", service.name))?;
        let image = find(engine, &exact, dry_run).with_context(|| format!("service {}", service.name))?;
        let fixed = *exact != key.0;
        let flag = pull.and_then(Pull::policy);
        let policy = flag.unwrap_or_else(|| Policy::of_service(service));
        let aged = flag.is_none();
        let why = match (policy, &image) {
            (Policy::Always, Some(_)) if fixed => None,
            (Policy::Always, _) => Some("pulled every time"),
            (Policy::Missing, None) => Some("not there"),
            (Policy::Missing, Some(_)) if aged && !fixed && older(engine, &key.0, service)? => Some("due for a pull"),
            _ => None,
        };
        let builds = service.build.is_some() && key == self::key(project, service);
        let state = State { image, pull: why, policy, service: service.name.clone(), builds };
        states.insert(key, state);
    }
    Ok(states)
}

fn find(engine: &Engine, name: &str, dry_run: bool) -> Result<Option<Image>> {
    // Opening the store makes it.
    if dry_run && !engine.roots.data.join("images").exists() {
        return Ok(None);
    }
    let store = engine.store()?;
    match store.resolve(name) {
        Ok(image) if store.layer_dirs(&image).is_ok() => Ok(Some(image)),
        Err(error @ StoreError::Ambiguous { .. }) => Err(error.into()),
        // Missing or damaged: a pull gets or repairs it.
        _ => Ok(None),
    }
}

/// Whether `pull_policy: daily` and the like ask for a pull now.
fn older(engine: &Engine, name: &str, service: &Service) -> Result<bool> {
    const DAY: Duration = Duration::from_secs(24 * 3600);
    let limit = match &service.pull_policy {
        Some(PullPolicy::Daily) => DAY,
        Some(PullPolicy::Weekly) => 7 * DAY,
        Some(PullPolicy::Refresh) => Duration::ZERO,
        Some(PullPolicy::Every(_, time)) => *time,
        _ => return Ok(false),
    };
    let tagged = engine.store()?.tagged(name)?;
    let age = tagged.and_then(|tagged| SystemTime::now().duration_since(tagged).ok());
    Ok(age.is_none_or(|age| age >= limit))
}

/// Pulls what is to be pulled, `parallel` images at a time; all of `states` are there afterwards.
pub fn pull(engine: &Engine, states: &mut States, parallel: usize, progress: &Progress) -> Result<()> {
    let wanted: Vec<(Key, State)> = states
        .iter()
        .filter(|(_, state)| state.image.is_none() || state.pull.is_some())
        .map(|(key, state)| (key.clone(), state.clone()))
        .collect();
    let next = std::sync::atomic::AtomicUsize::new(0);
    let results = std::sync::Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..wanted.len().min(parallel) {
            scope.spawn(|| {
                while let Some((key, state)) = wanted.get(next.fetch_add(1, std::sync::atomic::Ordering::Relaxed)) {
                    let result = one(engine, key, state, progress);
                    let mut results = results.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                    results.push((key.clone(), result));
                }
            });
        }
    });
    for (key, result) in results.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner) {
        let image = result?;
        if let Some(state) = states.get_mut(&key) {
            state.image = Some(image);
            state.pull = None;
        }
    }
    Ok(())
}

fn one(engine: &Engine, (name, platform): &Key, state: &State, progress: &Progress) -> Result<Image> {
    // What is due by its age is asked for as if every time.
    let policy = if state.pull.is_some() && state.image.is_some() { Policy::Always } else { state.policy };
    let image = engine.image(name, policy, platform.as_deref(), progress);
    match image {
        Err(error) if state.builds => Err(error).hint(|| {
            format!(
                "service {} has a build section, and this version of umiak cannot build images yet: \
                 build {name} elsewhere and load it with `umiak image load`",
                state.service
            )
        }),
        image => image.with_context(|| format!("service {}", state.service)),
    }
}
