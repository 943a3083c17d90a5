//! The whole data root looked through for damage: the image store, what
//! containers stand on, and the files that say what there is.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::Result;
use umiak_images::check::{Action, Leftover, Mender, Part, Problem as StoreProblem, Report, check};
use umiak_images::reference::Reference;
use umiak_images::store::Store;
use umiak_runtime::config::MountKind;

use super::Engine;
use super::container::Container;
use super::image::{Bridge, in_use};
use crate::failure::one_line;
use crate::ui::progress::Progress;

/// Rounds of repair: with the index mended, damage below it comes to light, and then that of layers.
const ROUNDS: usize = 4;

/// Something that is not as it should be.
#[derive(Debug)]
pub struct Problem {
    /// What kind of thing: `blob`, `layer`, `container`.
    pub kind: &'static str,
    /// Which one.
    pub id: String,
    /// Where it lies.
    pub path: PathBuf,
    /// In which way.
    pub what: String,
    /// Paths within a layer, and how they differ.
    pub differences: Vec<(String, String)>,
    /// How many there are in all.
    pub count: u64,
    /// Names of the images that need it; an image without a name by its short id.
    pub images: Vec<String>,
    /// Names of the containers that need it.
    pub containers: Vec<String>,
    /// What to do about it.
    pub advice: String,
}

/// What was done about a problem.
#[derive(Debug)]
pub struct Repair {
    /// What kind of thing it is.
    pub kind: &'static str,
    /// Which one.
    pub id: String,
    /// What was done; else why nothing could be.
    pub done: Result<String, String>,
}

/// All that a check has found and done.
#[derive(Debug, Default)]
pub struct Findings {
    /// How much was looked at: of the store.
    pub report: Report,
    /// What is wrong now.
    pub problems: Vec<Problem>,
    /// What was repaired before that.
    pub repairs: Vec<Repair>,
    /// Bytes that went with leftovers; none where nothing was removed.
    pub freed: Option<u64>,
}

impl Findings {
    /// What killed commands have left.
    pub fn leftovers(&self) -> &[Leftover] {
        &self.report.leftovers
    }
}

impl Engine {
    /// Checks everything, and with `repair` puts right what can be.
    pub fn check(&self, repair: bool, progress: &Progress) -> Result<Findings> {
        let store = self.store()?;
        let mut unreadable = Vec::new();
        let containers = Container::list(&self.roots, &mut |error| unreadable.push(one_line(&error)))?;
        let mut findings = Findings { report: self.look(store, progress)?, ..Findings::default() };
        if repair {
            self.repair(store, &containers, progress, &mut findings)?;
        }
        let users = |problem: &StoreProblem| users(problem, &containers);
        findings.problems = findings.report.problems.iter().map(|problem| told(problem, users(problem))).collect();
        findings.problems.extend(of_containers(&containers, &findings.report));
        findings.problems.extend(unreadable.into_iter().map(|what| Problem {
            advice: "restore the file from a backup, or remove the container's directory".into(),
            ..plain("container", String::new(), self.roots.containers(), what)
        }));
        findings.problems.extend(state_files(&self.roots.networks(), ".json").chain(self.volumes_state()));
        Ok(findings)
    }

    fn look(&self, store: &Store, progress: &Progress) -> Result<Report> {
        const WHAT: &str = "Image store";
        progress.working(WHAT, "Checking");
        let report = check(store, &|now, total| progress.bytes(WHAT, "Checking", now, total));
        match &report {
            Ok(report) if report.is_clean() => progress.done(WHAT, "Checked"),
            Ok(_) => progress.failed(WHAT, "Damaged"),
            Err(_) => progress.failed(WHAT, "Error"),
        }
        Ok(report?)
    }

    fn repair(
        &self,
        store: &Store,
        containers: &[Container],
        progress: &Progress,
        findings: &mut Findings,
    ) -> Result<()> {
        let client = self.client();
        if let Err(error) = &client {
            progress.note(&format!("warning: nothing can be pulled: {}", one_line(error)));
        }
        let bridge = Bridge::new(progress);
        let mender =
            Mender { store, client: client.as_ref().ok(), in_use: &|id| in_use(containers, id), progress: &bridge };
        for _ in 0..ROUNDS {
            if findings.report.is_clean() {
                break;
            }
            let actions = mender.mend(&findings.report);
            let helped = actions.iter().any(|action| action.done.is_ok());
            for action in actions {
                findings.repairs.retain(|repair| (repair.kind, &*repair.id) != (action.part.kind(), action.part.id()));
                findings.repairs.push(Repair::from(action));
            }
            if !helped {
                break;
            }
            findings.report = self.look(store, progress)?;
        }
        if !findings.report.leftovers.is_empty() {
            findings.freed = mender.sweep()?;
            let gone = |left: &Leftover| std::fs::symlink_metadata(&left.path).is_err();
            findings.report.leftovers.retain(|left| !gone(left));
        }
        Ok(())
    }

    fn volumes_state(&self) -> impl Iterator<Item = Problem> {
        let list = std::fs::read_dir(self.roots.volumes()).into_iter().flatten().flatten();
        list.flat_map(|entry| state_files(&entry.path(), "volume.json").collect::<Vec<_>>())
    }
}

impl From<Action> for Repair {
    fn from(action: Action) -> Self {
        Self { kind: action.part.kind(), id: action.part.id().to_owned(), done: action.done }
    }
}

fn plain(kind: &'static str, id: String, path: PathBuf, what: String) -> Problem {
    let (differences, images, containers) = (Vec::new(), Vec::new(), Vec::new());
    Problem { kind, id, path, what, differences, count: 0, images, containers, advice: String::new() }
}

/// Containers whose image is one of those that a problem concerns.
fn users(problem: &StoreProblem, containers: &[Container]) -> Vec<String> {
    let mut found = BTreeSet::new();
    for id in problem.images.iter().filter_map(|image| image.id.as_ref()) {
        found.extend(in_use(containers, id));
    }
    let mounts = |container: &&Container| layers(container).any(|layer| *layer == problem.path);
    found.extend(containers.iter().filter(mounts).map(|container| container.config.name.clone()));
    found.into_iter().collect()
}

/// All lower directories of a container, those of its image mounts too.
fn layers(container: &Container) -> impl Iterator<Item = &PathBuf> {
    let mounted = container.config.runtime.mounts.iter().flat_map(|mount| match &mount.kind {
        MountKind::Image(image) => image.layers.as_slice(),
        _ => &[],
    });
    container.config.runtime.rootfs.layers.iter().chain(mounted)
}

fn told(problem: &StoreProblem, containers: Vec<String>) -> Problem {
    let mut images = Vec::new();
    for image in &problem.images {
        let familiar = |name: &String| name.parse::<Reference>().map_or_else(|_| name.clone(), |r| r.familiar());
        match image.names.as_slice() {
            [] => images.push(image.id.as_ref().unwrap_or(&image.manifest).short().to_owned()),
            names => images.extend(names.iter().map(familiar)),
        }
    }
    let differences = problem.differences.iter().map(|found| (found.path.clone(), found.what.clone())).collect();
    Problem {
        differences,
        count: problem.count,
        advice: advice(problem, &images),
        images,
        containers,
        ..plain(problem.part.kind(), problem.part.id().to_owned(), problem.path.clone(), problem.what.clone())
    }
}

fn advice(problem: &StoreProblem, images: &[String]) -> String {
    const REPAIR: &str = "`umiak system check --repair`";
    let pulled = problem.images.iter().any(|image| image.pulled);
    match (&problem.part, problem.images.is_empty()) {
        (Part::Layout | Part::Index | Part::Name(_) | Part::Note(_), _) => format!("{REPAIR} puts it right"),
        (_, true) => format!("no image needs it; {REPAIR} removes it"),
        (Part::Layer(_), _) if !problem.needs_source() => format!("{REPAIR} unpacks it again"),
        (_, false) if pulled => match images.first().filter(|name| name.contains(':')) {
            Some(name) => format!("{REPAIR} or `umiak image pull {name}` fetches it again"),
            None => format!("{REPAIR} fetches it again"),
        },
        _ => "no registry is known that has it: build or load the image again".to_owned(),
    }
}

/// Containers that stand on a layer of which the store's own check knows nothing.
fn of_containers(containers: &[Container], report: &Report) -> Vec<Problem> {
    let mut found = Vec::new();
    for container in containers {
        let config = &container.config;
        for layer in layers(container).filter(|layer| !layer.is_dir()) {
            if report.problems.iter().any(|problem| problem.path == *layer) {
                continue;
            }
            let what = format!("its layer {} is missing", layer.display());
            found.push(Problem {
                images: vec![config.image.clone()],
                containers: vec![config.name.clone()],
                advice: format!(
                    "pull {} again, or remove the container: `umiak container rm {}`",
                    config.image, config.name
                ),
                ..plain("container", config.name.clone(), layer.clone(), what)
            });
        }
    }
    found
}

/// Files of state that do not parse.
fn state_files(dir: &Path, ending: &'static str) -> impl Iterator<Item = Problem> {
    let list = std::fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
    let ours = move |path: &PathBuf| {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        name.ends_with(ending) && !name.starts_with('.')
    };
    list.filter(ours).filter_map(|path| {
        let error = umiak_base::state::read::<serde_json::Value>(&path).err()?;
        let what = one_line(&error.into());
        let advice = "restore the file from a backup, or remove it".to_owned();
        Some(Problem { advice, ..plain("state", path.display().to_string(), path.clone(), what) })
    })
}
