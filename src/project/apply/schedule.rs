//! Runs the steps of a graph, each as soon as those before it are done and its
//! gate is open, several at a time. A step whose gate is closed holds no worker:
//! one thread looks after all gates, so any number may wait for the same thing.

use std::collections::VecDeque;
use std::io::{PipeReader, PipeWriter, Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::sync::{Condvar, Mutex};

use anyhow::{Context as _, Result};

use super::interrupt::Interrupt;
use crate::project::plan::Step;
use crate::project::wait::Signals;

/// What the workers and whoever gives them work share.
#[derive(Default)]
struct Desk {
    /// To be done, in this order.
    queue: VecDeque<usize>,
    /// Done since the last look.
    done: Vec<usize>,
    error: Option<anyhow::Error>,
    /// No more will come.
    closed: bool,
}

/// Where a step stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stands {
    Waiting,
    Begun,
    Done,
}

/// Runs every step. `open` looks whether a step may begin, and notes in the signals what may change that. After the
/// first failure, or an interrupt, no new step begins and no gate is waited for; what runs comes to its end.
pub fn run(
    steps: &[Step],
    workers: usize,
    interrupt: Option<&Interrupt>,
    mut open: impl FnMut(&Step, &mut Signals) -> Result<bool>,
    act: impl Fn(&Step) -> Result<()> + Sync,
) -> Result<()> {
    if steps.is_empty() {
        return Ok(());
    }
    let desk = Mutex::new(Desk::default());
    let (changed, mut signals) = (Condvar::new(), Signals::default());
    let (mut told, teller) = std::io::pipe().context("make a pipe")?;
    std::thread::scope(|scope| {
        for _ in 0..steps.len().min(workers) {
            scope.spawn(|| work(steps, &desk, &changed, &teller, &act));
        }
        let given = give(steps, &desk, &changed, (&mut told, interrupt), &mut signals, &mut open);
        let mut desk = super::lock(&desk);
        desk.closed = true;
        desk.queue.clear();
        if let Err(error) = given {
            desk.error.get_or_insert(error);
        }
        changed.notify_all();
    });
    let finished = desk.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    finished.error.map_or(Ok(()), Err)
}

/// Gives the workers each step that may begin, until all are done or one has failed.
fn give(
    steps: &[Step],
    desk: &Mutex<Desk>,
    changed: &Condvar,
    (told, interrupt): (&mut PipeReader, Option<&Interrupt>),
    signals: &mut Signals,
    open: &mut impl FnMut(&Step, &mut Signals) -> Result<bool>,
) -> Result<()> {
    let mut stands = vec![Stands::Waiting; steps.len()];
    loop {
        signals.clear();
        interrupt.map_or(Ok(()), Interrupt::check)?;
        {
            let mut desk = super::lock(desk);
            if desk.error.is_some() {
                return Ok(());
            }
            for index in desk.done.drain(..) {
                stands[index] = Stands::Done;
            }
        }
        let (mut begun, mut gated) = (false, false);
        for (index, step) in steps.iter().enumerate() {
            let is_next = stands[index] == Stands::Waiting
                && step.after.iter().all(|before| stands.get(*before) == Some(&Stands::Done));
            if is_next && open(step, signals)? {
                stands[index] = Stands::Begun;
                super::lock(desk).queue.push_back(index);
                changed.notify_one();
            } else if is_next {
                gated = true;
            }
            begun |= stands[index] == Stands::Begun;
        }
        if stands.iter().all(|stands| *stands == Stands::Done) {
            return Ok(());
        }
        if !begun && !gated {
            anyhow::bail!("the plan's steps wait for each other");
        }
        let mut others = vec![told.as_fd()];
        others.extend(interrupt.map(Interrupt::signals));
        signals.wait(&others, None)?;
        if crate::engine::wait::readable(&[told.as_fd()], Some(std::time::Instant::now()))? {
            let _ = told.read(&mut [0; 64]).context("read a pipe")?;
        }
    }
}

fn work(
    steps: &[Step],
    desk: &Mutex<Desk>,
    changed: &Condvar,
    teller: &PipeWriter,
    act: &(impl Fn(&Step) -> Result<()> + Sync),
) {
    let mut guard = super::lock(desk);
    loop {
        if guard.closed || guard.error.is_some() {
            return;
        }
        let Some(index) = guard.queue.pop_front() else {
            guard = changed.wait(guard).unwrap_or_else(std::sync::PoisonError::into_inner);
            continue;
        };
        drop(guard);
        let result = act(&steps[index]);
        guard = super::lock(desk);
        match result {
            Ok(()) => guard.done.push(index),
            Err(error) => drop(guard.error.get_or_insert(error)),
        }
        // One byte per step: a pipe that is full is readable anyway.
        let mut teller = teller;
        let _ = teller.write_all(&[1]);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    use super::*;
    use crate::project::plan::Action;

    fn steps(after: &[&[usize]]) -> Vec<Step> {
        let step = |(index, after): (usize, &&[usize])| {
            let action = Action::CreateNetwork { key: index.to_string(), name: String::new() };
            Step { action, reasons: Vec::new(), after: after.iter().copied().collect() }
        };
        after.iter().enumerate().map(step).collect()
    }

    fn number(step: &Step) -> usize {
        match &step.action {
            Action::CreateNetwork { key, .. } => key.parse().unwrap(),
            _ => usize::MAX,
        }
    }

    #[test]
    fn any_number_of_closed_gates_leaves_the_workers_free() {
        let mut after: Vec<&[usize]> = vec![&[]; 21];
        after.push(&[20]);
        let (opened, done) = (AtomicBool::new(false), AtomicUsize::new(0));
        let open = |step: &Step, _: &mut Signals| Ok(number(step) >= 20 || opened.load(Ordering::SeqCst));
        let act = |step: &Step| {
            opened.fetch_or(number(step) == 21, Ordering::SeqCst);
            done.fetch_add(1, Ordering::SeqCst);
            Ok(())
        };
        run(&steps(&after), 1, None, open, act).unwrap();
        assert_eq!(done.into_inner(), 22);
    }

    #[test]
    fn a_failure_ends_all_waits() {
        let three = steps(&[&[], &[], &[0]]);
        let open = |step: &Step, _: &mut Signals| Ok(number(step) == 1);
        let error = run(&three, 8, None, open, |_| anyhow::bail!("it failed")).unwrap_err();
        assert_eq!(error.to_string(), "it failed");
        let shut = |_: &Step, _: &mut Signals| anyhow::bail!("it cannot be met");
        assert_eq!(run(&three, 8, None, shut, |_| Ok(())).unwrap_err().to_string(), "it cannot be met");
        let error = run(&steps(&[&[1], &[0]]), 8, None, |_, _| Ok(true), |_| Ok(())).unwrap_err();
        assert_eq!(error.to_string(), "the plan's steps wait for each other");
    }
}
