//! Builds images from Dockerfiles, in this process and without a daemon.
//!
//! `plan` says which stages are needed and what they stand on; each stage runs
//! on a thread of its own (`stage`) and waits for another one only where it
//! takes something from it. A step is looked up by its key (`key`); what is not
//! there is made: RUN in a container of the engine (`run`), COPY and ADD through
//! an overlay mount (`copy`, with `tree` for what is taken and `write` for where
//! it goes). `export` makes the image of the last stage's state.

mod add;
mod agent;
mod bases;
pub mod caches;
pub mod check;
mod chmod;
mod context;
mod copy;
mod export;
mod failed;
pub mod git;
mod ignored;
pub mod interrupt;
mod key;
mod layout;
mod mounts;
pub mod options;
mod plan;
mod pulling;
mod remote;
mod run;
mod shell;
mod stage;
mod state;
mod tidy;
mod tree;
mod users;
mod write;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use anyhow::{Context as _, Result};
use indexmap::IndexMap;
use umiak_dockerfile::Dockerfile;
use umiak_images::cache::Cache;
use umiak_images::digest::Digest;
use umiak_images::pack::Building;
use umiak_images::platform::Platform;
use umiak_images::reference::Reference;
use umiak_images::store::Image;

pub use bases::bases;

use crate::engine::request::Request;
use crate::engine::{Container, Engine};
use crate::ui::build::Display;

use context::Context;
use failed::{Cancelled, Located};
use options::{Options, Output, Source};
use plan::{Plan, Wanted};
use stage::Slot;
pub use stage::full_name;

/// A build under way, for one platform.
struct Build<'b> {
    engine: &'b Engine,
    options: &'b Options,
    display: &'b Display,
    building: &'b Building<'b>,
    cache: &'b Cache,
    file: &'b Dockerfile,
    plan: &'b Plan,
    /// The build's context, opened when something is taken from it.
    context: OnceLock<Result<Context, Arc<anyhow::Error>>>,
    /// Further contexts, by name.
    contexts: Mutex<IndexMap<String, Arc<Context>>>,
    slots: Vec<Slot>,
    /// Set when a step has failed: the others are given up.
    cancelled: AtomicBool,
    /// The first failure.
    failure: Mutex<Option<anyhow::Error>>,
    /// What runs for the stages under way, to be ended when one fails.
    running: Mutex<Vec<String>>,
    /// A container that never starts, and has an address on the default network: as long as it is there, the bridge
    /// does not come and go with every RUN.
    holder: Mutex<Option<Container>>,
    /// The layers of the image are wanted as blobs.
    packs: bool,
    /// Layers of the image, to be compressed while the build goes on.
    packed: Mutex<Option<Sender<Digest>>>,
    /// Steps under way, by key: the same one is not run twice at a time.
    keys: Mutex<HashMap<Digest, Arc<Mutex<()>>>>,
    /// The keys of the steps so far.
    done: Mutex<caches::Keys>,
}

/// What was built for one platform.
struct Built {
    platform: Platform,
    state: Arc<state::State>,
    keys: caches::Keys,
}

/// The Dockerfile as it was read.
#[derive(Debug)]
pub struct Loaded {
    /// What messages call it.
    pub name: String,
    /// Its text.
    pub text: String,
    /// What its ignore file says, if it has one of its own.
    pub ignore: Option<String>,
}

/// Whether a context is a git repository.
pub fn is_repository(text: &str) -> bool {
    git::parse(text).is_some()
}

/// Builds an image into the store and names it.
pub fn build(engine: &Engine, options: &Options, display: &Display) -> Result<Image> {
    let built = build_to(engine, options, &[Output::Store], display)?;
    built.context("the build gave no image")
}

/// Builds, and gives the result where it is wanted; the image, where it is wanted as one.
pub fn build_to(engine: &Engine, options: &Options, outputs: &[Output], display: &Display) -> Result<Option<Image>> {
    engine.sweep()?;
    engine.sweep_builds()?;
    let store = engine.store()?;
    let names: Vec<Reference> = options
        .names
        .iter()
        .map(|name| name.parse().with_context(|| format!("invalid tag {name:?}: invalid reference format")))
        .collect::<Result<_>>()?;
    let building = store.building()?;
    let mut local = remote::context(options, &building, display)?;
    for (name, value) in crate::engine::docker_config::build_proxies() {
        local.options.args.entry(name).or_insert(value);
    }
    let options = &local.options;
    let loaded = context::dockerfile(options, display)?;
    let file = umiak_dockerfile::parse(&loaded.text).map_err(|error| {
        display.afterwards(&error.render(&loaded.name, &loaded.text));
        let text = format!("failed to solve: {error}: {}", error.fault);
        crate::failure::Coded { text, code: 1 }
    })?;
    check::forbid(engine, options, &loaded, &file, display)?;
    let platforms = match options.platforms.as_slice() {
        [] => vec![host_platform()],
        some => some.to_vec(),
    };
    let cache = caches::with_sources(engine, store.cache(), &options.cache_from, display);
    let one = One { engine, options, display, building: &building, cache: &cache, loaded: &loaded, file: &file };
    let packs = outputs.iter().any(Output::wants_image);
    let mut states = Vec::new();
    for platform in platforms {
        let state = one.platform(platform, packs);
        if states.is_empty() {
            // The bases are here now, and with them the variables that they set.
            check::warn(engine, options, &loaded, &file, display)?;
        }
        states.push(state.map_err(|error| report(error, &loaded, display))?);
    }
    interrupt::check()?;
    let image = export::everything(&one, &states, outputs, &names)?;
    caches::leave(&one, &states)?;
    if let (Some(image), true) = (&image, outputs.iter().any(Output::keeps_image)) {
        for name in &options.names {
            crate::engine::events::image(&engine.roots, "tag", image.id.as_ref(), name);
        }
    }
    Ok(image)
}

/// What a build is made of, whatever the platform.
struct One<'b> {
    engine: &'b Engine,
    options: &'b Options,
    display: &'b Display,
    building: &'b Building<'b>,
    cache: &'b Cache,
    loaded: &'b Loaded,
    file: &'b Dockerfile,
}

impl One<'_> {
    /// Builds for one platform; `packs` when the layers are wanted as blobs.
    fn platform(&self, platform: Platform, packs: bool) -> Result<Built> {
        let host = host_platform();
        let contexts = |name: &str| self.options.contexts.contains_key(name);
        let wanted = Wanted {
            args: &self.options.args,
            target: self.options.target.as_deref(),
            platform: &platform,
            host: &host,
            contexts: &contexts,
        };
        let plan = Plan::new(self.file, wanted)?;
        self.display.expect(plan.needed.iter().filter_map(|index| stage::steps(self.file, &plan, *index)).sum());
        let build = Build {
            engine: self.engine,
            options: self.options,
            display: self.display,
            building: self.building,
            cache: self.cache,
            file: self.file,
            plan: &plan,
            context: OnceLock::new(),
            contexts: Mutex::default(),
            slots: plan.stages.iter().map(|_| Slot::default()).collect(),
            cancelled: AtomicBool::new(false),
            failure: Mutex::default(),
            running: Mutex::default(),
            holder: Mutex::default(),
            packs,
            packed: Mutex::default(),
            keys: Mutex::default(),
            done: Mutex::default(),
        };
        let result = build.run(self.loaded);
        if let Some(holder) = build.holder.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // What stays of it goes with the next build.
            let _ = self.engine.remove(&holder, true, true);
        }
        let keys = build.done.into_inner().unwrap_or_else(PoisonError::into_inner);
        Ok(Built { platform, state: result?, keys })
    }
}

/// The host's platform as an image's: without the exact variant of x86.
fn host_platform() -> Platform {
    let host = Platform::host();
    match host.architecture.as_str() {
        "amd64" => Platform { variant: None, ..host },
        _ => host,
    }
}

/// Shows the place of an error in the Dockerfile, and says it in BuildKit's words.
fn report(error: anyhow::Error, loaded: &Loaded, display: &Display) -> anyhow::Error {
    if let Some(interrupt::Interrupted(signal)) = error.downcast_ref() {
        let text = format!("failed to solve: {error} (steps that have ended are kept in the cache)");
        return crate::failure::Coded { text, code: 128 + signal }.into();
    }
    let Some(Located(place)) = error.downcast_ref::<Located>().copied() else { return error };
    let located = Located(place).to_string();
    let hint = error.downcast_ref::<crate::failure::Hint>().map(|hint| crate::failure::Hint(hint.0.clone()));
    let hidden = |text: &String| *text == located || hint.as_ref().is_some_and(|hint| hint.0 == *text);
    let causes: Vec<String> = error.chain().map(ToString::to_string).filter(|text| !hidden(text)).collect();
    let mut text: Vec<String> = Vec::new();
    for cause in causes {
        if !text.last().is_some_and(|last| last.ends_with(&cause)) {
            text.push(cause);
        }
    }
    display.afterwards(&failed::excerpt(&loaded.name, &loaded.text, place));
    let coded =
        anyhow::Error::from(crate::failure::Coded { text: format!("failed to solve: {}", text.join(": ")), code: 1 });
    match hint {
        Some(hint) => coded.context(hint),
        None => coded,
    }
}

impl<'b> Build<'b> {
    fn run(&self, loaded: &Loaded) -> Result<Arc<state::State>> {
        let (sender, layers) = std::sync::mpsc::channel::<Digest>();
        *self.packed.lock().unwrap_or_else(PoisonError::into_inner) = Some(sender);
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| interrupt::wait(&over).map(|interrupted| self.fail(interrupted.into())));
            let stages: Vec<_> = self
                .plan
                .needed
                .iter()
                .map(|index| {
                    scope.spawn(|| {
                        // Its failure is kept, and told below.
                        let _ = self.stage(*index, loaded);
                    })
                })
                .collect();
            scope.spawn(|| {
                for diff_id in layers {
                    if self.check_cancelled().is_ok() {
                        // What fails here fails again, and is told, when the image is written.
                        let _ = self.building.blob(&diff_id, self.options.compression);
                    }
                }
            });
            for stage in stages {
                // A panic is a mistake in this program, and told by the scope.
                let _ = stage.join();
            }
            interrupt::end(&over);
            // No more layers come.
            self.packed.lock().unwrap_or_else(PoisonError::into_inner).take();
        });
        if let Some(error) = self.failure.lock().unwrap_or_else(PoisonError::into_inner).take() {
            return Err(error);
        }
        Ok(self.stage(self.plan.target, loaded)?)
    }

    /// The state at the end of a stage: of whoever runs it first.
    fn stage(&self, index: usize, loaded: &Loaded) -> Result<Arc<state::State>, Cancelled> {
        let slot = self.slots.get(index).ok_or(Cancelled)?;
        slot.get(|| {
            let result = stage::run(self, index, loaded);
            result.map(Arc::new).map_err(|error| self.fail(error))
        })
    }

    /// Keeps the first failure and ends what else is under way.
    fn fail(&self, error: anyhow::Error) -> Cancelled {
        if error.downcast_ref::<Cancelled>().is_none() {
            self.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
        }
        self.cancel();
        Cancelled
    }

    /// Gives up what is under way.
    fn cancel(&self) {
        self.cancelled.store(true, Ordering::SeqCst);
        for id in self.running.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            // Best effort: what goes on ends by itself, and its result is not used.
            let _ = self.engine.end_build_step(id);
        }
    }

    /// A container runs for a step.
    fn begun(&self, id: &str) {
        self.running.lock().unwrap_or_else(PoisonError::into_inner).push(id.to_owned());
    }

    /// It does no more.
    fn ended(&self, id: &str) {
        self.running.lock().unwrap_or_else(PoisonError::into_inner).retain(|other| other != id);
    }

    fn check_cancelled(&self) -> Result<(), Cancelled> {
        if self.cancelled.load(Ordering::SeqCst) { Err(Cancelled) } else { Ok(()) }
    }

    /// A layer of the stage `index` was made: if it is one of the image, it is compressed while the build goes on.
    fn pack_early(&self, index: usize, layer: &Digest) {
        if self.packs
            && self.plan.is_of_image(index)
            && let Some(packed) = self.packed.lock().unwrap_or_else(PoisonError::into_inner).as_ref()
        {
            // Whoever takes it has gone only when the build is over.
            let _ = packed.send(layer.clone());
        }
    }

    /// Keeps the default network's bridge for the steps to come. Without it they work as well, only slower.
    fn hold_network(&self, image: &Image, layers: &[PathBuf]) {
        let mut holder = self.holder.lock().unwrap_or_else(PoisonError::into_inner);
        if holder.is_none() {
            let request = Request {
                image: "build".to_owned(),
                command: Some(vec!["hold".to_owned()]),
                layers: Some(layers.to_vec()),
                ..Request::default()
            };
            *holder = self.engine.create_build_step(request, image).ok();
        }
    }

    /// A step of the stage `index` has come to its end, and is in the cache.
    fn note_key(&self, index: usize, key: &Digest) {
        let mut done = self.done.lock().unwrap_or_else(PoisonError::into_inner);
        if self.plan.is_of_image(index) {
            done.image.push(key.clone());
        }
        done.all.push(key.clone());
    }

    /// What is locked while the step of a key is under way.
    fn once(&self, key: &Digest) -> Arc<Mutex<()>> {
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(keys.entry(key.clone()).or_default())
    }

    /// The build's own context.
    fn context(&self, loaded: &Loaded) -> Result<&Context> {
        let open = || {
            let step = self.display.step("[internal] load .dockerignore");
            let opened = Context::open(self.cache, &self.options.context, loaded).map_err(Arc::new);
            if let Ok(context) = &opened {
                step.note(&format!("transferring context: {}B done", context.ignore_size()));
                step.done();
            }
            opened
        };
        let opened = self.context.get_or_init(open);
        opened.as_ref().map_err(|error| anyhow::anyhow!("{}", crate::failure::one_line(error)))
    }

    /// A context by name that is a directory.
    fn named_context(&self, name: &str, source: &Source) -> Result<Arc<Context>> {
        let mut contexts = self.contexts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(context) = contexts.get(name) {
            return Ok(Arc::clone(context));
        }
        let context = Arc::new(Context::open_named(self.cache, name, source)?);
        contexts.insert(name.to_owned(), Arc::clone(&context));
        Ok(context)
    }
}
