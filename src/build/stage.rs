//! Runs one stage: its base, then instruction by instruction.

use std::sync::{Arc, OnceLock};

use anyhow::{Context as _, Result};
use umiak_dockerfile::{Instruction, Kind, Stage, Text};
use umiak_images::cache::Record;
use umiak_images::digest::Digest;
use umiak_images::pack::{Adopted, Building};
use umiak_images::reference::Reference;
use umiak_images::store::Image;

use super::failed::{At as _, Cancelled};
use super::key::{self, key};
use super::options::Source;
use super::plan::{Base, Planned};
use super::pulling::Shown;
use super::state::{State, Words};
use super::{Build, Loaded, add, copy, run};
use crate::engine::image::Policy;
use crate::ui::build::Step;

/// The result of a stage, once there is one.
#[derive(Debug, Default)]
pub struct Slot(OnceLock<Result<Arc<State>, Cancelled>>);

impl Slot {
    /// The result; the first that asks makes it, and others wait.
    pub fn get(&self, make: impl FnOnce() -> Result<Arc<State>, Cancelled>) -> Result<Arc<State>, Cancelled> {
        self.0.get_or_init(make).clone()
    }
}

/// A stage under way.
pub struct Running<'r> {
    /// The build.
    pub build: &'r Build<'r>,
    /// The stage's number.
    pub index: usize,
    /// The Dockerfile.
    pub loaded: &'r Loaded,
    /// Nothing is taken from the cache.
    pub fresh: bool,
    /// How its steps are called.
    titles: Titles,
}

#[derive(Debug)]
struct Titles {
    stage: String,
    next: usize,
    all: usize,
}

impl Titles {
    fn next(&mut self, text: &str) -> String {
        let title = format!("[{}{}/{}] {text}", self.stage, self.next, self.all);
        self.next += 1;
        title
    }
}

/// Runs a stage to its end.
pub fn run(build: &Build<'_>, index: usize, loaded: &Loaded) -> Result<State> {
    build.check_cancelled()?;
    let (planned, stage) = match (build.plan.stages.get(index), build.file.stages.get(index)) {
        (Some(planned), Some(stage)) => (planned, stage),
        _ => anyhow::bail!("there is no stage {index}"),
    };
    let name = planned.title.clone().unwrap_or_else(|| index.to_string());
    let options = build.options;
    let fresh = options.no_cache || options.no_cache_filter.iter().any(|filter| filter.eq_ignore_ascii_case(&name));
    let several = build.plan.needed.len() > 1 || planned.title.is_some();
    let titles = Titles {
        stage: match &planned.title {
            Some(name) => format!("{name} "),
            None if several => format!("stage-{index} "),
            None => String::new(),
        },
        next: 1,
        all: steps(build.file, build.plan, index).unwrap_or_default(),
    };
    let mut running = Running { build, index, loaded, fresh, titles };
    let mut state = running.base(planned, stage).at(stage.place)?;
    let triggers = std::mem::take(&mut state.image.config.on_build);
    running.titles.all += triggers.len();
    for trigger in triggers {
        // Whatever escapes in this file: the trigger was written in another one.
        let parsed = umiak_dockerfile::parse_onbuild(&trigger, '\\');
        let instruction = parsed.with_context(|| format!("the ONBUILD trigger {trigger:?} of the base image"));
        let instruction = Instruction { place: stage.place, ..instruction.at(stage.place)? };
        running.instruction(&mut state, &instruction).at(stage.place)?;
    }
    for instruction in &stage.instructions {
        build.check_cancelled()?;
        running.instruction(&mut state, instruction).at(instruction.place)?;
    }
    Ok(state)
}

/// The steps of a stage that are shown, without the triggers of its base.
pub fn steps(file: &umiak_dockerfile::Dockerfile, plan: &super::Plan, index: usize) -> Option<usize> {
    let own = file.stages.get(index)?.instructions.iter().filter(|one| makes_layer(&one.kind)).count();
    Some(own + usize::from(matches!(plan.stages.get(index)?.base, Base::Image(_) | Base::Context(_))))
}

fn makes_layer(kind: &Kind) -> bool {
    matches!(kind, Kind::Run(_) | Kind::Copy(_) | Kind::Add(_) | Kind::Workdir(_))
}

impl<'r> Running<'r> {
    fn base(&mut self, planned: &Planned, stage: &Stage) -> Result<State> {
        let build = self.build;
        match &planned.base {
            Base::Scratch => Ok(State::scratch(&planned.platform)),
            Base::Stage(index) => Ok(build.stage(*index, self.loaded)?.as_base()),
            Base::Image(name) => {
                let title = self.titles.next(&format!("FROM {}", full_name(name)));
                let image = self.image_as(name, planned, title)?;
                Ok(State::of_image(image.config, image.layers))
            }
            Base::Context(name) => {
                let title = self.titles.next(&format!("FROM {name}"));
                match build.options.contexts.get(name) {
                    Some(source @ (Source::Image(_) | Source::Layout(..))) => {
                        let image = self.image_of(source, planned)?;
                        Ok(State::of_image(image.config, image.layers))
                    }
                    Some(source) => {
                        let mut state = State::scratch(&planned.platform);
                        let context = build.named_context(name, source)?;
                        copy::everything(self, &mut state, &context, &title)?;
                        Ok(state)
                    }
                    None => anyhow::bail!("there is no context {name}: {}", stage.original),
                }
            }
        }
    }

    /// An image that something stands on or is copied from.
    pub fn image(&self, name: &str, planned: &Planned) -> Result<Image> {
        self.image_as(name, planned, format!("FROM {}", full_name(name)))
    }

    /// The same, as a step of this title.
    fn image_as(&self, name: &str, planned: &Planned, title: String) -> Result<Image> {
        let build = self.build;
        let options = build.options;
        let full = full_name(name);
        // An image by its id is in no registry.
        let policy = if options.pull && !name.starts_with("sha256:") { Policy::Always } else { Policy::Missing };
        let wanted = planned.platform.to_string();
        // An image that is there for another platform is taken as it is, unless one was asked for.
        let said = planned.platform_said || !options.platforms.is_empty();
        let shown = Shown::new(build.display, &full, title);
        let image = build.engine.image_watched(name, policy, said.then_some(wanted.as_str()), &shown);
        let image = image.with_context(|| format!("{full}: failed to resolve source metadata")).and_then(|image| {
            build.engine.store()?.ensure_unpacked(&image, &shown)?;
            build.building.know(&image)?;
            Ok(image)
        });
        match &image {
            Ok(_) => shown.done(),
            Err(error) => shown.failed(&crate::failure::one_line(error)),
        }
        image
    }

    /// The image that a context is.
    pub fn image_of(&self, source: &Source, planned: &Planned) -> Result<Image> {
        match source {
            Source::Image(name) => self.image(name, planned),
            Source::Layout(path, name) => {
                let store = self.build.engine.store()?;
                let image = super::layout::image(store, path, name, &planned.platform)?;
                store.ensure_unpacked(&image, &umiak_images::progress::Silent)?;
                self.build.building.know(&image)?;
                Ok(image)
            }
            _ => anyhow::bail!("this context is no image"),
        }
    }

    /// The title of the next step.
    pub fn title(&mut self, instruction: &Instruction) -> String {
        self.titles.next(&instruction.title())
    }

    /// Brings something here, as a step of its own.
    pub fn fetch<T>(&self, what: &str, get: impl FnOnce(&Building<'_>) -> Result<T>) -> Result<T> {
        let step = self.build.display.step(what);
        match get(self.build.building) {
            Ok(got) => {
                step.done();
                Ok(got)
            }
            Err(error) => {
                step.failed(&crate::failure::one_line(&error));
                Err(error)
            }
        }
    }

    /// Values of variables.
    pub fn words<'s>(&self, state: &'s State) -> Words<'s> {
        Words { env: &state.env, escape: self.build.file.directives.escape }
    }

    /// How the platform of this stage is written.
    pub fn platform(&self) -> String {
        self.build.plan.stages.get(self.index).map(|stage| stage.platform.to_string()).unwrap_or_default()
    }

    fn instruction(&mut self, state: &mut State, instruction: &Instruction) -> Result<()> {
        let build = self.build;
        let given = build.plan.given(&build.options.args);
        if state.apply(&instruction.kind, &given, build.file.directives.escape)? {
            return Ok(());
        }
        match &instruction.kind {
            Kind::Workdir(path) => self.workdir(state, path, instruction),
            Kind::Copy(copy) => copy::copy(self, state, copy, instruction),
            Kind::Add(add) => add::add(self, state, add, instruction),
            Kind::Run(command) => run::run(self, state, command, instruction),
            _ => Ok(()),
        }
    }

    fn workdir(&mut self, state: &mut State, path: &Text, instruction: &Instruction) -> Result<()> {
        let path = self.words(state).one(path)?;
        let title = self.title(instruction);
        let path = state.work_in(&path);
        let history = format!("WORKDIR {path}");
        if path == "/" {
            state.history(history, false);
            return Ok(());
        }
        let user = state.image.config.user.clone();
        let key = self.key(&key::Step::Directory { path: &path, user: &user }, &state.layers);
        self.layered(state, &title, &key, |running, state, _| copy::directory(running, state, &path, &user))?;
        state.history(history, true);
        Ok(())
    }

    /// The key of a step on top of these layers.
    pub fn key(&self, step: &key::Step<'_>, layers: &[Digest]) -> Digest {
        key(step, &self.platform(), self.build.options.epoch, layers)
    }

    /// Takes the layer of a step from the cache, or makes it.
    pub fn layered(
        &self,
        state: &mut State,
        title: &str,
        key: &Digest,
        make: impl FnOnce(&Self, &State, &Step<'_>) -> Result<Option<Adopted>>,
    ) -> Result<()> {
        let build = self.build;
        build.check_cancelled()?;
        let step = build.display.step(title);
        // Two stages may have the same step: the second one finds what the first has made.
        let once = build.once(key);
        let _alone = once.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if !self.fresh
            && let Some(record) = build.cache.lookup(key)
        {
            step.cached();
            build.note_key(self.index, key);
            self.push(state, record.layer, record.created);
            return Ok(());
        }
        match make(self, state, &step) {
            Ok(adopted) => {
                let created = self.now();
                // An empty one, too: histories count on it.
                let layer = adopted.as_ref().map(|adopted| adopted.diff_id.clone());
                let size = adopted.map_or(0, |adopted| adopted.bytes);
                let description = title.split_once("] ").map_or(title, |(_, text)| text);
                build.cache.put(Record::new(key.clone(), layer.clone(), created.clone(), size, description))?;
                build.note_key(self.index, key);
                self.push(state, layer, created);
                step.done();
                Ok(())
            }
            Err(error) => {
                match error.downcast_ref::<Cancelled>() {
                    Some(_) => step.cancelled(),
                    None => step.failed(&crate::failure::one_line(&error)),
                }
                Err(error)
            }
        }
    }

    fn push(&self, state: &mut State, layer: Option<Digest>, created: String) {
        if let Some(layer) = &layer {
            self.build.pack_early(self.index, layer);
        }
        state.layers.extend(layer);
        state.created = Some(created);
    }

    /// The time of what is made now, RFC 3339.
    pub fn now(&self) -> String {
        let epoch = self.build.options.epoch.and_then(|seconds| jiff::Timestamp::from_second(seconds).ok());
        epoch.unwrap_or_else(jiff::Timestamp::now).to_string()
    }
}

/// A name in full: `docker.io/library/alpine:latest`.
pub fn full_name(name: &str) -> String {
    name.parse::<Reference>().map_or_else(|_| name.to_owned(), |reference| reference.to_string())
}
