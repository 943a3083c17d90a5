//! Ctrl-C while images are built: the steps that run are ended and their
//! containers removed, those that have ended stay in the cache. A second one
//! ends the program where it stands.

use std::os::fd::AsFd as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::SignalFd;

use crate::engine::attach;
use crate::engine::wait::readable;

/// What ends a build.
const SIGNALS: [Signal; 3] = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP];

/// A build that has not ended by then is left where it stands: what it leaves is cleared away by the next one.
const PATIENCE: Duration = Duration::from_secs(10);

/// The signal that has come, for all builds of this program.
static COME: Mutex<Option<i32>> = Mutex::new(None);
static CHANGED: Condvar = Condvar::new();

/// The build was ended by a signal.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("canceled: context canceled")]
pub struct Interrupted(pub i32);

/// While it is there, signals end builds and not the program. To be made before any other thread.
#[derive(Debug)]
pub struct Watch {
    /// What the thread has blocked without it.
    before: SigSet,
    /// Dropped to end the thread.
    teller: Option<std::io::PipeWriter>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    /// From now on.
    pub fn new() -> Result<Self> {
        let before = SigSet::thread_get_mask().context("read the signal mask")?;
        let signals = attach::signals(&SIGNALS)?;
        // A shell in a step reads this one from a descriptor: no thread may take it.
        SigSet::from_iter([Signal::SIGWINCH]).thread_block().context("block signals")?;
        let (told, teller) = std::io::pipe().context("make a pipe")?;
        *COME.lock().unwrap_or_else(PoisonError::into_inner) = None;
        let thread = std::thread::spawn(move || watch(&signals, &told));
        Ok(Self { before, teller: Some(teller), thread: Some(thread) })
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.teller.take();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        let _ = self.before.thread_set_mask();
    }
}

#[allow(clippy::exit, reason = "it was asked for twice, or nothing else ends the build")]
fn watch(signals: &SignalFd, told: &std::io::PipeReader) {
    let mut deadline = None;
    loop {
        let ready = readable(&[signals.as_fd(), told.as_fd()], deadline).unwrap_or(false);
        let signal = signals.read_signal().ok().flatten().map(|info| i32::try_from(info.ssi_signo).unwrap_or(2));
        let mut come = COME.lock().unwrap_or_else(PoisonError::into_inner);
        match (signal, *come) {
            (Some(signal), None) => {
                *come = Some(signal);
                deadline = Some(Instant::now() + PATIENCE);
                CHANGED.notify_all();
            }
            (Some(_), Some(first)) => std::process::exit(128 + first),
            (None, Some(first)) if !ready => std::process::exit(128 + first),
            // Nobody builds any more.
            (None, _) if ready => return,
            (None, _) => {}
        }
    }
}

/// Waits until a signal has come, or the build is over.
pub fn wait(over: &AtomicBool) -> Option<Interrupted> {
    let mut come = COME.lock().unwrap_or_else(PoisonError::into_inner);
    while come.is_none() && !over.load(Ordering::SeqCst) {
        come = CHANGED.wait(come).unwrap_or_else(PoisonError::into_inner);
    }
    come.map(Interrupted)
}

/// The build is over.
pub fn end(over: &AtomicBool) {
    let _come = COME.lock().unwrap_or_else(PoisonError::into_inner);
    over.store(true, Ordering::SeqCst);
    CHANGED.notify_all();
}

/// Whether a signal has come.
///
/// # Errors
/// It has.
pub fn check() -> Result<(), Interrupted> {
    COME.lock().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), |signal| Err(Interrupted(signal)))
}
