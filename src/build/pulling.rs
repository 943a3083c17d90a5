//! A base image: found in the store, or pulled, shown layer by layer.

use std::sync::{Mutex, PoisonError};

use umiak_images::digest::Digest;
use umiak_images::progress::{Event, Progress};

use crate::ui::build::{Display, Step};

/// Shows how a base image is looked up, and how it comes: the first layer of a pull begins the step of its own.
pub struct Shown<'d> {
    display: &'d Display,
    title: String,
    steps: Mutex<Steps<'d>>,
}

struct Steps<'d> {
    lookup: Option<Step<'d>>,
    pull: Option<Step<'d>>,
    sizes: std::collections::HashMap<Digest, u64>,
}

impl<'d> Shown<'d> {
    /// Begins to look `name` up; `title` is that of the step that it is.
    pub fn new(display: &'d Display, name: &str, title: String) -> Self {
        let lookup = Some(display.step(&format!("[internal] load metadata for {name}")));
        let sizes = std::collections::HashMap::new();
        Self { display, title, steps: Mutex::new(Steps { lookup, pull: None, sizes }) }
    }

    /// It is there.
    pub fn done(self) {
        let steps = self.steps.into_inner().unwrap_or_else(PoisonError::into_inner);
        if let Some(lookup) = steps.lookup {
            lookup.done();
        }
        match steps.pull {
            Some(pull) => pull.done(),
            None => self.display.step(&self.title).cached(),
        }
    }

    /// It cannot be had.
    pub fn failed(self, error: &str) {
        let steps = self.steps.into_inner().unwrap_or_else(PoisonError::into_inner);
        if let Some(step) = steps.pull.or(steps.lookup) {
            step.failed(error);
        }
    }
}

impl Progress for Shown<'_> {
    fn event(&self, event: Event<'_>) {
        let mut steps = self.steps.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lookup) = steps.lookup.take() {
            lookup.done();
            steps.pull = Some(self.display.step(&self.title));
        }
        let Steps { pull: Some(step), sizes, .. } = &mut *steps else { return };
        match event {
            Event::Waiting { layer, total } => {
                sizes.insert(layer.clone(), total);
                step.bytes(layer.as_ref(), 0, total, false);
            }
            Event::Downloading { layer, bytes, total } => step.bytes(layer.as_ref(), bytes, total, bytes >= total),
            Event::Extracting { layer } => {
                if let Some(total) = sizes.get(layer).copied() {
                    step.bytes(layer.as_ref(), total, total, true);
                }
                step.note(&format!("extracting {layer}"));
            }
            Event::Done { layer } => step.note(&format!("extracting {layer} done")),
            Event::Exists { layer } => {
                if let Some(total) = sizes.get(layer).copied() {
                    step.bytes(layer.as_ref(), total, total, true);
                }
            }
            Event::Retrying { layer, reason } => step.note(&format!("retrying {layer}: {reason} done")),
            _ => {}
        }
    }
}
