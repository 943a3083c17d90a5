//! Puts right what a check has found: layers are unpacked again from whole
//! blobs, blobs are fetched again by their digests, names come back from their
//! copy. What is whole is not touched, and what somebody uses is not dropped.

use std::collections::{BTreeMap, HashSet};
use std::error::Error;

use super::survey::{digest, names};
use super::{Concerned, Part, Problem, Report};
use crate::digest::Digest;
use crate::layer::{Installer, Layer};
use crate::manifest::{Descriptor, OCI_MANIFEST};
use crate::pack::Compression;
use crate::progress::Progress;
use crate::pull::restore;
use crate::registry::Client;
use crate::store::{ImageId, Marked, Named, Names, Store, StoreError, delete};
use crate::unpack::Limits;

/// What repairs a store.
#[expect(missing_debug_implementations, reason = "it holds what others gave it to call")]
pub struct Mender<'a> {
    /// The store.
    pub store: &'a Store,
    /// Where blobs are fetched again, if that is possible.
    pub client: Option<&'a Client>,
    /// Who uses an image.
    pub in_use: &'a dyn Fn(&ImageId) -> Vec<String>,
    /// Hears of downloads.
    pub progress: &'a dyn Progress,
}

/// What was done about something, or why not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Action {
    /// What it was about.
    pub part: Part,
    /// What was done; else why nothing could be.
    pub done: Result<String, String>,
}

impl Mender<'_> {
    /// Repairs what it can. The next check tells what of it is right: with the index mended, more may come to light.
    pub fn mend(&self, report: &Report) -> Vec<Action> {
        let mut actions = Vec::new();
        for problem in report.problems.iter().filter(|problem| problem.part == Part::Layout) {
            actions.push(action(problem, self.store.mend_layout().map(|()| "written again".to_owned())));
        }
        let of_index: Vec<_> =
            report.problems.iter().filter(|p| matches!(p.part, Part::Index | Part::Name(_))).collect();
        if !of_index.is_empty() {
            let done = self.index();
            actions
                .extend(of_index.into_iter().map(|problem| Action { part: problem.part.clone(), done: done.clone() }));
            return actions;
        }
        self.images(report, &mut actions);
        for problem in &report.problems {
            match &problem.part {
                Part::Note(diff_id) => {
                    let note = report.notes.get(diff_id);
                    let written = note.map_or(Ok(()), |note| self.store.write_note(diff_id, note));
                    if !report.problems.iter().any(|other| other.part == Part::Layer(diff_id.clone())) {
                        self.store.unmark(&Marked::Layer(diff_id));
                    }
                    actions.push(action(problem, written.map(|()| "written again".to_owned())));
                }
                Part::Blob(digest) if problem.images.is_empty() => actions.push(self.unused(problem, digest)),
                Part::Layer(diff_id) if problem.images.is_empty() => {
                    let removed = self.store.discard_unused(HashSet::new(), HashSet::from([diff_id.clone()]));
                    actions.push(action(problem, removed.map(|()| "removed: no image needs it".to_owned())));
                }
                _ => {}
            }
        }
        actions
    }

    /// Removes what killed commands have left; how many bytes that frees, `None` while a command brings something in.
    ///
    /// # Errors
    /// When something cannot be removed.
    pub fn sweep(&self) -> Result<Option<u64>, StoreError> {
        let damaged = self.store.images().join("index.json.damaged");
        delete(&damaged)?;
        self.store.sweep(self.in_use)
    }

    /// A blob that no image needs.
    fn unused(&self, problem: &Problem, digest: &Digest) -> Action {
        let users = (self.in_use)(digest);
        if !users.is_empty() {
            let why = format!("it is the config of an image that the index has lost, used by {}", users.join(", "));
            return Action { part: problem.part.clone(), done: Err(why) };
        }
        let removed = delete(&self.store.blob_path(digest));
        action(problem, removed.map(|()| "removed: no image needs it".to_owned()))
    }

    /// Each image of which something is missing or damaged.
    fn images(&self, report: &Report, actions: &mut Vec<Action>) {
        let mut concerned: BTreeMap<&Digest, (&Concerned, Vec<&Problem>)> = BTreeMap::new();
        for problem in report.problems.iter().filter(|problem| !matches!(problem.part, Part::Note(_))) {
            for image in &problem.images {
                concerned.entry(&image.manifest).or_insert((image, Vec::new())).1.push(problem);
            }
        }
        let mut settled: Vec<&Part> = Vec::new();
        for (image, problems) in concerned.values() {
            let problems: Vec<&&Problem> = problems.iter().filter(|p| !settled.contains(&&p.part)).collect();
            if problems.is_empty() {
                continue;
            }
            let done = self.image(image, &problems);
            for problem in problems {
                // Another image that shares it may still bring it back.
                if done.is_ok() {
                    settled.push(&problem.part);
                    actions.retain(|action| action.part != problem.part);
                }
                if !actions.iter().any(|action| action.part == problem.part) {
                    actions.push(Action { part: problem.part.clone(), done: done.clone() });
                }
            }
        }
    }

    fn image(&self, image: &Concerned, problems: &[&&Problem]) -> Result<String, String> {
        let unpacked = self.unpack(image);
        if problems.iter().all(|problem| !problem.needs_source()) {
            return unpacked.map(|()| "unpacked again from its blob".to_owned());
        }
        let names = self.store.names().map_err(|error| told(&error))?;
        let entry = names.entries.iter().find(|entry| entry.descriptor.digest == image.manifest);
        let entry = entry.ok_or("the index no longer names its image")?;
        if self.repack(image) {
            return Ok("packed again from its layer".into());
        }
        if entry.repo_digests.is_empty() {
            return self.drop_lost(image);
        }
        let client = self.client.ok_or("no registry can be asked")?;
        let index = entry.chosen_from.as_ref();
        restore(self.store, client, &entry.repo_digests, &image.manifest, index, self.progress)
            .map(|from| format!("pulled again from {from}"))
            .map_err(|error| told(&error))
    }

    /// Unpacks again those layers whose blobs are whole.
    fn unpack(&self, image: &Concerned) -> Result<(), String> {
        let names = self.store.names().map_err(|error| told(&error))?;
        let found = self.store.image(&names, &image.manifest).map_err(|error| told(&error))?;
        let pairs = found.manifest.layers.iter().zip(&found.layers);
        let mut layers: Vec<Layer<'_>> = Vec::new();
        for (blob, diff_id) in pairs {
            let there = layers.iter().any(|layer| layer.diff_id == diff_id);
            if !there && self.store.has_blob(blob) && !self.store.has_sound_layer(diff_id) {
                layers.push(Layer { blob, diff_id });
            }
        }
        Installer::new(self.store, None, self.progress, &Limits::default())
            .all(&layers)
            .map(drop)
            .map_err(|error| told(&error))
    }

    /// Packs again the blobs of layers that were made here; whether the image has all its blobs then.
    fn repack(&self, image: &Concerned) -> bool {
        let Ok(found) = self.store.names().and_then(|names| self.store.image(&names, &image.manifest)) else {
            return false;
        };
        found.manifest.layers.iter().zip(&found.layers).all(|(blob, diff_id)| {
            let made_here = || self.store.note(diff_id).is_some_and(|note| note.built);
            self.store.has_blob(blob)
                || (self.store.has_sound_layer(diff_id) && made_here() && self.packed_as(blob, diff_id))
        })
    }

    /// Whether packing a layer makes the very blob.
    fn packed_as(&self, blob: &Descriptor, diff_id: &Digest) -> bool {
        let all = [Compression::default(), Compression::None, Compression::Zstd { level: 3 }];
        let Some(compression) = all.into_iter().find(|compression| compression.is(&blob.media_type)) else {
            return false;
        };
        let made = self.store.building().and_then(|building| building.blob(diff_id, compression));
        made.is_ok_and(|made| made.digest == blob.digest) && self.store.has_blob(blob)
    }

    /// An image of which no registry is known: it goes when it cannot be run and nobody uses it.
    fn drop_lost(&self, image: &Concerned) -> Result<String, String> {
        let Some(id) = &image.id else {
            return Err("no registry is known that has it: build or load it again, or remove it by its name".into());
        };
        let users = (self.in_use)(id);
        if !users.is_empty() {
            return Err(format!(
                "no registry is known that has it, and {} uses it: build or load it again",
                users.join(", ")
            ));
        }
        let names = self.store.names().map_err(|error| told(&error))?;
        if let Ok(found) = self.store.image(&names, &image.manifest)
            && found.layers.iter().all(|diff_id| self.store.has_sound_layer(diff_id))
        {
            return Err(
                "no registry is known that has it: it runs, but cannot be saved or pushed until it is built or loaded again"
                    .into(),
            );
        }
        self.store
            .change_names(|names| {
                names.forget(&image.manifest);
                Ok(())
            })
            .map_err(|error| told(&error))?;
        Ok("dropped: no registry is known that has its image, and nothing uses it".into())
    }

    /// Brings back the index: from its copy, from what of it can be read, and from the manifests that are there.
    fn index(&self) -> Result<String, String> {
        let store = self.store;
        let copy = store.copied_names();
        let from_copy = copy.is_some();
        let broken = super::index_damage(store).is_some();
        let changed = store.change_or_repair_names(|names| {
            if broken && let Some(copy) = copy {
                let added: Vec<Named> = names.entries.iter().filter(|entry| !has(&copy, entry)).cloned().collect();
                *names = copy;
                // What another program has added, if it is there.
                names.entries.extend(added.into_iter().filter(|e| store.manifest(&e.descriptor.digest).is_ok()));
            }
            for entry in &mut names.entries {
                correct(store, entry);
            }
            if broken && !from_copy {
                self.recover(names)?;
            }
            Ok(())
        });
        changed.map_err(|error| told(&error))?;
        Ok(match (broken, from_copy) {
            (true, true) => "brought back from its copy",
            (true, false) => "made again from the images that are there; lost names come back with a pull or a tag",
            (false, _) => "corrected",
        }
        .to_owned())
    }

    /// Adds the images that no entry leads to.
    fn recover(&self, names: &mut Names) -> Result<(), StoreError> {
        for name in self::names(self.store.blobs())? {
            let Some(digest) = digest(&name) else { continue };
            if names.entries.iter().any(|entry| entry.descriptor.digest == digest) {
                continue;
            }
            let Ok(manifest) = self.store.manifest(&digest) else { continue };
            let Ok(config) = self.store.config(&manifest.config.digest) else { continue };
            let mut descriptor = Descriptor::new(OCI_MANIFEST, digest, 0);
            descriptor.platform = Some(config.platform());
            let mut named = Named { descriptor, name: None, repo_digests: Vec::new(), chosen_from: None };
            correct(self.store, &mut named);
            names.set(named);
        }
        Ok(())
    }
}

fn has(names: &Names, entry: &Named) -> bool {
    names.entries.iter().any(|other| other.descriptor.digest == entry.descriptor.digest)
}

/// Makes size and type of a descriptor what the manifest has, and takes away a name that is none.
fn correct(store: &Store, entry: &mut Named) {
    let digest = entry.descriptor.digest.clone();
    if let Ok(bytes) = store.read_blob(&digest, crate::manifest::MAX_MANIFEST_BYTES) {
        entry.descriptor.size = bytes.len() as u64;
        if let Ok(media_type) = crate::manifest::own_media_type(&bytes) {
            entry.descriptor.media_type = media_type;
        }
    }
    if entry.name.as_ref().is_some_and(|name| name.parse::<crate::reference::Reference>().is_err()) {
        entry.name = None;
    }
}

fn action(problem: &Problem, done: Result<String, StoreError>) -> Action {
    Action { part: problem.part.clone(), done: done.map_err(|error| told(&error)) }
}

/// An error with its causes in one line.
fn told(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let more = next.to_string();
        if !text.ends_with(&more) {
            text = format!("{text}: {more}");
        }
        cause = next.source();
    }
    text
}
