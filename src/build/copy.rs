//! COPY, ADD and WORKDIR: what writes files into a stage without running
//! anything.

use std::collections::HashMap;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use umiak_dockerfile::ignore::Patterns;
use umiak_dockerfile::{Copy, Heredoc, Instruction, Source as Item, Text};
use umiak_images::cache::Record;
use umiak_images::digest::Digest;
use umiak_images::pack::Adopted;
use umiak_runtime::config::Rootfs;
use umiak_runtime::view;

use super::chmod;
use super::context::Context;
use super::ignored::Ignored;
use super::key;
use super::options::Source;
use super::plan::{Base, lookup};
use super::stage::Running;
use super::state::State;
use super::tree::{Found, Read, Tree, clean};
use super::users;
use super::write::{Attributes, Chmod, Writer};

/// Where files come from.
pub enum From {
    /// The build's own context.
    Own,
    /// Another one.
    Context(Arc<Context>),
    /// The root of a stage or image: its layers, bottom first.
    Layers(Vec<Digest>),
}

/// A COPY or ADD with its variables replaced.
pub struct Job {
    /// Absolute path.
    pub target: String,
    /// The path as it was written.
    pub written: String,
    /// It is a directory.
    pub into: bool,
    /// Names and patterns.
    pub sources: Vec<String>,
    /// Files whose content stands in the Dockerfile: name and content.
    pub texts: Vec<(String, String)>,
    /// Owner of all that is written.
    pub chown: Option<String>,
    /// Modes.
    pub chmod: Option<String>,
    /// The layer does not depend on those below.
    pub link: bool,
    parents: bool,
    /// Patterns of what is left out.
    pub exclude: Vec<String>,
}

impl Job {
    /// Replaces variables.
    pub fn new(
        running: &Running<'_>,
        state: &State,
        sources: &[Item],
        target: &Text,
        flags: (&Option<Text>, &Option<Text>, bool),
    ) -> Result<Self> {
        let words = running.words(state);
        let optional = |text: &Option<Text>| text.as_ref().map(|text| words.one(text)).transpose();
        let written = words.one(target)?;
        let mut job = Self {
            target: state.absolute(&written),
            written,
            into: false,
            sources: Vec::new(),
            texts: Vec::new(),
            chown: optional(flags.0)?.filter(|text| !text.is_empty()),
            chmod: optional(flags.1)?.filter(|text| !text.is_empty()),
            link: flags.2,
            parents: false,
            exclude: Vec::new(),
        };
        for source in sources {
            match source {
                Item::File(text) => job.sources.push(words.one(text)?),
                Item::Heredoc(heredoc) => job.texts.push((heredoc.name.clone(), text_of(state, heredoc)?)),
            }
        }
        let is_directory = job.target.ends_with('/') || job.target.ends_with("/.");
        if sources.len() > 1 && !is_directory {
            bail!(
                "using COPY or ADD with more than one source file, the destination must be a directory and end with a /"
            );
        }
        job.into = is_directory;
        Ok(job)
    }

    /// All of `source` into the root.
    fn plain(source: &str) -> Self {
        Self {
            target: "/".to_owned(),
            written: "/".to_owned(),
            into: true,
            sources: vec![source.to_owned()],
            texts: Vec::new(),
            chown: None,
            chmod: None,
            link: false,
            parents: false,
            exclude: Vec::new(),
        }
    }

    /// What writes for it.
    pub fn writer<'w>(&self, running: &Running<'_>, root: BorrowedFd<'w>, owners: bool) -> Result<Writer<'w>> {
        let chown = self.chown.as_deref().map(|text| users::owner(root, text)).transpose()?;
        let chmod: Option<Chmod> =
            self.chmod.as_deref().map(chmod::parse).transpose().map_err(|text| anyhow::anyhow!(text))?;
        Ok(Writer { root, chown, chmod, owners, epoch: running.build.options.epoch, links: HashMap::new() })
    }

    /// What is left out.
    pub fn exclude(&self) -> Result<Ignored> {
        Ok(Ignored::new(Patterns::new(self.exclude.iter().map(String::as_str))?))
    }

    /// The step, with what its sources give.
    pub fn step<'s>(&'s self, mut given: Vec<String>, owners: bool) -> key::Step<'s> {
        given.extend(self.texts.iter().map(|(name, text)| format!("text {name}\0{text}")));
        given.extend(self.exclude.iter().map(|pattern| format!("without {pattern}")));
        // With the parents the names count, too.
        given.extend(self.sources.iter().filter(|_| self.parents).map(|source| format!("named {source}")));
        key::Step::Copy {
            target: &self.target,
            into: self.into,
            sources: given,
            chown: self.chown.as_deref(),
            chmod: self.chmod.as_deref(),
            owners,
            parents: self.parents,
        }
    }

    /// As histories have it.
    pub fn history(&self, word: &str) -> String {
        let mut text = word.to_owned();
        if self.parents {
            text += " --parents";
        }
        for pattern in &self.exclude {
            text += &format!(" --exclude={pattern}");
        }
        if let Some(chown) = &self.chown {
            text += &format!(" --chown={chown}");
        }
        if let Some(chmod) = &self.chmod {
            text += &format!(" --chmod={chmod}");
        }
        if self.link {
            text += " --link";
        }
        for source in &self.sources {
            text += &format!(" {source}");
        }
        for (name, _) in &self.texts {
            text += &format!(" <<{name}");
        }
        text + &format!(" {} # buildkit", self.written)
    }

    /// Finds all sources in a tree.
    fn find(&self, tree: &Tree<'_>) -> Result<Vec<Vec<Found>>> {
        let exclude = self.exclude()?;
        let mut all: Vec<Vec<Found>> =
            self.sources.iter().map(|source| tree.find(source, &exclude)).collect::<Result<_>>()?;
        for found in all.iter_mut().flatten().filter(|_| self.parents) {
            found.above = tree.above(&found.name)?;
        }
        Ok(all)
    }

    fn write(&self, writer: &mut Writer<'_>, all: &[Vec<Found>]) -> Result<()> {
        for (source, found) in self.sources.iter().zip(all) {
            for found in found {
                let target = match self.parents {
                    true => with_parents(writer, &self.target, source, found)?,
                    false => self.target.clone(),
                };
                writer.copy(found, &target, self.into || self.parents)?;
            }
        }
        self.write_texts(writer)
    }

    /// Writes what stands in the Dockerfile.
    pub fn write_texts(&self, writer: &mut Writer<'_>) -> Result<()> {
        for (name, text) in &self.texts {
            let (directory, name) = writer.place(&self.target, self.into, name.as_bytes())?;
            writer.content_of(&directory, &name, text.as_bytes(), 0o644)?;
        }
        Ok(())
    }
}

/// The content of a heredoc that is a file.
fn text_of(state: &State, heredoc: &Heredoc) -> Result<String> {
    if !heredoc.expand {
        return Ok(heredoc.content.clone());
    }
    let expanded = umiak_dockerfile::expand_heredoc(&heredoc.content, &|name| state.env.get(name).cloned());
    Ok(expanded.map_err(|error| anyhow::anyhow!("failed to process the heredoc {}: {error}", heredoc.name))?.text)
}

/// Where something goes that keeps its parents (those behind a `/./`, if there is one), which are made like the ones
/// it comes from.
fn with_parents(writer: &Writer<'_>, target: &str, source: &str, found: &Found) -> Result<String> {
    let skipped = source.find("/./").map_or(0, |at| clean(&source[..at]).len());
    let name = String::from_utf8_lossy(&found.name).into_owned();
    let parts: Vec<&str> = name.split('/').filter(|part| !part.is_empty()).collect();
    let mut place = target.trim_end_matches('/').to_owned();
    writer.directory(&place)?;
    for (part, stat) in parts.iter().zip(&found.above).skip(skipped) {
        place = format!("{place}/{part}");
        writer.directory_like(&place, stat)?;
    }
    if found.is_directory() {
        place = parts.last().filter(|_| parts.len() > skipped).map_or(place.clone(), |part| format!("{place}/{part}"));
    }
    Ok(format!("{place}/"))
}

/// COPY.
pub fn copy(running: &mut Running<'_>, state: &mut State, copy: &Copy, instruction: &Instruction) -> Result<()> {
    let title = running.title(instruction);
    let flags = (&copy.chown, &copy.chmod, copy.link);
    let mut job = Job::new(running, state, &copy.sources, &copy.target, flags)?;
    job.parents = copy.parents;
    job.exclude = copy.exclude.iter().map(|text| text.raw.clone()).collect();
    let from = match &copy.from {
        Some(from) => from_where(running, &from.raw)?,
        None => From::Own,
    };
    perform(running, state, &job, &from, &title)?;
    state.history(job.history("COPY"), true);
    Ok(())
}

/// What `--from` names.
pub fn from_where(running: &Running<'_>, from: &str) -> Result<From> {
    let build = running.build;
    let contexts = |name: &str| build.options.contexts.contains_key(name);
    let planned = build.plan.stages.get(running.index).context("there is no such stage")?;
    Ok(match lookup(build.file, from, running.index, &contexts)? {
        Base::Scratch => From::Layers(Vec::new()),
        Base::Stage(index) => From::Layers(build.stage(index, running.loaded)?.layers.clone()),
        Base::Image(name) => From::Layers(running.image(&name, planned)?.layers),
        Base::Context(name) => match build.options.contexts.get(&name) {
            Some(source @ (Source::Image(_) | Source::Layout(..))) => {
                From::Layers(running.image_of(source, planned)?.layers)
            }
            Some(source) => From::Context(build.named_context(&name, source)?),
            None => bail!("there is no context {name}"),
        },
    })
}

fn perform(running: &Running<'_>, state: &mut State, job: &Job, from: &From, title: &str) -> Result<()> {
    let below: Vec<Digest> = if job.link { Vec::new() } else { state.layers.clone() };
    let context = match from {
        From::Own if job.sources.is_empty() => None,
        From::Own => Some(running.build.context(running.loaded)?),
        From::Context(context) => Some(context.as_ref()),
        From::Layers(layers) => {
            // What the stage is: known without looking into it.
            let stack: Vec<&str> = layers.iter().map(Digest::hex).collect();
            let given = job.sources.iter().map(|source| format!("from {stack:?} {source}")).collect();
            let key = running.key(&job.step(given, true), &below);
            return running.layered(state, title, &key, |running, _, _| from_layers(running, job, layers, &below));
        }
    };
    let (mut all, mut given) = (Vec::new(), Vec::new());
    if let Some(context) = context {
        (all, given) = context.look(running.build.display, |tree| {
            let all = job.find(tree)?;
            let given = all.iter().map(|found| Ok(tree.identity(found)?.to_string())).collect::<Result<_>>()?;
            Ok((all, given))
        })?;
    }
    let key = running.key(&job.step(given, false), &below);
    running.layered(state, title, &key, |running, _, _| {
        write(running, &below, &[], |root, _| job_into(running, job, root, &all, false))
    })
}

/// What is copied from other layers is looked up by what it is before it is written.
fn from_layers(running: &Running<'_>, job: &Job, layers: &[Digest], below: &[Digest]) -> Result<Option<Adopted>> {
    let build = running.build;
    let mut known: Option<(Digest, Option<Record>)> = None;
    let written = write(running, below, layers, |root, others| {
        let source = others.first().context("the source is not mounted")?;
        let tree = Tree { root: source.as_fd(), ignored: None, contents: &Read, owners: true };
        let all = job.find(&tree)?;
        let mut given = Vec::new();
        for found in &all {
            given.push(tree.identity(found)?.to_string());
        }
        let key = running.key(&job.step(given, true), below);
        let record = if running.fresh { None } else { build.cache.lookup(&key) };
        if record.is_none() {
            job_into(running, job, root, &all, true)?;
        }
        known = Some((key, record));
        Ok(())
    })?;
    let Some((key, record)) = known else { return Ok(written) };
    build.note_key(running.index, &key);
    match record {
        Some(record) => Ok(record.layer.map(|diff_id| Adopted { diff_id, entries: 1, bytes: record.size })),
        None => {
            let layer = written.as_ref().map(|layer| layer.diff_id.clone());
            let size = written.as_ref().map_or(0, |layer| layer.bytes);
            build.cache.put(Record::new(key, layer, running.now(), size, "COPY --from"))?;
            Ok(written)
        }
    }
}

fn job_into(running: &Running<'_>, job: &Job, root: BorrowedFd<'_>, all: &[Vec<Found>], owners: bool) -> Result<()> {
    job.write(&mut job.writer(running, root, owners)?, all)
}

/// Lets `act` write on top of `below`, with the root of `from` beside it if that is given, and takes what was written
/// as a layer.
pub fn write(
    running: &Running<'_>,
    below: &[Digest],
    from: &[Digest],
    act: impl FnOnce(BorrowedFd<'_>, &[OwnedFd]) -> Result<()> + Send,
) -> Result<Option<Adopted>> {
    let build = running.build;
    let store = build.engine.store()?;
    let scratch = build.building.scratch()?;
    let (merged, source) = (scratch.path().join("merged"), scratch.path().join("from"));
    crate::engine::roots::make_dir(&merged)?;
    crate::engine::roots::make_dir(&source)?;
    let rootfs =
        Rootfs { layers: store.stack(below)?, upper: scratch.upper(), work: scratch.work(), merged, read_only: false };
    let others = match from.is_empty() {
        true => vec![(Vec::new(), source)],
        false => vec![(store.stack(from)?, source)],
    };
    view::writable(&rootfs, &others, act)??;
    Ok(Some(build.building.adopt(&scratch.upper(), build.options.epoch)?))
}

/// WORKDIR: a directory that is made where it is missing, for the user of the stage.
pub fn directory(running: &Running<'_>, state: &State, path: &str, user: &str) -> Result<Option<Adopted>> {
    write(running, &state.layers, &[], |root, _| {
        let (uid, gid) = if user.is_empty() { (0, 0) } else { users::owner(root, user)? };
        let epoch = running.build.options.epoch;
        let writer = Writer { root, chown: None, chmod: None, owners: false, epoch, links: HashMap::new() };
        let mtime = epoch.map(|seconds| (seconds, 0));
        writer.directory_of(path, Attributes { mode: 0o755, uid, gid, mtime }).map(drop)
    })
}

/// A whole context as the base of a stage.
pub fn everything(running: &Running<'_>, state: &mut State, context: &Context, title: &str) -> Result<()> {
    let tree = context.tree();
    let all = vec![tree.find(".", &Ignored::default())?];
    let mut given = Vec::new();
    for found in &all {
        given.push(tree.identity(found)?.to_string());
    }
    let job = Job::plain(".");
    let key = running.key(&job.step(given, false), &[]);
    running.layered(state, title, &key, |running, _, _| {
        write(running, &[], &[], |root, _| job_into(running, &job, root, &all, false))
    })
}

/// A part of a context as a layer, and the path in it: what a bind mount shows.
pub fn snapshot(running: &Running<'_>, context: &Context, source: &str) -> Result<(Vec<Digest>, String)> {
    let tree = context.tree();
    let all = vec![tree.find(source, &Ignored::default())?];
    let found = all.first().and_then(|found| found.first()).with_context(|| format!("{source}: not found"))?;
    let path = match found.is_directory() {
        true => String::new(),
        false => {
            String::from_utf8_lossy(found.name.rsplit(|byte| *byte == b'/').next().unwrap_or_default()).into_owned()
        }
    };
    let given = all.iter().map(|found| Ok(tree.identity(found)?.to_string())).collect::<Result<Vec<_>>>()?;
    let job = Job::plain(source);
    let key = running.key(&job.step(given, false), &[]);
    let build = running.build;
    let once = build.once(&key);
    let _alone = once.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if let Some(record) = build.cache.lookup(&key) {
        return Ok((record.layer.into_iter().collect(), path));
    }
    let written = write(running, &[], &[], |root, _| job_into(running, &job, root, &all, false))?;
    let layer = written.as_ref().filter(|layer| layer.entries > 0).map(|layer| layer.diff_id.clone());
    let size = written.map_or(0, |layer| layer.bytes);
    build.cache.put(Record::new(key, layer.clone(), running.now(), size, "local source for context"))?;
    Ok((layer.into_iter().collect(), path))
}

/// Copies a part of `layers` into a directory of the host that belongs to the builder.
pub fn out(running: &Running<'_>, layers: &[Digest], source: &str, target: &std::path::Path) -> Result<()> {
    let build = running.build;
    let stack = build.engine.store()?.stack(layers)?;
    let scratch = build.building.scratch()?;
    let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC;
    let into = rustix::fs::open(target, flags, rustix::fs::Mode::empty())?;
    view::layers(&stack, &scratch.upper(), |root| {
        let tree = Tree { root, ignored: None, contents: &Read, owners: true };
        let all = vec![tree.find(source, &Ignored::default())?];
        let root = into.as_fd();
        let mut writer = Writer { root, chown: None, chmod: None, owners: true, epoch: None, links: HashMap::new() };
        Job::plain(source).write(&mut writer, &all)
    })?
}
