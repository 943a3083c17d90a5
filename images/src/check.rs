//! Looks through the whole store for damage: every blob against its digest,
//! every unpacked layer against its blob, and all that leads from one to the
//! other. What is found damaged is marked, so that the next pull puts it
//! right; [`repair`] does it at once.

mod compare;
mod expected;
mod layer;
mod leftovers;
mod repair;
mod survey;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use umiak_base::FileLock;

pub use leftovers::Leftover;
pub use repair::{Action, Mender};

use self::layer::{Checked, Verdict, check_blob, check_layer};
use self::survey::{Known, Survey};
use crate::digest::Digest;
use crate::manifest::Descriptor;
use crate::store::{ImageId, LayerNote, Marked, Seal, Store, StoreError};
use crate::unpack::Unpacked;

/// How often whoever watches hears of it.
const BEAT: Duration = Duration::from_millis(200);

/// What a problem is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// The file that says what the directory is.
    Layout,
    /// The list of names.
    Index,
    /// A name in that list.
    Name(String),
    /// An image's manifest.
    Manifest(Digest),
    /// An image's config.
    Config(Digest),
    /// A layer as it was downloaded, or any other blob.
    Blob(Digest),
    /// A layer as it was unpacked, by its diff id.
    Layer(Digest),
    /// What is noted beside an unpacked layer.
    Note(Digest),
}

impl Part {
    /// Its kind, as a word.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Layout => "layout",
            Self::Index => "index",
            Self::Name(_) => "name",
            Self::Manifest(_) => "manifest",
            Self::Config(_) => "config",
            Self::Blob(_) => "blob",
            Self::Layer(_) => "layer",
            Self::Note(_) => "note",
        }
    }

    /// Which one of its kind; empty where there is only one.
    #[must_use]
    pub fn id(&self) -> &str {
        match self {
            Self::Layout | Self::Index => "",
            Self::Name(name) => name,
            Self::Manifest(digest) | Self::Config(digest) | Self::Blob(digest) => digest.as_str(),
            Self::Layer(digest) | Self::Note(digest) => digest.as_str(),
        }
    }
}

/// A file of a layer that is not as the layer has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Its path within the layer.
    pub path: String,
    /// In which way it differs.
    pub what: String,
}

/// An image that a problem concerns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Concerned {
    /// Its manifest.
    pub manifest: Digest,
    /// Its id, where its manifest can be read.
    pub id: Option<ImageId>,
    /// Its names.
    pub names: Vec<String>,
    /// Whether a registry is known that it came from.
    pub pulled: bool,
}

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// What.
    pub part: Part,
    /// Where it lies.
    pub path: PathBuf,
    /// In which way.
    pub what: String,
    /// The first differences of a layer.
    pub differences: Vec<Difference>,
    /// How many differences there are.
    pub count: u64,
    /// The images that need it; none where nothing does.
    pub images: Vec<Concerned>,
}

/// What a check has found.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Report {
    /// What is damaged or missing.
    pub problems: Vec<Problem>,
    /// What killed commands have left. It harms nobody.
    pub leftovers: Vec<Leftover>,
    /// Images that the index names.
    pub images: usize,
    /// Blobs that were read.
    pub blobs: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Unpacked layers that were compared.
    pub layers: usize,
    /// Files in them.
    pub files: u64,
    /// Unpacked layers of no image: there is nothing to compare them with.
    pub unknown_layers: Vec<Digest>,
    /// What the notes beside layers should say, where they do not.
    notes: BTreeMap<Digest, LayerNote>,
}

/// Hears how far a check is: bytes that were read, and bytes in all.
pub type Watch<'a> = &'a (dyn Fn(u64, u64) + Sync);

/// One piece of work.
enum Job {
    Layer(Digest, Vec<Descriptor>),
    Blob(Digest, Option<u64>),
}

enum Outcome {
    Layer(Digest, Checked),
    Blob(Digest, Option<String>),
}

/// Checks the whole store, on as many threads as there are processors. `watch` is called from time to time.
///
/// # Errors
/// When its directories cannot be read.
pub fn check(store: &Store, watch: Watch<'_>) -> Result<Report, StoreError> {
    // No clean-up takes away meanwhile what is being looked at.
    let present = FileLock::shared(&store.sweep_lock_path()).ok();
    let survey = Survey::of(store)?;
    let mut report = Report { images: survey.known.len(), ..Report::default() };
    report.problems.extend(survey.problems.iter().cloned());
    let jobs = jobs(store, &survey, &mut report);
    let outcomes = run(store, &jobs, survey.bytes, watch, &mut report);
    for outcome in outcomes {
        match outcome {
            Outcome::Blob(digest, wrong) => blob_problem(store, &survey, &digest, wrong, &mut report),
            Outcome::Layer(diff_id, checked) => {
                for (digest, wrong) in checked.blobs {
                    blob_problem(store, &survey, &digest, wrong, &mut report);
                }
                layer_problem(store, &survey, &diff_id, checked.layer, &mut report);
            }
        }
    }
    drop(present);
    report.leftovers = leftovers::find(store)?;
    report.problems.sort_by(|a, b| (&a.part, &a.path).cmp(&(&b.part, &b.path)));
    report.problems.dedup();
    for problem in &report.problems {
        match &problem.part {
            Part::Blob(digest) if !problem.images.is_empty() && there(&problem.path) => {
                store.mark(&Marked::Blob(digest));
            }
            Part::Layer(diff_id) | Part::Note(diff_id) if there(&store.layer_path(diff_id)) => {
                store.mark(&Marked::Layer(diff_id));
            }
            _ => {}
        }
    }
    Ok(report)
}

fn there(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok()
}

/// What is to be done: each layer with its blobs, then the blobs that are no layer's; the largest first.
fn jobs(store: &Store, survey: &Survey, report: &mut Report) -> Vec<Job> {
    let mut layers: BTreeMap<Digest, Vec<Descriptor>> = BTreeMap::new();
    let mut taken = BTreeSet::new();
    for known in &survey.known {
        for (blob, diff_id) in known.blobs.iter().zip(&known.layers) {
            let blobs = layers.entry(diff_id.clone()).or_default();
            if taken.insert((diff_id.clone(), blob.digest.clone())) {
                blobs.push(blob.clone());
            }
        }
    }
    for diff_id in survey.layers.iter().filter(|diff_id| store.has_layer(diff_id)) {
        if !layers.contains_key(diff_id) {
            // Those of the build cache can be packed again; others have nothing to be compared with.
            match store.note(diff_id).filter(|note| note.built) {
                Some(note) => drop(layers.insert(diff_id.clone(), known_blobs(store, note))),
                None => report.unknown_layers.push(diff_id.clone()),
            }
        }
    }
    taken.extend(layers.iter().flat_map(|(diff_id, blobs)| {
        blobs.iter().map(|blob| (diff_id.clone(), blob.digest.clone())).collect::<Vec<_>>()
    }));
    report.layers = layers.keys().filter(|diff_id| store.has_layer(diff_id)).count();
    let of_layers: BTreeSet<&Digest> = taken.iter().map(|(_, digest)| digest).collect();
    let mut sizes: BTreeMap<&Digest, u64> = BTreeMap::new();
    for blob in survey.known.iter().flat_map(|known| &known.blobs) {
        sizes.insert(&blob.digest, blob.size);
    }
    let mut wanted: BTreeSet<&Digest> = survey.blobs.keys().chain(sizes.keys().copied()).collect();
    wanted.retain(|digest| !of_layers.contains(digest) && !survey.read.contains(digest));
    report.blobs = survey.blobs.len();
    report.bytes = survey.blobs.values().sum();
    let mut all: Vec<Job> = wanted.into_iter().map(|d| Job::Blob(d.clone(), sizes.get(d).copied())).collect();
    all.extend(layers.into_iter().map(|(diff_id, blobs)| Job::Layer(diff_id, blobs)));
    let size = |job: &Job| match job {
        Job::Layer(_, blobs) => blobs.iter().map(|blob| blob.size).sum(),
        Job::Blob(digest, _) => survey.blobs.get(digest).copied().unwrap_or(0),
    };
    all.sort_by_key(|job| std::cmp::Reverse(size(job)));
    all
}

/// The blobs of a layer of no image that are there.
fn known_blobs(store: &Store, note: LayerNote) -> Vec<Descriptor> {
    note.blobs.into_iter().filter(|blob| there(&store.blob_path(&blob.digest))).collect()
}

fn run(store: &Store, jobs: &[Job], total: u64, watch: Watch<'_>, report: &mut Report) -> Vec<Outcome> {
    let (next, read, ended) = (AtomicUsize::new(0), AtomicU64::new(0), AtomicBool::new(false));
    let outcomes = Mutex::new(Vec::new());
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get).min(jobs.len().max(1));
    let work = || {
        while let Some(job) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
            let outcome = match job {
                Job::Layer(diff_id, blobs) => {
                    Outcome::Layer(diff_id.clone(), check_layer(store, diff_id, blobs, &read))
                }
                Job::Blob(digest, size) => Outcome::Blob(digest.clone(), check_blob(store, digest, *size, &read)),
            };
            outcomes.lock().unwrap_or_else(PoisonError::into_inner).push(outcome);
        }
    };
    std::thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            while !ended.load(Ordering::Relaxed) {
                watch(read.load(Ordering::Relaxed).min(total), total);
                std::thread::park_timeout(BEAT);
            }
        });
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        for worker in workers {
            // A panic there is passed on by the scope.
            let _ = worker.join();
        }
        ended.store(true, Ordering::Relaxed);
        watcher.thread().unpark();
    });
    let outcomes = outcomes.into_inner().unwrap_or_else(PoisonError::into_inner);
    for outcome in &outcomes {
        if let Outcome::Layer(_, Checked { layer: Verdict::Compared(compared, _), .. }) = outcome {
            report.files += compared.files;
        }
    }
    outcomes
}

fn blob_problem(store: &Store, survey: &Survey, digest: &Digest, wrong: Option<String>, report: &mut Report) {
    let Some(what) = wrong else { return store.unmark(&Marked::Blob(digest)) };
    report.problems.push(Problem {
        images: survey.users_of_blob(digest),
        ..Problem::new(Part::Blob(digest.clone()), store.blob_path(digest), what)
    });
}

fn layer_problem(store: &Store, survey: &Survey, diff_id: &Digest, verdict: Verdict, report: &mut Report) {
    let path = store.layer_path(diff_id);
    let images = survey.users_of_layer(diff_id);
    let problem = |what: String| Problem {
        images: images.clone(),
        ..Problem::new(Part::Layer(diff_id.clone()), path.clone(), what)
    };
    if !store.has_layer(diff_id) {
        let what = match std::fs::symlink_metadata(&path) {
            Ok(meta) if meta.is_dir() => "was not on the disk yet when the host went down",
            Ok(_) => "is not a directory",
            Err(_) => "is missing",
        };
        report.problems.push(problem(what.to_owned()));
        return;
    }
    match verdict {
        // The blob's own problem says it; once that is mended, the layer can be compared.
        Verdict::Unknown => {}
        Verdict::Packed => store.unmark(&Marked::Layer(diff_id)),
        Verdict::Other(what) => report.problems.push(problem(what)),
        Verdict::Compared(compared, unpacked) => {
            if compared.count > 0 {
                let what = match compared.count {
                    1 => "differs from its blob in 1 place".to_owned(),
                    count => format!("differs from its blob in {count} places"),
                };
                let (differences, count) = (compared.differences, compared.count);
                report.problems.push(Problem { differences, count, ..problem(what) });
            }
            let note = store.note(diff_id);
            if !note.as_ref().is_some_and(|note| is_true(note, unpacked)) {
                let what = if note.is_some() { "does not say how large the layer is" } else { "is missing or damaged" };
                let Unpacked { bytes, entries } = unpacked;
                let blobs = survey.blobs_of(diff_id);
                // Without a note it is not known whether it was made here: it then keeps the blob that it has.
                let right = note.map_or(LayerNote { bytes, entries, built: false, blobs }, |note| LayerNote {
                    bytes: if note.built { note.bytes } else { bytes },
                    entries,
                    ..note
                });
                report.notes.insert(diff_id.clone(), right);
                report.problems.push(Problem {
                    images: images.clone(),
                    ..Problem::new(Part::Note(diff_id.clone()), store.note_path(diff_id), what.to_owned())
                });
            } else if compared.count == 0 {
                store.unmark(&Marked::Layer(diff_id));
            }
        }
    }
}

impl Problem {
    fn new(part: Part, path: PathBuf, what: String) -> Self {
        Self { part, path, what, differences: Vec::new(), count: 0, images: Vec::new() }
    }

    /// Whether nothing but a registry, an archive or a build can bring it back.
    #[must_use]
    pub fn needs_source(&self) -> bool {
        matches!(self.part, Part::Manifest(_) | Part::Config(_) | Part::Blob(_))
    }
}

impl Known {
    fn concerned(&self) -> Concerned {
        let (manifest, id, names) = (self.manifest.clone(), self.id.clone(), self.names.clone());
        Concerned { manifest, id, names, pulled: !self.repo_digests.is_empty() }
    }
}

impl Report {
    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.problems.is_empty()
    }
}

/// Whether a note says what is so. Of layers made here the bytes are counted as they lie, holes included.
fn is_true(note: &LayerNote, unpacked: Unpacked) -> bool {
    note.entries == unpacked.entries && (note.built || note.bytes == unpacked.bytes)
}

/// Whether the index is as it was written.
fn index_damage(store: &Store) -> Option<String> {
    if std::fs::symlink_metadata(store.index_path()).is_err() {
        return Some("is missing".to_owned());
    }
    match (store.names(), store.seal()) {
        (Err(error), _) => {
            let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
            Some(format!("cannot be read{cause}"))
        }
        (Ok(_), Seal::Broken) => Some("was changed by another program, or is damaged".to_owned()),
        (Ok(_), Seal::Good | Seal::None) => None,
    }
}

/// Reads a layer's archive as a check does; for fuzzing.
pub(crate) fn read_layer(archive: &[u8], limits: &crate::unpack::Limits) {
    let _ = expected::Expected::read(archive, limits);
}
