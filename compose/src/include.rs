//! `include`: another project's files, with their own directory and environment files, imported into this one.

use std::path::{Path, PathBuf};

use super::environment::read_file;
use super::files::{Failed, Files, Scope};
use super::interpolate::Environment;
use super::load::display_name;
use super::merge::{KeyPath, import};
use super::node::{Map, Node, Value};
use super::parse::{Context, Fields};
use super::paths;

const SECTIONS: [&str; 6] = ["services", "volumes", "networks", "secrets", "configs", "models"];

/// Entries of `include` at most, in all files: what includes two that include two doubles at each level.
const MAX_INCLUDES: usize = 1000;

/// One entry of `include`.
struct Include {
    paths: Vec<String>,
    project_directory: Option<String>,
    env_files: Vec<String>,
    at: Node,
}

fn include(cx: &Context, node: &Node, path: &str) -> Option<Include> {
    Fields::new(cx, node, path)?.finish_with(|f| {
        let paths = f.text_or_texts("path");
        if paths.is_empty() {
            f.missing(node.span, "path");
        }
        let (project_directory, env_files) = (f.word("project_directory"), f.text_or_texts("env_file"));
        Some(Include { paths, project_directory, env_files, at: node.clone() })
    })
}

impl Files<'_> {
    /// Loads what a document includes and imports it; the document's own definitions win.
    pub(crate) fn include(
        &mut self,
        document: &mut Node,
        file: &Path,
        scope: &Scope<'_>,
        included: &[PathBuf],
        edits: &[KeyPath],
    ) -> Result<(), Failed> {
        let Some(entry) = document.as_map_mut().and_then(|map| map.shift_remove("include")) else { return Ok(()) };
        if entry.node.is_null() {
            return Ok(());
        }
        let includes = self.read_includes(&entry.node)?;
        let trail: Vec<PathBuf> = included.iter().cloned().chain([file.to_path_buf()]).collect();
        for include in includes {
            let tree = self.included(&include, scope, &trail)?;
            let (Value::Map(mut sections), Some(target)) = (tree.value, document.as_map_mut()) else { continue };
            for section in SECTIONS {
                if let Some(source) = sections.shift_remove(section).filter(|entry| !entry.node.is_null()) {
                    import(target, section, source, edits, self.problems);
                }
            }
            self.stop_on_errors()?;
        }
        Ok(())
    }

    fn read_includes(&mut self, node: &Node) -> Result<Vec<Include>, Failed> {
        let mut holder = Map::new();
        holder.insert("include".to_owned(), super::node::Entry { key: node.span, node: node.clone() });
        let holder = Node::new(node.span, Value::Map(holder));
        let includes = Context::with(self.problems, |cx| {
            Fields::new(cx, &holder, "").map(|f| f.list("include", |node, path| include(cx, node, path)))
        });
        self.stop_on_errors()?;
        Ok(includes.unwrap_or_default())
    }

    fn included(&mut self, include: &Include, scope: &Scope<'_>, trail: &[PathBuf]) -> Result<Node, Failed> {
        let home = self.home.clone();
        let absolute = |path: &str| paths::absolute(scope.dir, path, home.as_deref());
        let files: Vec<PathBuf> =
            include.paths.iter().map(|path| self.place(path, scope.dir, &include.at)).collect::<Result<_, _>>()?;
        let Some(main) = files.first() else { return Err(Failed) };
        if trail.contains(main) {
            let names: Vec<String> =
                trail.iter().chain([main]).map(|file| display_name(file, self.current_dir)).collect();
            let message = format!("include cycle detected:\n{}", names.join("\n include "));
            self.problems.error(include.at.span, message);
            return Err(Failed);
        }
        self.includes += 1;
        if self.includes > MAX_INCLUDES {
            let message = format!("more than {MAX_INCLUDES} files are included, repeated ones counted each time");
            self.problems.error(include.at.span, message);
            return Err(Failed);
        }
        let directory = match &include.project_directory {
            Some(directory) => absolute(directory),
            None => main.parent().unwrap_or(scope.dir).to_path_buf(),
        };
        let environment = self.include_environment(include, &directory, scope)?;
        let mut documents = Vec::new();
        for file in files {
            if !self.problems.disk.is_file(&file) {
                let shown = display_name(&file, self.current_dir);
                self.problems.error(include.at.span, format!("cannot read {shown}: no such file or directory"));
                return Err(Failed);
            }
            let nodes = self.documents(&file)?;
            documents.push((file, nodes));
        }
        self.model(documents, &Scope { dir: &directory, environment: &environment }, trail)
    }

    /// The environment, and below it the include's own files or the `.env` of its directory.
    fn include_environment(
        &mut self,
        include: &Include,
        directory: &Path,
        scope: &Scope<'_>,
    ) -> Result<Environment, Failed> {
        let default = directory.join(".env");
        let files: Vec<PathBuf> = match include.env_files.as_slice() {
            [] if self.problems.disk.is_file(&default) => vec![default],
            [] => Vec::new(),
            files => {
                let named = files.iter().filter(|file| *file != "/dev/null");
                named.map(|file| paths::clean(&scope.dir.join(file))).collect()
            }
        };
        let mut added = Environment::new();
        for file in files {
            let name = display_name(&file, self.current_dir);
            if !self.problems.disk.exists(&file) {
                self.problems.error(include.at.span, format!("couldn't find env file: {name}"));
                return Err(Failed);
            }
            let lookup = |name: &str| scope.environment.get(name).cloned();
            read_file(&file, &name, false, &mut added, &lookup, self.problems).map_err(|()| Failed)?;
        }
        let mut environment = scope.environment.clone();
        for (name, value) in added {
            environment.entry(name).or_insert(value);
        }
        Ok(environment)
    }
}
