//! The images of a project's services: which are there, which are to be pulled
//! or built and why, and doing that.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, bail};
use umiak_compose::{Project, PullPolicy, Service};
use umiak_images::store::{Image, StoreError};

use super::build::{self, Flags, run::Shown};
use super::{labels, service};
use crate::commands::Context;
use crate::engine::Engine;
use crate::engine::image::{Policy, in_use, parse_platform};
use crate::failure::WithHint as _;
use crate::parallel;
use crate::personality::Personality;
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
    /// The same policy for every service.
    pub const fn of_policy(policy: Policy) -> Self {
        match policy {
            Policy::Always => Self::Always,
            Policy::Missing => Self::Missing,
            Policy::Never => Self::Never,
        }
    }

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

/// What the command line says about images.
#[derive(Debug, Clone, Copy, Default)]
pub struct Ask {
    /// When they are pulled.
    pub pull: Option<Pull>,
    /// When they are built.
    pub build: Builds,
    /// Pulls are not shown.
    pub quiet_pull: bool,
    /// The steps of builds are not shown.
    pub quiet_build: bool,
}

/// When images are built that can be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Builds {
    /// Where they are missing, or the service's `pull_policy` says so.
    #[default]
    Policy,
    /// Every time.
    Always,
    /// Never.
    Never,
}

impl Builds {
    /// What `--build` and `--no-build` say.
    pub fn of_flags(build: bool, no_build: bool) -> Result<Self> {
        match (build, no_build) {
            (true, true) => bail!("--build and --no-build are incompatible"),
            (true, false) => Ok(Self::Always),
            (false, true) => Ok(Self::Never),
            (false, false) => Ok(Self::Policy),
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
    /// Why it is to be built, if it is.
    pub build: Option<&'static str>,
    /// What is done when it is not there.
    policy: Policy,
    /// The service that asked for it first.
    service: String,
    /// The service whose `build` makes it, if one may.
    builder: Option<String>,
    /// One could make it.
    buildable: bool,
}

impl State {
    /// Whether its registry is asked for it.
    const fn is_pulled(&self) -> bool {
        self.pull.is_some() || (self.image.is_none() && self.build.is_none())
    }
}

/// The images of services, by name and platform.
pub type States = BTreeMap<Key, State>;

/// The image of a service.
pub fn key(project: &Project, service: &Service) -> Key {
    (service::image(project, service), platform(project, service))
}

/// The platform that a service's images are for: its own, or `DOCKER_DEFAULT_PLATFORM`.
pub fn platform(project: &Project, service: &Service) -> Option<String> {
    let default = || project.environment.get("DOCKER_DEFAULT_PLATFORM").filter(|text| !text.is_empty()).cloned();
    service.platform.clone().or_else(default)
}

/// The images of the containers that run before a service's own, but for the service's.
pub fn steps<'s>(project: &Project, service: &'s Service) -> impl Iterator<Item = Key> + use<'s> {
    let platform = platform(project, service);
    service.pre_start.iter().filter_map(move |step| Some((step.image.clone()?, platform.clone())))
}

/// Looks up the images of services and decides which are pulled and which are built. Changes nothing.
pub fn observe(engine: &Engine, project: &Project, services: &[&Service], ask: Ask, dry_run: bool) -> Result<States> {
    let mut states = States::new();
    let each = |service| {
        std::iter::once((key(project, service), service)).chain(steps(project, service).map(move |key| (key, service)))
    };
    // Who builds an image says more of it than who only uses it.
    let builds = |(key, service): &(Key, &Service)| service.build.is_some() && *key == self::key(project, service);
    let (built, used): (Vec<_>, Vec<_>) = services.iter().copied().flat_map(each).partition(builds);
    let own = built.into_iter().map(|(key, service)| (key, service, true));
    for (key, service, own) in own.chain(used.into_iter().map(|(key, service)| (key, service, false))) {
        if let Entry::Vacant(vacant) = states.entry(key) {
            let state = state(engine, vacant.key(), service, own, ask, dry_run);
            vacant.insert(state.with_context(|| format!("service {}", service.name))?);
        }
    }
    Ok(states)
}

/// What is to be done about an image that a service uses, or (`own`) builds.
fn state(engine: &Engine, key: &Key, service: &Service, own: bool, ask: Ask, dry_run: bool) -> Result<State> {
    let exact = engine.exact_name(&key.0, key.1.as_deref())?;
    let fixed = *exact != key.0;
    let image = find(engine, &exact, key.1.as_deref(), dry_run)?;
    let flag = ask.pull.and_then(Pull::policy);
    // What has no name but the project's is in no registry.
    let nameless = own && service.image.is_none();
    let policy = if nameless { Policy::Never } else { flag.unwrap_or_else(|| Policy::of_service(service)) };
    let builds = own && ask.build != Builds::Never;
    let build = match ask.build {
        _ if !builds => None,
        Builds::Always => Some("asked for"),
        _ if flag.is_none() && service.pull_policy == Some(PullPolicy::Build) => Some("built every time"),
        _ if image.is_none() && policy == Policy::Never => Some("not there"),
        _ => None,
    };
    let pull = match (policy, &image) {
        _ if build.is_some() => None,
        (Policy::Always, Some(_)) if fixed => None,
        (Policy::Always, _) => Some("pulled every time"),
        (Policy::Missing, None) => Some("not there"),
        (Policy::Missing, Some(_)) if flag.is_none() && !fixed && older(engine, &key.0, service)? => {
            Some("due for a pull")
        }
        _ => None,
    };
    Ok(State {
        image,
        pull,
        build,
        policy,
        service: service.name.clone(),
        builder: builds.then(|| service.name.clone()),
        buildable: own,
    })
}

/// The images that are built for a service, and why: its own, and those that this one takes as contexts.
pub fn builds(project: &Project, service: &Service, states: &States) -> Result<Vec<(String, &'static str)>> {
    let Some(why) = states.get(&key(project, service)).and_then(|state| state.build) else { return Ok(Vec::new()) };
    let targets = build::targets(project, &[service])?;
    let reason = |target: &Service| {
        let own = states.get(&key(project, target)).and_then(|state| state.build);
        if target.name == service.name { why } else { own.unwrap_or("context of another build") }
    };
    Ok(targets.into_iter().map(|target| (service::image(project, target), reason(target))).collect())
}

/// Pulls and builds what is to be; all of `states` are there afterwards.
pub fn provide(context: &Context, project: &Project, states: &mut States, ask: Ask, progress: &Progress) -> Result<()> {
    let quiet = progress.quietly();
    let shown = if ask.quiet_pull { &quiet } else { progress };
    pull(&context.engine, states, context.workers(), shown)?;
    let wanted: Vec<&Service> = states
        .values()
        .filter(|state| state.build.is_some())
        .filter_map(|state| project.services.get(state.builder.as_ref()?))
        .collect();
    if wanted.is_empty() {
        return Ok(());
    }
    let shown = if ask.quiet_build { Shown::Images } else { Shown::Steps };
    let built = build::run::run(context, project, &wanted, &Flags::of_up(), shown, progress)?;
    for state in states.values_mut() {
        if let Some(image) = state.builder.as_ref().and_then(|service| built.get(service)) {
            (state.image, state.build) = (Some(image.clone()), None);
        }
    }
    Ok(())
}

fn find(engine: &Engine, name: &str, platform: Option<&str>, dry_run: bool) -> Result<Option<Image>> {
    let platform = platform.map(parse_platform).transpose()?;
    // Opening the store makes it.
    if dry_run && !engine.roots.data.join("images").exists() {
        return Ok(None);
    }
    let store = engine.store()?;
    let found = match (store.resolve(name), &platform) {
        // What is there for another platform is not what was asked for.
        (Ok(image), Some(wanted)) if !image.platform.is_asked_for_by(wanted) => match store.variant(&image, wanted)? {
            Some(image) => Ok(image),
            None => return Ok(None),
        },
        (found, _) => found,
    };
    match found {
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

/// Pulls what is to be pulled, `workers` images at a time. What cannot be pulled and can be built is to be built then.
fn pull(engine: &Engine, states: &mut States, workers: usize, progress: &Progress) -> Result<()> {
    let wanted: Vec<(Key, State)> =
        states.iter().filter(|(_, state)| state.is_pulled()).map(|(key, state)| (key.clone(), state.clone())).collect();
    let results = parallel::each(&wanted, workers, |(key, state)| one(engine, key, state, progress));
    for ((key, _), result) in wanted.into_iter().zip(results) {
        let Some(state) = states.get_mut(&key) else { continue };
        state.pull = None;
        match result {
            Ok(image) => state.image = Some(image),
            Err(error) if state.builder.is_some() => {
                progress.note(&format!("warning: {}", crate::failure::one_line(&error)));
                // One that is there serves until the next time.
                state.build = state.image.is_none().then_some("could not be pulled");
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn one(engine: &Engine, (name, platform): &Key, state: &State, progress: &Progress) -> Result<Image> {
    if state.buildable && state.image.is_none() && state.policy == Policy::Never {
        return Err(anyhow::anyhow!("No such image: {name}"))
            .with_context(|| format!("service {}", state.service))
            .hint(|| format!("build it with `{} build {}`", Personality::current().command(), state.service));
    }
    // What is due by its age is asked for as if every time.
    let policy = if state.pull.is_some() && state.image.is_some() { Policy::Always } else { state.policy };
    let image = engine.image(name, policy, platform.as_deref(), progress);
    image.with_context(|| format!("service {}", state.service))
}

/// Removes images of a project's services that have lost their names to newer ones, and that nobody uses.
pub fn prune_dangling(engine: &Engine, project: &Project) -> Result<()> {
    let containers = engine.containers()?;
    for image in engine.store()?.list()?.images {
        let ours = image.config.config.labels.get(labels::PROJECT) == Some(&project.name);
        if ours && image.names.is_empty() && in_use(&containers, &image.id).is_empty() {
            engine.remove_image(image.id.as_ref(), &containers, false)?;
        }
    }
    Ok(())
}
