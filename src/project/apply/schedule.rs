//! Runs the steps of a graph, each as soon as those before it are done, several
//! at a time.

use std::sync::{Condvar, Mutex};

use anyhow::Result;

use crate::project::plan::Step;

#[derive(Default)]
struct Progressed {
    taken: Vec<bool>,
    done: Vec<bool>,
    running: usize,
    error: Option<anyhow::Error>,
}

/// Runs every step. After the first failure no new step begins; what runs comes to its end.
pub fn run(steps: &[Step], workers: usize, act: impl Fn(&Step) -> Result<()> + Sync) -> Result<()> {
    let none = vec![false; steps.len()];
    let state = Mutex::new(Progressed { taken: none.clone(), done: none, ..Progressed::default() });
    let changed = Condvar::new();
    std::thread::scope(|scope| {
        for _ in 0..steps.len().min(workers) {
            scope.spawn(|| work(steps, &state, &changed, &act));
        }
    });
    let finished = state.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    finished.error.map_or(Ok(()), Err)
}

fn work(steps: &[Step], state: &Mutex<Progressed>, changed: &Condvar, act: &(impl Fn(&Step) -> Result<()> + Sync)) {
    let mut guard = super::lock(state);
    loop {
        if guard.error.is_some() || guard.taken.iter().all(|taken| *taken) {
            return;
        }
        let free = |index: &usize| !guard.taken[*index] && steps[*index].after.iter().all(|before| guard.done[*before]);
        let Some(index) = (0..steps.len()).find(free) else {
            if guard.running == 0 {
                guard.error = Some(anyhow::anyhow!("the plan's steps wait for each other"));
                changed.notify_all();
                return;
            }
            guard = changed.wait(guard).unwrap_or_else(std::sync::PoisonError::into_inner);
            continue;
        };
        guard.taken[index] = true;
        guard.running += 1;
        drop(guard);
        let result = act(&steps[index]);
        guard = super::lock(state);
        guard.running -= 1;
        match result {
            Ok(()) => guard.done[index] = true,
            Err(error) => drop(guard.error.get_or_insert(error)),
        }
        changed.notify_all();
    }
}
