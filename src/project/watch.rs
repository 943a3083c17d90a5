//! `develop.watch`: which change of which path leads to what. Pure; what is
//! watched is in [`tree`].

pub mod tree;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use umiak_compose::{Hook, Service, WatchAction};
use umiak_dockerfile::ignore::{PatternError, Patterns};

/// What editors and version control write for themselves.
const EPHEMERAL: [&str; 14] = [
    "**/.git",
    "**/.idea",
    "**/*___jb_old___",
    "**/*___jb_tmp___",
    "**/.#*",
    "**/#*#",
    "**/.*.kate-swp",
    "**/4913",
    "**/*~",
    "**/.*.swp",
    "**/.*.swx",
    "**/.*.swo",
    "**/.*.swn",
    "**/.umiak-*",
];

/// One entry of a service's `develop.watch`.
#[derive(Debug, Clone)]
pub struct Rule {
    /// The service.
    pub service: String,
    /// What is done.
    pub action: WatchAction,
    /// The path that is watched.
    pub path: PathBuf,
    /// Where it is in the container.
    pub target: Option<PathBuf>,
    /// What runs after a `sync+exec`.
    pub exec: Option<Hook>,
    /// Everything is copied at the start.
    pub initial_sync: bool,
    include: Patterns,
    ignore: Patterns,
    /// The build's context and its `.dockerignore`.
    context: Option<(PathBuf, Patterns)>,
    ephemeral: Patterns,
}

impl Rule {
    /// The rules of a service. `ignore_file` gives the text of the first of some files that is there.
    ///
    /// # Errors
    /// A pattern of a rule or of the ignore file is none.
    pub fn of(
        service: &Service,
        ignore_file: &dyn Fn(&[PathBuf]) -> Option<String>,
    ) -> Result<Vec<Self>, PatternError> {
        let context = service.build.as_ref().and_then(context);
        let context = match context.and_then(|(dir, files)| ignore_file(&files).map(|text| (dir, text))) {
            Some((dir, text)) => Some((dir, Patterns::of_file(&text)?)),
            None => None,
        };
        let ephemeral = Patterns::new(EPHEMERAL)?;
        let patterns = |texts: &[String]| Patterns::new(texts.iter().map(String::as_str));
        let rule = |watch: &umiak_compose::Watch| {
            Ok(Self {
                service: service.name.clone(),
                action: watch.action,
                path: PathBuf::from(&watch.path),
                target: watch.target.as_ref().map(PathBuf::from),
                exec: watch.exec.clone(),
                initial_sync: watch.initial_sync,
                include: patterns(&watch.include)?,
                ignore: patterns(&watch.ignore)?,
                context: context.clone(),
                ephemeral: ephemeral.clone(),
            })
        };
        service.develop.iter().flat_map(|develop| &develop.watch).map(rule).collect()
    }

    /// Whether changes below a directory can never matter to it.
    pub fn ignores(&self, path: &Path) -> bool {
        let relative =
            |base: &Path| path.strip_prefix(base).ok().and_then(Path::to_str).filter(|text| !text.is_empty());
        let of_context = self
            .context
            .as_ref()
            .is_some_and(|(dir, patterns)| relative(dir).is_some_and(|relative| patterns.matches(relative)));
        of_context
            || relative(&self.path)
                .is_some_and(|relative| self.ignore.matches(relative) || self.ephemeral.matches(relative))
    }

    /// Whether a change of this path is one of its.
    pub fn concerns(&self, path: &Path) -> bool {
        let Ok(relative) = path.strip_prefix(&self.path) else { return false };
        let included = self.include.is_empty() || relative.to_str().is_some_and(|text| self.include.matches(text));
        included && !self.ignores(path)
    }

    /// Where a path of the host is in the container.
    pub fn inside(&self, path: &Path) -> Option<PathBuf> {
        let relative = path.strip_prefix(&self.path).ok()?;
        let target = self.target.as_ref()?;
        Some(if relative.as_os_str().is_empty() { target.clone() } else { target.join(relative) })
    }

    /// Whether files are copied.
    pub fn syncs(&self) -> bool {
        matches!(self.action, WatchAction::Sync | WatchAction::SyncRestart | WatchAction::SyncExec)
    }
}

/// The directory of a build, and its ignore files: that of the Dockerfile stands in the place of the general one.
fn context(build: &umiak_compose::Build) -> Option<(PathBuf, Vec<PathBuf>)> {
    let dir = PathBuf::from(build.context.as_deref().filter(|dir| !dir.is_empty())?);
    let dockerfile = build.dockerfile.as_deref().unwrap_or("Dockerfile");
    let own = build.dockerfile_inline.is_none().then(|| dir.join(format!("{dockerfile}.dockerignore")));
    let files = own.into_iter().chain([dir.join(".dockerignore")]).collect();
    Some((dir, files))
}

/// What a batch of changes asks of one service.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Work {
    /// Host paths to places in the container.
    pub sync: BTreeMap<PathBuf, BTreeSet<PathBuf>>,
    /// Commands to run then.
    pub exec: Vec<Hook>,
    /// Restarted then.
    pub restart: bool,
    /// The image is built anew, and then the containers.
    pub rebuild: bool,
}

/// What changed paths ask of each service.
pub fn work(rules: &[Rule], changed: &BTreeSet<PathBuf>) -> BTreeMap<String, Work> {
    let mut all: BTreeMap<String, Work> = BTreeMap::new();
    for rule in rules {
        let concerned: Vec<&PathBuf> = changed.iter().filter(|path| rule.concerns(path)).collect();
        if concerned.is_empty() {
            continue;
        }
        let work = all.entry(rule.service.clone()).or_default();
        for path in concerned.iter().filter(|_| rule.syncs()) {
            if let Some(inside) = rule.inside(path) {
                work.sync.entry((*path).clone()).or_default().insert(inside);
            }
        }
        match rule.action {
            WatchAction::Rebuild => work.rebuild = true,
            WatchAction::Restart | WatchAction::SyncRestart => work.restart = true,
            WatchAction::SyncExec => work.exec.extend(rule.exec.clone()),
            WatchAction::Sync => {}
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(text: &str, dockerignore: Option<&str>) -> Vec<Rule> {
        let project = project(text);
        project.services.values().flat_map(|s| Rule::of(s, &|_| dockerignore.map(str::to_owned)).unwrap()).collect()
    }

    fn project(text: &str) -> umiak_compose::Project {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("compose.yaml"), text).unwrap();
        let options = umiak_compose::LoadOptions {
            project_name: Some("p".into()),
            current_dir: dir.path().to_owned(),
            ..umiak_compose::LoadOptions::default()
        };
        umiak_compose::load(&options).unwrap()
    }

    fn changed(paths: &[&str]) -> BTreeSet<PathBuf> {
        paths.iter().map(PathBuf::from).collect()
    }

    const STACK: &str = "
services:
  web:
    image: x
    build: /ctx
    develop:
      watch:
        - { action: sync, path: /ctx/src, target: /app, ignore: [node_modules/, '*.log'] }
        - { action: sync+restart, path: /ctx/conf.ini, target: /etc/conf.ini }
        - { action: restart, path: /ctx/src, include: ['*.rs'] }
        - { action: rebuild, path: /ctx/package.json }
";

    #[test]
    fn a_change_leads_to_what_its_rules_say() {
        let rules = rules(STACK, Some("tmp\n"));
        let of = |paths: &[&str]| work(&rules, &changed(paths)).remove("web").unwrap_or_default();
        let sync = |work: &Work| -> Vec<String> {
            work.sync.iter().map(|(from, to)| format!("{} {to:?}", from.display())).collect()
        };
        assert_eq!(sync(&of(&["/ctx/src/d/a.txt"])), ["/ctx/src/d/a.txt {\"/app/d/a.txt\"}"]);
        let both = of(&["/ctx/src/a.rs", "/ctx/conf.ini"]);
        assert_eq!(sync(&both), ["/ctx/conf.ini {\"/etc/conf.ini\"}", "/ctx/src/a.rs {\"/app/a.rs\"}"]);
        assert!(both.restart && !both.rebuild);
        assert!(of(&["/ctx/package.json"]).rebuild);
        let ignored =
            ["/ctx/src/node_modules/x", "/ctx/src/a.log", "/ctx/src/.a.swp", "/ctx/src/.git/HEAD", "/elsewhere"];
        assert_eq!(of(&ignored), Work::default());
        assert_eq!(sync(&of(&["/ctx/src/d/a.log"])).len(), 1, "only directly in the path");
    }

    #[test]
    fn the_ignore_file_of_the_dockerfile_comes_first() {
        let asked = |text: &str| {
            let files = std::cell::RefCell::new(Vec::new());
            let project = project(text);
            let ask = |all: &[PathBuf]| {
                files.borrow_mut().extend(all.iter().map(|file| file.display().to_string()));
                None
            };
            Rule::of(&project.services["web"], &ask).unwrap();
            files.into_inner()
        };
        assert_eq!(asked(STACK), ["/ctx/Dockerfile.dockerignore", "/ctx/.dockerignore"]);
        let other = STACK.replace("build: /ctx", "build: { context: /ctx, dockerfile: d/Web }");
        assert_eq!(asked(&other), ["/ctx/d/Web.dockerignore", "/ctx/.dockerignore"]);
        let inline = STACK.replace("build: /ctx", "build: { context: /ctx, dockerfile_inline: FROM x }");
        assert_eq!(asked(&inline), ["/ctx/.dockerignore"]);
    }

    #[test]
    fn what_the_context_ignores_is_not_watched() {
        let rules = rules(STACK, Some("src/gen\n**/*.tmp\n"));
        assert!(work(&rules, &changed(&["/ctx/src/gen/x", "/ctx/src/a.tmp"])).is_empty());
        assert!(rules[0].ignores(Path::new("/ctx/src/gen")) && !rules[0].ignores(Path::new("/ctx/src")));
    }
}
