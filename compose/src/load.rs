//! The pipeline, step by step: environment, files, trees, one merged tree, the model, its checks.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

use super::diagnostic::{Diagnostic, LoadError, Severity};
use super::disk::Disk;
use super::environment::{Defaults, read_file};
use super::files::{Failed, Files, Scope};
use super::interpolate::Environment;
use super::model::Project;
use super::node::{Node, Problems};
use super::raw::RawProject;
use super::{discover, names, normalise, parse, paths, profiles, raw, service_files, support, template, validate};

/// What a command line and its environment say about the project to load.
#[derive(Debug, Clone, Default)]
pub struct LoadOptions {
    /// `-f`, in order; `-` is standard input. Empty: `COMPOSE_FILE`, else discovery.
    pub files: Vec<PathBuf>,
    /// `-p`.
    pub project_name: Option<String>,
    /// `--project-directory`.
    pub project_dir: Option<PathBuf>,
    /// `--env-file`, in order. Empty: `COMPOSE_ENV_FILES`, else `.env`.
    pub env_files: Vec<PathBuf>,
    /// `--profile`. Empty: `COMPOSE_PROFILES`.
    pub profiles: Vec<String>,
    /// Services named on the command line: naming one activates its profiles, and only they and what they depend on
    /// have their environment files read. They are not otherwise selected.
    pub services: Vec<String>,
    /// The process environment.
    pub environment: BTreeMap<String, String>,
    /// The directory that relative options start from; absolute.
    pub current_dir: PathBuf,
    /// The project will run: a key that cannot work at run time yet is an error (otherwise it is listed in
    /// [`Project::unsupported`]).
    pub for_running: bool,
    /// Keep networks, volumes, configs and secrets that no service uses.
    pub all_resources: bool,
    /// Steps to leave out.
    pub skip: Skip,
    /// Where files are read from.
    pub disk: Disk,
}

/// Steps of the pipeline that are left out, to see what the files say before them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Skip {
    /// Paths stay relative; those of included and extended files start from the project's directory.
    pub paths: bool,
    /// No default network, no names of resources, no implied dependencies.
    pub normalization: bool,
    /// Environment and label files are not read.
    pub env_files: bool,
    /// What the parts of the project say about each other is not checked.
    pub consistency: bool,
}

/// Loads a project: discovery, environment, every file, merge, checks.
///
/// # Errors
/// All errors found by the step that failed, each with its place.
pub fn load(options: &LoadOptions) -> Result<Project, LoadError> {
    let mut problems = Problems::new(options.disk.clone(), false);
    let result = Loading { options, problems: &mut problems }.run();
    let (errors, warnings) = split(problems.found);
    match result {
        Ok(mut project) if errors.is_empty() => {
            project.warnings = warnings;
            project.sources = problems.sources;
            Ok(project)
        }
        _ => Err(LoadError(errors)),
    }
}

struct Loading<'a> {
    options: &'a LoadOptions,
    problems: &'a mut Problems,
}

/// The variables that the project's environment begins with: those of the process over those of the environment files
/// that [`load`] reads first. What is wrong with a file is told by [`load`].
#[must_use]
pub fn environment(options: &LoadOptions) -> BTreeMap<String, String> {
    let mut problems = Problems::new(options.disk.clone(), false);
    let mut loading = Loading { options, problems: &mut problems };
    let mut environment = options.environment.clone();
    let explicit = loading.explicit_env_files(&environment);
    let _ = loading.env_files(&explicit, &loading.first_dir(), &mut environment);
    environment
}

/// Loads a project's files without looking at variables: one merged tree of everything in them, active or not.
///
/// # Errors
/// As [`load`]; what depends on a variable's value is not checked.
pub fn load_tree(options: &LoadOptions) -> Result<RawProject, LoadError> {
    let mut problems = Problems::new(options.disk.clone(), true);
    let result = Loading { options, problems: &mut problems }.raw();
    let (errors, warnings) = split(problems.found);
    match result {
        Ok(raw) if errors.is_empty() => Ok(RawProject { warnings, ..raw }),
        _ => Err(LoadError(errors)),
    }
}

/// Errors in the order of their places, and warnings.
fn split(found: Vec<Diagnostic>) -> (Vec<Diagnostic>, Vec<Diagnostic>) {
    let (mut errors, warnings): (Vec<Diagnostic>, Vec<Diagnostic>) =
        found.into_iter().partition(|diagnostic| diagnostic.severity == Severity::Error);
    errors.sort_by_key(|error| error.place.as_ref().map(|place| (place.file.clone(), place.line, place.column)));
    (errors, warnings)
}

/// What the files were found to be, before they are made into one tree.
struct Found {
    files: Vec<PathBuf>,
    working_dir: PathBuf,
    env_files: Vec<PathBuf>,
    environment: Environment,
    name: String,
    documents: Vec<(PathBuf, Vec<Node>)>,
}

impl Loading<'_> {
    fn run(&mut self) -> Result<Project, Failed> {
        let found = self.found()?;
        let (tree, found) = self.tree(found)?;
        self.project(&tree, found.name, found.files, found.working_dir, found.environment, found.env_files)
    }

    fn raw(&mut self) -> Result<RawProject, Failed> {
        let found = self.found()?;
        let (tree, found) = self.tree(found)?;
        Ok(raw::project(&tree, &found.name, found.environment, self.options.skip))
    }

    fn tree(&mut self, mut found: Found) -> Result<(Node, Found), Failed> {
        let home = found.environment.get("HOME").filter(|home| !home.is_empty()).map(PathBuf::from);
        let documents = std::mem::take(&mut found.documents);
        let scope = Scope { dir: &found.working_dir, environment: &found.environment };
        let mut files = Files::new(self.problems, &self.options.current_dir, home);
        files.keep_paths = self.options.skip.paths.then(|| found.working_dir.clone());
        let tree = files.model(documents, &scope, &[])?;
        Ok((tree, found))
    }

    fn found(&mut self) -> Result<Found, Failed> {
        let mut environment = self.options.environment.clone();
        environment.insert("PWD".to_owned(), self.options.current_dir.to_string_lossy().into_owned());
        let explicit = self.explicit_env_files(&environment);
        // the directory's .env may name the files, whose directory may have another .env
        self.env_files(&explicit, &self.first_dir(), &mut environment)?;
        let files = self.files(&environment)?;
        let working_dir = self.working_dir(&files);
        if explicit.is_empty() {
            self.env_files(&[], &working_dir, &mut environment)?;
        }
        let home = environment.get("HOME").filter(|home| !home.is_empty()).map(PathBuf::from);
        let mut reader = Files::new(self.problems, &self.options.current_dir, home);
        let mut documents = Vec::new();
        for file in &files {
            documents.push((file.clone(), reader.documents(file)?));
        }
        let name = self.project_name(&documents, &working_dir, &mut environment)?;
        Ok(Found { files, working_dir, env_files: explicit, environment, name, documents })
    }

    fn project(
        &mut self,
        tree: &Node,
        name: String,
        files: Vec<PathBuf>,
        working_dir: PathBuf,
        environment: Environment,
        env_files: Vec<PathBuf>,
    ) -> Result<Project, Failed> {
        let mut project = parse::project(tree, self.problems);
        self.stop_on_errors()?;
        (project.name, project.files, project.working_dir) = (name, files, working_dir);
        (project.environment, project.env_files) = (environment, env_files);
        normalise::defaults(&mut project);
        let skip = self.options.skip;
        if !skip.normalization {
            normalise::normalise(&mut project);
        }
        let defaults = Defaults(&project.environment);
        let wanted = match self.options.profiles.is_empty() {
            true => defaults.profiles(),
            false => self.options.profiles.clone(),
        };
        profiles::activate(&mut project, wanted, &self.options.services);
        if !skip.consistency {
            validate::validate(&project, self.problems);
            self.stop_on_errors()?;
        }
        let findings = support::check(&project, tree, &self.problems.sources);
        self.problems.found.extend(findings.warnings);
        match self.options.for_running {
            true => {
                self.problems.found.extend(findings.later);
                normalise::settle_modes(&mut project);
            }
            false => project.unsupported = findings.later,
        }
        if !skip.env_files {
            service_files::resolve(&mut project, &self.options.services, &self.options.current_dir, self.problems);
        }
        self.stop_on_errors()?;
        if !self.options.all_resources {
            normalise::drop_unused(&mut project);
        }
        Ok(project)
    }

    fn stop_on_errors(&self) -> Result<(), Failed> {
        if self.problems.failed() { Err(Failed) } else { Ok(()) }
    }

    fn fail<T>(&mut self, message: impl Into<String>) -> Result<T, Failed> {
        self.problems.push(Diagnostic::error(message));
        Err(Failed)
    }

    fn absolute(&self, path: &Path) -> PathBuf {
        paths::clean(&self.options.current_dir.join(path))
    }

    fn first_dir(&self) -> PathBuf {
        self.working_dir(&self.options.files)
    }

    /// `--project-directory`, else the first file's directory, else the current one.
    fn working_dir(&self, files: &[PathBuf]) -> PathBuf {
        if let Some(dir) = &self.options.project_dir {
            return self.absolute(dir);
        }
        let is_path = |file: &&PathBuf| file.as_os_str() != "-" && !file.to_str().is_some_and(paths::is_remote);
        let file = files.iter().find(is_path).map(|file| self.absolute(file));
        match file.as_deref().and_then(Path::parent) {
            Some(dir) => dir.to_path_buf(),
            None => self.options.current_dir.clone(),
        }
    }

    fn explicit_env_files(&self, environment: &Environment) -> Vec<PathBuf> {
        let named = match self.options.env_files.is_empty() {
            true => Defaults(environment).env_files(),
            false => self.options.env_files.clone(),
        };
        named.iter().map(|file| self.absolute(file)).collect()
    }

    /// Adds the variables of the given files, or of the directory's `.env`, that are not set yet.
    fn env_files(&mut self, explicit: &[PathBuf], dir: &Path, environment: &mut Environment) -> Result<(), Failed> {
        let default = [dir.join(".env")];
        let files = match explicit {
            [] if Defaults(environment).env_file_disabled() || !self.problems.disk.is_file(&default[0]) => &[],
            [] => default.as_slice(),
            explicit => explicit,
        };
        let mut added = Environment::new();
        for file in files {
            if !self.problems.disk.exists(file) {
                return self.fail(format!("couldn't find env file: {}", file.display()));
            }
            let name = display_name(file, &self.options.current_dir);
            let lookup = |name: &str| environment.get(name).cloned();
            read_file(file, &name, false, &mut added, &lookup, self.problems).map_err(|()| Failed)?;
        }
        for (name, value) in added {
            environment.entry(name).or_insert(value);
        }
        Ok(())
    }

    fn files(&mut self, environment: &Environment) -> Result<Vec<PathBuf>, Failed> {
        let mut files: Vec<PathBuf> = self.options.files.clone();
        if files.is_empty() {
            files = Defaults(environment).files(&self.options.current_dir);
        }
        if files.is_empty() {
            files = discover::discover(&self.first_dir(), self.problems);
        }
        if files.is_empty() {
            return self.fail("no configuration file provided: not found");
        }
        files.into_iter().map(|file| self.place(file)).collect()
    }

    /// Where a file of the command line lies: standard input is `-`.
    fn place(&mut self, file: PathBuf) -> Result<PathBuf, Failed> {
        match file.to_str().and_then(|name| self.problems.disk.fetch(name)) {
            Some(Ok(path)) => Ok(path),
            Some(Err(message)) => self.fail(message),
            None if file.as_os_str() == "-" => Ok(file),
            None => Ok(self.absolute(&file)),
        }
    }

    /// `-p`, `COMPOSE_PROJECT_NAME`, the last file's `name`, the directory; becomes `COMPOSE_PROJECT_NAME`.
    fn project_name(
        &mut self,
        documents: &[(PathBuf, Vec<Node>)],
        working_dir: &Path,
        environment: &mut Environment,
    ) -> Result<String, Failed> {
        let given = |name: &&String| !name.is_empty();
        let explicit = self.options.project_name.as_ref().filter(given);
        let name = match explicit.or_else(|| environment.get("COMPOSE_PROJECT_NAME").filter(given)) {
            Some(name) => {
                if let Err(message) = names::check_project_name(name) {
                    return self.fail(message);
                }
                name.clone()
            }
            None => match name_in_files(documents, environment) {
                name if name.is_empty() => names::directory_name(working_dir),
                name => name,
            },
        };
        if name.is_empty() {
            return self.fail("project name must not be empty");
        }
        environment.insert("COMPOSE_PROJECT_NAME".to_owned(), name.clone());
        Ok(name)
    }
}

/// The last `name` of all documents, made a valid one.
fn name_in_files(documents: &[(PathBuf, Vec<Node>)], environment: &Environment) -> String {
    let names = documents.iter().flat_map(|(_, documents)| documents).filter_map(|document| document.get("name"));
    let text = names.filter_map(Node::scalar_text).rfind(|name| !name.is_empty()).unwrap_or_default();
    let lookup = |name: &str| environment.get(name).cloned();
    // what is wrong with the template is reported when the file itself is interpolated
    let name = template::substitute(&text, &lookup, &mut |_| {}).unwrap_or_default();
    names::normalise_project_name(&name)
}

/// A path as messages show it: relative to the current directory when below it.
pub(crate) fn display_name(path: &Path, current_dir: &Path) -> String {
    match path.strip_prefix(current_dir) {
        Ok(relative) if !relative.as_os_str().is_empty() => relative.display().to_string(),
        _ => path.display().to_string(),
    }
}

/// Keeps what has been said, so that nothing is said twice.
pub(crate) type Said = HashSet<String>;
