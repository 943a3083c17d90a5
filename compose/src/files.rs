//! Files to one tree: each file's documents interpolated, expanded, included, extended, and merged in order.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::diagnostic::Diagnostic;
use super::extends::Base;
use super::interpolate::{Environment, interpolate};
use super::load::{Said, display_name};
use super::merge::{delete, empty, merge, take_edits, unify};
use super::node::{Entry, Node, Problems, Value};
use super::{canonical, parse, paths, yaml};

/// The errors are in [`Problems`].
#[derive(Debug)]
pub(crate) struct Failed;

/// What relative paths and variables of a set of files refer to.
pub(crate) struct Scope<'a> {
    pub dir: &'a Path,
    pub environment: &'a Environment,
}

/// Reads files and merges them.
pub(crate) struct Files<'p> {
    pub problems: &'p mut Problems,
    pub current_dir: &'p Path,
    pub home: Option<PathBuf>,
    /// Files that services extend from, as far as they were read.
    pub bases: HashMap<PathBuf, Rc<Base>>,
    /// Paths stay relative, from this directory on.
    pub keep_paths: Option<PathBuf>,
    /// Entries of `include` read so far.
    pub includes: usize,
    warned: Said,
}

impl<'p> Files<'p> {
    pub(crate) fn new(problems: &'p mut Problems, current_dir: &'p Path, home: Option<PathBuf>) -> Self {
        Self { problems, current_dir, home, bases: HashMap::new(), keep_paths: None, includes: 0, warned: Said::new() }
    }

    /// Reads a file and parses its documents.
    pub(crate) fn documents(&mut self, file: &Path) -> Result<Vec<Node>, Failed> {
        let name = display_name(file, self.current_dir);
        let text = match self.problems.disk.read(file) {
            Ok(text) => text,
            Err(error) => {
                self.problems.push(Diagnostic::error(format!("cannot read {name}: {error}")));
                return Err(Failed);
            }
        };
        let source = self.problems.sources.add(name, text);
        match yaml::parse(self.problems, source) {
            Ok(documents) => Ok(documents),
            Err(error) => {
                self.problems.push(*error);
                Err(Failed)
            }
        }
    }

    /// Where a file lies that another one names, from `dir` on.
    pub(crate) fn place(&mut self, name: &str, dir: &Path, at: &Node) -> Result<PathBuf, Failed> {
        match self.problems.disk.fetch(name) {
            Some(Ok(path)) => Ok(path),
            Some(Err(message)) => {
                self.problems.error(at.span, message);
                Err(Failed)
            }
            None => Ok(paths::absolute(dir, name, self.home.as_deref())),
        }
    }

    /// One tree of several files, checked, its paths absolute. `included` names the files whose `include` led here.
    pub(crate) fn model(
        &mut self,
        files: Vec<(PathBuf, Vec<Node>)>,
        scope: &Scope<'_>,
        included: &[PathBuf],
    ) -> Result<Node, Failed> {
        let mut tree = empty();
        for (file, documents) in files {
            for document in documents {
                self.add(&mut tree, document, &file, scope, included)?;
            }
        }
        if included.is_empty() && tree.as_map().is_none_or(|map| map.is_empty()) {
            self.problems.push(Diagnostic::error("empty compose file"));
            return Err(Failed);
        }
        default_contexts(&mut tree);
        self.paths(&mut tree, scope.dir, included.is_empty());
        resolve_variables(&mut tree, scope.environment);
        Ok(tree)
    }

    /// Merges one document onto what came before.
    fn add(
        &mut self,
        tree: &mut Node,
        document: Node,
        file: &Path,
        scope: &Scope<'_>,
        included: &[PathBuf],
    ) -> Result<(), Failed> {
        let mut document = self.prepare(document, scope)?;
        let edits = take_edits(&mut document);
        canonical::canonicalise(&mut document, self.problems);
        if self.problems.failed() && tree.as_map().is_some_and(|map| map.is_empty()) {
            // say what else is wrong with it
            parse::project(&document, self.problems);
        }
        self.stop_on_errors()?;
        self.include(&mut document, file, scope, included, &edits)?;
        delete(tree, &edits);
        self.extend(&mut document, file, scope, &edits)?;
        merge(tree, document, &[], self.problems);
        unify(tree);
        self.stop_on_errors()?;
        // every file must fit what came before, also where a later one would replace it
        parse::project(tree, self.problems);
        self.stop_on_errors()?;
        self.drop_version(tree);
        Ok(())
    }

    /// Checks that a document is a mapping and replaces its variables.
    pub(crate) fn prepare(&mut self, mut document: Node, scope: &Scope<'_>) -> Result<Node, Failed> {
        if document.as_map().is_none() {
            self.problems.error(document.span, "top-level object must be a mapping");
            return Err(Failed);
        }
        if !self.problems.templates {
            interpolate(&mut document, scope.environment, &mut self.warned, self.problems);
        }
        self.stop_on_errors()?;
        Ok(document)
    }

    /// Makes the paths of a tree absolute, which start from `dir`; `own`: it is the project's own, nobody's part.
    pub(crate) fn paths(&self, tree: &mut Node, dir: &Path, own: bool) {
        match &self.keep_paths {
            None => paths::resolve(tree, dir, self.home.as_deref()),
            Some(_) if own => {}
            Some(from) => paths::resolve(tree, dir.strip_prefix(from).unwrap_or(dir), self.home.as_deref()),
        }
    }

    pub(crate) fn stop_on_errors(&self) -> Result<(), Failed> {
        if self.problems.failed() { Err(Failed) } else { Ok(()) }
    }

    fn drop_version(&mut self, tree: &mut Node) {
        if let Some(entry) = tree.as_map_mut().and_then(|map| map.shift_remove("version")) {
            let message = "the attribute `version` is obsolete, it will be ignored, please remove it to avoid potential \
                           confusion";
            self.problems.warning(entry.key, message);
        }
    }
}

/// A build without a context has these files' directory.
fn default_contexts(tree: &mut Node) {
    let services = tree.as_map_mut().and_then(|map| map.get_mut("services")?.node.as_map_mut());
    for service in services.into_iter().flat_map(|map| map.values_mut()) {
        let Some(build) = service.node.as_map_mut().and_then(|map| map.get_mut("build")) else { continue };
        let (key, span) = (build.key, build.node.span);
        if let Some(map) = build.node.as_map_mut() {
            map.entry("context".to_owned()).or_insert_with(|| Entry { key, node: Node::text(span, ".") });
        }
    }
}

/// Name of the entry that carries the value of a secret's or config's variable; no file can bring it.
pub(crate) const VALUE_KEY: &str = "#value";

/// Gives variables that are passed through their value, as the environment of these files has it.
fn resolve_variables(tree: &mut Node, environment: &Environment) {
    let Some(tree) = tree.as_map_mut() else { return };
    let services = tree.get_mut("services").and_then(|entry| entry.node.as_map_mut());
    for service in services.into_iter().flat_map(|map| map.values_mut()) {
        let Some(service) = service.node.as_map_mut() else { continue };
        if let Some(map) = service.get_mut("environment").and_then(|entry| entry.node.as_map_mut()) {
            for (name, entry) in map.iter_mut().filter(|(_, entry)| entry.node.is_null()) {
                if let Some(value) = environment.get(name) {
                    entry.node.value = Value::Text(value.clone());
                }
            }
        }
    }
    for section in ["secrets", "configs"] {
        let map = tree.get_mut(section).and_then(|entry| entry.node.as_map_mut());
        for entry in map.into_iter().flat_map(|map| map.values_mut()) {
            let span = entry.node.span;
            let Some(map) = entry.node.as_map_mut() else { continue };
            let variable = map.get("environment").and_then(|entry| entry.node.as_text());
            if let Some(value) = variable.and_then(|variable| environment.get(variable)) {
                map.entry(VALUE_KEY.to_owned()).or_insert(Entry { key: span, node: Node::text(span, value) });
            }
        }
    }
}
